"""BPE tokenizers as data: what a `tokenizer.json` says, what its pieces stand for, and how it grows.

Two kinds are known. *bytes*: byte-level BPE as in GPT-2, Llama-3, Qwen, tekken; pieces are written in GPT-2's printable
stand-ins for bytes. *sentencepiece*: BPE over characters with byte fallback as in Llama-2 and Mistral v1; a space is
written ▁, a byte <0xD9>, and no border stands between words but the one in front of ▁.

The merges of a byte-level BPE are pairs. A SentencePiece BPE knows pieces with scores: any two neighbours that make a
piece may merge, the best score first. Written as merges (as converters do) that is every split of every piece, in
the order of the pieces' scores; grown vocabularies keep to it, so that tokenizer.json and the model file agree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, pre_tokenizers

from fitra.errors import FitraError
from fitra.vocab.script import ARABIC, DEFAULT, RUN, Script

__all__ = ["ARABIC", "RUN", "Kind", "Merge", "build", "extend", "kind", "piece_text", "read", "segment", "text_of"]

Kind = Literal["bytes", "sentencepiece"]
SUPPORTED = (
    "Supported: BPE, byte-level (GPT-2, Llama-3, Qwen, tekken) or SentencePiece with byte fallback (Llama-2, "
    "Mistral v1), as tokenizer.json, tokenizer.model or tekken.json."
)
SPACE = "\u2581"
BYTE = re.compile("<0x([0-9A-F]{2})>")
BATCH, JOINED = 1 << 16, 64  # words at a time, and in one string
Ints = npt.NDArray[np.int64]


def _byte_alphabet() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte: itself where printable, else the next free code point from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(hidden)}}


TO_CHAR = _byte_alphabet()
TO_BYTE = {c: b for b, c in TO_CHAR.items()}


def piece_bytes(piece: str) -> bytes:
    """The bytes that a byte-level piece stands for."""
    return bytes(TO_BYTE[c] for c in piece)


def _text_of_bytes(piece: str) -> str:
    return piece_bytes(piece).decode("utf-8", errors="replace")


def _text_of_sentencepiece(piece: str) -> str:
    byte = BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]).decode("utf-8", errors="replace") if byte else piece.replace(SPACE, " ")


def text_of(kind: Kind) -> Callable[[str], str]:
    """The function that gives a piece as people read it; half letters show as U+FFFD."""
    return _text_of_bytes if kind == "bytes" else _text_of_sentencepiece


def piece_text(piece: str, kind: Kind = "bytes") -> str:
    """A piece as people read it; half letters show as U+FFFD."""
    return text_of(kind)(piece)


def byte_length(kind: Kind) -> Callable[[str], int]:
    """The function that gives how many bytes of text a piece stands for (added tokens: of their name)."""
    if kind == "bytes":
        return len
    return lambda piece: 1 if BYTE.fullmatch(piece) else len(piece.replace(SPACE, " ").encode())


def piece_of(text: str, kind: Kind) -> str:
    """The piece that stands for a text."""
    return "".join(TO_CHAR[b] for b in text.encode()) if kind == "bytes" else text.replace(" ", SPACE)


def is_clean(piece: str, kind: Kind = "bytes", script: Script = DEFAULT) -> bool:
    """Whether a piece may be merged further: whole letters and marks, with at most one space in front."""
    text = _whole(piece, kind)
    return text is not None and script.is_clean(text)


def is_token(piece: str, kind: Kind = "bytes", script: Script = DEFAULT) -> bool:
    """Whether a piece may be a new token: one that `is_clean`, or a sign of the script by itself."""
    text = _whole(piece, kind)
    return text is not None and script.is_token(text)


def _whole(piece: str, kind: Kind) -> str | None:
    """The text of a piece; None where it holds parts of letters."""
    if kind == "sentencepiece":
        return piece.replace(SPACE, " ")
    try:
        return piece_bytes(piece).decode("utf-8")
    except UnicodeDecodeError:
        return None


def is_partial(piece: str, script: Script = DEFAULT) -> bool:
    """Whether a byte-level piece is a space or clean text or nothing, followed by the first bytes of a letter."""
    raw = piece_bytes(piece)
    head = next((h for h in script.heads if raw.endswith(h)), None)
    if head is None:
        return False
    try:
        front = raw[: -len(head)].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return front in ("", " ") or script.is_clean(front)


@dataclass(frozen=True)
class Merge:
    """One learned merge, in the writing of the vocabulary: `left` + `right` side by side become one token.

    With `right` empty it is a character that a SentencePiece base could only write in bytes.
    """

    left: str
    right: str

    @property
    def token(self) -> str:
        return self.left + self.right


def read(folder: Path) -> dict[str, Any]:
    """The tokenizer.json of a model folder, or what it would be where there is only tokenizer.model or tekken.json.

    Raises FitraError when there is none or it is not a BPE of a known kind.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        from fitra.vocab import sentencepiece, tekken

        if (folder / sentencepiece.NAME).is_file():
            return sentencepiece.to_spec(sentencepiece.read(folder / sentencepiece.NAME))
        if (folder / tekken.NAME).is_file():
            return tekken.to_spec(tekken.read(folder / tekken.NAME))
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FitraError(f"{folder}: no tokenizer.json.", SUPPORTED) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise FitraError(f"{path}: not valid JSON.", "Fetch the tokenizer again.") from None
    model = spec.get("model") if isinstance(spec, dict) else None
    if not isinstance(model, dict) or model.get("type") != "BPE":
        said = model.get("type") if isinstance(model, dict) else "unknown"
        raise FitraError(f"{path}: the tokenizer model is '{said}', expected 'BPE'.", SUPPORTED)
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise FitraError(f"{path}: the BPE model sets '{key}'.", SUPPORTED)
    (_check_sentencepiece if kind(spec) == "sentencepiece" else _check_bytes)(path, spec)
    return spec  # type: ignore[no-any-return]


def kind(spec: Mapping[str, Any]) -> Kind:
    """Which of the two kinds a tokenizer.json is."""
    return "sentencepiece" if spec["model"].get("byte_fallback") else "bytes"


def _steps(part: Any, key: str) -> list[dict[str, Any]]:
    return list(part.get(key, [part])) if part else []


def _check_bytes(path: Path, spec: Mapping[str, Any]) -> None:
    steps = _steps(spec.get("pre_tokenizer"), "pretokenizers")
    if not any(s.get("type") == "ByteLevel" for s in steps) or (spec.get("decoder") or {}).get("type") != "ByteLevel":
        raise FitraError(
            f"{path}: a BPE with neither the ByteLevel pre-tokenizer and decoder nor byte fallback.", SUPPORTED
        )
    never = (0xC0, 0xC1, *range(0xF5, 256))  # in no UTF-8 text
    if missing := [b for b, c in TO_CHAR.items() if c not in spec["model"]["vocab"] and b not in never]:
        raise FitraError(f"{path}: {len(missing)} bytes have no token, the first is 0x{missing[0]:02X}.", SUPPORTED)


def _check_sentencepiece(path: Path, spec: Mapping[str, Any]) -> None:
    """Spaces must become ▁ and nothing else may change a text before it is cut."""
    normal = _steps(spec.get("normalizer"), "normalizers")
    pre = _steps(spec.get("pre_tokenizer"), "pretokenizers")
    known = all(
        n.get("type") == "Prepend" or (n.get("type") == "Replace" and n.get("content") == SPACE) for n in normal
    )
    spaces = any(n.get("type") == "Replace" for n in normal) or any(p.get("type") == "Metaspace" for p in pre)
    if not known or not spaces or any(p.get("type") != "Metaspace" for p in pre):
        said = ", ".join(str(s.get("type")) for s in (*normal, *pre)) or "nothing"
        raise FitraError(
            f"{path}: a SentencePiece BPE that prepares text with {said}; expected only spaces to become ▁.", SUPPORTED
        )
    if missing := [b for b in range(256) if f"<0x{b:02X}>" not in spec["model"]["vocab"]]:
        raise FitraError(f"{path}: {len(missing)} bytes have no token, the first is 0x{missing[0]:02X}.", SUPPORTED)


def extend(spec: Mapping[str, Any], merges: Sequence[Merge]) -> dict[str, Any]:
    """A copy of a tokenizer.json with `merges` appended and their tokens numbered after every old id."""
    model = dict(spec["model"])
    vocab: dict[str, int] = dict(model["vocab"])
    # An added token outside the model's vocabulary is numbered by its size when the file is loaded: with a bigger
    # vocabulary it would move. Written into the vocabulary it keeps its id.
    for added in spec.get("added_tokens", []):
        vocab.setdefault(added["content"], added["id"])
    nxt = max(vocab.values()) + 1
    fresh: list[str] = []
    for m in merges:
        if m.token not in vocab:
            vocab[m.token] = nxt
            fresh.append(m.token)
            nxt += 1
    model["vocab"] = vocab
    pairs = [(m.left, m.right) for m in merges] if kind(spec) == "bytes" else _all_splits(fresh, vocab)
    return {**spec, "model": append_merges(model, pairs)}


def lean(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The same tokenizer, said so that it runs faster where that is known: spaces become ▁ in the last step.

    Converters of Llama-2's kind write a normaliser [Prepend ▁, Replace " " by ▁]. The Metaspace pre-tokenizer makes the
    same of a text in fewer passes (ids and places alike, measured in docs/vocab.md).
    """
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    prepend = {"type": "Prepend", "prepend": SPACE}
    if spec.get("pre_tokenizer") or _steps(spec.get("normalizer"), "normalizers") != [prepend, replace]:
        return dict(spec)
    meta = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "never", "split": False}
    return {**spec, "normalizer": prepend, "pre_tokenizer": meta}


def append_merges(model: dict[str, Any], pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The model with further merges, in the writing that its file has."""
    old = model["merges"]
    as_text = bool(old) and isinstance(old[0], str)  # files before tokenizers 0.20 write "a b"
    model["merges"] = [*old, *(f"{a} {b}" if as_text else [a, b] for a, b in pairs)]
    return model


def _all_splits(tokens: Sequence[str], vocab: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Every pair of tokens that makes one of `tokens`, in their order, as converters of SentencePiece write them.

    Parts of later rank are left out: where they would meet, the token is there already.
    """
    end = 1 << 62
    for t in tokens:
        own = vocab[t]
        found = [
            (t[:i], t[i:]) for i in range(1, len(t)) if vocab.get(t[:i], end) < own and vocab.get(t[i:], end) < own
        ]
        yield from sorted(found, key=lambda p: (vocab[p[0]], vocab[p[1]]))


def pairs_of(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The merges of a tokenizer.json, whichever way they are written."""
    return [tuple(m.split(" ", 1)) if isinstance(m, str) else tuple(m) for m in spec["model"]["merges"]]  # type: ignore[misc]


def build(spec: Mapping[str, Any]) -> Tokenizer:
    """A tokenizer from the content of a tokenizer.json, without truncation or padding."""
    tok = Tokenizer.from_str(json.dumps(spec, ensure_ascii=False))
    tok.no_truncation()
    tok.no_padding()
    return tok


def segment(spec: Mapping[str, Any], words: Sequence[str]) -> Iterator[list[int]]:
    """The ids of each word (in the writing of the vocabulary, no white space) by the BPE model alone."""
    ids, owner = segment_flat(spec, words)
    ends = np.searchsorted(owner, np.arange(len(words)), side="right").tolist()
    flat, start = ids.tolist(), 0
    for end in ends:
        yield flat[start:end]
        start = end


def segment_flat(spec: Mapping[str, Any], words: Sequence[str]) -> tuple[Ints, Ints]:
    """The ids of all words one after the other, and for each id the number of its word."""
    model = spec["model"]
    bare = Tokenizer(
        models.BPE(
            vocab=model["vocab"],
            merges=pairs_of(spec),
            unk_token=model.get("unk_token"),
            fuse_unk=bool(model.get("fuse_unk")),
            byte_fallback=bool(model.get("byte_fallback")),
            ignore_merges=bool(model.get("ignore_merges")),
        )
    )
    # Many words in one string, and many strings in one call: words alone cost twice as much.
    bare.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ids, owner = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for at in range(0, len(words), BATCH):
        starts = range(at, min(at + BATCH, len(words)), JOINED)
        joined = [" ".join(words[i : i + JOINED]) for i in starts]
        for i, e in zip(starts, bare.encode_batch(joined, add_special_tokens=False), strict=True):
            ids.append(np.array(e.ids, np.int64))
            owner.append(np.array(e.word_ids, np.int64) + i)
    return np.concatenate(ids), np.concatenate(owner)


def words_of(runs: Mapping[str, int], tok: Tokenizer, kind: Kind, script: Script = DEFAULT) -> dict[str, int]:
    """Runs of text and their counts, as the words that the BPE model gets; sorted. What is not clean is left out."""
    out: dict[str, int] = {}
    normal, pre = tok.normalizer, tok.pre_tokenizer
    for run, n in runs.items():
        if kind == "sentencepiece":
            found = [run.replace(" ", SPACE)]
        else:
            found = [p for p, _ in pre.pre_tokenize_str(normal.normalize_str(run) if normal else run)]
        for word in found:
            if kind == "sentencepiece" or script.run.fullmatch(_text_of_bytes(word)):
                out[word] = out.get(word, 0) + n
    return dict(sorted(out.items()))
