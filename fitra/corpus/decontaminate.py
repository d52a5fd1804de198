"""Decontamination: rows of evaluation sets that documents hold; while cleaning, or on any finished stage later.

Rewriting can bring rows back (a model recites what it has seen), so the same is asked of aligned documents again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fitra.artifacts import atomic_path, write_json, write_parquet
from fitra.corpus.judge import INDEX
from fitra.corpus.keys import Keys
from fitra.errors import FitraError
from fitra.recipe import Contamination, Corpus, Dedupe, Engine, Filters, Source
from fitra.signals import contamination


def decontaminate(documents: Sequence[Path], cfg: Contamination, out: Path, engine: Engine | None = None) -> Any:
    """Documents of finished stages (or files) without those that hold rows of `cfg.benchmarks`; the manifest.

    Nothing else is changed: no labels, no masks, no other filter. Raises FitraError without benchmarks.
    """
    from fitra.corpus.clean import clean

    if not cfg.benchmarks:
        raise FitraError("no evaluation set to look for.", "Name some: --benchmark exams.parquet:question,A,B,C,D")
    return clean(
        Corpus(
            inputs=[Source(path=str(p)) for p in documents],
            labels=[],
            filters=Filters(preset="none"),
            personal_data="keep",
            dedupe=Dedupe(exact=False, near=False),
            contamination=cfg,
            engine=engine or Engine(),
        ),
        out,
    )


def write_index(cfg: Contamination, work: Path) -> contamination.Index:
    """Index the evaluation sets once, for all workers."""
    rows = (row for benchmark in cfg.benchmarks for row in contamination.read(benchmark))
    index = contamination.build(rows, cfg.ngram, cfg.min_words, cfg.common)
    with atomic_path(work / INDEX) as tmp:
        index.save(tmp)
    return index


def gather(index: contamination.Index, keys: Keys, work: Path, shards: int, out: Path) -> list[dict[str, Any]]:
    """Write contamination/part-00000.parquet (which row is in which document) and contamination.json (per set)."""
    tables = []
    starts = [0]
    for i in range(shards):
        hits = pq.read_table(work / "shards" / f"{i:05d}.hits.parquet")
        first, _ = keys.span(i)
        n_removed = pq.read_metadata(work / "shards" / f"{i:05d}.removed.parquet").num_rows
        ids = [
            keys.id(first + row) if table == "kept" else str(keys.removed_ids[starts[-1] + row])
            for table, row in zip(hits["table"].to_pylist(), hits["row"].to_pylist(), strict=True)
        ]
        starts.append(starts[-1] + n_removed)
        removed = pa.array([t == "removed" for t in hits["table"].to_pylist()], pa.bool_())
        hits = hits.drop_columns(["table", "row"]).add_column(0, "id", pa.array(ids, pa.string()))
        tables.append(hits.append_column("removed", removed))
    found = pa.concat_tables(tables).sort_by([("id", "ascending"), ("benchmark", "ascending")])
    write_parquet(out / "contamination" / "part-00000.parquet", found)
    number: dict[str, int] = {}
    each = [
        contamination.Hit(number.setdefault(h["id"], len(number)), h["benchmark"], h["benchmark_row"], h["share"], 1)
        for h in found.to_pylist()
    ]
    summary: list[dict[str, Any]] = contamination.report(each, index.rows_by_benchmark()).to_pylist()
    write_json(out / "contamination.json", summary)
    return summary
