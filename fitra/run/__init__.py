"""Whole runs: make every stage of a recipe that is not finished yet, then the report."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fitra.artifacts import lock, read_manifest, write_json
from fitra.errors import FitraError
from fitra.recipe import Recipe
from fitra.run.steps import Step, WriteWorld, finished, folder_of, plan

RUN = "run.json"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _wanted(steps: list[Step], only: str | None, start: str | None) -> set[str]:
    names = [s.name for s in steps]

    def matching(given: str) -> list[str]:
        found = [n for n in names if n == given or n.startswith(f"{given}-")]
        if not found:
            raise FitraError(f"no stage '{given}' in this recipe.", f"Its stages: {', '.join(names)}.")
        return found

    if only:
        return set(matching(only))
    if start:
        return set(names[names.index(matching(start)[0]) :])
    return set(names)


def run(
    recipe: Recipe,
    text: str,
    out: Path,
    *,
    only: str | None = None,
    start: str | None = None,
    write_world: WriteWorld | None = None,
    write_report: Callable[[Path, Path], Path] | None = None,
    say: Callable[[str], None] = _say,
) -> dict[str, Any]:
    """Run a recipe into `out`; `text` is the recipe as written (before `${...}`), kept in `run.json`.

    `only` makes one stage (a room's name means all its arms), `start` makes that stage and all after it; both need what
    comes before to be finished. Returns {"stages": {name: {folder, seconds, skipped}}, "quarantined": rows}.
    """
    steps = plan(recipe, out / "ledger", write_world)
    wanted = _wanted(steps, only, start)
    with lock(out):
        record = _record(recipe, text, out)
        folders: dict[str, Path] = {}
        done = dict[str, Any]()
        for i, step in enumerate(steps, 1):
            missing = [n for n in step.needs if n not in folders]
            if missing and step.name not in wanted:
                continue
            if missing:
                raise FitraError(
                    f"stage '{step.name}' needs '{missing[0]}', which is not finished.",
                    f"Run --from {missing[0]} first.",
                )
            folder = folder_of(step, out, folders, recipe.seed)
            if not finished(folder) and step.name not in wanted:
                continue
            done[step.name] = _one(step, folder, folders, f"[{i}/{len(steps)}]", say)
            folders[step.name] = folder
            record["stages"] = done
            write_json(out / RUN, record)
        if write_report:
            page = write_report(out / RUN, out / "report.html")
            say(f"Report: {page}")
    quarantined = 0
    for name, folder in folders.items():
        n = int(read_manifest(folder)["counts"].get("quarantined", 0))
        quarantined += n
        if n:
            say(f"{name}: {n} bad rows were set aside with their reasons in {folder / 'quarantine'}")
    return {"stages": done, "quarantined": quarantined}


def _record(recipe: Recipe, text: str, out: Path) -> dict[str, Any]:
    record = {"name": recipe.name, "recipe": text, "stages": {}}
    path = out / RUN
    if path.is_file():
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError:
            held = {}
        if held.get("name", recipe.name) != recipe.name:
            raise FitraError(f"{out}: belongs to the recipe '{held['name']}'.", "Choose another --out.")
    return record


def _one(step: Step, folder: Path, folders: dict[str, Path], at: str, say: Callable[[str], None]) -> dict[str, Any]:
    if finished(folder):
        say(f"{at} {step.name}: finished before")
        seconds = read_manifest(folder).get("seconds", 0.0)
        return {"folder": folder.name, "seconds": seconds, "skipped": True}
    say(f"{at} {step.name} ...")
    started = time.monotonic()
    try:
        step.make(folder, {n: folders[n] for n in step.needs})
    except MemoryError:
        raise FitraError(f"{step.name}: out of memory.", "Lower its batch_tokens or concurrency.") from None
    if not finished(folder):
        raise FitraError(f"{step.name}: ended without a manifest in {folder}.", "This is a defect of Fitra.")
    seconds = round(time.monotonic() - started, 1)
    say(f"{at} {step.name}: {seconds} s  {_counts(folder)}")
    return {"folder": folder.name, "seconds": seconds, "skipped": False}


def _counts(folder: Path) -> str:
    counts = read_manifest(folder)["counts"]
    plain = [f"{k} {v:,}" for k, v in counts.items() if isinstance(v, int | float) and "." not in k][:6]
    return ", ".join(plain)


def dry_run(recipe: Recipe, out: Path, write_world: WriteWorld | None = None) -> list[dict[str, Any]]:
    """What a run would do, without doing it: each stage with its state and size."""
    rows: list[dict[str, Any]] = []
    folders: dict[str, Path] = {}
    for step in plan(recipe, out / "ledger", write_world):
        state = "to do"
        if all(n in folders for n in step.needs):
            folder = folder_of(step, out, folders, recipe.seed)
            if finished(folder):
                folders[step.name] = folder
                state = "finished"
            elif folder.is_dir():
                state = "begun"
        rows.append({"stage": step.name, "state": state, "reads": list(step.needs), **step.work})
    return rows


def status(out: Path) -> dict[str, Any]:
    """Where the run in `out` stands: its `run.json` with each stage's counts."""
    path = out / RUN
    if not path.is_file():
        raise FitraError(f"{out}: no {RUN} here.", "Give the folder that `fitra run` wrote to.")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for stage in record["stages"].values():
        folder = out / stage["folder"]
        stage["counts"] = read_manifest(folder)["counts"] if finished(folder) else {}
    begun = [
        p.name
        for p in sorted(out.iterdir())
        if p.is_dir() and not finished(p) and p.name not in ("ledger",) and os.access(p, os.R_OK)
    ]
    record["begun"] = begun
    return record
