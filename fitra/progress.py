"""Progress bars on stderr: rate and time left on long work, silence when the output is not a terminal.

When stderr is not a terminal (a log file, CI) one plain line is printed about every ten seconds instead.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
PLAIN_EVERY_S = 10.0


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield `items`, showing how far, how fast and how long still. `FITRA_PROGRESS=0` switches it off."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if os.environ.get("FITRA_PROGRESS") == "0":
        yield from items
    elif sys.stderr.isatty():
        from rich import progress
        from rich.console import Console

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=Console(stderr=True)) as bar:
            yield from bar.track(items, total=total, description=description)
    else:
        yield from _plain(items, description, total)


def _plain(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    start = last = time.monotonic()
    for n, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= PLAIN_EVERY_S:
            last = now
            rate = n / (now - start)
            left = f", {(total - n) / rate:.0f} s left" if total else ""
            print(f"{description}: {n}{f'/{total}' if total else ''}, {rate:.1f}/s{left}", file=sys.stderr, flush=True)
