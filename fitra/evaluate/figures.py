"""Figures over scored items: a task's score and those of its slices, twice (all items, and those without defects).

`summarise` makes scores.json; `fitra.evaluate.bias.tables` makes what stands beside it: by category, by letter and
length, and under other normalisations.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fitra import arabic, stats
from fitra.errors import FitraError
from fitra.evaluate.card import LOWER_IS_BETTER, STATISTICS, Card, Item

Row = dict[str, Any]
Groups = Mapping[str, tuple[str, str]]  # category -> (sub-category, domain)
BY_CATEGORY = ("mean_accuracy", "nested_accuracy")


def summarise(card: Card, rows: Sequence[Row], seed: int) -> dict[str, dict[str, Any]]:
    """Scores of the task and its slices, every metric with its interval, by the keys of scores.json.

    `cleaned` is the same figure over items without defects (None where none is left). `se` is the cluster-robust
    standard error over the items' own clusters (repeats, passages), `se_by_category` that over categories: what other
    subjects would have changed (None for a mean over categories, or a single one). `unparsed` is the share of written
    answers that name no option (None where nothing was to be read).
    Raises FitraError for a nested mean over a category that the card does not group.
    """
    rows = dressed(card, rows)
    scores = {}
    for name in ("", *sorted({s for r in rows for s in r["slices"]})):
        part = [r for r in rows if not name or name in r["slices"]]
        clean = [r for r in part if not r["defects"]]
        for k, metric in enumerate(card.metrics):
            key = "/".join(x for x in (card.task, name, metric if k else "") if x)
            whole = score(part, metric, seed, card.groups)
            kept = whole if len(clean) == len(part) else score(clean, metric, seed, card.groups) if clean else None
            scores[key] = {
                "metric": metric,
                **whole,
                "se_by_category": _se_by_category(part, metric),
                "higher_is_better": metric not in LOWER_IS_BETTER,
                "protocol": card.protocol,
                "version": card.version,
                "warnings": list(card.warnings),
                "cleaned": kept and {x: kept[x] for x in ("value", "ci_low", "ci_high", "n")},
                "unparsed": unparsed(card, part),
            }
    return scores


def dressed(card: Card, rows: Sequence[Row]) -> list[Row]:
    """The rows with `category` and `defects`, from the card's items where the rows have none."""
    items = {i.id: i for i in card.items}
    nothing = Item("", "", (), 0)
    return [
        {
            **r,
            "category": r.get("category") or items.get(r["id"], nothing).category,
            "defects": list(r.get("defects") or items.get(r["id"], nothing).defects),
        }
        for r in rows
    ]


def score(rows: Sequence[Row], metric: str, seed: int, groups: Groups | None = None) -> dict[str, Any]:
    """value, ci_low, ci_high, n, clusters, interval (its name), se (None for a single cluster)."""
    interval, how = figure(rows, metric, seed, groups)
    se = stats.standard_error(
        [r["parts"] for r in rows],
        STATISTICS[metric],
        clusters=[r["cluster"] for r in rows],
        strata=strata(rows, metric, groups),
    )
    return {
        **interval.as_dict(),
        "clusters": interval.clusters,
        "interval": how,
        "se": None if np.isnan(se) else se,
    }


def _se_by_category(rows: Sequence[Row], metric: str) -> float | None:
    categories = [r["category"] for r in rows]
    if metric in BY_CATEGORY or len(set(categories)) < 2:
        return None
    return stats.standard_error([r["parts"] for r in rows], STATISTICS[metric], clusters=categories)


def figure(rows: Sequence[Row], metric: str, seed: int, groups: Groups | None = None) -> tuple[stats.Interval, str]:
    """A metric over items with its 95 % interval and the interval's name.

    Wilson for a plain share of independent items; else a bootstrap over clusters, within each category where the
    metric is a mean over categories. At 0 or 1 a bootstrap has no width, so there too Wilson stands in, with clusters
    as the trials.
    """
    parts = np.array([r["parts"] for r in rows], dtype=float)
    within = strata(rows, metric, groups)
    clusters = [r["cluster"] for r in rows]
    got = stats.bootstrap(parts, STATISTICS[metric], clusters=clusters, strata=within, seed=seed)
    name = "bootstrap over clusters" + (" within categories" if within else "")
    plain = parts.shape[1] == 2 and bool((parts[:, 1] == 1).all())
    alone = within is None and got.clusters == got.n and plain
    if metric in ("bits_per_byte", "perplexity", "token_f1") or (
        not alone and (metric == "macro_f1" or 0 < got.value < 1)
    ):
        return got, name
    if alone:
        return stats.wilson(round(float(parts[:, 0].sum())), got.n), "wilson"
    edge = stats.wilson(round(got.value * got.clusters), got.clusters)
    return stats.Interval(got.value, edge.low, edge.high, got.n, got.clusters), "wilson over clusters"


def strata(rows: Sequence[Row], metric: str, groups: Groups | None = None) -> stats.Strata | None:
    """How a metric averages over categories; None for a pooled one.

    `mean_accuracy`: every category weighs the same. `nested_accuracy`: categories within their sub-category, these
    within their domain, domains at the end (AceGPT's MMLU-ar: 57 subjects, 17 sub-categories, 4 domains). Categories
    without an item (a limit was set) do not count, nor do groups left empty.
    """
    if metric not in BY_CATEGORY:
        return None
    of = [r.get("category") or "" for r in rows]
    there = sorted(set(of))
    if metric == "mean_accuracy":
        return stats.Strata(of, dict.fromkeys(there, 1 / max(1, len(there))))
    lost = [c for c in there if c not in (groups or {})]
    if lost:
        raise FitraError(
            f"nested_accuracy: the task card does not say which group the category '{lost[0]}' belongs to.",
            "Name every category under the card's groups, or take mean_accuracy.",
        )
    tree: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for c in there:
        sub, domain = (groups or {})[c]
        tree[domain][sub].append(c)
    weights = {
        c: 1 / len(tree) / len(subs) / len(subjects)
        for subs in tree.values()
        for subjects in subs.values()
        for c in subjects
    }
    return stats.Strata(of, weights)


def unparsed(card: Card, rows: Sequence[Row]) -> float | None:
    """Share of answers that name no option; None where the answer is not one of several."""
    if card.kind not in ("choice", "preference", "generate") or (card.kind == "generate" and not card.extract):
        return None
    return sum(r["predicted"] is None for r in rows) / max(1, len(rows))


def parts(card: Card, item: Item, predicted: int | None, output: str = "") -> list[float]:
    """What one answer adds to the sums that the card's metrics are made of; `output` is what the model wrote.

    Exact match and word F1: (exact, 1, F1, 1). Macro-F1: `stats.class_parts`, option 0 being 'yes'. A preference:
    (the unwanted was preferred, 1). Else (right, 1).
    """
    if {"exact_match", "token_f1"} & set(card.metrics):
        exact, overlap = answer_scores(output, item.answers)
        return [exact, 1.0, overlap, 1.0]
    if "macro_f1" in card.metrics:
        return [float(x) for x in stats.class_parts([item.gold], [predicted], positive=0)[0]]
    right = predicted == item.gold
    return [float(right != (card.kind == "preference")), 1.0]


def answer_scores(output: str, answers: Sequence[str]) -> tuple[float, float]:
    """(exact match, F1 of words) of the first line written, against the accepted answer that fits best (SQuAD).

    Words are folded (tashkeel, hamza, digits, punctuation, case); no article is cut off: ال is part of its word.
    """
    lines = [line for line in output.splitlines() if line.strip()]
    said = arabic.fold(lines[0], level="search").split() if lines else []
    exact = overlap = 0.0
    for answer in answers:
        want = arabic.fold(answer, level="search").split()
        exact = max(exact, float(said == want))
        common = sum((Counter(said) & Counter(want)).values())
        if common:
            overlap = max(overlap, 2 * common / (len(said) + len(want)))
        elif said == want:
            overlap = 1.0
    return exact, overlap
