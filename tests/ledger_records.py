"""Answers for the tests of the ledger, known by a number."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from fitra.llm.ledger import Ledger
from fitra.llm.record import Record


def key(n: int) -> str:
    return sha256(str(n).encode()).hexdigest()


def record(n: int, text: str = "", **kw: object) -> Record:
    return Record(key=key(n), text=text or f"answer {n} جواب", identity="m", job="j", at=float(n), **kw)  # type: ignore[arg-type]


def fill(path: Path, numbers: Iterator[int] | range, every: int = 10) -> None:
    with Ledger(path) as book:
        for n in numbers:
            book.put(record(n))
            if n % every == every - 1:
                book.flush()
