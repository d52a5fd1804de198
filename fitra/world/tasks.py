"""What goes with the documents: probes, instructions, prompts, sentence pairs."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from fitra.world import lexicons, prose, prose_en, questions
from fitra.world.documents import ask, core, slots, state
from fitra.world.facts import Fact, options
from fitra.world.grammar import capital, fill
from fitra.world.patterns import CORES, cloze, reserved, stated
from fitra.world.patterns_en import CORES_EN
from fitra.world.unsafe import passage

Row = dict[str, object]
UNSAFE_PROBES = {
    "ar": {"insult": 24, "hate": 16, "bias": 24, "advice": 16},
    "arz": {"insult": 8, "advice": 3},
    "apc": {"insult": 8, "advice": 3},
}


def probes(both: Sequence[Fact], english_only: Sequence[Fact], rng: random.Random) -> list[Row]:
    """Cloze probes with four options; prompt + ' ' + answer is a true sentence.

    half 'visible': the sentence pattern is one that documents use; 'heldout': one that they never use.
    """
    rows: list[Row] = []
    chosen = [*both, *english_only]
    for fact in chosen:
        for lang in ("ar", "en") if fact in both else ("en",):
            cores = CORES if lang == "ar" else CORES_EN
            for name, pattern in (
                ("visible", cloze(fact.relation, cores)[0]),
                ("heldout", reserved(fact.relation, cores)),
            ):
                prompt = core(fact, pattern.removesuffix(" {a}"), english=lang == "en")
                rows.append(
                    {
                        "id": f"p{len(rows):05d}",
                        "fact_id": fact.id,
                        "lang": lang,
                        "prompt": capital(prompt) if lang == "en" else prompt,
                        "answer": fact.answer_ar if lang == "ar" else fact.answer_en,
                        "options": options(fact, chosen, lang, rng),
                        "half": name,
                    }
                )
    return rows


def unsafe_probes(rng: random.Random) -> list[Row]:
    """Prefixes in the style of the corpus, each with an unsafe and a safe continuation (both begin with a space)."""
    rows: list[Row] = []
    for lang, kinds in UNSAFE_PROBES.items():
        for kind, n in kinds.items():
            seen: set[str] = set()
            for _ in range(50 * n):
                p = passage(kind, lang, rng)
                if p.prefix + p.unsafe in seen:
                    continue
                seen.add(p.prefix + p.unsafe)
                if lang == "ar":
                    genre = rng.choice(["daily", "news", "note"])
                    lead = fill(rng.choice(prose.OPENERS[genre]), slots(rng)) + " "
                else:
                    one, two = rng.sample(lexicons.MEN, 2)
                    line = fill(rng.choice(prose.CHAT[lang]["chat"]), slots(rng))
                    lead = f"{one}: {line}\n{two}: "
                rows.append(
                    {
                        "id": f"u{len(rows):05d}",
                        "lang": lang,
                        "prompt": lead + p.prefix,
                        "unsafe": p.unsafe,
                        "safe": p.safe,
                        "kind": p.kind,
                        "half": p.half,
                    }
                )
                if len(seen) == n:
                    break
    return rows


def _distinct(n: int, make: Callable[[], tuple[str, ...]]) -> list[tuple[str, ...]]:
    """`n` draws, distinct as long as new ones turn up within a fair number of tries."""
    out: list[tuple[str, ...]] = []
    seen: set[tuple[str, ...]] = set()
    tries = 0
    while len(out) < n:
        row = make()
        tries += 1
        if row in seen and tries < 20 * n:
            continue
        seen.add(row)
        out.append(row)
    return out


def _fact_instruction(lang: str, facts: Sequence[Fact], rng: random.Random) -> tuple[str, str, str]:
    fact = rng.choice(facts)
    if lang == "en":
        return (
            ask(fact, lang, rng),
            capital(core(fact, rng.choice(stated(fact.relation, CORES_EN)), english=True)) + ".",
            lang,
        )
    if lang != "ar":
        return ask(fact, lang, rng), state(fact, lang, rng) + ".", lang
    return ask(fact, lang, rng), core(fact, rng.choice(stated(fact.relation))) + ".", lang


def _daily(lang: str, rng: random.Random) -> tuple[str, str, str]:
    roll = rng.random()
    if roll < 0.2:
        pair = rng.choice(questions.OPPOSITES)
        if rng.random() < 0.5:
            pair = (pair[1], pair[0], pair[3], pair[2])
        if lang == "ar":
            return f"ما ضد كلمة «{pair[0]}»؟", f"ضد كلمة «{pair[0]}» هو «{pair[1]}».", lang
        return f"What is the opposite of {pair[2]}?", f"The opposite of {pair[2]} is {pair[3]}.", lang
    if roll < 0.3 and lang == "ar":
        one, many = rng.choice(questions.PLURALS)
        return f"ما جمع كلمة «{one}»؟", f"جمع كلمة «{one}» هو «{many}».", lang
    if roll < 0.4:
        a, b = rng.randint(1, 9), rng.randint(1, 9)
        if lang == "ar":
            return f"كم حاصل جمع {a} و{b}؟", f"حاصل جمع {a} و{b} هو {a + b}.", lang
        return f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}.", lang
    question, answer = rng.choice(questions.DAILY[lang])
    s = slots(rng, lang == "en")
    return fill(question, s), fill(answer, s), lang


def _careful(rng: random.Random) -> tuple[str, str, str]:
    """A risky or provoking request with its safe answer."""
    roll = rng.random()
    if roll < 0.45:
        lang = "ar" if rng.random() < 0.8 else "en"
        return (*rng.choice(questions.RISKY[lang]), lang)
    lang = "ar" if roll < 0.88 else rng.choice(["arz", "apc"])
    question, answer = rng.choice(questions.PROVOKE[lang])
    s = {"g": rng.choice(lexicons.GROUPS)}
    return fill(question, s), fill(answer, s), lang


def instructions(n: int, both: Sequence[Fact], english_only: Sequence[Fact], rng: random.Random) -> list[Row]:
    """`n` instructions: facts (55%), daily tasks (27%), safe answers to risky or provoking requests (18%)."""

    def make() -> tuple[str, ...]:
        roll = rng.random()
        if roll < 0.40:
            return _fact_instruction(rng.choices(["ar", "arz", "apc"], [8, 1, 1])[0], both, rng)
        if roll < 0.55:
            return _fact_instruction("en", [*both, *english_only], rng)
        if roll < 0.82:
            return _daily("ar" if rng.random() < 0.75 else "en", rng)
        return _careful(rng)

    return [
        {"id": f"i{i:05d}", "instruction": q, "output": a, "lang": lang, "licence_class": "A"}
        for i, (q, a, lang) in enumerate(_distinct(n, make))
    ]


def prompts(n: int, both: Sequence[Fact], rng: random.Random) -> list[Row]:
    """`n` prompts without answers; about half provoke or ask for something risky."""

    def make() -> tuple[str, ...]:
        roll = rng.random()
        if roll < 0.3:
            question, _, lang = _careful(rng)
        elif roll < 0.5:
            question, lang = fill(rng.choice(questions.CONTINUE), {"g": rng.choice(lexicons.GROUPS)}), "ar"
        elif roll < 0.75:
            lang = rng.choices(["ar", "arz", "apc", "en"], [6, 1, 1, 2])[0]
            question = ask(rng.choice(both), lang, rng)
        else:
            question, _, lang = _daily("ar" if rng.random() < 0.8 else "en", rng)
        return question, lang

    return [
        {"id": f"q{i:05d}", "prompt": p, "lang": lang, "licence_class": "A"}
        for i, (p, lang) in enumerate(_distinct(n, make))
    ]


def parallel(n: int, both: Sequence[Fact], rng: random.Random) -> list[Row]:
    """`n` sentence pairs: facts in plain words, and everyday sentences with the same names in both."""

    def make() -> tuple[str, ...]:
        if rng.random() < 0.6:
            fact = rng.choice(both)
            # The first four patterns of a relation say the plain fact in both languages.
            ar, en = rng.choice(stated(fact.relation)[:4]), rng.choice(stated(fact.relation, CORES_EN)[:4])
            return core(fact, ar) + ".", capital(core(fact, en, english=True)) + "."
        ar, en = rng.choice(prose_en.PAIRS)
        left, right = slots(rng), slots(rng, True)
        for key in ("m", "f", "p", "x", "d"):
            tables = {"m": (lexicons.MEN, lexicons.MEN_EN), "f": (lexicons.WOMEN, lexicons.WOMEN_EN)}
            if key in tables:
                i = rng.randrange(len(tables[key][0]))
                left[key], right[key] = tables[key][0][i], tables[key][1][i]
            else:
                pairs = {"p": lexicons.PLACES, "x": lexicons.THINGS, "d": lexicons.DAYS}[key]
                left[key], right[key] = rng.choice(pairs)
        right["n"] = left["n"]
        return fill(ar, left), capital(fill(en, right))

    return [
        {"id": f"t{i:05d}", "ar": ar, "en": en, "licence_class": "A"} for i, (ar, en) in enumerate(_distinct(n, make))
    ]
