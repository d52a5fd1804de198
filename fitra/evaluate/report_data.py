"""What the page of an evaluation shows: scores, categories, bias and samples of one model or several, as plain data."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fitra import page
from fitra.artifacts import read_manifest, read_table, table_parts
from fitra.errors import FitraError
from fitra.evaluate.compare import compare, scores

Row = dict[str, Any]

CATEGORIES = 80  # of a task that are told apart; the rest is one line
KINDS, EACH, MOST = 3, 2, 300  # kinds of outcome in a category, samples of each, samples on the page
LONGEST = 900  # characters of a prompt that are shown, from its end
WRITTEN = 600  # of an option or of what a model wrote
P = 0.01  # below it a test has found something
SCORING = {"raw": "summed", "per_token": "per token", "per_byte": "per byte", "pmi": "against the bare prompt (PMI)"}
OTHERS = "other categories"
KNOWN = ("task", "id", "category", "prompt", "options", "scores", "gold", "predicted", "correct", "output", "defects")


def collect(folders: Mapping[str, Path], seed: int = 0) -> dict[str, Any]:
    """Figures for the page from evaluations by the name they are shown under; the first is what others are held
    against.

    {models, tasks, differences, humans, contaminated}: plain values only. A folder of `eval human score` becomes a part
    of `humans`. Raises FitraError for a folder that is neither.
    """
    if not folders:
        raise FitraError("no evaluation to show.", "Give the output folder of `fitra eval run`.")
    sides, humans = {}, []
    for name, folder in folders.items():
        manifest = read_manifest(folder)
        if manifest.get("stage") == "human":
            humans.append({"name": name, **_json(Path(folder) / "figures.json")})
            continue
        sides[name] = {
            "manifest": manifest,
            "scores": {k: _whole(v) for k, v in scores(folder).items() if isinstance(v, Mapping)},
            "tables": _json(Path(folder) / "tables.json"),
            "contamination": _json(Path(folder) / "contamination.json"),
            "rows": _rows(folder),
        }
    models = [_model(name, side) for name, side in sides.items()]
    tasks = _tasks(sides)
    base = next(iter(sides), "")
    return {
        "models": models,
        "tasks": tasks,
        "differences": [
            {"base": base, "other": other, "rows": _differences(Path(folders[base]), Path(folders[other]), seed)}
            for other in list(sides)[1:]
        ],
        "humans": humans,
        "contaminated": [r for name, side in sides.items() for r in _contaminated(name, side)],
    }


def _whole(got: Mapping[str, Any]) -> dict[str, Any]:
    """A figure with every key that the page asks for: another version may have written fewer."""
    held = {**dict.fromkeys(("value", "ci_low", "ci_high", "n", "clusters", "cleaned")), **got}
    held["cleaned"] = _whole(held["cleaned"]) if isinstance(held["cleaned"], Mapping) else None
    return {"metric": "", "higher_is_better": True, **held}


def _json(path: Path) -> dict[str, Any]:
    """A file that need not be there: {} then, and where it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _rows(folder: Path) -> dict[str, dict[str, Row]]:
    import pyarrow.parquet as pq

    there = pq.read_schema(table_parts(folder, "items")[0]).names
    by_task: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in read_table(folder, "items", [c for c in KNOWN if c in there]).to_pylist():
        by_task[row["task"]][row["id"]] = row
    return by_task


def _model(name: str, side: Mapping[str, Any]) -> dict[str, Any]:
    manifest = side["manifest"]
    counts = manifest.get("counts", {})
    return {
        "name": name,
        "of": str(manifest.get("inputs", {}).get("model", "")),
        "licence_class": manifest.get("licence_class"),
        "items": counts.get("items"),
        "quarantined": counts.get("quarantined", 0),
        "notes": {k: manifest[k] for k in ("config", "inputs", "notes", "fingerprint", "software") if k in manifest},
    }


def _contaminated(name: str, side: Mapping[str, Any]) -> list[dict[str, Any]]:
    """task, model, found, n for each benchmark whose questions were looked for in a corpus."""
    found = side["contamination"].get("benchmarks")
    if not isinstance(found, Mapping):
        return []
    return [
        {"task": task, "model": name, "found": got.get("found") or 0, "n": got.get("items") or 0,
         "told": got.get("indexed"), "documents": got.get("documents_read")}
        for task, got in found.items() if isinstance(got, Mapping)
    ]  # fmt: skip


def _tasks(sides: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry a task, in the order of the first model that has it."""
    names = list(dict.fromkeys(key.split("/")[0] for s in sides.values() for key in s["scores"]))
    out = []
    left = MOST
    for task in names:
        keys = list(dict.fromkeys(k for s in sides.values() for k in s["scores"] if k.split("/")[0] == task))
        rows = {name: s["rows"].get(task, {}) for name, s in sides.items() if task in s["rows"]}
        tables = {name: s["tables"][task] for name, s in sides.items() if task in s["tables"]}
        first = next(s["scores"][k] for k in keys for s in sides.values() if k in s["scores"])
        samples = _samples(rows, left)
        left -= sum(len(c["rows"]) for c in samples)
        out.append(
            {
                "name": task,
                "metric": first.get("metric"),
                "higher_is_better": first.get("higher_is_better", True),
                "protocols": _said(sides, keys, "protocol"),
                "warnings": _said(sides, keys, "warnings"),
                "chance": _chance(rows, first),
                "figures": [
                    {
                        "key": k,
                        "part": k.partition("/")[2],
                        "metric": next(s["scores"][k].get("metric") for s in sides.values() if k in s["scores"]),
                        "by": {n: s["scores"].get(k) for n, s in sides.items()},
                    }
                    for k in keys
                ],
                "categories": _categories(tables, first.get("metric")),
                "letters": _letters(tables),
                "answers": _answers(sides, task, tables),
                "samples": samples,
            }
        )
    return out


def _said(sides: Mapping[str, Any], keys: Sequence[str], what: str) -> list[tuple[str, list[str]]]:
    """(text, models that say it) over all scores of a task, texts in the order they come."""
    found: dict[str, list[str]] = {}
    for name, side in sides.items():
        for key in keys:
            said = side["scores"].get(key, {}).get(what) or []
            for text in [said] if isinstance(said, str) else said:
                if name not in found.setdefault(str(text), []):
                    found[str(text)].append(name)
    return [(text, names if len(names) < len(sides) else []) for text, names in found.items()]


def _chance(rows: Mapping[str, Mapping[str, Row]], score: Mapping[str, Any]) -> float | None:
    """What guessing would score, where options are ranked and accuracy is counted."""
    asked = [len(r["options"]) for r in next(iter(rows.values()), {}).values() if r["gold"] is not None]
    if score.get("metric") not in ("accuracy", "nested_accuracy", "mean_accuracy") or not asked or min(asked) < 2:
        return None
    return sum(1 / n for n in asked) / len(asked)


def _differences(base: Path, other: Path, seed: int) -> list[dict[str, Any]]:
    try:
        found = compare(base, other, seed=seed)
    except FitraError:  # no task in common
        return []
    empty: dict[str, Any] = {"p_holm": None, "by_category": []}
    rows = [{"key": k, **empty, **v, "verdict": _verdict(v)} for k, v in found.items()]
    return [{**r, "by_category": r["by_category"][:CATEGORIES]} for r in rows]


def _verdict(gap: Mapping[str, Any]) -> str:
    low, high = gap.get("ci_low"), gap.get("ci_high")
    if low is None or high is None:
        return ""
    if low <= 0 <= high:
        return "not told apart"
    return "better" if (low > 0) == bool(gap.get("higher_is_better", True)) else "worse"


def _categories(tables: Mapping[str, Mapping[str, Any]], metric: str | None) -> list[dict[str, Any]]:
    """Categories with their figure by model, the first model's best first; a judged set has several, `metric` tells."""
    by: dict[str, dict[str, Any]] = defaultdict(dict)
    domains: dict[str, str] = {}
    for name, table in tables.items():
        rows = table.get("by_category") or []
        for got in [g for g in rows if g.get("metric") == metric] or rows:
            by[got["category"]][name] = _whole(got)
            domains[got["category"]] = got.get("domain") or ""
    first = next(iter(tables), "")
    order = sorted(by, key=lambda c: (-by[c].get(first, {"value": -1})["value"], c))
    return [
        {"name": c, "domain": domains[c], "by": by[c], "n": max(g["n"] or 0 for g in by[c].values())}
        for c in order[:CATEGORIES]
    ]


def _letters(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """How often each answer is right, and how often each model gives it; with what the tests of both say."""
    held = {n: t["letters"] for n, t in tables.items() if t.get("letters")}
    if not held:
        return None
    first = next(iter(held.values()))
    asked = max(1, sum(o["gold"] for o in first["options"]))
    rows = [
        {
            "name": o["option"],
            "gold": o["gold"] / asked,
            "by": {n: x["options"][k]["predicted"] / asked for n, x in held.items() if k < len(x["options"])},
        }
        for k, o in enumerate(first["options"])
    ]
    tests: dict[str, dict[str, Any]] = {"knows the questions": {}, "as often as it is right": {}}
    for name, got in held.items():
        known, even = got["independence"]["p"], got["same_margins"]["p"]
        tests["knows the questions"][name] = ("yes" if known < P else "not shown", known) if known is not None else None
        tests["as often as it is right"][name] = (
            ("no" if even < P else "not refuted", even) if even is not None else None
        )
    return {"rows": rows, "tests": tests}


def _answers(sides: Mapping[str, Any], task: str, tables: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Small tables of a task: {title, note, models, rows: [{name, by: {model: share or figure}}]}."""
    out = []
    unread = {n: s["scores"].get(task, {}).get("unparsed") for n, s in sides.items()}
    if any(unread.values()):
        out.append(_table("answers", {"not read": unread}, "What was written names no option; it counts as wrong."))
    domains = _lines(tables, lambda t: {g["domain"]: _whole(g) for g in t.get("by_domain") or []})
    out.append(_table("domain", domains))
    scoring, why = _scoring(tables)
    out.append(_table("log-likelihoods compared", scoring, why))
    out.append(_table("length", _lines(tables, _length)))
    total = {n: s["scores"].get(task, {}).get("n") or 0 for n, s in sides.items()}
    defects = {
        n: {k: v / total[n] for k, v in (t.get("defects") or {}).items() if total.get(n)} for n, t in tables.items()
    }
    judges = sorted({t["judge"]["identity"] for t in tables.values() if t.get("judge")})
    out.append(_table("judged", _lines(tables, _judged), f"By {', '.join(judges)}." if judges else ""))
    out.append(_table("questions left out when cleaned", _lines(defects, dict)))
    return [t for t in out if t["rows"]]


def _scoring(tables: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, dict[str, Any]], str]:
    """Accuracy under each way to compare log-likelihoods, and why some are not there."""
    lines: dict[str, dict[str, Any]] = {}
    lacking: dict[str, list[str]] = defaultdict(list)
    for key, title in SCORING.items():
        got = {n: g for n, t in tables.items() if (g := (t.get("scoring") or {}).get(key))}
        if any(g["value"] is not None for g in got.values()):
            lines[title] = {n: _whole(g) for n, g in got.items()}
        for why in sorted({g["why"] for g in got.values() if g.get("why")}):
            lacking[why].append(title)
    return lines, " ".join(f"Not {' or '.join(names)}: {why}." for why, names in lacking.items())


def _length(table: Mapping[str, Any]) -> dict[str, Any]:
    """Lines about the longest and the shortest option."""
    out: dict[str, Any] = {}
    for name in ("longest", "shortest"):
        got = (table.get("length") or {}).get(name)
        if got:
            out[f"{name} is right"] = got["gold"]
            out[f"{name} chosen"] = _whole({**got, "value": got["chosen"]})
    return out


def _judged(table: Mapping[str, Any]) -> dict[str, str]:
    """Counts of a judged set: questions to the judge, verdicts, what kind of answers there were."""
    judge, answers = table.get("judge") or {}, table.get("answers") or {}
    said = {"judgements asked for": judge.get("asked"), "judgements read": judge.get("read")}
    for kind, counts in (table.get("verdicts") or {}).items():
        said |= {f"{kind}: {k}": v for k, v in counts.items()}
    names = {"n": "answers", "median_words": "words of an answer, median"}
    said |= {names.get(k, f"answers: {k.replace('_', ' ')}"): v for k, v in answers.items()}
    return {k: f"{v:,.4g}" for k, v in said.items() if isinstance(v, int | float)}


def _lines(tables: Mapping[str, Any], of: Callable[[Any], Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    lines: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, table in tables.items():
        for line, value in of(table).items():
            lines[line][name] = value
    return lines


def _table(title: str, lines: Mapping[str, Mapping[str, Any]], note: str = "") -> dict[str, Any]:
    models = list(dict.fromkeys(n for by in lines.values() for n in by))
    return {
        "title": title, "note": note, "models": models,
        "rows": [{"name": k, "by": {n: by.get(n) for n in models}} for k, by in lines.items()],
    }  # fmt: skip


def _samples(rows: Mapping[str, Mapping[str, Row]], most: int) -> list[dict[str, Any]]:
    """Items to read by category: of every kind of outcome some, drawn by a hash of the id, the same in every run.

    An outcome is who was right: 'all wrong', 'all right', or the names. At most `most` items.
    """
    if not rows or most <= 0:
        return []
    first = next(iter(rows.values()))
    cells: dict[str, dict[tuple[str, ...], list[str]]] = defaultdict(lambda: defaultdict(list))
    for ident, row in first.items():
        right = tuple(n for n, by in rows.items() if ident in by and by[ident]["correct"])
        if row["correct"] is not None or row.get("output"):
            cells[row.get("category") or ""][right].append(ident)
    if len(cells) > CATEGORIES:
        for c in sorted(cells)[CATEGORIES:]:
            for right, ids in cells.pop(c).items():
                cells[OTHERS][right] += ids
    out = []
    each = max(1, min(EACH, most // max(1, KINDS * len(cells))))
    for category in sorted(cells):
        kinds = cells[category]
        # Where models differ there is most to see, then what all get wrong.
        order = sorted(kinds, key=lambda k: (k == tuple(rows), k == (), k))[:KINDS]
        held = [
            _sample(ident, right, rows)
            for right in order
            for ident in sorted(kinds[right], key=lambda i: hashlib.sha256(i.encode("utf-8", "replace")).digest())[
                :each
            ]
        ][:most]
        most -= len(held)
        out.append(
            {
                "category": category,
                "n": sum(map(len, kinds.values())),
                "judged": bool(held) and all(r["judged"] for r in held),
                "right": {n: sum(len(v) for k, v in kinds.items() if n in k) for n in rows},
                "rows": held,
            }
        )
    return out


def _sample(ident: str, right: Sequence[str], rows: Mapping[str, Mapping[str, Row]]) -> dict[str, Any]:
    row = next(iter(rows.values()))[ident]
    prompt = row["prompt"] or ""
    if len(prompt) > LONGEST:
        tail = prompt[-LONGEST:]
        prompt = "… " + (tail.split("\n", 1)[1] if "\n" in tail[: LONGEST // 3] else tail)
    mine = {n: by[ident] for n, by in rows.items() if ident in by}
    judged = row["correct"] is None  # nothing is right or wrong: the options are answers of other models
    options = []
    for k, text in enumerate(() if judged else row["options"]):
        got = {n: r["scores"][k] for n, r in mine.items() if r["scores"] and k < len(r["scores"])}
        taken = [n for n, r in mine.items() if r["predicted"] == k]
        options.append({"text": page.clip(text, WRITTEN), "gold": row["gold"] == k, "taken": taken, "scores": got})
    return {
        "id": ident,
        "prompt": prompt,
        "options": options,
        "right": list(right),
        "models": list(mine),
        "judged": judged,
        "reference": page.clip(row["options"][0], WRITTEN) if judged and row["options"] else "",
        "rated": {n: r["scores"][0] for n, r in mine.items() if judged and r["scores"]},
        "output": {n: page.clip(r["output"], WRITTEN) for n, r in mine.items() if r.get("output")},
        "unparsed": [n for n, r in mine.items() if r.get("output") and r["predicted"] is None and not judged],
        "defects": list(row.get("defects") or ()),
    }
