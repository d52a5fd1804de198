"""The vectorised twin of `fold`: the same for a whole Arrow array, without Python per row or per character.

It works on the UTF-8 bytes themselves, because decoding Arabic alone would cost more than all that is done here. Rows
are joined with the byte 0xFF, which no text holds. A one- or two-byte character is known from its last byte and the
byte before it, so one lookup of 65,536 entries turns every byte into a one-byte code of our own: an output character,
a space, 'vanishes' (also every first byte) or 'not in the page'. Longer characters and those not in the page are few;
their code points are worked out one by one and what they fold to gets the codes that are free. Then codes are deleted,
spaces collapsed and the codes read back as text at the speed of `bytes`. What got no code (more than a hundred
different rare ones) is put in one by one at the end. Only rows that are no valid UTF-8 and the like go through `fold`.
"""

from __future__ import annotations

import codecs
import functools
import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fitra.arabic.rules import FOLDS, Level, fold

Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.uint32]
Ints = npt.NDArray[np.int64]

CHUNK_BYTES = 1 << 20
# Codes with a meaning; all others are characters of the page. _OTHER: only `fold` knows; _LEFT: no code was free.
_GONE, _END, _OTHER, _SPACE, _BREAK, _LEFT = range(6)
_END_BYTE = b"\xff"
_SHADDA = "\u0651"  # the vowels, U+064B to U+0650, come before it


def fold_array(texts: pa.Array | pa.ChunkedArray, level: Level = "compare") -> pa.Array:
    """`fold` for every string of an array; the type (string or large_string) and the nulls stay.

    Works in chunks of about 1 MB, so memory beyond the result is some 20 MB (more when one text is larger). Raises
    UnicodeDecodeError for a text that is no valid UTF-8.
    """
    kind = texts.type
    if not pa.types.is_string(kind) and not pa.types.is_large_string(kind):
        raise TypeError(f"fold_array expects strings, got {kind}")
    parts: list[pa.Array] = []
    for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        ends = np.cumsum(pc.fill_null(pc.binary_length(chunk), 0).to_numpy(zero_copy_only=False), dtype=np.int64)
        start = 0
        while start < len(chunk):
            base = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, base + CHUNK_BYTES, side="right")))
            parts.append(_fold_chunk(chunk.slice(start, stop - start).cast(pa.large_string()), level).cast(kind))
            start = stop
    return pa.concat_arrays(parts) if parts else pa.array([], kind)


def code_points(texts: pa.Array) -> tuple[Codes, Ints]:
    """All code points of an array of strings end to end, and the offsets of its len + 1 texts; a null is empty."""
    filled = pc.fill_null(texts.cast(pa.large_string()), "")
    offsets = np.frombuffer(filled.buffers()[1], dtype=np.int64)[filled.offset : filled.offset + len(filled) + 1]
    data = filled.buffers()[2]
    raw = memoryview(data)[offsets[0] : offsets[-1]] if data is not None else b""
    codes = np.frombuffer(str(raw, "utf-8").encode("utf-32-le"), dtype=np.uint32)
    lengths = pc.utf8_length(filled).to_numpy(zero_copy_only=False)
    return codes, np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


@dataclass(frozen=True)
class _Page:
    """What all chunks share: the characters that always have a code, and the codes of pairs of bytes."""

    chars: str  # character of each code; the free codes are not in it
    codes: dict[str, int]
    pairs: pa.UInt8Array  # (65536,): byte << 8 | byte before -> code of the character that ends here


@functools.cache
def _page(level: Level) -> _Page:
    folds = FOLDS[level]
    # What is frequent in Arabic text; all else, of the whole of Unicode, shares the free codes chunk by chunk.
    usual = [*range(0x80), *range(0x60C, 0x610), *range(0x61B, 0x670), *(ord(c) for c in "پچژڤگڭ")]
    found = {c for code in usual for c in folds[code]} - {" ", "\n"}
    chars = "\ufffd\0\ufffd \n\x01" + "".join(sorted(found))
    codes = {c: i for i, c in enumerate(chars) if i >= _SPACE}
    pairs = np.full((256, 256), _OTHER, dtype=np.uint8)
    first = np.zeros(256, dtype=bool)  # bytes that may be before the start of a character
    first[:0xC0] = first[0xFF] = True
    for byte in range(0x80):
        got = folds[byte]
        pairs[first, byte] = codes[got] if got else _GONE
    if level == "display":
        pairs[0x0D, 0x0A] = _GONE
    pairs[np.ix_(first, np.arange(0xC2, 0xF5))] = _GONE  # the last byte of a character carries its code
    for code in range(0x80, 0x800):
        got = folds[code]
        if not got or got in codes:
            pairs[0xC0 | code >> 6, 0x80 | code & 0x3F] = codes[got] if got else _GONE
    pairs[0xE0:0xF5, 0x80:0xC0] = _GONE
    pairs[first, 0xFF] = _END
    return _Page(chars, codes, pa.array(pairs.T.ravel()))


def _fold_chunk(texts: pa.LargeStringArray, level: Level) -> pa.LargeStringArray:
    page = _page(level)
    joined = pc.binary_join_element_wise(
        texts.cast(pa.large_binary()),
        pa.scalar(b"", pa.large_binary()),
        pa.scalar(_END_BYTE, pa.large_binary()),
        null_handling="replace",
    )
    raw = _END_BYTE + memoryview(joined.buffers()[2])[: _size(joined)]
    data = np.frombuffer(raw, dtype=np.uint8)
    ends = np.flatnonzero(data == _END_BYTE[0])
    cut = data[ends - 1] - np.uint8(0xC0) < 0x3F  # texts that end in a first byte
    if len(ends) != len(texts) + 1 or cut[1:].any():
        texts.to_pylist()  # raises UnicodeDecodeError
    pairs = np.empty(len(raw) - 1, dtype=np.uint16)
    pairs[0::2] = np.frombuffer(raw, dtype="<u2", count=len(raw) // 2)
    pairs[1::2] = np.frombuffer(raw, dtype="<u2", count=(len(raw) - 1) // 2, offset=1)
    codes: Bytes = np.empty(len(raw), dtype=np.uint8)
    codes[0] = _END
    codes[1:] = pc.take(page.pairs, pa.array(pairs), boundscheck=False)
    chars, several, left = _rare(data, codes, page, level)
    kept = codes.tobytes().translate(None, bytes([_GONE]))
    for code, parts in several.items():
        kept = kept.replace(bytes([code]), parts)
    kept = _tidy(kept, level)
    if level == "display":
        kept = _reorder(kept, page)
    text = codecs.charmap_decode(kept, "strict", chars.ljust(256, "\ufffd"))[0]
    if left:
        pieces = [""] * (2 * len(left) + 1)
        pieces[::2], pieces[1::2] = text.split(chars[_LEFT]), left
        text = "".join(pieces)
    folded = _strings(_compose(kept, text, chars, left), texts)
    hard = np.flatnonzero(codes == _OTHER)
    if len(hard):
        rows = np.unique(np.searchsorted(ends, hard) - 1)
        mask = np.zeros(len(texts), dtype=bool)
        mask[rows] = True
        again = [None if t is None else fold(t, level) for t in texts.take(pa.array(rows)).to_pylist()]
        folded = pc.replace_with_mask(folded, pa.array(mask), pa.array(again, pa.large_string()))
    return folded


def _size(joined: pa.LargeBinaryArray) -> int:
    return int(np.frombuffer(joined.buffers()[1], dtype=np.int64)[len(joined)])


def _rare(data: Bytes, codes: Bytes, page: _Page, level: Level) -> tuple[str, dict[int, bytes], list[str]]:
    """Give codes to the characters that the lookup could not know: three and four bytes, or not in the page.

    Fills in `codes` and returns the character of each code, the codes of each that stands for several characters, and
    what those without a code become, in the order of the text.
    """
    last = len(data) - 1
    lead = np.flatnonzero((data >= 0xE0) & (data < 0xF5))
    wide = data[lead] >= 0xF0
    three, four = lead[~wide], lead[wide]
    two = np.flatnonzero(codes == _OTHER)
    two = two[(data[two - 1] >= 0xC2) & (data[two - 1] < 0xE0) & (data[two] & 0xC0 == 0x80)] - 1
    points, stops = [], []
    for start, n, mask in ((two, 2, 0x1F), (three, 3, 0x0F), (four, 4, 0x07)):
        point = data[start].astype(np.uint32) & mask
        valid = np.ones(len(start), dtype=bool)
        for i in range(1, n):
            follows = data[np.minimum(start + i, last)]
            valid &= follows & 0xC0 == 0x80
            point = point << 6 | follows & 0x3F
        low = (0x80, 0x800, 0x10000)[n - 2]
        valid &= (point >= low) & (point < 0x110000) & ((point < 0xD800) | (point >= 0xE000))
        codes[start[~valid]] = _OTHER
        points.append(point[valid])
        stops.append(start[valid] + n - 1)
        if n == 4:
            codes[stops[-1] - 1] = _GONE
    at = np.concatenate(stops)
    if not len(at):
        return page.chars, {}, []
    found, which, counts = np.unique(np.concatenate(points), return_inverse=True, return_counts=True)
    given, chars, several = _assign(found, np.argsort(-counts, kind="stable"), page, level)
    codes[at] = given[which]
    late = np.flatnonzero(given[which] == _LEFT)
    late = which[late[np.argsort(at[late])]]
    return chars, several, [FOLDS[level][c] for c in found[late].tolist()]


def _assign(found: Codes, order: Ints, page: _Page, level: Level) -> tuple[Bytes, str, dict[int, bytes]]:
    """A code for each code point of `found`, the most frequent first, until none is free."""
    given = np.full(len(found), _OTHER, dtype=np.uint8)
    chars, codes, several = list(page.chars), dict(page.codes), dict[int, bytes]()
    spread: dict[str, int] = {}
    for i in order.tolist():
        out = FOLDS[level][int(found[i])]
        if not out:
            given[i] = _GONE
            continue
        if out in codes or out in spread:
            given[i] = codes[out] if out in codes else spread[out]
            continue
        # U+FFFE is no character to the decoder of code pages.
        if "\ufffe" in out:
            continue
        new = [c for c in dict.fromkeys(out) if c not in codes]
        # Decoding is twice as fast while all characters of the page have two bytes.
        if len(chars) + len(new) + (len(out) > 1) > 256 or max(out) > "\uffff":
            given[i] = _LEFT if len(out) == 1 else _OTHER
            continue
        for c in new:
            codes[c] = len(chars)
            chars.append(c)
        if len(out) == 1:
            given[i] = codes[out]
            continue
        given[i] = spread[out] = len(chars)
        several[len(chars)] = bytes(codes[c] for c in out)
        chars.append("\ufffd")
    return given, "".join(chars), several


def _tidy(kept: bytes, level: Level) -> bytes:
    """One space between words, none at the ends of a text and (display) of a line; at most two line breaks."""
    while True:
        codes = np.frombuffer(kept, dtype=np.uint8)
        space, end = codes == _SPACE, codes == _END
        if level == "display":
            breaks = codes == _BREAK
            line = end | breaks
            drop = space.copy()
            drop[1:] &= space[:-1] | line[:-1]
            drop[:-1] |= space[:-1] & line[1:]
            drop[2:] |= breaks[2:] & breaks[1:-1] & breaks[:-2]
            drop[1:] |= breaks[1:] & end[:-1]
            drop[:-1] |= breaks[:-1] & end[1:]
        else:
            drop = space.copy()
            drop[1:] &= space[:-1] | end[:-1]
            at = np.flatnonzero(end)[1:] - 1
            for _ in range(6):
                at = at[space[at]]
                drop[at] = True
                at = at - 1
        if not drop.any():
            return kept
        kept = (codes * (~drop).view(np.uint8)).tobytes().translate(None, bytes([_GONE]))


def _reorder(kept: bytes, page: _Page) -> bytes:
    """Shadda after the vowel, as NFC has it and no keyboard types it."""
    codes = np.frombuffer(kept, dtype=np.uint8)
    shadda = codes[:-1] == page.codes[_SHADDA]
    if not shadda.any():
        return kept
    vowel = (codes[1:] >= page.codes["\u064b"]) & (codes[1:] < page.codes[_SHADDA])
    at = np.flatnonzero(shadda & vowel)
    codes = codes.copy()
    codes[at], codes[at + 1] = codes[at + 1], codes[at]
    return codes.tobytes()


def _compose(kept: bytes, text: str, chars: str, left: list[str]) -> str:
    """NFC of the words that may need it; `text` has one character per code of `kept`."""
    compose = bytes(_may_compose(ch) for ch in chars).ljust(256, b"\0")
    order = bytes(unicodedata.combining(ch) if _is_tashkeel(ch) else 0 for ch in chars).ljust(256, b"\0")
    codes = np.frombuffer(kept, dtype=np.uint8)
    needs = np.zeros(len(codes), dtype=bool)
    if any(compose):
        needs = np.frombuffer(kept.translate(compose), dtype=bool).copy()
    if left:
        needs[codes == _LEFT] = [_may_compose(ch) for ch in left]
    if any(order):
        rank = np.frombuffer(kept.translate(order), dtype=np.uint8)
        needs[1:] |= (rank[1:] > 0) & (rank[1:] < rank[:-1])
    at = np.flatnonzero(needs)
    if not len(at):
        return text
    stops = np.flatnonzero((codes == _END) | (codes == _SPACE) | (codes == _BREAK))
    words = np.unique(np.searchsorted(stops, at))
    pieces, done = [], 0
    for start, stop in zip((stops[words - 1] + 1).tolist(), stops[words].tolist(), strict=True):
        pieces += [text[done:start], unicodedata.normalize("NFC", text[start:stop])]
        done = stop
    return "".join(pieces) + text[done:]


def _is_tashkeel(ch: str) -> bool:
    return "\u064b" <= ch <= "\u0652" or ch == "\u0670"


@functools.cache
def _may_compose(ch: str) -> bool:
    """Whether a character may compose with one before it or is not as NFC has it; tashkeel only has an order."""
    if _is_tashkeel(ch):
        return False
    if unicodedata.category(ch) in ("Mn", "Mc") or unicodedata.combining(ch) or "\u1100" <= ch < "\u1200":
        return True
    return not unicodedata.is_normalized("NFC", ch)


def _strings(text: str, like: pa.Array) -> pa.LargeStringArray:
    """Texts that each end in U+0000, after an empty first one, as an Arrow array with the nulls of `like`."""
    data = text.encode()
    stops = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == 0)
    offsets = stops - np.arange(len(stops))
    nulls = pc.is_valid(like).buffers()[1] if like.null_count else None
    buffers = [nulls, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data.replace(b"\0", b""))]
    return pa.Array.from_buffers(pa.large_string(), len(like), buffers)
