"""The documents agree with the code: every key of a recipe is described, every link leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from fitra import recipe

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
CONFIGS = [c for c in vars(recipe).values() if isinstance(c, type) and issubclass(c, recipe.Config)]


def section(name: str) -> str:
    """The part of docs/recipes.md that describes a config: from its first mention as `name` to the next heading."""
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    found = [s for s in re.split(r"^## ", text, flags=re.M) if s.startswith(f"`{name}`")]
    return found[0] if found else text


@pytest.mark.parametrize("config", [c for c in CONFIGS if c is not recipe.Config], ids=lambda c: c.__name__)
def test_every_key_of_a_recipe_is_described(config: type[BaseModel]) -> None:
    corpus = dict.fromkeys(("Source", "Dedupe", "Lines", "Contamination", "Benchmark", "Toxicity", "Engine"), "corpus")
    align = dict.fromkeys(("Endpoint", "Model", "Budget", "Seed", "Worker"), "align")
    homes = {"Progressive": "vocab", **corpus, **align, "Scratch": "base", "Mixture": "pretrain"}
    text = section(homes.get(config.__name__, config.__name__.lower()))
    if config is recipe.Filters:
        text = (ROOT / "docs" / "filters.md").read_text(encoding="utf-8")
    missing = [k for k in config.model_fields if f"`{k}`" not in text]
    assert not missing, f"docs/recipes.md says nothing of {config.__name__}: {missing}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    gone = [to for to in links(page) if not (page.parent / to).exists()]
    assert not gone


def links(page: Path) -> Iterator[str]:
    for to in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in to:
            yield to


def test_recipes_in_the_repository_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITRA_DATA", "/somewhere")
    for name in ("EXPERT_TOKEN", "EXPERT_URL", "EXPERT_MODEL", "EXPERT_KEY", "CRAWL", "WORKER"):
        monkeypatch.setenv(f"FITRA_{name}", "x")
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        assert recipe.load(path).name == path.stem
