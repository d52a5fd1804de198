"""Log-likelihood of continuations and of whole texts, in nats.

Shapes: T tokens of one sequence, V vocabulary, P positions where a prediction is read.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fitra.errors import FitraError
from fitra.lm import shared
from fitra.lm.load import LM
from fitra.lm.packed import Ask, Unsupported
from fitra.lm.pieces import encode
from fitra.lm.shared import Sums

WINDOW = 2**22  # characters scored together: some 500 questions with their examples, 60 MB of token ids


@dataclass(frozen=True)
class Score:
    """log P(continuation | context): sum over `n_tokens`, and whether greedy decoding would give just this."""

    logprob: float
    n_tokens: int
    greedy: bool


@dataclass(frozen=True)
class Nll:
    """Negative log-likelihood of a text, with both units to divide by: bytes compare across vocabularies."""

    nll: float
    tokens: int
    bytes: int


def score(m: LM, pairs: Sequence[tuple[str, str]], batch_tokens: int = 8192) -> list[Score]:
    """Score each (context, continuation), in the order given.

    Context and continuation are tokenised together; the continuation is what follows the longest prefix that the
    context alone gives too, so a token that straddles the border is scored, never lost. What inputs have in common
    runs once (fitra.lm.shared): give those with a common beginning in one call, next to each other. A context too long
    for the model loses its beginning.
    Raises FitraError when a continuation alone exceeds the model's positions.
    """
    return list(stream(m, pairs, batch_tokens))


def stream(m: LM, pairs: Iterable[tuple[str, str]], batch_tokens: int = 8192) -> Iterator[Score]:
    """`score` for pairs without end: yields in the order given, holding WINDOW characters at a time."""
    window: list[tuple[str, str]] = []
    size = done = 0
    for pair in pairs:
        if window and size + len(pair[0]) + len(pair[1]) > WINDOW and pair[0] != window[-1][0]:
            yield from _score(m, window, batch_tokens, done)
            done, size, window = done + len(window), 0, []
        window.append(pair)
        size += len(pair[0]) + len(pair[1])
    if window:
        yield from _score(m, window, batch_tokens, done)


def _score(m: LM, pairs: Sequence[tuple[str, str]], batch_tokens: int, first: int) -> list[Score]:
    """`pairs` at once; `first` is the number of the first, for messages."""
    alone, wholes = encode(m, pairs)
    limit = m.max_positions
    asks: dict[tuple[int, ...], list[Ask]] = {}
    for i, ((context, option), whole) in enumerate(zip(pairs, wholes, strict=True)):
        if not option:
            continue
        border = _common(alone[context], whole)
        if border == 0:  # nothing to condition on: the beginning of a document
            start = m.start()
            whole, border = start + whole, len(start)
        if len(whole) - border > limit:
            raise FitraError(
                f"pair {first + i}: the continuation has {len(whole) - border} tokens, the model {limit} positions.",
                "Shorten it, or use perplexity for long texts.",
            )
        cut = max(0, len(whole) - 1 - limit)
        whole, border = whole[cut:], border - cut
        row = asks.setdefault(tuple(whole[:-1]), [])
        row.extend(Ask(at - 1, whole[at], i) for at in range(border, len(whole)))
    sums = _read_shared(m, asks, len(pairs), batch_tokens)
    return [Score(float(t), int(n), bool(g)) for t, n, g in zip(sums.total, sums.count, sums.greedy, strict=True)]


def _read_shared(m: LM, asks: dict[tuple[int, ...], list[Ask]], owners: int, batch_tokens: int) -> Sums:
    """Through shared prefixes where the model allows it, else sequence by sequence."""
    if asks and shared.supports(m):
        try:
            return shared.read(m, asks, owners, batch_tokens)
        except Unsupported:
            pass
    return _read(m, asks, owners, batch_tokens)


def perplexity(m: LM, texts: Sequence[str], batch_tokens: int = 8192) -> list[Nll]:
    """Negative log-likelihood of each text from its document start.

    Texts longer than the model's positions are read through a window that moves by half its length: every token is
    scored once, with at least half a window of context. `bytes` counts UTF-8.
    """
    limit, half = m.max_positions, max(1, m.max_positions // 2)
    start = m.start()
    asks: dict[tuple[int, ...], list[Ask]] = {}
    for i, ids in enumerate(m.encode(list(texts))):
        whole = ids if ids[: len(start)] == start else start + ids
        done = len(start)  # tokens before this one are scored or given
        while done < len(whole):
            begin = 0 if done == len(start) else done - half
            end = min(len(whole), begin + limit + 1)
            row = asks.setdefault(tuple(whole[begin : end - 1]), [])
            row.extend(Ask(at - 1 - begin, whole[at], i) for at in range(done, end))
            done = end
    sums = _read(m, asks, len(texts), batch_tokens)
    return [Nll(-float(t), int(n), len(s.encode())) for t, n, s in zip(sums.total, sums.count, texts, strict=True)]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common prefix."""
    if a == b[: len(a)]:  # nearly always, and a hundred times as fast
        return len(a)
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n


def _batches(rows: Sequence[tuple[int, ...]], batch_tokens: int) -> Iterator[list[tuple[int, ...]]]:
    """Rows of like length together, longest first (memory shows its peak at once), at most batch_tokens padded."""
    batch: list[tuple[int, ...]] = []
    for row in sorted(rows, key=lambda r: (-len(r), r)):
        if batch and len(batch[0]) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


@torch.inference_mode()
def _read(m: LM, asks: dict[tuple[int, ...], list[Ask]], owners: int, batch_tokens: int) -> Sums:
    """Run every distinct sequence once and add up what was asked, per owner."""
    sums = Sums(owners)
    pad = m.tokenizer.pad_token_id or 0
    keeps = "logits_to_keep" in inspect.signature(m.model.forward).parameters
    for rows in _batches(list(asks), batch_tokens):
        width = len(rows[0])
        # Padding stands on the right: under a causal mask it changes nothing before it, so no mask is needed.
        ids = torch.tensor([list(r) + [pad] * (width - len(r)) for r in rows], device=m.device)
        places = sorted({a.at for r in rows for a in asks[r]})
        extra: dict[str, Any] = {"use_cache": False}
        if keeps:  # the output head, the dearest part of a small model, runs only where a prediction is read
            extra["logits_to_keep"] = torch.tensor(places, device=m.device)
        logits = m.model(input_ids=ids, **extra).logits  # (rows, P, V)
        slot = {at: j for j, at in enumerate(places)} if keeps else {at: at for at in places}
        flat = [(r * logits.shape[1] + slot[a.at], a) for r, row in enumerate(rows) for a in asks[row]]
        sums.add(logits.flatten(0, 1), [r for r, _ in flat], [a.target for _, a in flat], [a.owner for _, a in flat])
    return sums
