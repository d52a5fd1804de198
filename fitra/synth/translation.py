"""Translation of documents and instructions, both sides kept (ALLaM, section on pre-training data: half of its Arabic
was translated, the English originals staying in the English part).

Long texts go piece by piece, cut at paragraph and sentence ends and put together again with the white space of the
original. A document is accepted when every piece is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from fitra import llm
from fitra.artifacts import DOCUMENT_SCHEMA, canonical_json, open_stage, read_manifest, worst_licence
from fitra.llm.chunk import chunks
from fitra.llm.verdict import few
from fitra.recipe import Translate
from fitra.signals import language
from fitra.synth import ask, gates, plan, shards, sources, spans
from fitra.synth.schemas import INSTRUCTION_SCHEMA, PARALLEL_SCHEMA

__all__ = ["plan_translate", "translate"]

VERSION = 1
GROUP = {"ar": "ar", "arz": "ar", "apc": "ar", "ary": "ar", "en": "en"}


@dataclass
class _Piece:
    """A stretch of one field of one row; `question` is None where there is nothing to translate."""

    field: str
    text: str
    question: ask.Question | None

    def result(self) -> str:
        """The translation within the white space of the original."""
        if self.question is None:
            return self.text
        lead = self.text[: len(self.text) - len(self.text.lstrip())]
        tail = self.text[len(self.text.rstrip()) :]
        return lead + self.question.text.strip() + tail


def translate(
    cfg: Translate, given: Path, out: Path, ledger: Path | None = None, *, backend: llm.Backend | None = None
) -> dict[str, Any]:
    """Translate a stage of documents, or files of documents or instructions; returns the manifest.

    Writes rows/ (shards.ROW_SCHEMA: every row with its state and reason), parallel.parquet (ar, en, pair_id), and
    documents/ or instructions.parquet with the accepted translations. `ledger` defaults to `out/ledger`; `backend`
    replaces the endpoint, as tests do. Raises FitraError for unreadable input, an endpoint that is down, a spent
    budget; finished shards and paid answers are kept.
    """
    source = sources.open_source(given, cfg, "any", cfg.fields)
    model = ask.identity_of(cfg, backend)
    system = ask.prompt("translate", cfg.system)
    config = ask.settled(cfg, model=model, asked=ask.prompt_hash(system))
    with open_stage(out, stage="translate", config=config, inputs={"input": source.inputs}, version=VERSION) as st:
        if st.done:
            return read_manifest(Path(out))
        shards.same_run(st.out, st.fingerprint)
        job = _Job(cfg, source, ask.Asker(cfg, Path(ledger or Path(out) / "ledger"), backend))
        st.notes["plan"] = _plan(cfg, source)
        counts, reasons, licences = Counter[str](), Counter[str](), {"A"}
        total = source.total
        for rows in shards.work(st, source.items(), total, job.asker.batch, job.make, "translate"):
            states = rows["state"].to_pylist()
            counts.update(states)
            reasons.update(shards.kinds(rows))
            licences.update(x for x, s in zip(rows["licence_class"].to_pylist(), states, strict=True) if s == "accept")
        shards.merge(st.out)
        shards.finish(st, source.bad, counts, reasons, job.asker)
        st.licence_class = worst_licence(sorted(licences))
        st.commit()
        return read_manifest(Path(out))


def plan_translate(cfg: Translate, given: Path) -> dict[str, Any]:
    """What a translation would cost, from a sample (plan.estimate); asks nothing."""
    return _plan(cfg, sources.open_source(given, cfg, "any", cfg.fields))


def _plan(cfg: Translate, source: sources.Source) -> dict[str, Any]:
    count = plan.counter(cfg)
    target = "en" if cfg.source == "ar" else "ar"
    fixed, costs = count(system_of(cfg)), list[plan.Cost]()
    for item in source.sample(plan.SAMPLE):
        foreign = item.lang is not None and GROUP.get(item.lang) != cfg.source
        asked = [] if foreign else [p.question for p in pieces(cfg, item) if p.question]
        prompts = [plan.turn(count, q.user) for q in asked]
        expected = sum(len(q.source) for q in asked) * gates.EXPECTED[cfg.source]
        low, high = (sum(p[end] for p in prompts) + len(asked) * fixed[end] for end in (0, 1))
        out = [plan.chars(expected * plan.TRANSLATED[end], target, end) for end in (0, 1)]
        costs.append(plan.Cost(len(asked), (low, high), (out[0], out[1])))
    return plan.estimate(costs, source.total, cfg, {"length of a translation, of the expected": plan.TRANSLATED})


def pieces(cfg: Translate, item: sources.Item) -> list[_Piece]:
    """The pieces of a row, in order; joined by field they are its texts."""
    out: list[_Piece] = []
    for name, text in item.fields.items():
        for i, part in enumerate(chunks(text, cfg.chunk_chars)):
            body = part.strip()
            question = None
            if any(c.isalpha() for c in spans.bare(body)):
                question = ask.Question(f"{item.id}:{name}#{i:05d}", body, ask.between(body), nonce=ask.nonce_of(body))
            out.append(_Piece(name, part, question))
    return out


def system_of(cfg: Translate) -> str:
    """The instructions to the model."""
    target = "en" if cfg.source == "ar" else "ar"
    return ask.fill(ask.prompt("translate", cfg.system), source=ask.NAMES[cfg.source], target=ask.NAMES[target])


class _Job:
    def __init__(self, cfg: Translate, source: sources.Source, asker: ask.Asker) -> None:
        self.cfg, self.kind, self.asker = cfg, source.kind, asker
        self.target = "en" if cfg.source == "ar" else "ar"
        self.direction = f"{cfg.source}-{self.target}"
        self.system = system_of(cfg)

    def make(self, items: Sequence[sources.Item]) -> list[shards.Made]:
        """The tables of each shard of these rows."""
        foreign = self._foreign(items)
        cut = [[] if i in foreign else pieces(self.cfg, item) for i, item in enumerate(items)]
        questions = [p.question for ps in cut for p in ps if p.question]
        self.asker.ask("translate", self.system, questions, _parse, self._judge)
        made: list[shards.Made] = []
        for part in shards.groups(list(zip(items, cut, range(len(items)), strict=True)), shards.SHARD_ROWS):
            rows, pairs, texts = [], [], []
            for item, ps, i in part:
                row = self._row(item, ps, foreign.get(i, ""))
                rows.append(row)
                if row["state"] == "accept" or (self.cfg.parts and ps):
                    pairs += self._pairs(item, ps, row["licence_class"])
                if row["state"] == "accept":
                    texts.append(self._text(item, ps, row["licence_class"]))
            documents = self.kind == "documents"
            schema = DOCUMENT_SCHEMA if documents else INSTRUCTION_SCHEMA
            tables: dict[str, pa.Table] = {
                "rows": shards.table(rows, shards.ROW_SCHEMA),
                "parallel": shards.table(pairs, PARALLEL_SCHEMA),
                "documents" if documents else "instructions": shards.table(texts, schema),
            }
            made.append(tables)
        return made

    def _foreign(self, items: Sequence[sources.Item]) -> dict[int, str]:
        """Rows that are not in the source language, by their number: the language they are in."""
        texts = ["\n".join(i.fields.values()) for i in items]
        out: dict[int, str] = {}
        for n, (code, sure) in enumerate(language.detect_all(texts)):
            said = items[n].lang
            if said is not None:
                if GROUP.get(said) != self.cfg.source:
                    out[n] = said
                continue
            share = gates.in_script(texts[n], self.cfg.source)
            believed = GROUP.get(code) != self.cfg.source and sure >= gates.SURE
            if share < 0.5 or (believed and len(texts[n].split()) >= gates.SAYS):
                out[n] = code if GROUP.get(code) != self.cfg.source else "another script"
        return out

    def _judge(self, asked: Sequence[ask.Question], pairs: Sequence[gates.Asked]) -> list[list[gates.Verdict]]:
        return gates.translations(pairs, self.cfg, self.target, [q.nonce for q in asked])

    def _row(self, item: sources.Item, ps: Sequence[_Piece], foreign: str) -> dict[str, Any]:
        questions = [p.question for p in ps if p.question]
        state, reason = "accept", ""
        failed = [q for q in questions if q.state != "accept"]
        if foreign:
            state, reason = "refused", f"language: {few([foreign])}, not {self.cfg.source}"
        elif not questions:
            state, reason = "refused", "empty: nothing to translate"
        elif failed:
            worst = next((q for q in failed if q.state == "quarantine"), failed[0])
            state = worst.state
            reason = worst.reason + (f" ({len(failed)} of {len(questions)} pieces)" if len(questions) > 1 else "")
        result = self._joined(ps) if questions and all(q.text for q in questions) else None
        return {
            "id": item.id, "lang": self.cfg.source, "target": self.target, "source": _shown(item.fields, self.kind),
            "result": _shown(result, self.kind) if result else None, "state": state, "reason": reason,
            "model": self.asker.identity, "licence_class": worst_licence([item.licence_class, self.cfg.output_licence]),
            "verdicts": canonical_json([[v.as_dict() for v in q.verdicts] for q in questions]),
            "keys": [k for q in questions for k in q.keys],
        }  # fmt: skip

    @staticmethod
    def _joined(ps: Sequence[_Piece]) -> dict[str, str]:
        out: dict[str, str] = {}
        for p in ps:
            out[p.field] = out.get(p.field, "") + p.result()
        return out

    def _pairs(self, item: sources.Item, ps: Sequence[_Piece], licence: str) -> list[dict[str, Any]]:
        good = [p for p in ps if p.question and p.question.state == "accept"]
        one = len(ps) == 1
        out = []
        for p in good:
            assert p.question is not None
            sides = {self.cfg.source: p.question.source, self.target: p.question.text.strip()}
            ident = item.id if one else p.question.id
            pair = str(item.row.get("pair_id") or item.id)
            out.append({"id": ident, **sides, "licence_class": licence, "pair_id": pair,
                        "direction": self.direction, "model": self.asker.identity})  # fmt: skip
        return out

    def _text(self, item: sources.Item, ps: Sequence[_Piece], licence: str) -> dict[str, Any]:
        fields, row = self._joined(ps), item.row
        common = {
            "id": f"{item.id}@{self.target}", "lang": self.target, "licence_class": licence, "parent_id": item.id,
            "pair_id": str(row.get("pair_id") or item.id), "direction": self.direction, "model": self.asker.identity,
        }  # fmt: skip
        if self.kind == "instructions":
            return {**common, **fields, "topic": _string(row, "topic"), "kind": _string(row, "kind")}
        labels = {"model": self.asker.identity, "translated_from": self.cfg.source}
        return {**common, "text": fields["text"], "labels": canonical_json(labels),
                **{k: _string(row, k) for k in ("source", "url", "licence")}}  # fmt: skip


def _string(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    return value if isinstance(value, str) else None


def _shown(fields: Mapping[str, str], kind: str) -> str:
    return canonical_json(dict(fields)) if kind == "instructions" else fields["text"]


def _parse(reply: str, q: ask.Question) -> str:
    """The translation in a reply. A preamble or a fence is taken off where the source itself has none."""
    text = ask.unmarked(reply, q.nonce)
    try:
        plain = llm.parse_rewrite(q.source) == q.source.strip("\n \t")
    except llm.ParseError:
        plain = False
    return llm.parse_rewrite(text) if plain else text
