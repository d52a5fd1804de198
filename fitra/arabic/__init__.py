"""Arabic folding: `fold` for one text, `fold_array` for an Arrow array; see `rules` for the table and its levels."""

from fitra.arabic.array import code_points, fold_array
from fitra.arabic.rules import (
    FOLD_VERSION,
    INVISIBLE,
    LETTERS,
    MARKS,
    PUNCTUATION,
    TATWEEL,
    Level,
    digits_to_ascii,
    fold,
    fold_char,
    is_arabic,
    words,
)

__all__ = [
    "FOLD_VERSION",
    "INVISIBLE",
    "LETTERS",
    "MARKS",
    "PUNCTUATION",
    "TATWEEL",
    "Level",
    "code_points",
    "digits_to_ascii",
    "fold",
    "fold_array",
    "fold_char",
    "is_arabic",
    "words",
]
