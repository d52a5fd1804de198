"""Figures of one text that folding would destroy: digits with their signs, links, what a model says about itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fitra import arabic
from fitra.align.gates import words
from fitra.signals import toxicity

__all__ = ["ends", "leaks", "links", "number_counts", "numbers", "toxic_rise", "unsaid"]

# A digit alone first: `re` skips quickly to a set of characters, not to one that repeats.
_NUMBER = re.compile(r"\d\d*(?:[.,:/\-٫٬،]\d+)*(?:[ \u00a0]?[%٪]| ?(?:بال|في ال)م(?:ئ|ائ|ي|اي)[ةه](?!\w))?")
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_DECIMAL = re.compile(r"\d{1,3}[,:]\d{1,2}")
_URL = re.compile(r"(?:https?://|ftp://|www\.)[^\s<>«»\"⟦⟧]+", re.I)
_TITLES = (
    "العربي|الأصلي|المعاد صياغته|المعاد كتابته|المعدل|المهذب|المنقح|المطلوب|المحسن|المصحح|النهائي"
    "|بعد التعديل|بعد التهذيب"
)
_THIS = "النص|النسخة|الصياغة|إعادة|اعادة|الترجمة|الملخص|نص|نسخة|صياغة|ملخص"
# RE2 syntax too: Arrow looks over a whole batch first.
_LEAKS = "|".join(
    [
        rf"^\W*(?:النص (?:{_TITLES})|التحليل|تحليل النص|النتيجة النهائية)\W{{0,3}}[:：]",
        r"^\W*(?:(?:arabic|original|polished|revised|rewritten|final) (?:text|version)"
        r"|analysis|rewritten|polished)\W{0,3}[:：]",
        r"^\W*(?:بالتأكيد|بكل سرور|حسن[اً]{1,2}|طبع[اً]{1,2}|بالطبع)[،,!.:]",
        rf"^\W*(?:إليكم?|اليكم?|تفضل[،,]?|هذا هو|هذه هي|فيما يلي|وفيما يلي|أقدم لكم?) (?:{_THIS})",
        r"^\W*(?:here is|here's|here are|below is|sure[,!.]"
        r"|certainly[,!.]|of course[,!.]|absolutely[,!.]|i have rewritten|i've rewritten)",
        r"(?:عذر[اً]{1,2}|آسف|أعتذر|للأسف|معذرة|نأسف)[،,.]?[^.\n]{0,30}(?:لا|لن|فلا|ليس بإمكاني|غير قادر|أعجز)",
        r"(?:لا|لن) (?:أستطيع|يمكنني|أقدر|يسعني|أتمكن من|نستطيع|يمكن لي)"
        r" (?:\S+ ){0,2}(?:مساعد|المساعدة|تلبية|معالجة|إعادة|تنفيذ|الاستجابة"
        r"|كتابة|صياغة|الرد|الإجابة|تقديم)",
        r"(?:المحتوى|النص|الطلب|طلبك) (?:يخالف|ينتهك|يتعارض مع)"
        r" (?:\S+ ){0,2}(?:سياس|قواعد|إرشادات|القواعد|الإرشادات|مبادئ)",
        r"(?:كنموذج|بصفتي نموذج|بصفتي مساعد|كمساعد|أنا نموذج|باعتباري نموذج|كوني نموذج)",
        r"أتمنى أن (?:يكون|تكون) (?:هذا|هذه|قد)|آمل أن (?:يكون|تكون) (?:هذا|هذه|قد)"
        r"|هل (?:تريد|ترغب|تود)(?: مني)? (?:أن|في) (?:أ|إجراء|تعديل)",
        r"\b[Aa]s an (?:AI|ai|language)|\bI(?:'m| am) (?:sorry|unable|not able)|\b[Ll]et me know if|\bI hope this",
        r"\b(?:I|i) (?:can(?:no|')t|can’t|won't|will not|must decline|apologi[sz]e)",
        # Another form than plain text: JSON, tags, signs that steer a terminal or turn the reading direction around.
        r"^\s*(?:```\w*\s*)?[\[{]\s*(?:\{\s*)?\"[^\"\n]{1,40}\"\s*[:,]",
        r"</?[A-Za-z][A-Za-z0-9]*(?:\s[^<>\n]{0,100})?/?>",
        "[\x01-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]",
        r"<\|?(?:im_start|im_end|endoftext|assistant|system|user|eot_id)\|?>|\[/?INST\]|</?think>|⟦|⟧|<<<|>>>",
    ]
)
_LEAK_AT = re.compile(_LEAKS, re.I | re.M)
_LEAK_ANY = "(?im)" + _LEAKS
_WORD = re.compile(r"\w+")
_UNSEEN_END = re.compile(rf"[\s{arabic.INVISIBLE}]+\Z")
_SENTENCE = re.compile(r"[.!?؟؛;\n…]+")  # as the toxicity rules split


def numbers(text: str) -> set[str]:
    """The numbers of a text, both digit sets alike, thousands separators out, dates whole, percentages marked."""
    return set(number_counts(text))


def number_counts(text: str) -> Counter[str]:
    """`numbers` with how often each stands there."""
    found: Counter[str] = Counter()
    for m in _NUMBER.finditer(text):
        n = m[0]
        if not n.isascii():
            n = arabic.digits_to_ascii(n).replace("٬", ",").replace("،", ",").replace("٫", ".")
        if not n[-1].isdigit():
            n = re.sub(r"[^\d.,:/\-].*", "", n).strip()
            found[_plain(n) + "%"] += 1
        found[_plain(n)] += 1
    return found


def _plain(n: str) -> str:
    if _GROUPED.fullmatch(n):
        return n.replace(",", "")
    return re.sub("[,:]", ".", n) if _DECIMAL.fullmatch(n) else n  # «7,4%», «7.30» o'clock


def unsaid(found: set[str], other: str) -> set[str]:
    """Of some numbers those that the other text does not say in words or as the parts of a date."""
    if not found or len(found) > 30:
        return found
    said = _spoken(other)
    pieces = {p.lstrip("0") for n in numbers(other) for p in re.split(r"[/\-]", n)}
    out = set()
    for n in found:
        parts = re.split(r"[/\-]", n)
        whole = len(parts) > 1 and all(p.lstrip("0") in pieces or _month(p, other) for p in parts)
        part = n.lstrip("0") in pieces and any(n.lstrip("0") in re.split(r"[/\-]0?", m) for m in numbers(other))
        if n not in said and not whole and not part:
            out.add(n)
    return out


def _month(n: str, text: str) -> bool:
    """Whether a text names the month of this number."""
    lex = words.lexicon()
    folded = arabic.fold(text, "search").split()
    want = {f"g{n.lstrip('0')}", f"h{n.lstrip('0')}"}
    return any(lex.months.get(tuple(folded[i : i + k]), "") in want for i in range(len(folded)) for k in (1, 2))


def _spoken(text: str) -> set[str]:
    """Values of number words, each alone and a run («ثلاثة وعشرون ألفا») as a whole."""
    out: set[str] = set()
    run: list[int] = []
    for word in [*arabic.fold(text, "search").split(), ""]:
        value = words.value_of(word) if word else ""
        if value:
            out.add(value)
            run.append(int(value))
            continue
        if len(run) > 1:
            out.add(str(_total(run)))
        run = []
    return out


def _total(run: Sequence[int]) -> int:
    total = part = 0
    for value in run:
        if value >= 1000:
            total, part = total + max(part, 1) * value, 0
        elif value == 100 and 2 <= part <= 9:
            part *= 100
        else:
            part += value
    return total + part


def links(text: str) -> set[str]:
    """Links, without the punctuation that a sentence puts behind them."""
    return {m[0].rstrip(".,;:!?،؛؟)]}'*").rstrip("/") for m in _URL.finditer(text)}


def leaks(originals: Sequence[str], rewrites: Sequence[str]) -> list[list[str]]:
    """What models say around a text (template, preamble, refusal, chat tokens, placeholders), new in each rewrite."""
    out: list[list[str]] = [[] for _ in rewrites]
    for i in np.flatnonzero(matches(rewrites, _LEAK_ANY)).tolist():
        had, now = (
            Counter(arabic.fold(m[0], "compare").strip().lower() for m in _LEAK_AT.finditer(t))
            for t in (originals[i], rewrites[i])
        )
        out[i] = list((now - had).elements())
    return out


def matches(texts: Sequence[str], pattern: str) -> Any:
    """Which texts match a pattern of RE2, (n,)."""
    found = pc.match_substring_regex(pa.array(texts, pa.large_string()), pattern)
    return found.to_numpy(zero_copy_only=False)


def ends(text: str) -> tuple[str, bool]:
    """The last word, folded, and whether the text comes to an end there."""
    tail = _UNSEEN_END.sub("", text[-200:])
    found = _WORD.findall(arabic.fold(tail, "compare"))
    return (found[-1] if found else ""), bool(tail) and not tail[-1].isalnum() and tail[-1] not in ",،-"


def toxic_rise(original: str, rewrite: str) -> tuple[float, str]:
    """(largest rise of the toxicity rules under any heading, the heading).

    A text is as bad as its worst sentence, so only sentences that the original does not have can be worse.
    """
    # «عبد العزيز» is a name; the rules know it joined.
    original, rewrite = (re.sub(r"عبد (?=ال)", "عبد", t) for t in (original, rewrite))
    had = {s.strip() for s in _SENTENCE.split(original)}
    fresh = [s for s in _SENTENCE.split(rewrite) if s.strip() and s.strip() not in had]
    if not fresh:
        return 0.0, ""
    # Short comments are read more strictly, so sentences of a long text are not cut out of it.
    short = len(rewrite) < 400
    now = toxicity.score(rewrite if short else ".\n".join([*fresh, " " * 400]))
    if not any(now.values()):
        return 0.0, ""
    before = toxicity.score(original)
    return max((now[h] - before[h], h) for h in toxicity.HEADINGS)
