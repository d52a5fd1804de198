"""The ledger: a content-addressed store of paid answers. What it holds is never asked for again.

A ledger is a folder. Every writing process appends to a segment of its own, held by a lock that the kernel frees when
the process dies, so several processes write at once without a server. `put` only queues; `flush` writes all that
was queued and syncs once (group commit): an answer is durable when the flush after its put has returned.

Readers skip what is damaged. The next owner of a segment cuts off a torn tail; rot inside a segment is left in place,
named by `verify`, and its answer is simply asked for again. Memory holds 16 bytes per stored answer, no texts.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np

from fitra.errors import FitraError
from fitra.llm import segment
from fitra.llm.segment import KEY_BYTES, MAX_PAYLOAD, Damage

MERGE_AT = 65_536  # recent answers are merged into the compact index beyond this many
OFFSET_BITS = 40  # a segment holds up to a terabyte


@dataclass(frozen=True)
class Record:
    """One stored answer. `key` is 64 hex digits; `at` (unix seconds), `seconds` and `attempts` say what it took."""

    key: str
    text: str
    finish_reason: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    identity: str = ""
    job: str = ""
    at: float = 0.0
    seconds: float = 0.0
    attempts: int = 1


def pack(record: Record) -> bytes:
    """One frame for a segment; ValueError where the key is malformed or the answer absurdly long."""
    key = bytes.fromhex(record.key)
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {2 * KEY_BYTES} hex digits, not {len(record.key)}")
    body = {k: v for k, v in vars(record).items() if k != "key"}
    # surrogatepass: a server may send lone surrogates, and what was paid for is kept as it came.
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")
    if len(text) > MAX_PAYLOAD - KEY_BYTES:
        raise ValueError(f"an answer of {len(text):,} bytes does not fit into a ledger")
    return segment.encode(key + text)


def _unpack(payload: bytes | memoryview) -> Record | None:
    body = bytes(payload[KEY_BYTES:]).decode(errors="surrogatepass")
    try:
        return Record(key=bytes(payload[:KEY_BYTES]).hex(), **json.loads(body))
    except (ValueError, TypeError):  # a valid frame of a future version with other fields
        return None


class Index:
    """Key -> places. Sorted arrays of (first 8 bytes of the key, place), and a dict of what came since."""

    def __init__(self) -> None:
        self._keys = np.empty(0, np.uint64)
        self._places = np.empty(0, np.uint64)
        self._recent: dict[int, list[int]] = {}
        self._n_recent = 0

    def add(self, key: bytes, place: int) -> None:
        """Remember one place; of several places of a key the lowest is offered first."""
        self._recent.setdefault(int.from_bytes(key[:8], "big"), []).append(place)
        self._n_recent += 1
        if self._n_recent >= MERGE_AT:
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
        short = int.from_bytes(key[:8], "big")
        found = []
        if len(self._keys):
            lo = int(np.searchsorted(self._keys, np.uint64(short), "left"))
            while lo < len(self._keys) and int(self._keys[lo]) == short:
                found.append(int(self._places[lo]))
                lo += 1
        return found + self._recent.get(short, [])

    def all_places(self) -> Iterator[int]:
        """Every place once, ordered by the first 8 bytes of the key."""
        self._merge()
        for p in self._places:
            yield int(p)

    def __len__(self) -> int:
        return len(self._keys) + self._n_recent


class Ledger:
    """An open ledger; use as a context manager. Safe to share among threads. Reading creates no segment.

    Raises FitraError when `path` is a file, or when the disk is full (what was flushed before stays).
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise FitraError(f"{self.path}: a ledger is a folder.", "Give the folder, not a file in it.")
        self.damage: list[Damage] = []
        self._index = Index()
        self._fds: list[int] = []  # read side, one per segment
        self._writer = -1
        self._writer_segment = -1
        self._end = 0
        self._queue: dict[bytes, tuple[Record, bytes]] = {}
        self._flushing: dict[bytes, tuple[Record, bytes]] = {}
        self._state = threading.Lock()  # index and queue: held for microseconds
        self._writing = threading.Lock()  # the segment: held while syncing
        for p in segment.paths(self.path):
            self._load(p)

    def _load(self, path: Path) -> None:
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:  # compacted away since it was listed: its answers are in a later segment
            return
        number = len(self._fds)
        self._fds.append(fd)
        for item in segment.scan(fd, path.name):
            if isinstance(item, Damage):
                self.damage.append(item)
            else:
                self._index.add(bytes(item[1][:KEY_BYTES]), number << OFFSET_BITS | item[0])

    def __len__(self) -> int:
        """Stored answers, those of equal key counted each."""
        return len(self._index)

    def get(self, key: str) -> Record | None:
        """The answer stored or queued under `key`; None where there is none or it has rotted since."""
        raw = bytes.fromhex(key)
        with self._state:
            queued = self._queue.get(raw) or self._flushing.get(raw)
            places = self._index.places(raw)
        if queued:
            return queued[0]
        for place in places:
            payload = segment.read_at(self._fds[place >> OFFSET_BITS], place & ((1 << OFFSET_BITS) - 1))
            if payload is not None and payload[:KEY_BYTES] == raw:
                record = _unpack(payload)
                if record is not None:
                    return record
        return None

    def put(self, record: Record) -> None:
        """Queue an answer; it is durable when the next `flush` has returned."""
        frame = pack(record)
        with self._state:
            self._queue[bytes.fromhex(record.key)] = (record, frame)

    def flush(self) -> None:
        """Write and sync all that is queued, in one piece. A failure leaves the queue and the segment as they were."""
        with self._writing:
            with self._state:
                if not self._queue:
                    return
                self._flushing, self._queue = self._queue, {}
            try:
                if self._writer < 0:
                    self._open_writer()
                self._append(b"".join(frame for _, frame in self._flushing.values()))
            except BaseException as e:
                with self._state:
                    self._queue, self._flushing = {**self._flushing, **self._queue}, {}
                if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise FitraError(f"{self.path}: no space left on the disk.", "Free some and run again.") from None
                raise
            with self._state:
                for raw, (_, frame) in self._flushing.items():
                    self._index.add(raw, self._writer_segment << OFFSET_BITS | self._end)
                    self._end += len(frame)
                self._flushing = {}

    def _append(self, data: bytes) -> None:
        view, at = memoryview(data), self._end
        try:
            while view:
                n = os.pwrite(self._writer, view, at)
                view, at = view[n:], at + n
            os.fdatasync(self._writer)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self._writer, self._end)
            raise

    def _open_writer(self) -> None:
        """Take over a segment whose writer is gone, or begin a new one."""
        self.path.mkdir(parents=True, exist_ok=True)
        for p in segment.paths(self.path):
            fd = lock_segment(p)
            if fd is not None:
                break
        else:
            fd, p = self._new_segment()
        self._end = _repair(fd)
        self._writer = fd
        self._writer_segment = len(self._fds)
        self._fds.append(os.open(p, os.O_RDONLY))

    def _new_segment(self) -> tuple[int, Path]:
        number = len(segment.paths(self.path)) + 1
        while True:
            p = self.path / f"segment-{number:06d}.log"
            try:
                fd = os.open(p, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            except FileExistsError:
                number += 1
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # somebody took over the empty file in between
                os.close(fd)
                continue
            _sync_folder(self.path)
            return fd, p

    def close(self) -> None:
        """Flush and let go of the segment."""
        try:
            if self._fds or self._queue:
                self.flush()
        finally:
            for fd in [*self._fds, self._writer]:
                if fd >= 0:
                    os.close(fd)
            self._fds, self._writer, self._index = [], -1, Index()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def records(self) -> Iterator[Record]:
        """Every durable answer once, ordered by key."""
        # Places come ordered by the first 8 bytes: only the few keys that share them need sorting here.
        group: dict[str, Record] = {}
        short = ""
        for place in self._index.all_places():
            payload = segment.read_at(self._fds[place >> OFFSET_BITS], place & ((1 << OFFSET_BITS) - 1))
            record = _unpack(payload) if payload is not None else None
            if record is None:
                continue
            if record.key[:16] != short:
                yield from (group[k] for k in sorted(group))
                group, short = {}, record.key[:16]
            group.setdefault(record.key, record)
        yield from (group[k] for k in sorted(group))


def lock_segment(path: Path) -> int | None:
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


def _repair(fd: int) -> int:
    """Cut a torn tail off a segment that we own; returns where to append."""
    end = os.fstat(fd).st_size
    for item in segment.scan(fd):
        if isinstance(item, Damage) and item.kind == "torn":
            end = item.offset
    if end < os.fstat(fd).st_size:
        os.ftruncate(fd, end)
        os.fsync(fd)
    return end


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
