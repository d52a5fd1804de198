"""Near-duplicate removal of Arabic documents: fitra beside datatrove, datasketch and rensa.

    python benchmarks/dedup.py [--peers fitra,datasketch,rensa,whitespace,datatrove] [--docs 20000] [--seeds 5]

20,000 generated documents and 200 planted copies of each of eleven kinds (see generate.py), 8 shards; five-word
shingles, 14 bands of 8 rows, all cores. Peers run in environments of their own from the lock files in `peers/`, made on
the first run. Seconds are those of the work without start and imports; fitra's are a whole `corpus clean` with labels,
filters and masking off: reading, folding, exact and near duplicates, documents and removals written as parquet. Memory
is resident, summed over the processes every tenth of a second (pages that forked processes share count for each).

A copy counts as found when it or its original is flagged; false are pairs (or, of an engine that names no pairs,
documents) that were not planted. Processor seconds include start and imports; on a busy machine they say more than the
wall, and their ratio is printed too. Last line: datatrove's seconds by fitra's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import generate
from measured import CORES, HERE, Measured, arguments, folder, own, peer, run

OURS: dict[str, Any] = {
    "labels": [],
    "personal_data": "keep",
    "filters": {"preset": "none"},
    "dedupe": {"bands": 14, "rows": 8, "ngram": 5},
}
ENGINES = ("fitra", "datasketch", "rensa", "whitespace", "datatrove")


def engine(name: str, data: Path, out: Path, args: argparse.Namespace) -> Measured:
    """One engine over the shards of `data`."""
    shutil.rmtree(out, ignore_errors=True)
    scripts = HERE / "peers"
    if name == "fitra":
        command = [
            own(args.peers_dir),
            str(scripts / "run_fitra.py"),
            str(data / "*.jsonl"),
            str(out),
            json.dumps(OURS),
        ]
    elif name in ("datatrove", "whitespace"):
        splitter = "spacy" if name == "datatrove" else "whitespace"
        command = [
            peer("datatrove", args.peers_dir),
            str(scripts / "run_datatrove.py"),
            str(data),
            str(out),
            str(CORES),
        ]
        command += [str(len(list(data.glob("*.jsonl")))), splitter, "dedup"]
    else:
        command = [peer(name, args.peers_dir), str(scripts / f"run_{name}.py"), str(data), str(CORES)]
    return run(command)


def recall(said: dict[str, Any], truth: dict[str, str]) -> tuple[dict[str, int], int]:
    """Found per kind, and how many false."""
    pairs = {frozenset(p) for p in said.get("pairs", [])}
    flagged = set(said.get("flagged", [])) | {name for p in pairs for name in p}
    found = dict.fromkeys(dict.fromkeys(v.split("/")[0] for v in truth), 0)
    for copy, original in truth.items():
        found[copy.split("/")[0]] += copy in flagged or original in flagged
    planted = {frozenset(p) for p in truth.items()}
    known = set(truth) | set(truth.values())
    return found, len(pairs - planted) if "pairs" in said else len(flagged - known)


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--peers", default=",".join(ENGINES), help="which engines, by name")
    parser.add_argument("--docs", type=int, default=20_000)
    parser.add_argument("--planted", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5, help="of the 1% edits, fitra alone")
    parser.add_argument("--repeat", type=int, default=3, help="runs of fitra; the fastest counts")
    args = parser.parse_args()
    work = folder(args.work)
    truth = generate.corpus(work / "data", 0, args.docs, args.planted)
    megabytes = sum(f.stat().st_size for f in (work / "data").glob("*.jsonl")) / 1e6
    print(f"{args.docs + len(truth):,} documents, {megabytes:.0f} MB, {CORES} cores")
    table: dict[str, tuple[Measured, dict[str, int], int]] = {}
    for name in args.peers.split(","):
        times = args.repeat if name == "fitra" else 1
        runs = [engine(name, work / "data", work / name, args) for _ in range(times)]
        best = min(runs, key=lambda m: m.seconds)
        table[name] = best, *recall(best.said, truth)
        print(f"  {name}: {best.seconds:.1f} s", file=sys.stderr)
    print("\nengine | seconds | MB/s/core | processor seconds | peak RSS | false")
    for name, (m, _, false) in table.items():
        rate = megabytes / m.seconds / CORES
        print(f"{name} | {m.seconds:.2f} | {rate:.2f} | {m.cpu:.1f} | {m.peak / 1e9:.2f} GB | {false}")
    print(f"\nfound of {args.planted} | " + " | ".join(table))
    for kind in generate.VARIANTS:
        print(f"{kind} | " + " | ".join(str(found[kind]) for _, found, _ in table.values()))
    if "fitra" in table and args.seeds:
        shares = []
        for seed in range(1, args.seeds + 1):
            data = work / f"seed{seed}"
            truth = generate.corpus(data, seed, 2000, args.planted, shards=2, kinds=("1% edits",))
            found, false = recall(engine("fitra", data, work / "out", args).said, truth)
            shares.append(f"{found['1% edits'] / args.planted:.3f}" + (f" ({false} false)" if false else ""))
        print(f"\n1% edits, five other seeds, fitra: {' '.join(shares)}")
    if "fitra" in table:
        ours = table["fitra"][0]
        for name, (m, _, _) in table.items():
            if name != "fitra":
                print(f"ratio to {name}: {m.seconds / ours.seconds:.1f} (processor seconds: {m.cpu / ours.cpu:.1f})")
        if "datatrove" in table:
            print(f"dedup: {table['datatrove'][0].seconds / ours.seconds:.1f}")
    if not args.work:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
