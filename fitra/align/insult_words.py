"""The insult lexicon of a policy: lists folded and inflected, patterns compiled, words classified once."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fitra.align.groups import fold, pattern
from fitra.signals.toxicity import stems

__all__ = ["DEFINITE", "Lexicon", "bare", "compile_lexicon", "forms_of"]

DEFINITE = re.compile(r"^(?:[وفبك]?(?:ه)?ال|ول?ل|لل|عال)(?=..)")
# Bits of `Lexicon.classify`.
HARD, STRONG, SOFT, NOUN, ATTACHED, FIRST, VULGAR, ACCUSATION = (1 << i for i in range(8))
_HEAD = re.compile("^[وفب]?(?:ال)?(?=...)")


@dataclass(frozen=True)
class Lexicon:
    """The insult lexicon of a policy, folded and ready."""

    adjectives: frozenset[str]
    soft: frozenset[str]
    nouns: frozenset[str]
    strong_nouns: frozenset[str]
    vulgar: frozenset[str]
    accusations: frozenset[str]
    two_words: frozenset[str]
    things: frozenset[str]
    plurals: frozenset[str]
    masculine: frozenset[str]  # «تافه»: its last letter is no ta marbuta
    phrases: tuple[re.Pattern[str], ...]
    frames: tuple[re.Pattern[str], ...]
    exceptions: frozenset[str]
    spared: frozenset[str]  # names: no frame makes an insult of them
    vocatives: frozenset[str]
    predicate: tuple[str, str, str, str]  # masculine, feminine, plural, plural after a verb
    person: tuple[str, str, str, str]  # definite, definite plural, indefinite, indefinite plural
    homonyms: frozenset[str]  # names and ordinary words that look like one of the above: never without the scorer
    epithets: frozenset[str]  # «مسيلمة الكذاب»: part of a name
    singulars: frozenset[str]  # «خاين»: its last letters are no plural
    labels: frozenset[str]  # «هؤلاء الحاقدين»: what calls somebody names where it points at them, and else reports
    superlative: tuple[str, str]  # «أجدبهم» becomes «أكثرهم خطأ»
    seen: dict[str, int] = field(default_factory=dict, compare=False)  # word -> class, see `classify`

    @cached_property
    def patterns(self) -> tuple[re.Pattern[str], ...]:
        """Phrases, then frames."""
        return (*self.phrases, *self.frames)

    def classify(self, word: str) -> int:
        """What a folded word may be, as bits (`HARD` to `ACCUSATION`), 0 for ordinary words."""
        bits = self.seen.get(word)
        if bits is None:
            if len(self.seen) > 1 << 18:
                self.seen.clear()
            forms = forms_of(word)
            lists = (self.adjectives, self.strong_nouns, self.soft, self.nouns)
            bits = sum(1 << i for i, words in enumerate(lists) if any(f in words for f in forms))
            if word.startswith("يا") and len(word) > 4:
                aimed = self.nouns | self.soft | self.adjectives | self.strong_nouns | self.accusations
                bits |= ATTACHED * any(f in aimed for f in stems(word[2:]))
            elif word.startswith("ي") and len(word) > 4:  # «يحمار», «يغبي»: only words that are no verb
                bits |= ATTACHED * (word[1:] in self.strong_nouns or word[1:] in self.attached)
            bits |= FIRST * any(f in self.firsts for f in forms)
            bits |= VULGAR * (word in self.vulgar or _HEAD.sub("", word) in self.vulgar)  # «كسمكة» is a fish
            bits |= ACCUSATION * any(f in self.accusations for f in forms)
            if word in self.exceptions:
                bits = 0
            self.seen[word] = bits
        return bits

    def thing(self, word: str) -> bool:
        """Is this folded word a thing, with or without clitics and possessive («بقوته»)?"""
        known = self.thing_words.get(word)
        if known is None:
            forms = {*stems(word), bare(word)}
            forms |= {re.sub("(?:ه|ها|هم|هن|ك|كم|نا|ي)$", "", f) for f in forms}
            known = bool((forms | {f[:-1] + "ه" for f in forms if f.endswith("ت")}) & self.things)
            self.thing_words[word] = known
        return known

    @cached_property
    def thing_words(self) -> dict[str, bool]:
        """What `thing` found of the words met so far."""
        return {}

    @cached_property
    def attached(self) -> frozenset[str]:
        """Words that «ي» may be written on for «يا»."""
        return frozenset(w for w in self.nouns | self.adjectives if w[0] in "كحخقمو" and len(w) >= 4) - {"حيوانات"}

    @cached_property
    def firsts(self) -> frozenset[str]:
        """First words of the two-word adjectives."""
        return frozenset(w.split()[0] for w in self.two_words)


def _inflected(words: Collection[str], plurals: Collection[str]) -> frozenset[str]:
    """Adjectives with their feminine and sound plurals; what ends in ta marbuta or is a plural stays as it is."""
    out = set(words)
    for w in words:
        if w in plurals or " " in w or w.endswith(("ه", "ين", "ون", "ات")):
            continue
        out |= {w + "ه", w + "ين", w + "ون", w + "ات"}
    return frozenset(out)


def compile_lexicon(raw: dict[str, Any], spared: Collection[str] = ()) -> Lexicon:
    """Fold the lists and compile the patterns of `lexicon/insults.yaml`; no frame makes an insult of `spared` words."""

    def words(key: str) -> frozenset[str]:
        return frozenset(fold(w) for w in raw.get(key, []))

    plurals, adjectives, p, person = words("plurals"), words("adjectives"), raw["predicate"], raw["person"]
    phrases = tuple(pattern(rf"(?<!\S)(?:{x})(?!\S)") for x in raw["phrases"])
    frames = tuple(pattern(x) for x in raw.get("frames", []))
    return Lexicon(
        _inflected({w for w in adjectives if " " not in w}, plurals),
        _inflected(words("soft_adjectives"), plurals),
        words("nouns"),
        words("strong_nouns"),
        words("vulgar"),
        words("accusations") | words("labels"),
        frozenset(w for w in adjectives if " " in w),
        words("things"),
        plurals,
        frozenset(fold(w) for key in ("adjectives", "soft_adjectives") for w in raw.get(key, []) if w.endswith("ه")),
        phrases,
        frames,
        words("exceptions"),
        frozenset(fold(w) for w in spared),
        words("vocatives"),
        (p["masculine"], p["feminine"], p["plural"], p["plural_oblique"]),
        (person["definite"], person["definite_plural"], person["indefinite"], person["indefinite_plural"]),
        words("homonyms"),
        words("epithets"),
        frozenset().union(*(words(k) for k in ("adjectives", "soft_adjectives", "accusations", "nouns"))) - plurals,
        words("labels"),
        (p.get("more", "أكثر"), p.get("wrong", "خطأ")),
    )


def forms_of(word: str) -> tuple[str, ...]:
    out = stems(word)
    return (*out, *(f[:-1] for f in out if f.endswith("ا") and len(f) > 3))  # «غبيا», the accusative


def bare(word: str) -> str:
    """A word without article and the clitics before it."""
    m = DEFINITE.match(word)
    return word[m.end() :] if m else word[1:] if word[:1] in "وفبل" and len(word) > 3 else word
