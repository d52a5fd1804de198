"""Which documents the expert rewrites first: those the worker will learn from (the paper's ablation of the seed).

The paper compared seeds of high perplexity, of low perplexity, and random ones (three draws); its released seed is
random. High perplexity favours broken text: look at what it picks before you pay for it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fitra.align import perplexity
from fitra.errors import FitraError

if TYPE_CHECKING:
    from fitra import lm

__all__ = ["By", "choose"]

By = Literal["random", "high", "low"]


def choose(
    ids: Sequence[str],
    texts: Sequence[str],
    n: int,
    by: By = "random",
    model: Path | lm.LM | None = None,
    seed: int = 0,
) -> list[str]:
    """The ids of at most `n` documents, in the order given; the same ones whatever that order is.

    `random` draws evenly by a hash of seed and id, and needs no texts. `high` and `low` take those with the most and
    the fewest bits per byte under `model` (a folder or a loaded one); empty texts are never taken, ties go by id.
    Raises FitraError for another `by`, a missing model, or lists of different lengths.
    """
    if by == "random":
        rank = {i: hashlib.sha256(f"{seed}\0{i}".encode("utf-8", "surrogatepass")).digest() for i in ids}
        chosen = set(sorted(ids, key=lambda i: rank[i])[: max(0, n)])
    elif by in ("high", "low"):
        if model is None:
            raise FitraError(f"seed by '{by}' perplexity: no model given.", "Give a model folder, or choose 'random'.")
        if len(ids) != len(texts):
            raise FitraError(f"seed: {len(ids)} ids, but {len(texts)} texts.", "Give one text for each id.")
        sign = -1 if by == "high" else 1
        bits = perplexity.bits_per_byte(texts, model)
        ranked = sorted((sign * b, i) for i, b in zip(ids, bits, strict=True) if not math.isnan(b))
        chosen = {i for _, i in ranked[: max(0, n)]}
    else:
        raise FitraError(f"seed by '{by}': not known.", "Use random, high or low.")
    return [i for i in ids if i in chosen]
