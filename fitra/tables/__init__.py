"""Tables: reading rows from files, and the relational work that Daft does.

Reading is our own, streamed, one bad row harming no neighbour: a data-frame reader fails a whole file for one broken
line. What compares rows with rows is in `near`.
"""

from fitra.tables.near import Ints, components, exact_groups
from fitra.tables.reader import BATCH_BYTES, SUFFIXES, Batch, Row, read, resolve

__all__ = [
    "BATCH_BYTES",
    "SUFFIXES",
    "Batch",
    "Ints",
    "Row",
    "components",
    "exact_groups",
    "read",
    "resolve",
]


# TEMPORARY until the reader knows splits
from collections.abc import Iterator, Sequence  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402


@dataclass(frozen=True)
class Split:
    path: str
    kind: str
    start: int
    stop: int
    first: int
    size: int


def splits(files: Sequence[Path], target_bytes: int = 32 << 20) -> list[Split]:
    return [Split(str(f), "", 0, 0, 1, Path(f).stat().st_size) for f in files]


def read_split(split: Split, text: str = "text", ident: str | None = None) -> Iterator[Batch]:
    return read(Path(split.path), text, ident)
