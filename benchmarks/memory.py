"""Memory and time of `fitra corpus clean` as the input grows.

    python benchmarks/memory.py --gb 1 2 5 10 [--data DIR] [--work DIR] [--set KEY=VALUE]

Writes that much jsonl (generated documents, one in ten a near copy of another; with --data one in ten made of
paragraphs of real text), in files of 256 MB, and cleans it in a process of its own. Memory is resident, summed over the
process and its children every tenth of a second, so pages that children share count for each. Needs about three times
the size on disk.
Last line: seconds per GB at the largest size by those at the smallest; 1 is linear.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent))
import generate
from measured import arguments, folder, run

FILE_MB = 256


def paragraphs(data: Path | None) -> list[str]:
    """Paragraphs of real Arabic text of forty characters and more."""
    found: list[str] = []
    for path in sorted((data / "raw").glob("ar*.parquet")) if data else []:
        if path.stem != "ar_social":
            for text in pq.read_table(path, columns=["text"])["text"].to_pylist():
                found += [p for p in re.split(r"\n+", text or "") if 40 <= len(p) <= 2000]
    return found


def grow(target: Path, gigabytes: float, real: list[str]) -> float:
    """Fill `target` up to that size with files that are always the same; GB there."""
    target.mkdir(parents=True, exist_ok=True)
    n = 0
    while True:
        size = sum(f.stat().st_size for f in target.glob("*.jsonl")) / 1e9
        if size >= gigabytes * 0.995:
            return size
        path = target / f"{n:05d}.jsonl"
        if not path.exists():
            part = path.with_suffix(".part")
            with part.open("wb") as f:
                maker = generate.Maker(n)
                for block in generate.lines(maker, min(FILE_MB, (gigabytes - size) * 1e3), f"f{n:05d}-", real):
                    f.write(block)
            part.rename(path)
        n += 1


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("FITRA_DATA"))
    parser.add_argument("--gb", type=float, nargs="+", default=[1.0, 2.0, 5.0, 10.0])
    parser.add_argument("--set", action="append", default=[], help="a key of the room's config, as for the command")
    args = parser.parse_args()
    work = folder(args.work)
    real = paragraphs(Path(args.data) if args.data else None)
    print("GB | seconds | MB/s | processor s/GB | peak RSS GB | documents GB", flush=True)
    rates = []
    for gigabytes in sorted(args.gb):
        size = grow(work / "input", gigabytes, real)
        out = work / "out"
        shutil.rmtree(out, ignore_errors=True)
        command = [sys.executable, "-m", "fitra", "corpus", "clean", str(work / "input" / "*.jsonl"), "--out", str(out)]
        command += [
            "--set",
            "filters.preset=none",
        ]  # made-up words are no language: filters would leave nothing to hold
        m = run(command + [part for given in args.set for part in ("--set", given)])
        kept = sum(f.stat().st_size for f in (out / "documents").glob("*")) / 1e9
        rates.append(m.wall / size)
        print(
            f"{size:.2f} | {m.wall:.0f} | {1e3 / rates[-1]:.1f} | {m.cpu / size:.0f} | {m.peak / 1e9:.2f} | {kept:.2f}",
            flush=True,
        )
    print(f"memory: {rates[-1] / rates[0]:.2f}")
    shutil.rmtree(work / "out", ignore_errors=True)
    if not args.work:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
