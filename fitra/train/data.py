"""Batches for the loop: documents packed into rows, groups mixed by share, examples padded.

Shapes: B rows of a batch, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from fitra.errors import FitraError

IGNORE = -100  # a label that carries no loss
TOKENISE_AT_ONCE = 512


class Batch(NamedTuple):
    """What one step sees."""

    input_ids: torch.Tensor  # (B, T) int64
    labels: torch.Tensor  # (B, T) int64, not shifted: labels[t] is predicted at t-1; IGNORE carries no loss
    group: torch.Tensor  # (B,) int64, index into the loop's groups


class Batches(Protocol):
    """The batches of a whole run, made on demand: item i is always the same, so a resumed run needs only i."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Batch: ...


def stream(tokenizer: Any, texts: Iterable[str]) -> np.ndarray:
    """Tokenise documents into one stream (n,) int32, each between BOS (where the tokenizer has one) and EOS."""
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    eos = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    if bos == eos:  # one token for both, as in GPT-2: it stands between documents once
        bos = []
    parts = [np.zeros(0, np.int32)]
    feed = iter(texts)
    while chunk := list(islice(feed, TOKENISE_AT_ONCE)):
        flat: list[int] = []
        for ids in tokenizer(chunk, add_special_tokens=False)["input_ids"]:
            flat += [*bos, *ids, *eos]
        parts.append(np.asarray(flat, np.int32))
    return np.concatenate(parts)


def pack(tokenizer: Any, texts: Iterable[str], seq_len: int) -> np.ndarray:
    """Tokenise documents and cut their `stream` into rows (n, seq_len) int32.

    The tail that fills no row is left out; where there is not even one row the stream repeats to fill it. No text at
    all gives (0, seq_len).
    """
    ids = stream(tokenizer, texts)
    if 0 < len(ids) < seq_len:
        ids = np.resize(ids, seq_len)
    rows = len(ids) // seq_len
    return ids[: rows * seq_len].reshape(rows, seq_len)


def shuffled(texts: Sequence[str], seed: int) -> Iterator[str]:
    """The texts in an order that depends on the seed and their number alone."""
    for i in np.random.default_rng(seed).permutation(len(texts)):
        yield texts[i]


def mixture(
    sizes: Mapping[str, int], shares: Mapping[str, float], budget: int, max_repeats: float = float("inf")
) -> dict[str, int]:
    """How many rows to draw from each group: `budget` rows by share, no group more than max_repeats times its size.

    A group without rows is left out and the others scaled; what a cap takes away goes to the groups below their cap.
    When every group is at its cap the sum is less than the budget. Raises FitraError when no group has both rows and
    a share.
    """
    caps = {g: int(max_repeats * n) if max_repeats * n < budget else budget for g, n in sizes.items()}
    want = {g: shares.get(g, 0.0) for g, n in sizes.items() if n > 0 and shares.get(g, 0.0) > 0}
    if not want:
        raise FitraError("mixture: no group has both data and a share.", f"Groups with data: {_having(sizes)}.")
    counts: dict[str, int] = {}
    open_groups, left = dict(want), budget
    while open_groups:
        scale = left / sum(open_groups.values())
        full = [g for g, s in open_groups.items() if s * scale > caps[g]]
        if not full:
            break
        for g in full:
            counts[g] = caps[g]
            left -= caps[g]
            del open_groups[g]
    # Largest remainders, ties by name: the sum is exact and the same everywhere.
    exact = {g: left * s / sum(open_groups.values()) for g, s in open_groups.items()}
    counts |= {g: int(x) for g, x in exact.items()}
    for g in sorted(exact, key=lambda g: (int(exact[g]) - exact[g], g))[: left - sum(int(x) for x in exact.values())]:
        counts[g] += 1
    return {g: counts.get(g, 0) for g in sizes}


def _having(sizes: Mapping[str, int]) -> str:
    return ", ".join(g for g, n in sizes.items() if n) or "none"


class Packed:
    """Batches of packed rows drawn from groups; the groups stay evenly spread over the whole run.

    Within a group every row is seen once before any is seen again, in a new order each time. The draw depends on the
    seed, the names and counts alone: two arms whose corpora give equally many rows see the same places.
    """

    def __init__(self, rows: Mapping[str, np.ndarray], counts: Mapping[str, int], batch_rows: int, seed: int) -> None:
        self.groups = list(rows)
        self.rows = [np.ascontiguousarray(rows[g]) for g in self.groups]
        self.batch_rows = batch_rows
        when, which, what = [], [], []
        for g, name in enumerate(self.groups):
            n = counts.get(name, 0)
            rng = np.random.default_rng([seed, *name.encode()])
            epochs = -(-n // max(1, len(self.rows[g]))) if n else 0
            orders = [rng.permutation(len(self.rows[g])) for _ in range(epochs)]
            what.append(np.concatenate(orders)[:n] if orders else np.zeros(0, np.int64))
            when.append((np.arange(n) + rng.random(n)) / max(1, n))  # one draw in each of n equal stretches
            which.append(np.full(n, g))
        order = np.argsort(np.concatenate(when), kind="stable")
        self.which, self.what = np.concatenate(which)[order], np.concatenate(what)[order]

    def __len__(self) -> int:
        return -(-len(self.which) // self.batch_rows)

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        at = slice(index * self.batch_rows, (index + 1) * self.batch_rows)
        pairs = zip(self.which[at], self.what[at], strict=True)
        ids = torch.from_numpy(np.stack([self.rows[g][r] for g, r in pairs]).astype(np.int64))
        return Batch(ids, ids, torch.from_numpy(self.which[at].astype(np.int64)))


class Example(NamedTuple):
    """One padded example: its ids, the index of the first token that carries loss, its group."""

    ids: list[int]
    answer_from: int
    group: int


class Padded:
    """Batches of whole examples, like lengths together, until `tokens` (not counting padding) are drawn.

    Examples are drawn in a new order each epoch. Padding stands on the right and carries no loss; under a causal mask
    it changes nothing before it, so no attention mask is needed.
    """

    POOL = 8  # batches that are sorted by length together

    def __init__(self, examples: Sequence[Example], tokens: int, batch_tokens: int, pad: int, seed: int) -> None:
        if not examples:
            raise FitraError("no training example is left.", "See the quarantine table for the reasons.")
        self.examples, self.pad = examples, pad
        rng = np.random.default_rng(seed)
        lengths = np.array([len(e.ids) for e in examples])
        drawn: list[int] = []
        seen = 0
        while seen < tokens:
            for i in rng.permutation(len(examples)):
                if seen >= tokens:
                    break
                drawn.append(int(i))
                seen += int(lengths[i])
        self.tokens = seen
        self.batches: list[list[int]] = []
        pool: list[int] = []
        held = 0
        for i in drawn:
            pool.append(i)
            held += int(lengths[i])
            if held >= self.POOL * batch_tokens:
                self._cut(pool, lengths, batch_tokens, rng)
                pool, held = [], 0
        self._cut(pool, lengths, batch_tokens, rng)

    def _cut(self, pool: list[int], lengths: np.ndarray, batch_tokens: int, rng: np.random.Generator) -> None:
        """Sort a pool by length, cut it into batches of at most batch_tokens with padding, and shuffle those."""
        cut: list[list[int]] = []
        for i in sorted(pool, key=lambda i: (-lengths[i], i)):
            if cut and lengths[cut[-1][0]] * (len(cut[-1]) + 1) <= batch_tokens:
                cut[-1].append(i)
            else:
                cut.append([i])
        self.batches += [cut[i] for i in rng.permutation(len(cut))]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        rows = [self.examples[i] for i in self.batches[index]]
        width = max(len(e.ids) for e in rows)
        ids = torch.full((len(rows), width), self.pad, dtype=torch.int64)
        labels = torch.full((len(rows), width), IGNORE, dtype=torch.int64)
        for r, e in enumerate(rows):
            ids[r, : len(e.ids)] = torch.tensor(e.ids)
            labels[r, e.answer_from : len(e.ids)] = ids[r, e.answer_from : len(e.ids)]
        return Batch(ids, labels, torch.tensor([e.group for e in rows]))
