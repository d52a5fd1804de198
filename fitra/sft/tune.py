"""Fine-tune a model on instructions; the loss is on the answers alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from fitra import lm, recipe, train
from fitra.artifacts import Stage, licence_of, open_stage, read_manifest, worst_licence
from fitra.errors import FitraError
from fitra.lm.chat import prepare_tokenizer, without_chat_tokens

NEEDED = ("instruction", "output")
GROUPS = ("ar", "en", "other")
GROUP_OF = {"ar": 0, "arz": 0, "apc": 0, "ary": 0, "en": 1}


class Row(NamedTuple):
    """One instruction as read."""

    id: str
    where: str
    question: str
    answer: str
    group: int
    licence: str | None


def tune(cfg: recipe.Sft, model: Path, instructions: Sequence[Path], seed: int, out: Path) -> dict[str, Any]:
    """Tune `model` on parquet or jsonl files with columns instruction, output (and input, lang, id, licence_class).

    Leaves out/model, whose tokenizer holds the chat template, and out/log.jsonl; returns the manifest. An answer
    longer than `max_answer_chars` is cut there and an example longer than `train.seq_len` tokens loses its end; rows
    that give no example go to the quarantine table. The budget `train.tokens` counts tokens without padding.
    Raises FitraError when a file or column is missing or no row is left.
    """
    files = list(dict.fromkeys([*(Path(p) for p in cfg.instructions), *(Path(p) for p in instructions)]))
    if not files:
        raise FitraError("sft: no instructions are given.", "Set sft.instructions in the recipe.")
    start = lm.model_folder(model)
    bad: list[dict[str, Any]] = []
    rows = [row for file in files for row in _read(file, bad)][: cfg.limit]
    licence = worst_licence([licence_of(start), *(r.licence for r in rows)])
    config = {"sft": cfg, "seed": seed}
    with open_stage(
        out, stage="sft", config=config, inputs={"model": start, "instructions": files}, licence_class=licence
    ) as st:
        if st.done:
            return read_manifest(out)
        m = lm.load(start, device=cfg.train.device, precision="fp32")
        st.counts["new_tokens"] = prepare_tokenizer(m.tokenizer, m.model)
        examples = _examples(m, rows, cfg, st, bad)
        if bad:
            st.quarantine(bad)
        if not examples:
            raise FitraError(
                f"{files[0]}: no usable instruction; the first of {len(bad)} bad rows: {_first(bad)}.",
                "Correct the file, or raise sft.train.seq_len where prompts are too long.",
            )
        batches = train.Padded(examples, cfg.train.tokens, cfg.train.batch_tokens, m.tokenizer.pad_token_id, seed)
        train.describe(out, m.model, m.tokenizer)
        log = train.fit(
            m.model, batches, cfg.train, out, seed=seed, groups=GROUPS, identity=st.fingerprint, description="sft"
        )
        with st.folder("model") as tmp:
            m.model.save_pretrained(tmp)
            m.tokenizer.save_pretrained(tmp)
        st.counts |= {"examples": len(examples), "tokens": batches.tokens, "steps": log[-1]["step"]}
        st.counts["repeats"] = round(batches.tokens / sum(len(e.ids) for e in examples), 3)
        st.notes["loss"] = log[-1]["loss"]
        shutil.rmtree(out / "checkpoint", ignore_errors=True)
        return st.commit()


def _examples(
    m: lm.LM, rows: Sequence[Row], cfg: recipe.Sft, st: Stage, bad: list[dict[str, Any]]
) -> list[train.Example]:
    """Ids and answer border of each row; the border is where the rendered prompt ends."""
    tok, room = m.tokenizer, min(cfg.train.seq_len, m.max_positions)
    answers = [r.answer[: cfg.max_answer_chars] for r in rows]
    user = [{"role": "user", "content": r.question} for r in rows]
    prompts = [tok.apply_chat_template([u], tokenize=False, add_generation_prompt=True) for u in user]
    wholes = [
        tok.apply_chat_template([u, {"role": "assistant", "content": a}], tokenize=False)
        for u, a in zip(user, answers, strict=True)
    ]
    if not rows:
        return []
    prompt_ids = tok(prompts, add_special_tokens=False)["input_ids"]
    whole_ids = tok(wholes, add_special_tokens=False)["input_ids"]
    examples: list[train.Example] = []
    st.counts["answers_cut"] = sum(len(r.answer) > cfg.max_answer_chars for r in rows)
    st.counts["examples_cut"] = 0
    for row, before, ids in zip(rows, prompt_ids, whole_ids, strict=True):
        if ids[: len(before)] != before:
            bad.append({"id": row.id, "where": row.where, "reason": "the tokenizer joins prompt and answer"})
        elif len(before) >= room:
            reason = f"the prompt has {len(before)} tokens and leaves no room for an answer in {room}"
            bad.append({"id": row.id, "where": row.where, "reason": reason})
        else:
            st.counts["examples_cut"] += len(ids) > room
            examples.append(train.Example(list(ids[:room]), len(before), row.group))
    return examples


def _first(bad: list[dict[str, Any]]) -> str:
    return f"{bad[0]['where']}: {bad[0]['reason']}" if bad else "none"


def _read(path: Path, bad: list[dict[str, Any]]) -> Iterator[Row]:
    """The usable rows of one file; the others are added to `bad` with their reason."""
    for n, raw in enumerate(_raw(path, bad), 1):
        if raw is None:
            continue
        where = f"{path.name}:{n}"
        name = str(raw.get("id") or where)
        question, answer, more = raw.get("instruction"), raw.get("output"), raw.get("input") or ""
        if not isinstance(question, str) or not isinstance(answer, str) or not isinstance(more, str):
            bad.append({"id": name, "where": where, "reason": "instruction or output is not text"})
            continue
        question = without_chat_tokens(f"{question.strip()}\n{more.strip()}").strip()
        answer = without_chat_tokens(answer).strip()
        if not question or not answer:
            empty = "answer" if question else "instruction"
            bad.append({"id": name, "where": where, "reason": f"empty {empty}"})
            continue
        group = GROUP_OF.get(str(raw.get("lang") or "ar"), 2)
        licence = raw.get("licence_class")
        yield Row(name, where, question, answer, group, licence if isinstance(licence, str) else None)


def _raw(path: Path, bad: list[dict[str, Any]]) -> Iterator[dict[str, Any] | None]:
    """Rows of a parquet or jsonl file as dicts; None for a line that is no JSON object."""
    if not path.is_file():
        raise FitraError(f"{path}: no such file.", "Check sft.instructions in the recipe.")
    if path.suffix == ".parquet":
        try:
            file = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as e:
            raise FitraError(f"{path}: not a parquet file: {e}", "") from e
        _need(path, set(file.schema_arrow.names))
        for batch in file.iter_batches():
            yield from batch.to_pylist()
        return
    if path.suffix not in (".jsonl", ".json", ".ndjson"):
        raise FitraError(f"{path}: unknown kind of file.", "Instructions are parquet or jsonl.")
    seen: set[str] = set()
    with path.open("rb") as lines:
        for n, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                bad.append({"id": f"{path.name}:{n}", "where": f"{path.name}:{n}", "reason": "not a JSON object"})
                yield None
                continue
            seen |= row.keys()
            yield row
    _need(path, seen)


def _need(path: Path, columns: set[str]) -> None:
    if missing := [c for c in NEEDED if c not in columns]:
        raise FitraError(
            f"{path}: no column {', '.join(missing)}; it has {', '.join(sorted(columns)) or 'none'}.",
            "Instructions need the columns instruction and output.",
        )
