"""Who answers: an OpenAI-compatible endpoint, or a local function.

A backend makes one reply from one list of messages and knows nothing of rows, keys or ledgers. An endpoint's passing
troubles (busy, slow, restarting) are waited out here; what comes out is a reply, a `RequestError` for this request
alone, or a `FitraError` when no request can succeed.
"""

from __future__ import annotations

import asyncio
import email.utils
import inspect
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from fitra.errors import FitraError
from fitra.recipe import Endpoint

Message = dict[str, str]

BACKOFF_S = (0.5, 30.0)  # first and longest wait between tries, without jitter
MAX_RETRY_AFTER_S = 600.0
RETRY_STATUS = {408, 409, 429, *range(500, 600)}
DOWN_STATUS = {502, 503, 504}  # what a proxy answers for a server that is gone


class RequestError(Exception):
    """This one request cannot be answered; others may. The message holds no secrets."""


class EndpointDown(FitraError):
    """Nothing answers at the endpoint, or it refuses us altogether: the run stops, what is answered is kept."""


@dataclass(frozen=True)
class Reply:
    """What a model answered. `usage` in tokens (prompt_tokens, completion_tokens, ... as far as the server says)."""

    text: str
    usage: dict[str, int] = field(default_factory=dict)
    finish_reason: str = ""
    attempts: int = 1


class Backend(Protocol):
    """Anything that answers. Optional attributes: `sampling` (defaults under the job's own), `concurrency`, `aclose()`.

    `identity` names the weights that answer, since it is part of every key in the ledger: for an endpoint the model's
    name (and revision), whichever host serves it; for a local model the hash of its weights.
    """

    @property
    def identity(self) -> str:
        """What answers: part of the key."""

    async def complete(
        self, messages: Sequence[Message], sampling: Mapping[str, Any], schema: Mapping[str, Any] | None
    ) -> Reply:
        """One reply; raises RequestError for this request alone, FitraError to stop the run."""


class FunctionBackend:
    """A local function as backend: `fn(messages, sampling, schema)` returns text or a Reply.

    A plain function runs on a thread of its own, one call at a time and in order, so a local model needs no lock; a
    coroutine function runs as many at a time as the run allows.
    """

    def __init__(self, identity: str, fn: Callable[..., str | Reply | Awaitable[str | Reply]]) -> None:
        self.identity = identity
        self._fn = fn
        self._thread: ThreadPoolExecutor | None = None

    async def complete(
        self, messages: Sequence[Message], sampling: Mapping[str, Any], schema: Mapping[str, Any] | None
    ) -> Reply:
        """Call the function."""
        out: Any
        if inspect.iscoroutinefunction(self._fn):
            out = await self._fn(messages, sampling, schema)
        else:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix="fitra-function")
            out = await asyncio.get_running_loop().run_in_executor(self._thread, self._fn, messages, sampling, schema)
        return out if isinstance(out, Reply) else Reply(text=out)

    async def aclose(self) -> None:
        """Let go of the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None


class EndpointBackend:
    """An OpenAI-compatible server, through the `openai` client over aiohttp.

    Tried again, with jitter and heeding Retry-After: 408, 409, 429, 5xx, timeouts, lost connections, replies that are
    no chat completion. Not tried again: any other 4xx. `retries` counts the tries after the first; waiting out a rate
    limit may take four times as many. After `down_after` failures to reach the server in a row, one of them the last
    try of its request, the endpoint counts as down; where nothing ever came from it, one request that used up its tries
    is enough.

    `revision` tells apart weights served under one name.
    """

    def __init__(self, endpoint: Endpoint, *, revision: str = "", down_after: int = 10) -> None:
        self.endpoint = endpoint
        self.identity = f"{endpoint.model}@{revision}" if revision else endpoint.model
        self.concurrency = endpoint.concurrency
        self.sampling: dict[str, Any] = {"temperature": endpoint.temperature, "max_tokens": endpoint.max_tokens}
        if endpoint.seed is not None:
            self.sampling["seed"] = endpoint.seed
        self._down_after = down_after
        self._unreached = 0  # failures to reach the server since anything last came from it
        self._answered = False
        self._heard = False  # anything came from the server, an error included
        self._resume_at = 0.0  # monotonic seconds; set by Retry-After for all requests alike
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._key = endpoint.api_key.get_secret_value().strip()  # keys read from files end in a newline
        if not (self._key and self._key.isascii() and self._key.isprintable()):
            raise FitraError("endpoint: api_key is empty or holds characters that no key has.", "Check how it is set.")
        parts = urlsplit(endpoint.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise FitraError(
                f"endpoint: base_url is not a plain http(s) address of a server ({parts.hostname or 'no host'}).",
                "Write it like http://localhost:8000/v1; credentials belong in api_key.",
            )
        self._host = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    async def complete(
        self, messages: Sequence[Message], sampling: Mapping[str, Any], schema: Mapping[str, Any] | None
    ) -> Reply:
        """One reply, after as many tries as it takes within the limits."""
        body = dict(sampling)
        if schema is not None:
            answer = {"name": "answer", "schema": dict(schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": answer}
        attempts = failures = limited = 0
        while True:
            await self._wait_for_limit()
            attempts += 1
            trouble = await self._try(messages, body)
            if isinstance(trouble, Reply):
                return Reply(trouble.text, trouble.usage, trouble.finish_reason, attempts)
            if trouble.status == 429:
                limited += 1
                last = limited > 4 * self.endpoint.retries
                tries = limited
            else:
                failures += 1
                last = failures > self.endpoint.retries
                tries = failures
            if last:
                never = not (self._heard or trouble.status)
                if trouble.unreached and (never or self._unreached >= self._down_after):
                    raise EndpointDown(
                        f"{self._host}: endpoint down ({trouble.message}; {self._unreached} failures in a row).",
                        "Start the server or correct base_url, then run again: what was answered is kept.",
                    )
                raise RequestError(f"{trouble.message} (after {attempts} tries)")
            wait = min(BACKOFF_S[0] * 2 ** (tries - 1), BACKOFF_S[1]) * random.uniform(0.5, 1.0)
            if trouble.retry_after is not None:
                wait = trouble.retry_after + random.uniform(0, 0.1 * BACKOFF_S[0])
            await asyncio.sleep(wait)

    async def _wait_for_limit(self) -> None:
        while (wait := self._resume_at - time.monotonic()) > 0:
            await asyncio.sleep(wait + random.uniform(0, 0.05))

    async def _try(self, messages: Sequence[Message], body: dict[str, Any]) -> Reply | _Trouble:
        """One try: a reply or a passing trouble. Raises RequestError or EndpointDown for what will not pass."""
        import openai

        create = self._get_client().chat.completions.with_raw_response.create
        try:
            async with asyncio.timeout(self.endpoint.timeout_s):  # of the whole reply: the client's own is per read
                raw = await create(model=self.endpoint.model, messages=messages, extra_body=body)
        except TimeoutError:
            self._unreached += 1
            return _Trouble(f"timeout after {self.endpoint.timeout_s:g} s", unreached=True)
        except openai.APIConnectionError:  # APITimeoutError too: over aiohttp that is what a lost connection becomes
            self._unreached += 1
            return _Trouble("connection failed", unreached=True)
        except openai.APIStatusError as e:
            return self._status(e.status_code, e.response.headers, self._clean(_reason(e)))
        except Exception as e:  # the client could not even send this one
            raise RequestError(self._clean(f"{type(e).__name__}: {e}")) from None
        self._unreached, self._heard = 0, True
        reply = self._parse(raw.content)
        self._answered |= reply is not None
        return reply or _Trouble("reply is not a chat completion")

    def _status(self, status: int, headers: Mapping[str, str], reason: str) -> _Trouble:
        message = f"HTTP {status}" + (f": {reason}" if reason else "")
        self._heard = True
        down = status in DOWN_STATUS
        self._unreached = self._unreached + 1 if down else 0
        if status == 429 and "insufficient_quota" in reason:
            raise EndpointDown(f"{self._host}: {message}.", "Top up the account, then run again: answers are kept.")
        if status in RETRY_STATUS:
            after = _retry_after(headers)
            if after is not None and status in (429, 503):
                self._resume_at = max(self._resume_at, time.monotonic() + after)
            return _Trouble(message, status=status, unreached=down, retry_after=after)
        if status in (401, 404) and not self._answered:
            hint = "Check api_key." if status == 401 else "Check base_url (it often ends in /v1) and model."
            raise EndpointDown(f"{self._host}, model '{self.endpoint.model}': {message}.", hint)
        raise RequestError(message)

    def _parse(self, content: bytes) -> Reply | None:
        try:
            data = json.loads(content)
            choice = data["choices"][0]
            text = choice["message"].get("content") or choice["message"].get("refusal") or ""
            usage = {k: v for k, v in (data.get("usage") or {}).items() if isinstance(v, int)}
            return Reply(_plain(self._without_key(text)), usage, str(choice.get("finish_reason") or ""))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            return None

    def _without_key(self, text: str) -> str:
        """Servers echo keys in errors, and a hostile one in replies."""
        return text.replace(self._key, "***") if len(self._key) >= 8 else text

    def _clean(self, text: str) -> str:
        return " ".join(_plain(self._without_key(text)).split())[:300]

    def _get_client(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            import openai

            try:
                http: Any = openai.DefaultAioHttpClient()
            except RuntimeError:  # openai without its aiohttp extra: slower, but works
                http = None
            self._client = openai.AsyncOpenAI(
                api_key=self._key,
                base_url=self.endpoint.base_url,
                timeout=self.endpoint.timeout_s + 5,  # ours, of the whole reply, strikes first
                max_retries=0,  # ours know about the other requests
                http_client=http,
            )
            self._loop = loop
        return self._client

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        if self._client is not None and self._loop is asyncio.get_running_loop():
            client, self._client = self._client, None
            await client.close()


@dataclass(frozen=True)
class _Trouble:
    """Why a try failed, when another may succeed. `retry_after` in seconds, as the server asked."""

    message: str
    status: int = 0
    unreached: bool = False
    retry_after: float | None = None


def _reason(error: Any) -> str:
    body = error.body
    if isinstance(body, dict):
        return " ".join(str(body[k]) for k in ("code", "message") if body.get(k))
    return str(body or "")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by Retry-After (seconds or a date) or retry-after-ms; None where absent or senseless."""
    value = headers.get("retry-after")
    try:
        if ms := headers.get("retry-after-ms"):
            seconds = float(ms) / 1000
        elif value is None:
            return None
        elif value.strip().replace(".", "", 1).isdigit():
            seconds = float(value)
        else:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def _plain(text: str) -> str:
    """Text that any file can hold: lone surrogates, which JSON allows and UTF-8 does not, become '?'."""
    return text.encode("utf-8", "replace").decode("utf-8")
