"""The models of the recipe: which are asked in what order, within what budget, and how their tokens are counted."""

from __future__ import annotations

from collections.abc import Mapping

from fitra import llm
from fitra.align.rewrite import Route
from fitra.errors import FitraError
from fitra.recipe import Align, Model

__all__ = ["budget", "judge", "routes"]


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
