"""Alignment by several models: triage, tiers, escalation, budgets, plans, context, edit programs, rows as shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_align import TEXTS, VERSE, answering, between, corpus, rows_of

from fitra import llm, policy
from fitra.align import align, masking, plan, rewrite, rules, show
from fitra.artifacts import read_manifest, read_table, table_parts
from fitra.errors import FitraError
from fitra.recipe import Align, Budget, Model

TOXIC = "يا حيوان يا زبالة، اذهب إلى الجحيم أنت وكل أهلك الأوغاد، سنقتلكم جميعا ونحرق بيوتكم."
CLEAN = "تقع المدينة على ساحل البحر ويعمل أهلها في الصيد والتجارة منذ قرون."
SPACED = "تقع المدينة   على ساحل البحر ويعمل أهلها في الصيد ."
MODEL = Model.model_validate({"endpoints": {"base_url": "http://127.0.0.1:1/v1", "model": "m"}})


def test_only_what_needs_a_model_goes_to_one(tmp_path: Path) -> None:
    asked: list[str] = []
    backend = answering(lambda t: (asked.append(t), "اذهبوا من هنا أنتم وكل أهلكم.")[1])
    align(Align(), corpus(tmp_path / "c", [CLEAN, SPACED, TOXIC]), tmp_path / "a", backends={"expert": backend})
    rows = rows_of(tmp_path / "a")
    assert [r["tier"] for r in rows][:2] == ["untouched", "rules"] and len(set(asked)) == 1
    assert [r["state"] for r in rows][:2] == ["unchanged", "accept"]


def test_what_the_worker_cannot_the_expert_gets(tmp_path: Path) -> None:
    worker = answering(lambda t: t.replace("  ", " ") if "أ" in t else "عذرا، لا أستطيع المساعدة.")
    expert = answering(lambda t: t.replace("  ", " "))
    source = corpus(tmp_path / "c", ["نص  أول هنا للقراءة.", "نص  ثان هنا للقراءة."])
    manifest = align(Align(triage="all"), source, tmp_path / "a", backends={"worker": worker, "expert": expert})
    rows = rows_of(tmp_path / "a")
    assert [r["state"] for r in rows] == ["accept", "accept"]
    assert [r["tier"] for r in rows] == ["worker", "expert"]
    assert len(rows[0]["keys"]) == 1 and len(rows[1]["keys"]) == 3  # worker, worker again, expert
    actual = manifest["notes"]["actual"]["tiers"]
    assert actual["worker"]["requests"] == 3 and actual["expert"]["requests"] == 1
    assert manifest["notes"]["plan"]["tiers"]["worker"]["documents"] == [2, 2]


def test_what_no_model_could_the_rules_repair(tmp_path: Path) -> None:
    bad = answering(lambda t: "")
    align(Align(triage="all"), corpus(tmp_path / "c", [SPACED, CLEAN]), tmp_path / "a", backends={"expert": bad})
    rows = rows_of(tmp_path / "a")
    assert rows[0]["state"] == "accept" and rows[0]["tier"] == "rules" and "expert refused" in rows[0]["reason"]
    assert "   " not in rows[0]["rewrite"]
    assert rows[1]["state"] == "keep_original" and rows[1]["tier"] == "expert"


def test_a_spent_budget_stops_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    asked: list[str] = []

    def reply(messages: list[llm.Message], sampling: Any, schema: Any) -> llm.Reply:
        asked.append(messages[1]["content"])
        usage = {"prompt_tokens": 450, "completion_tokens": 50, "total_tokens": 500}
        return llm.Reply(between(messages[1]["content"]).replace("  ", " "), usage)

    source = corpus(tmp_path / "c", [f"نص  رقم {i} فيه مسافات وكلمات قليلة." for i in range(60)])

    def go(tokens: int) -> None:
        cfg = Align(triage="all", expert=MODEL.model_copy(update={"budget": Budget(tokens=tokens)}))
        backends = {"expert": llm.FunctionBackend("m", reply)}
        align(cfg, source, tmp_path / "a", tmp_path / "l", backends=backends)

    with pytest.raises(FitraError, match="budget"):
        go(20_000)
    assert 0 < len(asked) < 60 and not (tmp_path / "a" / "manifest.json").exists()
    go(1_000_000)  # a budget is no part of the result: the same run goes on
    assert len(asked) == 60 and len(set(asked)) == 60
    spent = read_manifest(tmp_path / "a")["notes"]["actual"]["tiers"]["expert"]
    assert spent["requests"] == 60 and spent["completion_tokens"] == 3000


def test_chunks_carry_what_stands_before_them(tmp_path: Path) -> None:
    text = "\n".join(f"هذه فقرة رقم {i} وفيها   مسافات كثيرة وكلام طويل يملأ السطر كله." for i in range(8))
    contexts: list[str] = []

    def reply(messages: list[llm.Message], sampling: Any, schema: Any) -> str:
        contexts.append(messages[1]["content"].rsplit("<<<", 1)[0])
        return between(messages[1]["content"]).replace("   ", " ")

    cfg = Align(triage="all", chunk_chars=200, context_chars=60)
    backends = {"expert": llm.FunctionBackend("m", reply)}
    align(cfg, corpus(tmp_path / "c", [text]), tmp_path / "a", backends=backends)
    row = rows_of(tmp_path / "a")[0]
    assert row["rewrite"] == text.replace("   ", " ")
    assert sorted(map(bool, contexts))[0] is False and sum(map(bool, contexts)) == len(contexts) - 1
    assert all(len(c) < 200 for c in contexts) and any("يملأ السطر كله." in c for c in contexts)


def test_pieces_keep_to_a_limit_of_tokens() -> None:
    held = policy.load()
    text = "\n".join(f"الجملة رقم {i} في هذا النص الطويل." for i in range(40))
    words = lambda t: len(t.split())  # noqa: E731
    whole = masking.mask(text)
    pieces = rewrite.split("d", whole, rules.compile_rules(held), 4000, tokens=words, most_tokens=30)
    assert "".join(p.original for p in pieces) == text and len(pieces) > 5
    assert max(words(p.original) for p in pieces) <= 30


def test_edit_programs_change_what_they_name_alone(tmp_path: Path) -> None:
    def reply(messages: list[llm.Message], sampling: Any, schema: Any) -> str:
        shown = between(messages[1]["content"])
        assert shown.startswith("1 ")
        return "1 الغبي →" if "الغبي" in shown else "7 -"

    cfg = Align(triage="all", worker=MODEL.model_copy(update={"format": "edits"}))
    source = corpus(tmp_path / "c", ["قال المدير الغبي إن العدد 30 في القاهرة.", CLEAN])
    align(cfg, source, tmp_path / "a", backends={"worker": llm.FunctionBackend("m", reply)})
    rows = rows_of(tmp_path / "a")
    assert rows[0]["rewrite"] == "قال المدير إن العدد 30 في القاهرة." and rows[0]["tier"] == "edits"
    assert rows[1]["state"] == "keep_original" and "unit 7" in rows[1]["reason"]


def test_a_worker_and_an_expert_may_both_answer_with_edits(tmp_path: Path) -> None:
    edits = MODEL.model_copy(update={"format": "edits"})
    backends = {
        "worker": llm.FunctionBackend("w", lambda *_: "9 -"),
        "expert": llm.FunctionBackend("e", lambda *_: "1 الغبي →"),
    }
    cfg = Align(triage="all", retries=0, worker=edits, expert=edits)
    source = corpus(tmp_path / "c", ["قال المدير الغبي إن العدد 30 في القاهرة."])
    notes = align(cfg, source, tmp_path / "a", backends=backends)["notes"]
    row = rows_of(tmp_path / "a")[0]
    assert (row["state"], row["tier"], row["rewriter"]) == ("accept", "expert", "e")
    assert {t: v["requests"] for t, v in notes["actual"]["tiers"].items()} == {"edits": 1, "expert": 1}


def test_an_outcome_of_the_policy_is_heeded(tmp_path: Path) -> None:
    import shutil

    mine = Path(shutil.copytree(Path(policy.__file__).parent / "default", tmp_path / "mine"))
    at = mine / "policy.yaml"
    at.write_text(at.read_text(encoding="utf-8").replace("outcomes:\n", "outcomes:\n  personal: quarantine\n"), "utf-8")
    backend = answering(lambda t: t + " اتصل على 0501234567")
    source = corpus(tmp_path / "c", [CLEAN])
    align(Align(policy=str(mine), triage="all"), source, tmp_path / "a", backends={"expert": backend})
    row = rows_of(tmp_path / "a")[0]
    assert row["state"] == "quarantine" and "personal" in row["reason"] and len(row["keys"]) == 1


def test_no_rewrite_may_recite_an_evaluation_set(tmp_path: Path) -> None:
    question = "ما هي عاصمة المملكة المغربية التي تقع على ساحل المحيط الأطلسي عند مصب نهر أبي رقراق؟"
    (tmp_path / "b.jsonl").write_text(json.dumps({"q": question}, ensure_ascii=False) + "\n", "utf-8")
    backend = answering(lambda t: t.replace("  ", " ") + (" " + question if "تزور" in t else ""))
    source = corpus(tmp_path / "c", ["حين تزور  الرباط ترى البحر. " * 6, "حين تمر  بالرباط ترى البحر. " * 6])
    cfg = Align(triage="all", benchmarks=[{"path": str(tmp_path / "b.jsonl"), "text": ["q"]}])
    align(cfg, source, tmp_path / "a", backends={"expert": backend})
    refused, passed = rows_of(tmp_path / "a")
    assert any(v["gate"] == "benchmark" and v["passed"] for v in json.loads(passed["verdicts"]))
    assert question not in read_table(tmp_path / "a", "documents")["text"][0].as_py()
    assert refused["tier"] == "rules" or refused["state"] == "keep_original"


def test_a_judge_looks_at_claims_and_its_failure_is_no_pass(tmp_path: Path) -> None:
    import shutil

    mine = Path(shutil.copytree(Path(policy.__file__).parent / "default", tmp_path / "mine"))
    at = mine / "policy.yaml"
    at.write_text(at.read_text(encoding="utf-8").replace("claims_share: 0.0", "claims_share: 1.0"), "utf-8")
    kept = '{"claims": [{"claim": "c", "verdict": "kept"}]}'
    said = {"أول": kept, "ثان": kept.replace("kept", "changed"), "ثالث": "لا أدري"}

    def reply(messages: list[llm.Message], sampling: Any, schema: Any) -> str:
        return next(v for k, v in said.items() if k in messages[0]["content"])

    texts = [f"نص   {k} هنا للقراءة ." for k in said] + [CLEAN]
    backends = {"judge": llm.FunctionBackend("j", reply)}
    align(Align(policy=str(mine)), corpus(tmp_path / "c", texts), tmp_path / "a", backends=backends)
    rows = rows_of(tmp_path / "a")
    assert [r["state"] for r in rows] == ["accept", "keep_original", "keep_original", "unchanged"]
    assert [len(r["keys"]) for r in rows] == [1, 1, 1, 0]
    assert all("claims" in r["verdicts"] for r in rows[:3]) and "judge failed" in rows[2]["reason"]


# --- plans


def test_a_plan_counts_what_would_be_asked_and_asks_nothing(tmp_path: Path) -> None:
    source = corpus(tmp_path / "c", [SPACED + f" السطر رقم {i}." for i in range(30)] + [CLEAN])
    cfg = Align(
        triage="all",
        expert={
            "endpoints": {"base_url": "http://127.0.0.1:1/v1", "model": "m", "price": {"input": 1, "output": 4}},
            "tokens_per_second": 100,
            "gpus": 2,
        },
    )
    made = plan.plan(cfg, source, tmp_path / "l")
    tier = made["tiers"]["expert"]
    assert tier["documents"] == [31, 31] and tier["requests"][0] == 31
    for name in ("requests", "prompt_tokens", "completion_tokens", "money", "hours", "gpu_hours"):
        assert 0 < tier[name][0] <= tier[name][1], name
    assert tier["gpu_hours"] == pytest.approx([2 * h for h in tier["hours"]], abs=2e-4)
    assert not (tmp_path / "l").exists() and any("tokenizer" in u for u in made["unknown"])


def test_what_comes_of_a_run_lies_within_its_plan(tmp_path: Path) -> None:
    def reply(messages: list[llm.Message], sampling: Any, schema: Any) -> llm.Reply:
        text = between(messages[1]["content"]).replace("   ", " ")
        size = sum(len(m["content"].encode()) for m in messages)
        usage = {"prompt_tokens": size // 4, "completion_tokens": len(text.encode()) // 4}
        return llm.Reply(text, usage)

    texts = [SPACED * (1 + i % 7) + f" السطر رقم {i}." for i in range(900)]
    cfg = Align(triage="all", expert=MODEL)
    manifest = align(
        cfg, corpus(tmp_path / "c", texts), tmp_path / "a", backends={"expert": llm.FunctionBackend("m", reply)}
    )
    planned, actual = manifest["notes"]["plan"], manifest["notes"]["actual"]["tiers"]["expert"]
    assert planned["sampled"] >= 200 and planned["documents"] == 900
    for name in ("requests", "prompt_tokens", "completion_tokens"):
        low, high = planned["tiers"]["expert"][name]
        assert low <= actual[name] <= high, name


# --- showing


def test_a_row_is_shown_safely_and_with_what_changed(tmp_path: Path) -> None:
    evil = "قال المدير الغبي إن العدد 30 \x1b[2J\u202e في القاهرة."
    align(Align(), corpus(tmp_path / "c", [evil, CLEAN]), tmp_path / "a")
    row = show.find(tmp_path / "a", "d00000")
    for colour in (True, False):
        shown = "\n".join(show.lines(row, colour=colour))
        assert "\u202e" not in shown and "\x1b[2J" not in shown and "الغبي" in shown
    assert "[-الغبي" in shown
    assert CLEAN in show.lines(show.find(tmp_path / "a", "d00001"))
    with pytest.raises(FitraError, match="no document"):
        show.find(tmp_path / "a", "zzz")
    with pytest.raises(FitraError, match="2 documents"):
        show.find(tmp_path / "a", "d0")


def test_protected_text_survives_a_worker_that_answers_with_edits(tmp_path: Path) -> None:
    def reply(messages: list[llm.Message], sampling: Any, schema: Any) -> str:
        return "1 -"

    cfg = Align(triage="all", worker=MODEL.model_copy(update={"format": "edits"}))
    source = corpus(tmp_path / "c", [f"قال تعالى ﴿{VERSE}﴾ ثم ركع."])
    align(cfg, source, tmp_path / "a", backends={"worker": llm.FunctionBackend("m", reply)})
    assert VERSE in read_table(tmp_path / "a", "documents")["text"][0].as_py()


def test_texts_of_the_other_tests_end_in_one_state_with_models(tmp_path: Path) -> None:
    backends = {"worker": answering(lambda t: t), "expert": answering(lambda t: "")}
    align(Align(triage="all"), corpus(tmp_path / "c", TEXTS), tmp_path / "a", backends=backends)
    rows = rows_of(tmp_path / "a")
    assert len(rows) == len(TEXTS) and all(r["reason"] for r in rows)
    assert rows[-1]["state"] == "quarantine"


@pytest.mark.parametrize("asked", [True, False])
def test_processes_that_prepare_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool) -> None:
    from fitra.align import shards, stage

    monkeypatch.setattr(shards, "SHARD_ROWS", 70)
    texts = [f"{t} السطر رقم {i}." for i in range(60) for t in (SPACED, CLEAN, TEXTS[1])]
    source = corpus(tmp_path / "c", texts)
    found = []
    for small in (10_000, 0):
        monkeypatch.setattr(stage, "SMALL", small)
        backends = {"expert": answering(lambda t: t.replace("  ", " "))} if asked else None
        cfg = Align(triage="all", engine={"workers": 2}, benchmarks=[])
        align(cfg, source, tmp_path / str(small), backends=backends)
        found.append(
            [p.read_bytes() for name in ("rows", "documents") for p in table_parts(tmp_path / str(small), name)]
        )
    assert found[0] == found[1] and len(found[0]) == 6
