"""Commands of the synth room: translations, answers, native instructions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fitra.cli.rooms import Out, Sets, config, done

Given = Annotated[Path, typer.Argument(help="A finished stage, a file, a folder or a glob; parquet, jsonl, csv.")]
Ledger = Annotated[Path | None, typer.Option(help="Folder of paid answers, shared between runs.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, as a range; ask nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Benchmarks = Annotated[list[str], typer.Option(help="FILE:COLUMN,COLUMN of an evaluation set; repeatable.")]
MODEL = "--set endpoint.base_url=http://127.0.0.1:8000/v1 --set endpoint.model=my-model"


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    sub = typer.Typer(
        help="Text made by a model: translations, answers, native instructions.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    app.add_typer(sub, name="synth")
    sub.command("translate", epilog=f"Example: fitra synth translate clean --out translated {MODEL} --dry-run")(
        translate
    )
    sub.command("answer", epilog=f"Example: fitra synth answer questions.jsonl --out answers {MODEL} --set lang=ar")(
        answer
    )
    native = f"fitra synth instruct --out native {MODEL} --benchmark acva.parquet:question"
    sub.command("instruct", epilog=f"Example: {native}")(instruct)


def translate(given: Given, out: Out, ledger: Ledger = None, dry_run: Dry = False, json_: Json = False, set_: Sets = []
) -> None:  # fmt: skip
    """Translate documents or instructions from English into Arabic (or back: --set source=ar), keeping both sides."""
    from fitra import synth
    from fitra.recipe import Translate

    cfg = config(Translate, set_)
    if dry_run:
        _plan(synth.plan_translate(cfg, given), json_)
        return
    _done(synth.translate(cfg, given, out, ledger), out, json_)


def answer(
    given: Given,
    out: Out,
    ledger: Ledger = None,
    benchmark: Benchmarks = [],
    dry_run: Dry = False,
    json_: Json = False,
    set_: Sets = [],
) -> None:
    """Answer questions, native or translated, by a model."""
    from fitra import synth
    from fitra.recipe import Answer

    cfg = config(Answer, set_, **_against(benchmark))
    if dry_run:
        _plan(synth.plan_answer(cfg, given), json_)
        return
    _done(synth.answer(cfg, given, out, ledger), out, json_)


def instruct(
    out: Out,
    ledger: Ledger = None,
    benchmark: Benchmarks = [],
    dry_run: Dry = False,
    json_: Json = False,
    set_: Sets = [],
) -> None:
    """Make native instructions: a topic tree, questions for each topic, answers."""
    from fitra import synth
    from fitra.recipe import Instruct

    cfg = config(Instruct, set_, **_against(benchmark))
    if dry_run:
        _plan(synth.plan_instruct(cfg), json_)
        return
    _done(synth.instruct(cfg, out, ledger), out, json_)


def _against(benchmarks: list[str]) -> dict[str, Any]:
    found = []
    for item in benchmarks:
        path, _, columns = item.rpartition(":")
        found.append({"path": path or columns, "text": columns.split(",") if path else ["question"]})
    return {"contamination": {"benchmarks": found}} if found else {}


def _plan(found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return
    print(f"rows               {found['rows']:,} (looked at: {found['sampled']:,})")
    unknown = {
        "money": "--set endpoint.price.input=... --set endpoint.price.output=...",
        "hours": "--set model.tokens_per_second=...",
        "gpu_hours": "--set model.gpus=...",
    }
    for name in ("requests", "prompt_tokens", "completion_tokens", *unknown):
        ends = found[name]
        shown = f"not known: {unknown.get(name)}"
        if ends:
            shown = f"{ends['low']:,} to {ends['high']:,}" if ends["high"] is not None else f"at least {ends['low']:,}"
        print(f"{name:<18} {shown}")
    for name, value in found["assumed"].items():
        print(f"assumed: {name}: {value}")


def _done(manifest: Mapping[str, Any], out: Path, as_json: bool) -> None:
    if as_json:
        shown = {k: manifest.get(k) for k in ("stage", "counts", "notes", "licence_class", "seconds")}
        print(json.dumps({"out": str(out), **shown}, ensure_ascii=False, indent=2))
        if manifest["counts"].get("quarantined"):
            raise typer.Exit(3)
        return
    done(manifest, out)
