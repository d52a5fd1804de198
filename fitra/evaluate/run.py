"""Run what a config asks for, and write what came out: scores.json, tables.json, items/."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from fitra import lm
from fitra.artifacts import Stage, licence_of, open_stage, read_manifest
from fitra.errors import FitraError
from fitra.evaluate import backend as backends
from fitra.evaluate import measure, suite
from fitra.evaluate.backend import Backend
from fitra.evaluate.bias import tables
from fitra.evaluate.card import Card
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
    goes on after an interruption.
    Raises FitraError for a missing file or column, a world that is not whole, or nothing to measure.
    """
    plan = suite.plan(cfg, world)
    inputs = _inputs(cfg, plan, model)
    with open_stage(out, stage="evaluate", config=_config(cfg, seed), inputs=inputs, version=VERSION) as st:
        if not st.done:
            st.licence_class = licence_of(model) if model is not None else "D"
            _Run(cfg, plan, backend or open_backend(cfg, model, out), st, seed).all()
    return read_manifest(out)


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
    told["judged"] = [j.set for j, _, _ in plan.judged]
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
        inputs[j.set] = [path, answers] if answers else path
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
    scores: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    shards: dict[str, list[Path]] = field(default_factory=dict)
    items: int = 0

    def all(self) -> None:
        """Measure every card, then put the shards into place in order of the tasks."""
        out, held = self.st.out, self.st.out / ".items"
        shutil.rmtree(held, ignore_errors=True)
        for name in self.plan.missing:
            _tell(f"{name}: not in the data folder, left out")
        if self.plan.missing and self.cfg.strict:
            raise FitraError(f"missing: {', '.join(self.plan.missing)}.", "Leave --strict away to go on without.")
        aside: list[dict[str, str]] = []
        for part in self.plan.parts:
            cards, bad = part.make(self.backend.has_chat)
            aside += bad
            for card in cards:
                self._card(card)
        if aside:
            self.st.quarantine(aside)
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
        self.items += len(rows)
        self.shards[card.task] = []
        for k, at in enumerate(range(0, len(rows), SHARD)):
            rel = f".items/{len(self.shards):04d}-{k:05d}.parquet"
            self.st.write_parquet(rel, pa.Table.from_pylist(rows[at : at + SHARD], schema=ITEM_SCHEMA))
            self.shards[card.task].append(self.st.out / rel)

    def _rows(self, card: Card) -> list[Row]:
        """All rows of a card in order of id; asked by category, whose prompts begin alike."""
        ordered = replace(card, items=tuple(sorted(card.items, key=lambda i: (i.category, i.id))))
        chunks = measure.measure(self.backend, ordered, self.cfg, self.seed)
        total = -(-len(card.items) // self.backend.chunk) if card.kind != "sample" else 1
        rows = [r for chunk in track(chunks, card.task, total=total) for r in chunk]
        return sorted(rows, key=lambda r: str(r["id"]))


def _tell(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)
