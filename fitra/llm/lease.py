"""Leases: of several workers on one ledger, one at a time may ask a question.

A worker takes a lease on a key before it sends the request and gives it back when the answer is durable. All leases of
a ledger are in one small file, `leases.tab`, changed only under its lock:

    magic (8 bytes) | answers stored so far (u64) | forgotten (u64)
    | workers: 1023 x (id u64, beat u64, machine u64, spare u64)
    | entries: 2**15 groups of 8 x u64 = worker (16 bits) | earlier losses, or age (8 bits) | tag of the key (40 bits)

The first 15 bits of a key choose its group, the next 40 are its tag. When its answer is stored the entry stays, marked
so: whoever wants the key next is told to look for the answer, and nobody need look before. Such entries give way to
new ones; then (or when a worker has not looked for 65,536 answers) "forgotten" tells workers to look once.

A worker beats every quarter of `ttl`. Its leases
are freed when it dies (on the same machine at once: the kernel lets go of its lock file; elsewhere when its beat has
stood still for `ttl`, by the observer's own clock), so any number of workers may come and go. What it had leased is
marked lost: it may have been paid without an answer, and whoever asks it again is told so.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash

from fitra.errors import FitraError

MAGIC = b"FITRALS2"
HEAD = struct.Struct("<8sQQ")
WORKER = struct.Struct("<QQQQ")
WORKERS = 1023
GROUP_BITS, GROUP = 15, 8
ENTRIES_AT = HEAD.size + WORKERS * WORKER.size
ENTRIES = (1 << GROUP_BITS) * GROUP
SIZE = ENTRIES_AT + 8 * ENTRIES
LOST = 0xFFFF  # in place of a worker: leased by one that is gone
STORED = 0xFFFE  # in place of a worker: the answer is in the ledger
EPOCH_BITS = 10  # the age of a stored entry is counted in 1,024 answers
YOUNG = 64  # epochs in which no worker need look unless told to
TAG = (1 << 40) - 1
TTL_S = 30.0
TABLE = "leases.tab"


def _machine() -> int:
    """Which kernel we run on: its locks tell who of its processes lives."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:  # no Linux
        boot = ""
    return int(xxhash.xxh64((boot or socket.gethostname()).encode()).intdigest())


def tag(key: bytes) -> tuple[int, int]:
    """(group, tag) of a key: its first 55 bits."""
    first = int.from_bytes(key[:8], "big") >> (64 - GROUP_BITS - 40)
    return first >> 40, first & TAG


class Turn(NamedTuple):
    """What `claim` says: `granted` is ours to ask; `look` says that somebody may have stored the answer already, so it
    must be looked for first; `at` is how many answers all had stored by then."""

    granted: bool
    look: bool
    at: int


class Leases:
    """The leases of one worker on the ledger folder `path`. Safe to share among threads, not with forked children.

    `ttl` in seconds: how long a worker that is out of reach keeps its leases. Raises FitraError where 1,023 workers are
    at it already.
    """

    def __init__(self, path: Path, ttl: float = TTL_S) -> None:
        self.path, self.ttl = Path(path), ttl
        self._changes = self._forgotten = 0  # as last read
        self._held: dict[bytes, tuple[int, int]] = {}  # key -> place of its entry, earlier losses
        self._seen: dict[int, tuple[int, int, float]] = {}  # worker -> id, beat, when first seen so
        self._slot = self._id = self._beats = 0
        self._live = -1
        self._lock = threading.RLock()
        self.path.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path / TABLE, os.O_RDWR | os.O_CREAT, 0o644)
        self._machine = _machine()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def _table(self) -> Iterator[None]:
        """The lock of the table: of our threads, and of all processes."""
        with self._lock:
            self._take()
            try:
                if os.fstat(self._fd).st_size < SIZE:
                    os.ftruncate(self._fd, SIZE)
                    os.pwrite(self._fd, HEAD.pack(MAGIC, 0, 0), 0)
                magic, self._changes, self._forgotten = HEAD.unpack(os.pread(self._fd, HEAD.size, 0))
                if magic != MAGIC:
                    raise FitraError(
                        f"{self.path / TABLE}: not a table of leases.", "Delete it when no run is at work."
                    )
                yield
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _take(self) -> None:
        """The lock of all processes. One that was stopped with it in hand is left alone with the old file."""
        since = time.monotonic()
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() - since < self.ttl:
                    time.sleep(0.0002)
                    continue
                self._replace()
                since = time.monotonic()
            except OSError as e:
                hint = "Put the ledger on a file system with flock."
                raise FitraError(f"{self.path}: files cannot be locked here ({e.strerror}).", hint) from None
            else:
                if os.fstat(self._fd).st_nlink:
                    return
            fd = os.open(self.path / TABLE, os.O_RDWR | os.O_CREAT, 0o644)
            os.close(self._fd)
            self._fd = fd

    def _replace(self) -> None:
        new = self.path / f".{TABLE}.new"
        try:
            fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:  # another is at it, or died at it
            with contextlib.suppress(FileNotFoundError):
                if time.time() - new.stat().st_mtime > self.ttl:
                    new.unlink()
            return
        if os.fstat(self._fd).st_nlink:  # nobody has done it since
            os.pwrite(fd, os.pread(self._fd, SIZE, 0), 0)
            os.replace(new, self.path / TABLE)
        else:
            new.unlink()
        os.close(fd)

    def claim(self, key: bytes, looked: int = -1) -> Turn:
        """Take the lease on a key (32 bytes), unless a worker, this one included, has it already.

        `looked` is the `Turn.at` before the caller last read all that others had stored; -1 for never.
        """
        with self._table():
            self._join()
            if key in self._held:
                return Turn(False, False, self._changes)
            group, mark = tag(key)
            start = ENTRIES_AT + 8 * GROUP * group
            entries = self._group(start)
            same = next((i for i, e in enumerate(entries) if e and e & TAG == mark), None)
            if same is not None and entries[same] >> 48 not in (LOST, STORED):
                if not self._reap(entries[same] >> 48):
                    return Turn(False, False, self._changes)
                entries = self._group(start)
            at = same if same is not None else min(range(GROUP), key=lambda i: self._keep(entries[i]))
            if same is None and self._keep(entries[at]) >= (4, 0):
                return Turn(False, False, self._changes)  # eight workers at this group: wait as for an equal key
            if same is None and self._keep(entries[at]) >= (2, 0):  # who has not looked since must do so
                self._forgotten = self._changes
                self._write_head()
            losses = entries[at] >> 40 & 0xFF if same is not None and entries[at] >> 48 == LOST else 0
            place = start + 8 * at
            os.pwrite(self._fd, (self._slot << 48 | losses << 40 | mark).to_bytes(8, "little"), place)
            self._held[key] = place, losses
            stale = looked < self._forgotten or self._changes - looked > YOUNG << EPOCH_BITS
            return Turn(True, same is not None or stale, self._changes)

    def _group(self, start: int) -> tuple[int, ...]:
        return struct.unpack(f"<{GROUP}Q", os.pread(self._fd, 8 * GROUP, start))

    def _keep(self, entry: int) -> tuple[int, int]:
        """How dear an entry is to us: free, stored long ago, stored, lost, leased; of stored ones the younger."""
        if not entry:
            return 0, 0
        if entry >> 48 == STORED:
            age = ((self._changes >> EPOCH_BITS) - (entry >> 40)) & 0xFF
            return 1 if age > YOUNG else 2, -age & 0xFF
        return (3, 0) if entry >> 48 == LOST else (4, 0)

    def _write_head(self) -> None:
        os.pwrite(self._fd, HEAD.pack(MAGIC, self._changes, self._forgotten), 0)

    def losses(self, key: bytes) -> int:
        """How many workers before us leased this key and never stored an answer; it may be paid as often."""
        with self._lock:
            return self._held.get(key, (0, 0))[1]

    def release(self, keys: Iterable[bytes], stored: bool = False, sent: bool = False) -> None:
        """Give leases back. `stored`: their answers are in the ledger; `sent`: they were asked, and no answer came."""
        with self._lock:
            keys = list(keys)
            gone = [(k, *self._held.pop(k)) for k in keys if k in self._held]
        if not gone and not (keys and stored):
            return
        with self._table():
            ours = bool(self._slot) and self._row(self._slot)[0] == self._id
            if stored:
                self._changes += len(keys)
                if len(gone) < len(keys) or not ours:  # without a lease, or after it was taken from us
                    self._forgotten = self._changes
                self._write_head()
            for key, place, losses in gone if ours else ():
                left = tag(key)[1]
                if stored:
                    left |= STORED << 48 | (self._changes >> EPOCH_BITS & 0xFF) << 40
                elif losses or sent:
                    left |= LOST << 48 | min(losses + sent, 255) << 40
                else:
                    left = 0
                os.pwrite(self._fd, left.to_bytes(8, "little"), place)

    def _row(self, slot: int) -> tuple[int, int, int]:
        at = HEAD.size + (slot - 1) * WORKER.size
        who, beat, machine, _ = WORKER.unpack(os.pread(self._fd, WORKER.size, at))
        return who, beat, machine

    def _write_row(self, slot: int, who: int = 0, beat: int = 0, machine: int = 0) -> None:
        os.pwrite(self._fd, WORKER.pack(who, beat, machine, 0), HEAD.size + (slot - 1) * WORKER.size)

    def _live_file(self, who: int) -> Path:
        return self.path / f".worker-{who:016x}"

    def _join(self) -> None:
        """Be among the workers: at the first claim, and again where others took us for dead."""
        if self._slot and self._row(self._slot)[0] == self._id:
            return
        self._held.clear()
        if self._live >= 0:
            os.close(self._live)
        for slot in range(1, WORKERS + 1):
            if self._row(slot)[0]:
                self._reap(slot)
        rows = os.pread(self._fd, WORKERS * WORKER.size, HEAD.size)
        free = [s for s in range(1, WORKERS + 1) if not any(rows[(s - 1) * WORKER.size :][:8])]
        if not free:
            raise FitraError(f"{self.path}: {WORKERS} workers are at this ledger.", "Wait for some, or use fewer.")
        self._slot, self._id, self._beats = free[0], secrets.randbits(63) | 1, 1
        self._live = os.open(self._live_file(self._id), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        fcntl.flock(self._live, fcntl.LOCK_EX)
        self._write_row(self._slot, self._id, self._beats, self._machine)
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, name="fitra-leases", daemon=True)
            self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(self.ttl / 4):
            with contextlib.suppress(OSError, FitraError), self._table():
                if self._slot and self._row(self._slot)[0] == self._id:
                    self._beats += 1
                    self._write_row(self._slot, self._id, self._beats, self._machine)
                else:
                    self._held.clear()

    def _reap(self, slot: int) -> bool:
        """Free the leases of a worker that is gone; False where it lives, as far as we can tell."""
        who, beat, machine = self._row(slot)
        if who == self._id:
            return False
        if who and not (machine == self._machine and self._dead(who)):
            known = self._seen.get(slot)
            now = time.monotonic()
            if known is None or known[:2] != (who, beat):
                self._seen[slot] = who, beat, now
                return False
            if now - known[2] < self.ttl:
                return False
        entries = np.frombuffer(os.pread(self._fd, 8 * ENTRIES, ENTRIES_AT), "<u8").copy()
        for i in np.flatnonzero(entries >> np.uint64(48) == slot):
            e = int(entries[i])
            left = LOST << 48 | min((e >> 40 & 0xFF) + 1, 255) << 40 | e & TAG
            os.pwrite(self._fd, left.to_bytes(8, "little"), ENTRIES_AT + 8 * int(i))
        self._write_row(slot)
        self._live_file(who).unlink(missing_ok=True)
        return True

    def _dead(self, who: int) -> bool:
        try:
            fd = os.open(self._live_file(who), os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            return False
        finally:
            os.close(fd)

    def lost(self) -> dict[tuple[int, int], int]:
        """(group, tag) -> losses, of all keys whose workers are gone and that nobody has asked again."""
        with self._table():
            for slot in range(1, WORKERS + 1):
                if self._row(slot)[0]:
                    self._reap(slot)
            entries = np.frombuffer(os.pread(self._fd, 8 * ENTRIES, ENTRIES_AT), "<u8")
        found = np.flatnonzero(entries >> np.uint64(48) == LOST)
        values = [(int(i) // GROUP, int(entries[i])) for i in found]
        return {(g, e & TAG): e >> 40 & 0xFF for g, e in values}

    def close(self) -> None:
        """Leave. Leases still held count as lost: their requests may be on the way."""
        if self._fd < 0:
            return
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(OSError, FitraError):
            self.release(list(self._held), sent=True)
            with self._table():
                if self._slot and self._row(self._slot)[0] == self._id:
                    self._write_row(self._slot)
                    self._live_file(self._id).unlink(missing_ok=True)
        for fd in (self._live, self._fd):
            if fd >= 0:
                os.close(fd)
        self._live = self._fd = -1
