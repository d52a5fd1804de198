"""Kept results: what a key depends on, kills and torn lines, several processes."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fitra.errors import FitraError
from fitra.evaluate import cache
from fitra.evaluate.card import Card, Item

ITEM = Item("1", "السؤال: ما العاصمة؟", (" أ", " ب"), 0)
CARD = Card("exams", "exams-oall/1: 5-shot", "choice", ("accuracy",), (ITEM,), benchmark="exams")


def value(n: float) -> dict[str, object]:
    return {"scores": [n, -n / 3], "lengths": [1, 2], "output": "نعم\nلا\u2028"}


def test_a_key_depends_on_what_is_asked_and_on_nothing_else() -> None:
    same = [
        replace(ITEM, id="2", gold=1, slices=("x",), cluster="c", category="y", defects=("duplicate",)),
        replace(ITEM, answers=("أ",)),
    ]
    other = [
        cache.key(replace(CARD, version="2"), ITEM),
        cache.key(replace(CARD, protocol="exams-oall/1: 0-shot"), ITEM),
        cache.key(replace(CARD, benchmark="mmlu_ar"), ITEM),
        cache.key(replace(CARD, bare="الإجابة:"), ITEM),
        cache.key(replace(CARD, chat=True), ITEM),
        cache.key(replace(CARD, kind="preference"), ITEM),
        cache.key(CARD, replace(ITEM, prompt=ITEM.prompt + " ")),
        cache.key(CARD, replace(ITEM, options=(" ب", " أ"))),
        cache.key(CARD, ITEM, seed=1),
    ]
    key = cache.key(CARD, ITEM)
    assert {cache.key(CARD, i) for i in same} == {key}
    assert len({key, *other}) == len(other) + 1


def test_an_identity_depends_on_weights_tokenizer_and_precision(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    one = cache.identity(tmp_path, "w", precision="fp32")
    assert one == cache.identity(tmp_path, "w", precision="fp32")
    seen = {one, cache.identity(tmp_path, "v", precision="fp32"), cache.identity(tmp_path, "w", precision="bf16")}
    (tmp_path / "tokenizer.json").write_text('{"a": 1}')
    assert len(seen | {cache.identity(tmp_path, "w", precision="fp32")}) == 4


def test_values_come_back_exactly_and_belong_to_one_model(tmp_path: Path) -> None:
    with cache.Cache(tmp_path, "model-a") as store:
        store.put({"k": value(math.pi), "inf": {"scores": [-math.inf]}})
        store.put({"k": value(2.0)})  # the first stays
        assert store.get(["k", "no"]) == {"k": value(math.pi)}
    again = cache.Cache(tmp_path, "model-a")
    assert again.get(["k"]) == {"k": value(math.pi)} and "inf" in again and len(again) == 2
    assert again.get(["inf"])["inf"]["scores"] == [-math.inf]
    assert len(cache.Cache(tmp_path, "model-b")) == 0
    with pytest.raises(FitraError, match="model hash"):
        cache.Cache(tmp_path, "../x")


def test_torn_and_altered_lines_are_no_lines(tmp_path: Path) -> None:
    with cache.Cache(tmp_path, "m") as store:
        store.put({f"k{i}": value(i) for i in range(5)})
    (file,) = (tmp_path / "m").glob("*.jsonl")
    whole = file.read_bytes()
    for cut in range(len(whole)):
        file.write_bytes(whole[:cut])
        store = cache.Cache(tmp_path, "m")
        assert len(store) == whole[:cut].count(b"\n") and store.torn == 0
    # A later run goes on in another file, so that the torn end harms nothing that follows.
    store.put({"late": value(9)})
    store.close()
    assert "late" in cache.Cache(tmp_path, "m")
    file.write_bytes(whole.replace(b"0.0", b"0.1", 1))
    damaged = cache.Cache(tmp_path, "m")
    assert damaged.torn == 1 and "k0" not in damaged and "k1" in damaged


WRITER = """
import sys, time
from pathlib import Path
from fitra.evaluate.cache import Cache
store = Cache(Path(sys.argv[1]), "m")
for i in range(len(store), 100_000):
    store.put({f"{i}": {"scores": [i / 7] * 50}})
    print(i, flush=True)
"""


def environment(**more: str) -> dict[str, str]:
    root = str(Path(cache.__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]), **more}


def test_a_killed_process_loses_nothing_it_had_told(tmp_path: Path) -> None:
    told = 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment()
        )
        assert process.stdout is not None
        for _ in range(40):
            last = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split("\n")[:-1]
        process.wait()
        told = int(rest[-1] if rest else last) + 1
        store = cache.Cache(tmp_path, "m")
        assert told <= len(store) <= told + 1 and store.torn == 0
        assert all(store.get([str(i)])[str(i)] == {"scores": [i / 7] * 50} for i in range(len(store)))
    assert told >= 120


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_shares_are_a_partition_in_stretches_of_like_size(world: int) -> None:
    items = [Item(f"{i:03d}", "س" * (10 + i * 13 % 50), (), 0) for i in range(100)]
    parts = [cache.share(items, r, world) for r in range(world)]
    assert [i for p in parts for i in p] == items
    sizes = [sum(len(i.prompt) for i in p) for p in parts]
    assert max(sizes) - min(sizes) < 2 * 60
    assert [i for r in range(world) for i in cache.share([1, 2], r, world)] == [1, 2]
    assert cache.share([], 0, world) == []


def test_the_place_among_processes_comes_from_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    assert cache.place() == (0, 1)
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert cache.place() == (3, 4)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cache.place() == (1, 2)
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(FitraError, match="RANK"):
        cache.place()


MEMBER = """
import json, sys, time
from pathlib import Path
from fitra.evaluate.cache import Cache, chunks, gather, place, share
rank, world = place()
keys = [f"k{i}" for i in range(40)]
with Cache(Path(sys.argv[1]), "m") as store:
    for some in chunks([k for k in share(keys, rank, world) if k not in store], 7):
        time.sleep(0.05 * rank)
        store.put({k: {"scores": [int(k[1:]) / 3], "by": rank} for k in some})
    if rank == 0:
        print(json.dumps(gather(store, keys, patience=30)))
"""


def test_two_processes_gather_through_files(tmp_path: Path) -> None:
    import json

    members = [
        subprocess.Popen(
            [sys.executable, "-c", MEMBER, str(tmp_path)],
            stdout=subprocess.PIPE,
            env=environment(RANK=str(rank), WORLD_SIZE="2"),
        )
        for rank in (0, 1)
    ]
    said = [p.communicate(timeout=60)[0] for p in members]
    assert [p.returncode for p in members] == [0, 0]
    values = json.loads(said[0])
    assert [v["scores"][0] for v in values.values()] == [i / 3 for i in range(40)]
    assert {v["by"] for v in values.values()} == {0, 1}


def test_gathering_gives_up_with_a_message(tmp_path: Path) -> None:
    store = cache.Cache(tmp_path, "m")
    store.put({"a": value(1)})
    start = time.monotonic()
    with pytest.raises(FitraError, match="1 of 2 results"):
        cache.gather(store, ["a", "b"], patience=0.1)
    assert cache.gather(store, ["a"]) == {"a": value(1)} and time.monotonic() - start < 30
