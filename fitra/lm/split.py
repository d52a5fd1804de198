"""Where a context ends and what is scored begins, in tokens: the rules of the scorer, for those who score elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from fitra.lm.load import LM

WINDOW = 2048  # tokens read at once where nobody says how long the context is


def split(m: LM, context: str, option: str) -> tuple[list[int], int]:
    """Ids of both together, and the place of the first that is scored.

    They are tokenised together; what is scored follows the longest prefix that the context alone gives too, so a token
    that straddles the border is scored, never lost.
    """
    alone, whole = m.encode([context, context + option])
    border = 0
    for a, b in zip(alone, whole, strict=False):
        if a != b:
            break
        border += 1
    if border == 0:  # nothing to condition on: the beginning of a document
        start = m.start()
        return start + whole, len(start)
    return whole, border


def windows(m: LM, text: str, limit: int) -> Iterator[tuple[list[int], int]]:
    """Ids to read, and how many of the last are scored: every token of the text once, after at least half a window."""
    start, (ids,) = m.start(), m.encode([text])
    whole = ids if ids[: len(start)] == start else start + ids
    half, done = max(1, limit // 2), len(start)
    while done < len(whole):
        begin = 0 if done == len(start) else done - half
        end = min(len(whole), begin + limit)
        yield whole[begin:end], end - done
        done = end
