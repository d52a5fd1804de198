"""What the benchmarks share: environments for peers, and a command's seconds and memory with all its processes."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class Measured:
    """One command: its time, the highest sum of resident memory, the JSON object it printed last."""

    wall: float
    cpu: float  # seconds of processors, of all its processes, start and imports included (Linux; elsewhere 0)
    peak: int  # bytes, summed over the process and its descendants
    said: dict[str, Any]

    @property
    def seconds(self) -> float:
        """As the command timed itself, without start and imports; else the wall's."""
        return float(self.said.get("seconds", self.wall))


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """Options that all have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-dir", type=Path, default=Path.home() / ".cache" / "fitra-benchmarks")
    parser.add_argument("--work", type=Path, help="folder for generated data; without it a temporary one")
    return parser


def folder(given: Path | None) -> Path:
    """The work folder."""
    if given:
        given.mkdir(parents=True, exist_ok=True)
        return given
    return Path(tempfile.mkdtemp(prefix="fitra-benchmark-"))


def peer(name: str, peers: Path) -> str:
    """The Python of a peer's own environment, made from `peers/NAME.txt` when it is not there."""
    home, lock = peers / name, HERE / "peers" / f"{name}.txt"
    python, marker = home / "bin" / "python", home / "installed.txt"
    if not marker.is_file() or marker.read_text() != lock.read_text():
        print(f"installing {name} into {home} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(lock)], check=True)
        marker.write_text(lock.read_text())
    return str(python)


def _tree(root: int, spent: dict[int, float]) -> int:
    """Resident bytes of a process and its descendants (Linux; elsewhere 0); notes the processor seconds of each."""
    parents: dict[int, int] = {}
    resident: dict[int, int] = {}
    ticks: dict[int, float] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text(errors="replace").rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(entry.parent.name)] = int(fields[1])
        resident[int(entry.parent.name)] = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        ticks[int(entry.parent.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    total = 0
    for pid in resident:
        at = pid
        while at and at != root:
            at = parents.get(at, 0)
        if at == root:
            total += resident[pid]
            spent[pid] = ticks[pid]
    return total


def run(command: list[str], quiet: bool = True) -> Measured:
    """Run to the end; raises CalledProcessError with what it wrote when it fails."""
    env = {**os.environ, "PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err if quiet else None, env=env)
        peak = 0
        spent: dict[int, float] = {}
        while process.poll() is None:
            peak = max(peak, _tree(process.pid, spent))
            time.sleep(0.1)
        wall = time.perf_counter() - start
        out.seek(0)
        err.seek(0)
        if process.returncode:
            print(err.read()[-4000:], file=sys.stderr)
            raise subprocess.CalledProcessError(process.returncode, command)
        last = next((line for line in reversed(out.read().splitlines()) if line.startswith("{")), "{}")
    return Measured(wall, sum(spent.values()), peak, json.loads(last))


def own(peers: Path) -> str:
    """The Python of an environment with Fitra's core alone, as `pip install fitra` makes it: no torch, no pandas."""
    home = peers / "fitra"
    python, marker = home / "bin" / "python", home / "installed.txt"
    root = HERE.parent
    wanted = f"{root}\n" + (root / "pyproject.toml").read_text(encoding="utf-8")
    if not marker.is_file() or marker.read_text(encoding="utf-8") != wanted:
        print(f"installing fitra into {home} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        constraints = ["-c", str(root / "constraints.txt")]
        subprocess.run([str(python), "-m", "pip", "install", "-q", *constraints, "-e", str(root)], check=True)
        marker.write_text(wanted, encoding="utf-8")
    return str(python)
