"""Arabic folding of whole arrays, beside ways of doing a part of it in plain Python.

    python benchmarks/fold.py [--data DIR] [--mb 8]

Texts: Arabic files of $FITRA_DATA/raw where there are any, else generated ones. First every text must fold to what the
slow reference gives, at each level. Then MB of UTF-8 per second on one core (the best of several runs, in processor
time, so that a busy machine does not count):

- fitra: `fold_array`, Arrow array to Arrow array, ~60 rules of Unicode and Arabic in one pass;
- reference: `fold`, one text at a time, the same result;
- ten lines: what people write themselves, `re.sub` and `str.replace` for tashkeel, tatweel, alef, ya, ta marbuta,
  digits and spaces, a part of the rules;
- translate: `str.translate` with a table of the same part, as pyarabic and camel-tools do it per call.

The last two get lists of Python strings and return such: reading from and writing to Arrow is not charged to them.
Last line: fitra at level search over the ten lines.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent))
import generate

from fitra import arabic

LEVELS: tuple[arabic.Level, ...] = ("display", "compare", "search")
_TASHKEEL = re.compile("[\u064b-\u0652\u0670\u0640]")
_ALEF = re.compile("[أإآٱ]")
_SPACES = re.compile(r"\s+")
_TABLE = {
    **dict.fromkeys(map(ord, "\u064b\u064c\u064d\u064e\u064f\u0650\u0651\u0652\u0670\u0640")),
    **dict.fromkeys(map(ord, "أإآٱ"), "ا"),
    ord("ى"): "ي",
    ord("ة"): "ه",
    ord("ؤ"): "و",
    ord("ئ"): "ي",
    **{ord("٠") + i: str(i) for i in range(10)},
}


def ten_lines(texts: list[str]) -> list[str]:
    """The usual normaliser."""
    out = []
    for t in texts:
        t = _TASHKEEL.sub("", t)
        t = _ALEF.sub("ا", t)
        t = t.replace("ى", "ي").replace("ة", "ه").replace("ؤ", "و").replace("ئ", "ي")
        for i, digit in enumerate("٠١٢٣٤٥٦٧٨٩"):
            t = t.replace(digit, str(i))
        out.append(_SPACES.sub(" ", t).strip())
    return out


def translate(texts: list[str]) -> list[str]:
    """The same by one table."""
    return [_SPACES.sub(" ", t.translate(_TABLE)).strip() for t in texts]


def sources(data: Path | None, megabytes: float) -> dict[str, pa.LargeStringArray]:
    """Texts by name, `megabytes` of each at most."""
    files = sorted((data / "raw").glob("ar*.parquet")) if data else []
    found = {f.stem: pq.read_table(f, columns=["text"])["text"].combine_chunks().drop_null() for f in files}
    found["generated"] = generate.Maker(0).texts(2000)
    out = {}
    for name, texts in found.items():
        texts = texts.cast(pa.large_string())
        ends = np.cumsum(pc.binary_length(texts).to_numpy(zero_copy_only=False))
        out[name] = texts.slice(0, max(1, int(np.searchsorted(ends, megabytes * 1e6))))
    return out


def seconds(work: Callable[[], object], times: int) -> float:
    """The fastest of some runs."""
    best = float("inf")
    for _ in range(times):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    """Check, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("FITRA_DATA"))
    parser.add_argument("--mb", type=float, default=8, help="of each file")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    pa.set_cpu_count(1)
    arrays = sources(Path(args.data) if args.data else None, args.mb)
    wrong = 0
    for level in LEVELS:
        for texts in arrays.values():
            want = [arabic.fold(t, level) for t in texts.to_pylist()]
            wrong += sum(a != b for a, b in zip(arabic.fold_array(texts, level).to_pylist(), want, strict=True))
    print(f"texts that differ from the reference: {wrong} of {len(LEVELS) * sum(map(len, arrays.values())):,}")
    if wrong:
        sys.exit(1)
    columns = [*(f"fitra {level}" for level in LEVELS), "reference", "ten lines", "translate"]
    print("\nMB/s on one core | MB | texts | " + " | ".join(columns))
    totals, size = dict.fromkeys(columns, 0.0), 0.0
    for name, texts in arrays.items():
        megabytes = pc.sum(pc.binary_length(texts)).as_py() / 1e6
        listed = texts.to_pylist()
        took = {f"fitra {v}": seconds(lambda v=v, t=texts: arabic.fold_array(t, v), 9) for v in LEVELS}  # type: ignore[misc]
        took["reference"] = seconds(lambda ts=listed: [arabic.fold(t) for t in ts], 1)  # type: ignore[misc]
        took["ten lines"] = seconds(lambda ts=listed: ten_lines(ts), 3)  # type: ignore[misc]
        took["translate"] = seconds(lambda ts=listed: translate(ts), 3)  # type: ignore[misc]
        print(
            f"{name} | {megabytes:.1f} | {len(texts):,} | " + " | ".join(f"{megabytes / took[c]:.0f}" for c in columns)
        )
        size += megabytes
        for c in columns:
            totals[c] += took[c]
    print(
        f"all | {size:.1f} | {sum(map(len, arrays.values())):,} | "
        + " | ".join(f"{size / totals[c]:.0f}" for c in columns)
    )
    print(f"fold: {totals['ten lines'] / totals['fitra search']:.1f}")


if __name__ == "__main__":
    main()
