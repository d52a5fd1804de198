"""What a job would cost, before a request is sent: from a sample of rows, as a range.

Tokens are counted with the model's own tokenizer where `tokenizer` names one. Without it a range of characters per
token stands in: Arabic 3.3 (a vocabulary made for it) to 1.1 (Llama 2; AraLLaMA, table of tokenizer metrics), English
4.8 to 3.5. The answers are not known yet: their length is assumed, and the assumption is part of the result.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fitra.llm.prices import cost
from fitra.llm.tokens import Tokens
from fitra.recipe import Instruct

__all__ = [
    "ANSWER_CHARS",
    "SAMPLE",
    "TRANSLATED",
    "Cost",
    "Range",
    "chars",
    "counter",
    "estimate",
    "of_instructions",
    "turn",
]

SAMPLE = 400
PER_TOKEN = {"ar": (3.3, 1.1), "en": (4.8, 3.5)}  # characters per token: best, worst
REFUSED = 0.25  # of the replies at most, for the upper end: each is asked again with the reply and the complaint
TRANSLATED = (0.8, 1.25)  # times the expected length of a translation
ANSWER_CHARS = (300, 1500)
ITEM_CHARS = {"topics": (15, 45), "questions": (60, 180)}
FRAME = 12  # tokens that a chat template puts around a turn
_ARABIC = re.compile("[\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff]")

Range = tuple[float, float]


class Cost(NamedTuple):
    """Requests and tokens of one row, each a low and a high figure."""

    requests: float
    prompt: Range
    completion: Range


def counter(cfg: Any) -> Callable[[str], Range]:
    """A function from a text to its tokens, (low, high)."""
    tokens = Tokens.of(cfg.model)
    if tokens is None:
        return _by_characters

    def exact(text: str) -> Range:
        n = tokens.count(text)
        return n, n

    return exact


def _by_characters(text: str) -> Range:
    arabic = len(_ARABIC.findall(text))
    other = len(text) - arabic
    low, high = (chars(arabic, "ar", end) + chars(other, "en", end) for end in (0, 1))
    return low, high


def chars(n: float, lang: str, end: int) -> float:
    """Tokens of n characters of a language at best (end 0) or at worst (1)."""
    return n / PER_TOKEN[lang][end]


def estimate(costs: Sequence[Cost], rows: int, cfg: Any, assumed: dict[str, Any]) -> dict[str, Any]:
    """Totals for `rows` rows from the costs of a sample: requests, tokens and money, each {"low", "high"}.

    The range holds the 95% interval of the sample's mean, the range of tokens per character, and for the high end the
    retries. Money is None without a price.
    """
    n = len(costs)
    again = 1 + REFUSED * cfg.retries
    # On a retry the reply and the complaint are read, too.
    heavier = 1 + 2 * REFUSED * cfg.retries
    low, high = _totals([c.requests for c in costs], rows)
    requests = {"low": round(low * cfg.draws), "high": round(high * cfg.draws * again)}
    out: dict[str, Any] = {"rows": rows, "sampled": n, "requests": requests}
    for name, most in (("prompt", heavier), ("completion", again)):
        lows = _totals([getattr(c, name)[0] for c in costs], rows)
        highs = _totals([getattr(c, name)[1] for c in costs], rows)
        out[f"{name}_tokens"] = {"low": round(lows[0] * cfg.draws), "high": round(highs[1] * cfg.draws * most)}
    model = cfg.model
    price = model.endpoints[0].price if model else None
    out["money"] = None
    if price:
        ends = ({f"{k}_tokens": out[f"{k}_tokens"][end] for k in ("prompt", "completion")} for end in ("low", "high"))
        money = [round(cost(usage, price, batch=model.batch), 4) for usage in ends]
        out["money"] = {"low": money[0], "high": money[1]}
    out |= _hours(cfg, out)
    tokens = "the model's tokenizer" if model and model.tokenizer else {"characters per token": PER_TOKEN}
    out["assumed"] = {"tokens": tokens, "refused at most": REFUSED, "retries": cfg.retries, **assumed}
    return out


def _totals(values: Sequence[float], rows: int) -> Range:
    n = len(values)
    if not n:
        return 0.0, 0.0
    mean = sum(values) / n
    if n >= rows or n < 2:
        return mean * rows, mean * rows
    error = 1.96 * math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)
    return max(0.0, mean - error) * rows, (mean + error) * rows


def _hours(cfg: Any, out: dict[str, Any]) -> dict[str, Any]:
    """Hours from what the servers write per second, where that is given (GPU-hours too); else at least what the limits
    of the endpoints make of it, where they name some; how fast a server is nobody knows here."""
    model = cfg.model
    if model and model.tokens_per_second:
        ends = {end: out["completion_tokens"][end] / model.tokens_per_second / 3600 for end in ("low", "high")}
        gpu = {end: round(h * model.gpus, 2) for end, h in ends.items()} if model.gpus else None
        return {"hours": {end: round(h, 3) for end, h in ends.items()}, "gpu_hours": gpu}
    servers = model.endpoints if model else []
    minutes = []
    if servers and all(e.requests_per_minute for e in servers):
        minutes.append(out["requests"]["low"] / sum(e.requests_per_minute for e in servers))
    if servers and all(e.tokens_per_minute for e in servers):
        tokens = out["prompt_tokens"]["low"] + out["completion_tokens"]["low"]
        minutes.append(tokens / sum(e.tokens_per_minute for e in servers))
    return {"hours": {"low": round(max(minutes) / 60, 3), "high": None} if minutes else None, "gpu_hours": None}


def turn(count: Callable[[str], Range], *texts: str) -> Range:
    """Tokens of a request made of these texts."""
    ranges = [count(t) for t in texts]
    return sum(r[0] for r in ranges) + FRAME, sum(r[1] for r in ranges) + FRAME


def of_instructions(cfg: Instruct, topics: int, one: Sequence[str], answer: Sequence[str]) -> dict[str, Any]:
    """The plan of topics, questions and answers: `topics` leaves in the file; a prompt for topics or questions and one
    for an answer, each as its texts. What duplicates and gates take away is not known: it is at most this."""
    count = counter(cfg)
    leaves, asked = topics, 0
    for _ in range(cfg.depth):
        asked += leaves
        leaves *= cfg.breadth
    lists = leaves * len(cfg.kinds)
    questions = lists * cfg.questions
    parts = [
        (asked, turn(count, *one), cfg.breadth, ITEM_CHARS["topics"]),
        (lists, turn(count, *one), cfg.questions, ITEM_CHARS["questions"]),
        (questions * cfg.draws * cfg.answers, turn(count, *answer), 1, ANSWER_CHARS),
    ]
    prompt = tuple(sum(n * size[end] for n, size, _, _ in parts) for end in (0, 1))
    completion = tuple(sum(n * each * chars(size[end], "ar", end) for n, _, each, size in parts) for end in (0, 1))
    whole = Cost(sum(p[0] for p in parts), (prompt[0], prompt[1]), (completion[0], completion[1]))
    assumed = {"characters of an answer": ANSWER_CHARS, **{f"characters of {k}": v for k, v in ITEM_CHARS.items()}}
    out = estimate([whole], 1, cfg.model_copy(update={"draws": 1}), assumed)
    return {**out, "rows": questions, "topics": asked, "leaves": leaves}
