"""Judged sets for tests: cards, judges that are functions, endpoints."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fake_endpoint import FakeEndpoint

from fitra import llm
from fitra.evaluate import judged
from fitra.recipe.align import Endpoint

BLOCK = re.compile(r"<<<([0-9a-f]{8}) ([A-Z0-9 ]+)\n(.*?)\n\1 \2>>>", re.S)
SET = """
name: tiny
what: a set of the tests
source: here
licence: none
licence_class: A
version: 1
protocol: {protocol}
columns: {columns}
{more}
"""


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def card(
    tmp_path: Path, rows: list[dict[str, Any]], protocol: str = "ratio", columns: str = "", more: str = ""
) -> judged.ChatCard:
    file = tmp_path / "tiny.yaml"
    columns = columns or "{id: id, turns: prompt, category: category}"
    file.write_text(SET.format(protocol=protocol, columns=columns, more=more), encoding="utf-8")
    (made,), _ = judged.cards(file, table(tmp_path / "tiny.parquet", rows))
    return made


def ask(n: int, **more: Any) -> dict[str, Any]:
    return {"id": f"q{n}", "prompt": f"ما السؤال رقم {n}؟", "category": "generic", **more}


def blocks(messages: Sequence[llm.Message]) -> dict[str, str]:
    """What a judge that reads the marks sees between them."""
    return {name: text for _, name, text in BLOCK.findall(messages[-1]["content"])}


def backend(say: Callable[[dict[str, str], dict[str, Any]], str], seed: int | None = None) -> llm.Backend:
    def fn(messages: Sequence[llm.Message], sampling: dict[str, Any], schema: Any) -> str:
        return say(blocks(messages), sampling)

    made = llm.FunctionBackend("test-judge", fn)
    if seed is not None:
        made.sampling = {"seed": seed}  # type: ignore[attr-defined]
    return made


def by_length(seen: dict[str, str], sampling: dict[str, Any]) -> str:
    return f"{len(seen['FIRST'])} {len(seen['SECOND'])}\nالسبب"


def answers(**texts: str) -> dict[str, tuple[str, ...]]:
    return {k: (v,) for k, v in texts.items()}


def run(c: judged.ChatCard, ours: Any, tmp_path: Path, **more: Any) -> judged.Measured:
    return judged.measure(c, ours, tmp_path / "out", identity="model", reference_name="reference", **more)


def endpoint(server: FakeEndpoint, **more: Any) -> llm.EndpointBackend:
    given = {"model": "fake", "timeout_s": 5.0, "retries": 1, "concurrency": 2, **more}
    return llm.EndpointBackend([Endpoint(base_url=server.base_url, **given)])
