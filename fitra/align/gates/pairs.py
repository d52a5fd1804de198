"""Figures of a batch of pairs from the words of both sides: one View, every different word known once, then NumPy.

A fact of a word is a number (a key); of each key of each pair it is counted how often it stands in the original, in the
rewrite, in what was declared removed and in what was declared added. What is in the original beyond the removals and
not in the rewrite is lost; what is in the rewrite beyond the additions and not in the original is new.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fitra.align.gates import words
from fitra.signals import repetition
from fitra.signals.view import View, view

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

ORIGINAL, REWRITE, REMOVED, ADDED = range(4)
_LOOP = 6  # words
_CUT = re.compile(r"(?<=[\u0621-\u065f])[-\u2010]\n(?=[\u0621-\u064a])")
_TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,300}>")
_ENTITY = re.compile(r"&(?:[A-Za-z]{2,8}|#\d{1,6});")
_ARABIC, _LATIN = "\u0620-\u065f\u066e-\u06d3", "a-z\u00df-\u024f"
_MEETING = rf"\d[{_ARABIC}{_LATIN}]|[{_ARABIC}{_LATIN}]\d|[{_ARABIC}][{_LATIN}]|[{_LATIN}][{_ARABIC}]"
_RUN = re.compile(rf"\d+|[{_LATIN}]+|[^\d{_LATIN}]+")
Found = list[list[str]]  # per pair, the keys


@dataclass
class Words:
    """Facts of the occurrences of a batch: texts are originals, rewrites, removals, additions, n of each."""

    whole: View  # words as they stand
    of: View  # words parted where the script changes
    n: int
    facts: list[words.Fact]  # per different word
    pair: Ints  # (occurrences,)
    side: npt.NDArray[np.int8]
    keys: dict[str, tuple[Ints, list[str]]] = field(default_factory=dict)

    def column(self, name: str) -> tuple[Ints, list[str]]:
        """(key per different word, -1 for none; the names of the keys) of one field of `words.Fact`."""
        if name not in self.keys:
            at = words.Fact._fields.index(name)
            values: list[str] = [f[at] for f in self.facts]  # type: ignore[misc]
            names = {v: i for i, v in enumerate(v for v in dict.fromkeys(values) if v)}
            self.keys[name] = np.array([names.get(v, -1) for v in values], dtype=np.int64), list(names)
        return self.keys[name]

    def flag(self, name: str) -> Flags:
        """A yes-or-no field of the occurrences."""
        at = words.Fact._fields.index(name)
        return np.array([bool(f[at]) for f in self.facts], dtype=bool)[self.of.ids]


def look(originals: Sequence[str], rewrites: Sequence[str], removed: Sequence[str], added: Sequence[str]) -> Words:
    """One view of all sides of n pairs, mark-up aside."""
    n = len(originals)
    tags = [set(_TAG.findall(t)) if "<" in t else set[str]() for t in originals]
    texts = [_plain(t, tags[i % n]) for i, t in enumerate((*originals, *rewrites, *removed, *added))]
    whole = view(pa.array(texts, pa.large_string()))
    of = parted(whole)
    owner = np.repeat(np.arange(4 * n), of.n_words)
    facts = [words.fact(w) for w in of.vocab.to_pylist()]
    return Words(whole, of, n, facts, owner % max(n, 1), (owner // max(n, 1)).astype(np.int8))


def _plain(text: str, tags: set[str]) -> str:
    """A text without the original's tags (new ones are new words), entities as the signs that they stand for, and
    with words joined that a line's end cuts («ال-», «صومال»)."""
    if "-\n" in text:
        text = _CUT.sub("", text)
    if tags and "<" in text:
        text = _TAG.sub(lambda m: " " if m[0] in tags else m[0], text)
    return _ENTITY.sub(lambda m: html.unescape(m[0]), text) if "&" in text else text


def parted(of: View) -> View:
    """A view whose words end where letters meet digits, or Arabic letters Latin ones.

    «الساعة5» and «الساعة 5» are the same words then: a rewriter that puts a space there has brought nothing new.
    `texts` and `folded` stay as they are.
    """
    mixed = np.flatnonzero(pc.match_substring_regex(of.vocab, _MEETING).to_numpy(zero_copy_only=False))
    if not len(mixed):
        return of
    listed: list[str] = of.vocab.to_pylist()
    known = {w: i for i, w in enumerate(listed)}
    pieces = [[known.setdefault(x, len(known)) for x in _RUN.findall(listed[i])] for i in mixed.tolist()]
    sizes = np.ones(len(listed), dtype=np.int64)
    sizes[mixed] = [len(p) for p in pieces]
    # All words in one table, each with its pieces from `first` on.
    table = np.repeat(np.arange(len(listed)), sizes)
    first = np.cumsum(sizes) - sizes
    for i, p in zip(mixed.tolist(), pieces, strict=True):
        table[first[i] : first[i] + len(p)] = p
    several = sizes[of.ids]
    behind = np.concatenate(([0], np.cumsum(several)))
    within = np.arange(behind[-1]) - np.repeat(behind[:-1], several)
    ids = table[np.repeat(first[of.ids], several) + within].astype(np.int32)
    return View(of.texts, of.folded, pa.array(list(known), pa.large_string()), ids, behind[of.bounds])


@dataclass(frozen=True)
class Counts:
    """Per (pair, key) that occurs: how often on each side, (m, 4)."""

    pair: Ints
    key: Ints
    sides: Ints


def count(pair: Ints, key: Ints, side: npt.NDArray[np.int8]) -> Counts:
    """Counts of occurrences by pair, key and side."""
    if not len(pair):
        empty = np.zeros(0, dtype=np.int64)
        return Counts(empty, empty, np.zeros((0, 4), dtype=np.int64))
    span = int(key.max()) + 1
    found, where = np.unique(pair * span + key, return_inverse=True)
    sides = np.bincount(where * 4 + side, minlength=4 * len(found)).reshape(-1, 4)
    return Counts(*np.divmod(found, span), sides)


def differ(counts: Counts, names: Sequence[str], n: int) -> tuple[Found, Found]:
    """(lost, new) keys per pair.

    What is gone altogether or was not there at all; and where something stands less often and something else more
    often, both: one of several mentions was swapped. A mention more or less alone is no finding.
    """
    o, r, gone, put = counts.sides.T
    fewer, more = o - gone > r, r - put > o
    swapped = (any_of(counts.pair, fewer, n) & any_of(counts.pair, more, n))[counts.pair] if n else fewer
    lost, new = fewer & ((r == 0) | swapped), more & ((o == 0) | swapped)
    return named(counts, lost, names, n), named(counts, new, names, n)


def any_of(pair: Ints, flags: Flags, n: int) -> Flags:
    """Whether a pair has any, (n,)."""
    return np.asarray(np.bincount(pair[flags], minlength=n) > 0)


def named(counts: Counts, which: Flags, names: Sequence[str], n: int) -> Found:
    out: Found = [[] for _ in range(n)]
    for p, k in zip(counts.pair[which].tolist(), counts.key[which].tolist(), strict=True):
        out[p].append(names[k])
    return out


def simple(w: Words, name: str) -> tuple[Found, Found]:
    """(lost, new) of one field."""
    column, names = w.column(name)
    key = column[w.of.ids]
    on = np.flatnonzero(key >= 0)
    return differ(count(w.pair[on], key[on], w.side[on]), names, w.n)


def _keyed(w: Words, found: list[tuple[int, str]]) -> tuple[Found, Found]:
    """(lost, new) of keys made one by one: (occurrence, key)."""
    numbers: dict[str, int] = {}
    key = np.array([numbers.setdefault(k, len(numbers)) for _, k in found], dtype=np.int64)
    at = np.array([i for i, _ in found], dtype=np.int64)
    return differ(count(w.pair[at], key, w.side[at]), list(numbers), w.n)


def near(w: Words, at: int, step: int) -> words.Fact | None:
    """The fact of the neighbour in the same text."""
    to = at + step
    if 0 <= to < len(w.pair) and w.pair[to] == w.pair[at] and w.side[to] == w.side[at]:
        return w.facts[int(w.of.ids[to])]
    return None


def dates(w: Words) -> tuple[Found, Found]:
    """(lost, new) dates: a month with the day before it and the year after it, and week days."""
    lex = words.lexicon()
    vocab = w.of.vocab
    listed = vocab.to_pylist()
    bare = [f.month for f in w.facts]
    is_head = np.array([bool(b) for b in bare], dtype=bool)
    found: list[tuple[int, str]] = []
    for i in np.flatnonzero(is_head[w.of.ids]).tolist() if len(w.of.ids) else []:
        head = bare[w.of.ids[i]]
        after = near(w, i, 1)
        second = listed[w.of.ids[i + 1]] if after is not None else ""
        month, end = lex.months.get((head, second), ""), i + 1
        if not month:
            month, end = lex.months.get((head,), ""), i
        if not month:
            continue
        before, behind = near(w, i, -1), near(w, end, 1)
        day = before.number if before and len(before.number) <= 2 else ""
        year = behind.number if behind and len(behind.number) == 4 else ""
        if not year:  # «مايو عام 2015», «كانون الثاني/ يناير 2015»
            behind = near(w, end, 2)
            year = behind.number if behind and len(behind.number) == 4 else ""
        named = i > 0 and listed[w.of.ids[i - 1]].endswith("شهر")
        if head not in lex.ambiguous or day or year or named:
            found.append((i, month))
            if day:
                found.append((i, f"{day}/{month}"))
            if year:
                found.append((i, f"{month}/{year}"))
    column, names = w.column("weekday")
    key = column[w.of.ids]
    found += [(i, names[key[i]]) for i in np.flatnonzero(key >= 0).tolist()]
    return _keyed(w, found)


def units(w: Words) -> tuple[Found, Found]:
    """(lost, new) numbers with their units: «30 كم», «ثلاثة ملايين ريال»."""
    found: list[tuple[int, str]] = []
    column, names = w.column("unit")
    key = column[w.of.ids]
    on = np.flatnonzero(key >= 0)
    numbers = np.array([bool(f.number) for f in w.facts], dtype=bool)
    # Only after a number; the text's bounds are checked one by one below.
    ids = w.of.ids
    for i in on[numbers[ids[np.maximum(on - 1, 0)]]].tolist() if len(on) else []:
        before = near(w, i, -1)
        era = before and len(before.number) == 4 and names[key[i]] in ("m", "hijri", "common_era")  # often left out
        if before and before.number and not era:
            unit = names[key[i]]
            if unit == "kilo":  # «كيلو جرام»; alone it is metres or grams
                after = near(w, i, 1)
                unit = {"gram": "kg", "m": "km", "watt": "kw"}.get(after.unit if after else "", "")
            if unit:
                found.append((i, f"{before.number} {unit}"))
    return _keyed(w, found)


def negations(w: Words) -> Floats:
    """Denials in the rewrite less those in the original, removals and additions counted off, (n,)."""
    deny = w.flag("negation")
    at = np.flatnonzero(deny)
    lex = words.lexicon()
    listed = w.of.vocab
    heads = {w.of.vocab.index(k).as_py(): v for k, v in lex.not_before.items()}
    heads.pop(-1, None)
    keep = np.ones(len(at), dtype=bool)
    for head, never in heads.items():
        for j in np.flatnonzero(w.of.ids[at] == head).tolist():
            if at[j] + 1 < len(w.of.ids) and listed[w.of.ids[at[j] + 1]].as_py() in never:
                keep[j] = False
    at = at[keep]
    sides = np.bincount(w.pair[at] * 4 + w.side[at], minlength=4 * w.n).reshape(-1, 4).astype(np.float64)
    return np.asarray((sides[:, REWRITE] - sides[:, ADDED]) - (sides[:, ORIGINAL] - sides[:, REMOVED]))


@dataclass(frozen=True)
class Content:
    """How much of the content words is kept, and the longest passages lost and new."""

    kept: Floats  # (n,) share of the original's, outside removals
    lost: Floats  # (n,) words
    new: Floats
    n_words: Ints  # (n,) content words of the original


def content(w: Words) -> Content:
    """Content words by stem: shares kept, and by the best run (Kadane) the passages that have no counterpart."""
    column, _ = w.column("stem")
    key = column[w.of.ids]
    on = np.flatnonzero(key >= 0)
    pair, side, key = w.pair[on], w.side[on], key[on]
    span = int(key.max()) + 1 if len(key) else 1
    found, where = np.unique(pair * span + key, return_inverse=True)
    sides = np.bincount(where * 4 + side, minlength=4 * len(found)).reshape(-1, 4)
    o, r, gone, put = sides.T
    owner = found // span
    want = np.maximum(o - gone, 0)
    total = np.bincount(owner, want, minlength=w.n)
    kept = np.bincount(owner, np.minimum(want, r), minlength=w.n)
    share = np.divide(kept, total, out=np.ones(w.n), where=total > 2)  # of two words a share says nothing
    # Fewer mentions count, not none: a sentence that is gone leaves its subject's words elsewhere.
    missing, fresh = r < want, r - put > o
    a, b = side == ORIGINAL, side == REWRITE
    return Content(
        share,
        _best_run(missing[where][a], pair[a], w.n),
        _best_run(fresh[where][b], pair[b], w.n),
        np.bincount(pair[a], minlength=w.n),
    )


def _best_run(hit: Flags, pair: Ints, n: int) -> Floats:
    """Per pair the largest sum of a stretch of words, a hit being 1 and any other word -1; `pair` ascends."""
    if not len(hit):
        return np.zeros(n)
    sums = np.cumsum(np.where(hit, 1, -1))
    # A later text starts below all before it, so the running minimum forgets them.
    drop = (pair - pair[0]) * (2 * len(hit) + 2)
    lower = np.minimum.accumulate(np.where(hit, sums - 1, sums) - drop)
    best = np.zeros(n)
    np.maximum.at(best, pair, (sums - drop - lower).astype(np.float64))
    return best


def repeats(w: Words) -> Ints:
    """How often more than in the original some run of six words occurs in the rewrite, (n,)."""
    salt = repetition.mix(np.arange(len(w.of.vocab), dtype=np.int64), 7)
    ids, out = w.of.ids, np.zeros(w.n, dtype=np.int64)
    m = len(ids) - _LOOP + 1
    if m <= 0:
        return out
    grams = np.zeros(m, dtype=np.uint64)
    for k in range(_LOOP):
        grams = grams * np.uint64(0x9E3779B97F4A7C15 | 1) + salt[ids[k : k + m]]
    doc = w.pair + w.side.astype(np.int64) * w.n
    inside = (doc[:m] == doc[_LOOP - 1 :]) & (w.side[:m] <= REWRITE)
    pair, side, grams = w.pair[:m][inside], w.side[:m][inside], grams[inside]
    keys = grams ^ repetition.mix(pair, 9)
    later = side == REWRITE
    found, counts = np.unique(keys[later], return_counts=True)
    several = counts > 1
    if not several.any():
        return out
    found, counts = found[several], counts[several]
    before = np.sort(keys[~later])
    had = np.searchsorted(before, found, "right") - np.searchsorted(before, found, "left")
    order = np.argsort(keys[later])
    whose = pair[later][order][np.searchsorted(keys[later], found, sorter=order)]
    np.maximum.at(out, whose, counts - had)
    return out
