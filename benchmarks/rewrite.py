"""How busy the client keeps an endpoint: a rewriting job against a server of known latency and slots.

    python benchmarks/rewrite.py                        20,000 requests, 1 s, 256 slots
    python benchmarks/rewrite.py --latency 0 --requests 5000 --concurrency 64
    python benchmarks/rewrite.py --memory 200000        memory slope over rows answered by a local function

The server (tests/fault_server.py) runs in a process of its own. The ideal is the server's: requests x latency / slots,
rounded up to whole waves. CPU is of the client's process, ledger and parsing included, per request.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
POLICY = "أعد صياغة النص بلا إساءة، واحفظ ما فيه من معرفة وأسماء وأرقام. " * 40  # a shared prefix of some 2,500 letters
BODY = "قال المتحدث إن الاجتماع عقد يوم الأحد في القاهرة بحضور ممثلين عن عشر دول. " * 8


def rows(n: int) -> Iterator[dict[str, str]]:
    """Rows of some 600 letters, all different."""
    return ({"id": f"{i:07d}", "text": f"{i} {BODY}"} for i in range(n))


def cpu_s() -> float:
    """Seconds of CPU of this process so far."""
    r = resource.getrusage(resource.RUSAGE_SELF)
    return r.ru_utime + r.ru_stime


def resident_mb() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def throughput(n: int, latency: float, slots: int, concurrency: int) -> tuple[float, float]:
    """One run; prints a line and returns (share of the ideal, requests a second)."""
    from fitra import llm
    from fitra.recipe.align import Endpoint

    server = subprocess.Popen(
        [sys.executable, str(HERE.parent / "tests" / "fault_server.py"), "--latency", str(latency), "--slots",
         str(slots)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    folder = Path(tempfile.mkdtemp(prefix="fitra-rewrite-"))
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        backend = llm.EndpointBackend(Endpoint(base_url=url, model="m", concurrency=concurrency))
        job = llm.Job(
            "rewrite",
            lambda row: [{"role": "user", "content": row["text"]}],
            lambda reply, row: llm.parse_rewrite(reply),
            lambda value, row: "refusal" if llm.is_refusal(value) else None,
            system=POLICY,
        )
        start, used, done = time.perf_counter(), cpu_s(), 0
        for answer in llm.run(job, rows(n), backend, folder / "ledger", progress=False):
            assert answer.error is None, answer.error
            done += 1
        seconds, used = time.perf_counter() - start, cpu_s() - used
        assert done == n
        ideal = math.ceil(n / min(slots, concurrency)) * latency
        share = ideal / seconds
        print(
            f"| {n:,} | {latency:g} s | {concurrency} | {seconds:.1f} s | {n / seconds:.0f}/s |"
            f" {f'{share:.3f}' if latency else '-'} | {1000 * used / n:.2f} ms | {resident_mb():.0f} MB |",
            flush=True,
        )
        return share, n / seconds
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def memory(n: int) -> float:
    """Rows through a local function: prints memory along the way, returns kB per 1,000 rows over the last half."""
    from fitra import llm

    folder = Path(tempfile.mkdtemp(prefix="fitra-rewrite-"))
    job = llm.Job("rewrite", lambda row: [{"role": "user", "content": row["text"]}], lambda reply, row: reply)

    async def answer(messages: list[dict[str, str]], sampling: object, schema: object) -> str:
        return messages[-1]["content"]

    at: list[tuple[int, float]] = []
    try:
        backend = llm.FunctionBackend("f", answer)
        for i, _ in enumerate(llm.run(job, rows(n), backend, folder / "ledger", concurrency=64, progress=False), 1):
            if i % (n // 10) == 0:
                at.append((i, resident_mb()))
                print(f"{i:,} rows: {at[-1][1]:.1f} MB", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    half = at[len(at) // 2 - 1 :]
    return 1e6 * (half[-1][1] - half[0][1]) / (half[-1][0] - half[0][0])


def main() -> None:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--requests", type=int, default=20_000)
    p.add_argument("--latency", type=float, default=1.0, help="seconds")
    p.add_argument("--slots", type=int, default=256)
    p.add_argument("--concurrency", type=int, default=0, help="as many as slots by default")
    p.add_argument("--memory", type=int, default=0, metavar="ROWS")
    a = p.parse_args()
    if a.memory:
        print(f"memory: {memory(a.memory):.1f} kB per 1,000 rows")
        return
    print("| requests | latency | concurrency | time | rate | of ideal | client CPU per request | memory |")
    print("|---|---|---|---|---|---|---|---|")
    share, rate = throughput(a.requests, a.latency, a.slots, a.concurrency or a.slots)
    print(f"rewrite: {share:.3f}" if a.latency else f"rewrite: {rate:.0f} requests/s")


if __name__ == "__main__":
    main()
