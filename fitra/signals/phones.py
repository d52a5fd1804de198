"""Telephone numbers of the Arab states, in either digit set, however they are grouped.

A run of digits is cut into its groups, and the longest sequence of groups that reads as a number is taken:

- international: + or 00 before the country code, or + after it, as right-to-left typing often leaves it; other
  countries with a plus only. A mobile number with its country code and nothing before it counts too.
- national: the mobile and land-line formats whose shape is hardly ever anything else (Saudi 05xxxxxxxx, Egyptian
  01[0125]xxxxxxxx, ten digits from an area code with its zero), Saudi 9200xxxxx and 800xxxxxxx.
- anything of 7 to 12 digits just after a cue such as «هاتف» or «للتواصل», or just before «واتساب».

Dates, spans of years, amounts with their unit and ISBNs are none. Number plans after ITU-T E.164 and the regulators'
published national plans.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["BETWEEN", "GONE", "spans"]

GONE = "\ufffc"  # stands, character for character, where something was found before

# National significant numbers (without the leading zero) by country code.
PLANS = {
    "966": r"5\d{8}|1[1-7]\d{7}|800\d{7}|92\d{7}",
    "971": r"5[024568]\d{7}|[2-4679]\d{7}|[68]00\d{5,6}",
    "965": r"[124569]\d{7}",
    "974": r"[3-7]\d{7}",
    "973": r"[136]\d{7}",
    "968": r"[279]\d{7}",
    "967": r"7[01378]\d{7}|[1-7]\d{6}",
    "964": r"7[3-9]\d{8}|[1-6]\d{7,8}",
    "963": r"9[3-9]\d{7}|[1-5]\d{6,8}",
    "962": r"7[7-9]\d{7}|[2356]\d{7}|800\d{5}",
    "961": r"3\d{6}|7[01689]\d{6}|81\d{6}|[14-9]\d{6}",
    "970": r"5[69]\d{7}|[2489]\d{7}",
    "972": r"5\d{8}|[23489]\d{7}",
    "20": r"1[0125]\d{8}|2\d{8}|3\d{7}|(?:1[35]|4[05-8]|5[057]|6[24-689]|8[2468]|9[235-7])\d{7}|800\d{7}",
    "218": r"9[1-5]\d{7}|[2-7]\d{7,8}",
    "216": r"[2-57-9]\d{7}",
    "213": r"[5-7]\d{8}|[2-4]\d{7}",
    "212": r"[5-8]\d{8}",
    "249": r"[19]\d{8}",
    "222": r"[2-4]\d{7}",
    "252": r"\d{7,9}",
    "253": r"(?:77|21|27)\d{6}",
    "269": r"[37]\d{6}",
}
_ARAB = "(?:" + "|".join(f"{code}0?(?:{plan})" for code, plan in PLANS.items()) + ")"
_PLUS = re.compile(_ARAB + r"|(?!0)\d{9,15}")
_ZEROS = re.compile("00" + _ARAB)
_TAIL_PLUS = re.compile(_ARAB)
_BARE = re.compile(
    r"05\d{8}"  # Saudi Arabia, Emirates, Palestine, Algeria; land lines of Morocco
    r"|01[0125]\d{8}|07[3-9]\d{8}"  # Egypt, Iraq
    r"|07[7-9]\d{7}|0[67]\d{8}"  # Jordan; Morocco, Algeria
    r"|09\d{8}"  # Syria, Libya, Sudan
    r"|01[1-7]\d{7}|02\d{8}"  # land lines of Saudi Arabia and Cairo
    r"|0(?:4[05-8]|5[057]|6[24-689]|8[2468]|9[235-7])\d{7}"  # of Egypt's governorates
    r"|966(?:5|92|1[1-7])\d{7,8}|9715\d{8}|9627[7-9]\d{7}|9647[3-9]\d{8}|201[0125]\d{8}|9639[3-9]\d{7}"
    r"|9677[01378]\d{7}|2189[1-5]\d{7}|2499\d{8}|212[67]\d{8}|213[5-7]\d{8}|970?5[69]\d{7}"
)
_BARE_ROUND = re.compile(r"920\d{6}|8001\d{6}|7[01378]\d{7}")  # may be an amount: not so when a unit follows
_BARE_LAND = re.compile(r"0[2-9]\d{7}")  # nine digits: only written as area code, then the rest

# What may stand between the digits of one number; direction marks are invisible but there.
BETWEEN = " \u00a0\\-.()/\u2010-\u2013\u200e\u200f\u202a-\u202e\u2066-\u2069"
_RUN = re.compile(rf"(?<![A-Za-z0-9_=])\d(?:[{BETWEEN}]{{0,3}}\d){{6,}}")
_GROUP = re.compile(r"\d+")
_PLUS_BEFORE = re.compile(r"[+\uff0b][ \u200e\u200f\u202a-\u202e\u2066-\u2069]{0,2}\(?$")
_PLUS_AFTER = re.compile(r"[\u200e\u200f\u202a-\u202e\u2066-\u2069]?[+\uff0b](?!\d)")

_CUES = (
    r"هاتف|هواتف|تلفون|تليفون|جوال|جوّال|محمول|موبايل|موبيل|خلوي|نقال|النقّال|واتس|وتس|فاكس|ناسوخ|سنترال|أرقام|"
    r"اتصل|اتصال|تواصل|للحجز|للطلب|للاستفسار|استفسار|للمراسلة|الموحد|المجاني|الساخن|رقمي|رقمه|رقمها|كلمني|"
    r"(?<!\[)phone|mobile|whats ?app|\btel\b|\bfax\b|\bcall\b|hot ?line|\bmob\b|\bcell\b|\bgsm\b"
)
_CUE_BEFORE = re.compile(rf"(?:{_CUES}|[☎📞📱☏✆])[^\d\n\[{GONE}]{{0,25}}$", re.I)
_CUE_AFTER = re.compile(r"[ \u00a0\t)\]،,.]{0,3}(?:واتس|وتس|جوال|هاتف|فاكس|whats ?app|للتواصل|للحجز|📞|📱|☎)", re.I)
_CHAIN = re.compile(
    r"[ \u00a0\t\-/،,.()؛و\u2010-\u2013]{0,4}(?:أو|او|or|and)?[ (]{0,2}\+?(?:\([^\d()]{2,12}\))?[ \u00a0]?"
)
_NO_PHONE = re.compile(
    r"(?:ISBN|ISSN|DOI|PMID|OCLC|ردمك|ردمد|curid=|id=|السجل التجاري|سجل تجاري|ترخيص|قرار|صك|القضية|قضية|فاتورة"
    r"|حساب رقم|الحساب|برقم قيد)[^\n]{0,18}$",
    re.I,
)
_UNIT = re.compile(
    r"\s?(?:ريال|دولار|درهم|دينار|جنيه|ليرة|يورو|مليون|مليار|ألف|الف|نسمة|نسمه|طن|برميل|كيلو|متر|كم|شخص|ناخب|صوت|سهم|وحدة"
    r"|سنة|عام|USD|SAR|EUR|[٪%$€£])",
    re.I,
)
_MAX_GROUPS = 6
_MAX_DIGITS = 17
_FIRST = frozenset(re.findall(r"\d\d", "00 01 02 04 05 06 07 08 09 92 96 97 80 20 21 24 70 71 73 77 78"))


def _year(group: str) -> bool:
    return len(group) == 4 and "1300" <= group <= "2099"


def _dated(groups: list[str]) -> bool:
    """Whether groups of digits are a date, a span of years, or thousands."""
    if len(groups) < 2:
        return False
    if len(groups[0]) <= 2 and len(groups[1]) <= 2 and any(map(_year, groups[2:4])):
        return True
    if _year(groups[0]) and all(len(g) <= 2 for g in groups[1:3]):
        return True
    if sum(map(_year, groups)) >= 2 or (len(groups) == 2 and any(map(_year, groups)) and len(groups[-1]) <= 4):
        return True
    return len(groups[0]) <= 3 and groups[0][0] != "0" and all(len(g) == 3 for g in groups[1:])


def _reads(groups: list[str], gaps: str, plus: bool, tail: bool, cue: bool, unit: bool) -> bool:
    digits = "".join(groups)
    if plus and _PLUS.fullmatch(digits):
        return True
    if tail and _TAIL_PLUS.fullmatch(digits):
        return True
    if digits.startswith("00") and _ZEROS.fullmatch(digits):
        return True
    if _dated(groups):
        return False
    if _BARE.fullmatch(digits) and (len(groups) == 1 or max(map(len, groups)) >= 3 or cue):
        return True
    if _BARE_LAND.fullmatch(digits) and len(groups) in (2, 3) and len(groups[0]) == 2 and len(groups[-1]) >= 4:
        return cue or not gaps.startswith("/")
    if unit or digits.endswith("00000"):
        return False
    return bool(_BARE_ROUND.fullmatch(digits)) and len(groups) <= 3 and (len(groups) == 1 or len(groups[0]) == 3)


def _cued(groups: list[str], gaps: str, unit: bool) -> bool:
    """Whether groups just after a cue are a number of a form that no plan tells."""
    digits = sum(map(len, groups))
    return 7 <= digits <= 12 and not (unit or _dated(groups) or "(" in gaps)


def spans(plain: str) -> Iterator[tuple[int, int]]:
    """[start, end) of each telephone number in a text whose digits are ASCII, in order."""
    last = -100  # where the number before ended, when it was one
    for run in _RUN.finditer(plain):
        before = plain[max(0, run.start() - 45) : run.start()]
        cued = bool(_CUE_BEFORE.search(before)) or bool(_CUE_AFTER.match(plain, run.end()))
        if not cued and _NO_PHONE.search(before):
            continue
        parts = [(m.start(), m.end()) for m in _GROUP.finditer(plain, run.start(), run.end())]
        i = 0
        while i < len(parts):
            start = parts[i][0]
            cue = (cued and i == 0) or (start - last < 24 and bool(_CHAIN.fullmatch(plain, last, start)))
            plus = bool(_PLUS_BEFORE.search(plain, max(0, start - 4), start))
            stop = _longest(plain, parts, i, plus, cue)
            if stop is None:
                i += 1
                continue
            end = parts[stop][1]
            tail = _PLUS_AFTER.match(plain, end)
            last = tail.end() if tail else end
            first = start
            if plus:
                found = _PLUS_BEFORE.search(plain, max(0, start - 4), start)
                first = found.start() if found else start
            if plain[start:end].count(")") > plain[start:end].count("(") and plain[first - 1 : first] == "(":
                first -= 1
            yield first, last
            i = stop + 1


def _longest(plain: str, parts: list[tuple[int, int]], i: int, plus: bool, cue: bool) -> int | None:
    """The last group of the longest number that starts with group `i`, or None."""
    start = parts[i][0]
    if not (plus or cue) and plain[start : start + 2] not in _FIRST and not _tailed(plain, parts, i):
        return None
    if i and plain[start - 1] in ".," and plain[start - 2].isdigit():
        return None
    groups: list[str] = []
    for s, e in parts[i : i + _MAX_GROUPS]:
        if sum(map(len, groups)) + e - s > _MAX_DIGITS:
            break
        groups.append(plain[s:e])
    loose: int | None = None
    for n in range(len(groups), 0, -1):
        end = parts[i + n - 1][1]
        if plain[end : end + 1] in (".", ",") and plain[end + 1 : end + 2].isdigit() and n < len(parts) - i:
            continue  # the digits go on behind a decimal point
        gaps = "".join(plain[parts[k][1] : parts[k + 1][0]] for k in range(i, i + n - 1))
        tail, unit = bool(_PLUS_AFTER.match(plain, end)), bool(_UNIT.match(plain, end))
        if _reads(groups[:n], gaps, plus, tail, cue, unit):
            return i + n - 1
        if cue and loose is None and _cued(groups[:n], gaps, unit):
            loose = i + n - 1
    return loose


def _tailed(plain: str, parts: list[tuple[int, int]], i: int) -> bool:
    return any(_PLUS_AFTER.match(plain, e) for _, e in parts[i : i + _MAX_GROUPS])
