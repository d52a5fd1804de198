"""Documents on the page of a run: quotations with the language their label says, and pairs with what differs marked."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from markupsafe import Markup

from fitra.page import block, clip, is_rtl, show

LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
DIFF_TOKENS = 1200  # the diff is quadratic; longer pairs are compared from their first difference on


def attributes(text: str, lang: str | None = None) -> Markup:
    """`lang` and `dir` of a block that holds `text`. Direction follows the letters, not the label."""
    rtl = is_rtl(text)
    known = lang if lang and LANGUAGE.fullmatch(lang) else ""
    if rtl and known in ("", "en"):
        known = "ar"
    if not rtl and known in ("", "ar", "arz", "apc"):
        known = "und" if known else "en"
    return Markup('lang="{}" dir="{}"').format(known, "rtl" if rtl else "ltr")


def quote(text: object, lang: str | None = None, limit: int = 600) -> Markup:
    """A quotation block of corpus text, right to left where its letters are Arabic."""
    s = "" if text is None else str(text)
    return block(s, show(clip(s, limit)), attributes(s, lang))


def diff(before: str, after: str, lang: str | None = None, limit: int = 110) -> tuple[Markup, Markup]:
    """Two blocks with the words that differ marked: `<del>` in the first, `<ins>` in the second.

    Shown are at most `limit` words around the first difference; an ellipsis says where a side was cut.
    Texts that differ in white space alone are shown from their start, unmarked.
    """
    a, b = before.split(), after.split()
    if a == b:  # lines and spaces alone: only the texts as they stand can show that
        return quote(before, lang), quote(after, lang)
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    start = max(0, start - 12)
    x, y = a[start : start + DIFF_TOKENS], b[start : start + DIFF_TOKENS]
    left: list[Markup] = [Markup("… ")] if start else []
    right: list[Markup] = list(left)
    cut_left, cut_right = start + len(x) < len(a), start + len(y) < len(b)
    shown_left = shown_right = 0
    for op, i1, i2, j1, j2 in difflib.SequenceMatcher(a=x, b=y, autojunk=False).get_opcodes():
        room = limit - max(shown_left, shown_right)
        if room <= 0:
            cut_left, cut_right = cut_left or i1 < len(x), cut_right or j1 < len(y)
            break
        cut_left, cut_right = cut_left or i2 - i1 > room, cut_right or j2 - j1 > room
        old, new = x[i1 : min(i2, i1 + room)], y[j1 : min(j2, j1 + room)]
        left += _marked(old, "del" if op != "equal" else "")
        right += _marked(new, "ins" if op != "equal" else "")
        shown_left, shown_right = shown_left + len(old), shown_right + len(new)
    end = Markup("…")
    return (
        block(before, Markup("").join([*left, end] if cut_left else left), attributes(before, lang)),
        block(after, Markup("").join([*right, end] if cut_right else right), attributes(after, lang)),
    )


def _marked(words: list[str], tag: str) -> Iterator[Markup]:
    if not words:
        return
    text = show(" ".join(words))
    yield Markup("<{0}>{1}</{0}> ").format(Markup(tag), text) if tag else text + " "
