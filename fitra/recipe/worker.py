"""Recipe: the worker, a small model that learns from accepted rewrites."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fitra.recipe.base import Config
from fitra.recipe.train import Base, Train


class WorkerBase(Base):
    """What a worker starts from: a chat model's folder, or a tiny model made here that reads Arabic."""

    languages: list[Literal["ar", "en"]] = Field(["ar"], min_length=1)


class Tuning(Train):
    """As `Train`, with defaults for pairs of chunks: setting one of them leaves the others."""

    tokens: int = Field(2_000_000, ge=1)
    batch_tokens: int = Field(8192, ge=1)
    seq_len: int = Field(1024, ge=8, description="longer examples are left out")
    lr: float = Field(1e-3, gt=0)


class Worker(Config):
    """Fine-tuning a worker on the accepted rows of an align stage."""

    policy: str = "default"  # whose prompts/worker.md it is trained with, and must be asked with
    packs: list[str] = Field([], description="regional packs on top of it: the prompt names them")
    format: Literal["edits", "rewrite"] = "edits"
    languages: list[str] = ["ar", "arz", "apc"]
    chunk_chars: int = Field(4000, ge=200, description="as align.chunk_chars where the worker will be used")
    unchanged: float = Field(1.0, ge=0, description="at most so many untouched texts for each rewritten one")
    held_out: float = Field(0.1, ge=0, lt=1, description="share of documents never trained on, by the hash of their id")
    hold: str | None = None  # a file of document ids, one a line, that are never trained on either
    base: WorkerBase = WorkerBase()
    serve: Literal["server", "local"] = Field("server", description="how a run asks it: a server, or in this process")
    max_tokens: int = Field(512, ge=1, description="of its longest answer, where a run asks it")
    limit: int | None = Field(None, ge=1, description="at most so many documents, the first by the hash of their id")
    lora: int = Field(0, ge=0, description="rank of LoRA on all linear layers; 0 trains all weights")
    train: Tuning = Tuning()
