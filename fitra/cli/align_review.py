"""Commands for people who judge rewrites: rows go out to be judged, and come back as edits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fitra.cli.rooms import Out, Sets, Stage, config, done


def add_to(app: typer.Typer) -> None:
    """Register these commands; `align` must be there already."""
    align = next(g.typer_instance for g in app.registered_groups if g.name == "align")
    assert align is not None
    align.command(
        "export-review", epilog="Example: fitra align export-review aligned --out review.jsonl --documents 200"
    )(export_review)
    align.command(
        "import-edits", epilog="Example: fitra align import-edits judged.jsonl --corpus clean --out by-people"
    )(import_edits)


def export_review(
    stage: Annotated[Path, typer.Argument(help="Output folder of `align run`.")],
    out: Annotated[Path, typer.Option("--out", help="File to write: .parquet or .jsonl.")],
    state: Annotated[
        list[str], typer.Option(help="Documents in this state; repeatable (default: all that were tried or refused).")
    ] = [],
    documents: Annotated[int | None, typer.Option(help="At most so many, drawn evenly.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
) -> None:
    """Write documents with their proposed rewrites for people to judge: see docs/human-edits.md for the columns."""
    from fitra.align import human

    n = human.export(stage, out, states=state or human.STATES, documents=documents, seed=seed)
    print(json.dumps({"out": str(out), "documents": n}))


def import_edits(
    edits: Annotated[Path, typer.Argument(help="Judged rows: .parquet or .jsonl.")],
    corpus: Stage,
    out: Out,
    set_: Sets = [],
) -> None:
    """Make an align stage of the judged documents alone: pairs for `align train-worker`.

    Edits that cannot be used (the original changed, another policy, refused by a gate that nobody overruled) are set
    aside in quarantine/ with the reason, and the command exits with 3.
    """
    from fitra import align, policy
    from fitra.align import programme
    from fitra.recipe import Align

    cfg = config(Align, set_, human=str(edits)).model_copy(update={"worker": None, "expert": None, "judge": None})
    held = policy.load(cfg.policy, cfg.packs)
    programme.seed(None, cfg.languages, corpus, out / "judged", 0, (edits, held))
    done(align.align(cfg, out / "judged", out), out)
