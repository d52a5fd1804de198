"""What a gate says of an answer: passed or not, by which figure; and findings made fit to be shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Verdict", "complaint", "few"]

_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff⟦⟧<>{}]")
SHOWN, LENGTH = 5, 40  # findings named in a detail, characters of each


@dataclass(frozen=True)
class Verdict:
    """One gate on one answer. `detail` names what was found, for a retry and for reviewers."""

    gate: str
    passed: bool
    figure: float
    threshold: float
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, without an empty detail."""
        return {k: v for k, v in vars(self).items() if k != "detail" or v}


def few(items: Sequence[str]) -> str:
    """Some findings for a detail: untrusted text, so cut short and without anything that steers a reader or a model."""
    shown = [_UNSHOWN.sub("", " ".join(i.split()))[:LENGTH] for i in sorted(set(items))[:SHOWN]]
    return ", ".join(s for s in shown if s)


def complaint(verdicts: Sequence[Verdict], sign: str = "") -> str:
    """The refusals in words, for the reason of a row; '' when all passed. `sign` stands after the name of a gate."""
    return "; ".join(f"{v.gate}{sign} {v.detail or f'{v.figure:g}'}" for v in verdicts if not v.passed)
