"""Everything that can be wrong with a policy and its packs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fitra.policy.read import Data, Source, read
from fitra.policy.rulechecks import Problem, both, conflicts, known, mapping, near, packs, rules, text_in, tried

__all__ = ["GATES", "OUTCOMES", "PROMPTS", "TRIAGE", "Problem", "check", "problems"]

GATES = (
    "script_drift", "language_drift", "dialect_drift", "length_min", "length_max", "numbers_lost", "numbers_new",
    "dates_changed", "units_changed", "names_lost", "names_new", "negation_drift", "urls_changed", "protected_lost",
    "words_kept_min", "passage_lost_max", "passage_new_max", "unfinished", "leaks", "repeats_max", "toxicity_rise",
    "toxicity_overall_rise", "personal_new", "benchmark_new", "diversity_min", "claims_share", "claims_changed",
)  # fmt: skip
# The levels from which triage finds that a document needs a model (docs/rules.md).
TRIAGE = ("model_from", "toxicity", "abuse_left", "advertising", "groups", "advice", "personal", "torn")
# What may become of a pair that a gate refused; `exhausted` is for retries that are used up.
OUTCOMES = ("retry", "keep_original", "quarantine", "drop")
LEXICONS = ("ads", "bias", "insults", "unsafe")
# What each prompt must cite, or the model would not see it. A worker has learnt the rules: it is told which ones.
PROMPTS: Mapping[str, tuple[str, ...]] = {
    "expert": ("{rules}", "{placeholder}"),
    "edits": ("{rules}", "{format}", "{placeholder}"),
    "worker": ("{policy_id}",),
    "judge": ("{rules}", "{original}", "{rewrite}", "{nonce}"),
    "text": ("{text}", "{nonce}"),
    "context": ("{context}", "{nonce}"),
    "retry": ("{complaint}",),
    "claims": ("{original}", "{rewrite}", "{nonce}"),
}
PLACEHOLDERS = frozenset(p for parts in PROMPTS.values() for p in parts) | {"{policy_version}"}


def check(
    name_or_folder: str | Path,
    rewrite: Callable[[str], str] | None = None,
    packs: Sequence[str] | None = None,
) -> list[Problem]:
    """Everything wrong with a policy, and with the named packs or (None) all packs of its folder, taken together.

    With `rewrite` (the deterministic rewriter under this policy) examples are tried: of rules marked `by: rules` each
    'before' must become 'after'; of all rules each 'after' and each counter-example must stay as it is. They are tried
    once nothing else is wrong. Raises FitraError for files that cannot be read at all.
    """
    source = read(name_or_folder, packs)
    found = list(problems(source))
    if rewrite and not found:
        found += tried(source, rewrite)
    return found


def problems(source: Source) -> Iterator[Problem]:
    """What is wrong with a policy as it stands in its files."""
    yield from _head(source)
    yield from rules(source)
    yield from packs(source)
    yield from conflicts(source)
    yield from _prompts(source.prompts)
    for name in LEXICONS:
        if name not in source.lexicon:
            yield Problem(f"lexicon/{name}.yaml", "", "is missing", "Copy the shipped file.")
    for name, data in source.lexicon.items():
        for pattern in _patterns(data):
            try:
                re.compile(pattern)
            except re.error as e:
                yield Problem(f"lexicon/{name}.yaml", "", f"bad pattern '{pattern[:40]}': {e}", "Balance the brackets.")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _head(source: Source) -> Iterator[Problem]:
    head, file = source.head, "policy.yaml"
    if not isinstance(head.get("id"), str) or not head["id"]:
        yield Problem(file, "", "'id' is missing", "A short name for the policy.")
    if type(head.get("version")) is not int:
        yield Problem(file, "", "'version' must be a whole number", "Raise it with every change you publish.")
    yield from both(file, "", "title", head.get("title"))
    for lang in ("ar", "en"):
        yield from text_in(f"card/{lang}.md", "", "the card", lang, source.card.get(lang))
    yield from _thresholds(head, "gates", GATES)
    yield from _thresholds(head, "triage", TRIAGE)
    if not isinstance(head.get("outcomes", {}), Mapping):
        yield Problem(file, "", "'outcomes' must be a mapping", "A gate's name and what becomes of what it refuses.")
    for name, state in mapping(head.get("outcomes")).items():
        if not known(state, OUTCOMES) or (name == "exhausted" and state == "retry"):
            yield Problem(file, "", f"outcomes.{name} is '{state}', none of {', '.join(OUTCOMES)}")
    if not _number(head.get("unsafe")) or not 0 <= head["unsafe"] <= 1:
        yield Problem(file, "", "'unsafe' must be a number from 0 to 1")
    elif _number(start := mapping(head.get("triage")).get("model_from", "")) and not 0 <= start <= head["unsafe"]:
        yield Problem(
            file, "", f"triage.model_from is {start:g}, not between 0 and 'unsafe' ({head['unsafe']:g})",
            "Else an unsafe document would never reach a model.",
        )  # fmt: skip
    if not mapping(head.get("codes")):
        yield Problem(file, "", "'codes' is missing", "The reason codes, each with its name: {ar: ..., en: ...}.")
    for code, name in mapping(head.get("codes")).items():
        yield from both(file, "", f"codes.{code}", name)


def _thresholds(head: Data, key: str, known: Sequence[str]) -> Iterator[Problem]:
    held = mapping(head.get(key))
    for name in known:
        if not _number(held.get(name)):
            yield Problem("policy.yaml", "", f"{key}.{name} must be a number", "Compare with the shipped policy.")
    for name in held:
        if name not in known:
            yield Problem("policy.yaml", "", f"unknown {key.rstrip('s')} '{name}'", near(name, known))


def _prompts(prompts: Mapping[str, str]) -> Iterator[Problem]:
    for name, parts in PROMPTS.items():
        file = f"prompts/{name}.md"
        if name not in prompts:
            yield Problem(file, "", "is missing", "Copy the shipped file.")
            continue
        for part in parts:
            if part not in prompts[name]:
                yield Problem(file, "", f"does not cite {part}", "Else the model would not see it.")
    for name, text in prompts.items():
        for found in dict.fromkeys(re.findall(r"\{\w+\}", text)):
            if found not in PLACEHOLDERS:
                hint = f"Known: {', '.join(sorted(PLACEHOLDERS))}."
                yield Problem(f"prompts/{name}.md", "", f"cites {found}, which nothing fills in", hint)


def _patterns(data: Any) -> Iterator[str]:
    """Every string that is used as a regular expression: it holds a character that plain words do not."""
    if isinstance(data, str):
        if re.search(r"[\\(\[*+^$|]", data):
            yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _patterns(value)
    elif isinstance(data, list):
        for value in data:
            yield from _patterns(value)
