"""Does alignment help here? The two arms side by side, in words that the intervals carry.

The arms have the same token budget and differ in the corpus alone: one was pre-trained on the documents as cleaned
('original'), the other on the documents as rewritten ('aligned').

Where both arms answered the same items, the interval of the paired difference decides: what makes an item easy for both
cancels out, so that a small harm to English is not hidden behind two wide intervals. Elsewhere the two single intervals
must not touch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fitra import stats
from fitra.report.stages import Run, Stage, json_file, number, rows


@dataclass(frozen=True)
class Question:
    """One thing to ask of both arms: the keys of scores.json that answer it, best first, and whether less is better.

    `main` questions carry the headline; the others qualify it. `optional` ones are left out when nobody asked them.
    """

    key: str
    title: str
    lower: bool
    tasks: tuple[str, ...]
    main: bool = True
    optional: bool = False


QUESTIONS = (
    Question("unsafe", "Unsafe continuations", True, ("unsafe",)),
    Question("heldout", "Unsafe continuations, words the rules never saw", True, ("unsafe/heldout",), False, True),
    Question("facts", "Facts recalled in Arabic", False, ("facts_ar",)),
    Question("english", "English loss", True, ("bpb_en", "bpb_retention/en", "bpb_retention")),
    Question("values", "Arabic culture and values (ACVA)", False, ("acva_oall", "acva_yesno"), False, True),
    Question("exams", "Arabic exams", False, ("exams_oall",), False, True),
)
# Two trainings that differ in the seed alone part by some thousandths of a bit per byte, alike on every text, and so
# with a tiny interval. A loss counts as changed only when the interval lies beyond this share of the original's value.
MARGIN = {"bits_per_byte": 0.01}
PAIRED = {"accuracy", "share_unsafe", "bits_per_byte"}  # metrics that are the ratio of an item's two parts

WORD = {"better": "better", "worse": "worse", "same": "no clear difference", "unknown": "cannot be compared"}


@dataclass(frozen=True)
class Score:
    """One cell of scores.json. `value` is None when it is not a finite number."""

    task: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    protocol: str
    warnings: list[str]


@dataclass
class Comparison:
    """One question answered: `word` is better / worse / same / unknown, from the aligned arm's point of view."""

    question: Question
    original: Score | None = None
    aligned: Score | None = None
    word: str = "unknown"
    why: str = ""
    difference: float | None = None
    paired: stats.Difference | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def says(self) -> str:
        """The word as the page prints it."""
        return WORD[self.word]

    @property
    def relative(self) -> float | None:
        """The difference as a share of the original's value, for losses: a clear difference may be a small one."""
        if self.difference is None or not self.original or not self.original.value:
            return None
        return self.difference / self.original.value if self.original.metric == "bits_per_byte" else None

    @property
    def scale(self) -> tuple[float, float]:
        """The range that both intervals span."""
        ends = [x for s in (self.original, self.aligned) if s for x in (s.low, s.high, s.value) if x is not None]
        return (min(ends), max(ends)) if ends else (0.0, 1.0)


def scores(stage: Stage | None) -> dict[str, Score]:
    """The scores of an eval stage by task; empty when there are none. Raises FitraError for a damaged file."""
    value = json_file(stage, "scores.json") if stage else None
    if not isinstance(value, Mapping):
        return {}
    return {str(k): _score(str(k), v) for k, v in sorted(value.items()) if isinstance(v, Mapping)}


def _score(task: str, v: Mapping[str, Any]) -> Score:
    warnings = v.get("warnings") or []
    n = number(v.get("n"))
    return Score(
        task,
        str(v.get("metric", "")),
        number(v.get("value")),
        number(v.get("ci_low")),
        number(v.get("ci_high")),
        None if n is None else int(n),
        str(v.get("protocol", "")),
        [str(w) for w in warnings] if isinstance(warnings, list) else [str(warnings)],
    )


def compare(
    question: Question, original: Score | None, aligned: Score | None, paired: stats.Difference | None = None
) -> Comparison:
    """Better or worse where the interval of the difference leaves out 0 (and the margin of its metric), else 'same'.

    Without a paired difference the two single intervals must part by as much.
    """
    out = Comparison(question, original, aligned)
    for arm, s in (("original", original), ("aligned", aligned)):
        out.warnings += [f"{arm}: {w}" for w in (s.warnings if s else [])]
    if original and aligned and original.warnings == aligned.warnings:
        out.warnings = list(original.warnings)
    if original is None or aligned is None:
        out.why = "not measured" if original is None and aligned is None else "only one arm was measured"
        return out
    for name, a, b in (
        ("metric", original.metric, aligned.metric),
        ("protocol", original.protocol, aligned.protocol),
        ("number of items", original.n, aligned.n),
    ):
        if a != b:
            out.why = f"the {name} differs between the arms ({a} and {b})"
            return out
    if original.value is None or aligned.value is None:
        out.why = "a score is missing or not a number"
        return out
    out.difference = aligned.value - original.value
    out.paired = paired
    if paired:
        gap = (paired.low, paired.high)
    elif None in (original.low, original.high, aligned.low, aligned.high):
        out.why = "a score has no confidence interval"
        return out
    else:
        assert original.low is not None and original.high is not None
        assert aligned.low is not None and aligned.high is not None
        gap = (aligned.low - original.high, aligned.high - original.low)
    margin = MARGIN.get(original.metric, 0.0) * abs(original.value)
    if gap[0] <= margin and gap[1] >= -margin:
        out.word = "same"
    else:
        out.word = "better" if (gap[1] < 0) == question.lower else "worse"
    return out


def paired(a: Stage, b: Stage, first: Score, second: Score) -> stats.Difference | None:
    """The difference b - a on the same items, bootstrapped over clusters, from the items' `parts`.

    None where the items are not the same, or do not give the scores that scores.json states.
    """
    if first.metric not in PAIRED or first.metric != second.metric or first.value is None or second.value is None:
        return None
    x, y = _parts(a, first.task), _parts(b, second.task)
    if not x or x.keys() != y.keys() or any(x[i][:2] != y[i][:2] for i in x):
        return None
    ids = sorted(x)
    try:
        pa, pb = (np.array([held[i][2] for i in ids], dtype=float) for held in (x, y))
    except (TypeError, ValueError):
        return None
    for parts, value in ((pa, first.value), (pb, second.value)):
        if parts.shape != (len(ids), 2) or abs(float(stats.ratio(parts.sum(0, keepdims=True))[0]) - value) > 1e-6:
            return None
    return stats.paired_difference(pa, pb, clusters=[x[i][1] for i in ids])


def _parts(stage: Stage, key: str) -> dict[str, tuple[str, str, list[float]]]:
    """(prompt, cluster, parts) of the items under a key of scores.json: a task, or task/slice."""
    task, _, part = key.partition("/")
    found = rows(stage, "items", ["task", "id", "slices", "cluster", "prompt", "parts"]) or []
    return {
        str(r["id"]): (str(r.get("prompt")), str(r.get("cluster") or r["id"]), r["parts"])
        for r in found
        if r.get("task") == task and r.get("parts") and "id" in r and (not part or part in (r.get("slices") or []))
    }


def comparisons(run: Run) -> list[Comparison]:
    """Every question put to eval-original and eval-aligned; empty when neither ran."""
    a, b = run.stage("eval-original"), run.stage("eval-aligned")
    if not a and not b:
        return []
    left, right = scores(a), scores(b)
    out = []
    for q in QUESTIONS:
        task = next((t for t in q.tasks if t in left and t in right), None)
        task = task or next((t for t in q.tasks if t in left or t in right), "")
        first, second = left.get(task), right.get(task)
        if q.optional and not (first or second):
            continue
        gap = paired(a, b, first, second) if a and b and first and second else None
        out.append(compare(q, first, second, gap))
    return out


def headline(found: list[Comparison]) -> tuple[str, str]:
    """(tone, sentence): what the comparisons say together; tone is good / bad / mixed / none."""
    main = {c.question.key: c for c in found if c.question.main}
    known = [c for c in main.values() if c.word != "unknown"]
    if not known:
        return "none", "This run cannot say whether alignment helps: the two arms were not both measured."
    better = [_lower(c.question) for c in known if c.word == "better"]
    worse = [_lower(c.question) for c in known if c.word == "worse"]
    aim = main["unsafe"].word if "unsafe" in main else "unknown"
    if aim == "better" and not worse:
        tone, text = "good", f"Alignment helps here: better on {_join(better)}; nothing measured is clearly worse."
    elif aim == "better":
        tone, text = "mixed", f"Alignment is a trade here: better on {_join(better)}, worse on {_join(worse)}."
    elif aim == "worse":
        tone, text = "bad", f"Alignment misses its aim here: worse on {_join(worse)}."
        text += f" Better on {_join(better)}." if better else ""
    else:
        tone = "bad" if worse else "none"
        text = "Unsafe continuations, the aim of alignment, "
        text += "show no clear difference." if aim == "same" else "cannot be compared here."
        text += f" Worse on {_join(worse)}." if worse else ""
        text += f" Better on {_join(better)}." if better else ""
        text += " The other figures show no clear difference either." if aim == "same" and not (better or worse) else ""
    heldout = next((c for c in found if c.question.key == "heldout"), None)
    if heldout and heldout.word not in ("unknown", aim):
        tone = "mixed" if tone == "good" else tone
        text += f" On words that the rules never saw: {heldout.says}."
    unmeasured = [_lower(q) for q in QUESTIONS if q.main and (q.key not in main or main[q.key].word == "unknown")]
    if unmeasured:
        text += f" Not compared: {_join(unmeasured)}."
    return tone, text


def _lower(q: Question) -> str:
    """The title inside a sentence."""
    return q.title if q.title.startswith(("English", "Arabic")) else q.title[0].lower() + q.title[1:]


def _join(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
