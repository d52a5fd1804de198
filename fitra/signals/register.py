"""Register of a text: news, encyclopedia, religious, poetry, legal, social, dialogue, web, books.

Cue words (data/register.yaml, written for Fitra) and figures of layout, added up with weights set by hand: nothing is
learnt, so nothing leaks from non-commercial news into the label. A word counts by its rate in the text, so that long
texts are not everything at once; layout decides where words cannot: half-lines and rhyme make verse, numbered articles
make law, handles and emoji make posts, turns make dialogue, marks of HTML and Markdown make web pages.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from fitra import arabic
from fitra.signals import dialect
from fitra.signals import letters as kinds
from fitra.signals.view import View

REGISTERS = ("news", "encyclopedia", "religious", "poetry", "legal", "social", "dialogue", "web", "books")
LINE_TAIL = 16  # code points at the end of a line in which its last letters are looked for

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@functools.cache
def cues() -> tuple[pa.LargeStringArray, npt.NDArray[np.float32]]:
    """The cue words (w,) and their weights (w, 9); a word of m registers gives each a 1/m of its weight."""
    given = yaml.safe_load((resources.files("fitra.signals") / "data" / "register.yaml").read_text("utf-8"))
    table: dict[str, dict[str, float]] = {}
    for register in REGISTERS:
        for strength, weight in (("weak", 0.4), ("strong", 1.0)):
            for word in arabic.fold(given[register][strength], "search").split():
                table.setdefault(word, {})[register] = weight
    words = sorted(table)
    weights = [[table[w].get(r, 0.0) / len(table[w]) for r in REGISTERS] for w in words]
    return pa.array(words, pa.large_string()), np.array(weights, dtype=np.float32)


@dataclass(frozen=True)
class Lines:
    """Figures of the lines of each text, (n,) each: shares are of the lines that are not empty."""

    count: Floats
    short: Floats  # of 8 to 90 characters
    rhymed: Floats  # end like the line before it or the one before that
    halved: Floats  # two half-lines with a separator (*** … wide gap) in the middle
    turns: Floats  # start with a short label and a colon, or with a dash
    uneven: Floats  # standard deviation of their lengths over the mean
    items: Floats  # start with #, *, -, a digit or a bar: headings, lists, tables


def lines(found: kinds.Letters) -> Lines:
    """Figures of lines from the code points."""
    n = len(found.bounds) - 1
    breaks = np.flatnonzero(found.kinds == kinds.BREAK)
    edges = np.sort(np.concatenate((breaks, found.bounds)))
    starts, stops = edges[:-1], edges[1:]
    skip = found.kinds[np.minimum(starts, len(found.kinds) - 1)] == kinds.BREAK if len(found.kinds) else starts < 0
    starts = starts + skip
    length = stops - starts
    kept = length >= 4  # this also drops the empty spans between a break and a text's end
    starts, stops, length = starts[kept], stops[kept], length[kept]
    doc = np.searchsorted(found.bounds, starts, side="right") - 1
    count = np.bincount(doc, minlength=n).astype(np.float64)

    def share(flags: npt.NDArray[np.bool_]) -> Floats:
        return np.bincount(doc, flags, minlength=n) / np.maximum(count, 1)

    short = (length >= 8) & (length <= 90)
    opening = found.kinds[np.minimum(starts[:, None] + np.arange(24), max(len(found.kinds) - 1, 0))]
    opening[np.arange(24) >= length[:, None]] = kinds.REST
    first = opening[:, 0] if len(starts) else np.zeros(0, np.uint8)
    colon = (opening[:, 1:] == kinds.COLON).any(axis=1) if len(starts) else np.zeros(0, bool)
    marks = np.isin(first, [kinds.HASH, kinds.STAR, kinds.DIGIT, kinds.PIPE, kinds.MARKUP])
    full = np.maximum(count, 1)
    mean = np.bincount(doc, length, minlength=n) / full
    spread = np.sqrt(np.maximum(np.bincount(doc, length.astype(np.float64) ** 2, minlength=n) / full - mean**2, 0))
    return Lines(
        count, share(short), share(_rhymed(found, stops, length, doc) & short), share(_halved(found, starts, stops)),
        share((first == kinds.DASH) | colon & (first <= kinds.ARABIC_REST)), spread / np.maximum(mean, 1), share(marks),
    )  # fmt: skip


def _rhymed(found: kinds.Letters, stops: Ints, length: Ints, doc: Ints) -> npt.NDArray[np.bool_]:
    """Lines whose last letter, and the one before it or its rime, return within the two lines before."""
    if not len(stops):
        return np.zeros(0, dtype=bool)
    at = stops[:, None] - 1 - np.arange(LINE_TAIL)
    inside = np.arange(LINE_TAIL) < length[:, None]
    tail = np.maximum(at, 0)
    is_letter = (found.kinds[tail] <= kinds.ARABIC_REST) & inside
    rank = np.cumsum(is_letter, axis=1)
    codes = np.where(is_letter, found.codes[tail].astype(np.int64), 0)
    last = (codes * (is_letter & (rank == 1))).sum(axis=1)
    before = (codes * (is_letter & (rank == 2))).sum(axis=1)
    # «ة», «ه», «ا», «ي» end many words of any text: with them the letter before must agree too.
    common = np.isin(last, [ord(c) for c in "ةهايىنت"])
    ending = np.where(common, last * 65536 + before, last)
    same = np.zeros(len(stops), dtype=bool)
    for back in (1, 2):
        same[back:] |= (ending[back:] == ending[:-back]) & (doc[back:] == doc[:-back]) & (last[back:] > 0)
    return same


def _halved(found: kinds.Letters, starts: Ints, stops: Ints) -> npt.NDArray[np.bool_]:
    """Lines of verse in two halves: a separator near the middle, letters on both sides."""
    if not len(starts):
        return np.zeros(0, dtype=bool)
    codes = found.codes
    wide = np.zeros(len(codes), dtype=bool)
    star = (codes == ord("*")) | (codes == ord(".")) | (codes == ord("=")) | (codes == ord("/")) | (codes == 32)
    if len(codes) > 2:
        wide[1:-1] = star[1:-1] & star[:-2] & star[2:] & (codes[1:-1] == codes[:-2]) & (codes[1:-1] == codes[2:])
    wide |= (codes == ord("…")) | (codes == ord("٭")) | (found.kinds == kinds.STAR) | (codes == 9)
    length = stops - starts
    left, right = starts + length * 35 // 100, starts + np.maximum(length * 65 // 100, length * 35 // 100)
    middle = kinds.span_sums(wide, left, right) > 0
    return np.asarray(middle & (length >= 25) & (length <= 160))


def figures(view: View) -> tuple[Floats, dict[str, Floats]]:
    """Cue rates (n, 9) and the layout figures by name, (n,) each."""
    found = kinds.letters(view)
    words, weights = cues()
    n = np.maximum(view.n_words, 1).astype(np.float64)
    rates = kinds.listed_sums(view, words, weights)
    rates /= (n + 4)[:, None]
    counts = found.counts
    chars = np.maximum(counts.sum(axis=1), 1).astype(np.float64)
    letters = np.maximum(found.in_arabic + found.in_latin, 1).astype(np.float64)
    by_line = lines(found)
    article, number, date, honour = (view.sums(view.member(x)) / n for x in (_ARTICLE, _NUMBERED, _MONTHS, _HONORIFIC))
    return rates, {
        "vocalised": counts[:, kinds.MARK] / np.maximum(found.in_arabic, 1),
        "quranic": counts[:, kinds.QURANIC] / chars,
        "emoji": counts[:, kinds.EMOJI] / chars,
        "tags": (counts[:, kinds.HASH] + counts[:, kinds.AT]) / n,
        "markup": (counts[:, kinds.MARKUP] + counts[:, kinds.PIPE]) / chars,
        "latin": found.in_latin / letters,
        "digits": counts[:, kinds.DIGIT] / chars,
        "questions": _questions(found) / n,
        "stops": counts[:, kinds.STOP] / n,
        "lines": by_line.count,
        "line_words": n / np.maximum(by_line.count, 1),
        "short": by_line.short,
        "rhymed": by_line.rhymed,
        "halved": by_line.halved,
        "turns": by_line.turns,
        "items": by_line.items,
        "uneven": by_line.uneven,
        "spoken": _spoken(view) / n,
        "articles": np.minimum(article, number),
        "months": date,
        "honorific": honour,
        "years": view.sums(_matches(view, "^(?:1[0-9]|20)[0-9][0-9]$")) / n,
        "laughs": view.sums(_matches(view, "^[هخ]{3,}$")) / n,
        "words": n,
    }


def _lexicon(words: str) -> frozenset[str]:
    return frozenset(arabic.fold(words, "search").split())


_ARTICLE = _lexicon("المادة مادة البند بند الفقرة فقرة الفصل للمادة والمادة بالمادة المواد")
_NUMBERED = _lexicon(
    "الأولى الثانية الثالثة الرابعة الخامسة السادسة السابعة الثامنة التاسعة العاشرة عشرة الأول الثاني الثالث الرابع"
    " الخامس السادس 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30"
)
_MONTHS = _lexicon("يناير فبراير مارس ابريل مايو يونيو يونيه يوليو يوليه اغسطس سبتمبر اكتوبر نوفمبر ديسمبر")
_HONORIFIC = _lexicon("رحمه رضي صلى وسلم سبحانه حدثنا اخبرنا تعالى")


def _spoken(view: View) -> Floats:
    """Evidence of dialect by listed words, summed: posts are written as people speak."""
    words = dialect.load_words()
    return kinds.listed_sums(view, words.words, words.dialect[:, None])[:, 0]


def _questions(found: kinds.Letters) -> Floats:
    marks = np.flatnonzero((found.codes == ord("؟")) | (found.codes == ord("?")))
    doc = np.searchsorted(found.bounds, marks, side="right") - 1
    return np.bincount(doc, minlength=len(found.bounds) - 1).astype(np.float64)


def _matches(view: View, pattern: str) -> npt.NDArray[np.float32]:
    return np.asarray(pc.match_substring_regex(view.vocab, pattern).to_numpy(zero_copy_only=False), dtype=np.float32)


def scores(view: View) -> Floats:
    """Evidence for each of `REGISTERS`, (n, 9): rates of cues and layout, with weights set by hand."""
    rates, f = figures(view)

    def cap(name: str, full: float) -> Floats:
        return np.minimum(f[name] / full, 1.0)

    brief = np.clip(1 - f["words"] / 60, 0, 1)
    prose = np.clip((f["line_words"] - 12) / 20, 0, 1)
    even = np.clip(2 - 4 * f["uneven"], 0, 1)  # verses of one metre are of one length
    rhyme = np.where(f["lines"] >= 4, cap("short", 1) * cap("rhymed", 0.6) * even, 0)
    free = (f["lines"] >= 6) & (f["line_words"] <= 7) & (f["short"] > 0.6) & (f["turns"] + f["items"] < 0.2)
    verse = cap("halved", 0.5) * (1 - prose) + np.maximum(rhyme, 0.6 * free * (f["stops"] < 0.05))
    many = f["lines"] >= 5
    listed = np.where(many, cap("items", 0.3), 0)  # headings and lists: «#» is no tag there, speech no post
    out = 14 * rates
    out[:, 0] += 0.7 * prose - 2 * cap("items", 0.5) - 1.0 * cap("years", 0.06) - cap("vocalised", 0.2)
    out[:, 1] += 1.4 * cap("years", 0.04) + 0.8 * cap("months", 0.02) + 0.6 * cap("latin", 0.1) - cap("vocalised", 0.2)
    out[:, 2] += 1.2 * cap("vocalised", 0.3) + 2 * cap("quranic", 0.01) + 1.0 * cap("honorific", 0.03)
    out[:, 3] += 4 * verse - 1.5 * prose - 0.5
    out[:, 4] += 5 * cap("articles", 0.02) - 0.4
    out[:, 5] += 2.5 * cap("tags", 0.08) * (1 - listed) + 3 * cap("emoji", 0.02) + 2 * cap("laughs", 0.05) + 1.6 * brief
    out[:, 5] += 1.8 * cap("spoken", 0.25) * (1 - 0.6 * listed) - 2 * cap("years", 0.03)
    out[:, 6] += 3 * np.where(f["lines"] >= 3, cap("turns", 0.6), 0) + 1.5 * cap("questions", 0.06) - 1.0
    out[:, 7] += (
        4 * cap("markup", 0.015) * (f["words"] >= 20)
        + 2.2 * listed * np.maximum(cap("latin", 0.02), cap("markup", 0.003))
        - 0.5
    )
    out[:, 8] += 0.5 * prose - 1.5 * cap("years", 0.01) - 1.0 * cap("latin", 0.05)
    return out


def label(view: View) -> tuple[list[str], npt.NDArray[np.float32]]:
    """The register of each text and a confidence from 0 to 1; a text without any cue is ``other``."""
    found = scores(view)
    best = np.argmax(found, axis=1)
    top = found[np.arange(len(view)), best]
    p = np.exp(found - found.max(axis=1, keepdims=True))
    sure = 1 / p.sum(axis=1)
    unknown = (top < 0.7) | (view.n_words == 0)
    sure = np.where(unknown, 0.0, sure)
    names = [("other" if u else REGISTERS[b]) for b, u in zip(best.tolist(), unknown.tolist(), strict=True)]
    return names, sure.astype(np.float32)
