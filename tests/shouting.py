"""A job that shouts, and a backend for the server of `fake_endpoint`."""

from __future__ import annotations

from typing import Any

from fake_endpoint import FakeEndpoint

from fitra import llm
from fitra.recipe import Endpoint

CANARY = "sk-canary-5f2d9b7e11"  # never to be seen outside a request's header


def render(row: Any) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Shout."}, {"role": "user", "content": row["text"]}]


def as_is(reply: str, row: Any) -> str:
    return reply


JOB = llm.Job("shout", render, as_is)


def rows(n: int, start: int = 0) -> list[dict[str, str]]:
    return [{"id": f"r{i}", "text": f"text {i}"} for i in range(start, start + n)]


def backend(server: FakeEndpoint, **kw: Any) -> llm.EndpointBackend:
    settings = {"model": "fake", "api_key": CANARY, "timeout_s": 5.0, "retries": 2, "concurrency": 8, **kw}
    return llm.EndpointBackend(Endpoint(base_url=server.base_url, **settings))
