"""Rewriting by a language model: chunks of masked text through `llm.run`, gates, retries with the gates' complaint.

One bad reply harms no neighbour: a chunk whose rewrite fails keeps its original text, and its document says so. A
model's text is data: it is parsed strictly, and placeholders must come back exactly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fitra import llm
from fitra.align import gates, masking, rules
from fitra.align.chunk import chunks
from fitra.policy import Policy, render
from fitra.recipe import Align

__all__ = ["Chunk", "parse_reply", "rewrite_chunks", "split_document"]

_FENCE = re.compile(r"\A\s*```[\w-]*\n(.*?)\n?```\s*\Z", re.S)
_REWRITTEN = re.compile(
    r"^[ \t*#>_]*(?:النص (?:المعاد (?:صياغته|كتابته)|المعدل|المهذب|المنقح|بعد التعديل|بعد التهذيب)"
    r"|rewritten(?: arabic)? text|rewritten|polished text|revised text)[ \t*_]*[:：][ \t*_]*\n?",
    re.I | re.M,
)
_PREAMBLE = re.compile(
    r"\A\s*(?:بالتأكيد|بكل سرور|حسنا|إليك|هذا هو|فيما يلي|sure|certainly|of course|here is|here's)"
    r"[^\n:：]{0,80}[:：!.]\s*\n+",
    re.I,
)


@dataclass
class Chunk:
    """A piece of one document on its way; `text` is the accepted rewrite, or None while there is none."""

    id: str
    original: str
    masked: masking.Masked
    removed: tuple[str, ...]  # what the rules would take out: the model may do so too
    text: str | None = None
    attempt: str | None = None
    problem: str = ""
    told: str = ""  # the same in Arabic, for the model
    verdicts: list[gates.Verdict] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)  # of the answers in the ledger, one an attempt


def split_document(
    doc_id: str, text: str, limit: int, verses: masking.Verses | None, compiled: rules.Rules
) -> list[Chunk]:
    """Cut a document at paragraph and sentence ends, never through a protected span."""
    whole = masking.mask(text, verses)
    out = []
    for i, piece in enumerate(chunks(whole.text, limit)):
        original, masked = masking.part(whole, piece)
        taken = rules.apply(masked, compiled).removed
        out.append(Chunk(f"{doc_id}#{i:05d}", original, masked, tuple(reveal(r.text, masked) for r in taken)))
    return out


def reveal(text: str, masked: masking.Masked) -> str:
    """A fragment of masked text with its spans in place."""
    return masking.PLACEHOLDER.sub(lambda m: masked.spans[int(m[1])], text)


def parse_reply(reply: str, nonce: str = "") -> str:
    """The rewritten text in a model's reply.

    Takes off a code fence around everything, a preamble line, our own markers, and the paper's template (Arabic text,
    analysis, rewritten text: what follows the last heading counts). Raises llm.ParseError when nothing is left.
    """
    text = reply.replace("\r\n", "\n")
    text = re.sub(r"\A\s*<think>.*?</think>", "", text, flags=re.S)
    fence = _FENCE.match(text)
    if fence:
        text = fence[1]
    text = _PREAMBLE.sub("", text)
    parts = _REWRITTEN.split(text)
    if len(parts) > 1:
        text = parts[-1]
    fence = _FENCE.match(text)
    if fence:
        text = fence[1]
    if nonce:
        text = re.sub(rf"\A\s*<<<{nonce}[ \t]*\n?", "", text)
        text = re.sub(rf"\n?{nonce}>>>\s*\Z", "", text)
    text = text.strip("\n \t")
    if not text:
        raise llm.ParseError("an empty reply")
    return text


def _messages(policy: Policy, chunk: Mapping[str, Any]) -> list[llm.Message]:
    system = _fill(
        policy.prompts["expert"],
        rules=render(policy), policy_id=policy.id, policy_version=str(policy.version), placeholder="⟦1a2b3c4d:0⟧",
    )  # fmt: skip
    user = _fill(policy.prompts["text"], text=chunk["masked"].text, nonce=chunk["masked"].nonce)
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    if chunk.get("complaint"):
        if chunk.get("reply"):
            messages.append({"role": "assistant", "content": chunk["reply"]})
        messages.append({"role": "user", "content": _fill(policy.prompts["retry"], complaint=chunk["complaint"])})
    return messages


def _fill(template: str, **values: str) -> str:
    """Replace {name} once each, in one pass: braces in the corpus text mean nothing."""
    return re.sub(r"\{(\w+)\}", lambda m: values.get(m[1], m[0]), template)


def _judge(answered: Sequence[tuple[Chunk, str]], policy: Policy) -> None:
    """Unmask and judge the replies of a round, all at once; `problem` is '' where one is accepted."""
    judged = []
    for chunk, text in answered:
        try:
            plain = masking.unmask(text, chunk.masked)
        except masking.MaskError as e:
            chunk.attempt, chunk.problem = text, f"placeholders: {e.reason}: {e}"
            continue
        chunk.attempt = plain
        judged.append((chunk, plain))
    pairs = [gates.Pair(c.original, plain, c.removed, (), c.masked.spans) for c, plain in judged]
    for (chunk, plain), verdicts in zip(judged, gates.judge_all(pairs, policy), strict=True):
        chunk.verdicts = verdicts
        chunk.problem = gates.complaint(verdicts)
        chunk.told = gates.ask(verdicts)
        if not chunk.problem:
            # White space around a chunk is the document's, whatever the model made of it.
            body = chunk.original.strip()
            lead = chunk.original[: len(chunk.original) - len(chunk.original.lstrip())]
            chunk.text = lead + plain.strip() + chunk.original[len(lead) + len(body) :]


def rewrite_chunks(
    pieces: Sequence[Chunk], policy: Policy, cfg: Align, backend: llm.Backend, ledger: Path
) -> Iterator[Chunk]:
    """Rewrite chunks in place and yield them in order once all rounds are over.

    Raises FitraError when the endpoint is down; whatever was answered until then stays in the ledger.
    """
    by_id = {c.id: c for c in pieces}
    pending: list[dict[str, Any]] = [{"id": c.id, "masked": c.masked} for c in pieces]
    job = llm.Job(
        "align",
        lambda row: _messages(policy, row),
        lambda reply, row: parse_reply(reply, row["masked"].nonce),
    )
    for _ in range(cfg.retries + 1):
        again: list[dict[str, Any]] = []
        answered: list[tuple[Chunk, str]] = []
        replies: dict[str, str] = {}
        for answer in llm.run(job, pending, backend, ledger):
            chunk = by_id[answer.row_id]
            if answer.key:
                chunk.keys.append(answer.key)
            chunk.problem, chunk.told = answer.error or "", ""
            replies[chunk.id] = answer.reply.text if answer.reply else ""
            if answer.error is None:
                answered.append((chunk, answer.value))
        _judge(answered, policy)
        for row in pending:
            chunk = by_id[row["id"]]
            if chunk.problem and not chunk.problem.startswith("request:"):
                said = {"complaint": chunk.told or chunk.problem, "reply": replies.get(chunk.id, "")}
                again.append({"id": chunk.id, "masked": chunk.masked, **said})
        pending = again
        if not pending:
            break
    yield from pieces
