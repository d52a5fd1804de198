"""Tokens as a model counts them: for plans and limits, without loading the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fitra.errors import FitraError
from fitra.recipe.align import Model

__all__ = ["Tokens"]


class Tokens:
    """Counts tokens as a model does."""

    def __init__(self, folder: str) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise FitraError("counting tokens needs the package tokenizers.", "pip install tokenizers") from None
        path = Path(folder) / "tokenizer.json" if Path(folder).is_dir() else Path(folder)
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(path))
        except Exception as e:  # the library raises a bare Exception
            first = (str(e).splitlines() or [""])[0]
            raise FitraError(f"{path}: no tokenizer: {first}", "Give a folder with tokenizer.json.") from None

    @classmethod
    def of(cls, model: Model | None) -> Tokens | None:
        """The counter of a model; None where it names no tokenizer."""
        return cls(model.tokenizer) if model and model.tokenizer else None

    def count(self, text: str) -> int:
        """Tokens of one text, without those that a template adds."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        return [len(e.ids) for e in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]
