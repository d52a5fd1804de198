"""A policy in words: for a model (`render`, `prompt`), for a reader (`show`), as data (`describe`), against another."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fitra import arabic
from fitra.policy.model import ACTIONS, GROUP_NAMES, GROUPS, Policy, Rule

__all__ = ["clean", "describe", "diff", "diff_text", "prompt", "render", "show"]

LONGEST = 160  # characters of an example that a prompt carries: every request pays for them
_RLI, _PDI = "\u2067", "\u2069"
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


def render(policy: Policy) -> str:
    """The rules as Markdown: what all prompts share, the same bytes in every request.

    In Arabic, the language of the texts: by group and action, the statement of every rule and its first short example.
    """
    lines: list[str] = []
    for group in GROUPS:
        lines += [f"## {GROUP_NAMES[group][0]}"] if any(r.group == group for r in policy.rules) else []
        for action, (name, _) in ACTIONS.items():
            rules = [r for r in policy.rules if r.group == group and r.action == action]
            lines += [f"### {name}"] if rules else []
            lines += [f"- {r.statement_ar}{_example(r)}" for r in rules]
    return "\n".join(lines)


def _example(r: Rule) -> str:
    for before, after in r.examples:
        if before != after and len(before) + len(after) <= LONGEST:
            return f" مثال: «{_line(before)}» ← «{_line(after)}»"
    return ""


def prompt(policy: Policy, name: str, **values: str) -> str:
    """A prompt of the policy with its rules, its id and the given values filled in, in one pass.

    What a value holds is never looked at again, so braces in a text mean nothing; what is not given stays as it is.
    """
    known = {"policy_id": policy.id, "policy_version": str(policy.version), **values}
    template = policy.prompts[name]
    if "{rules}" in template:
        known.setdefault("rules", render(policy))
    return re.sub(r"\{(\w+)\}", lambda m: known.get(m[1], m[0]), template)


def describe(policy: Policy) -> dict[str, Any]:
    """The policy as data for `--json`: everything but the lexicon's words."""
    out = asdict(policy)
    out["lexicon"] = sorted(policy.lexicon)
    return out


def show(policy: Policy, isolate: bool = False) -> str:
    """The policy for reading, in both languages: card, rules with reasons and examples, thresholds, packs.

    Control characters and bidirectional overrides are taken out. With `isolate` every Arabic text is wrapped in a
    right-to-left isolate, so that a terminal which knows them keeps signs and numbers in their place; in a file they
    would be noise.
    """
    p = policy
    lines = [f"# {_ar(p.title['ar'], isolate)}", f"# {_en(p.title['en'])}"]
    lines += [f"{_en(p.id)}, version {p.version}, {p.hash[:12]}", ""]
    for lang, side in (("ar", _ar), ("en", _en)):
        lines += [side(line, isolate) for line in p.card.get(lang, "").splitlines()] + [""]
    for group in GROUPS:
        ar, en = GROUP_NAMES[group]
        lines += [f"## {_ar(ar, isolate)} | {en}", ""]
        for r in (r for r in p.rules if r.group == group):
            lines += [*_rule(r, p, isolate), ""]
    for name, values in (("gates", p.gates), ("triage", {**p.triage, "unsafe": p.unsafe})):
        lines += [f"## {name}", *(f"- {k}: {v:g}" for k, v in values.items()), ""]
    lines += ["## outcomes", *(f"- refused by {k}: {v}" for k, v in p.outcomes.items()), ""]
    lines += ["## prompts", *(f"- {_en(k)}: {len(v)} characters" for k, v in p.prompts.items())]
    return "\n".join(lines) + "\n"


def _rule(r: Rule, p: Policy, isolate: bool) -> list[str]:
    action, code = ACTIONS[r.action], p.codes[r.code]
    marks = [f"by {r.by}", *(["protects"] if r.protects else []), *(f"pack {x}" for x in r.packs)]
    lines = [
        f"- {_en(r.id)} [{', '.join(marks)}]",
        f"  {_ar(action[0] + '، ' + code['ar'], isolate)} | {action[1]}, {_en(code['en'])}",
        f"  {_ar(r.statement_ar, isolate)}",
        f"  {_en(r.statement_en)}",
        f"  {_ar(f'السبب: {r.reason_ar}', isolate)}",
        f"  why: {_en(r.reason)}",
    ]
    for before, after in r.examples:
        lines += [f"  {_ar(f'قبل: {_line(before)}', isolate)}", f"  {_ar(f'بعد: {_line(after)}', isolate)}"]
    return lines + [f"  {_ar(f'يبقى: {_line(kept)}', isolate)}" for kept in r.counter_examples]


def _line(text: str) -> str:
    return " / ".join(text.splitlines())


def clean(text: str) -> str:
    """Text for a terminal: control, bidirectional and invisible characters are named, as <U+202E>, so none can act."""
    return _HIDDEN.sub(lambda m: f"<U+{ord(m[0]):04X}>", text)


def _ar(text: str, isolate: bool = False) -> str:
    text = clean(text)
    return f"{_RLI}{text}{_PDI}" if isolate and text else text


def _en(text: str, isolate: bool = False) -> str:
    return clean(text)


def diff(a: Policy, b: Policy) -> dict[str, Any]:
    """What `b` has that `a` has not, and the other way round: by rule and field, by threshold, by prompt.

    {"a", "b": id, version, hash; "rules": {"added", "removed": [id], "changed": {id: {field: [a, b]}}};
    "thresholds": {name: [a, b]}; "prompts": {name: [lines of a unified diff]}; "other": [names of parts]}.
    """
    rules_a, rules_b = ({r.id: asdict(r) for r in p.rules} for p in (a, b))
    changed = {
        i: fields
        for i in rules_a.keys() & rules_b.keys()
        if (fields := {k: [rules_a[i][k], v] for k, v in rules_b[i].items() if rules_a[i][k] != v})
    }
    flat_a, flat_b = _thresholds(a), _thresholds(b)
    prompts = {
        name: list(
            difflib.unified_diff(
                a.prompts.get(name, "").splitlines(), b.prompts.get(name, "").splitlines(), "a", "b", lineterm="", n=1
            )
        )
        for name in sorted({*a.prompts, *b.prompts})
    }
    other = {"title": (a.title, b.title), "card": (a.card, b.card)}
    for part, x, y in (("codes", a.codes, b.codes), ("lexicon", a.lexicon, b.lexicon)):
        other |= {f"{part}/{n}": (x.get(n, {}), y.get(n, {})) for n in sorted({*x, *y})}
    return {
        "a": {"id": a.id, "version": a.version, "hash": a.hash},
        "b": {"id": b.id, "version": b.version, "hash": b.hash},
        "rules": {
            "added": [i for i in rules_b if i not in rules_a],
            "removed": [i for i in rules_a if i not in rules_b],
            "changed": dict(sorted(changed.items())),
        },
        "thresholds": {
            k: [flat_a.get(k), flat_b.get(k)] for k in sorted({*flat_a, *flat_b}) if flat_a.get(k) != flat_b.get(k)
        },
        "prompts": {name: lines for name, lines in prompts.items() if lines},
        "other": [name for name, (x, y) in other.items() if x != y],
    }


def _thresholds(p: Policy) -> dict[str, float | str]:
    held: list[tuple[str, Mapping[str, float | str]]] = [
        ("gates", p.gates), ("outcomes", p.outcomes), ("triage", p.triage),
    ]  # fmt: skip
    return {f"{part}.{k}": v for part, values in held for k, v in values.items()} | {"unsafe": p.unsafe}


def diff_text(found: Mapping[str, Any], isolate: bool = False) -> str:
    """A difference for reading; one line where there is none."""
    names = [f"{found[x]['id']} (version {found[x]['version']}, {found[x]['hash'][:12]})" for x in "ab"]
    lines = [_en(f"a: {names[0]}"), _en(f"b: {names[1]}")]
    rules = found["rules"]
    lines += [f"+ rule {_en(i)}" for i in rules["added"]] + [f"- rule {_en(i)}" for i in rules["removed"]]
    for rule_id, fields in rules["changed"].items():
        lines.append(f"~ rule {_en(rule_id)}")
        for key, (was, now) in fields.items():
            lines += [f"    {key}", f"    - {_value(was, isolate)}", f"    + {_value(now, isolate)}"]
    lines += [
        f"~ {_en(k)}: {was if was is not None else 'none'} -> {now}" for k, (was, now) in found["thresholds"].items()
    ]
    for name, changes in found["prompts"].items():
        lines += [f"~ prompt {_en(name)}", *(f"    {c[:1]}{_value(c[1:], isolate)}" for c in changes[2:])]
    lines += [f"~ {_en(name)}" for name in found["other"]]
    if len(lines) == 2:
        lines.append("no difference" if found["a"]["hash"] == found["b"]["hash"] else "no difference in what counts")
    return "\n".join(lines) + "\n"


def _value(value: Any, isolate: bool) -> str:
    text = _line(value) if isinstance(value, str) else ", ".join(map(str, value)) if value else "none"
    if isinstance(value, bool):
        text = str(value).lower()
    return _ar(text, isolate and any(arabic.is_arabic(c) for c in text))
