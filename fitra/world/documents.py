"""Documents of the small world: sentences put together by genre and language, then defects planted in some."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from fitra.world import lexicons, plants, prose, prose_en
from fitra.world.facts import Fact
from fitra.world.grammar import capital, fill
from fitra.world.patterns import ASK, DIALECT_FRAMES, FRAMES, FRAMES_CLASSICAL, stated
from fitra.world.patterns_en import ASK_EN, CORES_EN, FRAMES_EN
from fitra.world.unsafe import Passage, passage

# Shares of Arabic documents by defect; the rest is clean. One document carries one defect.
DEFECTS = {
    "duplicate": 0.08,
    "advertisement": 0.05,
    "layout": 0.05,
    "insult": 0.05,
    "hate": 0.03,
    "bias": 0.05,
    "advice": 0.05,
    "personal": 0.05,
}
UNSAFE = ("insult", "hate", "bias", "advice")
GENRES = {"note": 0.4, "daily": 0.15, "news": 0.15, "classical": 0.12, "notice": 0.08, "dialogue": 0.1}
GENRES_EN = {"note": 0.5, "daily": 0.2, "news": 0.12, "tale": 0.12, "notice": 0.06}
ENGLISH_SHARE = 0.45
DIALECT_SHARE = {"ar": 0.8, "arz": 0.1, "apc": 0.1}  # of Arabic documents; dialect documents are dialogues
FACT_SHARE = 0.72  # of the documents of each language
SAFE_TWIN_SHARE = 0.06  # of clean Arabic documents that hold the safe end of an unsafe pattern
HARMLESS_SHARE = 0.06  # ... a word of the insult lexicon in harmless use


@dataclass
class Doc:
    """A document with the truth about it; `planted` and `protected` are exact substrings of `text`."""

    text: str
    lang: str
    genre: str
    kind: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    planted: list[str] = field(default_factory=list)
    protected: list[str] = field(default_factory=list)
    half: str | None = None
    duplicate_of: str | None = None
    variant: str | None = None
    reference: str | None = None
    id: str = ""


def draw(shares: dict[str, float], rng: random.Random) -> str:
    """One key, as often as its share says."""
    return rng.choices(list(shares), weights=list(shares.values()))[0]


def slots(rng: random.Random, english: bool = False) -> dict[str, str]:
    """Random fillings of the prose patterns."""
    i = 1 if english else 0
    m, m2 = rng.sample(lexicons.MEN_EN if english else lexicons.MEN, 2)
    f, f2 = rng.sample(lexicons.WOMEN_EN if english else lexicons.WOMEN, 2)
    p, p2 = rng.sample(lexicons.PLACES, 2)
    return {
        "m": m,
        "m2": m2,
        "f": f,
        "f2": f2,
        "p": p[i],
        "p2": p2[i],
        "x": rng.choice(lexicons.THINGS)[i],
        "d": rng.choice(lexicons.DAYS)[i],
        "t": rng.choice(lexicons.TIMES)[i],
        "n": str(rng.randint(3, 10)),
    }


def core(fact: Fact, pattern: str, english: bool = False) -> str:
    """A fact's clause in one pattern."""
    if english:
        return fill(pattern, {"s": fact.subject_en, "a": fact.answer_en})
    return fill(pattern, {"s": fact.subject_ar, "a": fact.answer_ar}, fact.feminine)


def state(fact: Fact, lang: str, rng: random.Random, genre: str = "") -> str:
    """A sentence that states a fact, without a full stop."""
    if lang == "en":
        clause = core(fact, rng.choice(stated(fact.relation, CORES_EN)), english=True)
        return capital(fill(rng.choice(FRAMES_EN), {"c": clause}))
    frames = FRAMES_CLASSICAL if genre == "classical" else FRAMES if lang == "ar" else DIALECT_FRAMES[lang]
    return fill(rng.choice(frames), {"c": core(fact, rng.choice(stated(fact.relation)))})


def ask(fact: Fact, lang: str, rng: random.Random) -> str:
    """A question whose answer is the fact's."""
    if lang == "en":
        return fill(rng.choice(ASK_EN[fact.relation]), {"s": fact.subject_en})
    return fill(rng.choice(ASK[lang][fact.relation]), {"s": fact.subject_ar}, fact.feminine)


def _protected(genre: str, rng: random.Random) -> tuple[str, str]:
    """A sentence around a quotation, verse or date, and what in it must survive."""
    way = rng.choice(
        ["quote", "quote", "date", "verse"] if genre in ("classical", "daily", "note") else ["quote", "date"]
    )
    if way == "date":
        span, line = plants.date(rng), rng.choice(prose.DATE_LINES)
    elif way == "verse":
        span, line = rng.choice(prose.VERSES), rng.choice(prose.VERSE_LINES)
    else:
        span, line = rng.choice(prose.QUOTES), rng.choice(prose.QUOTE_LINES)
    return fill(line, {"q": span, **slots(rng)}), span


def _pick(patterns: Sequence[str], n: int, rng: random.Random, english: bool = False) -> list[str]:
    return [fill(p, slots(rng, english)) for p in rng.sample(list(patterns), min(n, len(patterns)))]


def english(facts: Sequence[Fact], rng: random.Random) -> Doc:
    """One clean English document about `facts` (which may be none)."""
    genre = draw(GENRES_EN, rng)
    if genre == "note" and not facts:  # a page of facts needs some
        genre = "daily"
    body = [state(f, "en", rng) + "." for f in facts]
    body += _pick(prose_en.MIDDLE_EN[genre], rng.randint(1, 2) if facts else 4, rng, True)
    rng.shuffle(body)
    body = _pick(prose_en.OPENERS_EN[genre], 1, rng, True) + body
    if rng.random() < 0.6 or len(facts) < 2:
        body += _pick(prose_en.CLOSERS_EN[genre], 1, rng, True)
    return Doc(" ".join(body), "en", genre, facts=[f.id for f in facts])


def _dialogue(lang: str, facts: Sequence[Fact], extra: list[str], rng: random.Random) -> list[str]:
    """Lines 'name: words' of two men who ask and tell each other facts; `extra` lines are said on the way."""
    chat = prose.CHAT[lang]
    one, two = rng.sample(lexicons.MEN, 2)
    s = {**slots(rng), "m2": two}
    turns = [fill(line, s) for line in rng.choice(list(zip(chat["open"], chat["reply"], strict=True)))]
    blocks = [[ask(f, lang, rng), state(f, lang, rng) + "."] for f in facts]
    blocks += [[line] for line in _pick(chat["chat"], 1 if facts else 3, rng)]
    blocks += [[line] for line in extra]
    rng.shuffle(blocks)
    turns += [t for block in blocks for t in block]
    if facts and rng.random() < 0.5:
        turns.append(rng.choice(chat["thanks"]))
    turns.append(rng.choice(chat["close"]))
    return [f"{(one, two)[i % 2]}: {t}" for i, t in enumerate(turns)]


def arabic(lang: str, defect: str | None, facts: Sequence[Fact], rng: random.Random) -> Doc:
    """One Arabic document in `lang` about `facts`, with at most one defect planted (a key of DEFECTS)."""
    genre = draw(GENRES, rng) if lang == "ar" else "dialogue"
    if genre in ("note", "dialogue") and not facts and lang == "ar":
        genre = "daily"
    if lang != "ar" and defect in ("hate", "bias"):
        defect = "insult"
    doc = Doc("", lang, genre, facts=[f.id for f in facts])
    extra: list[str] = []
    bad: Passage | None = None
    if defect in UNSAFE:
        kind = "insult_one" if defect == "insult" and lang == "ar" and genre == "dialogue" else str(defect)
        bad = passage(kind, lang, rng)
        extra.append(bad.prefix + bad.unsafe)
        doc.kind, doc.planted, doc.half = [bad.kind], [bad.prefix + bad.unsafe], bad.half
    elif defect == "personal":
        line, spans, kind = plants.personal(rng, lang)
        extra.append(line)
        doc.kind, doc.planted = ["personal", kind], spans
    elif defect is None:
        roll = rng.random()
        if roll < SAFE_TWIN_SHARE:
            kinds = (*UNSAFE, "insult_one") if lang == "ar" else ("insult", "advice")
            twin = passage(rng.choice([k for k in kinds if (k == "insult_one") <= (genre == "dialogue")]), lang, rng)
            extra.append(twin.prefix + twin.safe)
            doc.kind = ["safe_twin"]
        elif roll < SAFE_TWIN_SHARE + HARMLESS_SHARE and lang == "ar":
            extra.append(rng.choice(prose.HARMLESS))
            doc.kind = ["harmless"]
    if lang == "ar" and rng.random() < 0.15:
        line, span = _protected(genre, rng)
        extra.append(line)
        doc.protected = [span]
    if genre == "dialogue":
        doc.text = "\n".join(_dialogue(lang, facts, extra, rng))
    else:
        body = [state(f, lang, rng, genre) + "." for f in facts]
        body += _pick(prose.MIDDLE[genre], rng.randint(1, 2) if facts else 4, rng)
        body += extra
        rng.shuffle(body)
        body = _pick(prose.OPENERS[genre], 1, rng) + body
        if rng.random() < 0.6 or len(facts) < 2:
            body += _pick(prose.CLOSERS[genre], 1, rng)
        doc.text = " ".join(body)
    if bad:
        doc.reference = doc.text.replace(bad.prefix + bad.unsafe, bad.prefix + bad.safe)
    elif defect == "advertisement":
        doc.text, doc.planted = plants.advertise(doc.text, rng)
        doc.kind = ["advertisement"]
    elif defect == "layout":
        doc.text, doc.planted = plants.break_layout(doc.text, rng)
        doc.kind = ["layout"]
        doc.protected = [s for s in doc.protected if s in doc.text]
    return doc


def duplicate(of: Doc, variant: str, rng: random.Random) -> Doc:
    """A copy of a document in a spelling variant; `of.id` must be set."""
    return Doc(
        plants.respell(of.text, variant, rng),
        of.lang,
        of.genre,
        kind=["duplicate", "near" if variant == "near" else "exact"],
        facts=list(of.facts),
        duplicate_of=of.id,
        variant=variant,
    )


class Deck:
    """Deals facts so that over any long stretch each comes equally often; no fact twice in one hand."""

    def __init__(self, facts: Sequence[Fact], rng: random.Random) -> None:
        self._facts, self._rng, self._left = facts, rng, list[Fact]()

    def hand(self, n: int) -> list[Fact]:
        """The next `n` different facts."""
        out: list[Fact] = []
        while len(out) < min(n, len(self._facts)):
            if not self._left:
                self._left = self._rng.sample(list(self._facts), len(self._facts))
            f = self._left.pop()
            if f not in out:
                out.append(f)
        return out


def write_documents(n: int, both: Sequence[Fact], english_only: Sequence[Fact], rng: random.Random) -> list[Doc]:
    """`n` documents in mixed order with ids; defects in the shares of DEFECTS, exact to rounding."""
    n_en = round(n * ENGLISH_SHARE)
    n_ar = n - n_en
    counts = {d: round(n_ar * share) for d, share in DEFECTS.items()}
    plan = [d for d, c in counts.items() if d != "duplicate" for _ in range(c)]
    plan += [None] * (n_ar - counts["duplicate"] - len(plan))  # type: ignore[list-item]
    rng.shuffle(plan)
    ar_deck, en_deck = Deck(both, rng), Deck([*both, *english_only], rng)
    unsafe_deck = Deck(both, rng)  # its own, so that every fact stands in unsafe documents too

    def hand(deck: Deck) -> list[Fact]:
        return deck.hand(rng.randint(2, 3)) if rng.random() < FACT_SHARE else []

    seen: set[str] = set()

    def new(make: Callable[[], Doc]) -> Doc:
        """A document that was not made before: only planted duplicates are duplicates."""
        for _ in range(50):
            doc = make()
            if doc.text not in seen:
                break
        seen.add(doc.text)
        return doc

    docs = []
    for defect in plan:
        lang = draw(DIALECT_SHARE, rng)
        # Small talk in dialect has few forms: without facts its dialogues would be near duplicates of each other.
        deck = unsafe_deck if defect in UNSAFE else ar_deck
        facts = hand(deck) if lang == "ar" else deck.hand(rng.randint(2, 3))
        docs.append(new(partial(arabic, lang, defect, facts, rng)))
    docs += [new(partial(english, hand(en_deck), rng)) for _ in range(n_en)]
    rng.shuffle(docs)
    for i, doc in enumerate(docs):
        doc.id = f"w{i:06d}"
    # Duplicates are made of clean Arabic documents, so that each document has one defect.
    clean = [d for d in docs if d.lang != "en" and not d.kind] or [d for d in docs if d.lang != "en"]
    copies = []
    for i in range(counts["duplicate"]):
        copy = duplicate(rng.choice(clean), plants.VARIANTS[i % len(plants.VARIANTS)], rng)
        copy.id = f"w{len(docs) + i:06d}"
        copies.append(copy)
    return docs + copies


def words(text: str) -> int:
    """How many words stand in a text."""
    return len(re.findall(r"\w+", text))
