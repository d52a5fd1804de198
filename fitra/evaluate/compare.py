"""Two evaluations side by side: the difference on the same items, with its own interval."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from fitra import stats
from fitra.artifacts import read_manifest, read_table
from fitra.errors import FitraError
from fitra.evaluate.card import STATISTICS


def compare(a: Path, b: Path, seed: int = 0) -> dict[str, dict[str, Any]]:
    """The scores of `b` minus those of `a`, for every key that both have, on the items that both have.

    Each entry: metric, a, b (on the common items), value (b - a), ci_low, ci_high (95 %, paired bootstrap over
    clusters), p, n, higher_is_better, protocol, warnings. Where the protocols differ the figures are None and a
    warning says so: such scores are not comparable. Raises FitraError when a folder is no finished evaluation.
    """
    left, right = scores(a), scores(b)
    common = [k for k in left if k in right]
    if not common:
        raise FitraError(f"{a} and {b} have no task in common.", "Evaluate both models with one recipe.")
    items_a, items_b = _items(a), _items(b)
    out = {}
    for key in common:
        ours, theirs = left[key], right[key]
        same = {k: ours.get(k) for k in ("metric", "higher_is_better", "protocol")}
        if ours["protocol"] != theirs["protocol"] or ours["metric"] != theirs["metric"]:
            empty = dict.fromkeys(("a", "b", "value", "ci_low", "ci_high", "p"))
            out[key] = {**same, **empty, "n": 0, "warnings": ["the protocols differ: not comparable"]}
            continue
        out[key] = {**same, **_difference(key, ours, items_a, items_b, seed)}
    return out


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


def _items(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    by_task: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    columns = ["task", "id", "slices", "cluster", "prompt", "parts"]
    for row in read_table(folder, "items", columns).to_pylist():
        by_task[row["task"]][row["id"]] = row
    return by_task


def _difference(key: str, score: dict[str, Any], a: Any, b: Any, seed: int) -> dict[str, Any]:
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
        empty = dict.fromkeys(("a", "b", "value", "ci_low", "ci_high", "p"))
        return {**empty, "n": 0, "warnings": [*warnings, "no item in common"]}
    pa, pb = [one[i]["parts"] for i in ids], [two[i]["parts"] for i in ids]
    clusters = [one[i]["cluster"] for i in ids]
    gap = stats.paired_difference(pa, pb, STATISTICS[metric], clusters=clusters, seed=seed)
    values = [stats.bootstrap(p, STATISTICS[metric], draws=1).value for p in (pa, pb)]
    return {"a": values[0], "b": values[1], **gap.as_dict(), "p": gap.p, "warnings": warnings}
