"""What changed between a document and its rewrite, word by word; and corpus text made fit for a terminal.

Patience diff (B. Cohen): words that occur once on either side and come in the same order are anchors, the stretches
between them are compared anew. 100 kB take some 60 ms, also where everything was rewritten; the price is that a long
stretch without a single anchor counts as replaced as a whole.
"""

from __future__ import annotations

import difflib
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import Literal

__all__ = ["Piece", "diff", "terminal_safe"]

Kind = Literal["same", "gone", "new"]
Piece = tuple[Kind, str]

# Punctuation stands by itself: a comma that was put right is one comma, not two changed words.
_MARKS = r"،؛؟,.;:!?…«»\"()\[\]{}"
_TOKEN = re.compile(rf"[{_MARKS}]+|[^\s{_MARKS}]+")
_SMALL = 64 * 64  # pairs of words that are compared one with another
_ROUNDS = 40  # anchors within anchors: bounds the time on text made to be slow

# C0 and C1 without tab and line feed, all bidi controls, invisible characters, line separators, lone surrogates
# (which cannot be printed at all), non-characters, tags.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufffe\uffff\U000e0000-\U000e007f]"
)


def terminal_safe(text: str) -> str:
    """Text that cannot steer a terminal: controls as «\\x1b», bidi controls and invisible signs as ⟨U+202E⟩.

    Tabs and line feeds stay, and so do the joiners (U+200C, U+200D), which Persian and Arabic are written with.
    """
    return _UNSAFE.sub(lambda m: f"«\\x{ord(m[0]):02x}»" if ord(m[0]) < 0xA0 else f"⟨U+{ord(m[0]):04X}⟩", text)


def diff(before: str, after: str) -> list[Piece]:
    """Pieces in reading order, white space kept exactly.

    Joining "same" and "gone" gives `before`, joining "same" and "new" gives `after`. No piece is empty and no two
    neighbours are of one kind; where words were replaced, "gone" comes before "new".
    """
    a, b = list(_TOKEN.finditer(before)), list(_TOKEN.finditer(after))
    pairs = _cleaned(_matches([m[0] for m in a], [m[0] for m in b]))
    out: list[Piece] = []
    at, to = 0, 0
    for i, j in pairs:
        _gap(out, before[at : a[i].start()], after[to : b[j].start()])
        _add(out, "same", a[i][0])
        at, to = a[i].end(), b[j].end()
    _gap(out, before[at:], after[to:])
    return out


def _add(out: list[Piece], kind: Kind, text: str) -> None:
    if not text:
        return
    if out and out[-1][0] == kind:
        out[-1] = kind, out[-1][1] + text
    else:
        out.append((kind, text))


def _gap(out: list[Piece], gone: str, new: str) -> None:
    """What stands between two words that stayed: its outer white space may have stayed too."""
    lead = _space(gone, new)
    tail = _space(gone[lead:][::-1], new[lead:][::-1])
    _add(out, "same", gone[:lead])
    _add(out, "gone", gone[lead : len(gone) - tail])
    _add(out, "new", new[lead : len(new) - tail])
    _add(out, "same", gone[len(gone) - tail :])


def _space(a: str, b: str) -> int:
    """Length of the white space that both begin with."""
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n] and a[n].isspace():
        n += 1
    return n


def _matches(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of equal words (place in a, place in b), rising on both sides."""
    out: list[tuple[int, int]] = []
    todo = [(0, len(a), 0, len(b), 0)]
    while todo:
        a0, a1, b0, b1, depth = todo.pop()
        while a0 < a1 and b0 < b1 and a[a0] == b[b0]:
            out.append((a0, b0))
            a0, b0 = a0 + 1, b0 + 1
        while a0 < a1 and b0 < b1 and a[a1 - 1] == b[b1 - 1]:
            a1, b1 = a1 - 1, b1 - 1
            out.append((a1, b1))
        if a0 == a1 or b0 == b1:
            continue
        if (a1 - a0) * (b1 - b0) <= _SMALL:
            blocks = difflib.SequenceMatcher(None, a[a0:a1], b[b0:b1], autojunk=False).get_matching_blocks()
            out += [(a0 + i + k, b0 + j + k) for i, j, n in blocks for k in range(n)]
            continue
        anchors = _anchors(a[a0:a1], b[b0:b1]) if depth < _ROUNDS else []
        if anchors:
            ends = [(a0 + i, b0 + j) for i, j in anchors]
            out += ends
            starts = [(a0, b0), *((i + 1, j + 1) for i, j in ends)]
            for (i0, j0), (i1, j1) in zip(starts, [*ends, (a1, b1)], strict=True):
                todo.append((i0, i1, j0, j1, depth + 1))
    return sorted(out)


def _anchors(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]]:
    """Words that occur once on both sides, else as often on both, in the longest run of the same order."""
    in_a, in_b = Counter(a), Counter(b)
    for most in (1, len(a)):
        held = {w for w, n in in_a.items() if n == in_b[w] and n <= most}
        if held:
            places = {key: j for j, key in enumerate(_ranked(b)) if key[0] in held}
            return _rising([(i, places[key]) for i, key in enumerate(_ranked(a)) if key[0] in held])
    return []


def _ranked(words: Sequence[str]) -> list[tuple[str, int]]:
    """Each word with the number of times it was there before."""
    seen: dict[str, count[int]] = {}
    return [(w, next(seen.setdefault(w, count()))) for w in words]


def _rising(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest part of the pairs, ordered by their first, in which the second rises too."""
    ends: list[int] = []  # the smallest last value of a run of each length
    last: list[int] = []  # the pair it belongs to
    before: list[int] = []
    for n, (_, j) in enumerate(pairs):
        k = bisect_left(ends, j)
        before.append(last[k - 1] if k else -1)
        if k == len(ends):
            ends.append(j)
            last.append(n)
        else:
            ends[k], last[k] = j, n
    out: list[tuple[int, int]] = []
    n = last[-1] if last else -1
    while n >= 0:
        out.append(pairs[n])
        n = before[n]
    return out[::-1]


def _cleaned(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Without single words that happen to be equal inside a passage that was written anew: they only break it up."""
    edges = [(-1, -1), *pairs]
    out = []
    for n, (i, j) in enumerate(pairs):
        before = i - edges[n][0] > 1 and j - edges[n][1] > 1
        after = n + 1 < len(pairs) and pairs[n + 1][0] - i > 1 and pairs[n + 1][1] - j > 1
        if not (before and after):
            out.append((i, j))
    return out
