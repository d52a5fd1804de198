"""In what a removed duplicate differs from the document that stayed: kinds of spelling that folding ignores."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from fitra import arabic

__all__ = ["KINDS", "variants"]

_MARKS = re.compile(f"[{arabic.MARKS}]")
_INVISIBLE = re.compile(f"[{arabic.INVISIBLE}\u200c\u200d]")
_SPACE = re.compile(r"\s+")
_SIGNS = re.compile(r"[^\w\s]|_")
_HAMZA = str.maketrans("أإآٱٲٳؤئ", "ااااااوي", "ء")
_ENDINGS = str.maketrans("ىةی", "يهي")
_LETTERS = {ord(a): b for a, b in arabic.LETTERS.items() if a not in "أإآٱٲٳؤئىةی"}

# Names as the page shows them, and what makes two spellings of the kind alike.
_ALIKE: dict[str, Callable[[str], str]] = {
    "presentation forms": lambda s: unicodedata.normalize("NFKC", s),
    "tashkeel": lambda s: _MARKS.sub("", s),
    "tatweel": lambda s: s.replace(arabic.TATWEEL, ""),
    "alef and hamza": lambda s: s.translate(_HAMZA),
    "ya and ta marbuta": lambda s: s.translate(_ENDINGS),
    "look-alike letters": lambda s: s.translate(_LETTERS),
    "digits": arabic.digits_to_ascii,
    "case": str.lower,
    "punctuation": lambda s: _SIGNS.sub(" ", s),
    "white space and invisible marks": lambda s: _SPACE.sub(" ", _INVISIBLE.sub("", s)).strip(),
}
KINDS = ("same bytes", *_ALIKE, "other signs", "edited words")


def _alike(text: str, but: str = "") -> str:
    for name, rule in _ALIKE.items():
        if name != but:
            text = rule(text)
    return text


def variants(gone: str, kept: str) -> list[str]:
    """The kinds in which two texts differ, of `KINDS`: several when several of them are needed to make them alike."""
    if gone == kept:
        return ["same bytes"]
    if _alike(gone) == _alike(kept):
        # Signs go to spaces, so leaving out the rule for white space alone would never make those texts equal.
        found = [k for k in list(_ALIKE)[:-1] if _alike(gone, k) != _alike(kept, k)]
        return found or ["white space and invisible marks"]
    return ["other signs"] if arabic.fold(gone, "search") == arabic.fold(kept, "search") else ["edited words"]
