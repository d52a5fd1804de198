"""Corpus text on a page: escaped, isolated, hidden characters shown, changes marked. And small charts, no library.

Corpus text is hostile input: besides markup it may hold bidirectional overrides, which make a reader see another text
than the machine does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from markupsafe import Markup, escape

from fitra.align.diff import Piece, diff

__all__ = ["bar", "both", "columns", "differences", "ltr", "plain", "quote", "show"]

# Bidi overrides and isolates, zero-width space, controls, lone surrogates, tags. The joiners and the plain direction
# marks stay where nothing changed: Arabic and Persian are written with them.
_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\ufffe\uffff"
    "\U000e0000-\U000e007f"
)
_ALWAYS = re.compile(f"[{_HIDDEN}]")
_CHANGED = re.compile(f"[{_HIDDEN}\u061c\u200c-\u200f]")  # where a change must be seen
_ARABIC = re.compile("[\u0600-\u06ff\u0750-\u077f\u0870-\u08ff\ufb50-\ufdff\ufe70-\ufefc]")
_LETTER = re.compile(r"[^\W\d_]")
_SPACES = str.maketrans({" ": "␣", "\t": "⇥", "\u00a0": "⍽", "\n": "↵\n"})
_LINES = str.maketrans({"\n": "↵\n", "\u00a0": "⍽"})

AROUND = 70  # characters of unchanged text shown on either side of a change
SHOWN = 2400  # characters of a sample
_TAG: dict[str, Markup] = {"gone": Markup("<del>{}</del>"), "new": Markup("<ins>{}</ins>"), "same": Markup("{}")}


def plain(text: object) -> str:
    """For attributes and chart titles: hidden characters as <U+XXXX>. Escaping is left to the caller."""
    return _ALWAYS.sub(lambda m: f"<U+{ord(m[0]):04X}>", str(text))


def show(text: object, hidden: re.Pattern[str] = _ALWAYS) -> Markup:
    """Escaped text whose hidden characters are badges with their number."""
    out, at, s = [], 0, str(text)
    for m in hidden.finditer(s):
        name = unicodedata.name(m[0], "control character")
        badge = Markup('<span class="badge" title="{}">{:04X}</span>').format(name, ord(m[0]))
        out += [escape(s[at : m.start()]), badge]
        at = m.end()
    return Markup("").join([*out, escape(s[at:])])


def ltr(text: str) -> bool:
    """Whether fewer than a third of the letters are Arabic."""
    head = text[:5000]
    letters = len(_LETTER.findall(head))
    return not letters or 3 * len(_ARABIC.findall(head)) < letters


def _block(text: str, inside: Markup) -> Markup:
    # The direction is said twice: a <bdi> without one takes that of its first letter, and «RT …» would turn the line.
    lang, way = ("und", "ltr") if ltr(text) else ("ar", "rtl")
    return Markup('<div class="quote" lang="{}" dir="{}"><bdi dir="{}">{}</bdi></div>').format(lang, way, way, inside)


def _clip(text: str, limit: int) -> str:
    """The first `limit` characters, cut at a space where there is one near."""
    if len(text) <= limit:
        return text
    cut = text[:limit]
    return (cut.rsplit(" ", 1)[0] if " " in cut[limit // 2 :] else cut) + " …"


def quote(text: str, limit: int = SHOWN) -> Markup:
    """A block of corpus text, its direction told by its letters."""
    return _block(text, show(_clip(text, limit)))


def both(before: str, after: str, limit: int = SHOWN) -> tuple[Markup, Markup]:
    """Original and rewrite, each with what the other has not marked."""
    pieces = diff(before, after)
    sides = [[p for p in pieces if p[0] != other] for other in ("new", "gone")]
    left, right = (_block(text, _marked(side, limit)) for text, side in zip((before, after), sides, strict=True))
    return left, right


def differences(before: str, after: str, limit: int = SHOWN) -> Markup:
    """One block with what went and what came; long stretches that stayed are shortened and counted."""
    return _block(before or after, _marked(_shortened(diff(before, after)), limit))


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
            cut = _clip(text, left)
            left -= len(cut)
            if kind != "same":  # a change of spaces alone must be seen, too
                cut = cut.translate(_SPACES if not cut.strip() else _LINES)
            out.append(_TAG[kind].format(show(cut, _ALWAYS if kind == "same" else _CHANGED)))
    return Markup("").join(out)


def bar(value: float | None, most: float, tone: int = 1) -> Markup:
    """One bar of a table row; the figure stands beside it in the table."""
    share = 0.0 if value is None or most <= 0 else max(0.0, min(1.0, value / most)) * 100
    return Markup(
        '<svg class="bar" aria-hidden="true" width="100%" height="11"><rect class="track" y="1" width="100%" height="9"'
        ' rx="2"/><rect class="tone-{}" y="1" width="{:.2f}%" height="9" rx="2"/></svg>'
    ).format(tone, share)


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
