"""The job of `rewrite.py` through Daft's `prompt()`; see `rewrite_rows`. Nothing is kept between runs.

`on_error="ignore"`: a row that fails becomes null; with the default one of them ends the query.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ["DO_NOT_TRACK"] = "1"

import daft
from daft.ai.openai.provider import OpenAIProvider
from daft.functions.ai import prompt
from rewrite_rows import Answers, Row, main


def job(url: str, rows: list[Row], folder: Path, concurrency: int) -> Answers:
    """Run the query."""
    frame = daft.from_pydict({"id": [r["id"] for r in rows], "user": [r["user"] for r in rows]})
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
