"""Gates on the pair: each looks at original and rewrite and gives a verdict with its figure and threshold.

What the rules declared as removed (advertising, unsafe advice, judgements on groups, insults) is not asked for:
numbers, words and length are compared against the original without it. Thresholds come from the policy.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from fitra import arabic
from fitra.policy import Policy
from fitra.signals import personal, toxicity

__all__ = ["Verdict", "complaint", "judge", "numbers"]

_NUMBER = re.compile(r"\d+(?:[.,:/\-٫٬]\d+)*")
_LETTER = re.compile(r"[^\W\d_]")
_ARABIC_LETTER = re.compile(r"[\u0620-\u064a\u066e-\u06d3\u0750-\u077f\ufb50-\ufdff\ufe70-\ufefc]")
_WORD = re.compile(r"[^\W\d_]+")
_TITLES = "العربي|الأصلي|المعاد صياغته|المعدل|المهذب|المنقح|بعد التعديل"
_LEAK = re.compile(
    "|".join(
        [
            rf"^\W*(?:النص (?:{_TITLES})|التحليل|تحليل النص|النص المعاد كتابته)\s*[:：]",
            r"^\W*(?:(?:arabic|original|polished|revised|rewritten) text|analysis|rewritten|polished)\W{0,3}[:：]",
            r"^\W*(?:بالتأكيد[،!.]|بكل سرور|إليك (?:النص|النسخة)|هذا هو النص)",
            r"^\W*(?:here is|here's|sure[,!.]|certainly[,!.]|of course[,!.])",
            r"(?:عذرا|آسف|أعتذر|للأسف)[،,]? ?(?:لكن)? ?(?:لا|فلا) (?:أستطيع|يمكنني|أقدر)",
            r"لا (?:أستطيع|يمكنني) (?:مساعدتك|المساعدة|تلبية|معالجة|إعادة صياغة)",
            r"كنموذج لغوي|بصفتي نموذج|بصفتي مساعد|\bas an AI\b",
            r"\bI (?:can(?:no|')t|am unable to|won't) (?:help|assist|rewrite|comply|fulfil)",
            r"<\|?(?:im_start|im_end|endoftext|assistant|system)\|?>|\[/?INST\]|⟦|⟧|<<<|>>>",
        ]
    ),
    re.I | re.M,
)
_LOOP = 6  # words


@dataclass(frozen=True)
class Verdict:
    """One gate on one pair. `detail` names what was found, for a retry and for reviewers."""

    gate: str
    passed: bool
    figure: float
    threshold: float
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, without an empty detail."""
        return {k: v for k, v in asdict(self).items() if k != "detail" or v}


def numbers(text: str) -> set[str]:
    """The numbers of a text, both digit sets alike, thousands separators out, dates whole."""
    found = set()
    for m in _NUMBER.finditer(arabic.fold(text, "compare") if not text.isascii() else text):
        n = m[0].replace("٬", ",").replace("٫", ".")
        found.add(n.replace(",", "") if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", n) else n)
    return found


def _script_share(text: str) -> float:
    letters = len(_LETTER.findall(text))
    return len(_ARABIC_LETTER.findall(text)) / letters if letters else 1.0


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    """A rough stem, so that a changed clitic or ending is not a lost word."""
    w = re.sub(r"(.)\1{2,}", r"\1", arabic.fold(word, "search").strip())
    w = re.sub(r"^[وف]?(?:[بك]?ال|لل)?(?=...)", "", w)
    return re.sub(r"(?<=...)(?:هما|ها|هم|ات|ون|ين|ان|ه|ا|ي)$", "", w)


def _content(text: str) -> Counter[str]:
    return Counter(s for s in map(_stem, _WORD.findall(text)) if len(s) > 2)


def _repeats(text: str) -> Counter[tuple[str, ...]]:
    words = _WORD.findall(text)
    return Counter(tuple(words[i : i + _LOOP]) for i in range(len(words) - _LOOP + 1))


def _few(items: Sequence[str]) -> str:
    return ", ".join(sorted(items)[:5])


def judge(
    original: str,
    rewrite: str,
    policy: Policy,
    *,
    removed: Sequence[str] = (),
    added: Sequence[str] = (),
    protected: Sequence[str] = (),
    scores: tuple[dict[str, float], dict[str, float]] | None = None,
) -> list[Verdict]:
    """All gates on one pair.

    `removed` is what was declared taken out of the original, `added` what a rule may put in (safe statements),
    `protected` the spans that must stand in the rewrite byte for byte and in order, `scores` the toxicity of original
    and rewrite where already known.
    """
    t = policy.gates
    out: list[Verdict] = []

    def gate(name: str, figure: float, passed: bool, threshold: str, detail: str = "") -> None:
        out.append(Verdict(name, passed, round(figure, 4), t[threshold], detail))

    drift = abs(_script_share(original) - _script_share(rewrite))
    gate(
        "script",
        drift,
        drift <= t["script_drift"],
        "script_drift",
        "another script" if drift > t["script_drift"] else "",
    )

    kept_chars = max(1, len("".join(original.split())) - sum(len("".join(r.split())) for r in removed))
    now_chars = len("".join(rewrite.split())) - sum(len("".join(a.split())) for a in added)
    ratio = max(0, now_chars) / kept_chars
    low = ratio < t["length_min"] and kept_chars > 20  # next to nothing left over: any ratio says nothing
    high = ratio > t["length_max"] and now_chars > 20
    gate(
        "length",
        ratio,
        not (low or high),
        "length_max" if high else "length_min",
        f"ratio {ratio:.2f}" if low or high else "",
    )

    before, after, gone = numbers(original), numbers(rewrite), set[str]().union(*map(numbers, removed), set())
    lost, new = before - after - gone, after - before - set[str]().union(*map(numbers, added), set())
    gate("numbers_lost", len(lost), len(lost) <= t["numbers_lost"], "numbers_lost", _few(list(lost)))
    gate("numbers_new", len(new), len(new) <= t["numbers_new"], "numbers_new", _few(list(new)))

    at, missing = 0, []
    for span in protected:
        found = rewrite.find(span, at)
        if found < 0:
            missing.append(span[:40])
        else:
            at = found + len(span)
    gate("protected", len(missing), len(missing) <= t["protected_lost"], "protected_lost", _few(missing))

    want = _content(original)
    for r in removed:
        want -= _content(r)
    share = sum((want & _content(rewrite)).values()) / max(1, sum(want.values())) if want else 1.0
    gate(
        "words_kept",
        share,
        share >= t["words_kept_min"],
        "words_kept_min",
        f"{share:.2f} of the words" if share < 1 else "",
    )

    had = Counter(m[0].strip().lower() for m in _LEAK.finditer(original))
    leaks = Counter(m[0].strip().lower() for m in _LEAK.finditer(rewrite)) - had
    gate("leaks", sum(leaks.values()), sum(leaks.values()) <= t["leaks"], "leaks", _few(list(leaks)))

    loops = _repeats(rewrite) - _repeats(original)
    worst = max(loops.values(), default=0)
    gate("repeats", worst, worst <= t["repeats_max"], "repeats_max")

    s0, s1 = scores or (toxicity.score(original), toxicity.score(rewrite))
    rise, heading = max((s1[h] - s0[h], h) for h in toxicity.HEADINGS)
    gate("toxicity", rise, rise <= t["toxicity_rise"], "toxicity_rise", heading if rise > t["toxicity_rise"] else "")

    def found_in(text: str) -> set[str]:
        return {re.sub(r"[\s\-().+]", "", arabic.digits_to_ascii(text[p.start : p.end])) for p in personal.find(text)}

    fresh = found_in(rewrite)
    if fresh:
        plain = re.sub(r"[\s\-().+]", "", arabic.digits_to_ascii(original))
        fresh = {f for f in fresh if f not in plain}
    gate("personal", len(fresh), len(fresh) <= t["personal_new"], "personal_new", f"{len(fresh)} new" if fresh else "")
    return out


def complaint(verdicts: Sequence[Verdict]) -> str:
    """The refusals in words, for a retry and for the reason of a row; '' when all passed."""
    return "; ".join(f"{v.gate} {v.detail or f'{v.figure:g}'}" for v in verdicts if not v.passed)
