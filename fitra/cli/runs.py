"""Commands for whole runs: run, status, doctor, report, world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fitra.errors import FitraError

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe (YAML).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Sets = Annotated[list[str], typer.Option("--set", help="Change a key: --set corpus.min_words=20", metavar="KEY=VALUE")]


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    app.command(epilog="Example: fitra run recipes/quickstart.yaml --out runs/quickstart")(run)
    app.command(epilog="Example: fitra status runs/quickstart")(status)
    app.command(epilog="Example: fitra doctor recipes/quickstart.yaml")(doctor)
    app.command(epilog="Example: fitra report runs/quickstart")(report)
    app.command(epilog="Example: fitra world --out runs/world --facts 60 --documents 1500")(world)


def _out(given: Path | None, named: str | None, name: str) -> Path:
    return given or Path(named or f"runs/{name}")


def run(
    recipe: RecipePath,
    only: Annotated[str | None, typer.Option(help="Make this stage only (a room's name means all its arms).")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="Make this stage and all after it.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the stages and their state; do nothing.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the run (default: the recipe's 'out').")] = None,
    set_: Sets = [],
    as_json: Json = False,
) -> None:
    """Run a recipe; what is finished already is skipped."""
    from fitra import recipe as recipes
    from fitra import run as runs

    plan = recipes.load(recipe, set_)
    text = recipe.read_text(encoding="utf-8")
    folder = _out(out, plan.out, plan.name)
    if dry_run:
        _show(runs.dry_run(plan, folder, _write_world), as_json)
        return
    result = runs.run(plan, text, folder, only=only, start=from_, write_world=_write_world, write_report=_write_report)
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
    if result["quarantined"]:
        raise typer.Exit(3)


def _write_world(cfg: Any, seed: int, out: Path) -> Any:
    from fitra import world as small_world

    return small_world.write(cfg, seed, out)


def _write_report(run_json: Path, out: Path) -> Path:
    from fitra import report as reports

    return reports.write(run_json, out)


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        rest = ", ".join(f"{k} {v}" for k, v in row.items() if k not in ("stage", "state", "reads"))
        reads = f"reads {', '.join(row['reads'])}" if row["reads"] else ""
        print(f"{row['state']:<9} {row['stage']:<18} {rest:<22} {reads}".rstrip())


def status(out: Annotated[Path, typer.Argument(help="Folder of a run.")], as_json: Json = False) -> None:
    """Where a run stands: stages, seconds, counts."""
    from fitra import run as runs

    record = runs.status(out)
    if as_json:
        print(json.dumps(record, ensure_ascii=False))
        return
    print(f"{record['name']}: {len(record['stages'])} stages finished")
    for name, stage in record["stages"].items():
        counts = ", ".join(f"{k} {v:,}" for k, v in list(stage["counts"].items())[:5])
        print(f"  {name:<22} {stage['seconds']:>8.1f} s  {counts}")
    for name in record["begun"]:
        print(f"  {name:<22}    begun, not finished")


def doctor(
    recipe: Annotated[Path | None, typer.Argument(help="Also check what this recipe needs.")] = None,
    out: Annotated[Path, typer.Option(help="Folder that must be writable.")] = Path("runs"),
    set_: Sets = [],
    as_json: Json = False,
) -> None:
    """Is this machine fit: versions, cores, memory, GPU, disk, endpoints."""
    from fitra import recipe as recipes
    from fitra.run import doctor as doctors

    plan = recipes.load(recipe, set_) if recipe else None
    found = doctors.check(Path(plan.out) if plan and plan.out else out, plan)
    if as_json:
        print(json.dumps([{"what": w, "fine": ok, "detail": d} for w, ok, d in found], ensure_ascii=False))
    else:
        for what, ok, detail in found:
            print(f"{'ok ' if ok else 'BAD'}  {what:<14} {detail}")
    if not all(ok for _, ok, _ in found):
        raise typer.Exit(1)


def report(
    out: Annotated[Path, typer.Argument(help="Folder of a run.")],
    to: Annotated[Path | None, typer.Option(help="HTML file to write (default: OUT/report.html).")] = None,
) -> None:
    """Write the report page of a run again."""
    if not (out / "run.json").is_file():
        raise FitraError(f"{out}: no run.json here.", "Give the folder that `fitra run` wrote to.")
    print(_write_report(out / "run.json", to or out / "report.html"))


def world(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    facts: Annotated[int, typer.Option(help="How many facts (4 to 300).")] = 60,
    documents: Annotated[int, typer.Option(help="How many documents.")] = 1500,
    seed: int = 7,
) -> None:
    """Write the small bilingual world with its ground truth."""
    from fitra.recipe import World

    try:
        cfg = World(facts=facts, documents=documents)
    except ValueError as e:
        raise FitraError(f"fitra world: {str(e).splitlines()[2].strip()}.", "See fitra world --help.") from None
    _write_world(cfg, seed, out)
    print(out)
