"""Makes common.txt: stems of running text that are hardly names.

    python -m fitra.align.gates.learn TEXTS.parquet [...]

A noun, verb or adjective stands in running text with several endings and with and without the article; a name keeps
its form, clitics aside. So a stem counts as common when it is frequent enough and varied enough, or has the persons
of a verb («قام», «قامت», «قاموا») and is none of the words of `learn_names`, which comes first. It is a heuristic:
frequent names that look like words («سعيد») are common here and known by places.yaml or by the title before them.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from fitra.align.gates.learn_names import Forms
from fitra.align.gates.words import beside_names, fact, lexicon, stem
from fitra.signals.view import view

MIN_COUNT, MIN_VARIED = 4, 0.12  # occurrences; share of those that are not the most frequent form
TITLED = 0.04  # share of occurrences after a title from which a stem counts as a name
VERB_COUNT, VERB_PERSONS = 15, 0.08  # occurrences of a verb's stem; other persons among them
_WORD = re.compile("[\u0621-\u064a]{3,}")
_CLITIC = re.compile("^[وفبلك](?=...)")


def learn(paths: list[Path]) -> list[str]:
    """The common stems of parquet files with a column `text`, sorted."""
    counts: Counter[str] = Counter()
    titled: Counter[str] = Counter()  # how often a word follows a title: the president is no president's name
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=512, columns=["text"]):
            seen = view(batch.column(0).drop_null())
            found = np.bincount(seen.ids, minlength=len(seen.vocab)).tolist()
            vocab = seen.vocab.to_pylist()
            counts.update(dict(zip(vocab, found, strict=True)))
            cue = np.array([fact(x).cue in (1, 3) for x in vocab], dtype=bool)
            after = np.bincount(seen.ids[1:][cue[seen.ids[:-1]]], minlength=len(vocab)).tolist()
            titled.update({x: n for x, n in zip(vocab, after, strict=True) if n and not x.startswith("ال")})
    forms: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for word, n in counts.items():
        if _WORD.fullmatch(word):
            forms[stem(word)][_CLITIC.sub("", word)] += n
    called: Counter[str] = Counter()
    for word, n in titled.items():
        called[stem(word)] += n
    names = {stem(n) for n in lexicon().names}
    varied = {
        s
        for s, f in forms.items()
        if sum(f.values()) >= MIN_COUNT and _varied(list(f.values())) and called[s] < max(2, TITLED * sum(f.values()))
    }
    of_words = Forms(counts)
    verbs = {stem(w) for w in counts if _WORD.fullmatch(w) and _is_verb(w, of_words)}
    return sorted(s for s in (varied | verbs) - names if len(s) > 2)


def _varied(counts: list[int]) -> bool:
    rest = sum(counts) - max(counts)
    return rest >= max(2, MIN_VARIED * sum(counts))


def _is_verb(word: str, forms: Forms) -> bool:
    n = forms.seen[word]
    if n < VERB_COUNT or word in beside_names() or forms.inflected(word):
        return False
    persons = [forms.seen[x] for x in (f"{word}ت", f"{word}وا", f"ي{word}", f"ت{word}")]
    # One other form alone may be another word: «فرانس», «فرانسوا».
    return sum(persons) >= max(3, VERB_PERSONS * n) and sum(k > 0 for k in persons) > 1


if __name__ == "__main__":
    out = Path(__file__).with_name("common.txt")
    out.write_text("\n".join(learn([Path(p) for p in sys.argv[1:]])) + "\n", encoding="utf-8")
