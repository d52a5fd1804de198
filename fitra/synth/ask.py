"""Asking: prompts with untrusted text between markers, rounds of replies and gates, what it cost.

Every job is one `llm.run` (or `llm.run_batch`) over the ledger for each round: the first, and one for each retry of
what the gates refused. A question ends in one state: accept; refused (a reply came, and the gates do not let it pass);
quarantine (it could not be asked, or no usable reply came).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from fitra import llm
from fitra.artifacts import digest
from fitra.errors import FitraError
from fitra.llm.marks import between, fill, nonce_of
from fitra.llm.prices import cost
from fitra.llm.verdict import complaint, few
from fitra.synth import gates

__all__ = ["PROMPT_VERSION", "Asker", "Question", "between", "fill", "identity_of", "nonce_of", "prompt", "settled"]

PROMPT_VERSION = 1
NAMES = {"ar": "Arabic", "en": "English"}
STATES = ("accept", "refused", "quarantine")


def prompt(name: str, given: str | None = None) -> str:
    """The text of a prompt that ships, or of the file `given` in its place."""
    if given is None:
        return resources.files("fitra.synth").joinpath("prompts", f"{name}.md").read_text("utf-8")
    try:
        return Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise FitraError(f"{given}: cannot be read as a prompt: {e}", "Give a UTF-8 text file.") from None


def unmarked(reply: str, nonce: str) -> str:
    """A reply without thoughts, and without our markers where the model copied them."""
    text = re.sub(r"\A\s*<think>.*?</think>\s*", "", reply.replace("\r\n", "\n"), flags=re.S)
    inside = re.search(rf"<<<{nonce}[ \t]*\n(.*?)\n?{nonce}>>>", text, re.S)
    text = inside[1] if inside else text
    if not text.strip():
        raise llm.ParseError("an empty reply")
    return text.strip("\n \t")


def identity_of(cfg: Any, backend: llm.Backend | None) -> str:
    """The model that answers, without connecting to it."""
    if backend is not None:
        return backend.identity
    if cfg.model is None:
        raise FitraError("synth: no model is given.", "--set endpoint.base_url=http://... --set endpoint.model=NAME")
    return llm.EndpointBackend(cfg.model.endpoints, revision=cfg.model.revision).identity


def settled(cfg: Any, **more: Any) -> dict[str, Any]:
    """The config as it counts for a stage's fingerprint."""
    return {**cfg.lasting(), **more, "gates": gates.GATES_VERSION, "prompts": PROMPT_VERSION}


@dataclass
class Question:
    """One question on its way; `text` is what was accepted, else the last attempt."""

    id: str
    source: str  # what the gates compare with
    user: str  # the user's turn
    lang: str = "ar"  # of the answer
    nonce: str = ""
    state: str = ""
    reason: str = ""
    text: str = ""
    found: list[tuple[int, str]] = field(default_factory=list)  # (draw, accepted text)
    verdicts: list[gates.Verdict] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    complaint: str = ""
    talk: list[llm.Message] = field(default_factory=list)  # replies and complaints so far


Judge = Callable[[Sequence[Question], Sequence[gates.Asked]], list[list[gates.Verdict]]]
Parse = Callable[[str, Question], str]


class Asker:
    """The model of a run, its ledger and its budget. `spent` counts what this process asked for."""

    def __init__(self, cfg: Any, ledger: Path, backend: llm.Backend | None = None) -> None:
        self.cfg, self.ledger = cfg, ledger
        self.identity = identity_of(cfg, backend)
        self.spent: Counter[str] = Counter()
        self.price = cfg.model.endpoints[0].price if cfg.model else None
        self.batch = bool(cfg.model and cfg.model.batch and backend is None)
        self.budget = None
        if cfg.model and cfg.model.budget:
            self.budget = llm.Budget(**cfg.model.budget.model_dump(), price=self.price, batch=self.batch)
        self._given = backend

    def backend(self) -> llm.Backend:
        """A fresh client: a run ends by closing it."""
        return self._given or llm.EndpointBackend(self.cfg.model.endpoints, revision=self.cfg.model.revision)

    def run(self, job: llm.Job, rows: Sequence[dict[str, Any]]) -> Iterator[llm.Answer]:
        """Answers to the rows in order, from the ledger, the servers or the batch API."""
        if self.batch:
            model = self.cfg.model
            answers = llm.run_batch(
                job, rows, model.endpoints[0], self.ledger, revision=model.revision, budget=self.budget
            )
        else:
            answers = llm.run(job, rows, self.backend(), self.ledger, budget=self.budget)
        for a in answers:
            if a.reply is not None and not a.cached:
                self.spent["requests"] += 1
                self.spent.update({k: a.reply.usage.get(k, 0) for k in ("prompt_tokens", "completion_tokens")})
            yield a

    def asked(self) -> dict[str, Any]:
        """What this process asked for, for the manifest: requests, tokens and, where a price is known, money."""
        out: dict[str, Any] = {k: self.spent[k] for k in ("requests", "prompt_tokens", "completion_tokens")}
        if self.price:
            out["money"] = round(cost(out, self.price, batch=self.batch), 6)
        return out

    def ask(
        self,
        name: str,
        system: str,
        questions: Sequence[Question],
        parse: Parse,
        judge: Judge,
        draws: int | None = None,
        schema: dict[str, Any] | None = None,
        final: frozenset[str] = frozenset(),
    ) -> None:
        """Ask each question until a reply passes the gates or the retries are used up; the outcome is in them.

        What a gate of `final` refused is not asked again. Of several draws all that pass are in `found`, the first of
        them is `text`. Raises FitraError when the endpoint is down or the budget is spent; what was answered is in the
        ledger.
        """
        by_id = {q.id: q for q in questions}
        again = prompt("retry")

        def render(row: Any) -> list[llm.Message]:
            q = by_id[row["id"]]
            return [{"role": "user", "content": q.user}, *q.talk]

        job = llm.Job(name, render, lambda reply, row: parse(reply, by_id[row["id"]]),
                      system=system, draws=draws or self.cfg.draws, schema=schema)  # fmt: skip
        pending = [q for q in questions if not q.state]
        for _ in range(self.cfg.retries + 1):
            if not pending:
                break
            came: list[tuple[Question, int, gates.Asked]] = []
            errors: dict[str, str] = {}
            replies: dict[str, str] = {}
            for a in self.run(job, [{"id": q.id} for q in pending]):
                q = by_id[a.row_id]
                if a.key:
                    q.keys.append(a.key)
                if a.error is not None:
                    errors.setdefault(q.id, a.error)
                if a.reply is not None:
                    replies.setdefault(q.id, a.reply.text)
                if a.error is None and a.reply is not None:
                    came.append((q, a.draw, gates.Asked(q.source, a.value, a.reply.finish_reason)))
            self._settle(pending, came, errors, judge)
            pending = [q for q in pending if q.state != "accept" and not _is_final(q, final)]
            for q in pending:  # all that was said: equal words would be an equal question, which the ledger answers
                if replies.get(q.id):
                    q.talk.append({"role": "assistant", "content": replies[q.id]})
                q.talk.append({"role": "user", "content": fill(again, complaint=q.complaint)})

    @staticmethod
    def _settle(
        pending: Sequence[Question],
        came: Sequence[tuple[Question, int, gates.Asked]],
        errors: dict[str, str],
        judge: Judge,
    ) -> None:
        for q in pending:
            error = errors.get(q.id, "no reply")
            q.state, q.reason, q.complaint = "quarantine", error, f"- {few([error.removeprefix('parse: ')])}"
        for (q, draw, asked), verdicts in zip(came, judge([c[0] for c in came], [c[2] for c in came]), strict=True):
            if q.state == "accept":
                if all(v.passed for v in verdicts):
                    q.found.append((draw, asked.answer))
                continue
            q.text, q.verdicts = asked.answer, verdicts
            if all(v.passed for v in verdicts) and verdicts:
                q.state, q.reason, q.complaint = "accept", "", ""
                q.found.append((draw, asked.answer))
            else:
                q.state, q.reason = "refused", complaint(verdicts, ":") or "not judged"
                q.complaint = gates.told(verdicts)


def _is_final(q: Question, final: frozenset[str]) -> bool:
    if q.state == "quarantine":
        return q.reason.startswith(("request:", "render:"))
    return any(not v.passed and v.gate in final for v in q.verdicts)


def prompt_hash(*texts: str) -> str:
    """Identity of what is asked, for a stage's config."""
    return digest(list(texts))
