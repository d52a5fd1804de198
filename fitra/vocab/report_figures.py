"""What the page of a vocabulary shows: both tokenizers on documents that nothing was learned from, by group."""

from __future__ import annotations

import hashlib
import heapq
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from fitra.artifacts import read_manifest, table_parts
from fitra.errors import FitraError
from fitra.progress import track
from fitra.vocab import bpe, measure

LANGS = {"ar": "ar", "arz": "ar", "apc": "ar", "en": "en"}
CONTEXT = 4096  # tokens of a window, to say what fits
GROUPS, KINDS = 40, ("source", "register", "dialect")
SAMPLES, WORDS, LETTERS = 12, 40, 400  # shown segmentations, words and characters of each
EXAMPLES = 14

_BASIC = "\u0621-\u063a\u0641-\u064a"  # letters of Arabic itself, without those of Persian, Urdu and others
_MARKS = re.compile("[\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed]")
_CLASSES = (
    ("part of a letter", re.compile(".*\ufffd.*", re.S)),
    ("with tashkeel", re.compile(f".*{_MARKS.pattern}.*", re.S)),
    ("a sign", re.compile("[\u0600-\u061f\u0640\u0660-\u066d\u06d4\u06de\u06e9\u06f0-\u06f9\u06fd\u06fe]")),
    ("a single letter", re.compile(r" ?\w")),
    ("with the article", re.compile(f" [وفبك]?(?:ال|لل)[{_BASIC}]+")),
    ("begins a word", re.compile(f" [{_BASIC}]+")),
    ("inside or at the end of a word", re.compile(f"[{_BASIC}]+")),
    ("letters of other languages too", re.compile(" ?[\u0600-\u06ff\u0750-\u077f\u0870-\u08ff]+")),
)
OTHER = "anything else"


@dataclass(frozen=True)
class Document:
    """One document of the sample and where it belongs."""

    key: str
    lang: str  # "ar" or "en"
    text: str
    groups: tuple[tuple[str, str], ...]  # (kind, name)


def documents(corpora: Sequence[Path], held_out: int, n: int) -> tuple[list[Document], bool]:
    """At most `n` Arabic documents that were held out and `n` English ones; whether any were held out.

    The same choice as when the vocabulary was made: by the hash of the id. Where a corpus was too small to hold
    anything out, Arabic documents that were learned from.
    """
    held: dict[str, list[tuple[int, int, Document]]] = {"ar": [], "learned": [], "en": []}
    for number, (ident, row) in enumerate(_rows(corpora)):
        lang = LANGS.get(row["lang"] or "")
        if lang is None or not row["text"]:
            continue
        digest = hashlib.sha256(ident.encode()).digest()
        into = lang if lang == "en" or digest[0] % held_out == 0 else "learned"
        order = -int.from_bytes(digest[1:17])
        heap = held[into]
        if len(heap) < n:
            heapq.heappush(heap, (order, number, _document(digest.hex(), lang, row)))
        elif order > heap[0][0]:
            heapq.heapreplace(heap, (order, number, _document(digest.hex(), lang, row)))
    arabic = held["ar"] or held["learned"]
    return [d for _, _, d in (*sorted(arabic, reverse=True), *sorted(held["en"], reverse=True))], bool(held["ar"])


def _rows(corpora: Sequence[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    parts = [p for c in corpora for p in table_parts(c, "documents")]
    total = sum(pq.ParquetFile(p).metadata.num_rows for p in parts)
    columns = ["id", "lang", "source", "labels", "text"]

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        for p in parts:
            for batch in pq.ParquetFile(p).iter_batches(1024, columns=columns):
                yield from ((str(r["id"]), r) for r in batch.to_pylist())

    return track(rows(), "vocab report: reading", total=total)


def _document(key: str, lang: str, row: Mapping[str, Any]) -> Document:
    try:
        labels = json.loads(row["labels"] or "{}")
    except ValueError:
        labels = {}
    labels = labels if isinstance(labels, dict) else {}
    groups = [("source", str(row["source"]))]
    if lang == "ar":
        groups.append(("dialect", str(labels.get("region") or labels.get("dialect") or row["lang"])))
    if labels.get("register"):
        groups.append(("register", str(labels["register"])))
    return Document(key, lang, row["text"], tuple(groups))


def figures(
    stage: Path,
    base: Path | None = None,
    corpora: Sequence[Path] = (),
    compare: Mapping[str, Path] | None = None,
    n: int = 2000,
) -> dict[str, Any]:
    """All figures of the page.

    Args:
        stage: output of `vocab expand`.
        base, corpora: where base and corpus are now; without them where the manifest says they were.
        compare: other tokenizers by name, as folders with a tokenizer.json.
        n: documents per language.

    Raises FitraError where one of them is not there.
    """
    manifest = read_manifest(stage)
    given = manifest.get("inputs", {})
    base = _there(Path(base or str(given.get("base", ""))), "base")
    corpora = [_there(Path(c), "corpus") for c in (corpora or given.get("corpus", []))]
    held = manifest.get("config", {}).get("vocab", {}).get("held_out", 20)
    sample, unseen = documents(corpora, int(held), n)
    if not any(d.lang == "ar" for d in sample):
        raise FitraError(
            f"{', '.join(map(str, corpora))}: no Arabic documents to measure on.", "Give another --corpus."
        )
    specs = {"base": bpe.read(_model(base)), "new": bpe.read(_model(Path(stage)))}
    specs |= {name: bpe.read(_model(_there(Path(p), "compare"))) for name, p in (compare or {}).items()}
    toks = {k: bpe.build(s) for k, s in specs.items()}
    readings = {
        name: {lang: measure.read(tok, [d.text for d in sample if d.lang == lang], lang) for lang in ("ar", "en")}
        for name, tok in toks.items()
    }
    languages = {
        lang: {k: _with_renyi(r[lang]) for k, r in readings.items()}
        for lang in ("ar", "en") if any(d.lang == lang for d in sample)
    }  # fmt: skip
    back = {name: _round_trip(tok, [d.text for d in sample]) for name, tok in toks.items()}
    return {
        "stage": {k: manifest.get("counts", {}).get(k) for k in ("added", "rows_before", "rows_after", "gain")}
        | {k: manifest.get("notes", {}).get(k) for k in ("method", "init", "tied", "kind", "warning")}
        | {"licence_class": manifest.get("licence_class")},
        "sample": {lang: sum(d.lang == lang for d in sample) for lang in ("ar", "en")} | {"held_out": unseen},
        "languages": languages,
        "english_same": _same(toks["base"], toks["new"], [d.text for d in sample if d.lang == "en"]),
        "saved": _saved(languages["ar"]["base"], languages["ar"]["new"]),
        "groups": _groups(sample, readings),
        "methods": _methods(Path(stage), languages, specs, compare or {}, back),
        **_new_tokens(specs["base"], specs["new"], readings["new"]["ar"].ids),
        "samples": _samples(sample, toks),
    }


def _there(path: Path, option: str) -> Path:
    if not path.is_dir():
        raise FitraError(f"{path}: no such folder, though the vocabulary was made with it.", f"Give --{option}.")
    return path


def _model(folder: Path) -> Path:
    return folder / "model" if (folder / "model").is_dir() else folder


def _with_renyi(reading: measure.Reading) -> dict[str, float]:
    return {**reading.total().figures(), "renyi": round(measure.renyi(reading.ids), 4)}


def _same(old: Tokenizer, new: Tokenizer, texts: Sequence[str]) -> float | None:
    """Share of the texts that both read alike."""
    if not texts:
        return None
    a, b = (t.encode_batch_fast(list(texts), add_special_tokens=False) for t in (old, new))
    return sum(x.ids == y.ids for x, y in zip(a, b, strict=True)) / len(texts)


def _round_trip(tok: Tokenizer, texts: Sequence[str]) -> float:
    """Share of the texts that come back from their tokens as they were."""
    read = tok.encode_batch_fast(list(texts), add_special_tokens=False)
    found = tok.decode_batch([e.ids for e in read], skip_special_tokens=False)
    return sum(a == b for a, b in zip(texts, found, strict=True)) / max(1, len(texts))


def _saved(base: Mapping[str, float], new: Mapping[str, float]) -> dict[str, Any]:
    """Tokens that Arabic no longer takes, and what a context window holds."""
    held = {k: round(CONTEXT / f["tokens_per_word"]) if f["tokens_per_word"] else None for k, f in
            (("base", base), ("new", new))}  # fmt: skip
    return {
        "share": 1 - new["tokens"] / base["tokens"] if base["tokens"] else None,
        "tokens": base["tokens"] - new["tokens"], "context": CONTEXT, "words": held,
    }  # fmt: skip


def _groups(sample: Sequence[Document], readings: Mapping[str, Mapping[str, measure.Reading]]) -> dict[str, list[Any]]:
    """Base and new by source, register and dialect, the largest groups first."""
    place: dict[tuple[str, str, str], list[int]] = {}
    at = {"ar": 0, "en": 0}
    for d in sample:
        for kind, name in d.groups:
            place.setdefault((kind, name, d.lang), []).append(at[d.lang])
        at[d.lang] += 1
    out: dict[str, list[Any]] = {k: [] for k in KINDS}
    for (kind, name, lang), numbers in place.items():
        base, new = (readings[k][lang].total(numbers).figures() for k in ("base", "new"))
        out[kind].append({"name": name, "lang": lang, "documents": len(numbers), "base": base, "new": new})
    return {
        kind: sorted(rows, key=lambda r: (r["lang"], -r["new"]["words"], r["name"]))[:GROUPS]
        for kind, rows in out.items()
    }


def _methods(
    stage: Path,
    languages: Mapping[str, Any],
    specs: Mapping[str, Any],
    compare: Mapping[str, Path],
    back: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Tokenizers side by side: base and new, those given now, and those `vocab expand` measured beside the new one."""
    rows = []
    for name in ("base", "new", *compare):
        row = {
            "name": name,
            "ids": len(specs[name]["model"]["vocab"]),
            "measured": "here",
            "round_trip": back.get(name),
        }
        rows.append(row | {lang: by[name] for lang, by in languages.items()})
    try:
        noted = json.loads((stage / "fertility.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return rows
    methods = noted.get("methods") if isinstance(noted, dict) else None
    for name, found in methods.items() if isinstance(methods, dict) else ():
        if name in ("base", noted.get("method")) or not isinstance(found, dict):
            continue
        rows.append({"name": str(name), "ids": None, "measured": "when the vocabulary was made", **found})
    return rows


def _new_tokens(base: Mapping[str, Any], new: Mapping[str, Any], ids: np.ndarray) -> dict[str, Any]:
    """New tokens by class and by length, how often the sample uses them, and examples in the order of their ids."""
    text_of = bpe.text_of(bpe.kind(new))
    old = set(base["model"]["vocab"]) | {a["content"] for a in base.get("added_tokens", [])}
    added = {a["content"]: a["id"] for a in new.get("added_tokens", [])}
    found = {**new["model"]["vocab"], **added}
    classes: dict[str, dict[str, Any]] = {}
    lengths: dict[int, int] = {}
    unused = 0
    for token, i in sorted(((t, i) for t, i in found.items() if t not in old), key=lambda p: p[1]):
        text = token if token in added else text_of(token)
        uses = int(ids[i]) if i < len(ids) else 0
        of = classes.setdefault(class_of(text), {"tokens": 0, "uses": 0, "unused": 0, "examples": []})
        of["tokens"] += 1
        of["uses"] += uses
        of["unused"] += not uses
        unused += not uses
        if len(of["examples"]) < EXAMPLES:
            of["examples"].append(text.strip(" "))
        letters = len(_MARKS.sub("", text.strip(" ")))
        lengths[letters] = lengths.get(letters, 0) + 1
    order = [name for name, _ in _CLASSES] + [OTHER]
    return {
        "classes": [{"name": k, **classes[k]} for k in sorted(classes, key=order.index)],
        "lengths": dict(sorted(lengths.items())),
        "new_tokens": sum(c["tokens"] for c in classes.values()),
        "unused": unused,
    }


def class_of(text: str) -> str:
    """The first class of `_CLASSES` that a token's text belongs to."""
    return next((name for name, pattern in _CLASSES if pattern.fullmatch(text)), OTHER)


def _samples(sample: Sequence[Document], toks: Mapping[str, Tokenizer]) -> list[dict[str, Any]]:
    """The first words of Arabic documents of different sources, as every tokenizer cuts them."""
    by: dict[str, list[Document]] = {}
    for d in sample:
        if d.lang == "ar":
            by.setdefault(d.groups[0][1], []).append(d)
    out = []
    for d in _in_turn(by.values()):
        text = " ".join(d.text.split()[:WORDS])[:LETTERS]
        if not bpe.RUN.search(text):
            continue
        cuts = {name: measure.cut(tok, text) for name, tok in toks.items()}
        out.append({"source": d.groups[0][1], "text": text, "words": len(text.split()), "cuts": cuts})
        if len(out) == SAMPLES:
            break
    return out


def _in_turn(lists: Iterable[list[Document]]) -> Iterator[Document]:
    held = list(lists)
    for i in range(max(map(len, held), default=0)):
        yield from (x[i] for x in held if i < len(x))
