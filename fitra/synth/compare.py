"""Comparing questions: rows of evaluation sets, near duplicates, diversity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fitra import arabic
from fitra.recipe import Contamination
from fitra.signals import contamination
from fitra.signals.view import view
from fitra.tables import near

__all__ = ["Benchmarks", "diversity", "duplicates"]

HASHES, BAND_ROWS = 128, 4  # 32 bands of 4: pairs from a Jaccard similarity of 0.6 on meet in one of them (99%)
NGRAM = 2  # words: questions are short
SPREAD = 3  # words of the n-grams whose variety is measured


class Benchmarks:
    """The rows of evaluation sets that no question may be."""

    def __init__(self, cfg: Contamination) -> None:
        rows = [row for b in cfg.benchmarks for row in contamination.read(b)]
        self.cfg = cfg
        self.index = contamination.build(rows, cfg.ngram, cfg.min_words, cfg.common) if rows else None
        # The index knows no text of less than `min_words` words: these are compared whole.
        self.whole: dict[str, str] = {}
        for name, ident, texts in rows:
            for text in [texts] if isinstance(texts, str) else texts:
                self.whole.setdefault(arabic.fold(text, "search").strip(), f"{name} {ident}")
        self.whole.pop("", None)

    def find(self, questions: Sequence[str]) -> list[str]:
        """For each question the row of an evaluation set that it holds or equals, '' for none."""
        out = [self.whole.get(arabic.fold(q, "search").strip(), "") for q in questions]
        if self.index is not None and questions:
            for hit in self.index.find(view(list(questions)), self.cfg.min_share, self.cfg.min_grams):
                out[hit.doc] = out[hit.doc] or f"{hit.benchmark} {hit.row}"
        return out


def duplicates(texts: Sequence[str], threshold: float) -> list[int]:
    """For each text the first one that it repeats, or -1: equal when folded, or similar from `threshold` on.

    Similarity is the Jaccard of the sets of word pairs, estimated from MinHash signatures (`tables.near`).
    """
    out = [-1] * len(texts)
    if not texts:
        return out
    folded = arabic.fold_array(pa.array(texts, pa.large_string()), "search").to_pylist()
    first: dict[str, int] = {}
    for i, text in enumerate(folded):
        out[i] = first.setdefault(text, i)
    out = [-1 if at == i else at for i, at in enumerate(out)]
    at = np.array([i for i, t in enumerate(folded) if out[i] < 0 and len(t.split()) > NGRAM], dtype=np.int64)
    if len(at) < 2:
        return out
    made = near.signatures(pa.array([folded[i] for i in at.tolist()]), hashes=HASHES, ngram=NGRAM)
    bands = near.band_hashes(made, BAND_ROWS)
    edges = np.unique(np.concatenate([near.stars(band, np.arange(len(at))) for band in bands.T]), axis=0)
    for a, b in sorted(map(tuple, edges.tolist()), key=lambda e: (e[1], e[0])):
        a, b = min(a, b), max(a, b)
        # The earlier one stays, unless it is itself a repetition.
        if out[at[b]] < 0 and out[at[a]] < 0 and float((made[a] == made[b]).mean()) >= threshold:
            out[at[b]] = int(at[a])
    return out


def diversity(texts: Sequence[str]) -> dict[str, Any]:
    """Variety of some questions: share of different word 3-grams among all (1: none is said twice), share of different
    first two words, mean words."""
    of = view(list(texts))
    words = of.vocab.to_pylist()
    grams, total, starts, n = set[tuple[int, ...]](), 0, set[tuple[int, ...]](), len(of)
    for a, b in zip(of.bounds[:-1].tolist(), of.bounds[1:].tolist(), strict=True):
        ids = of.ids[a:b].tolist()
        mine = list(zip(*(ids[k:] for k in range(SPREAD)), strict=False))
        grams.update(mine)
        total += len(mine)
        starts.add(tuple(ids[:2]))
    return {
        "texts": n,
        "different_words": len(words),
        "different_3_grams": round(len(grams) / total, 4) if total else 1.0,
        "different_openings": round(len(starts) / n, 4) if n else 1.0,
        "mean_words": round(float(of.n_words.mean()), 2) if n else 0.0,
    }
