"""Hadith, by its formulas, and poetry, by its layout."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator

from fitra import arabic
from fitra.align.protect.spans import Protected
from fitra.llm.chunk import sentences

__all__ = ["hadith", "poetry"]

_M = "[\u064b-\u0652\u0670\u0640]*"
_HINT = re.compile(
    "ﷺ|"
    + "|".join(
        f"{_M}".join(w)
        for w in (
            "صلى الله",
            "صلي الله",
            "صل الله",
            "عليه الصلاة",
            "رواه",
            "أخرجه",
            "اخرجه",
            "متفق عليه",
            "حدثنا",
            "أخبرنا",
            "اخبرنا",
        )
    )
)
_PROPHET = r"(?:رسول الله|النبي|نبينا|المصطفي|نبي الله)(?: محمد)?.{0,12}(?:صلي? الله عليه|عليه الصلاه)"
_SAID = r"(?:قال|يقول|قوله|سمعت|سمع|امر|امرنا|نهي|نهانا|سيل|راي|رايت)"
_STRONG = re.compile(
    rf"\b(?:و|ف)?{_SAID}\b.{{0,60}}\b{_PROPHET}|\b(?:و|ف)?(?:عن|ان) {_PROPHET}"
    rf"|\b{_PROPHET}.{{0,40}}\b(?:انه |كان )?(?:و|ف)?{_SAID}\b"
    r"|\b(?:حدثنا|اخبرنا)\b.{0,60}\b(?:حدثنا|اخبرنا)\b|\b(?:حدثنا|اخبرنا)\b.{3,60} عن .{3,60} (?:عن|ان|قال)\b"
)
_SOURCE = re.compile(
    r"\b(?:رواه|اخرجه|خرجه|رواه الامام)"
    r" (?:ال)?(?:بخاري|مسلم|ترمذي|ابو داود|نسا[ييء]ي?|ابن ماجه|احمد|بيهقي|طبراني|حاكم|مالك|شيخان)\b"
    r"|\bمتفق عليه\b"
)
_OPENING = {"«": "»", "“": "”", "(": ")", "{": "}", "[": "]"}
_LONGEST = 2000  # characters of a quotation that a formula opens
_AHEAD = 3  # sentences after a formula in which «رواه ...» still belongs to it

_HALF = r"[^\s\d()\-][^\s\d()]*(?: [^\s\d()]+){1,7}"
_LINE = re.compile(
    rf"[ \t]*(?:\d{{1,3}}[ \t]*[-.)][ \t]*)?({_HALF})"
    r"[ ]?(?: {3,}|\t+|[ ][*#…=]{1,3}[ ]|[ ]\.{2,4}[ ]|[ ]/[ ])\s*"
    rf"({_HALF})[ \t]*"
)
_POET = re.compile(r"(?:الشاعر|شاعرنا|القائل|أنشد|انشد|وأنشد|المتنبي|بقوله|قصيدت|القصيدة|الأبيات|البيت|شعرا)")
_SHORT = re.compile(r"[ \t]*[^\W\d_][^\d:•|*<>⟦]{8,60}")
_SIGNS = re.compile(r"[\W_]+$")
_LEAST_RHYMED = 6  # lines: three verses


def hadith(text: str) -> Iterator[Protected]:
    """Sentences with a formula, to the end of the quotation that it opens and to the source that is named after it."""
    hints = [m.start() for m in _HINT.finditer(text)]
    if not hints:
        return
    for begin, end in _windows(text, hints):
        yield from _hadith(text, begin, end, hints)


def _windows(text: str, hints: list[int]) -> Iterator[tuple[int, int]]:
    """The lines with a word of the formulas and as many after each as a passage may reach."""
    begin = end = line = -1
    for at in hints:
        start = text.rfind("\n", 0, at) + 1
        if start == line:
            continue
        line = start
        if begin >= 0 and start > end:
            yield begin, end
            begin = -1
        # With the break before it: a letter alone at the beginning of a line is an abbreviation there («د. أحمد»).
        begin = max(0, start - 1) if begin < 0 else begin
        end = at
        for _ in range(_AHEAD + 1):  # a line is a sentence at least
            end = _next_line(text, end)
    if begin >= 0:
        yield begin, end


def _next_line(text: str, at: int) -> int:
    """Where the next line begins that is not empty."""
    at = text.find("\n", at)
    if at < 0:
        return len(text)
    while at < len(text) and text[at] == "\n":
        at += 1
    return at


def _hadith(text: str, begin: int, end: int, hints: list[int]) -> Iterator[Protected]:
    parts, at = [], begin
    for sentence, sep in sentences(text[begin:end]):
        parts.append((at, at + len(sentence), sep))
        at += len(sentence) + len(sep)
    known: list[tuple[bool, bool]] = []
    for a, b, _ in parts:
        folded = arabic.fold(text[a:b], "search") if bisect_left(hints, a) < bisect_left(hints, b) else ""
        known.append((bool(_STRONG.search(folded)), bool(_SOURCE.search(folded))) if folded else (False, False))
    for i, (formula, source) in enumerate(known):
        if not (formula or source):
            continue
        a, b, sep = parts[i]
        last = i
        if formula:
            for j in range(i + 1, min(len(parts), i + 1 + _AHEAD)):
                if parts[j - 1][2].count("\n") > 1 or known[j][0]:
                    break
                if known[j][1]:
                    last = j
                    break
            b = _quoted(text, a, max(b, parts[last][1]))
            if last == i and text[a:b].endswith((":", "：")) and sep.count("\n") == 1 and i + 1 < len(parts):
                b = _quoted(text, a, parts[i + 1][1])
        yield Protected(a, b, "hadith")


def _quoted(text: str, a: int, b: int) -> int:
    """The end of a passage, behind the quotation that is open at `b`."""
    open_: list[str] = []
    for ch in text[a:b]:
        if ch in _OPENING:
            open_.append(_OPENING[ch])
        elif open_ and ch == open_[-1]:
            open_.pop()
    if not open_:
        return b
    end = text.find(open_[0], b, b + _LONGEST)
    return end + 1 if end >= 0 else b


def poetry(text: str) -> Iterator[Protected]:
    """Lines of two halves: two and more in a row, or one that is announced; and short lines with one rhyme.

    A single line with a wide gap is more likely broken layout.
    """
    if "\n" not in text:  # a line alone is announced by the line before it
        return
    lines, at = [], 0
    for line in text.split("\n"):
        lines.append((at, at + len(line), line))
        at += len(line) + 1
    run: list[tuple[int, int]] = []
    announced, before = False, ""
    for a, b, line in [*lines, (len(text), len(text), ".")]:
        m = _LINE.fullmatch(line) if 12 < len(line) < 200 else None
        if m and any(map(arabic.is_arabic, m[1])) and 0.4 < len(m[1]) / len(m[2]) < 2.5:
            if not run:
                announced = bool(_POET.search(before)) and before.rstrip().endswith((":", "："))
            run.append((a, b))
        elif line.strip() or len(run) > 1:
            if len(run) > 1 or (run and announced):
                yield Protected(run[0][0], run[-1][1], "poetry")
            run = []
        before = line if line.strip() else before
    yield from _rhymed(lines)


def _rhymed(lines: list[tuple[int, int, str]]) -> Iterator[Protected]:
    """Short lines of like length of which all, or every second, end on one letter and the one before it often too."""
    block: list[tuple[int, int, str]] = []
    for item in [*lines, (0, 0, "")]:
        line = item[2]
        words = line.count(" ") + 1
        if 10 < len(line) < 62 and 2 <= words <= 9 and _SHORT.fullmatch(line):
            block.append(item)
            continue
        if not line.strip() and block and item[1]:
            continue  # an empty line between verses
        if len(block) >= _LEAST_RHYMED and _one_rhyme([x[2] for x in block]):
            yield Protected(block[0][0], block[-1][1], "poetry")
        block = []


def _one_rhyme(lines: list[str]) -> bool:
    ends = [arabic.fold(_SIGNS.sub("", x), "compare")[-1:] for x in lines]
    sizes = [len(x.strip()) for x in lines]
    even = sum(abs(n - sum(sizes) / len(sizes)) for n in sizes) / sum(sizes)
    if even > 0.22 or not all(map(arabic.is_arabic, ends)):
        return False
    whole, second = ends, ends[1::2]
    return any(len(part) >= 3 and max(map(part.count, part)) >= 0.9 * len(part) for part in (whole, second))
