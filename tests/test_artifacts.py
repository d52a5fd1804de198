"""Stages: committed by the manifest, atomic, locked, safe on a full disk."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from fitra import artifacts
from fitra.artifacts import open_stage, read_manifest, read_table, worst_licence
from fitra.errors import FitraError

TABLE = pa.table({"id": ["1", "2", "3"], "text": ["ا", "ب", "ت"]})


def write_stage(out: Path, value: int = 1) -> dict[str, object]:
    with open_stage(out, stage="s", config={"value": value}, inputs={}) as st:
        if not st.done:
            st.write_table("documents", TABLE, rows_per_part=2)
            st.counts["rows"] = TABLE.num_rows
    return read_manifest(out)


def test_a_stage_is_made_once_and_read_back(tmp_path: Path) -> None:
    first = write_stage(tmp_path / "s")
    assert write_stage(tmp_path / "s") == first
    assert read_table(tmp_path / "s", "documents").equals(TABLE)
    assert first["counts"] == {"rows": 3}


def test_another_config_is_refused(tmp_path: Path) -> None:
    write_stage(tmp_path / "s")
    with pytest.raises(FitraError, match="another configuration"):
        write_stage(tmp_path / "s", value=2)


def test_a_failed_stage_has_no_manifest_and_no_half_files(tmp_path: Path) -> None:
    out = tmp_path / "s"
    with pytest.raises(ValueError), open_stage(out, stage="s", config={}, inputs={}) as st:
        st.write_parquet("documents/part-00000.parquet", TABLE)
        with artifacts.atomic_path(out / "documents/part-00001.parquet") as tmp:
            tmp.write_bytes(b"half")
            raise ValueError
    assert sorted(p.name for p in (out / "documents").iterdir()) == ["part-00000.parquet"]
    with pytest.raises(FitraError, match="not finished"):
        read_table(out, "documents")


def test_two_writers_in_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "s"
    with (
        open_stage(out, stage="s", config={}, inputs={}),
        pytest.raises(FitraError, match="another Fitra process"),
        open_stage(out, stage="s", config={}, inputs={}),
    ):
        pass


def test_full_disk_says_so_and_keeps_what_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "s"

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(FitraError, match="no space left"), open_stage(out, stage="s", config={}, inputs={}) as st:
        st.write_parquet("documents/part-00000.parquet", TABLE)
        monkeypatch.setattr(os, "fsync", full)
        st.write_parquet("documents/part-00001.parquet", TABLE)
    assert [p.name for p in (out / "documents").iterdir()] == ["part-00000.parquet"]
    monkeypatch.undo()
    with open_stage(out, stage="s", config={}, inputs={}) as st:
        assert not st.done


def test_fingerprint_follows_content_not_place(tmp_path: Path) -> None:
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).write_text(text)
    prints = [artifacts.fingerprint("s", {"path": str(tmp_path / n)}, {"in": tmp_path / n}) for n in "abc"]
    assert prints[0] == prints[1] != prints[2]


def test_worst_licence() -> None:
    assert worst_licence(["A", "C", "B"]) == "C"
    assert worst_licence(["A", None]) == "D"
    assert worst_licence([]) == "A"


def test_damaged_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{half")
    with pytest.raises(FitraError, match="damaged"):
        read_manifest(tmp_path)


WRITER = """
import sys, pyarrow as pa
from pathlib import Path
from fitra.artifacts import open_stage
with open_stage(Path(sys.argv[1]), stage="s", config={}, inputs={}) as st:
    print("go", flush=True)
    for i in range(400):
        st.write_parquet(f"documents/part-{i:05d}.parquet", pa.table({"id": [str(j) for j in range(2000)]}))
"""


def test_kill_leaves_whole_shards_only(tmp_path: Path) -> None:
    for delay in (0.05, 0.15, 0.3):
        out = tmp_path / str(delay)
        p = subprocess.Popen([sys.executable, "-c", WRITER, str(out)], stdout=subprocess.PIPE)
        assert p.stdout is not None
        p.stdout.readline()
        time.sleep(delay)
        p.send_signal(signal.SIGKILL)
        p.wait()
        p.stdout.close()
        import pyarrow.parquet as pq

        for part in (out / "documents").glob("part-*.parquet"):
            assert pq.read_table(part).num_rows == 2000
        # The lock died with the process: the folder can be opened again.
        with open_stage(out, stage="s", config={}, inputs={}) as st:
            assert not st.done or len(list((out / "documents").glob("part-*"))) == 400
