"""What tokens cost: a price per million tokens, and the usage that a server reports."""

from __future__ import annotations

from collections.abc import Mapping

from fitra.recipe.align import Price

__all__ = ["Price", "cost"]


def cost(usage: Mapping[str, int], price: Price, *, batch: bool = False) -> float:
    """Money for one reply's `usage`, in the currency of the price.

    Cached prompt tokens cost `price.cached` (where not given, as much as others); reasoning tokens are part of the
    completion, as servers count them. `batch`: through the batch API, times `price.batch`.
    """
    prompt, cached = usage.get("prompt_tokens", 0), usage.get("cached_tokens", 0)
    cached = min(cached, prompt)
    rate = price.input if price.cached is None else price.cached
    money = ((prompt - cached) * price.input + cached * rate + usage.get("completion_tokens", 0) * price.output) / 1e6
    return money * price.batch if batch else money
