"""Which documents repeat which: exactly on folded text, then nearly by MinHash.

The keep rule, for both: of documents that repeat one another the longest text is kept (so the vocalised copy wins over
the bare one), at equal length the smallest id. Near duplicates are judged against what is kept, not against the chain
that led there: inside a connected component the documents are taken in keep order, and one is removed only when its
estimated similarity to a document kept before it reaches the threshold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fitra import tables
from fitra.recipe import Dedupe


@dataclass(frozen=True)
class Removal:
    """Why one document goes: it repeats document `kept` (a row number)."""

    reason: str
    figure: float
    kept: int
    cluster: str  # the smallest id of the documents that belong together


def duplicates(
    cfg: Dedupe,
    ids: Sequence[str],
    chars: Sequence[int],
    keys: npt.NDArray[np.uint64],
    files: Sequence[Path],
    work: Path,
) -> dict[int, Removal]:
    """Removals by row number. `keys` (rows, 2) hash the folded texts; `files` hold row, folded, words."""
    order = sorted(range(len(ids)), key=lambda r: (-chars[r], ids[r]))
    rank = np.empty(len(ids), dtype=np.int64)
    rank[order] = np.arange(len(ids))
    out: dict[int, Removal] = {}
    keeper = np.arange(len(ids))
    if cfg.exact:
        groups: dict[int, list[int]] = defaultdict(list)
        first = tables.exact_groups(keys)
        for row in np.flatnonzero(np.bincount(first, minlength=len(ids))[first] > 1).tolist():
            groups[int(first[row])].append(row)
        for rows in groups.values():
            kept = min(rows, key=lambda r: rank[r])
            cluster = min(ids[r] for r in rows)
            keeper[rows] = kept
            out |= {r: Removal("exact_duplicate", 1.0, kept, cluster) for r in rows if r != kept}
    if cfg.near and len(ids):
        near = tables.near_pairs(files, work, bands=cfg.bands, rows=cfg.rows, ngram=cfg.ngram)
        found = _near(cfg.threshold, near, ids, keeper, rank)
        # What repeated a document that now goes itself repeats the one that stays.
        out = {r: Removal(m.reason, m.figure, found[m.kept].kept if m.kept in found else m.kept, m.cluster)
               for r, m in out.items()}  # fmt: skip
        out |= found
    return out


def _near(
    threshold: float, near: tables.Near, ids: Sequence[str], keeper: tables.Ints, rank: tables.Ints
) -> dict[int, Removal]:
    edges = keeper[near.edges]
    # An exact copy has the signature of the one that is kept, so edges may be moved there.
    edges = edges[edges[:, 0] != edges[:, 1]]
    members: dict[int, list[int]] = defaultdict(list)
    for row, root in tables.components(edges).items():
        members[root].append(row)
    out: dict[int, Removal] = {}
    for rows in members.values():
        cluster = min(ids[r] for r in rows)
        kept: list[int] = []
        for row in sorted(rows, key=lambda r: rank[r]):
            if kept:
                similarity = near.similarity(row, kept)
                best = int(similarity.argmax())
                if similarity[best] >= threshold:
                    out[row] = Removal("near_duplicate", round(float(similarity[best]), 4), kept[best], cluster)
                    continue
            kept.append(row)
    return out
