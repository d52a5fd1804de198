"""The relational work that Daft does: MinHash, bands, grouping.

Everything that compares rows with rows goes through Daft, and only here, so that a change of its interface touches
one file. Daft is imported when first needed; its telemetry is off.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Ints = npt.NDArray[np.int64]


def _daft() -> Any:
    # Set before the import: Daft reads them then.
    os.environ["DAFT_ANALYTICS_ENABLED"] = "0"
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["SCARF_NO_ANALYTICS"] = "true"
    os.environ["DAFT_PROGRESS_BAR"] = "0"
    import daft

    return daft


@dataclass
class Near:
    """Candidate pairs of near duplicates, and the MinHash signatures of the rows in them."""

    edges: Ints  # (pairs, 2), row numbers, the smaller first, unique and sorted
    rows: Ints  # row numbers in `edges`, sorted
    signatures: npt.NDArray[np.uint32]  # (len(rows), bands * rows per band)

    def similarity(self, row: int, others: Sequence[int]) -> npt.NDArray[np.float64]:
        """Estimated Jaccard similarity of the n-gram sets: the share of equal hashes."""
        at = np.searchsorted(self.rows, np.array([row, *others], dtype=np.int64))
        found = self.signatures[at]
        return np.asarray((found[1:] == found[0]).mean(axis=1), dtype=np.float64)


def near_pairs(
    files: Sequence[Path], work: Path, *, bands: int, rows: int, ngram: int, seed: int = 1, column: str = "folded"
) -> Near:
    """Pairs of rows that share a band of their MinHash signatures (Leskovec et al., Mining of Massive Datasets, 3.4).

    `files` are parquet with `row` (int64) and `column`, whose words are separated by single U+0020; a row of fewer
    than `ngram` words is never a candidate. Pairs are stars: each row of a bucket with the bucket's first row.
    """
    daft = _daft()
    col, fn = daft.col, daft.functions
    folder = work / "signatures"
    texts = daft.read_parquet([str(f) for f in files]).where(col("words") >= ngram)
    signature = col(column).minhash(num_hashes=bands * rows, ngram_size=ngram, seed=seed, hash_function="xxhash3_64")
    texts.select(col("row"), signature.alias("signature")).write_parquet(str(folder))
    if not any(pq.read_metadata(p).num_rows for p in folder.glob("*.parquet")):
        width = bands * rows
        return Near(np.empty((0, 2), np.int64), np.empty(0, np.int64), np.empty((0, width), np.uint32))
    # Hashes of different bands come from different permutations, so a band needs no number beside its hash.
    banded = (
        daft.read_parquet(str(folder / "*.parquet"))
        .select(col("row"), fn.chunk(col("signature"), rows).alias("band"))
        .explode("band")
        .select(col("row"), col("band").hash().alias("band"))
    )
    stars = (
        banded.groupby("band")
        .agg(col("row").min().alias("first"), col("row").list_agg().alias("row"), col("row").count().alias("n"))
        .where(col("n") > 1)
        .select("first", "row")
        .explode("row")
        .to_arrow()
    )
    edges = np.stack([stars[c].to_numpy().astype(np.int64) for c in ("first", "row")], axis=1)
    edges = np.unique(edges[edges[:, 0] != edges[:, 1]], axis=0)
    wanted = np.unique(edges)
    return Near(edges, wanted, _signatures(folder, wanted, bands * rows))


def _signatures(folder: Path, wanted: Ints, width: int) -> npt.NDArray[np.uint32]:
    out = np.zeros((len(wanted), width), dtype=np.uint32)
    for path in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for part in file.iter_batches(batch_size=65536):
                numbers = part["row"].to_numpy(zero_copy_only=False)
                hit = np.flatnonzero(np.isin(numbers, wanted))
                values = pc.list_flatten(part["signature"].take(pa.array(hit))).to_numpy(zero_copy_only=False)
                out[np.searchsorted(wanted, numbers[hit])] = values.reshape(len(hit), width)
    return out


def components(edges: Ints) -> dict[int, int]:
    """Connected components by union-find: row to the smallest row of its component, for the rows in `edges`."""
    parent: dict[int, int] = {}

    def find(x: int) -> int:
        root = x
        while parent.setdefault(root, root) != root:
            root = parent[root]
        while parent[x] != root:
            parent[x], x = root, parent[x]
        return root

    for a, b in edges.tolist():
        low, high = sorted((find(a), find(b)))
        parent[high] = low
    return {x: find(x) for x in sorted(parent)}


def exact_groups(keys: npt.NDArray[np.uint64]) -> Ints:
    """For each row the smallest row with the same key; `keys` is (rows, 2): the halves of a 128-bit hash."""
    if not len(keys):
        return np.empty(0, np.int64)
    order = np.lexsort((np.arange(len(keys)), keys[:, 1], keys[:, 0]))
    changed = np.concatenate(([True], (keys[order][1:] != keys[order][:-1]).any(axis=1)))
    first = order[np.flatnonzero(changed)]
    out = np.empty(len(keys), dtype=np.int64)
    out[order] = first[np.cumsum(changed) - 1]
    return out
