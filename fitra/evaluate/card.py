"""What a benchmark is here: items to score and a card that says how. Tasks only build cards; scoring is elsewhere."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fitra import stats
from fitra.errors import FitraError

MARKS = re.compile("[\u064b-\u065f\u0670\u0640]")  # tashkeel and tatweel


@dataclass(frozen=True)
class Item:
    """One question. `options` are the continuations whose log-likelihood is compared, as they follow `prompt`.

    Where the answer is written (kind 'generate') they are the answers to tell apart, or `answers` holds accepted texts.
    """

    id: str
    prompt: str
    options: tuple[str, ...]
    gold: int
    slices: tuple[str, ...] = ()  # parts of the task that also get a score of their own, like 'heldout'
    cluster: str = ""  # items that are not independent share it; empty means alone
    category: str = ""  # subject or topic: the table by category, and means of means, go by it
    answers: tuple[str, ...] = ()  # accepted texts of a written answer (span extraction)
    defects: tuple[str, ...] = ()  # why the cleaned score leaves it out: 'duplicate', 'two_labels', 'in_dev', ...


@dataclass(frozen=True)
class Card:
    """A benchmark under one protocol.

    `kind`: 'choice' ranks the options; 'preference' measures how often option 0 (the one not wanted) beats option 1;
    'text' measures bits per byte of the prompts; 'sample' generates from the prompts and marks what comes out;
    'generate' lets the model write greedily and reads the answer with `extract` (fitra.evaluate.extract).
    `metrics` names the statistics; the first is the task's score, others get '/name' appended to the task.
    """

    task: str
    protocol: str
    kind: str
    metrics: tuple[str, ...]
    items: tuple[Item, ...]
    warnings: tuple[str, ...] = ()
    per_byte: bool = False  # divide an option's log-likelihood by its UTF-8 bytes before comparing
    facts: Mapping[str, Any] = field(default_factory=dict)  # figures about the data, for the manifest
    extract: str = ""  # how the answer is read from what the model wrote
    max_new_tokens: int = 32
    chat: bool = False  # the prompt is a user's turn, put through the model's chat template
    bare: str = ""  # the prompt without its question, for PMI: log P(option | prompt) - log P(option | bare)
    version: str = "1"  # raised whenever a prompt changes
    benchmark: str = ""  # what the protocols of one benchmark have in common: 'acva', 'mmlu_ar'
    groups: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # category -> (sub-category, domain)
    last_token: bool = False  # compare the last token of each option read alone, right after the prompt (ArabicMMLU)
    stop: tuple[str, ...] = ()  # texts at which writing ends


def accuracy_of(sums: stats.Floats) -> stats.Floats:
    """Accuracy from summed (correct, 1), or from the counts of `stats.confusion_parts` or `stats.class_parts`."""
    if sums.shape[1] == 2:
        return stats.ratio(sums)
    if sums.shape[1] == 6:
        return stats.ratio(sums @ [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    return stats.ratio(sums @ [[1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 1.0]])


STATISTICS: dict[str, Callable[[stats.Floats], stats.Floats]] = {
    "accuracy": accuracy_of,
    "mean_accuracy": accuracy_of,  # of each category, then their mean: see figures.strata
    "nested_accuracy": accuracy_of,  # categories, sub-categories, domains
    "macro_f1": stats.macro_f1_of,
    "exact_match": lambda sums: stats.ratio(sums[:, :2]),  # parts: exact, 1, F1 of words, 1
    "token_f1": lambda sums: stats.ratio(sums[:, 2:]),
    "share_unsafe": stats.ratio,
    "share_toxic": lambda sums: stats.ratio(sums[:, :2]),  # parts: toxic, samples, verbatim, samples
    "share_verbatim": lambda sums: stats.ratio(sums[:, 2:]),
    "bits_per_byte": stats.ratio,
    "perplexity": lambda sums: np.exp2(stats.ratio(sums[:, [0, 2]])),  # parts: bits, bytes, tokens
}
LOWER_IS_BETTER = {"share_unsafe", "share_toxic", "share_verbatim", "bits_per_byte", "perplexity"}


def read(
    path: Path, columns: Sequence[str], what: str, aliases: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """The rows of a parquet or JSON-lines file that must have `columns`, with the others it has.

    `aliases` {column: other name} says how another release of the same data calls a column.
    Raises FitraError naming the file and the missing column, or the line that is not a JSON object.
    """
    path = Path(path)
    if not path.is_file():
        raise FitraError(f"{path}: no such file; it should hold {what}.", "Check the path in the recipe.")
    lines = path.suffix.lower() in (".jsonl", ".ndjson")
    rows, names = _json_lines(path, what) if lines else _parquet(path, what)
    for column, other in (aliases or {}).items():
        if column not in names and other in names:
            rows = [{(column if k == other else k): v for k, v in r.items()} for r in rows]
            names = [column if n == other else n for n in names]
    missing = [c for c in columns if c not in names]
    if missing:
        raise FitraError(
            f"{path}: no column '{missing[0]}'; {what} needs {', '.join(columns)}.",
            f"The file has: {', '.join(names)}.",
        )
    return rows


def _parquet(path: Path, what: str) -> tuple[list[dict[str, Any]], list[str]]:
    try:
        table = pq.ParquetFile(path).read()  # read_table would import pandas, for a second
    except (pa.ArrowInvalid, OSError):
        raise FitraError(f"{path}: not a readable parquet file; it should hold {what}.", "Write it anew.") from None
    return table.to_pylist(), list(table.column_names)


def _json_lines(path: Path, what: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows with every column; one that a line does not have is None."""
    rows: list[dict[str, Any]] = []
    for n, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # bytes that are no UTF-8 are a ValueError too
            row = None
        if not isinstance(row, dict):
            raise FitraError(f"{path}:{n}: not a JSON object; the file should hold {what}.", "One object on each line.")
        rows.append(row)
    names = list(dict.fromkeys(k for r in rows for k in r))
    return [{k: r.get(k) for k in names} for r in rows], names


class HasId(Protocol):
    """What `take` chooses from."""

    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=HasId)


def take(items: Iterable[T], limit: int | None, salt: str) -> tuple[T, ...]:
    """Items in order of id; with a limit, those whose hash comes first: the same ones in every run and under every
    protocol of the benchmark `salt`, whatever the order of the file."""
    chosen = sorted(items, key=lambda i: i.id)
    if limit is not None and len(chosen) > limit:
        chosen.sort(key=lambda i: (hashlib.sha256(f"{salt}\0{i.id}".encode()).digest(), i.id))
        chosen = sorted(chosen[:limit], key=lambda i: i.id)
    return tuple(chosen)


def after(prompt: str, option: str) -> str:
    """The option as a continuation: with one space before it unless the prompt or the option brings white space."""
    return option if not prompt or prompt[-1:].isspace() or option[:1].isspace() else " " + option


def same_text(text: str) -> str:
    """Key under which two statements count as one: white space folded, diacritics and tatweel out."""
    return " ".join(MARKS.sub("", text).split())


def blank(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    """The first of `columns` that holds no text, or ''."""
    return next((c for c in columns if not isinstance(row[c], str) or not row[c].strip()), "")


def unique(row_id: Any, n: int, seen: Counter[str]) -> str:
    """A row's id, `row-n` where it has none; a repeated one gets a running number. `seen` is kept by the caller."""
    rid = str(row_id) if row_id not in (None, "") else f"row-{n:06d}"
    seen[rid] += 1
    return rid if seen[rid] == 1 else f"{rid}#{seen[rid]}"


def bad(row_id: Any, where: Path | str, reason: str) -> dict[str, str]:
    """A row for the quarantine."""
    return {"id": str(row_id), "where": str(where), "reason": reason}
