"""Load a model, score continuations, generate: what evaluation, hooks, judges and chat all stand on."""

from fitra.lm import heavy as _heavy  # noqa: F401  # first
from fitra.lm.checkpoint import load_any, step_folder, weights_of
from fitra.lm.generate import generate
from fitra.lm.labels import last_token, last_tokens
from fitra.lm.load import LM, load, model_folder, render, weights_hash
from fitra.lm.score import Nll, Score, perplexity, score, stream
from fitra.lm.split import WINDOW, split, windows

__all__ = [
    "LM",
    "WINDOW",
    "Nll",
    "Score",
    "generate",
    "last_token",
    "last_tokens",
    "load",
    "load_any",
    "model_folder",
    "perplexity",
    "render",
    "score",
    "split",
    "step_folder",
    "stream",
    "weights_hash",
    "weights_of",
    "windows",
]
