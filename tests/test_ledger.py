"""The ledger of one process: sealed segments, compacting, damage."""

from __future__ import annotations

import os
import tempfile
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_endpoint import FakeEndpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_records import fill, key, record
from shouting import JOB, backend, rows

from fitra import llm
from fitra.errors import FitraError
from fitra.llm import client, index, ledger, segment, store, tools
from fitra.llm.ledger import Ledger


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BACKOFF_S", (0.02, 0.1))
    monkeypatch.setenv("FITRA_PROGRESS", "0")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of a few answers each."""
    monkeypatch.setattr(ledger, "SEAL_BYTES", 2000)
    monkeypatch.setattr(tools, "SEGMENT_BYTES", 3000)


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


OPS = st.lists(
    st.one_of(st.tuples(st.integers(0, 20), st.text(max_size=40)), st.just("flush"), st.just("reopen")), max_size=40
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ops=OPS, cut=st.floats(0, 1), flip=st.booleans(), data=st.data())
def test_committed_records_survive_truncation_and_rot(ops: list[Any], cut: float, flip: bool, data: Any) -> None:
    """Cut or flip at any byte: every answer committed before the cut is there, and nothing false ever comes back."""
    with tempfile.TemporaryDirectory() as tmp:
        path = Path(tmp) / "l"
        put: dict[str, set[str]] = {}
        committed: list[tuple[str, str, int]] = []  # key, text, size of the segment when it was durable
        queued: list[tuple[str, str]] = []
        ledger = llm.Ledger(path)

        def commit() -> None:
            files = segment.paths(path)
            size = files[0].stat().st_size if files else 0
            committed.extend((k, t, size) for k, t in dict(queued).items())
            queued.clear()

        for op in [*ops, "flush"]:
            if op == "flush":
                ledger.flush()
                commit()
            elif op == "reopen":
                ledger.close()
                commit()
                ledger = llm.Ledger(path)
            else:
                r = record(op[0], op[1])
                ledger.put(r)
                put.setdefault(r.key, set()).add(r.text)
                queued.append((r.key, r.text))
                assert ledger.get(r.key) is not None
        ledger.close()
        files = segment.paths(path)
        if not files:
            return
        assert len(files) == 1  # a segment let go is taken over, not left behind
        raw = bytearray(files[0].read_bytes())
        at = int(cut * (len(raw) - 1))
        if flip:
            raw[at] ^= 1 << data.draw(st.integers(0, 7))
        else:
            del raw[at:]
        files[0].write_bytes(raw)
        for _ in range(2):  # as a reader finds it, and after a writer has repaired it
            with llm.Ledger(path) as after:
                for k in put:
                    got = after.get(k)
                    assert got is None or got.text in put[k]
                for k, _, size in committed:
                    if size <= at:
                        assert after.get(k) is not None
                lost = sum(after.get(k) is None for k in put)
                assert not flip or lost <= 1
                after.put(record(99))
        assert flip or llm.verify(path) == []
        with llm.Ledger(path) as after:
            assert after.get(key(99)) == record(99)


def test_rot_is_named_and_asked_again(tmp_path: Path) -> None:
    with FakeEndpoint() as s:
        list(llm.run(JOB, rows(30), backend(s), tmp_path / "l"))
        (p,) = segment.paths(tmp_path / "l")
        raw = bytearray(p.read_bytes())
        at = raw.index(b"TEXT 17")
        raw[at] ^= 1
        p.write_bytes(raw)
        (damage,) = llm.verify(tmp_path / "l")
        assert damage.segment == p.name and damage.kind == "rot"
        assert damage.offset < at < damage.offset + damage.length
        answers = list(llm.run(JOB, rows(30), backend(s), tmp_path / "l"))
        assert [a.value for a in answers] == [f"TEXT {i}" for i in range(30)]
        assert [a.row_id for a in answers if not a.cached] == ["r17"]
        assert len(s.requests) == 31


def test_rot_under_an_open_ledger_is_not_returned(tmp_path: Path) -> None:
    with llm.Ledger(tmp_path / "l") as ledger:
        ledger.put(record(1))
        ledger.flush()
        (p,) = segment.paths(tmp_path / "l")
        with p.open("r+b") as f:
            f.seek(60)
            f.write(b"\0\0\0")
        assert ledger.get(key(1)) is None
        ledger.put(record(1))
        ledger.flush()
        assert ledger.get(key(1)) == record(1)


def test_several_writers_at_once_and_compacting(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with llm.Ledger(path) as a, llm.Ledger(path) as b:
        for ledger, numbers in ((a, range(40)), (b, range(30, 70))):
            for n in numbers:
                ledger.put(record(n))
            ledger.flush()
        with pytest.raises(FitraError, match="another process"):
            llm.compact(path)
    assert len(segment.paths(path)) == 2
    assert llm.stats(path)["answers"] == 70 and llm.stats(path)["stored"] == 80
    assert llm.export(path, tmp_path / "before.jsonl") == 70
    (segment.paths(path)[0]).open("ab").write(b"torn tail")
    assert [d.kind for d in llm.verify(path)] == ["torn"]
    report = llm.compact(path)
    assert report["answers"] == 70 and report["after"] < report["before"]
    assert len(segment.paths(path)) == 1 and llm.verify(path) == []
    llm.export(path, tmp_path / "after.jsonl")
    assert (tmp_path / "before.jsonl").read_bytes() == (tmp_path / "after.jsonl").read_bytes()
    with llm.Ledger(path) as ledger:
        ledger.put(record(100))
    assert llm.stats(path)["answers"] == 71


def test_index_stays_right_when_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fitra.llm.ledger.MERGE_AT", 7)
    with llm.Ledger(tmp_path / "l") as ledger:
        for n in range(100):
            ledger.put(record(n))
            ledger.flush()
            assert ledger.get(key(n // 2)) == record(n // 2)
        assert ledger.get(key(1000)) is None
        assert [r.key for r in ledger.records()] == sorted(key(n) for n in range(100))


def test_full_disk_is_said_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "l"
    with llm.Ledger(path) as ledger:
        ledger.put(record(1))
        ledger.flush()
        ledger.put(record(2))

        def full(fd: int) -> None:
            raise OSError(28, "no space")

        with monkeypatch.context() as m:
            m.setattr(os, "fdatasync", full)
            with pytest.raises(FitraError, match="no space left"):
                ledger.flush()
        assert llm.verify(path) == [] and llm.stats(path)["answers"] == 1
        ledger.flush()
    assert llm.stats(path)["answers"] == 2


def test_tools_name_what_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(FitraError, match="no ledger"):
        llm.stats(tmp_path)
    (tmp_path / "f").write_text("x")
    with pytest.raises(FitraError, match="folder"):
        llm.Ledger(tmp_path / "f")
