"""One job: rows become messages, replies become values. `run` asks only what the ledger does not know yet.

    job = Job("answer", lambda row: [{"role": "user", "content": row["text"]}], lambda reply, row: reply.strip())
    for answer in run(job, rows, EndpointBackend(endpoint), Path("ledger")):
        ...

The caller's thread renders, looks up, parses and checks; one background thread runs the requests. So rows and the
functions of a job are used by one thread only, and slow work on the answers does not stall the requests.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from fitra.artifacts import digest
from fitra.errors import FitraError
from fitra.llm.client import Backend, Message, Reply, RequestError
from fitra.llm.ledger import Ledger, Record
from fitra.progress import track

Row = Mapping[str, Any]

COMMIT_EVERY_S = 0.002  # answers that come within this time share one sync of the disk
WINDOW = 16  # rows in memory per concurrent request: a slow row holds up the output, not the endpoint


class ParseError(ValueError):
    """A reply that is not what the job asked for; recorded with its row, neighbours are not touched."""


@dataclass(frozen=True)
class Job:
    """What to ask of each row and what to make of the reply.

    `render(row)` gives the messages, `parse(reply text, row)` the value or a ParseError, `check(value, row)` a
    complaint or None. `sampling` (temperature, max_tokens, seed, stop, ...) is sent as it is, over the backend's
    defaults. `schema` is a JSON schema for servers that offer structured output. With `draws` > 1 every row is asked
    that often, the seed (if any) raised by one each time.
    """

    name: str
    render: Callable[[Row], list[Message]]
    parse: Callable[[str, Row], Any]
    check: Callable[[Any, Row], str | None] | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    draws: int = 1


@dataclass(frozen=True)
class Answer:
    """What became of one draw of one row: a value, or an error and no value.

    `reply` is there whenever something was answered, also when it could not be parsed; `cached` says that this row
    cost nothing, the answer being in the ledger or shared with an equal request. Errors are not stored: they are
    asked again in the next run.
    """

    row_id: Any
    draw: int
    value: Any
    error: str | None
    reply: Reply | None
    key: str
    cached: bool


def request_key(
    messages: Sequence[Message], identity: str, sampling: Mapping[str, Any], schema: Mapping[str, Any] | None, draw: int
) -> str:
    """The content key of a request, 64 hex digits: equal exactly when the model is asked the same thing."""
    return digest([messages, identity, sampling, schema, draw])


def run(
    job: Job,
    rows: Iterable[Row],
    backend: Backend,
    ledger: Path,
    concurrency: int | None = None,
    progress: bool = True,
) -> Iterator[Answer]:
    """Answers in the order of `rows`, each durable in the ledger before it is yielded.

    Rows are mappings with a unique 'id', read lazily within a window of 16 per concurrent request. Equal requests are
    sent once. `concurrency` defaults to the backend's own, else 16. Closing the iterator cancels what is in flight.

    Raises FitraError when the endpoint is down or refuses altogether, the disk is full, or a row has no 'id'; all that
    was answered until then is in the ledger, so running again goes on from there.
    """
    if job.draws < 1:
        raise FitraError(f"job '{job.name}': draws is {job.draws}.", "Ask for one draw or more.")
    answers = _answers(job, rows, backend, ledger, concurrency or int(getattr(backend, "concurrency", 16)))
    try:
        total = len(rows) * job.draws if isinstance(rows, Sized) else None
        yield from track(answers, job.name, total) if progress else answers
    finally:
        answers.close()


@dataclass
class _Slot:
    row: Row
    draw: int
    key: str = ""
    error: str = ""
    cached: bool = False
    reply: Reply | None = None
    future: Future[Reply] | None = None


def _answers(
    job: Job, rows: Iterable[Row], backend: Backend, path: Path, concurrency: int
) -> Generator[Answer, None, None]:
    window: deque[_Slot] = deque()
    in_flight: dict[str, Future[Reply]] = {}  # until yielded; from then on the ledger knows the answer
    with Ledger(path) as ledger, _Requests(job, backend, ledger, concurrency) as requests:
        todo = chain.from_iterable(_slots(job, row) for row in rows)
        for slot in todo:
            _ask(job, slot, backend, ledger, in_flight, requests)
            window.append(slot)
            if len(window) >= WINDOW * concurrency:
                yield _finish(job, window.popleft(), in_flight)
        while window:
            yield _finish(job, window.popleft(), in_flight)


def _slots(job: Job, row: Row) -> Iterator[_Slot]:
    if "id" not in row:
        raise FitraError(f"job '{job.name}': a row without 'id' (it has: {', '.join(map(str, row))}).", "Add one.")
    return (_Slot(row, draw) for draw in range(job.draws))


def _ask(
    job: Job,
    slot: _Slot,
    backend: Backend,
    ledger: Ledger,
    in_flight: dict[str, Future[Reply]],
    requests: _Requests,
) -> None:
    sampling = {**getattr(backend, "sampling", {}), **job.sampling}
    if slot.draw and sampling.get("seed") is not None:
        sampling["seed"] += slot.draw  # a server that heeds seeds would repeat itself
    try:
        messages = job.render(slot.row)
        slot.key = request_key(messages, backend.identity, sampling, job.schema, slot.draw)
    except FitraError:
        raise
    except Exception as e:  # one bad row harms no neighbour
        slot.error = f"render: {type(e).__name__}: {e}"
        return
    if slot.key in in_flight:
        slot.future, slot.cached = in_flight[slot.key], True
        return
    record = ledger.get(slot.key)
    if record is not None:
        slot.reply, slot.cached = Reply(record.text, record.usage, record.finish_reason, record.attempts), True
        return
    slot.future = in_flight[slot.key] = requests.submit(slot.key, messages, sampling)


def _finish(job: Job, slot: _Slot, in_flight: dict[str, Future[Reply]]) -> Answer:
    value, error = None, slot.error or None
    if slot.future is not None:
        try:
            slot.reply = slot.future.result()
        except FitraError:
            raise
        except Exception as e:
            error = f"request: {e}" if isinstance(e, RequestError) else f"request: {type(e).__name__}: {e}"
        if in_flight.get(slot.key) is slot.future:
            del in_flight[slot.key]
    if error is None and slot.reply is not None:
        try:
            value = job.parse(slot.reply.text, slot.row)
            complaint = job.check(value, slot.row) if job.check else None
            if complaint:
                value, error = None, f"check: {complaint}"
        except FitraError:
            raise
        except Exception as e:  # a reply is untrusted: whatever a parser stumbles over is this row's error
            error = f"parse: {e}" if isinstance(e, ParseError) else f"parse: {type(e).__name__}: {e}"
    return Answer(slot.row["id"], slot.draw, value, error, slot.reply, slot.key, slot.cached)


class _Requests:
    """The background thread: an event loop that asks, and commits answers to the ledger in groups."""

    def __init__(self, job: Job, backend: Backend, ledger: Ledger, concurrency: int) -> None:
        self._job, self._backend, self._ledger = job, backend, ledger
        self._loop = asyncio.new_event_loop()
        self._slots = asyncio.Semaphore(concurrency)
        self._stop: FitraError | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._uncommitted: list[tuple[Future[Reply], Reply, asyncio.Future[None]]] = []
        self._committer: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="fitra-llm", daemon=True)

    def __enter__(self) -> _Requests:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _shut(self) -> None:
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
        self._loop.call_soon_threadsafe(self._start, future, key, messages, sampling)
        return future

    def _start(self, future: Future[Reply], key: str, messages: list[Message], sampling: dict[str, Any]) -> None:
        task = self._loop.create_task(self._ask(future, key, messages, sampling))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, future: Future[Reply], key: str, messages: list[Message], sampling: dict[str, Any]) -> None:
        async with self._slots:
            try:
                if self._stop is not None:
                    raise self._stop
                started = time.monotonic()
                reply = await self._backend.complete(messages, sampling, self._job.schema)
                self._ledger.put(self._record(key, reply, time.monotonic() - started))
            except asyncio.CancelledError:
                future.cancel()
                raise
            except Exception as e:
                if isinstance(e, FitraError):
                    self._stop = e
                future.set_exception(e)
                return
            # The slot is held until the answer is durable: a kill then costs no more than `concurrency` answers.
            durable: asyncio.Future[None] = self._loop.create_future()
            self._uncommitted.append((future, reply, durable))
            if self._committer is None:
                self._committer = self._loop.create_task(self._commit())
            await durable

    def _record(self, key: str, reply: Reply, seconds: float) -> Record:
        return Record(
            key=key,
            text=reply.text,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            identity=self._backend.identity,
            job=self._job.name,
            at=round(time.time(), 3),
            seconds=round(seconds, 4),
            attempts=reply.attempts,
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
                if failure is None:
                    future.set_result(reply)
                else:
                    future.set_exception(failure)
                if not durable.done():
                    durable.set_result(None)
        self._committer = None


def parse_json(text: str) -> Any:
    """The JSON object or array in a reply, with or without a code fence or talk around it; ParseError without one."""
    starts = [i for i in (text.find("{"), text.find("[")) if i >= 0]
    for start in sorted(starts):
        try:
            return json.JSONDecoder().raw_decode(text, start)[0]
        except (ValueError, RecursionError):
            continue
    raise ParseError("no JSON in the reply")
