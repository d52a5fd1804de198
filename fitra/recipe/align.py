"""Recipe: the align room (native alignment)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, SecretStr

from fitra.recipe.base import Config


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


class Align(Config):
    """Rewriting by a code of conduct."""

    policy: str = "default"  # the name of a policy that ships with Fitra, or a folder
    rewriter: Literal["rules", "endpoint"] = "rules"
    endpoint: Endpoint | None = None
    languages: list[str] = ["ar", "arz", "apc"]  # other documents pass unchanged
    chunk_chars: int = Field(4000, ge=200)
    retries: int = Field(1, ge=0, description="asks again this often when a gate refuses, with its complaint")
    quran: str | None = None  # a parquet/txt file with the verses that must survive, one per row
