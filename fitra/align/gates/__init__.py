"""Gates on the pair: each looks at original and rewrite and gives a verdict with its figure and threshold.

What was declared as removed (advertising, unsafe advice, judgements on groups, insults) is not asked for: numbers,
names, words and length are compared against the original without it. Thresholds and outcomes come from the policy.
"""

from fitra.align.gates import claims
from fitra.align.gates.diversity import Diversity
from fitra.align.gates.judge import GATES_VERSION, judge, judge_all
from fitra.align.gates.text import numbers
from fitra.align.gates.verdict import Outcome, Pair, Verdict, ask, complaint, outcome

__all__ = [
    "GATES_VERSION",
    "Diversity",
    "Outcome",
    "Pair",
    "Verdict",
    "ask",
    "claims",
    "complaint",
    "judge",
    "judge_all",
    "numbers",
    "outcome",
]
