"""The page of a vocabulary: what it saves, where, and what the new tokens are. One file that loads nothing.

from fitra.vocab import report
report.write(Path("v"), Path("report.html"))
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fitra.artifacts import write_text
from fitra.page import bar, direction, show
from fitra.vocab import report_figures

__all__ = ["render", "write"]

_LAM, _ALEF = re.compile("\u0644[\u064b-\u065f]*$"), re.compile("[\u0622\u0623\u0625\u0627\u0671]")
NAMES = {"base": "base", "new": "this vocabulary", "ar": "Arabic", "en": "English"}


def write(stage: Path, target: Path, found: Mapping[str, Any] | None = None, **options: Any) -> Path:
    """Write the page about the output of `vocab expand` to `target`; returns `target`.

    `found` are figures that were taken already; without them `report_figures.figures(stage, **options)` takes them.
    """
    got = found if found is not None else report_figures.figures(Path(stage), **options)
    write_text(Path(target), render(got))
    return Path(target)


def render(found: Mapping[str, Any]) -> str:
    """The page as text; equal figures give equal pages."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    env = ImmutableSandboxedEnvironment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Any] = {"n": _n, "pct": _pct, "fig": _figure, "show": show, "pieces": pieces, "name": _name}
    env.filters |= filters
    env.globals |= {"bar": bar}
    files = resources.files("fitra.vocab")
    template = env.from_string((files / "report.html.jinja").read_text(encoding="utf-8"))
    most = max((g["base"]["tokens_per_word"] for rows in found["groups"].values() for g in rows), default=0)
    text = template.render(
        style=Markup((files / "report.css").read_text(encoding="utf-8")),
        f=found, most=most, longest=max(found["lengths"].values(), default=0),
    )  # fmt: skip
    return text.encode("utf-8", "replace").decode("utf-8")


def _n(value: Any) -> str:
    return "–" if value is None else f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def _pct(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{round(100 * value, digits) + 0.0:.{digits}f}%".replace("-", "−")


def _figure(value: Any, digits: int = 2) -> str:
    return f"{value:.{digits}f}".replace("-", "−") if isinstance(value, int | float) else "–"


def _name(key: object) -> str:
    return NAMES.get(str(key), str(key).replace("_", " "))


def pieces(cut: Sequence[tuple[str, int]]) -> Markup:
    """A text with its tokens in two shades by turns; what takes several tokens is marked and says how many.

    The shades are backgrounds alone, so that letters keep their joined shapes across a border. Only lam and alef would
    become one sign there, half of which is not drawn: joiners around a non-joiner keep them two.
    """
    spans = []
    for i, (text, n) in enumerate(cut):
        after = cut[i + 1][0] if i + 1 < len(cut) else ""
        before = cut[i - 1][0] if i else ""
        start = "\u200d" if _LAM.search(before) and _ALEF.match(text) else ""
        end = "\u200d\u200c" if _LAM.search(text) and _ALEF.match(after) else ""
        kind = "ab"[i % 2] + (" many" if n > 1 else "")
        title = Markup(' title="{} tokens"').format(n) if n > 1 else ""
        spans.append(Markup('<span class="{}"{}>{}{}{}</span>').format(kind, title, start, show(text), end))
    way = direction("".join(t for t, _ in cut))
    return Markup('<div class="quote" {}>{}</div>').format(way, Markup("").join(spans))
