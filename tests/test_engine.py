"""The engine: every task once, workers that die are replaced, the cluster gives what the laptop gives."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import engine_tasks
import pytest
from test_corpus import config, jsonl, prose

from fitra import corpus, engine
from fitra.errors import FitraError
from fitra.recipe import Corpus, Engine

TWO = Engine(workers=2)


def test_every_task_is_done_once() -> None:
    assert sorted(engine.run(engine_tasks.square, range(20), TWO)) == [(i, i * i) for i in range(20)]
    assert list(engine.run(engine_tasks.square, range(3), TWO, inline=True)) == [(0, 0), (1, 1), (2, 4)]
    assert list(engine.run(engine_tasks.square, [], TWO)) == []


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    tasks = [(i, str(tmp_path)) for i in range(6)]
    assert sorted(engine.run(engine_tasks.die_once, tasks, TWO)) == [(i, i) for i in range(6)]
    assert (tmp_path / "died-2").exists()


def test_a_task_that_always_kills_its_worker_stops_the_run() -> None:
    with pytest.raises(FitraError, match="died 3 times") as e:
        list(engine.run(engine_tasks.die_always, range(4), TWO))
    assert "workers" in e.value.hint


def test_errors_come_through() -> None:
    with pytest.raises(FitraError, match="row 1 is bad"):
        list(engine.run(engine_tasks.refuse, [0, 1], TWO))
    with pytest.raises(RuntimeError, match="a bug"):
        list(engine.run(engine_tasks.refuse, [2, 3], TWO))


@pytest.mark.parametrize("inline", [True, False])
def test_a_full_disk_is_one_line(inline: bool) -> None:
    with pytest.raises(FitraError, match=r"/data/x: no space left"):
        list(engine.run(engine_tasks.fill, [1, 2], TWO, inline=inline))


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    code = (
        "import engine_tasks, os, sys\n"
        "from fitra import engine\n"
        "from fitra.recipe import Engine\n"
        "if __name__ == '__main__':\n"
        "    for i, r in engine.run(engine_tasks.square, range(10**6),"
        " Engine(workers=2)):\n"
        "        print(i, flush=True)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    child = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=env, start_new_session=True)
    assert child.stdout is not None
    child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    for _ in range(100):
        if not _group(child.pid):
            return
        time.sleep(0.1)
    os.killpg(child.pid, signal.SIGKILL)
    pytest.fail("workers outlived their parent")


def _group(pgid: int) -> list[int]:
    """Live processes of a process group (zombies are dead)."""
    out = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            rest = stat.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(rest[2]) == pgid and rest[0] != "Z":
            out.append(int(stat.parent.name))
    return out


def _snapshot(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*.parquet"))}


def _once_a_shard_is_done(out: Path, done: list[int], then: Callable[[], None]) -> None:
    while not list(out.glob(".work/shards/*.json")):
        time.sleep(0.005)
    then()
    done.append(len(list(out.glob(".work/shards/*.json"))))


def _inputs(folder: Path) -> Corpus:
    files = []
    for k in range(12):
        rows = [{"id": f"{k}-{i}", "text": prose((k * 300 + i) % 700, 400)} for i in range(300)]
        files.append(jsonl(folder / f"{k}.jsonl", rows))
    return config(*files, shard_mb=1)


def _shards(out: Path) -> dict[str, int]:
    """When each finished shard was written. The run may take them away between the look and the stat: its end."""
    found = dict[str, int]()
    for path in out.glob(".work/shards/*.json"):
        with contextlib.suppress(FileNotFoundError):
            found[path.name] = path.stat().st_mtime_ns
    return found


@pytest.mark.slow
def test_killed_cleaning_goes_on_where_it_stopped(tmp_path: Path) -> None:
    cfg = _inputs(tmp_path)
    corpus.clean(cfg.model_copy(update={"engine": TWO}), tmp_path / "whole")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom fitra import corpus\nfrom fitra.recipe import Corpus, Engine\n"
        "if __name__ == '__main__':\n"
        "    cfg = Corpus.model_validate_json(sys.argv[1]).model_copy(update={'engine': Engine(workers=2)})\n"
        "    corpus.clean(cfg, Path(sys.argv[2]))\n"
    )
    out, done, kills = tmp_path / "killed", dict[str, int](), 0
    for _ in range(20):
        before = done
        child = subprocess.Popen([sys.executable, str(script), cfg.model_dump_json(), str(out)], start_new_session=True)
        while child.poll() is None:
            # Each try gets one shard further than the one before, then dies, workers included.
            done = _shards(out)
            if len(done) > len(before):
                os.killpg(child.pid, signal.SIGKILL)
            time.sleep(0.005)
        assert all(done[name] == at for name, at in before.items() if name in done), "a finished shard was made again"
        if child.returncode == 0:
            break
        kills += 1
    assert kills > 2, "the run was hardly killed"
    assert _snapshot(out) == _snapshot(tmp_path / "whole")


@pytest.mark.slow
def test_two_ray_nodes_give_what_the_laptop_gives_and_a_lost_node_changes_nothing(tmp_path: Path) -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="install ray to test the cluster engine")
    import ray

    cfg = _inputs(tmp_path)
    corpus.clean(cfg.model_copy(update={"engine": TWO}), tmp_path / "local")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        second = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        on_ray = cfg.model_copy(update={"engine": Engine(kind="ray")})
        corpus.clean(on_ray, tmp_path / "ray")
        assert _snapshot(tmp_path / "ray") == _snapshot(tmp_path / "local")

        done: list[int] = []
        lose = threading.Thread(
            target=_once_a_shard_is_done,
            args=(tmp_path / "lost", done, lambda: cluster.remove_node(second, allow_graceful=False)),
        )
        lose.start()
        corpus.clean(on_ray, tmp_path / "lost")
        lose.join()
        assert 0 < done[0] < 12, "the node was lost too late to matter"
        assert _snapshot(tmp_path / "lost") == _snapshot(tmp_path / "local")
    finally:
        ray.shutdown()
        cluster.shutdown()
