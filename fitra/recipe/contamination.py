"""Evaluation sets that training text must not contain."""

from __future__ import annotations

from pydantic import Field

from fitra.recipe.base import Config


class Benchmark(Config):
    """One evaluation set: a parquet, jsonl or jsonl.gz file and the columns that hold its text."""

    path: str
    text: list[str] = Field(min_length=1, description="columns of text: the question, its options, its passage")
    id: str | None = Field(None, description="column that names a row; else its position in the file")
    name: str | None = Field(None, description="name in reports; else the name of the file")


class Contamination(Config):
    """Which documents hold rows of evaluation sets: a share of a row's word n-grams, on folded text."""

    benchmarks: list[Benchmark] = []
    ngram: int = Field(8, ge=3, le=64, description="words per n-gram")
    min_words: int = Field(5, ge=3, description="a text shorter than ngram counts as one gram from this many words on")
    common: int = Field(20, ge=1, description="an n-gram in more texts of one evaluation set than this is dropped")
    min_share: float = Field(0.2, gt=0, le=1, description="share of a row's n-grams from which a document holds it")
    min_grams: int = Field(3, ge=1, description="and how many of them at least (all, of a row that has fewer)")
    remove: bool = Field(True, description="false: documents that hold rows are reported and stay")
