"""Run what a config asks for, and write what came out: scores.json, tables.json, items/."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from fitra import llm, lm
from fitra.artifacts import MANIFEST, Stage, licence_of, open_stage, read_manifest
from fitra.errors import FitraError
from fitra.evaluate import backend as backends
from fitra.evaluate import cache, defects, judged, measure, suite
from fitra.evaluate.backend import Backend
from fitra.evaluate.bias import tables
from fitra.evaluate.card import Card, Item
from fitra.evaluate.endpoint import Endpoint
from fitra.evaluate.figures import summarise
from fitra.evaluate.measure import ITEM_SCHEMA, Row
from fitra.progress import track
from fitra.recipe import Evaluate

VERSION = 2
SHARD = 8192  # rows of a file in items/


def evaluate(
    cfg: Evaluate, model: Path | None, seed: int, out: Path, world: Path | None = None, backend: Backend | None = None
) -> dict[str, Any]:
    """Measure `model` (a model folder, a stage folder, a checkpoint in training), or `cfg.endpoint`; the manifest.

    Writes scores.json {task[/slice][/metric]: metric, value, ci_low, ci_high (95 %), n, clusters, interval,
    higher_is_better, protocol, warnings} and items/. Likelihoods are of plain completions unless the protocol says
    chat, so that base, pre-trained and chat models answer the same question. What was answered is kept: the same call
    goes on after an interruption. Under torchrun the processes share the items; only the first has a manifest to give.
    Raises FitraError for a missing file or column, a world that is not whole, or nothing to measure.
    """
    plan = suite.plan(cfg, world)
    work = Path(cfg.cache) if cfg.cache else out / ".cache"
    rank, _ = cache.place()
    if rank > 0:
        if not (out / MANIFEST).is_file():
            _help(cfg, plan, backend or open_backend(cfg, model, out), seed, work)
        return {}
    inputs = _inputs(cfg, plan, model)
    with open_stage(out, stage="evaluate", config=_config(cfg, seed), inputs=inputs, version=VERSION) as st:
        if not st.done:
            st.licence_class = licence_of(model) if model is not None else "D"
            _Run(cfg, plan, backend or open_backend(cfg, model, out), st, seed, work).all()
    if not cfg.cache:
        shutil.rmtree(work, ignore_errors=True)
    return read_manifest(out)


def _help(cfg: Evaluate, plan: suite.Plan, backend: Backend, seed: int, work: Path) -> None:
    """Another of several processes (torchrun): it answers its part of every card and leaves it in the cache."""
    if isinstance(backend, Endpoint):
        raise FitraError("an endpoint is asked by one process.", "Start without torchrun; the server shares the work.")
    with cache.Cache(work, backend.identity) as store:
        for part in plan.parts:
            for card in part.make(backend.has_chat)[0]:
                if card.items and not backend.refuses(card):
                    _answer(backend, store, card, cfg, seed)


def _answer(backend: Backend, store: cache.Cache, card: Card, cfg: Evaluate, seed: int) -> dict[str, str]:
    """Have this process's part of a card answered and kept; the key of each item."""
    keys = {i.id: cache.key(card, i, **measure.more(card, i, cfg, seed)) for i in card.items}
    rank, size = cache.place()
    whole = card.kind == "sample"  # a row's random stream is by its place among all
    part = (card.items if rank == 0 else ()) if whole else cache.share(_ordered(card), rank, size)
    if whole and all(k in store for k in keys.values()):
        part = ()
    todo = [i for i in part if whole or keys[i.id] not in store]
    for some in track(list(cache.chunks(todo, max(1, len(todo)) if whole else backend.chunk)), card.task):
        got = measure.ask(backend, card, some, cfg, seed)
        store.put({keys[i.id]: v for i, v in zip(some, got, strict=True) if v is not None})
    return keys


def _ordered(card: Card) -> list[Item]:
    """By category, whose prompts begin alike."""
    return sorted(card.items, key=lambda i: (i.category, i.id))


def open_backend(cfg: Evaluate, model: Path | None, out: Path) -> Backend:
    """What the config measures. Raises FitraError for neither or both of a model and an endpoint."""
    if cfg.endpoint is not None:
        if model is not None:
            raise FitraError("a model folder and an endpoint are given.", "Measure one of them.")
        ledger = Path(cfg.ledger) if cfg.ledger else out.parent / f"{out.name}-ledger"
        tokenizer = Path(cfg.tokenizer) if cfg.tokenizer else None
        return Endpoint(cfg.endpoint, ledger, tokenizer=tokenizer, context=cfg.context, revision=cfg.revision)
    if model is None:
        raise FitraError("nothing to measure.", "Give a model folder, or --endpoint URL --model NAME.")
    return backends.of(model, cfg.device, cfg.precision, Path(cfg.base) if cfg.base else None)


def dry_run(cfg: Evaluate, model: Path | None, out: Path, world: Path | None = None) -> dict[str, Any]:
    """What a run would take: {task: items, tokens, passes, new_tokens}, what would be skipped, and seconds at most.

    The time is measured, not guessed: a local model scores a few of the longest prompts.
    """
    plan = suite.plan(cfg, world)
    backend = open_backend(cfg, model, out)
    tasks, skipped = {}, {}
    sample: list[str] = []
    for part in plan.parts:
        for card in part.make(backend.has_chat)[0]:
            if reason := backend.refuses(card):
                skipped[card.task] = reason
            elif card.items:
                tasks[card.task] = measure.cost(backend, card)
                sample += [i.prompt for i in card.items[:2]]
    told: dict[str, Any] = {"tasks": tasks, "skipped": skipped, "missing": plan.missing}
    told["judged"] = [j.task for j, _, _ in plan.judged]
    told["total"] = {k: sum(t[k] for t in tasks.values()) for k in ("items", "tokens", "passes", "new_tokens")}
    if isinstance(backend, backends.Local):
        told["seconds_at_most"] = _seconds(backend, sample, told["total"])
    return told


def _seconds(backend: backends.Local, sample: Sequence[str], total: dict[str, int]) -> int:
    import time

    texts = sorted(sample, key=len)[-16:] or ["."]
    tokens = sum(map(len, backend.encode(texts)))
    start = time.monotonic()
    backend.score([(t, " .") for t in texts])
    read = (time.monotonic() - start) / max(1, tokens)
    start = time.monotonic()
    backend.generate(texts, max_new_tokens=4)
    written = max(0.0, time.monotonic() - start - read * tokens) / (4 * len(texts))
    return round(read * total["tokens"] + written * total["new_tokens"]) + 1


def _inputs(cfg: Evaluate, plan: suite.Plan, model: Path | None) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for part in plan.parts:
        inputs[part.name if part.name not in inputs else f"{part.name}-{len(inputs)}"] = part.path
    for j, path, answers in plan.judged:
        inputs[j.task] = [path, answers] if answers else path
    if cfg.corpus:
        inputs["corpus"] = Path(cfg.corpus)
    if model is not None:
        step = lm.step_folder(model)
        inputs["model"] = step / "model.safetensors" if step else Path(model)
    return inputs


def _config(cfg: Evaluate, seed: int) -> dict[str, Any]:
    return {"evaluate": cfg.asked(), "seed": seed}


@dataclass
class _Run:
    """One evaluation: its cards one after the other, so that one benchmark at a time is in memory."""

    cfg: Evaluate
    plan: suite.Plan
    backend: Backend
    st: Stage
    seed: int
    work: Path  # what an interrupted run goes on from
    store: cache.Cache | None = None  # a server's answers are in the ledger already, and what it refused is asked again
    aside: list[dict[str, str]] = field(default_factory=list)
    scores: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    shards: dict[str, list[Path]] = field(default_factory=dict)
    items: int = 0

    def all(self) -> None:
        """Measure every card, then put the shards into place in order of the tasks."""
        out, held = self.st.out, self.st.out / ".items"
        if not isinstance(self.backend, Endpoint):
            self.store = cache.Cache(self.work, self.backend.identity)
        shutil.rmtree(held, ignore_errors=True)
        for name in self.plan.missing:
            _tell(f"{name}: not in the data folder, left out")
        if self.plan.missing and self.cfg.strict:
            raise FitraError(f"missing: {', '.join(self.plan.missing)}.", "Leave --strict away to go on without.")
        for cards in self._made():
            for card in cards:
                self._card(card)
        self._judged()
        if self.store is not None:
            self.store.close()
        if self.aside:
            self.st.quarantine(self.aside)
        if not self.shards:
            why = "; ".join(f"{k}: {v}" for k, v in self.skipped.items())
            raise FitraError(
                f"no question is left to ask{f' ({why})' if why else ' in the files given'}.",
                "Look at the reasons in quarantine/.",
            )
        # A killed run with other settings may have left more shards than this one writes.
        shutil.rmtree(out / "items", ignore_errors=True)
        (out / "items").mkdir()
        for n, path in enumerate(p for task in sorted(self.shards) for p in self.shards[task]):
            os.replace(path, out / "items" / f"part-{n:05d}.parquet")
        shutil.rmtree(held, ignore_errors=True)
        self.st.write_json("scores.json", self.scores)
        self.st.write_json("tables.json", self.tables)
        self.st.counts.update({"tasks": len(self.shards), "items": self.items})
        self.st.notes["data"] = self.facts
        self.st.notes["model"] = self.backend.identity
        if self.skipped:
            self.st.notes["skipped"] = self.skipped
            self.st.counts["skipped"] = len(self.skipped)
        if self.plan.missing:
            self.st.notes["missing"] = self.plan.missing

    def _made(self) -> Iterator[list[Card]]:
        """The cards of one benchmark after the other; all at once where a corpus is read for all of them."""
        parts: list[list[Card]] = []
        for part in self.plan.parts:
            cards, bad = part.make(self.backend.has_chat)
            self.aside += bad
            cards = [c for c in cards if c.items]
            if not self.cfg.corpus:
                yield cards
            parts.append(cards)
        if self.cfg.corpus:
            everything = [c for cards in parts for c in cards]
            marked, evidence, figures = defects.contaminated(everything, [self.cfg.corpus])
            self.st.write_json("contamination.json", {"benchmarks": figures, "items": evidence})
            yield marked

    def _judged(self) -> None:
        """Open questions: the model's answers, a judge's scores."""
        done = []
        judge = llm.EndpointBackend(self.cfg.judge) if self.cfg.judge else None
        for entry, path, answers in self.plan.judged:
            if reason := self.backend.refuses(Card(entry.task, "", "generate", (), (), chat=self.backend.has_chat)):
                self.skipped[entry.task] = reason
                _tell(f"{entry.task}: skipped: {reason}")
                continue
            (card,), bad = judged.cards(entry.set, path, self.cfg.limit, entry.variant)
            self.aside += bad
            reference = judged.from_file(card, answers, entry.reference) if answers else None
            got = judged.measure(
                card, self._answer, self.work / "judged",
                identity=f"{self.backend.identity} greedy {self.cfg.answer_tokens}",
                judge=judge, ledger=Path(self.cfg.ledger) if self.cfg.ledger else None, reference=reference,
                reference_name=entry.reference, draws=self.cfg.draws, seed=self.seed,
            )  # fmt: skip
            if not self.backend.has_chat:
                for score in got.scores.values():
                    score["warnings"] = [
                        *score["warnings"],
                        "the model has no chat template: it continues the question",
                    ]
            done.append(got)
            self.scores |= got.scores
            self.tables[entry.task] = got.tables
            self._write(entry.task, judged.items(got))
        if done:
            judged.write(self.st, done)

    def _answer(self, talks: list[list[dict[str, str]]]) -> list[str]:
        """Answers to open questions, greedy. One that the server refuses is empty, and counted."""
        got = self.backend.generate(talks, max_new_tokens=self.cfg.answer_tokens, chat=True)
        return [text or "" for text in got]

    def _card(self, card: Card) -> None:
        if not card.items:
            return
        if card.task in self.shards:
            raise FitraError(f"two tasks are called '{card.task}'.", "Rename one of the task cards.")
        if reason := self.backend.refuses(card):
            self.skipped[card.task] = reason
            _tell(f"{card.task}: skipped: {reason}")
            if self.cfg.strict:
                raise FitraError(f"{card.task}: {reason}.", "Leave --strict away to go on without.")
            return
        rows = self._rows(card)
        told = [*card.warnings, *measure.warnings(self.backend, card)]
        told += [f"{n} items got no answer: {why}" for why, n in self.backend.troubles().items()]
        card = replace(card, warnings=tuple(told))
        self.scores |= summarise(card, rows, self.seed)
        self.tables[card.task] = tables(card, rows, self.seed)
        if card.facts:
            self.facts[card.task] = dict(card.facts)
        self._write(card.task, rows)

    def _write(self, task: str, rows: Sequence[Row]) -> None:
        """Shards of one task; they move into items/ when all is done."""
        self.items += len(rows)
        self.shards[task] = []
        for k, at in enumerate(range(0, len(rows), SHARD)):
            rel = f".items/{len(self.shards):04d}-{k:05d}.parquet"
            self.st.write_parquet(rel, pa.Table.from_pylist(rows[at : at + SHARD], schema=ITEM_SCHEMA))
            self.shards[task].append(self.st.out / rel)

    def _rows(self, card: Card) -> list[Row]:
        """All rows of a card in order of id."""
        items = sorted(card.items, key=lambda i: i.id)
        if self.store is None:
            got: dict[str, Any] = {}
            for some in track(list(cache.chunks(_ordered(card), self.backend.chunk)), card.task):
                answers = measure.ask(self.backend, card, some, self.cfg, self.seed)
                got |= {i.id: v for i, v in zip(some, answers, strict=True)}
            return measure.rows(card, items, [got[i.id] for i in items])
        keys = _answer(self.backend, self.store, card, self.cfg, self.seed)
        found = cache.gather(self.store, list(keys.values()))
        return measure.rows(card, items, [found[keys[i.id]] for i in items])


def _tell(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)
