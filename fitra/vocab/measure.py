"""How well a tokenizer reads a text: fertility, bytes per token, unbroken words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

from fitra.vocab.bpe import RUN, piece_text

BATCH = 256


def measure(tok: Tokenizer, texts: Sequence[str], lang: str) -> dict[str, float]:
    """Figures of `tok` on `texts`, special tokens left out.

    tokens_per_word: all tokens (punctuation too) by words between white space. bytes_per_token: UTF-8 bytes by tokens.
    unbroken_words: share of words read as one token, a word being a run of Arabic letters with the space before it
    (lang 'ar') or a white-space word with a space before it.
    """
    tokens = sum(
        len(e.ids)
        for at in range(0, len(texts), BATCH)
        for e in tok.encode_batch(list(texts[at : at + BATCH]), add_special_tokens=False)
    )
    counts: Counter[str] = Counter()
    for t in texts:
        counts.update(RUN.findall(t) if lang == "ar" else (f" {w}" for w in t.split()))
    kinds = list(counts)
    whole = 0
    for at in range(0, len(kinds), BATCH):
        part = kinds[at : at + BATCH]
        for w, e in zip(part, tok.encode_batch(part, add_special_tokens=False), strict=True):
            whole += counts[w] if len(e.ids) == 1 else 0
    words = sum(len(t.split()) for t in texts)
    return {
        "documents": len(texts),
        "words": words,
        "tokens": tokens,
        "tokens_per_word": round(tokens / max(words, 1), 4),
        "bytes_per_token": round(sum(len(t.encode()) for t in texts) / max(tokens, 1), 4),
        "unbroken_words": round(whole / max(counts.total(), 1), 4),
    }


def samples(old: Tokenizer, new: Tokenizer, texts: Sequence[str], n: int = 8, words: int = 8) -> list[dict[str, Any]]:
    """The first words of some texts, cut as the old and as the new tokenizer cut them (half letters as U+FFFD)."""
    out: list[dict[str, Any]] = []
    for t in texts:
        line = " ".join(t.split()[:words])
        if line and RUN.search(line) and len(out) < n:
            cut = {k: [piece_text(p) for p in tok.encode(line, add_special_tokens=False).tokens if _plain(p)]
                   for k, tok in (("before", old), ("after", new))}  # fmt: skip
            out.append({"text": line, **cut})
    return out


def _plain(piece: str) -> bool:
    """Whether a piece is written in the byte alphabet (an added token need not be)."""
    try:
        piece_text(piece)
    except KeyError:
        return False
    return True
