"""What a backend is: messages in, one reply out. And the simplest one, a local function."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from fitra.errors import FitraError

Message = dict[str, str]


class RequestError(Exception):
    """This one request cannot be answered; others may. The message holds no secrets.

    `sent`: it reached the server and was lost after that, so it may be charged for all the same.
    """

    def __init__(self, message: str, sent: bool = False) -> None:
        self.sent = sent
        super().__init__(message)


class EndpointDown(FitraError):
    """Nothing answers at the endpoint, or it refuses us altogether: the run stops, what is answered is kept."""


@dataclass(frozen=True)
class Reply:
    """What a model answered.

    `usage` in tokens: prompt_tokens, completion_tokens, total_tokens, and as far as the server says cached_tokens (of
    the prompt) and reasoning_tokens (of the completion).
    """

    text: str
    usage: dict[str, int] = field(default_factory=dict)
    finish_reason: str = ""
    attempts: int = 1
    maybe_paid: int = 0


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
