"""Pairs on a page: what went and what came marked, long stretches that stayed shortened; and histograms."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup

from fitra.align.diff import Piece, diff
from fitra.page import HIDDEN, HIDDEN_CHARACTERS, block, clip, plain, show

__all__ = ["both", "columns", "differences", "quote"]

_CHANGED = re.compile(f"[{HIDDEN_CHARACTERS}\u061c\u200c-\u200f]")  # where a change must be seen
_SPACES = str.maketrans({" ": "␣", "\t": "⇥", "\u00a0": "⍽", "\n": "↵\n"})
_LINES = str.maketrans({"\n": "↵\n", "\u00a0": "⍽"})

AROUND = 70  # characters of unchanged text shown on either side of a change
SHOWN = 2400  # characters of a sample
_TAG: dict[str, Markup] = {"gone": Markup("<del>{}</del>"), "new": Markup("<ins>{}</ins>"), "same": Markup("{}")}


def quote(text: str, limit: int = SHOWN) -> Markup:
    """A block of corpus text, its direction told by its letters."""
    return block(text, show(clip(text, limit)))


def both(before: str, after: str, limit: int = SHOWN) -> tuple[Markup, Markup]:
    """Original and rewrite, each with what the other has not marked."""
    pieces = diff(before, after)
    sides = [[p for p in pieces if p[0] != other] for other in ("new", "gone")]
    left, right = (block(text, _marked(side, limit)) for text, side in zip((before, after), sides, strict=True))
    return left, right


def differences(before: str, after: str, limit: int = SHOWN) -> Markup:
    """One block with what went and what came; long stretches that stayed are shortened and counted."""
    return block(before or after, _marked(_shortened(diff(before, after)), limit))


def _shortened(pieces: Sequence[Piece]) -> list[Piece | tuple[str, str]]:
    out: list[Piece | tuple[str, str]] = []
    for n, (kind, text) in enumerate(pieces):
        head = AROUND if n else 0
        tail = AROUND if n + 1 < len(pieces) else 0
        if kind != "same" or len(pieces) == 1 or len(text) <= head + tail + 60:
            out.append((kind, text))
            continue
        first = text[:head].rsplit(" ", 1)[0] if head else ""
        last = text[-tail:].split(" ", 1)[-1] if tail else ""
        gap = f"{len(text) - len(first) - len(last):,} characters unchanged"
        out += [("same", first), ("gap", gap), ("same", last)]
    return out


def _marked(pieces: Sequence[Piece | tuple[str, str]], limit: int) -> Markup:
    out: list[Markup] = []
    left = limit
    for kind, text in pieces:
        if left <= 0:
            out.append(Markup('<span class="gap" dir="ltr">cut here</span>'))
            break
        if kind == "gap":
            out.append(Markup('<span class="gap" dir="ltr">{}</span>').format(text))
        elif text:
            cut = clip(text, left)
            left -= len(cut)
            if kind != "same":  # a change of spaces alone must be seen, too
                cut = cut.translate(_SPACES if not cut.strip() else _LINES)
            out.append(_TAG[kind].format(show(cut, HIDDEN if kind == "same" else _CHANGED)))
    return Markup("").join(out)


def columns(series: Sequence[tuple[str, Sequence[int]]], edges: Sequence[str], title: str) -> Markup:
    """Histograms of one scale side by side: (name, counts) of each, and what the edges of the columns are called."""
    if not any(sum(counts) for _, counts in series):
        return Markup("")
    most, n, k = max(max(counts) for _, counts in series), len(series[0][1]), len(series)
    bars = []
    for tone, (name, counts) in enumerate(series):
        for i, c in enumerate(counts):
            if c:
                left = 100 * (i + tone / k) / n
                height = max(1.5, 100 * c / most)  # what is there is seen
                span = f"{edges[i]} to {edges[i + 1]}" if len(edges) > n else edges[i]
                bars.append(
                    Markup(
                        '<rect class="tone-{}" x="{:.2f}%" width="{:.2f}%" y="{:.2f}%" height="{:.2f}%">'
                        "<title>{}, {}: {:,}</title></rect>"
                    ).format(2 - tone, left + 0.1, 100 / n / k - 0.2, 100 - height, height, plain(name), span, c)
                )
    if len(edges) > n:
        marks = [edges[round(n * i / 4)] for i in range(5)]
        axis = Markup('<div class="axis ends" dir="ltr">{}</div>')
    else:
        marks, axis = list(edges), Markup('<div class="axis" dir="ltr">{}</div>')
    return Markup(
        '<figure class="histogram"><figcaption>{}</figcaption><svg role="img" width="100%" height="96">'
        "<title>{}</title>{}</svg>{}</figure>"
    ).format(
        plain(title), plain(title), Markup("").join(bars),
        axis.format(Markup("").join(Markup("<span>{}</span>").format(m) for m in marks)),
    )  # fmt: skip
