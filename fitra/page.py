"""Text that nobody has vouched for, on a page: escaped, its direction told by its letters, hidden characters shown.

Corpus text, model text and tokens are hostile input: besides markup they may hold bidirectional overrides, which make a
reader see another text than the machine does.
"""

from __future__ import annotations

import re
import unicodedata

from markupsafe import Markup, escape

__all__ = ["HIDDEN", "bar", "block", "clip", "direction", "is_rtl", "plain", "show"]

# Bidi overrides and isolates, zero-width space, controls, lone surrogates, non-characters, tags. The joiners and the
# plain direction marks stay: Arabic and Persian are written with them.
HIDDEN_CHARACTERS = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\ufffe\uffff"
    "\U000e0000-\U000e007f"
)
HIDDEN = re.compile(f"[{HIDDEN_CHARACTERS}]")
_ARABIC = re.compile("[\u0600-\u06ff\u0750-\u077f\u0870-\u08ff\ufb50-\ufdff\ufe70-\ufefc]")
_LETTER = re.compile(r"[^\W\d_]")
_HEAD = 5000  # characters that tell the direction of a text


def plain(text: object) -> str:
    """For attributes and chart titles: hidden characters as <U+XXXX>. Escaping is left to the caller."""
    return HIDDEN.sub(lambda m: f"<U+{ord(m[0]):04X}>", str(text))


def show(text: object, hidden: re.Pattern[str] = HIDDEN) -> Markup:
    """Escaped text whose hidden characters are badges with their number."""
    out, at, s = [], 0, str(text)
    for m in hidden.finditer(s):
        name = unicodedata.name(m[0], "control character")
        badge = Markup('<span class="badge" title="{}">{:04X}</span>').format(name, ord(m[0]))
        out += [escape(s[at : m.start()]), badge]
        at = m.end()
    return Markup("").join([*out, escape(s[at:])])


def is_rtl(text: str) -> bool:
    """Whether a third or more of the letters are Arabic."""
    head = text[:_HEAD]
    letters = len(_LETTER.findall(head))
    return letters > 0 and 3 * len(_ARABIC.findall(head)) >= letters


def direction(text: str) -> Markup:
    """`lang` and `dir` of an element that holds `text`: by its letters, whatever its label says."""
    return Markup('lang="ar" dir="rtl"' if is_rtl(text) else 'lang="und" dir="ltr"')


def block(text: str, inside: Markup, attributes: Markup | None = None) -> Markup:
    """A quotation block around `inside`, which is `text` made fit to be shown; `attributes` instead of `direction`."""
    # The direction is said twice: a <bdi> without one takes that of its first letter, and «RT …» would turn the line.
    return Markup('<div class="quote" {}><bdi dir="{}">{}</bdi></div>').format(
        direction(text) if attributes is None else attributes, "rtl" if is_rtl(text) else "ltr", inside
    )


def clip(text: str, limit: int) -> str:
    """The first `limit` characters, cut at a space where there is one near, with an ellipsis."""
    if len(text) <= limit:
        return text
    cut = text[:limit]
    return (cut.rsplit(" ", 1)[0] if " " in cut[limit // 2 :] else cut) + " …"


def bar(value: float | None, most: float, tone: int = 1) -> Markup:
    """One bar of a table row; the figure stands beside it in the table."""
    share = 0.0 if value is None or most <= 0 else max(0.0, min(1.0, value / most)) * 100
    return Markup(
        '<svg class="bar" aria-hidden="true" width="100%" height="11"><rect class="track" y="1" width="100%" height="9"'
        ' rx="2"/><rect class="tone-{}" y="1" width="{:.2f}%" height="9" rx="2"/></svg>'
    ).format(tone, share)
