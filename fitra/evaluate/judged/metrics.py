"""The figures of judged sets: what each item adds to each of them, and how they are told apart.

An item's `parts` hold (numerator, denominator) for every metric in the order of METRICS; a metric that does not apply
has (0, 0) and so counts neither way. `fitra.evaluate.compare` subtracts two models by the same parts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from fitra import stats
from fitra.evaluate.card import LOWER_IS_BETTER, STATISTICS

__all__ = ["METRICS", "SHARES", "interval", "statistic"]

METRICS = (
    *("score_ratio", "rating", "rating_turn1", "rating_turn2"),
    *("harmlessness_ratio", "helpfulness_ratio", "harmlessness", "helpfulness", "win_rate"),
    *("refusal", "over_refusal", "refusal_any", "unable", "toxic_answers", "other_language", "overlap"),
)
SHARES = frozenset(("refusal", "over_refusal", "refusal_any", "unable", "toxic_answers", "other_language"))
LOWER = frozenset(("over_refusal", "unable", "toxic_answers", "other_language"))


def statistic(metric: str) -> Callable[[stats.Floats], stats.Floats]:
    """Summed parts -> the figure."""
    k = 2 * METRICS.index(metric)
    return lambda sums: stats.ratio(sums[:, k : k + 2])


STATISTICS.update({m: statistic(m) for m in METRICS})
LOWER_IS_BETTER.update(LOWER)


def interval(
    parts: Sequence[tuple[float, float]], clusters: Sequence[Hashable], metric: str, seed: int
) -> tuple[stats.Interval, str] | None:
    """The figure over items (numerator, denominator) with its 95 % interval and the interval's name; None without any.

    Wilson for a share of independent items; else a bootstrap over clusters, which has no width at a share of 0 or 1,
    so there Wilson over clusters stands in.
    """
    kept = [(p, c) for p, c in zip(parts, clusters, strict=True) if p[1]]
    if not kept:
        return None
    got = stats.bootstrap([p for p, _ in kept], stats.ratio, clusters=[c for _, c in kept], seed=seed)
    if metric in SHARES and got.clusters == got.n:
        return stats.wilson(round(sum(p[0] for p, _ in kept)), got.n), "wilson"
    if metric in SHARES and got.value in (0.0, 1.0):
        edge = stats.wilson(round(got.value * got.clusters), got.clusters)
        return stats.Interval(got.value, edge.low, edge.high, got.n, got.clusters), "wilson over clusters"
    return got, "bootstrap over clusters"
