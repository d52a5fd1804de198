"""From shards in input order to parts sorted by id, without holding more than one part: rows are dealt, then sorted.

The driver plans (which row goes where, under which name), workers deal a shard's rows to the parts they belong to, and
then put each part together. What was dealt or put together is not done again after a kill.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fitra.artifacts import DOCUMENT_SCHEMA, write_parquet
from fitra.corpus.dedupe import Removal
from fitra.corpus.keys import Keys
from fitra.corpus.shards import REMOVED_SCHEMA
from fitra.tables.near import Ints

PART_CHARS = 32 << 20
PART_ROWS = 50_000

SCHEMAS = {"documents": DOCUMENT_SCHEMA, "removed": REMOVED_SCHEMA}
_PLAN = pa.schema(
    [
        ("id", pa.large_string()),
        ("documents", pa.int32()),  # the part it goes to, or null
        ("removed", pa.int32()),
        ("reason", pa.string()),
        ("figure", pa.float64()),
        ("kept_id", pa.large_string()),
        ("cluster_id", pa.large_string()),
    ]
)


@dataclass(frozen=True)
class Deal:
    """Deal the rows of shard `number`."""

    number: int
    work: str


@dataclass(frozen=True)
class Merge:
    """Put part `number` of a table together."""

    number: int
    table: str  # documents or removed
    work: str
    out: str


def plan(work: Path, shards: int, keys: Keys, gone: dict[int, Removal]) -> dict[str, int]:
    """Write a plan for each shard; how many parts each table will have (at least one)."""
    stays = np.ones(len(keys), dtype=bool)
    stays[list(gone)] = False
    stays[: keys.earlier] = False
    rows = np.flatnonzero(stays)
    documents = np.full(len(keys), -1, dtype=np.int32)
    documents[rows], n_documents = _parts(keys.ids.take(pa.array(rows)), keys.chars()[rows])
    gone_rows = np.array(sorted(gone), dtype=np.int64)
    files = [work / "shards" / f"{i:05d}.removed.parquet" for i in range(shards)]
    sizes = [pq.read_table(f, columns=["chars"]).column(0).to_numpy() for f in files]
    ids = pa.concat_arrays([keys.ids.take(pa.array(gone_rows)), keys.removed_ids])
    chars = np.concatenate([keys.chars()[gone_rows], *sizes])
    removed, n_removed = _parts(ids, chars)
    by_row = np.full(len(keys), -1, dtype=np.int32)
    by_row[gone_rows] = removed[: len(gone_rows)]
    at = len(gone_rows)
    folder = work / "plan"  # made anew by every run, so it needs no care
    folder.mkdir(exist_ok=True)
    for i in range(shards):
        start, stop = keys.span(i)
        n = len(sizes[i])
        fates = [gone.get(r) for r in range(start, stop)]
        table = pa.table(
            {
                "id": keys.ids.slice(start, stop - start),
                "documents": pa.array(documents[start:stop], mask=documents[start:stop] < 0),
                "removed": pa.array(by_row[start:stop], mask=by_row[start:stop] < 0),
                "reason": [f and f.reason for f in fates],
                "figure": pa.array([f and f.figure for f in fates], pa.float64()),
                "kept_id": [f and keys.id(f.kept) for f in fates],
                "cluster_id": [f and f.cluster for f in fates],
            }
        )
        pq.write_table(table.cast(_PLAN), folder / f"{i:05d}.kept.parquet", compression="none")
        names = keys.removed_ids.slice(at - len(gone_rows), n)
        table = pa.table({"id": names, "removed": pa.array(removed[at : at + n])})
        pq.write_table(table, folder / f"{i:05d}.removed.parquet", compression="none")
        at += n
    return {"documents": n_documents, "removed": n_removed}


def _parts(ids: pa.Array, chars: Ints) -> tuple[Ints, int]:
    """The part of each row: parts follow one another in the order of ids and are of about one size."""
    if not len(ids):
        return np.empty(0, np.int64), 1
    order = pc.array_sort_indices(ids).to_numpy(zero_copy_only=False)
    before = np.cumsum(chars[order]) - chars[order]
    total = int(chars.sum())
    # Parts of equal size, as many as keep each under the limits.
    share = max(-(-total // -(-max(total, 1) // PART_CHARS)), 1)
    number = np.maximum(before // share, np.arange(len(ids)) // PART_ROWS)
    names, dense = np.unique(number, return_inverse=True)
    out = np.empty(len(ids), dtype=np.int64)
    out[order] = dense
    return out, len(names)


def deal(task: Deal) -> int:
    """Write the rows of one shard to deal/TABLE/PART/SHARD.parquet."""
    work = Path(task.work)
    done = work / "deal" / f"{task.number:05d}.done"
    if done.exists():
        return 0
    writers: dict[tuple[str, int], pq.ParquetWriter] = {}

    for name, table, parts in _rows(work, task.number):
        numbers = parts.combine_chunks()
        for part in pc.unique(numbers.drop_null()).to_pylist():
            rows = table.filter(pc.fill_null(pc.equal(numbers, part), False))
            if (name, part) not in writers:
                path = work / "deal" / name / f"{part:05d}" / f"{task.number:05d}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                writers[name, part] = pq.ParquetWriter(path, SCHEMAS[name], compression="lz4")
            writers[name, part].write_table(rows.select(SCHEMAS[name].names).cast(SCHEMAS[name]))
    for writer in writers.values():
        writer.close()
    done.parent.mkdir(parents=True, exist_ok=True)
    done.touch()
    return 0


def _rows(work: Path, number: int) -> Iterator[tuple[str, pa.Table, pa.ChunkedArray]]:
    """(table, rows, the part of each or null) for all that a shard has, piece by piece."""
    for table, how in _with_plan(work, number, "kept"):
        yield "documents", table, how["documents"]
        if how["removed"].null_count < len(how):
            fates = table.select(["id", "source", "text"]).append_column("stage", pa.array(["dedupe"] * len(table)))
            for name in ("reason", "figure", "kept_id", "cluster_id"):
                fates = fates.append_column(name, how[name])
            yield "removed", fates, how["removed"]
    for table, how in _with_plan(work, number, "removed"):
        yield "removed", table, how["removed"]


def _with_plan(work: Path, number: int, kind: str) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Row groups of a shard's table with their final ids, each with its lines of the plan."""
    how = pq.read_table(work / "plan" / f"{number:05d}.{kind}.parquet")
    at = 0
    with pq.ParquetFile(work / "shards" / f"{number:05d}.{kind}.parquet") as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            mine = how.slice(at, table.num_rows)
            at += table.num_rows
            yield table.set_column(table.schema.get_field_index("id"), "id", mine["id"].cast(pa.string())), mine


def merge(task: Merge) -> dict[str, Any]:
    """Put one part into its place; its figures."""
    final = Path(task.out) / task.table / f"part-{task.number:05d}.parquet"
    if final.exists():
        table = pq.read_table(final)
    else:
        found = list(_of_part(task))
        table = pa.concat_tables(found) if found else SCHEMAS[task.table].empty_table()
        table = table.take(pc.sort_indices(table, [("id", "ascending")])).combine_chunks()
        write_parquet(final, table)
    counts: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    classes: set[str] = set()
    if task.table == "documents":
        words = pc.struct_field(pc.extract_regex(table["labels"], r'"words":(?P<n>[0-9]+)'), "n")
        counts["kept"] = table.num_rows
        counts["chars"] = pc.sum(pc.utf8_length(table["text"])).as_py() or 0
        counts["words"] = pc.sum(words.cast(pa.int64())).as_py() or 0
        languages = _tally(table["lang"])
        classes = set(pc.unique(table["licence_class"]).to_pylist())
    else:
        counts["removed"] = table.num_rows
        counts.update({f"removed_{k}": v for k, v in _tally(table["reason"]).items()})
    return {"counts": dict(counts), "languages": dict(languages), "classes": sorted(classes, key=str)}


def _of_part(task: Merge) -> Iterator[pa.Table]:
    """The rows of a part: as dealt, or straight from the shards where so few parts need no dealing."""
    work = Path(task.work)
    if (work / "deal").is_dir():
        for path in sorted((work / "deal" / task.table / f"{task.number:05d}").glob("*.parquet")):
            yield pq.read_table(path)
        return
    for mark in sorted((work / "shards").glob("*.kept.parquet")):
        for name, table, parts in _rows(work, int(mark.name[:5])):
            if name == task.table:
                mine = pc.equal(parts.combine_chunks(), task.number)
                yield table.filter(pc.fill_null(mine, False)).select(SCHEMAS[name].names).cast(SCHEMAS[name])


def _tally(column: pa.ChunkedArray) -> Counter[str]:
    return Counter({str(v["values"]): v["counts"] for v in pc.value_counts(column).to_pylist()})


def concat_bad(work: Path, shards: int, out: Path) -> int:
    """The rows set aside by all shards, in order, as quarantine/part-*.parquet; how many."""
    files = [work / "shards" / f"{i:05d}.bad.parquet" for i in range(shards)]
    total = int(sum(pq.read_metadata(f).num_rows for f in files))
    if not total:
        return 0
    part, held = 0, list[pa.Table]()
    for n, f in enumerate(files):
        held.append(pq.read_table(f))
        if sum(t.num_rows for t in held) >= PART_ROWS or n == len(files) - 1:
            write_parquet(out / "quarantine" / f"part-{part:05d}.parquet", pa.concat_tables(held))
            part, held = part + 1, []
    return total
