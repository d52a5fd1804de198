"""What stands beside a score: by category, which letters and lengths are chosen, other ways to normalise."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fitra import stats
from fitra.evaluate.card import Card
from fitra.evaluate.figures import BY_CATEGORY, Row, dressed, score, unparsed

Floats = NDArray[np.float64]


def tables(card: Card, rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """A task's entry of tables.json: groups, by_category, by_domain, letters, length, scoring, defects.

    Keys that do not apply (no category, one option, no likelihoods) are None.
    """
    rows = dressed(card, rows)
    return {
        "groups": {c: list(g) for c, g in sorted(card.groups.items())},
        "by_category": by_category(card, rows, seed),
        "by_domain": by_domain(card, rows, seed),
        "letters": letters(card, rows),
        "length": length(card, rows),
        "scoring": scoring(card, rows, seed),
        "defects": dict(sorted(Counter(d for r in rows for d in r["defects"]).items())),
    }


def by_category(card: Card, rows: Sequence[Row], seed: int) -> list[dict[str, Any]] | None:
    """One row per category with its interval, its cleaned figure and its unparsed share, sorted by name."""
    metric = "accuracy" if card.metrics[0] in BY_CATEGORY else card.metrics[0]
    parts: dict[str, list[Row]] = defaultdict(list)
    for r in rows:
        parts[r["category"]].append(r)
    if not any(parts):
        return None
    out = []
    for name, part in sorted(parts.items()):
        sub, domain = card.groups.get(name, ("", ""))
        clean = [r for r in part if not r["defects"]]
        whole = score(part, metric, seed)
        out.append(
            {
                "category": name,
                "subcategory": sub,
                "domain": domain,
                "metric": metric,
                **whole,
                "cleaned": (whole if len(clean) == len(part) else score(clean, metric, seed))["value"]
                if clean
                else None,
                "cleaned_n": len(clean),
                "unparsed": unparsed(card, part),
            }
        )
    return out


def by_domain(card: Card, rows: Sequence[Row], seed: int) -> list[dict[str, Any]] | None:
    """The mean over sub-categories of each domain, the last step before `nested_accuracy`."""
    if "nested_accuracy" not in card.metrics:
        return None
    parts: dict[str, list[Row]] = defaultdict(list)
    for r in rows:
        parts[card.groups[r["category"]][1]].append(r)
    return [{"domain": d, **score(part, "nested_accuracy", seed, card.groups)} for d, part in sorted(parts.items())]


def letters(card: Card, rows: Sequence[Row]) -> dict[str, Any] | None:
    """How often each place among the options is right, is chosen, and both.

    `independence`: Pearson's test of predictions against gold; a large p says that the answers know nothing of the
    questions. `same_margins`: Stuart and Maxwell's test; a small p says that some place is chosen more, or less, often
    than it is right. Both take items as independent.
    """
    asked = [r for r in rows if r["gold"] is not None and len(r["options"]) > 1]
    if card.kind not in ("choice", "generate") or not asked:
        return None
    k = max(len(r["options"]) for r in asked)
    table = np.zeros((k, k))
    for r in asked:
        if r["predicted"] is not None:
            table[r["gold"], r["predicted"]] += 1
    names = _labels(asked)
    gold = np.bincount([r["gold"] for r in asked], minlength=k)
    return {
        "options": [
            {
                "option": names[i].strip() if names else str(i + 1),
                "gold": int(gold[i]),
                "predicted": int(table[:, i].sum()),
                "correct": int(table[i, i]),
            }
            for i in range(k)
        ],
        "unparsed": len(asked) - int(table.sum()),
        "independence": dict(zip(("chi2", "df", "p"), stats.independence(table), strict=True)),
        "same_margins": dict(zip(("chi2", "df", "p"), stats.same_margins(table), strict=True)),
    }


def length(card: Card, rows: Sequence[Row]) -> dict[str, Any] | None:
    """How often the longest (and the shortest) option is chosen, against how often it is right and mere chance.

    Over items with one longest and one shortest option, in tokens where the rows have them, else in UTF-8 bytes; None
    where options are labels of one length.
    """
    if card.kind not in ("choice", "generate"):
        return None
    asked = [r for r in rows if r["gold"] is not None and r["predicted"] is not None and len(r["options"]) > 1]
    tokens = bool(asked) and all(len(r.get("lengths") or ()) == len(r["options"]) for r in asked)
    out: dict[str, Any] = {"unit": "tokens" if tokens else "bytes"}
    for name, best in (("longest", max), ("shortest", min)):
        told = []
        for r in asked:
            sizes = r["lengths"] if tokens else [len(o.encode()) for o in r["options"]]
            if sizes.count(best(sizes)) == 1:
                told.append((sizes.index(best(sizes)), r["predicted"], r["gold"], len(sizes)))
        if not told or _labels(asked):
            return None
        chosen = stats.wilson(sum(p == x for x, p, _, _ in told), len(told))
        out[name] = {
            "n": len(told),
            "chosen": chosen.value,
            "ci_low": chosen.low,
            "ci_high": chosen.high,
            "gold": sum(g == x for x, _, g, _ in told) / len(told),
            "chance": sum(1 / k for *_, k in told) / len(told),
        }
    return out


def scoring(card: Card, rows: Sequence[Row], seed: int) -> dict[str, Any] | None:
    """Accuracy had the stored log-likelihoods been compared raw, per token, per byte, or against the bare prompt (PMI).

    Label words (letters, صح and خطأ) are never divided by their length: it would choose the longer word nearly always,
    whatever is asked. There, and where a run stored no lengths or bare scores, the figure is None and `why` says so.
    """
    asked = [r for r in rows if r["gold"] is not None and r["scores"] and len(r["scores"]) == len(r["options"]) > 1]
    if card.kind != "choice" or not asked:
        return None
    labels = bool(_labels(asked))
    out: dict[str, Any] = {}
    for name, (needs, rule) in _RULES.items():
        why = ""
        if labels and name.startswith("per_"):
            why = "the options are label words: their length says nothing"
        elif needs and not all(len(r.get(needs) or ()) == len(r["options"]) for r in asked):
            why = f"the run stored no {needs}"
        figure = None if why else score(_chosen(card, asked, rule), "accuracy", seed)
        out[name] = {"why": why, **(figure or dict.fromkeys(("value", "ci_low", "ci_high", "n", "se")))}
    return out


def _chosen(card: Card, rows: Sequence[Row], rule: Callable[[Floats, Mapping[str, Floats]], Floats]) -> list[Row]:
    """The rows with parts (right, 1) under a rule; worked out for all items of one number of options at once."""
    made: list[Row] = []
    by_size: dict[int, list[Row]] = defaultdict(list)
    for r in rows:
        by_size[len(r["options"])].append(r)
    for part in by_size.values():
        more = {
            "bytes": np.array([[max(1, len(o.encode())) for o in r["options"]] for r in part], dtype=float),
            **{
                x: np.array([r[x] for r in part], dtype=float)
                for x in ("lengths", "bare_scores")
                if all(r.get(x) for r in part)
            },
        }
        raw = np.array([r["scores"] for r in part], dtype=float)
        best = rule(raw * more["bytes"] if card.per_byte else raw, more).argmax(axis=1)  # a tie goes to the first
        right = best == np.array([r["gold"] for r in part])
        made += [{"cluster": r["cluster"], "parts": [float(x), 1.0]} for r, x in zip(part, right, strict=True)]
    return made


_RULES: dict[str, tuple[str, Callable[[Floats, Mapping[str, Floats]], Floats]]] = {
    "raw": ("", lambda raw, more: raw),
    "per_token": ("lengths", lambda raw, more: raw / np.maximum(1, more["lengths"])),
    "per_byte": ("", lambda raw, more: raw / more["bytes"]),
    "pmi": ("bare_scores", lambda raw, more: raw - more["bare_scores"]),
}


def _labels(rows: Sequence[Row]) -> list[str]:
    """The labels, where all items have the same options (or the first few of them), else nothing."""
    longest: list[str] = list(max((r["options"] for r in rows), key=len, default=[]))
    same = len(rows) > 1 and all(list(r["options"]) == longest[: len(r["options"])] for r in rows)
    return longest if same else []
