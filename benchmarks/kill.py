"""Never pay twice: a run over a counting server, killed with `kill -9` again and again at random moments.

    python benchmarks/kill.py [--kills 100] [--requests 10000] [--concurrency 16] [--workers 1] [--seed 1] [--work DIR]

Each worker is a process of its own that runs one job over all rows into the shared ledger. At every kill the ledger is
read and the server's count of each question noted. It then fails (exit code 1) where

- a question whose answer was durable at a kill was asked again later,
- the server counted more repeats than requests were in flight at the kills (at most `concurrency` at each), or the
  ledger reports fewer possibly paid than that,
- the output differs by a byte from that of a run without kills, or the ledger is damaged.

Last line: the figures as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fitra.llm import tools
from fitra.llm.ledger import Ledger

WORKER = """
import json, sys
from pathlib import Path
from fitra import llm
from fitra.recipe import Endpoint
url, ledger, out, n, concurrency = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
job = llm.Job("kill", lambda r: [{"role": "user", "content": r["text"]}], lambda reply, r: reply)
rows = ({"id": str(i), "text": f"question {i}"} for i in range(n))
backend = llm.EndpointBackend(Endpoint(base_url=url, model="counted", concurrency=concurrency))
with out.open("w") as f:
    for a in llm.run(job, rows, backend, ledger, progress=False):
        f.write(json.dumps([a.row_id, a.value, a.error]) + "\\n")
"""


class Server(asyncio.Protocol):
    """As much HTTP as the client speaks; all connections share the counts."""

    asked: Counter[str] = Counter()
    active = most = 0
    latency = 0.01

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection."""
        self.transport: Any = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        """Count the requests that are complete."""
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            if len(self.buffer) < end + 4 + length:
                return
            request = json.loads(self.buffer[end + 4 : end + 4 + length])
            self.buffer = self.buffer[end + 4 + length :]
            text = request["messages"][-1]["content"]
            cls = type(self)
            cls.asked[text] += 1
            cls.active += 1
            cls.most = max(cls.most, cls.active)
            wait = cls.latency * random.uniform(0.2, 1.8)
            asyncio.get_running_loop().call_later(wait, self.reply, text)

    def reply(self, text: str) -> None:
        """An answer that depends on the question alone."""
        type(self).active -= 1
        if self.transport.is_closing():
            return
        answer = f"answer to {text}: {hashlib.sha256(text.encode()).hexdigest()}"
        message = {"role": "assistant", "content": answer}
        usage = {"prompt_tokens": 5, "completion_tokens": 20, "total_tokens": 25}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        fixed = {"id": "x", "object": "chat.completion", "created": 0, "model": "counted"}
        body = json.dumps({**fixed, "choices": [choice], "usage": usage}).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


def serve() -> str:
    """Start the server on a thread; its address."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    started = asyncio.run_coroutine_threadsafe(loop.create_server(Server, "127.0.0.1", 0), loop).result()
    return f"http://127.0.0.1:{started.sockets[0].getsockname()[1]}/v1"


def start(url: str, ledger: Path, out: Path, args: argparse.Namespace) -> subprocess.Popen[bytes]:
    """A worker."""
    command = [sys.executable, "-c", WORKER, url, str(ledger), str(out), str(args.requests), str(args.concurrency)]
    return subprocess.Popen(command, env={**os.environ, "FITRA_PROGRESS": "0"})


def durable(ledger: Path) -> set[str]:
    """The questions whose answers are in the ledger."""
    with Ledger(ledger) as book:
        return {r.text.split(":")[0].removeprefix("answer to ") for r in book.records()}


def settle() -> None:
    """Wait until the server has read and forgotten what dead clients had sent."""
    quiet = 0
    while quiet < 5:
        quiet = 0 if Server.active else quiet + 1
        time.sleep(0.004)


def disturbed(url: str, ledger: Path, work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Kill, look, go on; then run to the end. The figures, with what went wrong in `wrong`."""
    rng = random.Random(args.seed)
    wrong: list[str] = []
    known: dict[str, int] = {}  # durable question -> how often it had been asked
    flying = most_flying = kills = 0
    outs = [work / f"out-{i}.jsonl" for i in range(args.workers)]
    workers = [start(url, ledger, out, args) for out in outs]
    received = 0  # by the server, at the last kill
    stored = 0
    while kills < args.kills:
        # At times while a process is still starting, else after up to twice as many requests as are due for each kill.
        step = max(1, (args.requests - len(known)) // (args.kills - kills + args.workers) // args.workers)
        goal = sum(Server.asked.values()) + (0 if rng.random() < 0.05 else rng.randrange(1, 2 * step))
        pause = time.monotonic() + (rng.random() if rng.random() < 0.05 else 60)
        while sum(Server.asked.values()) < goal and time.monotonic() < pause:
            if all(w.poll() is not None for w in workers):
                break
            time.sleep(0.001)
        time.sleep(rng.random() * Server.latency)
        if all(w.poll() is not None for w in workers):
            if args.workers == 1:
                wrong.append(f"done after {kills} kills")
            break  # of several workers some go on while one starts again, and may be done before the last kill
        i = rng.choice([i for i, w in enumerate(workers) if w.poll() is None])
        workers[i].send_signal(signal.SIGKILL)
        workers[i].wait()
        kills += 1
        if args.workers == 1:
            settle()
        held = durable(ledger)
        asked = dict(Server.asked)
        if args.workers == 1:
            now = sum(asked.values())
            lost = (now - received) - (len(held) - stored)  # asked since the last kill, and no answer kept
            flying, most_flying = flying + lost, max(most_flying, lost)
            received, stored = now, len(held)
            if lost > args.concurrency:
                wrong.append(f"kill {kills}: {lost} requests in flight, of at most {args.concurrency}")
        wrong += [f"{q}: asked again" for q, n in known.items() if asked[q] > n]
        known = {q: asked.get(q, 0) for q in held}
        workers[i] = start(url, ledger, outs[i], args)
    codes = [w.wait() for w in workers]
    if any(codes):
        wrong.append(f"exit codes {codes}")
    wrong += [f"{q}: asked again" for q, n in known.items() if Server.asked[q] > n]
    repeats = sum(Server.asked.values()) - args.requests
    bound = flying if args.workers == 1 else kills * args.concurrency
    if repeats > bound:
        wrong.append(f"{repeats} repeats, {bound} in flight at the kills")
    figures = tools.stats(ledger)
    if not repeats <= figures["possibly_paid"] <= kills * args.concurrency:
        wrong.append(f"{figures['possibly_paid']} reported as possibly paid, {repeats} repeated")
    if figures["damaged"] or figures["answers"] != args.requests:
        wrong.append(f"ledger: {figures['answers']} answers, {figures['damaged']} damaged")
    return {
        "kills": kills,
        "workers": args.workers,
        "requests": args.requests,
        "repeats": repeats,
        "in_flight_at_kills": flying if args.workers == 1 else None,
        "most_in_flight_at_a_kill": most_flying if args.workers == 1 else None,
        "possibly_paid": figures["possibly_paid"],
        "segments": figures["segments"],
        "wrong": wrong[:20],
    }


def main() -> int:
    """Run it; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("kills", 100), ("requests", 10_000), ("concurrency", 16), ("workers", 1), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--work", type=Path, help="folder for ledgers and output; without it a temporary one")
    args = parser.parse_args()
    url = serve()
    with tempfile.TemporaryDirectory(dir=args.work) as tmp:
        work = Path(tmp)
        began = time.monotonic()
        calm = start(url, work / "calm", work / "calm.jsonl", args).wait()
        calm_s, once = time.monotonic() - began, sum(Server.asked.values())
        Server.asked.clear()
        began = time.monotonic()
        figures = disturbed(url, work / "ledger", work, args)
        figures["seconds"], figures["seconds_undisturbed"] = round(time.monotonic() - began, 1), round(calm_s, 1)
        if calm or once != args.requests:
            figures["wrong"].append(f"undisturbed: exit code {calm}, {once} requests")
        expected = (work / "calm.jsonl").read_bytes()
        for i in range(args.workers):
            if (work / f"out-{i}.jsonl").read_bytes() != expected:
                figures["wrong"].append(f"output of worker {i} differs from that of the undisturbed run")
    for line in figures["wrong"]:
        print(f"WRONG: {line}", file=sys.stderr)
    print(json.dumps(figures))
    return 1 if figures["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
