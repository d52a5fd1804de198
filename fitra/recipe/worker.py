"""Recipe: the worker, a small model that learns from accepted rewrites."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fitra.recipe.base import Config
from fitra.recipe.train import Train


class Worker(Config):
    """Fine-tuning a worker on the accepted rows of an align stage."""

    policy: str = "default"  # whose prompts/worker.md it is trained with, and must be asked with
    format: Literal["edits", "rewrite"] = "edits"
    languages: list[str] = ["ar", "arz", "apc"]
    chunk_chars: int = Field(4000, ge=200, description="as align.chunk_chars where the worker will be used")
    unchanged: float = Field(1.0, ge=0, description="at most so many untouched texts for each rewritten one")
    held_out: float = Field(0.1, ge=0, lt=1, description="share of documents never trained on, by the hash of their id")
    hold: str | None = None  # a file of document ids, one a line, that are never trained on either
    limit: int | None = Field(None, ge=1, description="at most so many documents, the first by the hash of their id")
    lora: int = Field(0, ge=0, description="rank of LoRA on all linear layers; 0 trains all weights")
    train: Train = Train(tokens=2_000_000, lr=1e-3, seq_len=1024, batch_tokens=8192)
