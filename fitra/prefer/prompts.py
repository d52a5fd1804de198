"""Prompt files: parquet or JSON lines with a column `prompt` (or `instruction`)."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fitra.artifacts import worst_licence
from fitra.errors import FitraError

Row = dict[str, Any]


def read(paths: Sequence[Path], limit: int | None, given: bool) -> tuple[list[Row], list[dict[str, str]]]:
    """Rows (id, prompt; chosen and rejected when `given`) in order of id, and the rows set aside.

    The same prompt counts once (with the same pair, when given). With a limit, rows are chosen by the hash of their
    id and prompt. Raises FitraError for a missing file or column, an unknown kind of file, or no row at all.
    """
    rows: dict[tuple[str, ...], Row] = {}
    aside: list[dict[str, str]] = []
    seen: Counter[str] = Counter()
    for path in paths:
        for where, raw in _rows(Path(path), given, aside):
            fields = [raw.get("prompt") or raw.get("instruction"), *((raw["chosen"], raw["rejected"]) if given else ())]
            rid = str(raw.get("id") or where)
            problem = _problem(fields)
            if problem:
                aside.append({"id": rid, "where": str(path), "reason": problem})
                continue
            key = tuple(str(f) for f in fields)
            if key in rows:
                continue
            seen[rid] += 1
            rid = rid if seen[rid] == 1 else f"{rid}#{seen[rid]}"
            rows[key] = {"id": rid, **dict(zip(("prompt", "chosen", "rejected"), key, strict=False))}
    if not rows:
        raise FitraError(f"no prompt in {', '.join(map(str, paths)) or 'no file'}.", "Give prefer.prompts.")
    chosen = sorted(rows.values(), key=lambda r: str(r["id"]))
    if limit is not None and len(chosen) > limit:
        chosen.sort(key=lambda r: (hashlib.sha256(f"{r['id']}\0{r['prompt']}".encode()).digest(), r["id"]))
        chosen = sorted(chosen[:limit], key=lambda r: str(r["id"]))
    return chosen, aside


def licence(paths: Sequence[Path]) -> str:
    """The worst class in the column `licence_class` of these files; a file without it counts as D."""
    classes: list[str | None] = []
    for path in paths:
        classes += [raw.get("licence_class") for _, raw in _rows(Path(path), False, [])] or [None]
    return worst_licence(classes)


def _problem(fields: Sequence[Any]) -> str:
    for name, value in zip(("prompt", "chosen", "rejected"), fields, strict=False):
        if not isinstance(value, str) or not value.strip():
            return f"'{name}' is empty or no text"
    return "chosen and rejected are the same" if len(fields) == 3 and fields[1] == fields[2] else ""


def _rows(path: Path, given: bool, aside: list[dict[str, str]]) -> list[tuple[str, Row]]:
    """(where, row) of one file; lines that are no JSON object are set aside."""
    if not path.is_file():
        raise FitraError(f"{path}: no such file of prompts.", "Check the path in the recipe.")
    if path.suffix == ".parquet":
        try:
            table = pq.read_table(path)
        except (pa.ArrowInvalid, OSError):
            raise FitraError(f"{path}: not a readable parquet file.", "Write it anew.") from None
        _check(path, table.column_names, given)
        return [(f"{path.stem}-{n:06d}", row) for n, row in enumerate(table.to_pylist())]
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise FitraError(f"{path}: neither .parquet nor .jsonl(.gz).", "Convert the prompts to one of them.")
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as f:
            lines = f.read().splitlines()
    except (OSError, EOFError):
        raise FitraError(f"{path}: not readable.", "Write it anew.") from None
    rows = []
    for n, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            aside.append({"id": f"line {n}", "where": str(path), "reason": "not a JSON object"})
            continue
        rows.append((f"{path.name.split('.')[0]}-{n:06d}", value))
    if rows:
        _check(path, list(dict.fromkeys(k for _, r in rows for k in r)), given)
        if given:
            rows = [(w, {"chosen": None, "rejected": None, **r}) for w, r in rows]
    return rows


def _check(path: Path, have: Sequence[str], given: bool) -> None:
    if not {"prompt", "instruction"} & set(have):
        raise FitraError(f"{path}: no column 'prompt' (or 'instruction').", f"The file has: {', '.join(have)}.")
    missing = [c for c in ("chosen", "rejected") if given and c not in have]
    if missing:
        raise FitraError(f"{path}: no column '{missing[0]}', which prefer.judge: given needs.", "Use judge: embedded.")
