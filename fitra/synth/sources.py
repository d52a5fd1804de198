"""What the jobs read: documents of a stage (streamed), or files of documents, questions, instructions (sorted by id).

Every row becomes an `Item`, or a bad row with its reason: no text, no Unicode, an id used twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import xxhash

from fitra import tables
from fitra.artifacts import LICENCE_CLASSES, MANIFEST, table_parts
from fitra.errors import FitraError

__all__ = ["Item", "Source", "open_source"]

QUESTIONS = ("instruction", "question", "prompt", "query")
BATCH = 2000


@dataclass(frozen=True)
class Item:
    """One row: its texts by field, and what its descendants inherit."""

    id: str
    fields: dict[str, str]
    lang: str | None
    licence_class: str
    row: dict[str, Any]


@dataclass
class Source:
    """An opened input. `items()` gives the good rows by id; `bad` is complete once they were read."""

    files: list[Path]
    kind: str  # documents or instructions
    total: int
    limit: int | None
    licence_class: str
    inputs: list[Path] = field(default_factory=list)  # what a manifest names: the stage, or the files
    held: list[Item] | None = None  # of files; a stage is streamed
    bad: list[dict[str, str]] = field(default_factory=list)

    def items(self) -> Iterator[Item]:
        """The rows in the order of their ids."""
        if self.held is not None:
            yield from self.held
            return
        self.bad.clear()
        left = self.total
        for path in self.files:
            for batch in pq.ParquetFile(path).iter_batches(BATCH):
                for row in batch.to_pylist():
                    if not left:
                        return
                    left -= 1
                    item = _item(row, {"text": "text"}, path.name, self)
                    if item:
                        yield item

    def sample(self, n: int) -> list[Item]:
        """About n rows spread evenly over the input, always the same."""
        if self.held is not None:
            step = max(1, len(self.held) // n)
            return self.held[::step][:n]
        out: list[Item] = []
        files = self.files[:: max(1, len(self.files) // 20)][:20]
        for path in files:
            each, bad = -(-n // len(files)), len(self.bad)
            rows = pq.read_table(path).to_pylist()[: self.total]
            for row in rows[:: max(1, len(rows) // each)][:each]:
                item = _item(row, {"text": "text"}, path.name, self)
                out += [item] if item else []
            del self.bad[bad:]
        return out


def open_source(path: Path, cfg: Any, wanted: str, columns: Sequence[str] = ()) -> Source:
    """Open a stage folder, a file, a folder or a glob.

    `wanted`: "any" takes documents and instructions, "questions" the latter alone. Raises FitraError where there is
    nothing to read, or no known column.
    """
    folder = Path(path)
    limit = cfg.limit
    if (folder / MANIFEST).is_file():
        if (folder / "instructions.parquet").is_file():
            return _files([folder / "instructions.parquet"], cfg, columns, [folder])
        if wanted == "questions":
            raise FitraError(f"{path}: a stage without instructions.parquet.", "Give questions or instructions.")
        parts = table_parts(folder, "documents")
        rows = sum(pq.ParquetFile(p).metadata.num_rows for p in parts)
        if _in_order(parts):
            return Source(parts, "documents", min(rows, limit or rows), limit, cfg.licence_class, [folder])
        return _files(parts, cfg, columns, [folder])
    if tables.remote.is_remote(str(path)):
        raise FitraError(f"{path}: not on this machine.", "Copy the files first, or clean them: `fitra corpus clean`.")
    return _files([Path(f.path) for f in tables.resolve(str(path))], cfg, columns)


def _in_order(parts: Sequence[Path]) -> bool:
    last = ""
    for part in parts:
        ids = pq.read_table(part, columns=["id"])["id"].to_pylist()
        if any(b <= a for a, b in zip([last, *ids], ids, strict=False)):
            return False
        last = ids[-1] if ids else last
    return True


def _files(files: list[Path], cfg: Any, columns: Sequence[str], inputs: list[Path] | None = None) -> Source:
    main, kind = _column(files[0], cfg.text)
    names = {"text": main}
    if kind == "instructions":
        names = {"instruction": main, **{c: c for c in columns if c != "instruction"}}
    source = Source(files, kind, 0, cfg.limit, cfg.licence_class, inputs or files)
    held: dict[str, Item] = {}
    for file in files:
        for batch in tables.read(file, main, "id"):
            source.bad += batch.bad
            for row in batch.rows:
                item = _item(row, names, row.pop("_where"), source)
                if item is None:
                    continue
                if item.id in held:
                    source.bad.append({"id": item.id, "where": file.name, "reason": "id: used before in this input"})
                else:
                    held[item.id] = item
    source.held = sorted(held.values(), key=lambda i: i.id)[: cfg.limit]
    source.total = len(source.held)
    if not held:
        first = f": {source.bad[0]['reason']}" if source.bad else ""
        raise FitraError(f"{files[0]}: no usable row{first}.", "Check the file, and which column holds the text.")
    return source


def _column(file: Path, given: str | None) -> tuple[str, str]:
    """The column to read and what kind of rows it makes."""
    first: FitraError | None = None
    for name in [given] if given else ["instruction", "text", *QUESTIONS[1:]]:
        try:
            if next(tables.read(file, name)).error:
                continue
        except FitraError as e:
            first = first or e
            continue
        return name, "documents" if name == "text" or (given and given not in QUESTIONS) else "instructions"
    if given:
        assert first is not None
        raise first
    raise FitraError(f"{file}: neither text nor {', '.join(QUESTIONS)} among its columns.", "--set text=COLUMN")


def _item(row: dict[str, Any], names: dict[str, str], where: str, source: Source) -> Item | None:
    """The item of a row; None after setting it aside in `source.bad`."""
    fields: dict[str, str] = {}
    ident = row.get("id") if row.get("id") is not None else row.get("doc_id")
    for name, column in names.items():
        value = row.get(column)
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            source.bad.append({"id": str(ident or ""), "where": where, "reason": f"'{column}' is no text"})
            return None
        fields[name] = value
    made = str(ident) if ident is not None else xxhash.xxh3_128_hexdigest(json.dumps(fields).encode())
    first = next(iter(names))
    reason = "" if fields.get(first, "").strip() else "empty text"
    try:
        for value in (made, *fields.values()):
            value.encode()
    except UnicodeEncodeError:
        made, reason = made.encode("utf-8", "replace").decode(), "not UTF-8"
    if reason:
        source.bad.append({"id": made, "where": where, "reason": reason})
        return None
    licence = row.get("licence_class")
    known = isinstance(licence, str) and licence in tuple(LICENCE_CLASSES)
    lang = row.get("lang")
    return Item(made, fields, lang if isinstance(lang, str) else None,
                str(licence) if known else source.licence_class, row)  # fmt: skip
