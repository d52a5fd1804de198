"""What a translation must carry over as it is: numbers, and spans that are no language (links, code, placeholders).

Numbers are compared by value: both digit sets, thousands and decimals, number words of both languages under clitics,
«3 ملايين» and 3,000,000. Arabic says one and two by the form of the noun, so they may be unsaid there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache, lru_cache

from fitra import arabic

__all__ = ["bare", "changed_numbers", "kept"]

_KEPT = re.compile(
    r"```[\s\S]{1,20000}?```|``[^`\n]{1,400}``|`[^`\n]{1,400}`"  # code
    r"|(?:https?://|ftp://|www\.)[^\s<>«»\"⟦⟧]{1,2000}"
    r"|[A-Za-z0-9](?<![\w.+-][A-Za-z0-9])[\w.+-]{0,63}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,6}"
    r"|\$?\{\{?[\w.:-]{1,60}\}?\}|(?<![\w%])%(?:\(\w{1,40}\))?[sdifgxr](?!\w)"  # placeholders
    r"|\$\$[^$]{1,2000}\$\$|\\\((?:(?!\\[()])[^\n]){1,600}\\\)|\\\[(?:(?!\\[\[\]])[\s\S]){1,2000}\\\]"
    r"|\$(?=[^\s{])[^$\n]{0,200}[\\^_=][^$\n]{0,200}(?<=\S)\$(?!\d)"
    r"|</?[A-Za-z][^<>\n]{0,300}>|⟦[^⟦⟧\n]{0,80}⟧",
    re.A,
)
_HALVES = {"30": re.compile(r"نصف|\bhalf\b", re.I), "15": re.compile(r"ربع|\bquarter\b", re.I)}  # of an hour
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?:\.\d{3}){2,}")
_TOKEN = re.compile(r"\d+(?:[.,٫٬،]\d+)*|[^\W\d_]+")
_ARABIC = re.compile("[\u0600-\u06ff]")
_DRESS = re.compile(f"[{arabic.MARKS}{arabic.TATWEEL}{arabic.INVISIBLE}]")

_UNITS_AR = {
    0: "صفر", 1: "واحد واحدة أحد إحدى", 2: "اثنان اثنين اثنتان اثنتين اثنا اثني اثنتا اثنتي",
    3: "ثلاث ثلاثة", 4: "أربع أربعة", 5: "خمس خمسة", 6: "ست ستة", 7: "سبع سبعة", 8: "ثمان ثماني ثمانية",
    9: "تسع تسعة", 10: "عشر عشرة", 20: "عشرون عشرين", 30: "ثلاثون ثلاثين", 40: "أربعون أربعين",
    50: "خمسون خمسين", 60: "ستون ستين", 70: "سبعون سبعين", 80: "ثمانون ثمانين", 90: "تسعون تسعين",
    100: "مئة مائة مية", 200: "مئتان مئتين مئتا مئتي مائتان مائتين مائتا مائتي",
    300: "ثلاثمئة ثلاثمائة", 400: "أربعمئة أربعمائة", 500: "خمسمئة خمسمائة", 600: "ستمئة ستمائة",
    700: "سبعمئة سبعمائة", 800: "ثمانمئة ثمانمائة ثمانيمئة", 900: "تسعمئة تسعمائة",
    2000: "ألفان ألفين ألفا ألفي", 2_000_000: "مليونان مليونين مليونا مليوني", 2_000_000_000: "ملياران مليارين",
}  # fmt: skip
_ORDINALS_AR = {
    1: "أول أولى", 2: "ثاني ثانية", 3: "ثالث ثالثة", 4: "رابع رابعة", 5: "خامس خامسة", 6: "سادس سادسة",
    7: "سابع سابعة", 8: "ثامن ثامنة", 9: "تاسع تاسعة", 10: "عاشر عاشرة", 11: "حادي حادية",
}  # fmt: skip
_SCALES_AR = {1000: "ألف آلاف ألوف", 10**6: "مليون ملايين", 10**9: "مليار مليارات بليون", 10**12: "تريليون ترليون"}
_TO_19 = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen"""
_NTH = """zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth
fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"""
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety"
_UNITS_EN = {w: 10 * i for i, w in enumerate(_TENS.split())}
_UNITS_EN |= {w: i for names in (_TO_19, _NTH) for i, w in enumerate(names.split())}
_UNITS_EN |= {"once": 1, "twice": 2, "thirtieth": 30, "dozen": 12}
_I_TO_XX = "- I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI XVII XVIII XIX XX"
_ROMAN = {w: i for i, w in enumerate(_I_TO_XX.split())}
_SCALES_EN = {"hundred": 100, "hundreds": 100, "thousand": 1000, "thousands": 1000, "million": 10**6,
              "millions": 10**6, "billion": 10**9, "billions": 10**9, "trillion": 10**12}  # fmt: skip


def kept(text: str) -> Counter[str]:
    """Links, addresses, code, formulas, placeholders and tags of a text, with how often each stands there."""
    return Counter(m[0].rstrip(".,;:!?،؛؟'*_)/") or m[0] for m in _KEPT.finditer(text))


def bare(text: str) -> str:
    """The text without such spans."""
    return _KEPT.sub(" ", text)


@cache
def _words() -> tuple[dict[str, int], dict[str, int]]:
    """Folded word -> value, and folded word -> factor."""
    units: dict[str, int] = dict(_UNITS_EN)
    scales: dict[str, int] = dict(_SCALES_EN)
    for table in (_ORDINALS_AR, _UNITS_AR):
        units |= {_fold(w): n for n, ws in table.items() for w in ws.split()}
    scales |= {_fold(w): n for n, ws in _SCALES_AR.items() for w in ws.split()}
    return units, scales


def _fold(word: str) -> str:
    return arabic.fold(word, "search").strip()


@lru_cache(maxsize=1 << 16)
def _meaning(word: str) -> tuple[int | None, int | None]:
    """(value, factor) of a folded word, clitics aside."""
    units, scales = _words()
    forms, at = [word], word
    for heads in (("و", "ف"), ("ب", "ل", "ك"), ("ال", "ل")):
        for head in heads:
            if at.startswith(head) and len(at) > len(head) + 1:
                at = at[len(head) :]
                forms.append(at)
                break
    forms += [f[:-1] for f in forms if len(f) > 3 and f.endswith("ا")]  # «أربعا وعشرين»
    unit = next((units[f] for f in forms if f in units), None)
    return unit, next((scales[f] for f in forms if f in scales), None)


def _value(digits: str) -> str:
    """One spelling per value: 1,000 and ١٬٠٠٠ are 1000, 7,50 is 7.5."""
    n = arabic.digits_to_ascii(digits).replace("٬", ",").replace("،", ",").replace("٫", ".")
    if _GROUPED.fullmatch(n):
        n = n.replace(",", "") if "," in n else n.replace(".", "")
    n = re.sub(r"(?<=\d),(?=\d{1,2}$)", ".", n)
    whole, _, part = n.partition(".")
    part = part.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{part}" if part else "")


def _times(value: str, factor: int) -> str:
    try:
        product = float(value) * factor
    except ValueError:
        return ""
    return str(int(product)) if product == int(product) else f"{product:g}"


def _said(text: str) -> tuple[list[tuple[str, ...]], set[str]]:
    """Numbers in digits, each with the values it may stand for; and all values that the text says in any way."""
    digits: list[tuple[str, ...]] = []
    all_: set[str] = set()
    for run in _runs(text):
        total = part = 0
        for i, (kind, value, unit, factor) in enumerate(run):
            if kind == "digits":
                after = run[i + 1][3] if i + 1 < len(run) else None
                ways = (value, _times(value, after)) if after else (value,)
                digits.append(ways)
                all_.update(ways)
            else:
                all_.add(str(unit if unit is not None else factor))
                if factor and unit is None:
                    if factor == 100:
                        part = max(part, 1) * 100
                    else:
                        total, part = total + max(part, 1) * factor, 0
                elif unit is not None:
                    part += unit
        all_.add(str(total + part))
    return digits, all_


def _runs(text: str) -> Iterator[list[tuple[str, str, int | None, int | None]]]:
    """Stretches of numbers and number words, joined by «و» and "and"."""
    run: list[tuple[str, str, int | None, int | None]] = []
    for m in _TOKEN.finditer(_DRESS.sub("", text)):
        token = m[0]
        if token[0].isdigit():
            run.append(("digits", _value(token), None, None))
            continue
        unit, factor = _meaning(_fold(token) if not token.isascii() else token.lower())
        unit = _ROMAN.get(token, unit)
        if unit is not None or factor is not None:
            run.append(("word", "", unit, factor))
        elif run and token.lower() not in ("and", "و"):
            yield run
            run = []
    if run:
        yield run


def changed_numbers(source: str, target: str) -> tuple[list[str], list[str]]:
    """(lost, new): numbers in digits of one side that the other says neither in digits nor in words.

    Where one stands less often and another more often, one mention was swapped, and both are named.
    """
    source, target = bare(source), bare(target)
    ours, said_here = _said(source)
    theirs, said_there = _said(target)
    lost = {w[0] for w in ours if not said_there & set(w) and not _unsaid(w[0], source, target)}
    new = {w[0] for w in theirs if not said_here & set(w) and not _unsaid(w[0], target, source)}
    was, now = Counter(w[0] for w in ours), Counter(w[0] for w in theirs)
    common = [n for n in was if n in now]
    fewer, more = [n for n in common if now[n] < was[n]], [n for n in common if now[n] > was[n]]
    if fewer and more and sum(was.values()) == sum(now.values()):
        lost.update(fewer)
        new.update(more)
    return sorted(lost), sorted(new)


def _unsaid(number: str, here: str, other: str) -> bool:
    """One and two are in the form of an Arabic noun («يومين»); 7:30 is half past seven."""
    if number in ("1", "2"):
        return _ARABIC.search(other) is not None
    part = _HALVES.get(number)
    return part is not None and bool(
        re.search(rf"\d[:.]{number}(?!\d)", arabic.digits_to_ascii(here)) and part.search(other)
    )
