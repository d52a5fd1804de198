"""Recipe: the synth room (translations, answers and instructions by a model)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from fitra.recipe.align import Endpoint, Model
from fitra.recipe.base import Config
from fitra.recipe.contamination import Contamination

LicenceClass = Literal["A", "B", "C", "D"]


class Asked(Config):
    """What all jobs over a model share. `endpoint` in place of `model` names one server: it is `model.endpoints`."""

    model: Model | None = None
    draws: int = Field(1, ge=1, description="answers asked for each question")
    retries: int = Field(1, ge=0, description="asks again this often when a gate refuses, with its complaint")
    limit: int | None = Field(None, ge=1, description="rows at most, from the front")
    licence_class: LicenceClass = Field("D", description="of input rows that name none")
    output_licence: LicenceClass = Field(
        "A", description="what the model's terms leave its texts; the worse one counts"
    )
    min_script: float = Field(0.5, ge=0, le=1, description="share of letters in the script that is asked for")
    max_repeats: float = Field(0.4, ge=0, le=1, description="rise of the share of repeated word n-grams")

    @model_validator(mode="before")
    @classmethod
    def _endpoint(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or "endpoint" not in given:
            return given
        rest = {k: v for k, v in given.items() if k not in ("endpoint", "model")}
        return {**rest, "model": {"endpoints": given["endpoint"], **(given.get("model") or {})}}

    @field_validator("model")
    @classmethod
    def _whole(cls, value: Model | None) -> Model | None:
        if value is not None and value.format != "rewrite":
            raise ValueError("edit programs are for alignment alone")
        return value

    def lasting(self) -> dict[str, Any]:
        """What a row depends on: not speed, patience or price, nor what is known by its content (files)."""
        config: dict[str, Any] = self.model_dump(mode="json", exclude={"model", "system", "topics"})
        if self.model is not None:
            asked = self.model.endpoints[0].model_dump(mode="json", exclude=set(Endpoint.VOLATILE))
            config["model"] = {"revision": self.model.revision, "asked": asked}
        return config


class Translate(Asked):
    """English to Arabic, or back; `fitra synth translate`."""

    source: Literal["en", "ar"] = "en"
    text: str | None = Field(None, description="column of documents; without it text, or instruction and what belongs")
    fields: list[str] = Field(["instruction", "input", "output"], description="of instructions: what is translated")
    chunk_chars: int = Field(3000, ge=200, description="longer texts are cut at paragraph and sentence ends")
    parts: bool = Field(True, description="good pieces of a refused document still go to parallel.parquet")
    min_length: float = Field(0.55, ge=0, description="length of a translation per expected length")
    max_length: float = Field(1.8, gt=0)
    max_untranslated: int = Field(5, ge=1, description="words in a row left in the source's script")
    system: str | None = Field(None, description="a file with instructions in place of those that ship")


class Answer(Asked):
    """Answers to questions, native or translated; `fitra synth answer`."""

    text: str | None = Field(None, description="column of the question; without it instruction, question or prompt")
    lang: Literal["ar", "en", "same"] = Field("same", description="language of the answers")
    min_chars: int = Field(2, ge=1)
    max_chars: int = Field(12_000, ge=1)
    max_toxicity: float = Field(0.9, gt=0, description="answers from this level on, under a safety heading, go")
    contamination: Contamination = Contamination()
    system: str | None = Field(None, description="a file with instructions in place of those that ship")


class Instruct(Asked):
    """Topics to questions to answers; `fitra synth instruct`."""

    topics: str | None = Field(None, description="a YAML file with a topic tree; without it the one that ships")
    breadth: int = Field(5, ge=1, description="subtopics asked for each topic")
    depth: int = Field(1, ge=0, description="levels of subtopics below the file's")
    questions: int = Field(5, ge=1, description="questions asked for each leaf and kind")
    kinds: list[Literal["open", "choice", "task"]] = ["open", "choice", "task"]
    near: float = Field(0.7, gt=0, le=1, description="similarity from which two questions are one")
    answers: bool = Field(True, description="false: questions alone")
    min_chars: int = Field(2, ge=1)
    max_chars: int = Field(12_000, ge=1)
    max_toxicity: float = Field(0.9, gt=0, description="answers from this level on, under a safety heading, go")
    contamination: Contamination = Contamination()
    system: str | None = Field(None, description="a file with instructions for the answers")
