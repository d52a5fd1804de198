"""Plain completions of an OpenAI-compatible server: text in, text out, and log-probabilities where it gives them.

What is asked is one message: {"role": "prompt", "content": TEXT} or {"role": "ids", "content": "[1, 2, 3]"}. With
"tail" in it the log-probability of the prompt's own end is asked, by the way that the sampling's `how` names; with
`top` in the sampling, those of the next token. The reply is then a small JSON object:

    {"role": "prompt", "content": "...", "tail": "3"}, {"how": "echo"}  # the last 3 characters, or ids
        {"logprob": -4.2, "n": 2, "greedy": false}
    {"role": "prompt", "content": "..."}, {"top": 20}
        {"top": {" A": -0.3, " B": -1.9, ...}}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from fitra.llm.backend import Message, Reply, RequestError
from fitra.llm.client import EndpointBackend
from fitra.llm.endpoints import Server, usage_of
from fitra.recipe.align import Endpoint

HOW = ("echo", "prompt_logprobs")  # OpenAI's way, and vLLM's own
_OURS = ("how", "top")


class CompletionServer(Server):
    """A server under /completions; the reply's text is the choice itself, as JSON."""

    PATH = "/completions"

    def parse(self, content: bytes) -> Reply | None:
        """The first choice of a completion; None where there is none."""
        try:
            data = orjson.loads(content)
            choice = data["choices"][0]
            if not isinstance(choice["text"], str):
                return None
            kept = {k: choice.get(k) for k in ("logprobs", "prompt_logprobs")}
            # Some versions of vLLM put them beside the choices.
            kept["prompt_logprobs"] = kept["prompt_logprobs"] or data.get("prompt_logprobs")
            kept["text"] = self._without_key(choice["text"])
            reason = str(choice.get("finish_reason") or "")
            return Reply(orjson.dumps(kept).decode(), usage_of(data.get("usage")), reason)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            return None


class CompletionsBackend(EndpointBackend):
    """The completions of one or several servers of one model. Its answers are told apart from those of a chat."""

    SERVER = CompletionServer

    def __init__(self, endpoint: Endpoint | Sequence[Endpoint], *, revision: str = "", down_after: int = 10) -> None:
        super().__init__(endpoint, revision=revision, down_after=down_after)
        self.identity += " completions"

    def request(self, messages: Sequence[Message], sampling: Mapping[str, Any]) -> dict[str, Any]:
        """The body of a request."""
        (asked,) = messages
        prompt = json.loads(asked["content"]) if asked["role"] == "ids" else asked["content"]
        body = {"model": self.endpoint.model, "prompt": prompt, **{k: v for k, v in sampling.items() if k not in _OURS}}
        if "how" in sampling:
            more = {"prompt_logprobs": 1} if sampling["how"] == "prompt_logprobs" else {"echo": True, "logprobs": 1}
            # Not every server takes max_tokens 0: one token is written and left alone.
            body |= {"max_tokens": 1, "temperature": 0.0, **more}
        elif "top" in sampling:
            body |= {"max_tokens": 1, "temperature": 0.0, "logprobs": sampling["top"]}
        return body

    async def complete(
        self, messages: Sequence[Message], sampling: Mapping[str, Any], schema: Mapping[str, Any] | None
    ) -> Reply:
        """One reply; RequestError also where the server left out what was asked for."""
        got = await super().complete(messages, sampling, schema)
        choice = json.loads(got.text)
        if "how" in sampling:
            text = json.dumps(_tail(choice, messages[0], sampling["how"], got.usage))
        elif "top" in sampling:
            text = json.dumps({"top": _top(choice)}, ensure_ascii=False)
        else:
            text = choice["text"]
        return Reply(text, got.usage, got.finish_reason, got.attempts, got.maybe_paid)


def _tail(choice: dict[str, Any], asked: Message, how: str, usage: Mapping[str, int]) -> dict[str, Any]:
    """Log-probability of the end of the prompt. Raises RequestError where the reply does not hold it."""
    ids = json.loads(asked["content"]) if asked["role"] == "ids" else None
    try:
        if how == "prompt_logprobs":
            rows = _vllm(choice["prompt_logprobs"], ids)
        else:
            rows = _echoed(choice["logprobs"], ids, choice["text"], usage)
        n = int(asked["tail"])
        if ids is None:
            n = _covering([r[0] for r in rows], asked["content"], n)
        tail = rows[len(rows) - n :]
        if n < 1 or len(tail) < n:
            raise ValueError("fewer tokens than asked for")
        total = sum(float(r[1]) for r in tail)
        if not math.isfinite(total):
            raise ValueError("nothing stands before the first token")
        return {"logprob": total, "n": n, "greedy": all(r[1] >= r[2] - 1e-6 for r in tail)}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as e:
        raise RequestError(f"no log-probabilities of the prompt in the reply ({e})") from None


def _echoed(
    got: dict[str, Any], ids: list[int] | None, text: str, usage: Mapping[str, int]
) -> list[tuple[str, float, float]]:
    """(token, log-probability, that of the likeliest token) for the tokens of the prompt."""
    tokens, given, top = got["tokens"], got["token_logprobs"], got.get("top_logprobs") or []
    # With ids the number of prompt tokens is known. Else the tokens written are those that the server counted.
    written = len(tokens) - len(ids) if ids is not None else usage.get("completion_tokens", 1)
    if not 0 <= written <= 1:
        raise ValueError("the prompt is not echoed")
    best = [max(t.values()) if t else float("inf") for t in top] or [float("inf")] * len(tokens)
    return list(zip(tokens, given, best, strict=True))[: len(tokens) - written]


def _vllm(got: list[dict[str, Any] | None], ids: list[int] | None) -> list[tuple[str, float, float]]:
    rows: list[tuple[str, float, float]] = []
    for k, one in enumerate(got):
        if one is None:  # nothing stands before the first token
            rows.append(("", float("nan"), 0.0))
            continue
        own = one[str(ids[k])] if ids is not None else next(iter(one.values()))  # the prompt's own token comes first
        best = max(v["logprob"] for v in one.values())
        rows.append((str(own.get("decoded_token")), own["logprob"], best))
    return rows


def _covering(tokens: Sequence[str], prompt: str, chars: int) -> int:
    """How many of the last tokens hold the last `chars` characters of the prompt; ValueError where they spell another.

    Offsets are not used: servers count them differently where a letter is split over tokens, as Arabic ones are.
    """
    spelt, n = "", 0
    while len(spelt) < chars:
        n += 1
        spelt = tokens[len(tokens) - n] + spelt
        if n == len(tokens):
            break
    if len(spelt) < chars or not prompt.endswith(spelt) or "\ufffd" in spelt:
        raise ValueError("the tokens do not spell the prompt: give the model's tokenizer, then ids are sent")
    return n


def _top(choice: dict[str, Any]) -> dict[str, float]:
    """The likeliest next tokens. Raises RequestError where there are none."""
    try:
        found = choice["logprobs"]["top_logprobs"][0]
        return {str(k): float(v) for k, v in found.items()}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise RequestError("no log-probabilities of the next token in the reply") from None
