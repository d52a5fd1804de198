"""The ledger: a content-addressed store of paid answers. What it holds is never asked for again.

A ledger is a folder. Every writing process appends to a segment of its own, held by a lock that the kernel frees when
the process dies, so several processes write at once without a server. `put` only queues; `flush` writes all that
was queued and syncs once (group commit): an answer is durable when the flush after its put has returned. A segment that
has grown to 256 MB or 131,072 answers is sealed: its index goes to disk, and the writer begins another.

    turn = ledger.claim(key)      # a Record: somebody has stored it; False: another worker is asking; True: ask now
    ledger.put(record); ledger.flush()        # durable, and the lease on the key is given back
    ledger.release(key, sent=...)             # there is no answer; sent: it may have been paid all the same

Readers skip what is damaged. The next owner of a segment cuts off a torn tail; rot inside a segment is left in place,
named by `verify`, and its answer is simply asked for again. Memory holds 16 bytes per answer of unsealed segments.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np

from fitra.errors import FitraError
from fitra.llm import index, segment
from fitra.llm.index import Index, Sealed
from fitra.llm.lease import Leases
from fitra.llm.record import Record, pack, unpack
from fitra.llm.segment import KEY_BYTES, Damage

__all__ = ["Ledger", "Record", "pack"]

MERGE_AT = 8192  # recent answers are merged into the compact index beyond this many
OFFSET_BITS = 40  # a segment holds up to a terabyte
OFFSET = (1 << OFFSET_BITS) - 1
SEAL_BYTES, SEAL_ANSWERS = 1 << 28, 1 << 17  # whichever is reached first
RANGE_BITS = 6  # `records` sorts one of 2**6 parts of the key space at a time


@dataclass(eq=False)
class _File:
    """An open segment. `end` is where the scan of an unsealed one goes on; `doubt` what looked like rot there once."""

    path: Path
    fd: int
    inode: int
    end: int = 0
    sealed: Sealed | None = None
    doubt: Damage | None = None


class Ledger:
    """An open ledger; use as a context manager. Safe to share among threads. Reading creates no segment.

    `ttl` (seconds) is how long the leases of a worker out of reach stay its own. Raises FitraError when `path` is a
    file, or when the disk is full (what was flushed before stays).
    """

    def __init__(self, path: Path, *, ttl: float | None = None) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise FitraError(f"{self.path}: a ledger is a folder.", "Give the folder, not a file in it.")
        self.damage: list[Damage] = []  # in unsealed segments, as read; `verify` reads all
        self._index = Index(MERGE_AT)  # of unsealed segments: number of the file << OFFSET_BITS | offset
        self._files: dict[int, _File] = {}
        self._next = 0
        self._own: _File | None = None
        self._own_number = self._writer = -1
        self._end = self._put = 0  # bytes of our segment, answers that we wrote there
        self._queue: dict[bytes, tuple[Record, bytes]] = {}
        self._flushing: dict[bytes, tuple[Record, bytes]] = {}
        self._state = threading.Lock()  # index, files and queue: held to read one answer at the most
        self._writing = threading.Lock()  # the segment: held while syncing
        self._reading = threading.Lock()  # one refresh at a time
        self._ttl = ttl
        self._leases: Leases | None = None
        self._looked = -1  # how many answers all had stored when we last looked for those of others
        self._gone: list[int] = []  # files that were compacted away
        self.refresh()

    def refresh(self) -> int:
        """See what other processes have stored since; returns how many answers are new to us."""
        with self._reading:
            before = len(self)
            there = {p.name: p for p in segment.paths(self.path)}
            for number, f in list(self._files.items()):
                same = f.path.name in there and _inode(f.path) == f.inode
                if same:
                    del there[f.path.name]
                    if f.sealed is None and f is not self._own:
                        self._grow(number, f)
                elif f is not self._own:  # compacted away: the answers are in a segment that we load below
                    self._gone.append(number)
            for p in there.values():
                self._load(p)
            for number in self._gone:
                with self._state:
                    f = self._files.pop(number)
                    self._index.drop(number << OFFSET_BITS, number + 1 << OFFSET_BITS)
                    os.close(f.fd)
            self._gone.clear()
            return len(self) - before

    def _load(self, path: Path) -> None:
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:  # compacted away since it was listed: its answers are in a later segment
            return
        f = _File(path, fd, os.fstat(fd).st_ino)
        f.sealed = index.read_index(index.index_path(path), os.fstat(fd).st_size)
        with self._state:
            number, self._next = self._next, self._next + 1
            self._files[number] = f
        while f.sealed is None and self._scan(number, f):
            time.sleep(0.002)

    def _grow(self, number: int, f: _File) -> None:
        """Read on where the last scan of another's segment ended. Opened anew, since network file systems ask the
        server for a file's size only then."""
        fd = os.open(f.path, os.O_RDONLY)
        size = os.fstat(fd).st_size
        sealed = index.read_index(index.index_path(f.path), size)
        with self._state:
            os.dup2(fd, f.fd, inheritable=False)
            if sealed is not None:
                f.sealed = sealed
                self._index.drop(number << OFFSET_BITS, number + 1 << OFFSET_BITS)
        os.close(fd)
        if sealed is None and size > f.end:
            self._scan(number, f)

    def _scan(self, number: int, f: _File) -> bool:
        """Read to the end, or (True) up to what looks like rot for the first time: its writer may be just at it."""
        for item in segment.scan(f.fd, f.path.name, f.end):
            if not isinstance(item, Damage):
                with self._state:
                    self._index.add(bytes(item[1][:KEY_BYTES]), number << OFFSET_BITS | item[0])
                f.end = item[0] + segment.HEAD.size + len(item[1])
            elif item.kind == "rot" and item != f.doubt:
                f.doubt = item
                return True
            elif item not in self.damage:
                self.damage.append(item)
        return False

    def __len__(self) -> int:
        """Stored answers, those of equal key counted each."""
        return len(self._index) + sum(len(f.sealed) for f in list(self._files.values()) if f.sealed is not None)

    def get(self, key: str) -> Record | None:
        """The answer stored or queued under `key`; None where there is none or it has rotted since."""
        raw = bytes.fromhex(key)
        with self._state:
            queued = self._queue.get(raw) or self._flushing.get(raw)
            if queued:
                return queued[0]
            for fd, offset in self._places(raw):
                payload = segment.read_at(fd, offset)
                if payload is not None and payload[:KEY_BYTES] == raw:
                    record = unpack(payload)
                    if record is not None:
                        return record
        return None

    def _places(self, raw: bytes) -> Iterator[tuple[int, int]]:
        for f in self._files.values():
            if f.sealed is not None:
                for offset in f.sealed.places(raw):
                    yield f.fd, offset
        for place in self._index.places(raw):
            yield self._files[place >> OFFSET_BITS].fd, place & OFFSET

    def claim(self, key: str) -> Record | bool:
        """Ask to be the one that asks: True, go on; False, another worker is at it (try again soon); or the answer.

        A lease ends with the flush of the key's answer, with `release`, or when this process is gone.
        """
        raw = bytes.fromhex(key)
        leases = self._leases
        if leases is None:
            with self._writing:
                leases = self._leases = self._leases or Leases(self.path, *([self._ttl] if self._ttl else []))
        turn = leases.claim(raw, self._looked)
        if turn.look:
            self.refresh()
            self._looked = max(self._looked, turn.at)
        if not turn.granted:
            return False
        record = self.get(key)
        if record is not None:
            leases.release([raw], stored=True)
        return record or True

    def release(self, key: str, sent: bool = False) -> None:
        """Give a lease back without an answer. `sent`: the request left us, so it may be charged for all the same."""
        if self._leases is not None:
            self._leases.release([bytes.fromhex(key)], sent=sent)

    def possibly_paid(self, keys: Iterable[str]) -> int:
        """Of these keys, how many earlier requests may have been paid for without an answer (see `Record`)."""
        leases = self._leases
        return sum(leases.losses(bytes.fromhex(k)) for k in keys) if leases else 0

    def put(self, record: Record) -> None:
        """Queue an answer; it is durable when the next `flush` has returned."""
        losses = self._leases.losses(bytes.fromhex(record.key)) if self._leases else 0
        if losses:
            record = replace(record, maybe_paid=record.maybe_paid + losses)
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
                    self._index.add(raw, self._own_number << OFFSET_BITS | self._end)
                    self._end += len(frame)
                self._put += len(self._flushing)
                done, self._flushing = list(self._flushing), {}
            if self._leases is not None:
                self._leases.release(done, stored=True)
            if self._end >= SEAL_BYTES or self._put >= SEAL_ANSWERS:
                self._seal()

    def _seal(self) -> None:
        """Put the index of our full segment on disk and let go of it."""
        own = self._own
        assert own is not None
        index.seal(own.path, self._writer)
        sealed = index.read_index(index.index_path(own.path), self._end)
        with self._state:
            if sealed is not None:
                own.sealed = sealed
                self._index.drop(self._own_number << OFFSET_BITS, self._own_number + 1 << OFFSET_BITS)
            os.close(self._writer)
            self._own, self._own_number, self._writer, self._put = None, -1, -1, 0

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
            fd = segment.lock(p)
            if fd is None:
                continue
            if not index.index_path(p).exists():  # asked under the lock: its owner may just have sealed it
                break
            os.close(fd)
        else:
            fd, p = self._new_segment()
        end = segment.repair(fd)
        with self._reading:  # what its last owner wrote since we looked
            inode = os.fstat(fd).st_ino
            known = [n for n, f in self._files.items() if f.inode == inode]
            if known:
                self._grow(known[0], self._files[known[0]])
            else:
                self._load(p)
            self._end, self._writer = end, fd
            self._own_number, self._own = next((n, f) for n, f in self._files.items() if f.inode == inode)

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
            segment.sync_folder(self.path)
            return fd, p

    def close(self) -> None:
        """Flush and let go of the segment and of all leases."""
        try:
            if self._files or self._queue:
                self.flush()
        finally:
            if self._leases is not None:
                self._leases.close()
            for fd in [*(f.fd for f in self._files.values()), self._writer]:
                if fd >= 0:
                    os.close(fd)
            self._files, self._own, self._writer, self._index, self._leases = {}, None, -1, Index(), None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def records(self) -> Iterator[Record]:
        """Every durable answer once, ordered by key. Memory: a 64th of the index at a time."""
        for low, high in index.ranges(RANGE_BITS):
            yield from self._records(low, high)

    def _records(self, low: int, high: int) -> Iterator[Record]:
        with self._state:
            parts = [self._index.between(low, high)]
            for number, f in self._files.items():
                if f.sealed is not None:
                    keys, offsets = f.sealed.between(low, high)
                    parts.append((keys, offsets | np.uint64(number << OFFSET_BITS)))
            fds = {number: f.fd for number, f in self._files.items()}
        keys, places = (np.concatenate(c) for c in zip(*parts, strict=True))
        # Ordered by the first 8 bytes: only the few keys that share them need sorting here.
        group: dict[str, Record] = {}
        for place in places[np.lexsort((places, keys))].tolist():
            payload = segment.read_at(fds[place >> OFFSET_BITS], place & OFFSET)
            record = unpack(payload) if payload is not None else None
            if record is None:
                continue
            if group and record.key[:16] != next(iter(group))[:16]:
                yield from (group[k] for k in sorted(group))
                group = {}
            group.setdefault(record.key, record)
        yield from (group[k] for k in sorted(group))


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return -1
