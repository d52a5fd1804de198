"""Open questions whose answers a judge scores: Vicuna-80, AlpacaEval, MT-Bench, culture, safety.

(card,), aside = cards("vicuna80_ar", Path("vicuna80_ar.parquet"))
reference = from_file(card, Path("answers.parquet"), model="chatgpt")
got = measure(card, answer, Path("out"), identity="my-model", judge=backend, reference=reference,
              reference_name="chatgpt")
got.scores["vicuna80_ar"]  # score_ratio with its interval, draws, warnings
"""

from fitra.evaluate.judged.answers import Answer, Answers, collect, from_file
from fitra.evaluate.judged.card import ChatCard, ChatSet, Question, cards, load, names, region_of
from fitra.evaluate.judged.measure import Measured, measure, requests
from fitra.evaluate.judged.metrics import METRICS
from fitra.evaluate.judged.prompts import Prompts
from fitra.evaluate.judged.prompts import load as prompts
from fitra.evaluate.judged.write import items, write

__all__ = [
    "METRICS",
    "Answer",
    "Answers",
    "ChatCard",
    "ChatSet",
    "Measured",
    "Prompts",
    "Question",
    "cards",
    "collect",
    "from_file",
    "items",
    "load",
    "measure",
    "names",
    "prompts",
    "region_of",
    "requests",
    "write",
]
