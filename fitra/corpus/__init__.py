"""The corpus room: raw files to clean documents, every removed document with its reason. See docs/corpus.md."""

from fitra.corpus.clean import clean
from fitra.corpus.decontaminate import decontaminate
from fitra.corpus.estimate import estimate
from fitra.corpus.explain import explain
from fitra.corpus.takedown import takedown, trace

__all__ = ["clean", "decontaminate", "estimate", "explain", "takedown", "trace"]
