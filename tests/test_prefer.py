"""Preferences: who judges what, what becomes a pair, what the tuned model learnt, errors by name."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("trl")

import tiny_model as tiny

from fitra import llm, lm
from fitra.artifacts import read_table
from fitra.errors import FitraError
from fitra.prefer import figures, judge_pairs, prefer
from fitra.prefer.judge import Verdict
from fitra.prefer.prompts import read
from fitra.prefer.run import pick
from fitra.recipe import Prefer

PROMPT = "ما هي عاصمة البلاد؟"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("prefer") / "model", chat=True)


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def backend(say: Any) -> llm.FunctionBackend:
    def fn(messages: Sequence[Any], sampling: Any, schema: Any) -> str:
        return str(say(json.loads(messages[-1]["content"])))

    return llm.FunctionBackend("test-judge", fn)


def test_the_rules_rank_answers_as_a_reader_would() -> None:
    good = figures(PROMPT, "عاصمة البلاد هي المدينة القديمة على النهر.")["total"]
    for worse in (
        "",
        "The capital is the old city by the river.",
        "عاصمة عاصمة عاصمة عاصمة عاصمة عاصمة عاصمة",
        "أنتم حثالة حقيرون يجب طردكم جميعا",
        "عاص\ufffd\ufffd\ufffd\ufffd مة\ufffd\ufffd\ufffd\ufffd",
    ):
        assert figures(PROMPT, worse)["total"] < good, worse


def test_a_judge_that_likes_the_first_place_gives_no_pair(tmp_path: Path) -> None:
    rows = [{"id": "p", "prompt": "q", "answers": ["x", "y", "x"]}]
    ((_, verdicts),) = judge_pairs(rows, tmp_path / "ledger", backend(lambda asked: '{"verdict": "A"}'))
    assert [(v.first, v.second, v.ab, v.ba, v.outcome) for v in verdicts] == [(0, 1, "A", "A", "disagreed")]
    assert pick(verdicts) is None


def test_a_judge_with_an_opinion_is_asked_in_both_orders_and_believed(tmp_path: Path) -> None:
    rows = [{"id": "p", "prompt": "q", "answers": ["a", "ccc", "bb"]}]
    longer = backend(lambda d: '{"verdict": "A"}' if len(d["A"]) > len(d["B"]) else 'well, {"verdict": "B"}.')
    ((_, verdicts),) = judge_pairs(rows, tmp_path / "ledger", longer)
    assert [v.winner for v in verdicts] == [1, 2, 1] and {v.outcome for v in verdicts} == {"agreed"}
    best = pick(verdicts)
    assert best is not None and best[1:] == (1, 0)


def test_a_judge_that_babbles_is_no_verdict(tmp_path: Path) -> None:
    rows = [{"id": "p", "prompt": "q", "answers": ["x", "y"]}]
    ((_, verdicts),) = judge_pairs(rows, tmp_path / "ledger", backend(lambda asked: "both are nice"))
    assert verdicts[0].outcome == "failed" and verdicts[0].winner is None


@pytest.mark.parametrize(
    ("ab", "ba", "outcome"),
    [
        ("A", "B", "agreed"),
        ("B", "A", "agreed"),
        ("A", "A", "disagreed"),
        ("A", "tie", "tied"),
        ("A", "error", "failed"),
    ],
)
def test_outcomes(ab: str, ba: str, outcome: str) -> None:
    assert Verdict(0, 1, ab, ba).outcome == outcome


def test_prefer_makes_pairs_tunes_and_repeats_itself(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = [f"{PROMPT} {i}" for i in range(6)] + [f"Where is the old city {i}?" for i in range(6)]
    prompts = table(tmp_path / "prompts.parquet", [{"id": f"p{i:02}", "prompt": p} for i, p in enumerate(asked)])
    cfg = Prefer(samples=4, max_new_tokens=12, lr=5e-3)
    one = prefer(cfg, model, [prompts], 3, tmp_path / "a")
    two = prefer(cfg, model, [prompts], 3, tmp_path / "b")
    counts = one["counts"]
    assert counts == two["counts"] and counts["prompts"] == 12 and counts["answers"] == 48
    assert counts["judged"] == counts["agreed"] + counts["tied"] + counts["disagreed"] + counts["failed"]
    pairs = read_table(tmp_path / "a", "pairs").to_pylist()
    assert 0 < len(pairs) == counts["pairs"] and pairs == read_table(tmp_path / "b", "pairs").to_pylist()
    for p in pairs:
        assert {p["verdict_ab"], p["verdict_ba"]} == {"A", "B"} and p["chosen"] != p["rejected"]
        seen = json.loads(p["figures"])
        assert seen["chosen"]["total"] > seen["rejected"]["total"]
    assert lm.weights_hash(tmp_path / "a") == lm.weights_hash(tmp_path / "b") != lm.weights_hash(model)
    log = [json.loads(x) for x in (tmp_path / "a/log.jsonl").read_text().splitlines()]
    assert log and log[0]["loss"] == pytest.approx(0.6931, abs=1e-3)  # the policy starts as the reference
    assert not [p for p in (tmp_path / "a").iterdir() if p.name.startswith(".trl")]
    said = "".join(capfd.readouterr())
    assert "rewards/margins" not in said and "Computing reference" not in said
    assert lm.load(tmp_path / "a").tokenizer.chat_template


def test_given_pairs_move_the_model_towards_what_was_chosen(tmp_path: Path, model: Path) -> None:
    pairs = [
        {"id": f"g{i}", "instruction": f"{PROMPT} {i}", "chosen": "المدينة القديمة", "rejected": "لا أ ب ج د"}
        for i in range(16)
    ]
    prompts = table(tmp_path / "pairs.parquet", [*pairs, {**pairs[0], "id": "same", "chosen": "x", "rejected": "x"}])
    manifest = prefer(Prefer(judge="given", lr=5e-3, epochs=3), model, [prompts], 0, tmp_path / "out")
    assert (manifest["counts"]["pairs"], manifest["counts"]["quarantined"]) == (16, 1)

    def margin(path: Path) -> float:
        m = lm.load(path)
        asked = lm.render(m, PROMPT)
        good, bad = lm.score(m, [(asked, "المدينة القديمة"), (asked, "لا أ ب ج د")])
        return good.logprob - bad.logprob

    assert margin(tmp_path / "out") > margin(model) + 1


def test_no_pairs_is_said_and_the_model_is_copied(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fitra.prefer.judge.MARGIN", 2.0)  # every difference is a tie
    prompts = table(tmp_path / "prompts.parquet", [{"id": "p", "prompt": PROMPT}])
    manifest = prefer(Prefer(max_new_tokens=4), model, [prompts], 0, tmp_path / "out")
    assert manifest["counts"]["pairs"] == 0 and "copy" in manifest["notes"]["tuning"]
    assert lm.weights_hash(tmp_path / "out") == lm.weights_hash(model)


def test_prompts_longer_than_the_model_are_counted(tmp_path: Path, model: Path) -> None:
    rows = [{"id": f"p{i}", "prompt": PROMPT * n, "chosen": "x", "rejected": "y"} for i, n in enumerate((1, 50))]
    prompts = table(tmp_path / "pairs.parquet", rows)
    manifest = prefer(Prefer(judge="given"), model, [prompts], 0, tmp_path / "out")
    assert (manifest["counts"]["too_long"], manifest["counts"]["steps"]) == (1, 1)
    prompts = table(tmp_path / "long.parquet", rows[1:])
    manifest = prefer(Prefer(judge="given"), model, [prompts], 0, tmp_path / "none")
    assert manifest["counts"]["too_long"] == 1 and "no prompt leaves room" in manifest["notes"]["tuning"]


def test_a_restarted_run_finds_the_answers_it_had(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = table(tmp_path / "prompts.parquet", [{"id": f"p{i}", "prompt": f"{PROMPT} {i}"} for i in range(4)])
    cfg = Prefer(max_new_tokens=4)

    def killed(*args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr("fitra.prefer.run._tune", killed)
        with pytest.raises(KeyboardInterrupt):
            prefer(cfg, model, [prompts], 0, tmp_path / "out")
    with monkeypatch.context() as m:
        m.setattr("fitra.lm.generate", killed)
        m.setattr("fitra.prefer.run.lm.generate", killed)
        prefer(cfg, model, [prompts], 0, tmp_path / "out")
    prefer(cfg, model, [prompts], 0, tmp_path / "whole")
    assert lm.weights_hash(tmp_path / "out") == lm.weights_hash(tmp_path / "whole")


def test_prompt_files_of_both_kinds(tmp_path: Path) -> None:
    lines = ['{"prompt": "one"}', "{broken", '{"prompt": ""}', '{"id": "x", "prompt": "two"}', '{"prompt": "one"}']
    path = tmp_path / "p.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    rows, aside = read([path], None, given=False)
    assert [(r["id"], r["prompt"]) for r in rows] == [("p-000001", "one"), ("x", "two")]
    assert [(b["id"], b["reason"]) for b in aside] == [
        ("line 2", "not a JSON object"),
        ("p-000003", "'prompt' is empty or no text"),
    ]
    assert read([path], 1, given=False)[0] == read([path], 1, given=False)[0]


def test_errors_name_the_file_and_the_column(tmp_path: Path) -> None:
    bad = table(tmp_path / "bad.parquet", [{"text": "x"}])
    half = table(tmp_path / "half.parquet", [{"prompt": "x", "chosen": "y"}])
    odd = tmp_path / "odd.csv"
    odd.write_text("prompt\nx\n", encoding="utf-8")
    for path, given, match in (
        (bad, False, r"bad\.parquet: no column 'prompt'"),
        (half, True, r"half\.parquet: no column 'rejected'"),
        (odd, False, "neither"),
        (tmp_path / "none.parquet", False, "no such file"),
    ):
        with pytest.raises(FitraError, match=match):
            read([path], None, given)
    with pytest.raises(FitraError, match="no prompt"):
        read([], None, given=False)
