"""Cutting text into sentences and chunks so that the pieces joined are the text again, byte for byte."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["chunks", "sentences"]

# A sentence ends at a line break, or after its marks (and closing brackets) where white space follows. A point between
# digits or inside a short abbreviation («د.», «ص.ب») has no white space after it or follows a single letter.
_END = re.compile(r"\n+|(?<![\s.][^\W\d_])(?:[.!?؟؛…]+|[.!?؟…]+[\"»”)\]]+)(?=\s)[^\S\n]*")


def sentences(text: str) -> Iterator[tuple[str, str]]:
    """Yield (sentence, separator) pairs: the separator is the white space or line breaks after the sentence.

    Joining all of them gives `text` exactly; a sentence may be empty where separators touch.
    """
    at = 0
    for m in _END.finditer(text):
        piece = text[at : m.end()]
        body = piece.rstrip()
        yield body, piece[len(body) :]
        at = m.end()
    if at < len(text):
        piece = text[at:]
        body = piece.rstrip()
        yield body, piece[len(body) :]


def chunks(text: str, limit: int) -> list[str]:
    """Cut at paragraph ends, else sentence ends, into pieces of at most `limit` characters that join to `text`.

    A single sentence longer than `limit` stays whole: cutting inside one would lose its meaning to the rewriter.
    """
    if len(text) <= limit:
        return [text]
    out, here = [], ""
    for paragraph in re.split(r"(?<=\n)(?=[^\n])", text):
        pieces = [paragraph] if len(paragraph) <= limit else [s + sep for s, sep in sentences(paragraph)]
        for piece in pieces:
            if here and len(here) + len(piece) > limit:
                out.append(here)
                here = ""
            here += piece
    if here:
        out.append(here)
    return out
