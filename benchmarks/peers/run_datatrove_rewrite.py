"""The job of `rewrite.py` through datatrove's InferenceRunner; prints seconds and seconds of CPU.

    python run_datatrove_rewrite.py http://127.0.0.1:PORT REQUESTS CONCURRENCY FOLDER

Needs `datatrove` (peers/datatrove.txt) and `aiosqlite` for its checkpoints. Run by hand against the server that
`python tests/fault_server.py --latency 1 --slots 256` starts, whose address it takes without /v1.
"""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.writers import JsonlWriter

POLICY = "أعد صياغة النص بلا إساءة، واحفظ ما فيه من معرفة وأسماء وأرقام. " * 40
BODY = "قال المتحدث إن الاجتماع عقد يوم الأحد في القاهرة بحضور ممثلين عن عشر دول. " * 8


async def rollout(document: Document, generate: Any) -> Any:
    """One request per document."""
    messages = [{"role": "system", "content": POLICY}, {"role": "user", "content": document.text}]
    return await generate({"messages": messages, "max_tokens": 2048, "temperature": 0.0})


def main() -> None:
    """Command line."""
    url, n, concurrency, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    runner = InferenceRunner(
        rollout,
        InferenceConfig(
            server_type="endpoint",
            model_name_or_path="m",
            endpoint_url=url,
            max_concurrent_generations=concurrency,
        ),
        JsonlWriter(f"{folder}/out", output_filename="${rank}_chunk_${chunk_index}.jsonl", compression=None),
        checkpoints_local_dir=f"{folder}/checkpoints",
        skip_bad_requests=True,
    )
    documents = (Document(text=f"{i} {BODY}", id=f"{i:07d}") for i in range(n))
    start = time.perf_counter()
    runner.run(documents, 0, 1)
    r = resource.getrusage(resource.RUSAGE_SELF)
    seconds = time.perf_counter() - start
    print(
        f"{n:,} requests: {seconds:.1f} s, {n / seconds:.0f}/s, CPU {1000 * (r.ru_utime + r.ru_stime) / n:.2f} ms each"
    )


if __name__ == "__main__":
    main()
