"""Evaluations side by side: the differences on the same items, with their own intervals and tests."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from fitra import stats
from fitra.artifacts import read_manifest, read_table
from fitra.errors import FitraError
from fitra.evaluate.card import STATISTICS
from fitra.evaluate.figures import BY_CATEGORY, Groups, Row, strata

Folder = Mapping[str, dict[str, Row]]  # task -> id -> row
NOTHING: dict[str, Any] = dict.fromkeys(("a", "b", "value", "ci_low", "ci_high", "p", "p_holm", "p_mcnemar"))
FEWEST = 5  # items of a category that get a difference of their own


def compare(a: Path, b: Path, seed: int = 0) -> dict[str, dict[str, Any]]:
    """The scores of `b` minus those of `a`, for every key that both have, on the items that both have.

    Each entry: metric, a, b (on the common items), value (b - a), ci_low, ci_high (95 %, paired bootstrap over
    clusters), p, p_holm (corrected over the tasks' first scores, None elsewhere), p_mcnemar (exact, accuracy alone; it
    takes items as independent), n, by_category, higher_is_better, protocol, warnings. Where the protocols or their
    versions differ the figures are None and a warning says so: such scores are not comparable. Raises FitraError when
    a folder is no finished evaluation.
    """
    left, right = scores(a), scores(b)
    common = [k for k in left if k in right]
    if not common:
        raise FitraError(f"{a} and {b} have no task in common.", "Evaluate both models with one recipe.")
    return _pair(left, right, _items(a), _items(b), _groups(a), common, seed)


def compare_all(folders: Sequence[Path], names: Sequence[str] | None = None, seed: int = 0) -> dict[str, Any]:
    """Two or more evaluations: every one against the first, and all pairs, as one dict to print or to draw.

    {models: [{name, folder}], tasks: {key: {metric, protocol, higher_is_better, values: [score of each model, None
    where it has none or under another protocol], ci: [[low, high] ..], warnings}}, against_first: [pair of 0 and
    1, 2 ..], pairs: [{a, b (places in models), tasks: {key: entry of `compare`}}]}. p_holm is over the tasks of one
    pair. Raises FitraError for fewer than two folders, one that is no evaluation, or no task in common.
    """
    folders = [Path(f) for f in folders]
    if len(folders) < 2:
        raise FitraError("one evaluation alone has nothing to be compared with.", "Give two folders or more.")
    labels = list(names) if names else _names(folders)
    if len(labels) != len(folders):
        raise FitraError(f"{len(labels)} names for {len(folders)} evaluations.", "Give one name each.")
    all_scores = [scores(f) for f in folders]
    all_items = [_items(f) for f in folders]
    keys = list(dict.fromkeys(k for s in all_scores for k in s))
    if not any(sum(k in s for s in all_scores) > 1 for k in keys):
        raise FitraError("the evaluations have no task in common.", "Evaluate the models with one recipe.")
    tasks = {}
    for key in keys:
        lead = next(s[key] for s in all_scores if key in s)
        alike = [s[key] if key in s and not _unlike(lead, s[key]) else None for s in all_scores]
        other = sum(key in s and x is None for s, x in zip(all_scores, alike, strict=True))
        told = [f"{other} evaluation(s) under another protocol or version"] if other else []
        tasks[key] = {
            **{x: lead.get(x) for x in ("metric", "protocol", "higher_is_better")},
            "values": [x and x["value"] for x in alike],
            "ci": [x and [x["ci_low"], x["ci_high"]] for x in alike],
            "cleaned": [x and (x.get("cleaned") or {}).get("value") for x in alike],
            "warnings": [*lead.get("warnings", []), *told],
        }
    pairs = []
    for i, j in combinations(range(len(folders)), 2):
        common = [k for k in all_scores[i] if k in all_scores[j]]
        found = _pair(all_scores[i], all_scores[j], all_items[i], all_items[j], _groups(folders[i]), common, seed)
        pairs.append({"a": i, "b": j, "tasks": found})
    return {
        "models": [{"name": n, "folder": str(f)} for n, f in zip(labels, folders, strict=True)],
        "tasks": tasks,
        "against_first": [k for k, p in enumerate(pairs) if p["a"] == 0],
        "pairs": pairs,
    }


def scores(folder: Path) -> dict[str, dict[str, Any]]:
    """scores.json of a finished evaluation; FitraError where there is none."""
    if read_manifest(folder).get("stage") != "evaluate":
        raise FitraError(f"{folder}: not an evaluation.", "Give the output folder of `fitra eval run`.")
    try:
        value: dict[str, dict[str, Any]] = json.loads((Path(folder) / "scores.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise FitraError(
            f"{folder}/scores.json: missing or damaged.", "Delete the folder and evaluate again."
        ) from None
    return value


def _names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path, with as much before it as tells them apart."""
    full = [f.resolve().parts for f in folders]
    for k in range(1, max(map(len, full)) + 1):
        short = ["/".join(p[-k:]) for p in full]
        if len(set(short)) == len(short):
            return short
    return [f"{f.name} ({i + 1})" for i, f in enumerate(folders)]


def _items(folder: Path) -> Folder:
    by_task: dict[str, dict[str, Row]] = defaultdict(dict)
    wanted = ["task", "id", "slices", "cluster", "prompt", "parts", "correct", "category"]
    try:
        table = read_table(folder, "items", wanted)
    except (KeyError, ValueError):  # an evaluation from before categories were kept
        table = read_table(folder, "items", wanted[:-1])
    for row in table.to_pylist():
        by_task[row["task"]][row["id"]] = row
    return by_task


def _groups(folder: Path) -> dict[str, Groups]:
    """Task -> category -> (sub-category, domain), from tables.json; nothing where there is none."""
    try:
        value = json.loads((Path(folder) / "tables.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {task: {c: (g[0], g[1]) for c, g in (t.get("groups") or {}).items()} for task, t in value.items()}


def _unlike(one: Mapping[str, Any], two: Mapping[str, Any]) -> str:
    """Why two scores cannot be compared, or ''."""
    if one["protocol"] != two["protocol"] or one["metric"] != two["metric"]:
        return "the protocols differ: not comparable"
    if one.get("version", "1") != two.get("version", "1"):
        return f"versions {one.get('version', '1')} and {two.get('version', '1')} of the task: not comparable"
    return ""


def _pair(
    left: Mapping[str, Any],
    right: Mapping[str, Any],
    a: Folder,
    b: Folder,
    groups: Mapping[str, Groups],
    common: Sequence[str],
    seed: int,
) -> dict[str, dict[str, Any]]:
    out = {}
    for key in common:
        ours, theirs = left[key], right[key]
        same = {k: ours.get(k) for k in ("metric", "higher_is_better", "protocol")}
        why = _unlike(ours, theirs)
        if why:
            out[key] = {**same, **NOTHING, "n": 0, "by_category": [], "warnings": [why]}
        else:
            out[key] = {**same, **_difference(key, ours, a, b, groups.get(key.partition("/")[0], {}), seed)}
    first = [k for k, e in out.items() if "/" not in k and e["p"] is not None]
    for k, p in zip(first, stats.holm([out[k]["p"] for k in first]), strict=True):
        out[k]["p_holm"] = p
    return out


def _difference(key: str, score: dict[str, Any], a: Folder, b: Folder, groups: Groups, seed: int) -> dict[str, Any]:
    metric = score["metric"]
    task, _, rest = key.partition("/")
    part = rest.removesuffix(metric).removesuffix("/")  # 'heldout', or '' for the whole task
    one, two = a.get(task, {}), b.get(task, {})
    ids = [
        i for i in sorted(one) if i in two and one[i]["prompt"] == two[i]["prompt"]
        and (not part or part in one[i]["slices"])
    ]  # fmt: skip
    warnings = list(score.get("warnings", []))
    if len(ids) < max(len(one), len(two)) and not part:
        warnings.append(f"{len(ids)} items in common of {len(one)} and {len(two)}")
    if not ids:
        return {**NOTHING, "n": 0, "by_category": [], "warnings": [*warnings, "no item in common"]}
    rows = [one[i] for i in ids]
    pa: list[list[float]] = [r["parts"] for r in rows]
    pb: list[list[float]] = [two[i]["parts"] for i in ids]
    clusters, statistic = [r["cluster"] for r in rows], STATISTICS[metric]
    within = strata(rows, metric, groups)
    gap = stats.paired_difference(pa, pb, statistic, clusters=clusters, strata=within, seed=seed)
    values = [stats.bootstrap(p, statistic, strata=within, draws=1).value for p in (pa, pb)]
    exact = None
    if metric == "accuracy" or metric in BY_CATEGORY:
        right = [(bool(one[i]["correct"]), bool(two[i]["correct"])) for i in ids]
        exact = stats.mcnemar(right.count((True, False)), right.count((False, True)))
    return {
        "a": values[0],
        "b": values[1],
        **gap.as_dict(),
        "p": gap.p,
        "p_holm": None,
        "p_mcnemar": exact,
        "by_category": [] if part else _by_category(rows, pa, pb, metric, seed),
        "warnings": warnings,
    }


def _by_category(
    rows: Sequence[Row], pa: Sequence[list[float]], pb: Sequence[list[float]], metric: str, seed: int
) -> list[dict[str, Any]]:
    """Differences category by category, the greatest gain first; p_holm is over the categories."""
    at: dict[str, list[int]] = defaultdict(list)
    for k, r in enumerate(rows):
        at[r.get("category") or ""].append(k)
    statistic = STATISTICS[metric]
    out: list[dict[str, Any]] = []
    for name, ks in sorted(at.items()):
        if len(at) < 2 or len(ks) < FEWEST:
            continue
        a, b = [pa[k] for k in ks], [pb[k] for k in ks]
        clusters = [rows[k]["cluster"] for k in ks]
        gap = stats.paired_difference(a, b, statistic, clusters=clusters, seed=seed)
        values = [stats.bootstrap(p, statistic, draws=1).value for p in (a, b)]
        out.append({"category": name, "a": values[0], "b": values[1], **gap.as_dict(), "p": gap.p})
    for made, p in zip(out, stats.holm([r["p"] for r in out]), strict=True):
        made["p_holm"] = p
    return sorted(out, key=lambda r: -r["value"])
