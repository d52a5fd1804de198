"""The rewriting job through Fitra and through others, in one table: `python benchmarks/rewrite.py --peers ...`.

Every engine gets the same rows, messages, server and concurrency, in a process and an environment of its own:

    speed    5,000 rows at 1 s and 256 at once; the answers must be those of the server, row by row
    faults   400 rows, every tenth in lasting trouble (400, 500, no JSON, an empty answer), every tenth in passing
             trouble (429, 500, a connection reset)
    kill     2,000 rows; kill -9 of all its processes after half of them were sent, then the same command again
    policy   500 rows, then the same rows in the same folder with another system prompt

`fitra-gates` also masks, unmasks and judges, so of its answers the server's edits are expected outside of what is
protected.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from light_edits import AS_IS, edited  # type: ignore[import-not-found]
from measured import Measured, own, peer, run
from rewrite import HERE, counts, rows, serving

LASTING = ("400-always", "500-always", "json-always", "empty-always")
PASSING = ("429", "500", "reset", "429-after")
LIMIT_S = 120.0  # for one part of one engine but the first


@dataclass
class Engine:
    """One of the engines: its Python, its script, further arguments."""

    name: str
    command: list[str]
    more: list[str]

    def run(self, url: str, given: Path, folder: Path, concurrency: int) -> list[str]:
        """The command line."""
        return [*self.command, url, str(given), str(folder), str(concurrency), *self.more]


def engine(name: str, peers: Path) -> Engine:
    """Its environment is made where it is not there."""
    base = name.split("-")[0]
    python = own(peers) if base == "fitra" else peer(f"rewrite_{base}", peers)
    return Engine(name, [python, str(HERE / "peers" / f"run_{base}_rewrite.py")], name.split("-")[1:])


def write(path: Path, given: Iterable[dict[str, str]], system: str) -> dict[str, str]:
    """The rows as a file of JSON lines; what the server will answer to each, by id."""
    expected = {}
    with path.open("w", encoding="utf-8") as f:
        for row in given:
            f.write(json.dumps({"id": row["id"], "system": system, "user": row["text"]}, ensure_ascii=False) + "\n")
            turns = [{"role": "system", "content": system}, {"role": "user", "content": row["text"]}]
            expected[row["id"]] = str(edited({"messages": turns}))
    return expected


def read(folder: Path) -> list[dict[str, Any]]:
    """The answers."""
    path = folder / "answers.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def same(answers: list[dict[str, Any]], expected: dict[str, str]) -> int:
    """How many answers are the server's, white space at the ends aside."""
    return sum((a["text"] or "").strip() == expected[a["id"]].strip() for a in answers)


def protected(given: Path) -> dict[str, str]:
    """What the server's edits make of the rows where they cannot touch what is protected."""
    from fitra.align import masking

    out = {}
    for line in given.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        masked = masking.mask(row["user"])
        turns = [{"role": "system", "content": row["system"]}, {"role": "user", "content": masked.text}]
        out[row["id"]] = masking.unmask(edited({"messages": turns}), masked)
    return out


def lost_doubled(answers: list[dict[str, Any]], expected: dict[str, str]) -> str:
    """Rows without any line in the answers, and lines beyond the first of a row."""
    ids = Counter(a["id"] for a in answers)
    return f"{len(expected.keys() - ids.keys())} / {sum(n - 1 for n in ids.values())}"


def speed(e: Engine, given: Path, expected: dict[str, str], work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Throughput, with the answers compared first."""
    with serving(args.latency, args.slots) as url:
        m: Measured = run(e.run(url, given, work / "speed", args.slots))
        seen = counts(url)
    answers = read(work / "speed")
    ideal = math.ceil(len(expected) / args.slots) * args.latency
    return {
        "equal": same(answers, protected(given) if e.more else expected),
        "seconds": m.seconds,
        "wall": m.wall,
        "of ideal": ideal / m.seconds,
        "server busy": ideal / seen["span_s"],
        "rate": len(expected) / m.seconds,
        "cpu": 1000 * m.cpu / len(expected),
        "memory": m.peak / 1e6,
        "sent": int(seen["requests"]),
        "most": int(seen["most_active"]),
        "lost": lost_doubled(answers, expected),
    }


def limited(command: list[str], limit: float = LIMIT_S) -> tuple[int, float]:
    """Exit code and seconds of a command; -1 where it was stopped at the limit. It ends with all its processes."""
    start = time.perf_counter()
    p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        code = p.wait(limit)
    except subprocess.TimeoutExpired:
        code = -1
    seconds = time.perf_counter() - start
    end(p)
    return code, seconds


def end(p: subprocess.Popen[bytes]) -> None:
    """kill -9 of a process and all it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(p.pid, signal.SIGKILL)
    p.wait()


def faulty(n: int, data: Path) -> Iterator[dict[str, str]]:
    """Rows of which two in ten are in trouble, each kind in turn."""
    for i, row in enumerate(rows(n, data)):
        if i % 10 == 3:
            row["text"] += f" ~{LASTING[i // 10 % len(LASTING)]}~"
        elif i % 10 == 7:
            row["text"] += f" ~{PASSING[i // 10 % len(PASSING)]}~"
        yield row


def faults(e: Engine, work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What becomes of rows in trouble and of their neighbours."""
    system = policy_text()
    expected = write(work / "faults.jsonl", faulty(400, args.data), system)
    with serving(0.05, args.slots) as url:
        code, seconds = limited(e.run(url, work / "faults.jsonl", work / "faults", 32))
        sent = int(counts(url)["requests"])
    answers = {a["id"]: a for a in read(work / "faults")}
    good = sum(answers[k]["text"] is not None for k in expected if "always~" not in expected[k] and k in answers)
    bad: dict[str, Counter[str]] = {}
    for k, text in expected.items():
        if "always~" in text:
            kind = text.rsplit(" ~", 1)[1].removesuffix("-always~")
            a = answers.get(k)
            state = "gone" if a is None else "error" if a["text"] is None else f"answer of {len(a['text'])} letters"
            bad.setdefault(kind, Counter())[state] += 1
    said = "; ".join(f"{k}: {', '.join(f'{v} {s}' for s, v in c.items())}" for k, c in bad.items())
    whole = sum("always~" not in t for t in expected.values())
    return {"good": f"{good} of {whole}", "bad": said, "exit": code, "fault sent": sent, "fault s": seconds}


def kill(e: Engine, work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One kill in the middle, and the same command again."""
    n = 2000
    expected = write(work / "kill.jsonl", rows(n, args.data), policy_text())
    with serving(args.latency, args.slots) as url:
        command = e.run(url, work / "kill.jsonl", work / "kill", args.slots)
        p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        until = time.monotonic() + LIMIT_S
        while counts(url)["requests"] < n / 2 and p.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        end(p)
        time.sleep(2 * args.latency)
        before = int(counts(url)["requests"])
        code, seconds = limited(command)
        sent = int(counts(url)["requests"])
    answers = read(work / "kill")
    return {
        "kill before": before,
        "repeats": sent - n if code == 0 else f"exit {code}",
        "kill lost": lost_doubled(answers, expected),
        "kill equal": same(answers, protected(work / "kill.jsonl") if e.more else expected),
        "kill s": seconds,
    }


def change(e: Engine, work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The same rows under another policy, in the same folder."""
    n = 500
    with serving(0.1, args.slots) as url:
        old = write(work / "old.jsonl", rows(n, args.data), policy_text())
        limited(e.run(url, work / "old.jsonl", work / "policy", 64))
        first, before = int(counts(url)["requests"]), read(work / "policy")
        new = write(work / "new.jsonl", rows(n, args.data), policy_text() + AS_IS)
        code, _ = limited(e.run(url, work / "new.jsonl", work / "policy", 64))
        again = int(counts(url)["requests"]) - first
    answers = read(work / "policy") if code == 0 else []
    if e.more:
        old, new = protected(work / "old.jsonl"), protected(work / "new.jsonl")
    differ = {k for k in old if old[k] != new[k]}  # the server answers differently under the new policy
    was = {a["id"]: a["text"] for a in before}
    stale = sum(a["id"] in differ and a["text"] == was.get(a["id"]) for a in answers)
    return {"asked anew": f"{again} of {n}", "stale": f"{stale} of {len(differ)}", "policy exit": code}


def policy_text() -> str:
    """What all requests begin with."""
    from fitra import policy
    from fitra.align import prompts

    return prompts.system(policy.load(), "expert")


def compare(args: argparse.Namespace) -> None:
    """Print the tables."""
    names = args.peers.split(",")
    engines = [engine(n, args.peers_dir) for n in names]
    table: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="fitra-rewrite-peers-") as tmp:
        given = Path(tmp) / "rows.jsonl"
        expected = write(given, rows(args.requests, args.data), policy_text())
        for e in engines:
            work = Path(tmp) / e.name
            work.mkdir()
            table[e.name] = speed(e, given, expected, work, args)
            print(f"{e.name}: {table[e.name]['equal']:,} of {len(expected):,} answers equal the server's", flush=True)
            for part in (faults, kill, change):
                table[e.name] |= part(e, work, args)
            print(f"{e.name}: {table[e.name]}", file=sys.stderr, flush=True)
    print(f"\n{args.requests:,} rows, {args.latency:g} s, {args.slots} at once\n")
    lines = {
        "seconds": lambda t: f"{t['seconds']:.1f}",
        "requests a second": lambda t: f"{t['rate']:.0f}",
        "of the ideal": lambda t: f"{t['of ideal']:.3f}",
        "of the ideal, first request to last reply": lambda t: f"{t['server busy']:.3f}",
        "CPU per request, ms, start included": lambda t: f"{t['cpu']:.2f}",
        "memory at most, MB": lambda t: f"{t['memory']:.0f}",
        "requests sent (most at once)": lambda t: f"{t['sent']:,} ({t['most']})",
        "rows lost / doubled": lambda t: t["lost"],
        "faults: neighbours answered": lambda t: f"{t['good']}, exit code {t['exit']}, {t['fault s']:.0f} s",
        "faults: rows in lasting trouble": lambda t: t["bad"],
        "faults: requests for 400 rows": lambda t: str(t["fault sent"]),
        "kill -9 after so many requests of 2,000": lambda t: str(t["kill before"]),
        "requests repeated after it": lambda t: str(t["repeats"]),
        "rows lost / doubled, equal after it": lambda t: f"{t['kill lost']}, {t['kill equal']:,}",
        "another policy: asked anew": lambda t: t["asked anew"],
        "another policy: answers of the old one": lambda t: t["stale"],
    }
    print("| | " + " | ".join(names) + " |\n|---" * 1 + "|---" * len(names) + "|")
    for what, show in lines.items():
        print(f"| {what} | " + " | ".join(str(show(table[n])) for n in names) + " |")
    ours, others = table[names[0]], [t for n, t in table.items() if not n.startswith("fitra")]
    for n, t in table.items():
        if n != names[0]:
            print(f"ratio to {n}: {t['seconds'] / ours['seconds']:.2f} (CPU: {t['cpu'] / ours['cpu']:.1f})")
    if others:
        print(f"rewrite: {min(t['seconds'] for t in others) / ours['seconds']:.2f}")
