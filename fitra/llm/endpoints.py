"""One server of an endpoint: a single try, its connections, its limits, its health. `client` decides where to try."""

from __future__ import annotations

import asyncio
import math
import random
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from fitra.errors import FitraError
from fitra.llm.backend import EndpointDown, Reply, RequestError
from fitra.llm.limits import Concurrency, Rates, retry_after
from fitra.recipe.align import Endpoint

RETRY_STATUS = {408, 409, 429, *range(500, 600)}
DOWN_STATUS = {502, 503, 504}  # what a proxy answers for a server that is gone
REST_S = (1.0, 60.0)  # how long a server that is gone is left alone, at first and at most
REST_AFTER = 3  # failures to reach it in a row
MAX_REPLY = 1 << 26
# A server keeps an idle connection for some seconds (uvicorn: 5): let go before it does, or a request meets its end.
KEEPALIVE_S = 4.0


@dataclass(frozen=True)
class Trouble:
    """Why a try failed, when another may succeed. `retry_after` in seconds, as the server asked."""

    message: str
    status: int = 0
    unreached: bool = False
    retry_after: float | None = None
    lost: bool = False  # it was sent, and may be charged for
    plain: bool = False  # try again at once: without structured output, which this server does not know


class Server:
    """One server. `room` says when it may be asked, `ask` asks once. With `rests` it is left alone while gone."""

    PATH = "/chat/completions"

    def __init__(self, endpoint: Endpoint, rests: bool = False) -> None:
        self.endpoint = endpoint
        self._may_rest = rests
        self.concurrency = Concurrency(endpoint.concurrency)
        self.rates = Rates(endpoint.requests_per_minute, endpoint.tokens_per_minute)
        self.structured = endpoint.structured
        self.active = 0
        self.unreached = 0  # failures to reach it since anything last came from it
        self.rests = 0  # how often in a row it was left alone; 0: it is well
        self.heard = False  # anything ever came from it, an error included
        self.out = ""  # why it is out for good
        self._answered = False
        self._resume_at = 0.0  # monotonic seconds; set by Retry-After for all requests alike
        self._rest_until = 0.0
        self._session: Any = None
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
        self.host = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
        self._url = endpoint.base_url.rstrip("/") + self.PATH
        self._proxy: str | None = None
        if not urllib.request.proxy_bypass(parts.hostname):
            self._proxy = urllib.request.getproxies().get(parts.scheme)

    def room(self, tokens: float, now: float) -> float:
        """Seconds until a request of about so many tokens may be sent; inf while others must come back first."""
        if self.out:
            return math.inf
        if self.active >= (1 if self.rests else int(self.concurrency.limit)):
            return math.inf
        wait = max(self._resume_at, self._rest_until) - now
        return max(wait, self.rates.wait(tokens, now), 0.0)

    async def ask(self, body: bytes, tokens: float, structured: bool = False) -> Reply | Trouble:
        """One try: a reply or a passing trouble. Raises RequestError or EndpointDown for what will not pass."""
        import aiohttp

        sent_at = time.monotonic()
        self.active += 1
        self.rates.take(tokens)
        try:
            async with asyncio.timeout(self.endpoint.timeout_s):
                status, headers, content = await self._send(body)
        except TimeoutError:
            self.concurrency.refused(time.monotonic(), 0.2)
            return self._not_reached(f"timeout after {self.endpoint.timeout_s:g} s", lost=True)
        except aiohttp.ClientConnectorError:  # refused, no such host: nothing was sent
            return self._not_reached("connection failed")
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError):
            return self._not_reached("connection failed", lost=True)
        except Exception as e:  # this one could not even be sent, or what came is no HTTP
            raise RequestError(self.clean(f"{type(e).__name__}: {e}")) from None
        finally:
            self.active -= 1
        now = time.monotonic()
        self.heard = True
        self.rates.learn(headers, self.active, now)
        if status != 200:
            reason = self.clean(_reason(content))
            if structured and status in (400, 422) and any(w in reason.lower() for w in _STRUCTURED):
                self.structured = False
                return Trouble(f"HTTP {status}: {reason}", status=status, plain=True)
            return self._status(status, headers, reason, now)
        self.unreached = self.rests = 0
        reply = self.parse(content)
        if reply is None:
            return Trouble("reply is not a chat completion", lost=True)
        self._answered = True
        self.concurrency.good(now - sent_at, now)
        used = reply.usage.get("total_tokens")
        if used:
            self.rates.tokens.take(used - tokens)
        return reply

    async def _send(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """POST one request.

        Straight through aiohttp: the `openai` client over the same transport takes 1.08 ms of CPU per request where
        this takes 0.15 (docs/llm.md), and its own retries know nothing of the other requests.
        """
        session = self._session
        if session is None or self._loop is not asyncio.get_running_loop():
            session = self._connect()
        async with session.post(self._url, data=body, allow_redirects=False, proxy=self._proxy) as response:
            parts, size = [], 0
            async for part in response.content.iter_any():
                parts.append(part)
                size += len(part)
                if size > MAX_REPLY:  # counted unpacked: a few bytes on the wire can be gigabytes
                    raise ValueError(f"a reply of more than {MAX_REPLY:,} bytes")
            return response.status, response.headers, b"".join(parts)

    def _connect(self) -> Any:
        import aiohttp

        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # ours, of the whole reply, is around it
            headers={
                "authorization": f"Bearer {self._key}",
                "content-type": "application/json",
                "accept": "application/json",
                "user-agent": "fitra",
            },
        )
        return self._session

    def _not_reached(self, message: str, lost: bool = False) -> Trouble:
        self.unreached += 1
        now = time.monotonic()
        # A death is felt by all requests in flight at once, but it is one death.
        if self._may_rest and self.unreached >= REST_AFTER and now >= self._rest_until:
            self._rest_until = now + min(REST_S[0] * 2**self.rests, REST_S[1]) * random.uniform(0.75, 1.0)
            self.rests += 1
        return Trouble(message, unreached=True, lost=lost)

    def _status(self, status: int, headers: Mapping[str, str], reason: str, now: float) -> Trouble:
        message = f"HTTP {status}" + (f": {reason}" if reason else "")
        down = status in DOWN_STATUS
        if status == 429 and "insufficient_quota" in reason:
            self.out = message
            raise EndpointDown(f"{self.host}: {message}.", "Top up the account, then run again: answers are kept.")
        if down:
            self._not_reached(message)
        else:
            self.unreached = self.rests = 0
        if status in (429, 503):
            self.concurrency.refused(now)
        if status in RETRY_STATUS:
            after = retry_after(headers)
            if after is not None and status in (429, 503):
                self._resume_at = max(self._resume_at, now + after)
            return Trouble(message, status=status, unreached=down, retry_after=after)
        if status in (401, 404) and not self._answered:
            hint = "Check api_key." if status == 401 else "Check base_url (it often ends in /v1) and model."
            self.out = message
            raise EndpointDown(f"{self.host}, model '{self.endpoint.model}': {message}.", hint)
        raise RequestError(message)

    def parse(self, content: bytes) -> Reply | None:
        """The reply in the body of a chat completion; None where it is none."""
        try:
            data = orjson.loads(content)
            choice = data["choices"][0]
            text = choice["message"].get("content") or choice["message"].get("refusal") or ""
            if not isinstance(text, str):
                return None
            return Reply(self._without_key(text), usage_of(data.get("usage")), str(choice.get("finish_reason") or ""))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            return None

    def _without_key(self, text: str) -> str:
        """Servers echo keys in errors, and a hostile one in replies."""
        return text.replace(self._key, "***") if len(self._key) >= 8 else text

    def clean(self, text: str) -> str:
        """A line that may be shown and stored: without the key, not long."""
        return " ".join(_plain(self._without_key(text)).split())[:300]

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        if self._session is not None and self._loop is asyncio.get_running_loop():
            session, self._session = self._session, None
            await session.close()


_STRUCTURED = ("response_format", "json_schema", "structured", "guided", "grammar")


def usage_of(given: Any) -> dict[str, int]:
    if not isinstance(given, dict):
        return {}
    usage = {k: v for k, v in given.items() if type(v) is int}
    for outer, inner in (("prompt_tokens_details", "cached_tokens"), ("completion_tokens_details", "reasoning_tokens")):
        details = given.get(outer)
        if isinstance(details, dict) and type(details.get(inner)) is int:
            usage[inner] = details[inner]
    return usage


def _reason(content: bytes) -> str:
    try:
        found = orjson.loads(content)
        found = found.get("error", found)
        if isinstance(found, dict):
            return " ".join(str(found[k]) for k in ("code", "message") if found.get(k))
        return str(found)
    except (ValueError, AttributeError, RecursionError):
        return content[:300].decode("utf-8", "replace")


def _plain(text: str) -> str:
    """Text that any file can hold: lone surrogates, which JSON allows and UTF-8 does not, become '?'."""
    return text.encode("utf-8", "replace").decode("utf-8")
