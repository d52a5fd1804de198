"""Runs killed with kill -9 at any moment, and Ray tasks on one ledger."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_endpoint import FakeEndpoint

from fitra import llm

WRITER = """
import sys
from pathlib import Path
from fitra import llm
from fitra.recipe import Endpoint
job = llm.Job("k", lambda r: [{"role": "user", "content": r["text"]}], lambda t, r: t)
backend = llm.EndpointBackend(Endpoint(base_url=sys.argv[1], model="fake", concurrency=8))
rows = ({"id": str(i), "text": f"text {i}"} for i in range(int(sys.argv[3])))
for a in llm.run(job, rows, backend, Path(sys.argv[2]), progress=False):
    print(a.row_id, a.value, flush=True)
"""


def _kill_often(path: Path, kills: int, n: int, seed: int) -> int:
    rng = random.Random(seed)
    env = {**os.environ, "FITRA_PROGRESS": "0"}
    with FakeEndpoint(latency=0.005) as s:
        args = [sys.executable, "-c", WRITER, s.base_url, str(path), str(n)]
        for _ in range(kills):
            p = subprocess.Popen(args, stdout=subprocess.PIPE, env=env)
            before = len(s.requests)
            deadline = time.monotonic() + 60
            goal = before + rng.randrange(1, max(2, n // kills))
            while len(s.requests) < goal and p.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)
            p.send_signal(signal.SIGKILL)
            out = p.communicate()[0].decode().splitlines(keepends=True)
            durable = {r.text for r in _records(path)}
            told = {line.split(" ", 1)[1].strip() for line in out if line.endswith("\n")}
            assert told <= durable  # what was yielded was durable
            asked = dict(s.asked)
            subprocess.run([*args[:-1], "40"], stdout=subprocess.DEVNULL, env=env, check=True)
            for text in durable:
                assert s.asked[text.lower()] == asked[text.lower()], "a durable answer was asked again"
        done = subprocess.run(args, stdout=subprocess.PIPE, env=env, check=True).stdout.decode().splitlines()
        assert done == [f"{i} TEXT {i}" for i in range(n)]
        assert len(s.requests) - n <= kills * 8  # at most what was in flight at each kill
        assert llm.verify(path) == []
        return len(s.requests) - n


def _records(path: Path) -> list[llm.Record]:
    with llm.Ledger(path) as ledger:
        return list(ledger.records())


def test_kill_9_never_pays_twice(tmp_path: Path) -> None:
    _kill_often(tmp_path / "l", kills=2, n=400, seed=3)


@pytest.mark.slow
def test_kill_9_often(tmp_path: Path) -> None:
    _kill_often(tmp_path / "l", kills=25, n=4000, seed=4)


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
