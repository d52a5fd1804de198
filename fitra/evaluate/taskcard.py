"""What a task card may say: the typed form of the files in fitra/evaluate/cards/ and of a user's own ten lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import Field, ValidationError

from fitra.errors import FitraError
from fitra.evaluate import template
from fitra.recipe.base import Config

CARDS = Path(__file__).parent / "cards"
Metric = Literal[
    "accuracy", "macro_f1", "nested_accuracy", "mean_accuracy", "exact_match", "token_f1"
]  # fmt: skip
Extract = Literal["", "letter", "yes_no", "acegpt_letters", "acegpt_yes_no"]
NAME = r"^[a-z][a-z0-9_]*$"


class Part(Config):
    """A field of the prompt made from a column: looked up in `map`, then put into `text` as {value}."""

    of: str = Field(description="the column")
    map: dict[str, str] = {}
    other: Literal["refuse", "keep"] = Field("refuse", description="a value that is not in `map`")
    text: str = "{value}"
    missing: str | None = Field(None, description="what stands for an empty cell; unset: the row is set aside")


class Data(Config):
    """How to read the file."""

    question: str
    options: tuple[str, ...] | str = Field((), description="one column an option, or one column that holds a list")
    min_options: int | None = Field(None, ge=1, description="options may end early, but not before this many")
    answer: str = ""
    gold: Literal["letter", "index", "number", "text", "yes_no"] = Field(
        "letter", description="A or أ; counted from 0; counted from 1; the option's text; true/false, نعم/لا, صح/خطأ"
    )
    answers: str = Field("", description="column of accepted written answers: a text or a list of texts")
    id: str | tuple[str, ...] = Field("id", description="column, or columns joined by '-'; else rows are numbered")
    split: str = Field("", description="column that says which rows are asked; empty: all are")
    test: tuple[str, ...] = ("test",)
    shots: tuple[str, ...] = Field(("dev",), description="values of `split` of the worked examples")
    category: str = Field("", description="template over fields; worked examples are of the same category")
    any_shots: bool = Field(False, description="worked examples are the first of the file, whatever their category")
    cluster: tuple[str, ...] = Field((), description="columns: the first that is not empty says what belongs together")
    slices: tuple[str, ...] = Field(
        (), description="columns whose values get scores of their own, where there are such"
    )
    fields: dict[str, Part | str] = Field({}, description="more {fields}: a column's name, or a Part")
    aliases: dict[str, str] = Field({}, description="column: its name in another release of the same data")


class Few(Config):
    """The prompt with worked examples: head, one `shot` for each example ({answer} is its answer), then `ask`."""

    head: str = ""
    shot: str
    ask: str = Field("", description="empty: the same as without examples")


class Prompt(Config):
    """One protocol: what is shown, what is compared or read, what is counted."""

    about: str = Field(description="whose protocol this is")
    note: str = Field("", description="what its score must not be mistaken for")
    version: int = Field(1, ge=1, description="raised whenever the prompt or the scoring changes")
    kind: Literal["choice", "generate"] = "choice"
    ask: str
    few: Few | None = None
    shots: int = Field(0, ge=0, description="as published")
    labels: tuple[str, ...] = Field((), description="what the options are called: letters, or the answers themselves")
    scored: Literal["label", "text"] = Field("label", description="what is compared, or shown as {answer}")
    option: str = Field("{letter}. {text}", description="one line of {options}")
    join: str = "\n"
    lead: str = Field(" ", description="what stands before a scored option")
    bare: str = Field("", description="the prompt without its question, for PMI")
    metrics: tuple[Metric, ...] = Field(("accuracy",), min_length=1)
    extract: Extract = ""
    max_new_tokens: int = Field(32, ge=1)
    stop: tuple[str, ...] = Field((), description="texts at which writing ends")
    chat: bool = False
    per_byte: bool = False
    last_token: bool = False


class TaskCard(Config):
    """A benchmark: what it is, where it comes from, how to read and ask it, what is known to be wrong with it."""

    name: str = Field(pattern=NAME)
    title: str
    about: str
    source: str
    licence: str
    licence_class: Literal["A", "B", "C", "D"] = "D"
    language: str = "ar"
    rows: int | None = Field(None, description="test rows as published")
    defects: tuple[str, ...] = Field((), description="known facts about the data; they stand beside every score")
    data: Data
    protocols: dict[str, Prompt] = Field(min_length=1)
    groups: dict[str, dict[str, tuple[str, ...]]] = Field({}, description="domain: sub-category: categories")

    def by_category(self) -> dict[str, tuple[str, str]]:
        """category -> (sub-category, domain), for means of means."""
        return {c: (sub, domain) for domain, subs in self.groups.items() for sub, cs in subs.items() for c in cs}


def names() -> list[str]:
    """The benchmarks that come with Fitra."""
    return sorted(p.stem for p in CARDS.glob("*.yaml"))


def load(name_or_file: str | Path) -> TaskCard:
    """A task card by the name of a benchmark that comes with Fitra, or from a YAML file.

    Raises FitraError naming the file, the key and what was expected there.
    """
    where = _where(name_or_file)
    raw = _read(where)
    protocols = raw.get("protocols")
    if isinstance(protocols, dict):
        raw["protocols"] = {k: _inherit(v, raw, where, f"protocols.{k}") for k, v in protocols.items()}
    if isinstance(raw.get("groups"), str):
        raw["groups"] = _read(_packaged(raw["groups"], where)).get("groups", {})
    try:
        card = TaskCard.model_validate(raw)
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join(str(x) for x in first["loc"])
        raise FitraError(f"{where}: {key}: {first['msg']}.", "docs/evaluate-tasks.md shows a whole card.") from None
    for name, prompt in card.protocols.items():
        if not re.match(NAME, name):
            raise FitraError(f"{where}: protocols: '{name}' is no name.", "Use small Latin letters, digits and _.")
        _check(card, prompt, f"{where}: protocols.{name}")
    _templates_of_data(card, str(where))
    return card


def _where(name_or_file: str | Path) -> Path:
    if re.match(NAME, str(name_or_file)) and (CARDS / f"{name_or_file}.yaml").is_file():
        return CARDS / f"{name_or_file}.yaml"
    path = Path(name_or_file)
    if not path.is_file():
        raise FitraError(f"{name_or_file}: no such benchmark and no such file.", f"There are: {', '.join(names())}.")
    return path


def _packaged(name: Any, where: Path) -> Path:
    if not isinstance(name, str) or not re.match(NAME, name) or not (CARDS / f"{name}.yaml").is_file():
        raise FitraError(f"{where}: no benchmark '{name}'.", f"There are: {', '.join(names())}.")
    return CARDS / f"{name}.yaml"


def _read(where: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(where.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as e:
        line = getattr(getattr(e, "problem_mark", None), "line", None)
        place = f"{where}:{line + 1}" if line is not None else str(where)
        raise FitraError(f"{place}: not readable as YAML.", "docs/evaluate-tasks.md shows a whole card.") from None
    if not isinstance(raw, dict):
        raise FitraError(f"{where}: a task card is a mapping of keys.", "docs/evaluate-tasks.md shows a whole card.")
    return raw


def _inherit(own: Any, card: Mapping[str, Any], where: Path, key: str, depth: int = 0) -> Any:
    """The protocol with what it does not say itself taken from `like`: 'protocol', or 'benchmark.protocol'."""
    if not isinstance(own, dict) or "like" not in own:
        return own
    other, _, name = str(own["like"]).rpartition(".")
    source = _read(_packaged(other, where)) if other else card
    protocols = source.get("protocols")
    base = protocols.get(name) if isinstance(protocols, dict) else None
    if not isinstance(base, dict) or depth > 4:
        raise FitraError(
            f"{where}: {key}.like: there is no protocol '{own['like']}'.", "Name one of this card, or mmlu_ar.oall."
        )
    base = _inherit(base, source, where, key, depth + 1)
    return {**base, **{k: v for k, v in own.items() if k != "like"}}


def _check(card: TaskCard, p: Prompt, where: str) -> None:
    """Whatever would only show when the first question is rendered. Raises FitraError."""
    known = {"question", "category", *card.data.fields} | ({"options"} if card.data.options else set())
    for key, text, allowed in (
        ("ask", p.ask, known),
        ("option", p.option, {"letter", "text"}),
        *(((f"few.{k}", getattr(p.few, k), known | {"answer"}) for k in ("head", "shot", "ask")) if p.few else ()),
    ):
        unknown = template.fields(text, f"{where}.{key}") - allowed
        if unknown:
            raise FitraError(
                f"{where}.{key}: no field '{min(unknown)}'.",
                f"There are: {', '.join(sorted(allowed))}; others are made under data.fields.",
            )
    if card.data.answers:
        return
    fixed = isinstance(card.data.options, tuple)
    count = len(card.data.options)
    if not card.data.options and (len(p.labels) < 2 or p.scored == "text"):
        raise FitraError(f"{where}.labels: no options in the data, so the answers must be named.", "labels: [نعم, لا]")
    if p.labels and card.data.options and fixed and len(p.labels) < count:
        raise FitraError(f"{where}.labels: {len(p.labels)} labels for {count} options.", "Give one a option.")
    if not p.labels and (p.scored == "label" or "letter" in template.fields(p.option, where)):
        raise FitraError(f"{where}.labels: missing.", "labels: [A, B, C, D], or scored: text with option: '{text}'.")
    if not card.data.answer:
        raise FitraError(f"{where}: the data name no answer column.", "data: {answer: answer}")
    if card.data.gold == "yes_no" and card.data.options:
        raise FitraError(f"{where}: gold: yes_no is for data without option columns.", "gold: letter")
    if p.kind == "generate" and not p.extract:
        raise FitraError(f"{where}.extract: missing.", f"One of: {', '.join(x for x in get_args(Extract) if x)}.")


def _templates_of_data(card: TaskCard, where: str) -> None:
    unknown = template.fields(card.data.category, f"{where}: data.category") - set(card.data.fields)
    if unknown:
        raise FitraError(f"{where}: data.category: no field '{min(unknown)}'.", "Make it under data.fields.")
    for name, part in card.data.fields.items():
        if isinstance(part, Part) and template.fields(part.text, f"{where}: data.fields.{name}") - {"value"}:
            raise FitraError(f"{where}: data.fields.{name}.text: only {{value}} is known there.", "text: ' in {value}'")


def columns(data: Data) -> Iterator[str]:
    """The columns a file must have, as they are asked for. Options beyond `min_options` need not be there."""
    yield from filter(None, [data.split])
    yield from (p if isinstance(p, str) else p.of for p in data.fields.values())
    yield data.question
    yield from data.options[: data.min_options] if isinstance(data.options, tuple) else [data.options]
    yield from filter(None, [data.answer, data.answers, *data.cluster])
