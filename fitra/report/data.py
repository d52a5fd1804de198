"""Sections about the text: what ran, corpus, alignment, provenance. Each function gives the template plain values."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from fitra.artifacts import LICENCE_CLASSES, worst_licence
from fitra.report import charts
from fitra.report.stages import Run, Stage, length, mean, number, rows, sample, spread, tally
from fitra.report.text import diff, quote

STATES = ("accept", "unchanged", "keep_original", "quarantine", "drop")
LEAVES = {"accept": "rewrite", "unchanged": "original", "keep_original": "original"}  # the column that goes on
HEADINGS = ("harassment", "hate", "sexual", "violence")  # those of the native-alignment paper's toxicity table
SCORED = 500
CLASS_SAYS = {
    "A": "permissive or public domain",
    "B": "share-alike: pass on under the same licence",
    "C": "non-commercial: for internal use",
    "D": "unknown licence: for internal use until cleared",
}
SECRET = re.compile(r"(api_?key|secret|password|passwd|credential|access_?token|auth)", re.I)
SECRET_LINE = re.compile(
    r"(?im)^(.*?[\w-]*(?:api_?key|secret|password|passwd|credential|access_?token|auth)[\w-]*[\"']?\s*[:=]\s*)(\S.*)$"
)
VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


def bars(counts: Mapping[str, float], tone: int = 1) -> list[dict[str, Any]]:
    """Table rows with a bar each."""
    most = max(counts.values(), default=0)
    total = sum(counts.values())
    return [
        {"name": k, "count": v, "share": v / total if total else 0.0, "bar": charts.bar(v, most, f"{k}: {v:,}", tone)}
        for k, v in counts.items()
    ]


# --- what ran ------------------------------------------------------------------------------------------------------


def ran(run: Run) -> dict[str, Any]:
    """Stages with seconds and counts; quarantined rows and unfinished stages, to be said loudly."""
    most = max((s.seconds for s in run.stages.values()), default=0.0)
    table = []
    for s in run.stages.values():
        counts = [(k, v) for k, v in s.counts.items() if number(v) is not None]
        table.append(
            {
                "stage": s,
                "bar": charts.bar(s.seconds, most, f"{s.name}: {s.seconds:.1f} s"),
                "counts": counts,
                "licence": licence(s),
            }
        )
    return {
        "stages": table,
        "seconds": sum(s.seconds for s in run.stages.values() if not s.skipped),
        "unfinished": [s for s in run.stages.values() if not s.manifest],
        "quarantined": [q for s in run.stages.values() if (q := _quarantined(s))],
    }


def _quarantined(stage: Stage) -> dict[str, Any] | None:
    counted = int(number(stage.counts.get("quarantined")) or 0)
    reasons = tally(stage, "quarantine", ["reason"]) or {}
    held = sum(reasons.values())
    if not counted and not held:
        return None
    chosen = sample(stage, "quarantine", ["id", "where", "reason"], lambda r: str(r.get("reason")), 2, ["reason"])
    return {
        "stage": stage.name,
        "rows": max(counted, held),
        "reasons": [(k[0], n) for k, n in list(reasons.items())[:10]],
        "more": max(0, len(reasons) - 10),
        "sample": sorted(chosen, key=spread)[:8],
    }


def licence(stage: Stage) -> str:
    """A stage's licence class: its manifest's, else the worst of its documents'; '' if it has neither."""
    given = stage.manifest.get("licence_class")
    if isinstance(given, str) and given:
        return worst_licence([given])
    for name in ("documents", "rows"):
        found = tally(stage, name, ["licence_class"])
        if found:
            return worst_licence([k[0] for k in found])
    return ""


# --- corpus --------------------------------------------------------------------------------------------------------


def corpus(run: Run) -> dict[str, Any] | None:
    """Read, kept and removed, with reasons and a sample of what was removed."""
    stage = run.stage("corpus")
    if not stage:
        return None
    removed = tally(stage, "removed", ["stage", "reason"])
    kept, gone = length(stage, "documents"), length(stage, "removed")
    read = None if (n := number(stage.counts.get("read"))) is None else int(n)
    chosen = sample(
        stage, "removed",
        ["id", "source", "stage", "reason", "figure", "kept_id", "text"],
        lambda r: f"{r.get('stage')} {r.get('reason')}", 2, ["stage", "reason"],
    )  # fmt: skip
    chosen = sorted(chosen, key=lambda r: (str(r.get("stage")), str(r.get("reason")), spread(r)))[:24]
    flow = {"read": read, "kept": kept, "removed": gone}
    shown = {k: v for k, v in flow.items() if v is not None}
    return {
        "flow": [{**b, "share": b["count"] / read if read else None} for b in bars(shown)],
        "removed": bars({f"{s}: {r}" if s else r: n for (s, r), n in (removed or {}).items()}, tone=2),
        "no_removed_table": removed is None,
        "languages": bars({k[0] or "unknown": n for k, n in (tally(stage, "documents", ["lang"]) or {}).items()}),
        "sources": bars({k[0] or "unknown": n for k, n in (tally(stage, "documents", ["source"]) or {}).items()}),
        "sample": [{**r, "block": quote(r.get("text"), limit=320)} for r in chosen],
        "counts": [(k, v) for k, v in stage.counts.items() if number(v) is not None],
    }


# --- alignment -----------------------------------------------------------------------------------------------------


def alignment(run: Run) -> dict[str, Any] | None:
    """States and reasons, pairs side by side, toxicity before and after, gates."""
    stage = run.stage("align")
    if not stage:
        return None
    states = tally(stage, "rows", ["state"])
    by_state = {k[0]: n for k, n in (states or {}).items()}
    ordered = {s: by_state[s] for s in STATES if s in by_state} | {k: n for k, n in by_state.items() if k not in STATES}
    reasons = tally(stage, "rows", ["state", "reason"]) or {}
    policies = tally(stage, "rows", ["policy_id", "policy_hash"]) or {}
    rewriters = tally(stage, "rows", ["rewriter"]) or {}
    return {
        "states": bars(ordered),
        "no_rows": states is None,
        "reasons": [{"state": s, "reason": r, "count": n} for (s, r), n in list(reasons.items())[:30]],
        "more_reasons": max(0, len(reasons) - 30),
        "policies": [{"id": i, "hash": h, "count": n} for (i, h), n in policies.items()],
        "rewriters": [{"name": k[0], "count": n} for k, n in rewriters.items()],
        "pairs": _pairs(stage),
        "toxicity": toxicity(stage),
        "gates": gates(stage),
    }


def _pairs(stage: Stage) -> list[dict[str, Any]]:
    per = {"accept": 8, "keep_original": 3, "quarantine": 3, "drop": 3, "unchanged": 0}
    columns = ["id", "lang", "original", "rewrite", "state", "reason", "rewriter", "verdicts"]
    chosen = sample(stage, "rows", columns, lambda r: str(r.get("state")), lambda s: per.get(s, 2), ["state"])
    rank = {s: i for i, s in enumerate(("accept", "keep_original", "quarantine", "drop", "unchanged"))}
    out = []
    for r in sorted(chosen, key=lambda r: (rank.get(str(r.get("state")), 9), spread(r))):
        before, after = str(r.get("original") or ""), r.get("rewrite")
        lang = str(r.get("lang") or "")
        if after and str(after) != before:
            left, right = diff(before, str(after), lang)
        else:
            left, right = quote(before, lang), None
        spacing = right is not None and before.split() == str(after).split()
        out.append({**r, "left": left, "right": right, "note": "only lines and spaces differ" if spacing else ""})
    return out


def toxicity(stage: Stage) -> dict[str, Any]:
    """Mean toxicity before and after over at most 500 rows, in the paper's four headings.

    'After' is what leaves the room: the rewrite where it was accepted, the original where it was kept. Rows that were
    dropped or quarantined have no 'after' and are given apart, so that leaving out is not mistaken for rewriting.
    """
    try:
        from fitra.signals.toxicity import score
    except ImportError as e:
        return {"missing": f"the scorer could not be loaded ({e})"}
    # Documents in other languages pass unread: in the mean they would only water down both sides.
    wanted = _languages(stage)
    chosen = sample(
        stage,
        "rows",
        ["id", "original", "rewrite", "state"],
        lambda r: "in" if not wanted or r.get("lang") in wanted else "out",
        lambda g: SCORED if g == "in" else 0,
        ["lang"],
    )
    chosen = [r for r in chosen if r.get("original")]
    if not chosen:
        return {"missing": "there are no rows to score"}
    stay = [r for r in chosen if r.get("state") in LEAVES]
    left_out = [r for r in chosen if r.get("state") not in LEAVES]
    before = [score(str(r["original"])) for r in stay]
    after = [score(str(r[LEAVES[r["state"]]] or "")) for r in stay]
    gone = [score(str(r["original"])) for r in left_out]
    table: list[dict[str, Any]] = []
    for h in HEADINGS:
        b, a, g = (mean(float(s[h]) for s in side) for side in (before, after, gone))
        table.append({"heading": h, "before": b, "after": a, "gone": g})
    most = max((v for r in table for v in (r["before"], r["after"]) if isinstance(v, float)), default=0.0)
    most_gone = max((r["gone"] for r in table if r["gone"] is not None), default=0.0)
    for r in table:
        for k, tone in (("before", 2), ("after", 1), ("gone", 3)):
            v = r[k]
            r[f"{k}_bar"] = (
                charts.bar(v, most_gone if k == "gone" else most, f"{r['heading']}, {k}: {v:.4f}", tone)
                if v is not None
                else ""
            )
        b, a = r["before"], r["after"]
        r["change"] = (a - b) / b if a is not None and b else None
    counts = tally(stage, "rows", ["lang"]) or {}
    whole = sum(n for (lang,), n in counts.items() if not wanted or lang in wanted) or length(stage, "rows") or 0
    return {"rows": table, "scored": len(chosen), "whole": whole, "stay": len(stay), "gone": len(left_out)}


def _languages(stage: Stage) -> set[str]:
    """The languages that the room rewrites, by its config; empty when it does not say."""
    held = stage.config.get("languages")
    if held is None and isinstance(stage.config.get("align"), Mapping):
        held = stage.config["align"].get("languages")
    return {str(x) for x in held} if isinstance(held, list) else set()


def gates(stage: Stage) -> list[dict[str, Any]]:
    """Verdicts by gate: how often each passed and did not, and the mean of its figure."""
    found = rows(stage, "rows", ["verdicts"]) or []
    seen: dict[str, Counter[str]] = {}
    figures: dict[str, list[float]] = {}
    for r in found:
        for name, verdict, figure in verdicts(r.get("verdicts")):
            seen.setdefault(name, Counter())[verdict] += 1
            if figure is not None:
                figures.setdefault(name, []).append(figure)
    return [
        {
            "gate": name,
            "passed": c["pass"],
            "failed": c["fail"],
            "other": sum(c.values()) - c["pass"] - c["fail"],
            "figure": mean(figures.get(name, [])),
            "bar": charts.bar(c["fail"], max(1, sum(c.values())), f"{name}: {c['fail']} refused", 2),
        }
        for name, c in sorted(seen.items())
    ]


def verdicts(value: Any) -> Iterable[tuple[str, str, float | None]]:
    """(gate, pass | fail | other word, figure) from a `verdicts` cell: a JSON list of objects, or an object by gate."""
    try:
        held = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return [("(unreadable)", "unreadable", None)]
    if isinstance(held, Mapping):
        held = [{"gate": k, **v} if isinstance(v, Mapping) else {"gate": k, "verdict": v} for k, v in held.items()]
    if not isinstance(held, list):
        return []
    out = []
    for v in held:
        if not isinstance(v, Mapping):
            continue
        name = str(v.get("gate") or v.get("name") or "(unnamed)")
        given = next((v[k] for k in ("passed", "pass", "ok", "verdict", "result") if k in v), None)
        if given is None:
            word = "undecided"
        elif isinstance(given, bool):
            word = "pass" if given else "fail"
        else:
            word = {"passed": "pass", "ok": "pass", "failed": "fail", "refuse": "fail"}.get(str(given), str(given))
        out.append(
            (name, word, next((f for k in ("figure", "value", "score") if (f := number(v.get(k))) is not None), None))
        )
    return out


# --- provenance ----------------------------------------------------------------------------------------------------


def provenance(run: Run) -> dict[str, Any]:
    """Licence classes, software, identities of the stages, and the recipe without its secrets."""
    versions: dict[str, set[str]] = {}
    for s in run.stages.values():
        for k, v in (s.manifest.get("software") or {}).items():
            versions.setdefault(str(k), set()).add(str(v))
    classes: dict[str, dict[str, int]] = {}
    for s in run.stages.values():
        for k, n in (tally(s, "documents", ["licence_class"]) or {}).items() if s.manifest else ():
            name = k[0] if k[0] in tuple(LICENCE_CLASSES) else "D"
            classes.setdefault(s.name, {}).setdefault(name, 0)
            classes[s.name][name] += n
    worst = [c for s in run.stages.values() if s.manifest and (c := licence(s))]
    return {
        "worst": worst_licence(worst) if worst else "",
        "says": CLASS_SAYS,
        "classes": classes,
        "letters": LICENCE_CLASSES,
        "software": [(k, sorted(v)) for k, v in sorted(versions.items())],
        "stages": [s for s in run.stages.values() if s.manifest],
        "recipe": hide_secrets(run.recipe),
    }


def hide_secrets(recipe: str) -> str:
    """The recipe's text without the values of keys that hold secrets; `${NAME}` stays, since it tells nothing."""
    text = SECRET_LINE.sub(lambda m: m[0] if VARIABLE.fullmatch(m[2].strip(" \"'},")) else m[1] + "[hidden]", recipe)
    try:
        for value in _secrets(yaml.safe_load(recipe), False):
            text = text.replace(value, "[hidden]")
    except yaml.YAMLError:
        pass  # the pattern above has done what can be done
    return re.sub(r"(://)[^/\s@]+@", r"\1[hidden]@", text)


def _secrets(value: Any, inside: bool) -> Iterable[str]:
    if isinstance(value, Mapping):
        for k, v in value.items():
            yield from _secrets(v, inside or bool(SECRET.search(str(k))))
    elif isinstance(value, list):
        for v in value:
            yield from _secrets(v, inside)
    elif inside and isinstance(value, str) and len(value) > 3 and not VARIABLE.fullmatch(value):
        yield value
