"""Human evaluation as ALLaM did it (arXiv:2407.15390, its section on human evaluation): pairs, raters, majority, Elo.

make(answers, out)              # a blind, balanced list of pairs to judge, and its key
score(records, out, key=key)    # majority, agreement, tables, Elo, raters
"""

from fitra.evaluate.human.plan import make, read_answers
from fitra.evaluate.human.records import VERDICTS, Vote, read
from fitra.evaluate.human.score import figures, score
from fitra.evaluate.human.show import text

__all__ = ["VERDICTS", "Vote", "figures", "make", "read", "read_answers", "score", "text"]
