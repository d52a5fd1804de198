"""A ledger's sealed segments on an object store (s3://, gs://, any address that fsspec knows) or another disk, by copy.

Copies are named by what they hold, `answers-<xxh64>-<bytes>.log` with its `.idx`, so any number of machines may push to
one place: nothing is overwritten, and what is there is not sent again. Every copy is checked as it is read.
"""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import xxhash

from fitra.artifacts import atomic_path
from fitra.errors import FitraError
from fitra.llm import index, segment, tools

NAME = re.compile(r"answers-([0-9a-f]{16})-(\d+)\.log")
CHUNK = 1 << 22


def push(path: Path, to: str) -> dict[str, int]:
    """Seal what nobody writes to, and copy all sealed segments to `to`; returns {"copied", "there", "bytes"}.

    Segments of writers at work stay out: push again when they are done. Credentials are those of the environment.
    Raises FitraError where the store cannot be reached or a copy came out different.
    """
    tools.seal(path)
    fs, folder = _open(to)
    count = {"copied": 0, "there": 0, "bytes": 0}
    try:
        fs.create_dir(folder, recursive=True)
        there = _listing(fs, folder)
        for log in segment.paths(Path(path)):
            size = log.stat().st_size
            sealed = index.read_index(index.index_path(log), size)
            if sealed is None:
                continue
            name = f"answers-{sealed.checksum:016x}-{size}.log"
            if there.get(name) == size:
                count["there"] += 1
                continue
            # The index first: where the segment is, its index is too.
            _send(fs, index.index_path(log), f"{folder}/{name[:-4]}.idx", None)
            _send(fs, log, f"{folder}/{name}", sealed.checksum)
            count["copied"] += 1
            count["bytes"] += size
    except (OSError, pa.ArrowException) as e:
        raise FitraError(f"{_shown(to)}: {_reason(e, to)}.", "Check the address and the credentials.") from None
    return count


def pull(path: Path, source: str) -> dict[str, int]:
    """Fetch the segments of a store that this ledger does not have; returns {"fetched", "here", "refused", "bytes"}.

    A copy whose bytes are not those of its name is refused and left out; fetch it again from where it was made.
    """
    path = Path(path)
    fs, folder = _open(source)
    count = {"fetched": 0, "here": 0, "refused": 0, "bytes": 0}
    have = set()
    for log in segment.paths(path):
        sealed = index.read_index(index.index_path(log), log.stat().st_size)
        if sealed is not None:
            have.add((sealed.checksum, sealed.size))
    try:
        for name, size in sorted(_listing(fs, folder).items()):
            found = NAME.fullmatch(name)
            if found is None:
                continue
            checksum, length = int(found[1], 16), int(found[2])
            if (checksum, length) in have:
                count["here"] += 1
            elif length == size and _fetch(fs, f"{folder}/{name}", path, checksum):
                count["fetched"] += 1
                count["bytes"] += size
            else:
                count["refused"] += 1
    except (OSError, pa.ArrowException) as e:
        raise FitraError(f"{_shown(source)}: {_reason(e, source)}.", "Check the address and the credentials.") from None
    return count


def _open(address: str) -> tuple[Any, str]:
    """A file system of pyarrow, its own or one of fsspec's, and the folder in it."""
    try:
        if "://" not in address:
            fs, folder = pafs.LocalFileSystem(), str(Path(address).absolute())
        else:
            try:
                fs, folder = pafs.FileSystem.from_uri(address)
            except pa.ArrowInvalid:
                other, folder = import_module("fsspec.core").url_to_fs(address)
                fs = pafs.PyFileSystem(pafs.FSSpecHandler(other))
    except (OSError, ValueError, ImportError, pa.ArrowException) as e:
        raise FitraError(
            f"{_shown(address)}: {_reason(e, address)}.", "Give a folder, or an address like s3://bucket/x."
        ) from None
    return fs, folder.rstrip("/")


def _listing(fs: Any, folder: str) -> dict[str, int]:
    found = fs.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
    return {i.base_name: i.size for i in found if i.type == pafs.FileType.File}


def _send(fs: Any, source: Path, target: str, checksum: int | None) -> None:
    # A store shows an object when it is whole; a disk shows a file as it grows, and gets a name of its own for it.
    aside = f"{target}.{os.getpid()}.tmp" if isinstance(fs, pafs.LocalFileSystem) else target
    h = xxhash.xxh64()
    with source.open("rb") as f, fs.open_output_stream(aside) as out:
        while chunk := f.read(CHUNK):
            h.update(chunk)
            out.write(chunk)
    if checksum is not None and h.intdigest() != checksum:
        fs.delete_file(aside)
        raise FitraError(f"{source}: has rotted since it was sealed.", "See `fitra ledger verify`, then compact.")
    if aside != target:
        fs.move(aside, target)


def _fetch(fs: Any, name: str, path: Path, checksum: int) -> bool:
    """Copy one segment into the ledger under a name of its own; False, and nothing there, where its bytes differ."""
    taken = [int(p.name[8:14]) for p in segment.paths(path)]
    # The letter keeps the name apart from any that a writer chooses; the checksum from what others fetch meanwhile.
    final = path / f"segment-{max(taken, default=0) + 1:06d}p{checksum:016x}.log"
    h = xxhash.xxh64()
    try:
        with atomic_path(final) as tmp:
            with fs.open_input_stream(name) as f, tmp.open("wb") as out:
                while chunk := f.read(CHUNK):
                    h.update(chunk)
                    out.write(chunk)
            if h.intdigest() != checksum:
                raise _Different
            with tmp.open("rb") as f:
                index.seal(final, f.fileno())
    except _Different:
        return False
    return True


class _Different(Exception):
    """A copy is not what its name says."""


def _shown(address: str) -> str:
    """An address without what may be a secret in it."""
    return re.sub(r"\?.*", "", re.sub(r"//[^/@]*@", "//", address))


def _reason(error: Exception, address: str) -> str:
    """What went wrong, without the secrets that an address may hold and libraries repeat."""
    text = " ".join(str(error).split()).replace(address, _shown(address))
    for secret in re.findall(r"//([^/@]*)@", address):
        for part in filter(None, secret.split(":")):
            text = text.replace(part, "***")
    return text[:200] or type(error).__name__
