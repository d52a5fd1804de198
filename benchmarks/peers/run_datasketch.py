r"""datasketch: shingles of `\w+` words in two processes, one in-memory LSH; run_datasketch.py FOLDER CORES."""

from __future__ import annotations

import json
import re
import sys
import time
from multiprocessing import Pool
from pathlib import Path

from datasketch import MinHash, MinHashLSH

WORD = re.compile(r"\w+")


def shingles(text: str) -> list[bytes]:
    """Runs of five words."""
    words = WORD.findall(text.lower())
    return [" ".join(words[i : i + 5]).encode() for i in range(max(1, len(words) - 4))]


def hashed(path: Path) -> tuple[list[str], list[MinHash]]:
    """Ids and signatures of a shard."""
    with path.open(encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    return [r["id"] for r in rows], list(MinHash.generator((shingles(r["text"]) for r in rows), num_perm=112))


def main(folder: Path, cores: int) -> None:
    """Signatures, then each document asked for its partners before it goes in."""
    start = time.perf_counter()
    index, pairs = MinHashLSH(params=(14, 8), num_perm=112), []
    with Pool(cores) as pool:
        for ids, signatures in pool.imap(hashed, sorted(folder.glob("*.jsonl"))):
            for name, signature in zip(ids, signatures, strict=True):
                pairs += [(name, other) for other in index.query(signature)]
                index.insert(name, signature)
    print(json.dumps({"seconds": time.perf_counter() - start, "pairs": pairs}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
