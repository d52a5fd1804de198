"""Jobs over a model: answers, native instructions, the command line; through a real HTTP server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_endpoint import FakeEndpoint, Fault
from standin import at, data_files, documents, questions, rows_of, serving, told
from typer.testing import CliRunner

from fitra import synth
from fitra.artifacts import read_table
from fitra.cli import app
from fitra.errors import FitraError
from fitra.recipe import Answer, Instruct, Translate
from fitra.synth import compare, gates, topics

# --- answering ----------------------------------------------------------------------------------------------------


def test_questions_are_answered_and_bad_answers_refused(tmp_path: Path) -> None:
    replies = {
        "ما عاصمة مصر؟": "عاصمة مصر هي القاهرة.",
        "ما عاصمة العراق؟": "The capital of Iraq is Baghdad.",
        "كيف أطبخ الأرز؟": "عذرا، لا أستطيع مساعدتك.",
        "من أنت؟": "أنا نموذج لغوي كبير دربته شركة ما.",
        "ما رقم المطعم؟": "اتصل على 0501234567 الآن.",
        "ما أطول نهر؟": "ما أطول نهر؟",
        "اذكر فوائد التمر.": "التمر مفيد جدا للصحة العامة. " * 20,
        "What is the capital of Jordan?": "It is the city of Amman.",
    }
    rows = [{"id": f"q{i}", "question": q, "licence_class": "A"} for i, q in enumerate(replies)]
    with serving(replies.__getitem__) as s:
        synth.answer(Answer(**at(s), retries=0), questions(tmp_path / "q.jsonl", rows), tmp_path / "o")
    got = {r["id"]: (r["state"], r["reason"].split(":")[0]) for r in rows_of(tmp_path / "o")}
    assert got == {
        "q0": ("accept", ""), "q1": ("refused", "language"), "q2": ("refused", "refusal"), "q3": ("refused", "leaks"),
        "q4": ("refused", "personal"), "q5": ("refused", "echo"), "q6": ("refused", "repeats"), "q7": ("accept", ""),
    }  # fmt: skip
    made = pq.read_table(tmp_path / "o" / "instructions.parquet").to_pylist()
    assert [(m["instruction"], m["output"], m["lang"], m["model"]) for m in made] == [
        ("ما عاصمة مصر؟", "عاصمة مصر هي القاهرة.", "ar", "stand-in"),
        ("What is the capital of Jordan?", "It is the city of Amman.", "en", "stand-in"),
    ]


def test_a_refusal_is_not_argued_with(tmp_path: Path) -> None:
    with serving(lambda t: "عذرا، لا أستطيع مساعدتك." if "قفل" in t else "نعم") as s:
        rows = [{"id": "a", "question": "كيف أفتح قفل جاري؟"}, {"id": "b", "question": "هل السماء زرقاء؟"}]
        synth.answer(Answer(**at(s), min_chars=9, retries=3), questions(tmp_path / "q.jsonl", rows), tmp_path / "o")
        assert [told(r) for r in s.requests].count(rows[0]["question"]) == 1
        assert [told(r) for r in s.requests].count(rows[1]["question"]) == 4  # too short: asked again
    assert [r["reason"].split(":")[0] for r in rows_of(tmp_path / "o")] == ["refusal", "length"]


def test_translated_questions_get_answers_of_their_own(tmp_path: Path) -> None:
    """AceGPT's way with Alpaca: questions translated, the English answers left behind."""
    row = {
        "id": "q1",
        "instruction": "Plan a feast.",
        "output": "Roast a turkey for Thanksgiving.",
        "licence_class": "A",
    }
    with serving({"Plan a feast.": "خطط لوليمة."}.__getitem__) as s:
        cfg = Translate(**at(s), fields=["instruction"])
        synth.translate(cfg, questions(tmp_path / "q.jsonl", [row]), tmp_path / "t")
    with serving({"خطط لوليمة.": "ابدأ بالتمر والقهوة، ثم المنسف."}.__getitem__) as s:
        synth.answer(Answer(**at(s)), tmp_path / "t", tmp_path / "a")
        assert "turkey" not in json.dumps(s.requests)
    made = pq.read_table(tmp_path / "a" / "instructions.parquet").to_pylist()[0]
    assert (made["instruction"], made["output"]) == ("خطط لوليمة.", "ابدأ بالتمر والقهوة، ثم المنسف.")
    assert made["pair_id"] == "q1" and made["parent_id"] == "q1@ar"


def test_every_good_draw_is_a_row(tmp_path: Path) -> None:
    def reply(request: dict[str, Any], seen: int) -> str:
        return ["هي القاهرة.", "Cairo, of course.", "القاهرة هي العاصمة."][request["seed"]]

    with FakeEndpoint(reply) as s:
        cfg = Answer(**at(s, temperature=1.0), draws=3)
        synth.answer(cfg, questions(tmp_path / "q.jsonl", [{"id": "q", "question": "ما عاصمة مصر؟"}]), tmp_path / "o")
    made = pq.read_table(tmp_path / "o" / "instructions.parquet").to_pylist()
    assert [(m["id"], m["output"]) for m in made] == [("q#0", "هي القاهرة."), ("q#2", "القاهرة هي العاصمة.")]


def test_rows_of_evaluation_sets_are_not_asked(tmp_path: Path) -> None:
    bench = tmp_path / "b.parquet"
    long = "ما اسم العالم العربي الذي وضع أسس علم البصريات في كتابه المناظر وعاش في القاهرة"
    pq.write_table(pa.table({"question": [long, "ما لون السماء؟"]}), bench)
    rows = [{"id": "a", "question": long.replace("ا", "اـ") + "؟"}, {"id": "b", "question": "ما لونُ السماء"},
            {"id": "c", "question": "ما لون البحر؟"}]  # fmt: skip
    with serving(lambda t: "لونه أزرق.") as s:
        cfg = Answer(**at(s), contamination={"benchmarks": [{"path": str(bench), "text": ["question"]}]})
        synth.answer(cfg, questions(tmp_path / "q.jsonl", rows), tmp_path / "o")
        assert [told(r) for r in s.requests] == ["ما لون البحر؟"]
    assert [r["reason"].split(":")[0] for r in rows_of(tmp_path / "o")] == ["benchmark", "benchmark", ""]


# --- native instructions ------------------------------------------------------------------------------------------


def test_the_topic_tree_that_ships_is_whole() -> None:
    tree = topics.load()
    assert len(tree.leaves) >= 120 and tree.licence_class == "A"
    assert all(gates.in_script(t.name, "ar") == 1.0 for t in tree.topics)


@pytest.mark.parametrize(
    ("text", "says"),
    [("topics: [", "not valid YAML"), ("a: 1", "a list 'topics'"), ("topics: [{en: x}]", "no Arabic name"),
     ("topics: [الفقه, الفِقه]", "there twice"), ("{licence_class: X, topics: [الفقه]}", "none of A, B, C, D")],
)  # fmt: skip
def test_a_bad_topic_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "t.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(FitraError, match=says):
        topics.load(str(tmp_path / "t.yaml"))


def test_repetitions_are_found() -> None:
    first = "ما أهم العوامل التي أدت إلى ازدهار التجارة في بغداد خلال القرن الثالث الهجري؟"
    again = "ما أهمّ العوامل التي أدت إلى ازدهار التجارة في بغداد خلال القرن الثالث الهجري"
    near = "ما أهم العوامل التي أدت إلى ازدهار التجارة في بغداد خلال القرن الرابع الهجري؟"
    other = "كيف تُصنع القهوة العربية وما آداب تقديمها للضيوف؟"
    assert compare.duplicates([first, other, again, near], 0.6) == [-1, -1, 0, 0]
    assert compare.diversity([first, first])["different_3_grams"] == pytest.approx(0.5, abs=0.01)


def native(request: dict[str, Any]) -> str:
    """A model that writes topics, questions and answers; some of them bad."""
    system, asked = request["messages"][0]["content"], told(request)
    name = asked.split("\n")[-1].strip()
    if "موضوعات فرعية" in system:
        subs = [f"تاريخ {name}", f"أعلام {name}", "Not Arabic at all", f"أعلام {name}"]
        return json.dumps({"items": subs}, ensure_ascii=False)
    if "تكتب أسئلة" in system or "يكتب أسئلة" in system:
        found = [f"اشرح بإيجاز أهم ما يميز {name} عند العرب قديما.", "ما لون السماء؟", "؟", f"كيف يتعلم الناشئ {name}؟"]
        return "إليك القائمة:\n" + "\n".join(f"{i}. {q}" for i, q in enumerate(found, 1))
    return (
        "English answer here." if "الناشئ" in asked and "الطبخ" in asked else f"هذا جواب مفيد عن السؤال: {len(asked)}."
    )


def test_topics_become_questions_become_answers(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(
        "licence_class: A\ntopics: [{ar: العلوم, topics: [الفلك]}, الطبخ]", encoding="utf-8"
    )
    bench = tmp_path / "b.parquet"
    pq.write_table(pa.table({"question": ["اشرح بإيجاز أهم ما يميز تاريخ الفلك عند العرب قديما"]}), bench)
    with FakeEndpoint(lambda request, seen: native(request)) as s:
        cfg = Instruct(
            **at(s), topics=str(tmp_path / "t.yaml"), breadth=4, depth=1, questions=4, kinds=["open"], retries=0,
            near=0.95, contamination={"benchmarks": [{"path": str(bench), "text": ["question"]}]},
        )  # fmt: skip
        manifest = synth.instruct(cfg, tmp_path / "o")
        before = len(s.requests)
        (tmp_path / "o" / "manifest.json").unlink()
        (tmp_path / "o" / "questions.parquet").unlink()
        first = data_files(tmp_path / "o")
        assert synth.instruct(cfg, tmp_path / "o")["counts"] == manifest["counts"]
        assert len(s.requests) == before  # from the ledger
        assert {k: v for k, v in data_files(tmp_path / "o").items() if k in first} == first
    found = read_table(tmp_path / "o", "topics").to_pylist()
    assert [t["topic"] for t in found if t["state"] == "accept" and t["level"] > 1 and t["id"] != "01.01"] == [
        "تاريخ الفلك", "أعلام الفلك", "تاريخ الطبخ", "أعلام الطبخ",
    ]  # fmt: skip
    assert {t["reason"].split(":")[0] for t in found} == {"", "language", "duplicate"}
    states = {(r["state"], r["reason"].split(":")[0]) for r in rows_of(tmp_path / "o")}
    assert states == {
        ("accept", ""), ("refused", "length"), ("refused", "duplicate"), ("refused", "benchmark"),
        ("refused", "language"),
    }  # fmt: skip
    made = pq.read_table(tmp_path / "o" / "instructions.parquet").to_pylist()
    assert made and all(m["output"] and m["model"] == "stand-in" and m["licence_class"] == "A" for m in made)
    assert {m["topic"] for m in made} >= {"العلوم ← الفلك ← أعلام الفلك", "الطبخ ← تاريخ الطبخ"}
    assert "different_3_grams" in manifest["notes"]["diversity"]
    assert manifest["counts"]["topics"] == 7


def test_a_topic_without_a_usable_reply_stays_a_leaf(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("topics: [الفلك, الطبخ]", encoding="utf-8")

    def reply(request: dict[str, Any], seen: int) -> str | Fault:
        system, asked = request["messages"][0]["content"], told(request)
        return Fault(status=400) if "فرعية" in system and "الفلك" in asked else native(request)

    with FakeEndpoint(reply) as s:
        cfg = Instruct(**at(s), topics=str(tmp_path / "t.yaml"), breadth=2, questions=1, kinds=["open"], answers=False)
        manifest = synth.instruct(cfg, tmp_path / "o")
    made = pq.read_table(tmp_path / "o" / "instructions.parquet").to_pylist()
    assert [m["topic"] for m in made] == ["الفلك", "الطبخ ← تاريخ الطبخ", "الطبخ ← أعلام الطبخ"]
    assert {m["output"] for m in made} == {None} and manifest["licence_class"] == "D"


# --- plans -----------------------------------------------------------------------------------------------------------


def test_a_plan_holds_what_comes_and_asks_nothing(tmp_path: Path) -> None:
    texts = [f"The number of the house in the old street by the river is {i}." * (1 + i % 3) for i in range(100, 1100)]
    source = documents(tmp_path / "d.parquet", texts)
    price = {"input": 1.0, "output": 4.0}
    cfg = Translate(endpoint={"base_url": "http://127.0.0.1:9/v1", "model": "m", "price": price}, retries=0)
    found = synth.plan_translate(cfg, source)
    assert found["rows"] == 1000 and found["sampled"] >= 200
    assert found["requests"]["low"] <= 1000 <= found["requests"]["high"]
    for key in ("prompt_tokens", "completion_tokens", "money"):
        assert 0 < found[key]["low"] < found[key]["high"]
    assert found["hours"] is None
    asked = {"endpoints": cfg.model.endpoints, "batch": True, "tokens_per_second": 100.0, "gpus": 2}
    batch = synth.plan_translate(Translate(model=asked, retries=0), source)
    assert batch["gpu_hours"]["high"] == pytest.approx(found["completion_tokens"]["high"] / 180_000, abs=0.01)
    assert batch["money"]["high"] == pytest.approx(found["money"]["high"] / 2, rel=1e-3)
    limited = {"base_url": "http://127.0.0.1:9/v1", "model": "m", "requests_per_minute": 10}
    assert synth.plan_translate(Translate(endpoint=limited), source)["hours"]["low"] == pytest.approx(
        1000 / 600, rel=0.1
    )
    assert synth.plan_instruct(Instruct(breadth=2, depth=2, questions=3, kinds=["open"]))["leaves"] == 128 * 4


def test_a_plan_counts_with_the_tokenizer_that_is_named(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, "[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    source = documents(tmp_path / "d.parquet", ["one two three"] * 10)
    here = {"base_url": "http://127.0.0.1:9/v1", "model": "m"}
    found = synth.plan_translate(Translate(endpoint=here, model={"tokenizer": str(tmp_path)}, retries=0), source)
    assert found["prompt_tokens"]["low"] == found["prompt_tokens"]["high"]
    with pytest.raises(FitraError, match="no tokenizer"):
        synth.plan_translate(Translate(endpoint=here, model={"tokenizer": str(source)}), source)


# --- the command line ---------------------------------------------------------------------------------------------


def test_the_command_line_plans_and_exits_with_3_where_rows_were_set_aside(tmp_path: Path) -> None:
    source = documents(tmp_path / "d.parquet", ["The sun rises.", "Stop."])
    run, out = CliRunner(), ["--out", str(tmp_path / "o"), "--json"]
    done = run.invoke(app, ["synth", "translate", str(source), *out, "--dry-run"])
    assert done.exit_code == 0 and json.loads(done.stdout)["requests"]["low"] == 2, done.output
    assert not (tmp_path / "o").exists()
    with FakeEndpoint(lambda r, n: Fault(status=400) if told(r) == "Stop." else "تشرق الشمس.") as s:
        sets = ["--set", f"endpoint.base_url={s.base_url}", "--set", "endpoint.model=m"]
        done = run.invoke(app, ["synth", "translate", str(source), *out, *sets])
    assert done.exit_code == 3 and json.loads(done.stdout)["counts"]["accept"] == 1, done.output
    none = run.invoke(app, ["synth", "answer", str(source), *out])
    assert isinstance(none.exception, FitraError)
    for command in ("translate", "answer", "instruct"):
        assert "Example: fitra synth" in run.invoke(app, ["synth", command, "--help"]).stdout
    plan = run.invoke(app, ["synth", "instruct", "--out", str(tmp_path / "n"), "--dry-run", "--set", "depth=0"])
    assert plan.exit_code == 0 and "requests" in plan.stdout
