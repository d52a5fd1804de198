"""Does rewriting make the corpus uniform? Different word 3-grams among all, in originals and in rewrites.

A figure of the corpus, not of a pair: a worker that writes every document in the same few turns passes every gate on
pairs. N-grams are sampled by their hash (all occurrences of one n-gram or none), so memory is bounded and shards can
be added in any order; the share of different ones among the sampled estimates that among all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import xxhash

from fitra.align.gates.verdict import Verdict
from fitra.policy import Policy
from fitra.signals import repetition
from fitra.signals.view import view

__all__ = ["Diversity"]

NGRAM = 3
LIMIT = 1 << 20  # different sampled n-grams kept per side; beyond, every second one goes


@dataclass
class _Side:
    bits: int = 0  # n-grams whose hash ends in this many zeros are counted
    counts: dict[int, int] = field(default_factory=dict)

    def add(self, grams: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> None:
        found, n = np.unique(grams[grams & np.uint64((1 << self.bits) - 1) == 0], return_counts=True)
        for g, k in zip(found.tolist(), n.tolist(), strict=True):
            self.counts[g] = self.counts.get(g, 0) + k
        while len(self.counts) > LIMIT:
            self.coarser(self.bits + 1)

    def coarser(self, bits: int) -> None:
        """Count only the n-grams whose hash ends in `bits` zeros from now on."""
        self.bits = max(self.bits, bits)
        self.counts = {g: k for g, k in self.counts.items() if g & ((1 << self.bits) - 1) == 0}

    @property
    def share(self) -> float:
        total = sum(self.counts.values())
        return len(self.counts) / total if total else 1.0


@dataclass
class Diversity:
    """Give it what goes on, pair by pair or shard by shard; then ask for the verdict."""

    before: _Side = field(default_factory=_Side)
    after: _Side = field(default_factory=_Side)

    def add(self, originals: Sequence[str], rewrites: Sequence[str]) -> None:
        """Count some documents and what became of them."""
        for side, texts in ((self.before, originals), (self.after, rewrites)):
            of = view(list(texts))
            if len(of.ids) < NGRAM:
                continue
            words = of.vocab.cast(pa.large_binary()).to_pylist()
            hashes = np.fromiter((xxhash.xxh3_64_intdigest(w) for w in words), np.uint64, len(words))[of.ids]
            grams = hashes[: -NGRAM + 1].copy()
            for k in range(1, NGRAM):
                grams = repetition.mix(grams, k) + hashes[k : len(hashes) - NGRAM + 1 + k]
            doc = np.repeat(np.arange(len(of)), of.n_words)
            side.add(repetition.mix(grams[doc[: -NGRAM + 1] == doc[NGRAM - 1 :]], 5))

    def verdict(self, policy: Policy) -> Verdict:
        """The share of different n-grams in the rewrites over that in the originals, against `diversity_min`."""
        bits = max(self.before.bits, self.after.bits)
        self.before.coarser(bits)
        self.after.coarser(bits)
        figure = round(self.after.share / self.before.share, 4)
        limit = policy.gates["diversity_min"]
        detail = f"{self.before.share:.3f} became {self.after.share:.3f}"
        return Verdict("diversity", figure >= limit, figure, limit, detail)
