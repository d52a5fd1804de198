"""Recipe: the corpus room."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fitra.recipe.base import Config
from fitra.recipe.contamination import Contamination
from fitra.recipe.engine import Engine
from fitra.recipe.filters import Filters

Label = Literal["language", "variety", "register", "quality", "toxicity"]
LABELS: tuple[Label, ...] = ("language", "variety", "register", "quality", "toxicity")


class Source(Config):
    """One input: a file, folder or glob, here, on s3:// or hf://; see docs/inputs.md for the formats."""

    path: str
    text: str = "text"
    id: str | None = None  # column with the document id; without it ids are made from source and content
    lang: str | None = None  # a language for all rows; without it the column 'lang', else detection
    licence: str = ""
    licence_class: Literal["A", "B", "C", "D"] = "D"
    limit: int | None = Field(None, ge=1, description="read at most this many rows (a sample, from the front)")


class Lines(Config):
    """Lines that many documents repeat (menus, banners, signatures) are cut out of all but the first few."""

    min_documents: int | None = Field(None, ge=2, description="cut lines that this many documents hold; null: off")
    min_words: int = Field(4, ge=1, description="shorter lines are left alone")
    keep_first: int = Field(1, ge=0, description="in this many documents, in input order, the line stays")
    registers: list[str] = Field(
        ["religious", "poetry"], description="documents of these registers keep all their lines: verses repeat"
    )


class Dedupe(Config):
    """Duplicate removal on folded text (level `search`: letters and digits alone)."""

    exact: bool = True
    near: bool = True  # ALLaM used exact only (paper, section 2): set to false
    threshold: float = Field(0.8, gt=0, le=1)
    bands: int = Field(14, ge=1)
    rows: int = Field(8, ge=1)
    ngram: int = Field(5, ge=1)  # words
    urls: bool = False  # of documents of one address (scheme, www., fragment and tracking keys left out) one stays
    keep: Literal["longest", "first"] = "longest"  # first: in the order of the inputs; then the smallest id
    lines: Lines = Lines()
    against: list[str] = Field([], description="folders of earlier `corpus clean` runs: what they hold goes here")
    index: bool = Field(False, description="keep the hashes, so that a later run can name this one in `against`")


class Toxicity(Config):
    """How texts are scored, and which are removed. Native alignment rewrites what is toxic: by default none is."""

    scorer: str = Field("embedded", description="or hf:MODEL_FOLDER, or endpoint:URL; see docs/toxicity.md")
    labels: dict[str, str] = Field({}, description="hf: which of its labels is which heading, where names do not tell")
    drop_over: dict[str, float] = Field({}, description="heading: probability; a document over it is removed")


class Corpus(Config):
    """Cleaning: filters, personal data, duplicates. Figures are per document."""

    inputs: list[Source] = []
    languages: list[str] = ["ar", "arz", "apc", "en"]
    min_words: int = Field(8, ge=0)
    max_chars: int = Field(2_000_000, ge=1, description="a longer document is split at paragraph ends")
    min_language_share: float = Field(0.5, ge=0, le=1, description="share of letters in the language's script")
    max_symbol_share: float = Field(0.4, ge=0, le=1)
    max_repeated_line_share: float = Field(0.5, ge=0, le=1)
    filters: Filters = Filters()
    toxicity: Toxicity = Toxicity()
    personal_data: Literal["keep", "mask", "standin", "drop"] = "mask"
    personal_kinds: list[str] | None = Field(None, description="email, phone ...; without it all kinds")
    labels: list[Label] = list(LABELS)
    dedupe: Dedupe = Dedupe()
    contamination: Contamination = Contamination()
    engine: Engine = Engine()
    shard_mb: int = Field(32, ge=1, le=1024, description="inputs are worked on in pieces of about this size")
