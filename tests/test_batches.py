"""The batch API: submitted, polled, collected, killed at any moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from client_job import backend, job, rows
from fault_server import FaultServer

from fitra import llm
from fitra.errors import FitraError
from fitra.llm import client, endpoints
from fitra.recipe.align import Endpoint


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BACKOFF_S", (0.02, 0.1))
    monkeypatch.setattr(endpoints, "REST_S", (0.1, 0.4))
    monkeypatch.setenv("FITRA_PROGRESS", "0")


def batch(s: FaultServer, path: Path, n: int = 50, **kw: Any) -> list[llm.Answer]:
    endpoint = Endpoint(base_url=s.base_url, model="fake", max_tokens=50)
    given = rows(n)
    given[7]["text"] += " ‹400-always›"
    given[8]["text"] = given[9]["text"]
    return list(llm.run_batch(job(), given, endpoint, path, poll_s=0.01, most_requests=20, **kw))


def test_batches_are_submitted_polled_and_collected(tmp_path: Path) -> None:
    with FaultServer() as s:
        answers = batch(s, tmp_path / "l")
        assert [a.row_id for a in answers] == [f"r{i:05d}" for i in range(50)]
        assert len(s.batches) == 3 and s.requests == 49  # equal questions once
        assert [(a.row_id, str(a.error)[:9]) for a in answers if a.error] == [("r00007", "request: ")]
        assert "planted" in str(answers[7].error) and answers[8].value == answers[9].value == "ROW 9"
        again = batch(s, tmp_path / "l")
        assert s.requests == 50 and [a.value for a in again] == [a.value for a in answers]  # the refused one alone
        live = list(llm.run(job(), rows(3), backend(s, max_tokens=50), tmp_path / "l"))
        assert all(a.cached for a in live)


@pytest.mark.parametrize("moment", ["prepared", "created", "polling", "collecting"])
def test_batches_go_on_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    from fitra.llm import batch as module

    class Killed(BaseException):
        pass

    def die(*args: Any, **kw: Any) -> Any:
        raise Killed

    with FaultServer() as s:
        with monkeypatch.context() as m, pytest.raises(Killed):
            if moment == "prepared":
                m.setattr(module._Batches, "_send", die)
            elif moment == "created":
                save = module._Batches._save
                m.setattr(module._Batches, "_save", lambda b, st: die() if st["status"] == "submitted" else save(b, st))
            elif moment == "polling":
                m.setattr(module._Batches, "collect", die)
            else:
                m.setattr(module._Batches, "_lines", die)
            batch(s, tmp_path / "l")
        answers = batch(s, tmp_path / "l")
        assert sum(a.error is None for a in answers) == 49
        assert len(s.batches) == 3 and s.requests == 49  # nothing twice
        assert not list((tmp_path / "l" / "batches").glob("*.jsonl"))


def test_a_budget_holds_back_batches(tmp_path: Path) -> None:
    with FaultServer() as s:
        with pytest.raises(llm.BudgetSpent):
            batch(s, tmp_path / "l", budget=llm.Budget(tokens=9000, batch=True))
        assert len(s.batches) == 2 and llm.stats(tmp_path / "l")["answers"] == 39
        assert not any(a.error for a in batch(s, tmp_path / "l")[9:])


def test_a_server_without_batches_says_so(tmp_path: Path) -> None:
    with FaultServer() as s:
        endpoint = Endpoint(base_url=s.base_url.replace("/v1", "/other/v1"), model="fake")
        with pytest.raises(FitraError, match="batch API: HTTP 404"):
            list(llm.run_batch(job(), rows(2), endpoint, tmp_path / "l", poll_s=0.01))
