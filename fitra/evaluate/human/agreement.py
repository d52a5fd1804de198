"""How far raters agree: per cent, Fleiss' kappa, Krippendorff's alpha, each with an interval; and each rater alone.

Every figure is a statistic of sums over units (see `fitra.stats`), so one bootstrap over questions serves them all.
Judgements that were asked for only because others disagreed do not count here: they would lower the agreement.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fitra import stats
from fitra.evaluate.human.records import OTHER, VERDICTS, Vote

Unit = tuple[str, int, str, str]


def by_unit(votes: Sequence[Vote]) -> dict[Unit, list[Vote]]:
    """Votes of each judged pair, units and votes in an order that does not depend on the file or on raters' names."""
    units: dict[Unit, list[Vote]] = defaultdict(list)
    for v in votes:
        units[v.unit].append(v)
    return {u: sorted(units[u], key=lambda v: (v.tie_break, v.verdict, v.rater)) for u in sorted(units)}


def plurality(votes: Sequence[Vote]) -> str | None:
    """The verdict that most gave, or None where two are equally frequent."""
    top = Counter(v.verdict for v in votes).most_common(2)
    return top[0][0] if top and (len(top) == 1 or top[0][1] > top[1][1]) else None


def counts(votes: Sequence[Vote]) -> list[int]:
    """How many gave each of VERDICTS."""
    n = Counter(v.verdict for v in votes)
    return [n[k] for k in VERDICTS]


def parts(units: Sequence[Sequence[int]]) -> stats.Floats:
    """Per unit with two votes or more: (pairs that agree over pairs, 1, agreeing pairs * 2 / (n - 1), counts ...).

    `units` are counts per category, shape (n, k); units with fewer votes are left out. Returns shape (m, 3 + k).
    """
    table = np.array([u for u in units if sum(u) >= 2], dtype=float).reshape(-1, len(units[0]) if units else 0)
    n = table.sum(axis=1)
    same = (table * (table - 1)).sum(axis=1)
    return np.column_stack([same / (n * (n - 1)), np.ones(len(table)), same / (n - 1), table])


def observed(sums: stats.Floats) -> stats.Floats:
    """The share of pairs of raters that agree, averaged over units."""
    return sums[:, 0] / sums[:, 1]


def fleiss(sums: stats.Floats) -> stats.Floats:
    """Fleiss' kappa (1971), the observed agreement against that of drawing each verdict by its overall share.

    Units may have different numbers of votes. Where one verdict is the only one, kappa is not defined: 0.
    """
    share = sums[:, 3:] / sums[:, 3:].sum(axis=1, keepdims=True)
    chance = (share**2).sum(axis=1)
    return stats.ratio(np.column_stack([observed(sums) - chance, 1 - chance]))


def krippendorff(sums: stats.Floats) -> stats.Floats:
    """Krippendorff's alpha for nominal data, any number of votes per unit. Not defined for a single verdict: 0."""
    n = sums[:, 3:].sum(axis=1)
    apart = (n**2 - (sums[:, 3:] ** 2).sum(axis=1)) / (n - 1)  # disagreement expected, times n
    alpha = 1 - stats.ratio(np.column_stack([n - sums[:, 2], apart]))
    return np.where(apart > 0, alpha, 0.0)


STATISTICS = {"observed": observed, "fleiss_kappa": fleiss, "krippendorff_alpha": krippendorff}


def figures(units: Mapping[Unit, Sequence[Vote]], seed: int) -> dict[str, Any]:
    """Each of STATISTICS with value, ci_low, ci_high (95 %, bootstrap over questions), n units; {} without two votes
    on any unit. The value is None where it is not defined."""
    held = [(u, counts([v for v in votes if not v.tie_break])) for u, votes in units.items()]
    held = [(u, c) for u, c in held if sum(c) >= 2]
    if not held:
        return {}
    table = parts([c for _, c in held])
    clusters = [u[0] for u, _ in held]
    single = sum(total > 0 for total in table[:, 3:].sum(axis=0)) < 2
    out: dict[str, Any] = {}
    for name, statistic in STATISTICS.items():
        out[name] = stats.bootstrap(table, statistic, clusters=clusters, seed=seed).as_dict()
        if single and name != "observed":
            out[name] |= dict.fromkeys(("value", "ci_low", "ci_high"))
    return out


def raters(units: Mapping[Unit, Sequence[Vote]], seed: int) -> dict[str, dict[str, Any]]:
    """Each rater: votes, shares of ties and both-bad, agreement with the verdict of the *others*, position bias.

    `agreement` is over the units where the others have a plurality of their own. `first` is the share of the rater's
    decisive verdicts that went to the answer shown first, over those whose order is known: 0.5 where the order is drawn
    evenly and has no influence. Intervals are 95 %, bootstrap over questions.
    """
    mine: dict[str, list[tuple[str, Vote, str | None]]] = defaultdict(list)
    for unit, votes in units.items():
        for v in votes:
            others = plurality([o for o in votes if o is not v and not o.tie_break])
            mine[v.rater].append((unit[0], v, others))
    out = {}
    for rater in sorted(mine):
        rows = mine[rater]
        agreed = [(q, float(v.verdict == o)) for q, v, o in rows if o is not None and not v.tie_break]
        said = Counter(v.verdict for _, v, _ in rows)
        out[rater] = {
            "votes": len(rows),
            "tie": said["tie"] / len(rows),
            "both_bad": said["both_bad"] / len(rows),
            "agreement": share(agreed, seed),
            "first": share(first_won(q, v) for q, v, _ in rows if v.first and v.verdict in OTHER),
        }
    return out


def first_won(question: str, vote: Vote) -> tuple[str, float]:
    """(question, 1.0 if the answer shown first was preferred) of a decisive vote whose order is known."""
    return question, float(vote.verdict == vote.first)


def share(rows: Any, seed: int = 0) -> dict[str, Any] | None:
    """A share with its interval from (cluster, 0 or 1); None without a row. Wilson where every cluster has one row, and
    over clusters at 0 and 1, where a bootstrap has no width."""
    held = list(rows)
    if not held:
        return None
    got = stats.bootstrap([x for _, x in held], clusters=[c for c, _ in held], seed=seed)
    if got.clusters == got.n:
        got = stats.wilson(round(sum(x for _, x in held)), got.n)
    elif got.value in (0.0, 1.0):
        edge = stats.wilson(round(got.value * got.clusters), got.clusters)
        got = stats.Interval(got.value, edge.low, edge.high, got.n, got.clusters)
    return got.as_dict()
