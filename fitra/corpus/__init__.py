"""The corpus room: raw files to clean documents, every removed document with its reason. See docs/corpus.md."""

from fitra.corpus.clean import clean
from fitra.corpus.explain import explain

__all__ = ["clean", "explain"]
