"""Task cards: prompts to the letter, rows read or set aside, errors by name, known facts of the data."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from eval_rows import ROWS, arabicmmlu, exams

from fitra.errors import FitraError
from fitra.evaluate.benchmark import cards, load, names
from fitra.evaluate.card import STATISTICS, Card
from fitra.stats import confusion_parts

GOLDEN = Path(__file__).parent / "golden/cards"

ACVA = [
    ("d1", "مدن", "dev", "مكة مدينة.", True),
    ("d2", "مدن", "dev", "البحر صحراء.", False),
    ("t1", "مدن", "test", "القاهرة مدينة.", True),
    ("t2", "مدن", "test", "القاهِرة  مدينة.", False),  # t1 again, with a mark, and the other label
    ("t3", "مدن", "test", "مكة مدينة.", True),  # also in dev
    ("t4", "مدن", "test", "الشمس قمر.", False),
    ("t5", "مدن", "test", None, False),
]


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def acva_file(tmp_path: Path) -> Path:
    columns = ("id", "category", "split", "question", "label")
    return table(tmp_path / "acva.parquet", [dict(zip(columns, r, strict=True)) for r in ACVA])


def test_acva_prompts_are_those_of_their_protocols(acva_file: Path) -> None:
    (oall, yesno), aside = cards(load("acva"), acva_file, 1, protocols=("oall", "yesno"))
    assert [i.id for i in oall.items] == ["t1", "t2", "t3", "t4"]
    assert oall.items[0].prompt == "السؤال: مكة مدينة.\nالإجابة: صح\n\nالسؤال: القاهرة مدينة.\nالإجابة:"
    assert (oall.items[0].options, [i.gold for i in oall.items]) == ((" صح", " خطأ"), [0, 1, 0, 1])
    assert yesno.items[0].prompt.endswith("سؤال: مكة مدينة.\nإجابة: نعم\n\nسؤال: القاهرة مدينة.\nإجابة:")
    assert "acva-oall/1" in oall.protocol and "1-shot" in oall.protocol
    assert [b["id"] for b in aside] == ["t5"] and "question" in aside[0]["reason"]


def test_acva_defects_are_counted_from_the_file(acva_file: Path) -> None:
    (card,), _ = cards(load("acva"), acva_file, protocols=("oall",))
    want = {"rows": 6, "distinct": 4, "both_labels": 1, "test_rows": 4, "test_rows_in_dev": 1}
    assert {k: card.facts[k] for k in want} == want


def test_real_acva_has_the_known_defects(data: Path) -> None:
    (card,), aside = cards(load("acva"), data / "eval/acva_ar.parquet", 5, protocols=("oall",))
    want = {"rows": 9000, "distinct": 6155, "both_labels": 58, "test_rows_in_dev": 355}
    assert ({k: card.facts[k] for k in want}, len(card.items), aside) == (want, 8711, [])
    assert any("accuracy 0.600 and macro-F1 0.375" in w for w in card.warnings)


def test_real_exams_has_the_known_rows(data: Path) -> None:
    (card,), aside = cards(load("exams"), data / "eval/exams_ar.parquet", 5, protocols=("oall",))
    assert (len(card.items), aside) == (260, [])
    assert all(i.prompt.count("الإجابة:") == 6 for i in card.items)


def rendered(name: str, folder: Path) -> dict[str, Any]:
    """What every protocol of a benchmark shows for the last question of the made-up rows, without and with examples."""
    path = table(folder / f"{name}.parquet", ROWS[name]())
    task = load(name)
    shown: dict[str, Any] = {}
    for protocol, prompt in task.protocols.items():
        (zero,), aside = cards(task, path, 0, protocols=(protocol,))
        assert not aside
        shown[protocol] = {
            "version": prompt.version,
            "says": zero.protocol,
            "kind": zero.kind,
            "metrics": list(zero.metrics),
            "items": [{"prompt": i.prompt, "options": list(i.options), "gold": i.gold} for i in zero.items],
        }
        if prompt.few:
            (two,), _ = cards(task, path, 2, protocols=(protocol,))
            shown[protocol]["two_shots"] = two.items[0].prompt
    return shown


@pytest.mark.parametrize("name", names())
def test_prompts_are_the_published_ones(name: str, tmp_path: Path) -> None:
    """tests/golden/cards/ holds each prompt as published. One that changes must raise its protocol's version."""
    golden = GOLDEN / f"{name}.json"
    got = rendered(name, tmp_path)
    if os.environ.get("FITRA_WRITE_GOLDEN"):
        golden.write_text(json.dumps(got, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    assert got == json.loads(golden.read_text(encoding="utf-8"))


def scored(card: Card, predicted: list[int]) -> dict[str, float]:
    """The plain metrics of a card under made-up predictions: no model, the builder's own gold, fitra's statistics."""
    gold = [i.gold for i in card.items]
    right = np.array([[float(g == p), 1.0] for g, p in zip(gold, predicted, strict=True)])
    parts = {"accuracy": right, "macro_f1": confusion_parts(gold, predicted, positive=0)}
    return {m: float(STATISTICS[m](parts[m].sum(axis=0, keepdims=True))[0]) for m in set(card.metrics) & set(parts)}


REAL = {
    "acva": "acva_ar", "arabicmmlu": "arabicmmlu_subset_ar", "exams": "exams_ar", "mcq": "acva_mid_choice_ar",
    "mmlu_ar": "mmlu_ar", "mmlu_en": "mmlu_en", "yesno": "acva_ar",
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_an_oracle_a_constant_and_chance_score_what_they_must(name: str, data: Path) -> None:
    made, aside = cards(load(name), data / f"eval/{REAL[name]}.parquet", 0)
    assert not aside
    dice = random.Random(5)
    for card in made:
        gold = [i.gold for i in card.items]
        assert set(scored(card, gold).values()) == {1.0} and len(gold) > 100
        for constant in range(max(len(i.options) for i in card.items)):
            got = scored(card, [constant] * len(gold))
            assert got["accuracy"] == pytest.approx(gold.count(constant) / len(gold))
            if "macro_f1" in got:
                share = gold.count(constant) / len(gold)
                assert got["macro_f1"] == pytest.approx(share / (1 + share))
        thrown = [dice.randrange(len(i.options)) for i in card.items]
        chance = sum(1 / len(i.options) for i in card.items) / len(gold)
        spread = sum((1 - 1 / len(i.options)) / len(i.options) for i in card.items) ** 0.5 / len(gold)
        assert abs(scored(card, thrown)["accuracy"] - chance) < 3.5 * spread


def test_always_yes_on_acva_is_the_known_figure(data: Path) -> None:
    (card,), _ = cards(load("acva"), data / "eval/acva_ar.parquet", protocols=("acegpt",))
    assert round(scored(card, [0] * len(card.items))["macro_f1"], 3) == 0.375
    yes = sum(i.gold == 0 for i in card.items)
    assert (yes, len(card.items) - yes, round(2 * yes / (len(card.items) + yes), 3)) == (5224, 3487, 0.750)


def nested(accuracy: dict[str, float]) -> float:
    """Mean of domains of means of sub-categories of means of subjects, in percent."""
    means: dict[str, dict[str, list[float]]] = {}
    for subject, (sub, domain) in load("mmlu_ar").by_category().items():
        means.setdefault(domain, {}).setdefault(sub, []).append(accuracy[subject])
    domains = [[sum(x) / len(x) for x in subs.values()] for subs in means.values()]
    return round(100 * sum(sum(d) / len(d) for d in domains) / len(domains), 2)


def test_mmlu_has_the_published_groups() -> None:
    groups = load("mmlu_ar").by_category()
    assert len(groups) == 57 and len(set(groups.values())) == 17 and len({d for _, d in groups.values()}) == 4
    assert load("mmlu_en").by_category() == groups


def test_the_groups_of_mmlu_give_the_published_means_of_means(data: Path) -> None:
    """The paper's 32.14 is from another run of AceGPT-7B than the one released as `AceGPT_7B_base`, which gives 32.24:
    its figures by subject, from the same repository, are in tests/golden."""
    published = json.loads((data / "reference/acegpt_mmlu_metrics.json").read_text(encoding="utf-8"))
    got = {
        model: nested(
            {s: a["Accuracy"] for subs in domains.values() for subjects in subs.values() for s, a in subjects.items()}
        )
        for model, domains in published.items()
    }
    assert got == {"AceGPT_7B_base": 32.24, "llama-2-7b-hf": 29.47, "jais-13b": 32.23}


def test_the_papers_figure_of_acegpt_7b() -> None:
    run = json.loads((GOLDEN.parent / "acegpt_7b_mmlu_subjects.json").read_text(encoding="utf-8"))
    assert nested(run["accuracy"]) == 32.14


TEN_LINES = """
name: saudi_law
title: Saudi law, 40 questions
about: In-house questions for clerks.
source: in-house
licence: ours
data: {question: q, options: [one, two, three], min_options: 2,
       answer: key, gold: number, category: "{area}", fields: {area: area}}
protocols:
  letters: {like: mcq.letters}
  koto: {like: mmlu_ar.oall, labels: [أ, ب, ج]}
"""


def own(tmp_path: Path, text: str = TEN_LINES) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows) + "\n\n", encoding="utf-8")
    return path


OWN_ROWS: list[dict[str, Any]] = [
    {"q": "من يقضي؟", "one": "القاضي", "two": "الكاتب", "three": "الحارس", "key": 1, "area": "courts"},
    {"q": "ومن يكتب؟", "one": "القاضي", "two": "الكاتب", "key": "2", "area": "courts"},
    {"q": "ومن يحرس؟", "one": "القاضي", "two": "الكاتب", "key": 3, "area": "courts"},
    {"q": "ناقص", "one": "القاضي", "two": " ", "three": "الحارس", "key": 1, "area": "courts"},
    {"q": "وحيد", "one": "القاضي", "key": 1, "area": "courts"},
    {"q": "بلا باب", "one": "القاضي", "two": "الكاتب", "key": 1, "area": None},
]


def test_a_set_of_ones_own_takes_ten_lines(tmp_path: Path) -> None:
    (letters, koto), aside = cards(load(own(tmp_path)), jsonl(tmp_path / "own.jsonl", OWN_ROWS))
    assert [len(i.options) for i in letters.items] == [3, 2] and [i.gold for i in koto.items] == [0, 1]
    assert letters.items[0].prompt == "السؤال: من يقضي؟\nأ) القاضي\nب) الكاتب\nج) الحارس\nالإجابة:"
    assert "حول courts." in koto.items[1].prompt and (letters.task, letters.benchmark) == (
        "saudi_law_letters",
        "saudi_law",
    )
    assert [b["reason"] for b in aside] == [
        "key '3' is none of the 2 options, written as number",
        "option 2 of 3 is empty",
        "1 options where 2 are needed",
        "'area' is empty",
    ]


def test_what_a_row_holds_cannot_reach_the_template(tmp_path: Path) -> None:
    hostile = {"question": "{options} {0.__class__} {{x}} {answer|strip}", "A": "{letter}", "B": "{", "answer": "B"}
    (card, *_), _ = cards(load("mcq"), jsonl(tmp_path / "x.jsonl", [hostile]), protocols=("letters",))
    assert card.items[0].prompt == ("السؤال: {options} {0.__class__} {{x}} {answer|strip}\nأ) {letter}\nب) {\nالإجابة:")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("name: saudi_law", "name: Saudi Law"), r"own\.yaml: name: "),
        (("like: mcq.letters", "like: mcq.leters"), "no protocol 'mcq.leters'"),
        (("like: mcq.letters", "like: ../../etc.letters"), "no benchmark"),
        (("like: mcq.letters", "like: letters"), "no protocol 'letters'"),
        (("{like: mcq.letters}", "{like: exams.acegpt}"), "no field 'subject_ar'"),
        (("{like: mcq.letters}", "{like: mcq.letters, ask: '{question'}"), "stray '{'"),
        (("{like: mcq.letters}", "{like: mcq.letters, ask: '{question|upper}'}"), "no filter 'upper'"),
        (("{like: mcq.letters}", "{like: mcq.letters, labels: [A, B]}"), "2 labels for 3 options"),
        (("{like: mcq.letters}", "{like: mcq.letters, kind: generate}"), r"letters\.extract: missing"),
        (("{like: mcq.letters}", "{like: mcq.letters, metrics: [wisdom]}"), r"protocols\.letters\.metrics\.0"),
        (("gold: number", "gold: yes_no"), "without option columns"),
        (("answer: key, ", ""), "no answer column"),
        (("{area}", "{areas}"), "no field 'areas'"),
        (("source: in-house", "source: [in-house"), r"own\.yaml:\d+: not readable"),
        (("name: saudi_law", "name: !!python/object/apply:os.getcwd []"), "not readable"),
    ],
)
def test_a_wrong_card_is_told_by_file_and_key(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in TEN_LINES
    with pytest.raises(FitraError, match=message):
        load(own(tmp_path, TEN_LINES.replace(*change)))


def test_a_wrong_file_is_told_by_line_and_column(tmp_path: Path) -> None:
    task = load(own(tmp_path))
    with pytest.raises(FitraError, match="no such benchmark"):
        load("no_such_thing")
    with pytest.raises(FitraError, match=r"x\.jsonl:2: not a JSON object"):
        cards(task, jsonl(tmp_path / "x.jsonl", [OWN_ROWS[0], 7]))
    with pytest.raises(FitraError, match=r"y\.jsonl: no column 'two'; saudi_law needs"):
        cards(task, jsonl(tmp_path / "y.jsonl", [{"q": "?", "one": "x", "key": 1, "area": "a"}]))
    with pytest.raises(FitraError, match="no protocol 'oall'"):
        cards(task, jsonl(tmp_path / "own.jsonl", OWN_ROWS), protocols=("oall",))
    with pytest.raises(FitraError, match="no row has split = test"):
        cards(load("exams"), table(tmp_path / "z.parquet", exams()[:2]))


def test_another_release_may_name_its_columns_otherwise(tmp_path: Path) -> None:
    task = load("arabicmmlu")
    here = table(tmp_path / "a.parquet", arabicmmlu())
    renamed = [{task.data.aliases.get(k, k): v for k, v in r.items()} for r in arabicmmlu()]
    there = table(tmp_path / "b.parquet", [{**r, "is_few_shot": int(r["is_few_shot"])} for r in renamed])
    assert [c.items for c in cards(task, here)[0]] == [c.items for c in cards(task, there)[0]]


def test_limit_asks_the_same_questions_under_every_protocol(data: Path) -> None:
    made, _ = cards(load("acva"), data / "eval/acva_ar.parquet", limit=50)
    assert len({tuple(i.id for i in c.items) for c in made}) == 1 and len(made[0].items) == 50
    hashes = [c.facts["items_sha256"] for c in made]
    again, _ = cards(load("acva"), data / "eval/acva_ar.parquet", limit=50)
    assert hashes == [c.facts["items_sha256"] for c in again] and len(set(hashes)) == len(hashes)


def test_a_passage_with_several_questions_is_one_cluster(data: Path) -> None:
    (card, *_), aside = cards(load("xquad_ar"), data / "eval/xquad_ar_en.parquet")
    assert (len(card.items), len({i.cluster for i in card.items}), aside) == (1190, 240, [])
    assert all(i.answers and not i.options for i in card.items)
    (arcd, _), _ = cards(load("arcd"), data / "eval/arcd_ar.parquet", 2)
    assert len(arcd.items) == 702 and all(i.prompt.count("الجواب:") == 3 for i in arcd.items)


class Sure:
    """A model that gives every prompt the answer it was told."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers

    def score(self, pairs: list[tuple[str, str]]) -> list[Any]:
        from fitra import lm

        return [lm.Score(-9.0 * (self.answers[p] != o), 1, False) for p, o in pairs]

    last_tokens = score

    def generate(self, prompts: list[str], **_: Any) -> list[str]:
        return [self.answers[p] for p in prompts]


WHOLE = {**REAL, "xquad_ar": "xquad_ar_en", "xquad_en": "xquad_ar_en", "arcd": "arcd_ar"}


@pytest.mark.parametrize("name", WHOLE)
def test_a_model_that_knows_scores_one_by_every_metric_and_one_that_never_changes_its_share(
    name: str, data: Path
) -> None:
    """The whole way: prompts, answers read from text, marks, means of means."""
    pytest.importorskip("torch")
    measure = pytest.importorskip("fitra.evaluate.measure")
    from fitra.evaluate.figures import summarise
    from fitra.recipe import Evaluate

    made, _ = cards(load(name), data / f"eval/{WHOLE[name]}.parquet", 0, limit=80)
    for card in made:
        items = tuple({i.prompt: i for i in card.items}.values())  # a prompt asked twice cannot have two answers
        card = replace(card, items=items, bare="")
        for constant in (None, 0):
            told = {
                i.prompt: (i.answers or i.options[i.gold if constant is None else constant :])[0]
                if constant is None or i.options
                else "xyz"
                for i in items
            }
            rows = measure.rows(card, items, measure.ask(Sure(told), card, items, Evaluate(), 0))
            scores = summarise(card, rows, 0)
            assert len(rows) == len(items) and len(scores) == len(card.metrics)
            if constant is None:
                assert [s["value"] for s in scores.values()] == pytest.approx([1.0] * len(scores), abs=1e-12)
                continue
            share = sum(i.gold == 0 for i in items) / len(items) if items[0].options else 0.0
            by_name = {s["metric"]: s["value"] for s in scores.values()}
            assert by_name.get("accuracy", share) == pytest.approx(share)
            assert by_name.get("macro_f1", share / (1 + share)) == pytest.approx(share / (1 + share))
            assert by_name.get("exact_match", 0.0) == by_name.get("token_f1", 0.0) == 0.0
