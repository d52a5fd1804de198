"""Measure a model: named protocols, an interval and the data's defects beside every score, every item on disk.

evaluate(cfg, model, seed, out, world=world_folder)   # scores.json, items/
compare(out_a, out_b)                                 # paired differences on the items both have
compare_all([out_a, out_b, out_c])                    # every pair
"""

from fitra.evaluate import judged  # registers its figures, which compare needs
from fitra.evaluate.compare import compare, compare_all
from fitra.evaluate.run import dry_run, evaluate

__all__ = ["compare", "compare_all", "dry_run", "evaluate", "judged"]
