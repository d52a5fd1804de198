"""Measure a model: named protocols, an interval and the data's defects beside every score, every item on disk.

evaluate(cfg, model, seed, out, world=world_folder)   # scores.json, items/
compare(out_a, out_b)                                 # paired differences on the items both have
"""

from fitra.evaluate.compare import compare
from fitra.evaluate.run import dry_run, evaluate

__all__ = ["compare", "dry_run", "evaluate"]
