"""Cleaning, in three passes over bounded batches.

1. Read, split what is over-long, mask personal data, label the language, filter; what stays is spilled to a work
   folder beside its folded text. 2. Find duplicates on the folded text. 3. Write documents and removals sorted by id.
In memory at once: one batch, and per document its id, length, hash and (near-duplicate candidates) signature.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from fitra import arabic, tables
from fitra.artifacts import DOCUMENT_SCHEMA, Stage, open_stage, read_manifest, worst_licence, write_parquet
from fitra.corpus import dedupe, measure
from fitra.corpus.ingest import Document, Ids, documents, labels_json
from fitra.corpus.sort import Sorter
from fitra.errors import FitraError
from fitra.progress import track
from fitra.recipe import Corpus, Source

VERSION = 1
STAGE = "corpus"
REMOVED_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("stage", pa.string()),  # filter, personal or dedupe
        ("reason", pa.string()),
        ("figure", pa.float64()),  # what was measured: words, a share, a similarity
        ("kept_id", pa.string()),  # duplicates: the document that stayed
        ("cluster_id", pa.string()),  # duplicates: the smallest id of those that belong together
        ("text", pa.string()),
    ]
)
_SPILL = pa.schema(
    [*DOCUMENT_SCHEMA, ("folded", pa.string()), ("row", pa.int64()), ("words", pa.int64()), ("chars", pa.int64())]
)


def clean(cfg: Corpus, out: Path) -> dict[str, Any]:
    """Clean `cfg.inputs` into `out`/documents and `out`/removed; the manifest.

    Every row read ends in exactly one place: documents + removed + quarantined = read + split_added (the pieces of
    split documents beyond the first). Raises FitraError for missing, empty or damaged inputs, and for a text column
    that is not there.
    """
    if not cfg.inputs:
        raise FitraError("the corpus has no inputs.", "Give corpus.inputs in the recipe, or files on the command line.")
    sources = [(source, tables.resolve(source.path)) for source in cfg.inputs]
    files = [f for _, found in sources for f in found]
    with open_stage(
        out, stage=STAGE, config=cfg, inputs={"inputs": files}, version=VERSION * 1000 + int(arabic.FOLD_VERSION)
    ) as st:
        if st.done:
            return read_manifest(out)
        return _clean(cfg, sources, st)


def _clean(cfg: Corpus, sources: list[tuple[Source, list[Path]]], st: Stage) -> dict[str, Any]:
    work = st.out / ".work"
    for name in (".work", "documents", "removed"):
        shutil.rmtree(st.out / name, ignore_errors=True)
    work.mkdir(parents=True)
    kept, removed = _Spill(work, "kept", _SPILL), _Spill(work, "removed", REMOVED_SCHEMA)
    counts: Counter[str] = Counter(dict.fromkeys(("read", "split_added", "kept", "removed"), 0))
    keys: list[bytes] = []
    for docs, bad, rows in _batches(cfg, sources):
        counts["read"] += rows + len(bad)
        counts["split_added"] += len(docs) - rows
        if bad:
            st.quarantine(bad)
        _first_pass(cfg, docs, kept, removed, keys)
    halves = np.frombuffer(b"".join(keys), dtype=np.uint64).reshape(-1, 2)
    gone = dedupe.duplicates(cfg.dedupe, kept.ids, kept.sizes, halves, kept.files, work)
    _write(st, kept, removed, gone, counts)
    shutil.rmtree(work)
    if not counts["kept"]:
        reasons = ", ".join(f"{k} {v}" for k, v in sorted(counts.items()) if v) or "no rows"
        st.notes["warning"] = f"no document is left: {reasons}"
    st.counts |= {k: counts[k] for k in sorted(counts)}
    return st.commit()


def _batches(
    cfg: Corpus, sources: list[tuple[Source, list[Path]]]
) -> Iterator[tuple[list[Document], list[dict[str, str]], int]]:
    """Documents of each batch, its bad rows, and how many good rows they came from."""
    ids = Ids()
    files = [(n, source, file) for n, (source, found) in enumerate(sources) for file in found]
    taken: Counter[int] = Counter()
    for n, source, file in track(files, "Reading and labelling", total=len(files)):
        if source.limit and taken[n] >= source.limit:
            continue
        for batch in tables.read(file, source.text, source.id or "id"):
            rows = batch.rows
            if source.limit:
                rows = rows[: source.limit - taken[n]]
                taken[n] += len(rows)
            yield list(documents(source, file, rows, ids, cfg.max_chars)), batch.bad, len(rows)
            if source.limit and taken[n] >= source.limit:
                break


class _Spill:
    """Rows of one kind set down in the work folder, in order; ids and sizes stay in memory."""

    def __init__(self, folder: Path, name: str, schema: pa.Schema) -> None:
        self.folder, self.name, self.schema = folder, name, schema
        self.files: list[Path] = []
        self.ids: list[str] = []
        self.sizes: list[int] = []  # characters of text

    def add(self, table: pa.Table) -> None:
        """One more file."""
        if table.num_rows:
            path = self.folder / f"{self.name}-{len(self.files):06d}.parquet"
            write_parquet(path, table.select(self.schema.names).cast(self.schema))
            self.files.append(path)
            self.ids += table["id"].to_pylist()
            self.sizes += [len(t) for t in table["text"].to_pylist()]


def _first_pass(cfg: Corpus, docs: list[Document], kept: _Spill, removed: _Spill, keys: list[bytes]) -> None:
    """Mask, label, filter one batch."""
    from fitra.signals import language, personal

    drops: dict[int, tuple[str, str, float]] = {}
    for i, doc in enumerate(docs):
        if cfg.personal_data != "keep":
            masked = personal.mask(doc["text"])
            if masked != doc["text"]:
                spans = personal.find(doc["text"])
                # Removed rows are masked as well: nobody who reads why should meet a telephone number.
                doc["text"] = masked
                doc["labels"]["personal"] = dict(sorted(Counter(s.kind for s in spans).items()))
                if cfg.personal_data == "drop":
                    drops[i] = ("personal", "personal_data", float(len(spans)))
    texts = pa.array([d["text"] for d in docs], pa.large_string())
    got = measure.figures(texts)
    detections = language.detect_all([d["text"] for d in docs])
    for i, (doc, (detected, confidence)) in enumerate(zip(docs, detections, strict=True)):
        doc["lang"] = doc["lang"] or detected
        doc["labels"] |= {"lang_detected": detected, "lang_confidence": confidence, "words": int(got.words[i])}
        failed = measure.verdict(cfg, doc["text"], doc["lang"], confidence, got, i)
        if failed:
            drops[i] = ("filter", *failed)
        doc["labels"] = labels_json(doc["labels"])
    removed.add(
        _removed_table(
            [{**_fate(*drops[i]), **{k: docs[i][k] for k in ("id", "source", "text")}} for i in sorted(drops)]
        )
    )
    stay = [i for i in range(len(docs)) if i not in drops]
    folded = arabic.fold_array(texts.take(pa.array(stay, pa.int64())), "compare")
    n_words = []
    for text, i in zip(folded.to_pylist(), stay, strict=True):
        n_words.append(text.count(" ") + 1 if text else 0)
        keys.append(xxhash.xxh3_128_digest((text or "\0" + docs[i]["text"]).encode()))
    start = len(kept.ids)
    table = pa.Table.from_pylist([docs[i] for i in stay], schema=DOCUMENT_SCHEMA)
    extra = {
        "folded": folded.cast(pa.string()),
        "row": pa.array(range(start, start + len(stay)), pa.int64()),
        "words": pa.array(n_words, pa.int64()),
        "chars": pa.array([len(docs[i]["text"]) for i in stay], pa.int64()),
    }
    for name, column in extra.items():
        table = table.append_column(name, column)
    kept.add(table)


def _fate(stage: str, reason: str, figure: float, kept_id: str | None = None, cluster: str | None = None) -> Document:
    return {"stage": stage, "reason": reason, "figure": figure, "kept_id": kept_id, "cluster_id": cluster}


def _removed_table(rows: list[Document]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=REMOVED_SCHEMA)


def _write(st: Stage, kept: _Spill, removed: _Spill, gone: dict[int, dedupe.Removal], counts: Counter[str]) -> None:
    stays = np.ones(len(kept.ids), dtype=bool)
    stays[list(gone)] = False
    rows = np.flatnonzero(stays).tolist()
    sorter = Sorter(st, "documents", DOCUMENT_SCHEMA, [kept.ids[r] for r in rows], [kept.sizes[r] for r in rows])
    languages: Counter[str] = Counter()
    classes: set[str] = set()
    for path in track(list(kept.files), "Writing documents"):
        table = pq.read_table(path)
        numbers = table["row"].to_pylist()
        here = stays[numbers]
        docs = table.filter(pa.array(here))
        sorter.add(docs.select(DOCUMENT_SCHEMA.names))
        counts["kept"] += docs.num_rows
        counts["words"] += sum(docs["words"].to_pylist())
        counts["chars"] += sum(docs["chars"].to_pylist())
        languages.update(docs["lang"].to_pylist())
        classes.update(docs["licence_class"].to_pylist())
        fates = []
        for doc in table.filter(pa.array(~here)).select(["id", "source", "text", "row"]).to_pylist():
            why = gone[doc.pop("row")]
            fates.append({**doc, **_fate("dedupe", why.reason, why.figure, kept.ids[why.kept], why.cluster)})
        removed.add(_removed_table(fates))
    sorter.finish()
    sorter = Sorter(st, "removed", REMOVED_SCHEMA, removed.ids, removed.sizes)
    for path in removed.files:
        table = pq.read_table(path)
        counts["removed"] += table.num_rows
        counts.update(f"removed_{r}" for r in table["reason"].to_pylist())
        sorter.add(table)
    sorter.finish()
    st.notes["languages"] = dict(sorted(languages.items()))
    st.licence_class = worst_licence(sorted(classes))
    st.notes["fold_version"] = arabic.FOLD_VERSION
