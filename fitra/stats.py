"""Figures with their uncertainty: intervals, standard errors, paired differences, F1, tests. NumPy alone.

A score is a statistic of sums over items: every item gives a row of counts (its *parts*), and the statistic maps summed
parts to a figure. Accuracy has the parts (correct, 1), bits per byte (bits, bytes), macro-F1 the confusion counts. So
one bootstrap serves every metric, and it never touches an item twice: resampling n items with replacement is drawing
how often each of them occurs. Items with equal parts are even drawn together, so 14,042 answers, right or wrong, cost
two binomials a draw.

A statistic may also be a mean over strata (subjects, then their groups): `Strata` holds which and how much each weighs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
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


@dataclass(frozen=True)
class Strata:
    """A weighted mean of the statistic of each stratum: `of` names the stratum of each item, `weights` add up to 1.

    Mean over subjects: equal weights. Nested means (subjects, sub-categories, domains): the product of the shares.
    """

    of: Sequence[Hashable]
    weights: Mapping[Any, float]


def ratio(sums: Floats) -> Floats:
    """Statistic of parts (numerator, denominator): a mean when the second part is 1. 0/0 is 0."""
    return _divide(sums[:, 0], sums[:, 1])


def macro_f1_of(sums: Floats) -> Floats:
    """Statistic of the parts of `confusion_parts` or `class_parts`: (F1 yes + F1 no) / 2, with 0/0 = 0.

    AceGPT pools these counts over all topics before the F1 (its cal_acva_f1 script).
    """
    if sums.shape[1] == 4:
        tp, fp, fn, tn = sums.T
        sums = np.column_stack([tp, fp, fn, tn, fn, fp])
    tp, fp, fn, tp_no, fp_no, fn_no = sums.T
    return (_divide(2 * tp, 2 * tp + fp + fn) + _divide(2 * tp_no, 2 * tp_no + fp_no + fn_no)) / 2


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


def class_parts(gold: Sequence[Any], predicted: Sequence[Any], positive: Any = True) -> Floats:
    """(true, false, missed) of the positive class, then of the other, per item, shape (n, 6).

    As `confusion_parts`, but a prediction of None is a miss of its gold class and no vote for the other: an answer
    that could not be read hurts recall alone.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold labels, {len(predicted)} predictions")
    g = np.array([x == positive for x in gold], dtype=bool)
    yes = np.array([x is not None and x == positive for x in predicted], dtype=bool)
    no = np.array([x is not None and x != positive for x in predicted], dtype=bool)
    return np.column_stack([g & yes, ~g & yes, g & ~yes, ~g & no, g & no, ~g & ~no]).astype(float).reshape(-1, 6)


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
    strata: Strata | None = None,
    draws: int = DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of `statistic` over items, or over clusters of items that belong together.

    `parts` is (n, k), or (n,) for a plain mean. Clusters (the same statement asked twice, questions on one passage)
    are resampled whole, since their items are not independent. With `strata` clusters are resampled within each
    stratum; one that reaches over strata counts in each. Raises ValueError when there is no item.
    """
    p = _as_parts(parts)
    return _interval(p, statistic, _strata_sums(p, clusters, strata), draws, level, seed)[0]


def standard_error(
    parts: ArrayLike,
    statistic: Statistic = ratio,
    *,
    clusters: Sequence[Hashable] | None = None,
    strata: Strata | None = None,
) -> float:
    """Cluster-robust standard error: the jackknife that leaves out one cluster at a time (Efron and Stein 1981).

    For a mean of independent items it is s / sqrt(n), the `stderr` of lm-eval; for clusters of equal size the usual
    sandwich with its factor G / (G - 1). NaN where a stratum has fewer than two clusters.
    """
    variance = 0.0
    for weight, sums in _strata_sums(_as_parts(parts), clusters, strata):
        g = len(sums)
        if g < 2:
            return math.nan
        kinds, counts = np.unique(sums, axis=0, return_counts=True)
        without = statistic(sums.sum(axis=0) - kinds)
        middle = np.average(without, weights=counts)
        variance += weight**2 * (g - 1) / g * float(counts @ (without - middle) ** 2)
    return math.sqrt(variance)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    statistic: Statistic = ratio,
    *,
    clusters: Sequence[Hashable] | None = None,
    strata: Strata | None = None,
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

    groups = _strata_sums(np.column_stack([pa, pb]), clusters, strata)
    got, drawn = _interval(pa, gap, groups, draws, level, seed)
    # +1: a p-value of exactly 0 cannot come from finitely many draws.
    p = 2 * min(np.count_nonzero(drawn <= 0) + 1, np.count_nonzero(drawn >= 0) + 1) / (draws + 1)
    return Difference(got.value, got.low, got.high, got.n, got.clusters, min(1.0, float(p)))


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p that neither of two systems is right more often, from the items that only one has right."""
    n, k = only_a + only_b, min(only_a, only_b)
    if n == 0:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2) for i in range(k + 1)]
    return min(1.0, 2 * math.fsum(map(math.exp, logs)))


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979), in the order given."""
    out, most = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        most = max(most, min(1.0, (len(ps) - rank) * ps[i]))
        out[i] = most
    return out


def chi2_sf(x: float, df: int) -> float:
    """P(chi-squared with `df` degrees of freedom > x), by the finite sums for even and odd `df`."""
    if df < 1 or x <= 0:
        return 1.0
    h = x / 2
    if df % 2 == 0:
        return min(1.0, math.fsum(math.exp(k * math.log(h) - h - math.lgamma(k + 1)) for k in range(df // 2)))
    tail = math.fsum(math.exp((k + 0.5) * math.log(h) - h - math.lgamma(k + 1.5)) for k in range(df // 2))
    return min(1.0, math.erfc(math.sqrt(h)) + tail)


def independence(table: ArrayLike) -> tuple[float, int, float]:
    """Pearson's test on counts: (chi-squared, degrees of freedom, p). Empty rows and columns do not count."""
    t = np.asarray(table, dtype=float)
    t = t[t.sum(axis=1) > 0][:, t.sum(axis=0) > 0]
    df = max(0, t.shape[0] - 1) * max(0, t.shape[1] - 1)
    if not df:
        return 0.0, 0, 1.0
    expected = t.sum(axis=1, keepdims=True) @ t.sum(axis=0, keepdims=True) / t.sum()
    x = float(((t - expected) ** 2 / expected).sum())
    return x, df, chi2_sf(x, df)


def same_margins(table: ArrayLike) -> tuple[float, int, float]:
    """Stuart and Maxwell's test that rows and columns of a square table of counts have the same totals.

    Rows are gold, columns predictions on the same items: are the letters predicted as often as they are right?
    Classes that occur nowhere do not count.
    """
    t = np.asarray(table, dtype=float)
    seen = (t.sum(axis=0) + t.sum(axis=1)) > 0
    t = t[seen][:, seen]
    d = (t.sum(axis=1) - t.sum(axis=0))[:-1]
    if not len(d):
        return 0.0, 0, 1.0
    v = -(t + t.T)[:-1, :-1]
    np.fill_diagonal(v, (t.sum(axis=0) + t.sum(axis=1) - 2 * np.diag(t))[:-1])
    x = float(d @ np.linalg.pinv(v) @ d)
    return x, len(d), chi2_sf(x, len(d))


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


def _strata_sums(
    parts: Floats, clusters: Sequence[Hashable] | None, strata: Strata | None
) -> list[tuple[float, Floats]]:
    """(weight, sums of its clusters) of each stratum, in order of first appearance; one of weight 1 without strata."""
    if strata is None:
        return [(1.0, _cluster_sums(parts, clusters))]
    if len(strata.of) != len(parts):
        raise ValueError(f"{len(parts)} items, {len(strata.of)} names of strata")
    rows: dict[Hashable, list[int]] = {}
    for i, name in enumerate(strata.of):
        rows.setdefault(name, []).append(i)
    return [
        (strata.weights[name], _cluster_sums(parts[at], None if clusters is None else [clusters[i] for i in at]))
        for name, at in rows.items()
    ]


def _interval(
    parts: Floats, statistic: Statistic, groups: list[tuple[float, Floats]], draws: int, level: float, seed: int
) -> tuple[Interval, Floats]:
    drawn = _mean([(w, _resample(x, statistic, draws, seed + i)) for i, (w, x) in enumerate(groups)])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    value = _mean([(w, statistic(x.sum(axis=0, keepdims=True))) for w, x in groups])
    return Interval(float(value[0]), float(low), float(high), len(parts), sum(len(x) for _, x in groups)), drawn


def _mean(weighted: Sequence[tuple[float, Floats]]) -> Floats:
    return np.asarray(sum(w * x for w, x in weighted), dtype=np.float64)


def _resample(sums: Floats, statistic: Statistic, draws: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    n = len(sums)
    kinds, counts = np.unique(sums, axis=0, return_counts=True)
    share = np.full(n, 1 / n)
    if 2 * len(kinds) <= n:  # drawing equal ones together is the same draw
        sums, share = kinds, counts / n
    step = max(1, CHUNK // len(sums))
    return np.concatenate(
        [statistic(rng.multinomial(n, share, size=min(step, draws - i)) @ sums) for i in range(0, draws, step)]
    )
