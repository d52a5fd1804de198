"""Format repair: layout, punctuation, spacing between scripts, stretched letters. Words and their order stay."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from itertools import pairwise

from fitra import arabic

__all__ = ["repair"]

_A = r"\u0620-\u063f\u0641-\u064a\u0671-\u06d3"  # Arabic letters without tatweel
_M = r"\u064b-\u065f\u0670"  # marks on letters
_TAGS = (
    "br|p|div|span|b|i|u|strong|em|font|ul|ol|li|table|tr|td|th|tbody|h[1-6]|a|img|center|blockquote|small|hr|section"
    "|article"
)
_HTML = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>⟦]*)?/?>", re.I)
_BREAKING = re.compile(r"<(?:br|p|/p|div|/div|li|/li|tr|/tr|h[1-6]|/h[1-6]|hr)(?:\s[^<>⟦]*)?/?>", re.I)
_ENTITIES = {
    "&nbsp;": " ",
    "&amp;": "&",
    "&quot;": '"',
    "&lt;": "<",
    "&gt;": ">",
    "&#39;": "'",
    "&rlm;": "",
    "&lrm;": "",
}
_INVISIBLE = re.compile(r"[\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\u00ad]")
_PRESENTATION = re.compile(r"[\ufb50-\ufdcf\ufe70-\ufefc]+")
_CONNECTORS = frozenset(
    [
        "في",
        "من",
        "على",
        "إلى",
        "عن",
        "مع",
        "أن",
        "إن",
        "التي",
        "الذي",
        "الذين",
        "قد",
        "لم",
        "لن",
        "ثم",
        "أو",
        "بين",
        "حتى",
        "منذ",
    ]
)

Replacement = str | Callable[[re.Match[str]], str]
_S = "،؛؟!"
# (one of these must be there, pattern, replacement) in order. A look-behind for an Arabic letter keeps Latin text and
# code as they are; a pattern that must look at every place of a text begins with the sign and looks behind from there.
_STEPS: tuple[tuple[tuple[str, ...], re.Pattern[str], Replacement], ...] = (
    (("ـ",), re.compile(rf"(?<=[{_A}{_M}])ـ+(?=[{_A}])"), ""),
    (("ـ",), re.compile(r"ـ{2,}"), "ـ"),
    ((), re.compile(r"([!؟?،؛])(?:\s*\1)+"), r"\1"),
    (("....",), re.compile(r"(?<!\.)\.{4,}"), "..."),
    ((",",), re.compile(rf"(?<=[{_A}{_M}])[ ]*,(?: ?,)*(?!\d)"), "،"),
    ((";",), re.compile(rf"(?<=[{_A}{_M}])[ ]*;"), "؛"),
    (("?",), re.compile(rf"(?<=[{_A}{_M}])[ ]*\?"), "؟"),
    (
        (*(" " + c for c in _S), *("\u00a0" + c for c in _S)),
        re.compile(rf"(?<=\S)[ \u00a0]+(?=[{_S}](?:\s|$|[^\W\d_]|\d))"),
        "",
    ),
    ((" .",), re.compile(rf"(?<=[{_A}{_M}\d⟧ـ])[ ]+(?=\.(?:\s|$))"), ""),
    ((" :",), re.compile(rf"(?<=[{_A}{_M}\d⟧])[ ]+(?=:(?:\s|$))"), ""),
    ((), re.compile(rf"[{_S}](?<=[{_A}{_M}⟧].)(?=[^\W_]|⟦)"), r"\g<0> "),
    ((), re.compile(rf"[{_S}](?<=\d.)(?=[^\W\d_])"), r"\g<0> "),  # «10،5» is one number to many writers
    ((), re.compile(rf"\.(?<=[{_A}]{{3}}.)(?=[{_A}]{{2}})"), ". "),
    ((), re.compile(rf"\.(?<=\d.)(?=[{_A}]{{3}})"), ". "),  # «في الساعة 6.تشير»
    # «[[تصنيف:علوم]]» is mark-up, where a space would make another link of it.
    ((":",), re.compile(rf"(\[\[[^\]\n]{{0,80}}\]?)|:(?<=[{_A}]{{3}}.)(?=[{_A}]{{2}})"), lambda m: m[1] or ": "),
    (("( ",), re.compile(r"\([ ]+(?=\S)"), "("),
    ((" )",), re.compile(r"(?<=\S)[ ]+\)"), ")"),
    (("  ", "\t", "\u00a0"), re.compile(r"(?<=\S)[ \t\u00a0]{2,}(?=\S)"), " "),
    ((" \n", "\t\n", "\u00a0\n"), re.compile(r"[ \t\u00a0]+$", re.M), ""),
    (("\n ", "\n\t", "\n\u00a0"), re.compile(rf"^[ \t\u00a0]+(?=[{_A}])", re.M), ""),
    (("\n\n\n",), re.compile(r"\n{3,}"), "\n\n"),
)
# Scripts meet: a space, unless the Arabic side is a clitic («الـGPS», «بـ20», «و3») or a unit of up to two letters.
_TO_OTHER = re.compile(rf"((?:^|(?<=[^{_A}{_M}]))[{_A}{_M}]+)(?=[A-Za-z]{{2}}|\d)")
_FROM_LATIN = re.compile(rf"(?<=[A-Za-z]{{2}})(?=[{_A}]{{3}}|(?:في|من|عن|أو|هو|هي|ثم|قد|لا)(?![{_A}]))")
_FROM_DIGIT = re.compile(rf"(?<=\d)(?=[{_A}]{{3}})")
_CLITICS = frozenset(
    [
        "و",
        "ف",
        "ب",
        "ل",
        "ك",
        "ال",
        "وال",
        "بال",
        "لل",
        "فال",
        "كال",
        "ول",
        "وب",
        "وك",
        "س",
        "ا",
        "أ",
        "ن",
        "م",
        "ص",
        "ط",
        "ق",
        "د",
        "ر",
        "ع",
    ]
)


_MEETING = re.compile(rf"[A-Za-z\d](?<=[{_A}{_M}].)|[A-Za-z\d](?=[{_A}])")
_FOUR = re.compile(rf"([{_A}])\1\1\1")
_STRETCHED = re.compile(rf"\S*([{_A}])\1{{3,}}\S*")  # four or more: «الله» and «تتتابع» stay


def _unstretch(m: re.Match[str]) -> str:
    """«رائعععع» -> «رائع»; tags and handles are names, and laughter («ههههه») is three letters."""
    if any(c in m[0] for c in "#_@/⟦"):
        return m[0]
    return re.sub(rf"([{_A}])\1{{3,}}", lambda r: r[1] * (3 if r[1] == "ه" else 1), m[0])


def _gap(m: re.Match[str]) -> str:
    return m[1] if m[1] in _CLITICS else m[1] + " "


_HYPHEN = re.compile(rf"[-‐](?<=[{_A}{_M}].)\n(?=[{_A}])")  # a word cut at the end of a line
_LABEL = re.compile(r"[-*•#|>\d⟦]|\S+(?: \S+)?:")  # a list item or a speaker begins a line of its own


def _rhymes(lines: list[str]) -> bool:
    """Verse of short lines must keep them: every line, or every other one, ends on one letter."""
    ends = [re.sub(r"\W+$", "", x)[-1:] for x in lines if x.strip()]
    return len(ends) >= 4 and any(
        max(map(part.count, part)) >= 0.7 * len(part) for part in (ends, ends[::2], ends[1::2])
    )


_SPEAKER = re.compile(r"[^\s:⟦]+(?: [^\s:⟦]+)?:")
_OPEN_CUT = re.compile(rf"(?<=[{_A}{_M}،⟧])[ \t]+\n(?=[{_A}])(?![^\s:\n]+(?: [^\s:\n]+)?:)")


def _dialogue(lines: list[str]) -> bool:
    """Do most lines begin with a speaker? A line without one then goes on with the line before."""
    named = sum(bool(_SPEAKER.match(line)) for line in lines)
    return named >= 4 and named >= 0.5 * len(lines)


def _join_cut_lines(text: str) -> str:
    """Join lines cut in the middle of a sentence: after a connecting word, or all of a block wrapped at one width."""
    if "\n" not in text:
        return text
    text = _HYPHEN.sub("", text)
    blocks = text.split("\n\n")
    for b, block in enumerate(blocks):
        lines = block.split("\n")
        if len(lines) < 2:
            continue
        # Wrapped: no line is long, and lines that do not end a sentence reach for the same margin.
        width = max(map(len, lines))
        open_ends = [
            a for a, b in pairwise(lines)
            if not a.rstrip().endswith((".", "!", "؟", ":", "؛", "…", "»", ")")) and not _LABEL.match(b)
        ]  # fmt: skip
        wrapped = (
            25 <= width <= 110
            and not _rhymes(lines)
            and len(open_ends) >= 2
            and sum(len(a) >= 0.7 * width for a in open_ends) >= 0.75 * len(open_ends)
            and sum(len(a.split()) for a in lines) / len(lines) >= 4
        )
        turns = _dialogue(lines)
        out = [lines[0]]
        for line in lines[1:]:
            before = out[-1].rstrip()
            last = before.rsplit(" ", 1)[-1]
            cut = bool(before) and bool(line) and arabic.is_arabic(line[0]) and not _LABEL.match(line)
            cut = cut and not before.endswith((".", "!", "؟", ":", "؛"))
            if cut and (
                wrapped
                or turns
                or (last in _CONNECTORS and len(before) >= 30)
                or (before.endswith("،") and len(before) >= 20)
            ):
                out[-1] = f"{before} {line}"
            else:
                out.append(line)
        blocks[b] = "\n".join(out)
    return "\n\n".join(blocks)


def repair(text: str) -> str:
    """The text with its form repaired; applied twice it changes nothing more. Placeholders pass through."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "<" in text:
        text = _HTML.sub("", _BREAKING.sub("\n", text))
    if "&" in text:
        for entity, sign in _ENTITIES.items():
            text = text.replace(entity, sign)
    text = _INVISIBLE.sub("", text)
    text = _PRESENTATION.sub(lambda m: unicodedata.normalize("NFKC", m[0]), text)
    if "\n" in text and _HYPHEN.search(
        text
    ):  # somebody cut this text to a width: a line that ends in a space was cut as well
        text = _OPEN_CUT.sub(" ", text)
    text = text.strip("\n \t")
    for needles, pattern, replacement in _STEPS:
        if not needles or any(n in text for n in needles):
            text = pattern.sub(replacement, text)
    if _FOUR.search(text):
        text = _STRETCHED.sub(_unstretch, text)
    if _MEETING.search(text):
        text = _FROM_DIGIT.sub(" ", _FROM_LATIN.sub(" ", _TO_OTHER.sub(_gap, text)))
    text = _join_cut_lines(text)
    return text.strip("\n \t")
