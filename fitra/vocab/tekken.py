"""tekken.json (Mistral from Nemo on): byte-level BPE as a list of byte strings by rank, in tiktoken's way.

Neighbours merge when together they are an entry, the lowest rank first. As merges that is every split of every entry,
in the order of ranks; a stretch of text that is an entry itself is taken whole (`ignore_merges`), as tiktoken does.
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Any

from fitra.errors import FitraError

NAME = "tekken.json"
# Control tokens of files that do not name them (version v3), as in the package mistral-common.
_NAMES = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]",
    "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
)  # fmt: skip


def read(path: Path) -> dict[str, Any]:
    """Read a tekken.json; FitraError when it is not one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found["config"]["pattern"], found["config"]["default_vocab_size"], found["vocab"][0]["token_bytes"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, IndexError):
        raise FitraError(f"{path}: not a tekken tokenizer.", "Fetch the tokenizer again.") from None
    return dict(found)


def to_spec(model: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer.json that reads text as tekken does; special tokens have the first ids."""
    from fitra.vocab.bpe import TO_CHAR

    config = model["config"]
    specials = int(config["default_num_special_tokens"])
    size = int(config["default_vocab_size"]) - specials
    named = {int(t["rank"]): str(t["token_str"]) for t in model.get("special_tokens") or [] if t.get("token_str")}
    control = [named.get(i, _NAMES[i] if i < len(_NAMES) else f"<SPECIAL_{i}>") for i in range(specials)]
    try:
        rank = {base64.b64decode(t["token_bytes"]): i for i, t in enumerate(model["vocab"][:size])}
    except (binascii.Error, TypeError, KeyError):
        raise FitraError(f"{NAME}: an entry without bytes.", "Fetch the tokenizer again.") from None

    def text(b: bytes) -> str:
        return "".join(TO_CHAR[x] for x in b)

    merges = []
    for t in rank:
        found = [(t[:i], t[i:]) for i in range(1, len(t)) if t[:i] in rank and t[i:] in rank]
        merges += [[text(a), text(b)] for a, b in sorted(found, key=lambda p: (rank[p[0]], rank[p[1]]))]
    added = [
        {"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for i, t in enumerate(control)
    ]  # fmt: skip
    vocab = {**{t: i for i, t in enumerate(control)}, **{text(t): i + specials for t, i in rank.items()}}
    split = {"type": "Split", "pattern": {"Regex": config["pattern"]}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]}, "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
            "vocab": vocab, "merges": merges,
        },
    }  # fmt: skip
