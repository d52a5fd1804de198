"""The recipe: one YAML file that says what a whole run does.

`load(path, overrides)` gives a frozen, typed `Recipe`. Errors name the file, the line and the nearest known key.
`${NAME}` is replaced from the environment when the recipe is loaded; manifests keep the text before that.
Relative paths are relative to the recipe's folder.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from fitra.artifacts import as_written
from fitra.errors import FitraError
from fitra.recipe.align import Align, Budget, Endpoint, Model, Price, Seed
from fitra.recipe.base import Config
from fitra.recipe.contamination import Benchmark, Contamination
from fitra.recipe.corpus import Corpus, Dedupe, Lines, Source, Toxicity
from fitra.recipe.engine import Engine
from fitra.recipe.evaluate import Evaluate, World
from fitra.recipe.filters import Filters
from fitra.recipe.synth import Answer, Instruct, Translate
from fitra.recipe.train import Base, Mixture, Prefer, Pretrain, Scratch, Sft, Train
from fitra.recipe.vocab import Progressive, Vocab
from fitra.recipe.worker import Worker

__all__ = [
    "Align",
    "Answer",
    "Base",
    "Benchmark",
    "Budget",
    "Config",
    "Contamination",
    "Corpus",
    "Dedupe",
    "Endpoint",
    "Engine",
    "Evaluate",
    "Filters",
    "Instruct",
    "Lines",
    "Mixture",
    "Model",
    "Prefer",
    "Pretrain",
    "Price",
    "Progressive",
    "Recipe",
    "Scratch",
    "Seed",
    "Sft",
    "Source",
    "Toxicity",
    "Train",
    "Translate",
    "Vocab",
    "Worker",
    "World",
    "load",
]  # fmt: skip

ARMS = ("original", "aligned")
# Keys that hold paths, resolved against the recipe's folder.
PATH_KEYS = {
    "out", "path", "quran", "parallel", "instructions", "prompts", "acva", "exams", "retention", "against", "fineweb2",
    "tokenizer", "data", "corpus", "texts", "ledger", "cache", "base",
}  # fmt: skip
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class Recipe(Config):
    """A whole run. A room left out is not run; `arms` says which corpora are pre-trained on, at equal tokens."""

    name: str
    seed: int = 7
    out: str | None = None
    arms: list[str] = list(ARMS)
    world: World | None = None
    corpus: Corpus = Corpus()
    align: Align | None = None
    base: Base | None = None
    vocab: Vocab | None = None
    pretrain: Pretrain | None = None
    sft: Sft | None = None
    prefer: Prefer | None = None
    evaluate: Evaluate | None = None


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe; `overrides` are 'corpus.min_words=20' strings, the value being YAML.

    Raises FitraError for a missing file, bad YAML, an unknown or ill-typed key, an unset variable.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except FileNotFoundError:
        raise FitraError(f"{path}: no such recipe.", "See the folder recipes/ for examples.") from None
    except UnicodeDecodeError:
        raise FitraError(f"{path}: not UTF-8 text.", "A recipe is a YAML file.") from None
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(e, "problem", e)
        raise FitraError(f"{path}{line}: not valid YAML: {problem}.", "Check the indentation.") from None
    if not isinstance(raw, dict):
        raise FitraError(f"{path}: a recipe is a mapping with at least 'name'.", "See recipes/quickstart.yaml.")
    for item in overrides:
        _override(raw, item)
    lines = dict(_lines(node, ()))
    written = raw
    raw = _resolve(_expand(raw, path, lines, ()), path.resolve().parent)
    _remember(written, raw)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as e:
        raise _explain(e, path, lines) from None


def _override(raw: dict[str, Any], item: str) -> None:
    key, sep, value = item.partition("=")
    if not sep:
        raise FitraError(f"--set {item}: expected key=value.", "For example --set corpus.min_words=20")
    here = raw
    *parents, last = key.strip().split(".")
    for p in parents:
        nxt = here.get(p)
        if nxt is None:
            nxt = here[p] = {}
        if not isinstance(nxt, dict):
            raise FitraError(f"--set {item}: '{p}' is not a mapping.", "Check the dotted key.")
        here = nxt
    try:
        here[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise FitraError(f"--set {item}: the value is not valid YAML.", "Quote it.") from None


def _lines(node: yaml.Node | None, at: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, key.value)
            yield here, key.start_mark.line + 1
            yield from _lines(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            yield (*at, i), value.start_mark.line + 1
            yield from _lines(value, (*at, i))


def _where(path: Path, lines: dict[tuple[str | int, ...], int], at: tuple[str | int, ...]) -> str:
    for n in range(len(at), 0, -1):
        if at[:n] in lines:
            return f"{path}, line {lines[at[:n]]}"
    return str(path)


def _expand(value: Any, path: Path, lines: dict[tuple[str | int, ...], int], at: tuple[str | int, ...]) -> Any:
    if isinstance(value, dict):
        return {k: _expand(v, path, lines, (*at, k)) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, path, lines, (*at, i)) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def swap(m: re.Match[str]) -> str:
        got = os.environ.get(m[1], m[2])
        if got is None:
            raise FitraError(
                f"{_where(path, lines, at)}: the environment variable {m[1]} is not set.", f"Set it: export {m[1]}=..."
            )
        return got

    return VARIABLE.sub(swap, value)


def _remember(written: Any, value: Any) -> None:
    """Note what each `${...}` became, so that manifests can show the recipe as it was written."""
    if isinstance(written, dict):
        for k in written:
            _remember(written[k], value[k])
    elif isinstance(written, list):
        for w, v in zip(written, value, strict=True):
            _remember(w, v)
    elif isinstance(written, str) and VARIABLE.search(written):
        as_written[value] = written


def _resolve(value: Any, folder: Path, key: str = "") -> Any:
    if isinstance(value, dict):
        return {k: _resolve(v, folder, str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolve(v, folder, key) for v in value]
    if isinstance(value, str) and key in PATH_KEYS and "://" not in value:
        return os.path.normpath(folder / Path(value).expanduser())
    if key in ("policy", "suite") and isinstance(value, str) and "/" in value and "://" not in value:
        return os.path.normpath(folder / Path(value).expanduser())
    return value


def _known(model: type[BaseModel], at: Sequence[str | int]) -> list[str]:
    """The keys known where `at` points."""
    here: Any = model
    for part in at:
        if isinstance(part, int):
            continue
        field = here.model_fields.get(part) if isinstance(here, type) and issubclass(here, BaseModel) else None
        if field is None:
            return []
        here = _model_in(field.annotation)
    return list(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else []


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for arg in getattr(annotation, "__args__", ()):
        found = _model_in(arg)
        if found is not None:
            return found
    return None


def _explain(error: ValidationError, path: Path, lines: dict[tuple[str | int, ...], int]) -> FitraError:
    first = error.errors(include_url=False, include_input=False)[0]
    at = tuple(first["loc"])
    name = ".".join(str(p) for p in at)
    where = _where(path, lines, at)
    if first["type"] == "extra_forbidden":
        known = _known(Recipe, at[:-1])
        near = difflib.get_close_matches(str(at[-1]), known, n=1, cutoff=0.4)
        return FitraError(
            f"{where}: unknown key '{name}'.",
            f"Did you mean '{near[0]}'?" if near else f"Known here: {', '.join(known)}.",
        )
    return FitraError(f"{where}: '{name}': {first['msg'][:1].lower()}{first['msg'][1:]}.", "Correct the value.")
