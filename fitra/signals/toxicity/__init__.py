"""Toxicity: readable rules (`score`, `hits`) that explain one text, and a trained scorer for corpora (`score_all`)."""

from fitra.signals.toxicity.lexicon import HEADINGS, SAFETY_HEADINGS, Hit, hits, score, stems

__all__ = ["HEADINGS", "SAFETY_HEADINGS", "Hit", "hits", "score", "stems"]
