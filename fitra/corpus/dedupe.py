"""Which documents repeat which: by address, exactly on folded text, then nearly by MinHash.

Of documents that repeat one another one is kept by a stated rule: `longest` (the longest text, so the vocalised copy
wins over the bare one; at equal length the smallest id) or `first` (in the order of the inputs). What an earlier run
holds (`against`) always wins. Near duplicates are judged against what is kept, not against the chain that led there:
inside a connected component the documents are taken in keep order, and one is removed only when its estimated
similarity to a document kept before it, with which it shares a band, reaches the threshold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fitra.corpus.keys import Keys
from fitra.recipe import Dedupe
from fitra.tables import near

# Of the documents kept in one bucket at most this many are compared with a newcomer: boilerplate buckets are crowded.
PER_BUCKET = 50


@dataclass(frozen=True)
class Removal:
    """Why one document goes: it repeats document `kept` (a row number)."""

    reason: str
    figure: float
    kept: int
    cluster: str  # the smallest id of the documents that belong together


def duplicates(cfg: Dedupe, keys: Keys) -> dict[int, Removal]:
    """Removals by row number, over all shards; rows of earlier runs are never removed."""
    out: dict[int, Removal] = {}
    rank = _ranker(cfg, keys)
    keeper = np.arange(len(keys))
    if cfg.urls:
        urls = keys.hashes("url")
        have = np.flatnonzero(urls)
        _groups(have, near.stars(urls[have], have), "same_url", keys, rank, keeper, out)
    if cfg.exact:
        halves = np.stack([keys.hashes("hi"), keys.hashes("lo")], axis=1)
        first = near.exact_groups(halves)
        rows = np.flatnonzero(first != np.arange(len(first)))
        _groups(rows, np.stack([first[rows], rows], axis=1), "exact_duplicate", keys, rank, keeper, out)
    if cfg.near and len(keys):
        found = _near(cfg, keys, keeper, rank)
        # What repeated a document that now goes itself repeats the one that stays.
        for row, m in list(out.items()):
            kept = m.kept
            while kept in found:
                kept = found[kept].kept
            out[row] = Removal(m.reason, m.figure, kept, m.cluster)
        out |= {r: m for r, m in found.items() if r not in out}
    return {r: m for r, m in out.items() if r >= keys.earlier}


Rank = Callable[[Iterable[int]], list[int]]


def _ranker(cfg: Dedupe, keys: Keys) -> Rank:
    chars = keys.chars() if cfg.keep == "longest" else None

    def order(rows: Iterable[int]) -> list[int]:
        """Rows in keep order: those of earlier runs first."""
        if chars is None:
            return sorted(rows)
        return sorted(rows, key=lambda r: (r >= keys.earlier, -chars[r], keys.id(r)))

    return order


def _groups(
    rows: near.Ints, edges: near.Ints, reason: str, keys: Keys, rank: Rank, keeper: near.Ints, out: dict[int, Removal]
) -> None:
    """Remove all but the best of each group that `edges` (stars) describe; `keeper` learns who stays for whom."""
    edges = keeper[edges]
    edges = edges[edges[:, 0] != edges[:, 1]]
    if not len(edges):
        return
    members: dict[int, list[int]] = defaultdict(list)
    for node, root in zip(*(a.tolist() for a in near.components(edges)), strict=True):
        members[root].append(node)
    moved: dict[int, int] = {}
    for group in members.values():
        kept, *gone = rank(group)
        cluster = min(keys.id(r) for r in group)
        for r in gone:
            out[r] = Removal(reason, 1.0, kept, cluster)
            moved[r] = kept
    if moved:
        old = np.array(sorted(moved))
        new = np.array([moved[r] for r in old.tolist()])
        at = np.minimum(np.searchsorted(old, keeper), len(old) - 1)
        hit = old[at] == keeper
        keeper[hit] = new[at[hit]]
        for r, m in list(out.items()):
            if m.kept in moved:
                out[r] = Removal(m.reason, m.figure, moved[m.kept], m.cluster)


def _near(cfg: Dedupe, keys: Keys, keeper: near.Ints, rank: Rank) -> dict[int, Removal]:
    parts = []
    for band in range(cfg.bands):
        hashes, rows = keys.band(band)
        edges = keeper[near.stars(hashes, rows)]
        # An exact copy has the signature of the one that is kept, so edges may be moved there.
        parts.append(np.unique(edges[edges[:, 0] != edges[:, 1]], axis=0))
    edges = np.unique(np.concatenate(parts), axis=0) if parts else np.empty((0, 2), np.int64)
    if not len(edges):
        return {}
    nodes, roots = near.components(edges)
    signatures = keys.signatures(nodes)
    buckets = near.band_hashes(signatures, cfg.rows)
    order = np.argsort(roots, kind="stable")
    starts = np.flatnonzero(np.concatenate(([True], roots[order][1:] != roots[order][:-1])))
    out: dict[int, Removal] = {}
    for group in np.split(order, starts[1:]):
        out |= _component(cfg.threshold, group, nodes, signatures, buckets, keys, rank)
    return out


def _component(
    threshold: float,
    group: near.Ints,
    nodes: near.Ints,
    signatures: near.Signatures,
    buckets: npt.NDArray[np.uint64],
    keys: Keys,
    rank: Rank,
) -> dict[int, Removal]:
    rows = nodes[group].tolist()
    at = dict(zip(rows, group.tolist(), strict=True))
    cluster = min(keys.id(r) for r in rows)
    kept: dict[tuple[int, int], list[int]] = defaultdict(list)  # (band, hash) -> rows kept
    out: dict[int, Removal] = {}
    for row in rank(rows):
        bands = list(enumerate(buckets[at[row]].tolist()))
        others = sorted({r for b in bands for r in kept.get(b, ())[:PER_BUCKET]})
        if others and row >= keys.earlier:
            best, similarity = _best(signatures, at, row, others)
            if similarity >= threshold:
                out[row] = Removal("near_duplicate", round(similarity, 4), best, cluster)
                continue
        for b in bands:
            kept[b].append(row)
    return out


def _best(signatures: near.Signatures, at: dict[int, int], row: int, others: Sequence[int]) -> tuple[int, float]:
    """The most similar of `others` and the estimate: the share of equal hashes (Jaccard of the n-gram sets)."""
    equal = (signatures[[at[r] for r in others]] == signatures[at[row]]).mean(axis=1)
    best = int(equal.argmax())
    return others[best], float(equal[best])
