"""Whole cleaning of real Arabic: fitra with every label beside FineWeb-2's Arabic chain run by datatrove.

    python benchmarks/filter.py [--data DIR] [--limit-mb 12] [--peers fitra,datatrove]

fitra: folding, language, variety, register, quality, toxicity, personal data, filters, exact and near duplicates.
datatrove: FineWeb-2's filters with its thresholds for arb_Arab (fineweb2_rules.py), e-mail and IP masking, MinHash
14 x 8 on five words, in as many processes. FineWeb-2 labels languages with GlotLID first; its model is left out here,
which favours the peer. The peer filters before it looks for duplicates (FineWeb-2 does the reverse), which favours it
too: what is filtered needs no signature.

The text: a share of every Arabic file of $FITRA_DATA/raw by size, whole documents spread over the file. Seconds are
without start and imports, memory is summed over the processes. The peer runs at some 0.25 MB/s/core, hence the limit;
fitra is also timed on all of the text, where its start-up weighs less. Last line: datatrove's seconds by fitra's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measured import CORES, HERE, Measured, arguments, folder, own, peer, run

from fitra.recipe.corpus import LABELS

OURS: dict[str, Any] = {"personal_data": "mask"}


def write(raw: Path, target: Path, megabytes: float | None, shards: int = 8) -> tuple[float, int]:
    """Shards of jsonl with text of every Arabic file; (MB of text, documents)."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    rows = []
    for path in sorted(raw.glob("ar*.parquet")):
        table = pq.read_table(path, columns=["doc_id", "text"])
        named = enumerate(zip(*table.to_pydict().values(), strict=True))
        rows += [(f"{path.stem}-{i}-{n}", text) for n, (i, text) in named if text]
    sizes = [len(t.encode()) for _, t in rows]
    share = min(1.0, megabytes * 1e6 / sum(sizes)) if megabytes else 1.0
    taken, total, due = [], 0, 0.0
    for row, size in zip(rows, sizes, strict=True):
        due += size * share
        if due >= total + size / 2:
            taken.append(row)
            total += size
    for shard in range(shards):
        with (target / f"{shard:05d}.jsonl").open("w", encoding="utf-8") as f:
            for name, text in taken[shard::shards]:
                f.write(json.dumps({"id": name, "text": text}, ensure_ascii=False) + "\n")
    return total / 1e6, len(taken)


def engine(name: str, data: Path, out: Path, args: argparse.Namespace) -> Measured:
    """One engine over the shards of `data`."""
    shutil.rmtree(out, ignore_errors=True)
    scripts = HERE / "peers"
    if name == "fitra":
        config = json.dumps({**OURS, "labels": args.labels.split(",")})
        return run([own(args.peers_dir), str(scripts / "run_fitra.py"), str(data / "*.jsonl"), str(out), config])
    command = [peer("datatrove", args.peers_dir), str(scripts / "run_datatrove.py"), str(data), str(out), str(CORES)]
    return run([*command, "8", "spacy", "filter"])


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("FITRA_DATA"))
    parser.add_argument("--limit-mb", type=float, default=12)
    parser.add_argument("--labels", default=",".join(LABELS), help="of fitra; fewer are no fair measure")
    parser.add_argument("--peers", default="fitra,datatrove")
    parser.add_argument("--repeat", type=int, default=3, help="runs of fitra; the fastest counts")
    args = parser.parse_args()
    if not args.data:
        sys.exit("filter.py needs --data or FITRA_DATA: a folder with raw/ar*.parquet (doc_id, text).")
    work = folder(args.work)
    raw = Path(args.data) / "raw"
    megabytes, n = write(raw, work / "data", args.limit_mb)
    print(f"{n:,} documents, {megabytes:.1f} MB of text, {CORES} cores\n")
    print("engine | seconds | MB/s/core | processor seconds | peak RSS | documents kept")
    took, cpu = {}, {}
    for name in args.peers.split(","):
        times = args.repeat if name == "fitra" else 1
        runs = [engine(name, work / "data", work / name, args) for _ in range(times)]
        best = min(runs, key=lambda m: m.seconds)
        took[name], cpu[name] = best.seconds, best.cpu
        kept = best.said["counts"]["kept"] if name == "fitra" else best.said["kept"]
        rate = megabytes / best.seconds / CORES
        print(
            f"{name} | {best.seconds:.1f} | {rate:.2f} | {best.cpu:.1f} | {best.peak / 1e9:.2f} GB | {kept:,} of {n:,}"
        )
    if "fitra" in took:
        whole, n = write(raw, work / "all", None)
        m = engine("fitra", work / "all", work / "fitra", args)
        kept = m.said["counts"]["kept"]
        cells = [f"fitra, all {whole:.0f} MB", f"{m.seconds:.1f}", f"{whole / m.seconds / CORES:.2f}", f"{m.cpu:.1f}"]
        print(" | ".join([*cells, f"{m.peak / 1e9:.2f} GB", f"{kept:,} of {n:,}"]))
        reasons = sorted(m.said["reasons"].items(), key=lambda item: -item[1])
        print("removed of all: " + ", ".join(f"{reason} {count:,}" for reason, count in reasons))
    if len(took) == 2:
        print(f"ratio of processor seconds: {cpu['datatrove'] / cpu['fitra']:.1f}")
        print(f"filter: {took['datatrove'] / took['fitra']:.1f}")
    if not args.work:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
