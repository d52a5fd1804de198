"""Vocabulary: teach a base tokenizer Arabic without touching what it knows.

`expand` reads the Arabic documents of one or more stages, continues the BPE of the base on them (`vocab.bpe`), adds
rows for the new tokens to both matrices of the model (`vocab.embed`), measures before and after (`vocab.measure`) and
commits only when the checks hold (`vocab.checks`).
"""

from __future__ import annotations

import hashlib
import heapq
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fitra import recipe
from fitra.artifacts import MANIFEST, Stage, open_stage, read_manifest, table_parts, worst_licence
from fitra.errors import FitraError
from fitra.progress import track
from fitra.vocab import bpe, checks, embed, measure

__all__ = ["expand"]

VERSION = 1
ARABIC_LANGS = ("ar", "arz", "apc")
HELD_OUT_IN = 20  # one Arabic document in twenty is not learned from: fertility is measured on those
MEASURED = 2000  # documents per language in fertility.json
# Beside tokenizer.json and the model itself, these belong to the tokenizer and stay true. vocab.json, merges.txt and
# tokenizer.model would describe the old vocabulary and are left behind.
KEPT_FILES = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "added_tokens.json")


def expand(cfg: recipe.Vocab, base: Path, corpus: Path | Sequence[Path], seed: int, out: Path) -> dict[str, Any]:
    """Expand the vocabulary of `base` by up to `cfg.add` Arabic tokens; returns the manifest.

    Args:
        base: a model folder (config.json, safetensors, tokenizer.json), or the output of a stage with such a `model/`.
        corpus: one or more stage folders with `documents/`; rows in ar, arz, apc teach, rows in en are checked.
        seed: used by `init: random` alone.
        out: gets `model/` and `fertility.json`.

    Raises FitraError when the base is no byte-level BPE causal model, when the corpus has no Arabic, or when a check
    fails (old ids, text without Arabic, round trip, special tokens, reloading).
    """
    corpora = [Path(corpus)] if isinstance(corpus, str | Path) else [Path(c) for c in corpus]
    base = Path(base)
    config = {"vocab": cfg, "seed": seed if cfg.init == "random" else 0}
    for c in corpora:
        read_manifest(c)
    inputs: dict[str, Any] = {"base": base, "corpus": corpora}
    with open_stage(
        out, stage="vocab", config=config, inputs=inputs, version=VERSION, licence_class=_licence(corpora, base)
    ) as st:
        if not st.done:
            _expand(st, cfg, _model_folder(base), corpora, seed)
    return read_manifest(Path(out))


def _model_folder(base: Path) -> Path:
    return base / "model" if (base / "model" / "config.json").is_file() else base


def _licence(corpora: Sequence[Path], base: Path) -> str:
    """The worst class among the documents and, where the base is a stage of ours, the base."""
    classes: set[str | None] = set()
    for c in corpora:
        for part in table_parts(c, "documents"):
            classes.update(pq.read_table(part, columns=["licence_class"])["licence_class"].unique().to_pylist())
    for folder in (base, base.parent):
        if (folder / MANIFEST).is_file():
            classes.add(read_manifest(folder).get("licence_class"))
            break
    return worst_licence(sorted(classes, key=str))


def _documents(corpora: Sequence[Path], what: str) -> Iterator[tuple[str, str, str]]:
    """(id, lang, text) of all documents in order."""
    parts = [p for c in corpora for p in table_parts(c, "documents")]
    total = sum(pq.ParquetFile(p).metadata.num_rows for p in parts)

    def rows() -> Iterator[tuple[str, str, str]]:
        for p in parts:
            for batch in pq.ParquetFile(p).iter_batches(4096, columns=["id", "lang", "text"]):
                cols = (batch.column(k).to_pylist() for k in ("id", "lang", "text"))
                yield from ((i, lang, text) for i, lang, text in zip(*cols, strict=True) if text)

    return track(rows(), what, total=total)


def _hash(doc_id: str) -> bytes:
    return hashlib.sha256(doc_id.encode()).digest()


class _Sample:
    """The `n` texts whose ids hash lowest: spread over all sources, and the same on every run."""

    def __init__(self, n: int) -> None:
        self.n, self._heap = n, list[tuple[int, str]]()

    def offer(self, doc_id: str, text: str) -> None:
        item = (-int.from_bytes(_hash(doc_id)[1:9]), text)
        if len(self._heap) < self.n:
            heapq.heappush(self._heap, item)
        elif item > self._heap[0]:
            heapq.heapreplace(self._heap, item)

    def texts(self) -> list[str]:
        return [t for _, t in sorted(self._heap, reverse=True)]


def _expand(st: Stage, cfg: recipe.Vocab, base: Path, corpora: Sequence[Path], seed: int) -> None:
    spec = bpe.read(base)
    model = embed.load_model(base)
    old = bpe.build(spec)
    words, held, seen = _count(corpora, old)
    if cfg.add and not words:
        raise FitraError(
            f"{', '.join(map(str, corpora))}: no Arabic words in documents with lang {', '.join(ARABIC_LANGS)}.",
            "Check the corpus, or leave 'vocab' out of the recipe.",
        )
    got = bpe.continue_bpe(spec, words, cfg.add, cfg.min_count)
    new_spec = bpe.extend(spec, got.merges)
    new = bpe.build(new_spec)
    first = max(old.get_vocab(with_added_tokens=True).values()) + 1
    counts: dict[str, float] = dict(checks.check_ids(old, new, got.tokens, first))
    counts |= checks.check_texts(old, new, (t for _, _, t in _documents(corpora, "vocab: checking every document")))

    pieces = [[t.id for t in old.model.tokenize(t)] for t in got.tokens]
    rows_before = model.get_input_embeddings().weight.shape[0]
    tied = embed.grow(model, first, pieces, cfg.init, seed) if pieces else None  # type: ignore[arg-type]
    probe = [t[:2000] for t in (*held["ar"][:20], *held["en"][:20])]
    with st.folder("model") as folder:
        model.save_pretrained(folder, safe_serialization=True)
        for name in KEPT_FILES:
            if (base / name).is_file():
                shutil.copy2(base / name, folder / name)
        (folder / "tokenizer.json").write_text(json.dumps(new_spec, ensure_ascii=False), encoding="utf-8")
        checks.check_reload(folder, new, embed.load_model(base), first, len(got.tokens), probe)

    figures = {lang: {"before": measure.measure(old, held[lang], lang), "after": measure.measure(new, held[lang], lang)}
               for lang in ("ar", "en") if held[lang]}  # fmt: skip
    st.write_json("fertility.json", {
        "added": len(got.tokens), "asked": cfg.add, "held_out": seen["held_out"] > 0,
        **figures, "samples": measure.samples(old, new, held["ar"]),
        "first_tokens": [bpe.piece_text(t) for t in got.tokens[:100]],
    })  # fmt: skip
    st.counts |= counts | {
        "asked": cfg.add, "added": len(got.tokens), "used": got.used, "scaffold": got.scaffold,
        "partial": got.partial, "unreachable_dropped": got.unreachable, "merges": len(got.merges),
        "first_new_id": first, "rows_before": rows_before, "rows_after": model.get_input_embeddings().weight.shape[0],
        "arabic_documents": seen["ar"], "held_out_documents": seen["held_out"], "word_kinds": len(words),
    }  # fmt: skip
    st.notes["init"] = cfg.init
    st.notes["tied"] = tied
    if len(got.tokens) < cfg.add:
        st.notes["warning"] = (
            f"{cfg.add} tokens were asked for, the corpus gives {len(got.tokens)} that occur {cfg.min_count} times."
        )


def _count(corpora: Sequence[Path], old: Any) -> tuple[dict[str, int], dict[str, list[str]], dict[str, int]]:
    """Word counts of the Arabic documents to learn from; texts to measure on, by language; how many of what."""
    sample = {"ar": _Sample(MEASURED), "en": _Sample(MEASURED), "learned": _Sample(MEASURED)}
    seen = {"ar": 0, "held_out": 0}

    def arabic() -> Iterator[str]:
        for doc_id, lang, text in _documents(corpora, "vocab: counting words"):
            if lang == "en":
                sample["en"].offer(doc_id, text)
            if lang not in ARABIC_LANGS:
                continue
            seen["ar"] += 1
            if _hash(doc_id)[0] % HELD_OUT_IN == 0:
                seen["held_out"] += 1
                sample["ar"].offer(doc_id, text)
                continue
            sample["learned"].offer(doc_id, text)
            yield text

    words = bpe.count_words(arabic(), old)
    # A corpus too small to hold anything out is measured on what was learned from; the report says so.
    arabic_texts = sample["ar" if seen["held_out"] else "learned"].texts()
    return words, {"ar": arabic_texts, "en": sample["en"].texts()}, seen
