"""Whether llama.cpp's file format holds a tokenizer: written with the package `gguf` and read back."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

from fitra.errors import FitraError

HINT = "GGUF conversion will fail, too: report it with the name of the base."


def check(folder: Path, tokens: list[str]) -> dict[str, Any]:
    """Write a GGUF of the tokenizer in `folder` and compare what is read back with `tokens`, in the order of ids.

    Tokens, their number and the merges must come back as they are. Without the package nothing is checked, and the
    note says so. llama.cpp itself also knows byte-level tokenizers by a hash of a test text, which new tokens can
    change: its converter then asks for the name of the base's pre-tokenizer.
    """
    try:
        import gguf
    except ImportError:
        return {"checked": False, "why": "the package gguf is not installed"}
    with tempfile.TemporaryDirectory() as tmp:
        path = Path(tmp) / "vocab.gguf"
        with _quiet():
            vocab, kind = _vocab(gguf, folder)
            found = list(vocab.all_tokens())
            merges = _merges(folder) if kind == "gpt2" else []
            writer = gguf.GGUFWriter(path, "llama")
            writer.add_tokenizer_model(kind)
            writer.add_token_list([t for t, _, _ in found])
            writer.add_token_scores([s for _, s, _ in found])
            writer.add_token_types([k for _, _, k in found])
            if merges:
                writer.add_token_merges(merges)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.close()
            reader = gguf.GGUFReader(path)
        back = _strings(reader, "tokenizer.ggml.tokens")
        if back != tokens[: len(back)] or len(back) < len(tokens):
            at = next((i for i, (a, b) in enumerate(zip(back, tokens, strict=False)) if a != b), len(back))
            got = back[at] if at < len(back) else "nothing"
            raise FitraError(f"GGUF holds {got!r} as token {at} of {len(tokens)}.", HINT)
        if merges and _strings(reader, "tokenizer.ggml.merges") != merges:
            raise FitraError("GGUF does not give the merges back.", HINT)
    return {"checked": True, "tokens": len(back), "merges": len(merges), "as": kind}


def _vocab(gguf: Any, folder: Path) -> tuple[Any, str]:
    try:
        if (folder / "tokenizer.model").is_file():
            return gguf.vocab.SentencePieceVocab(folder), "llama"
        spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        if spec["model"].get("byte_fallback"):
            return gguf.vocab.LlamaHfVocab(folder), "llama"
        return gguf.vocab.BpeVocab(folder), "gpt2"
    except (ValueError, TypeError, KeyError, FileNotFoundError, RuntimeError, OSError) as e:
        said = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise FitraError(f"the package gguf does not take the tokenizer: {said}", HINT) from None


def _merges(folder: Path) -> list[str]:
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return [m if isinstance(m, str) else " ".join(m) for m in spec["model"]["merges"]]


def _strings(reader: Any, name: str) -> list[str]:
    entry = reader.get_field(name)
    return [bytes(entry.parts[i]).decode("utf-8") for i in entry.data]


@contextlib.contextmanager
def _quiet() -> Any:
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)
