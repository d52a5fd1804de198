"""What a new token may hold: letters and marks of one script, with at most one space in front; or one sign alone."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property

from fitra.recipe import Vocab

# Arabic letters and marks of U+0600-06FF. Left out on purpose: digits, punctuation, format signs, tatweel (a stroke).
ARABIC = (
    "\u0610-\u061a\u0620-\u063f\u0641-\u065f\u066e-\u06d3\u06d5-\u06dc\u06df-\u06e8\u06ea-\u06ef\u06fa-\u06fc\u06ff"
)
# Letters of African and Asian languages, and marks of printed Qur'ans.
EXTENDED = "\u0750-\u077f\u08a0-\u08e1\u08e3-\u08ff"
RUN = re.compile(f" ?[{ARABIC}]+")  # an Arabic run with the space before it: what figures count as a word

_SIGNS = {"Po", "Pd", "Nd", "No", "Sm", "Sc", "Lm"}
_BLOCKS = {"arabic": "\u0600-\u06ff", "arabic-extended": "\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff"}


def _expand(ranges: str) -> set[str]:
    return {c for a, b in re.findall("(.)(?:-(.))?", ranges) for c in map(chr, range(ord(a), ord(b or a) + 1))}


@dataclass(frozen=True)
class Script:
    """The characters that new tokens are made of.

    `letters`, `marks` and `signs` are plain strings of characters. With `apart` no token holds letters and marks. A
    sign (punctuation, a digit, tatweel) is a token by itself: a base that lacks it writes it in two bytes or more.
    """

    name: str
    letters: str
    marks: str
    signs: str = ""
    apart: bool = False
    strip: bool = False

    @classmethod
    def of(cls, cfg: Vocab) -> Script:
        """The script that a recipe asks for."""
        chars = _expand(ARABIC + (EXTENDED if cfg.script == "arabic-extended" else "")) - set(cfg.protected)
        chars = {c for c in chars if unicodedata.category(c) != "Cn"}
        marks = {c for c in chars if unicodedata.category(c).startswith("M")}
        strip = cfg.tashkeel == "strip"
        # Format signs (Cf) are no text, ornaments of the Qur'an are rare: they stay what they are.
        signs = {c for c in map(chr, range(0x600, 0x700)) if unicodedata.category(c) in _SIGNS} - chars
        letters, marked, alone = ("".join(sorted(x)) for x in (chars - marks, marks, signs - set(cfg.protected)))
        return cls(cfg.script, letters, marked, alone, cfg.tashkeel == "apart", strip)

    @cached_property
    def run(self) -> re.Pattern[str]:
        """A run of letters and marks with the space before it, of letters alone where marks are stripped; or a sign."""
        signs = f"|[{re.escape(self.signs)}]" if self.signs else ""
        return re.compile(f" ?[{self.letters}{'' if self.strip else self.marks}]+{signs}")

    @cached_property
    def _clean(self) -> re.Pattern[str]:
        if self.strip:
            return re.compile(f" ?[{self.letters}]+")
        if self.apart:
            return re.compile(f" ?[{self.letters}]+|[{self.marks}]+")
        return re.compile(f" ?[{self.letters}{self.marks}]+")

    @cached_property
    def block(self) -> re.Pattern[str]:
        """A character of the blocks of this script: text without one must keep its ids."""
        return re.compile(f"[{_BLOCKS[self.name]}]")

    @cached_property
    def heads(self) -> frozenset[bytes]:
        """First bytes of letters that no other script shares: a token may end in one where the way leads over it."""
        first = {bytes([b]) for b in range(0xD8, 0xDC)}
        return frozenset(first | ({b"\xe0\xa2", b"\xe0\xa3"} if self.name == "arabic-extended" else set()))

    def is_clean(self, text: str) -> bool:
        """Whether a text may be merged: letters and marks alone, at most one space, in front."""
        return self._clean.fullmatch(text) is not None

    def is_token(self, text: str) -> bool:
        """Whether a text may be a token: what may be merged, or one sign."""
        return self.is_clean(text) or (len(text) == 1 and text in self.signs)

    def without_marks(self, text: str) -> str:
        """The text that words are counted in."""
        return text.translate(self._no_marks) if self.strip else text

    @cached_property
    def _no_marks(self) -> dict[int, None]:
        return dict.fromkeys(map(ord, self.marks))

    def parts(self, run: str) -> list[str]:
        """A run cut where letters and marks meet, if they have to stay apart."""
        return re.findall(f" ?[{self.letters}]+|[{self.marks}]+", run) if self.apart else [run]


DEFAULT = Script.of(Vocab())
