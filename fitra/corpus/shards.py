"""The work on one shard of the input: read, cut, mask, label, judge, and set down beside it what is to be compared.

This is what the engine runs in worker processes or on a cluster. A shard leaves, in the work folder, NNNNN.kept.parquet
(documents that no filter removed), .removed.parquet, .bad.parquet, .keys.parquet (see `keys`) and, last, NNNNN.json:
with it the shard is done and is not worked on again.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from fitra import arabic, tables
from fitra.artifacts import DOCUMENT_SCHEMA, write_json
from fitra.corpus import keys
from fitra.corpus.ingest import documents
from fitra.corpus.judge import Judge
from fitra.corpus.urls import url_key
from fitra.recipe import Corpus
from fitra.signals import contamination
from fitra.signals.personal import without_masks
from fitra.tables import near

_LOW = (1 << 64) - 1

BAD_SCHEMA = pa.schema([("id", pa.string()), ("where", pa.string()), ("reason", pa.string())])
HITS_SCHEMA = pa.schema(
    [
        ("table", pa.string()),  # kept or removed
        ("row", pa.int64()),  # of the shard's table
        ("benchmark", pa.string()),
        ("benchmark_row", pa.string()),
        ("share", pa.float64()),  # of the row's n-grams
        ("grams", pa.int64()),
    ]
)
REMOVED_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("stage", pa.string()),  # filter, personal, toxicity, contamination or dedupe
        ("reason", pa.string()),
        ("figure", pa.float64()),  # what was measured: words, a share, a similarity
        ("kept_id", pa.string()),  # duplicates: the document that stayed
        ("cluster_id", pa.string()),  # duplicates: the smallest id of those that belong together
        ("text", pa.string()),
    ]
)
_REMOVED_HERE = REMOVED_SCHEMA.append(pa.field("chars", pa.int64()))  # until rows are dealt to parts by size


@dataclass(frozen=True)
class Task:
    """One shard: which pieces of which input. `reference`: only its keys are wanted, nothing is judged."""

    number: int
    work: str  # the work folder
    config: str  # the Corpus config as JSON
    source: int  # which of its inputs
    splits: tuple[tables.Split, ...]
    limit: int | None = None
    reference: bool = False

    def __str__(self) -> str:
        return ", ".join(f"{s.path}" for s in self.splits[:3])

    def file(self, kind: str) -> Path:
        """Where this shard puts what it makes."""
        return Path(self.work) / "shards" / f"{self.number:05d}.{kind}"


def finished(task: Task) -> dict[str, Any] | None:
    """What a finished shard said of itself; None when it is still to be done."""
    try:
        found = json.loads(task.file("json").read_text(encoding="utf-8"))
        for kind in ("keys",) if task.reference else ("kept", "removed", "bad", "keys", "hits"):
            pq.read_metadata(task.file(f"{kind}.parquet"))  # a file that a power cut left short has no end
    except (FileNotFoundError, json.JSONDecodeError, pa.ArrowInvalid):
        return None
    return found if isinstance(found, dict) else None


class _Writer:
    """A parquet file that takes its name when it is whole. It is not forced to disk: `finished` looks at it again."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.schema = path, schema
        self.made = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        few = [c for c in ("lang", "source", "licence", "licence_class", "reason", "stage") if c in schema.names]
        # Read once more and thrown away: time matters more than space.
        self.file = pq.ParquetWriter(self.made, schema, compression="none", use_dictionary=few, write_statistics=False)

    def add(self, table: pa.Table) -> None:
        if table.num_rows:
            self.file.write_table(table.select(self.schema.names).cast(self.schema))

    def close(self) -> None:
        self.file.close()
        os.replace(self.made, self.path)


def run(task: Task) -> dict[str, Any]:
    """Do one shard; counts by name. Raises FitraError for an input that cannot be read."""
    cfg = Corpus.model_validate_json(task.config)
    judge = Judge.of(cfg, task.work)
    counts: Counter[str] = Counter()
    kept = _Writer(task.file("kept.parquet"), DOCUMENT_SCHEMA)
    removed = _Writer(task.file("removed.parquet"), _REMOVED_HERE)
    bad = _Writer(task.file("bad.parquet"), BAD_SCHEMA)
    compared = _Writer(task.file("keys.parquet"), keys.schema(cfg.dedupe))
    hits = _Writer(task.file("hits.parquet"), HITS_SCHEMA)
    trouble: list[str] = []
    for file, rows, refused in _batches(cfg, task, trouble):
        counts["read"] += len(rows) + len(refused)
        counts["bytes"] += sum(len(r[cfg.inputs[task.source].text]) for r in rows)
        bad.add(pa.Table.from_pylist(refused, schema=BAD_SCHEMA))
        docs = documents(cfg.inputs[task.source], file, rows, cfg.max_chars)
        counts["split_added"] += len(docs) - len(rows)
        counts["quarantined"] += len(refused)
        if not docs:
            continue
        got = judge(docs, task.number)
        hits.add(pa.Table.from_pylist([_hit(counts, *h) for h in got.hits], schema=HITS_SCHEMA))
        table = pa.Table.from_pylist(got.removed, schema=REMOVED_SCHEMA)
        chars = pa.array([len(d["text"]) for d in got.removed], pa.int64())
        removed.add(table.append_column("chars", chars))
        counts["removed"] += len(got.removed)
        counts["kept"] += got.kept.num_rows
        kept.add(got.kept)
        compared.add(keys_of(cfg, got.kept, got.folded))
    for writer in (kept, removed, bad, compared, hits):
        writer.close()
    # What is wrong with a file is one bad row; where a whole input gives nothing, it is what the run stops with.
    report = {"counts": dict(counts), "trouble": trouble}
    write_json(task.file("json"), report)
    return report


def _hit(counts: Counter[str], where: str, row: int, hit: contamination.Hit) -> dict[str, Any]:
    return {
        "table": where,
        "row": counts[where] + row,
        "benchmark": hit.benchmark,
        "benchmark_row": hit.row,
        "share": hit.share,
        "grams": hit.grams,
    }


def sign(task: Task) -> dict[str, Any]:
    """The keys alone of documents that an earlier run kept."""
    cfg = Corpus.model_validate_json(task.config)
    compared = _Writer(task.file("keys.parquet"), keys.schema(cfg.dedupe))
    for split in task.splits:
        for batch in tables.read_split(split, "text", "id"):
            columns = {c: pa.array([r.get(c) for r in batch.rows], pa.large_string()) for c in ("id", "url", "text")}
            compared.add(keys_of(cfg, pa.table(columns), arabic.fold_array(without_masks(columns["text"]), "search")))
    compared.close()
    write_json(task.file("json"), {"counts": {}})
    return {}


def _batches(
    cfg: Corpus, task: Task, trouble: list[str]
) -> Iterator[tuple[str, list[tables.Row], list[dict[str, str]]]]:
    source = cfg.inputs[task.source]
    left = task.limit if task.limit is not None else -1
    for split in task.splits:
        for batch in tables.read_split(split, source.text, source.id or "id"):
            if batch.error and not trouble:
                trouble += [batch.error, batch.hint]
            rows = batch.rows if left < 0 else batch.rows[:left]
            left -= len(rows) if left >= 0 else 0
            yield split.path, rows, batch.bad
            if left == 0:
                return


def keys_of(cfg: Corpus, docs: pa.Table, folded: pa.Array) -> pa.Table:
    """What is compared of some documents (columns id, text, url), whose folded texts are given."""
    texts = docs["text"].combine_chunks()
    offsets, data = _buffers(folded)
    halves = np.empty((len(docs), 2), np.uint64)
    for i, (start, end) in enumerate(pairwise(offsets)):
        # What has no letter or digit folds to nothing and is compared as it is.
        held = data[start:end] if end > start else ("\0" + texts[i].as_py()).encode()
        digest = xxhash.xxh3_128_intdigest(held)
        halves[i] = digest >> 64, digest & _LOW
    columns: dict[str, Any] = {
        "id": docs["id"].cast(pa.large_string()),
        "chars": pc.utf8_length(texts).cast(pa.int64()),
        "hi": pa.array(halves[:, 0]),
        "lo": pa.array(halves[:, 1]),
        "url": pa.array([url_key(u) for u in docs["url"].to_pylist()], pa.uint64()),
    }
    dedupe = cfg.dedupe
    if dedupe.near:
        found = near.signatures(folded, hashes=dedupe.bands * dedupe.rows, ngram=dedupe.ngram)
        short = _words_under(folded, dedupe.ngram)
        hashes = near.band_hashes(found, dedupe.rows)
        for b in range(dedupe.bands):
            columns[f"band{b:02d}"] = pa.array(hashes[:, b], mask=short)
        width = 4 * dedupe.bands * dedupe.rows
        raw = pa.py_buffer(np.ascontiguousarray(found).astype("<u4", copy=False).tobytes())
        columns["signature"] = pa.Array.from_buffers(pa.binary(width), len(docs), [None, raw])
    return pa.table(columns)


def _buffers(texts: pa.Array) -> tuple[list[int], memoryview]:
    """The offsets and the bytes of an array of large strings."""
    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return offsets.tolist(), memoryview(texts.buffers()[2] or b"")


def _words_under(folded: pa.Array, least: int) -> npt.NDArray[np.bool_]:
    """Which texts have fewer than `least` words. Most show enough of them at once, so the rest is not counted."""
    start = pc.binary_slice(folded.cast(pa.large_binary()), 0, 64 * least) if len(folded) else folded
    few = pc.less(pc.count_substring(start, b" "), least - 1).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(few)
    full = pc.count_substring(folded.take(pa.array(rows)), " ").to_numpy(zero_copy_only=False)
    out = np.zeros(len(folded), dtype=bool)
    out[rows] = full < least - 1
    return out
