"""Commands on the worker, and the stand-in for its teacher."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated

import typer

from fitra.cli.rooms import Out, Seed, Sets, config, done

TOKEN = "FITRA_EXPERT_TOKEN"


def add_to(app: typer.Typer) -> None:
    """Register these commands; `align` must be there already."""
    align = next(g.typer_instance for g in app.registered_groups if g.name == "align")
    assert align is not None
    align.command(
        "train-worker",
        epilog="Example: fitra align train-worker --rows aligned --base models/4b --out worker --set lora=16",
    )(train_worker)
    app.command(
        "world-expert", epilog=f"Example: {TOKEN}=secret fitra world-expert --world runs/world --port 8765"
    )(world_expert)  # fmt: skip


def train_worker(
    rows: Annotated[Path, typer.Option(help="Output folder of `align run`: its accepted rows are learnt from.")],
    base: Annotated[Path, typer.Option(help="A chat model's folder.")],
    out: Out,
    seed: Seed = 7,
    set_: Sets = [],
) -> None:
    """Fine-tune a worker on accepted rewrites; writes a model folder that any server can serve.

    --set format=edits (default) teaches edit programs, format=rewrite whole texts; --set lora=16 trains LoRA of that
    rank and merges it; --set train.tokens=5000000, train.lr, train.seq_len as for every training.
    """
    from fitra.align import worker
    from fitra.recipe import Worker

    done(worker.train(config(Worker, set_), rows, base, out, seed=seed), out)


def world_expert(
    world: Annotated[Path, typer.Option(help="Folder that `fitra world` wrote.")],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8765,
    policy: Annotated[str, typer.Option(help="Policy whose rules rewrite what the world does not know.")] = "default",
) -> None:
    """Serve a stand-in for an expert model: the small world's reference rewrites, rules for any other text.

    It is no expert: it shows that the loop of expert and worker runs, without a key and without cost. The quality of an
    expert needs the endpoint of a strong model. The token is taken from FITRA_EXPERT_TOKEN, else made and printed.
    """
    from fitra.world import expert

    known = expert.Expert(world, policy)
    token = os.environ.get(TOKEN) or secrets.token_urlsafe(24)
    print(f"base_url: http://127.0.0.1:{port}/v1\nmodel: {expert.MODEL}", flush=True)
    if not os.environ.get(TOKEN):
        print(f"token: {token}", flush=True)
    expert.serve(known, token, port)
