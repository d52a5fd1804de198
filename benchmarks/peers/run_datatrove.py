"""datatrove: MinHash in its four jobs, and on request FineWeb-2's filters for Arabic in front of them.

    run_datatrove.py FOLDER OUT CORES TASKS {spacy|whitespace} {dedup|filter}

`spacy` is what datatrove does for arb_Arab; `whitespace` swaps in a splitter at white space.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashConfig, MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter
from datatrove.pipeline.dedup.minhash import HashConfig, MinhashDedupSignature
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.logging import logger
from datatrove.utils.word_tokenizers import WordTokenizer, load_word_tokenizer


class AtSpaces(WordTokenizer):
    """Words between white space."""

    def word_tokenize(self, text: str) -> list[str]:
        """Words."""
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        """Not used."""
        raise NotImplementedError

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Not used."""
        raise NotImplementedError


def rules(language: Any) -> list[Any]:
    """FineWeb-2's filters and clean-up for Arabic; GlotLID, which goes first there, cannot be had offline."""
    from datatrove.pipeline.formatters import PIIFormatter

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from fineweb2_rules import filters

    return [*filters("arb", language), PIIFormatter()]


def main(folder: str, out: Path, cores: int, tasks: int, splitter: str, job: str) -> None:
    """Run the jobs one after the other; ids of what went."""
    logger.remove()
    logging.disable(logging.WARNING)
    language: Any = "arb_Arab" if splitter == "spacy" else AtSpaces("ar")
    load_word_tokenizer(language).word_tokenize("تجربة أولى")
    hashing = HashConfig(hash_fc="xxhash", precision=64)
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8, hash_config=hashing)

    def log() -> str:
        return str(out / "logs" / str(time.monotonic_ns()))  # each job its own: one that is there counts as done

    def execute(steps: list[Any], n: int) -> None:
        LocalPipelineExecutor(steps, tasks=n, workers=cores, start_method="fork", logging_dir=log()).run()

    def reader() -> JsonlReader:
        return JsonlReader(folder, compression=None)

    start = time.perf_counter()
    source = reader
    if job == "filter":
        execute(
            [reader(), *rules(language), JsonlWriter(str(out / "passed"), "${rank}.jsonl", compression=None)], tasks
        )

        def source() -> JsonlReader:
            return JsonlReader(str(out / "passed"), compression=None)

    execute([source(), MinhashDedupSignature(str(out / "sigs"), config=config, language=language)], tasks)
    execute([MinhashDedupBuckets(str(out / "sigs"), str(out / "buckets"), config=config)], 14)
    execute([MinhashDedupCluster(str(out / "buckets"), str(out / "remove"), config=config)], 1)
    last = [source(), MinhashDedupFilter(str(out / "remove"), JsonlWriter(str(out / "gone"), compression=None))]
    execute([*last, JsonlWriter(str(out / "kept"), compression=None)], tasks)
    seconds = time.perf_counter() - start
    gone = [json.loads(line)["id"] for p in sorted((out / "gone").glob("*")) for line in p.open(encoding="utf-8")]
    kept = sum(1 for p in sorted((out / "kept").glob("*")) for _ in p.open(encoding="utf-8"))
    print(json.dumps({"seconds": seconds, "flagged": gone, "kept": kept}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5], sys.argv[6])
