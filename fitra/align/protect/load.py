"""Reading the text of the Qur'an from the user's file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fitra.align.protect.quran import Verses
from fitra.errors import FitraError

__all__ = ["load_verses"]


def load_verses(path: str | Path | None) -> Verses | None:
    """A verse list from parquet (column `ar` or `text`; `id` like «2:255» if there) or a text file, one verse a row.

    None without a path. Raises FitraError for a missing or unreadable file.
    """
    if path is None:
        return None
    path = Path(path)
    try:
        if path.suffix != ".parquet":
            return Verses(path.read_text(encoding="utf-8").splitlines())
        names = pq.read_schema(path).names
        column = next((c for c in ("ar", "text") if c in names), None)
        if column is None:
            raise FitraError(f"{path}: no column 'ar' or 'text' (it has {', '.join(names)}).", "Name the verses 'ar'.")
        table = pq.read_table(path, columns=[column, *(["id"] if "id" in names else [])])
        ids = table["id"].to_pylist() if "id" in names else None
        texts = table[column].to_pylist()
        ids = [None if i is None else str(i) for i in ids] if ids else None
        return Verses([t or "" for t in texts], ids)
    except FileNotFoundError:
        raise FitraError(f"{path}: no such file with verses.", "Correct align.quran.") from None
    except (pa.ArrowInvalid, UnicodeDecodeError):
        raise FitraError(f"{path}: neither parquet nor UTF-8 text.", "One verse a row.") from None
