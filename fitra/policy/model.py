"""What a policy is, once read: rules, thresholds, prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["ACTIONS", "GROUPS", "GROUP_NAMES", "Policy", "Rule"]

# Method facts 1.3: the four classes of problems of the native-alignment paper.
GROUP_NAMES: Mapping[str, tuple[str, str]] = {
    "format": ("الشكل", "Format"),
    "values": ("القيم والإنصاف", "Values and fairness"),
    "moderation": ("تهذيب المحتوى", "Content moderation"),
    "knowledge": ("صون المعرفة", "Knowledge preservation"),
}
GROUPS = tuple(GROUP_NAMES)
# From the lightest to the heaviest.
ACTIONS: Mapping[str, tuple[str, str]] = {
    "pass": ("يبقى كما هو", "left as it is"),
    "light_edit": ("تعديل طفيف", "light edit"),
    "add_context": ("إضافة سياق", "context added"),
    "recontextualise": ("وضع في سياق", "put into context"),
    "neutralise": ("تحييد", "neutralised"),
    "drop": ("حذف", "dropped"),
}


@dataclass(frozen=True)
class Rule:
    """One rule in both languages; `examples` are (before, after) pairs, a counter-example is a text it must not change.

    `by` says who carries it out: the deterministic rewriter ("rules", so that its examples can be tried) or a model.
    A rule that `protects` may be extended by a regional pack, never loosened. `packs` are the packs that wrote it or
    changed it.
    """

    id: str
    group: str
    statement_ar: str
    statement_en: str
    reason: str
    examples: tuple[tuple[str, str], ...]
    reason_ar: str = ""
    action: str = "pass"
    code: str = ""
    by: Literal["rules", "model"] = "model"
    protects: bool = False
    counter_examples: tuple[str, ...] = ()
    packs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Policy:
    """A loaded policy with its packs. `hash` (64 hex digits) is its identity; `gates` are thresholds by name.

    `id` names the packs too ("default+egypt"); `codes` are the reason codes with their names in both languages;
    `triage["model_from"]` is the toxicity (0 to 1) from which a document needs a model, `unsafe` the one from which it
    is kept only rewritten.
    """

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
    triage: Mapping[str, float] = field(default_factory=dict)
    codes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    packs: tuple[str, ...] = ()

    def rule(self, rule_id: str) -> Rule | None:
        """The rule of that id, or None."""
        return next((r for r in self.rules if r.id == rule_id), None)
