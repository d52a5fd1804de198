"""What raters said: one row a judgement, read from files that nobody has vouched for.

An open record names the models; a blind one, as the page writes it, names a task of a plan, and the key of that plan
tells the models. Both are JSON lines or parquet.

    open   question, model_a, model_b, rater, verdict (a, b, tie, both_bad)
           and where known: first (a, b: whose answer was shown first), turn, category, tie_break
    blind  task, rater, verdict (first, second, tie, both_bad)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fitra import tables
from fitra.errors import FitraError

VERDICTS = ("a", "b", "tie", "both_bad")
OTHER = {"a": "b", "b": "a"}
LONGEST = 500  # characters of a name

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Vote:
    """One rater's verdict on one pair of answers; the models are in alphabetical order, so each pair has one name."""

    question: str
    a: str
    b: str
    rater: str
    verdict: str  # one of VERDICTS
    first: str = ""  # 'a' or 'b': whose answer was shown first (or on the right, in Arabic); '' is not known
    turn: int = 0  # 0: the whole conversation
    category: str = ""
    tie_break: bool = False  # asked only because the others did not agree

    @property
    def unit(self) -> tuple[str, int, str, str]:
        """What is judged: the question, the turn and the two models."""
        return self.question, self.turn, self.a, self.b


def rows(path: Path, column: str) -> Iterator[tuple[dict[str, Any] | None, str, str]]:
    """(row or None, file:line, reason) of a JSON-lines or parquet file whose rows hold a text under `column`."""
    for batch in tables.read(path, text=column):
        for row in batch.rows:
            yield row, str(row["_where"]), ""
        for bad in batch.bad:
            yield None, bad["where"], bad["reason"]


def read(paths: Sequence[Path], key: Path | None = None) -> tuple[list[Vote], list[dict[str, str]]]:
    """The votes of some files, and the rows set aside (id, where, reason), both in the order of the files.

    A rater's second verdict on the same pair is set aside, whatever it says. Raises FitraError for a file that cannot
    be read, and where no row is a vote.
    """
    tasks = read_key(key) if key is not None else None
    said: dict[tuple[Any, ...], Vote] = {}
    aside: list[dict[str, str]] = []
    for path in map(Path, paths):
        for row, where, reason in rows(path, "verdict"):
            got = _vote(row, tasks) if row is not None else reason
            if isinstance(got, Vote):
                before = said.setdefault((*got.unit, got.rater), got)
                if before is got:
                    continue
                how = (
                    "the same way"
                    if before.verdict == got.verdict
                    else f"first '{before.verdict}', then '{got.verdict}'"
                )
                got = f"rater '{got.rater}' judged this pair before: {how}"
            aside.append({"id": _name(row), "where": where, "reason": got})
    if not said:
        first = f" The first row: {aside[0]['reason']}." if aside else ""
        raise FitraError(
            f"{', '.join(map(str, paths))}: no judgement that can be counted.{first}",
            "A row needs question, model_a, model_b, rater, verdict; or task, rater, verdict and --key.",
        )
    return list(said.values()), aside


def read_key(path: Path) -> dict[str, dict[str, Any]]:
    """The tasks of a plan's key by their name; FitraError where a row is damaged: with half a key nothing is sure."""
    found: dict[str, dict[str, Any]] = {}
    for row, where, reason in rows(Path(path), "task"):
        if row is None:
            raise FitraError(f"{where}: {reason}.", "Give the key.jsonl that `fitra eval human plan` wrote.")
        if row.get("first") not in OTHER or row["task"] in found:
            raise FitraError(f"{where}: no key of a task, or one given twice.", "Give the key.jsonl of the plan.")
        found[row["task"]] = row
    return found


def _name(row: Row | None) -> str:
    value = (row or {}).get("task") or (row or {}).get("question") or ""
    return str(value)[:LONGEST]


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value).strip()[:LONGEST]


def _vote(row: Row, tasks: Mapping[str, Row] | None) -> Vote | str:
    """A vote, or the reason why this row is none."""
    verdict = _text(row, "verdict")
    if not _text(row, "rater"):
        return "no 'rater'"
    if tasks is not None:
        task = tasks.get(_text(row, "task"))
        if task is None:
            return f"no task '{_text(row, 'task')}' in the key"
        first = str(task["first"])
        known = {"first": first, "second": OTHER[first], "tie": "tie", "both_bad": "both_bad"}
        if verdict not in known:
            return f"verdict '{verdict[:40]}' is not one of {', '.join(known)}"
        row = {**task, "rater": row["rater"], "verdict": known[verdict]}
    elif "task" in row and "model_a" not in row:
        return "a blind record: its key is needed (--key)"
    elif verdict not in VERDICTS:
        return f"verdict '{verdict[:40]}' is not one of {', '.join(VERDICTS)}"
    return _open(row)


def _open(row: Row) -> Vote | str:
    missing = next((k for k in ("question", "model_a", "model_b") if not _text(row, k)), "")
    if missing:
        return f"no '{missing}'"
    a, b = _text(row, "model_a"), _text(row, "model_b")
    if a == b:
        return f"'{a}' against itself"
    first, turn = row.get("first") or "", row.get("turn") or 0
    if first not in ("", "a", "b"):
        return "'first' is neither a nor b"
    if isinstance(turn, bool) or not isinstance(turn, int) or turn < 0:
        return "'turn' is no number from 0"
    verdict = _text(row, "verdict")
    if a > b:
        a, b = b, a
        verdict, first = OTHER.get(verdict, verdict), OTHER.get(first, first)
    return Vote(
        _text(row, "question"), a, b, _text(row, "rater"), verdict, first, turn, _text(row, "category"),
        row.get("tie_break") is True,
    )  # fmt: skip
