"""Protected spans are taken out before any rewriter sees the text, put back afterwards and compared byte for byte.

What is protected, `fitra.align.protect` finds: code, Qur'an, hadith, poetry, law, formulas, quotations, addresses,
numbers with inner signs, and whatever looks like a placeholder.

A placeholder is ⟦nonce:number⟧. The nonce is a hash of the text, so that equal texts make equal requests, and the text
does not hold it. The brackets ⟦ and ⟧ of the corpus are protected spans themselves: in a masked text they are ours
alone, and so a reply can hold none but ours.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from fitra import arabic
from fitra.align.protect import KINDS, Protected, Verses, find, load_verses

__all__ = [
    "KINDS", "PLACEHOLDER", "REASONS", "MaskError", "Masked", "Protected", "Verses", "again", "find", "load_verses",
    "mask", "part", "unmask",
]  # fmt: skip

PLACEHOLDER = re.compile(r"⟦[0-9a-f]{8}:(\d+)⟧")
REASONS = ("lost", "repeated", "moved", "invented", "damaged", "glued")

_BRACKETED = re.compile(r"⟦[^⟦⟧]{0,80}⟧|[⟦⟧]")
_DRESSING = re.compile(rf"[\s{arabic.MARKS}{arabic.TATWEEL}{arabic.INVISIBLE}]+")
_SHAPE = re.compile(r"[0-9a-f]{8}:\d+")
_JOINS = "\u200c\u200d" + arabic.TATWEEL  # not letters, yet they change how the letter beside them is written


class MaskError(ValueError):
    """Placeholders did not come back as they went out; `reason` is one of REASONS.

    lost, repeated, moved (out of order), invented (a number or nonce that was never given), damaged (something in our
    brackets, or a nonce, that cannot be read), glued (letters or marks were put right against protected text).
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


@dataclass(frozen=True)
class Masked:
    """A text with placeholders, what they stand for, and of what kind each is."""

    text: str
    spans: tuple[str, ...]
    kinds: tuple[str, ...]
    nonce: str

    def placeholder(self, i: int) -> str:
        """The placeholder of span `i`."""
        return f"⟦{self.nonce}:{i}⟧"

    @cached_property
    def places(self) -> list[tuple[int, int]]:
        """[start, end) of each span in the original text (characters)."""
        out, shift = [], 0
        for m, span in zip(PLACEHOLDER.finditer(self.text), self.spans, strict=True):
            out.append((m.start() + shift, m.start() + shift + len(span)))
            shift += len(span) - len(m[0])
        return out

    @cached_property
    def beside(self) -> dict[int, tuple[str, str]]:
        """The characters before and after each placeholder, '' at the ends of the text."""
        out = {}
        for m in PLACEHOLDER.finditer(self.text):
            out[int(m[1])] = (self.text[max(0, m.start() - 1) : m.start()], self.text[m.end() : m.end() + 1])
        return out


def _nonce(text: str, salt: str) -> str:
    held, n = text.casefold(), 0
    while True:
        nonce = hashlib.sha256(f"{salt}{n}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
        if nonce not in held:
            return nonce
        n += 1


def mask(text: str, verses: Verses | None = None, *, salt: str = "") -> Masked:
    """Replace protected spans by placeholders.

    The nonce comes from the text and `salt` (another salt, another nonce: for a call that must not look like the one
    before), and is made anew until the text does not hold it in either case of its letters.
    """
    nonce = _nonce(text, salt)
    out, at, spans, kinds = [], 0, [], []
    for i, p in enumerate(find(text, verses)):
        out += [text[at : p.start], f"⟦{nonce}:{i}⟧"]
        spans.append(text[p.start : p.end])
        kinds.append(p.kind)
        at = p.end
    return Masked("".join([*out, text[at:]]), tuple(spans), tuple(kinds), nonce)


def part(whole: Masked, piece: str, *, salt: str = "") -> tuple[str, Masked]:
    """A piece of a masked text as a text of its own: its original, and it masked with a nonce of its own.

    What is protected stays what the whole text said: a verse of poetry keeps its protection when «قال الشاعر:» went to
    the piece before. Equal pieces of different texts become equal requests. `piece` must not cut a placeholder.
    """
    numbers = [int(m[1]) for m in PLACEHOLDER.finditer(piece)]
    spans, kinds = tuple(whole.spans[i] for i in numbers), tuple(whole.kinds[i] for i in numbers)
    between = PLACEHOLDER.sub("⟦", piece).split("⟦")
    original = "".join(x for pair in zip(between, (*spans, ""), strict=True) for x in pair)
    nonce = _nonce(original, salt)
    marks = (*(f"⟦{nonce}:{i}⟧" for i in range(len(spans))), "")
    return original, Masked("".join(x for pair in zip(between, marks, strict=True) for x in pair), spans, kinds, nonce)


def again(text: str, masked: Masked) -> str:
    """A text made of the same original, with the placeholders of the spans that it has: each is looked for in order.

    Spans that are not there give no placeholder; brackets of its own stay as they are, and `unmask` refuses them.
    """
    out, here = list[str](), 0
    for i, span in enumerate(masked.spans):
        found = text.find(span, here)
        if found >= 0:
            out += [text[here:found], masked.placeholder(i)]
            here = found + len(span)
    return "".join([*out, text[here:]])


def unmask(text: str, masked: Masked, expected: Collection[int] | None = None) -> str:
    """Put the spans back. Every expected placeholder (default: all) must be there exactly once and in order.

    Only the dress of a placeholder is repaired: spaces, marks, tatweel and invisible characters inside it, case, other
    digits. Raises MaskError for everything else: the text is then not to be used.
    """
    want = sorted(range(len(masked.spans)) if expected is None else expected)
    found: list[tuple[int, int, int]] = []  # start, end, number
    for m in _BRACKETED.finditer(text):
        found.append((m.start(), m.end(), _number(m[0], masked)))
    ours = [i for _, _, i in found]
    if ours != want:
        _explain(ours, want)
    out: list[str] = []
    places: list[int] = []
    at = size = 0
    for start, end, i in found:
        between = text[at:start]
        _check_edges(text, start, end, masked, i)
        places.append(size + len(between))
        size = places[-1] + len(masked.spans[i])
        out += [between, masked.spans[i]]
        at = end
    out.append(text[at:])
    if any(masked.nonce in piece.casefold() for piece in out[::2]):
        raise MaskError("damaged", "a nonce was left in the text")
    whole = "".join(out)
    for place, i in zip(places, want, strict=True):
        if not whole.startswith(masked.spans[i], place):
            raise MaskError("damaged", f"span {i} did not come back byte for byte")
    return whole


def _number(found: str, masked: Masked) -> int:
    """The number of what stands in our brackets, its dress aside."""
    bare = arabic.digits_to_ascii(_DRESSING.sub("", unicodedata.normalize("NFKC", found[1:-1]))).casefold()
    if not _SHAPE.fullmatch(bare):
        raise MaskError("damaged", f"{found[:20]!a} is no placeholder")
    nonce, _, number = bare.partition(":")
    if nonce != masked.nonce or number != str(int(number)) or int(number) >= len(masked.spans):
        raise MaskError("invented", f"{found[:20]!a} was never given")
    return int(number)


def _explain(ours: list[int], want: list[int]) -> None:
    have, need = Counter(ours), Counter(want)
    for reason, numbers in (
        ("repeated", sorted(i for i, n in have.items() if n > 1)),
        ("invented", sorted(have - need)),
        ("lost", sorted(need - have)),
    ):
        if numbers:
            raise MaskError(reason, f"placeholders {', '.join(map(str, numbers[:20]))}")
    first = next(i for i, (a, b) in enumerate(zip(ours, want, strict=True)) if a != b)
    raise MaskError("moved", f"placeholder {ours[first]} stands where {want[first]} belongs")


def _touches(ch: str) -> bool:
    return ch.isalnum() or ch == "_" or ch in _JOINS or unicodedata.category(ch)[0] == "M"


def _check_edges(text: str, start: int, end: int, masked: Masked, i: int) -> None:
    """A letter or mark put against a protected word makes another word of it, though no byte of the span changed."""
    span, (before, after) = masked.spans[i], masked.beside.get(i, ("", ""))
    if start and (start_now := text[start - 1]) != before and _touches(start_now) and _touches(span[0]):
        raise MaskError("glued", f"{start_now!a} stands against the beginning of span {i}")
    if end < len(text) and (end_now := text[end]) != after and _touches(end_now):
        mark = unicodedata.category(end_now)[0] == "M" or end_now in _JOINS
        if mark or _touches(span[-1]):
            raise MaskError("glued", f"{end_now!a} stands against the end of span {i}")
