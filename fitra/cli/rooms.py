"""One command per room, usable alone on files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError

from fitra.errors import FitraError
from fitra.recipe.base import Config

C = TypeVar("C", bound=Config)

Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]
Sets = Annotated[list[str], typer.Option("--set", help="Change a key of this room's config.", metavar="KEY=VALUE")]
Model = Annotated[Path, typer.Option(help="A model folder.")]
Stage = Annotated[Path, typer.Option("--corpus", help="Output folder of `corpus clean` or `align run`.")]
Seed = Annotated[int, typer.Option(help="Seed.")]


def add_to(app: typer.Typer) -> None:
    """Register these commands."""

    app.command("base", epilog="Example: fitra base --corpus clean --out base")(base)
    app.command("pretrain", epilog="Example: fitra pretrain --model v/model --corpus aligned --out pt")(pretrain)
    app.command("sft", epilog="Example: fitra sft qa.jsonl --model pt/model --out chat")(sft)
    app.command("prefer", epilog="Example: fitra prefer prompts.jsonl --model chat/model --out dpo")(prefer)


def config(kind: type[C], sets: list[str], **given: Any) -> C:
    """A room's config from `--set` values and arguments; FitraError for an unknown or ill-typed key."""
    import difflib

    import yaml

    for item in sets:
        key, sep, value = item.partition("=")
        if not sep:
            raise FitraError(f"--set {item}: expected key=value.", "For example --set min_words=20")
        *parents, last = key.split(".")
        here = given
        for p in parents:
            here = here.setdefault(p, {})
        here[last] = yaml.safe_load(value)
    try:
        return kind.model_validate(given)
    except ValidationError as e:
        first = e.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"]))
        near = difflib.get_close_matches(name, list(kind.model_fields), n=1, cutoff=0.4)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(kind.model_fields)}."
        raise FitraError(f"--set {name}: {first['msg'].lower()}.", hint) from None


def done(manifest: Any, out: Path) -> None:
    """Print where the result is and its counts; exit with 3 where bad rows were set aside."""
    counts = manifest.get("counts", {}) if isinstance(manifest, dict) else {}
    print(json.dumps({"out": str(out), "counts": counts}, ensure_ascii=False))
    if counts.get("quarantined"):
        raise typer.Exit(3)


def base(corpus: Stage, out: Out, seed: Seed = 7, set_: Sets = []) -> None:
    """Train a tiny English base model from nothing (for trying things out)."""
    from fitra import pretrain as room
    from fitra.recipe import Base

    done(room.make_base(config(Base, set_), corpus, seed, out), out)


def pretrain(
    model: Model,
    corpus: Stage,
    out: Out,
    parallel: Annotated[list[Path], typer.Option(help="Parquet files with columns ar, en.")] = [],
    stages: Annotated[
        Path | None, typer.Option(help="Grow the vocabulary by these stages: what `vocab expand` wrote (--model too).")
    ] = None,
    seed: Seed = 7,
    set_: Sets = [],
) -> None:
    """Continue pre-training on the Arabic / English / parallel mixture."""
    from fitra import pretrain as room
    from fitra import vocab
    from fitra.recipe import Pretrain

    cfg = config(Pretrain, set_)
    grown = vocab.progressive.load(stages) if stages else []
    done(room.continue_pretraining(cfg, model, corpus, seed, out, parallel=parallel, stages=grown), out)


Files = Annotated[list[Path], typer.Argument(help="Parquet or jsonl files.")]


def sft(files: Files, model: Model, out: Out, seed: Seed = 7, set_: Sets = []) -> None:
    """Fine-tune on instructions; the loss is on the answers alone."""
    from fitra import sft as room
    from fitra.recipe import Sft

    done(room.tune(config(Sft, set_), model, files, seed, out), out)


def prefer(files: Files, model: Model, out: Out, seed: Seed = 7, set_: Sets = []) -> None:
    """Sample answers, judge pairs in both orders, train with DPO."""
    from fitra import prefer as room
    from fitra.recipe import Prefer

    done(room.prefer(config(Prefer, set_), model, files, seed, out), out)
