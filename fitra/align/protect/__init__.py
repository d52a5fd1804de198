"""Finding what a rewriter must not alter; `fitra.align.masking` takes it out and puts it back."""

from __future__ import annotations

from collections.abc import Iterable

from fitra.align.protect.kinds import by_form
from fitra.align.protect.load import load_verses
from fitra.align.protect.passages import hadith, poetry
from fitra.align.protect.quran import GRAM, Verses
from fitra.align.protect.spans import KINDS, Protected

__all__ = ["GRAM", "KINDS", "Protected", "Verses", "find", "load_verses"]


def find(text: str, verses: Verses | None = None) -> list[Protected]:
    """Protected spans in order, never overlapping, never with white space at their ends.

    Where two meet they become one, of the kind that comes first in KINDS: nothing of either is left open.
    """
    found = [*by_form(text), *hadith(text), *poetry(text), *(verses.find(text) if verses else ())]
    return list(_joined(text, found)) if found else []


def _joined(text: str, found: Iterable[Protected]) -> Iterable[Protected]:
    rank = {kind: i for i, kind in enumerate(KINDS)}
    spans: list[list[int]] = []
    for p in sorted(found, key=lambda p: (p.start, -p.end)):
        start, end = p.start, p.end
        while start < end and text[start].isspace():
            start += 1
        while end > start and text[end - 1].isspace():
            end -= 1
        if start == end:
            continue
        if spans and start < spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], end)
            spans[-1][2] = min(spans[-1][2], rank[p.kind])
        else:
            spans.append([start, end, rank[p.kind]])
    for start, end, kind in spans:
        yield Protected(start, end, KINDS[kind])
