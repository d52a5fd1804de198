"""A hashed linear model over a `View`: words, pieces of words and word pairs, one table of weights per output.

Features of a text: its words; the character n-grams inside each word with marks for its two ends; pairs of neighbouring
words. Each is hashed to one of 2**bits buckets, with the next bit of the hash as its sign, so that collisions cancel
rather than add (Weinberger et al. 2009). A text's figure is

    margin = bias + (sum of sign * weight over its features) / norm,   norm = sqrt(n features), or n features for "mean"

The features of a word depend on the word alone, so hashing and summing weights is done per *different* word of the
batch and gathered per occurrence; nothing here runs per word or per character in Python. The hashes of a view are made
once for all models that look at it with the same n-grams. A long text can be read through windows: the margin is then
that of its strongest window, so that one bad paragraph does not drown in a book.

`fit` trains by Adagrad in NumPy: same rows, same seed, same machine type, same bytes.
"""

from __future__ import annotations

import functools
import io
import json
import weakref
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from fitra import arabic
from fitra.errors import FitraError
from fitra.signals.view import View

__all__ = ["Extra", "Linear", "Rows", "Space", "features", "fit", "mix", "ngram_hashes", "view_hashes"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

WORD_CHARS = 32  # only the start of a word is looked at: a line without spaces must not make millions of n-grams
WINDOW = 36  # words
VERSION = 1
_P = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xFF51AFD7ED558CCD)
_EDGE = 2  # the mark at both ends of a word: a code point that folded text cannot hold


@dataclass(frozen=True)
class Space:
    """What is hashed: 2**bits buckets; n-grams of these sizes; pairs of words or not; how sums become means."""

    bits: int = 18
    ngrams: tuple[int, int] = (2, 5)  # smallest and largest n; (0, 0) for none
    pairs: bool = True
    pooling: Literal["sqrt", "mean"] = "sqrt"


@dataclass(frozen=True)
class Rows:
    """Sparse rows: row i has `values[ptr[i]:ptr[i+1]]` in the columns `buckets[ptr[i]:ptr[i+1]]`."""

    ptr: Ints
    buckets: npt.NDArray[np.int32]
    values: Floats

    def __len__(self) -> int:
        return len(self.ptr) - 1

    def take(self, rows: Ints) -> Rows:
        at, ptr = _ranges(self.ptr[:-1][rows], np.diff(self.ptr)[rows])
        return Rows(ptr, self.buckets[at], self.values[at])


def _ranges(starts: Ints, lengths: Ints) -> tuple[Ints, Ints]:
    """Positions starts[i] ... starts[i] + lengths[i] - 1 for all i in one array, and where each i begins in it."""
    ptr = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    at = np.arange(ptr[-1], dtype=np.int64) + np.repeat(starts - ptr[:-1], lengths)
    return at, ptr


def mix(h: Hashes) -> Hashes:
    h = (h ^ (h >> np.uint64(33))) * _MIX
    return h ^ (h >> np.uint64(29))


def ngram_hashes(words: Any, ngrams: tuple[int, int]) -> tuple[Hashes, Hashes, Ints]:
    """(hash of each word, hashes of its n-grams, (n + 1,) where each word's n-grams begin) of an Arrow string array."""
    n = len(words)
    codes, bounds = arabic.code_points(pc.utf8_slice_codeunits(words, 0, WORD_CHARS))
    lengths = np.diff(bounds)
    at, _ = _ranges(bounds[:-1] + 2 * np.arange(n, dtype=np.int64) + 1, lengths)
    ptr = bounds + 2 * np.arange(n + 1, dtype=np.int64)
    chars = np.full(int(ptr[-1]), _EDGE, dtype=np.uint64)
    chars[at] = codes[bounds[0] : bounds[-1]]
    inside = np.arange(len(chars), dtype=np.int64) - np.repeat(ptr[:-1], lengths + 2)
    powers = np.cumprod(np.full(WORD_CHARS + 2, _P), dtype=np.uint64)
    whole = np.add.reduceat(chars * powers[inside], ptr[:-1]) if n else np.zeros(0, np.uint64)
    left = np.repeat(lengths + 2, lengths + 2) - inside  # characters from here to the end of the word
    rolling, found, owner = np.zeros(len(chars), np.uint64), [], []
    for size in range(1, ngrams[1] + 1):
        rolling = rolling[: len(chars) - size + 1] * _P + chars[size - 1 :]
        if size >= max(1, ngrams[0]):
            here = np.flatnonzero(left[: len(rolling)] >= size)
            found.append(mix(rolling[here] + np.uint64(size)))
            owner.append(here)
    if not found:
        return mix(whole), np.zeros(0, np.uint64), np.zeros(n + 1, np.int64)
    position = np.concatenate(owner)
    word = np.searchsorted(ptr, position, side="right") - 1
    order = np.argsort(word, kind="stable")
    counts = np.bincount(word, minlength=n)
    return mix(whole), np.concatenate(found)[order], np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))


def _bucket(h: Hashes, bits: int) -> tuple[npt.NDArray[np.int32], Floats]:
    sign = np.where((h >> np.uint64(bits)) & np.uint64(1), np.float32(1), np.float32(-1))
    return (h & np.uint64((1 << bits) - 1)).astype(np.int32), sign


@dataclass(frozen=True)
class Extra:
    """Features that the caller found: `hashes[i]`, at word occurrence `at[i]`, each worth `value` ordinary ones.

    They do not count in the norm.
    """

    at: Ints
    hashes: Hashes
    value: float = 4.0


@dataclass(frozen=True)
class _Hashed:
    """A view's features before pooling: per different word (itself first, then its n-grams), and per pair of words."""

    ptr: Ints  # (len(vocab) + 1,)
    buckets: npt.NDArray[np.int32]
    signs: Floats
    pair_buckets: npt.NDArray[np.int32]  # (n occurrences,), of a word with the next one
    pair_signs: Floats  # 0 at the last word of a text, and everywhere when pairs are off


_last: list[tuple[weakref.ref[View], tuple[int, int], tuple[Hashes, Hashes, Ints]]] = []


def view_hashes(view: View, ngrams: tuple[int, int]) -> tuple[Hashes, Hashes, Ints]:
    """`ngram_hashes` of the view's words, kept for the next model that looks at the same view."""
    for of, size, found in _last:
        if of() is view and size == ngrams:
            return found
    found = ngram_hashes(view.vocab, ngrams)
    _last[:] = [(weakref.ref(view, lambda _: _last.clear()), ngrams, found)]
    return found


def _hashed(view: View, space: Space) -> _Hashed:
    words, grams, ptr = view_hashes(view, space.ngrams)
    n = len(words)
    both = np.empty(len(grams) + n, np.uint64)
    both[ptr[:-1] + np.arange(n)] = words
    rest = np.ones(len(both), bool)
    rest[ptr[:-1] + np.arange(n)] = False
    both[rest] = grams
    buckets, signs = _bucket(both, space.bits)
    pair_buckets, pair_signs = np.zeros(len(view.ids), np.int32), np.zeros(len(view.ids), np.float32)
    if space.pairs and len(view.ids) > 1:
        h = words[view.ids]
        pair_buckets[:-1], pair_signs[:-1] = _bucket(mix(h[:-1] * _P + h[1:]), space.bits)
        pair_signs[view.bounds[1:][view.bounds[1:] > 0] - 1] = 0
    return _Hashed(ptr + np.arange(n + 1), buckets, signs, pair_buckets, pair_signs)


def _norm(counts: npt.NDArray[Any], pooling: str) -> Doubles:
    full: Doubles = np.maximum(counts, 1).astype(np.float64)
    if pooling == "sqrt":
        np.sqrt(full, out=full)
    return full


def features(view: View, space: Space, extra: Extra | None = None) -> Rows:
    """The rows `fit` learns from: signed counts over norm, (n texts, 2**bits); equal features are not added up."""
    h = _hashed(view, space)
    sizes = np.diff(h.ptr)[view.ids]
    at, _ = _ranges(h.ptr[:-1][view.ids], sizes)
    paired = np.flatnonzero(h.pair_signs)
    doc = np.repeat(np.arange(len(view)), view.n_words)
    owner = np.concatenate([np.repeat(doc, sizes), doc[paired]])
    norm = _norm(np.bincount(owner, minlength=len(view)), space.pooling)
    signs, buckets = [h.signs[at], h.pair_signs[paired]], [h.buckets[at], h.pair_buckets[paired]]
    if extra is not None:
        more, sign = _bucket(extra.hashes, space.bits)
        signs, buckets = [*signs, sign * np.float32(extra.value)], [*buckets, more]
        owner = np.concatenate([owner, doc[extra.at]])
    order = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=len(view))
    values = np.concatenate(signs)[order] / np.repeat(norm, counts)
    return Rows(
        np.concatenate(([0], np.cumsum(counts, dtype=np.int64))),
        np.concatenate(buckets)[order],
        values.astype(np.float32),
    )


@dataclass(frozen=True)
class Linear:
    """Weights (2**bits, k), their scale and the biases (k,), and the k outputs' names; `meta` is the trainer's note."""

    weights: npt.NDArray[Any]  # int8 or float16
    scale: Floats  # (k,): weight = stored * scale
    bias: Floats
    names: tuple[str, ...]
    space: Space = Space()
    meta: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def table(self) -> Floats:
        """Weights as float32, (2**bits, k)."""
        return self.weights.astype(np.float32) * self.scale

    def sums(self, view: View, extra: Extra | None = None) -> tuple[Floats, Ints]:
        """Per word occurrence: sum of signed weights (m, k) and number of features (m,), those of its pair included."""
        h = _hashed(view, self.space)
        if not len(view.ids):
            return np.zeros((0, len(self.names)), np.float32), np.zeros(0, np.int64)
        per_word = np.add.reduceat(self.table[h.buckets] * h.signs[:, None], h.ptr[:-1], axis=0)
        out = per_word[view.ids]
        if self.space.pairs:
            out += self.table[h.pair_buckets] * h.pair_signs[:, None]
        if extra is not None and len(extra.at):
            buckets, signs = _bucket(extra.hashes, self.space.bits)
            order = np.argsort(extra.at, kind="stable")
            at, begin = np.unique(extra.at[order], return_index=True)
            found = self.table[buckets[order]] * (signs[order] * np.float32(extra.value))[:, None]
            out[at] += np.add.reduceat(found, begin, axis=0)
        return out, np.diff(h.ptr)[view.ids] + (h.pair_signs != 0)

    def margins(self, view: View, window: int | None = None, share: float = 0.0, extra: Extra | None = None) -> Floats:
        """Log-odds (n, k) of each text, whole or by windows of `window` words (half overlapping).

        By windows, each output has the mean of its strongest ones: `share` of all windows, one at least.
        """
        sums, counts = self.sums(view, extra)
        return pooled(sums, counts, view, window, self.space.pooling, share) + self.bias

    def save(self, path: Path) -> None:
        """Write one npz without pickled objects."""
        note = {"version": VERSION, "fold": arabic.FOLD_VERSION, "names": self.names, "meta": self.meta}
        space = {"bits": self.space.bits, "ngrams": self.space.ngrams, "pairs": self.space.pairs}
        note |= {"space": space | {"pooling": self.space.pooling}}
        buffer = io.BytesIO()  # so that the file ends as named; zip entries carry a fixed date, hence equal bytes
        text = np.frombuffer(json.dumps(note, ensure_ascii=False, sort_keys=True).encode(), np.uint8)
        np.savez_compressed(buffer, weights=self.weights, scale=self.scale, bias=self.bias, note=text)
        Path(path).write_bytes(buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Linear:
        """Read what `save` wrote; raises `FitraError` for any other file."""
        try:
            with np.load(path, allow_pickle=False) as z:
                note = json.loads(z["note"].tobytes())
                s = note["space"]
                space = Space(s["bits"], (s["ngrams"][0], s["ngrams"][1]), s["pairs"], s["pooling"])
                out = cls(z["weights"], z["scale"], z["bias"], tuple(note["names"]), space, note["meta"])
        except (OSError, KeyError, ValueError, TypeError, IndexError, EOFError, zipfile.BadZipFile) as e:
            raise FitraError(
                f"{path}: not a linear model ({e})", "Train one with `python -m fitra.signals.train`."
            ) from e
        if note["version"] != VERSION or out.weights.shape != (1 << space.bits, len(out.names)):
            raise FitraError(f"{path}: a linear model of another version or with weights of the wrong shape")
        return out


def pooled(sums: Floats, counts: Ints, view: View, window: int | None, pooling: str, share: float = 0.0) -> Floats:
    """Occurrence sums (m, k) and feature counts (m,) to text figures (n, k), of whole texts or strongest windows."""
    n, k = len(view), sums.shape[1]
    total = np.concatenate((np.zeros((1, k)), np.cumsum(sums, axis=0, dtype=np.float64)))
    number = np.concatenate(([0], np.cumsum(counts)))
    if window is None:
        start, end = view.bounds[:-1], view.bounds[1:]
        return ((total[end] - total[start]) / _norm(number[end] - number[start], pooling)[:, None]).astype(np.float32)
    if not n:
        return np.zeros((0, k), np.float32)
    step = max(1, window // 2)
    windows = 1 + np.maximum(0, -(-(view.n_words - window) // step))
    offset, ptr = _ranges(np.zeros(n, np.int64), windows)
    start = np.repeat(view.bounds[:-1], windows) + offset * step
    end = np.minimum(start + window, np.repeat(view.bounds[1:], windows))
    each = (total[end] - total[start]) / _norm(number[end] - number[start], pooling)[:, None]
    top = np.maximum(1, np.ceil(share * windows)).astype(np.int64)
    if (top == 1).all():
        return np.maximum.reduceat(each, ptr[:-1], axis=0).astype(np.float32)
    doc = np.repeat(np.arange(n), windows)
    among = offset < np.repeat(top, windows)  # after sorting: is this one of its text's strongest?
    out = np.empty((n, k), np.float32)
    for j in range(k):
        best = each[np.lexsort((-each[:, j], doc)), j]
        out[:, j] = np.add.reduceat(np.where(among, best, 0.0), ptr[:-1]) / top
    return out


def fit(
    rows: Rows,
    labels: npt.NDArray[Any],
    names: Sequence[str],
    space: Space,
    *,
    loss: Literal["softmax", "sigmoid"] = "softmax",
    weight: npt.NDArray[Any] | None = None,
    groups: npt.NDArray[Any] | None = None,
    epochs: int = 8,
    rate: float = 0.3,
    l2: float = 1e-5,
    batch: int = 256,
    min_count: int = 2,
    seed: int = 0,
    dtype: Literal["int8", "float16"] = "float16",
    meta: dict[str, Any] | None = None,
) -> Linear:
    """Adagrad on the logistic loss. `labels`: (n,) class numbers, or (n, k) of 0, 1, NaN (unknown) for sigmoid.

    `weight` (n,) or, for sigmoid, (n, k). `groups` (n,) source numbers: each source gets a bias that is left out of the
    model, so that the words of a source with many positives are not taken for positive. `l2` is per step, on the
    weights a batch touches. Buckets that fewer than `min_count` occurrences fall into stay 0.
    """
    n, k = len(rows), len(names)
    table = np.zeros((1 << space.bits, k), np.float32)
    square = np.full_like(table, 1e-4)
    bias: Floats = np.zeros(k, np.float32)
    bias_square: Floats = np.full(k, 1e-4, np.float32)
    group = np.zeros(n, np.int64) if groups is None else np.asarray(groups, np.int64)
    offset = np.zeros((int(group.max(initial=0)) + 1, k), np.float32)
    offset_square = np.full_like(offset, 1e-4)
    dead = np.bincount(rows.buckets, minlength=1 << space.bits) < min_count
    target = np.eye(k, dtype=np.float32)[labels] if loss == "softmax" else np.asarray(labels, np.float32)
    known = ~np.isnan(target)
    target = np.nan_to_num(target)
    w = np.ones((n, 1), np.float32) if weight is None else np.asarray(weight, np.float32).reshape(n, -1)
    rng = np.random.default_rng(seed)
    for epoch in range(epochs):
        order = rng.permutation(n)
        step = np.float32(rate / (1 + epoch))
        for at in range(0, n, batch):
            pick = np.sort(order[at : at + batch])
            part = rows.take(pick)
            columns, inverse = np.unique(part.buckets, return_inverse=True)
            here = table[columns]
            owner = np.repeat(np.arange(len(pick)), np.diff(part.ptr))
            margin: Doubles = np.stack(
                [np.bincount(owner, part.values * here[inverse, j], minlength=len(pick)) for j in range(k)], axis=1
            )
            margin += bias + offset[group[pick]]
            if loss == "softmax":
                p: Doubles = np.exp(margin - margin.max(axis=1, keepdims=True))
                p /= p.sum(axis=1, keepdims=True)
            else:
                p = 1 / (1 + np.exp(-np.clip(margin, -30, 30)))
            error = ((p - target[pick]) * known[pick] * w[pick]).astype(np.float32)
            slope = np.stack(
                [np.bincount(inverse, part.values * error[owner, j], minlength=len(columns)) for j in range(k)], axis=1
            ).astype(np.float32)
            slope += np.float32(l2 * len(pick)) * here
            square[columns] += slope**2
            table[columns] = (here - step * slope / np.sqrt(square[columns])) * ~dead[columns][:, None]
            g = error.sum(axis=0)
            bias_square += g**2
            bias -= step * g / np.sqrt(bias_square)
            if groups is not None:
                each = np.zeros_like(offset)
                np.add.at(each, group[pick], error)
                offset_square += each**2
                offset -= step * each / np.sqrt(offset_square)
    model = Linear(table.astype(np.float16), np.ones(k, np.float32), bias, tuple(names), space, meta or {})
    return quantised(model, table) if dtype == "int8" else model


def quantised(model: Linear, table: Floats) -> Linear:
    """The model with int8 weights; the largest hundred-thousandth of each output's weights is clipped."""
    scale = np.maximum(np.quantile(np.abs(table), 1 - 1e-5, axis=0), 1e-8).astype(np.float32) / 127
    return replace(model, weights=np.clip(np.rint(table / scale), -127, 127).astype(np.int8), scale=scale)
