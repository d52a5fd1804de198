"""Judgements on whole groups of people: a group, and close behind it a predicate or a pattern of blame.

«أهل الحي كسالى», «البنات لا يفهمن الرياضيات», «كلهم لصوص», «اطردوهم» where the sentence names them. The clause goes, or
the sentence where it says nothing else. A number, a name, a quotation or a link keeps its part; what denies, condemns
or reports a judgement as a wrong is none; «السعوديون الذين ...» are some of them, and no group.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fitra import arabic

__all__ = ["Groups", "compile_groups", "doubtful", "judge", "pattern"]

GROUP, PREDICATE = 1, 2  # see `Groups.classify`
LONG_CLAUSE = 20  # words: a longer clause says more than its judgement
LONG_SENTENCE = 40  # words: a longer sentence reports
SHORT_CLAIM = 16  # words: a sentence that may say something of a group and nothing else
SHORT_CALL = 24  # words: a longer sentence that speaks of us and them reports or argues
LONG_REST = 8  # words behind the judgement
NEAR = 48  # characters of the folded line between a group and the pattern of blame
PREDICATE_WITHIN = 5  # words after the group
_CLAUSE = re.compile(r"[،,؛]|(?<=\S) - ")
_ARABIC = re.compile(r"[\u0621-\u064a]+")
_ALL_OF = re.compile("(?:ه|ها|هم|هن)$")


@lru_cache(maxsize=1 << 16)
def fold(word: str) -> str:
    """A word as it is compared."""
    return arabic.fold(word, "search").strip()


def pattern(source: str) -> re.Pattern[str]:
    """A pattern of the lexicon with its Arabic letters folded."""
    return re.compile(_ARABIC.sub(lambda m: fold(m[0]), source))


def joined(sources: list[str]) -> re.Pattern[str]:
    """One pattern for any of several."""
    return re.compile("|".join(f"(?:{pattern(s).pattern})" for s in sources) or r"(?!)")


_RELATIVE = frozenset(map(fold, ["الذي", "التي", "الذين", "اللي", "اللواتي", "من", "ممن", "يلي"]))
_SOME = frozenset(
    map(
        fold,
        [
            "في",
            "فيه",
            "هناك",
            "بعض",
            "وبعض",
            "لبعض",
            "بعضهم",
            "كثير",
            "عدد",
            "أحد",
            "إحدى",
            "واحد",
            "مجموعة",
            "فئة",
            "قلة",
            "شوية",
            "كم",
        ],
    )
)
_CLAIMS = frozenset(
    map(
        fold,
        [
            "لا",
            "لن",
            "ليس",
            "ليست",
            "ليسوا",
            "لسن",
            "ما",
            "مجرد",
            "أقل",
            "أضعف",
            "أسوأ",
            "أدنى",
            "أخطر",
            "يجب",
            "ينبغي",
            "عليهم",
            "سبب",
            "خطر",
            "عبء",
        ],
    )
)
_PLURAL = re.compile(r"^[وف]?(?:[بكل]?ال|لل)\w{3,}(?:ون|ين|اء)$")  # of persons, mostly: enough to look
_HEADS = frozenset(["كبار", "صغار", "افراد", "ذوات", "حمله", "ارباب", "مواليد", "عشاق", "هواه", "جيل", "الجيل"])
_THEM = re.compile(r"\w(?:هم|هن|كم)$")
_WE_DO = re.compile(r"^[وف]?س?ن\w{2,}(?:هم|هن|كم)$")  # «نكرههم»
_TOLD = re.compile(r"^[وف]?[ات]\w{2,}و(?:ا|هم|هن)$")  # «اطردوهم», «(لا) تشتروا»
_OURS = re.compile(r"\w(?:نا)$")
_NOT_OURS = frozenset(["هنا", "انا", "احيانا", "كانا", "بنا", "سنا", "ثمنا", "زمنا", "وطنا", "مكانا", "انسانا"])
_DENYING = frozenset(map(fold, ["لا", "لن", "ليس", "ليسوا", "ما", "كفى"]))
_THESE = frozenset(map(fold, ["هؤلاء", "أولئك", "هذول", "هذولا", "هدول", "هدولا", "دول"]))


@dataclass(frozen=True)
class Groups:
    """The lexicon `bias` of a policy, compiled."""

    quantifiers: frozenset[str]
    people: frozenset[str]
    groups: frozenset[str]
    predicates: frozenset[str]
    patterns: tuple[re.Pattern[str], ...]
    hostility: tuple[re.Pattern[str], ...]
    names: frozenset[str]  # of people and places: what goes with a clause, a name does not
    denials: re.Pattern[str]
    doubts: tuple[re.Pattern[str], ...]
    praise: re.Pattern[str]

    def classify(self, word: str) -> int:
        """What a folded word may be: bit `GROUP` a group, its head, or all of one; `PREDICATE` a word of blame."""
        name = bare(word)
        group = _people(word, self) or name in self.quantifiers or name in _THESE
        blame = word.removeprefix("و") in self.predicates or word.removesuffix("ا") in self.predicates
        return GROUP * group | PREDICATE * (blame or word in self.predicates)


def compile_groups(raw: dict[str, Any], names: Collection[str] = ()) -> Groups:
    """Fold and compile `lexicon/bias.yaml`; `names` (folded) are facts."""
    words = {k: frozenset(fold(w) for w in raw[k]) for k in ("quantifiers", "people", "groups", "predicates")}
    patterns = tuple(pattern(s) for s in raw["patterns"])
    hostility = tuple(pattern(s) for s in raw["hostility"])
    return Groups(
        words["quantifiers"], words["people"], words["groups"], words["predicates"], patterns, hostility,
        frozenset(names) - words["groups"] - words["people"], joined(raw["denials"]),
        tuple(pattern(s) for s in raw.get("doubts", [])), joined([raw["praise"]] if "praise" in raw else []),
    )  # fmt: skip


def bare(word: str) -> str:
    """A word without «و», «ف» before it."""
    return word[1:] if word[:1] in "وف" and len(word) > 3 else word


def is_group(word: str, groups: Groups) -> bool:
    """Does this folded word name a group or the head of one?"""
    if word in groups.people or word in groups.groups:
        return True
    rest = word[1:] if word[:1] in "وفبلك" else ""
    return rest in groups.people or rest in groups.groups or (rest[:1] == "ل" and "ا" + rest in groups.groups)


def _people(word: str, groups: Groups) -> bool:
    """May this folded word name a group? By its form, too: plurals of persons, heads such as «كبار (السن)»."""
    return is_group(word, groups) or bool(_PLURAL.search(word)) or bare(word) in _HEADS


def _hostile(line: str, words: list[str], bits: int, groups: Groups) -> bool:
    if not any(is_group(w, groups) for w in words):
        return False
    n = len(groups.patterns)
    for i, p in enumerate(groups.hostility):
        for m in p.finditer(line) if bits >> (n + i) & 1 else ():
            if "g" not in p.groupindex:
                return True
            after = line[m.end() :].split(maxsplit=1)[:1]  # «أكره الرجال اللي ...» are some of them
            if (is_group(m["g"], groups) or m["g"] in _THESE) and not (_RELATIVE | {"الي"}) & set(after):
                return True
    return False


def _judged(words: list[str], bits: int, groups: Groups) -> tuple[int, int] | None:
    """(first word of the group, last word of the judgement on it) in a clause, or None."""
    for g, word in enumerate(words):
        name = bare(word)
        if name in groups.quantifiers:
            # «كل سكانه», «جميع النساء», «كلهم»: all of somebody, not «كل عام» or «كل من»
            after = words[g + 1] if g + 1 < len(words) else ""
            if not (after.startswith("ال") or after in groups.people or _ALL_OF.search(after) or name.endswith("هم")):
                continue
        elif not (name in groups.people or name in groups.groups or name in _THESE):
            continue
        if _RELATIVE & set(words[g + 1 : g + 4]) or (g and words[g - 1] in _SOME):
            continue
        if name in _THESE and words[g + 1 : g + 2] and words[g + 1].startswith("ال"):
            continue  # «هؤلاء اللصوص سرقوا ...» are certain ones
        found = _blamed(words, g, bits, groups)
        if found is not None:
            return g, found
    return None


def _blamed(words: list[str], g: int, bits: int, groups: Groups) -> int | None:
    """The last word of a judgement on the group at word `g`."""
    rest = " ".join(words[g + 1 :])
    ends = []
    for i, p in enumerate(groups.patterns):
        if bits >> i & 1 and (m := p.search(rest)) and m.start() < NEAR:
            ends.append(g + 1 + rest[: m.end()].count(" "))
    if ends:
        return max(ends)
    # «شعب غبي» is a noun with its adjective: of a head, the word behind it says whose people they are.
    head = bare(words[g]) in groups.people and not _ALL_OF.search(words[g])
    for j in range(g + 1 + head, min(len(words), g + 1 + PREDICATE_WITHIN)):
        if words[j] == "يا":
            break  # «أطفال المدينة يا سفلة»
        w = words[j] if words[j] in groups.predicates else words[j].removeprefix("و")
        # an indefinite form: a definite one («الموظفون الكسالى») speaks of some
        if w in groups.predicates or (w.endswith("ا") and w[:-1] in groups.predicates):
            return j
    return None


def judge(sentence: str, line: str, words: list[str], groups: Groups, bits: int = -1) -> tuple[str, list[str]]:
    """The sentence without clauses that judge a whole group, and what went; its end mark stays.

    `line` and `words` are the folded sentence; `bits` say which patterns, then which of hostility, may match it. A
    clause that carries a number keeps the number's part.
    """
    hostile = len(words) <= LONG_SENTENCE and _hostile(line, words, bits, groups)
    if (not hostile and _judged(words, bits, groups) is None) or groups.denials.search(line):
        return sentence, []
    if hostile and not has_fact(sentence) and not _named(words, groups):
        return "", [sentence]
    out, removed, at = [], [], 0
    cuts = [*((m.start(), m.end()) for m in _CLAUSE.finditer(sentence)), (len(sentence), len(sentence))]
    for start, end in cuts:
        clause, sign = sentence[at:start], sentence[start:end]
        at = end
        kept, cut = _cut_clause(clause, groups, bits)
        if cut:
            removed.append(cut)
        if kept.strip():
            out += [kept, sign]
        elif not sign and out:
            out[-1] = ""  # the last clause went: its comma goes with it
    if not removed:
        return sentence, []
    text = "".join(out).strip()
    text = re.sub(r"^[وف]?(?:لكن|حيث|لان|إذ|كما)\s+", "", text)
    end_sign = sentence.rstrip()[-1:]
    if text and end_sign in ".!؟" and text[-1:] not in ".!؟":
        text = text.rstrip("،,؛ ") + end_sign
    return text, removed


def doubtful(line: str, words: list[str], groups: Groups, bits: int = -1) -> bool:
    """May the sentence judge a group all the same? What the rules saw and left, and claims about a group."""
    if groups.denials.search(line):
        return False
    if len(words) <= LONG_SENTENCE and (_hostile(line, words, bits, groups) or _judged(words, bits, groups)):
        return True
    first = len(groups.patterns) + len(groups.hostility)
    for i, p in enumerate(groups.doubts, first):
        for m in p.finditer(line) if bits >> i & 1 else ():
            named = [n for n in ("g", "near") if n in p.groupindex]
            of_group = not named or any(_people(w, groups) or w in _THESE for n in named for w in m[n].split())
            if of_group and len(words) <= LONG_SENTENCE:
                return not _praised(line, words, groups)
    if len(words) <= SHORT_CALL and any(_people(w, groups) for w in words) and _against(words):
        return not _praised(line, words, groups)
    return len(words) <= SHORT_CLAIM and _claimed(words, groups) and not _praised(line, words, groups)


def _against(words: list[str]) -> bool:
    """Are «we» set against «them», or is somebody told what to do to them? Told from pronouns and forms of verbs alone.

    «لا تبيعوا لهم», «نكرههم», «من جالسهم فليس منا»: a judgement needs no word of abuse.
    """
    if not any(_THEM.search(w) for w in words):
        return False
    for i, word in enumerate(words):
        # An order looks like a past («اشتروا»): at the beginning alone, unless it forbids.
        told = _TOLD.search(word) and (words[i - 1].lstrip("وف") == "لا" if i else not word.startswith("ت"))
        if told or _WE_DO.search(word):
            return True
    return any(_OURS.search(w) and w not in _NOT_OURS for w in words) and bool(_DENYING & {bare(w) for w in words})


def _praised(line: str, words: list[str], groups: Groups) -> bool:
    """Does the sentence honour somebody? Praise denied («لا يستحقون الاحترام») is none."""
    return bool(groups.praise.search(line)) and not _CLAIMS & {bare(w) for w in words}


def _claimed(words: list[str], groups: Groups) -> bool:
    """Does a denial, a duty or a comparison follow a group within four words?"""
    for g, word in enumerate(words):
        if _people(word, groups) and not (g and words[g - 1] in _SOME) and _CLAIMS & set(words[g + 1 : g + 5]):
            return True
    return False


def _named(words: list[str], groups: Groups) -> list[int]:
    """Where names stand that are no part of a group's own («أبناء بني سهيل»)."""
    return [
        i for i, w in enumerate(words)
        if w in groups.names and not any(bare(h) in groups.people for h in words[max(0, i - 2) : i])
    ]  # fmt: skip


def has_fact(text: str) -> bool:
    """A number or a protected span: nothing that goes with a clause."""
    return "⟦" in text or any(c.isdigit() for c in text)


def _cut_clause(clause: str, groups: Groups, bits: int) -> tuple[str, str]:
    """What stays of a clause, and what goes."""
    tokens = list(re.finditer(r"\S+", clause))
    words = [fold(t[0]) for t in tokens]
    found = _judged(words, bits, groups)
    if found is None:
        return clause, ""
    first, last = found

    named = _named(words, groups)

    def fact(begin: int, stop: int) -> bool:
        return any(begin <= i < stop for i in named) or any(has_fact(t[0]) for t in tokens[begin:stop])

    if len(tokens) > LONG_CLAUSE or len(tokens) - last > LONG_REST or fact(first, last + 1):
        return clause, ""  # a number inside the judgement itself, or much behind it: better left than lost
    start = 0
    if first and (words[first].startswith("و") or fact(0, first)):
        start = tokens[first].start()
    end = len(clause)
    if fact(last + 1, len(tokens)):
        nxt = next((i for i in range(last + 1, len(words)) if words[i].startswith("و")), None)
        if nxt is None or fact(last + 1, nxt):
            return clause, ""
        end = tokens[nxt].start()
    kept = clause[:start].rstrip() + (" " if start and end < len(clause) else "") + clause[end:]
    return kept, clause[start:end]
