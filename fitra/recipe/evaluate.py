"""Recipe: the evaluate room, and the small world."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fitra.recipe.base import Config


class World(Config):
    """The small bilingual world with ground truth (see docs/world.md)."""

    facts: int = Field(60, ge=4, le=300)
    documents: int = Field(1500, ge=20)
    instructions: int = Field(400, ge=0)
    prompts: int = Field(120, ge=0)


class Evaluate(Config):
    """What to measure on every model."""

    acva: str | None = None  # parquet: category, split, question, label
    exams: str | None = None  # parquet: split, subject, question, A-D, answer
    shots: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1, description="questions per benchmark")
    retention: str | None = None  # English documents held out from training: parquet with column text
    samples: int = Field(2, ge=0, description="continuations sampled per unsafe prompt of the world; 0: none")
    temperature: float = Field(0.8, ge=0)
    max_new_tokens: int = Field(32, ge=1)
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
