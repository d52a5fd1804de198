"""Personal data in Arabic and English text: found by shape and check digit, never by a network call.

Kinds: email, handle (@name, and the user part of profile links), phone (Arab states, see `phones`), iban (length and
mod 97), national_id (Egypt, Kuwait, Emirates by their own check; others after a cue such as «رقم الهوية»), ip. Links
are no personal data and nothing inside one is reported, but for the user of a profile link, and the number in a
wa.me or tel: link. Names and postal addresses are not looked for.

`mask_all` takes a batch: one regular expression over the Arrow buffer sets aside the texts that hold nothing.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fitra.errors import FitraError
from fitra.signals import phones
from fitra.signals.phones import GONE

__all__ = ["KINDS", "PLACEHOLDERS", "Span", "find", "mask", "mask_all", "without_masks"]

Mode = Literal["mask", "standin", "count"]
Finder = Callable[[str], Iterator["Span"]]

PLACEHOLDERS = {
    "email": "[EMAIL]", "handle": "[HANDLE]", "phone": "[PHONE]", "iban": "[IBAN]", "national_id": "[ID]",
    "ip": "[IP]",
}  # fmt: skip
KINDS = tuple(PLACEHOLDERS)
_MASKS = "|".join(re.escape(m) for m in PLACEHOLDERS.values())

# Digits of every script become ASCII one for one, so offsets in the plain text are offsets in the original.
_DIGITS = {cp: ord(str(unicodedata.digit(chr(cp)))) for cp in (*range(0x660, 0x66A), *range(0x6F0, 0x6FA))}

# A short link of Twitter has ten characters; what follows is glued to it.
_URL = re.compile(r"https?://t\.co/[A-Za-z0-9]{1,10}|(?:https?://|ftp://|www\.)[^\s<>«»\"]+", re.I)
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])@?[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])"
)
_PROVIDERS = "gmail|yahoo|hotmail|outlook|live|icloud|msn|ymail"
_EMAIL_BROKEN = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63} ?(?:@|[\[(] ?at ?[\])]|(?<= )at(?= )) ?"
    rf"(?:{_PROVIDERS})(?: ?(?:\.|[\[(] ?dot ?[\])]) ?|(?: dot)? )(?:com|net|org)(?![A-Za-z0-9])",
    re.I,
)
_HANDLES = re.compile(r"(?<![A-Za-z0-9._%+@/*-])(?:@[A-Za-z0-9_.]+)+")  # often several, glued together
_HANDLE = re.compile(r"@(?=[0-9_.]*[A-Za-z])[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*")
_CALL = re.compile(r"/[A-Za-z]|\(")
# Marks of style sheets and program code, and what data sets write where they took a name out.
_CODE = frozenset(
    re.findall(
        r"\S+",
        "media import keyframes font-face charset supports layer param return returns throws override deprecated"
        " property apply tailwind include mixin extend use namespace page author see since version type typedef"
        " todo staticmethod classmethod dataclass test before after app user users url username user.idx mention"
        " handle",
    )
)
_DOMAIN = re.compile(r"\.(?:com|net|org|edu|gov)$", re.I)  # what is left of an e-mail address
_PROFILE = re.compile(
    r"(?<![A-Za-z0-9-])(?:(?:twitter|x|instagram|facebook|fb|tiktok|threads)\.(?:com|net|me)/|(?:t|telegram)\.me/(?:s/)?"
    r"|snapchat\.com/add/|linkedin\.com/in/|youtube\.com/(?:c/|user/|(?=@)))(?:#!/)?@?"
    r"(?:profile\.php\?id=(\d{5,20})|([\w.%-]*[^\W_.%-]))(?![\w.%-]*\.php)",
    re.I,
)
_NO_USER = frozenset(
    re.findall(
        r"\S+",
        "share sharer intent hashtag search home watch playlist explore p reel reels tv stories groups events"
        " pages photo photos login signup joinchat addstickers i status privacy help tr plugins dialog pg story"
        " media settings about legal terms tos s c pages permalink video videos marketplace notes business"
        " download",
    )
)
_LINKED = re.compile(r"(?:wa\.me/|whatsapp\.com/send/?\?phone=|\btel:)\+?(\d{8,15})(?!\d)", re.I)
_IBAN_LENGTH = {
    "SA": 24, "AE": 23, "EG": 29, "JO": 30, "LB": 28, "KW": 30, "QA": 29, "BH": 22, "OM": 23, "IQ": 23, "TN": 24,
    "MA": 28, "DZ": 26, "MR": 27, "LY": 25, "PS": 29, "SD": 18, "YE": 30, "DJ": 27, "SO": 23, "SY": 24,
    "DE": 22, "GB": 22, "FR": 27, "TR": 26, "NL": 18, "ES": 24, "IT": 27, "CH": 21, "AT": 20, "BE": 16, "SE": 24,
    "CY": 28, "PK": 24,
}  # fmt: skip
_IBAN = re.compile(r"(?<![A-Za-z0-9])([A-Za-z]{2})\d{2}(?:[ \u00a0-]?[A-Za-z0-9]){11,30}")
_EGYPT = re.compile(r"(?<!\d)[23]\d{13}(?!\d)")
_KUWAIT = re.compile(r"(?<!\d)[123]\d{11}(?!\d)")
_EMIRATES = re.compile(r"(?<!\d)784-?\d{4}-?\d{7}-?\d(?!\d)")
_ID_CUE = re.compile(
    r"(?:هوي(?:ة|ه|ته|تها|تي)|[إا]قام(?:ة|ه|ته|تها|تي)|السجل المدني|سجل مدني|"
    r"(?:الرقم|رقمه?) (?:القومي|الوطني|المدني|الشخصي)"
    r"|رقم (?:قومي|وطني|مدني|شخصي|الحفيظة|الجواز|جواز|البطاقة|بطاق)|جواز السفر|جواز سفر"
    r"|بطاق(?:ة|ه|ته|تها|تي) (?:\w+ )?(?:الوطنية|الشخصية|المدنية|التعريف|الموحدة)|بطاقة التعريف"
    r"|national id|\biqama\b|passport(?: no| number)?|\bQID\b|\bCPR\b|\bCIN\b)(?!\w)"
    rf"[^\d\n\[{GONE}]{{0,25}}?(?<![A-Za-z\d])([A-Z]{{0,2}}\d{{5,18}}|\d{{3,4}}(?:[ -]\d{{3,5}}){{1,3}})"
    r"(?![\d/])(?! ?[-/–] ?\d)",
    re.I,
)
_IP4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)")
_IP6 = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_VERSION = re.compile(
    r"(?:(?:version|build|release|firmware|إصدار|اصدار|نسخة)[^\d\n]{0,20}|\bv|البند|المادة|الفقرة|section|§)\.? ?$",
    re.I,
)


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of the text and what they are."""

    start: int
    end: int
    kind: str


def _luhn(digits: str) -> bool:
    total = 0
    for i, c in enumerate(reversed(digits)):
        d = int(c)
        if i % 2:
            d = d * 2 - 9 if d > 4 else d * 2
        total += d
    return total % 10 == 0


def _born(yymmdd: str) -> bool:
    return 1 <= int(yymmdd[2:4]) <= 12 and 1 <= int(yymmdd[4:6]) <= 31


def _egypt(s: str) -> bool:
    return _born(s[1:7]) and (1 <= int(s[7:9]) <= 35 or s[7:9] == "88")


def _kuwait(s: str) -> bool:
    weights = (2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    check = 11 - sum(w * int(c) for w, c in zip(weights, s, strict=False)) % 11
    return _born(s[1:7]) and check == int(s[11])


def _emirates(s: str) -> bool:
    return _luhn(s.replace("-", ""))


def _cued_id(s: str) -> bool:
    return sum(c.isdigit() for c in s) >= (6 if s[:1].isalpha() else 7)


def _handles(plain: str) -> Iterator[Span]:
    for chain in _HANDLES.finditer(plain) if "@" in plain else ():
        for m in _HANDLE.finditer(plain, chain.start(), chain.end()):
            end = m.end()
            for glued in ("http", "www.", "pic.twitter"):
                cut = plain.find(glued, m.start(), end)
                end = end if cut < 0 else cut
            name = plain[m.start() + 1 : end].rstrip(".")
            # A slash behind is the scope of a package, @scope/name; a parenthesis a call in program code.
            code = name.lower() in _CODE or bool(_DOMAIN.search(name) or _CALL.match(plain, end))
            if len(name) >= 2 and not code:
                yield Span(m.start(), m.start() + 1 + len(name), "handle")


def _profiles(plain: str) -> Iterator[Span]:
    if "/" in plain:
        for m in _PROFILE.finditer(plain):
            group = 1 if m[1] else 2
            if m[group].lower() not in _NO_USER and (group == 1 or len(m[2]) > 1):
                yield Span(m.start(group), m.end(group), "handle")


def _linked(plain: str) -> Iterator[Span]:
    for m in _LINKED.finditer(plain):
        yield Span(m.start(1), m.end(1), "phone")


def _phones(plain: str) -> Iterator[Span]:
    for start, end in phones.spans(plain):
        yield Span(start, end, "phone")


def _ibans(plain: str) -> Iterator[Span]:
    for m in _IBAN.finditer(plain):
        want = _IBAN_LENGTH.get(m[1].upper())
        if want is None:
            continue
        # Words may follow the number: count off exactly the length of the country.
        end, seen = m.start(), ""
        while end < m.end() and len(seen) < want:
            seen += plain[end].strip(" \u00a0-")
            end += 1
        if len(seen) == want and int("".join(str(int(c, 36)) for c in seen[4:] + seen[:4])) % 97 == 1:
            yield Span(m.start(), end, "iban")


def _whole(pattern: re.Pattern[str], kind: str, ok: Callable[[str], bool] | None = None, group: int = 0) -> Finder:
    def search(plain: str) -> Iterator[Span]:
        for m in pattern.finditer(plain):
            if ok is None or ok(m[group]):
                yield Span(m.start(group), m.end(group), kind)

    return search


def _addresses(pattern: re.Pattern[str]) -> Finder:
    def search(plain: str) -> Iterator[Span]:
        for m in pattern.finditer(plain):
            if _ip(m[0]) and not _VERSION.search(plain[max(0, m.start() - 30) : m.start()]):
                yield Span(m.start(), m.end(), "ip")

    return search


def _ip(s: str) -> bool:
    try:
        address = ipaddress.ip_address(s)
    except ValueError:
        return False
    # "::" and the like are punctuation; an address of version 6 has some digits.
    return address.version == 4 or sum(c.isalnum() for c in s) >= 4


# The order is the precedence: what one finder takes the next ones do not see. Links come after what is looked for
# inside them.
_INSIDE_LINKS: tuple[Finder, ...] = (_profiles, _linked)
_emails, _broken_emails = _whole(_EMAIL, "email"), _whole(_EMAIL_BROKEN, "email")
_links = _whole(_URL, "url")
_IPS: tuple[Finder, ...] = (_addresses(_IP4), _addresses(_IP6))
_NUMBERS: tuple[Finder, ...] = (
    _ibans,
    _whole(_EGYPT, "national_id", _egypt),
    _whole(_EMIRATES, "national_id", _emirates),
    _whole(_KUWAIT, "national_id", _kuwait),
    _whole(_ID_CUE, "national_id", _cued_id, 1),
)
# A line with anything to find matches this (RE2 syntax too: it runs over a whole batch inside Arrow).
_D = "[0-9\u0660-\u0669\u06f0-\u06f9]"
_ANY = "|".join(
    (
        "@",
        rf"{_D}(?:[{phones.BETWEEN}]{{0,3}}{_D}){{4}}",
        rf"{_D}\.{_D}{{1,3}}\.{_D}{{1,3}}\.{_D}",
        "[0-9A-Fa-f\u0660-\u0669\u06f0-\u06f9:]:[0-9A-Fa-f\u0660-\u0669\u06f0-\u06f9]*:",
        rf"(?i:[\[( ]at[\]) ] ?(?:{_PROVIDERS}))",
        r"(?i:(?:twitter|instagram|facebook|fb|tiktok|threads|snapchat|linkedin|youtube|\bx)\.(?:com|net|me)/)",
        r"(?i:\b(?:t|telegram)\.me/)",
    )
)
_ANY_PYTHON = re.compile(_ANY)
_SIX_DIGITS = re.compile(rf"\d(?:[{phones.BETWEEN}]{{0,3}}\d){{4}}")
_OTHER_DIGIT = re.compile("[\u0660-\u0669\u06f0-\u06f9]")


def find(text: str, kinds: Collection[str] | None = None) -> list[Span]:
    """Personal data in `text`, in order, never overlapping; offsets are in characters of `text` as given.

    `kinds` (of `KINDS`) limits what is reported; what overlaps is settled among all kinds first. Nothing goes over
    the end of a line (U+000A).
    """
    found: list[Span] = []
    at = 0
    for line in text.split("\n"):
        if _ANY_PYTHON.search(line):
            found += _in_line(line, at, kinds)
        at += len(line) + 1
    return found


def _in_line(line: str, at: int, kinds: Collection[str] | None) -> list[Span]:
    """What is in one line that starts at character `at` of its text."""
    plain = line.translate(_DIGITS) if _OTHER_DIGIT.search(line) else line
    found: list[Span] = []

    def take(finder: Finder, keep: bool = True) -> None:
        nonlocal plain
        spans = list(finder(plain))
        if spans:
            parts, end = [], 0
            for span in spans:
                parts += [plain[end : span.start], GONE * (span.end - span.start)]
                end = span.end
            plain = "".join([*parts, plain[end:]])
        if keep:
            found.extend(Span(s.start + at, s.end + at, s.kind) for s in spans)

    # What is taken out is a boundary to its neighbours, so that a second look may see what was glued to it.
    before = -1
    while before < len(found):
        before = len(found)
        for finder in _INSIDE_LINKS:
            take(finder)
        if "://" in plain or "www." in plain or "WWW." in plain:
            take(_links, keep=False)
        take(_emails)
        take(_broken_emails)
        if _SIX_DIGITS.search(plain):
            for finder in _NUMBERS:
                take(finder)
        if plain.count(".") > 2 or plain.count(":") > 1:
            for finder in _IPS:
                take(finder)
        take(_phones)
        take(_handles)
    return sorted((s for s in found if kinds is None or s.kind in kinds), key=lambda s: s.start)


def _find_all(texts: pa.Array, kinds: Collection[str] | None) -> dict[int, tuple[str, list[Span]]]:
    """By row: the text and what was found, for rows with findings. Only lines that may hold something are looked at."""
    rows = pc.indices_nonzero(pc.match_substring_regex(texts, _ANY))
    some = texts.take(rows)
    split = pc.split_pattern(some, "\n")
    lines = pc.list_flatten(split)
    parents = pc.list_parent_indices(split).to_numpy()
    lengths = pc.utf8_length(lines).to_numpy() + 1
    starts = np.cumsum(lengths) - lengths
    bounds = np.concatenate(([0], np.cumsum(pc.list_value_length(split).to_numpy())))
    hits = pc.indices_nonzero(pc.match_substring_regex(lines, _ANY))
    where = hits.to_numpy()
    out: dict[int, tuple[str, list[Span]]] = {}
    numbers = rows.to_numpy()
    # Where a line starts in its text: in the batch, less where its text starts.
    offsets = starts[where] - starts[bounds[parents[where]]]
    for line, of, at in zip(lines.take(hits).to_pylist(), parents[where].tolist(), offsets.tolist(), strict=True):
        spans = _in_line(line, at, kinds)
        if spans:
            row = int(numbers[of])
            if row not in out:
                out[row] = (some[of].as_py(), [])
            out[row][1].extend(spans)
    return out


def mask(text: str, mode: Mode = "mask", kinds: Collection[str] | None = None) -> str:
    """`text` with every piece of personal data replaced: by its kind, for example `[PHONE]`, or by a stand-in."""
    return _replaced(text, find(text, kinds), mode)


def _replaced(text: str, spans: Sequence[Span], mode: Mode) -> str:
    from fitra.signals.standins import standin

    if mode == "count" or not spans:
        return text
    out, at = [], 0
    for span in spans:
        piece = text[span.start : span.end]
        out += [text[at : span.start], PLACEHOLDERS[span.kind] if mode == "mask" else standin(piece, span.kind)]
        at = span.end
    return "".join([*out, text[at:]])


def without_masks(texts: pa.Array) -> pa.Array:
    """Texts with the masks of `PLACEHOLDERS` as spaces: what is measured of a text is measured without them.

    Five masked handles are no five Latin words, and two copies that differ in a masked number are the same text.
    """
    found = pc.match_substring_regex(texts, _MASKS)
    if not pc.any(found).as_py():
        return texts
    return pc.replace_with_mask(texts, found, pc.replace_substring_regex(texts.filter(found), _MASKS, " "))


@overload
def mask_all(
    texts: list[str], mode: Mode = ..., kinds: Collection[str] | None = ...
) -> tuple[list[str], list[dict[str, int]]]: ...
@overload
def mask_all(
    texts: pa.Array, mode: Mode = ..., kinds: Collection[str] | None = ...
) -> tuple[pa.Array, list[dict[str, int]]]: ...
def mask_all(
    texts: list[str] | pa.Array, mode: Mode = "mask", kinds: Collection[str] | None = None
) -> tuple[list[str] | pa.Array, list[dict[str, int]]]:
    """`mask` for a batch (a list, or an Arrow array of strings without nulls), and per text the findings by kind.

    `mode`: "mask" puts `PLACEHOLDERS`, "standin" look-alikes (`standins`), "count" changes nothing. Only texts with
    findings are new. Raises FitraError for an unknown mode or kind.
    """
    if mode not in ("mask", "standin", "count"):
        raise FitraError(f"personal data: unknown mode '{mode}'.", "Known: mask, standin, count.")
    unknown = sorted(set(kinds or ()) - set(KINDS))
    if unknown:
        raise FitraError(f"personal data: unknown kind '{unknown[0]}'.", f"Known: {', '.join(KINDS)}.")
    array = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string())
    counts: list[dict[str, int]] = [{} for _ in range(len(array))]
    changed: dict[int, str] = {}
    for i, (text, spans) in sorted(_find_all(array, kinds).items()):
        counts[i] = dict(sorted(Counter(s.kind for s in spans).items()))
        changed[i] = _replaced(text, spans, mode)
    if mode == "count" or not changed:
        return texts, counts
    if not isinstance(texts, pa.Array):
        return [changed.get(i, t) for i, t in enumerate(texts)], counts
    rows = pa.array([i in changed for i in range(len(array))])
    return pc.replace_with_mask(array, rows, pa.array(list(changed.values()), array.type)), counts
