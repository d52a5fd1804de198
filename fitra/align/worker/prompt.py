"""What a worker is asked and what it answers: the same in training and in use.

The prompt is short and holds no rules: the worker has learnt them. The system turn is the policy's `worker` prompt (the
same bytes in every request), the user's turn is the text alone: for edit programs its numbered units, for rewriting the
masked text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Literal

from fitra import llm
from fitra.align import edits
from fitra.align.masking import Masked
from fitra.policy import Policy

__all__ = ["Format", "job", "messages", "parse", "target"]

Format = Literal["edits", "rewrite"]

# For policies that bring no prompt of their own.
FALLBACK = {"edits": "صحّح النص المرقّم بأوامر تحرير.", "rewrite": "هذّب النص."}
_PARAGRAPH = re.compile(r"\n[ \t]*\n")


def instruction(policy: Policy, kind: Format) -> str:
    """The system turn: the part of the policy's worker prompt that is for this format.

    `prompts/worker.md` may have a first paragraph for rewriting and a second for edit programs; one paragraph serves
    both.
    """
    template = policy.prompts.get("worker", "").replace("{policy_id}", policy.id)
    parts = [p.strip() for p in _PARAGRAPH.split(template.strip()) if p.strip()]
    if not parts:
        return FALLBACK[kind]
    return parts[0] if kind == "rewrite" else parts[-1]


def messages(policy: Policy, masked_text: str, kind: Format) -> list[llm.Message]:
    """The turns of one request."""
    user = edits.numbered(masked_text) if kind == "edits" else masked_text
    return [{"role": "system", "content": instruction(policy, kind)}, {"role": "user", "content": user}]


def target(before: str, after: str, kind: Format, droppable: Collection[int] = ()) -> str:
    """What the worker should answer; ValueError for a pair that an edit program cannot write."""
    return edits.program(before, after, droppable) if kind == "edits" else after.strip("\n")


def parse(reply: str, masked_text: str, kind: Format, droppable: Collection[int] = ()) -> str:
    """The masked text that a reply makes; llm.ParseError where it is none."""
    if kind == "edits":
        return edits.apply(reply, masked_text, droppable)
    return llm.parse_rewrite(reply)


def job(policy: Policy, kind: Format, max_tokens: int | None = None) -> llm.Job:
    """The job of asking a worker. Rows: `id`, `masked` (masking.Masked); the value is a masked text."""

    def render(row: Mapping[str, Any]) -> list[llm.Message]:
        masked: Masked = row["masked"]
        return messages(policy, masked.text, kind)

    return llm.Job(
        f"worker-{kind}",
        render,
        lambda reply, row: parse(reply, row["masked"].text, kind, row.get("droppable", ())),
        sampling={"temperature": 0.0} | ({} if max_tokens is None else {"max_tokens": max_tokens}),
    )
