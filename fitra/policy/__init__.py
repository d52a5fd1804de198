"""Policy: the code of conduct of native alignment, as a folder of files that people read and change.

    policy.yaml        id, version, title, gate thresholds, triage, reason codes, the level of an unsafe document
    card/*.md          what it is for, whose values, limits, how to change it (ar, en)
    rules/*.yaml       groups of rules in Arabic and English, each with reason, action, examples and counter-examples
    packs/*.yaml       regional packs: rules of their own, and overrides of rules of the base
    prompts/*.md       expert and edits (carry the rules), worker, judge, claims; text, context, retry (turns)
    lexicon/*.yaml     words and patterns for the deterministic rewriter

The identity of a policy is the hash of its parsed content with its packs: comments and line breaks of the YAML do not
count, nor does the order in which packs are named; everything else does. The groups are the native-alignment paper's
four (method facts 1.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fitra.errors import FitraError
from fitra.policy.checks import GATES, OUTCOMES, PROMPTS, TRIAGE, check, problems
from fitra.policy.model import ACTIONS, GROUP_NAMES, GROUPS, Policy, Rule
from fitra.policy.read import build, folder_of, read
from fitra.policy.rulechecks import Problem
from fitra.policy.views import clean, describe, diff, diff_text, prompt, render, show

__all__ = [
    "ACTIONS", "GATES", "GROUPS", "GROUP_NAMES", "OUTCOMES", "PROMPTS", "TRIAGE", "Policy", "Problem", "Rule", "check",
    "clean", "describe", "diff", "diff_text", "load", "packs", "prompt", "render", "show",
]  # fmt: skip


def load(name_or_folder: str | Path = "default", packs: Sequence[str] = ()) -> Policy:
    """Load a policy by the name of a shipped one, or from a folder, with regional packs on top.

    A pack is named by its file in the folder's `packs/`, or by a path to a .yaml file. FitraError names the first thing
    that is wrong.
    """
    source = read(name_or_folder, packs)
    for problem in problems(source):
        hint = f"{problem.hint} `fitra policy check {name_or_folder}` lists everything.".strip()
        raise FitraError(f"policy {source.folder.name}: {problem}.", hint)
    return build(source)


def packs(name_or_folder: str | Path = "default") -> list[str]:
    """The names of the packs that a policy's folder holds."""
    return sorted(p.stem for p in (folder_of(name_or_folder) / "packs").glob("*.yaml"))
