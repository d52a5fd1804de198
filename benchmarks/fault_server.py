"""Every fault at once: rows through three servers of which one dies, and what became of each.

    python benchmarks/fault_server.py [--rows 10000]

A fifth of the rows is in trouble: wrong JSON, empty answers, refusals, the paper's template around the answer, 400,
429 with and without Retry-After, 408, 500, 503, hangs, resets in the middle, slow replies. One of the three servers
dies after a twentieth of the requests and comes back half a second later; another says 503 while it starts. Prints what
became of each kind, checks that each row is in exactly one state and that only rows of the lasting kinds are set aside.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from fault_server import KINDS, LASTING, FaultServer, faulty_rows, revive_soon  # type: ignore[import-not-found]

from fitra import llm
from fitra.recipe.align import Endpoint


def main() -> None:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=10_000)
    n = p.parse_args().rows
    rows = faulty_rows(n)
    job = llm.Job(
        "faults",
        lambda row: [{"role": "user", "content": row["text"]}],
        lambda reply, row: llm.parse_rewrite(reply),
        lambda value, row: "refusal" if llm.is_refusal(value) else None,
    )
    with (
        tempfile.TemporaryDirectory() as tmp,
        FaultServer() as a,
        FaultServer(dies_after=n // 20, beside=a) as b,
        FaultServer(start_s=0.3, beside=a) as c,
    ):
        revive_soon(b)
        given = {"model": "fake", "timeout_s": 2.0, "retries": 4, "concurrency": 16}
        backend = llm.EndpointBackend([Endpoint(base_url=s.base_url, **given) for s in (a, b, c)])
        start = time.perf_counter()
        answers = list(llm.run(job, rows, backend, Path(tmp) / "ledger"))
        seconds = time.perf_counter() - start
        sent, good = [s.requests for s in (a, b, c)], [s.statuses[200] for s in (a, b, c)]
    table: dict[str, Counter[str]] = {}
    for row, answer in zip(rows, answers, strict=True):
        assert row["id"] == answer.row_id and (answer.value is None) == bool(answer.error)
        mark = re.search("‹(.+)›", row["text"])
        kind = mark[1] if mark else "none"
        state = re.sub(r" \(after.*", "", str(answer.error)) if answer.error else "answered"
        table.setdefault(kind, Counter())[state] += 1
    print("| fault | rows | state |\n|---|---|---|")
    for kind in ("none", *KINDS):
        states = table.get(kind, Counter())
        print(f"| {kind} | {states.total()} | {'; '.join(f'{v} {k}' for k, v in states.items())} |")
    wrong = sum(
        v for kind, states in table.items() for s, v in states.items() if (s == "answered") == (kind in LASTING)
    )
    lost, doubled = n - len({x.row_id for x in answers}), len(answers) - len({x.row_id for x in answers})
    print(f"{n:,} rows in {seconds:.1f} s; requests {sent}, answered by each {good}")
    print(f"lost {lost}, duplicated {doubled}, in the wrong state {wrong}")
    print(f"fault_server: {1 - wrong / n:.4f}")
    if wrong or lost or doubled:
        sys.exit(1)


if __name__ == "__main__":
    main()
