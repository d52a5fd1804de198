"""Near duplicates: MinHash signatures, the pairs that share a band, connected components.

Signatures come from Daft's kernel (Rust), called on a column at a time in the process that holds the texts; the rest is
NumPy on columns of 64-bit numbers: one band of all documents is looked at at a time, so memory is 16 bytes a document.
(Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.3-3.4.)
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Signatures = npt.NDArray[np.uint32]

_MIX = np.uint64(0x9E3779B97F4A7C15)


def _daft() -> Any:
    # Set before the import: Daft reads them then.
    os.environ["DAFT_ANALYTICS_ENABLED"] = "0"
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["SCARF_NO_ANALYTICS"] = "true"
    os.environ["DAFT_PROGRESS_BAR"] = "0"
    import daft

    return daft


def signatures(folded: pa.Array, *, hashes: int, ngram: int, seed: int = 1) -> Signatures:
    """MinHash signatures (n, hashes) of the sets of `ngram` consecutive words.

    Words are what single U+0020 separate (the kernel splits there and nowhere else). A text of fewer words has a
    signature that means nothing: leave it out.
    """
    if not len(folded):
        return np.empty((0, hashes), np.uint32)
    column = _daft().Series.from_arrow(folded.cast(pa.large_string()), "folded")
    made = column.minhash(num_hashes=hashes, ngram_size=ngram, seed=seed, hash_function="xxhash3_64").to_arrow()
    made = made.combine_chunks() if isinstance(made, pa.ChunkedArray) else made
    return np.asarray(pc.list_flatten(made).to_numpy(zero_copy_only=False), dtype=np.uint32).reshape(-1, hashes)


def band_hashes(found: Signatures, rows: int) -> Hashes:
    """One 64-bit number for each band of `rows` hashes: (n, bands)."""
    bands = found.shape[1] // rows
    parts = found.reshape(len(found), bands, rows).astype(np.uint64)
    out = np.full((len(found), bands), _MIX, dtype=np.uint64)
    for r in range(rows):
        out = (out ^ parts[:, :, r]) * _MIX
        out ^= out >> np.uint64(29)
    return out


def stars(keys: Hashes, rows: Ints) -> Ints:
    """Edges (m, 2) from the first row of each group of equal keys to each other row of it; `rows` ascending."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    new = np.empty(len(keys), dtype=bool)
    new[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    first = order[np.flatnonzero(new)][np.cumsum(new) - 1]
    others = ~new
    return np.stack([rows[first[others]], rows[order[others]]], axis=1)


def components(edges: Ints) -> tuple[Ints, Ints]:
    """Connected components: the rows that are in `edges` (sorted), and for each the smallest row of its component."""
    nodes, ends = np.unique(edges, return_inverse=True)
    ends = ends.reshape(-1, 2)
    root = np.arange(len(nodes))
    while True:
        low = np.minimum(root[ends[:, 0]], root[ends[:, 1]])
        new = root.copy()
        # Hooking roots (not only the ends) under the smaller one joins whole trees at a time.
        np.minimum.at(new, root[ends[:, 0]], low)
        np.minimum.at(new, root[ends[:, 1]], low)
        new = np.minimum(new, new[new])
        while not np.array_equal(new, new[new]):
            new = new[new]
        if np.array_equal(new, root):
            return nodes, nodes[root]
        root = new


def exact_groups(keys: Hashes) -> Ints:
    """For each row the smallest row with the same key; `keys` is (rows, 2): the halves of a 128-bit hash."""
    if not len(keys):
        return np.empty(0, np.int64)
    order = np.lexsort((np.arange(len(keys)), keys[:, 1], keys[:, 0]))
    changed = np.concatenate(([True], (keys[order][1:] != keys[order][:-1]).any(axis=1)))
    first = order[np.flatnonzero(changed)]
    out = np.empty(len(keys), dtype=np.int64)
    out[order] = first[np.cumsum(changed) - 1]
    return out
