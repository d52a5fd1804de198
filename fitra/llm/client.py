"""The client: requests to one or several OpenAI-compatible servers, with their passing troubles waited out.

A backend makes one reply from one list of messages and knows nothing of rows, keys or ledgers. What comes out is a
reply, a `RequestError` for this request alone, or a `FitraError` when no request can succeed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from fitra.errors import FitraError
from fitra.llm.backend import Backend, EndpointDown, FunctionBackend, Message, Reply, RequestError
from fitra.llm.endpoints import Server, Trouble
from fitra.recipe.align import Endpoint

__all__ = ["Backend", "EndpointBackend", "EndpointDown", "FunctionBackend", "Message", "Reply", "RequestError"]

log = logging.getLogger(__name__)

BACKOFF_S = (0.5, 30.0)  # first and longest wait between tries, without jitter
MOVE_S = 0.02  # before trying at another server
GONE_AFTER_RESTS = 3


class EndpointBackend:
    """One OpenAI-compatible server, or several that serve the same model.

    Tried again, with jitter and heeding Retry-After: 408, 409, 429, 5xx, timeouts, lost connections, replies that are
    no chat completion. Not tried again: any other 4xx. `retries` counts the tries after the first; waiting out a rate
    limit may take four times as many.

    Several servers share the work by weight and free places; a request that failed at one moves to another at once. A
    server that cannot be reached three times in a row rests (1 s, doubling to 60), then one request tries it. The run
    stops when all are gone. A single server counts as down after `down_after` failures to reach it in a row, one of
    them the last try of its request; where nothing ever came from it, one request that used up its tries is enough.

    `revision` tells apart weights served under one name. `concurrency` is the sum of what the servers take at most.
    """

    SERVER: type[Server] = Server

    def __init__(self, endpoint: Endpoint | Sequence[Endpoint], *, revision: str = "", down_after: int = 10) -> None:
        endpoints = [endpoint] if isinstance(endpoint, Endpoint) else list(endpoint)
        if not endpoints:
            raise FitraError("endpoint: none given.", "Give base_url and model of one or more.")
        first = self.endpoint = endpoints[0]
        for name in ("model", "temperature", "max_tokens", "seed"):
            if len({getattr(e, name) for e in endpoints}) > 1:
                raise FitraError(f"endpoint: several with different {name}.", "One job is answered by one model.")
        self.servers = [self.SERVER(e, rests=len(endpoints) > 1) for e in endpoints]
        self.identity = f"{first.model}@{revision}" if revision else first.model
        self.concurrency = sum(e.concurrency for e in endpoints)
        self.sampling: dict[str, Any] = {"temperature": first.temperature, "max_tokens": first.max_tokens}
        if first.seed is not None:
            self.sampling["seed"] = first.seed
        self._down_after = down_after
        self._down: EndpointDown | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def complete(
        self, messages: Sequence[Message], sampling: Mapping[str, Any], schema: Mapping[str, Any] | None
    ) -> Reply:
        """One reply, after as many tries as it takes within the limits."""
        # Model and messages come first: what all requests share is then one prefix, byte for byte.
        try:
            body = orjson.dumps(self.request(messages, sampling))
        except TypeError as e:  # lone surrogates, numbers beyond 64 bits
            raise RequestError(f"cannot be sent as JSON: {e}") from None
        asked = sampling.get("max_completion_tokens") or sampling.get("max_tokens") or 0
        tokens = len(body) / 4 + (asked if isinstance(asked, int) else 0)
        attempts = failures = limited = lost = 0
        failed: set[Server] = set()
        while True:
            server = await self._place(tokens, failed)
            attempts += 1
            try:
                if schema is not None and server.structured:
                    trouble = await server.ask(_with_schema(body, schema), tokens, structured=True)
                else:
                    trouble = await server.ask(body, tokens)
            except EndpointDown as e:  # refuses us altogether: a wrong key, an empty account
                if all(s.out for s in self.servers):
                    raise
                log.warning("%s Going on with the others.", e.message)
                continue
            finally:
                self._wake()
            if isinstance(trouble, Reply):
                return Reply(trouble.text, trouble.usage, trouble.finish_reason, attempts, lost)
            if trouble.plain:
                continue
            lost += trouble.lost
            if trouble.status == 429:
                limited += 1
                tries, last = limited, limited > 4 * self.endpoint.retries
            else:
                # A server that is gone is not the request's fault while there are others.
                moves = trouble.unreached and server not in failed and len(self.servers) > 1
                failures += 0 if moves else 1
                tries, last = max(1, failures), failures > self.endpoint.retries
            if trouble.unreached and self._gone(last, trouble):
                self._down = EndpointDown(
                    f"{', '.join(s.host for s in self.servers)}: endpoint down"
                    f" ({trouble.message}; {server.unreached} failures in a row).",
                    "Start the server or correct base_url, then run again: what was answered is kept.",
                )
                while self._waiting:
                    self._wake()
                raise self._down
            if last:
                raise RequestError(f"{trouble.message} (after {attempts} tries)", sent=lost > 0)
            failed.add(server)
            await asyncio.sleep(self._pause(trouble, tries, tokens, failed))

    def request(self, messages: Sequence[Message], sampling: Mapping[str, Any]) -> dict[str, Any]:
        """The body of a request."""
        return {"model": self.endpoint.model, "messages": messages, **sampling}

    def _pause(self, trouble: Trouble, tries: int, tokens: float, failed: set[Server]) -> float:
        now = time.monotonic()
        if any(s not in failed and s.room(tokens, now) == 0 for s in self.servers):
            return random.uniform(0, MOVE_S)
        if trouble.retry_after is not None:
            return trouble.retry_after + random.uniform(0, 0.1 * BACKOFF_S[0])
        return min(BACKOFF_S[0] * 2.0 ** (tries - 1), BACKOFF_S[1]) * random.uniform(0.5, 1.0)

    def _gone(self, last: bool, trouble: Trouble) -> bool:
        if len(self.servers) == 1:
            server = self.servers[0]
            never = not (server.heard or trouble.status)
            return last and (never or server.unreached >= self._down_after)
        return all(s.out or s.rests >= (GONE_AFTER_RESTS if s.heard else 1) for s in self.servers)

    async def _place(self, tokens: float, failed: set[Server]) -> Server:
        """The server to ask, once one may be asked: of those with room the least busy by weight, fresh ones first."""
        while True:
            if self._down is not None:
                raise self._down
            now = time.monotonic()
            best: Server | None = None
            best_load, soonest = (True, math.inf), math.inf
            for s in self.servers:
                wait = s.room(tokens, now)
                if wait > 0:
                    soonest = min(soonest, wait)
                    continue
                load = (s in failed, (s.active + 1) / s.endpoint.weight)
                if best is None or load < best_load:
                    best, best_load = s, load
            if best is not None:
                if self._waiting and best.active + 1 < int(best.concurrency.limit):
                    self._wake()  # more than one place became free: pass it on
                return best
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                if soonest == math.inf:
                    await turn  # woken when a place is free
                else:
                    await asyncio.wait_for(turn, soonest + random.uniform(0, 0.02))  # not all in the same moment
            except TimeoutError:
                pass
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._wake()
                raise

    def _wake(self) -> None:
        """Let one who waits look again: a place is free."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        self._waiting.clear()
        self._down = None
        for server in self.servers:
            await server.aclose()


def _with_schema(body: bytes, schema: Mapping[str, Any]) -> bytes:
    answer = {"name": "answer", "schema": dict(schema), "strict": True}
    return body[:-1] + b',"response_format":' + orjson.dumps({"type": "json_schema", "json_schema": answer}) + b"}"
