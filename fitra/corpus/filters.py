"""Filters: which documents go, for which reason, by which figure.

A rule compares a figure with a threshold of the recipe; the first rule that fails, in the order of `RULES`, is the
reason. Thresholds come from the profile of the document's register, then from the filters, then (four of them) from
the corpus. All documents of a batch are judged at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fitra.recipe.corpus import Corpus
from fitra.recipe.filters import PROFILES, Filters
from fitra.signals import repetition

Figures = Mapping[str, npt.NDArray[np.float64]]

ARABIC_SCRIPT = {"ar", "arz", "apc", "fa", "ur", "ckb", "ps"}
LATIN_SCRIPT = {"en", "arabizi"}
_UNSURE = {"books", "other", "web", "encyclopedia", "news"}  # a classical text with such a label is read as classical


class Condition(NamedTuple):
    """`figure` under (min) or over (max) the threshold that the recipe has under `key`."""

    figure: str
    side: Literal["min", "max"]
    key: str


@dataclass(frozen=True)
class Rule:
    """A document goes when all conditions hold; the first one is reported. A key that is off never holds."""

    reason: str
    conditions: tuple[Condition, ...]


class Checked(NamedTuple):
    """One row of `explain`."""

    rule: str
    figure: str
    value: float
    threshold: float | None
    verdict: Literal["passes", "removes", "off", "does not apply"]


def _rule(reason: str, key: str, figure: str | None = None, *also: Condition) -> Rule:
    side: Literal["min", "max"] = "min" if key.startswith("min_") else "max"
    return Rule(reason, (Condition(figure or key[4:], side, key), *also))


# The guard of a filter is true when the text is long enough: "not under", so it is written as a `max` of the least.
_LONG = Condition("n_words", "max", "long_text_words")
_LINES = Condition("n_lines", "max", "many_lines")
_FOUR_LINES = Condition("n_lines", "max", "four_lines")

RULES: tuple[Rule, ...] = (
    _rule("too_short", "min_words", "n_words"),
    _rule("too_long", "max_words", "n_words"),
    _rule("mojibake", "max_mojibake_share"),
    _rule("mojibake", "max_ta_za_share"),
    _rule("language_confidence", "min_language_confidence", "confidence"),
    _rule("script_share", "min_language_share", "share_of_script"),
    _rule("symbol_share", "max_symbol_share"),
    _rule("digit_share", "max_digit_share"),
    _rule("single_letters", "max_single_letter_share"),
    _rule("long_words", "max_long_word_share"),
    _rule("word_length", "min_mean_word_length"),
    _rule("word_length", "max_mean_word_length"),
    _rule("few_words", "min_alpha_word_share"),
    _rule("javascript", "max_javascript_share"),
    _rule("lorem_ipsum", "max_lorem", "n_lorem"),
    _rule("curly_brackets", "max_curly_share", None, _LONG),
    _rule("links", "max_link_share"),
    _rule("furniture", "max_furniture_share"),
    _rule("hashes", "max_hash_to_word", None, _LONG),
    _rule("ellipses", "max_ellipsis_to_word", None, _LONG),
    _rule("repeated_lines", "max_repeated_line_share", "dup_line_char_share", _FOUR_LINES),
    _rule("repeated_lines", "max_dup_line_share", None, _LINES),
    _rule("repeated_lines", "max_dup_line_char_share", None, _LINES),
    _rule("repeated_paragraphs", "max_dup_paragraph_share", None, _LINES),
    _rule("repeated_paragraphs", "max_dup_paragraph_char_share", None, _LINES),
    _rule("bullets", "max_bullet_line_share", None, _LINES),
    _rule("ellipsis_lines", "max_ellipsis_line_share", None, _LINES),
    _rule("line_ends", "min_line_end_share", None, _LINES),
    _rule("short_lines", "max_short_line_share", None, _LINES),
    _rule("line_breaks", "max_newline_per_word"),
    _rule("line_length", "min_mean_line_length", None, _LINES),
    *(_rule(f"top_{n}_gram", f"max_top_{n}_gram_share", None, _LONG) for n in repetition.TOP),
    *(_rule(f"repeated_{n}_grams", f"max_dup_{n}_gram_share", None, _LONG) for n in repetition.DUPLICATE),
    _rule("few_different_words", "min_unique_word_share", None, _LONG),
    _rule("stop_words", "min_stop_words", "n_stop_words", _LONG),
    _rule("stop_words", "min_stop_word_share", None, _LONG),
    _rule("stop_words", "max_stop_word_share", None, _LONG),
    Rule(
        "list",
        (
            Condition("short_line_share", "max", "list_short_line_share"),
            Condition("stop_word_share", "min", "list_stop_word_share"),
            _LONG,
            _LINES,
        ),
    ),
    Rule(
        "keywords",
        (
            Condition("stop_word_share", "min", "keyword_stop_word_share"),
            Condition("line_end_share", "min", "keyword_line_end_share"),
            _LONG,
        ),
    ),
    Rule(
        "one_sentence_repeated",
        (
            Condition("dup_5_gram_share", "max", "formula_dup_5_gram_share"),
            Condition("unique_word_share", "min", "formula_unique_word_share"),
            _LONG,
        ),
    ),
    _rule("few_sentences", "min_sentences", "n_sentences"),
)
GUARDS = {"long_text_words", "many_lines", "four_lines"}
_OF_CORPUS = ("min_words", "min_language_share", "max_symbol_share", "max_repeated_line_share")


def thresholds(cfg: Filters, profile: str, corpus: Corpus | None = None) -> dict[str, float]:
    """Every threshold of `profile` by key, nan where it is off."""
    corpus = corpus or Corpus()
    out: dict[str, Any] = {k: getattr(cfg, k) for k in Filters.model_fields if k not in _NOT_THRESHOLDS}
    for key in _OF_CORPUS:
        if out[key] is None:
            out[key] = getattr(corpus, key)
    out["four_lines"] = 4  # fewer lines cannot be "repeated"
    out |= cfg.profiles.get("default", {}) if profile == "default" else cfg.profiles.get(profile, {})
    for guard in GUARDS:  # "at least n" is "more than n - 1"; without a guard all texts are asked
        out[guard] = -1.0 if out[guard] is None else out[guard] - 1
    return {k: np.nan if v is None else float(v) for k, v in out.items()}


_NOT_THRESHOLDS = {"preset", "fineweb2", "stop_words", "profiles"}


def profile_of(register: str | None, variety: str | None) -> str:
    """The profile of a document: its register's; a classical text of no register of its own has `classical`."""
    if variety == "classical" and (register is None or register in _UNSURE):
        return "classical"
    return register if register in PROFILES and register is not None else "default"


def judge(
    cfg: Filters,
    figures: Figures,
    languages: Sequence[str],
    confidences: Sequence[float] | npt.NDArray[np.floating[Any]],
    registers: Sequence[str | None] | None = None,
    varieties: Sequence[str | None] | None = None,
    corpus: Corpus | None = None,
) -> list[tuple[str, float] | None]:
    """For each document the reason and the figure of the first rule that it fails, None when it passes all.

    `corpus` gives the languages wanted and the four thresholds of its own; without it they have their defaults.
    """
    corpus = corpus or Corpus()
    n = len(languages)
    if not n:
        return []
    figures = _with_labels(figures, languages, confidences)
    profiles, which = _profiles(n, registers, varieties)
    tables = [thresholds(cfg, p, corpus) for p in profiles]
    reason = np.full(n, -1)
    value = np.zeros(n)
    wanted = np.isin(np.asarray(languages), corpus.languages)
    reason[~wanted], value[~wanted] = len(RULES), figures["confidence"][~wanted]
    for number, rule in enumerate(RULES):
        hit = reason < 0
        for figure, side, key in rule.conditions:
            limit = np.array([t[key] for t in tables])[which]
            hit &= figures[figure] < limit if side == "min" else figures[figure] > limit
        if hit.any():
            reason[hit], value[hit] = number, figures[rule.conditions[0].figure][hit]
    names = [r.reason for r in RULES] + ["language"]
    return [None if r < 0 else (names[r], round(v, 4)) for r, v in zip(reason.tolist(), value.tolist(), strict=True)]


def explain(
    cfg: Filters,
    figures: Mapping[str, float],
    language: str,
    confidence: float,
    register: str | None = None,
    variety: str | None = None,
    corpus: Corpus | None = None,
) -> list[Checked]:
    """Every rule with the figure of one document, its threshold and what it says, in the order they are asked."""
    corpus = corpus or Corpus()
    arrays = {k: np.array([v], dtype=np.float64) for k, v in figures.items()}
    one = {k: float(v[0]) for k, v in _with_labels(arrays, [language], [confidence]).items()}
    limits = thresholds(cfg, profile_of(register, variety), corpus)
    out = [Checked("language", "confidence", confidence, None, "passes" if language in corpus.languages else "removes")]
    for rule in RULES:
        first = rule.conditions[0]
        shown = limits[first.key]
        if any(np.isnan(limits[c.key]) for c in rule.conditions):
            verdict: Literal["passes", "removes", "off", "does not apply"] = "off"
        elif any(c.key in GUARDS and not one[c.figure] > limits[c.key] for c in rule.conditions):
            verdict = "does not apply"
        else:
            fails = (
                one[c.figure] < limits[c.key] if c.side == "min" else one[c.figure] > limits[c.key]
                for c in rule.conditions
            )
            verdict = "removes" if all(fails) else "passes"
        out.append(Checked(rule.reason, first.figure, one[first.figure], None if np.isnan(shown) else shown, verdict))
    return out


def _with_labels(
    figures: Figures, languages: Sequence[str], confidences: Sequence[float] | npt.NDArray[np.floating[Any]]
) -> dict[str, npt.NDArray[np.float64]]:
    names = np.asarray(languages)
    arabic = np.isin(names, sorted(ARABIC_SCRIPT))
    latin = np.isin(names, sorted(LATIN_SCRIPT))
    share = np.where(arabic, figures["arabic_share"], np.where(latin, figures["latin_share"], 1.0))
    return {**figures, "share_of_script": share, "confidence": np.asarray(confidences, dtype=np.float64)}


def _profiles(
    n: int, registers: Sequence[str | None] | None, varieties: Sequence[str | None] | None
) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The profiles that occur and which one each document has."""
    pairs = list(zip(registers or [None] * n, varieties or [None] * n, strict=True))
    names = {pair: profile_of(*pair) for pair in set(pairs)}
    profiles = sorted(set(names.values()))
    number = {p: i for i, p in enumerate(profiles)}
    return profiles, np.array([number[names[p]] for p in pairs], dtype=np.int64)
