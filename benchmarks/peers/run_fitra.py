"""`fitra.corpus.clean` on a folder: run_fitra.py FOLDER OUT CONFIG.json; prints its seconds, without imports."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

from fitra.corpus.clean import clean
from fitra.recipe import Corpus


def main(source: str, out: Path, config: dict[str, object]) -> None:
    """Clean, then say which documents went and for which other."""
    cfg = Corpus.model_validate({"inputs": [{"path": source, "id": "id"}], **config})
    start = time.perf_counter()
    manifest = clean(cfg, out)
    seconds = time.perf_counter() - start
    pairs, reasons = [], {}
    for path in sorted((out / "removed").glob("*.parquet")):
        for row in pq.read_table(path, columns=["id", "kept_id", "reason"]).to_pylist():
            reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
            if row["kept_id"]:
                pairs.append((row["id"], row["kept_id"]))
    print(json.dumps({"seconds": seconds, "pairs": pairs, "reasons": reasons, "counts": manifest["counts"]}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
