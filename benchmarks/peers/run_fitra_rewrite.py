"""The job of `rewrite.py` through `fitra.llm.run`, or with `gates` as a fifth argument also through masking and gates.

See `rewrite_rows`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rewrite_rows import Answers, Row, main

from fitra import llm, policy
from fitra.align import masking, rewrite, rules
from fitra.recipe.align import Endpoint


def job(url: str, rows: list[Row], folder: Path, concurrency: int) -> Answers:
    """Run, or go on from the ledger in the folder."""
    backend = llm.EndpointBackend(Endpoint(base_url=url, model="m", concurrency=concurrency, timeout_s=30))
    if "gates" in sys.argv[5:]:
        return judged(backend, rows, folder)
    return plain(backend, rows, folder)


def plain(backend: llm.Backend, rows: list[Row], folder: Path) -> Answers:
    """Requests, ledger, parsing."""
    asked = llm.Job(
        "rewrite",
        lambda row: [{"role": "user", "content": row["user"]}],
        lambda reply, row: llm.parse_rewrite(reply),
        lambda value, row: "refusal" if llm.is_refusal(value) else None,
        system=rows[0]["system"],
    )
    for a in llm.run(asked, rows, backend, folder / "ledger", progress=False):
        yield a.row_id, a.value, a.error or ""


def judged(backend: llm.Backend, rows: list[Row], folder: Path) -> Answers:
    """The path of `fitra align run`: masks, gates, a second try where a gate refuses."""
    shipped = policy.load()
    held = replace(shipped, prompts={**shipped.prompts, "expert": rows[0]["system"]})
    compiled = rules.compile_rules(held)

    def pieces() -> Iterator[rewrite.Chunk]:
        for row in rows:
            masked = masking.mask(row["user"])
            made = rules.Rewrite(masked.text, (), ())  # what triage knows of it: nothing to remove
            yield from rewrite.split(row["id"], masked, compiled, 4000, made=made)

    for c in rewrite.stream(pieces(), [rewrite.Route("expert", backend)], held, folder / "ledger"):
        yield c.id.split("#")[0], c.text, "" if c.text is not None else c.problem


if __name__ == "__main__":
    main(job)
