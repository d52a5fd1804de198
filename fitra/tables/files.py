"""Which files there are, what they are, and their bytes: unpacked, in blocks, never more than a few MB at once."""

from __future__ import annotations

import glob
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from fitra.artifacts import MANIFEST
from fitra.errors import FitraError
from fitra.tables import remote

BLOCK = 1 << 20
_KINDS = {
    ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv",
    ".txt": "txt", ".warc": "warc", ".wet": "wet",
}  # fmt: skip
_PACKED = (".gz", ".zst")
# A folder's plain .json files are settings or manifests more often than rows: they must be named to be read.
SUFFIXES = tuple(
    s + p for s in _KINDS for p in ("", *_PACKED) if (s, p) != (".json", "") and not (s == ".parquet" and p)
)


class Damaged(Exception):
    """The bytes of a file end or break in the middle."""


@dataclass(frozen=True)
class File:
    """One file to read: `path` is a local path or a URL, `size` its bytes as stored, `tag` a remote file's version."""

    path: str
    size: int
    tag: str = ""

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.path

    @property
    def name(self) -> str:
        """The last part of the path."""
        return name_of(self.path)

    @property
    def kind(self) -> str:
        """parquet, jsonl, csv, tsv, txt, warc or wet."""
        return kind_of(self.path)


@dataclass
class Found:
    """What a path of a recipe stands for."""

    files: list[File] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)  # names in folders and patterns that are no known kind of file


def name_of(path: str) -> str:
    """The last part of a path or URL."""
    return path.rstrip("/").rsplit("/", 1)[-1]


def kind_of(path: str) -> str:
    """What a file's name says it holds; "" when nothing known."""
    name = name_of(path).lower()
    for ending in _PACKED:
        name = name.removesuffix(ending)
    kind = next((k for s, k in _KINDS.items() if name.endswith(s)), "")
    return "" if kind == "parquet" and not path.lower().endswith(".parquet") else kind


def find(path: str) -> Found:
    """The files that a path of a recipe stands for, sorted: one file, a folder (all known files below), or a glob.

    Local, or s3://, gs://, hf://. A folder that is a finished stage stands for its documents. Raises FitraError when
    there is nothing to read.
    """
    known = f"Known: {', '.join(SUFFIXES)}."
    listed, named = _remote(path) if remote.is_remote(path) else _local(Path(path).expanduser())
    one = named and len(listed) == 1
    out = Found()
    for below, file in listed:
        if not one and any(part.startswith(".") for part in below.split("/")[-2:]):
            continue
        if file.kind and (named or file.path.lower().endswith(SUFFIXES)):
            out.files.append(file)
        else:
            out.ignored.append(file.name)
    if out.files:
        return out
    if one:
        raise FitraError(f"{path}: unknown kind of file.", known)
    if listed or not named:
        raise FitraError(f"{path}: no file to read in this folder.", known)
    raise FitraError(f"{path}: no such file.", "Check the path; a pattern like data/*.jsonl works too.")


def _local(here: Path) -> tuple[list[tuple[str, File]], bool]:
    """(path below the folder, file) of all there is, and whether files were named (by name or pattern)."""
    if here.is_dir():
        if (here / MANIFEST).is_file() and (here / "documents").is_dir():
            here = here / "documents"
        return [(p.relative_to(here).as_posix(), _stat(p)) for p in sorted(here.rglob("*")) if p.is_file()], False
    found = [str(here)] if here.is_file() else glob.glob(str(here), recursive=True)  # noqa: PTH207 (absolute)
    paths = sorted(p for p in map(Path, found) if p.is_file())
    return [(f"{p.parent.name}/{p.name}", _stat(p)) for p in paths], True


def _stat(path: Path) -> File:
    return File(str(path), path.stat().st_size)


def _remote(url: str) -> tuple[list[tuple[str, File]], bool]:
    url = url.rstrip("/")
    files = [File(e.url, e.size, e.tag) for e in remote.listing(url)]
    if any(f.path == f"{url}/{MANIFEST}" for f in files):
        files = [f for f in files if f.path.startswith(f"{url}/documents/")] or files
    named = glob.has_magic(url) or not files or files[0].path == url
    return [(f.path.removeprefix(f"{url}/").partition("://")[2] or f.path.removeprefix(url), f) for f in files], named


def resolve(path: str) -> list[File]:
    """The files of `find`."""
    return find(path).files


def identity(file: File | str) -> str:
    """What tells whether a remote file is still the same: its URL, size and time of change."""
    if not isinstance(file, File):
        file = find(file).files[0]
    return f"{file.path} {file.tag}"


def open_file(path: str, *, seekable: bool = False) -> IO[bytes]:
    """The bytes as stored."""
    if remote.is_remote(path):
        return remote.open_remote(path, seekable=seekable)
    return Path(path).open("rb")


def blocks(path: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """The unpacked bytes of a file in blocks of about 1 MB, or a range of one that is not packed.

    Raises Damaged where the file is cut or broken, after all that could be unpacked before it.
    """
    with open_file(path, seekable=start > 0) as file:
        if path.lower().endswith(".gz"):
            yield from _gunzip(file)
        elif path.lower().endswith(".zst"):
            yield from _unzstd(file)
        else:
            if start:
                file.seek(start)
            left = (1 << 62) if stop is None else stop - start
            while left and (block := file.read(min(BLOCK, left))):
                left -= len(block)
                yield block
            if left and stop is not None:
                raise Damaged("the file became shorter while it was read")


def _gunzip(file: IO[bytes]) -> Iterator[bytes]:
    """Members one after the other; never more than a block at once, whatever the ratio."""
    member: Any = None
    data = b""
    while True:
        data = data or file.read(1 << 16)
        if member is None:
            data = data.lstrip(b"\0")  # padding between members, as tapes have it
            if not data and not (data := file.read(1 << 16)):
                return
            if not data.strip(b"\0"):
                data = b""
                continue
            member = zlib.decompressobj(31)
        elif not data:
            raise Damaged("the compressed data end too early")
        before = member.copy()
        try:
            out = member.decompress(data, BLOCK)
        except zlib.error as e:
            yield _salvage(before, data)
            raise Damaged(f"not gzip, or broken: {e}") from None
        data = member.unused_data if member.eof else member.unconsumed_tail
        if member.eof:
            member = None
        if out:
            yield out


def _salvage(member: Any, data: bytes) -> bytes:
    """What comes out before the byte that breaks it."""
    out = []
    for i in range(0, len(data), 16):
        try:
            out.append(member.decompress(data[i : i + 16]))
        except zlib.error:
            break
    return b"".join(out)


def _unzstd(file: IO[bytes]) -> Iterator[bytes]:
    """Frames one after the other. 2 kB of input make at most 64 MB (4 bytes stand for 128 kB at best)."""
    import zstandard

    frame: Any = None
    held: list[bytes] = []
    size = 0
    problem = ""
    while not problem:
        data = file.read(1 << 16)
        if not data:
            problem = "the compressed data end too early" if frame is not None else "end"
        at = 0
        while at < len(data) and not problem:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            piece = data[at : at + 2048]
            at += len(piece)
            try:
                out = frame.decompress(piece)
            except zstandard.ZstdError as e:
                problem = f"not zstandard, or broken: {e}"
                break
            if frame.eof:
                at -= len(frame.unused_data)
                frame = None
            held.append(out)
            size += len(out)
            if size >= BLOCK:
                yield b"".join(held)
                held, size = [], 0
    if size:
        yield b"".join(held)
    if problem != "end":
        raise Damaged(problem)
