"""Rows of any file to documents of one shape: ids, source, licence, labels; over-long texts split."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import xxhash

from fitra import tables
from fitra.artifacts import LICENCE_CLASSES, canonical_json
from fitra.recipe import Source

Document = dict[str, Any]  # the fields of DOCUMENT_SCHEMA; `labels` a dict until it is written

_CLASSES = tuple(LICENCE_CLASSES)
LABEL_COLUMNS = ("genre", "title", "date")  # facts of the source that are kept as labels
_PARAGRAPH = re.compile(r"\n[ \t\r]*\n\s*")
_SENTENCE = re.compile(r"[.!?؟۔…][\"»”')\]]*\s+")


def split(text: str, limit: int) -> list[str]:
    """Cut a text into pieces of at most `limit` characters that joined give the text again.

    Cuts where a paragraph ends, else a line, else a sentence, else a word, as late as possible in the second half of
    a piece; hard where there is none of these.
    """
    pieces, start = [], 0
    while len(text) - start > limit:
        half = start + limit // 2
        window = text[half : start + limit]
        cut = start + limit
        for ends in (_ends(_PARAGRAPH, window), _ends(re.compile("\n+"), window), _ends(_SENTENCE, window)):
            if ends:
                cut = half + ends
                break
        else:
            space = window.rfind(" ")
            cut = half + space + 1 if space >= 0 else cut
        pieces.append(text[start:cut])
        start = cut
    return [*pieces, text[start:]]


def _ends(pattern: re.Pattern[str], window: str) -> int:
    last = 0
    for m in pattern.finditer(window):
        last = m.end()
    return last


def documents(source: Source, file: str, rows: list[tables.Row], max_chars: int) -> list[Document]:
    """The documents of some rows; a text longer than `max_chars` comes as several with one `parent_id`.

    Ids are as the rows have them (or made of source and text); that they are unique is seen to over all shards.
    """
    out: list[Document] = []
    name = Path(file).name.split(".")[0]
    for row in rows:
        text = row[source.text]
        where = _text(row, "source") or name
        ident = next((own for c in (source.id, "id", "doc_id") if c and (own := _text(row, c))), None)
        licence_class = row.get("licence_class")
        doc: Document = {
            "id": ident or xxhash.xxh3_128_hexdigest(f"{where}\0{text}".encode()),
            "text": text,
            "lang": source.lang or _text(row, "lang"),
            "source": where,
            "url": _text(row, "url"),
            "licence": _text(row, "licence") or source.licence or None,
            "licence_class": licence_class if licence_class in _CLASSES else source.licence_class,
            "parent_id": _text(row, "parent_id"),
            "pair_id": _text(row, "pair_id"),
            "labels": _labels(row),
        }
        if len(text) <= max_chars:
            out.append(doc)
            continue
        for n, piece in enumerate(split(text, max_chars), 1):
            labels = {**doc["labels"], "part": n}
            out.append({**doc, "id": f"{doc['id']}#{n:05d}", "text": piece, "parent_id": doc["id"], "labels": labels})
    return out


def _text(row: dict[str, Any], name: str) -> str | None:
    value = row.get(name)
    if value is None or isinstance(value, dict | list):
        return None
    shown = value if isinstance(value, str) else str(value)
    if shown.isascii():
        return shown if shown.strip() else None
    return shown.encode("utf-8", "replace").decode() if shown.strip() else None


def _labels(row: dict[str, Any]) -> dict[str, Any]:
    held = row.get("labels")
    try:
        held = json.loads(held) if isinstance(held, str) else held
    except json.JSONDecodeError:
        held = None
    out = dict(held) if isinstance(held, dict) else {}
    for name in LABEL_COLUMNS:
        if name in row and (value := _text(row, name)):
            out[name] = value
    return out


def labels_json(labels: dict[str, Any]) -> str:
    """Labels as they are stored: JSON, keys sorted."""
    return canonical_json(labels)
