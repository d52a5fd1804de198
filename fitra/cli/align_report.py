"""The command that shows what an alignment did."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from fitra.cli.policy import Packs
from fitra.errors import FitraError

Stage = Annotated[Path, typer.Argument(help="Output folder of `align run`.")]
EXAMPLE = "Example: fitra align report runs/real/align --out report.html --model runs/real/base"
KEY = "FITRA_JUDGE_KEY"


def add_to(app: typer.Typer) -> None:
    """Register the command in the group `align`, which is made where it is not there."""
    sub = next((g.typer_instance for g in app.registered_groups if g.name == "align"), None)
    if sub is None:
        sub = typer.Typer(help="Rewrite a corpus by a code of conduct.", no_args_is_help=True, rich_markup_mode=None)
        app.add_typer(sub, name="align")
    sub.command("report", epilog=EXAMPLE)(report)


def report(
    stage: Stage,
    out: Annotated[Path | None, typer.Option(help="The page to write (default: report.html in the folder).")] = None,
    model: Annotated[Path | None, typer.Option(help="A model folder, for perplexity before and after.")] = None,
    policy: Annotated[str, typer.Option(help="The policy the rows were made under.")] = "default",
    pack: Packs = [],
    toxicity: Annotated[
        str, typer.Option(help="The scorer beside the rules: embedded, npz:FILE, hf:MODEL or endpoint:URL.")
    ] = "embedded",
    judge_url: Annotated[
        str | None,
        typer.Option("--judge.base_url", help=f"An OpenAI-compatible judge of the five aspects; its key is ${KEY}."),
    ] = None,
    judge_model: Annotated[str | None, typer.Option("--judge.model", help="The judge's model.")] = None,
    judge_concurrency: Annotated[int, typer.Option("--judge.concurrency", help="Questions at once.", min=1)] = 16,
    ledger: Annotated[
        Path | None, typer.Option(help="Folder of paid answers (default: ledger in the stage's folder).")
    ] = None,
    quran: Annotated[Path | None, typer.Option(help="The file of verses that the run was given.")] = None,
    sample: Annotated[int, typer.Option(help="Documents whose texts are scored.", min=1)] = 8000,
    pairs: Annotated[int, typer.Option(help="Rewrites whose perplexity is taken.", min=1)] = 500,
    judged: Annotated[int, typer.Option(help="Rewrites that the judge sees.", min=1)] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the samples.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Write one self-contained page about an alignment: toxicity, facts kept, refusals, cost, samples to read."""
    from fitra import policy as policies
    from fitra.align import figures, masking
    from fitra.align import report as page

    found = figures.figures(
        stage,
        policies.load(policy, pack),
        sample=sample,
        seed=seed,
        scorer=toxicity,
        model=model,
        pairs=pairs,
        judge=_judge(judge_url, judge_model, judge_concurrency),
        judged=judged,
        ledger=ledger,
        verses=masking.load_verses(str(quran)) if quran else None,
    )
    written = page.write(stage, out or stage / "report.html", found)
    print(json.dumps(found, ensure_ascii=False, indent=2) if as_json else written)


def _judge(url: str | None, model: str | None, concurrency: int) -> Any:
    if url is None and model is None:
        return None
    if url is None or model is None:
        missing = "--judge.base_url" if url is None else "--judge.model"
        raise FitraError(f"a judge needs {missing}.", "Give both, or neither for the embedded judge.")
    from fitra import llm
    from fitra.recipe import Endpoint

    key = {"api_key": os.environ[KEY]} if os.environ.get(KEY) else {}
    return llm.EndpointBackend(
        Endpoint.model_validate({"base_url": url, "model": model, "concurrency": concurrency, **key})
    )
