"""Edits by people: out to be judged, back as rows beside a model's, through the same gates, and on to the worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from test_align import POLICY, VERSE, answering, corpus, rows_of
from typer.testing import CliRunner

from fitra import llm, recipe, run
from fitra.align import align, human, masking, programme, show
from fitra.align.worker.pairs import pairs
from fitra.artifacts import read_manifest, read_table
from fitra.cli import align as align_commands
from fitra.cli import align_review
from fitra.errors import FitraError
from fitra.recipe import Align

AD = "اشترك الآن في قناتنا واربح هدية!"
TEXTS = [
    "قال المدير الغبي إن عدد الطلاب 30 في المدرسة الجديدة، وإن الدراسة تبدأ في الصباح.",
    "وصل القطار إلى محطة القاهرة صباحا، ثم غادر بعد ساعة كاملة إلى الإسكندرية.",
    f"افتتح المتحف عام 1902 في وسط المدينة القديمة.\n{AD}",
    f"قرأ الإمام قوله تعالى ﴿{VERSE}﴾ في صلاة الفجر، ثم تحدث عن معناها أمام الناس.",
    "كتب الصحفي «الصبر مفتاح الفرج» في أول مقاله عن المدينة، ثم وصف أهلها وأسواقها.",
]


def edit(n: int, rewrite: str | None, decision: str = "edit", **more: Any) -> dict[str, Any]:
    held = {
        "id": f"d{n:05d}", "original_hash": human.hash_of(TEXTS[n]), "decision": decision, "rewrite": rewrite,
        "reviewer": "r1", "policy_hash": POLICY.hash,
    }  # fmt: skip
    return held | more


def save(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


def judged(tmp: Path, rows: list[dict[str, Any]], texts: list[str] = TEXTS, **kw: Any) -> Path:
    """An align stage of the texts with these edits."""
    tmp.mkdir(exist_ok=True)
    cfg = Align(human=str(save(tmp / "edits.jsonl", rows)), **kw.pop("cfg", {}))
    align(cfg, corpus(tmp / "corpus", texts), tmp / "out", **kw)
    return tmp / "out"


def aside(out: Path) -> dict[str, str]:
    found = read_table(out, "quarantine").to_pylist()
    return {r["id"]: r["reason"] for r in found}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_rows_go_out_are_judged_and_come_back(tmp_path: Path, suffix: str) -> None:
    stage = tmp_path / "rules"
    align(Align(), corpus(tmp_path / "corpus", TEXTS), stage)
    path = tmp_path / f"review.{suffix}"
    assert human.export(stage, path, states=["accept", "unchanged"]) == len(TEXTS)
    rows = (
        pq.read_table(path).to_pylist()
        if suffix == "parquet"
        else [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    )
    assert [r["original"] for r in rows] == TEXTS and list(rows[0]) == human.REVIEW_SCHEMA.names
    assert rows[0]["rewrite"] == TEXTS[0].replace(" الغبي", "") and rows[1]["rewrite"] == TEXTS[1]
    assert {r["decision"] for r in rows} == {None} and json.loads(rows[3]["spans"])[0][2] == "quran"
    for r in rows[:4]:
        r |= {"decision": "accept", "reviewer": "r1"}
    rows[1] |= {"decision": "edit", "rewrite": TEXTS[1].replace("كاملة ", ""), "note": "وضوح"}
    rows[2] |= {"decision": "reject", "note": "الإعلان جزء من الخبر"}
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows, human.REVIEW_SCHEMA), path)
    else:
        save(path, rows)
    made = align(Align(human=str(path)), tmp_path / "corpus", tmp_path / "out")
    done = rows_of(tmp_path / "out")
    assert [r["state"] for r in done] == ["accept", "accept", "keep_original", "unchanged", "unchanged"]
    assert [r["tier"] for r in done] == ["human"] * 4 + ["untouched"]
    assert done[1]["rewrite"] == rows[1]["rewrite"] and "r1; وضوح" in done[1]["reason"]
    assert all(r["rewriter"] == "human:r1" for r in done[:4])
    assert json.loads(done[1]["verdicts"]) and made["counts"]["human"] == 4
    assert made["notes"]["human"] == {"states": {"accept": 2, "keep_original": 1, "unchanged": 1}, "not_judged": 1}
    assert [d["text"] for d in read_table(tmp_path / "out", "documents").to_pylist()][2] == TEXTS[2]


def test_an_edit_counts_for_the_text_that_was_seen_alone(tmp_path: Path) -> None:
    rows = [edit(0, "قال المدير إن عدد الطلاب 30 في المدرسة."), edit(1, TEXTS[1]), edit(1, TEXTS[1], id="gone")]
    out = judged(tmp_path, rows, [TEXTS[0] + " ثم عاد إلى بيته.", *TEXTS[1:]])
    first = rows_of(out)[0]
    assert first["tier"] == "rules" and first["rewrite"] == (TEXTS[0] + " ثم عاد إلى بيته.").replace(" الغبي", "")
    assert "changed since it was judged" in aside(out)["d00000"] and "no document" in aside(out)["gone"]
    assert read_manifest(out)["counts"]["quarantined"] == 2 and read_manifest(out)["counts"]["human"] == 1


def test_a_gate_refuses_a_person_unless_overruled_with_a_reason(tmp_path: Path) -> None:
    wrong = TEXTS[0].replace("30", "31").replace(" الغبي", "")
    out = judged(tmp_path / "a", [edit(0, wrong)])
    row = rows_of(out)[0]
    assert row["state"] == "keep_original" and row["tier"] == "human" and row["rewrite"] == wrong
    assert "numbers_lost" in row["reason"] and aside(out)["d00000"] == row["reason"]
    why = {"numbers_lost": "خطأ مطبعي في المصدر", "numbers_new": "خطأ مطبعي في المصدر"}
    for form in (why, json.dumps(why, ensure_ascii=False), why | {"names_new": None}):
        out = judged(tmp_path / str(hash(str(form))), [edit(0, wrong, overrules=form)])
        row = rows_of(out)[0]
        assert row["state"] == "accept" and row["rewrite"] == wrong
        refused = [v for v in json.loads(row["verdicts"]) if not v["passed"]]
        assert {v["gate"] for v in refused} == set(why)
        assert all("overruled by r1: خطأ مطبعي" in v["detail"] for v in refused)
        assert "overruled by r1" in "\n".join(show.lines(row, colour=False))
    for bad in ({"numbers_lost": " "}, {"numbers_lost": 1}, "{", ["numbers_lost"], {"benchmark": "x"}):
        out = judged(tmp_path / str(hash(str(bad))), [edit(0, wrong, overrules=bad)])
        assert "overrule" in aside(out)["d00000"] and rows_of(out)[0]["tier"] == "rules"


def test_scripture_is_out_of_a_persons_hands_too(tmp_path: Path) -> None:
    reason = {g: "لأن المقال يحتاج إلى ذلك" for g in ("protected", "words_kept", "passage_lost", "length")}
    without = TEXTS[3].replace(VERSE, VERSE.replace("انْحَرْ", "اسجد"))
    quoted = TEXTS[4].replace("«الصبر مفتاح الفرج»", "عن الصبر")
    glued = TEXTS[4].replace("كتب الصحفي «", "كتب الصحفيون«").replace("الفرج»", "الفرج»اليوم")
    out = judged(tmp_path, [edit(3, without, overrules=reason), edit(4, quoted, overrules=reason)])
    rows = rows_of(out)
    assert rows[3]["state"] == "keep_original" and "protected" in rows[3]["reason"]
    assert rows[4]["state"] == "accept" and rows[4]["rewrite"] == quoted
    out = judged(tmp_path / "b", [edit(4, quoted)])
    assert rows_of(out)[4]["state"] == "keep_original"
    masked = masking.mask(TEXTS[4])
    assert masking.unmask(masking.again(TEXTS[4], masked), masked) == TEXTS[4]
    assert human._spans(glued, masked, [0]) == ""  # a quotation mark is no letter
    number = masking.mask("بلغ السعر 3.5 دينار")
    assert "glued" in human._spans("بلغ السعر 13.5 دينار", number, [0])


def test_unsafe_text_stays_out_unless_overruled(tmp_path: Path) -> None:
    text = "اقتلوهم جميعا، هؤلاء الكلاب، واذبحوهم واحرقوا بيوتهم يا حيوانات."
    held = corpus(tmp_path / "c", [text])
    for overrules, state in (({}, "quarantine"), ({"unsafe": "شهادة في محاكمة"}, "unchanged")):
        row = {"id": "d00000", "original_hash": human.hash_of(text), "decision": "accept", "rewrite": text,
               "reviewer": "r1", "policy_hash": POLICY.hash, "overrules": overrules}  # fmt: skip
        path = save(tmp_path / f"{state}.jsonl", [row])
        align(Align(human=str(path)), held, tmp_path / state)
        (done,) = rows_of(tmp_path / state)
        assert done["state"] == state and "unsafe" in done["reason"]
    assert "overruled: شهادة في محاكمة" in done["reason"]


def test_bad_rows_harm_no_other(tmp_path: Path) -> None:
    good = TEXTS[0].replace(" الغبي", "")
    rows: list[tuple[dict[str, Any], str]] = [
        (edit(0, good, decision="yes"), "none of accept"),
        (edit(0, good, reviewer=" "), "no reviewer"),
        (edit(0, good, policy_hash="0" * 64), "another policy"),
        (edit(0, None), "without a text"),
        (edit(0, ""), "say why"),
        (edit(0, good, note=7), "not a string"),
        (edit(0, good + "\ud800"), "not UTF-8"),
        (edit(0, good, note="ك" * 5000), "a note of more than"),
    ]
    path = tmp_path / "edits.jsonl"
    lines = [json.dumps(r | {"id": f"b{i}"}) for i, (r, _) in enumerate(rows)]
    lines += ["{broken", json.dumps(edit(2, TEXTS[2]) | {"decision": None}), json.dumps(edit(0, good))]
    lines += [json.dumps(edit(1, TEXTS[1])), json.dumps(edit(1, TEXTS[1][:-1] + " اليوم.", reviewer="r2"))]
    path.write_text("\n".join(lines), encoding="utf-8")
    found = human.read(path, POLICY.hash)
    said = {a["id"]: a["reason"] for a in found.aside}
    for i, (_, says) in enumerate(rows):
        assert says in said[f"b{i}"]
    assert "do not agree (r1, r2)" in said["d00001"] and any("not JSON" in a["reason"] for a in found.aside)
    assert set(found.of) == {"d00000"} and found.pending == 1
    with pytest.raises(FitraError, match="no column 'id'"):
        human.read(save(tmp_path / "x.jsonl", [{"text": "x"}]), POLICY.hash)
    with pytest.raises(FitraError):
        human.read(tmp_path / "none.jsonl", POLICY.hash)


def test_a_drop_needs_a_note(tmp_path: Path) -> None:
    out = judged(tmp_path, [edit(1, " ", note="نص منسوخ")])
    assert rows_of(out)[1]["state"] == "drop" and len(read_table(out, "documents")) == len(TEXTS) - 1


def test_people_go_before_models_and_rows_of_an_earlier_stage(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(text: str) -> str:
        asked.append(text)
        return text

    mine = TEXTS[0].replace(" الغبي", "")
    out = judged(tmp_path / "a", [edit(0, mine)], backends={"expert": answering(answer)}, cfg={"triage": "all"})
    assert (
        rows_of(out)[0]["rewrite"] == mine
        and len(set(asked)) == len(TEXTS) - 1
        and not any("الغبي" in a for a in asked)
    )
    again = judged(tmp_path / "b", [edit(1, TEXTS[1].replace("كاملة ", ""))], given=out)
    assert [r["tier"] for r in rows_of(again)[:2]] == [
        "human",
        "human",
    ]  # of this file, and as the earlier stage had it


def test_what_people_wrote_teaches_the_worker(tmp_path: Path) -> None:
    note = "model: 1 of 2 chunks kept"  # no reason to leave the pair out
    rows = [edit(0, TEXTS[0].replace(" الغبي", ""), note=note), edit(1, TEXTS[1], decision="accept"),
            edit(2, TEXTS[2], decision="reject")]  # fmt: skip
    held = corpus(tmp_path / "corpus", [*TEXTS, "نص لم يره أحد من المراجعين، وفيه المدير الغبي."])
    path = save(tmp_path / "edits.jsonl", rows)
    seed = programme.seed(None, ["ar"], held, tmp_path / "seed", 0, (path, POLICY))
    assert seed["counts"]["documents"] == 3
    align(Align(human=str(path)), tmp_path / "seed", tmp_path / "out")
    found = list(pairs(recipe.Worker(held_out=0.0), tmp_path / "out"))
    assert [(p.id, p.changed) for p in found] == [("d00000#00000", True), ("d00001#00000", False)]
    assert masking.unmask(found[0].after, found[0].before) == rows[0]["rewrite"]
    more = programme.seed(recipe.Seed(documents=2), ["ar"], held, tmp_path / "seed2", 0, (path, POLICY))
    assert 3 <= more["counts"]["documents"] <= 5  # two of six, and the judged ones
    alone = programme.seed(recipe.Seed(documents=2), ["ar"], held, tmp_path / "seed3", 0)
    assert alone["counts"]["documents"] == 2


def test_a_recipe_whose_expert_are_people(tmp_path: Path) -> None:
    path = save(tmp_path / "edits.jsonl", [edit(0, TEXTS[0])])
    source = save(tmp_path / "texts.jsonl", [{"text": t} for t in TEXTS])
    given = {"name": "x", "corpus": {"inputs": [{"path": str(source)}]}, "align": {"human": str(path), "train": {}}}
    plan = run.dry_run(recipe.Recipe.model_validate(given), tmp_path / "out", None)
    assert {"seed", "align-seed", "worker", "align"} <= {s["stage"] for s in plan}
    with pytest.raises(FitraError, match=r"align.expert or align.human"):
        none = given | {"align": {"train": {}}}
        run.dry_run(recipe.Recipe.model_validate(none), tmp_path / "out", None)


@pytest.mark.slow
def test_a_worker_learns_from_people_in_a_run(tmp_path: Path) -> None:
    """The paper's loop with people as the expert and no endpoint at all."""
    pytest.importorskip("torch", reason="needs fitra[train]")
    texts = [f"زار سالم المدينة رقم {i} في رحلته، ثم عاد إلى بيته في المساء.\n{AD}" for i in range(30)]
    source = save(tmp_path / "texts.jsonl", [{"text": t, "id": f"t{i:02d}", "lang": "ar"} for i, t in enumerate(texts)])
    plain = {"name": "x", "corpus": {"inputs": [{"path": str(source)}], "min_words": 3, "dedupe": {"near": False}}}
    run.run(recipe.Recipe.model_validate(plain), "", tmp_path / "a")
    documents = read_table(next((tmp_path / "a").glob("corpus-*")), "documents").to_pylist()
    assert len(documents) == 30
    rows = [
        edit(0, d["text"].replace("\n" + AD, ""), id=d["id"], original_hash=human.hash_of(d["text"]))
        for d in documents[:12]
    ]
    train = {
        "serve": "local", "max_tokens": 24, "held_out": 0.0,
        "base": {"languages": ["ar"], "train": {"tokens": 4096, "batch_tokens": 1024, "seq_len": 64},
                 "scratch": {"vocab_size": 400, "hidden_size": 32, "layers": 1, "heads": 2, "intermediate_size": 64,
                             "max_positions": 512}},
        "train": {"tokens": 16384, "batch_tokens": 2048, "seq_len": 512},
    }  # fmt: skip
    given = plain | {"align": {"human": str(save(tmp_path / "edits.jsonl", rows)), "train": train, "triage": "all"}}
    run.run(recipe.Recipe.model_validate(given), "", tmp_path / "a")
    worker = read_manifest(next(p for p in (tmp_path / "a").glob("worker-*") if "base" not in p.name))
    assert worker["counts"]["examples"] == worker["counts"]["changed"] == 12
    last = next(p for p in (tmp_path / "a").glob("align-*") if not p.name.startswith("align-seed"))
    tiers = [r["tier"] for r in rows_of(last)]
    assert tiers.count("human") == 12 and len(tiers) == 30


def test_a_judge_of_claims_does_not_go_over_a_person(tmp_path: Path) -> None:
    def no(messages: Any, sampling: Any, schema: Any) -> str:
        raise AssertionError("asked")

    out = judged(tmp_path, [edit(0, TEXTS[0].replace(" الغبي", ""))], TEXTS[:2],
                 backends={"judge": llm.FunctionBackend("j", no)})  # fmt: skip
    assert rows_of(out)[0]["state"] == "accept"


def test_export_draws_evenly_and_says_what_is_wrong(tmp_path: Path) -> None:
    stage = tmp_path / "s"
    align(Align(), corpus(tmp_path / "c", TEXTS * 3), stage)
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    assert human.export(stage, a, states=["accept", "unchanged"], documents=4) == 4
    assert human.export(stage, b, states=["accept", "unchanged"], documents=6) == 6
    ids = [{json.loads(line)["id"] for line in f.read_text(encoding="utf-8").splitlines()} for f in (a, b)]
    assert ids[0] < ids[1]
    with pytest.raises(FitraError, match=r"\.parquet or \.jsonl"):
        human.export(stage, tmp_path / "a.csv")
    with pytest.raises(FitraError, match="no state 'good'"):
        human.export(stage, a, states=["good"])
    with pytest.raises(FitraError, match="no rows"):
        human.export(tmp_path, a)


def test_the_commands(tmp_path: Path) -> None:
    app = typer.Typer()
    align_commands.add_to(app)
    align_review.add_to(app)

    def fitra(*given: object) -> Any:
        return CliRunner().invoke(app, ["align", *map(str, given)])

    held = corpus(tmp_path / "corpus", TEXTS)
    align(Align(), held, tmp_path / "s")
    got = fitra("export-review", tmp_path / "s", "--out", tmp_path / "r.jsonl", "--state", "accept")
    assert got.exit_code == 0 and json.loads(got.output)["documents"] == 2
    rows = [json.loads(x) | {"decision": "accept", "reviewer": "r1"} for x in (tmp_path / "r.jsonl").open()]
    done = fitra("import-edits", save(tmp_path / "j.jsonl", rows), "--corpus", held, "--out", tmp_path / "by")
    assert done.exit_code == 0 and json.loads(done.output)["counts"]["accept"] == 2, done.output
    rows[0]["original_hash"] = human.hash_of("x")
    done = fitra("import-edits", save(tmp_path / "k.jsonl", rows), "--corpus", held, "--out", tmp_path / "by2")
    assert done.exit_code == 3 and json.loads(done.output)["counts"]["quarantined"] == 1
    assert [r["id"] for r in rows_of(tmp_path / "by2")] == [rows[1]["id"]]
    for command in ("export-review", "import-edits"):
        assert f"Example: fitra align {command}" in fitra(command, "--help").output
