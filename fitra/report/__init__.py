"""The page that shows what a run did: one HTML file that loads nothing from anywhere.

    from fitra import report
    report.write(Path("runs/quickstart/run.json"), Path("runs/quickstart/report.html"))

Everything is read from the finished stages; a stage that did not run makes its section say so. Neither torch nor
matplotlib is needed.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import FunctionLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from fitra import __version__, artifacts, page
from fitra.report import charts, data, models, text, verdict
from fitra.report.stages import Run, load

__all__ = ["render", "write"]


def write(run_json: Path, out: Path) -> Path:
    """Write the report of the run that `run_json` describes to the HTML file `out`, in one step; returns `out`.

    Raises FitraError when `run_json`, or a file of a finished stage, is missing where it must be or damaged.
    """
    artifacts.write_text(Path(out), render(load(Path(run_json))))
    return Path(out)


def render(run: Run) -> str:
    """The page as text. The same run gives the same bytes."""
    env = ImmutableSandboxedEnvironment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FunctionLoader(_template),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(
        show=page.show, plain=page.plain, num=num, pct=pct, signed=signed, time=duration, say=say, block=text.quote
    )
    env.globals["interval"] = charts.interval
    found = verdict.comparisons(run)
    tone, sentence = verdict.headline(found)
    drawn = env.get_template("page.html.jinja").render(
        css=Markup(_file("style.css")),
        version=__version__,
        run=run,
        comparisons=found,
        tone=tone,
        sentence=sentence,
        ran=data.ran(run),
        corpus=data.corpus(run),
        alignment=data.alignment(run),
        vocabulary=models.vocabulary(run),
        pretraining=models.training(run, "pretrain"),
        tuning=models.training(run, "sft"),
        preferences=models.preferences(run),
        evaluation=models.evaluation(run),
        provenance=data.provenance(run),
    )
    # A lone surrogate can only come from damaged input that no filter saw; the file must be writable all the same.
    return drawn.encode("utf-8", "replace").decode("utf-8")


def _template(name: str) -> str | None:
    return _file(name) if name.endswith(".jinja") else None


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def num(x: Any, digits: int = 3) -> str:
    """1,234 for whole numbers, `digits` decimals otherwise, a dash for nothing."""
    if x is None:
        return "–"
    if isinstance(x, int) or (float(x).is_integer() and abs(x) >= 10):
        return f"{int(x):,}"
    return f"{x:,.{digits}f}" if abs(x) >= 10**-digits or x == 0 else f"{x:.1e}"


def pct(x: float | None) -> str:
    """0.125 as 12.5%; a dash for nothing."""
    return "–" if x is None else f"{100 * x:.1f}%"


def signed(x: float | None, digits: int = 3) -> str:
    """With its sign; a true minus."""
    return "–" if x is None else f"{x:+.{digits}f}".replace("-", "−")


def duration(seconds: float) -> str:
    """7.3 s, 4 min 05 s, 2 h 11 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    m, s = divmod(round(seconds), 60)
    return f"{m} min {s:02d} s" if m < 60 else f"{m // 60} h {m % 60:02d} min"


def say(name: str) -> str:
    """A key as words: keep_original -> keep original."""
    return str(name).replace("_", " ").replace(".", " · ")
