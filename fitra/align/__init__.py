"""Native alignment (the paper's section on data): documents rewritten by a code of conduct, each ending in one state.

    accept         rewritten, and every gate passed
    unchanged      nothing to change, or a language that is not asked for
    keep_original  a rewrite was tried and refused, or the rewriter failed: the original stays
    quarantine     unsafe, and no rewrite passed: left out of the documents
    drop           nothing but advertising or abuse: left out of the documents

A failing rewriter or gate is never a pass. Shards are put into place one by one and kept when a run is killed.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fitra import llm, policy
from fitra.align import gates, masking, rewrite, rules
from fitra.artifacts import (
    DOCUMENT_SCHEMA,
    canonical_json,
    open_stage,
    read_manifest,
    table_parts,
    worst_licence,
    write_text,
)
from fitra.errors import FitraError
from fitra.progress import track
from fitra.recipe import Align, Endpoint
from fitra.signals import toxicity

__all__ = ["ROW_SCHEMA", "STATES", "align", "align_documents"]

VERSION = 1
SHARD_ROWS = 2000  # what a kill may cost in repeated rule work; replies of an endpoint are in the ledger anyway
STATES = ("accept", "unchanged", "keep_original", "quarantine", "drop")
ROW_SCHEMA = pa.schema(
    [(k, pa.string()) for k in ("id", "lang", "original", "rewrite", "state", "reason", "rewriter", "policy_id")]
    + [(k, pa.string()) for k in ("policy_hash", "verdicts", "licence_class")]
    + [("spans", pa.string())]  # JSON: [start, end, kind] of what was protected in the original (characters)
    + [("keys", pa.list_(pa.string()))]  # of the ledger's answers that were asked for it
)
Document = Mapping[str, Any]


def align(
    cfg: Align, corpus: Path, out: Path, ledger: Path | None = None, *, backend: llm.Backend | None = None
) -> dict[str, Any]:
    """Align the documents of a corpus stage; returns the manifest.

    Writes `rows/` (ROW_SCHEMA: every document with original, rewrite, state, reason, verdicts) and `documents/`
    (DOCUMENT_SCHEMA: what goes on, with `parent_id` set where the text changed). `ledger` defaults to `out/ledger`;
    `backend` replaces the endpoint of the recipe, as tests do. Raises FitraError for a bad policy, a missing corpus, an
    endpoint that is down: finished shards and paid answers are kept.
    """
    held = policy.load(cfg.policy)
    if cfg.rewriter == "endpoint" and cfg.endpoint is None and backend is None:
        raise FitraError("align: rewriter 'endpoint' without align.endpoint.", "Give base_url and model, or use rules.")
    read_manifest(corpus)
    inputs: dict[str, Path] = {"corpus": corpus}
    if cfg.quran:
        inputs["quran"] = Path(cfg.quran)
    parts = table_parts(corpus, "documents")
    # Speed and patience do not change a result; the policy is known by its content, not by where it lies.
    config = cfg.model_dump(mode="json", exclude={"policy": True, "quran": True, "endpoint": set(Endpoint.VOLATILE)})
    config["policy"] = held.hash
    config["gates"] = gates.GATES_VERSION
    with open_stage(out, stage="align", config=config, inputs=inputs, version=VERSION) as st:
        if not st.done:
            _same_run(Path(out), st.fingerprint)
            if cfg.rewriter == "endpoint" and backend is None:
                assert cfg.endpoint is not None
                backend = llm.EndpointBackend(cfg.endpoint)
            work = _Work(cfg, held, backend, Path(ledger or Path(out) / "ledger"))
            counts, reasons, levels, licences = Counter[str](), Counter[str](), Counter[str](), set[str]()
            total = sum(pq.ParquetFile(p).metadata.num_rows for p in parts)
            done = track(range(total), "align", total)
            for i, table in enumerate(_shards(parts)):
                rows = _shard(Path(out), i, table, work, st.write_parquet)
                counts.update(rows["state"].to_pylist())
                reasons.update(
                    f"{s}: {r.split(':')[0]}"
                    for s, r in zip(*(rows[k].to_pylist() for k in ("state", "reason")), strict=True)
                )
                levels.update(_levels(rows))
                licences.update(rows["licence_class"].to_pylist())
                for _ in range(table.num_rows):
                    next(done, None)
            st.counts.update({k: counts[k] for k in STATES}, documents=total)
            st.notes.update(
                policy={"id": held.id, "version": held.version, "hash": held.hash},
                reasons=dict(sorted(reasons.items())),
                toxicity={k: round(v / max(1, levels["n"]), 5) for k, v in sorted(levels.items()) if k != "n"},
            )
            st.licence_class = worst_licence(sorted(licences))
    return read_manifest(Path(out))


def _same_run(out: Path, fingerprint: str) -> None:
    """Finished shards of a killed run are kept if it was this very run; another policy's shards are never mixed in."""
    mark = out / ".run"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != fingerprint:
        for name in ("rows", "documents"):
            shutil.rmtree(out / name, ignore_errors=True)
        write_text(mark, fingerprint)


def _shards(parts: Sequence[Path]) -> Iterator[pa.Table]:
    """Tables of at most SHARD_ROWS documents, sorted by id; a corpus out of order is sorted first."""
    last, in_order = "", True
    for part in parts:
        ids = pq.read_table(part, columns=["id"])["id"].combine_chunks()
        if len(ids) and (ids[0].as_py() < last or (len(ids) > 1 and pc.any(pc.less(ids[1:], ids[:-1])).as_py())):
            in_order = False
            break
        last = ids[-1].as_py() if len(ids) else last
    tables: Iterator[pa.Table] = (pq.read_table(p) for p in parts)
    if not in_order:
        tables = iter([pa.concat_tables(list(tables)).sort_by("id")])
    seen = False
    for table in tables:
        for start in range(0, table.num_rows, SHARD_ROWS):
            seen = True
            yield table.slice(start, SHARD_ROWS)
    if not seen:
        yield DOCUMENT_SCHEMA.empty_table()


class _Work:
    """What every shard needs: policy, compiled rules, verses, backend."""

    def __init__(self, cfg: Align, held: policy.Policy, backend: llm.Backend | None, ledger: Path) -> None:
        self.cfg, self.policy, self.ledger = cfg, held, ledger
        self.backend = backend if cfg.rewriter == "endpoint" else None
        self.rules = rules.compile_rules(held)
        self.verses = masking.load_verses(cfg.quran)
        self.rewriter = f"endpoint:{self.backend.identity}" if self.backend else "rules"
        self._last: tuple[str, masking.Masked] | None = None

    def mask(self, text: str) -> masking.Masked:
        """`masking.mask`; a document is asked for several times in a row."""
        if self._last is None or self._last[0] != text:
            self._last = text, masking.mask(text, self.verses)
        return self._last[1]


def _shard(out: Path, i: int, table: pa.Table, work: _Work, put: Any) -> pa.Table:
    rows_at, docs_at = f"rows/part-{i:05d}.parquet", f"documents/part-{i:05d}.parquet"
    if (out / docs_at).is_file():  # written after the rows: both are there
        return pq.read_table(out / rows_at)
    docs = table.to_pylist()
    rows = align_documents(docs, work)
    kept = []
    for doc, row in zip(docs, rows, strict=True):
        if row["state"] in ("quarantine", "drop"):
            continue
        new = {k: doc.get(k) for k in DOCUMENT_SCHEMA.names}
        if row["state"] == "accept":
            new |= {"text": row["rewrite"], "parent_id": doc["id"]}
        kept.append(new)
    done = pa.Table.from_pylist(rows, ROW_SCHEMA)
    put(rows_at, done)
    put(docs_at, pa.Table.from_pylist(kept, DOCUMENT_SCHEMA))
    return done


def align_documents(docs: Sequence[Document], work: _Work) -> list[dict[str, Any]]:
    """Rows (ROW_SCHEMA) of documents, in their order."""
    rows: list[dict[str, Any] | None] = [None] * len(docs)
    pieces: dict[int, list[rewrite.Chunk]] = {}
    judged: dict[int, _Candidate] = {}
    for n, doc in enumerate(docs):
        text = doc["text"] or ""
        if doc["lang"] not in work.cfg.languages:
            rows[n] = _row(doc, text, "unchanged", "language: not asked for", work)
            continue
        try:
            row = _by_rules(doc, work)
            if work.backend is None and isinstance(row, _Candidate):
                judged[n] = row
            elif work.backend is None or (isinstance(row, dict) and row["state"] == "drop"):
                assert isinstance(row, dict)
                rows[n] = row
            else:
                pieces[n] = rewrite.split_document(doc["id"], text, work.cfg.chunk_chars, work.verses, work.rules)
        except (masking.MaskError, ValueError, KeyError, IndexError, RecursionError) as e:
            rows[n] = _refused(doc, None, f"rewriter: {type(e).__name__}: {e}", [], work)
    verdicts = gates.judge_all([c.pair for c in judged.values()], work.policy)
    for (n, made), found in zip(judged.items(), verdicts, strict=True):
        rows[n] = _judged(docs[n], made, found, work)
    if pieces and work.backend is not None:
        chunks = [c for group in pieces.values() for c in group]
        for _ in rewrite.rewrite_chunks(chunks, work.policy, work.cfg, work.backend, work.ledger):
            pass
        for n, group in pieces.items():
            rows[n] = {**_by_chunks(docs[n], group, work), "keys": [k for c in group for k in c.keys]}
    return [r for r in rows if r is not None]


def _row(
    doc: Document, text: str | None, state: str, reason: str, work: _Work, verdicts: Sequence[gates.Verdict] = ()
) -> dict[str, Any]:
    masked = work.mask(doc["text"] or "") if doc["lang"] in work.cfg.languages else None
    spans = [[*at, kind] for at, kind in zip(masked.places, masked.kinds, strict=True)] if masked else []
    return {
        "id": doc["id"], "lang": doc["lang"], "original": doc["text"] or "", "rewrite": text, "state": state,
        "reason": reason, "rewriter": work.rewriter, "policy_id": work.policy.id, "policy_hash": work.policy.hash,
        "verdicts": canonical_json([v.as_dict() for v in verdicts]),
        "licence_class": worst_licence([doc["licence_class"]]),
        "spans": canonical_json(spans), "keys": [],
    }  # fmt: skip


def _unsafe(text: str, work: _Work) -> str:
    """The safety heading under which a text is unsafe, protected spans aside; '' for none."""
    scores = toxicity.score(masking.PLACEHOLDER.sub(" ", masking.mask(text, work.verses).text))
    level, heading = max((scores[h], h) for h in toxicity.SAFETY_HEADINGS)
    return heading if level >= work.policy.unsafe else ""


def _refused(
    doc: Document, attempt: str | None, why: str, verdicts: Sequence[gates.Verdict], work: _Work
) -> dict[str, Any]:
    """No rewrite was accepted: an unsafe original may not go on, any other stays as it is."""
    heading = _unsafe(doc["text"] or "", work)
    if heading:
        return _row(doc, attempt, "quarantine", f"unsafe ({heading}), {why}", work, verdicts)
    return _row(doc, attempt, "keep_original", why, work, verdicts)


@dataclass(frozen=True)
class _Candidate:
    """What the rules made of a document, on its way to the gates."""

    text: str
    rules: tuple[str, ...]
    pair: gates.Pair


def _by_rules(doc: Document, work: _Work) -> dict[str, Any] | _Candidate:
    """A row where there is nothing to judge, else what the gates are to look at."""
    text = doc["text"] or ""
    masked = work.mask(text)
    made = rules.apply(masked, work.rules)
    if not made.text.strip():
        why = ", ".join(r for r in made.rules if r != "format") or "empty"
        return _row(doc, "", "drop", f"nothing left: {why}", work)
    gone = {int(m[1]) for r in made.removed for m in masking.PLACEHOLDER.finditer(r.text)}
    stay = [i for i in range(len(masked.spans)) if i not in gone]
    final = masking.unmask(made.text, masked, stay)
    if final == text:
        heading = _unsafe(text, work)
        if heading:
            return _row(doc, None, "quarantine", f"unsafe ({heading}), no rule applies", work)
        return _row(doc, text, "unchanged", "nothing to change", work)
    pair = gates.Pair(
        text,
        final,
        [rewrite.reveal(r.text, masked) for r in made.removed],
        [s for _, s in work.rules.unsafe if s in final and s not in text],
        [masked.spans[i] for i in stay],
    )
    return _Candidate(final, tuple(made.rules), pair)


def _judged(doc: Document, made: _Candidate, verdicts: Sequence[gates.Verdict], work: _Work) -> dict[str, Any]:
    """The row of what the rules made, by the gates' verdicts."""
    problem = gates.complaint(verdicts)
    if problem:
        return _refused(doc, made.text, f"gates: {problem}", verdicts, work)
    heading = _unsafe(made.text, work)
    if heading:
        return _row(doc, made.text, "quarantine", f"unsafe ({heading}), still so after the rules", work, verdicts)
    return _row(doc, made.text, "accept", ", ".join(made.rules), work, verdicts)


def _by_chunks(doc: Document, group: Sequence[rewrite.Chunk], work: _Work) -> dict[str, Any]:
    """Put a document together from its chunks: a refused chunk keeps its original text."""
    text = "".join(c.original if c.text is None else c.text for c in group)
    problems = [c.problem for c in group if c.problem]
    verdicts = [v for c in group for v in c.verdicts]
    if len(problems) == len(group):
        attempt = "".join(c.attempt or c.original for c in group) if any(c.attempt for c in group) else None
        return _refused(doc, attempt, _why(problems[0]), verdicts, work)
    kept = f"{len(problems)} of {len(group)} chunks kept" if problems else ""
    heading = _unsafe(text, work)
    if heading:
        return _row(doc, text, "quarantine", f"unsafe ({heading}), still so after rewriting", work, verdicts)
    if text == doc["text"]:
        return _row(doc, text, "unchanged", f"no change by the model{', ' + kept if kept else ''}", work, verdicts)
    return _row(doc, text, "accept", f"model{': ' + kept if kept else ''}", work, verdicts)


def _why(problem: str) -> str:
    return f"rewriter: {problem}" if problem.startswith(("request:", "parse:", "render:")) else f"gates: {problem}"


def _levels(rows: pa.Table) -> Counter[str]:
    """Sums of toxicity before and after, over the documents that were changed and go on."""
    out: Counter[str] = Counter()
    for row in rows.select(["original", "rewrite", "state"]).to_pylist():
        if row["state"] == "accept":
            out["n"] += 1
            for side, text in (("before", row["original"]), ("after", row["rewrite"])):
                for heading, value in toxicity.score(text).items():
                    out[f"{heading}_{side}"] += value  # type: ignore[assignment]
    return out
