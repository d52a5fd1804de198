"""Signals: cheap facts about a text (language, toxicity, personal data, quality)."""
