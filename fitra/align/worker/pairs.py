"""Pairs to learn from: chunks of documents whose rewrite was accepted, and of documents that needed none.

Originals are masked as they were when they were rewritten (a row keeps the places of its protected spans), rewrites by
finding the spans again. Documents are cut as `align` cuts them. What is held out is so by the hash of the document's
id, or by a list: it does not change with the other documents.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fitra.align import edits, masking
from fitra.artifacts import table_parts
from fitra.errors import FitraError
from fitra.llm.chunk import chunks
from fitra.recipe import Worker

__all__ = ["Pair", "pairs"]

# Some chunks were refused: their text is not what a worker should write.
_PARTLY = re.compile(r"(?:model: |no change by the model, )\d+ of \d+ chunks kept")
_COLUMNS = ["id", "lang", "original", "rewrite", "state", "reason", "spans", "licence_class"]


@dataclass(frozen=True)
class Pair:
    """One chunk before and after, both masked; `gone` are the placeholders that the rewrite rightly lacks."""

    id: str
    before: masking.Masked
    after: str
    gone: tuple[int, ...]
    held_out: bool
    licence: str

    @property
    def changed(self) -> bool:
        """Was there anything to change?"""
        return self.before.text != self.after


def pairs(cfg: Worker, rows: Path, left_out: Counter[str] | None = None) -> Iterator[Pair]:
    """The pairs of an align stage, sorted by document; `left_out` counts what gives none, by reason.

    A chunk whose very text was seen before is left out, so that nothing held out was trained on in another document.
    Raises FitraError when the folder is no align stage or `cfg.hold` cannot be read.
    """
    lost = Counter[str]() if left_out is None else left_out
    held = _held(cfg.hold)
    seen: set[bytes] = set()
    taken = sorted(_documents(cfg, rows, lost), key=lambda d: _hash(str(d["id"])))[: cfg.limit]
    # Held-out documents first: a text that stands in both halves belongs to the held-out one.
    out: list[Pair] = []
    for doc in sorted(taken, key=lambda d: not _is_held(cfg, str(d["id"]), held)):
        out += _of(doc, cfg, _is_held(cfg, str(doc["id"]), held), seen, lost)
    out.sort(key=lambda p: p.id)
    yield from _balanced(out, cfg.unchanged, lost)


def _hash(text: str) -> float:
    """0 ≤ x < 1, from the text alone."""
    return int.from_bytes(hashlib.sha256(f"worker:{text}".encode()).digest()[:6]) / 2**48


def _held(path: str | None) -> frozenset[str]:
    if path is None:
        return frozenset()
    try:
        return frozenset(Path(path).read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as e:
        raise FitraError(
            f"worker.hold: {path}: {type(e).__name__}.", "Give a text file with a document id on each line."
        ) from None


def _is_held(cfg: Worker, doc_id: str, held: Collection[str]) -> bool:
    return doc_id in held or _hash(doc_id) < cfg.held_out


def _documents(cfg: Worker, rows: Path, lost: Counter[str]) -> Iterator[dict[str, Any]]:
    """Rows that were accepted, or left unchanged because nothing was wrong."""
    for part in table_parts(rows, "rows"):
        names = set(pq.read_schema(part).names)
        if missing := [c for c in _COLUMNS if c not in names]:
            raise FitraError(f"{part}: no column {', '.join(missing)}.", "Point to the output of `fitra align run`.")
        for row in pq.read_table(part, columns=_COLUMNS).to_pylist():
            if row["lang"] not in cfg.languages:
                lost["language"] += 1
            elif row["state"] not in ("accept", "unchanged"):
                lost[f"state {row['state']}"] += 1
            elif _PARTLY.match(row["reason"] or ""):
                lost["partly refused"] += 1
            elif not (row["original"] or "").strip():
                lost["empty"] += 1
            else:
                yield row


def _of(row: Mapping[str, Any], cfg: Worker, held: bool, seen: set[bytes], lost: Counter[str]) -> Iterator[Pair]:
    original = str(row["original"])
    rewrite = str(row["rewrite"]) if row["state"] == "accept" else original
    try:
        spans = [(int(a), int(b), str(kind)) for a, b, kind in json.loads(row["spans"] or "[]")]
    except (ValueError, TypeError):
        lost["spans cannot be read"] += 1
        return
    whole, after = _masked(original, rewrite, spans)
    for i, (piece, became) in enumerate(_cut(whole.text, after, cfg.chunk_chars)):
        if became is None:
            lost["chunk cannot be paired"] += 1
            continue
        _, masked = masking.part(whole, piece)
        text = _renumbered(piece, became, masked)
        key = hashlib.sha256(masked.text.encode("utf-8", "surrogatepass")).digest()
        if key in seen:
            lost["same text"] += 1
            continue
        seen.add(key)
        there = {int(m[1]) for m in masking.PLACEHOLDER.finditer(text)}
        gone = tuple(n for n in range(len(masked.spans)) if n not in there)
        yield Pair(f"{row['id']}#{i:05d}", masked, text, gone, held, str(row["licence_class"]))


def _masked(original: str, rewrite: str, spans: Sequence[tuple[int, int, str]]) -> tuple[masking.Masked, str]:
    """The original masked at known places, and the rewrite with the same placeholders, found in order."""
    nonce = "0" * 8  # each chunk gets one of its own
    out, at = list[str](), 0
    for i, (start, end, _) in enumerate(spans):
        out += [original[at:start], f"⟦{nonce}:{i}⟧"]
        at = end
    texts = tuple(original[a:b] for a, b, _ in spans)
    whole = masking.Masked("".join([*out, original[at:]]), texts, tuple(k for *_, k in spans), nonce)
    return whole, masking.again(rewrite, whole)


def _renumbered(piece: str, became: str, masked: masking.Masked) -> str:
    """The rewritten piece with the placeholders that its original has as a text of its own."""
    number = {int(m[1]): i for i, m in enumerate(masking.PLACEHOLDER.finditer(piece))}
    return masking.PLACEHOLDER.sub(lambda m: masked.placeholder(number[int(m[1])]), became)


def _cut(before: str, after: str, limit: int) -> list[tuple[str, str | None]]:
    """The chunks of a text with what became of each; None where a cut falls into something that was rewritten."""
    pieces = chunks(before, limit)
    if len(pieces) == 1:
        return [(before, after)]
    if before == after:
        return [(p, p) for p in pieces]
    starts, old = _starts(before)
    begins, new = _starts(after)
    at: dict[int, int] = {0: 0, len(before): len(after)}
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal" or i2 - i1 == j2 - j1:
            at |= {starts[i1 + k]: begins[j1 + k] for k in range(i2 - i1)}
        elif i1 < i2:
            at[starts[i1]] = begins[j1] if j1 < len(begins) else len(after)
    out: list[tuple[str, str | None]] = []
    here = 0
    for piece in pieces:
        start, end = at.get(here), at.get(here + len(piece))
        fits = start is not None and end is not None and start <= end
        became = after[start:end] if fits else None
        if became is not None and not _within(piece, became):
            became = None
        out.append((piece, became))
        here += len(piece)
    return out


def _within(piece: str, became: str) -> bool:
    have = {m[1] for m in masking.PLACEHOLDER.finditer(piece)}
    return all(m[1] in have for m in masking.PLACEHOLDER.finditer(became))


def _starts(text: str) -> tuple[list[int], list[str]]:
    """Where each unit of a text begins, and the units."""
    lead, found = edits.units(text)
    at, out = len(lead), []
    for u in found:
        out.append(at)
        at += len(u.text) + len(u.after)
    return out, [u.text for u in found]


def _balanced(found: Sequence[Pair], share: float, lost: Counter[str]) -> Iterator[Pair]:
    """All held-out pairs; of those to train on, unchanged ones at most `share` for each changed one, by hash."""
    changed = sum(p.changed and not p.held_out for p in found)
    plain = sorted((p.id for p in found if not p.changed and not p.held_out), key=lambda i: (_hash(i), i))
    keep = set(plain[: round(share * changed)])
    lost["unchanged, more than asked for"] += len(plain) - len(keep)
    yield from (p for p in found if p.changed or p.held_out or p.id in keep)
