"""Decontamination: which documents hold rows of evaluation sets, on folded word n-grams.

A row's texts (question, options, passage) become n-grams of folded words, so tashkeel, tatweel, digits, punctuation and
forms of alef do not hide a copy. The share of a row's n-grams that a document holds says how much of it is there. A
row none of whose texts reaches n words counts as one gram: its longest text, whole. N-grams that occur in many
texts of one set (an instruction before each question) say nothing and are dropped.

Hashes are of the words' bytes, so indexes are equal across batches, processes and machines. A gram's hash is a
polynomial in its word hashes (Karp and Rabin 1987), worked out for all positions and lengths in one pass.
"""

from __future__ import annotations

import gzip
import json
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from fitra import arabic
from fitra.errors import FitraError
from fitra.recipe.contamination import Benchmark
from fitra.signals.view import View, view

__all__ = ["Hit", "Index", "build", "read", "report"]

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Row = tuple[str, str, str | Sequence[str]]  # benchmark, row id, its text or texts

_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying by it loses nothing
_BATCH = 20_000


@dataclass(frozen=True)
class Hit:
    """Document `doc` of the view holds `share` of the n-grams of a row; `grams` is how many those are."""

    doc: int
    benchmark: str
    row: str
    share: float
    grams: int


def _word_hashes(of: View) -> Hashes:
    """(words of the batch,) hash of each occurrence, in order."""
    words = of.vocab.cast(pa.large_binary()).to_pylist()
    return np.fromiter(map(xxhash.xxh3_64_intdigest, words), dtype=np.uint64, count=len(words))[of.ids]


def _rolling(words: Hashes, lengths: Sequence[int]) -> Iterator[tuple[int, Hashes]]:
    """For each length (ascending): the hashes of the grams that start at each word, (words - length + 1,).

    The length is part of the hash, so that a short gram is never taken for another length.
    """
    acc = words.copy()
    for n in range(1, max(lengths, default=0) + 1):
        if n > 1:
            acc = acc[:-1] * _BASE + words[n - 1 :]
        if n in lengths:
            mixed = acc ^ np.uint64(n)
            mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
            yield n, mixed ^ (mixed >> np.uint64(29))
        if len(acc) < 2:
            return


@dataclass
class Index:
    """N-grams of evaluation rows: `hashes[i]` occurs in the rows `rows[starts[i]:starts[i + 1]]`."""

    ngram: int
    lengths: list[int]  # lengths of grams there are, ascending
    hashes: Hashes  # sorted, unique
    starts: Ints  # (len(hashes) + 1,)
    rows: npt.NDArray[np.int32]
    totals: npt.NDArray[np.int32]  # n-grams per row
    benchmarks: list[str]  # names
    benchmark_of: npt.NDArray[np.int32]  # per row
    ids: list[str]  # per row
    skipped: dict[str, int] = field(default_factory=dict)  # rows too short, or of common n-grams only, by benchmark
    _seen: npt.NDArray[np.bool_] | None = None

    def rows_by_benchmark(self) -> dict[str, int]:
        """How many rows can be found, by evaluation set."""
        counts = np.bincount(self.benchmark_of, minlength=len(self.benchmarks))
        return {name: int(n) for name, n in zip(self.benchmarks, counts, strict=True)}

    def find(self, of: View, min_share: float = 0.0, min_grams: int = 1) -> list[Hit]:
        """Rows of which a document holds `min_share`, and `min_grams` n-grams (or all, of a row with fewer).

        Ordered by document, then benchmark and row. A verse or a saying that a question quotes is a gram or two in
        many innocent documents: `min_grams` of 3 leaves them out.
        """
        pairs = [(docs, grams) for docs, grams in self._matches(of) if len(docs)]
        if not pairs:
            return []
        # Each gram of a document once, then spread over the rows that have it.
        keys = np.unique(np.concatenate([d * len(self.hashes) + g for d, g in pairs]))
        docs, grams = np.divmod(keys, len(self.hashes))
        sizes = self.starts[grams + 1] - self.starts[grams]
        at = np.repeat(self.starts[grams] - np.concatenate(([0], np.cumsum(sizes)[:-1])), sizes)
        rows = self.rows[at + np.arange(sizes.sum())].astype(np.int64)
        found, counts = np.unique(np.repeat(docs, sizes) * len(self.ids) + rows, return_counts=True)
        docs, rows = np.divmod(found, len(self.ids))
        share = counts / self.totals[rows]
        enough = (share >= min_share) & (counts >= np.minimum(min_grams, self.totals[rows]))
        docs, rows, share, counts = docs[enough], rows[enough], share[enough], counts[enough]
        hits = [
            Hit(doc, self.benchmarks[self.benchmark_of[row]], self.ids[row], round(part, 4), n)
            for doc, row, part, n in zip(docs.tolist(), rows.tolist(), share.tolist(), counts.tolist(), strict=True)
        ]
        return sorted(hits, key=lambda h: (h.doc, h.benchmark, h.row))

    def _matches(self, of: View) -> Iterator[tuple[Ints, Ints]]:
        """(documents, numbers of hashes) of the grams that are in the index, length by length."""
        for n, grams in _rolling(_word_hashes(of), self.lengths):
            maybe = np.flatnonzero(self._filter()[grams & np.uint64(len(self._filter()) - 1)])
            at = np.searchsorted(self.hashes, grams[maybe])
            at[at == len(self.hashes)] = 0
            same = self.hashes[at] == grams[maybe]
            maybe, at = maybe[same], at[same]
            docs = np.searchsorted(of.bounds, maybe, side="right") - 1
            inside = maybe + n <= of.bounds[docs + 1]
            yield docs[inside], at[inside].astype(np.int64)

    def _filter(self) -> npt.NDArray[np.bool_]:
        """A table of low bits that are there: most grams are dismissed by one look-up (Bloom 1970, one hash)."""
        if self._seen is None:
            size = 1 << min(max(len(self.hashes) * 8, 1024).bit_length(), 26)
            self._seen = np.zeros(size, dtype=bool)
            self._seen[self.hashes & np.uint64(size - 1)] = True
        return self._seen

    def save(self, path: Path) -> None:
        """Write an npz without pickled objects."""
        meta = {
            "version": 1, "fold": arabic.FOLD_VERSION, "ngram": self.ngram, "lengths": self.lengths,
            "benchmarks": self.benchmarks, "skipped": self.skipped,
        }  # fmt: skip
        with Path(path).open("wb") as f:
            np.savez(
                f,
                meta=_bytes(meta),
                ids=_bytes(self.ids),
                hashes=self.hashes,
                starts=self.starts,
                rows=self.rows,
                totals=self.totals,
                benchmark_of=self.benchmark_of,
            )

    @classmethod
    def load(cls, path: Path) -> Index:
        """Read what `save` wrote. Raises FitraError for another file, or one made with another folding."""
        try:
            with np.load(path, allow_pickle=False) as f:
                meta, ids = json.loads(bytes(f["meta"])), json.loads(bytes(f["ids"]))
                arrays = {k: f[k] for k in ("hashes", "starts", "rows", "totals", "benchmark_of")}
        except FileNotFoundError:
            raise FitraError(f"{path}: no such file.", "Build the index first.") from None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as e:
            raise FitraError(f"{path}: not an index of evaluation sets: {e}", "Build it again.") from None
        if meta.get("fold") != arabic.FOLD_VERSION:
            raise FitraError(
                f"{path}: made with folding {meta.get('fold')}, this is {arabic.FOLD_VERSION}.", "Build it again."
            )
        keys = ("ngram", "lengths", "benchmarks", "skipped")
        return cls(ids=ids, **{k: meta[k] for k in keys}, **arrays)


def _bytes(value: Any) -> npt.NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value, ensure_ascii=True, sort_keys=True).encode(), dtype=np.uint8)


def build(rows: Iterable[Row], ngram: int = 8, min_words: int = 5, common: int = 20) -> Index:
    """The index of `rows` (benchmark, row id, text or texts).

    `common`: an n-gram in more than this many different texts of one benchmark is dropped. Raises FitraError when
    nothing can be indexed.
    """
    names: dict[str, int] = {}
    ids: list[str] = []
    of: list[int] = []
    texts: list[str] = []
    owner: list[int] = []  # row of each text
    for name, row, given in rows:
        of.append(names.setdefault(name, len(names)))
        ids.append(row)
        for text in [given] if isinstance(given, str) else given:
            texts.append(text)
            owner.append(len(ids) - 1)
    parts = [_grams(texts[i : i + _BATCH], i, ngram, min_words) for i in range(0, len(texts), _BATCH)]
    hashes: Hashes = np.concatenate([np.zeros(0, np.uint64), *(p[0] for p in parts)])
    of_text, lengths = (np.concatenate([np.zeros(0, np.int64), *(p[k] for p in parts)]) for k in (1, 2))
    benchmark_of = np.array(of, dtype=np.int64)
    row_of = np.array(owner, dtype=np.int64)[of_text] if len(of_text) else of_text
    keep = _wanted(row_of, lengths, ngram) & ~_common(hashes, of_text, benchmark_of[row_of], texts, common)
    hashes, row_of, lengths = hashes[keep], row_of[keep], lengths[keep]
    if not len(hashes):
        raise FitraError(
            f"no row of the evaluation sets has a text of {min_words} words or more.",
            "Name the columns that hold the text: text: [question].",
        )
    # (hash, row) pairs once, sorted by hash.
    order = np.lexsort((row_of, hashes))
    hashes, row_of = hashes[order], row_of[order]
    new = np.ones(len(hashes), dtype=bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (row_of[1:] != row_of[:-1])
    hashes, row_of = hashes[new], row_of[new]
    unique, starts = np.unique(hashes, return_index=True)
    totals = np.bincount(row_of, minlength=len(ids))
    empty = np.bincount(benchmark_of[totals == 0], minlength=len(names))
    kept = np.cumsum(totals > 0) - 1
    return Index(
        ngram=ngram,
        lengths=sorted(set(lengths.tolist())),
        hashes=unique,
        starts=np.append(starts, len(row_of)).astype(np.int64),
        rows=kept[row_of].astype(np.int32),
        totals=totals[totals > 0].astype(np.int32),
        benchmarks=list(names),
        benchmark_of=benchmark_of[totals > 0].astype(np.int32),
        ids=[ids[i] for i in np.flatnonzero(totals)],
        skipped={name: int(empty[n]) for name, n in names.items() if empty[n]},
    )


def _grams(texts: list[str], first: int, ngram: int, min_words: int) -> tuple[Hashes, Ints, Ints]:
    """(hash, number of its text, length) of all n-grams, and of short texts whole."""
    of = view(texts)
    words = _word_hashes(of)
    sizes = of.n_words
    lengths = [*range(min(min_words, ngram), ngram), ngram]
    hashes: list[Hashes] = []
    numbers: list[Ints] = []
    kinds: list[Ints] = []
    for n, grams in _rolling(words, lengths):
        at = np.arange(len(grams))
        docs = np.searchsorted(of.bounds, at, side="right") - 1
        inside = (at + n <= of.bounds[docs + 1]) & ((sizes[docs] == n) | (n == ngram))
        hashes.append(grams[inside])
        numbers.append(docs[inside] + first)
        kinds.append(np.full(int(inside.sum()), n, dtype=np.int64))
    if not hashes:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate(hashes), np.concatenate(numbers), np.concatenate(kinds)


def _wanted(row_of: Ints, lengths: Ints, ngram: int) -> npt.NDArray[np.bool_]:
    """A row's full n-grams; of a row without any, the longest of its short texts."""
    if not len(row_of):
        return np.zeros(0, dtype=bool)
    longest = np.zeros(int(row_of.max()) + 1, dtype=np.int64)
    np.maximum.at(longest, row_of, lengths)
    return np.asarray(lengths == longest[row_of])


def _common(hashes: Hashes, of_text: Ints, benchmark: Ints, texts: list[str], limit: int) -> npt.NDArray[np.bool_]:
    """Grams in more than `limit` different texts of one benchmark. Equal texts (a passage repeated for each of its
    questions) count once."""
    if not len(hashes):
        return np.zeros(0, dtype=bool)
    first: dict[str, int] = {}
    same = np.array([first.setdefault(t, i) for i, t in enumerate(texts)], dtype=np.int64)[of_text]
    key = hashes ^ (benchmark.astype(np.uint64) * _BASE)
    order = np.lexsort((same, key))
    k, s = key[order], same[order]
    new = np.ones(len(k), dtype=bool)
    new[1:] = (k[1:] != k[:-1]) | (s[1:] != s[:-1])
    start = np.ones(len(k), dtype=bool)
    start[1:] = k[1:] != k[:-1]
    group = np.cumsum(start) - 1
    out = np.empty(len(k), dtype=bool)
    out[order] = np.bincount(group, weights=new)[group] > limit
    return out


def read(benchmark: Benchmark) -> Iterator[Row]:
    """The rows of one evaluation set. Raises FitraError for a file or column that is not there, or damaged."""
    path = Path(benchmark.path).expanduser()
    name = benchmark.name or path.name.split(".")[0]
    columns = [*benchmark.text, *([benchmark.id] if benchmark.id else [])]
    for n, row in enumerate(_rows(path, columns)):
        texts = [t for c in benchmark.text for t in _strings(row.get(c))]
        ident = row.get(benchmark.id) if benchmark.id else None
        yield name, str(n if ident is None else ident), texts


def _strings(value: object) -> list[str]:
    """The texts in a cell: itself, or those of a list of turns or options."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, dict):
        value = list(value.values())
    return [s for v in value for s in _strings(v)] if isinstance(value, list) else []


def _rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    try:
        if path.name.endswith(".parquet"):
            with pq.ParquetFile(path) as file:
                _there(path, columns, file.schema_arrow.names)
                for part in file.iter_batches(batch_size=4096, columns=columns):
                    yield from part.to_pylist()
            return
        if not path.name.endswith((".jsonl", ".jsonl.gz")):
            raise FitraError(f"{path}: unknown kind of file.", "Evaluation sets are .parquet, .jsonl or .jsonl.gz.")
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for n, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise FitraError(f"{path}, line {n}: a JSON {type(row).__name__}, not an object.", "Correct it.")
                if n == 1:
                    _there(path, columns, list(row))
                yield row
    except FileNotFoundError:
        raise FitraError(f"{path}: no such file.", "Check the path of the evaluation set.") from None
    except (pa.ArrowInvalid, OSError, EOFError, UnicodeDecodeError, json.JSONDecodeError) as e:
        first = (str(e).splitlines() or [type(e).__name__])[0]
        raise FitraError(f"{path}: damaged or not what its name says: {first}", "Get the file again.") from None


def _there(path: Path, columns: list[str], names: list[str]) -> None:
    for column in columns:
        if column not in names:
            raise FitraError(f"{path}: no column '{column}'. Columns there: {', '.join(names)}.", "Name the right one.")


def report(hits: Iterable[Hit], totals: dict[str, int] | None = None) -> pa.Table:
    """Per benchmark: different rows found, of how many (`Index.rows_by_benchmark`), and documents that hold some.

    Document numbers must be of one whole (give ids of documents as `doc` when hits come from several batches).
    """
    rows: dict[str, set[str]] = {}
    docs: dict[str, set[Any]] = {}
    for hit in hits:
        rows.setdefault(sys.intern(hit.benchmark), set()).add(hit.row)
        docs.setdefault(hit.benchmark, set()).add(hit.doc)
    names = sorted(set(rows) | set(totals or ()))
    return pa.table(
        {
            "benchmark": pa.array(names, pa.string()),
            "rows_found": pa.array([len(rows.get(n, ())) for n in names], pa.int64()),
            "rows": pa.array([(totals or {}).get(n) for n in names], pa.int64()),
            "documents": pa.array([len(docs.get(n, ())) for n in names], pa.int64()),
        }
    )
