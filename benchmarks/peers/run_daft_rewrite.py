"""The job of `rewrite.py` through Daft's `prompt()`; see `rewrite_rows`. Nothing is kept between runs.

`on_error="ignore"`: a row that fails becomes null; with the default one of them ends the query. The rows are given to
it in slices: before its first request Daft 0.7.26 takes a time that grows with the square of the rows (1,000 rows of
1 kB: 5 s; 2,500: more than 55 s; 5,000: none within 6 minutes), from memory, by `into_batches` and from parquet alike.
From the second query of a process on some requests are lost and sent again, so smaller slices are slower.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ["DO_NOT_TRACK"] = "1"

import daft
from daft.ai.openai.provider import OpenAIProvider
from daft.functions.ai import prompt
from rewrite_rows import Answers, Row, main

SLICE = 1000


def job(url: str, rows: list[Row], folder: Path, concurrency: int) -> Answers:
    """Run the queries, one after the other."""
    for start in range(0, len(rows), SLICE):
        part = rows[start : start + SLICE]
        frame = daft.from_pydict({"id": [r["id"] for r in part], "user": [r["user"] for r in part]})
        asked = prompt(
            daft.col("user"),
            system_message=rows[0]["system"],
            provider=OpenAIProvider(base_url=url, api_key="none", timeout=30),
            model="m",
            use_chat_completions=True,
            concurrency=concurrency,
            on_error="ignore",
            max_tokens=2048,
            temperature=0.0,
        )
        made = frame.with_column("text", asked).select("id", "text").to_pydict()
        for name, text in zip(made["id"], made["text"], strict=True):
            yield name, text, "" if text is not None else "null"


if __name__ == "__main__":
    main(job)
