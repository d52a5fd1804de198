"""Commands on the store of paid answers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

Ledger = Annotated[Path, typer.Argument(help="A ledger folder.")]


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    sub = typer.Typer(help="The store of paid answers.", no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(sub, name="ledger")
    sub.command("stats", epilog="Example: fitra ledger stats runs/real/ledger")(stats)
    sub.command("verify", epilog="Example: fitra ledger verify runs/real/ledger")(verify)
    sub.command("export", epilog="Example: fitra ledger export runs/real/ledger answers.jsonl")(export)
    sub.command("import", epilog="Example: fitra ledger import runs/real/ledger answers.jsonl --dry-run")(import_)
    sub.command("compact", epilog="Example: fitra ledger compact runs/real/ledger")(compact)
    sub.command("gc", epilog="Example: fitra ledger gc runs/real/ledger --run runs/real --yes")(gc)
    sub.command("push", epilog="Example: fitra ledger push runs/real/ledger s3://bucket/ledger")(push)
    sub.command("pull", epilog="Example: fitra ledger pull runs/real/ledger s3://bucket/ledger")(pull)


def _show(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def stats(folder: Ledger) -> None:
    """Count answers, bytes and writers, and what was possibly paid twice."""
    from fitra import llm

    _show(llm.stats(folder))


def verify(folder: Ledger) -> None:
    """Read every record and check it; exits with 1 when one is damaged."""
    from fitra import llm

    found = llm.verify(folder)
    _show(found)
    if found:
        raise typer.Exit(1)


def export(folder: Ledger, to: Annotated[Path, typer.Argument(help="JSONL file to write.")]) -> None:
    """Write all answers to one JSONL file."""
    from fitra import llm

    print(llm.export(folder, to))


def import_(
    folder: Ledger,
    source: Annotated[Path, typer.Argument(help="Another ledger, or a file that `export` wrote.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and count; change nothing.")] = False,
) -> None:
    """Add the answers of another ledger, each checked; nothing that is here is changed."""
    from fitra import llm

    _show(vars(llm.import_(folder, source, dry_run)))


def compact(folder: Ledger) -> None:
    """Rewrite all segments without duplicates and damage."""
    from fitra import llm

    _show(llm.compact(folder))


def gc(
    folder: Ledger,
    run: Annotated[list[Path], typer.Option(help="Keep what this run used; repeatable.")] = [],
    older_than: Annotated[float | None, typer.Option(help="Drop only what is older than so many days.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this it only says what would go.")] = False,
) -> None:
    """Drop answers that no run needs: they would be paid for again."""
    from fitra import llm

    used = llm.keys_of(run) if run else None
    before = time.time() - 86400 * older_than if older_than is not None else None
    _show(llm.gc(folder, used=used, older_than=before, dry_run=not yes))


def push(folder: Ledger, to: Annotated[str, typer.Argument(help="Folder or s3:// address.")]) -> None:
    """Seal and copy segments to a store; what is there is not copied again."""
    from fitra import llm

    _show(llm.push(folder, to))


def pull(folder: Ledger, source: Annotated[str, typer.Argument(help="Folder or s3:// address.")]) -> None:
    """Fetch the segments of a store that are not here."""
    from fitra import llm

    _show(llm.pull(folder, source))
