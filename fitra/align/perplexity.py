"""Perplexity of originals and rewrites under one fixed model (the paper's histograms). Needs torch; loaded when asked.

Bits per byte do not depend on the tokenizer, so figures of different models can be set side by side. Perplexity per
token is given too, as the paper has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fitra import stats
from fitra.errors import FitraError

if TYPE_CHECKING:
    from fitra import lm

__all__ = ["CHARACTERS", "bits_per_byte", "perplexity"]

CHARACTERS = 4000  # of each text that is scored: the beginning, on both sides
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_COLUMNS = 30


def load(model: Path) -> lm.LM:
    """Load a model folder; FitraError where torch is missing or the folder holds no model."""
    try:
        from fitra import lm
    except ImportError as e:
        raise FitraError(f"{model}: perplexity needs torch and transformers.", 'pip install "fitra[train]"') from e
    return lm.load(model)


def bits_per_byte(texts: Sequence[str], model: Path | lm.LM) -> list[float]:
    """Bits per UTF-8 byte of the first `CHARACTERS` characters of each text; NaN for an empty one."""
    return [b for b, _ in _scores(texts, model)]


def _scores(texts: Sequence[str], model: Path | lm.LM) -> list[tuple[float, float]]:
    """(bits per byte, nats per token) of each text; NaN for an empty one."""
    held = load(model) if isinstance(model, Path) else model
    from fitra import lm

    # A lone surrogate cannot be encoded, so no tokenizer takes it.
    given = [t[:CHARACTERS].encode("utf-8", "replace").decode("utf-8") for t in texts]
    found = lm.perplexity(held, given)
    nan = math.nan
    return [(n.nll / math.log(2) / n.bytes, n.nll / n.tokens) if n.bytes and n.tokens else (nan, nan) for n in found]


def perplexity(before: Sequence[str], after: Sequence[str], model: Path | lm.LM, seed: int = 0) -> dict[str, Any]:
    """Both distributions over n pairs: mean, quantiles, histogram, and the paired difference with its interval.

    `edges` are bits per byte, one more than there are columns. `lower` is the share of pairs whose rewrite costs fewer
    bits per byte. Pairs with an empty side are left out. Raises FitraError for a folder that holds no model.
    """
    held = load(model) if isinstance(model, Path) else model
    n = len(before)
    both = np.array(_scores([*before, *after], held), dtype=np.float64).reshape(2, n, 2)
    both = both[:, ~np.isnan(both).any(axis=(0, 2))]
    if not both.shape[1]:
        return {"n": 0}
    bits, nats = both[..., 0], both[..., 1]
    # The rarest hundredth on either end does not stretch the picture: it is counted in the outer columns.
    low, high = np.quantile(bits, [0.005, 0.995])
    edges = np.linspace(low, max(high, low + 1e-3), _COLUMNS + 1)
    gap = stats.paired_difference(bits[0], bits[1], seed=seed)
    return {
        "n": int(both.shape[1]),
        "edges": [round(float(e), 4) for e in edges],
        "lower": round(float((bits[1] < bits[0]).mean()), 4),
        "difference": {"value": round(gap.value, 4), "ci_low": round(gap.low, 4), "ci_high": round(gap.high, 4)},
        **{
            side: {
                "mean": round(float(bits[i].mean()), 4),
                "quantiles": {f"{q:g}": round(float(np.quantile(bits[i], q)), 4) for q in QUANTILES},
                "columns": np.histogram(np.clip(bits[i], edges[0], edges[-1]), edges)[0].tolist(),
                "per_token": round(float(np.exp(np.median(nats[i]))), 3),
            }
            for i, side in enumerate(("before", "after"))
        },
    }
