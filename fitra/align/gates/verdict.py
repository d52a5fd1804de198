"""Verdicts, what they say to the worker and to the reader, and what becomes of a pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fitra.llm.verdict import Verdict, complaint, few
from fitra.policy import Policy

__all__ = ["Outcome", "Pair", "Verdict", "ask", "complaint", "few", "outcome"]


@dataclass(frozen=True)
class Pair:
    """An original and its rewrite.

    `removed` is what was declared taken out of the original, `added` what a rule may put in (safe statements),
    `protected` the spans that must stand in the rewrite byte for byte and in order; None looks for them.
    """

    original: str
    rewrite: str
    removed: Sequence[str] = ()
    added: Sequence[str] = ()
    protected: Sequence[str] | None = ()


@dataclass(frozen=True)
class Outcome:
    """What becomes of a pair: accept, retry, keep_original, quarantine or drop; why; and what to tell the worker."""

    state: str
    reason: str
    complaint: str = ""
    gates: tuple[str, ...] = field(default=())


# What the worker is told. {detail} stands in quotation marks: it is material, not an instruction.
_TOLD = {
    "script": "كُتب النص بحروف غير حروف الأصل؛ اكتبه بالعربية كما هو.",
    "language": "تغيّرت لغة النص؛ لا تترجم، وأعد الكتابة بلغة الأصل.",
    "dialect": "تغيّرت لهجة النص؛ أبقِ الفصحى فصحى والعامية عامية.",
    "length": "طول النص بعيد عن طول الأصل؛ لا تلخّص ولا تُسهب.",
    "numbers_lost": "سقطت أرقام من الأصل: «{detail}»؛ أعدها كما هي.",
    "numbers_new": "ظهرت أرقام ليست في الأصل: «{detail}»؛ احذفها.",
    "dates": "تغيّرت تواريخ: «{detail}»؛ أعدها كما في الأصل.",
    "units": "تغيّرت أعداد بوحداتها: «{detail}»؛ أعدها كما في الأصل.",
    "names_lost": "سقطت أسماء من الأصل: «{detail}»؛ أعدها كما هي.",
    "names_new": "ظهرت أسماء ليست في الأصل: «{detail}»؛ احذفها.",
    "negation": "تغيّر النفي في النص ({detail})؛ لا تنفِ مثبتا ولا تُثبت منفيا.",
    "urls": "تغيّرت روابط: «{detail}»؛ أعدها حرفا بحرف.",
    "protected": "تغيّر نص مصون: «{detail}»؛ أعده حرفا بحرف وفي موضعه.",
    "words_kept": "ضاع كثير من كلمات الأصل؛ لا تلخّص.",
    "passage_lost": "سقط مقطع من الأصل؛ أعده.",
    "passage_new": "أُضيف مقطع ليس في الأصل؛ احذفه.",
    "unfinished": "انقطع النص قبل نهايته؛ أكمله إلى آخر الأصل.",
    "leaks": "فيه كلام ليس من النص: «{detail}»؛ اكتب النص وحده بلا مقدمات ولا عناوين ولا اعتذار.",
    "repeats": "تكررت جمل مرات كثيرة؛ اكتب كل جملة مرة واحدة.",
    "toxicity": "صار النص أشد إساءة من الأصل ({detail})؛ لا تُضف إساءة.",
    "toxicity_overall": "صار النص أشد إساءة من الأصل؛ لا تُضف إساءة.",
    "personal": "ظهرت بيانات شخصية ليست في الأصل؛ احذفها.",
    "benchmark": "فيه نص من اختبارات معروفة ليس في الأصل؛ احذفه.",
    "claims": "تغيّر المعنى: «{detail}»؛ أعد المعنى كما في الأصل.",
}


def ask(verdicts: Sequence[Verdict]) -> str:
    """The refusals in Arabic for the worker, one a line; '' when all passed."""
    told = []
    for v in verdicts:
        if not v.passed:
            line = _TOLD.get(v.gate, f"{v.gate}: «{{detail}}»")
            told.append("- " + line.replace("{detail}", v.detail or f"{v.figure:g}"))
    return "\n".join(told)


def outcome(
    verdicts: Sequence[Verdict],
    policy: Policy,
    *,
    tries_left: int = 0,
    unsafe: bool = False,
    rewrite_unsafe: bool = False,
) -> Outcome:
    """What becomes of a judged pair under the policy's `outcomes`.

    `unsafe` says that the original may not go on as it is, `rewrite_unsafe` that the rewrite may not. No verdict at all
    is a failed judgement, never a pass.
    """
    failed = [v for v in verdicts if not v.passed]
    if not verdicts:
        return Outcome("quarantine" if unsafe else "keep_original", "not judged")
    if not failed:
        if rewrite_unsafe:
            return Outcome("quarantine", "unsafe, still so after rewriting")
        return Outcome("accept", "every gate passed")
    names = tuple(v.gate for v in failed)
    said = {policy.outcomes.get(g, policy.outcomes["default"]) for g in names}
    worst_first = ("drop", "quarantine", "keep_original", "retry")
    state: str = next(s for s in worst_first if s in said)
    if state == "retry":
        if tries_left > 0:
            return Outcome("retry", f"gates: {complaint(failed)}", ask(failed), names)
        state = policy.outcomes["exhausted"]
    if state == "keep_original" and unsafe:
        return Outcome("quarantine", f"unsafe, gates: {complaint(failed)}", gates=names)
    return Outcome(state, f"gates: {complaint(failed)}", gates=names)
