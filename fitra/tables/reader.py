"""Rows from files, streamed, one bad row harming no neighbour."""

from __future__ import annotations

import csv
import glob
import gzip
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from fitra.artifacts import MANIFEST
from fitra.errors import FitraError

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".csv", ".txt")
BATCH_BYTES = 8 << 20
_BOM = b"\xef\xbb\xbf"

Row = dict[str, Any]


@dataclass
class Batch:
    """Some rows of one file: each has a str under the text column and `_where` ("file:line"); and its bad rows."""

    rows: list[Row] = field(default_factory=list)
    bad: list[dict[str, str]] = field(default_factory=list)
    size: int = 0  # characters of text so far

    def add(self, row: Row, text: str, where: str, ident: str | None) -> None:
        """Take a row, or set it aside with the reason."""
        value = row.get(text)
        key = str(row.get(ident)) if ident and row.get(ident) is not None else ""
        if value is None:
            self.refuse(key, where, f"no text: '{text}' is null" if text in row else f"no key '{text}'")
        elif not isinstance(value, str):
            self.refuse(key, where, f"'{text}' is a {type(value).__name__}, not a string")
        elif not value.strip():
            self.refuse(key, where, "empty text")
        elif not _is_unicode(value):
            self.refuse(key, where, "not UTF-8")
        else:
            self.rows.append({**row, "_where": where})
            self.size += len(value)

    def refuse(self, ident: str, where: str, reason: str) -> None:
        """Set one row aside."""
        self.bad.append({"id": ident, "where": where, "reason": reason})


def _is_unicode(value: str) -> bool:
    """False for bytes that were not UTF-8 (kept as lone surrogates) and for lone surrogates written in JSON."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def resolve(path: str) -> list[Path]:
    """The files that a path of a recipe stands for, sorted: one file, a folder (all known files below), or a glob.

    A folder that is a finished stage stands for its documents. Raises FitraError when there is nothing to read.
    """
    if "://" in path:
        raise FitraError(f"{path}: only local files can be read so far.", "Copy the files here first.")
    here = Path(path).expanduser()
    if here.is_dir():
        if (here / MANIFEST).is_file() and (here / "documents").is_dir():
            here = here / "documents"
        files = sorted(p for p in here.rglob("*") if p.is_file() and _known(p))
        if not files:
            raise FitraError(f"{path}: no file to read in this folder.", f"Known: {', '.join(SUFFIXES)}.")
        return files
    if here.is_file():
        if not _known(here):
            raise FitraError(f"{path}: unknown kind of file.", f"Known: {', '.join(SUFFIXES)}.")
        return [here]
    found = map(Path, glob.glob(str(here), recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
    files = sorted(p for p in found if p.is_file() and _known(p))
    if not files:
        raise FitraError(f"{path}: no such file.", "Check the path; a pattern like data/*.jsonl works too.")
    return files


def _known(path: Path) -> bool:
    return path.name.endswith(SUFFIXES) and not any(part.startswith(".") for part in (path.name, path.parent.name))


def read(path: Path, text: str = "text", ident: str | None = None) -> Iterator[Batch]:
    """Stream one file in batches of about 8 million characters of text.

    Raises FitraError for an empty or damaged file and for one where no row has the text column.
    """
    if path.stat().st_size == 0:
        raise FitraError(f"{path}: the file is empty.", "Remove it from the inputs, or make it again.")
    try:
        if path.name.endswith(".parquet"):
            yield from _parquet(path, text, ident)
        elif path.name.endswith(".csv"):
            yield from _csv(path, text, ident)
        elif path.name.endswith(".txt"):
            yield _txt(path, text)
        else:
            yield from _jsonl(path, text, ident)
    except (pa.ArrowInvalid, OSError, EOFError) as e:
        if isinstance(e, FileNotFoundError | PermissionError):
            raise FitraError(f"{path}: {e.strerror}.", "Check the file.") from None
        first = (str(e).splitlines() or [type(e).__name__])[0]
        raise FitraError(f"{path}: damaged or not what its name says: {first}", "Make the file again.") from None


def _lacks(path: Path, text: str, names: Sequence[str]) -> FitraError:
    shown = ", ".join(map(str, names)) or "none"
    return FitraError(f"{path}: no column '{text}'. Columns there: {shown}.", "Name the right one: text: COLUMN.")


def _parquet(path: Path, text: str, ident: str | None) -> Iterator[Batch]:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        if text not in schema.names:
            raise _lacks(path, text, schema.names)
        kind = schema.field(text).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
            raise FitraError(f"{path}: column '{text}' holds {kind}, not text.", "Name a column of strings.")
        start, batch = 1, Batch()
        for part in file.iter_batches(batch_size=512):
            for i, row in enumerate(_python_rows(part)):
                batch.add(row, text, f"{path.name}:{start + i}", ident)
            start += part.num_rows
            if batch.size >= BATCH_BYTES:
                yield batch
                batch = Batch()
        yield batch


def _python_rows(part: pa.RecordBatch) -> list[Row]:
    try:
        return list(part.to_pylist())
    except UnicodeDecodeError:  # some string is not UTF-8: decode as bytes, so that only its own row is bad
        columns = {}
        for name, column in zip(part.schema.names, part.columns, strict=True):
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                raw = column.cast(pa.large_string()).view(pa.large_binary()).to_pylist()
                columns[name] = [b if b is None else b.decode("utf-8", "surrogateescape") for b in raw]
            else:
                columns[name] = column.to_pylist()
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _open(path: Path) -> IO[bytes]:
    if path.name.endswith(".gz"):
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if path.name.endswith(".zst"):
        import zstandard

        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(path.open("rb"), closefd=True))
    return path.open("rb")


def _jsonl(path: Path, text: str, ident: str | None) -> Iterator[Batch]:
    batch, seen = Batch(), False
    names: list[str] = []
    with _open(path) as lines:
        for n, line in enumerate(lines, 1):
            where = f"{path.name}:{n}"
            if n == 1 and line.startswith(_BOM):
                line = line[len(_BOM) :]
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError:
                batch.refuse("", where, "not UTF-8")
                continue
            except (json.JSONDecodeError, RecursionError) as e:
                batch.refuse("", where, f"not JSON: {getattr(e, 'msg', 'nested too deeply')}")
                continue
            if not isinstance(row, dict):
                batch.refuse("", where, f"a JSON {type(row).__name__}, not an object")
                continue
            names = names or list(row)
            seen = seen or text in row
            batch.add(row, text, where, ident)
            if batch.size >= BATCH_BYTES:
                yield batch
                batch = Batch()
    if names and not seen:
        raise _lacks(path, text, names)
    yield batch


def _csv(path: Path, text: str, ident: str | None) -> Iterator[Batch]:
    csv.field_size_limit(sys.maxsize)
    batch = Batch()
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as f:
        rows = csv.DictReader(f)
        if text not in (rows.fieldnames or []):
            raise _lacks(path, text, rows.fieldnames or [])
        while True:
            where = f"{path.name}:{rows.line_num + 1}"
            try:
                row = next(rows)
            except StopIteration:
                break
            except csv.Error as e:
                batch.refuse("", where, f"not CSV: {e}")
                continue
            row.pop(None, None)
            batch.add(dict(row), text, where, ident)
            if batch.size >= BATCH_BYTES:
                yield batch
                batch = Batch()
    yield batch


def _txt(path: Path, text: str) -> Batch:
    """A text file is one document, named by its file."""
    batch = Batch()
    try:
        batch.add({text: path.read_bytes().decode("utf-8-sig"), "id": path.stem}, text, path.name, "id")
    except UnicodeDecodeError:
        batch.refuse(path.stem, path.name, "not UTF-8")
    return batch
