"""Recipe: the corpus room."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fitra.recipe.base import Config


class Source(Config):
    """One input: a file, folder or glob of parquet / jsonl(.gz/.zst) / csv / txt."""

    path: str
    text: str = "text"
    id: str | None = None  # column with the document id; without it ids are made from source and content
    lang: str | None = None  # a language for all rows; without it the column 'lang', else detection
    licence: str = ""
    licence_class: Literal["A", "B", "C", "D"] = "D"
    limit: int | None = Field(None, ge=1, description="read at most this many rows (a sample, from the front)")


class Dedupe(Config):
    """Duplicate removal on folded text."""

    exact: bool = True
    near: bool = True  # ALLaM used exact only (paper, section 2): set to false
    threshold: float = Field(0.8, gt=0, le=1)
    bands: int = Field(14, ge=1)
    rows: int = Field(8, ge=1)
    ngram: int = Field(5, ge=1)  # words


class Corpus(Config):
    """Cleaning: filters, personal data, duplicates. Figures are per document."""

    inputs: list[Source] = []
    languages: list[str] = ["ar", "arz", "apc", "en"]
    min_words: int = Field(8, ge=0)
    max_chars: int = Field(2_000_000, ge=1, description="a longer document is split at paragraph ends")
    min_language_share: float = Field(0.5, ge=0, le=1, description="share of letters in the language's script")
    max_symbol_share: float = Field(0.4, ge=0, le=1)
    max_repeated_line_share: float = Field(0.5, ge=0, le=1)
    personal_data: Literal["keep", "mask", "drop"] = "mask"
    dedupe: Dedupe = Dedupe()
