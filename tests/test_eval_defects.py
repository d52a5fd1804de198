"""Defects found in the data, contamination against a corpus, and models compared on what is left."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fitra.artifacts import open_stage
from fitra.errors import FitraError
from fitra.evaluate import defects
from fitra.evaluate.bias import tables
from fitra.evaluate.card import Card, Item
from fitra.evaluate.compare import compare, compare_all
from fitra.evaluate.figures import summarise
from fitra.recipe import Contamination


@dataclass(frozen=True)
class Row:
    """A row of a benchmark, as `benchmark.Question` has it."""

    id: str
    test: bool
    text: str
    options: tuple[str, ...] = ()
    gold: int = 0
    answers: tuple[str, ...] = ()
    cluster: str = ""


def acva(data: Path) -> list[Row]:
    rows = pq.read_table(data / "eval/acva_ar.parquet").to_pylist()
    return [Row(r["id"], r["split"] == "test", r["question"], (), 0 if r["label"] else 1) for r in rows]


def mmlu_ar(data: Path) -> list[Row]:
    rows = pq.read_table(data / "eval/mmlu_ar.parquet").to_pylist()
    return [
        Row(f"{r['split']}/{r['subject']}/{r['idx']}", r["split"] == "test", r["question"],
            tuple(r[c] for c in "ABCD"), "ABCD".index(r["answer"]))
        for r in rows
    ]  # fmt: skip


def test_acva_is_counted_as_published(data: Path) -> None:
    rows = acva(data)
    found = defects.find(rows)
    got = defects.counts(rows, found)
    assert (got["rows"], got["test_rows"]) == (9000, 8711)
    written, folded = got["as_written"], got["folded"]
    assert (written["test_distinct"], written["two_labels"], written["two_labels_rows"]) == (5970, 56, 313)
    assert written["test_rows_in_dev"] == 353
    assert (folded["distinct"], folded["test_distinct"], folded["test_rows_in_dev"]) == (6155, 5961, 355)
    # what is left: distinct, of one label, and in no worked example
    dev = {defects.key(r) for r in rows if not r.test}
    labels: dict[str, set[int]] = {}
    for r in rows:
        labels.setdefault(defects.key(r), set()).add(r.gold)
    clean = {defects.key(r) for r in rows if r.test and len(labels[defects.key(r)]) == 1} - dev
    assert got["clean"] == len(clean) == 5818


def test_overwritten_rows_of_mmlu_ar_are_found_by_rule(data: Path) -> None:
    rows = mmlu_ar(data)
    found = defects.find(rows, defects.RULES["mmlu_ar"])
    got = defects.counts(rows, found)["defects"]
    assert 1364 <= got["overwritten"] <= 1568
    assert (got["overwritten"], got["foreign_options"]) == (1567, 19)
    assert "test/computer_security/92" not in found  # the question by right
    # Its English twin, row by row, tells what was asked: never this, among 1,586.
    english = {
        f"{r['split']}/{r['subject']}/{r['idx']}": r["question"]
        for r in pq.read_table(data / "eval/mmlu_en.parquet").to_pylist()
    }
    marked = [i for i, d in found.items() if {"overwritten", "foreign_options"} & set(d)]
    assert not any("spoof" in english[i].lower() for i in marked)
    # and no row is left that asks it
    by_id = {r.id: r for r in rows}
    assert sum("TTL" in o for i, r in by_id.items() if r.test and i not in marked for o in r.options) == 1
    assert Counter(bool(defects.overwritten_mmlu_ar(r)) for r in rows if not r.test) == {False: 255, True: 30}


@pytest.mark.parametrize(
    ("question", "options", "want"),
    [
        ("كيف يتم كشف تزوير عنوان IP؟", ("نظام IDS", "قيم TTL", "جدار", "جلسات TCP"), "overwritten"),
        ("كَيْفَ يُكْتَشَفُ تَزْيِيفُ عنـــوان الآي بي؟", ("نظام", "مقارنة قيم ttl", "جدار", "الجلسات"), "overwritten"),
        ("كيف تكشف عناوين بروتوكول الإنترنت المزورة", ("ا", "العمر", "ج", "كل جلسات TCP"), "overwritten"),
        ("كم سنة عاشت في بيتها؟", ("نظام IDS", "قيم TTL", "جدار", "جلسات TCP"), "foreign_options"),
        ("ما هو عنوان IP؟", ("رقم", "اسم", "جهاز", "شبكة"), ""),
        ("كيف يتم كشف تزوير عنوان IP؟", ("نعم", "لا"), ""),
    ],
)
def test_the_overwriting_rule_in_both_directions(question: str, options: tuple[str, ...], want: str) -> None:
    assert defects.overwritten_mmlu_ar(Row("x", True, question, options)) == want


def test_each_defect_has_its_name() -> None:
    two = ("نعم", "لا")
    rows = [
        Row("dev", False, "مكة مدينة", two, 0),
        Row("leak", True, "مَكّة  مدينة", two, 0),
        Row("first", True, "دمشق مدينة", two, 0),
        Row("again", True, "دمشـق مدينة", two, 0),
        Row("turned", True, "دمشق مدينة", ("لا", "نعم"), 1),  # the same question, the same answer
        Row("yes", True, "بغداد قرية", two, 0),
        Row("no", True, "بغداد قرية", two, 1),
        Row("blank", True, "سؤال آخر", ("أ", " "), 0),
        Row("equal", True, "سؤال ثالث", ("حَق", "حق"), 0),
        Row("three", True, "سؤال رابع", ("أ", "ب", "ج"), 0),
        Row("outside", True, "سؤال خامس", two, 2),
        Row("here", True, "متى؟", two, 0, cluster="passage 1"),
        Row("there", True, "متى؟", two, 1, cluster="passage 2"),  # another passage: another question
    ]
    assert defects.find(rows, option_count=2) == {
        "leak": ("in_dev",),
        "again": ("duplicate",),
        "turned": ("duplicate",),
        "yes": ("two_labels",),
        "no": ("duplicate", "two_labels"),
        "blank": ("empty_option",),
        "equal": ("equal_options",),
        "three": ("option_count",),
        "outside": ("answer_outside",),
    }
    found = defects.find(rows, option_count=2)
    items = defects.mark([Item(r.id, "", r.options, r.gold, defects=("old",)) for r in rows if r.test], found)
    assert [i.defects for i in items[:3]] == [("old", "in_dev"), ("old",), ("old", "duplicate")]
    assert defects.counts(rows, found)["clean"] == 3


def test_real_sets_have_few_other_defects(data: Path) -> None:
    got = defects.find(mmlu_ar(data), defects.RULES["mmlu_ar"])
    kinds = Counter(d for marks in got.values() for d in marks)
    assert kinds["equal_options"] == 27 and kinds["duplicate"] == 4 and kinds["in_dev"] == 0


SENTENCES = (
    "كان أبو الطيب المتنبي شاعرا عربيا كبيرا ولد في الكوفة ومات قرب بغداد في القرن الرابع الهجري",
    "تقع مدينة البتراء في جنوب الأردن وهي من أشهر المواقع الأثرية في العالم كله منذ قرون",
    "يحتفل المسلمون بعيد الفطر بعد انتهاء شهر رمضان المبارك في كل عام هجري مع الأهل",
)


def benchmark(n: int = 3, shots: str = "سؤال: ما هذا المثال الطويل المكرر في كل المطالبات هنا\nإجابة: أ\n\n") -> Card:
    items = tuple(Item(f"q{k}", f"تعليمات\n{shots}سؤال: {SENTENCES[k]}\nإجابة:", ("أ", "ب"), 0) for k in range(n))
    return Card("t_one", "p", "choice", ("accuracy",), items, benchmark="t")


def write(path: Path, texts: list[str]) -> Path:
    pq.write_table(pa.table({"id": [f"d{k}" for k in range(len(texts))], "text": texts}), path)
    return path


def test_contamination_names_items_and_documents(tmp_path: Path) -> None:
    vowelled = SENTENCES[1].replace("مدينة", "مَدِينَةُ").replace("جنوب", "جنـــوب")
    noise = "تعليمات سؤال ما هذا المثال الطويل المكرر في كل المطالبات هنا إجابة أ"
    corpus = write(tmp_path / "c.parquet", ["نص لا علاقة له بشيء", f"قالوا إن {vowelled} وزادوا.", noise, SENTENCES[1]])
    other = replace(benchmark(), task="t_two", protocol="q")
    cards, evidence, figures = defects.contaminated([benchmark(), other], [corpus])
    assert evidence == [{"benchmark": "t", "id": "q1", "share": 1.0, "documents": 2, "in": ["d1", "d3"]}]
    assert figures == {"t": {"items": 3, "indexed": 3, "found": 1, "documents_read": 4}}
    for card in cards:
        assert [i.defects for i in card.items] == [(), ("contaminated",), ()]
        assert card.warnings == ("1 of 3 items are in the corpus given",)
    clean, nothing, _ = defects.contaminated([benchmark()], [write(tmp_path / "n.parquet", [noise] * 3)])
    assert nothing == [] and clean == [benchmark()]


def test_contamination_reads_folders_and_keeps_few_documents(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    for k in range(4):
        write(tmp_path / f"corpus/{k}.parquet", [SENTENCES[0]] * 5)
    (tmp_path / "corpus/z.jsonl").write_text(json.dumps({"text": SENTENCES[2]}) + "\n", encoding="utf-8")
    _, evidence, figures = defects.contaminated([benchmark()], [tmp_path / "corpus"])
    assert [(e["id"], e["documents"], len(e["in"])) for e in evidence] == [("q0", 20, 5), ("q2", 1, 1)]
    assert evidence[1]["in"] == ["z.jsonl:1"] and figures["t"]["documents_read"] == 21
    loose, _, _ = defects.contaminated([benchmark()], [tmp_path / "corpus"], Contamination(min_share=1.0, ngram=5))
    assert sum(bool(i.defects) for i in loose[0].items) == 2


def test_contamination_errors_are_plain(tmp_path: Path) -> None:
    with pytest.raises(FitraError, match="no such file"):
        defects.contaminated([benchmark()], [tmp_path / "none.parquet"])
    short = Card("s", "p", "choice", ("accuracy",), (Item("a", "نعم", (), 0),))
    with pytest.raises(FitraError, match="words or more"):
        defects.contaminated([short], [write(tmp_path / "c.parquet", ["نص"])])


def test_what_is_an_items_own() -> None:
    card = benchmark(2)
    assert [texts for _, texts in defects.own_texts(card)] == [[SENTENCES[0]], [SENTENCES[1]]]
    mcq = [f"س: {q}\nA. {a} خيار\nB. {b} خيار\nج:" for q, a, b in (("من هو", "زيد", "عمرو"), ("أين هي", "مصر", "تونس"))]
    items = tuple(Item(str(k), p, ("A", "B"), 0) for k, p in enumerate(mcq))
    own = dict((i.id, t) for i, t in defects.own_texts(replace(card, items=items)))
    assert own == {"0": ["من هو", "زيد خيار", "عمرو"], "1": ["أين هي", "مصر خيار", "تونس"]}
    lone = Item("z", "تعليمات أخرى\nس: لماذا\nA. نعم خيار\nB. لا\nج:", ("A", "B"), 0, category="lone")
    own = dict((i.id, t) for i, t in defects.own_texts(replace(card, items=(*items, lone))))
    assert own["0"] == ["من هو", "زيد خيار", "عمرو"]  # one odd item does not put the template back into the others
    alone = replace(card, items=(Item("x", "نص كامل", ("نص أول", "نص ثان"), 0, answers=("جواب",)),))
    assert next(iter(defects.own_texts(alone)))[1] == ["نص كامل", "نص أول", "نص ثان", "جواب"]


# -- several evaluations -----------------------------------------------------------------------------------------------

GROUPS = {"a": ("x", "D1"), "b": ("y", "D1"), "c": ("z", "D2")}


def evaluation(
    out: Path, right: Callable[[int], bool], n: int = 240, tasks: tuple[str, ...] = ("one",), **card: Any
) -> Path:
    """A folder as `fitra eval run` leaves it, of a model that answers question k right where `right(k)`."""
    metrics = card.pop("metrics", ("accuracy",))
    rows, scores, beside = [], {}, {}
    for t in tasks:
        made = []
        for k in range(n):
            r = {"task": t, "id": f"i{k:04d}", "slices": ["even"] if k % 2 == 0 else [], "cluster": f"c{k // 2}"}
            hit = right(k)
            r |= {
                "category": "abc"[k % 3],
                "defects": [],
                "prompt": f"q{k}",
                "options": ["A", "B"],
                "scores": [0.0, 1.0],
            }
            made.append(r | {"gold": 0, "predicted": int(not hit), "correct": hit, "parts": [float(hit), 1.0]})
        c = Card(t, card.get("protocol", "p/1"), "choice", metrics, (), groups=GROUPS, version=card.get("version", "1"))
        scores |= summarise(c, made, 0)
        beside[t] = tables(c, made)
        rows += made
    with open_stage(out, stage="evaluate", config={"n": n}, inputs={}, version=1) as st:
        st.write_table("items", pa.Table.from_pylist(rows))
        st.write_json("scores.json", scores)
        st.write_json("tables.json", beside)
    return out


def test_three_models_each_against_the_first_and_all_pairs(tmp_path: Path) -> None:
    rng = random.Random(0)
    luck = [rng.random() for _ in range(240)]
    a = evaluation(tmp_path / "runs/a", lambda k: luck[k] < 0.5, tasks=("one", "two"))
    b = evaluation(tmp_path / "runs/b", lambda k: luck[k] < 0.6, tasks=("one", "two"))
    c = evaluation(tmp_path / "runs/c", lambda k: luck[k] < 0.5 or k % 3 == 2)
    got = compare_all([a, b, c])
    assert [m["name"] for m in got["models"]] == ["a", "b", "c"]
    assert [(p["a"], p["b"]) for p in got["pairs"]] == [(0, 1), (0, 2), (1, 2)] and got["against_first"] == [0, 1]
    one = got["tasks"]["one"]["values"]
    assert one[1] > one[0] and got["tasks"]["two"]["values"][2] is None
    first = got["pairs"][0]["tasks"]
    assert set(first) == {"one", "one/even", "two", "two/even"} and set(got["pairs"][1]["tasks"]) == {"one", "one/even"}
    gap = first["one"]
    assert gap["value"] == pytest.approx(one[1] - one[0]) and gap["ci_low"] > 0 and gap["n"] == 240
    only_b = sum(0.5 <= x < 0.6 for x in luck)
    assert gap["p_mcnemar"] == pytest.approx(2 * 0.5**only_b)
    assert gap["p_holm"] == pytest.approx(min(1, 2 * gap["p"])) and first["one/even"]["p_holm"] is None
    third = got["pairs"][1]["tasks"]["one"]["by_category"]
    assert third[0]["category"] == "c" and third[0]["b"] == 1.0 and third[0]["p_holm"] < 0.05
    assert [r["value"] for r in third[1:]] == [0.0, 0.0] and [r["p_holm"] for r in third[1:]] == [1.0, 1.0]
    assert json.loads(json.dumps(got, ensure_ascii=False)) == got


def test_nested_means_are_compared_as_nested_means(tmp_path: Path) -> None:
    metrics = ("nested_accuracy", "accuracy")
    a = evaluation(tmp_path / "a", lambda k: False, metrics=metrics)
    b = evaluation(tmp_path / "b", lambda k: k % 3 == 2, metrics=metrics)  # all of category c, half the domains
    got = compare(a, b)
    assert (got["one"]["value"], got["one/accuracy"]["value"]) == (0.5, pytest.approx(1 / 3))


def test_other_protocols_and_versions_are_refused(tmp_path: Path) -> None:
    a = evaluation(tmp_path / "a", lambda k: True)
    for name, more, why in (
        ("b", {"protocol": "p/2"}, "protocols differ"),
        ("c", {"version": "2"}, "versions 1 and 2"),
    ):
        other = evaluation(tmp_path / name, lambda k: False, **more)
        got = compare(a, other)["one"]
        assert got["value"] is None and got["p"] is None and why in got["warnings"][0]
        table = compare_all([a, other])["tasks"]["one"]
        assert table["values"] == [1.0, None] and "another protocol" in table["warnings"][-1]


def test_comparing_needs_two_that_share_a_task(tmp_path: Path) -> None:
    a = evaluation(tmp_path / "a", lambda k: True)
    with pytest.raises(FitraError, match="one evaluation alone"):
        compare_all([a])
    other = evaluation(tmp_path / "b", lambda k: True, tasks=("two",))
    with pytest.raises(FitraError, match="no task in common"):
        compare_all([a, other])
    with pytest.raises(FitraError, match="no task in common"):
        compare(a, other)
    with pytest.raises(FitraError, match="3 names for 2"):
        compare_all([a, a], names=["x", "y", "z"])
    (tmp_path / "x/run").mkdir(parents=True)
    twin = evaluation(tmp_path / "x/a", lambda k: True)
    assert [m["name"] for m in compare_all([a, twin])["models"]] == [f"{tmp_path.name}/a", "x/a"]
    same = compare_all([a, a])
    assert [m["name"] for m in same["models"]] == ["a (1)", "a (2)"]
    assert same["pairs"][0]["tasks"]["one"]["p"] == 1.0 == same["pairs"][0]["tasks"]["one"]["p_mcnemar"]
