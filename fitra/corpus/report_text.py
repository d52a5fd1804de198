"""Samples of a corpus on a page: quotations with marks in them, pairs from where they differ; and histograms."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup

from fitra.page import block, clip, plain, show

__all__ = ["difference", "histogram", "quote"]


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
    return block(text, Markup("").join([*out, show(cut[at:])]))


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
    return block(kept, Markup("").join(left)), block(kept, Markup("").join(right))


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
