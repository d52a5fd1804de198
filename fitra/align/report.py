"""The page of an alignment: what was changed, kept, refused and paid, with samples. One file that loads nothing.

from fitra.align import report
report.write(Path("runs/real/align"), Path("report.html"))
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fitra import page
from fitra.align import STATES
from fitra.align import figures as measure
from fitra.align import report_text as draw
from fitra.align.aspects import ASPECTS
from fitra.align.levels import ANY
from fitra.artifacts import write_text
from fitra.signals import toxicity

__all__ = ["render", "samples", "write"]

TIERS = ("untouched", "rules", "edits", "worker", "expert", "human", "drop")
KINDS, EACH, MOST = 6, 3, 120  # kinds of reasons per tier and state, samples of each, samples in all
GROUPS = 500  # tiers, states and reasons that are told apart
LONGEST = 100_000  # characters of a text that is compared
WORDS = {
    "accept": "rewritten, every gate passed",
    "unchanged": "nothing to change",
    "keep_original": "a rewrite was refused: the original stays",
    "quarantine": "unsafe, left out",
    "drop": "nothing but advertising or abuse, left out",
}
POPULATIONS = {
    "documents": "all documents",
    "flagged": "flagged documents",
    "rewritten": "rewritten documents",
    "flagged_rewritten": "flagged and rewritten",
}


def write(stage: Path, target: Path, found: Mapping[str, Any] | None = None, **options: Any) -> Path:
    """Write the page about an align stage to `target`; returns `target`.

    `found` are figures that were taken already; without them `figures.figures(stage, **options)` takes them. Raises
    FitraError where there are no rows or the stage is not finished.
    """
    stage = Path(stage)
    got = found if found is not None else measure.figures(stage, **options)
    write_text(Path(target), render(got, samples(stage)))
    return Path(target)


def render(found: Mapping[str, Any], groups: list[dict[str, Any]]) -> str:
    """The page as text; equal figures and samples give equal pages."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    env = ImmutableSandboxedEnvironment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    env.filters |= {
        "n": _n,
        "pct": _pct,
        "fig": _figure,
        "show": page.show,
        "quote": draw.quote,
        "say": _say,
        "short": _amount,
    }
    env.globals |= {"bar": page.bar}
    files = resources.files("fitra.align")
    template = env.from_string((files / "report.html.jinja").read_text(encoding="utf-8"))
    text = template.render(
        style=Markup((files / "report.css").read_text(encoding="utf-8")),
        f=found,
        groups=groups,
        words=WORDS,
        any=ANY,
        populations=POPULATIONS,
        **_tables(found),
    )
    # A lone surrogate is shown as a badge; none is left here, but a page must be writable whatever comes.
    return text.encode("utf-8", "replace").decode("utf-8")


def _n(value: Any) -> str:
    return "–" if value is None else f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def _pct(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{round(100 * value, digits) + 0.0:.{digits}f}%".replace("-", "−")


def _figure(value: Any, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _say(name: object) -> str:
    return str(name).replace("_", " ")


def _order(names: Any, known: tuple[str, ...]) -> list[str]:
    """Known names in their order, then the others."""
    return [k for k in known if k in names] + sorted(set(names) - set(known))


def _tables(found: Mapping[str, Any]) -> dict[str, Any]:
    states = found["states"]
    total = max(1, found["documents"])
    gone = sum(states.get(s, 0) for s in ("quarantine", "drop"))
    return {
        "states": [(s, states[s]) for s in _order(states, STATES)],
        "total": total,
        "goes_on": found["documents"] - gone,
        "tiers": _tiers(found, total),
        "cost": _cost(found["cost"]),
        "refused": sorted(
            ((g, sum(c.values()), c, found["gates"]["judged"].get(g, 0)) for g, c in found["gates"]["refused"].items()),
            key=lambda r: (-r[1], r[0]),
        ),
        "toxic": _toxic(found["toxicity"]),
        "lead": _lead(found),
        "perplexity": _perplexity(found["perplexity"]),
        "aspects": _aspects(found["aspects"]),
        "json": json.dumps({k: found[k] for k in ("sample", "policy", "rewriters")}, ensure_ascii=False, indent=1),
    }


def _tiers(found: Mapping[str, Any], total: int) -> list[dict[str, Any]]:
    out = []
    for tier in _order(found["tiers"], TIERS):
        counts = found["tiers"][tier]
        n = sum(counts.values())
        characters = sum(found["characters"]["tiers"].get(tier, {}).values())
        out.append({"name": tier, "n": n, "share": n / total, "characters": characters, "states": counts})
    return out


_NO_SUMS = ("tiers", "documents", "sampled", "unknown")


def _cost(notes: Mapping[str, Any]) -> dict[str, Any] | None:
    """Plan against actual, tolerant of what either holds: numbers, ranges [low, high], or either by name."""
    plan, actual = (_mapping(notes.get(k)) for k in ("plan", "actual"))
    if not plan and not actual:
        return None
    by_tier = [{t: _quantities(v) for t, v in _mapping(side.get("tiers")).items()} for side in (plan, actual)]
    names = [n for n in dict.fromkeys([*plan, *actual]) if n not in _NO_SUMS]
    rows = [_line("", n, plan.get(n), actual.get(n, _sum(by_tier[1], n))) for n in names]
    for tier in _order({**by_tier[0], **by_tier[1]}, TIERS):
        planned, spent = (side.get(tier, {}) for side in by_tier)
        rows += [_line(tier, n, planned.get(n), spent.get(n)) for n in dict.fromkeys([*planned, *spent])]
    unknown = plan.get("unknown")
    unknown = list(dict.fromkeys(map(str, unknown))) if isinstance(unknown, list) else []
    return {"rows": rows, "planned": bool(plan), "spent": bool(actual), "unknown": unknown}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _quantities(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {"documents": value}


def _sum(tiers: Mapping[str, Mapping[str, Any]], name: str) -> float | None:
    found = [t[name] for t in tiers.values() if _number(t.get(name))]
    return sum(found) if found else None


def _line(tier: str, name: str, plan: Any, actual: Any) -> dict[str, str]:
    return {
        "tier": tier, "name": name, "plan": _amount(plan), "actual": _amount(actual), "verdict": _against(plan, actual),
    }  # fmt: skip


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _amount(value: Any) -> str:
    if value is None:
        return "–"
    if _number(value):
        return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:,.4g}"
    if isinstance(value, list | tuple) and len(value) == 2 and all(map(_number, value)):
        return _amount(value[0]) if value[0] == value[1] else f"{_amount(value[0])} to {_amount(value[1])}"
    if isinstance(value, Mapping):
        return ", ".join(f"{_say(k)} {_amount(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_amount, value))
    return str(value)


def _against(plan: Any, actual: Any) -> str:
    low, high = plan if isinstance(plan, list | tuple) and len(plan) == 2 else (plan, plan)
    if not (_number(low) and _number(high) and _number(actual)):
        return ""
    return "below the plan" if actual < low else "above the plan" if actual > high else "as planned"


def _toxic(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    keys = (*toxicity.SAFETY_HEADINGS, ANY)
    out = []
    for name, by in found.items():
        tables = []
        for key, title in POPULATIONS.items():
            p = by[key]
            rows = [{"name": "any of them" if k == ANY and name == "rules" else k, **p["headings"][k]} for k in keys]
            most = max([r[side] or 0 for r in rows for side in ("before", "after")], default=0)
            tables.append(
                {
                    "key": key,
                    "title": title,
                    "rows": rows,
                    "most": most,
                    **{k: p[k] for k in ("n", "rose", "gone", "interval")},
                }
            )
        scored = {"rules": "by the readable rules", "embedded": "by the trained scorer"}.get(
            name, f"by {name.split(':')[0]}"
        )
        out.append({"name": scored, "threshold": by["threshold"], "unscored": by["unscored"], "tables": tables})
    return out


def _lead(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the tiles at the top say."""
    by = found["toxicity"]
    facts = [v for k, v in found["knowledge"].items() if k != "links"]
    total, lost = sum(v["total"] for v in facts), sum(v["lost"] for v in facts)
    return {
        "toxicity": [(name, p["flagged"]["headings"][ANY]["reduction"], p["flagged"]["n"]) for name, p in by.items()],
        "kept": 1 - lost / total if total else None,
        "facts": total,
        "lost": lost,
        "purpose": sum(v["purpose"] for v in facts),
    }


def _perplexity(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not found or not found["n"]:
        return None
    edges = [f"{e:.2f}" for e in found["edges"]]
    series = [("before", found["before"]["columns"]), ("after", found["after"]["columns"])]
    return {**found, "chart": draw.columns(series, edges, "Bits per byte, documents in each column")}


def _aspects(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not found or not found["rewrites"]["n"]:
        return None
    rows = []
    for a in ASPECTS:
        sides = [found[side]["aspects"].get(a) for side in ("copies", "rewrites")]
        counts = [s["counts"] if s else [0] * 10 for s in sides]
        chart = draw.columns([("originals", counts[0]), ("rewrites", counts[1])], [str(i) for i in range(1, 11)], a)
        rows.append({"name": a, "original": sides[0], "rewrite": sides[1], "chart": chart})
    return {**found, "rows": rows}


def samples(stage: Path) -> list[dict[str, Any]]:
    """Documents to read, of every tier and state, by kind of reason: drawn evenly, the same in every run."""
    counts: Counter[tuple[str, str, str]] = Counter()
    held: dict[tuple[str, str, str], measure.Lowest] = {}
    for batch in measure.batches(stage):
        c = {k: batch[k].to_pylist() for k in ("id", "tier", "state", "reason")}
        for i, ident in enumerate(map(str, c["id"])):
            key = c["tier"][i] or measure.NO_TIER, str(c["state"][i]), measure.kind(c["reason"][i])
            if key not in counts and len(counts) >= GROUPS:
                key = (*key[:2], "others")
            counts[key] += 1
            into = held.setdefault(key, measure.Lowest(EACH, "samples"))
            at = into.rank(ident)
            if at is not None:
                into.add(ident, at, {k: v[i].as_py() for k, v in batch.items()})  # only now are the texts decoded
    out: list[dict[str, Any]] = []
    left = MOST
    tiers = _order({t for t, _, _ in counts}, TIERS)
    for tier, state in ((t, s) for t in tiers for s in _order({k[1] for k in counts if k[0] == t}, STATES)):
        kinds = sorted((k for k in counts if k[:2] == (tier, state)), key=lambda k: (-counts[k], k))[:KINDS]
        rows = [_sample(r) for k in kinds for r in held[k].rows][: max(EACH, left)]
        left -= len(rows)
        n = sum(v for k, v in counts.items() if k[:2] == (tier, state))
        out.append({"tier": tier, "state": state, "n": n, "rows": rows})
    return out


def _sample(row: Mapping[str, Any]) -> dict[str, Any]:
    before = (row["original"] or "")[:LONGEST]
    after = None if row["rewrite"] is None else row["rewrite"][:LONGEST]
    try:
        found = json.loads(row["verdicts"] or "[]")
        refused = [v for v in found if isinstance(v, dict) and v.get("passed") is False]
    except ValueError:
        refused = [{"gate": "verdicts that cannot be read", "figure": None, "threshold": None}]
    changed = after is not None and after != before
    left, right = draw.both(before, after or "") if changed else (None, None)
    return {
        **{k: row[k] for k in ("id", "reason", "rewriter", "state")},
        "refused": [{k: v.get(k) for k in ("gate", "figure", "threshold", "detail")} for v in refused],
        "block": draw.differences(before, after or "") if changed else draw.quote(before),
        "changed": changed,
        "left": left,
        "right": right,
    }
