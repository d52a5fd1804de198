"""Figures as a reader of a terminal wants them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fitra.page import plain


def comparison(found: Mapping[str, Any]) -> str:
    """The tasks of `compare_all`: the first model's score, then each other's difference with its interval and p."""
    names = [plain(m["name"]) for m in found["models"]]
    out = []
    for k in found["against_first"]:
        pair = found["pairs"][k]
        out.append(f"{names[pair['b']]} minus {names[pair['a']]}")
        wide = max([len("task"), *map(len, pair["tasks"])])
        out.append(
            f"  {'task':{wide}}  {'first':>8}  {'other':>8}  {'difference':>10}  {'95 % interval':>20}  {'p':>7}  n"
        )
        for key, got in pair["tasks"].items():
            if got["value"] is None:
                out.append(f"  {plain(key):{wide}}  {plain('; '.join(got['warnings'][-1:]))}")
                continue
            interval = f"[{got['ci_low']:+.4f}, {got['ci_high']:+.4f}]"
            out.append(
                f"  {plain(key):{wide}}  {got['a']:8.4f}  {got['b']:8.4f}  {got['value']:+10.4f}  {interval:>20}"
                f"  {got['p']:7.4f}  {got['n']:,}"
            )
    return "\n".join(out)
