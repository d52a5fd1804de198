"""Answers by a model to native or translated questions.

AceGPT (table of instruction data) answered real questions of Quora-ar anew, and gave translated Alpaca instructions
Arabic answers of their own instead of translated ones, since those carry the values of where they were written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fitra import llm
from fitra.artifacts import canonical_json, open_stage, read_manifest, worst_licence
from fitra.llm.verdict import few
from fitra.recipe import Answer, Instruct
from fitra.synth import ask, compare, gates, plan, shards, sources
from fitra.synth.schemas import INSTRUCTION_SCHEMA

__all__ = ["answer", "plan_answer"]

VERSION = 1
COLUMNS = ("instruction", "input")
FINAL = frozenset(("refusal", "toxicity"))  # a model that declines may be right: it is not talked into it
GROUP = {"ar": "ar", "arz": "ar", "apc": "ar", "ary": "ar", "en": "en"}


def answer(
    cfg: Answer, given: Path, out: Path, ledger: Path | None = None, *, backend: llm.Backend | None = None
) -> dict[str, Any]:
    """Answer the questions of files, or of a stage with instructions.parquet; returns the manifest.

    Writes rows/ (every question with its state and reason) and instructions.parquet, which `fitra sft` reads: one row
    for each accepted draw. Answers that the input holds are not read. Raises FitraError as `translate` does.
    """
    source = sources.open_source(given, cfg, "questions", COLUMNS)
    model = ask.identity_of(cfg, backend)
    system = ask.prompt("answer", cfg.system)
    config = ask.settled(cfg, model=model, asked=ask.prompt_hash(system))
    inputs = {"input": source.inputs, "benchmarks": [Path(b.path) for b in cfg.contamination.benchmarks]}
    with open_stage(out, stage="answer", config=config, inputs=inputs, version=VERSION) as st:
        if st.done:
            return read_manifest(Path(out))
        shards.same_run(st.out, st.fingerprint)
        asker = ask.Asker(cfg, Path(ledger or Path(out) / "ledger"), backend)
        st.notes["plan"] = _plan(cfg, source)
        benchmarks = compare.Benchmarks(cfg.contamination)

        def make(items: Sequence[sources.Item]) -> list[shards.Made]:
            questions = [_question(cfg, item) for item in items]
            ask_all(cfg, asker, questions, [user_text(item) for item in items], benchmarks)
            made: list[shards.Made] = []
            for part in shards.groups(list(zip(items, questions, strict=True)), shards.SHARD_ROWS):
                licence = [worst_licence([i.licence_class, cfg.output_licence]) for i, _ in part]
                rows = [row_of(q, x, asker.identity) for (_, q), x in zip(part, licence, strict=True)]
                good = [r for (i, q), x in zip(part, licence, strict=True) for r in _instructions(i, q, x, asker)]
                tables = {
                    "rows": shards.table(rows, shards.ROW_SCHEMA),
                    "instructions": shards.table(good, INSTRUCTION_SCHEMA),
                }
                made.append(tables)
            return made

        counts, reasons, licences = Counter[str](), Counter[str](), {"A"}
        for rows in shards.work(st, source.items(), source.total, asker.batch, make, "answer"):
            states = rows["state"].to_pylist()
            counts.update(states)
            reasons.update(shards.kinds(rows))
            licences.update(x for x, s in zip(rows["licence_class"].to_pylist(), states, strict=True) if s == "accept")
        shards.merge(st.out)
        shards.finish(st, source.bad, counts, reasons, asker)
        st.licence_class = worst_licence(sorted(licences))
        st.commit()
        return read_manifest(Path(out))


def plan_answer(cfg: Answer, given: Path) -> dict[str, Any]:
    """What answers would cost, from a sample (plan.estimate); asks nothing."""
    return _plan(cfg, sources.open_source(given, cfg, "questions", COLUMNS))


def _plan(cfg: Answer, source: sources.Source) -> dict[str, Any]:
    count, costs = plan.counter(cfg), list[plan.Cost]()
    systems = {lang: count(system_of(cfg, lang)) for lang in ("ar", "en")}
    for item in source.sample(plan.SAMPLE):
        lang = language_of(cfg, item)
        low, high = plan.turn(count, user_of(item))
        out = [plan.chars(plan.ANSWER_CHARS[end], lang, end) for end in (0, 1)]
        costs.append(plan.Cost(1, (low + systems[lang][0], high + systems[lang][1]), (out[0], out[1])))
    return plan.estimate(costs, source.total, cfg, {"characters of an answer": plan.ANSWER_CHARS})


def language_of(cfg: Answer, item: sources.Item) -> str:
    """The language an answer must be in."""
    if cfg.lang != "same":
        return cfg.lang
    said = GROUP.get(item.lang or "")
    return said or ("ar" if gates.in_script(user_text(item), "ar") >= 0.5 else "en")


def user_text(item: sources.Item) -> str:
    """The question as one text."""
    return "\n\n".join(item.fields[c].strip() for c in COLUMNS if item.fields.get(c, "").strip())


def user_of(item: sources.Item) -> str:
    """The user's turn."""
    return ask.between(user_text(item))


def system_of(cfg: Answer | Instruct, lang: str) -> str:
    """The instructions to the model."""
    return ask.fill(ask.prompt("answer", cfg.system), target=ask.NAMES[lang])


def _question(cfg: Answer, item: sources.Item) -> ask.Question:
    text = user_text(item)
    return ask.Question(item.id, text, ask.between(text), language_of(cfg, item), ask.nonce_of(text))


def ask_all(
    cfg: Answer | Instruct,
    asker: ask.Asker,
    questions: Sequence[ask.Question],
    texts: Sequence[str],
    benchmarks: compare.Benchmarks,
) -> None:
    """Ask those that are no rows of evaluation sets; the others are refused unasked."""
    for q, hit in zip(questions, benchmarks.find(texts), strict=True):
        if hit:
            q.state, q.reason = "refused", f"benchmark: {few([hit])}"

    def judge(asked: Sequence[ask.Question], pairs: Sequence[gates.Asked]) -> list[list[gates.Verdict]]:
        return gates.answers(pairs, cfg, [q.lang for q in asked], [q.nonce for q in asked])

    for lang in ("ar", "en"):
        mine = [q for q in questions if q.lang == lang]
        asker.ask("answer", system_of(cfg, lang), mine, _parse, judge, final=FINAL)


def _parse(reply: str, q: ask.Question) -> str:
    return ask.unmarked(reply, q.nonce)


def row_of(q: ask.Question, licence: str, model: str) -> dict[str, Any]:
    """The row of a question (shards.ROW_SCHEMA)."""
    return {
        "id": q.id, "lang": q.lang, "target": q.lang, "source": q.source, "result": q.text or None, "state": q.state,
        "reason": q.reason, "model": model, "licence_class": licence, "keys": q.keys,
        "verdicts": canonical_json([v.as_dict() for v in q.verdicts]),
    }  # fmt: skip


def _instructions(item: sources.Item, q: ask.Question, licence: str, asker: ask.Asker) -> list[dict[str, Any]]:
    row = item.row
    same = {k: row.get(k) if isinstance(row.get(k), str) else None for k in ("topic", "kind", "direction")}
    return [
        {
            "id": item.id if asker.cfg.draws == 1 else f"{item.id}#{draw}", "instruction": item.fields["instruction"],
            "input": item.fields.get("input"), "output": text.strip(), "lang": q.lang, "licence_class": licence,
            "parent_id": item.id, "pair_id": row.get("pair_id") if isinstance(row.get("pair_id"), str) else None,
            "model": asker.identity, **same,
        }
        for draw, text in q.found
    ]  # fmt: skip
