"""Rewrites judged from 1 to 10 in five aspects, as the paper did: by a model, or by the embedded judge.

    rows = [{"id": "1", "original": "...", "rewrite": "..."}]
    judged = aspects.judge(rows, policy, backend, Path("ledger"))     # one call a row, kept in the ledger
    judged = aspects.embedded(rows, policy)                           # rules and signals, no model
    aspects.summary(judged)

What a judge does not answer, or answers in another form than asked, is counted as failed and never as a score. The
embedded judge is made of the same rules and gates that rewrote the text, so it agrees with them by construction: it
compares rewriters with one another and finds what a model broke, it proves nothing about the rules themselves.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fitra import llm, stats
from fitra.align import gates, layout, masking, rewrite, rules
from fitra.align.diff import diff
from fitra.policy import Policy, prompt
from fitra.signals import toxicity
from fitra.signals.view import view

__all__ = ["ASPECTS", "EMBEDDED", "SCHEMA", "Judged", "embedded", "job", "judge", "parse", "summary"]

ASPECTS = ("format", "accuracy", "moderation", "advertisement", "detail")
EMBEDDED = "fitra-embedded-aspects/1"  # the name of the embedded judge: raise it with any rule below
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {a: {"type": "integer", "minimum": 1, "maximum": 10} for a in ASPECTS},
    "required": list(ASPECTS),
    "additionalProperties": False,
}
_THINK = re.compile(r"\A\s*<think>.*?</think>\s*", re.S)
_FENCE = re.compile(r"\A\s*```(?:json)?\s*(.*?)\s*```\s*\Z", re.S)
_FACTS = ("numbers_lost", "numbers_new", "dates", "units", "names_lost", "names_new", "negation", "urls", "protected")


@dataclass(frozen=True)
class Judged:
    """One pair: a score for each aspect, or None and what failed."""

    id: str
    scores: Mapping[str, float] | None
    error: str = ""


def job(policy: Policy) -> llm.Job:
    """The job that asks a judge about rows {id, original, rewrite}."""

    def render(row: Mapping[str, Any]) -> list[llm.Message]:
        # The mark depends on both texts, so neither can contain it by design.
        nonce = hashlib.sha256(f"{row['original']}\0{row['rewrite']}".encode("utf-8", "replace")).hexdigest()[:12]
        asked = prompt(policy, "judge", nonce=nonce, original=str(row["original"]), rewrite=str(row["rewrite"]))
        return [{"role": "user", "content": asked}]

    return llm.Job("aspects", render, lambda reply, _: parse(reply), sampling={"temperature": 0.0}, schema=SCHEMA)


def parse(reply: str) -> dict[str, float]:
    """All five scores, whole numbers from 1 to 10; llm.ParseError for anything else."""
    text = _THINK.sub("", reply)
    fence = _FENCE.match(text)
    try:  # the whole reply: an object somewhere in talk may be one that the texts themselves brought along
        found = json.loads(fence[1] if fence else text)
    except (ValueError, RecursionError):
        raise llm.ParseError("the judge's reply is not the JSON that was asked for") from None
    if not isinstance(found, dict) or set(found) != set(ASPECTS):
        raise llm.ParseError(f"the judge's JSON has not just the keys {', '.join(ASPECTS)}")
    for aspect, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value not in range(1, 11):
            raise llm.ParseError(f"'{aspect}' is no whole number from 1 to 10")
    return {a: float(found[a]) for a in ASPECTS}


def judge(rows: Sequence[Mapping[str, Any]], policy: Policy, backend: llm.Backend, ledger: Path) -> list[Judged]:
    """Ask a judge about rows {id, original, rewrite}; one result a row, in order.

    Raises FitraError where nobody answers at all; what was answered until then is in the ledger.
    """
    return [
        Judged(str(a.row_id), a.value if a.error is None else None, a.error or "")
        for a in llm.run(job(policy), rows, backend, ledger)
    ]


def embedded(rows: Sequence[Mapping[str, Any]], policy: Policy, verses: masking.Verses | None = None) -> list[Judged]:
    """The embedded judge on rows {id, original, rewrite}, in order; scores with one decimal.

    format         what the repair of layout would still change in the rewrite: 10 for nothing, 1 from a tenth on
    accuracy       10 less 2 for each fact lost, new or changed by the gates (numbers, dates, units, names, denials,
                   links, protected spans) and for each passage invented
    moderation     10 less nine times the highest safety heading of the rewrite, by rules or by the trained scorer
    advertisement  10 without advertising by the policy's cues, else 7 less the share of the text that is
    detail         share of the original's content words that are kept, what the rules would take out aside
    """
    compiled = rules.compile_rules(policy)
    out: dict[int, Judged] = {}
    pairs: dict[int, gates.Pair] = {}
    marks: dict[int, tuple[float, float]] = {}
    for n, row in enumerate(rows):
        try:
            pairs[n] = _pair(str(row["original"]), str(row["rewrite"]), compiled, verses)
            marks[n] = _left(pairs[n].rewrite, compiled, verses)
        except (masking.MaskError, ValueError, KeyError, IndexError, RecursionError) as e:  # harms no neighbour
            out[n] = Judged(str(row["id"]), None, f"{type(e).__name__}: {e}")
    places = [n for n in pairs if n not in out]
    given = [pairs[n] for n in places]
    verdicts, harm = gates.judge_all(given, policy, verses), _harm([p.rewrite for p in given])
    for n, found, level in zip(places, verdicts, harm, strict=True):
        out[n] = Judged(str(rows[n]["id"]), _scores(found, level, *marks[n]))
    return [out[n] for n in range(len(rows))]


def _pair(before: str, after: str, compiled: rules.Rules, verses: masking.Verses | None) -> gates.Pair:
    masked = masking.mask(before, verses)
    removed = [rewrite.reveal(r.text, masked) for r in rules.apply(masked, compiled).removed]
    removed = [r for r in removed if r not in after]  # what could have gone and is still there is nothing new
    added = [safe for _, safe in compiled.unsafe if safe in after and safe not in before]
    return gates.Pair(before, after, removed, added, protected=None)


def _scores(verdicts: Sequence[gates.Verdict], harm: float, form: float, ads: float) -> dict[str, float]:
    figure = {v.gate: v for v in verdicts}
    wrong = sum(abs(figure[g].figure) for g in _FACTS) + (not figure["passage_new"].passed)
    scores = {
        "format": 10 - 90 * form,
        "accuracy": 10 - 2 * wrong,
        "moderation": 10 - 9 * harm,
        "advertisement": 7 - 6 * ads if ads else 10,
        "detail": 1 + 9 * figure["words_kept"].figure,
    }
    return {a: round(min(10.0, max(1.0, scores[a])), 1) for a in ASPECTS}


def _left(text: str, compiled: rules.Rules, verses: masking.Verses | None) -> tuple[float, float]:
    """Shares of a text that the repair of layout would change, and that is advertising."""
    masked = masking.mask(text, verses)
    made = rules.apply(masked, compiled)
    ads = sum(len(r.text) for r in made.removed if r.rule in ("moderation.ads", "moderation.boilerplate"))
    size = max(1, len(masked.text))
    repaired = layout.repair(masked.text)
    changed = sum(len(piece) for kind, piece in diff(masked.text, repaired) if kind == "gone")
    return min(1.0, changed / size), min(1.0, ads / size)


def _harm(texts: Sequence[str]) -> list[float]:
    """The highest safety heading of each text, by rules or by the trained scorer."""
    if not texts:
        return []
    trained = toxicity.overall(view(list(texts))).tolist()
    by_rules = [max(found[h] for h in toxicity.SAFETY_HEADINGS) for found in map(toxicity.score, texts)]
    return [float(max(a, b)) for a, b in zip(trained, by_rules, strict=True)]


def summary(judged: Sequence[Judged], seed: int = 0) -> dict[str, Any]:
    """Means with their intervals, counts of 1 to 10 for each aspect, and what failed by kind."""
    good = [j.scores for j in judged if j.scores is not None]
    out: dict[str, Any] = {
        "n": len(judged),
        "failed": dict(sorted(Counter(j.error.split(":")[0] for j in judged if j.scores is None).items())),
        "aspects": {},
    }
    for aspect in ASPECTS if good else ():
        values = np.array([s[aspect] for s in good])
        mean = stats.bootstrap(values, draws=1000, seed=seed)
        counts = np.bincount(np.rint(values).astype(int), minlength=11)[1:11].tolist()
        out["aspects"][aspect] = {**{k: round(v, 3) for k, v in mean.as_dict().items()}, "counts": counts}
    return out
