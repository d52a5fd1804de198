"""Taking a document out of a finished corpus for good, and finding what else was made from it.

A finished stage never changes, but for this: the right to have a text removed goes before. The manifest gets another
fingerprint, so every stage made from the corpus before is seen to be out of date.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fitra.artifacts import MANIFEST, digest, lock, read_manifest, write_json, write_parquet
from fitra.errors import FitraError

LIST = "takedowns.json"
_TABLES = ("documents", "removed", "index", "contamination")
# Columns by which a row can belong to a document: itself, a piece or rewrite of it, a copy that was removed for it.
_BELONGS = ("id", "parent_id", "kept_id")


def takedown(folder: Path, ids: Sequence[str], reason: str) -> dict[str, Any]:
    """Remove documents `ids` with their pieces and removed copies from a cleaned corpus; what was removed.

    `takedowns.json` keeps the ids and the reason, never the text. Killed and run again it finishes. Raises FitraError
    for an id that is not there, before anything is changed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    with lock(folder):
        known: dict[str, Any] = _held(folder)
        found = {i: n for i in ids if (n := sum(t.num_rows for _, t in _rows(folder, [i])))}
        if missing := [i for i in ids if i not in found and i not in known]:
            raise FitraError(f"{folder}: no document '{missing[0]}'.", "Nothing was changed. Check the ids.")
        known |= {i: {"reason": reason, "rows": found.get(i, 0)} for i in ids if i not in known}
        write_json(folder / LIST, known)  # first: from here on a kill in between is finished by running it again
        lost: dict[str, int] = {}
        for path, rows in list(_rows(folder, ids)):
            table = pq.read_table(path)
            kept = table.filter(pc.invert(_belongs(table, ids)))
            name = path.relative_to(folder).parts[0]
            lost[name] = lost.get(name, 0) + rows.num_rows
            write_parquet(path, kept)
        counts = manifest["counts"]
        for name, key in (("documents", "kept"), ("removed", "removed")):
            counts[key] = sum(pq.read_metadata(p).num_rows for p in (folder / name).glob("part-*.parquet"))
        counts["taken_down"] = len(known)
        manifest.setdefault("fingerprint_before", manifest["fingerprint"])
        manifest["fingerprint"] = digest([manifest["fingerprint_before"], sorted(known)])
        write_json(folder / MANIFEST, manifest)
    return {"taken_down": sorted(ids), "rows": lost}


def _held(folder: Path) -> dict[str, Any]:
    path = folder / LIST
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _rows(folder: Path, ids: Sequence[str]) -> Iterator[tuple[Path, pa.Table]]:
    """Files of the corpus that hold rows of `ids`, with those rows (their id columns)."""
    for name in _TABLES:
        for path in sorted((folder / name).glob("part-*.parquet")):
            table = _matches(path, ids)
            if table.num_rows:
                yield path, table


def _matches(path: Path, ids: Sequence[str]) -> pa.Table:
    columns = [c for c in _BELONGS if c in pq.read_schema(path).names]
    table = pq.read_table(path, columns=columns)
    return table.filter(_belongs(table, ids)) if columns else table.slice(0, 0)


def _belongs(table: pa.Table, ids: Sequence[str]) -> pa.Array:
    wanted = pa.array(list(ids), pa.large_string())
    hit = pa.array([False] * table.num_rows, pa.bool_())
    for name in _BELONGS:
        if name in table.column_names:
            column = table[name].cast(pa.large_string()).combine_chunks()
            # 'book#00003' is a piece of 'book'.
            whole = pc.replace_substring_regex(column, r"#[0-9]{5}$", "")
            hit = pc.or_(hit, pc.or_(pc.is_in(column, value_set=wanted), pc.is_in(whole, value_set=wanted)))
    return pc.fill_null(hit, False)


def trace(root: Path, ids: Sequence[str]) -> list[dict[str, Any]]:
    """What below `root` holds rows of documents `ids`, or was made from a stage that does.

    One entry a stage folder: folder, stage, `rows` by table (empty where it was only made from one that has some).
    """
    stages = {p.parent.resolve(): read_manifest(p.parent) for p in sorted(Path(root).rglob(MANIFEST))}
    out: dict[Path, dict[str, Any]] = {}
    for folder, manifest in stages.items():
        rows: dict[str, int] = {}
        for path in sorted(folder.rglob("*.parquet")):
            if any(p.startswith(".") for p in path.relative_to(folder).parts):
                continue
            if n := _matches(path, ids).num_rows:
                name = path.relative_to(folder).parts[0]
                rows[name] = rows.get(name, 0) + n
        if rows:
            out[folder] = {"folder": str(folder), "stage": manifest["stage"], "rows": rows}
    grown = True
    while grown:  # what was made from it, then what was made from that
        grown = False
        for folder, manifest in stages.items():
            made_from = [Path(p).resolve() for p in _paths(manifest.get("inputs", {}))]
            if folder not in out and any(a == b or a in b.parents for a in out for b in made_from):
                out[folder] = {"folder": str(folder), "stage": manifest["stage"], "rows": {}}
                grown = True
    return [out[f] for f in sorted(out)]


def _paths(inputs: dict[str, Any]) -> Iterator[str]:
    for value in inputs.values():
        yield from value if isinstance(value, list) else [value]
