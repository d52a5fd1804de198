"""The worker: a small model that learns from accepted rewrites and then does the rest of the corpus.

`pairs` reads what an align stage accepted, `train` fine-tunes any causal model on it, `job` is what `llm.run` asks a
trained worker (through `fitra.align.serve` or any endpoint). Prompt and answer are made in one place, `prompt`, for
training and for use. Only `train` needs torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fitra.align.worker.pairs import Pair, pairs
from fitra.align.worker.prompt import job, messages, parse, target
from fitra.recipe import Worker

__all__ = ["Pair", "job", "messages", "pairs", "parse", "target", "train"]


def train(cfg: Worker, rows: Path, base: Path, out: Path, *, seed: int = 7) -> dict[str, Any]:
    """Fine-tune `base` on the accepted rows of an align stage; see `fitra.align.worker.tune`."""
    from fitra.align.worker.tune import tune

    return tune(cfg, rows, base, out, seed=seed)
