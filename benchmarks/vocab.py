"""Learning 12,800 merges on Arabic, beside the trainer of `tokenizers` from scratch, and how fast the result encodes.

    python benchmarks/vocab.py [--data DIR] [--add 12800] [--repeats 3]

Base: Mistral v1 (32,000 SentencePiece pieces, from the package mistral-common). Words: the Arabic runs of
$FITRA_DATA/raw news, wiki, social and satire, counted once, for both. First the checks: every new token is reachable,
English lines keep their ids. Then, alternating:

- fitra: `learn.continue_bpe` from counts to merges that are checked to be used and reachable;
- scratch: `tokenizers` learns as many merges on the same words from single letters (strings and all prepared before).

Wall and processor seconds (all threads) are the medians; memory is the process's peak. Encoding: MB of UTF-8 per second
of processor time, base and result alternating; the ratio is the median of pairs.
Last line: seconds of `scratch` over seconds of fitra, processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fitra.recipe import Vocab
from fitra.vocab import bpe, checks, learn, sentencepiece
from fitra.vocab.script import Script

FILES = ("ar_news", "ar_wiki", "ar_social", "ar_satire_noisy")


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """(result, wall seconds, processor seconds)."""
    wall, cpu = time.perf_counter(), time.process_time()
    got = work()
    return got, time.perf_counter() - wall, time.process_time() - cpu


def memory() -> float:
    """Peak resident memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FITRA_DATA", "")))
    parser.add_argument("--add", type=int, default=12_800)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    try:
        import mistral_common
    except ImportError:
        sys.exit("pip install mistral-common: the base is in that package")
    model = Path(mistral_common.__file__).parent / "data" / "tokenizer.model.v1"
    spec, script = sentencepiece.to_spec(sentencepiece.read(model)), Script.of(Vocab())
    texts = {f: pq.read_table(args.data / "raw" / f"{f}.parquet", columns=["text"])["text"].to_pylist() for f in FILES}
    english = pq.read_table(args.data / "raw" / "en_books.parquet", columns=["text"])["text"].to_pylist()[:200]
    megabytes = sum(len(t.encode()) for ts in texts.values() for t in ts) / 1e6
    runs: Counter[str] = Counter()
    _, wall, _ = timed(lambda: [runs.update(script.run.findall(t)) for ts in texts.values() for t in ts])
    words = bpe.words_of(runs, bpe.build(spec), "sentencepiece", script)
    print(f"{megabytes:.1f} MB, {len(words):,} kinds of words, counted in {wall:.1f} s; load {os.getloadavg()[0]:.1f}")

    letters = Counter[str]()
    for w, n in words.items():
        for c in set(w):
            letters[c] += n
    alphabet = sorted(letters)

    got = learn.continue_bpe(spec, words, args.add, 2, script)
    grown = bpe.lean(bpe.extend(spec, got.merges))  # as `vocab.methods` writes it
    checks.check_tokens(grown, got.tokens, script)
    old, new = bpe.build(spec), bpe.build(grown)
    counts = checks.check_texts(old, new, english)
    assert len(got.tokens) == args.add and counts["texts_same_ids"] == len(english)
    print(f"checked: {args.add} tokens reachable, {len(english)} English texts with the same ids")

    times: dict[str, list[tuple[float, float]]] = {"fitra": [], "scratch": []}
    for _ in range(args.repeats):
        _, wall, cpu = timed(lambda: learn.continue_bpe(spec, words, args.add, 2, script))
        times["fitra"].append((wall, cpu))
        scratch, wall, cpu = timed(lambda: learn.train(words, alphabet, args.add, 2))
        times["scratch"].append((wall, cpu))
        assert len(json.loads(scratch.to_str())["model"]["merges"]) == args.add
    print(f"{'':10}{'wall s':>8}{'cpu s':>8}")
    median = {k: tuple(statistics.median(v) for v in zip(*ts, strict=True)) for k, ts in times.items()}
    for k, (wall, cpu) in median.items():
        print(f"{k:10}{wall:8.2f}{cpu:8.2f}")
    print(f"peak memory {memory():.2f} GB")

    samples = {"English": english, "Arabic": texts["ar_news"][:1500]}
    for name, held in samples.items():
        size = sum(len(t.encode()) for t in held) / 1e6
        speed: dict[str, list[float]] = {"base": [], "result": []}
        for _ in range(2 * args.repeats + 1):
            for k, tok in (("base", old), ("result", new)):
                _, _, cpu = timed(lambda t=tok, h=held: t.encode_batch_fast(h, add_special_tokens=False))
                speed[k].append(size / cpu)
        base, result = (statistics.median(speed[k]) for k in ("base", "result"))
        ratio = statistics.median(b / a for a, b in zip(speed["base"], speed["result"], strict=True))
        print(f"{name}: base {base:.2f} MB/s, result {result:.2f} MB/s, ratio {ratio:.2f}")
    print(f"vocab: {median['scratch'][1] / median['fitra'][1]:.2f}")


if __name__ == "__main__":
    main()
