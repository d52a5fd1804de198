"""Commands on the code of conduct."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fitra.errors import FitraError

if TYPE_CHECKING:
    from fitra.policy import Policy

Folder = Annotated[str, typer.Argument(help="A policy folder, or the name of a shipped one.")]
Packs = Annotated[list[str], typer.Option("--pack", help="A regional pack: its name or file; repeatable.")]
Json = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]


def add_to(app: typer.Typer) -> None:
    """Register these commands."""
    sub = typer.Typer(help="The code of conduct.", no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(sub, name="policy")
    sub.command("check", epilog="Example: fitra policy check my-policy/")(check)
    sub.command("show", epilog="Example: fitra policy show default --pack egypt")(show)
    examples = "Examples: fitra policy diff default my-policy/  |  fitra policy diff default --pack gulf"
    sub.command("diff", epilog=examples)(diff)


def rewriter(held: Policy) -> Callable[[str], str]:
    """The deterministic rewriter under a policy, as `policy.check` tries the examples with it.

    Spans are put back where their placeholders ended up: a rule may drop a short quotation with its advertisement.
    """
    from fitra.align import masking, rules

    compiled = rules.compile_rules(held)

    def rewrite(text: str) -> str:
        masked = masking.mask(text)
        made = rules.apply(masked, compiled)
        return masking.unmask(made.text, masked, [int(m[1]) for m in masking.PLACEHOLDER.finditer(made.text)])

    return rewrite


def check(folder: Folder = "default", pack: Packs = [], as_json: Json = False) -> None:
    """Find everything wrong with a policy and its packs, and try its examples; exits with 1 where anything is."""
    from fitra import policy

    packs = pack or None
    found = policy.check(folder, packs=packs)
    if not found:
        held = policy.load(folder, policy.packs(folder) if packs is None else pack)
        try:
            found = policy.check(folder, rewriter(held), packs)
        except FitraError as e:  # a lexicon of another shape
            found = [policy.Problem("lexicon/", "", e.message, e.hint)]
    if as_json:
        _data([{"file": p.file, "rule": p.rule, "problem": p.says, "hint": p.hint} for p in found])
    elif not found:
        examples = sum(len(r.examples) + len(r.counter_examples) for r in held.rules)
        print(f"{held.id} {held.hash[:12]}: {len(held.rules)} rules, {examples} examples tried, fine")
    else:
        for p in found:
            print(policy.clean(f"{p}. {p.hint}".strip()))
        print(f"{len(found)} to mend")
    if found:
        raise typer.Exit(1)


def show(folder: Folder = "default", pack: Packs = [], as_json: Json = False) -> None:
    """Print a policy in both languages: card, rules with reasons and examples, thresholds."""
    from fitra import policy

    held = policy.load(folder, pack)
    if as_json:
        _data(policy.describe(held))
    else:
        print(policy.show(held, isolate=sys.stdout.isatty()), end="")


def diff(
    a: Folder,
    b: Annotated[str | None, typer.Argument(help="Another one; with --pack it may be left out.")] = None,
    pack: Packs = [],
    as_json: Json = False,
) -> None:
    """What changed between two policies, or between a policy and the same one with packs; packs go on the second."""
    from fitra import policy

    if b is None and not pack:
        raise FitraError(
            f"fitra policy diff {a}: nothing to compare it with.", "Name a second policy, or a pack with --pack."
        )
    found = policy.diff(policy.load(a), policy.load(b or a, pack))
    if as_json:
        _data(found)
    else:
        print(policy.diff_text(found, isolate=sys.stdout.isatty()), end="")


def _data(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))
