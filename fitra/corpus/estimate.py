"""What a cleaning would cost, before it is started: a sample is worked on, the rest is multiplied."""

from __future__ import annotations

import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from fitra import engine, tables
from fitra.corpus import decontaminate, shards
from fitra.corpus.ingest import documents
from fitra.corpus.judge import Judge
from fitra.errors import FitraError
from fitra.recipe import Corpus, Lines


def estimate(cfg: Corpus) -> dict[str, Any]:
    """Files, megabytes, shards, what is measured on a sample (MB/s of one process), hours and disk for the whole.

    The sample is the first batch of each input; how much text a packed file holds is told from the first shard of its
    input. Hours assume cores of this kind; `disk_gb` is the work folder, which goes at the end.
    Raises FitraError for inputs that cannot be read.
    """
    if not cfg.inputs:
        raise FitraError("the corpus has no inputs.", "Give files on the command line.")
    stored = done = 0
    total = 0.0  # bytes of text
    files = pieces = 0
    seconds = 0.0
    kept = removed = refused = 0
    with tempfile.TemporaryDirectory() as work:
        if cfg.contamination.benchmarks:
            decontaminate.write_index(cfg.contamination, Path(work))
        # Repeated lines are known only after all is counted: the sample is worked on without.
        dedupe = cfg.dedupe.model_copy(update={"lines": Lines()})
        judge = Judge.of(cfg.model_copy(update={"dedupe": dedupe}), work)
        for n, source in enumerate(cfg.inputs):
            found = tables.resolve(source.path)
            splits = tables.splits(found, cfg.shard_mb << 20)
            size = sum(s.size for s in splits)
            files, pieces, stored = files + len(found), pieces + len(splits), stored + size
            total += size * _text_per_byte(splits[0], source.text)
            for batch in islice((b for s in splits for b in tables.read_split(s, source.text, source.id or "id")), 1):
                started = time.perf_counter()
                docs = documents(source, splits[0].path, batch.rows, cfg.max_chars)
                done += sum(len(d["text"].encode()) for d in docs)
                got = judge(docs, n)
                shards.keys_of(cfg, got.kept, got.folded)
                seconds += time.perf_counter() - started
                kept, removed, refused = kept + got.kept.num_rows, removed + len(got.removed), refused + len(batch.bad)
    rate = done / seconds if seconds else 0.0
    n_workers = engine.workers(cfg.engine)
    return {
        "files": files,
        "megabytes_stored": round(stored / 1e6, 1),
        "megabytes_of_text": round(total / 1e6, 1),
        "shards": pieces,
        "workers": n_workers,
        "sample": {"kept": kept, "removed": removed, "quarantined": refused, "megabytes": round(done / 1e6, 2)},
        "mb_per_second_per_worker": round(rate / 1e6, 2),
        "hours": round(total / rate / n_workers / 3600, 3) if rate else None,
        "disk_gb": round(3 * total / 1e9, 2),
    }


def _text_per_byte(split: tables.Split, column: str) -> float:
    """UTF-8 bytes of text for each byte as stored."""
    text = sum(len(r[column].encode()) for b in tables.read_split(split, column) for r in b.rows)
    return text / split.size if split.size else 0.0
