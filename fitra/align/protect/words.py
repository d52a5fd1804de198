"""Words of a text as numbers, with their exact places: what the Qur'an matcher compares.

A word's number is a hash of its consonants as `fitra.arabic` folds them. Marks, tatweel and invisible characters are
passed over; alef, waw, ya and hamza, the letters in which the Uthmani, the modern and the careless spelling differ, do
not count. The matcher looks again at what the hashes find; they only have to be fast and to miss nothing.
"""

from __future__ import annotations

import codecs
import functools
import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fitra import arabic

__all__ = ["WEAK", "Ints", "Words", "folded", "grams", "plain", "skeletons", "split"]

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

WEAK = frozenset("اويء")
_BREAK, _GONE, _WEAK, _SEVERAL, _FOREIGN, _FIRST = range(6)
_STOPS = "\u06dd\u06de\u06e9"  # end of ayah, rub el hizb, sajdah: marks to `fold`, but between words
_P = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(int(_P), -1, 1 << 64))
_MIX = np.uint64(0xD6E8FEB86659FD93)
_SHIFT = np.uint64(32)


@dataclass(frozen=True)
class Words:
    """The words of a text that have consonants: `hashes`, and [start, end) of each in `starts` and `ends` (characters).

    `order` is each one's number among all words; `all_starts` and `all_ends` are the places of all words.
    """

    hashes: Hashes
    starts: Ints
    ends: Ints
    order: Ints
    all_starts: Ints
    all_ends: Ints


@functools.cache
def _kinds() -> tuple[npt.NDArray[np.uint8], dict[int, str], Hashes]:
    """Kind of every code point of the basic plane, the letters of those that stand for several, values of kinds."""
    kinds = np.empty(0x10000, dtype=np.uint8)
    letters: dict[str, int] = {}
    several: dict[int, str] = {}
    for code in range(0x10000):
        ch = chr(code)
        category = unicodedata.category(ch)
        arabic_block = 0x600 <= code < 0x780 or 0x870 <= code < 0x900 or 0xFB50 <= code < 0xFF00
        if ch in _STOPS or category[0] in "PSZN" or category in ("Cc", "Cn", "Co", "Cs"):
            kind = _BREAK
        elif category[0] == "M" or category == "Cf":
            kind = _GONE
        else:
            kind = _FOREIGN
        if arabic_block and ch not in _STOPS and category[0] in "LMCS":
            out = arabic.fold_char(ch, "search")
            strong = [c for c in out if c not in WEAK]
            if not out.strip():
                kind = _GONE if not out else _BREAK
            elif not all("\u0621" <= c <= "\u06d3" for c in out):
                kind = _SEVERAL if len(out) > 1 else kind
                several[code] = out
            elif not strong:
                kind = _WEAK
            elif len(strong) == 1:
                kind = letters.setdefault(strong[0], _FIRST + len(letters))
            else:
                kind = _SEVERAL
                several[code] = out
        kinds[code] = kind
    values = np.zeros(256, dtype=np.uint64)
    values[_FOREIGN:] = np.random.default_rng(1).integers(1, 1 << 63, 256 - _FOREIGN, dtype=np.uint64) | np.uint64(1)
    return kinds, several, values


@functools.lru_cache(maxsize=4)
def _powers(n: int) -> tuple[Hashes, Hashes]:
    with np.errstate(over="ignore"):
        up = np.cumprod(np.concatenate(([np.uint64(1)], np.full(n, _P))), dtype=np.uint64)
        down = np.cumprod(np.concatenate(([np.uint64(1)], np.full(n, _INVERSE))), dtype=np.uint64)
    return up, down


def split(text: str) -> Words:
    """The words of a text; digits and signs stand between words, words of other scripts are words like no verse's."""
    kinds, several, values = _kinds()
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    got = kinds[np.minimum(codes, np.uint32(0xFFFF))]
    places: Ints | None = None
    if (got == _SEVERAL).any():  # ligatures like ﷲ: written out, each letter at the ligature's place
        pieces = [several.get(ord(ch), ch) for ch in text]
        places = np.repeat(np.arange(len(text)), [len(p) for p in pieces])
        wide = np.frombuffer("".join(pieces).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        got = kinds[np.minimum(wide, np.uint32(0xFFFF))]
    kept = np.flatnonzero(got != _GONE)
    got = got[kept]
    inside = np.empty(len(got) + 2, dtype=bool)
    inside[0] = inside[-1] = False
    np.not_equal(got, _BREAK, out=inside[1:-1])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    first, stop = edges[0::2], edges[1::2]
    rank = np.zeros(len(got) + 1, dtype=np.int64)
    np.cumsum(got >= _FOREIGN, out=rank[1:])
    up, down = _powers(1 << max(12, int(rank[-1] + 1).bit_length()))
    sums = np.zeros(len(got) + 1, dtype=np.uint64)
    np.cumsum(values[got] * up[rank[1:]], out=sums[1:])
    hashes = (sums[stop] - sums[first]) * down[rank[first]]
    strong = np.flatnonzero(rank[stop] > rank[first])
    # A word ends before the next break, with the marks on its last letter.
    starts = kept[first]
    ends = np.append(kept, len(codes) if places is None else len(places))[stop]
    if places is not None:
        starts, ends = places[starts], np.append(places, len(text))[ends]
        ends = np.maximum(ends, starts + 1)
    return Words(hashes[strong], starts[strong], ends[strong], strong, starts, ends)


@functools.cache
def _bytes() -> tuple[Any, bytes, bytes, dict[int, bytes]]:
    """One byte for each of the frequent characters; what the bytes mean and which mean nothing (for `bytes.translate`);
    the bytes of all other characters, by kind."""
    kinds, several, _ = _kinds()
    usual = ["\0", *map(chr, range(0x20, 0x7F)), *"\n\t\xa0«»“”…–—﴿﴾\u200c\u200d\u200e\u200f\ufe0f"]
    usual += [c for c in map(chr, range(0x60C, 0x6F0)) if ord(c) not in several and unicodedata.category(c) != "Cn"]
    usual = usual[:255]
    meaning = bytearray(256)
    slots: dict[int, bytes] = {}
    for slot, ch in enumerate(usual):
        kind = int(kinds[ord(ch)])
        meaning[slot] = 0x20 if kind == _BREAK else 0x40 + kind
        slots.setdefault(kind, bytes([slot]))
    others: dict[int, bytes] = {}
    for kind, byte in slots.items():
        others[kind] = b"" if kind in (_GONE, _WEAK) else byte
    # The table of a charmap codec: 256 characters, the first of them NUL, those without a byte marked as undefined.
    unseen = bytes(slot for slot, ch in enumerate(usual) if kinds[ord(ch)] in (_GONE, _WEAK))
    return codecs.charmap_build("".join(usual).ljust(256, "\ufffe")), bytes(meaning), unseen, others


def _unusual(error: UnicodeError) -> tuple[bytes, int]:
    """Error handler of the codec: the bytes of characters that have none of their own."""
    assert isinstance(error, UnicodeEncodeError)
    kinds, several, _ = _kinds()
    others = _bytes()[3]
    out = []
    for ch in error.object[error.start : error.end]:
        code = min(ord(ch), 0xFFFF)
        if int(kinds[code]) == _SEVERAL:
            out += [others.get(int(kinds[ord(c)]), others[_FOREIGN]) for c in several[code]]
        else:
            out.append(others.get(int(kinds[code]), others[_FOREIGN]))
    return b"".join(out), error.end


codecs.register_error("fitra.skeletons", _unusual)


def skeletons(text: str) -> list[bytes]:
    """The consonants of the words that `split` finds: for short texts, where NumPy costs more than it saves.

    The characters become bytes in one pass of the interpreter's own codec: many times faster than `str.translate`.
    """
    table, meaning, unseen, _ = _bytes()
    return codecs.charmap_encode(text, "fitra.skeletons", table)[0].translate(meaning, unseen).split()


def grams(hashes: Hashes, n: int) -> Hashes:
    """One number for every `n` words in a row."""
    if len(hashes) < n:
        return np.empty(0, dtype=np.uint64)
    mixed = (hashes ^ (hashes >> _SHIFT)) * _MIX
    mixed ^= mixed >> _SHIFT
    out = mixed[: len(mixed) - n + 1].copy()
    for i in range(1, n):
        out *= _P
        out += mixed[i : len(mixed) - n + 1 + i]
    return out * _MIX


@functools.lru_cache(maxsize=1 << 16)
def plain(word: str) -> str:
    """A word as folded, without hamza: the first of `folded`."""
    return arabic.fold(word, "search").replace(" ", "").replace("ء", "")


@functools.lru_cache(maxsize=1 << 16)
def folded(word: str) -> tuple[str, str, str]:
    """A word as folded without hamza; also without alef and the seats of hamza; its consonants alone."""
    plain = arabic.fold(word, "search").replace(" ", "")
    seats = arabic.fold("".join(c for c in word if c not in "ؤئ\u0654\u0655"), "search").replace(" ", "")
    strict = plain.replace("ء", "")
    return strict, "".join(c for c in seats if c not in "اء"), "".join(c for c in plain if c not in WEAK)
