"""Make the weights of `fitra.signals.dialect` again: python -m fitra.signals.train_dialect --data DIR [--out DIR]

DIR is the data folder (FITRA_DATA). Only licence classes A and B train: ArSarcasm-v2's training split (MIT), Shami
(Apache-2.0), Tatoeba (CC BY), TICO-19 (CC0), Arabic and Egyptian Wikipedia (CC BY-SA). A tenth of Shami and a fifth of
the Wikipedias are held out by a hash of their text. The same data give the same bytes.
"""

from __future__ import annotations

import argparse
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fitra.signals import dialect
from fitra.signals.linear import Linear, Space, features, fit
from fitra.signals.view import view

SPACE = Space(bits=17, ngrams=(2, 5), pairs=False, pooling="sqrt")
_ARABIC_ONLY = re.compile("[^\u0600-\u06ff]+")
_LINKS = re.compile(r"https?://\S+|@\w+")


def held_out(text: str, part: int) -> bool:
    """Whether a text belongs to the held-out one in `part`, by hash."""
    return zlib.crc32(text.encode()) % part == 0


def _column(path: Path, *columns: str) -> list[tuple[Any, ...]]:
    table = pq.read_table(path, columns=list(columns))
    return list(zip(*(table[c].to_pylist() for c in columns), strict=True))


def paragraphs(texts: Iterable[str], words: int = 40, at_most: int = 20) -> Iterator[str]:
    """Pieces of about `words` words from each text, lists and headings left out."""
    for text in texts:
        prose = " ".join(p for p in text.split("\n") if len(p) > 60).split()
        for start in range(0, min(len(prose), words * at_most), words):
            if len(prose) - start >= words // 2:
                yield " ".join(prose[start : start + words])


def rows(data: Path) -> Iterator[tuple[str, str, str]]:
    """(class, text, source) of all training rows."""
    for text, label, split in _column(data / "dialect" / "arsarcasm_v2.parquet", "text", "dialect", "split"):
        if split == "training" and label in dialect.LEARNT:
            yield label, text, "tweets"
    for (text,) in _column(data / "dialect" / "shami_levantine.parquet", "text"):
        if not held_out(text, 10):
            yield "levant", text, "shami"
    egyptian = [t for (t,) in _column(data / "raw" / "arz_wiki_egyptian.parquet", "text") if len(t) > 600]
    for text in paragraphs(t for t in egyptian if not held_out(t, 5)):
        yield "egypt", text, "wiki"
    standard = [t for (t,) in _column(data / "raw" / "ar_wiki.parquet", "text") if not held_out(t, 5)]
    for text in paragraphs(standard, at_most=6):
        yield "msa", text, "wiki"
    for name in ("tatoeba_ar_en", "tico19_ar_en"):
        for (text,) in _column(data / "parallel" / f"{name}.parquet", "ar"):
            if len(text) > 20:
                yield "msa", text, name


def _rates(groups: Iterable[Sequence[str]]) -> dict[str, float]:
    """Relative frequency of words: the mean over groups of texts."""
    groups = list(groups)
    out: dict[str, float] = {}
    for texts in groups:
        v = view(list(texts))
        counts = np.bincount(v.ids, minlength=len(v.vocab)) / max(len(v.ids), 1) / len(groups)
        for word, rate in zip(v.vocab.to_pylist(), counts.tolist(), strict=True):
            out[word] = out.get(word, 0.0) + rate
    return out


def _fit(labels: npt.NDArray[np.int64], texts: Sequence[str], meta: dict[str, Any]) -> Linear:
    clean = [_ARABIC_ONLY.sub(" ", _LINKS.sub(" ", t)) for t in texts]
    counts = np.bincount(labels, minlength=len(dialect.LEARNT))
    weight = (counts.max() / counts) ** 0.75
    found = features(view(pa.array(clean, pa.large_string())), SPACE)
    return fit(
        found, labels, dialect.LEARNT, SPACE,
        weight=weight[labels], epochs=5, l2=1e-5, min_count=3, dtype="int8", meta=meta,
    )  # fmt: skip


def _logistic(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], w: npt.NDArray[np.float64]) -> Any:
    """Weighted logistic regression by Newton's method with a small ridge."""
    beta = np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        slope = x.T @ (w * (p - y)) + 1e-3 * beta
        curve = (x * (w * p * (1 - p))[:, None]).T @ x + 1e-3 * np.eye(len(beta))
        beta -= np.linalg.solve(curve, slope)
    return beta


def _joined(texts: Sequence[str], size: int) -> list[str]:
    return [" ".join(texts[i : i + size]) for i in range(0, len(texts) - size + 1, size)]


def train(data: Path) -> tuple[Linear, dialect.Words]:
    """The linear model, the weights of the listed words, and the mixing of both."""
    given = list(rows(data))
    labels = np.array([dialect.LEARNT.index(label) for label, _, _ in given])
    texts = [t for _, t, _ in given]
    by_source: dict[tuple[str, bool], list[str]] = {}
    for label, text, source in given:
        by_source.setdefault((source, label == "msa"), []).append(text)
    words = dialect.weigh(
        _rates(t for (_, standard), t in by_source.items() if standard),
        _rates(t for (_, standard), t in by_source.items() if not standard),
    )
    # The mixing is fitted on rows that the model has not seen: three models, each blind to a third.
    fold = np.array([zlib.crc32(t.encode()) // 7 % 3 for t in texts])
    x, y, w = [], [], []
    for part in range(3):
        model = _fit(labels[fold != part], [t for t, f in zip(texts, fold, strict=True) if f != part], {})
        for source in dict.fromkeys(s for _, _, s in given):
            here = [(label, t) for (label, t, s), f in zip(given, fold, strict=True) if f == part and s == source]
            for standard in (True, False):
                mine = [t for label, t in here if (label == "msa") == standard]
                for size in (1, 10):  # a tweet, and ten in one text
                    if pieces := _joined(mine, size):
                        x.append(dialect.dialect_features(view(pieces), model, words)[0])
                        y.append(np.full(len(pieces), 0.0 if standard else 1.0))
                        w.append(np.full(len(pieces), 1000 * len(mine) / len(here) / len(pieces)))
    mixing = _logistic(np.concatenate(x), np.concatenate(y), np.concatenate(w))
    counts = np.bincount(labels, minlength=len(dialect.LEARNT)).tolist()
    meta = {"rows": dict(zip(dialect.LEARNT, counts, strict=True)), "data": "classes A and B"}
    return _fit(labels, texts, meta), replace(words, mixing=mixing.astype(np.float32))


def main() -> None:
    """Train and write the two files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=dialect.MODEL.parent)
    args = parser.parse_args()
    model, words = train(args.data)
    model.save(args.out / dialect.MODEL.name)
    dialect.save_words(words, args.out / dialect.WEIGHTS.name)
    size = (args.out / dialect.MODEL.name).stat().st_size
    print(f"mixing {words.mixing.round(2).tolist()}; rows {model.meta['rows']}; {size:,} bytes")


if __name__ == "__main__":
    main()
