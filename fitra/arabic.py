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

`fold` is the readable reference for one string; `fold_array` gives the same for a whole Arrow array through NumPy.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

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
    """What one character becomes, before composition: the definition that both `fold` and `fold_array` read."""
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


_FOLDS = {level: _Folds(level) for level in _RULES}  # type: ignore[arg-type]
_SPACES_AT_BREAK = re.compile(" *\n *")
_MANY_BREAKS = re.compile("\n{3,}")
_MANY_SPACES = re.compile(" {2,}")


def fold(text: str, level: Level = "compare") -> str:
    """Fold one text; see the module for the levels. Idempotent at each level."""
    if level == "display":
        text = text.replace("\r\n", "\n").translate(_FOLDS[level])
        text = _SPACES_AT_BREAK.sub("\n", unicodedata.normalize("NFC", text))
        return _MANY_SPACES.sub(" ", _MANY_BREAKS.sub("\n\n", text)).strip(" \n")
    text = _MANY_SPACES.sub(" ", text.translate(_FOLDS[level]))
    return unicodedata.normalize("NFC", text).strip(" ")


# --- the vectorised twin -------------------------------------------------------------------------------------------

_CHUNK_BYTES = 4 << 20
_MANY = 0x110000  # in the table: stands for several characters
_NONE = 0x110001  # in the table: vanishes
# Ranges of the basic plane where no rule applies: ideographs, Hangul syllables, private use.
_PLAIN = ((0x3400, 0xA000), (0xAC00, 0xD7A4), (0xE000, 0xF900))

Codes = npt.NDArray[np.uint32]


@functools.cache
def _table(level: Level) -> tuple[Codes, dict[int, str], npt.NDArray[np.bool_]]:
    """For code points below 0x10000: the folded code point; the several that some become; which need composing."""
    table = np.arange(0x10000, dtype=np.uint32)
    many: dict[int, str] = {}
    composes = np.zeros(0x10000, dtype=bool)
    todo = np.ones(0x10000, dtype=bool)
    for start, stop in _PLAIN:
        todo[start:stop] = False
    for code in np.flatnonzero(todo).tolist():
        ch = chr(code)
        got = fold_char(ch, level)
        if got != ch:
            table[code] = ord(got) if len(got) == 1 else _MANY if got else _NONE
            if len(got) > 1:
                many[code] = got
        # Combining marks may reorder or compose with what is before them; so may conjoining Hangul.
        composes[code] = unicodedata.combining(ch) != 0 or 0x1100 <= code < 0x1200 or not _nfc_starter(ch)
    return table, many, composes


def _nfc_starter(ch: str) -> bool:
    """Whether `ch` never composes with the character before it."""
    return unicodedata.is_normalized("NFC", ch) and unicodedata.category(ch) not in ("Mn", "Mc")


def fold_array(texts: pa.Array | pa.ChunkedArray, level: Level = "compare") -> pa.Array:
    """`fold` for every string of an array; the type (string or large_string) and the nulls stay.

    Works in chunks of about 4 MB, so memory beyond the result is some 60 MB (more when one text is larger).
    """
    kind = texts.type
    if not pa.types.is_string(kind) and not pa.types.is_large_string(kind):
        raise TypeError(f"fold_array expects strings, got {kind}")
    if level == "display":
        return pa.array([None if t is None else fold(t, level) for t in texts.to_pylist()], kind)
    parts: list[pa.Array] = []
    chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
    for chunk in chunks:
        chunk = chunk.cast(pa.large_string())
        sizes = pc.fill_null(pc.binary_length(chunk), 0).to_numpy(zero_copy_only=False)
        ends = np.cumsum(sizes)
        start = 0
        while start < len(chunk):
            base = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, base + _CHUNK_BYTES, side="right")))
            parts.append(_fold_chunk(chunk.slice(start, stop - start), level).cast(kind))
            start = stop
    return pa.concat_arrays(parts) if parts else pa.array([], kind)


def code_points(texts: pa.Array) -> tuple[Codes, npt.NDArray[np.int64]]:
    """All code points of an array of strings end to end, and the offsets of its len + 1 texts; a null is empty."""
    filled = pc.fill_null(texts.cast(pa.large_string()), "")
    offsets = np.frombuffer(filled.buffers()[1], dtype=np.int64)[filled.offset : filled.offset + len(filled) + 1]
    data = filled.buffers()[2]
    raw = memoryview(data)[offsets[0] : offsets[-1]] if data is not None else b""
    codes = np.frombuffer(str(raw, "utf-8").encode("utf-32-le"), dtype=np.uint32)
    lengths = pc.utf8_length(filled).to_numpy(zero_copy_only=False)
    return codes, np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def _fold_chunk(texts: pa.Array, level: Level) -> pa.Array:
    table, many, composes = _table(level)
    codes, bounds = code_points(texts)
    astral = np.flatnonzero(codes >= 0x10000)
    out = table[np.minimum(codes, 0xFFFF)]
    several = many
    if len(astral):
        several = dict(many)
        found, inverse = np.unique(codes[astral], return_inverse=True)
        got = [_FOLDS[level][c] for c in found.tolist()]
        several |= {c: g for c, g in zip(found.tolist(), got, strict=True) if len(g) > 1}
        single = np.array([ord(g) if len(g) == 1 else _MANY if g else _NONE for g in got], dtype=np.uint32)
        out[astral] = single[inverse]
    out, bounds = _spread(codes, out, bounds, several)
    out, bounds = _one_space(out, bounds)
    slow = np.flatnonzero((out >= 0x10000) | composes[np.minimum(out, 0xFFFF)])
    slow = slow[[_may_compose(c) for c in out[slow].tolist()]] if len(slow) else slow
    folded = _strings(out, bounds, texts)
    if len(slow):
        rows = np.unique(np.searchsorted(bounds, slow, side="right") - 1)
        mask = np.zeros(len(texts), dtype=bool)
        mask[rows] = True
        fixed = [fold(t, level) for t in texts.take(pa.array(rows)).to_pylist()]
        folded = pc.replace_with_mask(folded, pa.array(mask), pa.array(fixed, pa.large_string()))
    return folded


@functools.cache
def _may_compose(code: int) -> bool:
    ch = chr(code)
    return unicodedata.combining(ch) != 0 or 0x1100 <= code < 0x1200 or not _nfc_starter(ch)


def _spread(
    codes: Codes, out: Codes, bounds: npt.NDArray[np.int64], several: dict[int, str]
) -> tuple[Codes, npt.NDArray[np.int64]]:
    """Take out what vanishes and put in the characters of those that become several."""
    wide = np.flatnonzero(out == _MANY)
    if not len(wide):
        keep = out != _NONE
        kept = np.concatenate(([0], np.cumsum(keep)))
        return out[keep], kept[bounds]
    counts = np.ones(len(out), dtype=np.int64)
    counts[out == _NONE] = 0
    sources = codes[wide]
    counts[wide] = [len(several[c]) for c in sources.tolist()]
    starts = np.concatenate(([0], np.cumsum(counts)))
    spread = np.repeat(out, counts)
    for code in np.unique(sources).tolist():
        letters = np.array([ord(c) for c in several[code]], dtype=np.uint32)
        at = starts[wide[sources == code]]
        spread[at[:, None] + np.arange(len(letters))] = letters
    return spread, starts[bounds]


def _one_space(out: Codes, bounds: npt.NDArray[np.int64]) -> tuple[Codes, npt.NDArray[np.int64]]:
    """Runs of spaces to one, none at the start or end of a text."""
    space = out == 0x20
    before = np.empty_like(space)
    before[:1] = True
    before[1:] = space[:-1]
    starts = bounds[:-1][bounds[:-1] < bounds[1:]]
    before[starts] = True
    keep = ~(space & before)
    kept = np.concatenate(([0], np.cumsum(keep)))
    out, bounds = out[keep], kept[bounds]
    full = bounds[:-1] < bounds[1:]
    last = bounds[1:][full] - 1
    last = last[out[last] == 0x20]
    if len(last):
        keep = np.ones(len(out), dtype=bool)
        keep[last] = False
        kept = np.concatenate(([0], np.cumsum(keep)))
        out, bounds = out[keep], kept[bounds]
    return out, bounds


def _strings(codes: Codes, bounds: npt.NDArray[np.int64], like: pa.Array) -> Any:
    """Code points and bounds back to an Arrow array with the nulls of `like`."""
    data = codes.astype("<u4", copy=False).tobytes().decode("utf-32-le").encode("utf-8")
    width = np.ones(len(codes), dtype=np.int8)
    for limit in (0x80, 0x800, 0x10000):
        width += codes >= limit
    offsets = np.concatenate(([0], np.cumsum(width, dtype=np.int64)))[bounds]
    made = pa.LargeStringArray.from_buffers(len(like), pa.py_buffer(offsets.tobytes()), pa.py_buffer(data))
    return made if not like.null_count else pc.if_else(pc.is_null(like), pa.scalar(None, pa.large_string()), made)
