"""Figures with their uncertainty: intervals, paired differences, F1. NumPy alone.

A score is a statistic of sums over items: every item gives a row of counts (its *parts*), and the statistic maps summed
parts to a figure. Accuracy has the parts (correct, 1), bits per byte (bits, bytes), macro-F1 the confusion counts. So
one bootstrap serves every metric, and it never touches an item twice: resampling n items with replacement is drawing
how often each of them occurs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]

DRAWS = 2000
CHUNK = 2_000_000  # cells of the (draws, items) matrix held at once: 16 MB


@dataclass(frozen=True)
class Interval:
    """A figure and its confidence interval over `n` items in `clusters` groups that are drawn together."""

    value: float
    low: float
    high: float
    n: int
    clusters: int

    def as_dict(self) -> dict[str, float]:
        """`value`, `ci_low`, `ci_high`, `n`: the keys that a scores file uses."""
        return {"value": self.value, "ci_low": self.low, "ci_high": self.high, "n": self.n}


@dataclass(frozen=True)
class Difference(Interval):
    """The figure of b minus that of a on the same items; `p` is the two-sided bootstrap p-value of 'no difference'."""

    p: float


def ratio(sums: Floats) -> Floats:
    """Statistic of parts (numerator, denominator): a mean when the second part is 1. 0/0 is 0."""
    return _divide(sums[:, 0], sums[:, 1])


def macro_f1_of(sums: Floats) -> Floats:
    """Statistic of parts (true yes, false yes, false no, true no): (F1 yes + F1 no) / 2, with 0/0 = 0.

    AceGPT pools these counts over all topics before the F1 (its cal_acva_f1 script).
    """
    tp, fp, fn, tn = sums.T
    return (_divide(2 * tp, 2 * tp + fp + fn) + _divide(2 * tn, 2 * tn + fp + fn)) / 2


def _divide(a: Floats, b: Floats) -> Floats:
    out = np.zeros(a.shape, dtype=np.float64)
    np.divide(a, b, out=out, where=b != 0)
    return out


def mean_parts(values: ArrayLike) -> Floats:
    """Parts (value, 1) of shape (n, 2), for `ratio`."""
    v = np.asarray(values, dtype=float)
    return np.column_stack([v, np.ones_like(v)])


def confusion_parts(gold: Sequence[Any], predicted: Sequence[Any], positive: Any = True) -> Floats:
    """One-hot (true positive, false positive, false negative, true negative) per item, shape (n, 4).

    A prediction of None counts as the wrong one.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold labels, {len(predicted)} predictions")
    g = np.array([x == positive for x in gold], dtype=bool)
    p = np.array([(not y) if x is None else x == positive for x, y in zip(predicted, g, strict=True)], dtype=bool)
    return np.column_stack([g & p, ~g & p, g & ~p, ~g & ~p]).astype(float).reshape(-1, 4)


def f1(gold: Sequence[Any], predicted: Sequence[Any], positive: Any = True) -> float:
    """F1 of one class; 0 where the class occurs neither in gold nor in the predictions."""
    tp, fp, fn, _ = confusion_parts(gold, predicted, positive).sum(axis=0)
    return float(2 * tp / (2 * tp + fp + fn)) if tp + fp + fn else 0.0


def macro_f1(gold: Sequence[Any], predicted: Sequence[Any], positive: Any = True) -> float:
    """Mean of the two classes' F1, counts pooled."""
    return float(macro_f1_of(confusion_parts(gold, predicted, positive).sum(axis=0, keepdims=True))[0])


def bootstrap(
    parts: ArrayLike,
    statistic: Statistic = ratio,
    *,
    clusters: Sequence[Hashable] | None = None,
    draws: int = DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of `statistic` over items, or over clusters of items that belong together.

    `parts` is (n, k), or (n,) for a plain mean. Clusters (the same statement asked twice, questions on one passage)
    are resampled whole, since their items are not independent. Raises ValueError when there is no item.
    """
    p = _as_parts(parts)
    sums = _cluster_sums(p, clusters)
    stats = _resample(sums, statistic, draws, seed)
    low, high = np.quantile(stats, [(1 - level) / 2, (1 + level) / 2])
    value = float(statistic(p.sum(axis=0, keepdims=True))[0])
    return Interval(value, float(low), float(high), len(p), len(sums))


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    statistic: Statistic = ratio,
    *,
    clusters: Sequence[Hashable] | None = None,
    draws: int = DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Bootstrap of statistic(b) - statistic(a) on the same items, row i of both being item i.

    Both systems are resampled together, so what makes an item easy for both cancels out.
    """
    pa, pb = _as_parts(a), _as_parts(b)
    if pa.shape != pb.shape:
        raise ValueError(f"paired parts differ in shape: {pa.shape} and {pb.shape}")
    k = pa.shape[1]

    def gap(sums: Floats) -> Floats:
        return statistic(sums[:, k:]) - statistic(sums[:, :k])

    both = np.column_stack([pa, pb])
    sums = _cluster_sums(both, clusters)
    stats = _resample(sums, gap, draws, seed)
    low, high = np.quantile(stats, [(1 - level) / 2, (1 + level) / 2])
    # +1: a p-value of exactly 0 cannot come from finitely many draws.
    p = 2 * min(np.count_nonzero(stats <= 0) + 1, np.count_nonzero(stats >= 0) + 1) / (draws + 1)
    value = float(gap(both.sum(axis=0, keepdims=True))[0])
    return Difference(value, float(low), float(high), len(pa), len(sums), min(1.0, float(p)))


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson score interval of a share; good for few items and for shares near 0 or 1. Raises ValueError if n < 1."""
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is not a share")
    z = NormalDist().inv_cdf((1 + level) / 2)
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    # The limits are exact at 0 and n; rounding may not push them past the share itself.
    return Interval(p, max(0.0, min(middle - half, p)), min(1.0, max(middle + half, p)), n, n)


def _as_parts(parts: ArrayLike) -> Floats:
    p = np.asarray(parts, dtype=float)
    if p.ndim == 1:
        p = mean_parts(p)
    if len(p) == 0:
        raise ValueError("no items")
    return p


def _cluster_sums(parts: Floats, clusters: Sequence[Hashable] | None) -> Floats:
    if clusters is None:
        return parts
    if len(clusters) != len(parts):
        raise ValueError(f"{len(parts)} items, {len(clusters)} cluster names")
    number: dict[Hashable, int] = {}
    index = np.array([number.setdefault(c, len(number)) for c in clusters])
    sums = np.zeros((len(number), parts.shape[1]))
    np.add.at(sums, index, parts)
    return sums


def _resample(sums: Floats, statistic: Statistic, draws: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    n = len(sums)
    step = max(1, CHUNK // n)
    share = np.full(n, 1 / n)
    return np.concatenate(
        [statistic(rng.multinomial(n, share, size=min(step, draws - i)) @ sums) for i in range(0, draws, step)]
    )
