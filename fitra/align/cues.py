"""Which patterns can match a sentence at all, told from its words: what makes long lexicons cheap.

A pattern that begins at the start of a word can match only where one of its first words stands. Those are read off the
parsed pattern once; each different word of the corpus is looked up once and remembered. A sentence then costs one
dictionary look-up per word, and only the patterns whose first word it has are tried.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Cues", "cues"]

_parser: Any = importlib.import_module("re._parser")  # the standard library's own; no public door leads there
_LETTERS = 64  # a class of more characters than this is taken for any
_FORMS = 4096  # first words of one pattern


@dataclass(frozen=True)
class Cues:
    """Bits of words: bit i is set where pattern i may begin with that word; `always` for patterns that say nothing.

    Above the patterns stand the bits of `flags`, whatever else the caller wants to know of each different word.
    """

    exact: dict[str, int]
    prefixes: dict[str, int]
    sizes: tuple[int, ...]
    always: int
    size: int  # how many patterns
    flags: Callable[[str], int]
    seen: dict[str, int] = field(default_factory=dict, compare=False)

    def of(self, words: Iterable[str]) -> int:
        """The patterns that may match a line of these folded words, as bits."""
        out, seen = self.always, self.seen
        for word in words:
            bits = seen.get(word)
            out |= self._look(word) if bits is None else bits
        return out

    def _look(self, word: str) -> int:
        if len(self.seen) > 1 << 18:
            self.seen.clear()
        bits = self.exact.get(word, 0)
        for n in self.sizes:
            bits |= self.prefixes.get(word[:n], 0) if len(word) >= n else 0
        bits |= self.flags(word) << self.size
        self.seen[word] = bits
        return bits


def cues(patterns: Sequence[re.Pattern[str]], flags: Callable[[str], int] = lambda word: 0) -> Cues:
    """The cues of patterns for folded text, where words are parted by one space and nothing else is punctuation."""
    exact: dict[str, int] = {}
    prefixes: dict[str, int] = {}
    always = 0
    for i, pattern in enumerate(patterns):
        found = _firsts(pattern)
        if found is None:
            always |= 1 << i
            continue
        for word, whole in found:
            into = exact if whole else prefixes
            into[word] = into.get(word, 0) | 1 << i
    return Cues(exact, prefixes, tuple(sorted({len(p) for p in prefixes})), always, len(patterns), flags)


class _Any(Exception):
    """The pattern may begin with any word."""


def _firsts(pattern: re.Pattern[str]) -> set[tuple[str, bool]] | None:
    """(first word, whether whole) of everything a pattern may match; None where that cannot be told."""
    tree = list(_parser.parse(pattern.pattern))
    try:
        branches = _branches(tree)
        out: set[tuple[str, bool]] = set()
        for branch in branches:
            if not _at_word_start(branch):
                return None
            done, still = _walk(branch, {""})
            out |= done | {(s, False) for s in still}
    except _Any:
        return None
    return None if any(not w for w, _ in out) or len(out) > _FORMS else out


def _branches(tree: list[Any]) -> list[list[Any]]:
    """The alternatives at the top of a pattern."""
    while len(tree) == 1 and str(tree[0][0]) == "SUBPATTERN":
        tree = list(tree[0][1][3])
    if len(tree) == 1 and str(tree[0][0]) == "BRANCH":
        return [b for alt in tree[0][1][1] for b in _branches(list(alt))]
    return [tree]


def _at_word_start(tree: list[Any]) -> bool:
    if not tree:
        return False
    op, value = str(tree[0][0]), tree[0][1]
    if op == "SUBPATTERN":
        return _at_word_start(list(value[3]))
    return op == "AT" or (op == "ASSERT_NOT" and value[0] < 0)  # \b, ^, or (?<!\S)


def _walk(tree: Iterable[Any], starts: set[str]) -> tuple[set[tuple[str, bool]], set[str]]:
    """Finished first words, and beginnings that the rest of the pattern may go on with."""
    done: set[tuple[str, bool]] = set()
    for token, value in tree:
        op = str(token)
        if len(starts) + len(done) > _FORMS:
            raise _Any
        if op == "LITERAL":
            if chr(value) == " ":
                return done | {(s, True) for s in starts}, set()
            starts = {s + chr(value) for s in starts}
        elif op == "IN":
            letters = [chr(v) for o, v in value if str(o) == "LITERAL"]
            if len(letters) != len(value) or len(letters) > _LETTERS:
                return done | {(s, False) for s in starts}, set()
            starts = {s + c for s in starts for c in letters}
        elif op == "SUBPATTERN":
            more, starts = _walk(value[3], starts)
            done |= more
        elif op == "BRANCH":
            parts = [_walk(alt, starts) for alt in value[1]]
            done |= {d for more, _ in parts for d in more}
            starts = {s for _, still in parts for s in still}
        elif op == "MAX_REPEAT":
            low, high, inner = value
            more, once = _walk(inner, starts)
            done |= more
            if int(high) > 1:
                return done | {(s, False) for s in (once if low else starts | once)}, set()
            starts = once if low else starts | once
        elif op == "AT":
            ended = {s for s in starts if s}
            done |= {(s, True) for s in ended}
            starts -= ended
        elif not (op.startswith("ASSERT") and value[0] < 0):
            return done | {(s, False) for s in starts}, set()
        if not starts:
            break
    return done, starts
