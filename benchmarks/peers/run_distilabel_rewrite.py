"""The job of `rewrite.py` through distilabel: a pipeline of one ChatGeneration, cached; see `rewrite_rows`.

A batch is sent at once and waited for, so its size is the concurrency.
"""

from __future__ import annotations

from pathlib import Path

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import ChatGeneration
from rewrite_rows import Answers, Row, main


def job(url: str, rows: list[Row], folder: Path, concurrency: int) -> Answers:
    """Run, or resume from the cache in the folder."""
    data = [
        {
            "id": r["id"],
            "messages": [{"role": "system", "content": r["system"]}, {"role": "user", "content": r["user"]}],
        }
        for r in rows
    ]
    with Pipeline(name="rewrite", cache_dir=folder / "cache") as pipeline:
        load = LoadDataFromDicts(data=data, batch_size=concurrency)
        ask = ChatGeneration(
            llm=OpenAILLM(
                model="m",
                base_url=url,
                api_key="none",
                timeout=30,
                generation_kwargs={"max_new_tokens": 2048, "temperature": 0.0},
            ),
            input_batch_size=concurrency,
        )
        load >> ask
    distiset = pipeline.run(use_cache=True)
    for row in distiset["default"]["train"]:
        yield row["id"], row["generation"], "" if row["generation"] is not None else "no generation"


if __name__ == "__main__":
    main(job)
