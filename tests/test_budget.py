"""Costs and budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from client_job import backend, job, rows
from fault_server import FaultServer

from fitra import llm
from fitra.errors import FitraError
from fitra.llm import client, endpoints
from fitra.llm.prices import cost
from fitra.recipe.align import Price


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BACKOFF_S", (0.02, 0.1))
    monkeypatch.setattr(endpoints, "REST_S", (0.1, 0.4))
    monkeypatch.setenv("FITRA_PROGRESS", "0")


def test_costs() -> None:
    usage = {"prompt_tokens": 1000, "cached_tokens": 400, "completion_tokens": 500}
    assert cost(usage, Price(input=2, output=10)) == pytest.approx(0.007)
    assert cost(usage, Price(input=2, output=10, cached=1)) == pytest.approx(0.0066)
    assert cost(usage, Price(input=2, output=10, cached=1), batch=True) == pytest.approx(0.0033)
    assert cost({}, Price(input=2)) == 0


def test_details_of_the_usage_are_kept(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4, "audio": None}, "x": True, "y": 1.5}
    assert endpoints.usage_of(usage) == {"prompt_tokens": 9, "cached_tokens": 4}
    assert endpoints.usage_of(None) == endpoints.usage_of([1]) == {}


@pytest.mark.parametrize("limit", [{"tokens": 3000}, {"money": 0.0003}])
def test_a_budget_stops_cleanly_and_the_run_goes_on_with_more(tmp_path: Path, limit: dict[str, Any]) -> None:
    price = Price(input=0.1, output=0.1)
    with FaultServer(lambda r: "x" * 40, latency=0.005) as s:
        held = backend(s, max_tokens=100)
        budget = llm.Budget(**limit, price=price)
        got: list[llm.Answer] = []
        with pytest.raises(llm.BudgetSpent, match=r"budget: .* spent after") as e:
            for a in llm.run(job(), rows(500), held, tmp_path / "l", budget=budget):
                got.append(a)
        assert isinstance(e.value, FitraError) and got
        spent = budget.spent()
        assert 0.5 * 3000 < spent["tokens"] <= 3000
        # Nothing that was sent is lost: every request of the server is an answer in the ledger.
        assert llm.stats(tmp_path / "l")["answers"] == s.requests == spent["requests"]
        first = s.requests
        again = llm.Budget(**limit, price=price)  # the same sum: the job has spent it
        with pytest.raises(llm.BudgetSpent):
            list(llm.run(job(), rows(500), held, tmp_path / "l", budget=again))
        assert s.requests <= first + 5
        more = llm.Budget(**{k: 100 * v for k, v in limit.items()}, price=price)
        answers = list(llm.run(job(), rows(500), held, tmp_path / "l", budget=more))
        assert len(answers) == 500 and s.requests == 500


def test_a_budget_in_hours(tmp_path: Path) -> None:
    with FaultServer(latency=0.02) as s:
        with pytest.raises(llm.BudgetSpent, match="hours"):
            list(llm.run(job(), rows(5000), backend(s), tmp_path / "l", budget=llm.Budget(hours=0.6 / 3600)))
        assert 0 < s.requests < 5000
        assert llm.stats(tmp_path / "l")["answers"] == s.requests


def test_a_budget_of_money_needs_a_price() -> None:
    with pytest.raises(FitraError, match="price"):
        llm.Budget(money=3)
    with pytest.raises(FitraError, match="-1"):
        llm.Budget(tokens=-1)
