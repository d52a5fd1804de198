"""Finding the Qur'an in a text: whole verses and fragments of four words and more, across the borders of verses.

The text of the Qur'an comes from a file of the user; nothing of it is shipped. Words are compared as `words` hashes
them; what the hashes find is looked at again word by word:

    same    as folded: tashkeel, tatweel, forms of alef, ya and ta marbuta, hamza
    near    apart from alefs and seats of hamza: «العلمين» and «العالمين», «شئون» and «شؤون»
    loose   the same consonants: «الصلوة» and «الصلاة»; counts only in Uthmani writing and inside long matches
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fitra.align.protect import ordinary
from fitra.align.protect.spans import Match, Protected
from fitra.align.protect.words import Ints, Words, folded, grams, plain, skeletons, split

__all__ = ["GRAM", "Verses"]

GRAM = 4  # words: shorter runs of scripture are ordinary Arabic («في السماوات»)
_REACH = 1 << 22  # entries of the table that sorts out nearly all grams of ordinary text
_SHIFT = np.uint64(64 - 22)
_LOOKED_AT = 30  # places with the same consonants that are compared word by word, until one has all words
_ALIKE = 6  # places in the Qur'an with the very words of a match that are followed further
_BLOCK = 12  # words compared at once
_AROUND = 120  # characters before and behind a match in which the rest of a verse with a slip is looked for
_SLIPS = sorted(((a, b) for a in range(4) for b in range(4) if a + b and abs(a - b) < 3), key=lambda s: (sum(s), s))
_SLIPS.insert(0, (0, 0))
_SHORT = 600  # characters: below, a look at the consonants of three words is faster than NumPy
_UTHMANI = re.compile("[\u0671\u0670\u06d6-\u06ed]")
_NAME = re.compile(r"(\d+)\D(\d+)$")
_STOP = re.compile(r"[.!?؟»”﴾}\n]")  # a slip does not go over these
_STRONG = re.compile(r"[.!?؟;؛:…»«”“\"(){}\[\]﴾﴿]")


_NO_WORDS = split("")


class _Table:
    """Grams and where they begin: sorted, behind a table that says no at once."""

    def __init__(self, keys: npt.NDArray[np.uint64], places: Ints) -> None:
        order = np.argsort(keys, kind="stable")
        self.keys, self.places = keys[order], places[order]
        self.may = np.zeros(_REACH, dtype=bool)
        self.may[keys >> _SHIFT] = True

    def find(self, keys: npt.NDArray[np.uint64]) -> Iterator[tuple[int, Ints]]:
        """(index among `keys`, places) of the grams that are known, in order."""
        at = np.flatnonzero(self.may[keys >> _SHIFT])
        if not len(at):
            return
        low = np.searchsorted(self.keys, keys[at], side="left")
        high = np.searchsorted(self.keys, keys[at], side="right")
        for i, a, b in zip(at.tolist(), low.tolist(), high.tolist(), strict=True):
            if b > a:
                yield i, self.places[a:b]


class Verses:
    """The text of the Qur'an, ready to be found. `texts` are verses in order; `names` («2:255») say which follow
    each other, otherwise each follows the one before. `len()` is the number of verses."""

    def __init__(self, texts: Collection[str], names: Sequence[str | None] | None = None) -> None:
        rows = list(texts)
        self._count = len(rows)
        known = [place(n) for n in names] if names is not None else [None] * len(rows)
        self._words: list[tuple[str, str, str]] = []
        chain_of: list[int] = []
        chain = 0
        parts: list[str] = []
        begins: list[bool] = []
        for i, text in enumerate(rows):
            here, before = known[i], known[i - 1] if i else None
            if here and (before is None or here != (before[0], before[1] + 1)):
                chain += 1
            w = split(text)
            found = [text[a:b] for a, b in zip(w.all_starts.tolist(), w.all_ends.tolist(), strict=True)]
            self._words += map(folded, found)
            chain_of += [chain] * len(found)
            parts += found
            begins += [True, *[False] * (len(found) - 1)][: len(found)]
        self._begins = begins  # whether a word begins a verse
        joined = split(" ".join(parts))
        self._chain = np.array(chain_of, dtype=np.int64)
        self._hashes, self._order = joined.hashes, joined.order
        chains = self._chain[self._order] if len(chain_of) else self._order
        keys, places = self._grams(chains, GRAM)
        self._four = _Table(keys, places)
        keys, places = self._grams(chains, GRAM - 1)
        if len(keys):  # three words with consonants that are four with «يا», «أو» or «أي» before, after or between
            first, last = self._order[places], self._order[places + GRAM - 2]
            low = np.maximum(first - 1, 0)
            high = np.minimum(last + 1, len(self._chain) - 1)
            weak = np.array([not w[2] for w in self._words], dtype=bool)
            wide = (last - first >= GRAM - 1) | (weak[low] & (low < first)) | (weak[high] & (high > last))
            keys, places = keys[wide], places[wide]
        self._three = _Table(keys, places)
        short = skeletons(" ".join(parts))
        self._threes = set(zip(short, short[1:], short[2:], strict=False))

    def __len__(self) -> int:
        return self._count

    def _grams(self, chains: Ints, n: int) -> tuple[npt.NDArray[np.uint64], Ints]:
        keys = grams(self._hashes, n)
        if not len(keys):
            return keys, np.empty(0, dtype=np.int64)
        places = np.flatnonzero(chains[: len(keys)] == chains[n - 1 :])
        return keys[places], places

    def find(self, text: str) -> Iterator[Protected]:
        """What a rewriter must not alter: maximal spans, in order; ordinary phrases without a sign of scripture out."""
        spans: list[tuple[int, int, set[int]]] = []  # start, end, words of the Qur'an that may follow
        found, w = self._matches(text)
        for m in found:
            m = self._trimmed(text, m)
            if m.words < GRAM or (m.words <= ordinary.LONGEST and self._ordinary(text, w, m)):
                continue
            m = self._extended(text, w, m)
            start, end, after = spans[-1] if spans else (-1, -1, set[int]())
            # One span: overlapping, or parts of one verse with a word or two misspelt or left out between them.
            near = m.start - end <= 30 and len(text[end : m.start].split()) <= 3
            if spans and (m.start < end or (near and any(-1 <= m.at - q <= 3 for q in after))):
                if m.end > end:
                    spans[-1] = (start, m.end, {m.at + m.words})
                elif m.end == end:
                    after.add(m.at + m.words)
            else:
                spans.append((m.start, m.end, {m.at + m.words}))
        for start, end, _ in spans:
            yield Protected(start, end, "quran")

    @staticmethod
    def _ordinary(text: str, w: Words, m: Match) -> bool:
        """Whether a match is made of everyday words and nothing says that it is scripture."""
        first, last = np.searchsorted(w.all_ends, m.start, side="right"), np.searchsorted(w.all_starts, m.end)
        places = zip(w.all_starts[first:last].tolist(), w.all_ends[first:last].tolist(), strict=True)
        return ordinary.may_be([plain(text[a:b]) for a, b in places]) and not ordinary.cued(text, m)

    def _extended(self, text: str, w: Words, m: Match) -> Match:
        """With the rest of a verse behind and before a slip: a word or two misspelt, left out, put in or swapped."""
        low, first = np.searchsorted(w.all_starts, (m.start - _AROUND, m.start)).tolist()
        last, high = np.searchsorted(w.all_ends, (m.end, m.end + _AROUND), side="right").tolist()
        if last - 1 < first:
            return m
        starts, ends = w.all_starts[low:high].tolist(), w.all_ends[low:high].tolist()
        around = _Around(text, starts, ends)
        first, last = first - low, last - 1 - low
        i, j = self._onward(around, last, m.at + m.words - 1, 1)
        if i > last and _STOP.search(text, m.end, starts[i]):
            i, j = last, m.at + m.words - 1
        a, c = self._onward(around, first, m.at, -1)
        if a < first and _STOP.search(text, ends[a], m.start):
            a, c = first, m.at
        if (i, a) == (last, first):
            return m
        return Match(min(m.start, starts[a]), max(m.end, ends[i]), j - c + 1, c)

    def _onward(self, mine: _Around, i: int, j: int, step: int) -> tuple[int, int]:
        """From words that are paired to the last ones in one direction that still are, over slips."""
        top, chain, words = len(self._words), self._chain, self._words

        def same(a: int, b: int) -> bool:
            inside = 0 <= a < len(mine) and 0 <= b < top and chain[b] == chain[j]
            return bool(inside and mine[a] == words[b][0])

        while True:
            for skip_text, skip_verse in _SLIPS:
                a, b = i + step * (1 + skip_text), j + step * (1 + skip_verse)
                if not same(a, b):
                    continue
                if same(a + step, b + step):
                    i, j = a + step, b + step
                    break
                edge = self._begins[b + 1] if step > 0 and b + 1 < len(self._begins) else step < 0 and self._begins[b]
                if edge and len(mine[a]) > 3:
                    return a, b
            else:
                return i, j

    def _trimmed(self, text: str, m: Match) -> Match:
        """Without one or two words behind a full stop or a closing bracket that only happen to go on like the verse."""
        if m.words > 7 or not _STRONG.search(text, m.start, m.end):
            return m
        w = split(text[m.start : m.end])
        starts, ends = w.all_starts.tolist(), w.all_ends.tolist()
        a, b, n = 0, len(starts), len(starts)
        if n != m.words:
            return m
        for k in (1, 2):
            if n > k and self._apart(text, m, starts, ends, n - k):
                b = min(b, n - k)
            if n > k and self._apart(text, m, starts, ends, k):
                a = max(a, k)
        if (a, b) == (0, n):
            return m
        if b <= a:
            return Match(m.start, m.start, 0, m.at)
        return Match(m.start + starts[a], m.start + ends[b - 1], b - a, m.at + a)

    def _apart(self, text: str, m: Match, starts: list[int], ends: list[int], i: int) -> bool:
        """Whether a strong sign stands before word `i` of a match, where the Qur'an has no border of verses."""
        sign = _STRONG.search(text, m.start + ends[i - 1], m.start + starts[i])
        return sign is not None and not self._begins[m.at + i]

    def matches(self, text: str) -> list[Match]:
        """All runs of four words and more that are in the Qur'an, longest first where several begin at one word."""
        return self._matches(text)[0]

    def _matches(self, text: str) -> tuple[list[Match], Words]:
        """`matches`, and the words of the text."""
        if len(text) < _SHORT:
            short = skeletons(text)
            if self._threes.isdisjoint(zip(short, short[1:], short[2:], strict=False)):
                return [], _NO_WORDS
        w = split(text)
        hits = [(i, GRAM, p) for i, p in self._four.find(grams(w.hashes, GRAM))]
        hits += [(i, GRAM - 1, p) for i, p in self._three.find(grams(w.hashes, GRAM - 1))]
        if not hits:
            return [], w
        hits.sort(key=lambda h: h[:2])
        done: dict[int, int] = {}  # place in the Qur'an less place in the text -> end of the run already looked at
        out: set[Match] = set()
        for i, _, places in hits:
            fresh = np.array([p for p in places.tolist() if i >= done.get(p - i, -1)], dtype=np.int64)
            if not len(fresh):
                continue
            lengths = self._runs(w, i, fresh)
            done.update(zip((fresh - i).tolist(), (lengths + i).tolist(), strict=True))
            # The longest say all that the others would say, unless the second look refuses them.
            for n in sorted(set(lengths.tolist()), reverse=True):
                alike = fresh[lengths == n].tolist()
                held = False
                for k, p in enumerate(alike[:_LOOKED_AT]):
                    found = list(self._checked(text, w, i, p, n))
                    out.update(found)
                    held = held or bool(found)
                    whole = [m for m in found if m.start <= w.starts[i] and m.end >= w.ends[i + n - 1]]
                    if whole:  # the same words elsewhere in the Qur'an are followed further, not looked at again
                        for other in alike[k + 1 : k + _ALIKE]:
                            apart = int(self._order[other] - self._order[p])
                            out.update(Match(m.start, m.end, m.words, m.at + apart) for m in whole)
                        break
                if held:
                    break
        return sorted(out, key=lambda m: (m.start, -m.end, m.at)), w

    def _runs(self, w: Words, i: int, places: Ints) -> Ints:
        """How many words from `i` on are the same as from each of `places` on, within what is continuous there."""
        lengths = np.zeros(len(places), dtype=np.int64)
        alive, chains, n = np.arange(len(places)), self._chain[self._order[places]], 0
        while len(alive) and i + n < len(w.hashes):
            some = w.hashes[i + n : i + n + _BLOCK]
            here = places[alive, None] + np.arange(n, n + len(some))
            inside = here < len(self._hashes)
            here = np.minimum(here, len(self._hashes) - 1)
            same = inside & (self._hashes[here] == some) & (self._chain[self._order[here]] == chains[alive, None])
            run = np.where(same.all(axis=1), len(some), same.argmin(axis=1))
            lengths[alive] += run
            alive, n = alive[run == len(some)], n + len(some)
        return lengths

    def _checked(self, text: str, w: Words, i: int, p: int, n: int) -> Iterator[Match]:
        """The parts of a run of equal hashes that stand the second look."""
        first, last = int(w.order[i]), int(w.order[i + n - 1])
        q_first, q_last = int(self._order[p]), int(self._order[p + n - 1])
        # Words without consonants at both ends, where the text has them too.
        while first > 0 and q_first > 0 and self._same_weak(text, w, first - 1, q_first - 1, q_first):
            first, q_first = first - 1, q_first - 1
        top = len(self._words) - 1
        while last + 1 < len(w.all_starts) and q_last < top and self._same_weak(text, w, last + 1, q_last + 1, q_last):
            last, q_last = last + 1, q_last + 1
        spans = list(zip(w.all_starts[first : last + 1].tolist(), w.all_ends[first : last + 1].tolist(), strict=True))
        mine = [folded(text[a:b]) for a, b in spans]
        theirs = self._words[q_first : q_last + 1]
        pairs, grades = _align(mine, theirs)
        uthmani = bool(_UTHMANI.search(text, spans[0][0], spans[-1][1]))
        for a, b in _accepted(grades, uthmani):
            begin, end = spans[pairs[a][0]][0], spans[pairs[b - 1][1]][1]
            count = pairs[b - 1][3] - pairs[a][2] + 1
            if count >= GRAM:
                yield Match(begin, end, count, q_first + pairs[a][2])

    def _same_weak(self, text: str, w: Words, i: int, q: int, beside: int) -> bool:
        word = folded(text[int(w.all_starts[i]) : int(w.all_ends[i])])
        return not word[2] and word[0] == self._words[q][0] and self._chain[q] == self._chain[beside]


class _Around:
    """The words around a match, folded when they are asked for."""

    def __init__(self, text: str, starts: list[int], ends: list[int]) -> None:
        self.text, self.starts, self.ends = text, starts, ends

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, i: int) -> str:
        return plain(self.text[self.starts[i] : self.ends[i]])


Pair = tuple[int, int, int, int]  # words [a, b] of the text stand for words [c, d] of the Qur'an
SAME, NEAR, LOOSE, OTHER = range(4)


def _align(mine: list[tuple[str, str, str]], theirs: list[tuple[str, str, str]]) -> tuple[list[Pair], list[int]]:
    """Pair the words of two runs with equal consonants; words without consonants go with the one after them."""
    pairs: list[Pair] = []
    grades: list[int] = []
    i = j = 0
    while i < len(mine) and j < len(theirs):
        a, c = i, j
        if mine[i][2] or theirs[j][2]:
            while i < len(mine) - 1 and not mine[i][2]:
                i += 1
            while j < len(theirs) - 1 and not theirs[j][2]:
                j += 1
        pairs.append((a, i, c, j))
        if a == i and c == j and mine[i][0] == theirs[j][0]:
            grades.append(SAME)
            i, j = i + 1, j + 1
            continue
        left, right = ["".join(x[k] for x in mine[a : i + 1]) for k in range(3)], theirs[c : j + 1]
        words = ["".join(x[k] for x in right) for k in range(3)]
        if left[0] == words[0] or (not grades and words[0][:1] in "وف" and left[0] == words[0][1:]):
            grades.append(SAME)  # a quotation may leave out the first «و» or «ف»
        elif left[1] == words[1]:
            grades.append(NEAR)
        else:
            grades.append(LOOSE if left[2] == words[2] else OTHER)
        i, j = i + 1, j + 1
    return pairs, grades


def _accepted(grades: list[int], uthmani: bool) -> Iterator[tuple[int, int]]:
    """[a, b) of the pairs that are the Qur'an: all when few are loose, otherwise what lies between loose ones."""
    same = grades.count(SAME)
    if OTHER not in grades and same >= len(grades) * 0.5 and (uthmani or LOOSE not in grades or len(grades) >= 8):
        if uthmani or len(grades) > 4 or same >= 3:
            yield 0, len(grades)
        return
    a = 0
    for b in range(len(grades) + 1):
        if b == len(grades) or grades[b] >= LOOSE:
            part = grades[a:b]
            if part and part.count(SAME) >= max(2, len(part) * 0.6):
                yield a, b
            a = b + 1


def place(name: str | None) -> tuple[int, int] | None:
    """(sura, verse) of a name like «quran-2:255», None for any other."""
    m = _NAME.search(name or "")
    return (int(m[1]), int(m[2])) if m else None
