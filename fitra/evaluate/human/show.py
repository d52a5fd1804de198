"""The figures as a reader of a terminal wants them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fitra.page import plain


def text(found: Mapping[str, Any]) -> str:
    """A few lines: votes, agreement, shares, both Elo settings, warnings. Names come from files: hidden characters are
    written out."""
    n = found["counts"]
    lines = [
        f"{n['votes']} votes of {n['raters']} raters on {n['pairs']} pairs: {n['majority']} by majority, "
        f"{n['tie_break']} by one more rater, {n['undecided']} undecided, {n['incomplete']} incomplete"
    ]
    for name, got in found["agreement"].items():
        lines.append(f"{name.replace('_', ' ')} {_figure(got)}")
    lines.append("")
    names = {m: plain(m) for m in found["models"]}
    wide = max([len(m) for m in names.values()] + [5])
    head = ("n", "win %", "tie %", "loss %", "both bad %", "Elo", "Elo custom")
    lines.append(f"{'model':{wide}}  {head[0]:>4}  " + "  ".join(f"{h:>18}" for h in head[1:]))
    for model in found["elo"].get("default", {}):
        row = found["models"][model]
        cells = [_figure(row[w], 100, 0) for w in ("win", "tie", "loss", "both_bad")]
        cells += [_figure(found["elo"][s][model], 1, 0) for s in ("default", "custom")]
        lines.append(f"{names[model]:{wide}}  {row['n']:>4}  " + "  ".join(f"{c:>18}" for c in cells))
    lines += [f"warning: {plain(w)}" for w in found["warnings"]]
    return "\n".join(lines)


def _figure(got: Mapping[str, Any] | None, times: float = 1, digits: int = 3) -> str:
    if not got or got["value"] is None:
        return "-"
    value, low, high = (f"{times * got[k]:.{digits}f}" for k in ("value", "ci_low", "ci_high"))
    return f"{value} [{low}, {high}]"
