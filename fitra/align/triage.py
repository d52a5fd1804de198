"""Triage: what each document needs, decided cheaply from what the rules found and what the scorers say.

    untouched  nothing found
    rules      the deterministic rules repair all that was found
    model      something is left that needs judgement: a rewriter by model should look at it
    drop       the rules leave nothing of it

What counts as left is set by the thresholds under `triage` in the policy: a reason is a figure at or above its
threshold. The figures are of the text as the rules leave it, protected spans aside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from fitra import arabic
from fitra.align import masking, rules
from fitra.policy import Policy
from fitra.signals import personal, toxicity
from fitra.signals.view import View, view

__all__ = ["TIERS", "Need", "assign"]

Tier = Literal["untouched", "rules", "model", "drop"]
TIERS: tuple[Tier, ...] = ("untouched", "rules", "model", "drop")
PERSONAL = ("email", "phone", "iban", "national_id")
ASK_RULES = 0.1  # of the trained scorer: below, the slower readable rules are not asked
_JOINED = frozenset("وفبلكع")  # single letters that people write apart
_ABUSE = {"moderation.insults", "values.groups"}
_DOUBTS = {"groups": "values.groups", "advice": "moderation.unsafe"}


@dataclass(frozen=True)
class Need:
    """The tier of a document, why, and the figures behind it.

    `reasons` of "model" and "drop" are names of thresholds or ids of rules, of "rules" the ids that changed something.
    """

    tier: Tier
    reasons: tuple[str, ...]
    figures: Mapping[str, float]


def thresholds(policy: Policy) -> dict[str, float]:
    """The policy's thresholds; its `model_from` is that of the readable rules (`toxicity_rules`)."""
    given = dict(policy.triage)
    return {"toxicity_rules": given.pop("model_from")} | given


def assign(
    texts: Sequence[str],
    masked: Sequence[masking.Masked],
    compiled: rules.Rules,
    policy: Policy,
    made: Sequence[rules.Rewrite] | None = None,
) -> list[Need]:
    """The need of each text; `masked` are the texts masked, `made` what the rules made of them (else made here)."""
    done = [rules.apply(m, compiled) for m in masked] if made is None else made
    if not done:
        return []
    limits = thresholds(policy)
    left = [masking.PLACEHOLDER.sub(" ", m.text) for m in done]
    seen = view(left)
    overall, torn = toxicity.overall(seen), _torn(seen)
    _, found = personal.mask_all(list(texts), "count", PERSONAL)
    out = []
    for i, made_one in enumerate(done):
        figures = {
            "toxicity": float(overall[i]),
            "abuse_left": float(overall[i]) * bool(_ABUSE & set(made_one.rules)),
            "advertising": made_one.nearly,
            "personal": float(sum(found[i].values())),
            "torn": float(torn[i]),
            **{k: float(rule in made_one.doubts) for k, rule in _DOUBTS.items()},
        }
        if figures["toxicity"] >= ASK_RULES:
            scores = toxicity.score(left[i])
            figures["toxicity_rules"] = max(scores[h] for h in toxicity.SAFETY_HEADINGS)
        out.append(_need(masked[i], made_one, {k: round(v, 4) for k, v in sorted(figures.items())}, limits))
    return out


def _torn(seen: View) -> npt.NDArray[np.float64]:
    """Share of single Arabic letters among the words of each text, (n,)."""
    single = pc.equal(pc.utf8_length(seen.vocab), 1).to_numpy(zero_copy_only=False)
    for i in np.flatnonzero(single).tolist():
        letter = seen.vocab[i].as_py()
        single[i] = arabic.is_arabic(letter) and letter not in _JOINED
    share: npt.NDArray[np.float64] = seen.sums(single.astype(np.float32)) / np.maximum(seen.n_words, 1)
    return share


def _need(
    masked: masking.Masked, made: rules.Rewrite, figures: Mapping[str, float], limits: Mapping[str, float]
) -> Need:
    if not made.text.strip():
        return Need("drop", tuple(r for r in made.rules if r != "format") or ("empty",), figures)
    left = tuple(k for k, v in figures.items() if v >= limits[k])
    if left:
        return Need("model", left, figures)
    if made.text != masked.text:
        return Need("rules", made.rules, figures)
    return Need("untouched", (), figures)
