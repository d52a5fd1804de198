"""Sections about the models: vocabulary, training, preferences, evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fitra.report import charts
from fitra.report.stages import Run, Stage, json_file, log, number, rows, sample, spread, tally
from fitra.report.text import block
from fitra.report.verdict import scores

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
        out[side] = [str(p) for p in v] if isinstance(v, list) else str(v).split() if isinstance(v, str) else []
    return out


def training(run: Run, prefix: str) -> dict[str, Any] | None:
    """Loss curves of the stages `prefix-...`, one line a group, and what they cost."""
    stages = run.starting(prefix)
    if prefix == "pretrain" and (base := run.stage("base")):
        stages = [base, *stages]
    if not stages:
        return None
    arms: list[dict[str, Any]] = []
    budget: list[tuple[Stage, float | None]] = []
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
        budget.append((s, max(tokens, default=None)))
        arms.append(
            {
                "stage": s,
                "chart": charts.lines(series, s.name, f"{x} seen", "training loss, nats per token"),
                "counts": [(k, v) for k, v in s.counts.items() if number(v) is not None],
            }
        )
    seen = {s.name: t for s, t in budget if s.name != "base" and t}
    unequal = len(seen) > 1 and max(seen.values()) > 1.01 * min(seen.values())
    return {"arms": arms, "unequal": seen if unequal else {}}


def preferences(run: Run) -> list[dict[str, Any]] | None:
    """Pairs, how often the judge said the same in both orders, samples, DPO curve; one entry a prefer stage."""
    out = []
    for stage in run.starting("prefer"):
        pairs = rows(stage, "pairs", ["verdict_ab", "verdict_ba", "judge"])
        curve = log(stage)
        series = {
            k: [(i, v) for i, e in enumerate(curve, 1) if (v := number(e.get(k))) is not None]
            for k in ("loss", "rewards/accuracies", "rewards/margins")
        }
        out.append(
            {
                "stage": stage,
                "pairs": None if pairs is None else len(pairs),
                "agreement": agreement(pairs or []),
                "judges": [(k[0], n) for k, n in (tally(stage, "pairs", ["judge"]) or {}).items()],
                "counts": [(k, v) for k, v in stage.counts.items() if number(v) is not None],
                "sample": _preferred(stage),
                "chart": charts.lines({"loss": series["loss"]}, f"{stage.name}: DPO loss", "entries logged", "loss"),
            }
        )
    return out or None


def agreement(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """How the verdicts in both orders go together.

    `verdict_ab` is the winner when the first answer was shown first, `verdict_ba` when it was shown second; both name
    the answer itself (A or B), so equal words agree. Pairs without both verdicts (given by hand) are not counted.
    """
    both = [(str(p["verdict_ab"]), str(p["verdict_ba"])) for p in pairs if p.get("verdict_ab") and p.get("verdict_ba")]
    same = sum(a == b for a, b in both)
    return {"asked": len(both), "same": same, "share": same / len(both) if both else None}


def _preferred(stage: Stage) -> list[dict[str, Any]]:
    columns = ["id", "prompt", "chosen", "rejected", "verdict_ab", "verdict_ba", "judge"]
    chosen = sample(stage, "pairs", columns, lambda r: "", 8, [])
    return [
        {**r, **{k: block(r.get(k), limit=320) for k in ("prompt", "chosen", "rejected")}}
        for r in sorted(chosen, key=spread)
    ]


def evaluation(run: Run) -> dict[str, Any] | None:
    """Models × tasks with intervals, and every warning beside the score it belongs to."""
    stages = run.starting("eval")
    if not stages:
        return None
    table = {s.name.removeprefix("eval-"): scores(s) for s in stages}
    tasks = sorted({t for held in table.values() for t in held})
    out = []
    for task in tasks:
        cells = [held.get(task) for held in table.values()]
        there = [c for c in cells if c]
        ends = [x for c in there for x in (c.low, c.high, c.value) if x is not None]
        scale = (min(ends), max(ends)) if ends else (0.0, 1.0)
        out.append(
            {
                "task": task,
                "metrics": sorted({c.metric for c in there}),
                "protocols": sorted({c.protocol for c in there if c.protocol}),
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
                "warnings": sorted({w for c in there for w in c.warnings}),
            }
        )
    return {"models": list(table), "tasks": out, "empty": [m for m, held in table.items() if not held]}
