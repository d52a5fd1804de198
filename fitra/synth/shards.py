"""Rows in shards that are put into place one by one: a killed run keeps those it finished.

A table that must be one file (`parallel.parquet`, `instructions.parquet`) is collected in a hidden folder, shard by
shard, and joined at the end.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from fitra.artifacts import Stage, atomic_path, write_parquet, write_text
from fitra.progress import track
from fitra.synth.ask import Asker

__all__ = ["MERGED", "ROW_SCHEMA", "groups", "merge", "same_run", "work"]

SHARD_ROWS = 2000  # what a kill may cost in repeated judging; replies are in the ledger anyway
BATCH_SHARDS = 25  # of these are asked together through the batch API
HELD = ".parts"
MERGED = ("parallel", "instructions")
ROW_SCHEMA = pa.schema(
    [(k, pa.string()) for k in ("id", "lang", "target", "source", "result", "state", "reason", "model", "verdicts")]
    + [("licence_class", pa.string()), ("keys", pa.list_(pa.string()))]  # of the ledger's answers
)
T = TypeVar("T")
Made = Mapping[str, pa.Table]


def same_run(out: Path, fingerprint: str) -> None:
    """Keep the finished shards of a killed run if it was this very one, else remove them."""
    mark = out / ".run"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != fingerprint:
        for name in ("rows", "documents", HELD):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in MERGED:
            (out / f"{name}.parquet").unlink(missing_ok=True)
        write_text(mark, fingerprint)


def groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items; one empty list where there are none."""
    it, seen = iter(items), False
    while part := list(islice(it, size)):
        seen = True
        yield part
    if not seen:
        yield []


def work(
    st: Stage, items: Iterable[T], total: int, batch: bool, make: Callable[[list[T]], list[Made]], name: str
) -> Iterator[pa.Table]:
    """Make what is not there yet and yield the rows of every shard, in order.

    `make` gets the items of one shard, or with `batch` those of several, and gives for each SHARD_ROWS of them the
    tables by name, "rows" among them.
    """
    step = SHARD_ROWS * (BATCH_SHARDS if batch else 1)
    number = 0
    bar = track(range(total), name, total)
    for group in groups(items, step):
        count = max(1, -(-len(group) // SHARD_ROWS))
        paths = [st.out / "rows" / f"part-{number + i:05d}.parquet" for i in range(count)]
        made: Sequence[Made | None] = [None] * count if all(p.is_file() for p in paths) else make(group)
        for i, tables in enumerate(made):
            if tables is not None and not paths[i].is_file():
                for table, rows in tables.items():
                    if table != "rows":
                        held = f"{HELD}/{table}" if table in MERGED else table
                        write_parquet(st.out / held / f"part-{number + i:05d}.parquet", rows)
                write_parquet(paths[i], tables["rows"])  # last: the others are there
            yield pq.read_table(paths[i])
        number += count
        for _ in group:
            next(bar, None)


def merge(out: Path) -> None:
    """Join what was collected into one file for each table, and remove the pieces."""
    for folder in sorted((out / HELD).glob("*")):
        parts = sorted(folder.glob("part-*.parquet"))
        with atomic_path(out / f"{folder.name}.parquet") as tmp:
            schema = pq.read_schema(parts[0])
            with pq.ParquetWriter(tmp, schema, compression="zstd") as writer:
                for part in parts:
                    writer.write_table(pq.read_table(part))
    if (out / HELD).is_dir():
        # Away in one step: what a kill leaves of a half-removed folder would be joined again as the whole.
        shutil.rmtree(out / f"{HELD}.joined", ignore_errors=True)
        os.replace(out / HELD, out / f"{HELD}.joined")
    shutil.rmtree(out / f"{HELD}.joined", ignore_errors=True)


def table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table of a schema; what the schema does not name is left out."""
    return pa.Table.from_pylist([{k: r.get(k) for k in schema.names} for r in rows], schema)


def kinds(rows: pa.Table) -> Iterator[str]:
    """ "state: kind of reason" of every row that is not accepted."""
    for state, reason in zip(rows["state"].to_pylist(), rows["reason"].to_pylist(), strict=True):
        if state != "accept":
            yield f"{state}: {reason.split(':')[0]}"


def finish(
    st: Stage, bad: Sequence[Mapping[str, str]], counts: Mapping[str, int], reasons: Mapping[str, int], asker: Asker
) -> None:
    """Counts and notes of the manifest, and the quarantine: input rows that could not be read, and rows without a
    usable reply."""
    aside = [{**b, "reason": f"input: {b['reason']}"} for b in bad]
    for path in sorted((st.out / "rows").glob("part-*.parquet")):
        rows = pq.read_table(path, columns=["id", "state", "reason"]).to_pylist()
        aside += [{"id": r["id"], "where": f"rows/{path.name}", "reason": r["reason"]} for r in rows
                  if r["state"] == "quarantine"]  # fmt: skip
    st.counts.update({k: counts.get(k, 0) for k in ("accept", "refused", "quarantine")})
    st.counts["quarantine"] += len(bad)
    st.counts["rows"] = sum(counts.values()) + len(bad)
    if aside:
        st.quarantine(aside)
    st.notes["reasons"] = dict(sorted(reasons.items())) | ({"quarantine: input": len(bad)} if bad else {})
    st.notes["model"] = asker.identity
    st.notes["asked"] = asker.asked()
