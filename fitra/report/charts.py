"""Small inline SVG charts, made of percentages so that text keeps its size on a narrow screen.

No library: a page that shows a cleaned corpus must not need matplotlib. Each chart carries a `<title>`, and the numbers
stand beside it in a table or its caption, so nothing is told by colour alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from fitra.page import plain


def bar(value: float, most: float, title: str, tone: int = 1) -> Markup:
    """One bar of a table row: `value` against the longest bar `most`."""
    share = 0.0 if most <= 0 else max(0.0, min(1.0, value / most)) * 100
    return Markup(
        '<svg class="bar" role="img" width="100%" height="14"><title>{}</title>'
        '<rect class="track" x="0" y="2" width="100%" height="10" rx="2"/>'
        '<rect class="fill tone-{}" x="0" y="2" width="{:.2f}%" height="10" rx="2"/></svg>'
    ).format(plain(title), tone, share)


def interval(value: float, low: float, high: float, scale: tuple[float, float], title: str, tone: int = 1) -> Markup:
    """A dot with its interval on a scale shared by the rows of one table."""

    def at(x: float) -> float:
        span = scale[1] - scale[0]
        return 50.0 if span <= 0 else 3 + 94 * max(0.0, min(1.0, (x - scale[0]) / span))

    return Markup(
        '<svg class="interval" role="img" width="100%" height="18"><title>{}</title>'
        '<line class="axis" x1="0" x2="100%" y1="9" y2="9"/>'
        '<line class="whisker tone-{}" x1="{:.2f}%" x2="{:.2f}%" y1="9" y2="9"/>'
        '<circle class="dot tone-{}" cx="{:.2f}%" cy="9" r="4.5"/></svg>'
    ).format(plain(title), tone, at(low), at(high), tone, at(value))


def ticks(low: float, high: float, n: int = 4) -> list[float]:
    """About `n` round values that cover [low, high]."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    rough = span / max(n, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 10) for i in range(first, last + 1)]


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    title: str,
    x_label: str,
    y_label: str,
    span: tuple[float, float] | None = None,
) -> Markup:
    """A line chart of named series of (x, y); points that are not finite are left out. Empty without two points.

    `span` is the least y range to draw, so that charts side by side can share it.
    """
    clean = {k: [(x, y) for x, y in v if math.isfinite(x) and math.isfinite(y)] for k, v in series.items()}
    clean = {k: v for k, v in clean.items() if v}
    if max((len(v) for v in clean.values()), default=0) < 2:
        return Markup("")
    xs = [x for v in clean.values() for x, _ in v]
    ys = [y for v in clean.values() for _, y in v] + list(span or ())
    x_ticks, y_ticks = ticks(0.0, max(xs), 4), ticks(min(ys), max(ys), 4)
    x0, x1 = 0.0, max(max(xs), 1e-9)
    y0, y1 = y_ticks[0], y_ticks[-1]
    if y1 <= y0:
        y0, y1 = y0 - 0.5, y0 + 0.5

    def px(x: float) -> float:
        return (x - x0) / (x1 - x0) * 100

    def py(y: float) -> float:
        return (y1 - y) / (y1 - y0) * 100

    grid = [Markup('<line class="grid" x1="0" x2="100%" y1="{0:.2f}%" y2="{0:.2f}%"/>').format(py(t)) for t in y_ticks]
    y_text = [
        Markup('<text x="-8" y="{:.2f}%" dy="4" text-anchor="end">{}</text>').format(py(t), short(t)) for t in y_ticks
    ]
    x_text = [
        Markup('<text x="{:.2f}%" y="100%" dy="18" text-anchor="middle">{}</text>').format(px(t), short(t))
        for t in x_ticks
        if t <= x1 * 1.0001
    ]
    paths, keys = [], []
    for tone, (name, points) in enumerate(clean.items(), 1):
        shown = _thin(sorted(points))
        d = " ".join(f"{px(x):.2f},{py(y):.2f}" for x, y in shown)
        paths.append(
            Markup('<polyline class="line tone-{}" vector-effect="non-scaling-stroke" points="{}"/>').format(tone, d)
        )
        last = sorted(points)[-1][1]
        keys.append(
            Markup(
                '<li><span class="key tone-{}"></span><bdi>{}</bdi> <span class="quiet">ends at {}</span></li>'
            ).format(tone, plain(name), f"{last:.3f}")
        )
    # The same run must give the same page byte for byte, so the id is made from what is shown.
    uid = "chart-" + hashlib.sha256(f"{title} {clean}".encode("utf-8", "replace")).hexdigest()[:12]
    return Markup(
        '<figure class="chart"><figcaption>{title} <span class="quiet">{y_label}</span></figcaption>'
        '<svg class="lines" role="img" aria-labelledby="{uid}" width="100%" height="240">'
        '<title id="{uid}">{title}</title>'
        '<svg class="plot" x="0" y="0" width="100%" height="100%" overflow="visible">{grid}'
        '<svg viewBox="0 0 100 100" preserveAspectRatio="none" width="100%" height="100%">{paths}</svg>'
        '{y}{x}</svg></svg>'
        '<p class="x-label quiet">{x_label}</p><ul class="legend">{keys}</ul></figure>'
    ).format(
        title=plain(title), y_label=plain(y_label), x_label=plain(x_label), uid=uid, grid=Markup("").join(grid),
        paths=Markup("").join(paths), y=Markup("").join(y_text), x=Markup("").join(x_text), keys=Markup("").join(keys),
    )  # fmt: skip


def _thin(points: list[tuple[float, float]], most: int = 400) -> list[tuple[float, float]]:
    """At most about `most` points, the first and the last among them: a long log must not make a heavy page."""
    if len(points) <= most:
        return points
    step = math.ceil(len(points) / most)
    held = points[::step]
    return held if held[-1] == points[-1] else [*held, points[-1]]


def short(x: float) -> str:
    """A tick label: 1.5M, 20k, 0.25."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(x) >= size:
            return f"{x / size:.3g}{unit}"
    return f"{x:.3g}"
