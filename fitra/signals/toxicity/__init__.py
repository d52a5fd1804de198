"""Toxicity: readable rules (`score`, `hits`) that explain one text, and a trained scorer for corpora (`score_all`)."""

from fitra.signals.toxicity.lexicon import HEADINGS, SAFETY_HEADINGS, Hit, hits, score, stems
from fitra.signals.toxicity.model import overall, score_all, threshold
from fitra.signals.toxicity.plug import OVERALL, scorer

__all__ = [
    "HEADINGS",
    "OVERALL",
    "SAFETY_HEADINGS",
    "Hit",
    "hits",
    "overall",
    "score",
    "score_all",
    "scorer",
    "stems",
    "threshold",
]
