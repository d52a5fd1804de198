"""The batch API of OpenAI and its like: half the price, an answer within a day. Submit, poll, collect, resume.

What is under way is written into the ledger folder before it is sent: `batches/NAME.jsonl` (the requests) and
`NAME.json` (where it stands). A killed run finds its batches again, even one that it had submitted without having
heard its id (it carries NAME as metadata), so nothing is submitted twice. Collected answers are records of the ledger
like any other, under the same keys: `llm.run` over the same rows asks nothing of what a batch has answered.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from fitra.artifacts import atomic_path, digest, write_text
from fitra.errors import FitraError
from fitra.llm.backend import EndpointDown, Message, Reply, RequestError
from fitra.llm.budget import Budget, BudgetSpent
from fitra.llm.client import EndpointBackend
from fitra.llm.job import Answer, Job, Row, questions, run
from fitra.llm.ledger import Ledger, Record
from fitra.recipe.align import Endpoint

__all__ = ["run_batch"]

log = logging.getLogger(__name__)

FINAL = {"completed", "failed", "expired", "cancelled"}
MOST_REQUESTS, MOST_BYTES = 50_000, 100 << 20  # of one batch; OpenAI takes 50,000 and 200 MB
POLLS_FAILED = 10  # in a row, each after the client's own retries


def run_batch(
    job: Job,
    rows: Callable[[], Iterable[Row]] | Sequence[Row],
    endpoint: Endpoint,
    ledger: Path,
    *,
    revision: str = "",
    poll_s: float = 60.0,
    most_requests: int = MOST_REQUESTS,
    budget: Budget | None = None,
    progress: bool = True,
) -> Iterator[Answer]:
    """As `llm.run`, through the batch API: answers in the order of the rows once all batches are back.

    Rows are read twice: give a sequence, or a function that returns them anew. Batches of an earlier run on this ledger
    are collected first. What a batch could not answer is an error of its row, and is asked again in the next run.
    With a `budget` no batch is submitted that may go beyond it; what was submitted is collected, then BudgetSpent is
    raised.

    Raises FitraError when the server is down or refuses, or another process works on batches of this ledger.
    """
    backend = EndpointBackend(endpoint, revision=revision)
    again = rows if callable(rows) else lambda: rows
    work = _Batches(job, backend, Path(ledger), budget)
    with work.locked(), Ledger(ledger) as held:
        if budget is not None:
            budget.open(held, job.name)
        spent: BudgetSpent | None = None
        try:
            work.submit(questions(job, again(), backend), held, most_requests)
        except BudgetSpent as e:
            spent = e
        work.collect(held, poll_s)
    if spent is not None:
        raise spent
    yield from run(job, again(), _Collected(backend, work.errors), Path(ledger), progress=progress)


class _Collected:
    """In place of the endpoint once all is collected: whoever still asks has no answer, and is told why."""

    def __init__(self, backend: EndpointBackend, errors: Mapping[str, str]) -> None:
        self.identity, self.sampling, self.concurrency = backend.identity, backend.sampling, 64
        self._errors = errors

    async def complete(
        self, messages: Sequence[Message], sampling: Mapping[str, Any], schema: Mapping[str, Any] | None
    ) -> Reply:
        raise RequestError(self._errors.get(digest([messages, sampling]), "the batch has no answer to it"))


class _Batches:
    def __init__(self, job: Job, backend: EndpointBackend, ledger: Path, budget: Budget | None) -> None:
        self.job, self.backend, self.budget = job, backend, budget
        self.folder = ledger / "batches"
        self.errors: dict[str, str] = {}  # by digest of messages and sampling
        self._server = backend.servers[0]
        self._openai: Any = None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time: two would submit the same."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise FitraError(f"{self.folder}: another process works on these batches.", "Wait for it.") from None
            try:
                yield
            finally:
                if self._openai is not None:
                    self._openai.close()

    def _states(self) -> list[dict[str, Any]]:
        """What is under way, oldest first."""
        found = [json.loads(p.read_text(encoding="utf-8")) for p in self.folder.glob("*.json")]
        return sorted((s for s in found if s["status"] != "collected"), key=lambda s: (s["at"], s["name"]))

    def _save(self, state: dict[str, Any]) -> None:
        write_text(self.folder / f"{state['name']}.json", json.dumps(state, indent=1) + "\n")

    def submit(self, asked: Iterable[tuple[str, list[Message], dict[str, Any]]], ledger: Ledger, most: int) -> None:
        """Finish submitting what an earlier run began, then submit what neither ledger nor batches know."""
        pending: set[bytes] = set()
        for state in self._states():
            with (self.folder / f"{state['name']}.jsonl").open("rb") as f:
                for line in f:
                    pending.add(bytes.fromhex(orjson.loads(line)["custom_id"]))
            if not state["batch"]:
                self._send(state, look=True)
        lines: list[bytes] = []
        keys: list[str] = []
        size = chars = tokens = 0
        for key, messages, sampling in asked:
            raw = bytes.fromhex(key)
            if raw in pending or ledger.get(key) is not None:
                continue
            pending.add(raw)
            body = {"model": self.backend.endpoint.model, "messages": messages, **sampling}
            if self.job.schema is not None and self.backend.endpoint.structured:
                answer = {"name": "answer", "schema": dict(self.job.schema), "strict": True}
                body["response_format"] = {"type": "json_schema", "json_schema": answer}
            item = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
            line = orjson.dumps(item) + b"\n"
            if lines and (len(lines) >= most or size + len(line) > MOST_BYTES):
                self._begin(lines, keys, chars, tokens)
                lines, keys, size, chars, tokens = [], [], 0, 0, 0
            lines.append(line)
            keys.append(key)
            size += len(line)
            chars += sum(len(m["content"]) for m in messages)
            tokens += int(sampling.get("max_completion_tokens") or sampling.get("max_tokens") or 2048)
        if lines:
            self._begin(lines, keys, chars, tokens)

    def _begin(self, lines: list[bytes], keys: list[str], chars: int, tokens: int) -> None:
        at = time.time()
        name = digest([keys, at])[:24]
        if self.budget is not None and not self.budget.reserve(name, chars, tokens, len(lines)):
            raise BudgetSpent(
                f"budget: a batch of {len(lines):,} more requests may go beyond it.",
                "What was submitted is collected: raise the budget and run again to go on from there.",
            )
        with atomic_path(self.folder / f"{name}.jsonl") as tmp, tmp.open("wb") as f:
            f.writelines(lines)
        state = {
            "name": name, "status": "prepared", "batch": "", "requests": len(lines), "at": at,
            "job": self.job.name, "identity": self.backend.identity, "host": self._server.host,
        }  # fmt: skip
        self._save(state)
        self._send(state, look=False)

    def _send(self, state: dict[str, Any], look: bool) -> None:
        """Upload and create one batch. `look`: it may have been created by a run that was killed before it heard so."""
        if state["host"] != self._server.host:
            raise FitraError(
                f"{self.folder}: an unfinished batch belongs to {state['host']}, not {self._server.host}.",
                "Finish it there, or remove its two files to give it up.",
            )
        batch = None
        if look:
            found = self._call(lambda c: [b for b in c.batches.list(limit=100) if _name(b) == state["name"]])
            batch = found[0] if found else None
        if batch is None:
            path = self.folder / f"{state['name']}.jsonl"

            def upload(c: Any) -> Any:
                with path.open("rb") as f:
                    return c.files.create(file=(path.name, f, "application/jsonl"), purpose="batch")

            file = self._call(upload)
            batch = self._call(
                lambda c: c.batches.create(
                    input_file_id=file.id,
                    endpoint="/v1/chat/completions",
                    completion_window="24h",
                    metadata={"fitra": state["name"]},
                )
            )
        self._save(state | {"status": "submitted", "batch": batch.id})

    def collect(self, ledger: Ledger, poll_s: float) -> None:
        """Wait for all batches that are under way and store their answers."""
        failed = 0
        while states := self._states():
            for state in states:
                try:
                    batch = self._call(partial(_retrieve, state["batch"]))
                    failed = 0
                except EndpointDown:
                    failed += 1
                    if failed >= POLLS_FAILED:
                        raise
                    continue
                if batch.status in FINAL:
                    self._store(state, batch, ledger)
            if self._states():
                time.sleep(poll_s)

    def _store(self, state: dict[str, Any], batch: Any, ledger: Ledger) -> None:
        requests = self.folder / f"{state['name']}.jsonl"
        done: set[str] = set()
        reasons: dict[str, str] = {}
        for file in (batch.output_file_id, batch.error_file_id):
            if not file:
                continue
            for n, line in enumerate(self._lines(file), 1):
                found = _item(line)
                if found is None:
                    continue
                key, status, content = found
                reply = self._server.parse(content) if status == 200 else None
                if reply is None or key in done:
                    reasons[key] = f"HTTP {status}: {self._server.clean(content.decode('utf-8', 'replace'))}"
                    continue
                done.add(key)
                ledger.put(
                    Record(key, reply.text, reply.finish_reason, reply.usage, state["identity"], state["job"],
                           round(time.time(), 3))
                )  # fmt: skip
                if self.budget is not None:
                    self.budget.settle(state["name"], reply.usage)
                if n % 1000 == 0:
                    ledger.flush()
        ledger.flush()
        why = self._server.clean(f"batch {batch.status}: {_errors(batch)}".rstrip(": "))
        with requests.open("rb") as f:
            for line in f:
                item = orjson.loads(line)
                key = item["custom_id"]
                if key not in done:
                    body = {k: v for k, v in item["body"].items() if k not in ("model", "messages", "response_format")}
                    self.errors[digest([item["body"]["messages"], body])] = reasons.get(key, why)
        if self.budget is not None:
            self.budget.settle(state["name"])
        self._save(state | {"status": "collected", "answers": len(done), "end": batch.status})
        requests.unlink()
        log.info("batch %s: %d of %d answered (%s)", state["batch"], len(done), state["requests"], batch.status)

    def _lines(self, file: str) -> Iterator[bytes]:
        """The lines of a remote file, downloaded whole first: a stream that breaks must not pass for a short file."""
        part = self.folder / "download.part"

        def download(c: Any) -> None:
            with c.files.with_streaming_response.content(file) as response, part.open("wb") as f:
                for chunk in response.iter_bytes(1 << 20):
                    f.write(chunk)

        self._call(download)
        with part.open("rb") as f:
            yield from f
        part.unlink()

    def _call(self, fn: Callable[[Any], Any]) -> Any:
        import openai

        endpoint = self.backend.endpoint
        if self._openai is None:
            key = endpoint.api_key.get_secret_value().strip()
            self._openai = openai.OpenAI(api_key=key, base_url=endpoint.base_url, max_retries=5, timeout=600)
        try:
            return fn(self._openai)
        except openai.APIStatusError as e:
            message = self._server.clean(f"HTTP {e.status_code}: {e.message}")
            raise FitraError(f"{self._server.host}, batch API: {message}.", "Does this server offer it?") from None
        except openai.APIConnectionError:
            raise EndpointDown(
                f"{self._server.host}: batch API cannot be reached.", "Run again later: its batches are remembered."
            ) from None


def _retrieve(number: str, client: Any) -> Any:
    return client.batches.retrieve(number)


def _name(batch: Any) -> str:
    return str((batch.metadata or {}).get("fitra", ""))


def _errors(batch: Any) -> str:
    data = getattr(getattr(batch, "errors", None), "data", None) or []
    return "; ".join(str(getattr(e, "message", "")) for e in data[:3])


def _item(line: bytes) -> tuple[str, int, bytes] | None:
    """(key, status, body) of one line of an output or error file; None where it is none of ours."""
    try:
        item = orjson.loads(line)
        key = item["custom_id"]
        response = item.get("response") or {}
        if len(bytes.fromhex(key)) != 32:
            return None
        if response.get("body") is not None:
            return key, int(response.get("status_code") or 0), orjson.dumps(response["body"])
        return key, int(response.get("status_code") or 0), orjson.dumps(item.get("error"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
