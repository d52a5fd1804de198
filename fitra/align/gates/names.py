"""Names lost, new or swapped between the sides of a pair, without capital letters and without a model."""

from __future__ import annotations

import functools
from difflib import SequenceMatcher

import numpy as np

from fitra.align.gates import words
from fitra.align.gates.pairs import ORIGINAL, REWRITE, Found, Ints, Words, any_of, count, named, near

__all__ = ["bones", "kin", "names"]

_PLACE = 6  # words of one side that may stand in the place of words of the other


def names(w: Words) -> tuple[Found, Found]:
    """(lost, new) names.

    Certain: listed names, Latin words, and what follows a title. Likely: stems that are not common; they count when
    one is lost and another came in its place, and no spelling of the same word.
    """
    column, listed = w.column("key")
    key = column[w.of.ids]
    on = np.flatnonzero(key >= 0)
    counts = count(w.pair[on], key[on], w.side[on])
    # By pair: what is a name in one text is a word in another («حمد», «الحمد»).
    spot = w.pair * np.int64(len(listed)) + key
    whole = counts.pair * np.int64(len(listed)) + counts.key
    by_name = w.flag("name")
    marked = np.zeros(len(key), dtype=bool)
    marked[_after_cues(w)] = True
    certain = np.isin(whole, spot[(by_name | marked) & (key >= 0)])
    perhaps = certain | np.isin(whole, spot[w.flag("rare") & (key >= 0)])
    o, r, gone, put = counts.sides.T
    fewer, more = perhaps & (o - gone > r), perhaps & (r - put > o)
    lost = named(counts, fewer & certain & (r == 0), listed, w.n)
    new = named(counts, more & certain & (o == 0), listed, w.n)
    # A swap: one went, another came; spellings of one word are none, nor are forms of one that is no certain name.
    any_fewer, any_more = o - gone > r, r - put > o
    both = any_of(counts.pair, fewer, w.n) & any_of(counts.pair, more, w.n) if w.n else fewer
    for p in np.flatnonzero(both).tolist():
        at = slice(*np.searchsorted(counts.pair, [p, p + 1]).tolist())  # pairs ascend
        sure = {listed[k] for k in counts.key[at][certain[at]].tolist()}
        went, came, all_went, all_came = (
            [listed[k] for k in counts.key[at][which[at]].tolist()] for which in (fewer, more, any_fewer, any_more)
        )
        few = len(went) * len(came) <= 400  # another text has no spellings of this one
        alike = [(a, b) for a in went for b in came if _alike(a, b)] if few else []
        a, b = [x for x in went if x not in {y for y, _ in alike}], [x for x in came if x not in {y for _, y in alike}]
        if few and len(all_went) * len(all_came) <= 400:
            a = [x for x in a if x in sure or not any(kin(x, y) for y in all_came)]
            b = [x for x in b if x in sure or not any(kin(x, y) for y in all_went)]
        if a and b:
            lost[p], new[p] = a, b
        else:
            lost[p], new[p] = [x for x in lost[p] if x in a], [x for x in new[p] if x in b]
    # A name went and something that is no name by its look came in its place, or the other way round; or one of several
    # mentions went.
    known = words.beside_names()
    strong = certain | np.array([x in known for x in listed], dtype=bool)[counts.key]
    look = (fewer & certain) | (strong & ((fewer & (r == 0)) | (more & (o == 0))))
    for p in np.unique(counts.pair[look]).tolist():
        if not lost[p] and not new[p]:
            at = slice(*np.searchsorted(counts.pair, [p, p + 1]).tolist())
            keys = [{listed[k] for k in counts.key[at][(look & side)[at]].tolist()} for side in (fewer, more)]
            lost[p], new[p] = _in_place(w, p, *keys)
    aliases = words.lexicon().aliases
    for p in range(w.n):
        for found, side in ((lost[p], REWRITE), (new[p], ORIGINAL)):
            for name in [x for x in found if x in aliases]:
                at = _span(w, p, side)
                if any(w.facts[i].key in aliases[name] for i in w.of.ids[at].tolist()):
                    found.remove(name)
    return lost, new


def _span(w: Words, p: int, side: int) -> slice:
    """The occurrences of one side of a pair."""
    first = side * w.n + p
    return slice(int(w.of.bounds[first]), int(w.of.bounds[first + 1]))


def _in_place(w: Words, p: int, went: set[str], came: set[str]) -> tuple[list[str], list[str]]:
    """(lost, new): names of `went` in whose place other words stand, names of `came` in the place of other words."""
    a, b = ([w.facts[i] for i in w.of.ids[_span(w, p, side)].tolist()] for side in (ORIGINAL, REWRITE))
    head = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x.key != y.key), min(len(a), len(b)))
    a, b = a[head:], b[head:]
    same = zip(a[::-1], b[::-1], strict=False)
    tail = next((i for i, (x, y) in enumerate(same) if x.key != y.key), min(len(a), len(b)))
    a, b = a[: len(a) - tail], b[: len(b) - tail]
    lost: list[str] = []
    new: list[str] = []
    keys = [f.key for f in a], [f.key for f in b]
    for tag, i, j, k, m in SequenceMatcher(None, *keys, False).get_opcodes():
        if tag != "replace" or j - i > _PLACE or m - k > _PLACE:
            continue
        gone, fresh = (
            [x for x in here if x and x not in other]
            for here, other in zip((keys[0][i:j], keys[1][k:m]), keys[::-1], strict=True)
        )
        # An adjective with its article is no name, however rare.
        named = {f.key for f in a[i:j] if f.key in went and not f.article and f.key not in keys[1][k:m]}
        called = {f.key for f in b[k:m] if f.key in came and not f.article and f.key in fresh}
        if ((named and fresh) or (called and gone)) and not _respelt(keys[0][i:j], keys[1][k:m]):
            lost += gone or sorted(named)
            new += fresh
    return lost, new


def _respelt(a: list[str], b: list[str]) -> bool:
    """Whether what stands in the place of some words is them in another spelling or form, apart or together."""
    if SequenceMatcher(None, "".join(a), "".join(b), False).ratio() >= 0.7:
        return True
    return any(_alike(x, y) or kin(x, y) for x in a for y in b)


def kin(a: str, b: str) -> bool:
    """Forms of one root, by the look of it: the consonants of one in those of the other («كرّم», «تكريم»)."""
    x, y = bones(a), bones(b)
    return min(len(x), len(y)) > 2 and (x in y or y in x)


@functools.lru_cache(maxsize=1 << 16)
def bones(word: str) -> str:
    """The consonants of a word, foreign g in one spelling."""
    return word.translate(_LONG_VOWELS)


_LONG_VOWELS = str.maketrans("جقك", "غغغ", "اويهءئؤ")


def _alike(a: str, b: str) -> bool:
    """Two spellings of one word: most letters in the same order, or the same consonants («الأميركية», «الأمريكية»)."""
    if min(len(a), len(b)) < 4:
        return min(len(a), len(b)) > 2 and a.rstrip("ي") == b.rstrip("ي")  # «يحي», «يحيى»
    known = words.lexicon().names
    if a in known and b in known:
        return False  # «حسن» is not «حسين»
    if len(a) == len(b) and {x + y for x, y in zip(a, b, strict=True) if x != y} <= {"وي", "يو"}:
        return True  # «شؤون», «شئون»
    if bones(a) == bones(b) and len(bones(a)) > 2:
        return True
    return a[0] == b[0] and min(len(a), len(b)) > 5 and SequenceMatcher(None, a, b, False).ratio() >= 0.86


def _after_cues(w: Words) -> Ints:
    """Occurrences of words that follow a title or, when they are not common, a kind of place."""
    cue = np.array([f.cue for f in w.facts], dtype=np.int8)[w.of.ids] if len(w.of.ids) else np.zeros(0, np.int8)
    out: list[int] = []
    for i in np.flatnonzero(cue).tolist():
        for step in range(1, 4):
            f = near(w, i, step)
            if f is None or f.stop:  # «المدير الذي قام»
                break
            if (f.article or f.cue == 1) and cue[i] == 1 and step < 3:
                continue  # the adjective of a title, or another title
            # After a kind of place an adjective is as likely: «مدينة كبيرة».
            named = f.key and not (f.speech or f.stop or f.number or f.unit) and (f.article <= (cue[i] == 3))
            if named and (cue[i] in (1, 3) or (f.rare and step == 1)):
                out.append(i + step)
            break
    return np.array(out, dtype=np.int64)
