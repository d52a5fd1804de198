"""Figures of texts, counted for a whole Arrow array at once, and the filters that judge them.

Tashkeel counts with the letters it sits on and verse needs no full stop, so vocalised text and poetry measure like
plain prose; nothing here asks for stop words, so dialect does too.
"""

from __future__ import annotations

import functools
import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fitra import arabic
from fitra.recipe import Corpus

_ARABIC, _LATIN, _LETTER, _SYMBOL, _SPACE, _OTHER = range(6)
_SCRIPT = {"ar": _ARABIC, "arz": _ARABIC, "apc": _ARABIC, "fa": _ARABIC, "ur": _ARABIC, "en": _LATIN}
_ADDRESS = r"(?:https?://|www\.)[^\s]+|@\w+"
MIN_LINES = 4  # fewer lines cannot be "repeated"


@functools.cache
def _classes() -> npt.NDArray[np.uint8]:
    """The class of each code point below 0x20000; above are ideographs and private use (letters)."""
    table = np.full(0x20000, _LETTER, dtype=np.uint8)
    for code in (*range(0x3400), *range(0xA000, 0xAC00), *range(0xF900, 0x20000)):
        ch = chr(code)
        category = unicodedata.category(ch)
        if category[0] == "L":
            latin = code < 0x250 or 0x1E00 <= code < 0x1F00
            table[code] = _ARABIC if arabic.is_arabic(ch) else _LATIN if latin else _LETTER
        elif category[0] == "Z" or ch in "\t\n\r\x0b\x0c\x85":
            table[code] = _SPACE
        elif category[0] in "PS" or category in ("Cc", "Cn", "Co"):
            table[code] = _SYMBOL
        else:
            table[code] = _OTHER  # marks, digits, invisible signs: neither for nor against
    table[0x640] = _OTHER  # tatweel is a stroke, not a letter
    return table


@dataclass
class Figures:
    """Counts per text, each an array of one number per text."""

    chars: npt.NDArray[np.int64]
    words: npt.NDArray[np.int64]  # runs of non-space with a letter or digit count; so do lone signs
    by_class: list[npt.NDArray[np.int64]]

    def share_of_script(self, i: int, lang: str) -> float:
        """Letters in the script of `lang` among all letters; 1 for a language whose script is not known here."""
        letters = sum(int(self.by_class[k][i]) for k in (_ARABIC, _LATIN, _LETTER))
        if lang not in _SCRIPT:
            return 1.0
        return int(self.by_class[_SCRIPT[lang]][i]) / letters if letters else 0.0

    def share_of_symbols(self, i: int) -> float:
        """Punctuation and symbols among all that is not white space."""
        ink = int(self.chars[i]) - int(self.by_class[_SPACE][i])
        return int(self.by_class[_SYMBOL][i]) / ink if ink else 0.0


def figures(texts: pa.Array) -> Figures:
    """Count `texts` (strings without nulls), links and handles left out: they say nothing of the language."""
    texts = pc.replace_substring_regex(texts, _ADDRESS, " ")
    codes, bounds = arabic.code_points(texts)
    kinds = np.where(codes < 0x20000, _classes()[np.minimum(codes, 0x1FFFF)], np.uint8(_LETTER))
    starts = kinds != _SPACE
    after = np.empty_like(starts)
    after[:1] = True
    after[1:] = ~starts[:-1]
    after[bounds[:-1][bounds[:-1] < len(after)]] = True

    def per_text(hit: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        return np.diff(np.concatenate(([0], np.cumsum(hit, dtype=np.int64)))[bounds])

    return Figures(np.diff(bounds), per_text(starts & after), [per_text(kinds == k) for k in range(_OTHER)])


def repeated_lines(text: str) -> float:
    """The share of characters in lines that say again what an earlier line said; 0 for fewer than four lines.

    By characters, not lines: the refrain of a song is short beside its verses.
    """
    lines = [s for line in text.split("\n") if (s := line.strip())]
    if len(lines) < MIN_LINES:
        return 0.0
    return 1 - sum(map(len, set(lines))) / sum(map(len, lines))


def verdict(cfg: Corpus, text: str, lang: str, confidence: float, got: Figures, i: int) -> tuple[str, float] | None:
    """The first filter that `text` (number `i` of `got`) fails, with the figure that failed; None when it passes."""
    if lang not in cfg.languages:
        return "language", confidence
    if got.words[i] < cfg.min_words:
        return "too_short", float(got.words[i])
    if (share := got.share_of_script(i, lang)) < cfg.min_language_share:
        return "script_share", round(share, 4)
    if (share := got.share_of_symbols(i)) > cfg.max_symbol_share:
        return "symbol_share", round(share, 4)
    if (share := repeated_lines(text)) > cfg.max_repeated_line_share:
        return "repeated_lines", round(share, 4)
    return None
