"""Texts as a benchmark: bits per byte and perplexity, by language, register and source."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fitra.errors import FitraError
from fitra.evaluate.card import Card, Item, bad, unique

# What a slice is called -> the columns, or the labels of a document, that tell it.
SLICES = {"lang": ("lang",), "register": ("register", "genre"), "source": ("source",), "dialect": ("dialect",)}
MOST = 40  # values of one slice that get a score of their own
LEAST = 5  # texts that a slice must hold


def files_of(path: Path) -> list[Path]:
    """The parquet files of a file, a folder, or a stage folder with documents. FitraError where there is none."""
    path = Path(path)
    if path.is_file():
        return [path]
    found = sorted((path / "documents").glob("*.parquet")) or sorted(path.glob("*.parquet"))
    if not found:
        raise FitraError(f"{path}: no parquet files with texts.", "Give a file, or a folder of parquet files.")
    return found


def cards(task: str, path: Path, limit: int | None, only: str = "") -> tuple[list[Card], list[dict[str, str]]]:
    """One card over all texts, sliced by what their columns tell. `limit` is for each file, `only` begins
    the names of the files of a folder.

    Raises FitraError where a file has no column text, or no text is left.
    """
    items: list[Item] = []
    aside: list[dict[str, str]] = []
    for file in files_of(path):
        if not file.name.startswith(only):
            continue
        rows = _texts(file, aside)
        if limit is not None:  # never more than these in memory
            rows = iter(heapq.nsmallest(limit, rows, key=lambda i: hashlib.sha256(f"{task}\0{i.id}".encode()).digest()))
        items += rows
    if not items:
        raise FitraError(f"{path}: no text in column 'text'.", "Give files with text to measure.")
    counts = Counter(s for i in items for s in i.slices)
    kinds = Counter(s.split("/")[0] for s in counts)
    kept = {s for s, n in counts.items() if n >= LEAST and kinds[s.split("/")[0]] <= MOST and n < len(items)}
    items = [
        Item(i.id, i.prompt, (), 0, tuple(s for s in i.slices if s in kept), category=i.category)
        for i in sorted(items, key=lambda i: i.id)
    ]
    text = f"{task}/1: bits per UTF-8 byte from the document start, summed over texts, windows of half the context"
    return [Card(task, text, "text", ("bits_per_byte", "perplexity"), tuple(items), benchmark=task)], aside


def _texts(file: Path, aside: list[dict[str, str]]) -> Iterator[Item]:
    try:
        held = pq.ParquetFile(file)
        names = set(held.schema_arrow.names)
    except (pa.ArrowInvalid, OSError):
        raise FitraError(f"{file}: not a readable parquet file; it should hold texts.", "Write it anew.") from None
    if "text" not in names:
        raise FitraError(f"{file}: no column 'text'.", f"The file has: {', '.join(held.schema_arrow.names)}.")
    wanted = {"text", "id", "doc_id", "labels", *(c for cs in SLICES.values() for c in cs)} & names
    seen: Counter[str] = Counter()
    n = 0
    for batch in held.iter_batches(batch_size=1024, columns=sorted(wanted)):
        for row in batch.to_pylist():
            rid = unique(row.get("id") or row.get("doc_id"), n, seen)
            n += 1
            if not isinstance(row["text"], str) or not row["text"].strip():
                aside.append(bad(rid, file, "'text' is empty"))
                continue
            told = {**_labels(row.get("labels")), **{k: v for k, v in row.items() if v is not None}}
            slices = tuple(
                f"{name}/{_plain(value)}"
                for name, columns in SLICES.items()
                if (value := next((told[c] for c in columns if told.get(c)), None)) is not None
            )
            yield Item(f"{file.stem}:{rid}", row["text"], (), 0, slices, category=file.stem)


def _labels(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        return {}
    found = found if isinstance(found, dict) else {}
    return {k: v.get("value", v.get("label")) if isinstance(v, dict) else v for k, v in found.items()}


def _plain(value: Any) -> str:
    """A slice's name: short, on one line, without the sign that parts names."""
    return " ".join(str(value).replace("/", "-").split())[:60]
