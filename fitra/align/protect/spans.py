"""What the finders of protected text have in common."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["KINDS", "Match", "Protected"]

# Where two spans meet they become one of the earlier kind. Only the last three may be dropped with an advertisement.
KINDS = ("placeholder", "code", "quran", "hadith", "poetry", "law", "formula", "quote", "url", "number")


class Protected(NamedTuple):
    """Characters [start, end) of a text and why they are protected: one of KINDS."""

    start: int
    end: int
    kind: str


class Match(NamedTuple):
    """Characters [start, end) of a text that are `words` words of the Qur'an from its word `at` on."""

    start: int
    end: int
    words: int
    at: int
