"""The stage `align`: shards of a corpus become rows and documents, put into place one by one.

Shards that need no model are done by worker processes or Ray tasks. Those that wait for a model stay open while their
chunks are on the way; finished ones are kept when a run is killed, and answers are in the ledger.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fitra import engine, llm
from fitra.align import claims, gates, plan, programme, rewrite
from fitra.align.documents import Open, Work, begin, finish
from fitra.artifacts import (
    DOCUMENT_SCHEMA,
    Stage,
    open_stage,
    read_manifest,
    table_parts,
    worst_licence,
    write_parquet,
    write_text,
)
from fitra.errors import FitraError
from fitra.progress import track
from fitra.recipe import Align
from fitra.signals import contamination, toxicity

__all__ = ["ROW_SCHEMA", "STATES", "align"]

VERSION = 2
SHARD_ROWS = 2000  # what a kill may cost in repeated rule work; replies of an endpoint are in the ledger anyway
BEGUN = 64  # documents prepared at once for a model: it must not wait for long
SMALL = 4000  # documents for which starting processes takes longer than the work
STATES = ("accept", "unchanged", "keep_original", "quarantine", "drop")
ROW_SCHEMA = pa.schema(
    [(k, pa.string()) for k in ("id", "lang", "original", "rewrite", "state", "reason", "tier", "rewriter")]
    + [(k, pa.string()) for k in ("policy_id", "policy_hash", "prompt_hash", "verdicts", "licence_class")]
    + [("spans", pa.string())]  # JSON: [start, end, kind] of what was protected in the original (characters)
    + [("keys", pa.list_(pa.string()))]  # of the ledger's answers that were asked for it
)
INDEX = ".benchmarks.npz"


def align(
    cfg: Align,
    corpus: Path,
    out: Path,
    ledger: Path | None = None,
    *,
    backends: Mapping[str, llm.Backend] | None = None,
    given: Path | None = None,
) -> dict[str, Any]:
    """Align the documents of a corpus stage; returns the manifest.

    Writes `rows/` (ROW_SCHEMA: every document with original, rewrite, state, reason, verdicts) and `documents/`
    (DOCUMENT_SCHEMA: what goes on, with `parent_id` set where the text changed). `ledger` defaults to `out/ledger`;
    `given` is an align stage under the same policy whose rows are taken over: the seed is not rewritten again.
    `backends` ('worker', 'expert', 'judge') replace the endpoints of the recipe, as tests do.

    Raises FitraError for a bad policy, a missing corpus, an endpoint that is down, a budget that is spent: finished
    shards and paid answers stay.
    """
    out = Path(out)
    ledger = Path(ledger or out / "ledger")
    work = Work(cfg, backends)
    read_manifest(corpus)
    work.given = programme.taken(given)
    inputs = _inputs(cfg, corpus) | ({"given": given} if given else {})
    with open_stage(out, stage="align", config=_config(cfg, work), inputs=inputs, version=VERSION) as st:
        if not st.done:
            _same_run(out, st.fingerprint)
            parts = table_parts(corpus, "documents")
            if work.routes:
                st.notes["plan"] = plan.first(cfg, corpus, ledger, work, out)
            if cfg.benchmarks:
                work.index = contamination.build(row for b in cfg.benchmarks for row in contamination.read(b))
                work.index.save(out / INDEX)
            shards = list(_shards(parts, out))
            total = sum(s.rows for s in shards)
            done = track(range(total), "align", total)
            _step(done, sum(s.rows for s in shards if s.done))  # by an earlier run
            asked = bool(work.routes or work.judge)
            for n in _with_models(shards, work, ledger) if asked else _without(shards, cfg):
                _step(done, n)
            _step(done, total)
            _sum_up(st, work, shards, ledger)
    return read_manifest(out)


def _step(bar: Iterator[int], n: int) -> None:
    for _ in range(n):
        if next(bar, None) is None:
            return


def _config(cfg: Align, work: Work) -> dict[str, Any]:
    config = cfg.lasting() | {"policy": work.policy.hash, "gates": gates.GATES_VERSION}
    for route in [*work.routes, *([work.judge] if work.judge else [])]:
        config[route.tier] = {**(config[route.tier] or {}), "identity": route.backend.identity}
    return config


def _inputs(cfg: Align, corpus: Path) -> dict[str, Path | Sequence[Path]]:
    inputs: dict[str, Path | Sequence[Path]] = {"corpus": corpus}
    if cfg.quran:
        inputs["quran"] = Path(cfg.quran)
    if cfg.benchmarks:
        inputs["benchmarks"] = [Path(b.path) for b in cfg.benchmarks]
    if cfg.chunk_tokens:
        inputs["tokenizers"] = [Path(m.tokenizer) for m in cfg.models().values() if m.tokenizer]
    return inputs


def _same_run(out: Path, fingerprint: str) -> None:
    """Finished shards of a killed run are kept if it was this very run; another policy's shards are never mixed in."""
    mark = out / ".run"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != fingerprint:
        for name in ("rows", "documents"):
            shutil.rmtree(out / name, ignore_errors=True)
        write_text(mark, fingerprint)


@dataclass(frozen=True)
class Shard:
    """Rows `start` to `start + rows` of a part of the corpus, and where what becomes of them is put."""

    index: int
    part: Path
    start: int
    rows: int
    out: Path

    @property
    def at(self) -> tuple[Path, Path]:
        """The shard's rows and documents."""
        name = f"part-{self.index:05d}.parquet"
        return self.out / "rows" / name, self.out / "documents" / name

    @property
    def done(self) -> bool:
        return self.at[1].is_file()  # written after the rows: both are there

    def read(self) -> list[dict[str, Any]]:
        """Its documents."""
        return list(_part(self.part).slice(self.start, self.rows).to_pylist())


@lru_cache(maxsize=1)
def _part(path: Path) -> pa.Table:
    return pq.read_table(path)


def _shards(parts: Sequence[Path], out: Path) -> Iterator[Shard]:
    """At most SHARD_ROWS documents each, in the order of ids; a corpus out of order is sorted first, once."""
    last, in_order = "", True
    for part in parts:
        ids = pq.read_table(part, columns=["id"])["id"].combine_chunks()
        if len(ids) and (ids[0].as_py() < last or (len(ids) > 1 and pc.any(pc.less(ids[1:], ids[:-1])).as_py())):
            in_order = False
            break
        last = ids[-1].as_py() if len(ids) else last
    if not in_order:
        sorted_ = out / ".sorted.parquet"
        write_parquet(sorted_, pa.concat_tables([pq.read_table(p) for p in parts]).sort_by("id"))
        parts = [sorted_]
    index = 0
    for part in parts:
        n = pq.ParquetFile(part).metadata.num_rows
        for start in range(0, n, SHARD_ROWS):
            yield Shard(index, part, start, min(SHARD_ROWS, n - start), out)
            index += 1
    if not index:
        yield Shard(0, parts[0], 0, 0, out)


def _put(shard: Shard, docs: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> None:
    kept = []
    for doc, row in zip(docs, rows, strict=True):
        if row["state"] in ("quarantine", "drop"):
            continue
        new = {k: doc.get(k) for k in DOCUMENT_SCHEMA.names}
        if row["state"] == "accept":
            new |= {"text": row["rewrite"], "parent_id": doc["id"]}
        kept.append(new)
    rows_at, docs_at = shard.at
    write_parquet(rows_at, pa.Table.from_pylist(list(rows), ROW_SCHEMA))
    write_parquet(docs_at, pa.Table.from_pylist(kept, DOCUMENT_SCHEMA))


# --- without models


def _without(shards: Sequence[Shard], cfg: Align) -> Iterator[int]:
    """Yields how many documents are done."""
    todo = [s for s in shards if not s.done]
    # The key of an endpoint is no part of this: nothing is asked here.
    tasks = [(s, cfg.model_dump_json(exclude={"engine"})) for s in todo]
    for i, _ in engine.run(_one, tasks, cfg.engine, inline=sum(s.rows for s in todo) <= SMALL):
        yield todo[i].rows


def _one(task: tuple[Shard, str]) -> None:
    shard, settings = task
    docs = shard.read()
    rows, _ = begin(docs, _work(settings, str(shard.out)))
    _put(shard, docs, [r for r in rows if r is not None])


@lru_cache(maxsize=1)
def _work(settings: str, out: str) -> Work:
    cfg = Align.model_validate_json(settings)
    index = contamination.Index.load(Path(out) / INDEX) if cfg.benchmarks else None
    return Work(cfg, index=index)


# --- with models


@dataclass
class _Waiting:
    """A shard some of whose documents are with a model."""

    shard: Shard
    docs: list[dict[str, Any]]
    rows: list[dict[str, Any] | None]
    open: int = 0
    begun: bool = False

    def put(self, work: Work, ledger: Path) -> None:
        """Put the shard into place, if nothing of it is open any more."""
        if self.begun and not self.open:
            rows = [r for r in self.rows if r is not None]
            claims.look(rows, self.docs, work, ledger)
            _put(self.shard, self.docs, rows)


@dataclass
class _Flow:
    """Chunks on their way out, and where each comes back to."""

    work: Work
    ledger: Path
    at: dict[str, tuple[_Waiting, Open, int]] = field(default_factory=dict)
    done: int = 0  # documents

    def chunks(self, shards: Iterable[Shard]) -> Iterator[rewrite.Chunk]:
        for shard in shards:
            if shard.done:
                continue
            docs = shard.read()
            waiting = _Waiting(shard, docs, [None] * len(docs))
            for start in range(0, len(docs), BEGUN):
                rows, opened = begin(docs[start : start + BEGUN], self.work)
                waiting.rows[start : start + BEGUN] = rows
                waiting.open += len(opened)
                self.done += sum(r is not None for r in rows)
                for doc in opened:
                    for chunk in doc.chunks:
                        self.at[chunk.id] = (waiting, doc, start)
                        yield chunk
            waiting.begun = True
            waiting.put(self.work, self.ledger)

    def settled(self, chunk: rewrite.Chunk) -> None:
        waiting, doc, start = self.at.pop(chunk.id)
        doc.left -= 1
        if doc.left == 0:
            waiting.rows[start + doc.n] = finish(doc, self.work)
            waiting.open -= 1
            self.done += 1
            waiting.put(self.work, self.ledger)


def _with_models(shards: Sequence[Shard], work: Work, ledger: Path) -> Iterator[int]:
    """Yields how many documents are done since last time."""
    flow = _Flow(work, ledger)
    stream = rewrite.stream(
        flow.chunks(shards), work.routes, work.policy, ledger, retries=work.cfg.retries, benchmarks=work.index
    )
    for chunk in stream:
        flow.settled(chunk)
        n, flow.done = flow.done, 0
        yield n
    if flow.at:
        raise FitraError(f"align: {len(flow.at)} chunks never came back.", "This is a defect of Fitra: report it.")


# --- what the manifest says


def _sum_up(st: Stage, work: Work, shards: Sequence[Shard], ledger: Path) -> None:
    counts, reasons, tiers, levels = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    licences: set[str] = set()
    diversity = gates.Diversity()
    for shard in shards:
        rows = pq.read_table(shard.at[0])
        counts.update(rows["state"].to_pylist())
        tiers.update(rows["tier"].to_pylist())
        licences.update(rows["licence_class"].to_pylist())
        pairs = zip(rows["state"].to_pylist(), rows["reason"].to_pylist(), strict=True)
        reasons.update(f"{s}: {r.split(':')[0]}" for s, r in pairs)
        accepted = rows.filter(pc.equal(rows["state"], "accept"))
        before, after = accepted["original"].to_pylist(), accepted["rewrite"].to_pylist()
        diversity.add(before, after)
        levels.update(_levels(before, after))
    n = max(1, counts["accept"])
    st.counts.update({k: counts[k] for k in STATES}, documents=sum(counts.values()))
    st.notes.update(
        policy={"id": work.policy.id, "version": work.policy.version, "hash": work.policy.hash},
        reasons=dict(sorted(reasons.items())),
        tiers=dict(sorted(tiers.items())),
        toxicity={k: round(v / n, 5) for k, v in sorted(levels.items())},
        diversity=diversity.verdict(work.policy).as_dict(),
    )
    if work.routes:
        st.notes["actual"] = plan.actual(work, [s.at[0] for s in shards], ledger)
    st.licence_class = worst_licence(sorted(licences))


def _levels(before: Sequence[str], after: Sequence[str]) -> Counter[str]:
    """Sums of toxicity before and after, over documents that were changed and go on."""
    out: Counter[str] = Counter()
    for side, texts in (("before", before), ("after", after)):
        for text in texts:
            for heading, value in toxicity.score(text).items():
                out[f"{side}_{heading}"] += value  # type: ignore[assignment]
    return out
