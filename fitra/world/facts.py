"""Facts about Arab countries, and a few about the rest of the world; all true, none disputed on purpose.

A fact joins a subject to an answer by a relation. `select` takes a deterministic subset, balanced over relations.
Facts of `ENGLISH_ONLY` relations are stated in English documents alone: they show what Arabic training makes a model
forget.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fitra.world import fact_tables as tables


@dataclass(frozen=True)
class Fact:
    """One fact. `feminine` is the grammatical gender of the Arabic subject; `also_true` holds other true answers."""

    relation: str
    subject_ar: str
    subject_en: str
    answer_ar: str
    answer_en: str
    feminine: bool = True
    also_true: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Stable name, such as 'capital:iraq'."""
        return f"{self.relation}:{re.sub(r'[^a-z0-9]+', '-', self.subject_en.lower()).strip('-')}"


ENGLISH_ONLY = ("world_capital", "young")


def _rows(text: str) -> list[list[str]]:
    return [line.split("|") for line in text.strip().splitlines()]


def _all() -> dict[str, list[Fact]]:
    land: dict[str, tuple[str, str, bool]] = {k: (ar, en, g == "f") for k, (ar, en, g) in tables.LANDS.items()}
    out: dict[str, list[Fact]] = {}

    def add(fact: Fact) -> None:
        out.setdefault(fact.relation, []).append(fact)

    for code, ar, en, g, cap_ar, cap_en, cur_ar, cur_en, cont in _rows(tables.COUNTRIES):
        land[code] = (ar, en, g == "f")
        # An answer that contains its subject asks nothing: Algiers, Tunis and two more are left out.
        if ar not in cap_ar:
            add(Fact("capital", ar, en, cap_ar, cap_en, g == "f"))
        add(Fact("currency", ar, en, cur_ar, cur_en, g == "f"))
        cont_ar, cont_en = {"af": ("أفريقيا", "Africa"), "as": ("آسيا", "Asia")}[cont]
        if code != "eg":  # Sinai lies in Asia
            add(Fact("continent", ar, en, cont_ar, cont_en, g == "f"))
    for item in tables.SEA.split(","):
        code, sea = item.split()
        add(Fact("sea", *land[code][:2], *tables.COAST[sea], land[code][2]))
    for code, ar, en, also_ar in _rows(tables.NEIGHBOUR):
        add(Fact("neighbour", *land[code][:2], ar, en, land[code][2], tuple(also_ar.split(","))))
    for relation, table in (("mountain", tables.MOUNTAIN), ("river", tables.RIVER), ("crop", tables.CROP)):
        for code, ar, en in _rows(table):
            also = tables.ALSO.get(relation, ()) + tables.ALSO.get(f"{relation}:{code}", ())
            add(Fact(relation, *land[code][:2], ar, en, land[code][2], also))
    for item in tables.YEAR.split(","):
        code, year = item.split()
        add(Fact("year", *land[code][:2], year, year, land[code][2]))
    for relation, table in (("landmark", tables.LANDMARK), ("dish", tables.DISH)):
        for ar, en, g, code in _rows(table):
            add(Fact(relation, ar, en, *land[code][:2], g == "f"))
    for ar, en, code in _rows(tables.CITY):
        add(Fact("city", ar, en, *land[code][:2]))
    for relation, table in (("born", tables.BORN), ("book", tables.BOOK)):
        for ar, en, answer_ar, answer_en in _rows(table):
            add(Fact(relation, ar, en, answer_ar, answer_en, False))
    for ar, en, answer_ar, answer_en, also_ar in _rows(tables.FIELD):
        feminine = en in ("Zaha Hadid", "Soad Hosny", "Umm Kulthum")
        add(Fact("field", ar, en, answer_ar, answer_en, feminine, tuple(also_ar.split(","))))
    for relation, table in (("world_capital", tables.WORLD_CAPITAL), ("young", tables.YOUNG)):
        for item in table.split(","):
            subject, answer = item.split("=")
            add(Fact(relation, "", subject, "", answer))
    return out


FACTS: dict[str, list[Fact]] = _all()
# Continents of two kinds only would make two of four options impossible; these complete the four.
EXTRA_OPTIONS = {
    "continent": [("أوروبا", "Europe"), ("أمريكا الجنوبية", "South America")],
}


def select(n: int, seed: int) -> tuple[list[Fact], list[Fact]]:
    """`n` facts stated in both languages and n // 5 stated in English alone, relations taking turns."""

    def turns(relations: Sequence[str], count: int) -> list[Fact]:
        rng = random.Random(f"facts:{seed}")
        queues = [rng.sample(FACTS[r], len(FACTS[r])) for r in relations]
        out: list[Fact] = []
        while len(out) < count and any(queues):
            for q in queues:
                if q and len(out) < count:
                    out.append(q.pop())
        return out

    both = turns([r for r in FACTS if r not in ENGLISH_ONLY], n)
    return both, turns(ENGLISH_ONLY, n // 5)


def options(fact: Fact, chosen: Sequence[Fact], lang: str, rng: random.Random) -> list[str]:
    """Four options in `lang`, the answer among them, shuffled; the wrong ones are answers of the same relation.

    Answers that the documents state (of `chosen` facts) come first: an option never read is too easy to refuse.
    """
    pairs = [(f.answer_ar, f.answer_en) for f in chosen if f.relation == fact.relation]
    rest = [(f.answer_ar, f.answer_en) for f in FACTS[fact.relation]] + EXTRA_OPTIONS.get(fact.relation, [])
    rng.shuffle(pairs)
    rng.shuffle(rest)
    barred = {fact.answer_ar, *fact.also_true, fact.subject_ar} - {""}
    out: list[str] = []
    seen = {fact.answer_en, fact.subject_en}
    for ar, en in pairs + rest:
        if en not in seen and ar not in barred and len(out) < 3:
            seen.add(en)
            out.append(ar if lang == "ar" else en)
    out.append(fact.answer_ar if lang == "ar" else fact.answer_en)
    rng.shuffle(out)
    return out
