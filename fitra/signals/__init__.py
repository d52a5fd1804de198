"""Signals: cheap facts about a text (language, register, quality, toxicity, personal data)."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources


@cache
def data_hash() -> str:
    """SHA-256 over the word lists and models that ship: labels made with others are other labels."""
    total = hashlib.sha256()
    folder = resources.files("fitra.signals").joinpath("data")
    for item in sorted(folder.iterdir(), key=lambda f: f.name):
        if item.is_file():
            total.update(item.name.encode() + b"\0" + hashlib.sha256(item.read_bytes()).digest())
    return total.hexdigest()
