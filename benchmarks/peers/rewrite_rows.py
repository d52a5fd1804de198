"""What the scripts of the peers share: rows in, answers out. Standard library alone: each runs in its own environment.

    python run_PEER_rewrite.py URL ROWS FOLDER CONCURRENCY

ROWS holds a JSON object a line: id, system, user. FOLDER is where a peer keeps what it resumes from; the answers go to
FOLDER/answers.jsonl (id, text, error). Seconds are of the job, without start and imports.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

Row = dict[str, str]
Answers = Iterable[tuple[str, "str | None", str]]


def main(job: Callable[[str, list[Row], Path, int], Answers]) -> None:
    """Run `job(url, rows, folder, concurrency)`, which gives (id, text or None, error); write and time it."""
    url, source, folder, concurrency = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    answers = list(job(url, rows, folder, concurrency))
    seconds = time.perf_counter() - started
    with (folder / "answers.jsonl").open("w", encoding="utf-8") as f:
        for name, text, error in answers:
            f.write(json.dumps({"id": name, "text": text, "error": error}, ensure_ascii=False) + "\n")
    print(json.dumps({"seconds": seconds}), flush=True)
