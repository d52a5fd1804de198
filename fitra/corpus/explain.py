"""What became of one document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fitra.artifacts import read_manifest, table_parts
from fitra.errors import FitraError
from fitra.recipe import Corpus


def explain(out: Path, id: str) -> dict[str, Any]:
    """Where document `id` of the cleaned corpus `out` is and why.

    `state` is kept, removed, quarantined or split; with it come the row's own fields (labels parsed), for a duplicate
    `cluster`: the ids removed with it, for a split document `parts`; and `rules`: every filter with the figure of this
    text, its threshold and what it says. Raises FitraError for an id that was never seen.
    """
    manifest = read_manifest(out)
    for state, name in (("kept", "documents"), ("removed", "removed")):
        for row in _rows(out, name, "id", id):
            if "labels" in row:
                row["labels"] = json.loads(row["labels"] or "{}")
            if row.get("cluster_id"):
                row["cluster"] = sorted(r["id"] for r in _rows(out, "removed", "cluster_id", row["cluster_id"]))
            if state == "kept":
                row["duplicates"] = sorted(r["id"] for r in _rows(out, "removed", "kept_id", id))
            return {"state": state, **row, "rules": _rules(manifest, row)}
    parts = sorted(r["id"] for r in _rows(out, "documents", "parent_id", id) if r["id"].startswith(f"{id}#"))
    if parts:
        return {"id": id, "state": "split", "parts": parts}
    if (out / "quarantine").is_dir():
        for row in (r for k in ("id", "where") for r in _rows(out, "quarantine", k, id)):
            return {"state": "quarantined", **row}
    raise FitraError(
        f"{out}: no document '{id}' was read.",
        "Ids are in documents/, removed/ and quarantine/; 'file:line' works too.",
    )


def _rules(manifest: dict[str, Any], row: dict[str, Any]) -> list[dict[str, Any]]:
    """What each filter measures on the text of a row and says of it, in the order they are asked."""
    from fitra.corpus import filters
    from fitra.corpus.judge import describe

    cfg = Corpus.model_validate({**manifest["config"]["corpus"], "inputs": []})
    if "quality" not in cfg.labels:
        return []
    seen = describe(cfg, row["text"])
    checked = filters.explain(
        cfg.filters, seen.figures, row.get("lang") or seen.lang, seen.confidence, seen.register, seen.variety, cfg
    )
    return [{**c._asdict(), "value": round(c.value, 4)} for c in checked if c.verdict != "off"]


def _rows(out: Path, name: str, column: str, value: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for part in table_parts(out, name):
        found += pq.read_table(part, filters=[(column, "=", value)]).to_pylist()
    return found
