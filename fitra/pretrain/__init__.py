"""Pre-training: a small English base from nothing, and continued pre-training on a bilingual mixture."""

from fitra.pretrain.base import make_base
from fitra.pretrain.continued import continue_pretraining

__all__ = ["continue_pretraining", "make_base"]
