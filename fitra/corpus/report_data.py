"""What the page of a cleaned corpus shows, gathered in two passes of bounded memory.

The first pass reads the removals, the second the labels of the documents; texts are read only for what is shown.
Samples are reservoirs (Vitter 1985) with a fixed seed, so a corpus always gives the same page.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fitra.artifacts import read_manifest
from fitra.corpus.variants import variants

ROWS = 2048  # per batch
PER_REASON = 4
PAIRS = 600  # duplicates whose spelling is compared
PERSONAL = 12
MANY = 100_000  # different sources counted exactly
LONGEST = 200_000  # characters of a text that is compared or shown
BINS = 20


class Reservoir:
    """A uniform sample of at most `size` of the things that go by."""

    def __init__(self, size: int, seed: str) -> None:
        self.size, self.seen, self.held = size, 0, []  # type: int, int, list[Any]
        self.rng = random.Random(seed)

    def add(self, thing: Any) -> None:
        """See one more."""
        self.seen += 1
        if len(self.held) < self.size:
            self.held.append(thing)
        elif (at := self.rng.randrange(self.seen)) < self.size:
            self.held[at] = thing


@dataclass
class Figures:
    """Everything on the page but the page."""

    manifest: dict[str, Any]
    documents: int = 0
    words: int = 0
    unlabelled: int = 0  # documents without a count of words
    removed: Counter[tuple[str, str]] = field(default_factory=Counter)  # (stage, reason)
    removed_words: Counter[tuple[str, str]] = field(default_factory=Counter)
    samples: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    tables: dict[str, Counter[str]] = field(default_factory=dict)  # label -> value -> documents
    table_words: dict[str, Counter[str]] = field(default_factory=dict)
    lengths: Counter[int] = field(default_factory=Counter)  # two columns per power of two of words
    shares: dict[str, list[int]] = field(default_factory=dict)  # figure in [0, 1] -> columns
    over_half: Counter[str] = field(default_factory=Counter)  # toxicity heading -> documents of 0.5 or more
    personal: Counter[str] = field(default_factory=Counter)
    personal_documents: int = 0
    personal_samples: list[dict[str, Any]] = field(default_factory=list)
    sources_removed: Counter[str] = field(default_factory=Counter)
    sources_kept: Counter[str] = field(default_factory=Counter)
    variants: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    variant_samples: dict[str, dict[str, Any]] = field(default_factory=dict)
    quarantine: Counter[str] = field(default_factory=Counter)
    quarantine_samples: list[dict[str, Any]] = field(default_factory=list)
    contamination: list[dict[str, Any]] = field(default_factory=list)

    def table(self, name: str, value: object, words: int) -> None:
        """Count one document under a label."""
        key = "none" if value is None else str(value)
        self.tables.setdefault(name, Counter())[key] += 1
        self.table_words.setdefault(name, Counter())[key] += words

    def share(self, name: str, value: object) -> None:
        """Count one document's figure in [0, 1]."""
        if isinstance(value, int | float) and math.isfinite(value):
            columns = self.shares.setdefault(name, [0] * BINS)
            columns[max(0, min(BINS - 1, int(value * BINS)))] += 1


def gather(out: Path) -> Figures:
    """Read a finished `corpus clean` folder. Raises FitraError where it is not finished."""
    got = Figures(read_manifest(out))
    pairs = _removed(out, got)
    wanted = {p["kept_id"] for p in pairs}
    places = _documents(out, got, wanted)
    _variants(out, got, pairs, places)
    _quarantine(out, got)
    got.contamination = _contamination(out)
    return got


def parts(out: Path, name: str) -> list[Path]:
    """The files of one table; none where there is no such table."""
    return sorted((Path(out) / name).glob("*.parquet"))


def _batches(path: Path, columns: list[str]) -> Iterator[tuple[int, dict[str, pa.Array]]]:
    """(number of the first row, columns) of each batch; a column that is not there is all null."""
    with pq.ParquetFile(path) as file:
        there = [c for c in columns if c in file.schema_arrow.names]
        first = 0
        for batch in file.iter_batches(batch_size=ROWS, columns=there):
            yield first, {c: batch[c] if c in there else pa.nulls(batch.num_rows, pa.string()) for c in columns}
            first += batch.num_rows


def _removed(out: Path, got: Figures) -> list[dict[str, Any]]:
    """Reasons, sources, samples; a sample of removed duplicates."""
    samples: dict[tuple[str, str], Reservoir] = {}
    pairs = Reservoir(PAIRS, "pairs")
    for path in parts(out, "removed"):
        for _, c in _batches(path, ["id", "source", "stage", "reason", "figure", "kept_id", "text"]):
            text = c["text"].cast(pa.large_string())
            words = pc.count_substring_regex(pc.fill_null(text, ""), r"\S+").to_pylist()
            columns = {k: v.to_pylist() for k, v in c.items() if k != "text"}
            for i, n in enumerate(words):
                row = {k: v[i] for k, v in columns.items()}
                key = (str(row["stage"] or "filter"), str(row["reason"]))
                got.removed[key] += 1
                got.removed_words[key] += n
                got.sources_removed[str(row["source"])] += 1
                if key not in samples:
                    samples[key] = Reservoir(PER_REASON, "/".join(key))
                # The text is fetched as bytes of the batch only for what is held at the moment.
                kept = _Lazy(row, text, i)
                samples[key].add(kept)
                if row["kept_id"]:
                    pairs.add(kept)
            _settle(samples.values(), pairs)
            _prune(got.sources_removed)
    got.samples = {key: [s.row for s in r.held] for key, r in samples.items()}
    return [s.row for s in pairs.held]


@dataclass
class _Lazy:
    """A row whose text is still in its batch."""

    row: dict[str, Any]
    batch: pa.Array | None
    at: int

    def settle(self) -> None:
        """Take the text out, and let the batch go."""
        if self.batch is not None:
            self.row["text"] = (self.batch[self.at].as_py() or "")[:LONGEST]
            self.batch = None


def _settle(samples: Any, pairs: Reservoir) -> None:
    for reservoir in (*samples, pairs):
        for held in reservoir.held:
            held.settle()


def _prune(counts: Counter[str]) -> None:
    """Bound the memory of a count of sources: beyond MANY different ones the rarest half is let go."""
    if len(counts) > MANY:
        kept = counts.most_common(MANY // 2)
        counts.clear()
        counts.update(dict(kept))


def _documents(out: Path, got: Figures, wanted: set[str]) -> dict[str, tuple[Path, int]]:
    """Labels; where the wanted documents are (file, row)."""
    places: dict[str, tuple[Path, int]] = {}
    personal = Reservoir(PERSONAL, "personal")
    for path in parts(out, "documents"):
        for first, c in _batches(path, ["id", "lang", "source", "licence_class", "labels"]):
            columns = [c[k].to_pylist() for k in ("id", "lang", "source", "licence_class", "labels")]
            for i, (ident, lang, source, licence, text) in enumerate(zip(*columns, strict=True)):
                if ident in wanted:
                    places[ident] = (path, first + i)
                labels = _labels(text)
                _document(got, lang, licence, labels)
                got.sources_kept[str(source)] += 1
                if isinstance(labels.get("personal"), dict) and labels["personal"]:
                    personal.add({"id": ident, "personal": labels["personal"], "place": (path, first + i)})
            _prune(got.sources_kept)
    texts = _texts([s["place"] for s in personal.held])
    got.personal_samples = [{**s, "text": texts[s["place"]]} for s in personal.held]
    return places


def _labels(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _document(got: Figures, lang: str | None, licence: str | None, labels: dict[str, Any]) -> None:
    got.documents += 1
    words = labels.get("words")
    if isinstance(words, int) and words >= 0:
        got.words += words
        got.lengths[min(63, int(2 * math.log2(words)) if words else 0)] += 1
    else:
        got.unlabelled += 1
        words = 0
    got.table("language", lang, words)
    got.table("licence", licence, words)
    for name in ("lang_detected", "variety", "register"):
        if name in labels:
            got.table(name, labels[name], words)
    if labels.get("variety") == "dialect":
        got.table("region", labels.get("region"), words)
    for name in ("lang_confidence", "register_confidence"):
        got.share(name, labels.get(name))
    toxicity = labels.get("toxicity")
    for heading, p in sorted(toxicity.items()) if isinstance(toxicity, dict) else ():
        got.share(f"toxicity: {heading}", p)
        got.over_half[heading] += isinstance(p, int | float) and p >= 0.5
    quality = labels.get("quality")
    for name, figure in sorted(quality.items()) if isinstance(quality, dict) else ():
        if name.endswith("share"):
            got.share(f"quality: {name}", figure)
    personal = labels.get("personal")
    if isinstance(personal, dict) and personal:
        got.personal_documents += 1
        got.personal.update({k: v for k, v in personal.items() if isinstance(v, int)})


def _texts(places: list[tuple[Path, int]]) -> dict[tuple[Path, int], str]:
    """The texts in these rows; only the batches that hold one are decoded to Python."""
    found: dict[tuple[Path, int], str] = {}
    by_file: dict[Path, list[int]] = {}
    for path, row in places:
        by_file.setdefault(path, []).append(row)
    for path, rows in by_file.items():
        todo = sorted(set(rows))
        for first, c in _batches(path, ["text"]):
            while todo and todo[0] < first + len(c["text"]):
                row = todo.pop(0)
                found[path, row] = (c["text"][row - first].as_py() or "")[:LONGEST]
            if not todo:
                break
    return found


def _variants(out: Path, got: Figures, pairs: list[dict[str, Any]], places: dict[str, tuple[Path, int]]) -> None:
    """How the removed duplicates differ from what stayed."""
    texts = _texts([places[p["kept_id"]] for p in pairs if p["kept_id"] in places])
    for pair in sorted(pairs, key=lambda p: str(p["id"])):
        if pair["kept_id"] not in places:
            continue  # of an earlier run
        kept = texts[places[pair["kept_id"]]]
        if max(len(kept), len(pair["text"])) >= LONGEST:
            continue
        got.compared += 1
        kinds = variants(pair["text"], kept)
        for kind in kinds:
            got.variants[kind] += 1
        if len(kinds) == 1 or kinds[0] not in got.variant_samples:
            got.variant_samples.setdefault(kinds[0], {**pair, "kept": kept, "kinds": kinds})


def _quarantine(out: Path, got: Figures) -> None:
    samples = Reservoir(12, "quarantine")
    for path in parts(out, "quarantine"):
        for _, c in _batches(path, ["id", "where", "reason"]):
            for ident, where, reason in zip(*(c[k].to_pylist() for k in ("id", "where", "reason")), strict=True):
                # Messages hold line numbers and values; the kind is what stands before them.
                got.quarantine[str(reason).split(":")[0][:80]] += 1
                samples.add({"id": ident, "where": where, "reason": reason})
    got.quarantine_samples = sorted(samples.held, key=lambda s: str(s["where"]))


def _contamination(out: Path) -> list[dict[str, Any]]:
    """Rows of contamination.json: a list, or an object with a list under `benchmarks`."""
    try:
        value = json.loads((Path(out) / "contamination.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if isinstance(value, dict):
        value = value.get("benchmarks", value.get("table", []))
    if isinstance(value, dict):
        value = [{"benchmark": k, **(v if isinstance(v, dict) else {"rows_found": v})} for k, v in value.items()]
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []
