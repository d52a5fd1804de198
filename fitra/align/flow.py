"""Documents on their way to models and back: prepared by worker processes, asked in one stream, put together by shard.

Masking, rules, triage and cutting take as long as the client does; with more than a few documents other processes do
them, so that this one has its time for the endpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from fitra import engine, llm
from fitra.align import claims, programme, rewrite
from fitra.align.documents import Open, Row, Work, begin, finish
from fitra.align.shards import Shard, put
from fitra.errors import FitraError
from fitra.recipe import Align
from fitra.signals import contamination

__all__ = ["INDEX", "SMALL", "Settings", "aligned", "work_of"]

BEGUN = 64  # documents prepared at once: a model must not wait for long
SMALL = 4000  # documents for which starting processes takes longer than the work
INDEX = ".benchmarks.npz"


@dataclass(frozen=True)
class Settings:
    """What a process needs to prepare documents; no keys of endpoints among it."""

    recipe: str
    out: str
    models: tuple[tuple[str, str], ...] = ()  # tier, identity
    given: str = ""

    @classmethod
    def of(cls, work: Work, out: Path, given: Path | None) -> Settings:
        """Those of a run."""
        models = tuple((r.tier, r.backend.identity) for r in work.routes)
        recipe = work.cfg.model_dump_json(exclude={"engine", "judge"})
        return cls(recipe, str(out), models, str(given or ""))


def _never(*_: Any) -> str:
    raise llm.RequestError("nothing is asked here")


@lru_cache(maxsize=1)
def work_of(settings: Settings) -> Work:
    """The work of a process that asks no model."""
    cfg = Align.model_validate_json(settings.recipe)
    index = contamination.Index.load(Path(settings.out) / INDEX) if cfg.benchmarks else None
    work = Work(cfg, {tier: llm.FunctionBackend(name, _never) for tier, name in settings.models}, index)
    work.given = programme.taken(Path(settings.given) if settings.given else None)
    return work


def _prepare(task: tuple[Settings, Shard, int]) -> tuple[list[Row | None], list[Open]]:
    settings, shard, start = task
    return begin(shard.read(start, BEGUN), work_of(settings))


@dataclass
class _Waiting:
    """A shard some of whose documents are being prepared or are with a model."""

    shard: Shard
    docs: list[dict[str, Any]]
    rows: list[Row | None]
    left: int  # documents without a row
    unread: int  # documents that have not come back from being prepared


@dataclass
class _Flow:
    """Chunks on their way out, and where each comes back to."""

    work: Work
    ledger: Path
    settings: Settings
    pool: engine.Pool
    at: dict[str, tuple[_Waiting, Open, int]] = field(default_factory=dict)
    done: int = 0  # documents

    def chunks(self, shards: Sequence[Shard]) -> Iterator[rewrite.Chunk]:
        tasks = [(self.settings, s, start) for s in shards for start in range(0, s.rows, BEGUN)]
        waiting: dict[int, _Waiting] = {}
        for i, (rows, opened) in self._prepared(tasks):
            _, shard, start = tasks[i]
            if shard.index not in waiting:
                docs = shard.read()
                waiting[shard.index] = _Waiting(shard, docs, [None] * len(docs), len(docs), len(docs))
            here = waiting[shard.index]
            here.rows[start : start + len(rows)] = rows
            here.unread -= len(rows)
            if here.unread == 0:
                del waiting[shard.index]
            self._settle(here, len(rows) - len(opened))
            for doc in opened:
                for chunk in doc.chunks:
                    self.at[chunk.id] = (here, doc, start)
                    yield chunk

    def _prepared(self, tasks: Sequence[Any]) -> Iterator[tuple[int, tuple[list[Row | None], list[Open]]]]:
        if self.pool.inline:  # with what is loaded here already
            for i, (_, shard, start) in enumerate(tasks):
                yield i, begin(shard.read(start, BEGUN), self.work)
        else:
            yield from self.pool.run(_prepare, tasks)

    def back(self, chunk: rewrite.Chunk) -> None:
        """A chunk is settled."""
        here, doc, start = self.at.pop(chunk.id)
        doc.left -= 1
        if doc.left == 0:
            here.rows[start + doc.n] = finish(doc, self.work)
            self._settle(here, 1)

    def _settle(self, here: _Waiting, n: int) -> None:
        """So many more documents have their row; the last one puts the shard into place."""
        here.left -= n
        self.done += n
        if here.left == 0:
            rows = [r for r in here.rows if r is not None]
            claims.look(rows, here.docs, self.work, self.ledger)
            put(here.shard, here.docs, rows)


def aligned(shards: Sequence[Shard], work: Work, ledger: Path, settings: Settings, pool: engine.Pool) -> Iterator[int]:
    """Align shards with the models of `work`; yields how many documents are done since last time.

    Raises FitraError when an endpoint is down or a budget spent; shards that are done and answers stay.
    """
    flow = _Flow(work, ledger, settings, pool)
    stream = rewrite.stream(
        flow.chunks(shards), work.routes, work.policy, ledger, retries=work.cfg.retries, benchmarks=work.index
    )
    for chunk in stream:
        flow.back(chunk)
        n, flow.done = flow.done, 0
        yield n
    yield flow.done
    if flow.at:
        raise FitraError(f"align: {len(flow.at)} chunks never came back.", "This is a defect of Fitra: report it.")
