"""Filling sentence patterns: slots, grammatical gender, attached prepositions, and the split into halves."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

# Chosen so that the commonest insults, which any author of a lexicon would list, fall into the visible half:
# the held-out half then asks whether a method reaches beyond a list. The split itself is by hash alone.
SALT = "fitra-world-16124"

_SLOT = re.compile(r"\{(?:([lbw]):)?(\w+)\}")
_GENDER = re.compile(r"<([^<>|]*)\|([^<>|]*)>")


def half(pattern: str) -> str:
    """'visible' or 'heldout': to which half a word or sentence pattern belongs, by hash."""
    return ("visible", "heldout")[hashlib.sha256(f"{SALT}:{pattern}".encode()).digest()[0] & 1]


def rank(pattern: str) -> str:
    """A fixed pseudo-random order of patterns, independent of any seed."""
    return hashlib.sha256(f"{SALT}:rank:{pattern}".encode()).hexdigest()


def fill(pattern: str, slots: Mapping[str, str], feminine: bool = True) -> str:
    """Put `slots` into `pattern`. '<تطل|يطل>' chooses by gender; '{l:x}' attaches the preposition ل (لل before ال)."""

    def put(m: re.Match[str]) -> str:
        prefix, value = m[1], slots[m[2]]
        if prefix == "l":
            return "لل" + value[2:] if value.startswith("ال") else "ل" + value
        return {"b": "ب", "w": "و", None: ""}[prefix] + value

    return _SLOT.sub(put, _GENDER.sub(lambda m: m[1] if feminine else m[2], pattern))


def capital(text: str) -> str:
    """The English sentence `text` with a capital first letter."""
    return text[:1].upper() + text[1:]
