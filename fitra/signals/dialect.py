"""Standard, classical or dialect, and which region's dialect: word lists and a small linear model, added as evidence.

Two sources of evidence for dialect: lists of words (data/dialect.yaml, written for Fitra), each weighted by how much
commoner it is in dialect than in standard text, and a hashed linear model of words and their n-grams for the three
regions with data. A logistic regression adds them up by length, so that one «عايز» makes a tweet Egyptian and twenty
quoted ones leave a novel standard. Classical is told from modern by lists of both, by verbs after fa- and by tashkeel;
nothing is learnt for it. `python -m fitra.signals.train_dialect` makes the weights in data/ again.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from fitra import arabic
from fitra.signals import letters as kinds
from fitra.signals.linear import Linear, pooled
from fitra.signals.view import View

_YEAR = "^(?:1[89]|20)[0-9][0-9]$"
_FA_VERB = "^ف[اتنكلهقم][^يا][ء-ي]+$"
REGIONS = ("egypt", "levant", "gulf", "maghreb", "iraq", "sudan", "yemen")
LEARNT = ("msa", "egypt", "levant", "gulf")  # the outputs of the linear model
MODEL = Path(str(resources.files("fitra.signals") / "data" / "dialect.npz"))
WEIGHTS = MODEL.with_name("dialect_words.npz")

Floats = npt.NDArray[np.float64]


@functools.cache
def lists() -> dict[str, frozenset[str]]:
    """The word lists of data/dialect.yaml, folded: dialect, the regions, classical, modern."""
    given = yaml.safe_load((resources.files("fitra.signals") / "data" / "dialect.yaml").read_text("utf-8"))
    return {name: frozenset(arabic.fold(words, "search").split()) for name, words in given.items()}


@dataclass(frozen=True)
class Words:
    """Evidence of each listed word, in the order of `words` (sorted), and how it adds up to dialect or not."""

    words: pa.LargeStringArray  # (w,)
    dialect: npt.NDArray[np.float32]  # (w,) log-odds of some dialect against standard
    region: npt.NDArray[np.float32]  # (w, 7) log-odds among the regions, at most 0
    classical: npt.NDArray[np.float32]  # (w,) 1 for classical, -1.5 for modern
    mixing: npt.NDArray[np.float32]  # (6,) of `mixture`


def weigh(standard: dict[str, float], dialects: dict[str, float]) -> Words:
    """Weights from the relative frequency of words in standard and in dialect text; 10:1 where unseen."""
    named = lists()
    all_words = sorted(frozenset().union(*named.values()))
    rate, spoken = (np.array([r.get(w, 0.0) for w in all_words]) for r in (standard, dialects))
    inside = np.array([[w in named[r] for r in REGIONS] for w in all_words])
    of_region = np.asarray(inside.any(axis=1))
    dialectal = np.asarray(of_region) | np.array([w in named["dialect"] for w in all_words])
    dialect = np.where(dialectal, np.clip(np.log((spoken + 4e-4) / (rate + 4e-5)), 0, 3), 0.0)
    region = np.where(of_region[:, None] & ~inside, -dialect[:, None], 0.0)
    old = np.array([w in named["classical"] for w in all_words])
    new = np.array([w in named["modern"] for w in all_words])
    classical = np.where(old, 1.0, np.where(new, -1.5, 0.0))
    figures = (np.asarray(x, dtype=np.float32) for x in (dialect, region, classical, np.zeros(6)))
    return Words(pa.array(all_words, pa.large_string()), *figures)


def save_words(words: Words, path: Path = WEIGHTS) -> None:
    """Write the weights as an npz without pickled objects."""
    buffer = io.BytesIO()
    text = np.frombuffer("\n".join(words.words.to_pylist()).encode(), np.uint8)
    half = {k: getattr(words, k).astype(np.float16) for k in ("dialect", "region", "classical")}
    np.savez_compressed(buffer, words=text, mixing=words.mixing, **half)
    path.write_bytes(buffer.getvalue())


@functools.cache
def load_words() -> Words:
    """The shipped weights."""
    with np.load(WEIGHTS, allow_pickle=False) as z:
        words = pa.array(z["words"].tobytes().decode().split("\n"), pa.large_string())
        figures = (z[k].astype(np.float32) for k in ("dialect", "region", "classical", "mixing"))
        return Words(words, *figures)


@functools.cache
def load_model() -> Linear:
    """The shipped linear model."""
    return Linear.load(MODEL)


def _log_softmax(x: Floats) -> Floats:
    x = x - x.max(axis=1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=1, keepdims=True)))


def mixture(dialect: Floats, learnt: Floats, n_words: Floats) -> Floats:
    """The features (n, 6) of dialect against standard: list evidence per word, the model's log-odds, both by length."""
    per_word, length = dialect / np.maximum(n_words, 1), np.log1p(n_words) / 4
    return np.stack([np.ones_like(length), length, per_word, per_word * length, learnt, learnt * length], axis=1)


def _learnt(view: View, model: Linear) -> Floats:
    """The model's log-probabilities (n, 4), from words in Arabic letters alone: it has seen no others to learn from."""
    keep = (_matches(view, "[\u0621-\u06ff]") > 0)[view.ids]
    sums, counts = model.sums(view)
    found = pooled(sums * keep[:, None], counts * keep, view, None, model.space.pooling) + model.bias
    return _log_softmax(found.astype(np.float64))


def dialect_features(view: View, model: Linear, words: Words) -> tuple[Floats, Floats]:
    """`mixture` of each text (n, 6), and the model's log-probabilities (n, 4) of `LEARNT`."""
    learnt = _learnt(view, model)
    odds = np.logaddexp.reduce(learnt[:, 1:], axis=1) - learnt[:, 0]
    dialect = kinds.listed_sums(view, words.words, words.dialect[:, None])[:, 0]
    return mixture(dialect, odds, view.n_words.astype(np.float64)), learnt


def evidence(view: View, model: Linear | None = None, words: Words | None = None) -> Floats:
    """Log-odds (n, 9) of msa, classical and the `REGIONS` against msa; regions share what speaks for dialect."""
    model, words = model or load_model(), words or load_words()
    features, learnt = dialect_features(view, model, words)
    of_words = kinds.listed_sums(view, words.words, np.column_stack((words.classical, words.region)))
    classical, region = of_words[:, 0], of_words[:, 1:]
    # The model knows three regions; the others are unlikely until their words are seen.
    known = np.maximum(0.5 * (learnt[:, 1:4] - learnt[:, 1:4].max(axis=1, keepdims=True)), -2)
    region[:, :3] += known
    region[:, 3:] -= 2.2
    out = np.zeros((len(view), 2 + len(REGIONS)))
    out[:, 1] = _classical(view, classical)
    # Text without any listed word is hardly dialect, however the model likes its n-grams: classical prose is as far
    # from the standard it has seen. What speaks for classical speaks against dialect as well.
    n = np.minimum(view.n_words, 40)
    spoken = np.minimum(features @ words.mixing, 1 + 2 * n * (features[:, 2] - 0.05))
    out[:, 2:] = (spoken - 0.5 * np.maximum(out[:, 1], 0))[:, None] + _log_softmax(region)
    return out


def _classical(view: View, listed: Floats) -> Floats:
    """Log-odds of classical against modern standard text: list words, verbs after fa-, no years, tashkeel."""
    n = np.maximum(view.n_words, 1).astype(np.float64)
    share = (listed + 2 * view.sums(_matches(view, _FA_VERB)) - 2 * view.sums(_matches(view, _YEAR))) / n
    found = kinds.letters(view)
    vocalised = found.counts[:, kinds.MARK] / np.maximum(found.in_arabic, 1)
    # Few words scatter more: at this bar 2 to 4% of Wikipedia, of either length, passes it.
    over = share - 0.045 - 0.35 / np.sqrt(n)
    return np.asarray(4 * np.sqrt(np.minimum(n, 400)) * over + 6 * np.clip(2 * vocalised - 0.3, 0, 1))


def _matches(view: View, pattern: str) -> npt.NDArray[np.float32]:
    found = pc.match_substring_regex(view.vocab, pattern)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.float32)


def label(view: View) -> tuple[list[str], list[str | None], npt.NDArray[np.float32]]:
    """Variety (msa, classical, dialect), region of dialects (else None), and confidence 0 to 1, for each text.

    Made for text in Arabic; a text without words is msa with confidence 0. The confidence is of the variety.
    """
    p = np.exp(_log_softmax(evidence(view)))
    grouped = np.stack([p[:, 0], p[:, 1], p[:, 2:].sum(axis=1)], axis=1)
    best = np.argmax(grouped, axis=1)
    sure = grouped[np.arange(len(view)), best]
    region = np.argmax(p[:, 2:], axis=1)
    empty = view.n_words == 0
    best[empty], sure[empty] = 0, 0
    variety = [("msa", "classical", "dialect")[b] for b in best.tolist()]
    regions = [REGIONS[r] if v == "dialect" else None for v, r in zip(variety, region.tolist(), strict=True)]
    return variety, regions, sure.astype(np.float32)
