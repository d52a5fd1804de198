"""Recipe: the vocabulary."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fitra.recipe.base import Config
from fitra.recipe.engine import Engine

Method = Literal["continued", "merged", "add_tokens", "replacement"]
Init = Literal["mean", "weighted", "focus", "gaussian", "random"]


class Progressive(Config):
    """Stages of growth (AraLLaMA section 4.1): the new tokens become visible bit by bit."""

    stages: int = Field(16, ge=2, description="16 in AraLLaMA")
    schedule: Literal["exponential", "uniform"] = "exponential"
    arabic_from: float = Field(0.30, ge=0, le=1, description="share of Arabic in the first stage; the quarter cosine")
    arabic_to: float = Field(0.90, ge=0, le=1, description="and in the last one")


class Vocab(Config):
    """Vocabulary expansion: which tokens are learned, from what, and how their rows begin."""

    add: int = Field(1024, ge=0, description="new tokens, 12,800 in AraLLaMA")
    method: Method = Field("continued", description="continued BPE, or one of the ways it is compared with")
    compare: list[Method] = Field([], description="other methods whose tokenizers are measured beside it")
    min_count: int = Field(2, ge=1, description="how often a pair must occur to become a token")
    script: Literal["arabic", "arabic-extended"] = Field(
        "arabic", description="letters and marks of U+0600-06FF; extended: the supplements U+0750-077F, U+0870-08FF too"
    )
    tashkeel: Literal["keep", "apart", "strip"] = Field(
        "keep", description="keep: as written; apart: no token holds letters and marks; strip: marks teach nothing"
    )
    protected: str = Field("", description="further characters that no new token may hold")
    source_weights: dict[str, float] = Field({}, description="how much a document counts, by its source (default 1)")
    dialect_weights: dict[str, float] = Field({}, description="the same by its label 'dialect', else its lang")
    max_kinds: int = Field(4_000_000, ge=1000, description="different words held in memory while counting")
    held_out: int = Field(20, ge=2, description="one Arabic document in so many is measured on, not learned from")
    init: Init = "mean"  # mean of the old pieces: ALLaM section 3.1, AraLLaMA section 4.1
    pad_multiple: int = Field(1, ge=1, description="rows of both matrices are filled up to a multiple of this")
    progressive: Progressive | None = None
    engine: Engine = Engine()
