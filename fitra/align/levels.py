"""Toxicity before and after, under four headings, by the readable rules and by a trained scorer (the paper's table).

The paper put 8,000 documents before and after through a moderation API; any scorer of `signals.toxicity.scorer` can
stand in for it here. What no scorer could score is counted apart, never as harmless.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fitra import stats
from fitra.signals import toxicity
from fitra.signals.view import view

__all__ = ["ANY", "FLAGGED_FROM", "Pair", "toxicity_levels"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

ANY = "any"  # the highest heading by the rules; the scorer's own head for toxicity as a whole
FLAGGED_FROM = 0.5
_BATCH = 2_000_000  # characters that are scored at once
_DRAWS = 1000


@dataclass(frozen=True)
class Pair:
    """A document before and after; `after` is None where it does not go on, `changed` says it was rewritten.

    `lost` is by gate how many facts the gates let pass as lost or changed, beyond what was taken out on purpose.
    """

    id: str
    before: str
    after: str | None
    changed: bool
    lost: Mapping[str, float] = field(default_factory=dict)


def toxicity_levels(
    documents: Sequence[Pair], rewritten: Sequence[Pair], scorer: str = "embedded", seed: int = 0
) -> dict[str, Any]:
    """Figures by scorer ("rules", and the kind of the one that `scorer` names), population and heading.

    Populations: `documents` and `rewritten` as given (samples, they may overlap), and of each those whose original
    reaches the threshold of that scorer: `flagged`, `flagged_rewritten`. `before` and `after` are means over the
    documents that go on, `over_before` and `over_after` shares at or above the threshold, `reduction` is 1 - after /
    before (with its bootstrap interval in `interval`). Those that were left out are under `gone`. `rose` counts
    documents that are more toxic than before by 0.05 or more.
    """
    pairs = list({p.id: p for p in (*documents, *rewritten)}.values())
    ids = [{p.id for p in side} for side in (documents, rewritten)]
    left = np.array([p.after is None for p in pairs], dtype=bool)
    here, changed = (np.array([p.id in side for p in pairs], dtype=bool) for side in ids)
    out: dict[str, Any] = {}
    for name, found in zip(("rules", scorer.split(":")[0]), (_rules(pairs), _trained(pairs, scorer)), strict=True):
        before, after, over = found
        flagged = np.nan_to_num(before[ANY], nan=-1.0) >= over
        unscored = np.isnan(before[ANY]) | (np.isnan(after[ANY]) & ~left)
        populations = {
            "documents": here, "rewritten": changed, "flagged": here & flagged, "flagged_rewritten": changed & flagged,
        }  # fmt: skip
        out[name] = {
            "threshold": round(over, 4),
            "unscored": int(unscored.sum()),
            **{k: _population(before, after, at & ~unscored, left, over, seed) for k, at in populations.items()},
        }
    return out


Levels = tuple[dict[str, Floats], dict[str, Floats], float]  # before, after (NaN: not scored, or gone), threshold


def _rules(pairs: Sequence[Pair]) -> Levels:
    def levels(texts: Sequence[str]) -> dict[str, Floats]:
        found = [toxicity.score(t) for t in texts]
        out = {h: np.array([f[h] for f in found], dtype=np.float64) for h in toxicity.SAFETY_HEADINGS}
        return {**out, ANY: np.max(list(out.values()), axis=0) if texts else np.zeros(0)}

    return _sides(pairs, levels, FLAGGED_FROM)


def _trained(pairs: Sequence[Pair], spec: str) -> Levels:
    score = toxicity.scorer(spec)

    def levels(texts: Sequence[str]) -> dict[str, Floats]:
        parts: list[dict[str, Floats]] = []
        for batch in _batches(texts):
            found = score(view(batch))
            nothing = np.full(len(batch), np.nan)
            kinds = {h: h for h in toxicity.SAFETY_HEADINGS} | {ANY: toxicity.OVERALL}
            parts.append({k: np.asarray(found.get(of, nothing), dtype=np.float64) for k, of in kinds.items()})
        keys = (*toxicity.SAFETY_HEADINGS, ANY)
        return {k: np.concatenate([p[k] for p in parts]) if parts else np.zeros(0) for k in keys}

    return _sides(pairs, levels, toxicity.threshold() if spec == "embedded" else FLAGGED_FROM)


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch, size = list[str](), 0
    for text in texts:
        if batch and size + len(text) > _BATCH:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


def _sides(pairs: Sequence[Pair], levels: Any, over: float) -> Levels:
    """Both sides scored; a text that did not change is scored once."""
    before: dict[str, Floats] = levels([p.before for p in pairs])
    new = [i for i, p in enumerate(pairs) if p.after is not None and p.after != p.before]
    found: dict[str, Floats] = levels([pairs[i].after or "" for i in new])
    gone = np.array([p.after is None for p in pairs], dtype=bool)
    after = {}
    for key, was in before.items():
        after[key] = np.where(gone, np.nan, was)
        after[key][new] = found[key]
    return before, after, over


def _population(
    before: dict[str, Floats], after: dict[str, Floats], at: Flags, left: Flags, over: float, seed: int
) -> dict[str, Any]:
    headings, interval = {}, None
    gone, both = at & left, at & ~left
    for key in before:
        limit = over if key == ANY else FLAGGED_FROM
        here = both & ~np.isnan(before[key]) & ~np.isnan(after[key])  # a scorer may not know every heading
        was, now = before[key][here], after[key][here]
        headings[key] = {
            "before": _mean(was), "after": _mean(now), "reduction": reduction(_mean(was), _mean(now)),
            "over_before": _mean(was >= limit), "over_after": _mean(now >= limit),
        }  # fmt: skip
    was, now = before[ANY][both], after[ANY][both]
    if len(was) and was.sum():
        found = stats.bootstrap(np.column_stack([was - now, was]), draws=_DRAWS, seed=seed)
        interval = [round(found.low, 4), round(found.high, 4)]
    return {
        "n": int(both.sum()),
        "rose": int(np.sum(now >= was + 0.05)),
        "headings": headings,
        "interval": interval,
        "gone": {"n": int(gone.sum()), "before": _mean(before[ANY][gone])},
    }


def _mean(values: npt.NDArray[Any]) -> float | None:
    return round(float(values.mean()), 5) if len(values) else None


def reduction(before: float | None, after: float | None) -> float | None:
    """1 - after / before; None where there is nothing to reduce."""
    return round(1 - after / before, 4) if before and after is not None else None
