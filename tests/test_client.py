"""The client against a server that misbehaves: faults, limits, many endpoints, two runs at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from client_job import POLICY, backend, job, rows
from fault_server import LASTING, FaultServer, completion, faulty_rows, revive_soon

from fitra import llm
from fitra.errors import FitraError
from fitra.llm import client, endpoints, limits
from fitra.recipe.align import Endpoint


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BACKOFF_S", (0.02, 0.1))
    monkeypatch.setattr(endpoints, "REST_S", (0.1, 0.4))
    monkeypatch.setenv("FITRA_PROGRESS", "0")


def _fault_run(path: Path, n: int, timeout_s: float) -> dict[str, int]:
    """All faults at once over three servers, one of which dies and comes back; checks every row's state."""
    given = faulty_rows(n)
    with FaultServer() as a, FaultServer(dies_after=n // 20, beside=a) as b, FaultServer(start_s=0.3, beside=a) as c:
        revive_soon(b)
        answers = list(llm.run(job(), given, backend(a, b, c, timeout_s=timeout_s), path))
        sent = sum(s.requests for s in (a, b, c))
        asked = a.asked
        assert len(a.prefixes | b.prefixes | c.prefixes) == 1
        assert min(s.statuses[200] for s in (a, b, c)) > 0
    # Each row once, in order, in exactly one state, with a reason where it is set aside.
    assert [x.row_id for x in answers] == [r["id"] for r in given]
    assert all((x.value is None) == bool(x.error) for x in answers)
    bad = {r["id"]: r["text"] for r in given if any(f"‹{k}›" in r["text"] for k in LASTING)}
    errors = {x.row_id: str(x.error) for x in answers if x.error}
    assert set(errors) == set(bad)
    for row_id, text in bad.items():
        reason = {
            "400": ("request: HTTP 400",),
            "empt": ("parse: an empty reply",),
            "refu": ("check: refusal",),
            "json": ("request: reply is not a chat completion", "request: connection failed"),
            "500": ("request: HTTP 500", "request: connection failed"),  # the last try may have met the dying server
        }[text.split("‹")[1][:4].rstrip("-")]
        assert errors[row_id].startswith(reason), (text, errors[row_id])
    texts = {r["id"]: r["text"] for r in given}
    assert all(x.value == texts[x.row_id].upper() for x in answers if not x.error)
    # Other 4xx are not tried again, but for one that the dying server had received.
    refused = [asked[t] for t in bad.values() if "‹400" in t]
    assert sum(refused) <= len(refused) + 2
    with llm.Ledger(path) as ledger:
        keys = [r.key for r in ledger.records()]
    assert len(keys) == len(set(keys)) == sum(x.reply is not None for x in answers)
    return {"rows": n, "set_aside": len(errors), "sent": sent}


def test_every_row_in_one_state(tmp_path: Path) -> None:
    _fault_run(tmp_path / "l", 400, timeout_s=1.5)


@pytest.mark.slow
def test_every_row_in_one_state_10_000(tmp_path: Path) -> None:
    _fault_run(tmp_path / "l", 10_000, timeout_s=2.0)


def test_concurrency_doubles_halves_and_heeds_latency() -> None:
    c = limits.Concurrency(256)
    now = 0.0

    def window(seconds: float, rate: float) -> None:
        nonlocal now
        before, n = c.limit, int(c.limit)
        for _ in range(n + 1):
            now += 1 / rate
            c.good(seconds, now)
            if c.limit != before:
                return

    assert c.limit == 128
    window(1.0, 128)
    assert c.limit == 256
    for _ in range(256):
        c.refused(now)
    assert c.limit == 128
    for i in range(128):  # a few refused: a little less
        c.refused(now) if i < 8 else c.good(1.0, now)
    assert c.limit == pytest.approx(124)
    now += 1
    window(1.0, 128)
    assert 124 < c.limit < 130
    for _ in range(1000):
        c.refused(now)
    assert c.limit == 1
    late = limits.Concurrency(256)
    late._least, late._best, late.limit, late._since, now = 1.0, 100.0, 200.0, 0.0, 0.0
    c = late
    window(2.5, 100)  # twice as slow, and no faster for it
    assert c.limit == pytest.approx(180)
    assert limits.Concurrency(4).limit == 4


def test_a_server_that_refuses_is_asked_less(tmp_path: Path) -> None:
    with FaultServer(limit=20) as s:
        held = backend(s, concurrency=64, retries=20)
        answers = list(llm.run(job(), rows(60), held, tmp_path / "l"))
        assert not any(a.error for a in answers)
        assert s.statuses[429] > 0
        assert held.servers[0].concurrency.limit < 64


@pytest.mark.parametrize(
    ("text", "seconds"), [("20ms", 0.02), ("1m30.5s", 90.5), ("6m0s", 360), ("1h", 3600), ("12", 12), ("soon", None)]
)
def test_durations(text: str, seconds: float | None) -> None:
    assert limits.duration(text) == seconds


def test_limits_are_learned_from_headers_and_the_recipe() -> None:
    b = limits.Rates(None, None)
    assert b.wait(1e9, 0.0) == 0
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "60s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5000",
        "x-ratelimit-reset-tokens": "10s",
    }
    b.learn(headers, 0, 100.0)
    assert b.wait(1, 100.0) == pytest.approx(1.0)  # one request a second
    assert b.tokens.wait(5500, 100.0) == pytest.approx(5.0)
    assert b.wait(1, 101.0) == 0
    given = limits.Rates(600, None)
    now = given.requests._at
    given.take(10)
    for _ in range(60):
        given.take(10)
    assert given.wait(10, now) == pytest.approx(0.1 * (61 - 60 + 1), abs=0.05)


def test_requests_keep_to_the_rate_of_the_recipe(tmp_path: Path) -> None:
    with FaultServer() as s:
        start = time.monotonic()
        list(llm.run(job(), rows(70), backend(s, requests_per_minute=600), tmp_path / "l"))
        assert time.monotonic() - start >= 0.8  # sixty at once, then ten a second
        assert s.requests == 70


def test_work_is_shared_by_weight(tmp_path: Path) -> None:
    with FaultServer(latency=0.02) as a, FaultServer(latency=0.02) as b:
        given = [
            Endpoint(base_url=a.base_url, model="m", weight=3, concurrency=12),
            Endpoint(base_url=b.base_url, model="m", weight=1, concurrency=12),
        ]
        held = llm.EndpointBackend(given)
        assert held.concurrency == 24
        list(llm.run(job(), rows(240), held, tmp_path / "l", concurrency=8))
        assert a.requests + b.requests == 240
        assert 1.5 < a.requests / b.requests < 6


def test_when_all_are_gone_the_run_stops(tmp_path: Path) -> None:
    with FaultServer() as a, FaultServer() as b:
        held = backend(a, b)
        list(llm.run(job(), rows(20), held, tmp_path / "l"))
    with pytest.raises(FitraError, match="endpoint down"):
        list(llm.run(job(), rows(100), held, tmp_path / "l"))
    assert llm.stats(tmp_path / "l")["answers"] == 20


def test_one_without_credit_leaves_the_work_to_the_others(tmp_path: Path) -> None:
    with FaultServer() as a, FaultServer() as b:
        b.quota = True
        answers = list(llm.run(job(), rows(60), backend(a, b), tmp_path / "l"))
        assert not any(x.error for x in answers) and a.requests == 60
        with pytest.raises(FitraError, match="insufficient_quota"):
            list(llm.run(job(), rows(60), backend(b), tmp_path / "l2"))


def test_endpoints_of_one_job_serve_one_model() -> None:
    one = Endpoint(base_url="http://h/v1", model="m")
    with pytest.raises(FitraError, match="different model"):
        llm.EndpointBackend([one, one.model_copy(update={"model": "other"})])
    with pytest.raises(FitraError, match="none given"):
        llm.EndpointBackend([])


def test_two_runs_at_once_ask_each_question_once(tmp_path: Path) -> None:
    with FaultServer(latency=0.01) as s:
        results: list[list[llm.Answer]] = []

        def work() -> None:
            results.append(list(llm.run(job(), rows(300), backend(s), tmp_path / "l", progress=False)))

        threads = [threading.Thread(target=work) for _ in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert s.requests == 300
    assert [[a.value for a in r] for r in results] == [[f"ROW {i}" for i in range(300)]] * 2


def test_lost_tries_are_reported_as_possibly_paid(tmp_path: Path) -> None:
    given = [{"id": "a", "text": "x ‹reset›"}, {"id": "b", "text": "y ‹429›"}]
    with FaultServer() as s:
        answers = list(llm.run(job(), given, backend(s), tmp_path / "l"))
    assert [a.reply.maybe_paid for a in answers if a.reply] == [1, 0]
    with llm.Ledger(tmp_path / "l") as ledger:
        assert Counter(r.maybe_paid for r in ledger.records()) == {1: 1, 0: 1}


def test_prefix_is_equal_bytes(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    class Spy(endpoints.Server):
        async def _send(self, body: bytes) -> Any:
            bodies.append(body)
            return 200, {}, completion("ok")

    with FaultServer() as s:
        held = backend(s)
        held.servers = [Spy(held.endpoint)]
        list(llm.run(job(), rows(3), held, tmp_path / "l"))
    start = b'{"model":"fake","messages":[{"role":"system","content":"' + POLICY.encode()
    assert len(bodies) == 3 and all(b.startswith(start) for b in bodies)


def test_a_waiting_request_is_not_forgotten() -> None:
    """Cancelled in the moment it is let in: the place goes to the next."""

    async def main() -> None:
        with FaultServer(latency=0.05) as s:
            held = backend(s, concurrency=1)
            ask = [
                asyncio.create_task(held.complete([{"role": "user", "content": str(i)}], {}, None)) for i in range(4)
            ]
            await asyncio.sleep(0.01)
            ask[1].cancel()
            done = await asyncio.wait_for(asyncio.gather(*ask, return_exceptions=True), 5)
            assert [isinstance(d, llm.Reply) for d in done] == [True, False, True, True]
            await held.aclose()

    asyncio.run(main())
