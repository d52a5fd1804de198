"""Protected text that is known by its form: code, brackets of scripture, quotations, formulas, addresses, numbers, law.

Hadith and poetry, which take more than one pattern, are in `passages`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fitra.align.protect.spans import Protected

__all__ = ["by_form"]

_M = r"[\u064b-\u0652\u0670\u0640]*"
# What looks like a placeholder in the text of the corpus; the brackets are ours alone in a masked text.
_PLACEHOLDER = re.compile(r"⟦[^⟦⟧\n]{0,80}⟧|[⟦⟧]+")
# All lengths are bounded: text that opens and never closes must not cost the square of its length.
_CODE = re.compile(
    r"^(?P<fence>`{3,6}|~{3,6})[^\n]{0,200}\n[\s\S]{0,20000}?^(?P=fence)[ \t]*$|```[^`]{1,20000}```"
    r"|``(?!`)[^\n]{1,400}?``|`[^`\n]{1,400}`",
    re.M,
)
_TAGGED = re.compile(r"<(/?)(pre|code|math)\b[^<>\n]{0,200}>", re.I)
_QURAN = re.compile(
    r"﴿[^﴾]{1,2000}﴾(?:\s*[\[(][^\])\n]{1,40}[\])])?|\{[^{}\n]{8,1500}\}(?=\s*[\[(][^\])\n\d]{2,25}[:،/ ]*\d)"
)
_QUOTE = re.compile(
    r"«[^«»]{1,1500}»|“[^“”]{1,1500}”|„[^„“”\n]{1,600}[“”]|\"(?=\S)[^\"\n]{1,400}(?<=\S)\"(?!\w)|‹[^‹›\n]{1,400}›"
)
_MATHS = r"A-Za-z0-9α-ωΑ-Ω_()\[\].,^²³⁰-⁹₀-₉+\-−*/×÷·√π"
_FORMULA = re.compile(
    r"\$\$[^$]{1,2000}\$\$|\$[^$\n]{1,200}[\\^_{}=][^$\n]{0,200}\$"
    r"|\\\((?:(?!\\[()])[^\n]){1,600}\\\)|\\\[(?:(?!\\[\[\]])[\s\S]){1,2000}\\\]"
    r"|\\begin\{(?P<env>equation|align|gather|multline|math|displaymath|eqnarray)\*?\}"
    r"(?:(?!\\begin)[\s\S]){1,4000}?\\end\{(?P=env)\*?\}"
    rf"|(?<![\w$/.,@?&=:%-])[A-Za-z0-9(√∑∫∂∆α-ω][{_MATHS} ]{{0,60}}[=≈≤≥≠→⇌⟶] ?[{_MATHS}]"
    rf"[{_MATHS} ]{{0,60}}(?<=[A-Za-z0-9)²³⁰-⁹₀-₉α-ω])",
)
_FORMULA_SIGN = re.compile(r"[$\\=≈≤≥≠→⇌⟶]")
_TLD = "com|net|org|edu|gov|info|io|tv|me|co|sa|eg|ae|qa|kw|jo|lb|ma|tn|dz|iq|sy|uk|fr|de"
# Begins with a set of characters, whatever the form: only then does `re` skip quickly what cannot begin a match. So
# what stands before comes as a look behind.
_URL = re.compile(
    r"[A-Za-z0-9\]](?:"
    r"(?:(?<=[Hh])(?i:ttps?://)|(?<=[Ff])(?i:tp://)|(?<=[Ww])(?i:ww\.))[^\s<>«»\"⟦⟧]{1,2000}"
    r"|(?<=\])\([^()\s]{1,1000}\)"
    r"|(?<!\])(?:"
    r"(?<![\w.+-][A-Za-z0-9])[\w.+-]{0,63}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,6}"
    r"|(?<![\w.-][A-Za-z0-9])[A-Za-z0-9-]{0,62}(?:\.[A-Za-z0-9-]{1,63}){0,5}"
    rf"\.(?i:{_TLD})\b(?:/[^\s<>«»\"⟦⟧]{{0,2000}})?))",
    re.A,
)
# A mark of direction beside the sign shows the parts in another order («5.‏2» reads as 2.5): without it another number.
_NUMBER = re.compile(r"\d\d*(?:[\u200e\u200f]?[.,:/\-٫٬][\u200e\u200f]?\d+)+")
_ORDINAL = (
    "(?:ال)?(?:[أا]ولى|ثانية|ثالثة|رابعة|خامسة|سادسة|سابعة|ثامنة|تاسعة|عاشرة|حادية|عشر[وي]ن|ثلاث[وي]ن|[أا]ربع[وي]ن"
    r"|خمس[وي]ن|ست[وي]ن|سبع[وي]ن|ثمان[وي]ن|تسع[وي]ن|مائة)(?: (?:عشرة?|بعد المائة|وال[^\W\d_]+[وي]ن))?\b"
)
_ARTICLE = (
    rf"م{_M}ا{_M}د{_M}[ةه]{_M}[ \t]*(?:رقم[ \t]*)?[(\[]?[ \t]*(?:\d+|{_ORDINAL})"
    r"(?:[ \t]*/[ \t]*\d+)?(?:[ \t]*مكرر)?[ \t]*[)\]]?"
)
_LAW_HINT = re.compile(rf"م{_M}ا{_M}د{_M}[ةه]")
_LAW_LINE = re.compile(rf"^[ \t*#•_(\[]*(?:ال)?{_ARTICLE}[ \t]*(?=[:.\-–—)\]*_]|$)", re.M)
_LAW_PART = re.compile(rf"^[ \t*#•_(\[]*(?:(?:ال)?{_ARTICLE}|(?:ال)?(?:باب|فصل|قسم)[ \t]+{_ORDINAL})", re.M)
_LAW_CITED = re.compile(rf"\b[وف]?[بل]?(?:ال|لل)?{_ARTICLE}")
_LAW_SAYS = re.compile(
    r"[^.\n]{0,120}?\bعلى(?: أن| أنه| ما يلي| الآتي| ما يأتي|[ \t]*:)[^\n]{0,1500}?(?=[.؟!](?:\s|$)|\n|\Z)"
)
_BLANK = re.compile(r"\n[ \t]*\n")
_LONGEST_ARTICLE = 5000  # characters


def _law(text: str) -> Iterator[Protected]:
    """Articles from their heading to the next one or an empty line; elsewhere the reference, and what it is said to
    provide («تنص المادة 5 على أن ...») to the end of the sentence."""
    if not _LAW_HINT.search(text):
        return
    end = 0
    for m in _LAW_LINE.finditer(text):
        if m.start() < end:
            continue
        following = _LAW_PART.search(text, m.end())
        stop = following.start() if following else len(text)
        blank = _BLANK.search(text, m.end())
        if blank and not text[m.end() : blank.start()].strip(" \t:.-–—*_)]"):
            blank = _BLANK.search(text, blank.end())  # the heading stands alone: its text comes after the empty line
        end = min(stop, blank.start() if blank else len(text), m.start() + _LONGEST_ARTICLE)
        yield Protected(m.start(), end, "law")
    end = 0
    for m in _LAW_CITED.finditer(text):
        if m.start() < end:
            continue
        says = _LAW_SAYS.match(text, m.end())
        shut = m[0].endswith((")", "]")) and not re.search(r"[(\[]", m[0])  # the bracket was open before
        end = says.end() if says else m.end() - shut
        yield Protected(m.start(), end, "law")


def _tagged(text: str) -> Iterator[Protected]:
    """What stands in <pre>, <code> and <math>."""
    open_: dict[str, int] = {}
    for m in _TAGGED.finditer(text):
        name = m[2].lower()
        if not m[1]:
            open_.setdefault(name, m.start())
        elif name in open_:
            yield Protected(open_.pop(name), m.end(), "formula" if name == "math" else "code")


def by_form(text: str) -> Iterator[Protected]:
    """All spans known by their form, in no order; they may overlap."""
    patterns = [(_NUMBER, "number"), (_QUOTE, "quote"), (_URL, "url")]
    # One look for a sign that a pattern cannot do without is cheaper than the pattern.
    if "⟦" in text or "⟧" in text:
        patterns.append((_PLACEHOLDER, "placeholder"))
    if "`" in text or "~~~" in text:
        patterns.append((_CODE, "code"))
    if "﴿" in text or "{" in text:
        patterns.append((_QURAN, "quran"))
    if _FORMULA_SIGN.search(text):
        patterns.append((_FORMULA, "formula"))
    for pattern, kind in patterns:
        for m in pattern.finditer(text):
            end = m.end()
            if kind == "url":
                end = m.start() + len(m[0].rstrip(".,،؛;:!?؟'*_"))  # the sentence's signs, not the address's
            if kind != "formula" or all(m[0].count(a) == m[0].count(b) for a, b in ("()", "[]")):
                yield Protected(m.start(), end, kind)
    if "<" in text:
        yield from _tagged(text)
    yield from _law(text)
