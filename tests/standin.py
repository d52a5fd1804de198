"""Stand-in models and small inputs for the tests of the synth room."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fake_endpoint import FakeEndpoint

from fitra.artifacts import DOCUMENT_SCHEMA, open_stage, read_table

KEY = "sk-canary-0123456789"
Reply = Callable[[str], str]


def told(request: dict[str, Any]) -> str:
    """The text between the markers of a request's first turn."""
    user = next(m["content"] for m in request["messages"] if m["role"] == "user")
    found = re.fullmatch(r"<<<([0-9a-f]{8})\n(.*)\n\1>>>", user, re.S)
    assert found, user
    return found[2]


def serving(reply: Reply, latency: float = 0.0) -> FakeEndpoint:
    return FakeEndpoint(lambda request, seen: reply(told(request)), latency)


def at(s: Any, **more: Any) -> dict[str, Any]:
    return {"endpoint": {"base_url": s.base_url, "model": "stand-in", "api_key": KEY, "retries": 1, **more}}


def documents(path: Path, texts: list[str], **more: Any) -> Path:
    rows = [{"id": f"d{i:03d}", "text": t, "lang": "en", "licence_class": "B", **more} for i, t in enumerate(texts)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def stage(path: Path, texts: list[str], lang: str = "en") -> Path:
    rows = [{"id": f"d{i:03d}", "text": t, "lang": lang, "licence_class": "A", "source": "s", "url": "u"}
            for i, t in enumerate(texts)]  # fmt: skip
    with open_stage(path, stage="corpus", config={}, inputs={}) as st:
        st.write_parquet("documents/part-00000.parquet", pa.Table.from_pylist(rows, DOCUMENT_SCHEMA))
    return path


def rows_of(out: Path) -> list[dict[str, Any]]:
    return list(read_table(out, "rows").to_pylist())


def data_files(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*.parquet"))}


def questions(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows), encoding="utf-8")
    return path
