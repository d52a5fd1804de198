"""What can be wrong with the rules of a policy and of its packs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fitra import arabic
from fitra.policy.model import ACTIONS, GROUPS
from fitra.policy.read import Source, build, merge

__all__ = ["Problem", "as_list", "both", "conflicts", "known", "mapping", "near", "packs", "rules", "text_in", "tried"]

KEYS = ("id", "action", "code", "by", "protects", "statement", "reason", "examples", "counter_examples")
_ARABIC = re.compile(r"[\u0620-\u064a\u0671-\u06d3]")
_LATIN = re.compile(r"[A-Za-z]")
_LATIN_SIGN = re.compile(r"(?<=[\u0620-\u0652\u0671-\u06d3»)])\s*[,;?]")


@dataclass(frozen=True)
class Problem:
    """One thing wrong: the file in the policy's folder, the rule ('' for none), what it is, what to do."""

    file: str
    rule: str
    says: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}: rule '{self.rule}'" if self.rule else self.file
        return f"{where}: {self.says}"


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def known(value: Any, names: Container[str]) -> bool:
    """Is a value of a YAML file, which may be anything, one of these names?"""
    return isinstance(value, str) and value in names


def near(name: Any, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(known)}."


def both(file: str, rule: str, key: str, value: Any) -> Iterator[Problem]:
    """A text in both languages: {ar: ..., en: ...}."""
    held = mapping(value)
    for lang in ("ar", "en"):
        yield from text_in(file, rule, f"{key}.{lang}", lang, held.get(lang))
    if held.get("ar") and held.get("ar") == held.get("en"):
        yield Problem(file, rule, f"{key}.ar and {key}.en are the same", "Translate it.")


def text_in(file: str, rule: str, key: str, lang: str, value: Any) -> Iterator[Problem]:
    if not isinstance(value, str) or not value.strip():
        yield Problem(file, rule, f"{key} is missing", "Every text stands in Arabic (ar) and English (en).")
        return
    arabic_letters, latin = len(_ARABIC.findall(value)), len(_LATIN.findall(value))
    if lang == "ar" and arabic_letters <= latin:
        yield Problem(
            file, rule, f"{key} holds {arabic_letters} Arabic letters and {latin} Latin ones", "Translate it."
        )
    elif lang == "en" and arabic_letters:
        yield Problem(file, rule, f"{key} holds Arabic letters", "Say it in English; Arabic goes into examples.")
    elif lang == "en" and not latin:
        yield Problem(file, rule, f"{key} holds no English")
    if lang == "ar" and (m := _LATIN_SIGN.search(value)):
        yield Problem(file, rule, f"{key} has Latin punctuation ('{m[0].strip()}') after Arabic", "Use ، ؛ ؟")


def rules(source: Source) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    codes = mapping(source.head.get("codes"))
    filled = set()
    for file, data in source.groups:
        group = data.get("group")
        if not known(group, GROUPS):
            yield Problem(file, "", f"group '{group}' is none of {', '.join(GROUPS)}", near(group, GROUPS))
        for i, raw in enumerate(as_list(data.get("rules"))):
            filled.add(str(group))
            if not isinstance(raw, Mapping):
                yield Problem(file, str(i + 1), "expected a mapping", "Check the indentation.")
                continue
            yield from _identity(file, i, raw, str(group), seen)
            yield from _rule(file, raw, str(group), codes)
    for group in GROUPS:
        if group not in filled:
            yield Problem("rules/", "", f"group '{group}' has no rules", f"Add rules/{group}.yaml.")


def _identity(file: str, i: int, raw: Mapping[str, Any], prefix: str, seen: dict[str, str]) -> Iterator[Problem]:
    rule_id = raw.get("id")
    if not isinstance(rule_id, str) or not re.fullmatch(rf"{re.escape(prefix)}\.\w+", rule_id):
        yield Problem(
            file, str(rule_id or i + 1), f"'id' must be {prefix}.NAME", "Letters, digits and _ after the dot."
        )
    elif rule_id in seen:
        yield Problem(file, rule_id, f"id already used in {seen[rule_id]}", "Give one of them another id.")
    seen.setdefault(str(rule_id), file)


def _rule(file: str, raw: Mapping[str, Any], group: str, codes: Mapping[str, Any]) -> Iterator[Problem]:
    """A complete rule, of the base or with an override on top."""
    rule_id, action = str(raw.get("id")), raw.get("action")
    keys = (*KEYS, "group", "overrides")
    for key in raw:
        if key not in keys:
            yield Problem(file, rule_id, f"unknown key '{key}'", near(key, keys))
    yield from both(file, rule_id, "statement", raw.get("statement"))
    yield from both(file, rule_id, "reason", raw.get("reason"))
    if not known(action, ACTIONS):
        yield Problem(file, rule_id, f"unknown action '{action}'", f"One of {', '.join(ACTIONS)}.")
    elif group == "knowledge" and action in ("neutralise", "drop"):
        yield Problem(file, rule_id, f"a rule that preserves knowledge cannot {action}", "Put it into another group.")
    if not known(raw.get("code"), codes):
        yield Problem(file, rule_id, f"unknown reason code '{raw.get('code')}'", near(raw.get("code"), list(codes)))
    if not known(raw.get("by", "model"), ("rules", "model")):
        yield Problem(file, rule_id, f"by is '{raw['by']}', neither rules nor model")
    if not isinstance(raw.get("protects", False), bool):
        yield Problem(file, rule_id, "protects must be true or false")
    yield from _examples(file, rule_id, raw, str(action))


def _examples(file: str, rule_id: str, raw: Mapping[str, Any], action: str) -> Iterator[Problem]:
    kept = as_list(raw.get("counter_examples"))
    if not kept or not all(isinstance(k, str) and k.strip() for k in kept):
        yield Problem(file, rule_id, "has no counter-example", "Give a text that the rule must not change.")
    if not (examples := as_list(raw.get("examples"))) and action != "pass":
        yield Problem(file, rule_id, "has no example", "Give a text before and after.")
    for example in examples:
        before, after = (mapping(example).get(k) for k in ("before", "after"))
        if not isinstance(before, str) or not isinstance(after, str) or not before.strip():
            yield Problem(file, rule_id, "an example needs 'before' and 'after'", "Two texts in quotation marks.")
            continue
        if action == "pass" and before != after:
            yield Problem(file, rule_id, f"the example '{before}' is changed, but the action is pass")
        elif action != "pass" and before == after:
            yield Problem(file, rule_id, f"the example '{before}' shows no change", "Make it a counter-example.")
        elif action != "drop" and not after.strip():
            yield Problem(file, rule_id, f"of the example '{before}' nothing stays, but the action is {action}")
        if new := _numbers(after) - _numbers(before):
            yield Problem(file, rule_id, f"the example '{before}' invents {', '.join(sorted(new))}", "Add no facts.")


def _numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+", arabic.digits_to_ascii(text)))


def packs(source: Source) -> Iterator[Problem]:
    base = {
        r["id"]: (r, str(data.get("group")))
        for _, data in source.groups
        for r in as_list(data.get("rules"))
        if isinstance(r, Mapping) and isinstance(r.get("id"), str)
    }
    seen, changed = dict.fromkeys(base, "rules/"), dict[str, tuple[str, Mapping[str, Any]]]()
    ids: dict[str, str] = {}
    for file, pack in source.packs:
        pack_id = pack.get("id")
        if not isinstance(pack_id, str) or not re.fullmatch(r"[a-z]\w*", pack_id) or pack_id in GROUPS:
            yield Problem(file, "", f"'id' is '{pack_id}'", "A short name in small letters, none of the groups.")
        elif pack_id in ids:
            yield Problem(file, "", f"id '{pack_id}' already used in {ids[pack_id]}")
        ids[str(pack_id)] = file
        yield from both(file, "", "title", pack.get("title"))
        for key in pack:
            if key not in ("id", "title", "rules", "codes"):
                yield Problem(file, "", f"unknown key '{key}'", "A pack holds rules and codes, no thresholds.")
        codes = {**mapping(source.head.get("codes")), **mapping(pack.get("codes"))}
        for code, name in mapping(pack.get("codes")).items():
            yield from both(file, "", f"codes.{code}", name)
        if not as_list(pack.get("rules")):
            yield Problem(file, "", "has no rules")
        for i, raw in enumerate(as_list(pack.get("rules"))):
            if not isinstance(raw, Mapping):
                yield Problem(file, str(i + 1), "expected a mapping", "Check the indentation.")
            elif "overrides" in raw:
                yield from _override(file, raw, base, changed, codes)
            else:
                if not known(raw.get("group"), GROUPS):
                    yield Problem(
                        file, str(raw.get("id")), f"group '{raw.get('group')}' is none of {', '.join(GROUPS)}"
                    )
                yield from _identity(file, i, raw, str(pack_id), seen)
                yield from _rule(file, raw, str(raw.get("group")), codes)


def _override(
    file: str,
    raw: Mapping[str, Any],
    base: Mapping[str, tuple[Mapping[str, Any], str]],
    changed: dict[str, tuple[str, Mapping[str, Any]]],
    codes: Mapping[str, Any],
) -> Iterator[Problem]:
    target = str(raw["overrides"])
    if target not in base:
        yield Problem(file, target, "overrides a rule that the policy does not have", near(target, list(base)))
        return
    rule, group = base[target]
    if "id" in raw:
        yield Problem(file, target, "an override keeps the id of its rule", "Take out 'id'.")
    if raw.get("group", group) != group:
        yield Problem(file, target, f"overrides a rule of group '{group}' into '{raw['group']}'", "Take out 'group'.")
    other = changed.setdefault(target, (file, raw))
    if other[1] is not raw and {**other[1]} != {**raw}:
        yield Problem(
            file,
            target,
            f"is overridden differently by {other[0]}",
            "Let one give way, or use only one of these packs.",
        )
    now = merge(rule, raw)
    if group == "knowledge" or rule.get("protects"):
        yield from _loosened(file, target, rule, now)
    yield from _rule(file, {**now, "id": target}, group, codes)


def _loosened(file: str, rule_id: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Problem]:
    """A pack may add to a protecting rule: its words, examples and action stay."""

    def loose(what: str) -> Problem:
        hint = "A pack may add to a protecting rule: begin with its own words and keep its examples."
        return Problem(file, rule_id, f"loosens a protection: {what}", hint)

    for key in ("action", "by", "protects"):
        if now.get(key) != was.get(key):
            yield loose(f"{key} '{was.get(key)}' becomes '{now.get(key)}'")
    for lang in ("ar", "en"):
        old = str(mapping(was.get("statement")).get(lang)).strip().rstrip(".")
        if old not in str(mapping(now.get("statement")).get(lang)):
            yield loose(f"statement.{lang} no longer holds what the rule says")
    for key in ("examples", "counter_examples"):
        if any(e not in as_list(now.get(key)) for e in as_list(was.get(key))):
            yield loose(f"{key.replace('_', '-')} of the rule are gone")


def all_rules(source: Source) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for file, data in (*source.groups, *source.packs):
        for raw in as_list(data.get("rules")):
            if isinstance(raw, Mapping):
                yield file, raw


def conflicts(source: Source) -> Iterator[Problem]:
    """A text that one rule changes and another one must not: an example before against counter-examples and afters."""
    kept: dict[str, str] = {}
    for _, raw in all_rules(source):
        name = str(raw.get("id") or raw.get("overrides"))
        for text in as_list(raw.get("counter_examples")):
            kept.setdefault(str(text), name)
        for e in as_list(raw.get("examples")):
            kept.setdefault(str(mapping(e).get("after")), name)
    for file, raw in all_rules(source):
        for e in map(mapping, as_list(raw.get("examples"))):
            before = str(e.get("before"))
            if before != e.get("after") and before in kept:
                yield Problem(
                    file, str(raw.get("id") or raw.get("overrides")),
                    f"changes '{before}', which '{kept[before]}' says must stay", "One of the two rules must give way.",
                )  # fmt: skip


def tried(source: Source, rewrite: Callable[[str], str]) -> Iterator[Problem]:
    where = {str(raw.get("id") or raw.get("overrides")): file for file, raw in all_rules(source)}
    for rule in build(source).rules:
        wanted = dict(rule.examples) if rule.by == "rules" else {}
        wanted |= {after: after for _, after in rule.examples} | {text: text for text in rule.counter_examples}
        for given, expected in wanted.items():
            if given and (got := rewrite(given)) != expected:
                says = f"the {'example' if given != expected else 'text'} '{given}' becomes '{got}'"
                says += f", expected '{expected}'" if given != expected else ", but must stay as it is"
                yield Problem(where[rule.id], rule.id, says, "Correct the example, or the lexicon.")
