"""Commands that measure models and show what came out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from fitra.cli.rooms import Out, Seed, Sets, config, done
from fitra.errors import FitraError


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    sub = typer.Typer(help="Evaluate models.", no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(sub, name="eval")
    sub.command("run", epilog="Example: fitra eval run chat/model --suite arabic --data data/eval --limit 500")(
        eval_run
    )
    sub.command("compare", epilog="Example: fitra eval compare base=scores-a ours=scores-b")(eval_compare)
    sub.command("report", epilog="Example: fitra eval report base=scores-a ours=scores-b --out report.html")(
        eval_report
    )
    sub.command("import", epilog="Example: fitra eval import tasks/boolq.yaml --out boolq-card.yaml")(eval_import)
    export = typer.Typer(help="Scores and tasks for others.", no_args_is_help=True, rich_markup_mode=None)
    sub.add_typer(export, name="export")
    export.command("table", epilog="Example: fitra eval export table ours=scores-a base=scores-b")(export_table)
    export.command("model-index", epilog="Example: fitra eval export model-index ours=scores-a")(export_model_index)
    export.command("lm-eval", epilog="Example: fitra eval export lm-eval --task exams --data data/eval --out tasks")(
        export_lm_eval
    )
    human = typer.Typer(help="Let people judge pairs of answers.", no_args_is_help=True, rich_markup_mode=None)
    sub.add_typer(human, name="human")
    human.command("plan", epilog="Example: fitra eval human plan ours=a.jsonl jais=b.jsonl --out plan")(human_plan)
    human.command("score", epilog="Example: fitra eval human score said.jsonl --key plan/key.jsonl --out human")(
        human_score
    )


def eval_run(
    model: Annotated[
        Path | None, typer.Argument(help="A model folder, a stage folder, or a checkpoint in training.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: scores-MODEL.")] = None,
    suite: Annotated[
        str | None, typer.Option(help="arabic, acegpt, allam, arallama, native-alignment, retention, or a file.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder with the benchmarks' files, or one file; default: $FITRA_DATA.")
    ] = None,
    task: Annotated[
        list[str], typer.Option(help="This task alone: acva, acva:oall, card.yaml:protocol; repeatable.")
    ] = [],
    corpus: Annotated[Path | None, typer.Option(help="Training text to look for the questions in.")] = None,
    limit: Annotated[int | None, typer.Option(help="Questions per benchmark.")] = None,
    shots: Annotated[int | None, typer.Option(help="Worked examples; default: as published.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="An OpenAI-compatible server, like http://localhost:8000/v1.")
    ] = None,
    name: Annotated[str | None, typer.Option("--model", help="The endpoint's model.")] = None,
    key: Annotated[str, typer.Option(help="Environment variable with the endpoint's key.")] = "OPENAI_API_KEY",
    tokenizer: Annotated[Path | None, typer.Option(help="The endpoint's tokenizer: ids are sent, not text.")] = None,
    world: Annotated[Path | None, typer.Option(help="Folder of the small world, for its probes.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail where a file is missing or a task cannot be run.")
    ] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Say what it would take; measure nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of a table.")] = False,
    seed: Seed = 7,
    set_: Sets = [],
) -> None:
    """Score a model, a checkpoint in training or an endpoint on a suite of benchmarks."""
    from fitra import evaluate
    from fitra.errors import FitraError
    from fitra.recipe import Evaluate

    given: dict[str, Any] = {"suite": suite, "limit": limit, "shots": shots, "strict": strict or None}
    given |= {"data": data and str(data), "corpus": corpus and str(corpus), "tokenizer": tokenizer and str(tokenizer)}
    given = {k: v for k, v in given.items() if v is not None} | ({"tasks": task} if task else {})
    if endpoint or name:
        if not (endpoint and name):
            raise FitraError("an endpoint needs its address and its model.", "Give --endpoint URL --model NAME.")
        given["endpoint"] = {"base_url": endpoint, "model": name, "api_key": os.environ.get(key) or "none"}
    cfg = config(Evaluate, set_, **given)
    to = out or Path(f"scores-{_plain(name or (model.name if model else 'model'))}")
    if dry:
        _show_cost(evaluate.dry_run(cfg, model, to, world=world), as_json)
        return
    manifest = evaluate.evaluate(cfg, model, seed, to, world=world)
    if not manifest:  # one of several processes, and not the first
        return
    if as_json:
        print((to / "scores.json").read_text(encoding="utf-8"))
    else:
        _show_scores(json.loads((to / "scores.json").read_text(encoding="utf-8")), manifest, to)


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-.") or "model"


def _show_cost(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(told, ensure_ascii=False, indent=2))
        return
    width = max([len("task"), *(len(t) for t in told["tasks"])])
    print(f"{'task':{width}}  {'items':>8}  {'tokens':>11}  {'passes':>8}  {'written':>9}")
    for name, c in [*told["tasks"].items(), ("total", told["total"])]:
        print(f"{name:{width}}  {c['items']:8,}  {c['tokens']:11,}  {c['passes']:8,}  {c['new_tokens']:9,}")
    for name, reason in told["skipped"].items():
        print(f"{name}: skipped: {reason}")
    for name in told["missing"]:
        print(f"{name}: not in the data folder")
    if told["judged"]:
        print(f"judged sets: {', '.join(told['judged'])}")
    if "seconds_at_most" in told:
        print(f"about {told['seconds_at_most']:,} s at most on this machine, without shared beginnings")


def _show_scores(scores: dict[str, Any], manifest: dict[str, Any], out: Path) -> None:
    """The tasks' own scores; slices and further figures are in the file."""
    top = {k: v for k, v in scores.items() if "/" not in k}
    width = max([len("task"), *map(len, top)])
    print(f"{'task':{width}}  {'score':>9}  {'95 % interval':>19}  {'n':>7}  metric")
    for k, v in top.items():
        print(
            f"{k:{width}}  {v['value']:9.4f}  [{v['ci_low']:8.4f}, {v['ci_high']:8.4f}]"
            f"  {v['n']:7,}  {v['metric']}{' *' if v['warnings'] else ''}"
        )
    if any(v["warnings"] for v in top.values()):
        print("* has warnings: they stand beside the score in scores.json")
    for k, reason in manifest["notes"].get("skipped", {}).items():
        print(f"{k}: skipped: {reason}")
    print(f"everything is in {out}/")


def eval_compare(
    folders: Annotated[list[str], typer.Argument(help="Scores of two models or more.", metavar="[NAME=]FOLDER ...")],
    seed: Seed = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures, of every pair, as JSON.")] = False,
) -> None:
    """Paired differences from the first model on the items both have, with confidence intervals."""
    from fitra import evaluate
    from fitra.evaluate.show import comparison

    given = shown_as(folders)
    found = evaluate.compare_all(list(given.values()), list(given), seed)
    print(json.dumps(found, ensure_ascii=False, indent=2) if as_json else comparison(found))


def named(items: list[str], what: str) -> dict[str, Path]:
    """NAME=PATH arguments; FitraError for one without a name and for a name given twice."""
    found: dict[str, Path] = {}
    for item in items:
        name, sep, path = item.partition("=")
        if not sep or not name or not path or name in found:
            raise FitraError(f"{item}: expected NAME={what}, each name once.", f"For example ours={what.lower()}")
        found[name] = Path(path)
    return found


def human_plan(
    answers: Annotated[list[str], typer.Argument(help="Two models or more and their answers.", metavar="NAME=FILE")],
    out: Out,
    raters: Annotated[int, typer.Option(help="How many judge each pair; one more breaks ties.", min=1)] = 3,
    rater: Annotated[
        list[str], typer.Option(help="Name of a rater, repeatable: three of them judge each pair.", metavar="NAME")
    ] = [],
    questions: Annotated[int | None, typer.Option(help="At most so many, evenly by category.", min=1)] = None,
    seed: Seed = 7,
) -> None:
    """Make the list of pairs to judge, blind and balanced, and its key."""
    from fitra.evaluate import human

    done(human.make(named(answers, "FILE"), out, rater or raters, questions, seed), out)


def human_score(
    records: Annotated[list[Path], typer.Argument(help="Files of judgements, jsonl or parquet.")],
    out: Out,
    key: Annotated[Path | None, typer.Option(help="key.jsonl of the plan, for blind records.")] = None,
    raters: Annotated[int, typer.Option(help="Judgements that make a verdict.", min=1)] = 3,
    k: Annotated[float, typer.Option(help="Elo's K.", min=0.1)] = 32.0,
    seed: Seed = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Majority, agreement, win and loss tables, Elo in both settings, and how the raters did."""
    from fitra.evaluate import human

    manifest = human.score(records, out, key, raters, k, seed)
    found = json.loads((out / "figures.json").read_text(encoding="utf-8"))
    print(json.dumps(found, ensure_ascii=False, indent=2) if as_json else human.text(found))
    done(manifest, out)


def eval_report(
    folders: Annotated[
        list[str],
        typer.Argument(help="Scores of one model or more; the first is compared with.", metavar="[NAME=]FOLDER"),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The page to write (default: report.html in the first folder).")
    ] = None,
    seed: Seed = 7,
) -> None:
    """Write one self-contained page: scores with intervals, differences, categories, bias, items to read."""
    from fitra.evaluate import report

    shown = shown_as(folders)
    print(report.write(shown, out or next(iter(shown.values())) / "report.html", seed))


def shown_as(items: list[str]) -> dict[str, Path]:
    """[NAME=]FOLDER arguments by the name they are shown under: a folder's own, with its parents' where two agree."""
    found: dict[str, Path] = {}
    for item in items:
        name, sep, folder = item.partition("=")
        path = Path(folder if sep else item)
        parts = [p for p in path.resolve().parts if p != "/"]
        if not sep or not name:
            name = next((n for k in range(1, len(parts) + 1) if (n := "/".join(parts[-k:])) not in found), item)
        if name in found:
            raise FitraError(f"{item}: '{name}' is given twice.", "Give each folder a name of its own: NAME=FOLDER.")
        found[name] = path
    return found


Folders = Annotated[list[str], typer.Argument(help="Scores of one model or more.", metavar="[NAME=]FOLDER ...")]


def export_table(
    folders: Folders,
    parts: Annotated[bool, typer.Option("--parts", help="Slices and further metrics too.")] = False,
) -> None:
    """Print a Markdown table for a model card, with intervals, protocols, warnings and licences."""
    from fitra.evaluate import export

    print(export.table(shown_as(folders), parts), end="")


def export_model_index(folders: Folders) -> None:
    """Print the model-index of a Hugging Face model card."""
    from fitra.evaluate import export

    print(export.model_index(shown_as(folders)), end="")


def export_lm_eval(
    out: Out,
    task: Annotated[list[str], typer.Option(help="acva, exams:oall, card.yaml:protocol; repeatable.")],
    data: Annotated[Path | None, typer.Option(help="Folder with the benchmarks' files, or one file.")] = None,
    limit: Annotated[int | None, typer.Option(help="Questions per benchmark.", min=1)] = None,
    shots: Annotated[int | None, typer.Option(help="Worked examples; default: as published.", min=0)] = None,
) -> None:
    """Write tasks as lm-eval YAML with their data, so that lm-eval asks the very same prompts."""
    from fitra.evaluate import export, suite
    from fitra.recipe import Evaluate

    given = {"tasks": task, "data": data and str(data), "limit": limit, "shots": shots, "judged": False}
    plan = suite.plan(config(Evaluate, [], **{k: v for k, v in given.items() if v is not None}), None)
    made = [part.make(False) for part in plan.parts]
    names, refused = export.lm_eval([c for cards, _ in made for c in cards], out)
    for name, why in refused.items():
        print(f"{name}: not exported: {why}")
    print(f"lm_eval --include_path {out} --tasks {','.join(names)}")
    if any(aside for _, aside in made):
        raise typer.Exit(3)


def eval_import(
    file: Annotated[Path, typer.Argument(help="YAML file of an lm-eval task of multiple choice.")],
    out: Annotated[Path, typer.Option(help="The task card to write.")],
    gold: Annotated[
        str | None, typer.Option(help="How the answer is written: letter, index, number, text or yes_no.")
    ] = None,
    options: Annotated[str, typer.Option(help="Columns with the options' texts, if it does not say.")] = "",
) -> None:
    """Make a task card of a simple lm-eval task."""
    from fitra.evaluate import import_lm_eval

    for line in import_lm_eval.convert(file, out, gold, [x.strip() for x in options.split(",") if x.strip()]):
        print(f"note: {line}")
    print(f"fitra eval run MODEL --task {out} --data FILE")
