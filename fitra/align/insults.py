"""Taking insults out of a sentence word by word, so that the sentence and what it says remain.

What happens where: after a vocative («يا غبي») both go; a definite adjective after a definite noun or a name goes
(«المدير الغبي» -> «المدير»); after «هذا» and as a noun it becomes a neutral person («هذا الشخص»); an indefinite one
after an indefinite noun goes («قرار غبي» -> «قرار»); as a predicate it becomes «محل خلاف», or the sentence goes when
it says nothing else. Animals, dirt and soft adjectives are insults only where they are aimed at somebody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from fitra import arabic
from fitra.signals.toxicity import stems

__all__ = ["Lexicon", "compile_lexicon", "neutralise"]

_TOKEN = re.compile(r"⟦[0-9a-f]{8}:\d+⟧|[\w\u0610-\u061a\u0640\u064b-\u065f\u0670]+")
_DEFINITE = re.compile(r"^(?:[وفبك]?ال|ول?ل|لل)(?=..)")


@lru_cache(maxsize=1 << 16)
def _fold(word: str) -> str:
    return arabic.fold(word, "search").strip()


def _folded(words: str) -> frozenset[str]:
    return frozenset(_fold(w) for w in words.split())


_SUBJECTS = _folded(
    "هو هي هم هن انت انتي انتم انتو انا نحن انه انها انهم انك انكم انني كان كانت كانوا ليس يبدو يبقى ظل هذا هذه ذلك تلك"
    " هؤلاء كلهم كلكم جميعهم فهو فهي فهم وهو وهي وهم وانت وانتم شخص رجل واحد اناس ناس مجرد مجموعة شوية"
)
_DEMONSTRATIVES = _folded("هذا هذه ذلك تلك هؤلاء أولئك وهذا وهؤلاء لهذا بهذا ذاك")
_AIMS = _folded("انت انتي انتم انتو انك انكم هؤلاء كلكم أيها يا مثلك ياايها أيتها هم")
_DENIALS = _folded("ليس ليسوا ليست لست ولست لسنا لسن وليس مش مو غير لا ولا")
_AIMS_AFTER = _folded("مثلك مثلكم متلك زيك")
_VERBS_AND_PARTICLES = _folded(
    "قال قالت أن بأن أنه من إلى على عن في ثم حيث إذا عندما كان كانت مثل بعض أحد كل هل أين لماذا متى كيف أو أم و زعم"
    " يقول جاء ذهب"
)


@dataclass(frozen=True)
class Lexicon:
    """The insult lexicon of a policy, folded and ready."""

    adjectives: frozenset[str]
    soft: frozenset[str]
    nouns: frozenset[str]
    strong_nouns: frozenset[str]
    two_words: frozenset[str]
    plurals: frozenset[str]
    phrases: re.Pattern[str]
    vocatives: frozenset[str]
    predicate: str
    person: tuple[str, str, str, str]  # definite, definite plural, indefinite, indefinite plural
    seen: dict[str, int] = field(default_factory=dict, compare=False)  # word -> class, see `classify`

    def classify(self, word: str) -> int:
        """What a folded word may be, as bits.

        1 adjective, 2 strong noun, 4 soft adjective, 8 noun, 16 with «يا» written on, 32 first of a two-word adjective.
        """
        bits = self.seen.get(word)
        if bits is None:
            if len(self.seen) > 1 << 18:
                self.seen.clear()
            forms = _forms(word)
            lists = (self.adjectives, self.strong_nouns, self.soft, self.nouns)
            bits = sum(1 << i for i, words in enumerate(lists) if any(f in words for f in forms))
            if word.startswith("يا") and len(word) > 4:
                bits |= 16 * any(f in self.nouns or f in self.soft or f in self.adjectives for f in stems(word[2:]))
            bits |= 32 * any(f in self.firsts for f in forms)
            self.seen[word] = bits
        return bits

    @cached_property
    def firsts(self) -> frozenset[str]:
        """First words of the two-word adjectives."""
        return frozenset(w.split()[0] for w in self.two_words)


def compile_lexicon(raw: dict[str, Any]) -> Lexicon:
    """Fold the lists and join the phrases of `lexicon/insults.yaml`."""

    def words(key: str) -> frozenset[str]:
        return frozenset(_fold(w) for w in raw.get(key, []))

    adjectives, p = words("adjectives"), raw["person"]
    fold_letters = re.compile(r"[\u0621-\u064a]+")
    return Lexicon(
        frozenset(w for w in adjectives if " " not in w),
        words("soft_adjectives"),
        words("nouns"),
        words("strong_nouns"),
        frozenset(w for w in adjectives if " " in w),
        words("plurals"),
        re.compile("|".join(rf"(?<!\S)(?:{fold_letters.sub(lambda m: _fold(m[0]), x)})(?!\S)" for x in raw["phrases"])),
        words("vocatives"),
        raw["predicate"],
        (p["definite"], p["definite_plural"], p["indefinite"], p["indefinite_plural"]),
    )


def _forms(word: str) -> tuple[str, ...]:
    out = stems(word)
    return (*out, *(f[:-1] for f in out if f.endswith("ا") and len(f) > 3))  # «غبيا», the accusative


def _indefinite_noun(raw: str, folded: str) -> bool:
    """Could this word be an indefinite noun that an adjective follows? Possessives and names at least are excluded."""
    possessive = len(folded) > 4 and re.search(r"(?:ه|ها|هم|هن|كم|نا)$", raw) is not None
    return not (_DEFINITE.match(folded) or possessive or folded in _SUBJECTS or raw.startswith("⟦"))


class _Sentence:
    def __init__(self, text: str, lex: Lexicon) -> None:
        self.text, self.lex = text, lex
        self.tokens = [(m.start(), m.end(), m[0]) for m in _TOKEN.finditer(text)]
        self.words = ["⟦" if t.startswith("⟦") else _fold(t) for _, _, t in self.tokens]
        self.edits: dict[int, str | None] = {}  # token -> replacement, None to delete
        self.predicate_only = False

    def _phrases(self) -> None:
        line, starts, at = " ".join(self.words), [], 0
        for w in self.words:
            starts.append(at)
            at += len(w) + 1
        for m in self.lex.phrases.finditer(line):
            for i, s in enumerate(starts):
                if m.start() <= s < m.end():
                    self.edits[i] = None

    def _kind(self, i: int) -> str:
        """'adjective', 'noun' or '' for token i."""
        word, lex = self.words[i], self.lex
        bits = lex.classify(word)
        if not bits & 31:
            return ""
        prev = self.words[i - 1] if i else ""
        if prev in _DENIALS:
            return ""  # «ليس الغبي بسيد في قومه» insults nobody
        after = self.words[i + 1] if i + 1 < len(self.words) else ""
        aimed = prev in _AIMS or prev in lex.vocatives or after in _AIMS_AFTER
        aimed = aimed or (i - 1 in self.edits and bool(self.edits.keys() & {i - 1, i - 2}))
        if bits & 1:
            return "adjective"
        if bits & 2:
            return "noun"
        if aimed and bits & 4:
            return "adjective"
        if aimed and bits & 8 and not word.startswith("كال"):  # «أنت كالكلب في حفاظك للود» is praise
            return "noun"
        if bits & 16:
            return "adjective"
        return ""

    def _edit(self, i: int, kind: str) -> None:
        word, lex = self.words[i], self.lex
        prev = self.words[i - 1] if i else ""
        plural = any(f in lex.plurals for f in _forms(word)) or word.endswith(("ون", "ين"))
        definite = bool(_DEFINITE.match(word))
        if prev in lex.vocatives or prev in ("ايها", "ايتها", "يا"):
            self.edits[i] = None
            self.edits[i - 1] = None
            if i > 1 and self.words[i - 2] in ("يا", "ويا"):
                self.edits[i - 2] = None
        elif (word.startswith("يا") and len(word) > 4) or (i - 1 in self.edits and word.startswith("و")):
            self.edits[i] = None
        elif definite:
            if prev in _DEMONSTRATIVES:
                self.edits[i] = lex.person[1 if plural else 0]
            elif m := re.match("[وف]?(?:لل|بال|كال)", word):  # «للمعتوهين» is no adjective of what stands before
                clitic = m[0]
                self.edits[i] = clitic + lex.person[1 if plural else 0].removeprefix("ال")
            elif i - 1 in self.edits or (i and prev not in _VERBS_AND_PARTICLES and kind == "adjective"):
                self.edits[i] = None
            else:
                article = _DEFINITE.match(word)
                self.edits[i] = (article[0] if article else "ال") + lex.person[1 if plural else 0].removeprefix("ال")
        elif i and _indefinite_noun(self.tokens[i - 1][2], prev) and not (i == 1 and len(self.words) <= 3):
            self.edits[i] = None
        elif i == 0:
            self.edits[i] = lex.person[3 if plural else 2]
        else:
            self.edits[i] = lex.predicate
            self.predicate_only = True
            if kind == "noun" and i + 1 < len(self.words) and _DEFINITE.match(self.words[i + 1]):
                self.edits[i + 1] = None  # «حثالة المجتمع»

    def run(self) -> tuple[str, list[str]]:
        self._phrases()
        for i, word in enumerate(self.words):
            if i in self.edits or word == "⟦":
                continue
            pair = f"{word} {self.words[i + 1]}" if i + 1 < len(self.words) else ""
            if (
                pair
                and self.lex.classify(word) & 32
                and any(f"{f} {self.words[i + 1]}" in self.lex.two_words for f in _forms(word))
            ):
                self._edit(i, "adjective")
                self.edits[i + 1] = None
                continue
            kind = self._kind(i)
            if kind:
                self._edit(i, kind)
        if not self.edits:
            return self.text, []
        removed = [self.tokens[i][2] for i in sorted(self.edits)]
        left = [w for i, w in enumerate(self.words) if self.edits.get(i, w) is not None]
        fact = any(w == "⟦" or any(c.isdigit() for c in w) for w in left)
        if not fact and (len(left) <= 1 or (self.predicate_only and len(self.words) <= 6)):
            return "", removed
        return _tidy(self._apply()), removed

    def _apply(self) -> str:
        out, at = [], 0
        for i, (start, end, _) in enumerate(self.tokens):
            if i in self.edits:
                out += [self.text[at:start], self.edits[i] or ""]
                at = end
        return "".join([*out, self.text[at:]])


def _tidy(text: str) -> str:
    """Signs and spaces that a deletion left behind."""
    text = re.sub(r"[ \t]{2,}", " ", text)
    text = re.sub(r"\s+(?=[،؛,.!؟:])", "", text)
    text = re.sub(r"([،؛])(?:\s*[،؛])+", r"\1", text)
    text = re.sub(r"[،؛,:]+(?=[.!؟])", "", text)
    text = re.sub(r"([!؟.])(?:\s*[!؟])+", r"\1", text)
    text = re.sub(r"\(\s*\)", "", text)
    return re.sub(r"^[\s،؛,.!؟:]+", "", text).rstrip()


def neutralise(sentence: str, lex: Lexicon) -> tuple[str, list[str]]:
    """The sentence without its insults, and the words taken out; '' when it said nothing else."""
    return _Sentence(sentence, lex).run()
