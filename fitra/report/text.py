"""Show text that nobody has vouched for: escaped, isolated, with its invisible characters made visible.

Corpus text is hostile input. Besides markup it may hold bidirectional overrides that make a reader see another text
than the machine does, so these are replaced by a badge with their name.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterator

from markupsafe import Markup, escape

# Overrides, embeddings, isolates and their ends, zero-width space and BOM, C0/C1 controls, lone surrogates,
# non-characters. ZWJ, ZWNJ, LRM, RLM and ALM stay: Arabic and Persian texts are written with them.
HIDDEN = re.compile(
    "[\u202a-\u202e\u2066-\u2069\u200b\u2060\ufeff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]"
)
SHORT = {
    "\u202a": "LRE", "\u202b": "RLE", "\u202c": "PDF", "\u202d": "LRO", "\u202e": "RLO", "\u2066": "LRI",
    "\u2067": "RLI", "\u2068": "FSI", "\u2069": "PDI", "\u200b": "ZWSP", "\u2060": "WJ", "\ufeff": "BOM",
}  # fmt: skip
ARABIC = re.compile("[\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufefc]")
LETTER = re.compile(r"[^\W\d_]")
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
DIFF_TOKENS = 1200  # the diff is quadratic; longer pairs are compared from their first difference on


def plain(text: object) -> str:
    """Text for attributes and SVG titles: hidden characters replaced by '<U+XXXX>'; escaping is left to the caller."""
    return HIDDEN.sub(lambda m: f"<U+{ord(m[0]):04X}>", str(text))


def show(text: object) -> Markup:
    """Escaped text whose hidden characters are badges."""
    out, at, s = [], 0, str(text)
    for m in HIDDEN.finditer(s):
        name = unicodedata.name(m[0], "control character")
        badge = SHORT.get(m[0], f"{ord(m[0]):02X}")
        out += [
            escape(s[at : m.start()]),
            Markup('<span class="hidden-mark" title="U+{:04X} {}">{}</span>').format(ord(m[0]), name, badge),
        ]
        at = m.end()
    return Markup("").join([*out, escape(s[at:])])


def is_rtl(text: str) -> bool:
    """Whether a third or more of the letters are Arabic."""
    letters = len(LETTER.findall(text))
    return letters > 0 and 3 * len(ARABIC.findall(text)) >= letters


def attributes(text: str, lang: str | None = None) -> Markup:
    """`lang` and `dir` of a block that holds `text`. Direction follows the letters, not the label."""
    rtl = is_rtl(text)
    known = lang if lang and LANGUAGE.fullmatch(lang) else ""
    if rtl and known in ("", "en"):
        known = "ar"
    if not rtl and known in ("", "ar", "arz", "apc"):
        known = "und" if known else "en"
    return Markup('lang="{}" dir="{}"').format(known, "rtl" if rtl else "ltr")


def clip(text: str, limit: int = 600) -> str:
    """The first `limit` characters, cut at a space, with an ellipsis."""
    if len(text) <= limit:
        return text
    cut = text[:limit]
    return (cut.rsplit(" ", 1)[0] if " " in cut[limit // 2 :] else cut) + " …"


def block(text: object, lang: str | None = None, limit: int = 600) -> Markup:
    """A quotation block of corpus text, right to left where its letters are Arabic."""
    s = "" if text is None else str(text)
    return Markup('<div class="quote" {}><bdi>{}</bdi></div>').format(attributes(s, lang), show(clip(s, limit)))


def diff(before: str, after: str, lang: str | None = None, limit: int = 110) -> tuple[Markup, Markup]:
    """Two blocks with the words that differ marked: `<del>` in the first, `<ins>` in the second.

    Shown are at most `limit` words around the first difference; an ellipsis says where a side was cut.
    Texts that differ in white space alone are shown from their start, unmarked.
    """
    a, b = before.split(), after.split()
    if a == b:  # lines and spaces alone: only the texts as they stand can show that
        return block(before, lang), block(after, lang)
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
    template = Markup('<div class="quote" {}><bdi>{}</bdi></div>')
    return (
        template.format(attributes(before, lang), Markup("").join([*left, end] if cut_left else left)),
        template.format(attributes(after, lang), Markup("").join([*right, end] if cut_right else right)),
    )


def _marked(words: list[str], tag: str) -> Iterator[Markup]:
    if not words:
        return
    text = show(" ".join(words))
    yield Markup("<{0}>{1}</{0}> ").format(Markup(tag), text) if tag else text + " "
