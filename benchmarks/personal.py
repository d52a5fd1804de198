"""Personal data: recall against counted plants, a sample to read for precision, and speed.

    python benchmarks/personal.py --data DIR [--sample personal-sample.tsv]

DIR/raw/*.parquet hold texts and `n_emails`, `n_phones`, `n_handles`: how many of each were replaced by look-alikes when
the data were made. Recall per kind and file: the sum over documents of min(found, counted), over the sum counted.
Findings beyond the counts are no errors by themselves (users in profile links were not counted; numbers without a
known form neither), so precision is read by eye: the sample has one finding a line, with its kind, file and context.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections import Counter
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from fitra.signals import personal

COUNTED = {"email": "n_emails", "phone": "n_phones", "handle": "n_handles"}
PER_CELL = 25  # findings per kind and file in the sample


def main(data: Path, sample: Path) -> None:
    """Print the tables and write the sample."""
    wanted: Counter[str] = Counter()
    met: Counter[str] = Counter()
    lines: list[str] = []
    print(f"{'file':28} {'kind':8} counted  met   recall  found  |  MB  MB per CPU second")
    for path in sorted((data / "raw").glob("*.parquet")):
        table = pq.read_table(path, columns=["text", *COUNTED.values()])
        texts = table["text"].combine_chunks()
        size = pc.sum(pc.binary_length(texts)).as_py() / 1e6
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            masked, counts = personal.mask_all(texts)
            best = min(best, time.process_time() - start)
        assert len(masked) == len(texts)
        speed = f"|  {size:.1f}  {size / best:.0f}"
        for kind, column in COUNTED.items():
            want = table[column].to_pylist()
            got = [c.get(kind, 0) for c in counts]
            hit = sum(map(min, want, got))
            wanted[kind] += sum(want)
            met[kind] += hit
            share = f"{hit / sum(want):.4f}" if sum(want) else "-"
            print(f"{path.stem:28} {kind:8} {sum(want):7} {hit:5} {share:>8} {sum(got):6}  {speed}")
            speed = ""
        lines += _sample(path.stem, [t for t, c in zip(texts.to_pylist(), counts, strict=True) if c])
    for path in sorted((data / "toxicity").glob("*.parquet")):
        lines += _sample(path.stem, pq.read_table(path, columns=["text"])["text"].to_pylist())
    sample.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"\n{len(lines)} findings to read in {sample}")
    for kind in COUNTED:
        print(f"{kind:8} {met[kind]} of {wanted[kind]}: {met[kind] / wanted[kind]:.4f}")
    print(f"personal: {sum(met.values()) / sum(wanted.values()):.4f}")


def _sample(name: str, texts: list[str]) -> list[str]:
    """At most PER_CELL findings of each kind."""
    found: dict[str, list[str]] = {}
    for text in texts:
        for s in personal.find(text):
            around = f"{text[max(0, s.start - 40) : s.start]}⟦{text[s.start : s.end]}⟧{text[s.end : s.end + 25]}"
            found.setdefault(s.kind, []).append(f"{s.kind}\t{name}\t{' '.join(around.split())}")
    rng = random.Random(1)
    return [line for kind in sorted(found) for line in rng.sample(found[kind], min(PER_CELL, len(found[kind])))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("FITRA_DATA"))
    parser.add_argument("--sample", type=Path, default=Path("personal-sample.tsv"))
    args = parser.parse_args()
    if not args.data:
        parser.error("give --data, or set FITRA_DATA")
    main(Path(args.data), args.sample)
