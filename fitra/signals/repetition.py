"""What a text says again: equal spans of characters, frequent and repeated n-grams of words, known phrases; in NumPy.

Equality is that of 64-bit hashes; for a batch of a million spans a false match has a chance of about 1e-7.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fitra.signals.view import View

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

TOP = (2, 3, 4)
DUPLICATE = (5, 6, 7, 8, 9, 10)
_BASE = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_INVERSE = pow(_BASE, -1, 1 << 64)  # the base is odd, so it has one
_ROUNDS = 8


def mix(values: npt.NDArray[np.generic], salt: int = 0) -> Hashes:
    """Spread integers over 64 bits (the finaliser of splitmix64); equal in, equal out."""
    x = values.astype(np.uint64) + np.uint64((0x9E3779B97F4A7C15 * (salt + 1)) & _MASK)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


class Spans:
    """Hashes of any spans of one sequence of code points, by prefix sums of code x base^position modulo 2^64."""

    def __init__(self, codes: npt.NDArray[np.uint32]) -> None:
        weights = _powers(_BASE, len(codes))
        self.sums = np.zeros(len(codes) + 1, dtype=np.uint64)
        # A product by an odd constant and a shift: code points are small numbers, and small numbers make weak sums.
        salted = (codes.astype(np.uint64) + np.uint64(1)) * np.uint64(0xD6E8FEB86659FD93)
        salted ^= salted >> np.uint64(32)
        salted *= weights
        np.cumsum(salted, out=self.sums[1:])

    def hashes(self, starts: Ints, stops: Ints) -> Hashes:
        """One hash per span [start, stop)."""
        back = _powers(_INVERSE, len(self.sums))
        return mix((self.sums[stops] - self.sums[starts]) * back[starts] + (stops - starts).astype(np.uint64))


_cached: dict[int, Hashes] = {}


def _powers(base: int, n: int) -> Hashes:
    """base^0 to base^(n-1) modulo 2^64; kept for the next batch."""
    have = _cached.get(base)
    if have is None or len(have) < n:
        have = np.full(max(n, 1 << 16), np.uint64(base), dtype=np.uint64)
        have[0] = 1
        _cached[base] = have = np.multiply.accumulate(have)
    return have[:n]


def said_before(docs: Ints, hashes: Hashes) -> npt.NDArray[np.bool_]:
    """For each span (in order) whether an earlier one of the same text has the same hash."""
    out = np.zeros(len(hashes), dtype=bool)
    if len(hashes) > 1:
        keys = hashes ^ mix(docs, 1)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        out[order[1:][keys[1:] == keys[:-1]]] = True
    return out


def in_phrases(view: View, phrases: Sequence[tuple[str, ...]]) -> Ints:
    """How many words of each text stand inside one of `phrases` (folded words); overlaps count once."""
    inside = np.zeros(len(view.ids) + 1, dtype=bool)
    words = sorted({w for p in phrases for w in p})
    found = pc.index_in(pa.array(words, pa.large_string()), value_set=view.vocab.cast(pa.large_string())).to_pylist()
    number = {w: i for w, i in zip(words, found, strict=True) if i is not None}
    known = [[number[w] for w in p] for p in phrases if all(w in number for w in p)]
    if known and len(view.ids):
        firsts = np.zeros(len(view.vocab), dtype=bool)
        firsts[[p[0] for p in known]] = True
        starts = np.flatnonzero(firsts[view.ids])
        ends = view.bounds[np.searchsorted(view.bounds, starts, side="right")]  # of the text each stands in
        heads = view.ids[starts]
        for phrase in known:
            hit = (heads == phrase[0]) & (starts + len(phrase) <= ends)
            at = starts[hit]
            for k, word in enumerate(phrase[1:], 1):
                at = at[view.ids[at + k] == word]
            for k in range(len(phrase)):
                inside[at + k] = True
    return np.diff(np.concatenate(([0], np.cumsum(inside[:-1])))[view.bounds])


def ngrams(view: View) -> dict[str, Floats]:
    """`top_n_gram_share` for n in TOP, `dup_n_gram_share` for n in DUPLICATE, each (n,).

    Share of the folded text (words joined by spaces). Top: length of the most frequent n-gram, the first of equals,
    times its count; 0 when nothing occurs twice. Duplicate: from left to right, an n-gram that was met before is
    counted and skipped, any other is remembered and passed by one word.

    An n-gram occurs twice only where the (n-1)-grams at its place and the next occur twice, so past the pairs little
    is left to sort.
    """
    n_docs, n = len(view), len(view.ids)
    lengths = pc.utf8_length(view.vocab).to_numpy(zero_copy_only=False).astype(np.int64)
    sizes = lengths[view.ids] if n else np.zeros(0, dtype=np.int64)
    until = np.concatenate(([0], np.cumsum(sizes)))
    total = np.diff(until[view.bounds]) + np.maximum(view.n_words - 1, 0)
    out = {f"top_{k}_gram_share": np.zeros(n_docs) for k in TOP} | {
        f"dup_{k}_gram_share": np.zeros(n_docs) for k in DUPLICATE
    }
    docs = np.repeat(np.arange(n_docs, dtype=np.int32), view.n_words)
    ends = view.bounds[1:]
    salt = mix(np.arange(len(view.vocab)), 2)
    per_doc = mix(np.arange(n_docs), 3)
    at = np.arange(n)
    keys = per_doc[docs] + salt[view.ids] if n else np.zeros(0, dtype=np.uint64)
    twice = np.ones(n + 1, dtype=bool)
    twice[n] = False
    for k in range(2, max(DUPLICATE) + 1):
        fits = twice[at] & twice[np.minimum(at + 1, n)] & (at + k <= ends[docs[at]])
        at, keys = at[fits], keys[fits]
        if not len(at):
            break
        keys = keys * np.uint64(_BASE) + salt[view.ids[at + k - 1]]
        keys ^= keys >> np.uint64(29)
        at, keys, group = _repeated(at, keys)
        twice[:] = False
        twice[at] = True
        if not len(at):
            break
        if k in TOP:
            out[f"top_{k}_gram_share"] = _top(at, group, k, docs, until, total)
        if k in DUPLICATE:
            taken = _skipping(at, group, k)
            chars = np.bincount(docs[taken], weights=until[taken + k] - until[taken], minlength=n_docs)
            out[f"dup_{k}_gram_share"] = np.divide(chars, total, out=np.zeros(n_docs), where=total > 0)
    return out


def _repeated(at: Ints, keys: Hashes) -> tuple[Ints, Hashes, Ints]:
    """Those whose key occurs twice or more, in order of place, with the number of their group."""
    order = np.argsort(keys)
    ranked = keys[order]
    same = np.zeros(len(ranked) + 1, dtype=bool)
    same[1:-1] = ranked[1:] == ranked[:-1]
    member = same[:-1] | same[1:]
    groups = np.full(len(at), -1)
    groups[order[member]] = np.cumsum(~same[:-1][member]) - 1
    stay = groups >= 0
    return at[stay], keys[stay], groups[stay]


def _firsts(at: Ints, group: Ints, n_groups: int, never: int) -> Ints:
    """The first place of each group, `never` where it has none; `at` ascends."""
    first = np.full(n_groups, never)
    first[group[::-1]] = at[::-1]  # of several, the last written stays
    return first


def _top(at: Ints, group: Ints, k: int, docs: npt.NDArray[np.int32], until: Ints, total: Ints) -> Floats:
    count = np.bincount(group)
    first = _firsts(at, group, len(count), int(at[-1]) + 1)
    doc = docs[first]
    best = np.lexsort((first, -count, doc))
    best = best[np.concatenate(([True], doc[best][1:] != doc[best][:-1]))]
    chars = (until[first[best] + k] - until[first[best]] + k - 1) * count[best]
    out = np.zeros(len(total))
    out[doc[best]] = chars / total[doc[best]]
    return out


def _skipping(at: Ints, group: Ints, k: int) -> Ints:
    """Places of the n-grams counted as duplicates by the walk from left to right (see `ngrams`).

    An n-gram inside one that was skipped is never remembered, so what is a duplicate depends on what was skipped
    before. The walk starts from "all are remembered" and is done again with what it skipped until nothing changes;
    each round is right at least one place further. What has not settled after some rounds is walked one by one.
    """
    met = np.ones(len(at), dtype=bool)
    n_groups = int(group.max()) + 1
    for _ in range(_ROUNDS):
        first = _firsts(at[met], group[met], n_groups, int(at[-1]) + 1)
        found = at[at > first[group]]
        taken = _jumps(found, k)
        now = np.ones(len(at), dtype=bool)
        if len(taken):
            before = taken[np.maximum(np.searchsorted(taken, at, side="left") - 1, 0)]
            now = ~((before < at) & (at < before + k))
        if np.array_equal(now, met):
            return taken
        met = now
    return _one_by_one(at, group, k)


def _jumps(places: Ints, k: int) -> Ints:
    """The first place, then always the next one that is `k` or more further.

    By doubling: from what is reached in 2^i jumps to what is reached in 2^(i+1). A place that is `k` or more after the
    one before it is reached whatever was jumped over, so walks start at all of those at once and are short.
    """
    n = len(places)
    if not n:
        return places
    reached = np.zeros(n + 1, dtype=bool)
    reached[0] = True
    reached[1:n] = places[1:] - places[:-1] >= k
    longest = int(np.diff(np.flatnonzero(reached), append=n).max())
    step = np.append(np.searchsorted(places, places + k), n)
    for _ in range(longest.bit_length()):
        reached[step[reached]] = True
        step = step[step]
    return places[reached[:n]]


def _one_by_one(at: Ints, group: Ints, k: int) -> Ints:
    seen: set[int] = set()
    out: list[int] = []
    free = 0
    for place, g in zip(at.tolist(), group.tolist(), strict=True):
        if place < free:
            continue
        if g in seen:
            out.append(place)
            free = place + k
        else:
            seen.add(g)
    return np.array(out, dtype=np.int64)
