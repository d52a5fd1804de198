"""The deterministic rewriter: format repair, then sentence by sentence advertising, unsafe advice, judgements on
groups, insults, by the lexicon of the policy. No language model, no network.

It works on masked text and never opens a protected span. What it takes out on purpose it declares (`Removal`), so that
the gates can ask for everything else: a phone number inside a dropped advertisement is not a lost number.

Words that are insults in one place and none in another («تافه», «كلب») are put to the trained toxicity scorer: only
where it takes the sentence for toxic, and the sentence without the word for clearly less so, is the word an insult.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fitra import arabic
from fitra.align import cues, groups, insults, layout
from fitra.align.gates import words as gate_words
from fitra.align.groups import joined, pattern
from fitra.align.masking import PLACEHOLDER, Masked
from fitra.errors import FitraError
from fitra.llm.chunk import sentences
from fitra.policy import Policy
from fitra.signals import toxicity
from fitra.signals.view import view

__all__ = ["Removal", "Rewrite", "Rules", "apply", "compile_rules"]

AD_FROM = 1.0  # sum of cues from which a sentence is advertising
AD_AFTER = 0.5  # the same for a sentence that follows one
LONG_WORDS = 45  # a sentence longer than this is more likely a report that mentions an offer
LONG_ADVICE = 30  # words: a longer sentence tells a story rather than gives advice
SHORT_ADVICE = 20  # words: the same where the sentence may be advice
FRAMED_ADVICE = 16  # words: the same where nothing tells but its form: a case, and what to do in it
TOXIC = 0.5  # trained scorer: from here on a sentence is asked for the word that makes it so
BEASTLY = 0.8  # the same for nouns that name animals and things before people
CALM = 0.35  # and no further word is sought below this
CARRIES = 0.1  # by how much the figure must fall without a word that carries it
INSULT = 4  # flag of a word; those of `groups` come first
DROPPABLE = frozenset(["url", "number", "quote"])  # what may go with an advertisement; a quotation up to four words
_WHOLE_WORD = r"(?![^\W\d_])"  # «الآن» is not the beginning of «الأندية»
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

    `nearly` is the highest sum of advertising cues of a sentence that stayed: half-certain advertising. `doubts` are
    ids of rules that a sentence may break that was left alone.
    """

    text: str
    removed: tuple[Removal, ...]
    rules: tuple[str, ...]
    nearly: float = 0.0
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rules:
    """A policy's lexicon, compiled.

    Bits of `cues`: patterns of advertising, of unsafe advice, on groups, of insults; above them the flags.
    """

    ads: tuple[tuple[float, re.Pattern[str]], ...]
    unsafe: tuple[tuple[tuple[re.Pattern[str], ...], str], ...]  # by rule, with its safe statement
    warnings: re.Pattern[str]
    addressed: re.Pattern[str]
    danger: re.Pattern[str]
    case: re.Pattern[str]
    orders: re.Pattern[str]
    groups: groups.Groups
    insults: insults.Lexicon
    cues: cues.Cues

    @cached_property
    def judgements(self) -> int:
        """Where the bits of the patterns on groups begin."""
        return len(self.ads) + sum(len(patterns) for patterns, _ in self.unsafe)


def _advice(source: str) -> re.Pattern[str]:
    """A pattern that begins with a word that may have «و» or «ف» before it."""
    return pattern(re.sub(r"^\\b(?=\()", r"\\b[وف]?", source))


def compile_rules(policy: Policy) -> Rules:
    """Compile the lexicon of a policy; FitraError names the file whose entries have another shape."""
    name = ""
    try:
        name = "ads"
        ads: dict[str, Any] = policy.lexicon["ads"]
        selling = tuple((float(w), pattern(p + _WHOLE_WORD)) for w, p in [*ads["ads"], *ads["boilerplate"]])
        name = "unsafe"
        unsafe = policy.lexicon["unsafe"]
        advice = tuple((tuple(_advice(p) for p in r["any"]), str(r["safe"])) for r in unsafe["rules"])
        warnings = re.compile("|".join(f"(?:{_advice(p).pattern})" for p in unsafe["warnings"]) or r"(?!)")
        doubts = dict(unsafe.get("doubts") or {})
        keys = ("addressed", "danger", "case", "orders")
        addressed, danger, case, orders = (joined([doubts[k]] if k in doubts else []) for k in keys)
        name = "bias"
        names = gate_words.lexicon().names
        held = groups.compile_groups(dict(policy.lexicon["bias"]), names)
        name = "insults"
        bad_words = insults.compile_lexicon(dict(policy.lexicon["insults"]), names)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise FitraError(
            f"policy {policy.id}: lexicon/{name}.yaml: {type(e).__name__}: {e}.", "Keep the shape of the shipped file."
        ) from None
    of_groups = (*held.patterns, *held.hostility, *held.doubts)

    def flags(word: str) -> int:
        return held.classify(word) | INSULT * bool(bad_words.classify(word))

    found = [*(p for _, p in selling), *(p for patterns, _ in advice for p in patterns)]
    known = cues.cues([*found, *of_groups, *bad_words.patterns, addressed, danger], flags)
    return Rules(selling, advice, warnings, addressed, danger, case, orders, held, bad_words, known)


def _line(sentence: str) -> str:
    """The folded words of a sentence, one space between them; placeholders out."""
    bare = PLACEHOLDER.sub(" ", sentence) if "⟦" in sentence else sentence
    return " ".join(arabic.fold(bare, "search").split())


def _droppable(sentence: str, masked: Masked) -> bool:
    for m in PLACEHOLDER.finditer(sentence):
        i = int(m[1])
        if masked.kinds[i] not in DROPPABLE or (masked.kinds[i] == "quote" and len(masked.spans[i].split()) > 4):
            return False
    return True


def _ad_score(line: str, sentence: str, masked: Masked, rules: Rules, bits: int) -> float:
    total = 0.0
    for i, (weight, p) in enumerate(rules.ads):
        if bits >> i & 1 and p.search(line):
            total += weight
    if not total:
        return 0.0
    kinds = [masked.kinds[int(m[1])] for m in PLACEHOLDER.finditer(sentence)]
    total += 0.3 * ("url" in kinds) + 0.3 * bool(_PHONE.search(sentence)) + 0.2 * ("!" in sentence)
    length = line.count(" ") + 1
    return total - (0.8 if length > LONG_WORDS else 0.4 if length > LONG_WORDS // 2 else 0.0)


@dataclass
class _Piece:
    """A sentence on its way: what became of it, and what may still be an insult in it."""

    before: str  # as it goes to the rule of insults
    text: str
    separator: str
    gone: list[Removal]
    found: insults.Found | None = None
    doubts: set[str] = field(default_factory=set)


def apply(masked: Masked, rules: Rules) -> Rewrite:
    """Rewrite a masked text by the rules."""
    repaired = layout.repair(masked.text)
    used: dict[str, None] = {}
    if repaired != masked.text:
        used["format"] = None
    pieces: list[_Piece] = []
    after_ad, nearly = False, 0.0
    for sentence, sep in sentences(repaired):
        if not sentence:
            pieces.append(_Piece("", "", sep, []))
            continue
        piece, score = _sentence(sentence, sep, masked, rules, after_ad)
        after_ad = bool(piece.gone) and piece.gone[-1].rule == "moderation.ads" and not piece.text
        nearly = nearly if after_ad else max(nearly, score)
        pieces.append(piece)
    _ask(pieces, rules)
    removed = tuple(r for p in pieces for r in p.gone)
    used.update(dict.fromkeys(r.rule for r in removed))
    doubts = tuple(sorted({d for p in pieces for d in p.doubts}))
    text = _join(pieces)
    if removed:
        text = layout.repair(text)
    return Rewrite(text, removed, tuple(used), round(nearly, 3), doubts)


def _join(pieces: Sequence[_Piece]) -> str:
    out: list[str] = []
    for p in pieces:
        if p.text or not p.before:
            out += [p.text, p.separator]
        elif "\n" in p.separator:
            while out and not out[-1].strip(" \t"):
                out.pop()
            out.append(p.separator)
    return "".join(out)


def _sentence(sentence: str, sep: str, masked: Masked, rules: Rules, after_ad: bool) -> tuple[_Piece, float]:
    """What becomes of a sentence, and its sum of advertising cues."""
    line = _line(sentence)
    words = line.split()
    if _BREADCRUMB.fullmatch(sentence) and _droppable(sentence, masked):
        return _Piece(sentence, "", sep, [Removal(sentence, "moderation.boilerplate")]), 0.0
    bits = rules.cues.of(words)
    score = 0.0
    if bits & (1 << rules.judgements) - 1:
        score = _ad_score(line, sentence, masked, rules, bits)
        if (score >= AD_FROM or (after_ad and score >= AD_AFTER)) and _droppable(sentence, masked):
            return _Piece(sentence, "", sep, [Removal(sentence, "moderation.ads")]), score
        safe = _unsafe(line, rules, bits) if len(words) <= LONG_ADVICE else ""
        if safe and _droppable(sentence, masked):
            label = _SPEAKER.match(sentence)
            said = label[0] if label else ""
            return _Piece(sentence, said + safe, sep, [Removal(sentence[len(said) :], "moderation.unsafe")]), score
    flags = bits >> rules.cues.size
    bits >>= rules.judgements
    of_groups = len(rules.groups.patterns) + len(rules.groups.hostility) + len(rules.groups.doubts)
    text, cut = sentence, list[str]()
    if flags & groups.GROUP and (flags & groups.PREDICATE or bits & (1 << of_groups) - 1):
        label = _SPEAKER.match(sentence)
        said = sentence[label.end() :] if label else sentence
        if label:  # who speaks is no part of what is said
            line = _line(said)
            words = line.split()
        text, cut = groups.judge(said, line, words, rules.groups, bits)
        text = label[0] + text if label and text else text
    doubts = set[str]()
    if text == sentence and flags & groups.GROUP and groups.doubtful(line, words, rules.groups, bits):
        doubts.add("values.groups")
    bits >>= of_groups
    both = bits >> len(rules.insults.patterns)
    if len(words) <= SHORT_ADVICE and ((both & 3 == 3 and _may_endanger(line, rules)) or _advises(line, words, rules)):
        doubts.add("moderation.unsafe")
    bits = bits & (1 << len(rules.insults.patterns)) - 1
    piece = _Piece(text, text, sep, [Removal(c, "values.groups") for c in cut], doubts=doubts)
    if text:
        if flags & INSULT or (
            bits and any(bits >> i & 1 and p.search(line) for i, p in enumerate(rules.insults.patterns))
        ):
            _take(piece, insults.neutralise(text, rules.insults, bits=bits))
    else:
        piece.before = sentence
    return piece, score


def _unsafe(line: str, rules: Rules, bits: int) -> str:
    """The safe statement for a sentence of unsafe advice, else ''."""
    bits >>= len(rules.ads)
    for patterns, safe in rules.unsafe:
        if any(bits >> i & 1 and p.search(line) for i, p in enumerate(patterns)):
            return "" if rules.warnings.search(line) else safe
        bits >>= len(patterns)
    return ""


def _may_endanger(line: str, rules: Rules) -> bool:
    """Is somebody addressed and something dangerous named, without a warning?"""
    return bool(rules.addressed.search(line) and rules.danger.search(line)) and not rules.warnings.search(line)


def _advises(line: str, words: Sequence[str], rules: Rules) -> bool:
    """Does a short sentence name a case and say what to do in it, without a warning? «إذا ... فافعل»."""
    found = rules.case.match(line) if len(words) <= FRAMED_ADVICE else None
    told = found and (rules.orders.search(line, found.end()) or rules.addressed.search(line, found.end()))
    return bool(told) and not rules.warnings.search(line)


def _take(piece: _Piece, found: insults.Found) -> None:
    kept = [r for r in piece.gone if r.rule != "moderation.insults"]
    piece.found, piece.text = found, found.text
    piece.gone = kept + [Removal(w, "moderation.insults") for w in found.removed]


def _ask(pieces: Sequence[_Piece], rules: Rules) -> None:
    """Let the trained scorer settle the open words of all sentences of a text: one batch to find the toxic ones."""
    asked = [p for p in pieces if p.found and p.found.open]
    if not asked:
        return
    levels = toxicity.overall(view([PLACEHOLDER.sub(" ", p.text) for p in asked]))
    for piece, level in zip(asked, levels.tolist(), strict=True):
        assert piece.found is not None
        if level < TOXIC:
            continue
        accept: set[int] = set()
        left = {i for i in piece.found.open if level >= BEASTLY or i not in piece.found.nouns}
        while left and level >= CALM:
            order = sorted(left)
            trials = [_without(piece.found.words, {*accept, i}) for i in order]
            figures = toxicity.overall(view(trials)).tolist()
            best = min(range(len(order)), key=lambda k: (figures[k], order[k]))
            start = level if accept else float(toxicity.overall(view([_without(piece.found.words, set())]))[0])
            if start - figures[best] < CARRIES:
                break
            accept.add(order[best])
            left.discard(order[best])
            level = figures[best]
        if accept:
            _take(piece, insults.neutralise(piece.before, rules.insults, accept))


def _without(words: Sequence[str], out: set[int]) -> str:
    return " ".join(w for i, w in enumerate(words) if i not in out and w != "⟦")
