"""The models of the recipe: which are asked in what order, within what budget, and how their tokens are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fitra import llm
from fitra.align.rewrite import Route
from fitra.errors import FitraError
from fitra.recipe import Align, Model

__all__ = ["Tokens", "budget", "judge", "routes"]


def routes(cfg: Align, backends: Mapping[str, llm.Backend] | None = None) -> list[Route]:
    """The models in the order they are tried: worker, then expert. `backends` by tier replace those of the recipe."""
    given = dict(backends or {})
    if unknown := set(given) - {"worker", "expert", "judge"}:
        raise ValueError(f"no such tier: {sorted(unknown)}")
    out = []
    for tier in ("worker", "expert"):
        model = cfg.models().get(tier)
        if tier in given:
            out.append(Route(tier, given[tier], model.format if model else "rewrite", budget(model)))
        elif model is not None:
            backend = llm.EndpointBackend(model.endpoints, revision=model.revision)
            batch = model.endpoints[0] if model.batch else None
            out.append(Route(tier, backend, model.format, budget(model), batch, model.revision))
    return out


def judge(cfg: Align, backends: Mapping[str, llm.Backend] | None = None) -> Route | None:
    """The model that looks at claims, where the recipe names one."""
    if backends and "judge" in backends:
        return Route("judge", backends["judge"], budget=budget(cfg.judge))
    if cfg.judge is None:
        return None
    return Route(
        "judge", llm.EndpointBackend(cfg.judge.endpoints, revision=cfg.judge.revision), "rewrite", budget(cfg.judge)
    )


def budget(model: Model | None) -> llm.Budget | None:
    """The budget of a model, counted with the price of its first endpoint."""
    if model is None or model.budget is None:
        return None
    b, price = model.budget, model.endpoints[0].price
    if b.money is not None and price is None:
        raise FitraError("align: a budget in money needs a price.", "Give endpoints.price: input and output.")
    return llm.Budget(money=b.money, tokens=b.tokens, hours=b.hours, price=price, batch=model.batch)


class Tokens:
    """Counts tokens as a model does."""

    def __init__(self, folder: str) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise FitraError("counting tokens needs the package tokenizers.", "pip install tokenizers") from None
        path = Path(folder) / "tokenizer.json" if Path(folder).is_dir() else Path(folder)
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(path))
        except Exception as e:  # the library raises a bare Exception
            first = (str(e).splitlines() or [""])[0]
            raise FitraError(f"{path}: no tokenizer: {first}", "Give a folder with tokenizer.json.") from None

    @classmethod
    def of(cls, model: Model | None) -> Tokens | None:
        """The counter of a model; None where it names no tokenizer."""
        return cls(model.tokenizer) if model and model.tokenizer else None

    def count(self, text: str) -> int:
        """Tokens of one text, without those that a template adds."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        return [len(e.ids) for e in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]
