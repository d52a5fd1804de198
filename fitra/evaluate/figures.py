"""Figures over scored items: a task's score, those of its slices, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fitra import stats
from fitra.evaluate.card import LOWER_IS_BETTER, STATISTICS, Card

Row = dict[str, Any]


def summarise(card: Card, rows: Sequence[Row], seed: int) -> dict[str, dict[str, Any]]:
    """Scores of the task and its slices, every metric with its interval."""
    scores = {}
    for name in ("", *sorted({s for r in rows for s in r["slices"]})):
        part = [r for r in rows if not name or name in r["slices"]]
        for k, metric in enumerate(card.metrics):
            key = "/".join(x for x in (card.task, name, metric if k else "") if x)
            interval, how = figure(part, metric, seed)
            scores[key] = {
                "metric": metric,
                **interval.as_dict(),
                "clusters": interval.clusters,
                "interval": how,
                "higher_is_better": metric not in LOWER_IS_BETTER,
                "protocol": card.protocol,
                "warnings": list(card.warnings),
            }
    return scores


def figure(rows: Sequence[Row], metric: str, seed: int) -> tuple[stats.Interval, str]:
    """A metric over items with its 95 % interval and the interval's name.

    Wilson for a plain share of independent items; else a bootstrap over clusters. At 0 or 1 a bootstrap has no width,
    so there too Wilson stands in, with clusters as the trials.
    """
    clusters = [r["cluster"] for r in rows]
    got = stats.bootstrap([r["parts"] for r in rows], STATISTICS[metric], clusters=clusters, seed=seed)
    alone = got.clusters == got.n and all(len(r["parts"]) == 2 and r["parts"][1] == 1.0 for r in rows)
    if metric == "bits_per_byte" or (not alone and (metric == "macro_f1" or 0 < got.value < 1)):
        return got, "bootstrap over clusters"
    if alone:
        return stats.wilson(round(sum(r["parts"][0] for r in rows)), got.n), "wilson"
    edge = stats.wilson(round(got.value * got.clusters), got.clusters)
    return stats.Interval(got.value, edge.low, edge.high, got.n, got.clusters), "wilson over clusters"
