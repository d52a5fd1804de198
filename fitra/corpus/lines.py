"""Lines that many documents repeat: menus, cookie banners, signatures, licence notes.

A first pass over the input counts, for every folded line, the documents that hold it; the second, while documents are
labelled, cuts lines that are too frequent. Verses and formulas repeat as well, so documents of some registers keep all
their lines, short lines are left alone, and the cutting is off unless the recipe asks for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from fitra import arabic, tables
from fitra.artifacts import atomic_path
from fitra.recipe import Corpus, Lines

Hashes = npt.NDArray[np.uint64]

_SLICES = 16  # counted one after the other, so that not all lines of a corpus are in memory


def hashes(texts: pa.Array, cfg: Lines) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """One number for each line of each text (0 for a line too short to count), and the bounds of the texts' lines."""
    split = pc.split_pattern(texts, "\n")
    lines = arabic.fold_array(pc.list_flatten(split), "search")
    words = pc.add(pc.count_substring(lines, " "), 1).to_numpy(zero_copy_only=False)
    got = [xxhash.xxh3_64_intdigest(line.encode()) if line else 0 for line in lines.to_pylist()]
    out = np.where(words >= cfg.min_words, np.array(got, dtype=np.uint64), np.uint64(0))
    counts = pc.list_value_length(split).to_numpy(zero_copy_only=False)
    return out, np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))


def count(task: Any) -> int:
    """Count the lines of one shard: lines/NNNNN.npz holds the different ones, sorted, and the documents of each."""
    cfg = Corpus.model_validate_json(task.config)
    source = cfg.inputs[task.source]
    target = _file(Path(task.work), task.number)
    if target.exists():
        return 0
    found: list[Hashes] = []
    counts: list[npt.NDArray[np.int64]] = []
    left = task.limit if task.limit is not None else 1 << 62
    for split in task.splits:
        for batch in tables.read_split(split, source.text, source.id or "id"):
            texts = pa.array([r[source.text] for r in batch.rows[:left]], pa.large_string())
            left -= len(texts)
            got, bounds = hashes(texts, cfg.dedupe.lines)
            documents = np.repeat(np.arange(len(texts)), np.diff(bounds))
            pairs = np.unique(np.stack([documents.astype(np.uint64), got], axis=1)[got != 0], axis=0)
            lines, n = np.unique(pairs[:, 1], return_counts=True)
            found.append(lines)
            counts.append(n)
    lines, n = _sum(found, counts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as tmp, tmp.open("wb") as f:
        np.savez(f, lines=lines, counts=n)
    return 0


def _file(work: Path, number: int) -> Path:
    return work / "lines" / f"{number:05d}.npz"


def _sum(lines: Sequence[Hashes], counts: Sequence[npt.NDArray[np.int64]]) -> tuple[Hashes, npt.NDArray[np.int64]]:
    if not lines:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    names, at = np.unique(np.concatenate(lines), return_inverse=True)
    return names, np.bincount(at, weights=np.concatenate(counts), minlength=len(names)).astype(np.int64)


def find(cfg: Lines, work: Path, shards: int) -> int:
    """Write lines/repeated.npz: the lines that go, sorted, and the first shard that holds each; how many."""
    assert cfg.min_documents is not None
    target = work / "lines" / "repeated.npz"
    held = []
    for i in range(shards):
        with np.load(_file(work, i), allow_pickle=False) as z:
            held.append((z["lines"], z["counts"]))
    edges = np.linspace(0, 2**64 - 1, _SLICES + 1).astype(np.float64)
    out, first = [], []
    for k in range(_SLICES):
        low, high = np.uint64(edges[k]), np.uint64(min(edges[k + 1], 2**64 - 2048))
        parts = []
        for lines, counts in held:
            a = np.searchsorted(lines, low, side="left")
            b = np.searchsorted(lines, high, side="left") if k < _SLICES - 1 else len(lines)
            parts.append((lines[a:b], counts[a:b]))
        names, total = _sum([p[0] for p in parts], [p[1] for p in parts])
        names = names[total >= cfg.min_documents]
        where = np.full(len(names), shards, dtype=np.int64)
        for i, (lines, _) in reversed(list(enumerate(parts))):
            where[np.isin(names, lines, assume_unique=True)] = i
        out.append(names)
        first.append(where)
    names = np.concatenate(out)
    with atomic_path(target) as tmp, tmp.open("wb") as f:
        np.savez(f, lines=names, first=np.concatenate(first))
    return len(names)


@lru_cache(maxsize=2)
def _repeated(work: str) -> tuple[Hashes, npt.NDArray[np.int64]]:
    with np.load(Path(work) / "lines" / "repeated.npz", allow_pickle=False) as z:
        return z["lines"], z["first"]


class Cutter:
    """Cuts repeated lines out of the texts of one shard, batch by batch, in order."""

    def __init__(self, cfg: Lines, work: str, shard: int) -> None:
        self.cfg, self.shard = cfg, shard
        self.lines, self.first = _repeated(work)
        self.seen: Counter[int] = Counter()  # documents of this shard in which a line stayed

    def __call__(self, texts: Sequence[str], spared: Sequence[bool]) -> list[tuple[str, int]]:
        """Each text without the lines that go, and how many went; the `spared` keep theirs, but are counted."""
        got, bounds = hashes(pa.array(texts, pa.large_string()), self.cfg)
        at = np.minimum(np.searchsorted(self.lines, got), max(len(self.lines) - 1, 0))
        hit = (self.lines[at] == got) & (got != 0) if len(self.lines) else np.zeros(len(got), dtype=bool)
        touched = np.unique(np.searchsorted(bounds, np.flatnonzero(hit), side="right") - 1)
        out = [(t, 0) for t in texts]
        for i in touched.tolist():
            stay, here = [], set[int]()
            for n, line in enumerate(texts[i].split("\n"), int(bounds[i])):
                key = int(got[n])
                if not hit[n] or spared[i] or self._stays(key, int(self.first[at[n]]), here):
                    stay.append(line)
            self.seen.update(here)
            out[i] = ("\n".join(stay), int(bounds[i + 1] - bounds[i]) - len(stay))
        return out

    def _stays(self, key: int, first: int, here: set[int]) -> bool:
        if key in here or (first == self.shard and self.seen[key] < self.cfg.keep_first):
            here.add(key)
            return True
        return False
