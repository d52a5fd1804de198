"""Scores for a model card, and tasks for lm-eval.

table({"ours": Path("scores")})         # Markdown
model_index({"ours": Path("scores")})   # YAML for the head of a Hugging Face model card
lm_eval(cards, Path("tasks"))           # what `lm_eval --include_path tasks --tasks fitra_acva_oall` asks
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fitra.artifacts import licence_of, write_text
from fitra.errors import FitraError
from fitra.evaluate import benchmark
from fitra.evaluate.card import Card
from fitra.evaluate.compare import scores
from fitra.evaluate.report import WHOLE
from fitra.page import plain

CLASSES = {"A": "permissive", "B": "share-alike", "C": "non-commercial", "D": "unknown"}
METRICS = {"accuracy": "acc"}  # of lm-eval, where it means the same


def table(folders: Mapping[str, Path], parts: bool = False) -> str:
    """A Markdown table of the tasks' own scores (with `parts` of everything in scores.json), one column a model, each
    with its 95 % interval, as published and, where they differ, cleaned; protocols, warnings and licences below.

    Raises FitraError for a folder that is no finished evaluation.
    """
    held = {name: scores(folder) for name, folder in folders.items()}
    keys = [k for k in dict.fromkeys(k for s in held.values() for k in s) if parts or "/" not in k]
    out = [
        "| task | metric | n | " + " | ".join(map(_cell, held)) + " |",
        "|---|---|--:|" + "--:|" * len(held),
    ]
    for key in keys:
        there = [s[key] for s in held.values() if key in s]
        n = "/".join(sorted({f"{s['n']:,}" for s in there}))
        columns = " | ".join(_score(s.get(key)) for s in held.values())
        out.append(f"| {_cell(key)} | {_cell(there[0]['metric'])} | {n} | {columns} |")
    out += ["", "95 % intervals in brackets; *cleaned*: without questions known to be defective.", ""]
    for key in keys:
        if "/" in key:
            continue
        there = [s[key] for s in held.values() if key in s]
        said = list(dict.fromkeys([s["protocol"] for s in there] + [w for s in there for w in s.get("warnings", [])]))
        out.append(f"- {_cell(key)}: {'. '.join(map(_cell, said))}.")
    out += ["", *(f"{_cell(line)}  " for line in licences(folders, keys))]
    return "\n".join(out).rstrip() + "\n"


def model_index(folders: Mapping[str, Path]) -> str:
    """The `model-index` of a Hugging Face model card, with the licences as comments; one entry a model.

    Raises FitraError for a folder that is no finished evaluation.
    """
    models = []
    for name, folder in folders.items():
        results: list[dict[str, Any]] = []
        for key, s in scores(folder).items():
            task = key.partition("/")[0]
            metric = {
                "type": s["metric"],
                "value": round(s["value"], 5),
                "name": f"{s['metric']}, 95 % interval {_number(s['ci_low'], s['metric'])} to "
                f"{_number(s['ci_high'], s['metric'])}, n {s['n']}",
                "verified": False,
            }
            kind = "text-generation"
            results.append(
                {
                    "task": {"type": kind, "name": plain(s["protocol"])},
                    "dataset": {"type": task, "name": plain(key)},
                    "metrics": [metric],
                }
            )
        models.append({"name": plain(name), "results": results})
    keys = [k for f in folders.values() for k in scores(f)]
    head = "".join(f"# {' '.join(plain(line).split())}\n" for line in licences(folders, keys))
    return head + yaml.safe_dump({"model-index": models}, allow_unicode=True, sort_keys=False, width=1000)


def licences(folders: Mapping[str, Path], keys: Sequence[str]) -> list[str]:
    """Lines on the licence classes of the models and of the benchmarks that are known by name."""
    out = []
    for name, folder in folders.items():
        c = licence_of(folder)
        out.append(
            f"{name}: a model of licence class {c} ({CLASSES.get(c, 'unknown')}); scores say nothing of its use."
        )
    names = sorted(benchmark.names(), key=len, reverse=True)  # mmlu_ar_oall is of mmlu_ar, not of a benchmark 'mmlu'
    tasks = [k.partition("/")[0] for k in keys]
    known = dict.fromkeys(n for t in tasks if (n := next((n for n in names if f"{t}_".startswith(f"{n}_")), "")))
    for n in known:
        card = benchmark.load(n)
        out.append(f"{card.title}: {card.licence} (class {card.licence_class}).")
    return out


def _cell(text: object) -> str:
    """Text in a Markdown table: no cell, tag or link can come of it."""
    flat = " ".join(plain(text).split())
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", flat.replace("&", "&amp;").replace("<", "&lt;"))


def _number(value: float, metric: str) -> str:
    return f"{value:.3f}" if metric in WHOLE or abs(value) > 1.5 else f"{100 * value:.1f}"


def _score(s: Mapping[str, Any] | None) -> str:
    if s is None:
        return "–"
    value, low, high = (_number(s[k], s["metric"]) for k in ("value", "ci_low", "ci_high"))
    text = f"{value} [{low}, {high}]"
    clean = s.get("cleaned")
    if clean and clean["n"] != s["n"]:
        text += f"; cleaned {_number(clean['value'], s['metric'])}"
    return text


def lm_eval(cards: Sequence[Card], out: Path) -> tuple[list[str], dict[str, str]]:
    """Write cards as lm-eval tasks: NAME.yaml and NAME.jsonl for each; (names of the tasks, {task: why not}).

    Prompts stand in the data as they are, so no template is run over them and lm-eval asks the same characters; options
    bring their own white space. lm-eval's `acc` is then Fitra's accuracy; other metrics are not written. Tasks whose
    answers are written, texts, and those that compare last tokens alone are not exported. The YAML names its data by
    absolute path: that is what lm-eval resolves from wherever it is started.
    """
    out = Path(out).resolve()
    names, refused = [], {}
    for card in cards:
        why = _refused(card)
        if why:
            refused[card.task] = why
            continue
        name = "fitra_" + re.sub(r"\W", "_", card.task)
        rows = [
            {"id": i.id, "category": i.category, "prompt": i.prompt, "choices": list(i.options), "gold": i.gold}
            for i in card.items
        ]
        write_text(out / f"{name}.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
        acc = "acc_bytes" if card.per_byte else METRICS["accuracy"]
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(out / f"{name}.jsonl")}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "prompt",  # names of columns, not templates
            "doc_to_choice": "choices",
            "doc_to_target": "gold",
            "target_delimiter": "",
            "num_fewshot": 0,  # worked examples are in the prompt
            "metric_list": [{"metric": acc, "aggregation": "mean", "higher_is_better": True}],
            "metadata": {"version": card.version, "protocol": card.protocol},
        }
        write_text(out / f"{name}.yaml", yaml.safe_dump(task, allow_unicode=True, sort_keys=False))
        names.append(name)
    if not names:
        why = "; ".join(f"{k}: {v}" for k, v in refused.items()) or "no card"
        raise FitraError(f"nothing that lm-eval can ask in this way ({why}).", "Choose tasks that compare options.")
    return names, refused


def _refused(card: Card) -> str:
    if card.kind not in ("choice", "preference"):
        return f"of kind '{card.kind}', not a choice among options"
    if card.last_token:
        return "compares the last token of each option alone, which lm-eval does not"
    if card.chat:
        return "goes through the chat template: give lm-eval --apply_chat_template yourself"
    return ""
