"""Personal data in Arabic and English text: found by shape and check digit, never by a network call.

Kinds: email, phone (Arab countries, both digit sets, also after a cue such as «جوال»), iban (length and mod 97),
national_id (Egypt, Kuwait, Emirates, Saudi after a cue), ip. URLs are not personal data and nothing inside one is
reported. Names and postal addresses are not looked for.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["PLACEHOLDERS", "Span", "find", "mask"]

PLACEHOLDERS = {
    "email": "[EMAIL]", "phone": "[PHONE]", "iban": "[IBAN]", "national_id": "[ID]", "ip": "[IP]",
}  # fmt: skip

# Digits of every script become ASCII one for one, so offsets in the plain text are offsets in the original.
_DIGITS = {cp: ord(str(unicodedata.digit(chr(cp)))) for cp in (*range(0x660, 0x66A), *range(0x6F0, 0x6FA))}

_URL = re.compile(r"(?:https?://|ftp://|www\.)[^\s<>«»\"]+", re.I)
_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,24}\b"
)
_CODES = "966|971|965|974|973|968|967|964|963|962|961|970|972|20|218|216|213|212|249|222|252|253|269"
_SEP = r"[ \u00a0\-.()/]{0,2}"
_INTERNATIONAL = re.compile(
    rf"(?<![\d.,/])(?:\+ ?|00)(?:{_CODES})(?:{_SEP}\d){{7,10}}(?!\d)"
    rf"|(?<!\d)(?:{_CODES})\d{{8,9}}\+",  # the plus sign typed last, as right-to-left text often has it
)
_MOBILE = re.compile(
    r"(?<![\d.,/+-])(?:"
    r"05(?:[ -]?\d){8}"  # Saudi Arabia, Emirates
    r"|01[0125](?:[ -]?\d){8}"  # Egypt
    r"|07[3-9](?:[ -]?\d){7,8}"  # Jordan, Iraq, Morocco
    r"|06(?:[ -]?\d){8}"  # Morocco, Algeria
    r"|09[0-9](?:[ -]?\d){7}"  # Syria, Libya, Sudan
    r"|7[0137](?:\d){7}(?!\d)"  # Yemen
    r")(?![\d,/]|\.\d)"
)
_CUE = re.compile(
    r"(?:هاتف|الهاتف|تلفون|تليفون|جوال|الجوال|محمول|موبايل|موبيل|واتساب|واتس ?[اآ]ب|واتس|فاكس"
    r"|للتواصل|للاتصال|اتصل(?:وا)?"
    r"|للحجز|للطلب|phone|mobile|whats ?app|tel|fax|call)"
    r"[^\d\n]{0,25}?(\+?\d(?:[ \-.()/]{0,2}\d){6,14})(?!\d)",
    re.I,
)
_IBAN_LENGTH = {
    "SA": 24, "AE": 23, "EG": 29, "JO": 30, "LB": 28, "KW": 30, "QA": 29, "BH": 22, "OM": 23, "IQ": 23, "TN": 24,
    "MA": 28, "DZ": 26, "MR": 27, "LY": 25, "PS": 29, "SD": 18, "YE": 30, "DJ": 27, "SO": 23, "SY": 24,
    "DE": 22, "GB": 22, "FR": 27, "TR": 26,
}  # fmt: skip
_IBAN = re.compile(r"(?<![A-Za-z0-9])([A-Z]{2})\d{2}(?: ?[A-Z0-9]){11,30}")
_EGYPT = re.compile(r"(?<!\d)[23]\d{13}(?!\d)")
_KUWAIT = re.compile(r"(?<!\d)[123]\d{11}(?!\d)")
_EMIRATES = re.compile(r"(?<!\d)784-?\d{4}-?\d{7}-?\d(?!\d)")
_ID_CUE = re.compile(
    r"(?:هوية|الهوية|هويته|هويتي|إقامة|اقامة|الإقامة|الاقامة|السجل المدني"
    r"|الرقم القومي|رقم قومي|الرقم الوطني|national id|iqama)"
    r"[^\d\n]{0,25}?(\d{9,14})(?!\d)",
    re.I,
)
_IP4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)")
_IP6 = re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{1,4}(?![\w:])")
_VERSION = re.compile(r"(?:version|v|الإصدار|إصدار|نسخة)\.? ?$", re.I)


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


def _ip(s: str) -> bool:
    try:
        ipaddress.ip_address(s)
    except ValueError:
        return False
    return True


def _ibans(plain: str) -> Iterator[Span]:
    for m in _IBAN.finditer(plain):
        want = _IBAN_LENGTH.get(m[1])
        if want is None:
            continue
        # Upper-case words may follow the number: count off exactly the length of the country.
        end, seen = m.start(), ""
        while end < m.end() and len(seen) < want:
            seen += plain[end].strip()
            end += 1
        if len(seen) == want and int("".join(str(int(c, 36)) for c in seen[4:] + seen[:4])) % 97 == 1:
            yield Span(m.start(), end, "iban")


def _whole(
    pattern: re.Pattern[str], kind: str, ok: Callable[[str], bool] | None = None, group: int = 0
) -> Callable[[str], Iterator[Span]]:
    def search(plain: str) -> Iterator[Span]:
        for m in pattern.finditer(plain):
            if ok is None or ok(m[group]):
                yield Span(m.start(group), m.end(group), kind)

    return search


def _ips(plain: str) -> Iterator[Span]:
    for pattern in (_IP4, _IP6):
        for m in pattern.finditer(plain):
            if _ip(m[0]) and not _VERSION.search(plain[max(0, m.start() - 10) : m.start()]):
                yield Span(m.start(), m.end(), "ip")


# The order is the precedence where two overlap.
_FINDERS: tuple[Callable[[str], Iterator[Span]], ...] = (
    _whole(_EMAIL, "email"),
    _ibans,
    _whole(_EGYPT, "national_id", _egypt),
    _whole(_EMIRATES, "national_id", _emirates),
    _whole(_KUWAIT, "national_id", _kuwait),
    _whole(_ID_CUE, "national_id", None, 1),
    _ips,
    _whole(_INTERNATIONAL, "phone"),
    _whole(_MOBILE, "phone"),
    _whole(_CUE, "phone", None, 1),
)
_ANY = re.compile(r"@|\d{5}|\d[ \-.()/]{1,2}\d|[0-9A-Fa-f]:")


def find(text: str) -> list[Span]:
    """Personal data in `text`, in order, never overlapping; offsets are in characters of `text` as given."""
    plain = text.translate(_DIGITS)
    if not _ANY.search(plain):
        return []
    taken = [(m.start(), m.end()) for m in _URL.finditer(plain)]
    found: list[Span] = []
    for finder in _FINDERS:
        for span in finder(plain):
            if all(span.end <= s or span.start >= e for s, e in taken):
                taken.append((span.start, span.end))
                found.append(span)
    return sorted(found, key=lambda s: s.start)


def mask(text: str) -> str:
    """`text` with every piece of personal data replaced by its kind, for example `[PHONE]`."""
    out, at = [], 0
    for span in find(text):
        out += [text[at : span.start], PLACEHOLDERS[span.kind]]
        at = span.end
    return "".join([*out, text[at:]])
