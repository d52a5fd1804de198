"""The stage `align`: shards of a corpus become rows and documents, put into place one by one.

Shards that need no model are done by worker processes or Ray tasks. Those that wait for a model stay open while their
chunks are on the way; finished ones are kept when a run is killed, and answers are in the ledger.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fitra import engine, llm
from fitra.align import claims, gates, human, plan, programme
from fitra.align.documents import Work, begin
from fitra.align.flow import INDEX, SMALL, Settings, aligned, work_of
from fitra.align.shards import ROW_SCHEMA, Shard, put, shards
from fitra.artifacts import (
    Stage,
    open_stage,
    read_manifest,
    table_parts,
    worst_licence,
    write_text,
)
from fitra.progress import track
from fitra.recipe import Align
from fitra.signals import contamination, toxicity

__all__ = ["ROW_SCHEMA", "STATES", "align"]

VERSION = 2
LOOKED = 20_000  # rewritten documents, over all shards, whose toxicity the manifest tells
STATES = ("accept", "unchanged", "keep_original", "quarantine", "drop")


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
            every = list(shards(parts, out))
            todo, total = [s for s in every if not s.done], sum(s.rows for s in every)
            done = track(range(total), "align", total)
            _step(done, total - sum(s.rows for s in todo))  # by an earlier run
            for n in _made(todo, work, ledger, out, given):
                _step(done, n)
            _step(done, total)
            _sum_up(st, work, every, ledger)
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
    if cfg.human:
        inputs["human"] = Path(cfg.human)
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


def _made(todo: Sequence[Shard], work: Work, ledger: Path, out: Path, given: Path | None) -> Iterator[int]:
    """Make shards; yields how many documents are done since last time."""
    settings = Settings.of(work, out, given)
    with engine.Pool(work.cfg.engine, inline=sum(s.rows for s in todo) <= SMALL) as pool:
        if work.routes:
            pool.start(len(todo))
            yield from aligned(todo, work, ledger, settings, pool)
        elif work.judge or pool.inline:
            for shard in todo:
                _rules(shard, work, ledger)
                yield shard.rows
        else:
            for i, _ in pool.run(_by_rules, [(shard, settings, ledger) for shard in todo]):
                yield todo[i].rows


def _by_rules(task: tuple[Shard, Settings, Path]) -> None:
    shard, settings, ledger = task
    _rules(shard, work_of(settings), ledger)


def _rules(shard: Shard, work: Work, ledger: Path) -> None:
    docs = shard.read()
    rows = [r for r in begin(docs, work)[0] if r is not None]
    claims.look(rows, docs, work, ledger)
    put(shard, docs, rows)


# --- what the manifest says


def _sum_up(st: Stage, work: Work, every: Sequence[Shard], ledger: Path) -> None:
    counts, reasons, tiers, levels = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    licences: set[str] = set()
    edited: dict[str, dict[str, Any]] = {}
    diversity = gates.Diversity()
    most = -(-LOOKED // max(1, len(every)))
    for shard in every:
        rows = pq.read_table(shard.at[0])
        counts.update(rows["state"].to_pylist())
        tiers.update(rows["tier"].to_pylist())
        licences.update(rows["licence_class"].to_pylist())
        pairs = zip(rows["state"].to_pylist(), rows["reason"].to_pylist(), strict=True)
        reasons.update(f"{s}: {r.split(':')[0]}" for s, r in pairs)
        if work.human.of:
            mine = rows.filter(pc.is_in(rows["id"], pa.array(list(work.human.of), pa.string())))
            edited |= {r["id"]: r for r in mine.select(["id", "original", "tier", "state", "reason"]).to_pylist()}
        accepted = rows.filter(pc.equal(rows["state"], "accept"))
        before, after = accepted["original"].to_pylist(), accepted["rewrite"].to_pylist()
        diversity.add(before, after)
        levels.update(_levels(before[:most], after[:most]))
    n = max(1, levels.pop("n"))
    st.counts.update({k: counts[k] for k in STATES}, documents=sum(counts.values()))
    st.notes.update(
        policy={"id": work.policy.id, "version": work.policy.version, "hash": work.policy.hash},
        reasons=dict(sorted(reasons.items())),
        tiers=dict(sorted(tiers.items())),
        toxicity={k: round(v / n, 5) for k, v in sorted(levels.items())},
        diversity=diversity.verdict(work.policy).as_dict(),
    )
    if work.cfg.human:
        if aside := human.aside(work.human, edited):
            st.quarantine(aside)
        states = Counter(r["state"] for r in edited.values() if r["tier"] == "human")
        st.counts["human"] = sum(states.values())
        st.notes["human"] = {"states": dict(sorted(states.items())), "not_judged": work.human.pending}
    if work.routes:
        st.notes["actual"] = plan.actual(work, [s.at[0] for s in every], ledger)
    st.licence_class = worst_licence(sorted(licences))


def _levels(before: Sequence[str], after: Sequence[str]) -> Counter[str]:
    """Sums of toxicity before and after, over documents that were changed and go on, and how many (`n`)."""
    out = Counter[str](n=len(before))
    for side, texts in (("before", before), ("after", after)):
        for text in texts:
            for heading, value in toxicity.score(text).items():
                out[f"{side}_{heading}"] += value  # type: ignore[assignment]
    return out
