"""Elo ratings from decided pairs, in ALLaM's two settings, and Bradley-Terry strengths beside them.

    default   a win 1, a loss 0, a tie and both-bad 0.5 each
    custom    the same, but both-bad is 0 for both

An Elo rating depends on the order of the games. So it is the mean over many random orders, with the spread that the
order alone makes; its interval comes from drawing questions anew. Bradley-Terry by maximum likelihood has no order at
all. Start 1000, K 32 and the scale of 400 points are ours: the paper names none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

START, K, SCALE = 1000.0, 32.0, 400.0
ORDERS = 500  # random orders behind a rating
DRAWS, ORDERS_PER_DRAW = 500, 8  # of questions, for the interval, and orders of each
SCORES = {
    "default": {"a": (1.0, 0.0), "b": (0.0, 1.0), "tie": (0.5, 0.5), "both_bad": (0.5, 0.5)},
    "custom": {"a": (1.0, 0.0), "b": (0.0, 1.0), "tie": (0.5, 0.5), "both_bad": (0.0, 0.0)},
}
RIDGE = 1e-6  # holds the strengths of a model that never lost; it moves no other by a hundredth of a point
STEPS = 60


@dataclass(frozen=True)
class Game:
    """A decided pair: `verdict` is a, b, tie or both_bad; games on one question are drawn together."""

    question: str
    a: str
    b: str
    verdict: str


def play(games: Ints, scores: Floats, models: int, k: float = K, start: float = START) -> Floats:
    """Ratings after games in order, many orders at once.

    `games` (orders, n, 2) are model numbers, -1 for no game; `scores` (orders, n, 2) what each of the two got. Returns
    (orders, models).
    """
    ratings = np.full((len(games), models), start)
    row = np.arange(len(games))
    for t in range(games.shape[1]):
        a, b = games[:, t, 0], games[:, t, 1]
        expected = 1 / (1 + 10 ** ((ratings[row, b] - ratings[row, a]) / SCALE))
        on = np.where(a >= 0, k, 0.0)
        ratings[row, a] += on * (scores[:, t, 0] - expected)
        ratings[row, b] += on * (scores[:, t, 1] - (1 - expected))
    return ratings


def elo(games: Sequence[Game], setting: str, k: float = K, seed: int = 0) -> dict[str, dict[str, float]]:
    """Ratings by model, best first: value (mean over random orders), order_sd, ci_low, ci_high (95 %), games."""
    names, index, scores = _arrays(games, setting)
    rng = np.random.default_rng(seed)
    orders = np.array([rng.permutation(len(games)) for _ in range(ORDERS)])
    ratings = play(index[orders], scores[orders], len(names), k)
    # One more line stands for 'no game', so that draws of unequal length make one array.
    index, scores = np.vstack([index, [[-1, -1]]]), np.vstack([scores, [[0.0, 0.0]]])
    drawn = _draws(games, rng)
    longest = max(len(d) for d in drawn)
    padded = np.full((DRAWS * ORDERS_PER_DRAW, longest), len(games))
    for i, d in enumerate(drawn):
        for j in range(ORDERS_PER_DRAW):
            padded[i * ORDERS_PER_DRAW + j, : len(d)] = rng.permutation(d)
    again = play(index[padded], scores[padded], len(names), k).reshape(DRAWS, ORDERS_PER_DRAW, -1).mean(axis=1)
    low, high = np.quantile(again, [0.025, 0.975], axis=0)
    values, spread = ratings.mean(axis=0), ratings.std(axis=0)
    played = [sum(n in (g.a, g.b) for g in games) for n in names]
    found = {
        n: {
            "value": float(values[i]), "order_sd": float(spread[i]), "ci_low": float(low[i]), "ci_high": float(high[i]),
            "games": played[i],
        }
        for i, n in enumerate(names)
    }  # fmt: skip
    return dict(sorted(found.items(), key=lambda x: (-x[1]["value"], x[0])))


def bradley_terry(games: Sequence[Game], both_bad: bool, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Strengths on the Elo scale around START by maximum likelihood, best first: value, ci_low, ci_high, bounded.

    A tie is half a win for each; so is both-bad, or it is left out (`both_bad` false: two zeros carry no preference).
    `bounded` is false where the games do not tie the models together, so that no finite maximum exists; the value is
    then None. Intervals are 95 %, over questions.
    """
    names, index, scores = _arrays(games, "default")
    kept = np.array([both_bad or g.verdict != "both_bad" for g in games], dtype=float)
    m = len(names)
    numbers = _numbers(games)
    per = np.zeros((max(numbers) + 1, m, m))  # wins of row over column, by question
    for q, (a, b), (wa, wb), on in zip(numbers, index, scores, kept, strict=True):
        per[q, a, b] += wa * on
        per[q, b, a] += wb * on
    rng = np.random.default_rng(seed)
    often = rng.multinomial(len(per), np.full(len(per), 1 / len(per)), size=DRAWS)
    whole = per.sum(axis=0)
    values = _fit(whole[None])[0]
    low, high = np.quantile(_fit(np.tensordot(often, per, axes=1)), [0.025, 0.975], axis=0)
    fine = _bounded(whole)
    found = {
        n: {"value": float(values[i]), "ci_low": float(low[i]), "ci_high": float(high[i]), "bounded": True}
        if fine
        else {"value": None, "ci_low": None, "ci_high": None, "bounded": False}
        for i, n in enumerate(names)
    }
    return dict(sorted(found.items(), key=lambda x: (-(x[1]["value"] or 0.0), x[0])))


def _arrays(games: Sequence[Game], setting: str) -> tuple[list[str], Ints, Floats]:
    names = sorted({n for g in games for n in (g.a, g.b)})
    at = {n: i for i, n in enumerate(names)}
    index = np.array([(at[g.a], at[g.b]) for g in games], dtype=np.int64)
    return names, index, np.array([SCORES[setting][g.verdict] for g in games])


def _numbers(games: Sequence[Game]) -> list[int]:
    seen: dict[str, int] = {}
    return [seen.setdefault(g.question, len(seen)) for g in games]


def _draws(games: Sequence[Game], rng: np.random.Generator) -> list[Ints]:
    """Game numbers of each draw of questions with replacement."""
    numbers = np.array(_numbers(games))
    groups = [np.flatnonzero(numbers == q) for q in range(numbers.max() + 1)]
    return [np.concatenate([groups[q] for q in rng.integers(len(groups), size=len(groups))]) for _ in range(DRAWS)]


def _fit(wins: Floats) -> Floats:
    """Newton's method on the log-likelihood of many win matrices (d, m, m); ratings (d, m) with mean START."""
    d, m, _ = wins.shape
    games = wins + wins.transpose(0, 2, 1)
    theta = np.zeros((d, m))
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(theta[:, None, :] - theta[:, :, None]))  # row beats column
        slope = wins.sum(axis=2) - (games * p).sum(axis=2) - RIDGE * theta
        weight = games * p * (1 - p)
        bend = np.eye(m) * (weight.sum(axis=2) + RIDGE)[:, :, None] - weight
        # A common shift changes nothing but the ridge: pin it, or the step runs along it.
        step = np.linalg.solve(bend + 1 / m, slope[:, :, None])[:, :, 0]
        theta = theta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-10:
            break
    ratings: Floats = START + (theta - theta.mean(axis=1, keepdims=True)) * SCALE / np.log(10)
    return ratings


def _bounded(wins: Floats) -> bool:
    """Whether every model has beaten every other directly or by way of others: the condition of a finite maximum."""
    reach = (wins > 0) | np.eye(len(wins), dtype=bool)
    for k in range(len(wins)):
        reach |= reach[:, [k]] & reach[[k], :]
    return bool(reach.all())
