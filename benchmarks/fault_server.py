"""Every fault at once: rows through three servers of which one dies, and what became of each.

    python benchmarks/fault_server.py [--rows 10000]
    python benchmarks/fault_server.py --align           the whole stage of `fitra align run`, over real news

A fifth of the rows is in trouble: wrong JSON, empty answers, refusals, the paper's template around the answer, 400,
429 with and without Retry-After, 408, 500, 503, hangs, resets in the middle, slow replies. One of the three servers
dies after a twentieth of the requests and comes back half a second later; another says 503 while it starts. Prints what
became of each kind, checks that each row is in exactly one state and that only rows of the lasting kinds are set aside.

With `--align` the rows are documents ($FITRA_DATA/raw/ar_news.parquet, about 1 kB each), masked, rewritten, judged and
written. Set aside then means that no model's text was taken: the original stays, or what the rules repair of it.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # its server has the name of this file

from fault_server import KINDS, LASTING, FaultServer, faulty_rows, revive_soon  # type: ignore[import-not-found]
from light_edits import edited  # type: ignore[import-not-found]

from fitra import llm
from fitra.recipe.align import Endpoint

_MARK = re.compile(r"[‹~]([\w-]+)[›~]")
State = tuple[str, str]  # id, what became of it: 'answered' or the reason


@contextmanager
def servers(n: int, timeout_s: float, answer: Callable[[dict[str, Any]], str] | None = None) -> Iterator[Any]:
    """Three of them: well; dying and coming back; slow to start. Yields (endpoints, servers)."""
    with (
        FaultServer(answer) as a,
        FaultServer(answer, dies_after=n // 20, beside=a) as b,
        FaultServer(answer, start_s=0.3, beside=a) as c,
    ):
        revive_soon(b)
        given = {"model": "fake", "timeout_s": timeout_s, "retries": 4, "concurrency": 16}
        yield [Endpoint(base_url=s.base_url, **given) for s in (a, b, c)], (a, b, c)


def through_run(rows: list[dict[str, str]], endpoints: list[Endpoint], folder: Path) -> list[State]:
    """Requests alone."""
    job = llm.Job(
        "faults",
        lambda row: [{"role": "user", "content": row["text"]}],
        lambda reply, row: llm.parse_rewrite(reply),
        lambda value, row: "refusal" if llm.is_refusal(value) else None,
    )
    answers = list(llm.run(job, rows, llm.EndpointBackend(endpoints), folder / "ledger"))
    assert all((a.value is None) == bool(a.error) for a in answers)
    return [(a.row_id, re.sub(r" \(after.*", "", a.error) if a.error else "answered") for a in answers]


def through_align(rows: list[dict[str, str]], endpoints: list[Endpoint], folder: Path) -> list[State]:
    """The stage."""
    from rewrite import corpus

    from fitra.align import STATES, align
    from fitra.artifacts import read_table
    from fitra.recipe import Align

    cfg = Align.model_validate({"triage": "all", "context_chars": 0, "expert": {"endpoints": endpoints}})
    made = align(cfg, corpus(folder / "corpus", iter(rows)), folder / "align")
    print("states:", ", ".join(f"{made['counts'][k]:,} {k}" for k in STATES))
    print("tiers:", ", ".join(f"{v:,} {k}" for k, v in made["notes"]["tiers"].items()))
    went_on = {d["id"] for d in read_table(folder / "align", "documents").to_pylist()}
    out = []
    for row in read_table(folder / "align", "rows").to_pylist():
        assert row["state"] in STATES and row["reason"], row
        assert (row["id"] in went_on) == (row["state"] not in ("quarantine", "drop")), row
        taken = row["tier"] == "expert" and row["state"] in ("accept", "unchanged")
        reason = re.sub(r" \(after.*?\)|: planted \d+", "", row["reason"])
        out.append((row["id"], "answered" if taken else f"{row['state']}: {reason}"[:90]))
    return out


def news(n: int, data: Path) -> list[dict[str, str]]:
    """News of which every fifth is in trouble, each kind in turn."""
    from rewrite import rows

    out = list(rows(n, data))
    for i in range(0, n, 5):
        out[i]["text"] += f" ~{KINDS[i // 5 % len(KINDS)]}~"
    return out


def main() -> None:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=10_000)
    p.add_argument("--align", action="store_true")
    p.add_argument("--timeout", type=float, default=2.0, help="seconds; more on a machine that is busy")
    a = p.parse_args()
    n = a.rows
    if a.align and not os.environ.get("FITRA_DATA"):
        sys.exit("fault_server.py --align needs FITRA_DATA: a folder with raw/ar_news.parquet.")
    rows = news(n, Path(os.environ["FITRA_DATA"])) if a.align else faulty_rows(n)
    through, answer = (through_align, edited) if a.align else (through_run, None)
    with tempfile.TemporaryDirectory() as tmp, servers(n, a.timeout, answer) as (endpoints, all_):
        start = time.perf_counter()
        states = through(rows, endpoints, Path(tmp))
        seconds = time.perf_counter() - start
        sent, good = [s.requests for s in all_], [s.statuses[200] for s in all_]
    kinds = {r["id"]: m[1] if (m := _MARK.search(r["text"])) else "none" for r in rows}
    table: dict[str, Counter[str]] = {}
    for name, state in states:
        table.setdefault(kinds[name], Counter())[state] += 1
    print("| fault | rows | state |\n|---|---|---|")
    for kind in ("none", *KINDS):
        found = table.get(kind, Counter())
        print(f"| {kind} | {found.total()} | {'; '.join(f'{v} {k}' for k, v in found.most_common())} |")
    wrong = sum(v for kind, s in table.items() for k, v in s.items() if (k == "answered") == (kind in LASTING))
    distinct = len({name for name, _ in states})
    print(f"{n:,} rows in {seconds:.1f} s; requests {sent}, answered by each {good}")
    print(f"lost {n - distinct}, duplicated {len(states) - distinct}, in the wrong state {wrong}")
    print(f"fault_server: {1 - wrong / n:.4f}")
    if wrong or n != distinct or len(states) != distinct:
        sys.exit(1)


if __name__ == "__main__":
    main()
