"""Suites: what is run, what is left out and why, how an interrupted run goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")

import tiny_model as tiny
from typer.testing import CliRunner

from fitra import lm
from fitra.artifacts import read_table
from fitra.cli import app
from fitra.errors import FitraError
from fitra.evaluate import backend, benchmark, dry_run, evaluate, judged, suite, texts
from fitra.recipe import Evaluate


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("suite") / "model", positions=1024)


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of data with four of the suite's files, one of them in eval/."""
    at = tmp_path / "data"
    table(
        at / "acva_ar.parquet",
        [
            {
                "id": f"a{i}", "category": "Egypt modern", "split": "test" if i else "dev", "question": f"جملة {i}.",
                "label": i % 2 == 0,
            }
            for i in range(7)
        ],
    )  # fmt: skip
    table(
        at / "eval/exams_ar.parquet",
        [
            {
                "id": f"q{i}", "split": "test" if i > 1 else "dev", "subject": ("Physics", "Biology")[i % 2],
                "question": f"ما {i}؟", "answer": "ABCD"[i % 4], **{k: f"خيار {k}{i}" for k in "ABCD"},
            }
            for i in range(10)
        ],
    )  # fmt: skip
    table(
        at / "vicuna80_ar.parquet",
        [{"id": i, "category": "generic", "query": f"ما رأيك في {i}؟", "query_en": f"what of {i}?"} for i in range(3)],
    )
    table(
        at / "vicuna80_ar_answers.parquet",
        [
            {
                "prompt_id": i,
                "model": "chatgpt",
                "prompt": f"ما رأيك في {i}؟",
                "response": "رأيي أنه جيد جدا في كل وقت.",
            }
            for i in range(3)
        ],
    )
    rows = [
        {
            "id": f"t{i}",
            "text": tiny.TEXT[i % 5] * 2,
            "lang": ("ar", "arz")[i % 2],
            "genre": "news",
            "source": f"s{i % 3}",
        }
        for i in range(30)
    ]
    table(at / "raw/ar_news.parquet", rows)
    table(at / "raw/en_books.parquet", [{"id": "e", "text": "English"}])
    return at


def scores_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", suite.names())
def test_every_suite_names_benchmarks_and_protocols_that_exist(name: str) -> None:
    held = suite.load(name)
    assert held.name == name
    for e in held.benchmarks:
        task = benchmark.load(e.card)
        assert not {*e.protocols, *e.chat} - set(task.protocols), e.card
        # A chat variant is for a chat model, the others for every model.
        assert not any(task.protocols[p].chat for p in e.protocols)
    for j in held.judged:
        judged.load(j.set)


def test_every_file_at_hand_is_in_a_suite(data: Path) -> None:
    named = {x.file for n in suite.names() for s in [suite.load(n)] for x in (*s.benchmarks, *s.judged)}
    there = {p.name for p in (data / "eval").glob("*.parquet")}
    assert there - named <= {"acva_mid_choice_ar.parquet", "vicuna80_ar_answers.parquet"}


def test_a_suite_measures_what_is_there_and_lists_what_is_not(
    tmp_path: Path, folder: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = Evaluate(suite="arabic", data=str(folder), limit=5, answer_tokens=4)
    manifest = evaluate(cfg, model, 0, tmp_path / "out")
    scores = scores_of(tmp_path / "out")
    assert {k.split("/")[0] for k in scores} == {
        "acva_oall", "acva_yesno", "acva_acegpt", "exams_oall", "exams_aexams", "exams_acegpt", "vicuna80_ar",
        "bpb_ar_raw",
    }  # fmt: skip
    assert "mmlu_ar.parquet" in manifest["notes"]["missing"] and "mmlu_ar.parquet: not in" in capsys.readouterr().err
    rows = read_table(tmp_path / "out", "items").to_pylist()
    assert [(r["task"], r["id"]) for r in rows] == sorted((r["task"], r["id"]) for r in rows)
    assert len(rows) == manifest["counts"]["items"]
    tables = json.loads((tmp_path / "out/tables.json").read_text(encoding="utf-8"))
    assert set(tables) == {k.split("/")[0] for k in scores}
    written = [r for r in rows if r["task"] == "acva_acegpt"]
    assert all(isinstance(r["output"], str) for r in written)
    assert scores["acva_acegpt"]["unparsed"] == sum(r["predicted"] is None for r in written) / len(written)
    assert not (tmp_path / "out/.cache").exists() and not (tmp_path / "out/.items").exists()
    with pytest.raises(FitraError, match=r"missing: .*mmlu_ar\.parquet"):
        evaluate(cfg.model_copy(update={"strict": True}), model, 0, tmp_path / "strict")


def test_a_chat_model_gets_the_chat_protocols(tmp_path: Path, folder: Path) -> None:
    chat = tiny.write(tmp_path / "chat", chat=True, positions=1024)
    cfg = Evaluate(suite="acegpt", data=str(folder), limit=3, judged=False)
    evaluate(cfg, chat, 0, tmp_path / "out")
    scores = scores_of(tmp_path / "out")
    assert {k.split("/")[0] for k in scores} == {"acva_acegpt_chat", "exams_acegpt_chat"}
    assert "chat template" in scores["acva_acegpt_chat"]["protocol"]
    m = lm.load(chat, device="cpu")
    row = next(r for r in read_table(tmp_path / "out", "items").to_pylist() if r["task"] == "acva_acegpt_chat")
    assert row["output"] == lm.generate(m, [lm.render(m, row["prompt"])], max_new_tokens=20)[0]


def test_tasks_are_chosen_one_by_one(tmp_path: Path, folder: Path, model: Path) -> None:
    evaluate(Evaluate(suite="arabic", data=str(folder), tasks=["acva:oall", "exams"]), model, 0, tmp_path / "a")
    assert {k.split("/")[0] for k in scores_of(tmp_path / "a")} == {
        "acva_oall",
        "exams_oall",
        "exams_aexams",
        "exams_acegpt",
    }
    evaluate(Evaluate(data=str(folder), tasks=["acva:lighteval"]), model, 0, tmp_path / "b")
    assert {k.split("/")[0] for k in scores_of(tmp_path / "b")} == {"acva_lighteval"}
    for wrong in ("acva:none", "nothing", "no.yaml:x"):
        with pytest.raises(FitraError):
            evaluate(Evaluate(data=str(folder), tasks=[wrong]), model, 0, tmp_path / "c")
    with pytest.raises(FitraError, match="no such suite"):
        evaluate(Evaluate(suite="chinese", data=str(folder)), model, 0, tmp_path / "d")
    with pytest.raises(FitraError, match="no such folder"):
        evaluate(Evaluate(suite="arabic", data=str(folder / "none")), model, 0, tmp_path / "e")


def test_ones_own_file_needs_a_card_and_the_file(tmp_path: Path, model: Path) -> None:
    file = table(
        tmp_path / "mine.parquet",
        [{"id": f"m{i}", "question": f"س {i}", "A": "نعم", "B": "لا", "answer": "AB"[i % 2]} for i in range(6)],
    )
    card = tmp_path / "mine.yaml"
    card.write_text(
        "name: mine\ntitle: t\nabout: a\nsource: me\nlicence: CC0\n"
        "data: {question: question, options: [A, B], answer: answer}\n"
        'protocols:\n  letters: {about: mine, labels: [أ, ب], ask: "{question}\\n{options}\\nالجواب:"}\n',
        encoding="utf-8",
    )
    evaluate(Evaluate(tasks=[f"{card}:letters"], data=str(file)), model, 0, tmp_path / "out")
    assert scores_of(tmp_path / "out")["mine_letters"]["n"] == 6


def test_defects_are_marked_and_the_cleaned_score_leaves_them_out(tmp_path: Path, model: Path) -> None:
    rows = [
        {"id": f"a{i}", "category": "c", "split": s, "question": q, "label": label}
        for i, (s, q, label) in enumerate(
            [
                ("dev", "في التدريب.", True),
                ("test", "في التدريب.", True),
                ("test", "مرتان.", True),
                ("test", "مرتان.", True),
            ]
            + [("test", f"سليم {k}.", k % 2 == 0) for k in range(6)]
        )
    ]
    file = table(tmp_path / "acva_ar.parquet", rows)
    evaluate(Evaluate(acva=str(file)), model, 0, tmp_path / "out")
    score = scores_of(tmp_path / "out")["acva_oall"]
    found = {
        r["id"]: r["defects"] for r in read_table(tmp_path / "out", "items").to_pylist() if r["task"] == "acva_oall"
    }
    assert found["a1"] and (found["a2"] or found["a3"]) and not found["a5"]
    assert score["n"] == 9 and score["cleaned"]["n"] < 9


def test_questions_in_the_training_text_are_found(tmp_path: Path, folder: Path, model: Path) -> None:
    long = "ما هي العاصمة التي بنيت على ضفاف النهر الكبير في العصر القديم ثم صارت مدينة العلماء"
    rows = [
        {
            "id": f"q{i}", "split": "test", "subject": "Physics", "question": f"{long} رقم {i * 7}؟" if i == 3 else
            f"سؤال آخر عن شيء مختلف تماما في المادة رقم {i} وما يتبعه من أمور كثيرة ومتنوعة جدا؟",
            "answer": "ABCD"[i % 4], **{k: f"خيار {k}{i}" for k in "ABCD"},
        }
        for i in range(8)
    ]  # fmt: skip
    file = table(tmp_path / "exams.parquet", rows)
    corpus = table(
        tmp_path / "corpus.parquet",
        [{"id": "d1", "text": f"{long} رقم 21؟ نعم هذا نص"}, {"id": "d2", "text": "غير ذلك"}],
    )
    evaluate(Evaluate(exams=str(file), corpus=str(corpus)), model, 0, tmp_path / "out")
    found = json.loads((tmp_path / "out/contamination.json").read_text(encoding="utf-8"))
    assert [e["id"] for e in found["items"]] == ["q3"]
    score = scores_of(tmp_path / "out")["exams_oall"]
    assert any("are in the corpus given" in w for w in score["warnings"]) and score["cleaned"]["n"] == 7


def test_texts_are_sliced_by_language_register_and_source(tmp_path: Path, folder: Path, model: Path) -> None:
    (card,), aside = texts.cards("bpb", folder / "raw", None, "ar_")
    assert len(card.items) == 30 and not aside
    assert {s for i in card.items for s in i.slices} == {"lang/ar", "lang/arz", "source/s0", "source/s1", "source/s2"}
    (few,), _ = texts.cards("bpb", folder / "raw", 12, "ar_")
    assert len(few.items) == 12 and {i.id for i in few.items} <= {i.id for i in card.items}
    evaluate(Evaluate(texts=str(folder / "raw/ar_news.parquet")), model, 0, tmp_path / "out")
    scores = scores_of(tmp_path / "out")
    m = lm.load(model, device="cpu")
    held = [r["text"] for r in pq.read_table(folder / "raw/ar_news.parquet").to_pylist() if r["lang"] == "arz"]
    got = lm.perplexity(m, held)
    bits = sum(g.nll for g in got) / 0.6931471805599453
    assert scores["bpb_texts/lang/arz"]["value"] == pytest.approx(bits / sum(g.bytes for g in got), rel=1e-5)
    assert scores["bpb_texts/lang/arz/perplexity"]["value"] == pytest.approx(
        2 ** (bits / sum(g.tokens for g in got)), rel=1e-5
    )


def test_a_dry_run_says_what_it_would_take_and_measures_nothing(tmp_path: Path, folder: Path, model: Path) -> None:
    cfg = Evaluate(suite="arabic", data=str(folder))
    told = dry_run(cfg, model, tmp_path / "out")
    assert told["tasks"]["acva_oall"]["items"] == 6 and told["tasks"]["acva_acegpt"]["new_tokens"] == 6 * 20
    m = lm.load(model, device="cpu")
    (card, *_), _ = benchmark.cards(benchmark.load("acva"), folder / "acva_ar.parquet", 0, None, ["oall"])
    assert told["tasks"]["acva_oall"]["tokens"] == sum(len(x) for x in m.encode([i.prompt for i in card.items]))
    assert told["total"]["items"] == sum(t["items"] for t in told["tasks"].values())
    assert "mmlu_ar.parquet" in told["missing"] and told["judged"] == ["vicuna80_ar"]
    assert not (tmp_path / "out").exists()


def test_labels_of_unequal_tokens_are_told(tmp_path: Path, folder: Path, model: Path) -> None:
    evaluate(Evaluate(tasks=["acva:oall"], data=str(folder)), model, 0, tmp_path / "out")
    m = lm.load(model, device="cpu")
    sizes = {len(m.encode(["الإجابة:" + o])[0]) for o in (" صح", " خطأ")}
    told = any("unequal numbers of tokens" in w for w in scores_of(tmp_path / "out")["acva_oall"]["warnings"])
    assert told == (len(sizes) > 1)


def test_the_command_line_runs_a_suite(
    tmp_path: Path, folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = [
        "eval",
        "run",
        str(model),
        "--suite",
        "arabic",
        "--data",
        str(folder),
        "--limit",
        "4",
        "--task",
        "acva:oall",
    ]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    assert "acva_oall" in done.output and "scores-model" in done.output
    assert scores_of(tmp_path / "scores-model")["acva_oall"]["n"] == 4
    dry = CliRunner().invoke(app, [*line, "--dry-run", "--json"])
    assert json.loads(dry.stdout)["tasks"]["acva_oall"]["items"] == 4


class Stops(backend.Local):
    """A model that dies after so many questions."""

    def __init__(self, m: lm.LM, left: int) -> None:
        super().__init__(m)
        self.left, self.asked = left, 0
        self.chunk = 2

    def score(self, pairs: Any) -> Any:
        self.asked += len(pairs)
        if self.asked > self.left:
            raise KeyboardInterrupt
        return super().score(pairs)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, folder: Path, model: Path) -> None:
    cfg = Evaluate(tasks=["exams:oall", "acva:oall"], data=str(folder))
    m = lm.load(model, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        evaluate(cfg, model, 0, tmp_path / "out", backend=Stops(m, 20))
    again = Stops(m, 1000)
    evaluate(cfg, model, 0, tmp_path / "out", backend=again)
    evaluate(cfg, model, 0, tmp_path / "whole", backend=(whole := Stops(m, 1000)))
    assert again.asked < whole.asked
    files = [p for p in (tmp_path / "out").rglob("*") if p.is_file() and p.name not in ("manifest.json", ".lock")]
    assert all(p.read_bytes() == (tmp_path / "whole" / p.relative_to(tmp_path / "out")).read_bytes() for p in files)


def test_processes_share_the_items_and_the_scores_are_equal(
    tmp_path: Path, folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = Evaluate(tasks=["exams:oall", "acva:acegpt"], data=str(folder))
    m = lm.load(model, device="cpu")
    evaluate(cfg, model, 0, tmp_path / "one", backend=(alone := Stops(m, 1000)))
    monkeypatch.setenv("WORLD_SIZE", "2")
    asked = 0
    for rank in ("1", "0"):  # the first waits for what the other owes
        monkeypatch.setenv("RANK", rank)
        evaluate(cfg, model, 0, tmp_path / "two", backend=(part := Stops(m, 1000)))
        assert 0 < part.asked < alone.asked
        asked += part.asked
    assert abs(asked - alone.asked) <= 4 * 2  # the bare prompt's options are asked by each
    assert scores_of(tmp_path / "one") == scores_of(tmp_path / "two")


@pytest.mark.slow
def test_torchrun_gives_the_same_scores(tmp_path: Path, folder: Path, model: Path) -> None:
    line = ["-m", "fitra", "eval", "run", str(model), "--suite", "arabic", "--data", str(folder), "--limit", "6"]
    line += ["--task", "exams:oall", "--task", "acva:acegpt"]
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*run, *line, "--out", str(tmp_path / "two")], check=True, timeout=600, capture_output=True)
    subprocess.run(
        [sys.executable, *line, "--out", str(tmp_path / "one")], check=True, timeout=600, capture_output=True
    )
    assert scores_of(tmp_path / "one") == scores_of(tmp_path / "two")
