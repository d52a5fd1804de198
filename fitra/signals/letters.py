"""Counts of kinds of characters per text, from the original code points: what folding takes away is evidence here.

Folding makes Persian ya, Urdu he and tashkeel vanish on purpose; the labels need exactly these. One table gives every
code point a kind, one histogram counts kinds per text, and the result stays with the View, so that all labels share it.
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
from fitra.signals.view import View

# Letters of the Arabic script, by who writes them.
COMMON, AR_TRUE, AR_KEYS, FA_KEYS, PERSIAN, URDU, KURDISH, PASHTO, VE, ARABIC_REST = range(10)
LATIN, LATIN_MARKED, OTHER = 10, 11, 12
# Everything else.
MARK, QURANIC, DIGIT, SPACE, BREAK, EMOJI, HASH, AT, STOP, COMMA, COLON, QUOTE, MARKUP, STAR, DASH, PIPE, REST = range(
    13, 30
)
N_KINDS = 30

_GROUPS = {
    COMMON: "ابتثجحخدذرزسشصضطظعغفقلمنهوءآئؤٱ",
    AR_TRUE: "ةىأإ",
    AR_KEYS: "كي",
    FA_KEYS: "کی",
    PERSIAN: "پچژگ",
    URDU: "ٹڈڑےۓہۂۃںھ",
    KURDISH: "ەێۆڵڕ",
    PASHTO: "ټډړږښڼېۍځڅګ",
    VE: "ڤڨڥݣڢڧڭ",  # v, g, p in dialect spelling, q and f of the Maghreb; ڤ is Kurdish and Malay too
    HASH: "#",
    AT: "@",
    STOP: ".!?؟…۔",
    COMMA: ",،;؛",
    COLON: ":",
    QUOTE: "\"'«»“”‘’",
    MARKUP: "<>{}[]`=^~",
    STAR: "*٭•●▪■◆★☆",
    DASH: "-–—ـ",
    PIPE: "|",
}


@functools.cache
def table() -> npt.NDArray[np.uint8]:
    """The kind of each code point below 0x10000, (65536,); what lies above is told apart in `letters`."""
    kinds = np.full(0x10000, REST, dtype=np.uint8)
    for code in range(0x10000):
        ch = chr(code)
        category = unicodedata.category(ch)
        if category in ("Lu", "Ll", "Lt", "Lo", "Lm"):
            kinds[code] = _letter(ch)
        elif category == "Nd":
            kinds[code] = DIGIT
        elif category == "Zs" or ch == "\t":
            kinds[code] = SPACE
        elif ch in "\n\r\x0b\x0c\u2028\u2029\x85":
            kinds[code] = BREAK
        elif category == "So" and 0x2190 <= code < 0x2E00:
            kinds[code] = EMOJI
    kinds[0x064B:0x0653] = MARK
    kinds[0x0670] = MARK
    kinds[[0xFD3E, 0xFD3F, *range(0x0610, 0x061B), *range(0x06D6, 0x06EE)]] = QURANIC
    for kind, letters in _GROUPS.items():
        kinds[[ord(c) for c in letters]] = kind
    # Presentation forms count as what they present.
    for code in (*range(0xFB50, 0xFDFC), *range(0xFE70, 0xFEFD)):
        plain = unicodedata.normalize("NFKC", chr(code)).strip(" ـ")
        if plain and kinds[code] < MARK:
            kinds[code] = kinds[ord(plain[0])]
    return kinds


def _letter(ch: str) -> int:
    name = unicodedata.name(ch, "")
    if ch.isascii():
        return LATIN
    if name.startswith(("LATIN", "FULLWIDTH LATIN", "MODIFIER LETTER")):
        return LATIN_MARKED
    return ARABIC_REST if name.startswith("ARABIC") else OTHER


@dataclass(frozen=True)
class Letters:
    """Code points of a batch end to end with their kinds, and counts per text."""

    codes: npt.NDArray[np.uint32]  # (c,)
    kinds: npt.NDArray[np.uint8]  # (c,)
    bounds: npt.NDArray[np.int64]  # (n + 1,) of the texts in codes
    counts: npt.NDArray[np.int64]  # (n, N_KINDS)

    @property
    def in_arabic(self) -> npt.NDArray[np.int64]:
        """Letters of the Arabic script per text, (n,)."""
        return np.asarray(self.counts[:, : ARABIC_REST + 1].sum(axis=1))

    @property
    def in_latin(self) -> npt.NDArray[np.int64]:
        """Latin letters per text, (n,)."""
        return np.asarray(self.counts[:, LATIN] + self.counts[:, LATIN_MARKED])


def letters(view: View) -> Letters:
    """The counts of a batch, made once per View."""
    kept: dict[str, Letters] = vars(view)  # a cache on the View itself: lives and dies with it
    if "_letters" not in kept:
        kept["_letters"] = _count(view)
    return kept["_letters"]


def _count(view: View) -> Letters:
    codes, bounds = arabic.code_points(view.texts)
    kinds = table()[np.minimum(codes, 0xFFFF)]
    above = np.flatnonzero(codes > 0xFFFF)
    if len(above):
        pictures = (codes[above] >= 0x1F000) & (codes[above] < 0x1FB00)
        kinds[above] = np.where(pictures, EMOJI, OTHER)
    counts = np.zeros((len(view), N_KINDS), dtype=np.int64)
    # In blocks that stay in the cache: a histogram over all texts at once is three times slower.
    start = 0
    while start < len(view):
        stop = max(start + 1, int(np.searchsorted(bounds, bounds[start] + (1 << 18), side="right")) - 1)
        at = np.repeat(np.arange(stop - start) * N_KINDS, np.diff(bounds[start : stop + 1]))
        at += kinds[bounds[start] : bounds[stop]]
        counts[start:stop] = np.bincount(at, minlength=(stop - start) * N_KINDS).reshape(-1, N_KINDS)
        start = stop
    return Letters(codes, kinds, bounds, counts)


def span_sums(
    flags: npt.NDArray[np.bool_], starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """True values of `flags` in each span [start, stop) of an ordered, non-overlapping list."""
    if not len(starts):
        return np.zeros(0, dtype=np.int64)
    edges = np.empty(2 * len(starts), dtype=np.int64)
    edges[::2], edges[1::2] = starts, stops
    padded = flags if stops[-1] < len(flags) else np.append(flags, False)
    sums = np.add.reduceat(padded, edges, dtype=np.int64)[::2]
    return np.where(starts < stops, sums, 0)


def listed_sums(view: View, words: pa.LargeStringArray, figures: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Sums over each text, (n, k), of figures (w, k) of listed words (w,): only their occurrences are looked at."""
    at = pc.index_in(view.vocab, value_set=words)
    row = np.asarray(pc.fill_null(at, -1).to_numpy(zero_copy_only=False))
    listed = row >= 0
    where = np.flatnonzero(listed[view.ids])
    rows = row[view.ids[where]]
    doc = np.repeat(np.arange(len(view)), np.diff(np.searchsorted(where, view.bounds)))
    columns = [np.bincount(doc, figures[rows, k], minlength=len(view)) for k in range(figures.shape[1])]
    return np.stack(columns, axis=1).astype(np.float64)
