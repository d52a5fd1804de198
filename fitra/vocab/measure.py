"""How well a tokenizer reads a text: fertility, bytes per token, unbroken words, Rényi efficiency.

Everything is taken in context, from the places that a tokenizer reports for its tokens, so that byte-level and
SentencePiece tokenizers are measured alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from fitra.vocab.bpe import RUN

BATCH = 64
RUNS_IN = 8_000_000  # bytes of text in which runs are looked at: the places of tokens are dear to fetch
ALPHA = 2.5  # of Rényi's entropy: Zouhar et al. (2023) found it to go with translation quality
_WORD = re.compile(r"\S+")


@dataclass
class Counts:
    """Sums over documents; `runs` and `whole` (runs read as one token) over the first RUNS_IN bytes of them."""

    documents: int = 0
    bytes: int = 0
    words: int = 0
    tokens: int = 0
    runs: int = 0
    whole: int = 0

    def __iadd__(self, other: Counts) -> Counts:
        for k, v in vars(other).items():
            setattr(self, k, getattr(self, k) + v)
        return self

    def figures(self) -> dict[str, float]:
        """tokens_per_word, bytes_per_token, unbroken_words and what they are made of."""
        return {
            "documents": self.documents,
            "words": self.words,
            "tokens": self.tokens,
            "tokens_per_word": round(self.tokens / max(self.words, 1), 4),
            "bytes_per_token": round(self.bytes / max(self.tokens, 1), 4),
            "unbroken_words": round(self.whole / max(self.runs, 1), 4),
        }


@dataclass
class Reading:
    """A tokenizer on some texts: sums for each text, and how often each token occurs in all of them."""

    each: list[Counts] = field(default_factory=list)
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def total(self, of: Sequence[int] | None = None) -> Counts:
        """The sum over all texts, or over those numbered in `of`."""
        out = Counts()
        for i in range(len(self.each)) if of is None else of:
            out += self.each[i]
        return out


def read(tok: Tokenizer, texts: Sequence[str], lang: str) -> Reading:
    """Read texts with a tokenizer, special tokens left out.

    A run is a stretch of Arabic letters and marks (lang 'ar'), else what stands between white space. It is unbroken
    where a single token covers it.
    """
    pattern = re.compile(RUN.pattern.removeprefix(" ?")) if lang == "ar" else _WORD
    out, size, seen = Reading(), max(tok.get_vocab(with_added_tokens=True).values(), default=0) + 1, 0
    out.ids = np.zeros(size, np.int64)
    for at in range(0, len(texts), BATCH):
        part = list(texts[at : at + BATCH])
        for text, e in zip(part, tok.encode_batch(part, add_special_tokens=False), strict=True):
            ids = e.ids
            out.ids += np.bincount(np.asarray(ids, np.int64), minlength=size)
            raw = len(text.encode("utf-8", "surrogatepass"))
            one = Counts(1, raw, len(text.split()), len(ids))
            if seen < RUNS_IN:
                one.runs, one.whole = _runs(text, e, pattern)
            seen += raw
            out.each.append(one)
    return out


def _runs(text: str, e: Encoding, pattern: re.Pattern[str]) -> tuple[int, int]:
    spans = np.fromiter(chain.from_iterable(m.span() for m in pattern.finditer(text)), np.int64).reshape(-1, 2)
    places = np.fromiter(chain.from_iterable(e.offsets), np.int64).reshape(-1, 2)
    # Tokens that begin before the run ends, less those that end before it begins: what touches it.
    touching = np.searchsorted(places[:, 0], spans[:, 1], "left") - np.searchsorted(places[:, 1], spans[:, 0], "right")
    return len(spans), int((touching == 1).sum())


def measure(tok: Tokenizer, texts: Sequence[str], lang: str) -> dict[str, float]:
    """Figures of `tok` on `texts`, special tokens left out.

    tokens_per_word: all tokens (punctuation too) by words between white space. bytes_per_token: UTF-8 bytes by tokens.
    unbroken_words: share of runs read as one token, a run being Arabic letters and marks side by side (lang 'ar') or a
    white-space word. renyi: see `renyi`.
    """
    got = read(tok, texts, lang)
    return {**got.total().figures(), "renyi": round(renyi(got.ids), 4)}


def renyi(counts: np.ndarray, alpha: float = ALPHA) -> float:
    """Rényi efficiency: entropy of order `alpha` of the tokens that occur, by the logarithm of how many kinds they are.

    1 where all occur equally often. Source: Zouhar et al. (2023), "Tokenization and the noiseless channel".
    """
    p = counts[counts > 0] / max(counts.sum(), 1)
    if len(p) < 2:
        return 1.0
    return float(np.log(np.sum(p**alpha)) / (1 - alpha) / np.log(len(p)))


def cut(tok: Tokenizer, text: str) -> list[tuple[str, int]]:
    """A text in the pieces that a tokenizer reads, each with how many tokens it takes (several where letters are cut).

    The pieces joined are the text. The space that SentencePiece puts before a text counts with the first letter.
    """
    out: list[tuple[str, int]] = []
    begin = end = 0  # of the piece that is being made
    tokens = 0
    for a, b in tok.encode(text, add_special_tokens=False).offsets:
        if tokens and a >= end and end > begin:
            out.append((text[begin:end], tokens))
            begin, tokens = end, 0
        end, tokens = max(end, b), tokens + 1
    if text[begin:]:
        out.append((text[begin:], tokens))
    return out


def samples(old: Tokenizer, new: Tokenizer, texts: Sequence[str], n: int = 8, words: int = 8) -> list[dict[str, Any]]:
    """The first words of some texts, cut as the old and as the new tokenizer cut them."""
    return [
        {"text": line, "before": [p for p, _ in cut(old, line)], "after": [p for p, _ in cut(new, line)]}
        for line in _lines(texts, n, words)
    ]


def _lines(texts: Sequence[str], n: int, words: int) -> Iterator[str]:
    for t in texts:
        line = " ".join(t.split()[:words])
        if n and RUN.search(line):
            n -= 1
            yield line
