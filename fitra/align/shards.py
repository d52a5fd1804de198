"""Shards of an aligned corpus: what of the corpus each holds, and how its rows and documents are put into place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fitra.artifacts import DOCUMENT_SCHEMA, write_parquet

__all__ = ["ROW_SCHEMA", "SHARD_ROWS", "Shard", "put", "shards"]

SHARD_ROWS = 2000  # what a kill may cost in repeated rule work; replies of an endpoint are in the ledger anyway
ROW_SCHEMA = pa.schema(
    [(k, pa.string()) for k in ("id", "lang", "original", "rewrite", "state", "reason", "tier", "rewriter")]
    + [(k, pa.string()) for k in ("policy_id", "policy_hash", "prompt_hash", "verdicts", "licence_class")]
    + [("spans", pa.string())]  # JSON: [start, end, kind] of what was protected in the original (characters)
    + [("keys", pa.list_(pa.string()))]  # of the ledger's answers that were asked for it
)


@dataclass(frozen=True)
class Shard:
    """Rows `start` to `start + rows` of a part of the corpus, and where what becomes of them is put."""

    index: int
    part: Path
    start: int
    rows: int
    out: Path

    @property
    def at(self) -> tuple[Path, Path]:
        """The shard's rows and documents."""
        name = f"part-{self.index:05d}.parquet"
        return self.out / "rows" / name, self.out / "documents" / name

    @property
    def done(self) -> bool:
        return self.at[1].is_file()  # written after the rows: both are there

    def read(self, first: int = 0, most: int | None = None) -> list[dict[str, Any]]:
        """Its documents, or at most so many from the `first` on."""
        rows = min(self.rows - first, self.rows if most is None else most)
        return list(_part(self.part).slice(self.start + first, rows).to_pylist())


@lru_cache(maxsize=1)
def _part(path: Path) -> pa.Table:
    return pq.read_table(path)


def shards(parts: Sequence[Path], out: Path) -> Iterator[Shard]:
    """At most SHARD_ROWS documents each, in the order of ids; a corpus out of order is sorted first, once."""
    last, in_order = "", True
    for part in parts:
        ids = pq.read_table(part, columns=["id"])["id"].combine_chunks()
        if len(ids) and (ids[0].as_py() < last or (len(ids) > 1 and pc.any(pc.less(ids[1:], ids[:-1])).as_py())):
            in_order = False
            break
        last = ids[-1].as_py() if len(ids) else last
    if not in_order:
        sorted_ = out / ".sorted.parquet"
        write_parquet(sorted_, pa.concat_tables([pq.read_table(p) for p in parts]).sort_by("id"))
        parts = [sorted_]
    index = 0
    for part in parts:
        n = pq.ParquetFile(part).metadata.num_rows
        for start in range(0, n, SHARD_ROWS):
            yield Shard(index, part, start, min(SHARD_ROWS, n - start), out)
            index += 1
    if not index:
        yield Shard(0, parts[0], 0, 0, out)


def put(shard: Shard, docs: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> None:
    kept = []
    for doc, row in zip(docs, rows, strict=True):
        if row["state"] in ("quarantine", "drop"):
            continue
        new = {k: doc.get(k) for k in DOCUMENT_SCHEMA.names}
        if row["state"] == "accept":
            new |= {"text": row["rewrite"], "parent_id": doc["id"]}
        kept.append(new)
    rows_at, docs_at = shard.at
    write_parquet(rows_at, pa.Table.from_pylist(list(rows), ROW_SCHEMA))
    write_parquet(docs_at, pa.Table.from_pylist(kept, DOCUMENT_SCHEMA))
