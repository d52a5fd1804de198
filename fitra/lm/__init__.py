"""Load a model, score continuations, generate: what evaluation, hooks, judges and chat all stand on."""

from fitra.lm import heavy as _heavy  # noqa: F401  # first
from fitra.lm.generate import generate
from fitra.lm.load import LM, load, model_folder, render, weights_hash
from fitra.lm.score import Nll, Score, perplexity, score, stream

__all__ = [
    "LM",
    "Nll",
    "Score",
    "generate",
    "load",
    "model_folder",
    "perplexity",
    "render",
    "score",
    "stream",
    "weights_hash",
]
