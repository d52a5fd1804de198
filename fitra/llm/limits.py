"""How much an endpoint is asked at once: concurrency that finds its own level, and limits per minute.

Concurrency follows TCP: it doubles from half the maximum until there is a sign of trouble, then grows in small
steps, and is cut by refusals (429, 503) in proportion to their share (as DCTCP does), by half where all were refused; a
timeout, which may have other causes, counts a fifth of one. Latency counts too: where replies take twice as long as at
best and more requests at once no longer give more replies a second, a tenth is taken back.
"""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Mapping

MAX_RETRY_AFTER_S = 600.0
FLOOR = 16  # latency alone never takes the concurrency below this
LATE = 2.0
SHRINK = 0.9
_DURATION = re.compile(r"([\d.]+)(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Concurrency:
    """The number of requests in flight that an endpoint bears, up to `most`; `limit` is where it stands."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(min(most, max(FLOOR, most // 2)))
        self._doubling = True
        self._least = math.inf  # seconds per reply at best
        self._best = 0.0  # replies a second at best
        self._n, self._seconds, self._since, self._refused = 0, 0.0, -1.0, 0.0

    def good(self, seconds: float, now: float) -> None:
        """A reply came after `seconds`. A window is as many replies as were allowed in flight."""
        if self._since < 0:
            self._since = now - seconds
        self._seconds += seconds
        self._came(now)

    def refused(self, now: float, share: float = 1.0) -> None:
        """The endpoint had too much; `share` of a refusal for what may have other causes."""
        if self._since < 0:
            self._since = now
        self._doubling = False
        self._refused += share
        self._came(now)

    def _came(self, now: float) -> None:
        self._n += 1
        if self._n < self.limit:
            return
        if self._refused:
            self.limit = max(1.0, self.limit * (1 - self._refused / self._n / 2))
        else:
            self._level(now)
        self._n, self._seconds, self._since, self._refused = 0, 0.0, now, 0.0

    def _level(self, now: float) -> None:
        mean, rate = self._seconds / self._n, self._n / max(now - self._since, 1e-6)
        late = mean > LATE * self._least and 0.95 * self._best < rate < 1.1 * self._best
        # Both bests fade, so that a change of the work (longer texts) is not taken for trouble for ever.
        self._least = min(1.02 * self._least, mean)
        self._best = max(0.98 * self._best, rate)
        if late:
            self._doubling = False
            self.limit = max(min(FLOOR, self.most), SHRINK * self.limit)
        elif self._doubling:
            self.limit = min(self.most, 2 * self.limit)
        else:
            self.limit = min(self.most, self.limit + max(1.0, self.most / 50))


class Bucket:
    """A token bucket: `level` left of `capacity`, filled at `per_s`. Unlimited until told otherwise."""

    def __init__(self, per_minute: float | None) -> None:
        self.capacity = per_minute or math.inf
        self.per_s = self.capacity / 60
        self._given = self.per_s
        # A fresh start may use a tenth at once: servers also look at spans shorter than a minute.
        self.level = max(1.0, self.capacity / 10)
        self._at = time.monotonic()

    def wait(self, n: float, now: float) -> float:
        """Seconds until `n` may be taken; 0 for now."""
        if self.capacity == math.inf:
            return 0.0
        self.level = min(self.capacity, self.level + (now - self._at) * self.per_s)
        self._at = now
        short = min(n, self.capacity) - self.level
        return 0.0 if short <= 1e-9 else short / self.per_s

    def take(self, n: float) -> None:
        """Take `n` (or give back, where negative)."""
        self.level -= n

    def learn(self, limit: float | None, remaining: float, reset_s: float | None, in_flight: int, now: float) -> None:
        """Heed what a reply says: `remaining` of `limit`, full again in `reset_s`."""
        if self.capacity == math.inf:
            self.capacity = limit or max(remaining, 1.0)
            self.per_s = self.capacity / 60
            self.level = remaining - in_flight  # what is on its way has not been counted there yet
            self._at = now
        self.wait(0, now)
        self.level = min(self.level, remaining)
        if limit and reset_s and remaining < limit:
            self.per_s = min(self._given, (limit - remaining) / reset_s)


class Rates:
    """Requests and tokens per minute of one endpoint, from the recipe and from x-ratelimit-* headers."""

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self.requests, self.tokens = Bucket(requests_per_minute), Bucket(tokens_per_minute)

    def wait(self, tokens: float, now: float) -> float:
        """Seconds until a request of about so many tokens may be sent."""
        return max(self.requests.wait(1, now), self.tokens.wait(tokens, now))

    def take(self, tokens: float) -> None:
        """One request of about so many tokens is sent."""
        self.requests.take(1)
        self.tokens.take(tokens)

    def learn(self, headers: Mapping[str, str], in_flight: int, now: float) -> None:
        """Heed the headers of a reply, where they speak of limits."""
        for name, bucket, flying in (("requests", self.requests, in_flight), ("tokens", self.tokens, 0)):
            remaining = headers.get(f"x-ratelimit-remaining-{name}")
            if remaining is not None:
                left = _number(remaining)
                if left is not None:
                    limit = _number(headers.get(f"x-ratelimit-limit-{name}", ""))
                    bucket.learn(limit, left, duration(headers.get(f"x-ratelimit-reset-{name}", "")), flying, now)


def duration(text: str) -> float | None:
    """Seconds of "20ms", "1m30.5s" or "12"; None for anything else."""
    number = _number(text)
    if number is not None:
        return number
    parts = _DURATION.findall(text)
    if not parts or "".join(a + b for a, b in parts) != text.strip():
        return None
    numbers = [(_number(a), _UNIT_S[b]) for a, b in parts]
    return None if any(n is None for n, _ in numbers) else sum((n or 0.0) * unit for n, unit in numbers)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by Retry-After (seconds or a date) or retry-after-ms; None where absent or senseless."""
    value = headers.get("retry-after")
    try:
        if ms := headers.get("retry-after-ms"):
            seconds = float(ms) / 1000
        elif value is None:
            return None
        elif value.strip().replace(".", "", 1).isdigit():
            seconds = float(value)
        else:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S) if math.isfinite(seconds) else None
