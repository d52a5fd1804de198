"""Rows from files, streamed, one bad row harming no neighbour.

Each kind of file has a generator of (where, row, reason): a row, or the reason why there is none.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from fitra.errors import FitraError
from fitra.tables import encoding
from fitra.tables.batch import MAX_LINE_BYTES, Batch, Row, set_label, unproven
from fitra.tables.files import Damaged, File, blocks, find, name_of, open_file
from fitra.tables.remote import hide_secrets, is_remote
from fitra.tables.splits import Split, whole

_BOM = b"\xef\xbb\xbf"
_TOO_BIG = 1 << 53  # orjson makes floats of integers beyond 64 bits, json keeps them

Event = tuple[str, Row | None, str]


def read(path: Path | File | str, text: str = "text", ident: str | None = None) -> Iterator[Batch]:
    """Stream one file in batches of about 8 million characters of text.

    Raises FitraError when nothing can be read of it, or no row has the text column. What is damaged in parts is set
    aside by name.
    """
    if isinstance(path, File):
        file = path
    elif is_remote(str(path)):
        file = find(str(path)).files[0]
    else:
        try:
            file = File(str(path), Path(path).stat().st_size)
        except OSError as e:
            raise FitraError(f"{path}: {e.strerror}.", "Check the file.") from None
    yield from read_split(whole(file, alone=True), text, ident)


def read_split(
    split: Split, text: str = "text", ident: str | None = None, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[Batch]:
    """Stream one part of a file, in any process: the same rows, in the same order, as `read` gives of that part.

    A file that cannot be read is one bad row (its `Batch.error` says why) and harms no other file; if it is the only
    one (`split.alone`) and nothing could be read, FitraError is raised.
    """
    batch, rows = Batch(), 0
    seen, last = False, ""
    names: list[str] = []
    try:
        for where, row, reason in _events(split, text, max_line_bytes):
            last = where
            if row is None or reason:
                batch.refuse(row, where, reason, ident)
            else:
                if not seen:
                    names = names or list(row)
                    seen = text in row
                batch.add(row, text, where, ident)
            if batch.full:
                rows += len(batch.rows)
                yield batch
                batch = Batch()
    except FitraError as e:
        batch.fail(name_of(split.path), e.message, e.hint)
    except (Damaged, pa.ArrowException, OSError, EOFError, MemoryError) as e:
        said = hide_secrets((str(e).splitlines() or [type(e).__name__])[0][:300])
        after = f" after {last.rsplit(':', 1)[-1]}" if last else ""
        if isinstance(e, FileNotFoundError | PermissionError) and not is_remote(split.path):
            batch.fail(name_of(split.path), f"{split.path}: {e.strerror}.", "Check the file.")
        else:
            error = f"{split.path}: damaged or not what its name says{after}: {said}"
            batch.fail(name_of(split.path), error, "Make the file again.")
    if names and not seen and not batch.error:
        missing = lacks(split.path, text, names)
        batch.error, batch.hint = missing.message, missing.hint
    if batch.error and split.alone and not rows + len(batch.rows):
        raise FitraError(batch.error, batch.hint)
    yield batch


def _events(split: Split, text: str, limit: int) -> Iterator[Event]:
    if split.size == 0:
        raise FitraError(f"{split.path}: the file is empty.", "Remove it from the inputs, or make it again.")
    if split.kind == "parquet":
        return _parquet(split, text, limit)
    if split.kind in ("csv", "tsv"):
        return _csv(split, text, limit)
    if split.kind == "txt":
        return _txt(split, text, limit)
    if split.kind in ("warc", "wet"):
        from fitra.tables import web

        return web.records(split, text)
    return _jsonl(split, text, limit)


def lacks(path: str, text: str, names: Sequence[str]) -> FitraError:
    """The text column is not there."""
    shown = ", ".join(map(str, names)) or "none"
    return FitraError(f"{path}: no column '{text}'. Columns there: {shown}.", "Name the right one: text: COLUMN.")


# --- JSON lines ----------------------------------------------------------------------------------------------------


def _lines(pieces: Iterator[bytes], limit: int) -> Iterator[bytes | None]:
    """Lines without their ends; None for one of more than `limit` bytes, which is never held."""
    held: list[bytes] = []
    size = 0
    for block in pieces:
        lines = block.split(b"\n")
        if len(lines) > 1:
            if held or size:
                size += len(lines[0])
                yield b"".join((*held, lines[0])) if size <= limit else None
            else:
                yield lines[0]
            yield from lines[1:-1]
            held, size = [], 0
        size += len(lines[-1])
        if size > limit:
            held = []
        elif lines[-1]:
            held.append(lines[-1])
    if size:
        yield b"".join(held) if size <= limit else None


def _recoded(pieces: Iterator[bytes], charset: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(charset)("replace")
    for block in pieces:
        yield decoder.decode(block).encode("utf-8", "replace")
    yield decoder.decode(b"", True).encode("utf-8", "replace")


def _jsonl(split: Split, text: str, limit: int) -> Iterator[Event]:
    name, loads = name_of(split.path), orjson.loads
    recoded = split.encoding != "utf-8"
    pieces = blocks(split.path, split.start, split.stop if split.ranged else None)
    if recoded:
        pieces = _recoded(pieces, split.encoding)
    for n, line in enumerate(_lines(pieces, limit), split.first):
        where = f"{name}:{n}"
        if line is None or len(line) > limit:
            yield where, None, f"a line of more than {limit >> 20} MB"
            continue
        if n == 1 and line.startswith(_BOM):
            line = line[len(_BOM) :]
        try:
            row = loads(line)
        except orjson.JSONDecodeError:
            if not line.strip():
                continue
            row, reason = _slow(line)
            if reason:
                yield where, None, reason
                continue
            if isinstance(row, dict):
                yield unproven(where, row, text)
                continue
        if type(row) is not dict:
            yield where, None, f"a JSON {type(row).__name__}, not an object"
            continue
        if any(type(v) is float and abs(v) >= _TOO_BIG for v in row.values()):
            row = _slow(line)[0]
        if recoded:
            set_label(row, "charset", split.encoding)
        yield where, row, ""


def _slow(line: bytes) -> tuple[Any, str]:
    """What orjson refuses, read by `json` (NaN, lone surrogates in strings), or the reason why it cannot be."""
    try:
        return json.loads(line.decode("utf-8")), ""
    except UnicodeDecodeError:
        return None, "not UTF-8"
    except json.JSONDecodeError as e:
        if line[:1] == b"[" and e.lineno == 1 and not line.rstrip().endswith(b"]"):
            return None, "not JSON lines: a JSON array over several lines"
        return None, f"not JSON: {e.msg}"
    except (RecursionError, ValueError):  # ValueError: an integer of more than 4,300 digits
        return None, "not JSON: nested too deeply, or a number too long"


# --- tables and plain text -----------------------------------------------------------------------------------------


class _Stream(io.RawIOBase):
    """Blocks as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces, self.block = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        while not self.block:
            try:
                self.block = memoryview(next(self.pieces))
            except StopIteration:
                return 0
        n = min(len(into), len(self.block))
        into[:n], self.block = self.block[:n], self.block[n:]
        return n


class _Bounded:
    """Lines of a text file; one longer than `limit` characters becomes "?" and sets `cut`."""

    def __init__(self, file: IO[str], limit: int) -> None:
        self.file, self.limit, self.cut = file, limit, False

    def __iter__(self) -> Iterator[str]:
        while line := self.file.readline(self.limit):
            if len(line) == self.limit and line[-1] not in "\r\n":
                self.cut = True
                while (more := self.file.readline(1 << 20)) and more[-1] not in "\r\n":
                    pass
                line = "?\n"  # a row to refuse
            yield line


def _csv(split: Split, text: str, limit: int) -> Iterator[Event]:
    csv.field_size_limit(min(limit, sys.maxsize))
    name = name_of(split.path)
    charset = "utf-8-sig" if split.encoding == "utf-8" else split.encoding
    raw = io.BufferedReader(_Stream(blocks(split.path)), 1 << 16)
    with io.TextIOWrapper(raw, charset, "surrogateescape" if charset == "utf-8-sig" else "replace", "") as file:
        lines = _Bounded(file, limit)
        rows = csv.DictReader(lines, delimiter="\t" if split.kind == "tsv" else ",")
        if text not in (rows.fieldnames or []):
            raise lacks(split.path, text, rows.fieldnames or [])
        while True:
            where = f"{name}:{rows.line_num + 1}"
            try:
                row: Row = next(rows)
            except StopIteration:
                break
            except csv.Error as e:
                yield where, None, f"not CSV: {e}"
                continue
            row.pop(None, None)  # type: ignore[call-overload]  # fields beyond the header's
            if lines.cut:
                lines.cut = False
                yield where, None, f"a line of more than {limit >> 20} MB"
                continue
            if charset != "utf-8-sig":
                set_label(row, "charset", charset)
            yield unproven(where, row, text)


def _txt(split: Split, text: str, limit: int) -> Iterator[Event]:
    """A text file is one document, named by its file."""
    name = name_of(split.path)
    stem = name.rsplit(".txt", 1)[0]
    pieces, size = [], 0
    for block in blocks(split.path):
        size += len(block)
        if size > limit:
            yield name, None, f"a text of more than {limit >> 20} MB"
            return
        pieces.append(block)
    raw = b"".join(pieces)
    if not raw:
        return
    charset = encoding.detect(raw[: 1 << 20])
    row: Row = {"id": stem}
    if charset == "utf-8":
        row[text] = raw.decode("utf-8-sig", "surrogateescape")
    else:
        row[text] = raw.decode(charset, "replace")
        set_label(row, "charset", charset)
    yield unproven(name, row, text)


# --- parquet -------------------------------------------------------------------------------------------------------


def _parquet(split: Split, text: str, limit: int) -> Iterator[Event]:
    name, at = name_of(split.path), split.first
    with open_file(split.path, seekable=True) as raw, pq.ParquetFile(raw, page_checksum_verification=True) as file:
        schema, groups = file.schema_arrow, file.metadata
        if text not in schema.names:
            raise lacks(split.path, text, schema.names)
        kind = schema.field(text).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (_is_text(kind) or _is_binary(kind) or pa.types.is_null(kind)):
            raise FitraError(f"{split.path}: column '{text}' holds {kind}, not text.", "Name a column of strings.")
        for group in range(split.start, min(split.stop, groups.num_row_groups)):
            size = groups.row_group(group)
            end = at + size.num_rows
            each = max(1, min(512, (8 << 20) * size.num_rows // max(1, size.total_byte_size)))
            try:
                for part in file.iter_batches(batch_size=each, row_groups=[group]):
                    rows, proven = _python_rows(part, text)
                    big = part.nbytes > limit
                    for n, row in enumerate(rows, at):
                        where = f"{name}:{n}"
                        if big and len(row[text] or "") > limit:
                            yield where, row, f"a text of more than {limit >> 20} MB"
                        else:
                            yield (where, row, "") if proven else unproven(where, row, text)
                    at += len(rows)
            except (pa.ArrowException, OSError, MemoryError) as e:
                said = hide_secrets((str(e).splitlines() or [type(e).__name__])[0][:200])
                yield f"{name}:{at}-{end - 1}", None, f"row group {group + 1} is damaged, {end - at} rows lost: {said}"
            at = end


def _is_text(kind: Any) -> bool:
    return any(f(kind) for f in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _is_binary(kind: Any) -> bool:
    return any(f(kind) for f in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


def _python_rows(part: pa.RecordBatch, text: str) -> tuple[list[Row], bool]:
    """Rows, and whether all strings are known to be UTF-8."""
    if not _is_binary(part.schema.field(text).type):
        try:
            return list(part.to_pylist()), True
        except UnicodeDecodeError:
            pass  # some string is not UTF-8: decode as bytes, so that only its own row is bad
    columns = {}
    for name, column in zip(part.schema.names, part.columns, strict=True):
        if _is_text(column.type) or (name == text and _is_binary(column.type)):
            raw = column.cast(pa.large_binary()).to_pylist()
            columns[name] = [b if b is None else b.decode("utf-8", "surrogateescape") for b in raw]
        else:
            columns[name] = column.to_pylist()
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)], False
