"""One job: rows become messages, replies become values. `run` asks only what the ledger does not know yet.

    job = Job("answer", lambda row: [{"role": "user", "content": row["text"]}], lambda reply, row: reply.strip())
    for answer in run(job, rows, EndpointBackend(endpoint), Path("ledger")):
        ...

The caller's thread renders, looks up, parses and checks; one background thread runs the requests. So rows and the
functions of a job are used by one thread only, and slow work on the answers does not stall the requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from fitra.artifacts import digest
from fitra.errors import FitraError
from fitra.llm.backend import Backend, Message, Reply, RequestError
from fitra.llm.budget import Budget
from fitra.llm.ledger import Ledger
from fitra.llm.requests import Requests
from fitra.llm.structured import ParseError, parse_json
from fitra.progress import track

__all__ = ["Answer", "Job", "ParseError", "Row", "parse_json", "questions", "request_key", "run"]

Row = Mapping[str, Any]

WINDOW = 16  # rows in memory per concurrent request: a slow row holds up the output, not the endpoint


@dataclass(frozen=True)
class Job:
    """What to ask of each row and what to make of the reply.

    `render(row)` gives the messages, `parse(reply text, row)` the value or a ParseError, `check(value, row)` a
    complaint or None. `sampling` (temperature, max_tokens, seed, stop, ...) is sent as it is, over the backend's
    defaults. `schema` is a JSON schema for servers that offer structured output. With `draws` > 1 every row is asked
    that often, the seed (if any) raised by one each time. `system` is what all rows share (a policy): it goes
    first, the same bytes in every request, so that a server's prefix cache reads it once.
    """

    name: str
    render: Callable[[Row], list[Message]]
    parse: Callable[[str, Row], Any]
    check: Callable[[Any, Row], str | None] | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    draws: int = 1
    system: str = ""


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


def _question(job: Job, row: Row, draw: int, backend: Backend) -> tuple[str, list[Message], dict[str, Any]]:
    sampling = {**getattr(backend, "sampling", {}), **job.sampling}
    if draw and sampling.get("seed") is not None:
        sampling["seed"] += draw  # a server that heeds seeds would repeat itself
    messages = job.render(row)
    if job.system:
        messages = [{"role": "system", "content": job.system}, *messages]
    return request_key(messages, backend.identity, sampling, job.schema, draw), messages, sampling


def questions(job: Job, rows: Iterable[Row], backend: Backend) -> Iterator[tuple[str, list[Message], dict[str, Any]]]:
    """What a job asks: key, messages and sampling per row and draw. Rows that cannot be rendered are left out."""
    for row in rows:
        for draw in range(job.draws):
            try:
                yield _question(job, row, draw, backend)
            except FitraError:
                raise
            except Exception:
                continue


def run(
    job: Job,
    rows: Iterable[Row],
    backend: Backend,
    ledger: Path,
    concurrency: int | None = None,
    progress: bool = True,
    budget: Budget | None = None,
) -> Iterator[Answer]:
    """Answers in the order of `rows`, each durable in the ledger before it is yielded.

    Rows are mappings with a unique 'id', read lazily within a window of 16 per concurrent request. Equal requests are
    sent once. `concurrency` defaults to the backend's own, else 16. Closing the iterator cancels what is in flight.

    With a `budget` nothing is sent that may go beyond it: what is in flight is waited for and kept, then BudgetSpent (a
    FitraError) is raised. Several processes may work on one ledger: each question is asked by one of them.

    Raises FitraError when the endpoint is down or refuses altogether, the disk is full, or a row has no 'id'; all that
    was answered until then is in the ledger, so running again goes on from there.
    """
    if job.draws < 1:
        raise FitraError(f"job '{job.name}': draws is {job.draws}.", "Ask for one draw or more.")
    answers = _answers(job, rows, backend, ledger, concurrency or int(getattr(backend, "concurrency", 16)), budget)
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
    job: Job, rows: Iterable[Row], backend: Backend, path: Path, concurrency: int, budget: Budget | None
) -> Generator[Answer, None, None]:
    window: deque[_Slot] = deque()
    in_flight: dict[str, Future[Reply]] = {}  # until yielded; from then on the ledger knows the answer
    with Ledger(path) as ledger, Requests(job.name, job.schema, backend, ledger, concurrency, budget) as requests:
        if budget is not None:
            budget.open(ledger, job.name)
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
    requests: Requests,
) -> None:
    try:
        slot.key, messages, sampling = _question(job, slot.row, slot.draw, backend)
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
