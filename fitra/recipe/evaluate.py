"""Recipe: the evaluate room, and the small world."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fitra.recipe.align import Endpoint
from fitra.recipe.base import Config


class World(Config):
    """The small bilingual world with ground truth (see docs/world.md)."""

    facts: int = Field(60, ge=4, le=300)
    documents: int = Field(1500, ge=20)
    instructions: int = Field(400, ge=0)
    prompts: int = Field(120, ge=0)


class Evaluate(Config):
    """What to measure on every model."""

    suite: str | None = Field(
        None, description="a named list of benchmarks: arabic, acegpt, allam, ..., or a YAML file"
    )
    data: str | None = Field(None, description="folder with the files of the benchmarks, or one file for one task")
    tasks: list[str] = Field([], description="of these alone: 'acva', 'acva:oall', 'card.yaml:protocol'")
    corpus: str | None = Field(None, description="training text to look for the questions in: a stage folder or a file")
    texts: str | None = Field(None, description="parquet file or folder with a column text, for bits per byte")
    acva: str | None = None  # parquet: category, split, question, label
    exams: str | None = None  # parquet: split, subject, question, A-D, answer
    shots: int | None = Field(None, ge=0, description="worked examples; as published where not said")
    limit: int | None = Field(None, ge=1, description="questions per benchmark")
    retention: str | None = None  # English documents held out from training: parquet with column text
    samples: int = Field(2, ge=0, description="continuations sampled per unsafe prompt of the world; 0: none")
    temperature: float = Field(0.8, ge=0)
    max_new_tokens: int = Field(32, ge=1)
    judge: list[Endpoint] = Field([], description="servers of the model that judges; none: the embedded rules")
    draws: int = Field(3, ge=1, description="how often a judge is asked the same")
    answer_tokens: int = Field(256, ge=1, description="longest answer to an open question")
    judged: bool = Field(True, description="run the judged sets of the suite too")
    endpoint: Endpoint | None = Field(None, description="a server to measure instead of a model folder")
    revision: str = Field("", description="tells apart other weights that the endpoint serves under the same name")
    tokenizer: str | None = Field(None, description="folder with the endpoint's tokenizer: ids are sent, not text")
    context: int | None = Field(None, ge=8, description="tokens that the endpoint takes")
    ledger: str | None = Field(None, description="folder for the endpoint's answers; beside the scores where not said")
    base: str | None = Field(None, description="config and tokenizer of a checkpoint that has none beside it")
    cache: str | None = Field(
        None, description="folder for scores that other runs may use; beside the scores if not said"
    )
    strict: bool = Field(False, description="fail where a file of the suite is missing or a task cannot be run")
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    def asked(self) -> dict[str, Any]:
        """What changes a result: for fingerprints. Where things lie and how fast a server is asked do not."""
        config = self.model_dump(mode="json", exclude={"ledger", "cache", "strict"})
        if self.endpoint:
            config["endpoint"] = self.endpoint.model_dump(mode="json", exclude=set(Endpoint.VOLATILE))
        config["judge"] = [e.model_dump(mode="json", exclude=set(Endpoint.VOLATILE)) for e in self.judge[:1]]
        return config
