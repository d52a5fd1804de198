"""Jobs and endpoints: order, equal questions, faults, secrets."""

from __future__ import annotations

import json
import logging
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_endpoint import FakeEndpoint, Fault
from shouting import CANARY, JOB, as_is, backend, render, rows

from fitra import llm
from fitra.errors import FitraError
from fitra.llm import client
from fitra.recipe import Endpoint


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BACKOFF_S", (0.02, 0.1))
    monkeypatch.setenv("FITRA_PROGRESS", "0")


def test_answers_in_order_and_second_run_is_free(tmp_path: Path) -> None:
    rng = random.Random(1)
    with FakeEndpoint(latency=0.001) as s:
        s.script = lambda request, seen: time.sleep(rng.random() * 0.002) or request["messages"][-1]["content"].upper()
        first = list(llm.run(JOB, rows(300), backend(s), tmp_path / "l"))
        assert [a.row_id for a in first] == [f"r{i}" for i in range(300)]
        assert [a.value for a in first] == [f"TEXT {i}" for i in range(300)]
        assert not any(a.cached or a.error for a in first)
        assert s.most_active <= 8
        second = list(llm.run(JOB, rows(300), backend(s), tmp_path / "l"))
        assert len(s.requests) == 300
    assert [(a.row_id, a.value, a.key) for a in second] == [(a.row_id, a.value, a.key) for a in first]
    assert all(a.cached for a in second)
    request = s.requests[0]
    assert (request["model"], request["temperature"], request["seed"]) == ("fake", 0.0, 0)
    figures = llm.stats(tmp_path / "l")
    assert figures["answers"] == figures["by"]["fake / shout"]["answers"] == 300
    assert figures["by"]["fake / shout"]["completion_tokens"] == 900


def test_equal_requests_are_sent_once(tmp_path: Path) -> None:
    with FakeEndpoint(latency=0.02) as s:
        same = [{"id": i, "text": f"text {i % 3}"} for i in range(400)]
        answers = list(llm.run(JOB, same, backend(s), tmp_path / "l"))
    assert len(s.requests) == 3
    assert [a.value for a in answers] == [f"TEXT {i % 3}" for i in range(400)]
    assert sum(not a.cached for a in answers) == 3


def test_what_changes_the_question_changes_the_key(tmp_path: Path) -> None:
    base = ([{"role": "user", "content": "a"}], "m", {"seed": 0}, None, 0)
    others = [
        ([{"role": "user", "content": "b"}], *base[1:]),
        (base[0], "m@2", *base[2:]),
        (*base[:2], {"seed": 1}, None, 0),
        (*base[:3], {"type": "object"}, 0),
        (*base[:4], 1),
    ]
    keys = {llm.request_key(*x) for x in [base, *others]}  # type: ignore[arg-type]
    assert len(keys) == 6
    assert llm.request_key(*base) == llm.request_key([{"content": "a", "role": "user"}], *base[1:])


def test_draws_are_separate_questions_with_separate_seeds(tmp_path: Path) -> None:
    job = llm.Job("draw", render, as_is, sampling={"temperature": 0.9, "seed": 5}, draws=3)
    with FakeEndpoint(lambda request, seen: str(request["seed"])) as s:
        answers = list(llm.run(job, rows(2), backend(s), tmp_path / "l"))
    assert [(a.row_id, a.draw, a.value) for a in answers] == [
        (r, d, str(5 + d)) for r in ("r0", "r1") for d in range(3)
    ]


def test_schema_is_sent_and_json_is_found_without_it() -> None:
    assert llm.parse_json('Sure!\n```json\n{"a": [1]}\n``` done') == {"a": [1]}
    assert llm.parse_json("[1, 2]") == [1, 2]
    with pytest.raises(llm.ParseError):
        llm.parse_json("no {json here")


def test_faults_touch_only_their_rows(tmp_path: Path) -> None:
    def script(request: dict[str, Any], seen: int) -> str | Fault:
        n = int(request["messages"][-1]["content"].split()[1])
        if n == 5:
            return Fault(status=400)
        if n == 6:
            return Fault(status=422)
        if n == 7:
            return Fault(status=500)
        if n == 8:
            return Fault(hang=True)
        if n == 9:
            return Fault(body="{not json")
        if n == 10:
            return Fault(reset=True)
        if n == 11:
            return "unparsable"
        if n == 12:
            return ""
        passing = [
            Fault(status=429, headers={"retry-after": "0.1"}),
            Fault(status=503),
            Fault(reset=True),
            Fault(body='{"choices": []}'),
            Fault(status=408),
        ]
        if n % 10 == 3 and seen == 0:
            return passing[n // 10 % len(passing)]
        return f"fine {n}"

    def parse(reply: str, row: Any) -> str:
        if row["id"] == "r13":
            return str({}["missing"])  # a bug in a parser: this row's error
        if not reply.startswith("fine"):
            raise llm.ParseError(f"expected 'fine', got {reply!r}")
        return reply

    def check(value: str, row: Any) -> str | None:
        return "refused" if row["id"] == "r14" else None

    def render_most(row: Any) -> list[dict[str, str]]:
        return render({"text": row["text"]} if row["id"] != "r15" else {})

    job = llm.Job("faulty", render_most, parse, check)
    with FakeEndpoint(script) as s:
        answers = list(llm.run(job, rows(100), backend(s, timeout_s=0.3), tmp_path / "l"))
        asked = {k: s.asked[f"text {k}"] for k in range(100)}
        again = list(llm.run(job, rows(100), backend(s, timeout_s=0.3), tmp_path / "l"))
    errors = {a.row_id: str(a.error) for a in answers if a.error}
    assert sorted(errors) == sorted(f"r{i}" for i in range(5, 16))
    assert all(a.value is None for a in answers if a.error)
    assert "HTTP 400" in errors["r5"] and "HTTP 422" in errors["r6"] and "HTTP 500" in errors["r7"]
    assert "timeout" in errors["r8"] and "not a chat completion" in errors["r9"] and "connection" in errors["r10"]
    assert errors["r11"] == "parse: expected 'fine', got 'unparsable'" and "KeyError" in errors["r13"]
    assert errors["r14"] == "check: refused" and errors["r15"].startswith("render: KeyError")
    assert asked[5] == asked[6] == 1 and asked[7] == asked[8] == asked[9] == asked[10] == 3
    assert asked[13] == asked[23] == asked[33] == asked[43] == 2 and asked[14] == asked[20] == 1
    # Paid replies are kept even where a parser refused them; only what was never answered is asked again.
    assert all(s.asked[f"text {k}"] == asked[k] for k in range(100) if k not in range(5, 11))
    assert {a.row_id: a.error for a in again if a.error} == {a.row_id: a.error for a in answers if a.error}
    assert s.asked["text 5"] == 2


def test_retry_after_is_heeded_by_all(tmp_path: Path) -> None:
    times: list[tuple[float, int]] = []

    def script(request: dict[str, Any], seen: int) -> str | Fault:
        times.append((time.monotonic(), seen))
        return Fault(status=429, headers={"retry-after": "0.5"}) if len(times) == 1 else "ok"

    with FakeEndpoint(script) as s:
        answers = list(llm.run(JOB, rows(1), backend(s), tmp_path / "l"))
    assert answers[0].value == "ok" and answers[0].reply is not None and answers[0].reply.attempts == 2
    assert times[1][0] - times[0][0] >= 0.5


def test_dead_endpoint_stops_and_keeps_what_was_answered(tmp_path: Path) -> None:
    with FakeEndpoint() as s:
        done = list(llm.run(JOB, rows(20), backend(s), tmp_path / "l"))
    seen: list[llm.Answer] = []
    with pytest.raises(FitraError, match="endpoint down") as e:
        for a in llm.run(JOB, rows(500), backend(s), tmp_path / "l"):
            seen.append(a)
    assert [a.value for a in seen[:20]] == [a.value for a in done]
    assert CANARY not in str(e.value) and "127.0.0.1" in str(e.value)
    assert llm.stats(tmp_path / "l")["answers"] == 20


@pytest.mark.parametrize(("status", "code"), [(401, ""), (404, ""), (429, "insufficient_quota")])
def test_an_endpoint_that_refuses_altogether_stops_the_run(tmp_path: Path, status: int, code: str) -> None:
    body = json.dumps({"error": {"message": f"no: {CANARY}", "code": code}})
    with FakeEndpoint(lambda request, seen: Fault(status=status, body=body)) as s:
        with pytest.raises(FitraError, match=f"HTTP {status}") as e:
            list(llm.run(JOB, rows(200), backend(s), tmp_path / "l"))
        assert len(s.requests) <= 8
    assert CANARY not in str(e.value)


def test_no_secret_in_logs_ledger_or_errors(tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    caplog.set_level(logging.DEBUG)
    echo = json.dumps({"error": {"message": f"Incorrect API key provided: {CANARY}"}})

    def script(request: dict[str, Any], seen: int) -> str | Fault:
        return Fault(status=403, body=echo) if request["messages"][-1]["content"] == "text 1" else f"key {CANARY}"

    with FakeEndpoint(script) as s:
        answers = list(llm.run(JOB, rows(3), backend(s), tmp_path / "l"))
        assert f"Bearer {CANARY}" in s.headers[0]
    llm.export(tmp_path / "l", tmp_path / "out.jsonl")
    out = capfd.readouterr()
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert CANARY.encode() not in written
    assert CANARY not in caplog.text + out.out + out.err + repr(answers) + repr(backend(s).endpoint)


def test_rows_are_read_lazily(tmp_path: Path) -> None:
    read = 0

    def endless() -> Iterator[dict[str, str]]:
        nonlocal read
        while True:
            yield {"id": str(read), "text": f"text {read}"}
            read += 1

    answers = llm.run(JOB, endless(), llm.FunctionBackend("f", lambda m, s, schema: "x"), tmp_path / "l", concurrency=2)
    assert [next(answers).row_id for _ in range(5)] == ["0", "1", "2", "3", "4"]
    answers.close()  # type: ignore[attr-defined]
    assert read <= 5 + 2 * 16


def test_function_backend_and_its_failures(tmp_path: Path) -> None:
    def fn(messages: Any, sampling: Any, schema: Any) -> str:
        if messages[-1]["content"] == "text 1":
            raise RuntimeError("local trouble")
        return "ok"

    answers = list(llm.run(JOB, rows(3), llm.FunctionBackend("hash", fn), tmp_path / "l"))
    assert [a.value for a in answers] == ["ok", None, "ok"]
    assert answers[1].error == "request: RuntimeError: local trouble"


def test_a_row_without_id_is_named(tmp_path: Path) -> None:
    with pytest.raises(FitraError, match=r"without 'id'.*text"):
        list(llm.run(JOB, [{"text": "a"}], llm.FunctionBackend("f", lambda m, s, schema: "x"), tmp_path / "l"))


def test_port_that_nobody_listens_on(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    endpoint = Endpoint(base_url=f"http://127.0.0.1:{port}/v1", model="m", retries=1, concurrency=1)
    answers = llm.run(JOB, rows(100), llm.EndpointBackend(endpoint), tmp_path / "l")
    with pytest.raises(FitraError, match="endpoint down"):
        list(answers)


@pytest.mark.parametrize(
    "change", [{"base_url": f"http://u:{CANARY}@h/v1"}, {"base_url": "localhost:80"}, {"api_key": f"{CANARY}\n\u0628"}]
)
def test_senseless_endpoints_are_refused_before_the_run(change: dict[str, str]) -> None:
    with pytest.raises(FitraError, match="endpoint: ") as e:
        llm.EndpointBackend(Endpoint(**{"base_url": "http://h/v1", "model": "m", **change}))
    assert CANARY not in str(e.value)
