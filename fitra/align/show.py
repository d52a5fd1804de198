"""One document of an aligned corpus for reading in a terminal: what became of it, why, and what changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset as ds

from fitra.align.diff import diff, terminal_safe
from fitra.align.shards import ROW_SCHEMA
from fitra.artifacts import table_parts
from fitra.errors import FitraError

__all__ = ["find", "lines"]

_COLOURS = {"same": "", "gone": "\x1b[31;9m", "new": "\x1b[32m"}
_MARKS = {"same": ("", ""), "gone": ("[-", "-]"), "new": ("{+", "+}")}
_OFF = "\x1b[0m"


def find(stage: Path, doc_id: str) -> dict[str, Any]:
    """The row of a document, by its id or the only id that begins so; shards of a running stage are read too.

    Raises FitraError where there is none, or more than one.
    """
    rows = ds.dataset([str(p) for p in table_parts(stage, "rows")], schema=ROW_SCHEMA)
    found = rows.to_table(filter=pc.field("id") == doc_id).to_pylist()
    if not found:
        starts = pc.starts_with(pc.field("id"), doc_id)
        ids = rows.to_table(columns=["id"], filter=starts)["id"].to_pylist()
        if len(ids) == 1:
            found = rows.to_table(filter=pc.field("id") == ids[0]).to_pylist()
        elif ids:
            raise FitraError(f"{len(ids)} documents begin with '{doc_id}', such as {ids[0]} and {ids[1]}.", "Say more.")
    if not found:
        raise FitraError(f"{stage}: no document '{doc_id}'.", "Ids are in rows/, column id.")
    return dict(found[0])


def lines(row: dict[str, Any], *, colour: bool = True) -> list[str]:
    """The row for a terminal. Nothing of the corpus or a model can steer it: `terminal_safe` goes over all of it.

    Without `colour` what went stands in [- -] and what came in {+ +}.
    """
    safe = terminal_safe
    out = [f"{safe(row['id'])}: {row['state']} ({row['tier']})", f"  why: {safe(row['reason'])}"]
    out.append(f"  by: {safe(row['rewriter'])}, policy {safe(row['policy_id'])} {row['policy_hash'][:12]}")
    for verdict in json.loads(row["verdicts"]):
        if not verdict["passed"]:
            detail = f": {safe(verdict['detail'])}" if verdict.get("detail") else ""
            out.append(
                f"  refused by {verdict['gate']} ({verdict['figure']:g}, limit {verdict['threshold']:g}){detail}"
            )
    kinds = [kind for _, _, kind in json.loads(row["spans"])]
    if kinds:
        counts = ", ".join(f"{kinds.count(k)} {k}" for k in sorted(set(kinds)))
        out.append(f"  protected: {counts}")
    out.append("")
    before, after = row["original"], row["rewrite"]
    if after is None or after == before:
        return [*out, safe(before)]
    pieces = []
    for kind, text in diff(before, after):
        text = safe(text)
        if colour and _COLOURS[kind]:
            text = f"{_COLOURS[kind]}{text}{_OFF}"
        elif not colour:
            text = text.join(_MARKS[kind])
        pieces.append(text)
    return [*out, "".join(pieces)]
