"""Suites: which benchmarks under which protocols, and where their files lie in a folder of data."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from fitra.errors import FitraError
from fitra.evaluate import benchmark, texts
from fitra.evaluate.card import Card
from fitra.evaluate.tasks import world as small_world
from fitra.recipe import Evaluate
from fitra.recipe.base import Config

FOLDER = Path(__file__).parent / "suites"
Made = tuple[list[Card], list[dict[str, str]]]


class Entry(Config):
    """A benchmark of a suite. `chat` are the protocols for a model with a chat template, where they differ."""

    card: str
    file: str
    protocols: list[str] = Field(min_length=1)
    chat: list[str] = []
    shots: int | None = Field(None, ge=0, description="worked examples; as published where not said")


class Texts(Config):
    """Texts to measure, a file or a folder; `limit` is for each file."""

    name: str
    file: str
    only: str = Field("", description="of a folder, the files whose names begin so")
    limit: int | None = 200


class Judged(Config):
    """A set of prompts whose answers are judged."""

    set: str
    file: str
    variant: str = ""
    answers: str = Field("", description="file with the answers of reference models")
    reference: str = Field("", description="the model among them that the answers are compared with")

    @property
    def task(self) -> str:
        """What its scores are called."""
        return f"{self.set}_{self.variant}" if self.variant else self.set


class Suite(Config):
    """A suite file."""

    name: str
    about: str
    benchmarks: list[Entry] = []
    judged: list[Judged] = []
    texts: list[Texts] = []


@dataclass(frozen=True)
class Part:
    """One benchmark of a run: its file, and what makes its cards for a model with or without a chat template."""

    name: str
    path: Path
    make: Callable[[bool], Made]


@dataclass(frozen=True)
class Plan:
    """What a config asks for. `missing` are files of the suite that are not there."""

    parts: list[Part] = field(default_factory=list)
    judged: list[tuple[Judged, Path, Path | None]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def names() -> list[str]:
    """The suites that come with Fitra."""
    return sorted(p.stem for p in FOLDER.glob("*.yaml"))


def load(name_or_file: str | Path) -> Suite:
    """A suite by name, or from a YAML file. Raises FitraError naming the file, the key and what was expected."""
    given = str(name_or_file)
    where = FOLDER / f"{given}.yaml" if re.fullmatch(r"[a-z][a-z0-9-]*", given) else Path(given)
    if not where.is_file():
        raise FitraError(f"{given}: no such suite and no such file.", f"There are: {', '.join(names())}.")
    try:
        return Suite.model_validate(yaml.safe_load(where.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise FitraError(f"{where}: not readable as YAML.", "See docs/evaluate-run.md for a suite.") from None
    except ValidationError as e:
        first = e.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise FitraError(f"{where}: {key}: {first['msg']}.", "See docs/evaluate-run.md for a suite.") from None


def plan(cfg: Evaluate, world: Path | None) -> Plan:
    """The parts that a config asks for, in order.

    Raises FitraError for a file named by itself that is not there, for an unknown suite, benchmark or protocol, and
    where nothing is left to measure.
    """
    parts: list[Part] = []
    if cfg.acva:
        parts.append(_one(cfg, "acva", Path(cfg.acva), ["oall", "yesno"], shots=cfg.shots or 0))
    if cfg.exams:
        parts.append(_one(cfg, "exams", Path(cfg.exams), ["oall"], shots=cfg.shots or 0))
    found = _suite(cfg)
    parts += found.parts
    if world is not None:
        args = (cfg.limit, cfg.samples, cfg.max_new_tokens, cfg.temperature)
        parts.append(Part("world", Path(world), lambda chat: small_world.cards(Path(world), *args)))
    if cfg.retention:
        path = Path(cfg.retention)
        parts.append(Part("retention", path, lambda chat: small_world.retention(path, cfg.limit)))
    if cfg.texts:
        given = Path(cfg.texts)
        parts.append(Part("texts", given, lambda chat: texts.cards("bpb_texts", given, cfg.limit)))
    for p in parts:
        if not p.path.exists():
            raise FitraError(f"{p.path}: no such file (evaluate.{p.name}).", "Check the path in the recipe.")
    if not parts and not found.judged:
        if found.missing:
            raise FitraError(
                f"nothing to evaluate on: {', '.join(found.missing)} not in {cfg.data}.", "Give the folder with --data."
            )
        raise FitraError(
            "nothing to evaluate on.", "Give --suite arabic with --data FOLDER, or set evaluate.acva, exams, retention."
        )
    return replace(found, parts=parts)


def _one(cfg: Evaluate, card: str, path: Path, protocols: Sequence[str] | None, *, shots: int | None) -> Part:
    task = _task(card)
    for p in protocols or ():
        if p not in task.protocols:
            raise FitraError(f"{card}: no protocol '{p}'.", f"There are: {', '.join(task.protocols)}.")
    return Part(task.name, path, lambda chat: benchmark.cards(task, path, shots, cfg.limit, protocols))


@cache
def _task(card: str) -> benchmark.TaskCard:
    """A task card, read once."""
    return benchmark.load(card)


def _suite(cfg: Evaluate) -> Plan:
    if not cfg.suite and not cfg.tasks:
        return Plan()
    suite = load(cfg.suite) if cfg.suite else _everything()
    only = [_wanted(t) for t in cfg.tasks]
    data = Path(cfg.data or os.environ.get("FITRA_DATA", "."))
    if not data.exists():
        raise FitraError(f"{data}: no such folder (--data).", "Give the folder with the files of the benchmarks.")
    out = Plan()
    for name, protocol in only:
        known = [e for e in suite.benchmarks if name in _names(e)]
        if known or any(name in (j.set, j.task) for j in suite.judged) or any(t.name == name for t in suite.texts):
            continue
        if not data.is_file():
            raise FitraError(f"task '{name}': which file?", "Name its file with --data FILE.")
        out.parts.append(_one(cfg, name, data, [protocol] if protocol else None, shots=cfg.shots))
    for e in suite.benchmarks:
        asked = [p for n, p in only if n in _names(e)]
        if only and not asked:
            continue
        path = data if data.is_file() and only else _find(data, e.file)
        if path is None:
            out.missing.append(e.file)
            continue
        named = [p for p in asked if p]
        out.parts.append(_entry(cfg, e, path, named))
    chosen = {n for n, _ in only}
    for j in suite.judged:
        if (only and not {j.set, j.task} & chosen) or not cfg.judged:
            continue
        path = _find(data, j.file)
        if path is None:
            out.missing.append(j.file)
        else:
            out.judged.append((j, path, _find(data, j.answers) if j.answers else None))
    for t in suite.texts:
        if only and t.name not in chosen:
            continue
        out.parts.extend(_texts(cfg, t, data, out.missing))
    return out


def _entry(cfg: Evaluate, e: Entry, path: Path, named: list[str]) -> Part:
    task = _task(e.card)
    for p in (*e.protocols, *e.chat, *named):
        if p not in task.protocols:
            raise FitraError(f"{task.name}: no protocol '{p}'.", f"There are: {', '.join(task.protocols)}.")

    def make(chat: bool) -> Made:
        chosen = named or (e.chat if chat and e.chat else e.protocols)
        return benchmark.cards(task, path, e.shots if cfg.shots is None else cfg.shots, cfg.limit, chosen)

    return Part(task.name, path, make)


def _names(e: Entry) -> set[str]:
    """What a task may be called: its card, or its own name where the card is a file."""
    return {e.card} if e.card in benchmark.names() else {e.card, _task(e.card).name}


def _texts(cfg: Evaluate, t: Texts, data: Path, missing: list[str]) -> list[Part]:
    path = _find(data, t.file)
    if path is None:
        missing.append(t.file)
        return []
    limit = min(t.limit or cfg.limit or 1 << 60, cfg.limit or 1 << 60)
    return [Part(t.name, path, lambda chat: texts.cards(t.name, path, limit if limit < 1 << 60 else None, t.only))]


def _wanted(task: str) -> tuple[str, str]:
    """'acva:oall' -> ('acva', 'oall'); a file's own colon is not one (C:\\...)."""
    name, sep, protocol = task.rpartition(":")
    return (name, protocol) if sep and re.fullmatch(r"[a-z][a-z0-9_]*", protocol) else (task, "")


def _everything() -> Suite:
    """All suites in one, each benchmark once: where tasks are named without a suite."""
    seen: dict[str, Entry] = {}
    judged: dict[str, Judged] = {}
    lines: dict[str, Texts] = {}
    for suite in map(load, names()):
        for e in suite.benchmarks:
            seen.setdefault(e.card, e)
        for j in suite.judged:
            judged.setdefault(j.task, j)
        for t in suite.texts:
            lines.setdefault(t.name, t)
    all_of = {
        k: [*v] for k, v in (("benchmarks", seen.values()), ("judged", judged.values()), ("texts", lines.values()))
    }
    return Suite.model_validate({"name": "everything", "about": "all suites", **all_of})


def _find(data: Path, name: str) -> Path | None:
    """A file of the suite in the folder of data or in its eval/, or as it is called where it was published."""
    for folder in (data, data / "eval", data.parent):
        if (folder / name).exists():
            return folder / name
    return None
