"""What one does with a ledger besides running jobs: count, check, export, compact. All of it streams."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fitra.artifacts import atomic_path
from fitra.errors import FitraError
from fitra.llm import segment
from fitra.llm.ledger import Ledger, lock_segment, pack
from fitra.llm.segment import Damage


def _open(path: Path) -> Ledger:
    if not segment.paths(Path(path)):
        raise FitraError(f"{path}: no ledger here.", "A ledger is a folder with files segment-*.log.")
    return Ledger(path)


def stats(path: Path) -> dict[str, Any]:
    """Counts of a ledger: segments, bytes, answers, damage; and answers, tokens and seconds by model and job.

    Keys: segments, bytes, answers (distinct keys), stored (duplicates counted), damaged,
    by: {"model / job": {answers, prompt_tokens, completion_tokens, seconds, ...}}.
    """
    by: dict[str, Counter[str]] = {}
    answers = 0
    with _open(path) as ledger:
        for r in ledger.records():
            answers += 1
            count = by.setdefault(f"{r.identity} / {r.job}", Counter())
            count["answers"] += 1
            count["seconds"] += r.seconds  # type: ignore[assignment]
            count.update({k: v for k, v in r.usage.items() if isinstance(v, int)})
        files = segment.paths(ledger.path)
        return {
            "segments": len(files),
            "bytes": sum(p.stat().st_size for p in files),
            "answers": answers,
            "stored": len(ledger),
            "damaged": len(ledger.damage),
            "by": {k: {n: round(v, 3) for n, v in sorted(c.items())} for k, c in sorted(by.items())},
        }


def verify(path: Path) -> list[Damage]:
    """Read every byte and check it; the damaged stretches, by segment and offset. An empty list: all is well.

    A 'torn' stretch is what a killed writer left half-written (or what one is writing now) and is repaired by the next
    writer. 'rot' is damage to stored answers: they are skipped and will be asked for again.
    """
    with _open(path) as ledger:
        return ledger.damage


def export(path: Path, out: Path) -> int:
    """Write all answers, each key once and ordered by key, as JSON lines; returns their number."""
    n = 0
    with _open(path) as ledger, atomic_path(Path(out)) as tmp, tmp.open("w", encoding="utf-8", errors="replace") as f:
        for r in ledger.records():
            f.write(json.dumps(vars(r), ensure_ascii=False) + "\n")
            n += 1
    return n


def compact(path: Path) -> dict[str, int]:
    """Rewrite all segments as one, without duplicates and damage; FitraError while another process writes.

    Safe to kill: the new segment appears whole, then the old ones go; in between answers are merely stored twice.
    Returns {"before": bytes, "after": bytes, "answers": number}.
    """
    path = Path(path)
    _open(path).close()
    with ExitStack() as stack:
        old = segment.paths(path)
        for p in old:
            fd = lock_segment(p)
            if fd is None:
                raise FitraError(f"{p}: another process is writing here.", "Compact when no run uses this ledger.")
            stack.callback(os.close, fd)
        before = sum(p.stat().st_size for p in old)
        # The letter keeps the name apart from any that a new writer may choose meanwhile.
        new = path / f"segment-{int(old[-1].name[8:14]) + 1:06d}c.log"
        n = 0
        # Opened only now: a writer may have added answers before all was locked.
        with Ledger(path) as ledger, atomic_path(new) as tmp, tmp.open("wb") as f:
            for record in ledger.records():
                f.write(pack(record))
                n += 1
        for p in old:
            p.unlink()
        return {"before": before, "after": new.stat().st_size, "answers": n}
