"""The job of `rewrite.py` through datatrove's InferenceRunner, with checkpoints; see `rewrite_rows`.

A row that fails becomes an answer with an error: without that, one of them ends the whole task. To an address on this
machine datatrove speaks for itself and tries nothing again but lost connections; elsewhere it goes through `openai`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.inference.types import InferenceError, ServerError
from datatrove.pipeline.writers import JsonlWriter
from rewrite_rows import Answers, Row, main


async def rollout(document: Document, generate: Any) -> Any:
    """One request per document."""
    messages = [
        {"role": "system", "content": document.metadata["system"]},
        {"role": "user", "content": document.text},
    ]
    try:
        made = await generate({"messages": messages, "max_tokens": 2048, "temperature": 0.0})
    except (InferenceError, ServerError) as e:
        return {"error": str(e)[:200]}
    return {"text": made.text}


def job(url: str, rows: list[Row], folder: Path, concurrency: int) -> Answers:
    """Run, or resume from the checkpoints in the folder."""
    runner = InferenceRunner(
        rollout,
        InferenceConfig(
            server_type="endpoint",
            model_name_or_path="m",
            endpoint_url=url.removesuffix("/v1"),
            max_concurrent_generations=concurrency,
            request_timeout=30,
        ),
        JsonlWriter(f"{folder}/out", output_filename="${rank}_chunk_${chunk_index}.jsonl", compression=None),
        checkpoints_local_dir=f"{folder}/checkpoints",
        skip_bad_requests=True,
    )
    runner.run((Document(text=r["user"], id=r["id"], metadata={"system": r["system"]}) for r in rows), 0, 1)
    for path in sorted((folder / "out").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            document = json.loads(line)
            (made,) = document["metadata"]["rollout_results"]
            yield document["id"], made.get("text"), made.get("error", "")


if __name__ == "__main__":
    main(job)
