"""Parity with lm-eval 0.4.13, which is a yardstick here and nothing else: its own task files on local rows."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest
from eval_rows import ROWS, arc, boolq, xquad

from fitra.evaluate.benchmark import cards, load
from fitra.evaluate.card import Card

lm_eval = pytest.importorskip("lm_eval")
TASKS = Path(lm_eval.__file__).parent / "tasks"
HUB = load("arabicmmlu").data.aliases  # our columns: those at MBZUAI/ArabicMMLU
OALL = "arabic_leaderboard_complete/arabic_leaderboard"


class Docs(list[dict[str, Any]]):
    """As much of a data set as its `process_docs` needs."""

    def map(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Docs:
        return Docs({**d, **change(d)} for d in self)


def utils(folder: str) -> ModuleType:
    path = TASKS / folder / "utils.py"
    spec = importlib.util.spec_from_file_location("theirs", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def acva_doc(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "answer": "صح" if row["label"] else "خطأ"}


def arabicmmlu_doc(row: dict[str, Any]) -> dict[str, Any]:
    return {HUB.get(k, k): "" if v is None else v for k, v in row.items()}


def mt_doc(row: dict[str, Any]) -> dict[str, Any]:
    kept = {"query": row["question"], **{f"sol{n}": row[k] for n, k in enumerate("ABCD", 1)}}
    return {**kept, "label": str("ABCD".index(row["answer"]))}


def rows_of(data: Path, name: str, split: str = "test") -> list[dict[str, Any]]:
    rows = pq.read_table(data / f"eval/{name}.parquet").to_pylist()
    return [r for r in rows if r["split"] == split]


@pytest.mark.parametrize(
    ("file", "card", "protocol", "folder", "doc"),
    [
        ("acva_ar", "acva", "oall", f"{OALL}_avca", acva_doc),
        ("exams_ar", "exams", "oall", f"{OALL}_arabic_exams", dict),
        ("mmlu_ar", "mmlu_ar", "oall", f"{OALL}_arabic_mmlu", dict),
        ("mmlu_ar", "mmlu_ar", "mt", f"{OALL}_arabic_mt_mmlu", mt_doc),
    ],
)
def test_every_prompt_equals_that_of_oall(
    data: Path, file: str, card: str, protocol: str, folder: str, doc: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    (ours,), aside = cards(load(card), data / f"eval/{file}.parquet", 0, protocols=(protocol,))
    theirs = utils(folder).process_docs(Docs(doc(r) for r in rows_of(data, file)))
    want = sorted((d["query"], tuple(" " + c for c in d["choices"]), d["gold"]) for d in theirs)
    assert sorted((i.prompt, i.options, i.gold) for i in ours.items) == want and not aside and len(want) > 200


def test_every_prompt_of_arabicmmlu_equals_theirs(data: Path) -> None:
    path = data / "eval/arabicmmlu_subset_ar.parquet"
    (ours, koto), aside = cards(load("arabicmmlu"), path, protocols=("lm_eval", "koto_en_latin"))
    theirs = utils("arabicmmlu")
    docs = {r["id"]: arabicmmlu_doc(r) for r in pq.read_table(path).to_pylist() if r["is_few_shot"] == "0"}
    assert len(ours.items) == len(docs) == 2487 and not aside
    for mine, also in zip(ours.items, koto.items, strict=True):
        doc = docs[mine.id]
        assert mine.prompt == theirs.doc_to_text(doc) and also.prompt == mine.prompt + " "
        assert mine.options == tuple(" " + c for c in theirs.doc_to_choice(doc))
        assert doc["Answer Key"] == mine.options[mine.gold].strip()


def test_boolq_arc_and_xquad_equal_theirs(tmp_path: Path) -> None:
    def ours(name: str, protocol: str) -> Any:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(json.dumps(r) for r in ROWS[name]()), encoding="utf-8")
        return cards(load(name), path, protocols=(protocol,))[0][0].items[0]

    (doc,) = utils(f"{OALL}_arabic_mt_boolq").process_docs(Docs(boolq()))
    assert (ours("boolq_ar", "oall").prompt, doc["gold"]) == (doc["query"], ours("boolq_ar", "oall").gold)
    row = {k: v for k, v in arc()[0].items() if v}
    (doc,) = utils(f"{OALL}_arabic_mt_arc_easy").process_docs(Docs([row]))
    mine = ours("arc_ar", "oall")
    assert (mine.prompt, list(mine.options)) == (doc["query"], [" " + c for c in doc["choices"]])
    for lang in ("ar", "en"):
        line = (TASKS / f"xquad/xquad_{lang}.yaml").read_text(encoding="utf-8").split('doc_to_text: "')[1].split('"')[0]
        want = line.replace("\\n", "\n")
        for field in ("context", "question"):
            want = want.replace(f"{{{{{field}}}}}", xquad()[0][f"{field}_{lang}"])
        assert ours(f"xquad_{lang}", "lm_eval").prompt == want


def theirs_on(
    tmp_path: Path, model: Any, name: str, config: str, splits: dict[str, list[dict[str, Any]]], shots: int
) -> dict[str, Any]:
    """lm-eval's own task file on local rows, without the network."""
    from lm_eval.tasks import TaskManager

    folder = tmp_path / f"{name}{shots}"
    folder.mkdir()
    files = {}
    for split, rows in splits.items():
        files[split] = str(folder / f"{split}.jsonl")
        text = "\n".join(json.dumps(r, ensure_ascii=False) for r in rows)
        Path(files[split]).write_text(text, encoding="utf-8")
    (folder / "local.yaml").write_text(
        f"include: {TASKS / config}\ntask: {name}\ndataset_path: json\ndataset_name: null\n"
        f"dataset_kwargs: {json.dumps({'data_files': files})}\n",
        encoding="utf-8",
    )
    got = lm_eval.simple_evaluate(
        model=model, tasks=[name], num_fewshot=shots, bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
    )  # fmt: skip
    return {"samples": got["samples"][name], "acc": got["results"][name]["acc,none"]}


def agree(ours: Card, ids: set[str], theirs: dict[str, Any], ident: Callable[[dict[str, Any]], str], m: Any) -> None:
    """Same prompts, log-likelihoods within 1e-4, the same answer to every question, the same accuracy."""
    from fitra import lm

    items = {i.id: i for i in ours.items if i.id in ids}
    assert len(theirs["samples"]) == len(items)
    pairs = [(i.prompt, o) for i in items.values() for o in i.options]
    scores = iter(lm.score(m, pairs))
    mine = {i.id: [next(scores).logprob for _ in i.options] for i in items.values()}
    right = 0
    for s in theirs["samples"]:
        item = items[ident(s["doc"])]
        assert s["arguments"][0][0] == item.prompt
        lls = [r[0] for r in s["filtered_resps"]]
        assert lls == pytest.approx(mine[item.id], abs=1e-4)
        best = max(range(len(lls)), key=lambda k: (mine[item.id][k], -k))
        assert best == max(range(len(lls)), key=lambda k: (lls[k], -k))
        right += best == item.gold
    assert right / len(items) == pytest.approx(theirs["acc"])


@pytest.mark.slow
def test_acva_exams_and_arabicmmlu_equal_lm_eval_to_the_last_item(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import tiny_model as tiny
    from lm_eval.models.huggingface import HFLM

    from fitra import lm

    folder = tiny.write(tmp_path / "model", positions=8192)  # so that nothing is cut
    model = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=8)
    m = lm.load(folder, device="cpu")

    path = data / "eval/acva_ar.parquet"
    for topic, shots in (("Algeria", 0), ("Arabic Math", 3)):
        splits = {
            theirs: [acva_doc(r) for r in rows_of(data, "acva_ar", split) if r["category"] == topic]
            for theirs, split in (("validation", "dev"), ("test", "test"))
        }
        config = f"{OALL}_avca/arabic_leaderboard_acva_Algeria.yaml"
        (card,), _ = cards(load("acva"), path, shots, protocols=("oall",))
        got = theirs_on(tmp_path, model, f"acva_{shots}", config, splits, shots)
        agree(card, {r["id"] for r in splits["test"]}, got, lambda d: d["id"], m)

    path = data / "eval/exams_ar.parquet"
    splits = {
        s: [r for r in rows_of(data, "exams_ar", s) if r["subject"] == "Islamic Studies"] for s in ("dev", "test")
    }
    for shots in (0, 5):
        (card,), _ = cards(load("exams"), path, shots, protocols=("aexams",))
        got = theirs_on(tmp_path, model, f"aexams_{shots}", "aexams/aexams_IslamicStudies.yaml", splits, shots)
        agree(card, {r["id"] for r in splits["test"]}, got, lambda d: d["id"], m)

    path = data / "eval/arabicmmlu_subset_ar.parquet"
    rows = [r for r in pq.read_table(path).to_pylist() if r["subject"] == "Management"]
    passages = [r for r in pq.read_table(path).to_pylist() if r["context"]][:20]
    splits = {
        "dev": [arabicmmlu_doc(r) for r in rows if r["is_few_shot"] == "1"],
        "test": [arabicmmlu_doc(r) for r in rows if r["is_few_shot"] == "0"],
    }
    for shots, asked in ((0, [arabicmmlu_doc(r) for r in passages]), (3, splits["test"])):
        (card,), _ = cards(load("arabicmmlu"), path, shots, protocols=("lm_eval",))
        config = "arabicmmlu/arabicmmlu_management_university.yaml"
        got = theirs_on(tmp_path, model, f"arabicmmlu_{shots}", config, {**splits, "test": asked}, shots)
        agree(card, {d["ID"] for d in asked}, got, lambda d: d["ID"], m)

    path = data / "eval/mmlu_en.parquet"
    splits = {
        s: [
            {**r, "choices": [r[k] for k in "ABCD"], "answer": "ABCD".index(r["answer"])}
            for r in rows_of(data, "mmlu_en", s)
            if r["subject"] == "abstract_algebra"
        ]
        for s in ("dev", "test")
    }
    (card,), _ = cards(load("mmlu_en"), path, 5, protocols=("lm_eval",))
    got = theirs_on(tmp_path, model, "mmlu_en", "mmlu/default/mmlu_abstract_algebra.yaml", splits, 5)
    ids = {f"abstract_algebra-{r['idx']}" for r in splits["test"]}
    agree(card, ids, got, lambda d: f"abstract_algebra-{d['idx']}", m)
