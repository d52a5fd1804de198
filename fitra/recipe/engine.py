"""Recipe: where the work is done."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fitra.recipe.base import Config


class Engine(Config):
    """Worker processes here, or tasks on a Ray cluster whose nodes share the output folder. Never changes a result."""

    kind: Literal["local", "ray"] = "local"
    workers: int | None = Field(None, ge=1, description="processes or tasks at a time; without it one for each core")
    address: str | None = Field(None, description="of the Ray cluster; without it RAY_ADDRESS, else the one found")
