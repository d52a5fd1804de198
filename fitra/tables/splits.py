"""Files in parts that workers can read at the same time, in any order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fitra.errors import FitraError
from fitra.tables import encoding
from fitra.tables.files import BLOCK, Damaged, File, blocks, find, open_file
from fitra.tables.remote import is_remote

TARGET_BYTES = 32 << 20
_SAMPLE = 1 << 18  # bytes from the start, the middle and the end, to see what charset a file is in


@dataclass(frozen=True)
class Split:
    """A part of a file, as plain data that can travel: bytes `start` to `stop`, or row groups for parquet.

    `first` is the number of its first line or row (from 1), `size` the bytes as stored, `encoding` a file's charset,
    `alone` true when nothing else is read beside it.
    """

    path: str
    kind: str
    start: int
    stop: int
    first: int
    size: int
    encoding: str = "utf-8"
    alone: bool = False

    @property
    def ranged(self) -> bool:
        """True for a byte range of a file that is not packed."""
        return self.kind == "jsonl" and not self.path.lower().endswith((".gz", ".zst"))


def splits(files: Iterable[File | Path | str], target_bytes: int = TARGET_BYTES) -> list[Split]:
    """All parts of some files (paths, folders and patterns are looked up), each of about `target_bytes`.

    JSON lines that are not packed are cut at line ends, parquet at row groups; any other file is one part, and so is
    a remote file of JSON lines, which would have to be fetched once more to count its lines. What cannot be opened is
    a part as well: reading it says what is wrong.
    """
    found = [f for file in files for f in ([file] if isinstance(file, File) else find(str(file)).files)]
    out: list[Split] = []
    for file in found:
        if file.kind == "parquet":
            out += _row_groups(file, target_bytes)
        elif file.kind == "jsonl" and file.size > target_bytes and _is_plain(file):
            out += _line_ranges(file, target_bytes)
        else:
            out.append(whole(file))
    return [replace(out[0], alone=True)] if len(out) == 1 else out


def whole(file: File, *, alone: bool = False) -> Split:
    """A file as one part."""
    stop = 1 << 31 if file.kind == "parquet" else file.size
    return Split(file.path, file.kind, 0, stop, 1, file.size, charset_of(file), alone)


def _is_plain(file: File) -> bool:
    return not is_remote(file.path) and not file.path.lower().endswith((".gz", ".zst"))


def charset_of(file: File) -> str:
    """The charset that a file of lines is clearly in; "utf-8" when in doubt."""
    if file.kind not in ("jsonl", "csv", "tsv"):
        return "utf-8"
    starts = [0, file.size // 2, file.size - _SAMPLE] if _is_plain(file) and file.size > 4 * _SAMPLE else [0]
    found = []
    try:
        for start in starts:
            parts = blocks(file.path, start, min(file.size, start + _SAMPLE) if _is_plain(file) else None)
            sample = next(parts, b"")[:_SAMPLE]
            found.append(encoding.detect(sample.partition(b"\n")[2] if start else sample))
            if found[0].startswith("utf-") and found[0] != "utf-8":
                return found[0]  # with a mark at its start, or zeros in it: the rest has none
    except (OSError, Damaged, FitraError):
        return "utf-8"
    others = {n for n in found if n != "utf-8"}
    ascii_only = len(others) == 1 and all(n in others or _is_ascii(file, s) for n, s in zip(found, starts, strict=True))
    return others.pop() if ascii_only else "utf-8"


def _is_ascii(file: File, start: int) -> bool:
    return next(blocks(file.path, start, start + _SAMPLE), b"").isascii()


def _row_groups(file: File, target: int) -> list[Split]:
    try:
        with open_file(file.path, seekable=True) as raw, pq.ParquetFile(raw) as opened:
            meta = opened.metadata
            sizes = [(meta.row_group(g).num_rows, _stored(meta.row_group(g))) for g in range(meta.num_row_groups)]
    except (OSError, pa.ArrowException, FitraError):
        return [whole(file)]
    out: list[Split] = []
    start, size, rows, first = 0, 0, 0, 1
    for group, (n, bytes_) in enumerate(sizes):
        if size and size + bytes_ > target:
            out.append(Split(file.path, file.kind, start, group, first, size))
            start, size, rows, first = group, 0, 0, first + rows
        size, rows = size + bytes_, rows + n
    out.append(Split(file.path, file.kind, start, len(sizes), first, size or file.size))
    return out


def _stored(group: pq.RowGroupMetaData) -> int:
    return sum(int(group.column(c).total_compressed_size) for c in range(group.num_columns))


def _line_ranges(file: File, target: int) -> list[Split]:
    charset = charset_of(file)
    if charset.startswith("utf-") and charset != "utf-8":
        return [whole(file)]  # a line end is no single byte there
    out: list[Split] = []
    start, line, first, at = 0, 1, 1, 0
    try:
        with open_file(file.path, seekable=True) as raw:
            while block := raw.read(8 * BLOCK):
                cut = -1
                # The first line end at or after the target, as often as it lies in this block.
                while start + target <= at + len(block):
                    cut = block.find(b"\n", max(0, start + target - 1 - at, cut + 1))
                    if cut < 0:
                        break
                    end = at + cut + 1
                    lines = line + block.count(b"\n", 0, cut + 1)
                    out.append(Split(file.path, file.kind, start, end, first, end - start, charset))
                    start, first = end, lines
                line += block.count(b"\n")
                at += len(block)
    except OSError:
        return [whole(file)]
    if start < at:
        out.append(Split(file.path, file.kind, start, at, first, at - start, charset))
    return out or [whole(file)]
