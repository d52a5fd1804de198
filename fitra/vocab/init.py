"""First values of the rows of new tokens: what each takes from the rows that are there.

`mean`, `weighted` and `focus` are mixtures: new row i is a weighted sum of old rows. They are one sparse matrix, made
once from the tokens and used for the embedding and for the head, each on its own rows. `gaussian` and `random` draw
from what all old rows look like. All of them work in chunks, on rows that are fetched as they are needed.

Shapes: V old rows, n new rows, d width, m entries of a mixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

Source = Callable[[torch.Tensor], torch.Tensor]  # ids (k,) int64 -> rows (k, d) float32

METHODS = ("mean", "weighted", "focus", "gaussian", "random")
CHUNK = 512  # new rows at once
SAMPLED = 1024  # old rows that mean and covariance are taken from
# Focus: context tokens counted, tokens to either side, width of the helping vectors, neighbours that may have a share.
CONTEXTS, WINDOW, WIDTH, NEIGHBOURS = 512, 3, 128, 64


@dataclass(frozen=True)
class Mix:
    """New row i is the sum of weights[j] * old row ids[j] over starts[i] <= j < starts[i + 1]."""

    ids: np.ndarray  # (m,) int64
    weights: np.ndarray  # (m,) float32
    starts: np.ndarray  # (n + 1,) int64

    def __len__(self) -> int:
        return len(self.starts) - 1

    def dense(self, known: int) -> np.ndarray:
        """As an (n, known) float32 matrix: for tests and small cases."""
        out = np.zeros((len(self), known), np.float32)
        np.add.at(out, (np.repeat(np.arange(len(self)), np.diff(self.starts)), self.ids), self.weights)
        return out


def _flat(pieces: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    sizes = np.fromiter((len(p) for p in pieces), np.int64, len(pieces))
    if len(sizes) and not sizes.min():
        raise ValueError(f"new token {int(sizes.argmin())} has no pieces")
    ids = np.fromiter((i for p in pieces for i in p), np.int64, int(sizes.sum()))
    return ids, np.concatenate([[0], np.cumsum(sizes)])


def mean(pieces: Sequence[Sequence[int]]) -> Mix:
    """Each new row is the mean of its pieces' rows (ALLaM section 3.1, AraLLaMA section 4.1)."""
    ids, starts = _flat(pieces)
    sizes = np.diff(starts)
    return Mix(ids, np.repeat(1 / sizes, sizes).astype(np.float32), starts)


def weighted(pieces: Sequence[Sequence[int]], lengths: np.ndarray, counts: np.ndarray | None = None) -> Mix:
    """A mean in which longer and rarer pieces weigh more.

    A piece weighs its length in bytes, times its information -log2(share) where `counts` says how often every old
    token occurs: the space and the lead bytes that most Arabic words share say little about any of them. `lengths`
    and `counts` are (V,).
    """
    ids, starts = _flat(pieces)
    w = np.asarray(lengths, np.float64)[ids].clip(1)
    if counts is not None:
        share = (np.asarray(counts, np.float64) + 1) / (np.sum(counts) + len(counts))
        w *= -np.log2(share)[ids]
    total = np.add.reduceat(w, starts[:-1]) if len(ids) else np.zeros(0)
    return Mix(ids, (w / np.repeat(total, np.diff(starts))).astype(np.float32), starts)


def focus(
    pieces: Sequence[Sequence[int]], streams: Iterable[np.ndarray], first: int, seed: int = 0, min_count: int = 5
) -> Mix:
    """Each new row is a mixture of the rows of old tokens that stand in like contexts (after FOCUS).

    `streams` are texts as ids of the *new* tokenizer; new tokens are first, first + 1, ... Helping vectors are made
    from who stands beside whom in them; the similarities of a new token to the old tokens that occur there become
    shares by sparsemax. FOCUS trains fastText for the same purpose; counting needs no training and no download. New
    tokens seen fewer than `min_count` times fall back to the mean of their pieces.
    Source: Dobler and de Melo, FOCUS (EMNLP 2023), section 3.
    """
    n = len(pieces)
    vectors, counts = _contexts(streams, first + n, seed)
    anchors = np.flatnonzero(counts[:first] >= min_count)
    old, new = (F.normalize(torch.from_numpy(vectors[i]), dim=1) for i in (anchors, slice(first, first + n)))
    fallback = mean(pieces)
    ids, weights, sizes = list[np.ndarray](), list[np.ndarray](), np.zeros(n, np.int64)
    usable = (counts[first : first + n] >= min_count) & bool(len(anchors))
    for at in range(0, n, CHUNK):
        shares, who = (x.numpy() for x in _sparsemax(new[at : at + CHUNK] @ old.T)) if len(anchors) else (None, None)
        for i in range(at, min(n, at + CHUNK)):
            if usable[i] and shares is not None and who is not None:
                held = shares[i - at] > 0
                ids.append(anchors[who[i - at][held]])
                weights.append(shares[i - at][held])
            else:
                span = slice(fallback.starts[i], fallback.starts[i + 1])
                ids.append(fallback.ids[span])
                weights.append(fallback.weights[span])
            sizes[i] = len(ids[-1])
    none = np.zeros(0)
    return Mix(
        np.concatenate([none, *ids]).astype(np.int64),
        np.concatenate([none, *weights]).astype(np.float32),
        np.concatenate([[0], np.cumsum(sizes)]),
    )


def _contexts(streams: Iterable[np.ndarray], vocab: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (vocab, WIDTH) float32 from positive mutual information with the commonest tokens nearby, and counts."""
    held = [np.asarray(s, np.int64) for s in streams]
    counts = np.bincount(np.concatenate([np.zeros(0, np.int64), *held]), minlength=vocab)
    common = np.argsort(-counts, kind="stable")[:CONTEXTS]
    common = common[counts[common] > 0]
    if not len(common):
        return np.zeros((vocab, 1), np.float32), counts
    rank = np.full(vocab, -1)
    rank[common] = np.arange(len(common))
    k = len(common)
    # Left and right neighbours are told apart: they say different things about a word.
    pairs = np.zeros((vocab, 2 * k), np.float32)
    for s in held:
        for step in range(1, WINDOW + 1):
            for a, b, side in ((s[step:], s[:-step], 0), (s[:-step], s[step:], k)):
                ok = rank[b] >= 0
                np.add.at(pairs, (a[ok], rank[b[ok]] + side), 1 / step)
    total = pairs.sum()
    if not total:
        return np.zeros((vocab, 1), np.float32), counts
    rows, columns = pairs.sum(1, keepdims=True), pairs.sum(0, keepdims=True) ** 0.75  # smoothed: rare contexts shout
    columns *= total / columns.sum()
    with np.errstate(divide="ignore", invalid="ignore"):  # in place: this is the largest array there is
        pairs *= total
        pairs /= rows
        pairs /= columns
        np.log(pairs, out=pairs)
    np.nan_to_num(pairs, copy=False, nan=0.0, neginf=0.0)
    np.maximum(pairs, 0, out=pairs)
    torch.manual_seed(seed)
    u, s_, _ = torch.svd_lowrank(torch.from_numpy(pairs), q=min(WIDTH, *pairs.shape))
    return (u * s_.sqrt()).numpy(), counts


def _sparsemax(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sparsemax of each row over its highest NEIGHBOURS: shares that sum to 1, and their columns.

    Source: Martins and Astudillo (2016), algorithm 1.
    """
    top, who = scores.topk(min(NEIGHBOURS, scores.shape[1]), dim=1)
    k = torch.arange(1, top.shape[1] + 1)
    sums = top.cumsum(1)
    size = (1 + k * top > sums).sum(1, keepdim=True)
    bar = (sums.gather(1, size - 1) - 1) / size
    return (top - bar).clamp(min=0), who


def rows(source: Source, known: int, how: Mix | str, n: int, seed: int) -> Iterator[torch.Tensor]:
    """The n new rows in chunks (<= CHUNK, d), float32; `how` is a mixture, "gaussian" or "random".

    `source` fetches old rows; the first `known` of them count for what is drawn.
    """
    if isinstance(how, Mix):
        if len(how) != n:
            raise ValueError(f"{len(how)} mixtures for {n} rows")
        return _mixed(source, how)
    if how == "gaussian":
        return _gaussian(source, known, n, seed)
    if how == "random":
        return _random(source, known, n, seed)
    raise ValueError(f"'{how}' draws no rows: make its mixture first")


def _mixed(source: Source, mix: Mix) -> Iterator[torch.Tensor]:
    for at in range(0, len(mix), CHUNK):
        starts = mix.starts[at : at + CHUNK + 1]
        part = slice(starts[0], starts[-1])
        # A thousand tokens share a few hundred pieces: each row is fetched and widened once.
        ids, inverse = np.unique(mix.ids[part], return_inverse=True)
        yield F.embedding_bag(
            torch.from_numpy(inverse),
            source(torch.from_numpy(ids)),
            torch.from_numpy(starts[:-1] - starts[0]),
            mode="sum",
            per_sample_weights=torch.from_numpy(mix.weights[part]),
        )


def spans(start: int, end: int, size: int) -> Iterator[torch.Tensor]:
    """The ids start .. end-1 in pieces of `size`."""
    for at in range(start, end, size):
        yield torch.arange(at, min(at + size, end))


def _gaussian(source: Source, known: int, n: int, seed: int) -> Iterator[torch.Tensor]:
    """Draws from a normal distribution with the mean and the covariance of old rows (Hewitt 2021).

    x = mean + (1/sqrt(k)) * z (X - mean), z standard normal, has just the covariance of the k rows X: no d x d matrix
    is made and factored. X are SAMPLED old rows, spread evenly.
    """
    gen = torch.Generator().manual_seed(seed)
    held = source(torch.linspace(0, known - 1, min(known, SAMPLED), dtype=torch.float64).long())
    middle = held.mean(0)
    held = (held - middle) / len(held) ** 0.5
    for at in range(0, n, CHUNK):
        yield torch.randn(min(CHUNK, n - at), len(held), generator=gen) @ held + middle


def _random(source: Source, known: int, n: int, seed: int) -> Iterator[torch.Tensor]:
    """Normal draws with the mean and the standard deviation of the entries of old rows (8 x SAMPLED, spread evenly)."""
    gen = torch.Generator().manual_seed(seed)
    total = square = entries = 0.0
    width = 0
    step = max(1, known // (8 * SAMPLED))
    for part in spans(0, known, 2048 * step):
        x = source(part[::step])
        width, entries = x.shape[1], entries + x.numel()
        total += x.sum(dtype=torch.float64).item()
        square += torch.linalg.vector_norm(x, dtype=torch.float64).item() ** 2
    middle = total / entries
    deviation = max(0.0, square / entries - middle**2) ** 0.5
    for at in range(0, n, CHUNK):
        yield torch.randn(min(CHUNK, n - at), width, generator=gen) * deviation + middle
