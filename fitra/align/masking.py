"""Protected spans: passages that are what they are only when exact. They are taken out before any rewriter sees the
text, put back afterwards and compared byte for byte.

Kinds: code, quran (﴿ ﴾, and word 4-grams of a verse list), hadith (sentences with the formula), poetry (hemistich
lines), quote (« », “ ”, " "), formula (LaTeX), url, number (dates, times, decimals: numbers with inner signs).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fitra import arabic
from fitra.align.chunk import sentences
from fitra.errors import FitraError

__all__ = ["PLACEHOLDER", "MaskError", "Masked", "Protected", "Verses", "find", "load_verses", "mask", "unmask"]

GRAM = 4  # words: shorter runs of scripture are ordinary Arabic («في السماوات والأرض»)
PLACEHOLDER = re.compile(r"⟦[0-9a-f]{8}:(\d+)⟧")

_CODE = re.compile(r"```.*?```|`[^`\n]+`", re.S)
_QURAN = re.compile(r"﴿[^﴾]{1,2000}﴾(?:\s*[\[(][^\])\n]{1,40}[\])])?")
_QUOTE = re.compile(r"«[^«»]{1,1500}»|“[^“”]{1,1500}”|\"[^\"\n]{2,400}\"")
_LATEX = re.compile(r"\$\$[^$]+\$\$|\$[^$\n]{1,200}[\\^_{}=][^$\n]{0,200}\$|\\\(.+?\\\)|\\\[.+?\\\]", re.S)
_URL = re.compile(r"(?:https?://|ftp://|www\.)[^\s<>«»\"⟦⟧]+|\]\([^)\s]+\)", re.I)
_NUMBER = re.compile(r"\d+(?:[.,:/\-٫٬]\d+)+")
_WORD = re.compile(r"[^\W\d_][\w\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed]*")
_HALF = r"[^\s\d]+(?: [^\s\d]+){1,7}"
_VERSE_LINE = re.compile(
    rf"[ \t]*({_HALF})[ ]?(?: {{3,}}|\t+|[ ][*#…=]{{1,3}}[ ]|[ ]\.{{2,4}}[ ]|[ ]/[ ])\s*({_HALF})[ \t]*"
)
_HADITH_HINT = re.compile("صلي الله عليه|عليه الصلاه|رواه|اخرجه|متفق عليه|حدثنا|اخبرنا")
_HADITH = re.compile(
    r"\b(?:و|ف)?(?:قال|يقول|سمعت|عن|ان|حدثنا|اخبرنا|امر|نهي|سيل)\b.{0,80}\b(?:رسول الله|النبي|نبينا|المصطفي|نبي الله)"
    r".{0,25}(?:صلي الله عليه|عليه الصلاه)"
    r"|\b(?:رواه|اخرجه|خرجه|رواه الامام)"
    r" (?:ال)?(?:بخاري|مسلم|ترمذي|ابو داود|نسا[ييء]ي?|ابن ماجه|احمد|بيهقي|طبراني|حاكم|مالك|شيخان)"
    r"|\bمتفق عليه\b|\b(?:حدثنا|اخبرنا)\b.{0,60}\b(?:حدثنا|اخبرنا|عن)\b"
)


class MaskError(ValueError):
    """Placeholders did not come back as they were: lost, repeated, moved or invented."""


@dataclass(frozen=True)
class Protected:
    """Characters [start, end) of a text and why they are protected."""

    start: int
    end: int
    kind: str


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


@lru_cache(maxsize=1 << 16)
def _fold_word(word: str) -> str:
    return arabic.fold(word, "search").strip()


def _words(text: str) -> list[tuple[int, int, str]]:
    return [(m.start(), m.end(), _fold_word(m[0])) for m in _WORD.finditer(text)]


class Verses:
    """Finds whole verses and fragments of four words and more, vocalised or not."""

    def __init__(self, texts: Collection[str]) -> None:
        self._grams: set[str] = set()
        for text in texts:
            folded = [w for _, _, w in _words(text)]
            self._grams.update(" ".join(folded[i : i + GRAM]) for i in range(len(folded) - GRAM + 1))

    def find(self, text: str) -> Iterator[Protected]:
        """Maximal runs of words of which every four in a row occur in a verse."""
        words = _words(text)
        start = end = -1
        for i in range(len(words) - GRAM + 1):
            if " ".join(w for _, _, w in words[i : i + GRAM]) in self._grams:
                if start >= 0 and i > end:
                    yield Protected(words[start][0], words[end - 1][1], "quran")
                    start = -1
                start, end = (i if start < 0 else start), i + GRAM
        if start >= 0:
            yield Protected(words[start][0], words[end - 1][1], "quran")


def load_verses(path: str | Path | None) -> Verses | None:
    """A verse list from parquet (column `ar` or `text`) or a text file, one verse a row; None without a path."""
    if path is None:
        return None
    path = Path(path)
    try:
        if path.suffix == ".parquet":
            names = pq.read_schema(path).names
            column = next((c for c in ("ar", "text") if c in names), None)
            if column is None:
                raise FitraError(
                    f"{path}: no column 'ar' or 'text' (it has {', '.join(names)}).", "Name the verses 'ar'."
                )
            return Verses([v for v in pq.read_table(path, columns=[column])[column].to_pylist() if v])
        return Verses(path.read_text(encoding="utf-8").splitlines())
    except FileNotFoundError:
        raise FitraError(f"{path}: no such file with verses.", "Correct align.quran.") from None
    except (pa.ArrowInvalid, UnicodeDecodeError):
        raise FitraError(f"{path}: neither parquet nor UTF-8 text.", "One verse a row.") from None


def _hadith(text: str) -> Iterator[Protected]:
    if not _HADITH_HINT.search(arabic.fold(text, "search")):
        return
    at = 0
    for sentence, sep in sentences(text):
        if _HADITH.search(arabic.fold(sentence, "search")):
            yield Protected(at, at + len(sentence), "hadith")
        at += len(sentence) + len(sep)


def _poetry(text: str) -> Iterator[Protected]:
    """Two hemistich lines or more in a row: a single line with a wide gap is more likely broken layout."""
    run: list[tuple[int, int]] = []
    at = 0
    for line in [*text.split("\n"), "."]:
        m = _VERSE_LINE.fullmatch(line)
        if m and any(map(arabic.is_arabic, m[1])) and 0.4 < len(m[1]) / len(m[2]) < 2.5:
            run.append((at, at + len(line)))
        elif line.strip() or len(run) > 1:
            if len(run) > 1:
                yield Protected(run[0][0], run[-1][1], "poetry")
            run = []
        at += len(line) + 1


def find(text: str, verses: Verses | None = None) -> list[Protected]:
    """Protected spans in order, never overlapping; where two meet, the earlier kind in the module's list wins."""
    found: list[Protected] = []
    sources: list[Iterator[Protected]] = [
        (Protected(m.start(), m.end(), "code") for m in _CODE.finditer(text)),
        (Protected(m.start(), m.end(), "quran") for m in _QURAN.finditer(text)),
        _poetry(text),
        _hadith(text),
        (Protected(m.start(), m.end(), "quote") for m in _QUOTE.finditer(text)),
        verses.find(text) if verses else iter(()),
        (Protected(m.start(), m.end(), "formula") for m in _LATEX.finditer(text)),
        (Protected(m.start(), m.end(), "url") for m in _URL.finditer(text)),
        (Protected(m.start(), m.end(), "number") for m in _NUMBER.finditer(text)),
    ]
    taken = bytearray(len(text))
    for source in sources:
        for p in source:
            if p.end > p.start and not any(taken[p.start : p.end]):
                taken[p.start : p.end] = b"\x01" * (p.end - p.start)
                found.append(p)
    return sorted(found, key=lambda p: p.start)


def mask(text: str, verses: Verses | None = None) -> Masked:
    """Replace protected spans by placeholders.

    The nonce is made from the text, so equal texts render equal requests, and is changed until the text does not hold
    it: corpus text cannot forge a placeholder.
    """
    n = 0
    while True:
        nonce = hashlib.sha256(f"{n}\n{text}".encode()).hexdigest()[:8]
        if nonce not in text:
            break
        n += 1
    out, at, spans, kinds = [], 0, [], []
    for i, p in enumerate(find(text, verses)):
        out += [text[at : p.start], f"⟦{nonce}:{i}⟧"]
        spans.append(text[p.start : p.end])
        kinds.append(p.kind)
        at = p.end
    return Masked("".join([*out, text[at:]]), tuple(spans), tuple(kinds), nonce)


def unmask(text: str, masked: Masked, expected: Collection[int] | None = None) -> str:
    """Put the spans back. Every expected placeholder (default: all) must be there exactly once and in order.

    Raises MaskError otherwise: the text is then not to be used.
    """
    ours = [int(m[1]) for m in PLACEHOLDER.finditer(text) if m[0].startswith(f"⟦{masked.nonce}:")]
    want = sorted(range(len(masked.spans)) if expected is None else expected)
    if ours != want:
        raise MaskError(f"placeholders came back as {ours[:20]}, expected {want[:20]}")
    out = PLACEHOLDER.sub(lambda m: masked.spans[int(m[1])] if m[0][1:9] == masked.nonce else m[0], text)
    if masked.nonce in out:
        raise MaskError("a damaged placeholder was left in the text")
    return out
