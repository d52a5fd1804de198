"""How the shipped toxicity scorer is made: sources, fixed split, labels per heading, fit, calibration.

Run through `python -m fitra.signals.train toxicity`; the card is docs/toxicity.md. Nothing here is needed to score.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import yaml

from fitra.errors import FitraError
from fitra.signals import linear
from fitra.signals.toxicity import classes, model
from fitra.signals.toxicity.lexicon import HEADINGS
from fitra.signals.view import View, view

SETS = {  # name: (file, licence class)
    "mpold": ("mpold_ar", "A"),
    "mlma": ("mlma_ar", "A"),
    "hatecheck": ("multilingual_hatecheck_ar", "A"),
    "osact4": ("osact4_ar", "D"),
    "lhsab": ("lhsab_levantine", "D"),
}
SHIPPED = tuple(name for name, (_, licence) in SETS.items() if licence == "A")
PARTS = 5  # part 0 is the test part, part 1 sets what is chosen and calibrated, the rest trains
HEADS = ("toxic", *HEADINGS, "negative")  # "negative": tone of a post, learnt from sentiment labels
NEGATIVE_SHARE = 0.15  # of the tone head in the overall margin, both in standard deviations
OWN_WEIGHT, CONTRAST_WEIGHT, CLEAN_WEIGHT = 0.1, 1.5, 0.09  # of one example, contrast, clean passage; rows have about 1
OWN_FOR_HEADINGS = 5.0  # how much more our own rows weigh in the headings than in the overall head
HEADING_RATE = 0.05  # base rate at which the headings are calibrated: their sets are too odd a mix to say one
EXAMPLES = 40  # filled copies of each hand-written template
FALSE_ALARMS = 0.015  # share of clean articles that the default threshold may flag on the calibration part
CLEAN_WORDS = 36
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Labelled:
    """Rows of the five sets: text, label 0/1, set, part 0..4 and the source's own columns."""

    texts: list[str]
    label: npt.NDArray[np.int64]
    source: npt.NDArray[np.str_]
    part: npt.NDArray[np.int64]
    rows: list[dict[str, Any]]


def labelled(data: Path) -> Labelled:
    """The five sets with their fixed split: near-duplicates (and HateCheck's templates) never part."""
    rows: list[dict[str, Any]] = []
    source: list[str] = []
    for name, (file, _) in SETS.items():
        found = table(data / "toxicity" / f"{file}.parquet").to_pylist()
        rows += found
        source += [name] * len(found)
    texts = [str(r["text"]).replace("<LF>", "\n") for r in rows]
    first = clusters(view(texts))
    keys = [
        f"hatecheck:{r['template_id']}" if s == "hatecheck" else f"{source[c]}:{rows[c]['id']}"
        for r, s, c in zip(rows, source, first, strict=True)
    ]
    part = np.array([_part(k) for k in keys])
    return Labelled(texts, np.array([int(r["label"]) for r in rows]), np.array(source), part, rows)


def table(path: Path) -> Any:
    """A Parquet table, or a `FitraError` that says what is missing."""
    try:
        return pq.read_table(path)
    except (OSError, ValueError) as e:
        raise FitraError(
            f"{path}: cannot be read ({type(e).__name__})", "--data is the folder with toxicity/, raw/ ..."
        ) from e


def clusters(v: View, shared: float = 0.5) -> npt.NDArray[np.int64]:
    """For each text the first text of its near-duplicate cluster: words and word pairs with Jaccard >= `shared`."""
    n = len(v)
    words = linear.ngram_hashes(v.vocab, (0, 0))[0][v.ids]
    doc = np.repeat(np.arange(n), v.n_words)
    paired = np.flatnonzero(doc[:-1] == doc[1:])
    pairs = linear.mix(words[paired] * np.uint64(31) + words[paired + 1])
    owner = np.concatenate([doc, doc[paired]])
    order = np.argsort(owner, kind="stable")
    shingles = np.concatenate([words, pairs])[order]
    bounds = np.searchsorted(owner[order], np.arange(n + 1))
    full = np.flatnonzero(np.diff(bounds))
    rng = np.random.default_rng(7)
    parent = np.arange(n)

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    def shingle_set(i: int) -> set[int]:
        return set(shingles[bounds[i] : bounds[i + 1]].tolist())

    for _ in range(20):  # 20 bands of three minima: finds Jaccard 0.5 with probability 0.93, 0.7 always
        key = np.zeros(len(full), np.uint64)
        for odd in rng.integers(1, 2**62, 3, dtype=np.uint64) * np.uint64(2) + np.uint64(1):
            key = linear.mix(key + np.minimum.reduceat(linear.mix(shingles * odd), bounds[:-1][full]))
        order = np.argsort(key, kind="stable")
        for at in np.flatnonzero(key[order][1:] == key[order][:-1]):
            i, j = int(full[order[at]]), int(full[order[at + 1]])
            a, b = root(i), root(j)
            if a != b:
                x, y = shingle_set(i), shingle_set(j)
                if len(x & y) >= shared * len(x | y):
                    parent[max(a, b)] = min(a, b)
    return np.array([root(i) for i in range(n)])


def examples(parts: tuple[int, ...], seed: int = 0) -> tuple[list[str], list[str]]:
    """Our own examples of these parts (a template never parts), filled: (texts, heading of each, "" for clean)."""
    raw = yaml.safe_load(resources.files("fitra.signals").joinpath("data/abuse_examples.yaml").read_text("utf-8"))
    rng = np.random.default_rng(seed)
    out: dict[str, str] = {}
    for heading, templates in (*raw["headings"].items(), ("", raw["clean"])):
        for template in templates:
            filled = [
                _SLOT.sub(lambda m: str(rng.choice(raw["slots"][m[1]])), template)
                for _ in range(EXAMPLES if _SLOT.search(template) else 1)
            ]
            if _part(template) in parts:
                out |= dict.fromkeys(filled, heading)
    return list(out), list(out.values())


def _part(key: str) -> int:
    return hashlib.sha256(key.encode()).digest()[0] % PARTS


def articles(data: Path, name: str, parts: tuple[int, ...]) -> list[str]:
    """The texts of `raw/NAME.parquet` in these parts."""
    t = table(data / "raw" / f"{name}.parquet")
    pairs = zip(t["doc_id"].to_pylist(), t["text"].to_pylist(), strict=True)
    return [text for key, text in pairs if _part(key) in parts]


def clean_text(data: Path, parts: tuple[int, ...]) -> list[str]:
    """Passages that nobody would call toxic, for training: class A and B only."""
    out = []
    for name in ("ar_wiki", "arz_wiki_egyptian"):
        for text in articles(data, name, parts):
            words = text.split()[:400]
            out += [" ".join(words[i : i + CLEAN_WORDS]) for i in range(0, len(words), CLEAN_WORDS)]
    pairs = table(data / "parallel" / "tatoeba_ar_en.parquet")
    out += pairs["ar"].to_pylist()[::3] + pairs["en"].to_pylist()[::10]
    return out + list(table(data / "parallel" / "tico19_ar_en.parquet")["ar"].to_pylist())


def headings(row: dict[str, Any], source: str, label: int, obscene: bool = False) -> list[float]:
    """What a labelled row says about each heading; NaN where it says nothing; `obscene`: it has an obscene word."""
    raw, sub = str(row.get("label_raw") or ""), str(row.get("subtype") or "")
    nan = float("nan")
    if not label and source != "hatecheck":
        return [0.0, 0.0, 0.0, 0.0, nan]
    if source == "hatecheck":
        threat = 1.0 if sub.startswith("threat") else nan if label else 0.0
        calm = 0.0 if sub.startswith(("ident", "negate", "counter")) else nan
        return [calm, float(label), 1.0 if obscene and label else nan, threat, 0.0]
    hate = 1.0 if "hate" in sub or "hateful" in raw else 0.0 if raw in ("Offensive", "abusive", "OFF") else nan
    return [1.0 if hate != 1.0 else nan, hate, 1.0 if sub == "vulgar" or obscene else nan, nan, nan]


def obscene(texts: list[str]) -> list[bool]:
    """Whether each text has a word of the class `sexslur`."""
    v = view(texts)
    bit = 1 << classes.lexicon().names.index("sexslur")
    bits = classes.classes(v, linear.ngram_hashes(v.vocab, (0, 0))[0]) & bit
    found = np.concatenate(([0], np.cumsum(bits > 0)))
    return (found[v.bounds[1:]] > found[v.bounds[:-1]]).tolist()  # type: ignore[no-any-return]


# (heading of an example, another heading it may have too): those are not known for the example.
_OVERLAP = {
    ("sexual", "harassment"), ("hate", "harassment"), ("violence", "harassment"), ("violence", "hate"),
    ("hate", "violence"),
}  # fmt: skip


@dataclass(frozen=True)
class Set:
    """Everything one fit learns from; labels and weights (n, len(HEADS))."""

    texts: list[str]
    labels: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    groups: npt.NDArray[np.int64]


def assemble(data: Path, sets: Labelled, names: tuple[str, ...], parts: tuple[int, ...], seed: int) -> Set:
    """Labelled rows of these sets and parts, our examples, clean passages, and posts with a tone label."""
    nan = float("nan")
    texts: list[str] = []
    labels: list[list[float]] = []
    weight: list[float] = []
    groups: list[int] = []

    def add(new: list[str], rows: list[list[float]], each: float, group: int) -> None:
        texts.extend(new)
        labels.extend(rows)
        weight.extend([each] * len(new))
        groups.extend([group] * len(new))

    for group, name in enumerate(names):
        at = np.flatnonzero((sets.source == name) & np.isin(sets.part, parts))
        bad = obscene([sets.texts[i] for i in at])
        rows = [
            [float(sets.label[i]), *headings(sets.rows[i], name, int(sets.label[i]), b), nan]
            for i, b in zip(at, bad, strict=True)
        ]
        add([sets.texts[i] for i in at], rows, (2000 / max(1, len(at))) ** 0.5, group)
    own, of = examples(parts, seed)
    rows = [[float(bool(h) and h != "spam"), *(float(h == x) for x in HEADINGS), nan] for h in of]
    for row, h in zip(rows, of, strict=True):  # an insult may also be hateful, a threat an insult: not known
        if h:
            for j, x in enumerate(HEADINGS):
                if x != h and x != "spam" and h != "spam":
                    row[1 + j] = nan if (h, x) in _OVERLAP else 0.0
    for abusive in (True, False):
        some = [i for i, h in enumerate(of) if bool(h) == abusive]
        add([own[i] for i in some], [rows[i] for i in some], OWN_WEIGHT if abusive else CONTRAST_WEIGHT, len(names))
    clean = clean_text(data, parts)
    add(clean, [[0.0] * 6 + [nan]] * len(clean), CLEAN_WEIGHT, len(names))
    posts = table(data / "dialect" / "arsarcasm_v2.parquet").to_pylist()
    tone = [[nan] * 6 + [float(r["sentiment"] == "NEG")] for r in posts]
    add([r["text"] for r in posts], tone, 1.0, len(names) + 1)
    return Set(
        texts,
        np.array(labels, np.float32),
        _weights(np.array(weight, np.float32), np.array(groups) == len(names)),
        np.array(groups, np.int64),
    )


def _weights(weight: npt.NDArray[np.float32], own: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """(n, len(HEADS)); the headings learn more from our own rows, since the sets say little of them."""
    out = np.repeat(weight[:, None], len(HEADS), axis=1)
    out[own, 1:-1] *= OWN_FOR_HEADINGS
    return out


def fit(train: Set, seed: int, epochs: int = 4) -> linear.Linear:
    """One linear model with an output per head, the tone head folded into the overall one: outputs `model.OUTPUTS`."""
    v = view(train.texts)
    rows = linear.features(v, model.SPACE, model.extra(v))
    options: dict[str, Any] = {"loss": "sigmoid", "weight": train.weight, "groups": train.groups}
    heads = linear.fit(rows, train.labels, HEADS, model.SPACE, seed=seed, epochs=epochs, **options)
    margins = heads.margins(v, extra=model.extra(v)).std(axis=0)
    share = NEGATIVE_SHARE * margins[0] / margins[-1]
    table = heads.table[:, :-1].copy()
    table[:, 0] += share * heads.table[:, -1]
    bias = heads.bias[:-1].copy()
    bias[0] += share * heads.bias[-1]
    return replace(heads, weights=table, scale=np.ones(len(bias), np.float32), bias=bias, names=model.OUTPUTS)


def platt(margin: npt.NDArray[Any], label: npt.NDArray[Any], weight: npt.NDArray[Any]) -> tuple[float, float]:
    """(slope, offset) that make the logistic of slope * margin + offset a probability; Newton's method."""
    x = np.stack([margin, np.ones_like(margin)], axis=1).astype(np.float64)
    beta = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        slope = x.T @ (weight * (p - label)) + 1e-3 * (beta - [1.0, 0.0])
        curve = (x * (weight * p * (1 - p))[:, None]).T @ x + 1e-3 * np.eye(2)
        step = np.linalg.solve(curve, slope)
        beta -= step
        if np.abs(step).max() < 1e-9:
            break
    return float(beta[0]), float(beta[1])


def calibrated(found: linear.Linear, data: Path, sets: Labelled, names: tuple[str, ...], seed: int) -> dict[str, Any]:
    """Slopes, offsets and the default threshold, from part 1 of the sets, our examples and clean articles.

    Each set weighs the same in `toxicity`, and our examples with clean passages weigh as one set, so its base rate is
    that of such a mix; the headings are set to a base rate of `HEADING_RATE`.
    """
    rows = assemble(data, sets, names, (1,), seed)
    v = view(rows.texts)
    margins = found.margins(v, model.WINDOW, model.SHARE, model.extra(v)).astype(np.float64)
    mass = np.bincount(rows.groups, minlength=len(names) + 2).astype(np.float64)
    weight = 500 / mass[rows.groups]
    lines = []
    for j in range(len(model.OUTPUTS)):
        known = ~np.isnan(rows.labels[:, j])
        y = rows.labels[known, j].astype(np.float64)
        w = weight[known]
        if j:
            for value, rate in ((1, HEADING_RATE), (0, 1 - HEADING_RATE)):
                w[y == value] *= 1000 * rate / max(1e-9, w[y == value].sum())
        lines.append(platt(margins[known, j], y, w))
    clean = view(articles(data, "ar_wiki", (1,)))
    figure = found.margins(clean, model.WINDOW, model.SHARE, model.extra(clean))[:, 0] * lines[0][0] + lines[0][1]
    allowed = 1 / (1 + np.exp(-np.quantile(figure, 1 - FALSE_ALARMS)))
    return {"lines": lines, "threshold": round(float(np.clip(allowed, 0.5, 0.95)), 3)}


def make(data: Path, names: tuple[str, ...], seed: int = 0) -> linear.Linear:
    """The scorer: calibrated on part 1 by a model of parts 2-4, then fitted again on parts 1-4. Part 0 stays unseen."""
    sets = labelled(data)
    found = calibrated(fit(assemble(data, sets, names, (2, 3, 4), seed), seed), data, sets, names, seed)
    final = fit(assemble(data, sets, names, (1, 2, 3, 4), seed), seed)
    slope, offset = np.array(found["lines"], np.float32).T
    final = replace(final, bias=final.bias * slope + offset, meta={"threshold": found["threshold"], "sets": names})
    return replace(final, weights=(final.table * slope).astype(np.float16))
