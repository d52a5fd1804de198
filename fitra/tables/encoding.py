"""Which bytes are which letters: charset detection for Arabic text, and repair of text read in the wrong charset.

UTF-8 proves itself (random bytes are hardly ever valid UTF-8); everything else is judged by how much the decoded
text looks like Arabic: the share of neighbouring letters that are a frequent Arabic pair.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

# The 160 most frequent pairs of letters (70% of all pairs) in ARCD, Arabic MMLU and Shami (MIT, Apache-2.0).
_PAIRS = str.split(
    "ال ان لم ما من في لا ية وا لي ين نا ات يا را ري ول بي با ام لت ار ها عل ير لع ني لأ لى عا لل ون دي "
    "لك لب اس ور له سي مي لق لو اد لس دا تي مع اب بر لح يه وي قا كا وم كل يل عن لد نو عد مل رب نت هي يد "
    "رة مر دو سا ست تر هو رو لن يت بع مو يو حد اح مت تا لف بل يم تم أن مس حي تح اي تو عم عر كي بن ائ اء "
    "أو لإ وب اع لش نه حا لج قي سل اف عي كو سم يع ته يك قد جم وت يق لة مه إل يس شا كر شر يف تع فا هم عب "
    "فر تق ند وق ذا خل زي بت جا دة ره حل قو حر تل شي وف رك لر وع بد كن كم كت اك اق طا مد "
)
PLAUSIBLE = 0.3  # running Arabic scores 0.45 to 0.7, Arabic read in a wrong charset about 0.2, rarely 0.4

# Charsets that a page may declare, as Python calls them; what is not here ("unicode_escape", "zlib") is no charset.
_DECLARABLE = re.compile(
    r"utf-(8|16|16-le|16-be)$|cp(125[0-8]|720|864|866|874|932|949|950)$|iso8859-\d+$|mac-arabic$|koi8-[ru]$"
    r"|gb18030$|gbk$|gb2312$|big5$|shift_jis$|euc_jp$|euc_kr$|tis-620$"
)
_ALIASES = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "gbk": "gb18030"}  # as browsers read them
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
         (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
_SINGLE = ("cp1256", "iso8859-6", "cp1252")
_HIGH = bytes(range(0x80, 0x100))


@cache
def _tables() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Code point -> 1..36 for an Arabic letter, 0 for no letter, 255 for a mark to be skipped; and the pairs."""
    letters = sorted(set("".join(_PAIRS)))
    number = np.zeros(1 << 16, np.uint8)
    for i, letter in enumerate(letters, 1):
        number[ord(letter)] = i
    number[0x064B:0x0653] = number[0x0640] = 255
    pairs = np.zeros((len(letters) + 1,) * 2, bool)
    for pair in _PAIRS:
        pairs[number[ord(pair[0])], number[ord(pair[1])]] = True
    return number, pairs


def plausibility(text: str) -> float:
    """How much the text beyond ASCII looks like Arabic, 0 to about 0.7: frequent pairs per character."""
    number, pairs = _tables()
    codes = np.frombuffer(text.encode("utf-16-le", "replace"), np.uint16)
    kinds = number[codes]
    keep = kinds != 255
    kinds, beyond = kinds[keep], int(((codes > 127) & (kinds != 255)).sum())
    if beyond < 2:
        return 0.0
    return float(pairs[kinds[:-1], kinds[1:]].sum()) / beyond


def charset(declared: str | None) -> str | None:
    """The Python name of a declared charset, read as browsers read it; None when there is no such charset."""
    try:
        name = codecs.lookup(declared.strip(" '\"")).name if declared else None
    except (LookupError, ValueError, UnicodeError):
        return None
    name = _ALIASES.get(name, name) if name else None
    return name if name and _DECLARABLE.match(name) else None


def detect(sample: bytes, declared: Sequence[str | None] = (), fallback: str = "utf-8") -> str:
    """The charset (a Python name) of some bytes from a start of text; `fallback` where nothing speaks clearly.

    `declared` are names found in headers, the most trusted first; they are believed only where the bytes agree.
    Some bad bytes among good UTF-8 do not make it anything else.
    """
    for mark, name in _BOMS:
        if sample.startswith(mark):
            return name
    if b"\0" in sample and (wide := _utf16(sample)):
        return wide
    text = sample.rstrip(_HIGH).decode("utf-8", "surrogateescape")  # the last character may be cut
    if text.isascii():
        return "utf-8"
    codes = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), np.uint16)
    wrong = int(((codes >= 0xDC80) & (codes <= 0xDCFF)).sum())
    if wrong <= 10 * (int((codes > 127).sum()) - wrong):  # in single-byte Arabic 1 in 100 looks like UTF-8
        return "utf-8"
    names = [n for n in map(charset, declared) if n and not n.startswith("utf-")]
    scores = {n: plausibility(sample.decode(n, "replace")) for n in dict.fromkeys((*names, *_SINGLE))}
    best = max(scores, key=lambda n: (round(scores[n], 2), n in names))
    return best if scores[best] >= PLAUSIBLE else next(iter(names), fallback)


def _utf16(sample: bytes) -> str | None:
    """UTF-16 without a mark: every second byte is one of few (Latin, Arabic, punctuation blocks)."""
    pairs = np.frombuffer(sample[: len(sample) & ~1], np.uint8).reshape(-1, 2)
    if len(pairs) < 8:
        return None
    share = np.isin(pairs, (0x00, 0x06, 0x20)).mean(axis=0)
    zeros = (pairs == 0).mean(axis=0)
    for high, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if share[high] > 0.95 and zeros[high] > 0.02 and share[1 - high] < 0.6:
            return name
    return None


def decode(raw: bytes, declared: Sequence[str | None] = (), fallback: str = "utf-8") -> tuple[str, str]:
    """Text of a whole page or file, and the charset it was in; what fits no character becomes U+FFFD."""
    name = detect(raw[: 1 << 17], declared, fallback)
    return raw.decode(name, "replace").removeprefix("\ufeff"), name


# --- mojibake: UTF-8 that was once read as windows-1252, Latin-1 or windows-1256 -----------------------------------

_MIN_RUN = 3  # characters of the original, in one run: shorter runs occur in good text ("خط،")


def _misread(codec: str) -> tuple[dict[str, int], str]:
    """Character -> byte as `codec` reads it (bytes it does not know stay what they are), and the pattern of a run."""
    table = {chr(b): b for b in range(0x80, 0xA0)}
    table |= {bytes([b]).decode(codec): b for b in range(0x80, 0x100) if bytes([b]).decode(codec, "ignore")}
    group = {
        name: "[" + re.escape("".join(c for c, b in table.items() if low <= b <= high)) + "]"
        for name, low, high in (("rest", 0x80, 0xBF), ("two", 0xC2, 0xDF), ("three", 0xE0, 0xEF), ("four", 0xF0, 0xF4))
    }
    return table, "(?:{two}{rest}|{three}{rest}{{2}}|{four}{rest}{{3}})".format(**group)


@cache
def _patterns(codec: str) -> tuple[dict[str, int], re.Pattern[str], re.Pattern[str]]:
    table, unit = _misread(codec)
    return table, re.compile(f"{unit}(?:[ -~]?{unit}){{{_MIN_RUN - 1},}}"), re.compile(f"{unit}+")


# What the article "ال", or the first letters of it, becomes; twice misread in the last.
_SIGNS = (("cp1252", "\u00d8\u00a7\u00d9"), ("cp1256", "\u0637\u00a7\u0638"), ("cp1252", "\u00c2\u00a7\u00c3"))


def repair_mojibake(text: str) -> str | None:
    """The text put right where it clearly is UTF-8 read in a wrong charset, else None.

    Clearly: the article is there in its misread form, and the runs decode to plausible Arabic. Runs of which
    characters were lost on the way stay as they are.
    """
    if "\u00a7" not in text:  # in every sign, and the fastest to look for
        return None
    out = None
    for _ in range(3):  # misread more than once
        fixed = next((f for codec, sign in _SIGNS if sign in text and (f := _repair(text, codec)) is not None), None)
        if fixed is None:
            return out
        out = text = fixed
    return out


def _repair(text: str, codec: str) -> str | None:
    table, long, every = _patterns(codec)

    def right(found: re.Match[str]) -> str:
        raw = bytes(table.get(c) or ord(c) for c in found[0])
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return found[0]

    runs = [m for m in long.finditer(text)]
    if not runs:
        return None
    decoded = " ".join(map(right, runs))
    again = any(sign in decoded for _, sign in _SIGNS)
    if not again and plausibility(decoded) < PLAUSIBLE:
        return None
    # Wholly misread: the short words are, too. Otherwise the long runs alone, for pairs like "ة،" are good text.
    beyond = len(text) - len(text.encode("ascii", "ignore"))
    mostly = sum(len(m[0]) for m in runs) > 0.9 * beyond
    return (every if mostly else long).sub(right, text)
