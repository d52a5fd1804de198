"""A batch of rows, and the rules that a text must pass to be one of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from fitra.tables.encoding import repair_mojibake

BATCH_BYTES = 8 << 20  # characters of text
BATCH_ROWS = 1 << 16  # rows and bad rows together: a million empty documents must not pile up
MAX_NULS = 0.1  # share of NUL characters above which a text counts as binary
MAX_LINE_BYTES = 512 << 20  # of one row, uncompressed: above it the row is refused without being held

Row = dict[str, Any]


@dataclass
class Batch:
    """Some rows of one file: each has a str under the text column and `_where` ("file:line"); and its bad rows.

    `error` says what was wrong with the file itself (damaged, no such column); it then stands in `bad` as well.
    """

    rows: list[Row] = field(default_factory=list)
    bad: list[dict[str, str]] = field(default_factory=list)
    size: int = 0  # characters of text so far
    error: str = ""
    hint: str = ""

    @property
    def full(self) -> bool:
        """Time to hand it on."""
        return self.size >= BATCH_BYTES or len(self.rows) + len(self.bad) >= BATCH_ROWS

    def add(self, row: Row, text: str, where: str, ident: str | None) -> None:
        """Take a row, whose strings are Unicode, or set it aside with the reason.

        NUL characters are removed (label `repaired: nul`), a text with many of them is refused; UTF-8 that was once
        read in another charset is put right (label `repaired: mojibake`).
        """
        value = row.get(text)
        if not isinstance(value, str):
            if value is not None:
                reason = f"'{text}' is a {type(value).__name__}, not a string"
            else:
                reason = f"no text: '{text}' is null" if text in row else f"no key '{text}'"
        elif not value or value.isspace():
            reason = "empty text"
        elif "\0" in value and (value.count("\0") > MAX_NULS * len(value) or not value.replace("\0", "").strip()):
            reason = "binary: NUL characters"
        else:
            row["_where"] = where
            if "\0" in value:
                row[text] = value = value.replace("\0", "")
                set_label(row, "repaired", "nul")
            fixed = repair_mojibake(value)
            if fixed is not None:
                row[text] = value = fixed
                set_label(row, "repaired", "mojibake")
            self.rows.append(row)
            self.size += len(value)
            return
        self.refuse(row, where, reason, ident)

    def refuse(self, row: Row | None, where: str, reason: str, ident: str | None = None) -> None:
        """Set one row aside."""
        value = row.get(ident) if row and ident else None
        key = "" if value is None else str(value).encode("utf-8", "replace").decode()
        self.bad.append({"id": key, "where": where, "reason": reason})

    def fail(self, where: str, error: str, hint: str = "") -> None:
        """Set aside what could not be read of the file."""
        self.error, self.hint = error, hint
        self.refuse(None, where, error)


def unproven(where: str, row: Row, text: str) -> tuple[str, Row, str]:
    """(where, row, reason) of a row whose text may hold lone surrogates: bytes that were no UTF-8, or JSON escapes."""
    value = row.get(text)
    try:
        if isinstance(value, str):
            value.encode()
    except UnicodeEncodeError:
        return where, row, "not UTF-8"
    return where, row, ""


def set_label(row: Row, name: str, value: str) -> None:
    """Put one label beside those that the row came with (a dict, or JSON of one)."""
    held = row.get("labels")
    if isinstance(held, str):
        try:
            held = json.loads(held)
        except (json.JSONDecodeError, RecursionError):
            held = None
    row["labels"] = {**(held if isinstance(held, dict) else {}), name: value}
