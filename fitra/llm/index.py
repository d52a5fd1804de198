"""Where answers lie: a small index in memory for what is being written, sorted files on disk for sealed segments.

A sealed segment is never written again. Beside it lies `segment-….idx`, mapped into memory and searched there:

    magic (8 bytes) | answers (u64) | bytes of the segment (u64) | xxh64 of the segment (u64) | xxh64 of the rest (u64)
    | first 8 bytes of every key (u64, ascending) | offset of every frame (u64)

So a sealed answer costs 16 bytes of disk and, beyond what the kernel caches, no memory. An index that does not fit its
segment or fails its checksum is not used: the segment is scanned instead.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from fitra.artifacts import atomic_path
from fitra.llm import segment
from fitra.llm.segment import Damage

MAGIC = b"FITRAIX1"
HEAD = struct.Struct("<8sQQQQ")
CHUNK = 1 << 20

Numbers = npt.NDArray[np.uint64]


def short(key: bytes) -> int:
    """The part of a key that indexes hold: its first 8 bytes."""
    return int.from_bytes(key[:8], "big")


class Index:
    """Key -> places, in memory. Sorted arrays of (first 8 bytes of the key, place), and a dict of what came since."""

    def __init__(self, merge_at: int = 8192) -> None:
        self._keys: Numbers = np.empty(0, np.uint64)
        self._places: Numbers = np.empty(0, np.uint64)
        self._recent: dict[int, list[int]] = {}
        self._n_recent = 0
        self._merge_at = merge_at

    def add(self, key: bytes, place: int) -> None:
        """Remember one place; of several places of a key the lowest is offered first."""
        self._recent.setdefault(short(key), []).append(place)
        self._n_recent += 1
        if self._n_recent >= max(self._merge_at, len(self._keys) // 16):
            self._merge()

    def _merge(self) -> None:
        pairs = [(k, p) for k, ps in self._recent.items() for p in ps]
        new = np.array(pairs, np.uint64).reshape(-1, 2)
        keys, places = np.concatenate([self._keys, new[:, 0]]), np.concatenate([self._places, new[:, 1]])
        order = np.lexsort((places, keys))
        self._keys, self._places = keys[order], places[order]
        self._recent, self._n_recent = {}, 0

    def places(self, key: bytes) -> list[int]:
        """Where answers with this key may lie: equal first 8 bytes, so the reader compares the whole key."""
        k = short(key)
        return _equal(self._keys, self._places, k) + self._recent.get(k, [])

    def between(self, low: int, high: int) -> tuple[Numbers, Numbers]:
        """(first 8 bytes of the key, place) of all keys from `low` to `high`, both included, ascending."""
        self._merge()
        return _between(self._keys, self._places, low, high)

    def drop(self, low: int, high: int) -> None:
        """Forget the places from `low` up to, not including, `high`: a segment that was sealed or is gone."""
        self._merge()
        stay = (self._places < np.uint64(low)) | (self._places >= np.uint64(high))
        self._keys, self._places = self._keys[stay], self._places[stay]

    def __len__(self) -> int:
        return len(self._keys) + self._n_recent


@dataclass(frozen=True)
class Sealed:
    """The index of a sealed segment, on disk. `checksum` is the xxh64 of the whole segment, `size` its bytes."""

    keys: Numbers
    offsets: Numbers
    low: int
    high: int
    size: int
    checksum: int

    def places(self, key: bytes) -> list[int]:
        """Offsets of frames whose key begins like this one."""
        k = short(key)
        return _equal(self.keys, self.offsets, k) if self.low <= k <= self.high else []

    def between(self, low: int, high: int) -> tuple[Numbers, Numbers]:
        """As `Index.between`, with offsets for places."""
        return _between(self.keys, self.offsets, low, high)

    def __len__(self) -> int:
        return len(self.keys)


def _equal(keys: Numbers, places: Numbers, k: int) -> list[int]:
    found = []
    if len(keys):
        at = int(np.searchsorted(keys, np.uint64(k), "left"))
        while at < len(keys) and int(keys[at]) == k:
            found.append(int(places[at]))
            at += 1
    return found


def _between(keys: Numbers, places: Numbers, low: int, high: int) -> tuple[Numbers, Numbers]:
    lo, hi = np.searchsorted(keys, np.uint64(low), "left"), np.searchsorted(keys, np.uint64(high), "right")
    return np.asarray(keys[lo:hi]), np.asarray(places[lo:hi])


def index_path(log: Path) -> Path:
    """Where the index of a segment lies once it is sealed."""
    return log.with_suffix(".idx")


def seal(log: Path, fd: int) -> list[Damage]:
    """Write the index of a segment that we own and shall not write again; returns the damage found in it."""
    keys, offsets, damage = array("Q"), array("Q"), []
    for item in segment.scan(fd, log.name):
        if isinstance(item, Damage):
            damage.append(item)
        else:
            keys.append(short(bytes(item[1][:8])))
            offsets.append(item[0])
    write_index(index_path(log), keys, offsets, os.fstat(fd).st_size, file_checksum(fd))
    return damage


def write_index(path: Path, keys: array[int], offsets: array[int], size: int, checksum: int) -> None:
    """Write an index in one step: parallel arrays of first 8 key bytes and offsets, in any order."""
    k, o = np.frombuffer(keys, np.uint64), np.frombuffer(offsets, np.uint64)
    order = np.lexsort((o, k))
    body = [a[order].tobytes() for a in (k, o)]
    h = xxhash.xxh64()
    for part in body:
        h.update(part)
    with atomic_path(path) as tmp, tmp.open("wb") as f:
        f.write(HEAD.pack(MAGIC, len(k), size, checksum, h.intdigest()))
        for part in body:
            f.write(part)


def read_index(path: Path, size: int) -> Sealed | None:
    """The index of a segment of `size` bytes; None where there is none, or it does not fit or has rotted."""
    try:
        with path.open("rb") as f:
            magic, n, held, checksum, own = HEAD.unpack(f.read(HEAD.size))
            if magic != MAGIC or held != size or path.stat().st_size != HEAD.size + 16 * n:
                return None
            h = xxhash.xxh64()
            while chunk := f.read(CHUNK):
                h.update(chunk)
            if h.intdigest() != own:
                return None
    except (OSError, struct.error):
        return None
    if not n:
        empty: Numbers = np.empty(0, np.uint64)
        return Sealed(empty, empty, 1, 0, size, checksum)
    both: Any = np.asarray(np.memmap(path, np.uint64, "r", HEAD.size, (2, n)))  # plain views are searched faster
    return Sealed(both[0], both[1], int(both[0][0]), int(both[0][-1]), size, checksum)


def is_sealed(log: Path) -> bool:
    """Whether a segment has an index of its length: nobody writes to it any more."""
    try:
        with index_path(log).open("rb") as f:
            magic, _, held, _, _ = HEAD.unpack(f.read(HEAD.size))
        return bool(magic == MAGIC and held == log.stat().st_size)
    except (OSError, struct.error):
        return False


def file_checksum(fd: int) -> int:
    """xxh64 of an open file."""
    h, at = xxhash.xxh64(), 0
    while chunk := os.pread(fd, CHUNK, at):
        h.update(chunk)
        at += len(chunk)
    return int(h.intdigest())


def ranges(bits: int) -> Iterator[tuple[int, int]]:
    """The range of 8-byte keys in 2**bits equal parts, as (first, last)."""
    step = 1 << (64 - bits)
    for i in range(1 << bits):
        yield i * step, (i + 1) * step - 1
