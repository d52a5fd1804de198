"""The job of the client's tests: rewriting by a policy, against `fault_server`."""

from __future__ import annotations

from typing import Any

from fault_server import FaultServer

from fitra import llm
from fitra.recipe.align import Endpoint

POLICY = "أنت محرر عربي. " * 20


def job(**kw: Any) -> llm.Job:
    return llm.Job(
        "rewrite",
        lambda row: [{"role": "user", "content": row["text"]}],
        lambda reply, row: llm.parse_rewrite(reply),
        lambda value, row: "refusal" if llm.is_refusal(value) else None,
        system=POLICY,
        **kw,
    )


def backend(*servers: FaultServer, **kw: Any) -> llm.EndpointBackend:
    given = {"model": "fake", "timeout_s": 5.0, "retries": 3, "concurrency": 16, **kw}
    return llm.EndpointBackend([Endpoint(base_url=s.base_url, **given) for s in servers])


def rows(n: int) -> list[dict[str, str]]:
    return [{"id": f"r{i:05d}", "text": f"row {i}"} for i in range(n)]
