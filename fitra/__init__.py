"""Fitra (فطرة): from raw Arabic text to a value-aligned Arabic language model."""

__version__ = "0.1.0"
