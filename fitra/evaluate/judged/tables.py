"""Beside the scores: figures by category and region, what the judge's place and length biases are, verdicts, counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from fitra.evaluate.judged.asking import Judgement
from fitra.evaluate.judged.card import ChatCard
from fitra.evaluate.judged.metrics import METRICS, interval

__all__ = ["length_bias", "make", "place_bias", "spearman"]

Row = dict[str, Any]
FEW = 3  # pairs, below which a correlation says nothing


def make(card: ChatCard, rows: Sequence[Row], said: Sequence[Judgement], judge: str, seed: int) -> dict[str, Any]:
    """Everything that tables.json holds of a judged set."""
    pairs, alone = _pairs(rows), _alone(rows)
    errors = Counter(j.error.partition(":")[0] for j in said if j.error)
    return {
        "by_category": _by(rows, "category", seed),
        "by_region": _by(rows, "region", seed) if any(r["region"] for r in rows) else [],
        "by_wants": _by(rows, "wants", seed) if any(r["wants"] for r in rows) else [],
        "verdicts": _verdicts(rows),
        "bias": {"place": place_bias(said), "length": length_bias(pairs), "length_alone": _length_alone(alone)},
        "judge": {
            "identity": judge,
            "asked": len(said),
            "read": sum(not j.error for j in said),
            "errors": dict(errors),
        },
        "answers": _answers(rows),
    }


def _by(rows: Sequence[Row], column: str, seed: int) -> list[Row]:
    """Every metric that applies, for each value of a column, with its interval."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for r in rows:
        groups[r[column] or "(none)"].append(r)
    out = []
    for name, part in sorted(groups.items()):
        for k, metric in enumerate(METRICS):
            parts = [(r["parts"][2 * k], r["parts"][2 * k + 1]) for r in part]
            got = interval(parts, [r["cluster"] for r in part], metric, seed)
            if got is not None:
                out.append({column: name, "metric": metric, **got[0].as_dict(), "interval": got[1]})
    return out


def _pairs(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """(words more than the reference's, score more than the reference's) of every compared answer and aspect."""
    out = []
    for r in rows:
        for a in r["aspects"].values():
            gaps = [v[2] - v[3] for v in a["values"] if v[3] is not None]
            if gaps and r["reference"]:
                more = len(r["answer"][0].split()) - len(r["reference"][0].split())
                out.append((float(more), sum(gaps) / len(gaps)))
    return out


def _alone(rows: Sequence[Row]) -> list[tuple[float, float]]:
    out = []
    for r in rows:
        for a in r["aspects"].values():
            scores = [v[2] for v in a["values"] if v[3] is None]
            if scores:
                out.append((float(sum(len(t.split()) for t in r["answer"])), sum(scores) / len(scores)))
    return out


def place_bias(said: Sequence[Judgement]) -> dict[str, Any]:
    """How a judge's verdict depends on the order: of pairs read in both, how many keep their verdict, how many go to
    whoever stands first or second, and the mean advantage of the first place in score points."""
    both: dict[tuple[str, str, int], dict[str, float]] = defaultdict(dict)
    for j in said:
        if j.order and j.score is not None and j.reference_score is not None:
            both[j.id, j.aspect, j.draw][j.order] = j.score - j.reference_score
    full = [b for b in both.values() if len(b) == 2]
    if not full:
        return {"pairs": 0, "consistent": None, "first_both": None, "second_both": None, "first_advantage": None}
    n = len(full)
    signs = [(np.sign(b["ab"]), np.sign(b["ba"])) for b in full]
    return {
        "pairs": n,
        "consistent": sum(x == y for x, y in signs) / n,
        "first_both": sum(x > 0 > y for x, y in signs) / n,  # the model first: it wins; second: it loses
        "second_both": sum(x < 0 < y for x, y in signs) / n,
        "first_advantage": float(np.mean([(b["ab"] - b["ba"]) / 2 for b in full])),
    }


def length_bias(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """(words more, points more) -> Spearman's correlation, and how often the longer answer has the higher score."""
    decided = [(w, s) for w, s in pairs if w and s]
    return {
        "pairs": len(pairs),
        "spearman": spearman([w for w, _ in pairs], [s for _, s in pairs]),
        "longer_wins": sum((w > 0) == (s > 0) for w, s in decided) / len(decided) if decided else None,
    }


def _length_alone(scored: Sequence[tuple[float, float]]) -> dict[str, Any]:
    return {"answers": len(scored), "spearman": spearman([w for w, _ in scored], [s for _, s in scored])}


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rank correlation, ties at their mean rank; None with fewer than 3 pairs or without variation."""
    if len(a) < FEW or len(set(a)) < 2 or len(set(b)) < 2:
        return None
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Sequence[float]) -> Any:
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def _verdicts(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    out: dict[str, Counter[str]] = defaultdict(Counter)
    for r in rows:
        for label, a in r["aspects"].items():
            if a["verdict"]:
                out[label][a["verdict"]] += 1
    return {k: dict(v) for k, v in out.items()}


def _answers(rows: Sequence[Row]) -> dict[str, Any]:
    words = [sum(len(t.split()) for t in r["answer"]) for r in rows]
    other = [len(r["reference"][0].split()) for r in rows if r["reference"]]
    return {
        "n": len(rows),
        "empty": sum(not "".join(r["answer"]).strip() for r in rows),
        "refuses": sum(r["refusal"] == "refuses" for r in rows),
        "unable": sum(r["refusal"] == "unable" for r in rows),
        "steers": sum(r["steers"] for r in rows),
        "median_words": float(np.median(words)) if words else None,
        "reference_median_words": float(np.median(other)) if other else None,
    }
