"""The job of `rewrite.py` through Bespoke Curator (backend `openai`), cached; see `rewrite_rows`.

The policy is the system prompt of the LLM object, which is where its documentation puts it.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

os.environ.update(TELEMETRY_ENABLED="false", CURATOR_VIEWER="0", OPENAI_API_KEY="none")
# It counts tokens with tiktoken, which would fetch its table; litellm, which it depends on, brings the same file.
_LITELLM = importlib.util.find_spec("litellm")
assert _LITELLM and _LITELLM.origin
os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(_LITELLM.origin).parent / "litellm_core_utils" / "tokenizers")

from bespokelabs import curator  # noqa: E402
from rewrite_rows import Answers, Row, main  # noqa: E402


class Rewriter(curator.LLM):
    """One request per row."""

    def prompt(self, input: Row) -> str:
        """What is asked."""
        return input["user"]

    def parse(self, input: Row, response: str) -> list[Row]:
        """What is kept."""
        return [{"id": input["id"], "text": response}]


def job(url: str, rows: list[Row], folder: Path, concurrency: int) -> Answers:
    """Run, or resume from the cache in the folder."""
    rewriter = Rewriter(
        model_name="m",
        backend="openai",
        system_prompt=rows[0]["system"],
        generation_params={"max_tokens": 2048, "temperature": 0.0},
        backend_params={
            "base_url": url,
            "api_key": "none",
            "max_concurrent_requests": concurrency,
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10_000_000_000,
            "request_timeout": 30,
            "require_all_responses": False,
        },
    )
    given = [{"id": r["id"], "user": r["user"]} for r in rows]
    made = rewriter(given, working_dir=str(folder / "cache"))
    for row in made.dataset:
        yield row["id"], row["text"], ""


if __name__ == "__main__":
    main(job)
