"""Word counts of a corpus, and the documents that figures are taken from: streamed, in bounded memory.

Each part of a file is counted by a worker (`fitra.engine`), which writes what it found to files; they are added up in
the order of the parts, so the result is the same with any number of workers.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fitra import engine, tables
from fitra.artifacts import table_parts, write_parquet
from fitra.errors import FitraError
from fitra.progress import track
from fitra.recipe import Vocab
from fitra.vocab.script import Script

LANGS = ("ar", "arz", "apc")  # what teaches
MEASURED = 2000  # documents per language that figures are taken from
SAMPLE_BYTES = 24 << 20  # of their text at most, per language
SAMPLE = pa.schema([(k, pa.string()) for k in ("key", "set", "lang", "source", "dialect", "register", "text")])


@dataclass(frozen=True)
class Task:
    """A part of a corpus to count. Plain data: it travels to workers."""

    split: tables.Split
    cfg: Vocab
    out: Path  # without suffix: OUT.words.parquet and OUT.sample.parquet


@dataclass
class Found:
    """`runs`: runs of the script (with the space before them) and how often they occur, weighted. `samples` by set:
    'ar' held out, 'learned' Arabic that was learned from, 'en' English; rows like `SAMPLE`."""

    runs: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)


class _Sample:
    """The documents whose ids hash lowest: spread over all sources, and the same on every run."""

    def __init__(self, n: int) -> None:
        self.n, self.held = n, list[tuple[str, dict[str, str]]]()
        self._heap: list[tuple[int, int]] = []
        self._rows: dict[int, dict[str, str]] = {}

    def offer(self, row: dict[str, str]) -> None:
        key = int(row["key"], 16)
        if key in self._rows:
            return
        if len(self._heap) < self.n:
            heapq.heappush(self._heap, (-key, key))
        elif -key > self._heap[0][0]:
            self._rows.pop(heapq.heapreplace(self._heap, (-key, key))[1])
        else:
            return
        self._rows[key] = row

    def rows(self) -> list[dict[str, str]]:
        out: list[dict[str, str]] = []
        size = 0
        for key in sorted(self._rows):
            size += len(self._rows[key]["text"].encode())
            if out and size > SAMPLE_BYTES:
                break
            out.append(self._rows[key])
        return out


def count(corpora: Sequence[Path], cfg: Vocab, scratch: Path) -> Found:
    """Count the runs of the script in all Arabic documents that are not held out; `scratch` is an empty folder.

    Raises FitraError where weights name a source or dialect that the corpus does not have.
    """
    splits = [s for c in corpora for s in tables.splits(table_parts(c, "documents"))]
    tasks = [Task(s, cfg, scratch / f"{i:05d}") for i, s in enumerate(splits)]
    done: dict[int, dict[str, int]] = dict(
        track(engine.run(_count, tasks, cfg.engine, inline=len(tasks) == 1), "vocab: counting words", total=len(tasks))
    )
    out, runs = Found(), Counter[str]()
    sample = {k: _Sample(MEASURED) for k in ("ar", "learned", "en")}
    for i, task in enumerate(tasks):
        out.seen.update(done[i])
        for batch in pq.ParquetFile(task.out.with_suffix(".words.parquet")).iter_batches(1 << 18):
            for run, n in zip(batch["run"].to_pylist(), batch["n"].to_pylist(), strict=True):
                runs[run] += n
        _bound(runs, cfg.max_kinds, out.seen)
        for row in pq.read_table(task.out.with_suffix(".sample.parquet")).to_pylist():
            sample[row["set"]].offer(row)
    _check_weights(cfg, out.seen)
    # Weighted counts are rounded once, at the end, so that the order of parts cannot matter.
    out.runs = {run: k for run, n in sorted(runs.items()) if (k := round(n))}
    out.samples = {k: s.rows() for k, s in sample.items()}
    return out


def _check_weights(cfg: Vocab, seen: Counter[str]) -> None:
    for key, weights in (("source", cfg.source_weights), ("dialect", cfg.dialect_weights)):
        there = sorted(k.partition(":")[2] for k in seen if k.startswith(f"{key}:"))
        if unknown := sorted(set(weights) - set(there)):
            raise FitraError(
                f"vocab.{key}_weights names {unknown[0]!r}, which no Arabic document of the corpus has.",
                f"There: {', '.join(there[:20]) or 'none'}.",
            )
        if bad := [k for k, w in weights.items() if not 0 <= w < 1e6]:
            raise FitraError(f"vocab.{key}_weights: {bad[0]!r} has a weight that is no number from 0.", "1 is neutral.")


def _bound(runs: Counter[str], most: int, seen: Counter[str]) -> None:
    """Forget the rarest words, all of one count at a time, when there are too many kinds (lossy counting)."""
    if len(runs) <= most:
        return
    by_count = Counter(runs.values())
    limit, kept = 0.0, len(runs)
    for n in sorted(by_count):
        limit, kept = n, kept - by_count[n]
        if kept <= most // 2:
            break
    for run in [r for r, n in runs.items() if n <= limit]:
        del runs[run]
    seen["forgotten_up_to"] = max(seen["forgotten_up_to"], int(limit))


def _count(task: Task) -> dict[str, int]:
    """Worker: count one part and write what was found; returns how many of what."""
    cfg, script = task.cfg, Script.of(task.cfg)
    runs, seen = Counter[str](), Counter[str]()
    by_weight: dict[float, Counter[str]] = {}
    sample = {k: _Sample(MEASURED) for k in ("ar", "learned", "en")}
    for batch in tables.read_split(task.split):
        if batch.error:
            raise FitraError(batch.error, batch.hint)
        for row in batch.rows:
            lang = row.get("lang")
            if lang != "en" and lang not in LANGS:
                continue
            labels = _labels(row)
            kept = {
                "key": _hash(str(row.get("id"))).hex()[2:34], "lang": str(lang), "source": str(row.get("source")),
                "dialect": str(labels.get("dialect") or lang), "register": str(labels.get("register") or ""),
                "text": row["text"],
            }  # fmt: skip
            if lang == "en":
                seen["en"] += 1
                sample["en"].offer({**kept, "set": "en"})
                continue
            seen.update(("ar", f"source:{kept['source']}", f"dialect:{kept['dialect']}"))
            if _hash(str(row.get("id")))[0] % cfg.held_out == 0:
                seen["held_out"] += 1
                sample["ar"].offer({**kept, "set": "ar"})
                continue
            weight = cfg.source_weights.get(kept["source"], 1.0) * cfg.dialect_weights.get(kept["dialect"], 1.0)
            if weight <= 0:
                seen["weightless"] += 1
                continue
            sample["learned"].offer({**kept, "set": "learned"})
            seen["bytes"] += len(row["text"].encode())
            found = by_weight.setdefault(weight, Counter())
            found.update(script.run.findall(script.without_marks(row["text"])))
            _bound(found, cfg.max_kinds, seen)
    for weight, found in by_weight.items():
        for run, n in found.items():
            runs[run] += n * weight  # type: ignore[assignment]
    table = pa.table({"run": pa.array(runs.keys(), pa.string()), "n": pa.array(runs.values(), pa.float64())})
    write_parquet(task.out.with_suffix(".words.parquet"), table)
    rows = [r for s in sample.values() for r in s.rows()]
    write_parquet(task.out.with_suffix(".sample.parquet"), pa.Table.from_pylist(rows, schema=SAMPLE))
    return dict(seen)


def _labels(row: dict[str, Any]) -> dict[str, Any]:
    held = row.get("labels")
    if isinstance(held, str):
        try:
            held = json.loads(held)
        except json.JSONDecodeError:
            return {}
    return held if isinstance(held, dict) else {}


def _hash(doc_id: str) -> bytes:
    return hashlib.sha256(doc_id.encode()).digest()


def documents(corpora: Sequence[Path], what: str) -> Iterator[str]:
    """The text of all documents in order."""
    parts = [p for c in corpora for p in table_parts(c, "documents")]
    total = sum(pq.ParquetFile(p).metadata.num_rows for p in parts)

    def rows() -> Iterator[str]:
        for p in parts:
            for batch in pq.ParquetFile(p).iter_batches(1024, columns=["text"]):
                yield from (t for t in batch["text"].to_pylist() if t)

    return track(rows(), what, total=total)
