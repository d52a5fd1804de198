"""Outputs of judged sets: judged/ (one row a question), judgements/ (one a reply, as it came), and rows for items/."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from fitra.artifacts import Stage, canonical_json
from fitra.evaluate.judged.measure import Measured

__all__ = ["JUDGED_SCHEMA", "JUDGEMENT_SCHEMA", "items", "write"]

_TEXTS = pa.list_(pa.string())
JUDGED_SCHEMA = pa.schema(
    [
        *((c, pa.string()) for c in ("task", "id", "cluster", "category", "region", "wants")),
        *((c, _TEXTS) for c in ("prompt", "answer", "gold", "reference", "orders")),
        ("draws", pa.int64()),
        ("scores", pa.string()),  # JSON: aspect -> {values: [[draw, turn, score, reference's score]], verdict}
        *((c, pa.string()) for c in ("verdict", "refusal", "refusal_phrase")),
        ("steers", pa.bool_()),
        ("unparsed", pa.int64()),
        ("failed", pa.int64()),
        ("parts", pa.list_(pa.float64())),  # (numerator, denominator) by metrics.METRICS
    ]
)
JUDGEMENT_SCHEMA = pa.schema(
    [
        *((c, pa.string()) for c in ("task", "id", "aspect")),
        ("turn", pa.int64()),
        ("order", pa.string()),
        ("draw", pa.int64()),
        ("score", pa.float64()),
        ("reference_score", pa.float64()),
        ("reply", pa.string()),
        ("error", pa.string()),
    ]
)


def write(st: Stage, measured: Sequence[Measured]) -> None:
    """Write both tables into a stage, in order of task and question."""
    done = sorted(measured, key=lambda m: m.card.task)
    rows = [{**r, "scores": canonical_json(r["aspects"])} for m in done for r in m.rows]
    replies = [{**r, "reply": _clean(r["reply"])} for m in done for r in m.judgements]
    st.write_table("judged", _table(rows, JUDGED_SCHEMA))
    st.write_table("judgements", _table(replies, JUDGEMENT_SCHEMA))
    for m in done:
        st.counts[f"{m.card.task}: unparsed replies"] = sum(r["unparsed"] for r in m.rows)


def _table(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([{k: r[k] for k in schema.names} for r in rows], schema=schema)


def _clean(text: str) -> str:
    """Lone surrogates, which a server may send, cannot be stored as UTF-8."""
    return text.encode("utf-8", "replace").decode()


def items(measured: Measured) -> list[dict[str, Any]]:
    """Rows for items/, so that `compare` can subtract two models question by question."""
    return [
        {
            "task": r["task"],
            "id": r["id"],
            "slices": [],
            "cluster": r["cluster"],
            "prompt": "\n\n".join(r["prompt"]),
            "options": r["reference"],
            "scores": [sum(v[2] for v in a["values"]) / len(a["values"]) for a in r["aspects"].values() if a["values"]],
            "gold": None,
            "predicted": None,
            "correct": None,
            "parts": r["parts"],
            "category": r["category"],
            "defects": [],
            "output": "\n\n".join(r["answer"]),
            "lengths": [],
            "bare_scores": [],
        }
        for r in measured.rows
    ]
