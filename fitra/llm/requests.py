"""The background thread of a run: an event loop that asks, and commits answers to the ledger in groups."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from fitra.errors import FitraError
from fitra.llm.backend import Backend, Message, Reply
from fitra.llm.budget import Budget, BudgetSpent
from fitra.llm.ledger import Ledger, Record

COMMIT_EVERY_S = 0.002  # answers that come within this time share one sync of the disk
MANY = 64  # requests in flight
LOOK_EVERY_S = 0.25  # for an answer that another worker is asking for

_Request = tuple["Future[Reply]", str, list[Message], dict[str, Any]]


class Requests:
    """Open with `with`; `submit` from any thread. Closing cancels what is in flight, unless the budget ended it."""

    def __init__(
        self,
        job: str,
        schema: Mapping[str, Any] | None,
        backend: Backend,
        ledger: Ledger,
        concurrency: int,
        budget: Budget | None = None,
    ) -> None:
        self._job, self._schema, self._backend, self._ledger, self._budget = job, schema, backend, ledger, budget
        self._loop = asyncio.new_event_loop()
        # Where many are in flight, up to an eighth more may wait for the disk, so that the endpoint need not.
        self._slots = asyncio.Semaphore(concurrency)
        self._open = asyncio.Semaphore(concurrency + (concurrency // 8 if concurrency >= MANY else 0))
        self._stop: FitraError | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._inbox: deque[_Request] = deque()
        self._called = False
        self._settled = asyncio.Event()
        self._uncommitted: list[tuple[Future[Reply], Reply, asyncio.Future[None]]] = []
        self._committer: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="fitra-llm", daemon=True)

    def __enter__(self) -> Requests:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _shut(self) -> None:
        if not isinstance(self._stop, BudgetSpent):  # else what was paid for is waited for
            for task in list(self._tasks):
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._committer is not None:
            await self._committer
        if hasattr(self._backend, "aclose"):
            await self._backend.aclose()
        await self._loop.shutdown_default_executor()

    def submit(self, key: str, messages: list[Message], sampling: dict[str, Any]) -> Future[Reply]:
        """Have a request asked; the future resolves once the answer is durable."""
        future: Future[Reply] = Future()
        self._inbox.append((future, key, messages, sampling))
        if not self._called:  # one call across the threads for many requests
            self._called = True
            self._loop.call_soon_threadsafe(self._take)
        return future

    def _take(self) -> None:
        self._called = False
        while self._inbox:
            task = self._loop.create_task(self._ask(*self._inbox.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(self, future: Future[Reply], key: str, messages: list[Message], sampling: dict[str, Any]) -> None:
        try:
            while True:
                async with self._open:
                    if self._stop is not None:
                        raise self._stop
                    held = self._ledger.claim(key)
                    if held is True:
                        await self._send(future, key, messages, sampling)
                        return
                    if held is not False:
                        future.set_result(Reply(held.text, held.usage, held.finish_reason, held.attempts))
                        return
                # Another worker asks this very question. Our slot goes to the next one meanwhile.
                await asyncio.sleep(random.uniform(0.5, 1.0) * LOOK_EVERY_S)
        except asyncio.CancelledError:
            future.cancel()
            raise
        except Exception as e:
            if isinstance(e, FitraError):
                self._stop = self._stop or e
            future.set_exception(e)

    async def _send(self, future: Future[Reply], key: str, messages: list[Message], sampling: dict[str, Any]) -> None:
        """Ask, having the lease: it ends when the answer is durable, or here."""
        chars = sum(len(m["content"]) for m in messages) if self._budget else 0
        sent = False
        reply: Reply | None = None
        try:
            if self._budget is not None:
                await self._afford(key, chars, sampling)
            async with self._slots:
                if self._stop is not None:
                    raise self._stop
                sent, started = True, time.monotonic()
                reply = await self._backend.complete(messages, sampling, self._schema)
            self._ledger.put(self._record(key, reply, time.monotonic() - started))
        except BaseException as e:
            # Cut off in the middle, or lost on the way: it may be charged for, and the next to ask is told so.
            lost = isinstance(e, asyncio.CancelledError) or getattr(e, "sent", False)
            self._ledger.release(key, sent=sent and lost)
            raise
        finally:
            if self._budget is not None:
                self._budget.settle(key, reply.usage if reply else None, chars + (len(reply.text) if reply else 0))
                self._settled.set()
        # A place is held until the answer is durable: a kill costs no more than what was in flight.
        durable: asyncio.Future[None] = self._loop.create_future()
        self._uncommitted.append((future, reply, durable))
        if self._committer is None:
            self._committer = self._loop.create_task(self._commit())
        await durable

    async def _afford(self, key: str, chars: int, sampling: dict[str, Any]) -> None:
        assert self._budget is not None
        most = sampling.get("max_completion_tokens") or sampling.get("max_tokens") or 2048
        while not self._budget.reserve(key, chars, int(most)):
            if self._stop is not None:
                raise self._stop
            self._settled.clear()
            await self._settled.wait()

    def _record(self, key: str, reply: Reply, seconds: float) -> Record:
        return Record(
            key=key,
            text=reply.text,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            identity=self._backend.identity,
            job=self._job,
            at=round(time.time(), 3),
            seconds=round(seconds, 4),
            attempts=reply.attempts,
            maybe_paid=reply.maybe_paid,
        )

    async def _commit(self) -> None:
        """Group commit: while the disk syncs, more answers gather for the next round."""
        while self._uncommitted:
            await asyncio.sleep(COMMIT_EVERY_S)
            batch, self._uncommitted = self._uncommitted, []
            try:
                await asyncio.to_thread(self._ledger.flush)
                failure = None
            except Exception as e:
                failure = e if isinstance(e, FitraError) else FitraError(f"{self._ledger.path}: {e}.")
                self._stop = failure
            for future, reply, durable in batch:
                if future.done():  # cancelled while it waited for the disk: kept all the same
                    pass
                elif failure is None:
                    future.set_result(reply)
                else:
                    future.set_exception(failure)
                if not durable.done():
                    durable.set_result(None)
        self._committer = None
