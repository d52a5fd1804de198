"""Sections about the models: vocabulary, training, preferences, evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from fitra.report import charts
from fitra.report.data import bars
from fitra.report.stages import Run, Stage, json_file, log, number, rows, sample, spread, tally
from fitra.report.text import quote
from fitra.report.verdict import scores

# Sizes of the sample are the same on both sides: they are not figures of a tokenizer.
SIZES = {"documents", "words"}
OUTCOMES = ("agreed", "tied", "disagreed", "failed")
GROUPS = {"loss": "all", "loss_ar": "Arabic", "loss_en": "English", "loss_parallel": "parallel"}
PIECES = ("pieces", "segmentation", "tokens")


def vocabulary(run: Run) -> dict[str, Any] | None:
    """Fertility before and after, and how sample words are cut up."""
    stage = run.stage("vocab")
    if not stage:
        return None
    value = json_file(stage, "fertility.json")
    figures, samples = [], []
    if isinstance(value, Mapping):
        figures = _flat(value)
        held = next((v for k, v in value.items() if "sample" in k or "segment" in k), None)
        samples = [_segmented(s) for s in held if isinstance(s, Mapping)] if isinstance(held, list) else []
    return {
        "missing": value is None,
        "figures": figures,
        "samples": samples,
        "counts": [(k, v) for k, v in stage.counts.items() if number(v) is not None],
    }


def _flat(value: Mapping[str, Any], at: str = "") -> list[dict[str, Any]]:
    """Numbers of a nested object as rows; siblings 'before' and 'after' share one row."""
    before, after = number(value.get("before")), number(value.get("after"))
    if before is not None and after is not None:
        most = max(before, after)
        return [
            {
                "name": at or "fertility",
                "before": before,
                "after": after,
                "change": (after - before) / before if before else None,
                "before_bar": charts.bar(before, most, f"{at} before: {before:.3f}", 2),
                "after_bar": charts.bar(after, most, f"{at} after: {after:.3f}", 1),
            }
        ]
    out: list[dict[str, Any]] = []
    if isinstance(value.get("before"), Mapping) and isinstance(value.get("after"), Mapping):
        old, new = value["before"], value["after"]
        for k in sorted(set(old) & set(new), key=str):
            if k in SIZES:
                continue
            if isinstance(old[k], Mapping) and isinstance(new[k], Mapping):
                out += _flat({"before": old[k], "after": new[k]}, f"{at} {k}".strip())
            else:
                out += _flat({"before": old[k], "after": new[k]}, f"{at} {k}".strip())
        return out
    for k, v in value.items():
        if isinstance(v, Mapping):
            out += _flat(v, f"{at} {k}".strip())
    return out


def _segmented(row: Mapping[str, Any]) -> dict[str, Any]:
    """A sample with its pieces before and after, each side a list of strings."""
    out: dict[str, Any] = {"text": str(row.get("text") or row.get("word") or "")}
    for side in ("before", "after"):
        v = row.get(side)
        if isinstance(v, Mapping):
            v = next((v[k] for k in PIECES if k in v), None)
        pieces = [str(p) for p in v] if isinstance(v, list) else v.split() if isinstance(v, str) else []
        out[side], out[f"{side}_count"] = _folded(pieces), len(pieces)
    return out


def _folded(pieces: list[str]) -> list[str]:
    """Pieces for the page: spaces as a dot, a run of half letters (U+FFFD) as one box."""
    out = []
    for half, run_ in groupby(pieces, key=lambda p: set(p.strip()) == {"\ufffd"}):
        held = list(run_)
        out += [f"\ufffd×{len(held)}"] if half and len(held) > 1 else [p.replace(" ", "·") for p in held]
    return out


def training(run: Run, prefix: str) -> dict[str, Any] | None:
    """Loss curves of the stages `prefix-...`, one line a group, and what they cost."""
    stages = run.starting(prefix)
    if prefix == "pretrain" and (base := run.stage("base")):
        stages = [*stages, base]  # the arms stand side by side first
    if not stages:
        return None
    arms: list[dict[str, Any]] = []
    budget: list[tuple[Stage, float | None]] = []
    drawn: list[tuple[Stage, dict[str, list[tuple[float, float]]], str]] = []
    for s in stages:
        entries = log(s) or log(s, "train/log.jsonl")
        x = "tokens" if any(number(e.get("tokens")) is not None for e in entries) else "step"
        series = {
            label: [
                (a, b) for e in entries if (a := number(e.get(x))) is not None and (b := number(e.get(key))) is not None
            ]
            for key, label in GROUPS.items()
        }
        if sum(bool(v) for v in series.values()) == 2:
            series.pop("all")  # one group alone: its line is the whole
        tokens = [t for e in entries if (t := number(e.get("tokens"))) is not None]
        drawn.append((s, series, x))
        budget.append((s, max(tokens, default=None)))
        arms.append(
            {
                "stage": s,
                "chart": "",
                "counts": [(k, v) for k, v in s.counts.items() if number(v) is not None],
            }
        )
    # The arms are drawn on one scale, since they are there to be compared; the base is another matter.
    arm_losses = [y for s, held, _ in drawn if s.name != "base" for v in held.values() for _, y in v]
    span = (min(arm_losses), max(arm_losses)) if arm_losses else None
    for arm, (s, held, x) in zip(arms, drawn, strict=True):
        label = f"{x} seen" if x == "tokens" else "step"
        y_span = None if s.name == "base" else span
        arm["chart"] = charts.lines(held, s.name, label, "training loss, nats per token", y_span)
    seen = {s.name: t for s, t in budget if s.name != "base" and t}
    unequal = len(seen) > 1 and max(seen.values()) > 1.01 * min(seen.values())
    return {"arms": arms, "unequal": seen if unequal else {}}


def preferences(run: Run) -> list[dict[str, Any]] | None:
    """Pairs, how often the judge said the same in both orders, samples, DPO curve; one entry a prefer stage."""
    out = []
    for stage in run.starting("prefer"):
        pairs = rows(stage, "pairs", ["verdict_ab", "verdict_ba", "judge"])
        curve = log(stage)
        asked = agreement(stage, pairs or [])
        loss = [(float(i), v) for i, e in enumerate(curve, 1) if (v := number(e.get("loss"))) is not None]
        out.append(
            {
                "stage": stage,
                "pairs": None if pairs is None else len(pairs),
                "agreement": asked,
                "outcomes": bars(asked["outcomes"]),
                "judges": [(k[0], n) for k, n in (tally(stage, "pairs", ["judge"]) or {}).items()],
                "counts": [(k, v) for k, v in stage.counts.items() if number(v) is not None and k not in OUTCOMES],
                "note": str(stage.notes.get("tuning", "")),
                "sample": _preferred(stage),
                "chart": charts.lines({"loss": loss}, f"{stage.name}: DPO", "steps logged", "loss"),
            }
        )
    return out or None


def agreement(stage: Stage, pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """How often the judge chose the same answer in both orders.

    From the stage's counts (agreed, tied, disagreed, failed) where it has them: they cover all comparisons, while the
    table of pairs holds mostly those that agreed. Else from the pairs, and `kept_only` says so: `verdict_ab` and
    `verdict_ba` name the place (A or B) of the winner, so that A then B, or B then A, is the same answer twice.
    """
    outcomes = {k: int(n) for k in OUTCOMES if (n := number(stage.counts.get(k))) is not None}
    if "agreed" in outcomes:
        asked = sum(outcomes.values())
        share = outcomes["agreed"] / asked if asked else None
        return {"asked": asked, "same": outcomes["agreed"], "share": share, "outcomes": outcomes, "kept_only": False}
    both = [(str(p["verdict_ab"]), str(p["verdict_ba"])) for p in pairs if p.get("verdict_ab") and p.get("verdict_ba")]
    same = sum(v in (("A", "B"), ("B", "A")) for v in both)
    share = same / len(both) if both else None
    return {"asked": len(both), "same": same, "share": share, "outcomes": {}, "kept_only": True}


def _preferred(stage: Stage) -> list[dict[str, Any]]:
    columns = ["id", "prompt", "chosen", "rejected", "verdict_ab", "verdict_ba", "judge"]
    chosen = sample(stage, "pairs", columns, lambda r: "", 8, [])
    return [
        {**r, **{k: quote(r.get(k), limit=320) for k in ("prompt", "chosen", "rejected")}}
        for r in sorted(chosen, key=spread)
    ]


def evaluation(run: Run) -> dict[str, Any] | None:
    """Models × tasks with intervals, and every warning beside the score it belongs to."""
    stages = run.starting("eval")
    if not stages:
        return None
    table = {s.name.removeprefix("eval-"): scores(s) for s in stages}
    tasks = sorted({t for held in table.values() for t in held})
    warned = {t: {w for held in table.values() if t in held for w in held[t].warnings} for t in tasks}
    out = []
    for task in tasks:
        cells = [held.get(task) for held in table.values()]
        there = [c for c in cells if c]
        ends = [x for c in there for x in (c.low, c.high, c.value) if x is not None]
        scale = (min(ends), max(ends)) if ends else (0.0, 1.0)
        protocols = sorted({c.protocol for c in there if c.protocol})
        out.append(
            {
                "task": task,
                "metrics": sorted({c.metric for c in there}),
                "protocols": [] if task.partition("/")[0] in tasks and "/" in task else protocols,
                "n": sorted({c.n for c in there if c.n is not None}),
                "cells": [
                    {
                        "model": model,
                        "score": c,
                        "chart": charts.interval(c.value, c.low, c.high, scale, f"{model}, {task}: {c.value:.4f}", 1)
                        if c and c.value is not None and c.low is not None and c.high is not None
                        else "",
                    }
                    for model, c in zip(table, cells, strict=True)
                ],
                "slice": "/" in task,
                "warnings": sorted(
                    warned[task] - (warned.get(task.partition("/")[0], set()) if "/" in task else set())
                ),
            }
        )
    return {"models": list(table), "tasks": out, "empty": [m for m, held in table.items() if not held]}
