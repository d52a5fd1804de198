"""Triage: what each document needs, decided cheaply from what the rules found and what the scorers say.

    untouched  nothing found
    rules      the deterministic rules repair all that was found
    model      something is left that needs judgement: a rewriter by model should look at it
    drop       the rules leave nothing of it

What counts as left is set by thresholds (`DEFAULTS`, overridden by the policy's `triage` mapping). Every reason has its
figure, so that a threshold can be argued about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fitra.align import masking, rules
from fitra.policy import Policy
from fitra.signals import toxicity
from fitra.signals.view import view

__all__ = ["DEFAULTS", "TIERS", "Need", "assign"]

Tier = Literal["untouched", "rules", "model", "drop"]
TIERS: tuple[Tier, ...] = ("untouched", "rules", "model", "drop")
DEFAULTS: dict[str, float] = {
    "toxicity": 0.5,  # of the trained scorer, on what the rules leave
    "toxicity_rules": 0.5,  # of the readable rules, highest safety heading, on what the rules leave
}


@dataclass(frozen=True)
class Need:
    """The tier of a document, why, and the figures behind it."""

    tier: Tier
    reasons: tuple[str, ...]
    figures: Mapping[str, float]


def thresholds(policy: Policy) -> dict[str, float]:
    """The policy's thresholds over the defaults; names that are not ours are left to others."""
    given: Mapping[str, float] = getattr(policy, "triage", None) or {}
    return DEFAULTS | {k: float(v) for k, v in given.items() if k in DEFAULTS}


def assign(
    texts: Sequence[str],
    masked: Sequence[masking.Masked],
    compiled: rules.Rules,
    policy: Policy,
    made: Sequence[rules.Rewrite] | None = None,
) -> list[Need]:
    """The need of each text; `masked` are the texts masked, `made` what the rules made of them (else made here)."""
    done = [rules.apply(m, compiled) for m in masked] if made is None else made
    limits = thresholds(policy)
    left = [masking.PLACEHOLDER.sub(" ", m.text) for m in done]
    overall = toxicity.overall(view(left)) if left else []
    return [
        _need(m, rewrite, text, {"toxicity": float(o)}, limits)
        for m, rewrite, text, o in zip(masked, done, left, overall, strict=True)
    ]


def _need(
    masked: masking.Masked, made: rules.Rewrite, left: str, figures: dict[str, float], limits: Mapping[str, float]
) -> Need:
    if not made.text.strip():
        return Need("drop", made.rules or ("empty",), figures)
    if figures["toxicity"] >= limits["toxicity"] / 2:
        scores = toxicity.score(left)
        figures["toxicity_rules"] = max(scores[h] for h in toxicity.SAFETY_HEADINGS)
    open_reasons = tuple(k for k in sorted(figures) if figures[k] >= limits[k])
    if open_reasons:
        return Need("model", open_reasons, figures)
    if made.text != masked.text:
        return Need("rules", made.rules, figures)
    return Need("untouched", (), figures)
