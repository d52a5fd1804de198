"""Segments: the append-only files of a ledger, as frames that can be found again after damage.

    frame = marker (4 bytes) | payload length (u32) | xxh64 of length and payload (u64) | payload
    payload = key (32 bytes) | UTF-8 JSON of the answer

The marker is no valid UTF-8, so no answer can contain it: after a damaged frame a reader searches for the next marker
and goes on there. A frame counts only if its checksum holds, so half-written or rotten answers are never returned.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import xxhash

MARKER = b"\xf1FR\x01"
HEAD = struct.Struct("<4sIQ")
KEY_BYTES = 32
MAX_PAYLOAD = 1 << 26  # what a rotten length may make us read
CHUNK = 1 << 22


@dataclass(frozen=True)
class Damage:
    """Bytes of a segment that hold no valid frame. `kind` is 'torn' at the end of the file, 'rot' before it."""

    segment: str
    offset: int
    length: int
    kind: str


def encode(payload: bytes) -> bytes:
    """One frame around `payload`."""
    size = len(payload)
    return HEAD.pack(MARKER, size, _checksum(size, payload)) + payload


def _checksum(size: int, payload: bytes | memoryview) -> int:
    h = xxhash.xxh64(size.to_bytes(4, "little"))
    h.update(payload)
    return int(h.intdigest())


def read_at(fd: int, offset: int) -> bytes | None:
    """The payload of the frame at `offset` of an open file, or None where it is damaged."""
    head = os.pread(fd, HEAD.size, offset)
    if len(head) < HEAD.size:
        return None
    marker, size, checksum = HEAD.unpack(head)
    if marker != MARKER or not KEY_BYTES <= size <= MAX_PAYLOAD:
        return None
    payload = os.pread(fd, size, offset + HEAD.size)
    return payload if len(payload) == size and _checksum(size, payload) == checksum else None


def scan(fd: int, name: str = "", start: int = 0) -> Iterator[tuple[int, memoryview] | Damage]:
    """All frames of an open file as (offset, payload), and the damage between them, in order.

    Reads a few megabytes at a time. (Mapping the file would be simpler, but kills a reader when the owner of the
    segment cuts off a torn tail meanwhile.)
    """
    size = os.fstat(fd).st_size
    buf, base, at, bad = memoryview(b""), start, start, -1
    while at < size:
        i = at - base
        need = HEAD.size
        if i + HEAD.size <= len(buf):
            marker, length, checksum = HEAD.unpack_from(buf, i)
            if marker == MARKER and KEY_BYTES <= length <= min(MAX_PAYLOAD, size - at - HEAD.size):
                need = HEAD.size + length
                if i + need <= len(buf):
                    payload = buf[i + HEAD.size : i + need]
                    if _checksum(length, payload) == checksum:
                        if bad >= 0:
                            yield Damage(name, bad, at - bad, "rot")
                            bad = -1
                        yield at, payload
                        at += need
                        continue
                    need = 0
            else:
                need = 0
        if need and at + need <= size:  # the buffer ends too soon
            buf, base = memoryview(os.pread(fd, max(CHUNK, need), at)), at
            if len(buf) < need:  # cut off since we asked for the size
                break
            continue
        bad = at if bad < 0 else bad
        found = buf.obj.find(MARKER, i + 1)  # type: ignore[attr-defined]
        at = base + found if found >= 0 else max(at + 1, base + len(buf) - len(MARKER) + 1)
    if bad >= 0:
        yield Damage(name, bad, size - bad, "torn")


def paths(folder: Path) -> list[Path]:
    """The segments of a ledger folder, in the order in which they were begun."""
    return sorted(folder.glob("segment-*.log"))


def lock(path: Path) -> int | None:
    """Open a segment for writing if no process holds it (the lock goes with the descriptor); None where one does."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino == os.stat(path).st_ino:  # noqa: PTH116 - not compacted away meanwhile
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


def repair(fd: int) -> int:
    """Cut a torn tail off a segment that we own; returns where to append."""
    end = os.fstat(fd).st_size
    for item in scan(fd):
        if isinstance(item, Damage) and item.kind == "torn":
            end = item.offset
    if end < os.fstat(fd).st_size:
        os.ftruncate(fd, end)
        os.fsync(fd)
    return end


def sync_folder(path: Path) -> None:
    """Make the names of new files in a folder durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
