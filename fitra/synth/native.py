"""Native instructions from nothing but a topic tree: topics to subtopics to questions to answers.

After AraLLaMA's ALAN (method of GLAN: taxonomy, subjects, questions, answers). Questions that repeat one another, or
rows of evaluation sets, are refused before they are answered.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fitra import llm
from fitra.artifacts import Stage, open_stage, read_manifest, worst_licence
from fitra.llm.verdict import few
from fitra.recipe import Instruct
from fitra.synth import answers, ask, compare, gates, plan, shards, topics
from fitra.synth.schemas import INSTRUCTION_SCHEMA, TOPIC_SCHEMA

__all__ = ["instruct", "plan_instruct"]

VERSION = 1
WORDS, CHARS = (3, 250), 2000  # of a question
KINDS = {
    "open": "سؤال مفتوح يُجاب عنه بشرح أو معلومة أو تعليل.",
    "choice": "سؤال اختيار من متعدد: نص السؤال ثم أربعة خيارات، كل خيار في سطر يبدأ بأحد الأحرف"
    " أ) ب) ج) د)، ولا تذكر الجواب.",
    "task": "طلب عمل: كتابة أو تلخيص أو تصنيف أو مقارنة أو تخطيط أو حساب، مع كل ما يلزم لإنجازه في نص الطلب نفسه.",
}  # fmt: skip
QUESTION_SCHEMA = pa.schema([(k, pa.string()) for k in ("id", "topic", "kind", "question", "state", "reason")])
Row = dict[str, Any]


def instruct(
    cfg: Instruct, out: Path, ledger: Path | None = None, *, backend: llm.Backend | None = None
) -> dict[str, Any]:
    """Make instructions from the topic tree; returns the manifest.

    Writes topics/ (every topic with its state), questions.parquet (every question before it was answered), rows/ (with
    answers, states and reasons) and instructions.parquet, which `fitra sft` reads. Raises FitraError for a bad topic
    file, an endpoint that is down, a spent budget; what was answered is kept.
    """
    tree = topics.load(cfg.topics)
    model = ask.identity_of(cfg, backend)
    texts = [ask.prompt(n) for n in ("topics", "questions")] + [ask.prompt("answer", cfg.system), *KINDS.values()]
    config = ask.settled(cfg, model=model, tree=tree.hash, asked=ask.prompt_hash(*texts))
    inputs = {"benchmarks": [Path(b.path) for b in cfg.contamination.benchmarks]}
    licence = worst_licence([tree.licence_class, cfg.output_licence])
    with open_stage(out, stage="instruct", config=config, inputs=inputs, version=VERSION, licence_class=licence) as st:
        if st.done:
            return read_manifest(Path(out))
        _same_run(st)
        asker = ask.Asker(cfg, Path(ledger or Path(out) / "ledger"), backend)
        st.notes["plan"] = plan_instruct(cfg)
        if not (st.out / "questions.parquet").is_file():
            _write_questions(cfg, st, asker, tree)
        rows = pq.read_table(st.out / "questions.parquet").to_pylist()
        benchmarks = compare.Benchmarks(cfg.contamination)

        def make(part: Sequence[Row]) -> list[shards.Made]:
            return _answered(cfg, part, asker, benchmarks, licence)

        counts, reasons = Counter[str](), Counter[str]()
        kept: list[str] = []
        for table in shards.work(st, rows, len(rows), asker.batch, make, "instruct"):
            states = table["state"].to_pylist()
            counts.update(states)
            reasons.update(shards.kinds(table))
            kept += [q for q, s in zip(table["source"].to_pylist(), states, strict=True) if s == "accept"]
        shards.merge(st.out)
        shards.finish(st, (), counts, reasons, asker)
        found = pq.read_table(st.out / "topics" / "part-00000.parquet")
        st.counts["topics"] = found["state"].to_pylist().count("accept")
        st.counts["topics_refused"] = found.num_rows - st.counts["topics"]
        st.notes["diversity"] = compare.diversity(kept)
        st.commit()
        return read_manifest(Path(out))


def plan_instruct(cfg: Instruct) -> dict[str, Any]:
    """What it would cost at most."""
    leaves = topics.load(cfg.topics).leaves
    longest = max(leaves, key=lambda t: len(topics.shown(t)))
    one = topics.texts_of("questions", longest, cfg.questions, max(KINDS.values(), key=len))
    asked = (answers.system_of(cfg, "ar"), "س" * plan.ITEM_CHARS["questions"][1])
    return plan.of_instructions(cfg, len(leaves), one, asked)


def _same_run(st: Stage) -> None:
    mark = st.out / ".run"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != st.fingerprint:
        (st.out / "questions.parquet").unlink(missing_ok=True)
    shards.same_run(st.out, st.fingerprint)


def _write_questions(cfg: Instruct, st: Stage, asker: ask.Asker, tree: topics.Tree) -> None:
    """Topics and questions: written once, so that a killed run goes on with the same."""
    found, leaves = topics.grow(cfg, asker, tree)
    rows: list[Row] = []
    for kind in dict.fromkeys(cfg.kinds):
        asked = topics.ask_lists(cfg, asker, "questions", leaves, cfg.questions, KINDS[kind])
        for leaf in leaves:
            q = asked[leaf.id]
            same = {"topic": topics.SEPARATOR.join(leaf.path), "kind": kind}
            if q.state != "accept":
                rows.append(
                    {"id": f"{leaf.id}:{kind}:00", **same, "question": "", "state": q.state, "reason": q.reason}
                )
                continue
            for i, text in enumerate(json.loads(q.text)[: cfg.questions], 1):
                problem = gates.item(text, cfg, WORDS, CHARS)
                rows.append({"id": f"{leaf.id}:{kind}:{i:02d}", **same, "question": text,
                             "state": "refused" if problem else "accept", "reason": problem})  # fmt: skip
    rows.sort(key=lambda r: r["id"])
    good = [r for r in rows if r["state"] == "accept"]
    for row, of in zip(good, compare.duplicates([r["question"] for r in good], cfg.near), strict=True):
        if of >= 0:
            row["state"], row["reason"] = "refused", f"duplicate: of {good[of]['id']}"
    st.write_parquet("topics/part-00000.parquet", shards.table([t.row(asker.identity) for t in found], TOPIC_SCHEMA))
    st.write_parquet("questions.parquet", shards.table(rows, QUESTION_SCHEMA))


def _answered(
    cfg: Instruct, rows: Sequence[Row], asker: ask.Asker, benchmarks: compare.Benchmarks, licence: str
) -> list[shards.Made]:
    made: list[shards.Made] = []
    questions = [
        ask.Question(r["id"], r["question"], ask.between(r["question"]), nonce=ask.nonce_of(r["question"]),
                     state="" if r["state"] == "accept" else r["state"], reason=r["reason"])
        for r in rows
    ]  # fmt: skip
    asked = [q for q in questions if not q.state]
    if cfg.answers:
        answers.ask_all(cfg, asker, asked, [q.source for q in asked], benchmarks)
    else:
        for q, hit in zip(asked, benchmarks.find([q.source for q in asked]), strict=True):
            q.state, q.reason = ("refused", f"benchmark: {few([hit])}") if hit else ("accept", "")
    for part in shards.groups(list(zip(rows, questions, strict=True)), shards.SHARD_ROWS):
        good = [x for row, q in part for x in _instructions(row, q, asker, licence)]
        tables = {
            "rows": shards.table([answers.row_of(q, licence, asker.identity) for _, q in part], shards.ROW_SCHEMA),
            "instructions": shards.table(good, INSTRUCTION_SCHEMA),
        }
        made.append(tables)
    return made


def _instructions(row: Row, q: ask.Question, asker: ask.Asker, licence: str) -> list[Row]:
    common = {"instruction": q.source, "lang": "ar", "licence_class": licence, "topic": row["topic"],
              "kind": row["kind"], "model": asker.identity}  # fmt: skip
    if q.state == "accept" and not q.found:
        return [{**common, "id": q.id}]
    several = asker.cfg.draws > 1
    return [{**common, "id": f"{q.id}#{draw}" if several else q.id, "output": t.strip()} for draw, t in q.found]
