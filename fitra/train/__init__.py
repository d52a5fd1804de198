"""One small training loop: mixture batches, loss per group, exact resume."""

from fitra.train.data import Batch, Batches, Example, Packed, Padded, mixture, pack, shuffled, stream
from fitra.train.loop import describe, fit, schedule

__all__ = [
    "Batch",
    "Batches",
    "Example",
    "Packed",
    "Padded",
    "describe",
    "fit",
    "mixture",
    "pack",
    "schedule",
    "shuffled",
    "stream",
]
