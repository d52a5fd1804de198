"""What leaves and enters: model-card tables, lm-eval tasks that ask the same, lm-eval tasks that become cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from typer.testing import CliRunner

pytest.importorskip("torch", reason="needs fitra[train]")

import tiny_model as tiny

from fitra import lm
from fitra.artifacts import open_stage
from fitra.cli import app
from fitra.errors import FitraError
from fitra.evaluate import benchmark, export, import_lm_eval
from fitra.evaluate.card import Card, Item

EVIL = "x|y\n# [a](javascript:1) <img src=x> `\u202e"


def scored(folder: Path, licence: str = "B", **tasks: Any) -> Path:
    whole = {
        "metric": "accuracy", "value": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n": 100, "higher_is_better": True,
        "protocol": "acva-oall/1: 5-shot", "warnings": [],
    }  # fmt: skip
    with open_stage(folder, stage="evaluate", config={}, inputs={}, licence_class=licence) as st:
        st.write_json("scores.json", {k: {**whole, **v} for k, v in tasks.items()})
        st.write_table("items", pa.table({"task": ["acva_oall"]}))
    return folder


def test_a_table_for_a_model_card(tmp_path: Path) -> None:
    clean = {"value": 0.456, "ci_low": 0.4, "ci_high": 0.5, "n": 90}
    a = scored(tmp_path / "a", acva_oall={"cleaned": clean, "warnings": ["58 rows"]}, **{"acva_oall/macro_f1": {}})
    b = scored(
        tmp_path / "b",
        licence="C",
        acva_oall={"value": 0.75, "ci_high": 0.8},
        bpb_ar={"metric": "bits_per_byte", "value": 1.2345, "ci_low": 1.2, "ci_high": 1.3},
    )
    text = export.table({"ours": a, "base": b})
    lines = text.splitlines()
    assert lines[0] == "| task | metric | n | ours | base |"
    assert lines[2] == "| acva\\_oall | accuracy | 100 | 50.0 [40.0, 60.0]; cleaned 45.6 | 75.0 [40.0, 80.0] |"
    assert lines[3] == "| bpb\\_ar | bits\\_per\\_byte | 100 | – | 1.234 [1.200, 1.300] |" and "macro" not in text
    assert "macro\\_f1" in export.table({"ours": a}, parts=True)
    assert "58 rows" in text and "base: a model of licence class C (non-commercial)" in text
    assert "ACVA" in text and "class A" in text


def test_hostile_names_make_no_cell_and_no_tag(tmp_path: Path) -> None:
    a = scored(tmp_path / "a", **{EVIL.replace("/", ""): {"protocol": EVIL, "warnings": [EVIL]}})
    text = export.table({EVIL: a})
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 3 and all(line.replace("\\|", "").count("|") == 5 for line in rows)
    assert "<img" not in text and "\u202e" not in text and "\n# " not in text and "](" not in text.replace("\\]", "")
    index = export.model_index({EVIL: a})
    assert yaml.safe_load(index)["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.5
    assert all(line.startswith("# ") for line in index.split("model-index:")[0].splitlines())


def test_model_index_has_what_the_hub_asks_for(tmp_path: Path) -> None:
    a = scored(tmp_path / "a", acva_oall={}, **{"acva_oall/macro_f1": {"metric": "macro_f1", "value": 0.4}})
    (model,) = yaml.safe_load(export.model_index({"ours": a}))["model-index"]
    assert model["name"] == "ours" and len(model["results"]) == 2
    for r in model["results"]:
        assert r["task"]["type"] and r["dataset"]["type"] == "acva_oall" and r["dataset"]["name"]
        assert {"type", "value"} <= set(r["metrics"][0]) and isinstance(r["metrics"][0]["value"], float)
    with pytest.raises(FitraError, match="not finished"):
        export.table({"x": tmp_path})


def card(n: int = 6, **more: Any) -> Card:
    items = tuple(
        Item(f"q{i}", f"{{{{ 7*7 }}}} سؤال {i} {{% x %}}\nالإجابة:", (" أ", " ب", " ج"), i % 3, category="علوم")
        for i in range(n)
    )
    return Card("exams_test", "exams/1: letters", more.pop("kind", "choice"), ("accuracy",), items, **more)


def test_exported_tasks_hold_the_prompts_as_data(tmp_path: Path) -> None:
    names, refused = export.lm_eval(
        [card(), Card("written", "p", "generate", ("accuracy",), card().items)], tmp_path / "tasks"
    )
    assert names == ["fitra_exams_test"] and "generate" in refused["written"]
    task = yaml.safe_load((tmp_path / "tasks/fitra_exams_test.yaml").read_text(encoding="utf-8"))
    assert (task["doc_to_text"], task["doc_to_choice"], task["target_delimiter"]) == ("prompt", "choices", "")
    rows = [json.loads(x) for x in Path(task["dataset_kwargs"]["data_files"]["test"]).read_text("utf-8").splitlines()]
    assert [(r["prompt"], tuple(r["choices"]), r["gold"]) for r in rows] == [
        (i.prompt, i.options, i.gold) for i in card().items
    ]
    with pytest.raises(FitraError, match="nothing that lm-eval can ask"):
        export.lm_eval([card(last_token=True)], tmp_path / "none")


def test_export_and_import_come_back_to_the_same_questions(tmp_path: Path) -> None:
    export.lm_eval([card()], tmp_path)
    import_lm_eval.convert(tmp_path / "fitra_exams_test.yaml", tmp_path / "card.yaml")
    (back,), aside = benchmark.cards(benchmark.load(tmp_path / "card.yaml"), tmp_path / "fitra_exams_test.jsonl")
    assert not aside
    assert [(i.id, i.prompt, i.options, i.gold) for i in back.items] == [
        (i.id, i.prompt, i.options, i.gold) for i in card().items
    ]


LETTERS = """
task: my_exams
dataset_path: me/exams
output_type: multiple_choice
description: "أجب:\\n"
doc_to_text: "{{question.strip()}} {a}\\nA. {{A}}\\nB. {{B}}\\nالجواب:"
doc_to_choice: ["A", "B"]
doc_to_target: "{{['A', 'B'].index(answer)}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
metadata: {version: 2.0}
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_letters_become_a_card(tmp_path: Path) -> None:
    out = tmp_path / "card.yaml"
    said = import_lm_eval.convert(written(tmp_path / "t.yaml", LETTERS), out)
    assert said == ["the metric acc_norm is left out"]
    rows = [{"question": f" س{i} ", "A": "نعم {x}", "B": "لا", "answer": "AB"[i % 2]} for i in range(4)]
    data = tmp_path / "d.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (got,), aside = benchmark.cards(benchmark.load(out), data)
    assert not aside and [i.gold for i in got.items] == [0, 1, 0, 1]
    assert got.items[1].prompt == "أجب:\nس1 {a}\nA. نعم {x}\nB. لا\nالجواب:"
    assert got.items[0].options == (" A", " B") and got.version == "2"


def test_texts_and_yes_or_no_become_cards(tmp_path: Path) -> None:
    lists = LETTERS.replace('["A", "B"]', '"{{[A, B]}}"').replace("\"{{['A', 'B'].index(answer)}}\"", "answer")
    made, _ = import_lm_eval.card(written(tmp_path / "l.yaml", lists), gold="letter")
    assert made["data"]["options"] == ["A", "B"] and made["protocols"]["lm_eval"]["scored"] == "text"
    boolq = """
task: boolq-like
output_type: multiple_choice
doc_to_text: "{{passage}}\\nQuestion: {{question}}?\\nAnswer:"
doc_to_choice: ["no", "yes"]
doc_to_target: label
num_fewshot: 2
fewshot_split: train
"""
    out = tmp_path / "b.yaml"
    said = import_lm_eval.convert(written(tmp_path / "t.yaml", boolq), out)
    assert any("column 'split'" in s for s in said)
    rows = [{"passage": "p{0}", "question": f"q{i}", "label": i % 2, "split": "train" if i < 3 else "test"}
            for i in range(6)]  # fmt: skip
    data = tmp_path / "d.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (got,), aside = benchmark.cards(benchmark.load(out), data)
    assert not aside and got.items[0].options == (" yes", " no") and [i.gold for i in got.items] == [0, 1, 0]
    assert got.items[0].prompt == (
        "p{0}\nQuestion: q0?\nAnswer: no\n\np{0}\nQuestion: q1?\nAnswer: yes\n\np{0}\nQuestion: q3?\nAnswer:"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("output_type: multiple_choice", "output_type: generate_until"), "not multiple_choice"),
        (("{{question.strip()}}", "{{question.upper()}}"), "more than the name of a column"),
        (("{{question.strip()}}", "{% for x in y %}{{question}}{% endfor %}"), "more than the name of a column"),
        (('doc_to_choice: ["A", "B"]', "doc_to_choice: !function utils.f"), "doc_to_choice is a function"),
        (('doc_to_choice: ["A", "B"]', "doc_to_choice: 3"), "neither a list of texts"),
        (('"{{[\'A\', \'B\'].index(answer)}}"', '"{{answer|f}}"'), "names no column"),
        (('"{{[\'A\', \'B\'].index(answer)}}"', '"{{[\'B\', \'A\'].index(answer)}}"'), "names no column"),
        (("task: my_exams", "task: my_exams\ninclude: ../../etc/passwd"), "not a file beside it"),
        (("task: my_exams", "task: !!python/object/apply:os.system [x]"), "not readable as YAML"),
        (('["A", "B"]', '["yes", "no"]'), "is 0 yes"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_card_is_refused_by_name(tmp_path: Path, change: tuple[str, str], reason: str) -> None:
    text = LETTERS.replace(*change)
    assert text != LETTERS
    if reason == "is 0 yes":
        text = text.replace("\"{{['A', 'B'].index(answer)}}\"", "label")
    with pytest.raises(FitraError, match=reason):
        import_lm_eval.convert(written(tmp_path / "t.yaml", text), tmp_path / "c.yaml")


def test_lm_evals_own_aexams_becomes_fitras(tmp_path: Path, data: Path) -> None:
    """The YAML of lm-eval 0.4.13, imported, asks the prompts of the card that comes with Fitra."""
    lm_eval = pytest.importorskip("lm_eval")
    theirs = Path(lm_eval.__file__).parent / "tasks/aexams/aexams_Biology.yaml"
    import_lm_eval.convert(theirs, tmp_path / "card.yaml")
    made = benchmark.load(tmp_path / "card.yaml")
    file = data / "eval/exams_ar.parquet"
    (got,), _ = benchmark.cards(made, file, shots=0)
    (ours,), _ = benchmark.cards(benchmark.load("exams"), file, shots=0, protocols=["aexams"])
    want = {i.id: i for i in ours.items if i.category == "Biology"}
    mine = {i.id: i for i in got.items if i.id in want}
    assert len(want) > 10 and {k: (i.prompt, i.options, i.gold) for k, i in mine.items()} == {
        k: (i.prompt, i.options, i.gold) for k, i in want.items()
    }


def test_the_commands(tmp_path: Path, data: Path) -> None:
    run = CliRunner()
    exams = str(data / "eval/exams_ar.parquet")
    done = run.invoke(
        app,
        ["eval", "export", "lm-eval", "--task", "exams:oall", "--data", exams, "--limit", "3", "--out", str(tmp_path)],
    )
    assert done.exit_code == 0 and f"lm_eval --include_path {tmp_path} --tasks fitra_exams_oall" in done.output
    assert len((tmp_path / "fitra_exams_oall.jsonl").read_text(encoding="utf-8").splitlines()) == 3
    done = run.invoke(
        app, ["eval", "import", str(tmp_path / "fitra_exams_oall.yaml"), "--out", str(tmp_path / "c.yaml")]
    )
    assert done.exit_code == 0 and (tmp_path / "c.yaml").is_file(), done.output
    folder = scored(tmp_path / "scores", acva_oall={})
    for kind in ("table", "model-index"):
        done = run.invoke(app, ["eval", "export", kind, f"ours={folder}"])
        assert done.exit_code == 0 and "ours" in done.output, done.output


@pytest.mark.slow
def test_lm_eval_gives_the_same_log_likelihoods(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval 0.4.13 on exported EXAMS and ACVA, 20 items each: every log-likelihood and the accuracy."""
    pytest.importorskip("lm_eval")
    for name in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model = tiny.write(tmp_path / "model", positions=2048)
    made = []
    for name, protocol in (("exams", "oall"), ("acva", "oall")):
        file = data / f"eval/{name}_ar.parquet"
        made += benchmark.cards(benchmark.load(name), file, shots=1, limit=20, protocols=[protocol])[0]
    names, _ = export.lm_eval(made, tmp_path / "tasks")
    got = simple_evaluate(
        model=HFLM(pretrained=str(model), device="cpu", dtype="float32", batch_size=8),
        tasks=names,
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
        bootstrap_iters=0,
    )
    m = lm.load(model, device="cpu")
    for c, name in zip(made, names, strict=True):
        samples = {s["doc"]["id"]: s for s in got["samples"][name]}
        assert len(samples) == len(c.items) == 20
        right = 0
        for item in c.items:
            want = [s.logprob for s in lm.score(m, [(item.prompt, o) for o in item.options])]
            theirs = [r[0] for r in samples[item.id]["filtered_resps"]]
            assert samples[item.id]["arguments"][0] == (item.prompt, item.options[0])
            assert theirs == pytest.approx(want, abs=1e-4)
            right += want.index(max(want)) == item.gold
        assert got["results"][name]["acc,none"] == pytest.approx(right / 20)
