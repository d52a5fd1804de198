"""The command line: `fitra run RECIPE` for a whole run, one sub-command per room for work on files.

Heavy imports happen inside the commands, so `fitra --help` stays quick.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fitra.cli import (
    align,
    align_report,
    align_review,
    corpus,
    evaluate,
    ledger,
    policy,
    rooms,
    runs,
    synth,
    vocab,
    vocab_report,
    worker,
)
from fitra.errors import FitraError

QUARANTINED = 3  # exit code: finished, but bad rows were set aside

app = typer.Typer(
    name="fitra",
    help="Fitra (فطرة): raw Arabic text to a value-aligned Arabic language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options before the command."""


runs.add_to(app)
corpus.add_to(app)
align.add_to(app)
align_report.add_to(app)
align_review.add_to(app)
worker.add_to(app)
ledger.add_to(app)
policy.add_to(app)
vocab.add_to(app)
vocab_report.add_to(app)
rooms.add_to(app)
evaluate.add_to(app)
synth.add_to(app)


def main() -> None:
    """Entry point. Exit codes: 0 fine, 1 an error the user can act on, 2 wrong usage, 3 finished with bad rows."""
    debug = "--debug" in sys.argv
    if debug:
        # Accepted anywhere on the line: people add it to the end of the command that failed.
        sys.argv = [sys.argv[0], *(a for a in sys.argv[1:] if a != "--debug")]
    try:
        app()
    except FitraError as e:
        if debug:
            raise
        _fail(str(e))
    except KeyboardInterrupt:
        _fail("stopped. Finished stages are kept; the same command goes on from there.", code=130)
    except Exception as e:
        if debug:
            raise
        first = (str(e).splitlines() or [""])[0]
        _fail(f"unexpected {type(e).__name__}: {first} (run again with --debug to see where)")


def _fail(message: str, code: int = 1) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code)
