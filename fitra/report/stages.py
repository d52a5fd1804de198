"""Read a finished or half-finished run: `run.json`, the stages' manifests, tables and JSON files.

A run may stop anywhere, so nothing but `run.json` is required. What is missing reads as None or empty; what is there
but damaged is named in `problem`, so that a page never passes silently over it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fitra.artifacts import read_manifest, read_table, table_parts
from fitra.errors import FitraError

ORDER = (
    "world", "corpus", "align", "base", "vocab",
    "pretrain-original", "pretrain-aligned", "sft-original", "sft-aligned", "prefer-original", "prefer-aligned",
    "eval-base", "eval-original", "eval-aligned", "eval-sft-original", "eval-sft-aligned",
    "eval-prefer-original", "eval-prefer-aligned",
)  # fmt: skip


@dataclass
class Stage:
    """One stage of a run: `seconds` of wall time; `manifest` is empty and `problem` says why when it is unfinished."""

    name: str
    folder: Path
    seconds: float = 0.0
    skipped: bool = False
    manifest: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def counts(self) -> dict[str, Any]:
        """The manifest's counts."""
        found = self.manifest.get("counts")
        return found if isinstance(found, dict) else {}

    @property
    def config(self) -> dict[str, Any]:
        """The manifest's config (secrets masked)."""
        found = self.manifest.get("config")
        return found if isinstance(found, dict) else {}

    @property
    def notes(self) -> dict[str, Any]:
        """The manifest's notes."""
        found = self.manifest.get("notes")
        return found if isinstance(found, dict) else {}


@dataclass
class Run:
    """A run: its name, the recipe as written, its stages in the order of the path of a document."""

    name: str
    recipe: str
    stages: dict[str, Stage]

    def stage(self, name: str) -> Stage | None:
        """A finished stage, or None."""
        found = self.stages.get(name)
        return found if found and found.manifest else None

    def starting(self, prefix: str) -> list[Stage]:
        """The finished stages whose name is `prefix-...`."""
        return [s for n, s in self.stages.items() if n.startswith(prefix + "-") and s.manifest]


def load(run_json: Path) -> Run:
    """Read a run. Raises FitraError when `run.json` is missing, damaged or of another shape."""
    try:
        value = json.loads(Path(run_json).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FitraError(
            f"{run_json}: no such file.", "Give the run.json in the folder `fitra run` wrote to."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise FitraError(f"{run_json}: not valid JSON.", "Run `fitra run` again; it writes this file anew.") from None
    stages = value.get("stages") if isinstance(value, dict) else None
    if not isinstance(stages, dict) or any(not isinstance(s, dict) or "folder" not in s for s in stages.values()):
        raise FitraError(f"{run_json}: not a run (expected 'name', 'recipe' and 'stages', each with a 'folder').")
    rank = {n: i for i, n in enumerate(ORDER)}
    names = sorted(stages, key=lambda n: (rank.get(n, len(ORDER)), n))
    found = {n: _stage(n, stages[n], Path(run_json).parent) for n in names}
    return Run(str(value.get("name", "")), str(value.get("recipe", "")), found)


def _stage(name: str, value: dict[str, Any], parent: Path) -> Stage:
    stage = Stage(name, parent / str(value["folder"]), number(value.get("seconds")) or 0.0, bool(value.get("skipped")))
    try:
        stage.manifest = read_manifest(stage.folder)
    except (FitraError, OSError) as e:
        stage.problem = e.message if isinstance(e, FitraError) else str(e)
    return stage


def number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def json_file(stage: Stage, name: str) -> Any:
    """A JSON file of a stage; None when it is not there. Raises FitraError when it is damaged."""
    path = stage.folder / name
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise FitraError(f"{path}: not valid JSON.", "Delete the stage's folder and run it again.") from None


def log(stage: Stage, name: str = "log.jsonl") -> list[dict[str, Any]]:
    """The objects of a JSON-lines log; empty when there is no log. A last line cut off by a kill is left out."""
    path = stage.folder / name
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    out = []
    for i, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            if i == len(lines) - 1:
                break
            raise FitraError(f"{path}, line {i + 1}: not valid JSON.", "Run the stage again.") from None
        if isinstance(value, dict):
            out.append(value)
    return out


def rows(stage: Stage, name: str, columns: Sequence[str]) -> list[dict[str, Any]] | None:
    """The rows of a table with those of `columns` that it has; None when the stage has no such table."""
    try:
        parts = table_parts(stage.folder, name)
    except FitraError:
        return None
    have = set(pq.read_schema(parts[0]).names)
    table = read_table(stage.folder, name, columns=[c for c in columns if c in have])
    return list(table.to_pylist())


def length(stage: Stage, name: str) -> int | None:
    """How many rows a table has, from the files' footers; None when the stage has no such table."""
    try:
        return sum(int(pq.read_metadata(p).num_rows) for p in table_parts(stage.folder, name))
    except FitraError:
        return None


def tally(stage: Stage, name: str, columns: Sequence[str]) -> dict[tuple[str, ...], int] | None:
    """Counts of the distinct values of `columns` in a table, in falling order; None when there is no such table.

    Grouped inside Arrow: a corpus of many millions of rows must not become Python objects.
    """
    try:
        parts = table_parts(stage.folder, name)
    except FitraError:
        return None
    have = set(pq.read_schema(parts[0]).names)
    if not set(columns) <= have:
        return None
    table = read_table(stage.folder, name, columns=list(columns))
    grouped = table.group_by(list(columns)).aggregate([([], "count_all")]).to_pylist()
    counts = {tuple(str(r[c] if r[c] is not None else "") for c in columns): int(r["count_all"]) for r in grouped}
    return dict(sorted(counts.items(), key=lambda kv: (-kv[1], kv[0])))


def spread(row: dict[str, Any]) -> str:
    """A sort key that picks the same rows on every run, and not the first ones of a source."""
    return hashlib.sha256(str(row.get("id", "")).encode("utf-8", "replace")).hexdigest()


def sample(
    stage: Stage,
    name: str,
    columns: Sequence[str],
    group: Callable[[dict[str, Any]], str],
    per_group: int | Callable[[str], int],
    keys: Sequence[str],
) -> list[dict[str, Any]]:
    """Up to `per_group` rows of each group, chosen by a hash of the id; only the chosen rows are read whole.

    `keys` are the cheap columns (with `id`) that `group` looks at; `columns` are what comes back.
    """
    try:
        parts = table_parts(stage.folder, name)
    except FitraError:
        return []
    have = set(pq.read_schema(parts[0]).names)
    best: dict[str, list[tuple[str, int, int]]] = {}
    for p, part in enumerate(parts):
        cheap = pq.read_table(part, columns=[k for k in ("id", *keys) if k in have])
        for i, row in enumerate(cheap.to_pylist()):
            name_of = group(row)
            held = best.setdefault(name_of, [])
            held.append((spread(row), p, i))
            limit = per_group(name_of) if callable(per_group) else per_group
            if len(held) > 4 * limit + 64:
                held[:] = sorted(held)[:limit]
    wanted: list[tuple[int, int]] = []
    for name_of in best:
        limit = per_group(name_of) if callable(per_group) else per_group
        wanted += [(p, i) for _, p, i in sorted(best[name_of])[:limit]]
    out: list[dict[str, Any]] = []
    for p in sorted({p for p, _ in wanted}):
        table = pq.read_table(parts[p], columns=[c for c in columns if c in have])
        out += table.take(sorted(i for q, i in wanted if q == p)).to_pylist()
    return out


def mean(values: Iterable[float]) -> float | None:
    """The arithmetic mean; None of nothing."""
    held = list(values)
    return sum(held) / len(held) if held else None
