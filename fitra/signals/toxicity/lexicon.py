"""Toxicity by words and patterns: a first, small, readable scorer; no model, no network.

Five headings: harassment, hate, sexual, violence (those of the native-alignment paper's figure, method facts 1.4) and
spam. A score is graded 0..1 but is *not* a probability. How it is made, per sentence: every hit has a grade; hits are
joined as 1 - product(1 - grade); the text has the score of its worst sentence. Ordinary words that insult only when
aimed at somebody («الكلب حيوان أليف» against «يا كلب») count little without that aim. Hate needs a group of people and
a judgement close together, not negated. What it cannot see: irony, implication, misspelling, groups not listed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

import yaml

from fitra import arabic

__all__ = ["HEADINGS", "SAFETY_HEADINGS", "Hit", "hits", "score", "stems"]

HEADINGS = ("harassment", "hate", "sexual", "violence", "spam")
SAFETY_HEADINGS = HEADINGS[:4]

STRONG, WEAK, WEAK_SHORT, AIMED = 0.8, 0.15, 0.35, 0.75
SHORT_WORDS = 12  # in a text this short (a comment, a post) an ordinary word of abuse is more often abuse
GROUP_WINDOW = 4  # words between a group and the judgement on it

# fmt: off
_PREFIXES = (
    "و",
    "ف",
    "ب",
    "ل",
    "ك",
    "ال",
    "لل",
    "وال",
    "فال",
    "بال",
    "كال",
    "ولل",
    "يا",
    "هال",
    "عال",
    "وب",
    "ول",
)
_SHORT_PREFIXES = frozenset("فبلك")
_SUFFIXES = ("ه", "ها", "هم", "هن", "ك", "كم", "كن", "ي", "نا", "ين", "ون", "ات", "وا", "يه", "يين", "يون")
# fmt: on
_AIMS = ("يا", "يال", "هال")
_SENTENCE = re.compile(r"[.!?؟؛;\n…]+")
_WORD = re.compile(r"\w+")
_ARABIC = re.compile(r"[\u0621-\u064a]+")
_STRETCH = re.compile(r"(.)\1{2,}")


@dataclass(frozen=True)
class Hit:
    """One finding: heading, grade 0..1, and the folded words that caused it."""

    heading: str
    grade: float
    words: str


@dataclass(frozen=True)
class _Lexicon:
    words: dict[str, tuple[tuple[str, bool], ...]]  # folded word -> (heading, strong)
    phrases: dict[str, tuple[tuple[str, bool, tuple[str, ...]], ...]]  # first word -> (heading, strong, the rest)
    patterns: tuple[tuple[str, float, re.Pattern[str]], ...]
    any_pattern: re.Pattern[str]
    groups: frozenset[str]
    verbs: frozenset[str]
    predicates: frozenset[str]
    long_predicates: tuple[str, ...]
    negations: frozenset[str]
    deniers: frozenset[str]
    aim_before: frozenset[str]
    aim_after: frozenset[str]


def _fold(word: str) -> str:
    return arabic.fold(word, "search").strip()


@cache
def _lexicon() -> _Lexicon:
    source = resources.files("fitra.signals").joinpath("data/toxicity.yaml").read_text(encoding="utf-8")
    raw: dict[str, Any] = yaml.safe_load(source)
    words: dict[str, list[tuple[str, bool]]] = {}
    phrases: dict[str, list[tuple[str, bool, tuple[str, ...]]]] = {}
    patterns = []
    for heading in HEADINGS:
        part = raw.get(heading, {})
        for strong, key in ((True, "strong"), (False, "weak")):
            for entry in dict.fromkeys(_fold(str(w)) for w in part.get(key, [])):
                first, *rest = entry.split()
                if rest:
                    phrases.setdefault(first, []).append((heading, strong, tuple(rest)))
                else:
                    words.setdefault(first, []).append((heading, strong))
        patterns += [
            (heading, float(grade), re.compile(_ARABIC.sub(lambda m: _fold(m[0]), p)))
            for grade, p in part.get("patterns", [])
        ]
    hate = raw["hate"]
    predicates = [_fold(w) for w in hate["predicates"]]
    return _Lexicon(
        {k: tuple(v) for k, v in words.items()},
        {k: tuple(v) for k, v in phrases.items()},
        tuple(patterns),
        re.compile("|".join(f"(?:{p.pattern})" for _, _, p in patterns)),
        frozenset(_fold(w) for w in hate["groups"]),
        frozenset(_fold(w) for w in hate["verbs"]),
        frozenset(p for p in predicates if " " not in p),
        tuple(p for p in predicates if " " in p),
        frozenset(_fold(w) for w in hate["negations"]),
        frozenset(_fold(w) for w in hate["deniers"]),
        frozenset(_fold(w) for w in raw["aim_before"]),
        frozenset(_fold(w) for w in raw["aim_after"]),
    )


@lru_cache(maxsize=1 << 16)
def stems(word: str) -> tuple[str, ...]:
    """What a folded word may be once clitics and common endings are off, the word itself first.

    A stem keeps three letters; endings come off only where four remain, so that the name «خولة» stays a name.
    """
    out = {word: None, _STRETCH.sub(r"\1", word): None}
    for base in list(out):
        # «كفار» is not «ك» + «فار»: a single letter comes off only where four remain; «و» and the article need three.
        bare = [base]
        for p in _PREFIXES:
            if base.startswith(p) and len(base) - len(p) >= (4 if p in _SHORT_PREFIXES else 3):
                bare.append(base[len(p) :])
        for b in bare:
            out[b] = None
            for s in _SUFFIXES:
                if b.endswith(s) and len(b) - len(s) >= 4:
                    out[b[: -len(s)]] = None
    return tuple(out)


@lru_cache(maxsize=1 << 16)
def _known(word: str) -> tuple[tuple[tuple[str, bool], ...], tuple[tuple[str, bool, tuple[str, ...]], ...], int]:
    """(single-word entries, phrases that begin here, bits: 1 group, 2 verb, 4 predicate, 8 verb with its object)."""
    lex = _lexicon()
    forms = stems(word)
    single = next((lex.words[f] for f in forms if f in lex.words), ())
    phrases = tuple(p for f in forms for p in lex.phrases.get(f, ()))
    bare = word.removeprefix("و")  # judgements take no other clitic: «لبكره», «بسرطان», «فعاله» are other words
    plain = re.sub("(?:هم|هن|ها)$", "", bare)
    bits = (
        (1 if any(f in lex.groups for f in forms) else 0)
        | (2 if bare in lex.verbs else 8 if plain in lex.verbs else 0)
        | (4 if bare in lex.predicates or word in lex.predicates else 0)
    )
    return single, phrases, bits


def _aimed(words: list[str], i: int) -> bool:
    w, lex = words[i], _lexicon()
    return (
        (i > 0 and words[i - 1] in lex.aim_before)
        or (i + 1 < len(words) and words[i + 1] in lex.aim_after)
        or (w.startswith(_AIMS) and len(w) > 4)
    )


def _sentence(words: list[str], short: bool) -> list[Hit]:
    lex = _lexicon()
    out: list[Hit] = []
    groups, judgements = [], []
    for i, w in enumerate(words):
        single, phrases, bits = _known(w)
        for heading, strong in single if i == 0 or words[i - 1] not in lex.deniers else ():
            grade = STRONG if strong else AIMED if _aimed(words, i) else WEAK_SHORT if short else WEAK
            out.append(Hit(heading, grade, w))
        for heading, strong, rest in phrases:
            n = len(rest)
            after = words[i + 1 : i + 1 + n]
            if len(after) == n and all(r == a or r in stems(a) for r, a in zip(rest, after, strict=True)):
                out.append(Hit(heading, STRONG if strong else WEAK, " ".join([w, *after])))
        if bits & 1:
            groups.append(i)
        if bits & 14:
            judgements.append((i, bits))
    for g in groups:
        for j, bits in judgements:
            # A predicate follows its group, a verb comes before it unless it carries the object («النساء أكرههن»).
            gap = j - g if bits & 4 else g - j if bits & 2 else abs(j - g)
            near = set(words[max(0, min(g, j) - 2) : max(g, j)])
            if j != g and 0 < gap <= GROUP_WINDOW and not near & lex.negations:
                out.append(Hit("hate", 0.6 if bits & 4 and gap > 2 else 0.8, f"{words[g]} {words[j]}"))
    line = " ".join(words)
    if groups:
        out += [Hit("hate", 0.7, p) for p in lex.long_predicates if p in line]
    if lex.any_pattern.search(line):
        for heading, grade, pattern in lex.patterns:
            m = pattern.search(line)
            if m:
                out.append(Hit(heading, grade, m[0]))
    return out


@lru_cache(maxsize=1 << 13)
def _of(sentence: str, short: bool) -> tuple[Hit, ...]:
    """Hits of one folded sentence; kept, since original and rewrite share most of theirs."""
    return tuple(_sentence(_WORD.findall(sentence), short))


def _by_sentence(text: str) -> list[tuple[Hit, ...]]:
    sentences = _SENTENCE.split(arabic.fold(text, "compare").lower())
    short = len(text) < 400 and len(_WORD.findall(text)) <= SHORT_WORDS
    return [_of(s.strip(), short) for s in sentences if s and not s.isspace()]


def hits(text: str) -> list[Hit]:
    """Every finding in the text, in reading order: what a reviewer is shown."""
    return [h for sentence in _by_sentence(text) for h in sentence]


def score(text: str) -> dict[str, float]:
    """Score 0..1 for each of `HEADINGS`, rounded to four digits; 0.0 everywhere for an empty text."""
    worst = dict.fromkeys(HEADINGS, 0.0)
    for sentence in _by_sentence(text):
        left = dict.fromkeys(HEADINGS, 1.0)
        for h in sentence:
            left[h.heading] *= 1.0 - h.grade
        for heading, rest in left.items():
            worst[heading] = max(worst[heading], 1.0 - rest)
    return {k: round(v, 4) for k, v in worst.items()}
