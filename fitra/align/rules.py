"""The deterministic rewriter: format repair, then sentence by sentence advertising, unsafe advice, judgements on
groups, insults, by the lexicon of the policy. No model, no network.

It works on masked text and never opens a protected span. What it takes out on purpose it declares (`Removal`), so that
the gates can ask for everything else: a phone number inside a dropped advertisement is not a lost number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fitra import arabic
from fitra.align import insults, layout
from fitra.align.masking import PLACEHOLDER, Masked
from fitra.errors import FitraError
from fitra.llm.chunk import sentences
from fitra.policy import Policy

__all__ = ["Removal", "Rewrite", "Rules", "apply", "compile_rules"]

AD_FROM = 1.0  # sum of cues from which a sentence is advertising
LONG_WORDS = 45  # a sentence longer than this is more likely a report that mentions an offer
LONG_CLAUSE = 20  # words: a longer clause says more than its judgement
LONG_ADVICE = 30  # words: a longer sentence tells a story rather than gives advice
DROPPABLE = frozenset(["url", "number", "quote"])  # what may go with an advertisement; a quotation up to four words
_WHOLE_WORD = r"(?![^\W\d_])"  # «الآن» is not the beginning of «الأندية»
_ARABIC = re.compile(r"[\u0621-\u064a]+")
_CLAUSE = re.compile(r"[،,؛]|(?<=\S) - ")
_BREADCRUMB = re.compile(r"[^>|\n]{1,40}(?: [>»|›] [^>|\n]{1,40}){2,}")  # «الرئيسية > أخبار > التفاصيل»
_SPEAKER = re.compile(r"[^\s:⟦]+(?: [^\s:⟦]+)?: (?=\S)")  # «سالم: » in a dialogue
_PHONE = re.compile(r"(?:\+|00)?\d[\d \-]{7,}\d")


@dataclass(frozen=True)
class Removal:
    """Text that a rule took out on purpose (still masked), and the rule's id."""

    text: str
    rule: str


@dataclass(frozen=True)
class Rewrite:
    """What the rules made of a masked text. `rules` are the ids that changed something.

    `formed` is the masked original with nothing but its form repaired, where that kept every letter and digit, else the
    original: a gate that compares words may start from it, since «على25دقيقة» has no words to compare.
    """

    text: str
    removed: tuple[Removal, ...]
    rules: tuple[str, ...]
    formed: str = ""


@dataclass(frozen=True)
class Rules:
    """A policy's lexicon, compiled."""

    ads: tuple[tuple[float, re.Pattern[str]], ...]
    any_ad: re.Pattern[str]
    unsafe: tuple[tuple[re.Pattern[str], str], ...]
    any_unsafe: re.Pattern[str]
    warnings: re.Pattern[str]
    quantifiers: frozenset[str]
    people: frozenset[str]
    groups: frozenset[str]
    predicates: frozenset[str]
    judgement: re.Pattern[str]
    hostility: re.Pattern[str]
    denials: re.Pattern[str]
    insults: insults.Lexicon


@lru_cache(maxsize=1 << 16)
def _word(word: str) -> str:
    return arabic.fold(word, "search").strip()


def _pattern(source: str) -> re.Pattern[str]:
    return re.compile(_ARABIC.sub(lambda m: _word(m[0]), source))


def _joined(sources: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{_pattern(s).pattern})" for s in sources) or r"(?!)")


def _imperatives(sources: list[str]) -> re.Pattern[str]:
    """Patterns that begin with a verb, which may have «و» or «ف» before it."""
    return re.compile(_joined(sources).pattern.replace(r"(?:\b(?:", r"(?:\b[وف]?(?:"))


def compile_rules(policy: Policy) -> Rules:
    """Compile the lexicon of a policy; FitraError names the file whose entries have another shape."""
    name = ""
    try:
        name = "ads"
        ads: dict[str, Any] = policy.lexicon["ads"]
        cues = tuple((float(w), _pattern(p + _WHOLE_WORD)) for w, p in [*ads["ads"], *ads["boilerplate"]])
        name = "unsafe"
        unsafe = policy.lexicon["unsafe"]
        advice = tuple((_imperatives(r["any"]), str(r["safe"])) for r in unsafe["rules"])
        warnings = _joined(unsafe["warnings"])
        name = "bias"
        bias = policy.lexicon["bias"]
        words = {k: frozenset(_word(w) for w in bias[k]) for k in ("quantifiers", "people", "groups", "predicates")}
        judgement, denials = _joined(bias["patterns"]), _joined(bias["denials"])
        hostility = _joined(bias["hostility"])
        name = "insults"
        bad_words = insults.compile_lexicon(dict(policy.lexicon["insults"]))
    except (KeyError, TypeError, ValueError) as e:
        raise FitraError(
            f"policy {policy.id}: lexicon/{name}.yaml: {type(e).__name__}: {e}.", "Keep the shape of the shipped file."
        ) from None
    return Rules(
        cues, re.compile("|".join(f"(?:{p.pattern})" for _, p in cues)), advice,
        re.compile("|".join(f"(?:{p.pattern})" for p, _ in advice)), warnings,
        words["quantifiers"], words["people"], words["groups"], words["predicates"], judgement, hostility, denials,
        bad_words,
    )  # fmt: skip


_RELATIVE = frozenset(map(_word, ["الذي", "التي", "الذين", "اللي", "اللواتي", "من", "ممن"]))


def _line(sentence: str) -> str:
    """The folded words of a sentence, one space between them; placeholders out."""
    return " ".join(arabic.fold(PLACEHOLDER.sub(" ", sentence), "search").split())


def _droppable(sentence: str, masked: Masked) -> bool:
    for m in PLACEHOLDER.finditer(sentence):
        i = int(m[1])
        if masked.kinds[i] not in DROPPABLE or (masked.kinds[i] == "quote" and len(masked.spans[i].split()) > 4):
            return False
    return True


def _ad_score(line: str, sentence: str, masked: Masked, rules: Rules) -> float:
    if not rules.any_ad.search(line):
        return 0.0
    total = sum(weight for weight, pattern in rules.ads if pattern.search(line))
    kinds = [masked.kinds[int(m[1])] for m in PLACEHOLDER.finditer(sentence)]
    total += 0.3 * ("url" in kinds) + 0.3 * bool(_PHONE.search(sentence)) + 0.2 * ("!" in sentence)
    length = line.count(" ") + 1
    return total - (0.8 if length > LONG_WORDS else 0.4 if length > LONG_WORDS // 2 else 0.0)


def _has_fact(text: str) -> bool:
    return "⟦" in text or any(c.isdigit() for c in text)


def _names_group(words: list[str], rules: Rules) -> bool:
    return any(b in rules.people or b in rules.groups for w in words for b in (w, w[1:] if w[:1] in "وفبل" else w))


def _judged(words: list[str], rules: Rules) -> tuple[int, int] | None:
    """(first word of the group, last word of the judgement on it) in a clause, or None."""
    for g, word in enumerate(words):
        bare = word[1:] if word[:1] in "وف" and len(word) > 3 else word
        if bare in rules.quantifiers:
            # «كل سكانه», «جميع النساء», «كلهم»: all of somebody, not «كل عام» or «كل من»
            after = words[g + 1] if g + 1 < len(words) else ""
            whole = after.startswith("ال") or after in rules.people or re.search("(?:ه|ها|هم|هن)$", after)
            if not whole and not bare.endswith("هم"):
                continue
        elif not (bare in rules.people or bare in rules.groups):
            continue
        if _RELATIVE & set(words[g + 1 : g + 4]):
            continue  # «السعوديون الذين ...» are some of them
        rest = " ".join(words[g + 1 :])
        m = rules.judgement.search(rest)
        if m and m.start() < 40:
            return g, g + 1 + rest[: m.end()].count(" ")
        for j in range(g + 1, min(len(words), g + 5)):
            w = words[j].removeprefix("و") if words[j] not in rules.predicates else words[j]
            if w in rules.predicates:  # an indefinite form: a definite one («الموظفون الكسالى») speaks of some
                return g, j
    return None


def _debias(sentence: str, line: str, rules: Rules) -> tuple[str, list[str]]:
    """The sentence without clauses that judge a whole group; a clause that carries a number keeps the number's part."""
    words = line.split()
    hostile = _names_group(words, rules) and rules.hostility.search(line)
    if (not hostile and _judged(words, rules) is None) or rules.denials.search(line):
        return sentence, []
    if hostile and not _has_fact(sentence):
        return "", [sentence]
    out, removed, at = [], [], 0
    cuts = [*((m.start(), m.end()) for m in _CLAUSE.finditer(sentence)), (len(sentence), len(sentence))]
    for start, end in cuts:
        clause, sign = sentence[at:start], sentence[start:end]
        at = end
        kept, cut = _cut_clause(clause, rules)
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


def _cut_clause(clause: str, rules: Rules) -> tuple[str, str]:
    """What stays of a clause, and what goes."""
    tokens = list(re.finditer(r"\S+", clause))
    words = [_word(t[0]) for t in tokens]
    found = _judged(words, rules)
    if found is None:
        return clause, ""
    first, last = found

    def fact(part: list[re.Match[str]]) -> bool:
        return any(_has_fact(t[0]) for t in part)

    if len(tokens) > LONG_CLAUSE or fact(tokens[first : last + 1]):
        return clause, ""  # a number inside the judgement itself: better left than lost
    start = 0
    if first and (words[first].startswith("و") or fact(tokens[:first])):
        start = tokens[first].start()
    end = len(clause)
    if fact(tokens[last + 1 :]):
        nxt = next((t for t, w in zip(tokens[last + 1 :], words[last + 1 :], strict=True) if w.startswith("و")), None)
        if nxt is None:
            return clause, ""
        end = nxt.start()
    kept = clause[:start].rstrip() + (" " if start and end < len(clause) else "") + clause[end:]
    return kept, clause[start:end]


def apply(masked: Masked, rules: Rules) -> Rewrite:
    """Rewrite a masked text by the rules."""
    repaired = layout.repair(masked.text)
    same = repaired == masked.text or layout.letters(repaired) == layout.letters(masked.text)
    used: dict[str, None] = {}
    if repaired != masked.text:
        used["format"] = None
    out: list[str] = []
    removed: list[Removal] = []
    after_ad = False
    for sentence, sep in sentences(repaired):
        if not sentence:
            out.append(sep)
            continue
        text, gone = _sentence(sentence, masked, rules, after_ad)
        after_ad = bool(gone) and gone[-1].rule == "moderation.ads" and not text
        removed += gone
        used.update(dict.fromkeys(r.rule for r in gone))
        if text:
            out += [text, sep]
        elif "\n" in sep:
            while out and not out[-1].strip(" \t"):
                out.pop()
            out.append(sep)
    text = "".join(out)
    if removed:
        text = layout.repair(text)
    return Rewrite(text, tuple(removed), tuple(used), repaired if same else masked.text)


def _sentence(sentence: str, masked: Masked, rules: Rules, after_ad: bool) -> tuple[str, list[Removal]]:
    line = _line(sentence)
    if _BREADCRUMB.fullmatch(sentence) and _droppable(sentence, masked):
        return "", [Removal(sentence, "moderation.boilerplate")]
    score = _ad_score(line, sentence, masked, rules)
    if (score >= AD_FROM or (after_ad and score >= 0.5)) and _droppable(sentence, masked):
        return "", [Removal(sentence, "moderation.ads")]
    advice = line.count(" ") < LONG_ADVICE and rules.any_unsafe.search(line)
    for pattern, safe in rules.unsafe if advice else ():
        if pattern.search(line) and not rules.warnings.search(line) and _droppable(sentence, masked):
            label = _SPEAKER.match(sentence)
            said = label[0] if label else ""
            return said + safe, [Removal(sentence[len(said) :], "moderation.unsafe")]
    gone: list[Removal] = []
    text, cut = _debias(sentence, line, rules)
    gone += [Removal(c, "values.groups") for c in cut]
    if text:
        text, words = insults.neutralise(text, rules.insults)
        gone += [Removal(w, "moderation.insults") for w in words]
    return text, gone
