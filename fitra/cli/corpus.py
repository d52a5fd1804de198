"""Commands of the corpus room."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fitra.cli.rooms import Out, Sets, config, done

Folder = Annotated[Path, typer.Argument(help="Output folder of `corpus clean`.")]


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    sub = typer.Typer(help="Clean, deduplicate and label a corpus.", no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(sub, name="corpus")
    sub.command("clean", epilog="Example: fitra corpus clean 'crawl/*.warc.gz' s3://bucket/news --out clean")(clean)
    sub.command("explain", epilog="Example: fitra corpus explain clean doc-17")(explain)
    sub.command(
        "decontaminate",
        epilog="Example: fitra corpus decontaminate aligned --benchmark exams.parquet:question,A,B,C,D --out clean2",
    )(decontaminate)
    sub.command("report", epilog="Example: fitra corpus report clean")(report)
    sub.command("takedown", epilog="Example: fitra corpus takedown clean doc-17 --reason 'author asked'")(takedown)
    sub.command("trace", epilog="Example: fitra corpus trace runs/mine doc-17")(trace)


def clean(
    inputs: Annotated[list[str], typer.Argument(help="Files, folders or globs; local, s3:// or hf://.")],
    out: Out,
    text: Annotated[str, typer.Option(help="Column with the text.")] = "text",
    licence_class: Annotated[str, typer.Option(help="A permissive, B share-alike, C non-commercial, D unknown.")] = "D",
    workers: Annotated[int | None, typer.Option(help="Worker processes; without it one for each core.")] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Work on the Ray cluster that RAY_ADDRESS names.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the work and how long it would take.")] = False,
    set_: Sets = [],
) -> None:
    """Clean, deduplicate and label documents; every removed one is kept aside with its reason."""
    from fitra import corpus
    from fitra.recipe import Corpus

    sources = [{"path": p, "text": text, "licence_class": licence_class} for p in inputs]
    engine = {"kind": "ray" if ray else "local", "workers": workers}
    cfg = config(Corpus, set_, inputs=sources, engine=engine)
    if dry_run:
        print(json.dumps(corpus.estimate(cfg), ensure_ascii=False, indent=2))
        return
    manifest = corpus.clean(cfg, out)
    print(f"look at it: fitra corpus report {out}", file=sys.stderr)
    done(manifest, out)


def decontaminate(
    inputs: Annotated[list[Path], typer.Argument(help="Finished stages or files with documents.")],
    benchmark: Annotated[list[str], typer.Option(help="FILE:COLUMN,COLUMN of an evaluation set; repeatable.")],
    out: Out,
    report_only: Annotated[bool, typer.Option("--report-only", help="Say what is found; remove nothing.")] = False,
    set_: Sets = [],
) -> None:
    """Find rows of evaluation sets in documents, also after rewriting, and leave those documents out."""
    from fitra import corpus
    from fitra.recipe import Contamination

    benchmarks = []
    for item in benchmark:
        path, _, columns = item.rpartition(":")
        benchmarks.append({"path": path or columns, "text": columns.split(",") if path else ["question"]})
    cfg = config(Contamination, set_, benchmarks=benchmarks, remove=not report_only)
    done(corpus.decontaminate(inputs, cfg, out), out)


def explain(folder: Folder, id: Annotated[str, typer.Argument(help="Document id.")]) -> None:
    """Which rule decided on a document, and with which figure."""
    from fitra import corpus

    print(json.dumps(corpus.explain(folder, id), ensure_ascii=False, indent=2))


def report(
    folder: Folder,
    to: Annotated[Path | None, typer.Option(help="The page to write (default: report.html in the folder).")] = None,
) -> None:
    """Write one self-contained page about what the cleaning did."""
    from fitra.corpus import report as page

    print(page.write(folder, to or folder / "report.html"))


def takedown(
    folder: Folder,
    ids: Annotated[list[str], typer.Argument(help="Document ids.")],
    reason: Annotated[str, typer.Option(help="Why; kept with the ids.")],
) -> None:
    """Take documents out of a finished corpus for good, with their pieces and copies."""
    from fitra import corpus

    print(json.dumps(corpus.takedown(folder, ids, reason), ensure_ascii=False))
    print("what was made from it before is named by: fitra corpus trace RUN_FOLDER ID", file=sys.stderr)


def trace(
    root: Annotated[Path, typer.Argument(help="A folder with stages (a run).")],
    ids: Annotated[list[str], typer.Argument(help="Document ids.")],
) -> None:
    """Which artefacts hold documents, or were made from some that do."""
    from fitra import corpus

    print(json.dumps(corpus.trace(root, ids), ensure_ascii=False, indent=2))
