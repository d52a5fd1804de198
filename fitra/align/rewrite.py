"""Rewriting by language models: chunks of masked text through `llm.run`, gates, retries with the gates' complaint.

Chunks come and go as a stream: while some are judged others are on their way, and what is asked again goes into the
same stream, so that the endpoint idles only at the very end. What one model could not do the next one gets. One bad
reply harms no neighbour: a chunk that nobody could rewrite keeps its original text, and its document says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from fitra import llm
from fitra.align import edits, gates, masking, prompts, rules
from fitra.llm.chunk import chunks
from fitra.policy import Policy
from fitra.recipe import Endpoint
from fitra.signals import contamination

__all__ = ["Chunk", "Route", "parse_reply", "reveal", "split", "stream"]

JUDGED = 256  # chunks judged at once: a batch costs the gates a third of what its chunks cost one by one
ESCALATED = 2048  # chunks that wait for the next model before it gets them
BATCHED = 50_000  # chunks of one round of the batch API


@dataclass(frozen=True)
class Route:
    """A model on the way of a chunk: `tier` is 'worker' or 'expert', `form` how it answers."""

    tier: str
    backend: llm.Backend
    form: str = "rewrite"
    budget: llm.Budget | None = None
    batch: Endpoint | None = None  # asked through its batch API
    revision: str = ""

    @property
    def name(self) -> str:
        """The tier of what it rewrites: a worker's edit programs are one of their own."""
        return "edits" if self.form == "edits" and self.tier == "worker" else self.tier


@dataclass
class Chunk:
    """A piece of one document on its way; `text` is the accepted rewrite, or None while there is none."""

    id: str
    original: str
    masked: masking.Masked
    removed: tuple[str, ...]  # what the rules would take out: the model may do so too
    droppable: frozenset[int] = frozenset()  # placeholders in it
    context: str = ""
    text: str | None = None
    attempt: str | None = None
    problem: str = ""
    outcome: str = ""  # of the problem by the policy: retry, keep_original, quarantine or drop
    told: str = ""  # the problem in Arabic, for the model
    tier: str = ""  # whose text it is, or who tried last
    tries: int = 0  # of the present model
    verdicts: list[gates.Verdict] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)  # of the answers in the ledger, one an attempt


def split(
    doc_id: str,
    whole: masking.Masked,
    compiled: rules.Rules,
    limit: int,
    *,
    made: rules.Rewrite | None = None,
    tokens: Callable[[str], int] | None = None,
    most_tokens: int | None = None,
    context: int = 0,
) -> list[Chunk]:
    """Cut a masked document at paragraph and sentence ends, never through a protected span.

    Pieces have at most `limit` characters, and `most_tokens` as `tokens` counts them; a sentence longer than that stays
    whole. Each but the first carries the last `context` characters before it. `made` is what the rules made of the
    document, where that is known.
    """
    pieces = chunks(whole.text, limit)
    if tokens is not None and most_tokens is not None:
        # Halved until they fit: token counts of pieces do not add up, so nothing can be worked out beforehand.
        todo, pieces = deque(pieces), []
        while todo:
            piece = todo.popleft()
            halves = chunks(piece, len(piece) // 2) if tokens(piece) > most_tokens else [piece]
            if len(halves) > 1:
                todo.extendleft(reversed(halves))
            else:
                pieces.append(piece)
    out: list[Chunk] = []
    before = ""
    for i, piece in enumerate(pieces):
        original, masked = masking.part(whole, piece)
        known = made if masked.text == whole.text else None  # the whole document is one piece
        taken = (known or rules.apply(masked, compiled)).removed
        gone = tuple(reveal(r.text, masked) for r in taken)
        free = frozenset(int(m[1]) for r in taken for m in masking.PLACEHOLDER.finditer(r.text))
        out.append(Chunk(f"{doc_id}#{i:05d}", original, masked, gone, free, _tail(before, context)))
        before = before[-context:] + original
    return out


def _tail(text: str, n: int) -> str:
    """The last `n` characters at most, from the beginning of a word on."""
    cut = text[-n:] if n else ""
    return cut if len(cut) == len(text) else cut[cut.find(" ") + 1 :]


def reveal(text: str, masked: masking.Masked) -> str:
    """A fragment of masked text with its spans in place."""
    return masking.PLACEHOLDER.sub(lambda m: masked.spans[int(m[1])], text)


def parse_reply(reply: str, nonce: str = "") -> str:
    """The rewritten text in a model's reply (`llm.parse_rewrite`), without our own marks around it.

    Raises llm.ParseError where nothing is left, and for a refusal.
    """
    text = llm.parse_rewrite(reply)
    if nonce:
        # By hand: a pattern of its own for every reply would be compiled for every reply.
        if (body := text.lstrip()).startswith(opening := f"<<<{nonce}"):
            text = body.removeprefix(opening)
        if (body := text.rstrip()).endswith(closing := f"{nonce}>>>"):
            text = body.removesuffix(closing)
        text = text.strip("\n \t")
    if not text:
        raise llm.ParseError("an empty reply")
    return text


def stream(
    pieces: Iterable[Chunk],
    routes: Sequence[Route],
    policy: Policy,
    ledger: Path,
    *,
    retries: int = 1,
    benchmarks: contamination.Index | None = None,
) -> Iterator[Chunk]:
    """Rewrite chunks in place and yield each when it is settled, in no particular order.

    What becomes of a chunk depends on its own replies alone, never on when they came. Raises FitraError when an
    endpoint is down or a budget spent; whatever was answered until then stays in the ledger.
    """
    if not routes:
        for chunk in pieces:
            raise ValueError(f"no model to ask about {chunk.id}")
        return
    first, rest = routes[0], routes[1:]
    judge = partial(_judge, policy=policy, benchmarks=benchmarks)
    waiting: list[Chunk] = []

    def escalate() -> Iterator[Chunk]:
        held, waiting[:] = waiting[:], []
        yield from stream(held, rest, policy, ledger, retries=retries, benchmarks=benchmarks)

    for chunk in _asked(pieces, first, policy, ledger, retries, judge):
        if chunk.text is None and rest:
            waiting.append(chunk)
            if len(waiting) >= ESCALATED:
                yield from escalate()
        else:
            yield chunk
    if waiting:
        yield from escalate()


def _asked(
    pieces: Iterable[Chunk],
    route: Route,
    policy: Policy,
    ledger: Path,
    retries: int,
    judge: Callable[[Sequence[tuple[Chunk, str]]], None],
) -> Iterator[Chunk]:
    """All chunks through one model, retries in the same stream."""
    job = _job(policy, route)
    source, again = iter(pieces), deque[dict[str, Any]]()

    def rows() -> Iterator[dict[str, Any]]:
        while True:
            if again:
                yield again.popleft()
            elif (chunk := next(source, None)) is not None:
                chunk.tries, chunk.tier = 0, route.name
                chunk.verdicts = []
                yield {"id": chunk.id, "chunk": chunk}
            else:
                return

    while True:
        answers = _answers(job, rows(), route, ledger)
        while batch := list(islice(answers, JUDGED)):
            for chunk, reply in _settle(batch, judge):
                if chunk.outcome == "retry" and chunk.tries <= retries:
                    said = {"complaint": chunk.told or chunk.problem, "reply": reply}
                    again.append({"id": f"{chunk.id}?{chunk.tries}", "chunk": chunk, **said})
                else:
                    chunk.outcome = policy.outcomes["exhausted"] if chunk.outcome == "retry" else chunk.outcome
                    yield chunk
        # The last answers may have been refused when no more rows were read.
        if not again:
            return


def _answers(
    job: llm.Job, rows: Iterator[dict[str, Any]], route: Route, ledger: Path
) -> Iterator[tuple[Chunk, llm.Answer]]:
    if route.batch is None:
        held: dict[str, Chunk] = {}

        def noted() -> Iterator[dict[str, Any]]:
            for row in rows:
                held[row["id"]] = row["chunk"]
                yield row

        answers = llm.run(job, noted(), route.backend, ledger, progress=False, budget=route.budget)
        for answer in answers:
            yield held.pop(answer.row_id), answer
        return
    while block := list(islice(rows, BATCHED)):
        by_id = {row["id"]: row["chunk"] for row in block}
        for answer in llm.run_batch(
            job, block, route.batch, ledger, revision=route.revision, budget=route.budget, progress=False
        ):
            yield by_id[answer.row_id], answer


def _job(policy: Policy, route: Route) -> llm.Job:
    def render(row: Mapping[str, Any]) -> list[llm.Message]:
        chunk: Chunk = row["chunk"]
        return prompts.messages(
            policy, route.tier, chunk.masked,
            form=route.form, context=chunk.context, reply=row.get("reply", ""), complaint=row.get("complaint", ""),
        )  # fmt: skip

    def parse(reply: str, row: Mapping[str, Any]) -> str:
        chunk: Chunk = row["chunk"]
        if route.form == "edits":
            return edits.apply(reply, chunk.masked.text, chunk.droppable)
        return parse_reply(reply, chunk.masked.nonce)

    def check(text: str, row: Mapping[str, Any]) -> str | None:
        return "refusal" if llm.is_refusal(text) and not llm.is_refusal(row["chunk"].original) else None

    return llm.Job(f"align-{route.name}", render, parse, check, system=prompts.system(policy, route.tier, route.form))


def _settle(
    batch: Sequence[tuple[Chunk, llm.Answer]], judge: Callable[[Sequence[tuple[Chunk, str]]], None]
) -> Iterator[tuple[Chunk, str]]:
    """(chunk, what the model said) of a batch of answers, judged: `problem` is '' where one is accepted."""
    good: list[tuple[Chunk, str]] = []
    for chunk, answer in batch:
        chunk.tries += 1
        chunk.problem, chunk.told = answer.error or "", ""
        # A request that failed was tried often enough by the client.
        chunk.outcome = "retry" if answer.error else ""
        if answer.error and answer.error.startswith("request:"):
            chunk.outcome = "keep_original"
        if answer.key and answer.reply is not None:
            chunk.keys.append(answer.key)
        if answer.error is None:
            good.append((chunk, answer.value))
    judge(good)
    for chunk, answer in batch:
        yield chunk, answer.reply.text if answer.reply else ""


def _judge(answered: Sequence[tuple[Chunk, str]], policy: Policy, benchmarks: contamination.Index | None) -> None:
    """Unmask and judge replies, all at once."""
    judged = []
    for chunk, text in answered:
        there = {int(m[1]) for m in masking.PLACEHOLDER.finditer(text)}
        stay = [i for i in range(len(chunk.masked.spans)) if i in there or i not in chunk.droppable]
        try:
            plain = masking.unmask(text, chunk.masked, stay)
        except masking.MaskError as e:
            chunk.attempt, chunk.problem, chunk.outcome = text, f"placeholders: {e}", "retry"
            continue
        # White space around a chunk is the document's, whatever the model made of it.
        body = chunk.original.strip()
        lead = chunk.original[: len(chunk.original) - len(chunk.original.lstrip())]
        chunk.attempt = lead + plain.strip() + chunk.original[len(lead) + len(body) :]
        judged.append((chunk, [chunk.masked.spans[i] for i in stay]))
    pairs = [gates.Pair(c.original, c.attempt or "", c.removed, (), spans) for c, spans in judged]
    for (chunk, _), verdicts in zip(judged, gates.judge_all(pairs, policy, None, benchmarks), strict=True):
        chunk.verdicts = verdicts
        chunk.problem = gates.complaint(verdicts)
        chunk.told = gates.ask(verdicts)
        chunk.text = None if chunk.problem else chunk.attempt
        chunk.outcome = gates.outcome(verdicts, policy, tries_left=1).state if chunk.problem else ""
