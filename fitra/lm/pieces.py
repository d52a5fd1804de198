"""Encode texts with common beginnings without encoding the beginnings again: same ids, a fifth of the time.

Byte-level tokenizers first cut a text into pieces with a regular expression and then encode each piece by itself. With
the expressions known here a piece never goes on from a letter to the white space after it, and none looks back, so a
text may be cut there and the parts encoded alone. Every other tokenizer encodes whole texts.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

from fitra.lm.load import LM

# Where a text may be cut: before white space that follows a plain letter, Latin or Arabic.
CUT = re.compile(r"(?<=[A-Za-z\u0621-\u063a\u0641-\u064a])[ \n]")
NEAR = 200  # characters more in common than the last shared beginning that are not worth another one
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
KNOWN = (
    # GPT-2; Fitra's own base; Llama 3; Qwen 2 and later
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r" ?[\p{L}\p{M}]+| ?\p{N}{1,3}| ?[^\s\p{L}\p{M}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+",
    _CL100K % "{1,3}",
    _CL100K % "",
)


def encode(m: LM, pairs: Sequence[tuple[str, str]]) -> tuple[dict[str, list[int]], list[list[int]]]:
    """Ids of each context alone, and of each context with its continuation; as `m.encode` gives them."""
    contexts = list(dict.fromkeys(c for c, _ in pairs))
    if len(contexts) == 0 or not cuttable(m.tokenizer):
        alone = m.encode(contexts)
        return dict(zip(contexts, alone, strict=True)), m.encode([c + o for c, o in pairs])
    heads = dict(zip(contexts, _heads(contexts), strict=True))  # context: where it is cut
    parts: dict[str, list[int]] = {}
    for c, o in pairs:
        a, b = heads[c]
        for part in (c[:a], c[a:b], c[b:], c[b:] + o):
            parts[part] = []
    texts = list(parts)
    parts = dict(zip(texts, m.tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True))
    prefix = m.prefix()

    def join(*some: str) -> list[int]:
        ids = [x for part in some for x in parts[part]]
        return ids if ids[: len(prefix)] == prefix else prefix + ids

    alone_of = {c: join(c[:a], c[a:b], c[b:]) for c, (a, b) in heads.items()}
    return alone_of, [join(c[: heads[c][0]], c[heads[c][0] : heads[c][1]], c[heads[c][1] :] + o) for c, o in pairs]


def cuttable(tokenizer: Any) -> bool:
    """Whether parts cut at CUT encode as they do in the whole text."""
    inner = getattr(tokenizer, "backend_tokenizer", None)
    if inner is None or inner.normalizer is not None or inner.pre_tokenizer is None:
        return False
    for added in inner.get_added_tokens_decoder().values():
        if added.lstrip or added.rstrip or added.single_word or re.search(r"\s", added.content):
            return False
    try:
        state = json.loads(inner.pre_tokenizer.__getstate__())
    except (AttributeError, ValueError, TypeError):
        return False
    steps = state["pretokenizers"] if state.get("type") == "Sequence" else [state]
    *splits, last = steps
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        return False
    if not splits:
        return bool(last.get("use_regex"))  # GPT-2's expression, built in
    return (
        len(splits) == 1
        and not last.get("use_regex")
        and splits[0].get("type") == "Split"
        and splits[0].get("behavior") == "Isolated"
        and not splits[0].get("invert")
        and splits[0].get("pattern", {}).get("Regex") in KNOWN
    )


def _heads(contexts: Sequence[str]) -> list[tuple[int, int]]:
    """Two places to cut each context: after what it shares with a neighbour, and near its end."""
    alike = [0, *(_alike(a, b) for a, b in itertools.pairwise(contexts)), 0]
    places = []
    last, where = "", 0
    for i, c in enumerate(contexts):
        shared = max(alike[i], alike[i + 1])
        if not (where and shared - where < NEAR and c.startswith(last)):
            where = _cut(c, shared)
            last = c[:where]
        places.append((where, max(where, _cut(c, len(c)))))
    return places


def _cut(text: str, end: int) -> int:
    """The last place in text[:end] where it may be cut, within reach; else 0."""
    found = 0
    for hit in CUT.finditer(text, max(0, end - 400), end):
        found = hit.start()
    return found


def _alike(a: str, b: str) -> int:
    """Length of the common beginning, by halving."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        mid = (low + high + 1) // 2
        if a[low:mid] == b[low:mid]:
            low = mid
        else:
            high = mid - 1
    return low
