"""Corpus text on a page: escaped, its direction told by its letters, its invisible characters shown. And small charts.

Corpus text is hostile input: besides markup it may hold bidirectional overrides, which make a reader see another text
than the machine does, and words of any length.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup, escape

__all__ = ["bar", "clip", "difference", "histogram", "plain", "quote", "show"]

# Overrides, embeddings, isolates, zero-width space, controls, lone surrogates. The joiners and the plain direction
# marks stay: Arabic and Persian are written with them.
_HIDDEN = re.compile(
    "[\u202a-\u202e\u2066-\u2069\u200b\u2060\ufeff\ufff9-\ufffb\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe"
    "\uffff\U000e0000-\U000e007f]"
)
_ARABIC = re.compile("[\u0600-\u06ff\u0750-\u077f\u0870-\u08ff\ufb50-\ufdff\ufe70-\ufefc]")
_LETTER = re.compile(r"[^\W\d_]")


def plain(text: object) -> str:
    """For attributes and chart titles: hidden characters as <U+XXXX>. Escaping is left to the caller."""
    return _HIDDEN.sub(lambda m: f"<U+{ord(m[0]):04X}>", str(text))


def show(text: object) -> Markup:
    """Escaped text whose hidden characters are badges with their number."""
    out, at, s = [], 0, str(text)
    for m in _HIDDEN.finditer(s):
        name = unicodedata.name(m[0], "control character")
        out += [
            escape(s[at : m.start()]),
            Markup('<span class="badge" title="{}">{:04X}</span>').format(name, ord(m[0])),
        ]
        at = m.end()
    return Markup("").join([*out, escape(s[at:])])


def clip(text: str, limit: int) -> str:
    """The first `limit` characters, cut at a space where there is one near, with an ellipsis."""
    if len(text) <= limit:
        return text
    cut = text[:limit]
    return (cut.rsplit(" ", 1)[0] if " " in cut[limit // 2 :] else cut) + " …"


def _direction(text: str) -> Markup:
    letters = len(_LETTER.findall(text))
    rtl = letters > 0 and 3 * len(_ARABIC.findall(text)) >= letters
    return Markup('lang="ar" dir="rtl"' if rtl else 'lang="und" dir="ltr"')


_BLOCK = Markup('<div class="quote" {}><bdi>{}</bdi></div>')


def quote(text: str, limit: int = 500, spans: Iterable[tuple[int, int]] = ()) -> Markup:
    """A block of corpus text; `spans` of it are marked."""
    cut = clip(text, limit)
    out: list[Markup] = []
    at = 0
    for start, end in spans:
        if end > len(cut):
            break
        out += [show(cut[at:start]), Markup("<mark>{}</mark>").format(show(cut[start:end]))]
        at = end
    return _BLOCK.format(_direction(text[:5000]), Markup("").join([*out, show(cut[at:])]))


def difference(gone: str, kept: str, words: int = 60) -> tuple[Markup, Markup]:
    """Both texts from shortly before their first difference, the words that differ marked."""
    a, b = gone[:40_000].split(), kept[:40_000].split()
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    start = max(0, min(start, len(a) - 1, len(b) - 1) - 8)
    x, y = a[start : start + words], b[start : start + words]
    left: list[Markup] = [Markup("… ")] if start else []
    right = list(left)
    steps = difflib.SequenceMatcher(a=x, b=y, autojunk=False).get_opcodes()
    if len(steps) > 2 and steps[-1][0] in ("delete", "insert") and start + words < max(len(a), len(b)):
        steps.pop()  # no difference: one window reaches further than the other
    for op, i1, i2, j1, j2 in steps:
        template = Markup("{} ") if op == "equal" else Markup("<mark>{}</mark> ")
        if i2 > i1:
            left.append(template.format(show(clip(" ".join(x[i1:i2]), 900))))
        if j2 > j1:
            right.append(template.format(show(clip(" ".join(y[j1:j2]), 900))))
    end = Markup("…")
    if start + words < len(a):
        left.append(end)
    if start + words < len(b):
        right.append(end)
    direction = _direction(kept[:5000])
    return _BLOCK.format(direction, Markup("").join(left)), _BLOCK.format(direction, Markup("").join(right))


def bar(value: float, most: float, tone: int = 1) -> Markup:
    """One bar of a table row; the figure stands beside it in the table."""
    share = 0.0 if most <= 0 else max(0.0, min(1.0, value / most)) * 100
    return Markup(
        '<svg class="bar" aria-hidden="true" width="100%" height="14"><rect class="track" y="3" width="100%" height="9"'
        ' rx="2"/><rect class="tone-{}" y="3" width="{:.2f}%" height="9" rx="2"/></svg>'
    ).format(tone, share)


def histogram(counts: Sequence[int], edge: Callable[[int], str], title: str, tone: int = 1) -> Markup:
    """Columns of `counts`; `edge(i)` names where column i starts (and `edge(len(counts))` where the last one ends)."""
    total = sum(counts)
    if not total:
        return Markup("")
    most, n = max(counts), len(counts)
    columns = []
    for i, c in enumerate(counts):
        if c:
            height = max(1.5, 100 * c / most)  # what is there is seen
            columns.append(
                Markup(
                    '<rect class="tone-{}" x="{:.2f}%" width="{:.2f}%" y="{:.2f}%" height="{:.2f}%">'
                    "<title>{} to {}: {:,} documents</title></rect>"
                ).format(tone, 100 * i / n + 0.15, 100 / n - 0.3, 100 - height, height, edge(i), edge(i + 1), c)
            )
    labels = [Markup("<span>{}</span>").format(edge(round(n * k / 4))) for k in range(5)]
    return Markup(
        '<figure class="histogram"><figcaption>{} <span class="quiet">{:,} documents</span></figcaption>'
        '<svg role="img" width="100%" height="110"><title>{}: most in one column {:,}</title>{}</svg>'
        '<div class="axis" dir="ltr">{}</div></figure>'
    ).format(plain(title), total, plain(title), most, Markup("").join(columns), Markup("").join(labels))
