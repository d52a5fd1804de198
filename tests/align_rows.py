"""Rows of an alignment made by hand, for the tests of its figures and of its page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fitra import policy
from fitra.align import ROW_SCHEMA
from fitra.artifacts import open_stage

POLICY = policy.load()
SCHEMA = ROW_SCHEMA if "tier" in ROW_SCHEMA.names else ROW_SCHEMA.append(pa.field("tier", pa.string()))


def verdict(gate: str, passed: bool = True, figure: float = 0.0, **more: Any) -> dict[str, Any]:
    return {"gate": gate, "passed": passed, "figure": figure, "threshold": 0.0, **more}


def row(ident: str, original: str, rewrite: str | None, state: str = "accept", **more: Any) -> dict[str, Any]:
    """A row; `verdicts` may be a list."""
    given = more.pop("verdicts", [])
    return {
        **dict.fromkeys(SCHEMA.names),
        "id": ident, "lang": "ar", "original": original, "rewrite": rewrite, "state": state, "reason": "format",
        "tier": "rules", "rewriter": "rules", "policy_id": POLICY.id, "policy_hash": POLICY.hash, "spans": "[]",
        "licence_class": "A", "keys": [],
        "verdicts": given if isinstance(given, str) else json.dumps(given, ensure_ascii=False),
        **more,
    }  # fmt: skip


def stage(
    folder: Path, rows: Sequence[dict[str, Any]], notes: dict[str, Any] | None = None, schema: pa.Schema = SCHEMA
) -> Path:
    """A finished align stage with these rows, in parts of 40."""
    with open_stage(folder, stage="align", config={}, inputs={}, licence_class="A") as st:
        st.write_table("rows", pa.Table.from_pylist(list(rows), schema=schema), rows_per_part=40)
        st.counts |= {"documents": len(rows)}
        st.notes.update(notes or {})
    return folder
