"""Makes names.txt: words of running text that stand where names stand, though they may look like common ones.

    python -m fitra.align.gates.learn_names TEXTS.parquet [...]

«شاهين» looks like «شاه» with an ending, «فوكس» like «ف» before a word. But a name stands after a title, beside another
name or after a kind of place («مدينة») more often than a word does, and it takes neither the article nor endings. What
is found so counts as beside a name in the next round. The gates ask for a swap before they hold such a word against a
rewrite (`names`), so a common word among them does little harm.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from fitra.align.gates.words import fact, lexicon
from fitra.signals.view import View, view

ROUNDS = 3
MIN_COUNT = 4
BESIDE = 0.35  # share of occurrences beside a name or after a kind of place: enough by itself
BESIDE_LONE = 0.08  # enough for a word that is never seen with article or endings
_WORD = re.compile("[\u0621-\u064a]{3,}")
_ENDINGS = ("هما", "ها", "هم", "نا", "كم", "ات", "ين", "ون", "ان", "وا", "يه", "ه", "ا", "ي", "ت")
_PRONOUN = re.compile("(?:هما|ها|هم)$")
_FUTURE = re.compile("[وف]?(?:سي|ست|بي|بت|حي|حت)")


def learn(paths: list[Path]) -> list[str]:
    """The words of parquet files with a column `text` that stand where names stand, sorted."""
    views = [
        view(batch.column(0).drop_null())
        for path in paths
        for batch in pq.ParquetFile(path).iter_batches(batch_size=512, columns=["text"])
    ]
    seen: Counter[str] = Counter()
    for v in views:
        seen.update(_counted(v, np.ones(len(v.ids), dtype=bool)))
    forms = Forms(seen)
    known: frozenset[str] = frozenset()
    for _ in range(ROUNDS):
        beside: Counter[str] = Counter()
        for v in views:
            beside.update(_counted(v, _beside(v, known)))
        known = frozenset(
            w for w, n in beside.items() if seen[w] >= MIN_COUNT and n >= 3 and n >= BESIDE * seen[w] and _usable(w)
        )
    found = {w for w, n in beside.items() if seen[w] >= MIN_COUNT and _usable(w) and not forms.inflected(w)}
    return sorted(
        w
        for w in found
        if (beside[w] >= max(3, BESIDE * seen[w])) or (beside[w] >= max(2, BESIDE_LONE * seen[w]) and forms.lone(w))
    )


def _counted(v: View, which: npt.NDArray[np.bool_]) -> dict[str, int]:
    """How often each word is among some occurrences."""
    n = np.bincount(v.ids[which], minlength=len(v.vocab)).tolist()
    return {w: k for w, k in zip(v.vocab.to_pylist(), n, strict=True) if k}


def _beside(v: View, known: frozenset[str]) -> npt.NDArray[np.bool_]:
    """Occurrences after a title, a name or a kind of place, or before a name."""
    facts = [fact(w) for w in v.vocab.to_pylist()]
    named = np.array([bool(f.name) or w in known for w, f in zip(v.vocab.to_pylist(), facts, strict=True)], dtype=bool)
    cued = np.array([f.cue != 0 for f in facts], dtype=bool) | named
    out = np.zeros(len(v.ids), dtype=bool)
    if len(out):
        first = np.zeros(len(v.ids) + 1, dtype=bool)
        first[v.bounds] = True
        inside = ~first[1:-1]  # the second of two neighbours in one text
        out[1:] |= cued[v.ids[:-1]] & inside
        out[:-1] |= named[v.ids[1:]] & inside
    return out


def _usable(word: str) -> bool:
    """Whether a word may be a name and no list of the gates has it."""
    f = fact(word)
    meant = f.stop or f.name or f.number or f.unit or f.month or f.weekday or f.speech or f.cue or f.negation or f.blame
    listed = bool(meant) or word in lexicon().connectives
    return not listed and not word.startswith(("ال", "لل")) and _WORD.fullmatch(word) is not None


class Forms:
    """How often words are seen with article, clitics and endings."""

    def __init__(self, seen: Counter[str]) -> None:
        self.seen = seen

    def with_article(self, word: str) -> int:
        """Occurrences with the article, clitics before it too."""
        return sum(self.seen[a + word] for a in ("ال", "وال", "بال", "لل"))

    def base(self, word: str) -> int:
        """Occurrences of a word, with the article or without."""
        return self.seen[word] + self.with_article(word)

    def inflected(self, word: str) -> bool:
        """Whether a word is more likely another one with a clitic, an ending or a verb's prefix."""
        n, rest = self.seen[word], word[1:]
        if word[0] in "وفبلك" and (self.base(rest) + self.seen[rest + "ه"]) >= 0.5 * n:
            return True
        if _PRONOUN.search(word) and self.seen[_PRONOUN.sub("", word)]:
            return True
        if word.endswith(("ته", "تها", "تهم")) and self.seen[word[: word.rindex("ت")] + "ه"]:
            return True
        if _FUTURE.match(word) and any(self.seen[p + _FUTURE.sub("", word, count=1)] for p in "يت"):
            return True
        if word.endswith("يه") and (self.with_article(word) or self.seen[word[:-1]] > 1):
            return True
        return word.endswith("ا") and self.base(word[:-1]) >= 2

    def lone(self, word: str) -> bool:
        """Whether a word is seen with neither article nor endings, nor other persons of a verb."""
        n = self.seen[word]
        if self.with_article(word) > 0.05 * n or sum(self.seen[word + e] for e in _ENDINGS) > 0.15 * n:
            return False
        for e in _ENDINGS:
            bare = word[: -len(e)]
            if word.endswith(e) and len(bare) >= 3:
                other = self.seen[bare + "ه"] if e != "ه" else 0
                if self.base(bare) + other > 0.3 * n:
                    return False
        persons = sum(self.seen[p + word[1:]] for p in "يتن" if p != word[0]) + self.seen[word[1:]]
        return word[0] not in "يتن" or persons <= 0.2 * n


if __name__ == "__main__":
    out = Path(__file__).with_name("names.txt")
    out.write_text("\n".join(learn([Path(p) for p in sys.argv[1:]])) + "\n", encoding="utf-8")
