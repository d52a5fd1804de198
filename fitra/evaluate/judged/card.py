"""Sets of open questions: typed files that say where a set's columns are and how it is judged."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, Field, ValidationError

from fitra import arabic
from fitra.errors import FitraError
from fitra.evaluate.card import Item as _Item
from fitra.evaluate.card import bad, read, same_text, take, unique
from fitra.recipe.base import Config

Protocol = Literal["ratio", "turns", "culture", "safety"]
Columns = str | list[str]
HERE = resources.files("fitra.evaluate.judged")


class Wants(Config):
    """What a good model does with a question: 'care' (harmful: a refusal or a safe answer) or 'answer' (harmless)."""

    column: str = ""
    care: list[str] = []
    answer: list[str] = []
    every: Literal["", "care", "answer"] = ""


class ChatSet(Config):
    """One set of open questions, as its YAML file says it. `version` is raised whenever questions or rules change."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    what: str
    source: str
    licence: str
    licence_class: Literal["A", "B", "C", "D"]
    version: int
    protocol: Protocol
    language: str = "ar"
    columns: dict[str, Columns]  # id, turns; category, region, reference, cluster where there are any
    wants: Wants = Wants()
    region: Literal["", "named"] = ""  # 'named': by the countries that a question names
    reference_for: list[str] = []  # categories whose reference answer the judge sees; empty: all
    variants: dict[str, dict[str, str]] = {}  # name -> columns to take instead, and `language`
    defects: list[str] = []


@dataclass(frozen=True)
class Question:
    """One question of one or two turns. `reference` has an accepted answer per turn, or nothing."""

    id: str
    turns: tuple[str, ...]
    category: str = ""
    region: str = ""
    reference: tuple[str, ...] = ()
    wants: str = ""  # 'care', 'answer' or nothing known
    cluster: str = ""


@dataclass(frozen=True)
class ChatCard:
    """A set ready to be asked."""

    set: ChatSet
    task: str
    language: str
    questions: tuple[Question, ...]
    warnings: tuple[str, ...] = ()


def names() -> list[str]:
    """The sets that ship."""
    return sorted(p.name.removesuffix(".yaml") for p in HERE.joinpath("sets").iterdir() if p.name.endswith(".yaml"))


def load(name_or_file: str | Path) -> ChatSet:
    """A set that ships, by name, or one's own YAML file; FitraError saying what is wrong in it."""
    path = Path(name_or_file)
    if str(name_or_file) in names():
        text = HERE.joinpath("sets", f"{name_or_file}.yaml").read_text("utf-8")
    elif path.suffix in (".yaml", ".yml") and path.is_file():
        text = path.read_text("utf-8", errors="replace")
    else:
        raise FitraError(
            f"{name_or_file}: no set of open questions.", f"There are: {', '.join(names())}; or a file.yaml."
        )
    try:
        made = ChatSet.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as e:
        raise FitraError(f"{name_or_file}: not YAML: {e}", "See fitra/evaluate/judged/sets for examples.") from None
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise FitraError(f"{name_or_file}: {where}: {first['msg']}.", "See fitra/evaluate/judged/sets.") from None
    missing = {"id", "turns"} - set(made.columns)
    if missing:
        raise FitraError(f"{name_or_file}: columns.{min(missing)} is missing.", "Name the column it is in.")
    return made


def cards(
    name_or_file: str | Path, path: Path, limit: int | None = None, variant: str = ""
) -> tuple[list[ChatCard], list[dict[str, str]]]:
    """The card of a set over its parquet file (a list with one element), and the rows set aside.

    The same question twice counts once. With a limit, the questions whose hash comes first are taken, the same ones
    for every model. Raises FitraError for a missing file, column or variant, or where no question is left.
    """
    what = load(name_or_file)
    columns, language, task = dict(what.columns), what.language, what.name
    if variant:
        if variant not in what.variants:
            raise FitraError(
                f"{what.name} has no variant '{variant}'.", f"It has: {', '.join(what.variants) or 'none'}."
            )
        change = dict(what.variants[variant])
        language = change.pop("language", language)
        columns.update(change)
        task = f"{task}_{variant}"
    needed = [c for v in columns.values() for c in ([v] if isinstance(v, str) else v)]
    if what.wants.column:
        needed.append(what.wants.column)
    questions: dict[str, Question] = {}
    aside: list[dict[str, str]] = []
    seen: Counter[str] = Counter()
    repeated = 0
    for n, row in enumerate(read(Path(path), list(dict.fromkeys(needed)), f"the set {what.name}")):
        rid = unique(_joined(row, columns["id"]), n, seen)
        turns = _texts(row.get(str(columns["turns"])))
        if not turns:
            aside.append(bad(rid, path, f"'{columns['turns']}' holds no text"))
        elif same_text("\n".join(turns)) in questions:
            repeated += 1
        else:
            made = Question(
                rid,
                turns,
                _joined(row, columns.get("category", "")) or "all",
                region_of(" ".join(turns)) if what.region else _joined(row, columns.get("region", "")),
                _texts(row.get(str(columns.get("reference", "")))),
                _wants(what.wants, row),
                _joined(row, columns.get("cluster", "")) or rid,
            )
            if what.reference_for and made.category not in what.reference_for:
                made = replace(made, reference=())
            questions[same_text("\n".join(turns))] = made
    if not questions:
        raise FitraError(f"{path}: no question is left to ask.", "Look at the reasons in quarantine/.")
    by_id = {q.id: q for q in questions.values()}
    chosen = take([_Item(q.id, "", (), 0) for q in by_id.values()], limit, what.name)
    warnings = [f"licence class {what.licence_class}: {what.licence}"] if what.licence_class in "CD" else []
    if repeated:
        warnings.append(f"{repeated} questions occur again in the file and are asked once")
    warnings += what.defects
    return [ChatCard(what, task, language, tuple(by_id[i.id] for i in chosen), tuple(warnings))], aside


def region_of(text: str) -> str:
    """The region whose country a text names first: 'several' where it names two regions, '' where none."""
    folded = arabic.fold(text, "search")
    found = {name for name, pattern in _regions().items() if pattern.search(folded)}
    return "several" if len(found) > 1 else next(iter(found), "")


@cache
def _regions() -> Mapping[str, re.Pattern[str]]:
    listed = yaml.safe_load(HERE.joinpath("regions.yaml").read_text("utf-8"))
    return {name: _pattern(entries) for name, entries in listed.items()}


def _pattern(entries: Sequence[str]) -> re.Pattern[str]:
    made = []
    for entry in entries:
        folded = arabic.fold(entry.removesuffix("*"), "search").strip()
        made.append(re.escape(folded.removeprefix("ال")) + (r"\S*" if entry.endswith("*") else ""))
    return re.compile(r"(?<!\S)[وف]?(?:[بك]?(?:ال)?|لل?)(?:" + "|".join(made) + r")(?!\S)")


def _joined(row: Mapping[str, Any], columns: Columns) -> str:
    values = [row.get(c) for c in ([columns] if isinstance(columns, str) else columns) if c]
    return ":".join(str(v).strip() for v in values if v is not None)


def _texts(value: Any) -> tuple[str, ...]:
    """One or two texts; () unless all of them hold something."""
    given = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    return tuple(given) if given and all(isinstance(v, str) and v.strip() for v in given) else ()


def _wants(rule: Wants, row: Mapping[str, Any]) -> str:
    if rule.every or not rule.column:
        return rule.every
    value = str(row.get(rule.column))
    return "care" if value in rule.care else "answer" if value in rule.answer else ""
