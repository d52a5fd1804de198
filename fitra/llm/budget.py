"""A budget in money, tokens or hours: nothing is sent that may go beyond it, and what is on its way is waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from fitra.errors import FitraError
from fitra.llm.ledger import Ledger
from fitra.llm.prices import cost
from fitra.recipe.align import Price

__all__ = ["Budget", "BudgetSpent"]

KNOWN = 32  # replies after which the dearest so far, and a quarter, is what the next one is expected to take at most


class BudgetSpent(FitraError):
    """The budget does not allow another request. All that was asked has been answered and is in the ledger."""


class Budget:
    """What a job may spend, over all its runs: what the ledger holds of the job counts as spent already.

    `money` in the currency of `price`, which it needs; `tokens` of prompts and completions together; `hours` of this
    run, from its first request. Workers that run at the same time do not see each other's spending before they start
    again: give each its share. Where a server reports no usage, texts are counted by their size.

    `batch`: all goes through the batch API, at its price. One budget may be handed to several runs in a row (the rounds
    of a rewriting job).
    """

    def __init__(
        self,
        *,
        money: float | None = None,
        tokens: int | None = None,
        hours: float | None = None,
        price: Price | None = None,
        batch: bool = False,
    ) -> None:
        if money is not None and price is None:
            raise FitraError(
                "budget: money without a price.", "Give endpoint.price: input and output per million tokens."
            )
        for name, value in (("money", money), ("tokens", tokens), ("hours", hours)):
            if value is not None and value < 0:
                raise FitraError(f"budget: {name} is {value}.", "Give zero or more.")
        self.limits = {"money": money, "tokens": tokens, "hours": hours}
        self.price, self.batch = price or Price(), batch
        self.money = 0.0
        self.tokens = 0
        self.requests = 0
        self._worst = (0.0, 0)  # money and tokens of the dearest reply so far
        self._started = 0.0
        self._reserved: dict[str, tuple[float, int]] = {}
        self._opened: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def open(self, ledger: Ledger, job: str) -> None:
        """Begin; counts what `ledger` holds of the job already, once."""
        with self._lock:
            self._started = self._started or time.monotonic()
            mark = (str(ledger.path.resolve()), job)
            if mark in self._opened or (self.limits["money"] is None and self.limits["tokens"] is None):
                return
            self._opened.add(mark)
            for record in ledger.records():
                if record.job == job:
                    self._count(record.usage, 0)

    def reserve(self, key: str, chars: int, most: int, n: int = 1) -> bool:
        """May this be sent: prompts of `chars`, answers of `most` tokens? False: wait for what is on its way.

        `n` is how many requests that is together.

        Raises BudgetSpent where waiting will not help.
        """
        with self._lock:
            hours = (time.monotonic() - self._started) / 3600
            if self.limits["hours"] is not None and hours >= self.limits["hours"]:
                raise self._spent("hours", hours)
            # At worst every two characters are a token (Arabic in a vocabulary made for English).
            tokens = chars // 2 + most
            usage = {"prompt_tokens": chars // 2, "completion_tokens": most}
            money = cost(usage, self.price, batch=self.batch)
            if self.requests >= KNOWN:
                money, tokens = min(money, n * 1.25 * self._worst[0]), min(tokens, int(n * 1.25 * self._worst[1]))
            for name, now, more, held in (
                ("money", self.money, money, sum(m for m, _ in self._reserved.values())),
                ("tokens", self.tokens, tokens, sum(t for _, t in self._reserved.values())),
            ):
                limit = self.limits[name]
                if limit is not None and now + held + more > limit:
                    if self._reserved:
                        return False
                    raise self._spent(name, now)
            self._reserved[key] = money, tokens
            return True

    def settle(self, key: str, usage: Mapping[str, int] | None = None, chars: int = 0) -> None:
        """The request came back: count its usage (None: it failed), or `chars` where the server says nothing."""
        with self._lock:
            self._reserved.pop(key, None)
            if usage is not None:
                self._count(usage, chars)

    def _count(self, usage: Mapping[str, int], chars: int) -> None:
        prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        if not prompt + completion:
            prompt = chars // 3
            usage = {"prompt_tokens": prompt}
        money = cost(usage, self.price, batch=self.batch)
        self.money += money
        self.tokens += prompt + completion
        self.requests += 1
        self._worst = max(self._worst[0], money), max(self._worst[1], prompt + completion)

    def _spent(self, name: str, now: float) -> BudgetSpent:
        limit = self.limits[name]
        used = f"{now:,.0f}" if name == "tokens" else f"{now:,.4g}"
        return BudgetSpent(
            f"budget: {used} of {limit:,g} {name} spent after {self.requests:,} answers, and the next may go beyond.",
            "What was answered is kept: raise the budget and run again to go on from there.",
        )

    def spent(self) -> dict[str, float]:
        """{"money", "tokens", "requests", "hours"} so far, earlier runs of the job included (hours: of this run)."""
        hours = (time.monotonic() - self._started) / 3600 if self._started else 0.0
        return {"money": self.money, "tokens": self.tokens, "requests": self.requests, "hours": hours}
