"""What a judge is asked, and how its reply is read.

Answers are hostile text: they stand between marks made from a hash of all the texts together, which none of them can
hold. A reply is read strictly, and what cannot be read is no score.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fitra import llm
from fitra.artifacts import digest
from fitra.errors import FitraError
from fitra.llm.marks import block, fill, nonce_of
from fitra.recipe.base import Config

__all__ = ["Prompts", "load", "read_pair", "read_rating", "render", "steers"]

LOWEST, HIGHEST = 1.0, 10.0
_THINK = re.compile(r"\A\s*<think>.*?</think>\s*", re.S)
_RATING = re.compile(r"\[\[\s*(\d{1,2}(?:\.\d+)?)\s*\]\]")
_NUMBER = re.compile(r"\d{1,2}(?:\.\d+)?\Z")
_DIGITS = str.maketrans("٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹٫،", "01234567890123456789.,")
_STEERS = re.compile(
    r"\[\[\s*\d+\s*\]\]|<<<[0-9a-f]{8}|(?:ignore|disregard) (?:all |the |any )*(?:previous|above|prior|other)"
    r"|تجاهل(?:وا|ي)? (?:كل |جميع )?(?:ما سبق|التعليمات|الأوامر)|(?:give|rate|score) (?:this|my) (?:answer|response)"
    r"|(?:أعط|امنح|قي[ّ]?م)(?:ي|وا)? (?:هذا|هذه) (?:الجواب|الإجابة)|as the judge|أيها (?:الحكم|القاضي)",
    re.I,
)


class Prompts(Config):
    """The texts of one prompt file."""

    version: int
    language: str
    system: str
    aspects: dict[str, str]
    compare: str
    rate: str
    rate_second: str
    with_reference: str

    @property
    def identity(self) -> str:
        """Name for protocols: language, version and the texts' hash, so that an edited file cannot pass for another."""
        return f"{self.language}/{self.version}:{digest(self.model_dump())[:8]}"


def load(language_or_file: str | Path) -> Prompts:
    """The prompts that ship ('ar', 'en') or those of a file with the same keys; FitraError for anything else."""
    given = str(language_or_file)
    if given in ("ar", "en"):
        text = resources.files("fitra.evaluate.judged").joinpath("prompts", f"{given}.yaml").read_text("utf-8")
    else:
        try:
            text = Path(given).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise FitraError(f"{given}: cannot be read as judge prompts: {e}", "Give ar, en or a YAML file.") from None
    try:
        return Prompts.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as e:
        first = str(e.errors()[0]["loc"]) if isinstance(e, ValidationError) else str(e)
        raise FitraError(
            f"{given}: no judge prompts ({first}).", "Copy fitra/evaluate/judged/prompts/en.yaml."
        ) from None


def render(prompts: Prompts, row: Mapping[str, Any]) -> list[llm.Message]:
    """Messages for a question to the judge: `form` compare, rate or rate_second; `aspect`; `question`; `first`;
    `second` (compare); `reference` or ''; `before` (question and answer of the first turn, rate_second)."""
    form, before = str(row["form"]), list(row.get("before") or [])
    texts = [row["question"], row["first"], row.get("second") or "", row.get("reference") or "", *before]
    nonce = nonce_of("\0".join(map(str, texts)))

    def shown(name: str, text: Any) -> str:
        return block(name, str(text), nonce)

    values = {"question": shown("QUESTION", row["question"]), "criterion": prompts.aspects[row["aspect"]].strip()}
    values["first"] = shown("FIRST" if form == "compare" else "ANSWER", row["first"])
    values["second"] = shown("SECOND", row["second"]) if form == "compare" else ""
    given = fill(prompts.with_reference, reference=shown("REFERENCE", row["reference"])) if row.get("reference") else ""
    values["reference"] = given
    if form == "rate_second":
        values["talk"] = shown("TURN 1", before[0]) + "\n" + shown("REPLY 1", before[1])
    template = {"compare": prompts.compare, "rate": prompts.rate, "rate_second": prompts.rate_second}[form]
    return [
        {"role": "system", "content": fill(prompts.system, nonce=nonce)},
        {"role": "user", "content": fill(template, **values)},
    ]


def read_pair(reply: str) -> tuple[float, float]:
    """The two numbers on a reply's first line, each from 1 to 10, as Vicuna's judge is read; else llm.ParseError."""
    lines = [x for x in _THINK.sub("", reply).translate(_DIGITS).splitlines() if x.strip()]
    found = lines[0].replace(",", " ").split() if lines else []
    if len(found) != 2 or not all(_NUMBER.match(x) for x in found):
        raise llm.ParseError("the judge's first line is not two numbers")
    return _in_range(found[0]), _in_range(found[1])


def read_rating(reply: str, answer: str = "") -> float:
    """The [[rating]] of a reply, from 1 to 10: the only one on its last line, else the only one in the reply.

    A rating that the judged answer itself holds counts on the last line alone, where a judge writes its own.
    """
    text = _THINK.sub("", reply).translate(_DIGITS)
    lines = [x for x in text.splitlines() if x.strip()]
    last = _RATING.findall(lines[-1]) if lines else []
    if len(last) == 1 and len(lines) > 1:
        return _in_range(last[0])
    brought = set(_RATING.findall(answer.translate(_DIGITS)))
    found = set(_RATING.findall(text)) - brought
    if len(found) != 1:
        raise llm.ParseError("no [[rating]] in the judge's reply" if not found else "several ratings in the reply")
    return _in_range(found.pop())


def _in_range(number: str) -> float:
    value = float(number)
    if not LOWEST <= value <= HIGHEST:
        raise llm.ParseError(f"{number} is not from 1 to 10")
    return value


def steers(answer: str) -> bool:
    """Does an answer speak to a judge: a rating of its own, our marks, 'ignore the above'? Counted, never punished."""
    return _STEERS.search(answer) is not None
