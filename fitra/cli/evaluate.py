"""Commands that measure models and show what came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fitra.cli.rooms import Out, Seed, Sets, config, done
from fitra.errors import FitraError


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    sub = typer.Typer(help="Evaluate models.", no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(sub, name="eval")
    sub.command("run", epilog="Example: fitra eval run chat/model --out scores --set acva=acva.parquet")(eval_run)
    sub.command("compare", epilog="Example: fitra eval compare scores-a scores-b")(eval_compare)
    sub.command("report", epilog="Example: fitra eval report base=scores-a ours=scores-b --out report.html")(
        eval_report
    )
    human = typer.Typer(help="Let people judge pairs of answers.", no_args_is_help=True, rich_markup_mode=None)
    sub.add_typer(human, name="human")
    human.command("plan", epilog="Example: fitra eval human plan ours=a.jsonl jais=b.jsonl --out plan")(human_plan)
    human.command("score", epilog="Example: fitra eval human score said.jsonl --key plan/key.jsonl --out human")(
        human_score
    )


def eval_run(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    out: Out,
    world: Annotated[Path | None, typer.Option(help="Folder of the small world, for its probes.")] = None,
    seed: Seed = 7,
    set_: Sets = [],
) -> None:
    """Score a model on the benchmarks in the config."""
    from fitra import evaluate
    from fitra.recipe import Evaluate

    evaluate.evaluate(config(Evaluate, set_), model, seed, out, world=world)
    print((out / "scores.json").read_text(encoding="utf-8"))


def eval_compare(
    a: Annotated[Path, typer.Argument(help="Scores of one model.")],
    b: Annotated[Path, typer.Argument(help="Scores of another.")],
) -> None:
    """Paired differences (b minus a) on the items both have, with confidence intervals."""
    from fitra import evaluate

    print(json.dumps(evaluate.compare(a, b), ensure_ascii=False, indent=2))


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
