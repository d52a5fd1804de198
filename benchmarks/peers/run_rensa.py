r"""rensa: exact digests of shingles of `\w+` words, one process; run_rensa.py FOLDER."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from rensa import RMinHash, RMinHashLSH

WORD = re.compile(r"\w+")


def shingles(text: str) -> list[str]:
    """Runs of five words."""
    words = WORD.findall(text.lower())
    return [" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))]


def main(folder: Path) -> None:
    """Shingles, digests, flags: it says that a document has partners, not which."""
    start = time.perf_counter()
    ids, sets = [], []
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf-8") as f:
            for line in f:
                row = json.loads(line)
                ids.append(row["id"])
                sets.append(shingles(row["text"]))
    matrix = RMinHash.digest_matrix_from_token_sets(sets, num_perm=112, seed=1)
    index = RMinHashLSH(threshold=0.72, num_perm=112, num_bands=14)
    flags = index.query_duplicate_flags_matrix_one_shot(matrix)
    flagged = [name for name, flag in zip(ids, flags, strict=True) if flag]
    print(json.dumps({"seconds": time.perf_counter() - start, "flagged": flagged}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
