"""How busy the client keeps an endpoint: real Arabic rewritten and judged, against a server of known latency and slots.

    python benchmarks/rewrite.py                        20,000 requests, 1 s, 256 slots
    python benchmarks/rewrite.py --latency 0 --requests 5000 --concurrency 64
    python benchmarks/rewrite.py --memory 200000        memory slope over rows answered by a local function
    python benchmarks/rewrite.py --peers fitra,datatrove,distilabel,curator,daft

The rows are news of about 1 kB from $FITRA_DATA/raw/ar_news.parquet, each with a number, so that no two are equal. The
server (tests/fault_server.py, a process of its own) answers with a few words exchanged. `--through` says what is timed:

    run      requests, ledger, parsing (`llm.run`)
    stream   also masking, cutting, unmasking, gates (`align.rewrite.stream`)
    stage    the stage of `fitra align run`: also plan, rules, triage, figures, rows and documents on the disk

The ideal is the server's: requests x latency / slots, rounded up to whole waves. CPU is of this process, per request.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]
SIZES = (700, 1300)  # bytes of a news item


def rows(n: int, data: Path) -> Iterator[dict[str, str]]:
    """Rows (id, text) of about 1 kB, no two equal."""
    import pyarrow.parquet as pq

    texts = pq.read_table(data / "raw" / "ar_news.parquet", columns=["text"])["text"].to_pylist()
    texts = [t for t in texts if t and SIZES[0] <= len(t.encode()) <= SIZES[1] and "‹" not in t]
    return ({"id": f"{i:07d}", "text": f"{texts[i % len(texts)]}\nالخبر رقم {i}."} for i in range(n))


def cpu_s() -> float:
    """Seconds of CPU of this process so far."""
    r = resource.getrusage(resource.RUSAGE_SELF)
    return r.ru_utime + r.ru_stime


def resident_mb() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def serving(latency: float, slots: int) -> Iterator[str]:
    """The server in a process of its own; its address."""
    command = [sys.executable, str(HERE.parent / "tests" / "fault_server.py"), "--answer", "edited"]
    command += ["--latency", str(latency), "--slots", str(slots)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()


def counts(url: str) -> dict[str, float]:
    """What the server counted: requests, distinct, most_active, active, span_s (first request to last reply)."""
    with urlopen(url.removesuffix("/v1") + "/counts") as reply:
        return dict(json.loads(reply.read()))


def _recipe() -> Any:
    """Every document goes to the model, a second try where a gate refuses."""
    from fitra.recipe import Align

    return Align(triage="all", context_chars=0)


def through_run(n: int, data: Path, backend: Any, folder: Path) -> Counter[str]:
    """Requests, ledger, parsing."""
    from fitra import llm, policy
    from fitra.align import prompts

    job = llm.Job(
        "rewrite",
        lambda row: [{"role": "user", "content": row["text"]}],
        lambda reply, row: llm.parse_rewrite(reply),
        lambda value, row: "refusal" if llm.is_refusal(value) else None,
        system=prompts.system(policy.load(), "expert"),
    )
    answers = llm.run(job, rows(n, data), backend, folder / "ledger", progress=False)
    return Counter(a.error or "answered" for a in answers)


def through_stream(n: int, data: Path, backend: Any, folder: Path) -> Counter[str]:
    """Masking, cutting, requests, ledger, unmasking, gates."""
    from fitra import policy
    from fitra.align import masking, rewrite, rules

    held = policy.load()
    compiled = rules.compile_rules(held)

    def pieces() -> Iterator[rewrite.Chunk]:
        for row in rows(n, data):
            masked = masking.mask(row["text"])
            made = rules.Rewrite(masked.text, (), ())  # what triage knows of it: nothing to remove
            yield from rewrite.split(row["id"], masked, compiled, 4000, made=made)

    routes = [rewrite.Route("expert", backend)]
    chunks = rewrite.stream(pieces(), routes, held, folder / "ledger")
    return Counter("accepted" if c.text is not None else c.problem for c in chunks)


def corpus(path: Path, given: Iterator[dict[str, str]]) -> Path:
    """A corpus stage of these rows."""
    import pyarrow as pa

    from fitra.artifacts import DOCUMENT_SCHEMA, open_stage

    blank = dict.fromkeys(DOCUMENT_SCHEMA.names) | {"lang": "ar", "licence_class": "A"}
    table = pa.Table.from_pylist([blank | row for row in given], DOCUMENT_SCHEMA)
    with open_stage(path, stage="corpus", config={"rows": table.num_rows}, inputs={}) as st:
        st.write_table("documents", table)
    return path


def through_stage(n: int, data: Path, backend: Any, folder: Path) -> Counter[str]:
    """The whole stage; the corpus must be there."""
    from fitra.align import align

    made = align(_recipe(), folder / "corpus", folder / "align", folder / "ledger", backends={"expert": backend})
    return Counter({k: v for k, v in made["counts"].items() if k != "documents" and v})


THROUGH: dict[str, Callable[[int, Path, Any, Path], Counter[str]]] = {
    "run": through_run,
    "stream": through_stream,
    "stage": through_stage,
}


def throughput(how: str, n: int, data: Path, latency: float, slots: int, concurrency: int) -> tuple[float, float]:
    """One run; prints a line and returns (share of the ideal, requests a second)."""
    from fitra import llm
    from fitra.recipe.align import Endpoint

    def once(n: int, latency: float, folder: Path) -> tuple[float, float, Counter[str], dict[str, float]]:
        with serving(latency, slots) as url:
            backend = llm.EndpointBackend(Endpoint(base_url=url, model="m", concurrency=concurrency))
            if how == "stage":
                corpus(folder / "corpus", rows(n, data))
            start, used = time.perf_counter(), cpu_s()
            states = THROUGH[how](n, data, backend, folder)
            return time.perf_counter() - start, cpu_s() - used, states, counts(url)

    with tempfile.TemporaryDirectory(prefix="fitra-rewrite-") as warm:
        once(300, 0.0, Path(warm))  # imports, word lists
    with tempfile.TemporaryDirectory(prefix="fitra-rewrite-") as tmp:
        seconds, used, states, seen = once(n, latency, Path(tmp))
    assert states.total() == n, states
    sent = int(seen["requests"])
    ideal = math.ceil(sent / min(slots, concurrency)) * latency
    share = ideal / seconds
    print(
        f"| {how} | {sent:,} | {latency:g} s | {concurrency} | {seconds:.1f} s | {sent / seconds:.0f}/s |"
        f" {f'{share:.3f}' if latency else '-'} | {1000 * used / sent:.2f} ms | {resident_mb():.0f} MB |"
        f" {', '.join(f'{v:,} {k}' for k, v in states.most_common(4))} |",
        flush=True,
    )
    return share, sent / seconds


def memory(how: str, n: int, data: Path) -> float:
    """Rows through a local function: prints memory along the way, returns kB per 1,000 rows over the last half."""
    from light_edits import edited  # type: ignore[import-not-found]

    from fitra import llm

    at: list[tuple[int, float]] = []
    asked = 0

    def answer(messages: list[dict[str, str]], sampling: object, schema: object) -> str:
        nonlocal asked
        asked += 1
        if asked % (n // 10) == 0:
            at.append((asked, resident_mb()))
            print(f"{asked:,} rows: {at[-1][1]:.1f} MB", flush=True)
        return str(edited({"messages": messages}))

    folder = Path(tempfile.mkdtemp(prefix="fitra-rewrite-"))
    try:
        if how == "stage":
            corpus(folder / "corpus", rows(n, data))
        THROUGH[how](n, data, llm.FunctionBackend("f", answer), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    half = at[len(at) // 2 - 1 :]
    return 1e6 * (half[-1][1] - half[0][1]) / (half[-1][0] - half[0][0])


def main() -> None:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, default=os.environ.get("FITRA_DATA"))
    p.add_argument("--requests", type=int, default=20_000)
    p.add_argument("--latency", type=float, default=1.0, help="seconds")
    p.add_argument("--slots", type=int, default=256)
    p.add_argument("--concurrency", type=int, default=0, help="as many as slots by default")
    p.add_argument("--through", default="stream,stage", help="of run, stream, stage")
    p.add_argument("--memory", type=int, default=0, metavar="ROWS")
    p.add_argument("--peers", default="", help="the same job through others, in one table: see benchmarks/README.md")
    p.add_argument("--peers-dir", type=Path, default=Path.home() / ".cache" / "fitra-benchmarks")
    a = p.parse_args()
    if not a.data:
        sys.exit("rewrite.py needs --data or FITRA_DATA: a folder with raw/ar_news.parquet.")
    os.environ["FITRA_PROGRESS"] = "0"
    a.data = Path(a.data)
    ways = a.through.split(",")
    if a.peers:
        from rewrite_peers import compare

        compare(a)
        return
    if a.memory:
        print(f"memory: {memory(ways[0], a.memory, a.data):.1f} kB per 1,000 rows")
        return
    print(
        "| through | requests | latency | concurrency | time | rate | of ideal | client CPU per request | memory |"
        " became |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    for how in ways:
        share, rate = throughput(how, a.requests, a.data, a.latency, a.slots, a.concurrency or a.slots)
    print(f"rewrite: {share:.3f}" if a.latency else f"rewrite: {rate:.0f} requests/s")


if __name__ == "__main__":
    main()
