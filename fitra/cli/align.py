"""`fitra align`: rewrite a corpus by a code of conduct, plan it first, look at what became of a document."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fitra.cli.rooms import Sets, Stage, config, done


def add_to(app: typer.Typer) -> typer.Typer:
    """Register these commands; returns the group, for those of other files."""
    group = typer.Typer(help="Rewrite a corpus by a code of conduct.", no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(group, name="align")
    group.command(
        "run",
        epilog="Example: fitra align run --corpus clean --out aligned --dry-run "
        "--set expert.endpoints.base_url=http://localhost:8000/v1 --set expert.endpoints.model=m",
    )(run)
    group.command("show", epilog="Example: fitra align show aligned 3f2a90c1")(show)
    return group


def run(
    corpus: Stage,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write.")] = None,
    ledger: Annotated[Path | None, typer.Option(help="Folder of paid answers, shared between runs.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it would cost; ask nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The plan as JSON.")] = False,
    set_: Sets = [],
) -> None:
    """Rewrite documents by the policy; every document ends in one state with a reason."""
    from fitra import align
    from fitra.align import plan
    from fitra.errors import FitraError
    from fitra.recipe import Align

    cfg = config(Align, set_)
    if dry_run:
        made = plan.plan(cfg, corpus, ledger or (out / "ledger" if out else None))
        print(json.dumps(made, ensure_ascii=False, indent=2) if as_json else plan_table(made))
        return
    if out is None:
        raise FitraError("--out is missing.", "Say where to write, or plan with --dry-run.")
    done(align.align(cfg, corpus, out, ledger=ledger), out)


def plan_table(made: dict[str, Any]) -> str:
    """A plan for reading."""
    out = [f"{made['documents']:,} documents, of which {made['sampled']:,} were looked at"]
    for tier, t in made["tiers"].items():
        out.append(f"  {tier:<10} {_range(t['documents'])} documents")
        if "requests" in t:
            out.append(f"             {_range(t['requests'])} requests to {t['model']} ({t['basis']})")
            out.append(
                f"             {_range(t['prompt_tokens'])} tokens read, of these {_range(t['cached_tokens'])} the "
                f"same in every request; {_range(t['completion_tokens'])} written"
            )
            for name in ("money", "hours", "gpu_hours"):
                out.append(f"             {name.replace('_', ' ')}: {_range(t[name])}")
    for name in ("prompt_tokens", "completion_tokens", "money", "hours", "gpu_hours"):
        if made[name] is not None:
            out.append(f"in all {name.replace('_', ' ')}: {_range(made[name])}")
    out += [f"unknown: {u}" for u in dict.fromkeys(made["unknown"])]
    return "\n".join(out)


def _range(of: list[float] | None) -> str:
    if of is None:
        return "unknown"
    low, high = (f"{x:,.0f}" if x >= 100 or x == int(x) else f"{x:,.3g}" for x in of)
    return low if low == high else f"{low} to {high}"


def show(
    stage: Annotated[Path, typer.Argument(help="Output folder of `align run`.")],
    doc_id: Annotated[str, typer.Argument(metavar="ID", help="Id of a document, or how it begins.")],
    as_json: Annotated[bool, typer.Option("--json", help="The row as JSON.")] = False,
    plain: Annotated[bool, typer.Option(help="Marks instead of colours.")] = False,
) -> None:
    """What became of a document, why, and what changed; safe for terminals whatever the corpus holds."""
    from fitra.align import show as room

    row = room.find(stage, doc_id)
    if as_json:
        print(json.dumps(row, ensure_ascii=True))
    else:
        print("\n".join(room.lines(row, colour=not plain and sys.stdout.isatty())))
