"""Answers to be judged: asked turn by turn, kept in shards that a restarted run finds again; or read from a file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fitra.artifacts import digest, write_json, write_parquet
from fitra.errors import FitraError
from fitra.evaluate.card import read
from fitra.evaluate.judged.card import ChatCard, Question
from fitra.progress import track

__all__ = ["Answer", "Answers", "collect", "from_file", "given"]

Message = dict[str, str]
Answer = Callable[[list[list[Message]]], list[str]]
Answers = Mapping[str, tuple[str, ...]]  # question id -> one answer per turn

SHARD = 32  # questions whose answers are kept together
COLUMNS = ("response", "answer", "output")


def collect(card: ChatCard, answer: Answer, folder: Path, identity: str) -> Answers:
    """The answers of `answer` to all questions, one per turn; a second turn is asked with the first in view.

    They lie in `folder` by shards of 32 questions. A run of the same card and `identity` (which names the model and how
    it is sampled) finds them; those of another are deleted.
    """
    mark = folder / "answers.json"
    key = digest([identity, card.task, card.set.version, [[q.id, *q.turns] for q in card.questions]])
    if not mark.is_file() or json.loads(mark.read_text("utf-8")).get("key") != key:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(mark, {"key": key})
    shards = [card.questions[i : i + SHARD] for i in range(0, len(card.questions), SHARD)]
    out: dict[str, tuple[str, ...]] = {}
    for n, shard in enumerate(track(shards, f"{card.task}: answers", total=len(shards))):
        path = folder / f"part-{n:05d}.parquet"
        if not path.is_file():
            got = _ask(shard, answer)
            write_parquet(path, pa.table({"id": [q.id for q in shard], "answers": [list(a) for a in got]}))
        out.update((r["id"], tuple(r["answers"])) for r in pq.read_table(path).to_pylist())
    return out


def _ask(questions: Sequence[Question], answer: Answer) -> list[tuple[str, ...]]:
    talks: list[list[Message]] = [[] for _ in questions]
    said: list[list[str]] = [[] for _ in questions]
    for turn in range(max(len(q.turns) for q in questions)):
        places = [n for n, q in enumerate(questions) if turn < len(q.turns)]
        for n in places:
            talks[n].append({"role": "user", "content": questions[n].turns[turn]})
        texts = answer([list(talks[n]) for n in places])
        if len(texts) != len(places):
            raise FitraError(
                f"{len(texts)} answers came back for {len(places)} questions.",
                "It must keep their order.",
            )
        for n, text in zip(places, texts, strict=True):
            said[n].append(_storable(text))
            talks[n].append({"role": "assistant", "content": said[n][-1]})
    return [tuple(s) for s in said]


def _storable(text: str) -> str:
    """Lone surrogates, which a model's bytes may decode to, cannot be stored as UTF-8."""
    return str(text).encode("utf-8", "replace").decode()


def from_file(card: ChatCard, path: Path, model: str = "") -> Answers:
    """Answers from a parquet file with `prompt` (the question's text), or `prompt_id` or `id`, and `response`, `answer`
    or `output`; with a column `model`, those of `model`.

    Questions without an answer are simply not there. Raises FitraError for a missing file or column, a model that
    is not in it, or when no question is answered.
    """
    rows = read(Path(path), (), "answers")
    have = list(rows[0]) if rows else []
    column = next((c for c in COLUMNS if c in have), None)
    if column is None:
        raise FitraError(f"{path}: no column {', '.join(COLUMNS)}.", f"The file has: {', '.join(have)}.")
    if "model" in have:
        models = sorted({str(r["model"]) for r in rows})
        if model not in models:
            raise FitraError(f"{path}: no answers of model '{model}'.", f"It has: {', '.join(models)}.")
        rows = [r for r in rows if r["model"] == model]
    by_prompt = {_key(r["prompt"]): r for r in rows if isinstance(r.get("prompt"), str)}
    by_id = {str(r[c]): r for c in ("prompt_id", "id") if c in have for r in rows if not by_prompt}
    out = {}
    for q in card.questions:
        row: dict[str, Any] | None = by_prompt.get(_key(q.turns[0])) or by_id.get(q.id)
        value = None if row is None else row[column]
        texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        if len(texts) == len(q.turns) and all(isinstance(t, str) for t in texts):
            out[q.id] = tuple(texts)
    if not out:
        raise FitraError(f"{path}: no answer to any question of {card.task}.", "Are they answers to another set?")
    return out


def given(answers: Mapping[str, Any]) -> Answers:
    """Plain answers {question id: text or texts} in the form that is used here."""
    return {k: (v,) if isinstance(v, str) else tuple(v) for k, v in answers.items()}


def _key(text: str) -> str:
    return " ".join(text.split())
