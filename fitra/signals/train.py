"""Trains the signals that ship: `python -m fitra.signals.train toxicity --data DIR --out FILE [--all-sources]`.

`--data` is a folder with toxicity/, raw/, parallel/ and dialect/ (docs/toxicity.md lists the files). Without
`--all-sources` only sets whose licence allows it are used (class A), which gives the file that ships. The same data and
seed give the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fitra.errors import FitraError
from fitra.signals.toxicity import training


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m fitra.signals.train", description="Train a signal that ships.")
    parser.add_argument("signal", choices=["toxicity"])
    parser.add_argument("--data", type=Path, required=True, help="folder with toxicity/, raw/, parallel/, dialect/")
    parser.add_argument("--out", type=Path, required=True, help="the npz to write")
    parser.add_argument("--all-sources", action="store_true", help="also sets without a licence to ship (class D)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    names = tuple(training.SETS) if given.all_sources else training.SHIPPED
    try:
        made = training.make(given.data, names, given.seed)
        made.save(given.out)
    except (FitraError, OSError) as e:
        print(f"fitra: {e}", file=sys.stderr)
        return 1
    print(f"{given.out}: {given.out.stat().st_size / 1e6:.1f} MB, trained on {', '.join(names)}; {made.meta}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
