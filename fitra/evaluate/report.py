"""The page of an evaluation: scores with intervals, categories, differences, bias, items. One file that loads nothing.

from fitra.evaluate import report
report.write({"ours": Path("scores-a"), "base": Path("scores-b")}, Path("report.html"))
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fitra import page
from fitra.artifacts import write_text
from fitra.evaluate.report_data import collect

__all__ = ["interval", "render", "write"]

TONES = 5  # colours that models are told apart by; names stand beside them everywhere
# Metrics that are no shares.
WHOLE = frozenset(
    ("bits_per_byte", "perplexity", "rating", "rating_turn1", "rating_turn2", "harmlessness", "helpfulness")
)


def write(folders: Mapping[str, Path], target: Path, seed: int = 0) -> Path:
    """Write the page about evaluations, by the names they are shown under, to `target`; returns `target`.

    The first is what the others are held against. Raises FitraError for a folder that is no finished evaluation.
    """
    write_text(Path(target), render(collect(folders, seed)))
    return Path(target)


def render(found: Mapping[str, Any]) -> str:
    """The page as text; equal figures give equal pages."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    env = ImmutableSandboxedEnvironment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    env.filters |= {
        "n": _n,
        "fig": figure,
        "gap": gap,
        "show": page.show,
        "say": _say,
        "quote": quote,
        "p": _p,
        "key": key,
    }
    env.globals |= {
        "interval": interval,
        "bar": page.bar,
        "scale": scale,
        "direction": page.direction,
        "around": _around_zero,
    }
    files = resources.files("fitra.evaluate")
    template = env.from_string((files / "report.html.jinja").read_text(encoding="utf-8"))
    models = [m["name"] for m in found["models"]]
    tasks = [
        {
            **t,
            "any_cleaned": any(g and g.get("cleaned") for k in t["figures"] for g in k["by"].values()),
            "ends": scale((g for c in t["categories"] for g in c["by"].values()), t["metric"]),
        }
        for t in found["tasks"]
    ]
    differences = [
        {
            **d,
            "blocks": [
                ("", [r for r in d["rows"] if "/" not in r["key"]]),
                ("parts and further metrics", [r for r in d["rows"] if "/" in r["key"]]),
            ],
            "ends": {
                m: _around_zero(r for r in d["rows"] if r["metric"] == m) for m in {r["metric"] for r in d["rows"]}
            },
        }
        for d in found["differences"]
    ]
    text = template.render(
        style=Markup((files / "report.css").read_text(encoding="utf-8")),
        f={**found, "tasks": tasks, "differences": differences},
        models=models,
        tone={name: 1 + i % TONES for i, name in enumerate(models)},
        json=json.dumps({m["name"]: m["notes"] for m in found["models"]}, ensure_ascii=False, indent=1, sort_keys=True),
    )
    # A lone surrogate is shown as a badge; none is left here, but a page must be writable whatever comes.
    return text.encode("utf-8", "replace").decode("utf-8")


def _n(value: Any) -> str:
    return "–" if value is None else f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def _say(name: object) -> str:
    return str(name).replace("_", " ")


def figure(value: Any, metric: str = "accuracy") -> str:
    """A score as it is read: per cent for shares, three decimals for others."""
    if isinstance(value, str):
        return value
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "–"
    return (f"{value:.3f}" if metric in WHOLE or abs(value) > 1.5 else f"{100 * value:.1f}%").replace("-", "−")


def gap(value: Any, metric: str = "accuracy") -> str:
    """A difference, with its sign; of shares in points."""
    if not isinstance(value, int | float):
        return "–"
    return (f"{value:+.3f}" if metric in WHOLE else f"{100 * value:+.1f}").replace("-", "−")


def _p(value: Any) -> str:
    return "–" if not isinstance(value, int | float) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def key(text: str) -> Markup:
    """The name of a task or a part, which may be broken after a stroke."""
    return Markup("<bdi>{}</bdi>").format(Markup("<wbr>").join(map(page.show, re.split(r"(?<=[_/])", text))))


def quote(text: str) -> Markup:
    """A text of a benchmark or a model as a block in its own direction."""
    return page.block(text, page.show(text))


def scale(values: Any, metric: str = "accuracy") -> tuple[float, float]:
    """The range that intervals of one table are drawn on: 0 to 1 for shares, else what covers them."""
    ends = [
        g[k] for g in values if isinstance(g, Mapping) for k in ("value", "ci_low", "ci_high")
        if isinstance(g.get(k), int | float)
    ]  # fmt: skip
    if metric not in WHOLE and all(0 <= x <= 1 for x in ends):
        return 0.0, 1.0
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    margin = 0.05 * (high - low or 1)
    return low - margin, high + margin


def _around_zero(rows: Any) -> tuple[float, float]:
    far = max((abs(r[k]) for r in rows for k in ("ci_low", "ci_high") if r.get(k) is not None), default=1.0)
    return -1.05 * (far or 1.0), 1.05 * (far or 1.0)


def interval(
    got: Mapping[str, Any], ends: tuple[float, float], title: str, tone: int = 1, mark: float | None = None
) -> Markup:
    """A dot with its interval on a line from `ends[0]` to `ends[1]`; `mark` is a stroke across: chance, or zero."""

    def at(x: Any) -> float:
        span = ends[1] - ends[0]
        value = x if isinstance(x, int | float) else got["value"]
        return 50.0 if span <= 0 else 2 + 96 * max(0.0, min(1.0, (value - ends[0]) / span))

    if not isinstance(got.get("value"), int | float):
        return Markup("")
    stroke = Markup("")
    if mark is not None:
        stroke = Markup('<line class="mark" x1="{0:.2f}%" x2="{0:.2f}%" y1="1" y2="17"/>').format(at(mark))
    return Markup(
        '<svg class="interval" role="img" width="100%" height="18"><title>{}</title>'
        '<line class="axis-line" x1="0" x2="100%" y1="9" y2="9"/>{}'
        '<line class="whisker tone-{}" x1="{:.2f}%" x2="{:.2f}%" y1="9" y2="9"/>'
        '<circle class="dot tone-{}" cx="{:.2f}%" cy="9" r="4.5"/></svg>'
    ).format(
        page.plain(title), stroke, tone, at(got.get("ci_low")), at(got.get("ci_high")), tone, at(got["value"])
    )  # fmt: skip
