"""The command that expands a vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fitra.cli.rooms import Out, Seed, Sets, config, done

EXAMPLE = "Example: fitra vocab expand --base models/base --corpus clean --add 12800 --out v"


def add_to(app: typer.Typer) -> None:
    """Register the command in the group `vocab`."""
    sub = typer.Typer(help="Expand a base model's vocabulary.", no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(sub, name="vocab")
    sub.command("expand", epilog=EXAMPLE)(expand)


def expand(
    base: Annotated[Path, typer.Option(help="A model folder with a BPE tokenizer.")],
    corpus: Annotated[list[Path], typer.Option(help="Output of `corpus clean` or `align run`; repeatable.")],
    out: Out,
    add: Annotated[int | None, typer.Option(help="How many tokens (default 1024).", min=0)] = None,
    method: Annotated[str | None, typer.Option(help="continued, merged, add_tokens or replacement.")] = None,
    compare: Annotated[list[str], typer.Option(help="Another method to measure beside it; repeatable.")] = [],
    init: Annotated[str | None, typer.Option(help="mean, weighted, focus, gaussian or random.")] = None,
    seed: Seed = 7,
    set_: Sets = [],
) -> None:
    """Add Arabic tokens by continued BPE; writes the model, the tokenizer and a fertility table."""
    from fitra import vocab
    from fitra.recipe import Vocab

    given = {"add": add, "method": method, "init": init, "compare": compare or None}
    cfg = config(Vocab, set_, **{k: v for k, v in given.items() if v is not None})
    done(vocab.expand(cfg, base, corpus, seed, out), out)
