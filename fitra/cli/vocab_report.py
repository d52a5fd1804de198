"""The command that shows what a vocabulary saves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fitra.errors import FitraError

EXAMPLE = "Example: fitra vocab report v --out report.html --compare jais=tokenizers/jais"


def add_to(app: typer.Typer) -> None:
    """Register the command in the group `vocab`, which is made where it is not there."""
    sub = next((g.typer_instance for g in app.registered_groups if g.name == "vocab"), None)
    if sub is None:
        sub = typer.Typer(help="Expand a base model's vocabulary.", no_args_is_help=True, rich_markup_mode=None)
        app.add_typer(sub, name="vocab")
    sub.command("report", epilog=EXAMPLE)(report)


def report(
    stage: Annotated[Path, typer.Argument(help="Output folder of `vocab expand`.")],
    out: Annotated[Path | None, typer.Option(help="The page to write (default: report.html in the folder).")] = None,
    base: Annotated[Path | None, typer.Option(help="The base's folder, where it was moved.")] = None,
    corpus: Annotated[list[Path], typer.Option(help="The corpus, where it was moved, or another one.")] = [],
    compare: Annotated[
        list[str], typer.Option(help="Another tokenizer to measure beside.", metavar="NAME=FOLDER")
    ] = [],
    documents: Annotated[int, typer.Option(help="Documents per language that are read.", min=1)] = 2000,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Write one self-contained page about a vocabulary: what it saves by source, its tokens, samples to read."""
    from fitra.vocab import report as page
    from fitra.vocab import report_figures

    others = {}
    for item in compare:
        name, sep, folder = item.partition("=")
        if not sep or not name or name in ("base", "new"):
            raise FitraError(f"--compare {item}: expected NAME=FOLDER.", "For example --compare jais=tokenizers/jais")
        others[name] = Path(folder)
    found = report_figures.figures(stage, base, corpus, others, documents)
    written = page.write(stage, out or stage / "report.html", found)
    print(json.dumps(found, ensure_ascii=False, indent=2) if as_json else written)
