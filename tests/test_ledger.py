"""The ledger among several processes: leases, sealing, damage, copies, cleaning, kills."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from mmap import mmap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fitra.errors import FitraError
from fitra.llm import index, lease, ledger, segment, store, tools
from fitra.llm.ledger import Ledger
from fitra.llm.record import Record, pack


def key(n: int) -> str:
    return sha256(str(n).encode()).hexdigest()


def record(n: int, text: str = "", **kw: object) -> Record:
    return Record(key=key(n), text=text or f"answer {n} جواب", identity="m", job="j", at=float(n), **kw)  # type: ignore[arg-type]


def fill(path: Path, numbers: Iterator[int] | range, every: int = 10) -> None:
    with Ledger(path) as book:
        for n in numbers:
            book.put(record(n))
            if n % every == every - 1:
                book.flush()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of a few answers each."""
    monkeypatch.setattr(ledger, "SEAL_BYTES", 2000)
    monkeypatch.setattr(tools, "SEGMENT_BYTES", 3000)


# --- sealed segments ----------------------------------------------------------------------------------------------


def test_full_segments_are_sealed_and_answer_the_same(tmp_path: Path, small: None) -> None:
    path = tmp_path / "l"
    with Ledger(path) as book:
        for n in range(200):
            book.put(record(n))
            if n % 10 == 9:
                book.flush()
            assert book.get(key(n)) == record(n)
        assert all(book.get(key(n)) == record(n) for n in range(200)) and book.get(key(200)) is None
        assert len(book) == 200 and [r.key for r in book.records()] == sorted(key(n) for n in range(200))
    files = segment.paths(path)
    assert len(files) > 5 and sum(map(index.is_sealed, files)) >= len(files) - 1
    sealed = {p: p.read_bytes() for p in files if index.is_sealed(p)}
    fill(path, range(200, 230))
    assert all(p.read_bytes() == b for p, b in sealed.items())  # never written again
    assert tools.verify(path) == []
    figures = tools.stats(path)
    assert figures["answers"] == figures["stored"] == 230 and figures["sealed"] >= len(sealed)


def test_an_index_that_is_wrong_is_found_and_not_used(tmp_path: Path, small: None) -> None:
    path = tmp_path / "l"
    fill(path, range(100))
    (idx, other) = sorted(path.glob("*.idx"))[:2]
    raw = bytearray(idx.read_bytes())
    raw[-3] ^= 4
    idx.write_bytes(raw)
    other.write_bytes(other.read_bytes()[:-8])
    assert {d.segment for d in tools.verify(path)} == {idx.name, other.name}
    with Ledger(path) as book:
        assert all(book.get(key(n)) == record(n) for n in range(100)) and len(book) == 100
    tools.seal(path)
    assert tools.verify(path) == []


def test_rot_in_a_sealed_segment_is_found_and_not_returned(tmp_path: Path, small: None) -> None:
    path = tmp_path / "l"
    fill(path, range(100))
    hit = next(p for p in segment.paths(path) if b"answer 17 " in p.read_bytes())
    raw = bytearray(hit.read_bytes())
    raw[raw.index(b"answer 17 ")] ^= 1
    hit.write_bytes(raw)
    (damage,) = tools.verify(path)
    assert (damage.segment, damage.kind) == (hit.name, "rot")
    with Ledger(path) as book:
        assert [n for n in range(100) if book.get(key(n)) is None] == [17]
    with pytest.raises(FitraError, match="rotted since"):
        store.push(path, str(tmp_path / "store"))
    tools.compact(path)
    assert tools.verify(path) == [] and tools.stats(path)["answers"] == 99


def test_compacting_splits_seals_and_keeps_everything(tmp_path: Path, small: None) -> None:
    path = tmp_path / "l"
    fill(path, range(120))
    with Ledger(path) as other:  # a second segment with answers twice
        for n in range(60, 90):
            other.put(record(n))
    tools.export(path, tmp_path / "a.jsonl")
    with Ledger(path) as reader:
        report = tools.compact(path)
        assert report["answers"] == 120 and report["after"] <= report["before"]
        files = segment.paths(path)
        assert len(files) > 2 and all(map(index.is_sealed, files)) and not set(path.glob("*.tmp"))
        assert all(reader.get(key(n)) == record(n) for n in range(120))  # from the files as they were
        reader.refresh()
        assert len(reader) == 120 and all(reader.get(key(n)) == record(n) for n in range(120))
    tools.export(path, tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_memory_per_answer_is_small(tmp_path: Path) -> None:
    """16 bytes on disk for a sealed answer, mapped; none of its own in memory."""
    path = tmp_path / "l"
    fill(path, range(5000), every=1000)
    tools.seal(path)
    with Ledger(path) as book:
        (f,) = book._files.values()
        assert f.sealed is not None and len(f.sealed) == 5000 and len(book._index) == 0
        base = f.sealed.keys
        while isinstance(base, np.ndarray):
            base = base.base
        assert type(base) is mmap
    assert next(path.glob("*.idx")).stat().st_size == index.HEAD.size + 16 * 5000


# --- several processes --------------------------------------------------------------------------------------------


def test_a_reader_sees_what_others_stored_since(tmp_path: Path, small: None) -> None:
    path = tmp_path / "l"
    with Ledger(path) as a, Ledger(path) as b:
        for n in range(100):
            a.put(record(n))
            a.flush()
            if n % 7 == 0:
                assert b.get(key(n)) is None
                b.refresh()
            if n % 7 < 2:
                assert (b.get(key(n)) is not None) == (n % 7 == 0)
        assert b.refresh() >= 0 and len(b) == 100
        assert b.refresh() == 0


def test_a_frame_half_written_is_read_later(tmp_path: Path) -> None:
    path = tmp_path / "l"
    fill(path, range(5))
    (p,) = segment.paths(path)
    frame = pack(record(7))
    with Ledger(path) as book, p.open("ab") as f:
        f.write(frame[:30])
        f.flush()
        assert book.refresh() == 0
        f.write(frame[30:])
        f.flush()
        assert book.refresh() == 1 and book.get(key(7)) == record(7)


def test_only_one_may_ask(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with Ledger(path) as a, Ledger(path) as b:
        assert a.claim(key(1)) is True and a.claim(key(1)) is False and b.claim(key(1)) is False
        assert b.claim(key(2)) is True
        a.put(record(1))
        assert b.claim(key(1)) is False  # not durable yet
        a.flush()
        assert b.claim(key(1)) == record(1)
        b.release(key(2))
        assert a.claim(key(2)) is True
        a.release(key(2), sent=True)  # a lost connection: perhaps it was paid
        assert b.claim(key(2)) is True
        b.put(record(2))
        b.flush()
        assert a.claim(key(2)) == record(2, maybe_paid=1)
    figures = tools.stats(path)
    assert (figures["possibly_paid"], figures["unanswered"]) == (1, 0)


def test_keys_that_share_a_group_do_not_mix(tmp_path: Path) -> None:
    leases = [lease.Leases(tmp_path, ttl=9) for _ in range(2)]
    keys = [bytes([1, 2]) + bytes([i]) * 30 for i in range(lease.GROUP + 1)]
    assert [leases[i % 2].claim(k).granted for i, k in enumerate(keys)] == [True] * lease.GROUP + [False]
    assert not any(leases[1 - i % 2].claim(k).granted for i, k in enumerate(keys))
    leases[0].release(keys[:1])
    assert leases[1].claim(keys[-1]).granted
    for x in leases:
        x.close()
    assert len(lease.Leases(tmp_path).lost()) == lease.GROUP


def test_who_must_look_for_answers_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = lease.Leases(tmp_path), lease.Leases(tmp_path)
    keys = [bytes([1, 2]) + bytes([i]) * 30 for i in range(2 * lease.GROUP)]
    first = b.claim(b"x" * 32)
    assert first.granted and first.look  # who never looked
    assert not b.claim(b"y" * 32, first.at).look
    for k in keys[: lease.GROUP]:
        a.claim(k)
    a.release(keys[: lease.GROUP], stored=True)
    at = b.claim(keys[0], first.at)
    assert at.granted and at.look  # stored since
    b.release(keys[:1], stored=True)
    assert not b.claim(b"z" * 32, first.at).look  # other keys need no look
    a.claim(keys[-1], at.at)  # takes the place of a stored one
    assert b.claim(keys[-2], first.at).look and not b.claim(keys[-3], at.at + 1).look
    a.release([bytes(32)], stored=True)  # stored without a lease
    assert b.claim(b"u" * 32, at.at + 1).look
    for x in (a, b):
        x.close()


WORKER = """
import os, random, sys, time
from pathlib import Path
from hashlib import sha256
from fitra.llm.ledger import Ledger, Record
path, log, n, seed, ttl, together = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:5]), *map(float, sys.argv[5:7])
out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
todo = [sha256(str(i).encode()).hexdigest() for i in range(n)]
random.Random(seed).shuffle(todo)
with Ledger(path, ttl=ttl) as book:
    while todo:
        batch, wait, mine = todo[:int(together)], [], []
        for k in batch:
            turn = book.claim(k)
            if turn is True:
                os.write(out, f"ask {k} {os.getpid()}\\n".encode())
                mine.append(k)
            elif turn is False:
                wait.append(k)
        time.sleep(0.002)
        for k in mine:
            book.put(Record(key=k, text="answer"))
        book.flush()
        for k in mine:
            os.write(out, f"stored {k} {os.getpid()}\\n".encode())
        todo = todo[int(together):] + wait
        if not mine:
            time.sleep(0.01)
"""


def start(path: Path, log: Path, n: int, seed: int, ttl: float = 30, together: int = 5) -> subprocess.Popen[bytes]:
    args = [sys.executable, "-c", WORKER, str(path), str(log), str(n), str(seed), str(ttl), str(together)]
    return subprocess.Popen(args)


def events(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def wait_for(log: Path, n: int, limit: float = 60) -> None:
    end = time.monotonic() + limit
    while len(events(log)) < n and time.monotonic() < end:
        time.sleep(0.005)


def test_workers_share_the_keys_and_ask_each_once(tmp_path: Path) -> None:
    path, log, n = tmp_path / "l", tmp_path / "log", 300
    workers = [start(path, log, n, seed) for seed in range(3)]
    wait_for(log, 50)
    workers.append(start(path, log, n, 3))  # one more comes late
    assert [w.wait(60) for w in workers] == [0] * 4
    asked = Counter(k for what, k, _ in events(log) if what == "ask")
    assert len(asked) == n and set(asked.values()) == {1}
    assert len({pid for what, _, pid in events(log)}) >= 2
    figures = tools.stats(path)
    assert (figures["answers"], figures["stored"], figures["possibly_paid"]) == (n, n, 0)


def test_dead_workers_free_their_keys_and_what_they_may_have_paid_is_known(tmp_path: Path) -> None:
    path, log, n = tmp_path / "l", tmp_path / "log", 300
    rng = random.Random(5)
    workers = [start(path, log, n, seed, ttl=3600) for seed in range(3)]  # so long a lease that only death frees it
    for kill in range(4):
        wait_for(log, 60 * (kill + 1))
        victim = workers.pop(rng.randrange(len(workers)))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        workers.append(start(path, log, n, 10 + kill, ttl=3600))
    assert [w.wait(60) for w in workers] == [0] * 3
    stored: set[str] = set()
    asked: Counter[str] = Counter()
    for what, k, _ in events(log):
        if what == "ask":
            assert k not in stored, "a durable answer was asked again"
            asked[k] += 1
        else:
            stored.add(k)
    again = sum(asked.values()) - n
    figures = tools.stats(path)
    assert figures["answers"] == n and len(asked) == n
    assert again <= figures["possibly_paid"] <= 4 * 5  # at most what each of the dead held
    assert not [p for p in path.iterdir() if p.name.startswith(".worker")]


def test_a_worker_that_hangs_loses_its_leases_in_time(tmp_path: Path) -> None:
    path, log = tmp_path / "l", tmp_path / "log"
    hung = start(path, log, 2000, 1, ttl=0.6)
    wait_for(log, 20)
    hung.send_signal(signal.SIGSTOP)
    try:
        other = start(path, log, 300, 2, ttl=0.6)
        assert other.wait(60) == 0
        with Ledger(path) as book:
            assert all(book.get(key(i)) for i in range(300))
    finally:
        hung.send_signal(signal.SIGCONT)
        hung.send_signal(signal.SIGKILL)
        hung.wait()


def test_a_worker_that_hangs_with_the_lock_does_not_stop_the_others(tmp_path: Path) -> None:
    a, b, c = (lease.Leases(tmp_path, ttl=t) for t in (30, 0.2, 30))
    k = bytes(range(32))
    assert c.claim(b"c" * 32).granted
    with a._table():
        assert b.claim(k).granted
        a._join()  # into a file that is no more
    assert not a.claim(k).granted and not c.claim(k).granted and a.claim(b"a" * 32).granted
    c.release([b"c" * 32])
    assert a.claim(b"c" * 32).granted
    for x in (a, b, c):
        x.close()


def test_a_worker_taken_for_dead_knows_it(tmp_path: Path) -> None:
    a, b = lease.Leases(tmp_path, ttl=30), lease.Leases(tmp_path, ttl=30)
    k = bytes(range(32))
    assert a.claim(k).granted
    with b._table():
        b._join()
        b._seen[a._slot] = a._id, a._beats, time.monotonic() - 31  # a has not moved for its whole term
    assert b.claim(k).granted and b.losses(k) == 1
    a.release([k])  # no longer a's to give back
    c = lease.Leases(tmp_path)
    assert not c.claim(k).granted
    assert a.claim(bytes(32)).granted  # it joins again
    for x in (a, b, c):
        x.close()


STEPS = st.one_of(
    st.tuples(st.sampled_from(["ask", "lose", "refuse"]), st.integers(0, 1), st.integers(0, 60)),
    st.tuples(st.sampled_from(["flush", "reopen", "refresh", "kill"]), st.integers(0, 1), st.just(0)),
    st.tuples(st.sampled_from(["compact", "seal", "tear"]), st.just(0), st.just(0)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=80))
def test_two_workers_whatever_they_do_never_ask_what_is_stored(small: None, steps: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "l"
        books = [Ledger(path), Ledger(path)]
        stored: set[int] = set()
        flying: list[set[int]] = [set(), set()]  # asked, not durable
        perhaps: Counter[int] = Counter()  # asked by one that was lost, since the last answer
        for what, who, n in steps:
            book = books[who]
            if what in ("ask", "lose", "refuse"):
                turn = book.claim(key(n))
                if n in stored:
                    assert isinstance(turn, Record) and turn.text == record(n).text
                elif n in flying[0] | flying[1]:
                    assert turn is False or (isinstance(turn, Record) and n in flying[who])
                elif turn is True and what == "ask":
                    assert book.possibly_paid([key(n)]) == perhaps[n]
                    book.put(record(n))
                    flying[who].add(n)
                elif turn is True:
                    book.release(key(n), sent=what == "lose")
                    perhaps[n] += what == "lose"
                else:
                    assert turn is False  # eight others share its group: it never happens with so few
                    raise AssertionError
            elif what in ("flush", "reopen", "kill"):
                if what == "kill":  # the kernel closes its files
                    assert book._leases is None or book._leases._stop.set() is None
                    perhaps.update(flying[who])
                    for fd in [*(f.fd for f in book._files.values()), book._writer]:
                        if fd >= 0:
                            os.close(fd)
                    for fd in (book._leases._live, book._leases._fd) if book._leases else ():
                        if fd >= 0:
                            os.close(fd)
                else:
                    book.close() if what == "reopen" else book.flush()
                    stored |= flying[who]
                flying[who] = set()
                if what != "flush":
                    books[who] = Ledger(path)
            elif what == "refresh":
                book.refresh()
            elif what == "tear" and segment.paths(path):
                last = [p for p in segment.paths(path) if not index.is_sealed(p)]
                fd = segment.lock(last[-1]) if last else None
                if fd is not None:  # nobody writes to it: as if its writer had died in the middle
                    os.pwrite(fd, pack(record(1000))[:50], os.fstat(fd).st_size)
                    os.close(fd)
            elif segment.paths(path):
                with contextlib.suppress(FitraError):
                    tools.compact(path) if what == "compact" else tools.seal(path)
        for book in books:
            book.close()
        stored |= flying[0] | flying[1]
        with Ledger(path) as book:
            assert {n for n in range(61) if book.get(key(n))} == stored
            assert [r.key for r in book.records()] == sorted(key(n) for n in stored)
        if stored:
            assert all(d.kind == "torn" for d in tools.verify(path))
            figures = tools.stats(path)
            assert figures["answers"] == len(stored) and figures["possibly_paid"] == sum(perhaps.values())


# --- copies, imports, cleaning ------------------------------------------------------------------------------------


def test_push_and_pull_copy_what_is_missing(tmp_path: Path, small: None) -> None:
    a, b, there = tmp_path / "a", tmp_path / "b", tmp_path / "store"
    fill(a, range(60))
    first = store.push(a, str(there))
    assert first["copied"] == len(segment.paths(a)) and store.push(a, f"file://{there}")["copied"] == 0
    fill(b, range(50, 100))
    assert store.push(b, str(there))["copied"] > 0
    for path in (a, b, tmp_path / "new"):
        store.pull(path, str(there))
        assert store.pull(path, str(there))["fetched"] == 0 and tools.verify(path) == []
        with Ledger(path) as book:
            assert all(book.get(key(n)) == record(n) for n in range(100))
    assert not [p for p in there.iterdir() if p.suffix not in (".log", ".idx")]


def test_a_copy_that_rotted_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "a", range(50))
    store.push(tmp_path / "a", str(tmp_path / "store"))
    (copy,) = (tmp_path / "store").glob("*.log")
    raw = bytearray(copy.read_bytes())
    raw[100] ^= 1
    copy.write_bytes(raw)
    assert store.pull(tmp_path / "b", str(tmp_path / "store"))["refused"] == 1
    assert segment.paths(tmp_path / "b") == [] and not list((tmp_path / "b").iterdir())
    with pytest.raises(FitraError, match="nonsense://") as e:
        store.push(tmp_path / "a", "nonsense://user:secret@host/x")
    assert "secret" not in str(e.value)


def test_fsspec_addresses_work_too(tmp_path: Path) -> None:
    fill(tmp_path / "a", range(30))
    assert store.push(tmp_path / "a", "memory://ledger-test")["copied"] == 1
    assert store.pull(tmp_path / "b", "memory://ledger-test")["fetched"] == 1
    assert tools.stats(tmp_path / "b")["answers"] == 30


@pytest.mark.slow
def test_s3_works_as_a_folder_does(tmp_path: Path) -> None:
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        query = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1&allow_bucket_creation=true"
        to = f"s3://some-id:some-secret@bucket/ledgers/a?{query}"
        fill(tmp_path / "a", range(300))
        assert store.push(tmp_path / "a", to)["copied"] == 1 and store.push(tmp_path / "a", to)["there"] == 1
        assert store.pull(tmp_path / "b", to)["fetched"] == 1 and tools.verify(tmp_path / "b") == []
        assert tools.stats(tmp_path / "b")["answers"] == 300
    finally:
        server.stop()
    with pytest.raises(FitraError) as e:
        store.push(tmp_path / "a", "s3://some-id:some-secret@bucket/x?no_such_option=some-secret")
    assert "some-secret" not in str(e.value) and "bucket" in str(e.value)


def test_import_checks_and_never_overwrites(tmp_path: Path) -> None:
    a, b, lines = tmp_path / "a", tmp_path / "b", tmp_path / "x.jsonl"
    fill(a, range(30))
    with Ledger(b) as book:
        book.put(record(1))
        book.put(record(2, "another answer"))
    tools.export(a, lines)
    bad = [
        "{",
        "[1]",
        json.dumps({"key": "zz", "text": "x"}),
        json.dumps({"key": key(1), "text": 3}),
        json.dumps({"key": key(1), "text": "x", "evil": 1}),
        json.dumps({"key": key(1), "text": "x", "usage": {"total_tokens": "many"}}),
        json.dumps({"key": key(1), "text": "x", "at": True}),
    ]
    with lines.open("a") as f:
        f.write("\n".join(bad) + "\n")
    dry = tools.import_(b, lines, dry_run=True)
    assert tools.stats(b)["answers"] == 2
    done = tools.import_(b, lines)
    assert done == dry and (done.read, done.added, done.known, done.differs, done.refused) == (37, 28, 1, 1, 7)
    assert len(done.problems) == 7 and "line 31: no JSON" in done.problems
    with Ledger(b) as book:
        assert book.get(key(2)) == record(2, "another answer") and book.get(key(29)) == record(29)
    again = tools.import_(b, a)
    assert (again.added, again.known, again.differs) == (0, 29, 1)
    with pytest.raises(FitraError, match="no ledger and no file"):
        tools.import_(b, tmp_path / "nowhere")
    raw = bytearray((p := segment.paths(a)[0]).read_bytes())
    raw[70] ^= 1
    p.write_bytes(raw)
    with pytest.raises(FitraError, match="damaged"):
        tools.import_(b, a)


def test_gc_says_first_and_then_drops_what_no_run_uses(tmp_path: Path, small: None) -> None:
    path, run = tmp_path / "l", tmp_path / "run"
    run.mkdir()
    with Ledger(path) as book:
        for n in range(100):
            book.put(record(n, usage={"total_tokens": 10}))
            book.flush()
    pq.write_table(pa.table({"id": ["a"] * 40, "keys": [[key(n)] for n in range(40)]}), run / "part.parquet")
    (run / "more.jsonl").write_text("".join(json.dumps({"key": key(n)}) + "\n" for n in range(40, 50)))
    used = tools.keys_of([run])
    before = {p.name: p.read_bytes() for p in segment.paths(path)}
    dry = tools.gc(path, used=used)
    assert (dry["dropped"], dry["answers"], dry["tokens"], dry["dry_run"]) == (50, 100, 500, True)
    assert dry["by"] == {"m / j": 50} and before == {p.name: p.read_bytes() for p in segment.paths(path)}
    assert tools.gc(path, older_than=70)["dropped"] == 70
    assert tools.gc(path, used=used, older_than=70)["dropped"] == 20
    done = tools.gc(path, used=used, dry_run=False)
    assert done["dropped"] == 50 and done["bytes"] > 0
    with Ledger(path) as book:
        assert [n for n in range(100) if book.get(key(n))] == list(range(50))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FitraError, match="no ledger keys"):
        tools.keys_of([tmp_path / "empty"])
    with pytest.raises(FitraError, match="gc: neither"):
        tools.gc(path)
    with Ledger(path) as book:
        book.put(record(300))
        book.flush()
        with pytest.raises(FitraError, match="another process"):
            tools.gc(path, older_than=1e12, dry_run=False)


# --- kills --------------------------------------------------------------------------------------------------------

KILL = Path(__file__).parent.parent / "benchmarks" / "kill.py"


def kills(*args: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, str(KILL), *args], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr + done.stdout
    figures: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return figures


def test_kill_9_three_times_over_600_requests(tmp_path: Path) -> None:
    figures = kills("--kills", "3", "--requests", "600", "--work", str(tmp_path))
    assert figures["kills"] == 3 and figures["repeats"] == figures["in_flight_at_kills"]
    assert figures["possibly_paid"] >= figures["repeats"]  # type: ignore[operator]


@pytest.mark.slow
def test_kill_9_often_among_two_workers(tmp_path: Path) -> None:
    assert kills("--kills", "30", "--requests", "4000", "--workers", "2", "--work", str(tmp_path))["kills"] > 10  # type: ignore[operator]


RAY = """
import sys
from pathlib import Path
import ray
from fitra import llm

@ray.remote(num_cpus=0.5)
def work(ledger, log, rows):
    def reply(messages, sampling, schema):
        with open(log, "a") as f:
            f.write(messages[-1]["content"] + "\\n")
        return messages[-1]["content"].upper()
    job = llm.Job("ray", lambda r: [{"role": "user", "content": r["text"]}], lambda t, r: t)
    return [a.value for a in llm.run(job, rows, llm.FunctionBackend("f", reply), Path(ledger), progress=False)]

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
rows = [[{"id": i, "text": f"t{i % 150}"} for i in range(k * 100, k * 100 + 200)] for k in range(4)]
out = ray.get([work.remote(sys.argv[1], sys.argv[2], r) for r in rows])
assert [v for o in out for v in o] == [f"T{r['id'] % 150}" for rs in rows for r in rs]
"""


@pytest.mark.slow
def test_ray_tasks_share_a_ledger(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    args = [sys.executable, "-c", RAY, str(tmp_path / "l"), str(tmp_path / "log")]
    subprocess.run(args, check=True, timeout=180, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"})
    asked = (tmp_path / "log").read_text().split()
    assert len(asked) == len(set(asked)) == 150  # rows of four tasks overlap; each question was asked once
