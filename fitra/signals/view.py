"""One look at a batch of texts that all labels share: folded once, split into words once, each word stored once.

Most of what a label needs is a fact of a word («ده» is Egyptian, «رحمه» classical), and a batch of some megabytes has
ten times fewer different words than words. So facts are worked out per different word (`vocab`) and gathered per
occurrence (`ids`), both in NumPy, and no label splits or folds a text again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fitra import arabic

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class View:
    """A batch of n texts; document i has the words `vocab[ids[bounds[i]:bounds[i + 1]]]`, in order."""

    texts: pa.LargeStringArray  # as they are, without nulls
    folded: pa.LargeStringArray  # `arabic.fold_array(texts, "search")`: words separated by single spaces
    vocab: pa.LargeStringArray  # the different words of the batch
    ids: npt.NDArray[np.int32]  # one number per word occurrence
    bounds: Ints  # (n + 1,)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def n_words(self) -> Ints:
        """Words per text, (n,)."""
        return np.diff(self.bounds)

    def sums(self, per_word: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Sum of a figure of words over each text: `per_word` (len(vocab),) or (len(vocab), k) to (n,) or (n, k)."""
        if not len(self.ids):
            return np.zeros((len(self), *per_word.shape[1:]))
        full = self.bounds[:-1] < self.bounds[1:]
        out = np.zeros((len(self), *per_word.shape[1:]))
        out[full] = np.add.reduceat(per_word[self.ids], self.bounds[:-1][full], axis=0, dtype=np.float64)
        return out

    def member(self, lexicon: Sequence[str] | frozenset[str]) -> npt.NDArray[np.float32]:
        """1.0 for the words of `vocab` that are in `lexicon` (folded, level search), else 0.0: feed it to `sums`."""
        words = pa.array(sorted(lexicon), pa.large_string())
        return np.asarray(pc.is_in(self.vocab, value_set=words).to_numpy(zero_copy_only=False), dtype=np.float32)


def view(texts: Sequence[str] | pa.Array) -> View:
    """Fold and split a batch; nulls are not allowed."""
    given = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string())
    given = given.cast(pa.large_string())
    folded = arabic.fold_array(given, "search")
    split = pc.split_pattern(folded, " ")
    words = pc.list_flatten(split)
    counts = pc.list_value_length(split).to_numpy(zero_copy_only=False)
    empty = pc.equal(pc.binary_length(folded), 0).to_numpy(zero_copy_only=False)
    if empty.any():  # "" splits into one empty word
        counts = np.where(empty, 0, counts)
        words = words.filter(pc.greater(pc.binary_length(words), 0))
    coded = words.dictionary_encode()
    ids = coded.indices.to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
    return View(given, folded, coded.dictionary, ids, np.concatenate(([0], np.cumsum(counts, dtype=np.int64))))
