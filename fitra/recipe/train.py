"""Recipe: base model, pre-training, tuning, preferences."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fitra.recipe.base import Config


class Train(Config):
    """One training run. Budgets are in tokens, so arms compare at equal tokens."""

    tokens: int = Field(200_000, ge=1)
    batch_tokens: int = Field(4096, ge=1)
    seq_len: int = Field(128, ge=8)
    lr: float = Field(3e-3, gt=0)
    min_lr_share: float = Field(0.1, ge=0, le=1, description="1.0 keeps the rate flat after warm-up, as ALLaM did")
    warmup_share: float = Field(0.05, ge=0, le=1)
    weight_decay: float = 0.01
    clip: float = 1.0
    checkpoint_every: int = Field(200, ge=1, description="steps between exact-resume checkpoints")
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"


class Scratch(Config):
    """A tiny Llama-shaped model for the quickstart, trained from nothing on English."""

    vocab_size: int = 2048
    hidden_size: int = 160
    layers: int = 4
    heads: int = 4
    intermediate_size: int = 432
    max_positions: int = 512


class Base(Config):
    """The base: a model folder, or one made here (`scratch`)."""

    path: str | None = None
    languages: list[Literal["ar", "en"]] = Field(["en"], min_length=1, description="of what the one made here reads")
    scratch: Scratch = Scratch()
    train: Train = Train(tokens=900_000)


class Mixture(Config):
    """Shares of the token budget by group; a group without data is left out and the rest scaled."""

    ar: float = Field(0.55, ge=0)
    en: float = Field(0.35, ge=0)
    parallel: float = Field(0.10, ge=0)
    max_repeats: float = Field(400.0, gt=0, description="epochs over a group after which its share is capped")


class Pretrain(Config):
    """Continued pre-training on the mixture."""

    mixture: Mixture = Mixture()
    parallel: list[str] = []  # parquet files with columns ar, en
    train: Train = Train(tokens=800_000)


class Sft(Config):
    """Supervised fine-tuning: loss on the answer alone."""

    instructions: list[str] = []  # parquet/jsonl with instruction, output (and input, lang)
    limit: int | None = None
    max_answer_chars: int = 600
    train: Train = Train(tokens=150_000, lr=1e-3)


class Prefer(Config):
    """AI feedback and DPO."""

    prompts: list[str] = []  # parquet/jsonl with column prompt; chosen/rejected too if pairs are given
    limit: int | None = 200
    samples: int = Field(4, ge=2, description="answers sampled per prompt")
    temperature: float = 0.9
    max_new_tokens: int = 40
    judge: Literal["embedded", "given"] = "embedded"  # 'given': the files hold chosen and rejected already
    beta: float = 0.1
    lr: float = 2e-4
    epochs: float = 1.0
