"""SentencePiece model files (`tokenizer.model`): read, grown and written without the sentencepiece package.

The file is one protocol buffer message (sentencepiece_model.proto): pieces are its repeated field 1, each with text
(1), score (2) and type (3); field 2 is the trainer's settings, with model_type (3) and vocab_size (4); field 3 the
normaliser's. Messages of one type that follow each other are read as one: new pieces are appended at the end of the
file, and so is a second field 2 with the new size; every old byte stays where it is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fitra.errors import FitraError

NAME = "tokenizer.model"
SPACE = "\u2581"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_TYPES = {1: "Unigram", 2: "BPE", 3: "Word", 4: "Char"}
Field = tuple[int, int, bytes | int]


@dataclass(frozen=True)
class Piece:
    """One entry; its place is its id."""

    text: str
    score: float
    type: int


@dataclass(frozen=True)
class Model:
    """What Fitra needs of a model file, and its bytes."""

    raw: bytes
    pieces: tuple[Piece, ...]
    model_type: int
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    charsmap: bytes
    suffix: bool  # spaces at the end of words


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than ten bytes")


def _fields(raw: bytes) -> Iterator[Field]:
    """(number, wire type, value) of each field of a message."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(raw, at)
            yield number, wire, value
            continue
        if wire == 2:
            size, at = _varint(raw, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(raw):
            raise ValueError("cut off")
        yield number, wire, raw[at : at + size]
        at += size


def read(path: Path) -> Model:
    """Read a model file; FitraError when it is damaged or not a BPE."""
    raw = path.read_bytes()
    pieces: list[Piece] = []
    trainer: dict[int, Any] = {}
    normal: dict[int, Any] = {}
    try:
        for number, wire, value in _fields(raw):
            if number == 1 and isinstance(value, bytes):
                entry = {n: v for n, _, v in _fields(value)}
                score = struct.unpack("<f", entry[2])[0] if 2 in entry else 0.0  # type: ignore[arg-type]
                pieces.append(Piece(entry.get(1, b"").decode("utf-8"), score, int(entry.get(3, NORMAL))))  # type: ignore[union-attr]
            elif number in (2, 3) and wire == 2 and isinstance(value, bytes):
                (trainer if number == 2 else normal).update({n: v for n, _, v in _fields(value)})
    except (ValueError, IndexError, KeyError, struct.error, UnicodeDecodeError, AttributeError):
        raise FitraError(f"{path}: damaged or not a SentencePiece model.", "Fetch the tokenizer again.") from None
    kind = int(trainer.get(3, 1))
    if not pieces or kind != 2:
        said = _TYPES.get(kind, str(kind)) if pieces else "empty"
        raise FitraError(f"{path}: the SentencePiece model is '{said}', expected 'BPE'.", "Give a BPE base.")
    return Model(
        raw, tuple(pieces), kind, bool(normal.get(3, 1)), bool(normal.get(4, 1)), normal.get(2, b""),
        bool(trainer.get(24, 0)),
    )  # fmt: skip


def _key(number: int, wire: int) -> bytes:
    return _number(number << 3 | wire)


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _message(number: int, body: bytes) -> bytes:
    return _key(number, 2) + _number(len(body)) + body


def _piece(p: Piece) -> bytes:
    body = _message(1, p.text.encode()) + _key(2, 5) + struct.pack("<f", p.score)
    return _message(1, body + (_key(3, 0) + _number(p.type) if p.type != NORMAL else b""))


def extend(model: Model, tokens: Mapping[str, int], added: Sequence[Mapping[str, Any]] = ()) -> bytes:
    """The bytes of a model file with new pieces at their ids, ranked after every old one in the order of `tokens`.

    An id below the number of old pieces replaces what is there. `added` are the added tokens of the tokenizer.json:
    those beyond the old pieces are written as control pieces (special) or as user-defined ones, since ids are places
    in the file. Raises FitraError where ids leave a gap.
    """
    size = len(model.pieces)
    score = np.float32(min((p.score for p in model.pieces if p.type == NORMAL), default=0.0))
    new: dict[int, Piece] = {}
    for text, i in tokens.items():
        # Always lower: where one less is the same 32-bit number, the next one that differs.
        score = min(np.float32(score - np.float32(1)), np.nextafter(score, np.float32(-np.inf)))
        new[i] = Piece(text, float(score), NORMAL)
    for a in added:
        if a["id"] >= size:
            new.setdefault(a["id"], Piece(a["content"], 0.0, CONTROL if a.get("special") else USER_DEFINED))
    later = sorted(i for i in new if i >= size)
    if later != list(range(size, size + len(later))):
        raise FitraError(
            f"{NAME} has {size} pieces, but new ids run from {later[0]} with gaps.",
            "tokenizer.model and tokenizer.json of the base do not belong together.",
        )
    raw = model.raw if len(later) == len(new) else _replaced(model, new)
    end = _message(2, _key(4, 0) + _number(size + len(later)))
    return raw + b"".join(_piece(new[i]) for i in later) + (end if later else b"")


def _replaced(model: Model, new: Mapping[int, Piece]) -> bytes:
    out, at = [], 0
    for number, wire, value in _fields(model.raw):
        if number == 1:
            out.append(_piece(new[at]) if at in new else _message(1, value))  # type: ignore[arg-type]
            at += 1
        elif isinstance(value, int):
            out.append(_key(number, 0) + _number(value))
        else:
            out.append(_message(number, value) if wire == 2 else _key(number, wire) + value)
    return b"".join(out)


def to_spec(model: Model) -> dict[str, Any]:
    """The tokenizer.json that reads text as this model does: merges are all splits of all pieces, by score.

    Raises FitraError for models that change text (a character map, removed spaces), which a plain tokenizer.json
    of this kind cannot say, and for models without byte fallback.
    """
    if model.charsmap or model.remove_extra_whitespaces or model.suffix:
        raise FitraError(f"{NAME}: the model normalises text.", "Give the tokenizer.json that belongs to it.")
    vocab = {p.text: i for i, p in enumerate(model.pieces)}
    if sum(p.type == BYTE for p in model.pieces) != 256:
        raise FitraError(f"{NAME}: no byte fallback.", "Give a BPE base with byte fallback (Llama-2, Mistral v1).")
    normal = {p.text: p.score for p in model.pieces if p.type == NORMAL}
    merges = []
    # A stable sort: pieces of one score stay in the order of their ids.
    for t in sorted(normal, key=lambda t: -normal[t]):
        found = [(t[:i], t[i:]) for i in range(1, len(t)) if t[:i] in normal and t[i:] in normal]
        merges += sorted(found, key=lambda p: (vocab[p[0]], vocab[p[1]]))
    unknown = next((p.text for p in model.pieces if p.type == UNKNOWN), None)
    added = [
        {"id": i, "content": p.text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": p.type != USER_DEFINED}
        for i, p in enumerate(model.pieces) if p.type in (UNKNOWN, CONTROL, USER_DEFINED)
    ]  # fmt: skip
    prefix: list[dict[str, Any]] = [{"type": "Prepend", "prepend": SPACE}] if model.add_dummy_prefix else []
    strip: list[dict[str, Any]] = (
        [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if model.add_dummy_prefix else []
    )
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [*prefix, spaces]},
        "pre_tokenizer": None, "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": unknown, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": vocab, "merges": [list(m) for m in merges],
        },
    }  # fmt: skip
