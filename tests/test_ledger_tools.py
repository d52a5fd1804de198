"""Copies, imports and cleaning of a ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ledger_records import fill, key, record

from fitra.errors import FitraError
from fitra.llm import ledger, segment, store, tools
from fitra.llm.ledger import Ledger


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of a few answers each."""
    monkeypatch.setattr(ledger, "SEAL_BYTES", 2000)
    monkeypatch.setattr(tools, "SEGMENT_BYTES", 3000)


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
