"""What pre-training reads: documents of a finished stage by language group, parallel rows from files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fitra.artifacts import read_table, worst_licence
from fitra.errors import FitraError

GROUP_OF = {"ar": "ar", "arz": "ar", "apc": "ar", "en": "en"}  # dialects count as Arabic


class Texts(NamedTuple):
    """The texts of one group and the worst licence class among them."""

    texts: list[str]
    licence: str


def documents(folder: Path, groups: Sequence[str] = ("ar", "en")) -> dict[str, Texts]:
    """The documents of a stage folder by group, in the order of their ids; other languages are left out.

    Raises FitraError when the stage is not finished or has no documents.
    """
    table = read_table(folder, "documents", columns=["text", "lang", "licence_class"])
    group = np.array([GROUP_OF.get(x or "", "") for x in table["lang"].to_pylist()], dtype=object)
    out = {}
    for name in groups:
        part = table.filter(pa.array(group == name))
        out[name] = Texts([t for t in part["text"].to_pylist() if t], worst_licence(part["licence_class"].to_pylist()))
    return out


def parallel_rows(files: Sequence[Path]) -> Iterator[tuple[str, str, str | None]]:
    """(Arabic, English, licence class) of every row of parquet files with columns ar, en.

    A folder stands for the `parallel.parquet` in it. Rows with an empty side are left out.
    Raises FitraError for a file that is missing, no parquet, or without these columns.
    """
    for given in files:
        path = Path(given) / "parallel.parquet" if Path(given).is_dir() else Path(given)
        try:
            table = pq.read_table(path)
        except FileNotFoundError:
            raise FitraError(f"{path}: no such file.", "Check pretrain.parallel in the recipe.") from None
        except (pa.ArrowInvalid, OSError) as e:
            raise FitraError(f"{path}: not a parquet file: {e}", "Parallel text is parquet with columns ar, en.") from e
        if missing := {"ar", "en"} - set(table.column_names):
            raise FitraError(
                f"{path}: no column {', '.join(sorted(missing))}; it has {', '.join(table.column_names)}.",
                "Parallel text is parquet with columns ar, en.",
            )
        classes = table["licence_class"].to_pylist() if "licence_class" in table.column_names else [None] * len(table)
        for ar, en, licence in zip(table["ar"].to_pylist(), table["en"].to_pylist(), classes, strict=True):
            if isinstance(ar, str) and isinstance(en, str) and ar.strip() and en.strip():
                yield ar, en, licence


def parallel(files: Sequence[Path]) -> Texts:
    """Parallel rows as texts of two lines, Arabic first and English first in turn, so both directions are learnt."""
    rows = list(parallel_rows(files))
    texts = [f"{ar}\n{en}" if i % 2 == 0 else f"{en}\n{ar}" for i, (ar, en, _) in enumerate(rows)]
    return Texts(texts, worst_licence([licence for _, _, licence in rows]))
