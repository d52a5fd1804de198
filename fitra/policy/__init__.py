"""Policy: the code of conduct of native alignment, as a folder of files that people read and change.

    policy.yaml        id, version, title, card, gate thresholds, the level from which a document is unsafe
    rules/*.yaml       groups of rules, each in Arabic and English, with its reason and examples
    prompts/*.md       expert (carries the rules), text (the user's turn), retry (carries a gate's complaint),
                       claims (a judge's question)
    lexicon/*.yaml     words and patterns for the deterministic rewriter

The identity of a policy is the hash of its parsed content: comments and line breaks do not count, everything else does.
The rules of the shipped policy follow the native-alignment paper's four groups (method facts 1.3).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fitra.artifacts import digest
from fitra.errors import FitraError

__all__ = ["GATES", "GROUPS", "Policy", "Rule", "check", "load", "render", "show"]

GROUPS = ("format", "values", "moderation", "knowledge")
GATES = (
    "script_drift", "language_drift", "dialect_drift", "length_min", "length_max", "numbers_lost", "numbers_new",
    "dates_changed", "units_changed", "names_lost", "names_new", "negation_drift", "urls_changed", "protected_lost",
    "words_kept_min", "passage_lost_max", "passage_new_max", "unfinished", "leaks", "repeats_max", "toxicity_rise",
    "toxicity_overall_rise", "personal_new", "benchmark_new", "diversity_min", "claims_share", "claims_changed",
)  # fmt: skip
# What may become of a pair that a gate refused; `exhausted` is for retries that are used up.
OUTCOMES = ("retry", "keep_original", "quarantine", "drop")
LEXICONS = ("ads", "bias", "insults", "unsafe")
# What each prompt must cite, or the model would not see it.
PROMPTS = {
    "expert": ("{rules}", "{placeholder}"),
    "text": ("{text}", "{nonce}"),
    "retry": ("{complaint}",),
    "claims": ("{original}", "{rewrite}", "{nonce}"),
}


@dataclass(frozen=True)
class Rule:
    """One rule in both languages; `examples` are (before, after) pairs."""

    id: str
    group: str
    statement_ar: str
    statement_en: str
    reason: str
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Policy:
    """A loaded policy. `hash` (64 hex digits) is its identity; `gates` are thresholds by name."""

    id: str
    version: int
    hash: str
    rules: tuple[Rule, ...]
    prompts: Mapping[str, str]
    gates: Mapping[str, float]
    outcomes: Mapping[str, str]
    unsafe: float
    lexicon: Mapping[str, Any]
    title: Mapping[str, str]
    card: Mapping[str, str]


def _folder(name_or_folder: str | Path) -> Path:
    shipped = Path(__file__).parent / str(name_or_folder)
    if re.fullmatch(r"[\w-]+", str(name_or_folder)) and (shipped / "policy.yaml").is_file():
        return shipped
    folder = Path(name_or_folder)
    if (folder / "policy.yaml").is_file():
        return folder
    known = sorted(p.parent.name for p in Path(__file__).parent.glob("*/policy.yaml"))
    raise FitraError(
        f"policy '{name_or_folder}': neither shipped with Fitra ({', '.join(known)}) nor a folder with policy.yaml.",
        "Copy the shipped folder to start one of your own.",
    )


def _yaml(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        mark = getattr(e, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise FitraError(
            f"{path}{line}: not valid YAML: {getattr(e, 'problem', e)}.", "Check the indentation."
        ) from None
    if not isinstance(value, dict):
        raise FitraError(f"{path}: expected a mapping.", "Compare with the shipped policy.")
    return value


def _read(folder: Path) -> tuple[dict[str, Any], list[tuple[Path, dict[str, Any]]], dict[str, str], dict[str, Any]]:
    head = _yaml(folder / "policy.yaml")
    groups = [(p, _yaml(p)) for p in sorted((folder / "rules").glob("*.yaml"))]
    prompts = {p.stem: p.read_text(encoding="utf-8") for p in sorted((folder / "prompts").glob("*.md"))}
    lexicon = {p.stem: _yaml(p) for p in sorted((folder / "lexicon").glob("*.yaml"))}
    return head, groups, prompts, lexicon


def _problems(folder: Path) -> Iterator[str]:
    head, groups, prompts, lexicon = _read(folder)
    if not isinstance(head.get("id"), str) or not head["id"]:
        yield "policy.yaml: 'id' is missing"
    if not isinstance(head.get("version"), int):
        yield "policy.yaml: 'version' must be a whole number"
    for lang in ("ar", "en"):
        for key in ("title", "card"):
            if not (head.get(key) or {}).get(lang):
                yield f"policy.yaml: {key}.{lang} is missing"
    gates = head.get("gates") or {}
    for gate in GATES:
        if not isinstance(gates.get(gate), int | float):
            yield f"policy.yaml: gates.{gate} must be a number"
    yield from (f"policy.yaml: unknown gate '{g}'" for g in gates if g not in GATES)
    for name, state in (head.get("outcomes") or {}).items():
        if state not in OUTCOMES or (name == "exhausted" and state == "retry"):
            yield f"policy.yaml: outcomes.{name} is '{state}', none of {', '.join(OUTCOMES)}"
    if not isinstance(head.get("unsafe"), int | float):
        yield "policy.yaml: 'unsafe' must be a number"
    seen: dict[str, str] = {}
    for path, data in groups:
        if data.get("group") not in GROUPS:
            yield f"rules/{path.name}: group '{data.get('group')}' is none of {', '.join(GROUPS)}"
        for i, rule in enumerate(data.get("rules") or []):
            where = f"rules/{path.name}: rule '{rule.get('id', i)}'"
            for key in ("id", "ar", "en", "reason"):
                if not rule.get(key):
                    yield f"{where}: '{key}' is missing"
            if rule.get("id") in seen:
                yield f"{where}: id already used in {seen[rule['id']]}"
            seen[rule.get("id", "")] = path.name
            for example in rule.get("examples") or []:
                if not isinstance(example, dict) or not {"before", "after"} <= set(example):
                    yield f"{where}: an example needs 'before' and 'after'"
    if not seen:
        yield "rules/: no rules"
    for name, parts in PROMPTS.items():
        if name not in prompts:
            yield f"prompts/{name}.md is missing"
        yield from (f"prompts/{name}.md: does not cite {p}" for p in parts if p not in prompts.get(name, p))
    yield from (f"lexicon/{name}.yaml is missing" for name in LEXICONS if name not in lexicon)
    for name, data in lexicon.items():
        for pattern in _patterns(data):
            try:
                re.compile(pattern)
            except re.error as e:
                yield f"lexicon/{name}.yaml: bad pattern '{pattern[:40]}': {e}"


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


def load(name_or_folder: str | Path = "default") -> Policy:
    """Load a policy by the name of a shipped one, or from a folder. FitraError names the first thing wrong with it."""
    folder = _folder(name_or_folder)
    for problem in _problems(folder):
        raise FitraError(f"policy {folder.name}: {problem}.", "`fitra policy check` lists everything to correct.")
    head, groups, prompts, lexicon = _read(folder)
    rules = tuple(
        Rule(
            r["id"], data["group"], r["ar"], r["en"], r["reason"],
            tuple((e["before"], e["after"]) for e in r.get("examples") or []),
        )
        for _, data in sorted(groups, key=lambda g: GROUPS.index(g[1]["group"]))
        for r in data["rules"]
    )  # fmt: skip
    return Policy(
        head["id"],
        head["version"],
        digest([head, [data for _, data in groups], prompts, lexicon]),
        rules,
        prompts,
        {k: float(v) for k, v in head["gates"].items()},
        {"default": "retry", "exhausted": "keep_original", **(head.get("outcomes") or {})},
        float(head["unsafe"]),
        lexicon,
        head["title"],
        head["card"],
    )


def check(name_or_folder: str | Path, rewrite: Callable[[str], str] | None = None) -> list[str]:
    """Everything wrong with a policy, in words; an empty list when it is fit for use.

    With `rewrite` (the deterministic rewriter under this policy) every example is tried: 'before' must become 'after',
    and 'after' must stay as it is.
    """
    folder = _folder(name_or_folder)
    found = list(_problems(folder))
    if rewrite and not found:
        for rule in load(folder).rules:
            for before, after in rule.examples:
                for given in dict.fromkeys((before, after)):
                    got = rewrite(given)
                    if got != after:
                        found.append(f"rule '{rule.id}': the example '{given}' becomes '{got}', expected '{after}'")
    return found


def render(policy: Policy) -> str:
    """The rules as Markdown in both languages: what a prompt carries."""
    lines: list[str] = []
    for group in GROUPS:
        rules = [r for r in policy.rules if r.group == group]
        if rules:
            lines.append(f"## {group}")
        for r in rules:
            lines += [f"- [{r.id}] {r.statement_ar}", f"  {r.statement_en}"]
    return "\n".join(lines)


def show(name_or_folder: str | Path = "default") -> str:
    """A policy for reading: card, rules with reasons and examples, thresholds."""
    p = load(name_or_folder)
    lines = [f"# {p.title['ar']}", f"{p.title['en']} ({p.id}, version {p.version}, {p.hash[:12]})", ""]
    lines += [p.card["ar"], p.card["en"].strip(), ""]
    for group in GROUPS:
        lines.append(f"## {group}")
        for r in (r for r in p.rules if r.group == group):
            lines += [f"- {r.id}", f"  {r.statement_ar}", f"  {r.statement_en}", f"  why: {r.reason}"]
            lines += [f"  example: {b!r} -> {a!r}" for b, a in r.examples]
    lines += ["", "## gates", *(f"- {k}: {v:g}" for k, v in p.gates.items()), f"- unsafe from: {p.unsafe:g}"]
    lines += [f"- refused by {k}: {v}" for k, v in p.outcomes.items()]
    return "\n".join(lines) + "\n"
