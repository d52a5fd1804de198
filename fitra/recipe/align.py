"""Recipe: the align room (native alignment)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from fitra.recipe.base import Config


class Endpoint(Config):
    """An OpenAI-compatible server."""

    base_url: str
    model: str
    api_key: SecretStr = SecretStr("none")
    temperature: float = 0.0
    max_tokens: int = 2048
    seed: int | None = 0
    concurrency: int = Field(16, ge=1)
    timeout_s: float = 120.0
    retries: int = Field(4, ge=0)


class Align(Config):
    """Rewriting by a code of conduct."""

    policy: str = "default"  # the name of a policy that ships with Fitra, or a folder
    rewriter: Literal["rules", "endpoint"] = "rules"
    endpoint: Endpoint | None = None
    languages: list[str] = ["ar", "arz", "apc"]  # other documents pass unchanged
    chunk_chars: int = Field(4000, ge=200)
    retries: int = Field(1, ge=0, description="asks again this often when a gate refuses, with its complaint")
    quran: str | None = None  # a parquet/txt file with the verses that must survive, one per row
