"""Recipe: the align room (native alignment)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from fitra.recipe.base import Config
from fitra.recipe.contamination import Benchmark
from fitra.recipe.engine import Engine
from fitra.recipe.worker import Worker


class Price(Config):
    """Money per million tokens, as the provider's price list says; the currency is yours."""

    input: float = Field(0.0, ge=0)
    output: float = Field(0.0, ge=0)
    cached: float | None = Field(None, ge=0, description="prompt tokens from the server's cache; as input if not given")
    batch: float = Field(0.5, ge=0, description="factor for what goes through the batch API")


class Endpoint(Config):
    """An OpenAI-compatible server."""

    # What does not change an answer, and so stays out of fingerprints.
    VOLATILE: ClassVar[frozenset[str]] = frozenset(
        (
            *("api_key", "base_url", "concurrency", "timeout_s", "retries"),
            *("weight", "price", "requests_per_minute", "tokens_per_minute"),
        )
    )

    base_url: str
    model: str
    api_key: SecretStr = SecretStr("none")
    temperature: float = 0.0
    max_tokens: int = 2048
    seed: int | None = 0
    concurrency: int = Field(16, ge=1, description="at most so many requests at once; fewer where the server objects")
    timeout_s: float = 120.0
    retries: int = Field(4, ge=0)
    weight: float = Field(1.0, gt=0, description="its share of the work among several endpoints")
    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)
    structured: bool = True  # ask for JSON by schema where a job has one; switched off by a server that refuses it
    price: Price | None = None


class Budget(Config):
    """What may be spent: the run stops cleanly before going beyond any of these, and a larger one goes on."""

    money: float | None = Field(None, ge=0, description="in the currency of the endpoints' prices")
    tokens: int | None = Field(None, ge=0)
    hours: float | None = Field(None, ge=0)


class Model(Config):
    """A language model that rewrites: one or more servers of the same model, and how it is asked."""

    # What does not change an answer, and so stays out of fingerprints.
    VOLATILE: ClassVar[frozenset[str]] = frozenset(("batch", "budget", "tokenizer", "gpus", "tokens_per_second"))

    endpoints: list[Endpoint] = Field(min_length=1, description="one or more servers of the same model")
    format: Literal["rewrite", "edits"] = Field("rewrite", description="the whole text anew, or an edit program")
    revision: str = Field("", description="tells apart other weights served under the same name")
    batch: bool = Field(False, description="through the batch API of the first endpoint: cheaper, within a day")
    budget: Budget | None = None
    tokenizer: str | None = Field(None, description="folder with its tokenizer.json, for plans and chunk_tokens")
    gpus: float | None = Field(None, gt=0, description="behind all its endpoints, for plans")
    tokens_per_second: float | None = Field(None, gt=0, description="written by all its endpoints, for plans")

    @field_validator("endpoints", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return [value] if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _same_model(self) -> Model:
        if len({e.model for e in self.endpoints}) > 1:
            raise ValueError("endpoints of one model must name the same model")
        return self


class Seed(Config):
    """The documents that the expert rewrites for the worker to learn from (the paper's section on seed data)."""

    documents: int = Field(1000, ge=1)
    by: Literal["random", "high", "low"] = Field("random", description="high or low perplexity under `model`")
    model: str | None = None


class Align(Config):
    """Rewriting by a code of conduct."""

    VOLATILE: ClassVar[frozenset[str]] = frozenset(
        ("engine", "policy", "packs", "quran", "human", "benchmarks", "seed", "train")
    )

    policy: str = "default"  # the name of a policy that ships with Fitra, or a folder
    packs: list[str] = Field([], description="regional packs on top of the policy")
    languages: list[str] = ["ar", "arz", "apc"]  # other documents pass unchanged
    triage: Literal["auto", "all"] = Field("auto", description="all: every document goes to a model where there is one")
    worker: Model | None = Field(None, description="takes what the rules cannot repair; without models the rules alone")
    expert: Model | None = Field(None, description="takes what the worker could not, or all that without a worker")
    judge: Model | None = Field(None, description="looks at the policy's claims_share of what was accepted")
    retries: int = Field(1, ge=0, description="asks again this often when a gate refuses, with its complaint")
    chunk_chars: int = Field(4000, ge=200)
    chunk_tokens: int | None = Field(None, ge=64, description="with a model's tokenizer: also at most so many tokens")
    context_chars: int = Field(300, ge=0, description="of the text before a chunk, shown to the model with it")
    human: str | None = Field(None, description="a file of edits by people, which go before all models")
    quran: str | None = None  # a parquet/txt file with the verses that must survive, one per row
    benchmarks: list[Benchmark] = Field([], description="evaluation sets that no rewrite may recite")
    engine: Engine = Engine()
    # Only in a whole run: the expert (a model, or people) writes a seed, a worker learns from it and does the rest.
    seed: Seed = Seed()
    train: Worker | None = Field(None, description="train a worker on what the expert made of the seed")

    def lasting(self) -> dict[str, Any]:
        """What a result depends on: not speed or patience, nor what is known by its content (policy, files)."""
        config = self.model_dump(mode="json", exclude=set(self.VOLATILE))
        for tier, model in {**self.models(), **({"judge": self.judge} if self.judge else {})}.items():
            asked = model.endpoints[0].model_dump(mode="json", exclude=set(Endpoint.VOLATILE))
            config[tier] = model.model_dump(mode="json", exclude={*Model.VOLATILE, "endpoints"}) | {"asked": asked}
        return config

    def models(self) -> dict[str, Model]:
        """The models there are, in the order they are tried."""
        return {k: m for k, m in (("worker", self.worker), ("expert", self.expert)) if m is not None}
