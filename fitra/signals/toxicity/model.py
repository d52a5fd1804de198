"""The trained toxicity scorer: one hashed linear model with calibrated outputs, read from an npz that ships.

Outputs: `toxicity`, a head of its own trained on toxic against not toxic whatever the kind (the maximum of the headings
would only know what the headings know), and the five headings. Each margin was scaled so that its logistic is a
probability on the calibration rows named in docs/toxicity.md. A long text is read by windows of 36 words, and its
figure is the mean over the most toxic fifth of them: a paragraph of abuse shows in a page, one line on war does not
damn a book.
"""

from __future__ import annotations

import weakref
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fitra.errors import FitraError
from fitra.signals import linear
from fitra.signals.toxicity import classes
from fitra.signals.toxicity.lexicon import HEADINGS
from fitra.signals.view import View

Floats = npt.NDArray[np.float32]

OUTPUTS = ("toxicity", *HEADINGS)
SPACE = linear.Space(bits=19, ngrams=(2, 5), pairs=True, pooling="sqrt")
CLASS_VALUE = 4.0  # what a class feature is worth in ordinary features
WINDOW, SHARE = linear.WINDOW, 0.2


def extra(view: View) -> linear.Extra:
    """The class features of a view."""
    at, hashes = classes.class_hashes(view, linear.view_hashes(view, SPACE.ngrams)[0])
    return linear.Extra(at, hashes, CLASS_VALUE)


@cache
def shipped() -> linear.Linear:
    """The scorer that comes with the package."""
    with resources.as_file(resources.files("fitra.signals").joinpath("data/toxicity.npz")) as path:
        return load(path)


def load(path: Path) -> linear.Linear:
    """A scorer made by `python -m fitra.signals.train toxicity`; raises `FitraError` for any other file."""
    model = linear.Linear.load(path)
    if model.names != OUTPUTS or model.space != SPACE:
        raise FitraError(f"{path}: a linear model, but no toxicity scorer of this version", "Train it anew.")
    return model


_last: list[tuple[weakref.ref[View], linear.Linear, Floats]] = []


def probabilities(view: View, model: linear.Linear | None = None) -> Floats:
    """(n, 6) in the order of `OUTPUTS`; a text without words has 0."""
    model = model or shipped()
    for of, by, found in _last:
        if of() is view and by is model:
            return found
    margins = model.margins(view, WINDOW, SHARE, extra(view))
    out: Floats = (1 / (1 + np.exp(-np.clip(margins, -30, 30)))).astype(np.float32)
    out[view.n_words == 0] = 0
    _last[:] = [(weakref.ref(view, lambda _: _last.clear()), model, out)]
    return out


def score_all(view: View, model: linear.Linear | None = None) -> dict[str, Floats]:
    """Probability of each of `HEADINGS` for each text of the view, (n,) each."""
    found = probabilities(view, model)
    return {heading: found[:, 1 + i] for i, heading in enumerate(HEADINGS)}


def overall(view: View, model: linear.Linear | None = None) -> Floats:
    """Probability (n,) that a text is toxic: abusive, hateful, obscene or threatening; spam is not counted."""
    return probabilities(view, model)[:, 0]


def threshold(model: linear.Linear | None = None) -> float:
    """The default threshold on `overall`: chosen for few false alarms on clean text (docs/toxicity.md)."""
    value: Any = (model or shipped()).meta["threshold"]
    return float(value)
