"""Arabic folding: one table that says when two spellings are the same text.

Everything that compares texts (duplicates, search, protected spans, contamination) compares what `fold` gives, so that
tatweel, tashkeel, forms of alef, digits and invisible marks do not make equal texts look different. The text itself is
never replaced by its folded form. Three levels, each on top of the one before:

- ``display``: NFC; bidi and zero-width marks and control characters out; white space folded, line breaks kept.
- ``compare``: NFKC; presentation forms to letters; tashkeel, Qur'anic marks and tatweel out; alef, hamza seats, ya and
  ta marbuta unified; all digits to ASCII; Persian and Urdu look-alikes to Arabic letters; punctuation unified; every
  run of white space is one U+0020.
- ``search``: also punctuation and symbols to spaces, lower case.

How ``compare`` is built, and why it is idempotent: a code point is decomposed (NFKD) and each part goes through the
rules below until nothing changes; the parts are then composed (NFC). Rules never yield a code point that another rule
changes, so folding a folded text finds nothing left to do.

`fold` is the readable reference for one string; `fitra.arabic.array` gives the same for whole Arrow arrays.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Level = Literal["display", "compare", "search"]

FOLD_VERSION = "1"  # goes into fingerprints of what compares texts: change it with any rule

# Tashkeel, Qur'anic annotation, small letters above and below: everything Arabic that sits on a letter.
MARKS = (
    "\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06e8\u06ea-\u06ed\u0898-\u089f\u08ca-\u08ff"  # incl. end of ayah U+06DD
)
TATWEEL = "\u0640"
# Zero-width characters, bidi controls, soft hyphen, interlinear annotation, Mongolian vowel separator.
INVISIBLE = "\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"

_MARK = re.compile(f"[{MARKS}\u06e9{TATWEEL}]")
_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_VARIATION = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_LETTER = re.compile("[\u0600-\u06ff\u0750-\u077f\u0870-\u08ff\ufb50-\ufdff\ufe70-\ufefc]")
_WORD = re.compile(f"[^\\W_](?:[^\\W_]|[\u0300-\u036f{MARKS}{TATWEEL}\u200c\u200d]|['’](?=[^\\W\\d_]))*")

# One letter for letters that writers and keyboards interchange.
LETTERS = {
    **dict.fromkeys("أإآٱٲٳٵ", "ا"),
    **dict.fromkeys("ؤٶ", "و"),
    **dict.fromkeys("ىئیېۍےۓ", "ي"),
    **dict.fromkeys("ةہھۀۂۃەە", "ه"),
    **dict.fromkeys("کڪګ", "ك"),
}
PUNCTUATION = {
    **dict.fromkeys("،٬‚", ","),
    **dict.fromkeys("؛⁏", ";"),
    **dict.fromkeys("؟⸮", "?"),
    **dict.fromkeys("۔٫。", "."),
    **dict.fromkeys("«»“”„‟〝〞″", '"'),
    **dict.fromkeys("‘’‛‹›′`´ʼ", "'"),
    **dict.fromkeys("‐‑‒–—―−﹘", "-"),
    **dict.fromkeys("•٭", "*"),
    "٪": "%",
    "…": "...",
    "﷽": "بسم الله الرحمن الرحيم",  # has no decomposition in Unicode; ﷺ and ﷲ have one
}
_DIGITS = {ord(c): str(i) for s in ("٠١٢٣٤٥٦٧٨٩", "۰۱۲۳۴۵۶۷۸۹") for i, c in enumerate(s)}
_LINE_BREAKS = "\n\x0b\x0c\r\x85\u2028\u2029"


def is_arabic(ch: str) -> bool:
    """Whether one character is a letter or mark of the Arabic script (digits and punctuation are not)."""
    return bool(_LETTER.match(ch)) and unicodedata.category(ch)[0] in "LM"


def digits_to_ascii(text: str) -> str:
    """Arabic-Indic (٠-٩) and Persian (۰-۹) digits as 0-9; nothing else changes, so offsets hold."""
    return text.translate(_DIGITS)


def words(text: str) -> list[str]:
    """The words as written, with their tashkeel and tatweel; punctuation and symbols are left out."""
    return _WORD.findall(text)


def _display_char(ch: str) -> str:
    if ch in _LINE_BREAKS:
        return "\n"
    category = unicodedata.category(ch)
    if ch == "\t" or category == "Zs":
        return " "
    if category == "Cs":  # a lone surrogate is no text
        return "\ufffd"
    return "" if category == "Cc" or _INVISIBLE.match(ch) else ch


def _compare_char(ch: str) -> str:
    if ch in LETTERS:
        return LETTERS[ch]
    if ch in PUNCTUATION:
        return "".join(map(_compare_char, PUNCTUATION[ch])) if len(PUNCTUATION[ch]) > 3 else PUNCTUATION[ch]
    if _MARK.match(ch) or _VARIATION.match(ch):
        return ""
    shown = _display_char(ch)
    if shown == "\n":
        return " "
    digit = unicodedata.decimal(ch, None)
    return shown if digit is None else str(digit)


def _search_char(ch: str) -> str:
    shown = _compare_char(ch)
    return "".join(" " if unicodedata.category(c)[0] in "PS" else c.lower() for c in shown)


_RULES = {"display": _display_char, "compare": _compare_char, "search": _search_char}


def fold_char(ch: str, level: Level) -> str:
    """What one character becomes, before composition: the definition that both `fold` and the array twin read."""
    rule = _RULES[level]
    if level == "display":
        return rule(ch)
    if "\ufb50" <= ch <= "\ufeff" and not _MARK.sub("", unicodedata.normalize("NFKD", ch)).strip():
        return ""  # a mark in its presentation form decomposes to space + mark; the space is not in the text
    before, now = "", ch
    while now != before:
        # Rules first: they may know a character better than Unicode's decomposition does (´ is not space + accent).
        before, now = now, "".join(map(rule, unicodedata.normalize("NFKD", "".join(map(rule, now)))))
    return unicodedata.normalize("NFC", now)


class _Folds(dict[int, str]):
    """`str.translate` table of a level, filled as characters turn up."""

    def __init__(self, level: Level) -> None:
        super().__init__()
        self.level = level

    def __missing__(self, code: int) -> str:
        out = self[code] = fold_char(chr(code), self.level)
        return out


FOLDS = {level: _Folds(level) for level in _RULES}  # type: ignore[arg-type]
_SPACES_AT_BREAK = re.compile(" *\n *")
_MANY_BREAKS = re.compile("\n{3,}")
_MANY_SPACES = re.compile(" {2,}")


def fold(text: str, level: Level = "compare") -> str:
    """Fold one text; see the module for the levels. Idempotent at each level."""
    if level == "display":
        text = text.replace("\r\n", "\n").translate(FOLDS[level])
        text = _SPACES_AT_BREAK.sub("\n", unicodedata.normalize("NFC", text))
        return _MANY_SPACES.sub(" ", _MANY_BREAKS.sub("\n\n", text)).strip(" \n")
    text = _MANY_SPACES.sub(" ", text.translate(FOLDS[level]))
    return unicodedata.normalize("NFC", text).strip(" ")
