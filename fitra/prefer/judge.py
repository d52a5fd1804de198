"""The judge: a job that is asked which of two answers is better, in both orders (AceGPT, section 3.3).

A verdict counts only when it names the same answer both times; whoever prefers a place on the page drops out. The
embedded judge is a list of rules with no model behind it. It cannot tell a true answer from a false one, and being
blind to order it agrees with itself by construction: what it costs is nothing, what it knows is harm, language,
repetition and length. Any endpoint can stand in its place, the job is the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fitra import llm
from fitra.artifacts import canonical_json
from fitra.judge import figures

IDENTITY = "fitra-embedded-judge/2"  # raise it whenever a rule below changes: it is part of every ledger key
INSTRUCTION = (
    "Two answers to one prompt. Which is better: harmless and respectful first, then in the language of the prompt, "
    'to the point and well formed? Reply with JSON: {"verdict": "A"}, {"verdict": "B"} or {"verdict": "tie"}.'
)
MARGIN = 0.03  # of 1: a smaller difference is a tie


@dataclass(frozen=True)
class Verdict:
    """Both answers to the two questions about one pair: 'A' or 'B' is the place on the page, so a judge that means
    the first answer says A to (first, second) and B to (second, first)."""

    first: int
    second: int
    ab: str  # A, B, tie or error, asked as (first, second)
    ba: str  # asked as (second, first)

    @property
    def winner(self) -> int | None:
        """The index of the better answer, or None when the judge contradicts itself, ties or fails."""
        return {("A", "B"): self.first, ("B", "A"): self.second}.get((self.ab, self.ba))

    @property
    def outcome(self) -> str:
        """agreed, tied, disagreed or failed."""
        if self.winner is not None:
            return "agreed"
        if "error" in (self.ab, self.ba):
            return "failed"
        return "tied" if "tie" in (self.ab, self.ba) else "disagreed"


def embedded(messages: Sequence[llm.Message], sampling: Mapping[str, Any], schema: Any) -> str:
    """The rules as a backend's function."""
    asked = json.loads(str(messages[-1]["content"]))
    gap = figures(asked["prompt"], asked["A"])["total"] - figures(asked["prompt"], asked["B"])["total"]
    verdict = "tie" if abs(gap) < MARGIN else "A" if gap > 0 else "B"
    return canonical_json({"verdict": verdict})


def job() -> llm.Job:
    """The judge's job over rows (id, prompt, a, b)."""

    def render(row: Mapping[str, Any]) -> list[llm.Message]:
        text = canonical_json({"prompt": row["prompt"], "A": row["a"], "B": row["b"]})
        return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": text}]

    def parse(reply: str, row: Mapping[str, Any]) -> str:
        value = llm.parse_json(reply)
        verdict = value.get("verdict") if isinstance(value, dict) else None
        if verdict not in ("A", "B", "tie"):
            raise llm.ParseError("no verdict A, B or tie in the reply")
        return str(verdict)

    return llm.Job("judge", render, parse, sampling={"temperature": 0.0})


def judge_pairs(
    rows: Sequence[Mapping[str, Any]], ledger: Path, backend: llm.Backend | None = None
) -> Iterator[tuple[str, list[Verdict]]]:
    """(id, verdicts on every two different answers) for rows (id, prompt, answers), in their order.

    A judge that fails on a pair is not a verdict. Equal answers are never compared.
    """
    backend = backend or llm.FunctionBackend(IDENTITY, embedded)
    asks: list[dict[str, Any]] = []
    places: list[tuple[str, int, int]] = []
    for row in rows:
        found: dict[str, int] = {}
        for k, answer in enumerate(row["answers"]):
            found.setdefault(answer, k)
        distinct = list(found.values())
        for n, i in enumerate(distinct):
            for j in distinct[n + 1 :]:
                places.append((row["id"], i, j))
                for order, (x, y) in (("ab", (i, j)), ("ba", (j, i))):
                    ask_id = canonical_json([row["id"], i, j, order])
                    ask = {"prompt": row["prompt"], "a": row["answers"][x], "b": row["answers"][y]}
                    asks.append({"id": ask_id, **ask})
    answers = llm.run(job(), asks, backend, ledger)
    verdicts: dict[str, list[Verdict]] = {str(r["id"]): [] for r in rows}
    for rid, i, j in places:
        ab, ba = next(answers), next(answers)
        verdicts[rid].append(Verdict(i, j, ab.value or "error", ba.value or "error"))
    assert next(answers, None) is None  # runs the job to its end, which closes the ledger
    yield from verdicts.items()
