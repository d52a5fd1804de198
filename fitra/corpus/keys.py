"""What is compared: per document its id, length and hashes, a column at a time.

Each shard leaves a file of keys beside its documents. Rows are numbered through all files in order, those of earlier
runs first. In memory: the ids (Arrow), and whichever column is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fitra.recipe import Dedupe
from fitra.tables import near


def schema(cfg: Dedupe) -> pa.Schema:
    """Columns of a file of keys; a document of fewer words than an n-gram has null bands."""
    columns = [
        ("id", pa.large_string()),
        ("chars", pa.int64()),  # of the text
        ("hi", pa.uint64()),  # the 128-bit hash of the folded text
        ("lo", pa.uint64()),
        ("url", pa.uint64()),  # of the canonical address; 0: none
    ]
    if cfg.near:
        columns += [(f"band{b:02d}", pa.uint64()) for b in range(cfg.bands)]
        columns.append(("signature", pa.binary(4 * cfg.bands * cfg.rows)))
    return pa.schema(columns)


class Keys:
    """The keys of several files as one table; `earlier` rows, of the files named first, come from earlier runs."""

    def __init__(
        self, files: Sequence[Path], earlier_files: Sequence[Path] = (), removed_files: Sequence[Path] = ()
    ) -> None:
        self.files, self.first = [*earlier_files, *files], len(earlier_files)
        sizes = [pq.read_metadata(f).num_rows for f in self.files]
        self.starts = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
        self.earlier = int(self.starts[len(earlier_files)])
        n = int(self.starts[-1])
        # Those that a filter removed are named too: an id points to one document, wherever it ended.
        gone = [pq.read_table(f, columns=["id"]).column(0).cast(pa.large_string()) for f in removed_files]
        named = _unique(pa.concat_arrays([self._read("id"), *(c for g in gone for c in g.chunks)]), self.earlier)
        self.ids, self.removed_ids = named.slice(0, n), named.slice(n)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def span(self, shard: int) -> tuple[int, int]:
        """First row and end of a shard of this run."""
        return int(self.starts[self.first + shard]), int(self.starts[self.first + shard + 1])

    def _read(self, name: str) -> pa.Array:
        parts = [pq.read_table(f, columns=[name]).column(0) for f in self.files]
        chunks = [c for p in parts for c in p.chunks]
        return pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_string() if name == "id" else pa.uint64())

    def id(self, row: int) -> str:
        """The id of a row, unique among the new ones."""
        return str(self.ids[row])

    def chars(self) -> near.Ints:
        """Characters of all rows."""
        return np.asarray(self._read("chars").to_numpy(zero_copy_only=False), dtype=np.int64)

    def hashes(self, name: str) -> near.Hashes:
        """hi, lo or url of all rows."""
        return np.asarray(self._read(name).to_numpy(zero_copy_only=False), dtype=np.uint64)

    def band(self, band: int) -> tuple[near.Hashes, near.Ints]:
        """The hashes of one band and the rows that have one (long enough for an n-gram), ascending."""
        column = self._read(f"band{band:02d}")
        rows = np.flatnonzero(pc.is_valid(column).to_numpy(zero_copy_only=False))
        return np.asarray(column.drop_null().to_numpy(zero_copy_only=False), dtype=np.uint64), rows

    def signatures(self, rows: near.Ints) -> near.Signatures:
        """Signatures (len(rows), hashes) of some rows, ascending; a file is held at a time."""
        out: list[near.Signatures] = []
        for i, path in enumerate(self.files):
            low, high = np.searchsorted(rows, self.starts[i : i + 2])
            if low == high:
                continue
            column = pq.read_table(path, columns=["signature"]).column(0).combine_chunks()
            column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
            found = column.take(pa.array(rows[low:high] - self.starts[i]))
            width = found.type.byte_width
            raw = np.frombuffer(found.buffers()[1], dtype=np.uint8)
            raw = raw[found.offset * width : (found.offset + len(found)) * width]
            out.append(raw.view("<u4").reshape(len(found), -1))
        return np.concatenate(out)


def _unique(ids: pa.Array, earlier: int) -> pa.Array:
    """Ids made unique among the new rows: the second 'a' becomes 'a-2', or the next name that is free."""
    new = ids.slice(earlier)
    order = pc.array_sort_indices(new)  # stable: equal ids stay in row order
    ordered = new.take(order)
    if len(new) < 2:
        return ids
    repeats = pc.equal(ordered.slice(1), ordered.slice(0, len(new) - 1)).to_numpy(zero_copy_only=False)
    rows = np.asarray(order.to_numpy(zero_copy_only=False))[1:][repeats]
    if not len(rows):
        return ids
    names, counts, taken = [], dict[str, int](), set[str]()
    for name in new.take(pa.array(rows)).to_pylist():
        n = counts.get(name, 1) + 1
        while f"{name}-{n}" in taken or _has(ordered, f"{name}-{n}"):
            n += 1
        counts[name] = n
        taken.add(f"{name}-{n}")
        names.append(f"{name}-{n}")
    by_row = np.argsort(rows)
    mask = np.zeros(len(ids), dtype=bool)
    mask[rows + earlier] = True
    return pc.replace_with_mask(ids, pa.array(mask), pa.array([names[i] for i in by_row.tolist()], pa.large_string()))


def _has(ordered: pa.Array, name: str) -> bool:
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        if str(ordered[middle]) < name:
            low = middle + 1
        else:
            high = middle
    return low < len(ordered) and str(ordered[low]) == name
