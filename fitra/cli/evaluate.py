"""Commands that measure models and show what came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fitra.cli.rooms import Out, Seed, Sets, config


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    sub = typer.Typer(help="Evaluate models.", no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(sub, name="eval")
    sub.command("run", epilog="Example: fitra eval run chat/model --out scores --set acva=acva.parquet")(eval_run)
    sub.command("compare", epilog="Example: fitra eval compare scores-a scores-b")(eval_compare)


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
