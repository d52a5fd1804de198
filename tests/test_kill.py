"""Kill -9 at random moments, run again: the same final artefacts, no finished stage repeated."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLS = int(os.environ.get("FITRA_KILLS", "6"))


def start(recipe: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fitra", "run", str(recipe), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def artefacts(out: Path) -> dict[str, bytes]:
    """Everything whose bytes must be equal: tables, models, scores; not the manifests, which hold times."""
    kinds = ("*.parquet", "*.safetensors", "tokenizer.json", "scores.json", "log.jsonl")
    found = [p for kind in kinds for p in out.rglob(kind) if "checkpoint" not in str(p)]
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(found)}


@pytest.mark.slow
def test_kills_lose_nothing_and_corrupt_nothing(tiny_recipe: Path, tmp_path: Path) -> None:
    calm, hurt = tmp_path / "calm", tmp_path / "hurt"
    started = time.monotonic()
    assert start(tiny_recipe, calm).wait() == 0
    whole = time.monotonic() - started
    dice, done = random.Random(0), dict[Path, int]()
    for _ in range(KILLS):
        p = start(tiny_recipe, hurt)
        time.sleep(dice.uniform(0.3, whole))
        p.send_signal(signal.SIGKILL)
        p.wait()
        now = {m: m.stat().st_mtime_ns for m in hurt.glob("*/manifest.json")}
        assert all(now.get(m) == t for m, t in done.items()), "a finished stage was made again"
        done = now
    assert start(tiny_recipe, hurt).wait() == 0
    assert all(m.stat().st_mtime_ns == t for m, t in done.items())
    a, b = artefacts(calm), artefacts(hurt)
    assert set(a) == set(b)
    assert [name for name in a if a[name] != b[name]] == []


@pytest.mark.slow
def test_kills_in_any_stage_of_the_vocabulary(tiny_recipe: Path, tmp_path: Path) -> None:
    """The vocabulary in stages: `fitra run` killed while it trains them, at random moments."""
    text = tiny_recipe.read_text().replace("{add: 64}", "{add: 64, progressive: {stages: 5}}").split("sft:")[0]
    recipe = tiny_recipe.with_name("progressive.yaml")
    recipe.write_text(text.replace("name: tiny", "name: progressive\narms: [original]").replace(
        "tokens: 8192, batch_tokens: 1024", "tokens: 16384, batch_tokens: 256"
    ))  # fmt: skip
    calm, hurt = tmp_path / "calm", tmp_path / "hurt"
    assert start(recipe, calm).wait() == 0
    # What comes before the stages is made once; only they are killed.
    before = [p for p in calm.iterdir() if p.is_dir() and not p.name.startswith("pretrain-")]
    for p in before:
        shutil.copytree(p, hurt / p.name, symlinks=True)
    dice, hit = random.Random(1), set[str]()

    def begun() -> set[str]:
        return {b.parent.name for b in hurt.glob("pretrain-*/work-*/*/begin.safetensors")}

    for _ in range(12):  # dies in a stage where it did not die before, a moment after that stage began
        p = start(recipe, hurt)
        while p.poll() is None and not begun() - hit:
            time.sleep(0.002)
        time.sleep(dice.uniform(0, 0.1))
        p.send_signal(signal.SIGKILL)
        p.wait()
        hit |= begun()
        if list(hurt.glob("pretrain-*/manifest.json")):
            break
    assert start(recipe, hurt).wait() == 0
    assert len(hit) >= 3, f"killed in too few stages: {sorted(hit)}"
    a, b = artefacts(calm), artefacts(hurt)
    assert set(a) == set(b) and [name for name in a if a[name] != b[name]] == []
    assert any(n.startswith("pretrain-") and n.endswith("model.safetensors") for n in a)
