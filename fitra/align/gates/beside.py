"""What a model says beside the text: words of its own prompt, and sentences that answer to nothing in the original."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from fitra import arabic
from fitra.align.gates import words
from fitra.align.gates.names import bones
from fitra.align.gates.pairs import ADDED, ORIGINAL, REWRITE, Flags, Found, Words, any_of, count
from fitra.policy import Policy

__all__ = ["recited", "unasked"]

RUN = 4  # words of the prompt in a row
NEW, SHARE = 2, 0.6  # content words of a sentence that the original does not have: how many at least, and of how many
_SENTENCE = re.compile(r"[.!?؟؛;\n…]+")


@functools.lru_cache(maxsize=8)
def _prompt_runs(said: tuple[str, ...]) -> tuple[frozenset[str], frozenset[tuple[str, ...]]]:
    """(words, runs of RUN words) of the prompts, folded."""
    runs: set[tuple[str, ...]] = set()
    for text in said:
        tokens = arabic.fold(text, "search").split()
        runs.update(zip(*(tokens[i:] for i in range(RUN)), strict=False))
    return frozenset(w for r in runs for w in r), frozenset(runs)


def recited(w: Words, policy: Policy) -> Found:
    """Runs of four words of the policy's prompts and rules in each rewrite that its original does not have."""
    # Not the rules' examples: what they show is what an obedient rewrite reads like.
    stated = (s for r in policy.rules for s in (r.statement_ar, r.statement_en))
    known, runs = _prompt_runs((*policy.prompts.values(), *stated))
    listed = w.of.vocab.to_pylist()
    inside = np.array([x in known for x in listed], dtype=bool)[w.of.ids] if len(w.of.ids) else np.zeros(0, dtype=bool)
    out: Found = [[] for _ in range(w.n)]
    if len(inside) < RUN:
        return out
    all_in = inside[: len(inside) - RUN + 1].copy()
    for k in range(1, RUN):
        all_in &= inside[k : len(inside) - RUN + 1 + k]
    found: dict[tuple[int, int], set[str]] = {}
    for i in np.flatnonzero(all_in).tolist():
        p, side = int(w.pair[i]), int(w.side[i])
        if (int(w.pair[i + RUN - 1]), int(w.side[i + RUN - 1])) == (p, side):
            run = tuple(listed[j] for j in w.of.ids[i : i + RUN].tolist())
            if run in runs:
                found.setdefault((p, side), set()).add(" ".join(run))
    for p in range(w.n):
        fresh = found.get((p, REWRITE), set()) - found.get((p, ORIGINAL), set()) - found.get((p, ADDED), set())
        out[p] = sorted(fresh)
    return out


@functools.lru_cache(maxsize=8)
def _shown(afters: tuple[str, ...]) -> frozenset[str]:
    """The sentences of what the policy's examples become, folded: a safe statement in one may be put in."""
    return frozenset(arabic.fold(s, "search").strip() for a in afters for s in _SENTENCE.split(a))


def unasked(w: Words, rewrites: Sequence[str], which: Flags, policy: Policy) -> Found:
    """Sentences of some rewrites most of whose content words are in neither the original nor the declared additions.

    Those that stand in the policy's examples are none of them: it asks for them.
    `passage_new` sees long passages; a short one («مرت العصابة») fits under its threshold. `which` are the pairs to
    look at, (n,): the others are known to be refused, or to have no two new words side by side.
    """
    column, listed = w.column("stem")
    key = column[w.of.ids]
    on = np.flatnonzero(key >= 0)
    counts = count(w.pair[on], key[on], w.side[on])
    o, r, _, put = counts.sides.T
    fresh = (r > 0) & (o == 0) & (put == 0)
    out: Found = [[] for _ in range(w.n)]
    if not w.n:
        return out
    for p in np.flatnonzero(any_of(counts.pair, fresh, w.n) & which).tolist():
        at = slice(*np.searchsorted(counts.pair, [p, p + 1]).tolist())
        new = {listed[k] for k in counts.key[at][fresh[at]].tolist()}
        if len(new) < NEW:
            continue
        had = {bones(listed[k]) for k in counts.key[at][(o > 0)[at]].tolist()}
        ends = [0, *(m.end() for m in _SENTENCE.finditer(rewrites[p])), len(rewrites[p])]
        for a, b in pairwise(ends):
            folded = arabic.fold(_SENTENCE.sub(" ", rewrites[p][a:b]), "search").strip()
            stems = [words.fact(x).stem for x in folded.split()]
            content = [s for s in stems if s]
            mine = [s for s in content if s in new]
            if len(mine) >= NEW and len(mine) >= SHARE * len(content):
                mine = [s for s in mine if not _known(bones(s), had)]
                many = len(mine) >= NEW and len(mine) >= SHARE * len(content)
                if many and folded not in _shown(tuple(after for rule in policy.rules for _, after in rule.examples)):
                    out[p].append(" ".join(rewrites[p][a:b].split()))
    return out


def _known(word: str, had: set[str]) -> bool:
    """Whether consonants are those of a word that was there, or a form of it (`names.kin`)."""
    return word in had or (len(word) > 2 and any(word in h or (len(h) > 2 and h in word) for h in had))
