"""Edit programs: a model names what to change in a numbered text, and an executor changes it, so nothing else can.

What the model sees (`numbered`): one unit a line, `N text` where a unit begins a line of the text, `N+ text` where it
goes on with one; an empty line stands for a blank one; protected spans are shown as ⟦number⟧. What it answers, one
operation a line, units in rising order:

    =                     nothing to change (and then nothing else)
    3 -                   unit 3 goes, with the white space after it
    3 old → new           the only place in unit 3 that reads `old` becomes `new`; with nothing after the arrow it goes,
                          and one space with it
    3 first … last → new  the same for the place from `first` to the next `last`; `… last` begins with the unit,
                          `first …` ends with it, `…` is all of it
    3 _                   after unit 3 stands one space; `~` nothing, `/` a line break, `//` a blank line

The executor is strict: an unknown unit, a place that is not there exactly once, places that overlap, a protected span
inside one, anything malformed raises `llm.ParseError`. Facts cannot be invented: the words of `new` that the replaced
place does not have are at most MOST_WORDS, over a whole program at most a share MOST_SHARE of the text's words (or
MOST_WORDS), and digits and Latin letters among them must come from the replaced place.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from itertools import accumulate, pairwise

from fitra.align.masking import PLACEHOLDER
from fitra.llm import ParseError
from fitra.llm.chunk import sentences

__all__ = ["FORMAT", "KEEP", "MOST_SHARE", "MOST_WORDS", "Unit", "apply", "numbered", "program", "units"]

FORMAT = """\
- One operation a line, line numbers rising; whatever you do not name stays as it is.
- `=` alone: nothing to change / لا تغيير.
- `3 -`: line 3 goes / يُحذف السطر 3.
- `3 old → new`: the only place in line 3 that reads `old` becomes `new`; `3 old →` takes it out / استبدال أو حذف.
- `3 first … last → new`: the same from `first` to the next `last` / من أول العبارة إلى آخرها.
- `3 _` after line 3 a space, `3 ~` nothing, `3 /` a line break, `3 //` a blank line / ما بين السطرين.
- At most a few new words, never new digits or Latin letters / لا تُضف أرقاما ولا حروفا لاتينية."""
KEEP, ARROW, GAP = "=", "→", "…"  # KEEP is the program that changes nothing
MOST_WORDS, MOST_SHARE = 8, 0.25
MOST_UNITS = 400  # of a text; a chunk of 4,000 characters has some 40
MOST_WIDTH, CLOSE = 3, 3  # sentences that one may become; characters between two changes that are made as one
_BREAKS = {"~": "", "_": " ", "/": "\n", "//": "\n\n"}
_SIGNS = {v: k for k, v in _BREAKS.items()}
_LINE = re.compile(r"([1-9][0-9]{0,3}) (.+)")
_TOKEN = re.compile(r"⟦[^⟧]*⟧|\w+|\s|[^\w\s]")
_GUARDED = re.compile(r"[A-Za-z]+|\d")  # \d: in every script


@dataclass(frozen=True)
class Unit:
    """A sentence or line of a text, and the white space after it. All units joined give the text after its lead."""

    text: str
    after: str


@dataclass
class _Plan:
    """What is to become of one unit."""

    delete: bool = False
    swaps: list[tuple[str, str]] = field(default_factory=list)  # (old as written, new)
    after: str | None = None


def units(text: str) -> tuple[str, list[Unit]]:
    """(white space before the first unit, the units): lines, cut at sentence ends."""
    lead, out = "", list[Unit]()
    for body, sep in sentences(text):
        bare = body.lstrip()
        pad = body[: len(body) - len(bare)]
        if out:
            out[-1] = replace(out[-1], after=out[-1].after + pad)
        else:
            lead += pad
        if bare:
            out.append(Unit(bare, sep))
        elif out:
            out[-1] = replace(out[-1], after=out[-1].after + sep)
        else:
            lead += sep
    return lead, out


def numbered(text: str) -> str:
    """A masked text as the model sees it."""
    lines, before = [], "\n"
    for n, unit in enumerate(units(text)[1], 1):
        if n > 1:
            lines += [""] * min(3, before.count("\n") - 1)
        shown = PLACEHOLDER.sub(lambda m: f"⟦{m[1]}⟧", unit.text)
        goes_on = "" if "\n" in before else "+"
        lines.append(f"{n}{goes_on} {shown}")
        before = unit.after
    return "\n".join(lines)


def apply(program_text: str, text: str, droppable: Collection[int] = ()) -> str:
    """Carry out a program on a masked text.

    `droppable` are the numbers of placeholders that may go when their whole unit does (an address in an advertisement);
    all others stay. Raises llm.ParseError as the module says.
    """
    lead, old = units(text)
    plans = _parse(program_text, len(old))
    left, changed = max(MOST_WORDS, int(MOST_SHARE * len(text.split()))), list[str | None]()
    for n, unit in enumerate(old, 1):
        if (plan := plans.get(n, _Plan())).delete:
            if stays := [m[1] for m in PLACEHOLDER.finditer(unit.text) if int(m[1]) not in droppable]:
                raise ParseError(f"unit {n}: holds protected span {stays[0]}")
            changed.append(None)
            continue
        made, words = _swapped(n, unit.text, plan.swaps)
        left -= words
        changed.append(made)
    if left < 0:
        raise ParseError(f"{-left} words more than may be put in")
    spaces, out = _spaces(old, [c is None for c in changed]), [lead]
    for n, body in enumerate(changed, 1):
        if body is not None:
            wanted = plans[n].after if n in plans else None
            out += [body, spaces[n - 1] if wanted is None else wanted]
    return "".join(out)


def _spaces(old: Sequence[Unit], gone: Sequence[bool]) -> list[str]:
    """The white space after each unit that stays: where units went, of all between two the one with most line breaks.

    At the end of the text stands what stood there.
    """
    out, at = [u.after for u in old], -1
    for n, unit in enumerate(old):
        if not gone[n]:
            at = n
        elif at >= 0 and (n == len(old) - 1 or unit.after.count("\n") > out[at].count("\n")):
            out[at] = unit.after
    return out


def _parse(program_text: str, count: int) -> dict[int, _Plan]:
    lines = [line.rstrip() for line in program_text.strip().split("\n")]
    if lines == [KEEP]:
        return {}
    if lines == [""]:
        raise ParseError("an empty program")
    plans, last = dict[int, _Plan](), 0
    for line in lines:
        if (m := _LINE.fullmatch(line)) is None:
            raise ParseError(f"no operation: {line[:60]!a}")
        n, what = int(m[1]), m[2].strip()
        if not last <= n <= count or n < 1:
            raise ParseError(f"unit {n}: out of order or missing, there are {count}")
        last = n
        plan = plans.setdefault(n, _Plan())
        if plan.delete or plan.after is not None or (what == "-" and plan.swaps):
            raise ParseError(f"unit {n}: an operation too many")
        old, arrow, new = f" {what} ".partition(f" {ARROW} ")
        if what == "-":
            plan.delete = True
        elif what in _BREAKS:
            if n == count:
                raise ParseError(f"unit {n}: nothing stands after the last")
            plan.after = _BREAKS[what]
        elif arrow and old.strip() and ARROW not in new:
            plan.swaps.append((old.strip(), new.strip()))
        else:
            raise ParseError(f"unit {n}: no operation: {what[:60]!a}")
    return plans


def _once(text: str, part: str) -> int:
    at = text.find(part)
    if at < 0 or text.find(part, at + 1) >= 0:
        raise ParseError(f"{part[:40]!a} is not there exactly once")
    return at


def _place(text: str, old: str) -> tuple[int, int]:
    """[start, end) of what `old` names in a unit."""
    first, gap, last = f" {old} ".partition(f" {GAP} ")
    first, last = first.strip(), last.strip()
    if not gap:
        return (start := _once(text, old)), start + len(old)
    if GAP in last.split():
        raise ParseError(f"more than one {GAP}")
    start = _once(text, first) if first else 0
    if not last:
        return start, len(text)
    end = text.find(last, start + len(first)) if first else _once(text, last)
    if end < 0:
        raise ParseError(f"{last[:40]!a} is not there")
    return start, end + len(last)


def _swapped(n: int, text: str, swaps: list[tuple[str, str]]) -> tuple[str, int]:
    """A unit with its places replaced, and how many words are new."""
    found = []
    for old, new in swaps:
        try:
            start, end = _place(text, old)
        except ParseError as e:
            raise ParseError(f"unit {n}: {e}") from None
        words = _check(n, text[start:end], new)
        if not new:  # one space goes with the words: the one before, else the one after
            if start and text[start - 1] == " " and (end == len(text) or text[end] in " ،؛:.!؟…"):
                start -= 1
            elif end < len(text) and text[end] == " ":
                end += 1
        found.append((start, end, new, words))
    found.sort()
    if any(b[0] < a[1] for a, b in pairwise(found)):
        raise ParseError(f"unit {n}: places overlap")
    out, at = [], 0
    for start, end, new, _ in found:
        out += [text[at:start], new]
        at = end
    changed = "".join([*out, text[at:]])
    if swaps and not changed.strip():
        raise ParseError(f"unit {n}: nothing is left")
    if swaps and changed != changed.strip():
        raise ParseError(f"unit {n}: white space is left at an end")
    return changed, sum(w for *_, w in found)


def _check(n: int, place: str, new: str) -> int:
    """How many words of `new` the replaced place does not have; ParseError for what may not be put in."""
    if any(c in "⟦⟧" for c in place + new):
        raise ParseError(f"unit {n}: touches a protected span")
    if Counter(_GUARDED.findall(new)) - Counter(_GUARDED.findall(place)):
        raise ParseError(f"unit {n}: digits or Latin letters that were not there")
    added = sum((Counter(re.findall(r"\w+", new)) - Counter(re.findall(r"\w+", place))).values())
    if added > MOST_WORDS:
        raise ParseError(f"unit {n}: {added} new words, at most {MOST_WORDS} may be put in")
    return added


# --- the shortest program


def program(before: str, after: str, droppable: Collection[int] = ()) -> str:
    """A short program that turns one masked text into the other: what a worker is trained to write.

    `apply(program(a, b), a) == b` for every pair it accepts. Raises ValueError for a pair that needs free rewriting:
    more new words than a program may bring, sentences that moved, white space that no operation writes.
    """
    if before == after:
        return KEEP
    old, new = units(before)[1], units(after)[1]
    if max(len(old), len(new)) > MOST_UNITS:
        raise ValueError("too many units")
    widths = _widths(old, new)
    spaces = _spaces(old, [w == 0 for w in widths])
    lines, at = list[str](), 0
    for n, (unit, width) in enumerate(zip(old, widths, strict=True), 1):
        if not width:
            lines.append(f"{n} -")
            continue
        lines += [f"{n} {swap}" for swap in _swaps(unit.text, _joined(new[at : at + width]))]
        at += width
        want = new[at - 1].after
        if want != spaces[n - 1]:
            if want not in _SIGNS:
                raise ValueError(f"unit {n}: white space that no operation writes")
            lines.append(f"{n} {_SIGNS[want]}")
    made = "\n".join(lines) or KEEP
    if apply(made, before, droppable) != after:
        raise ValueError("no program gives this text")
    return made


def _joined(group: Sequence[Unit]) -> str:
    return "".join(u.text + u.after for u in group[:-1]) + group[-1].text


def _widths(old: Sequence[Unit], new: Sequence[Unit]) -> list[int]:
    """How many units of the new text each old one became, in order; 0 where it went."""
    out, a, b = list[int](), [u.text for u in old], [u.text for u in new]
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "insert":
            raise ValueError("a sentence is new")
        n, m = i2 - i1, j2 - j1
        out += [1] * n if n == m else [0] * n if not m else _cheapest(a[i1:i2], new[j1:j2])
    return out


def _cheapest(old: Sequence[str], new: Sequence[Unit]) -> list[int]:
    """The widths of a block that make the shortest program, by dynamic programming."""
    n, m = len(old), len(new)
    if n * m > 400:
        raise ValueError("too many sentences changed at once")
    best: list[list[tuple[float, int]]] = [[(math.inf, 0)] * (m + 1) for _ in range(n + 1)]
    best[n][m] = (0, 0)
    for i in range(n - 1, -1, -1):
        for j in range(m, -1, -1):
            costs = [(best[i + 1][j][0] + 4, 0)]
            for width in range(1, min(MOST_WIDTH, m - j) + 1):
                rest = best[i + 1][j + width][0]
                if rest < math.inf:
                    costs.append((rest + _cost(old[i], _joined(new[j : j + width])), width))
            best[i][j] = min(costs)
    if best[0][0][0] == math.inf:
        raise ValueError("sentences do not pair")
    out, j = [], 0
    for i in range(n):
        out.append(best[i][j][1])
        j += out[-1]
    return out


def _cost(old: str, new: str) -> float:
    try:
        return sum(len(s) + 3 for s in _swaps(old, new))
    except ValueError:
        return math.inf


def _swaps(old: str, new: str) -> list[str]:
    """The operations that turn one unit into another: one for each place, or one for all where that is shorter."""
    if old == new:
        return []
    if "\n" in new:
        raise ValueError("a line break inside a unit")
    a, b = _TOKEN.findall(old), _TOKEN.findall(new)
    ends_a, ends_b = [0, *accumulate(map(len, a))], [0, *accumulate(map(len, b))]
    spans: list[tuple[int, int, int, int]] = []
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        here = (ends_a[i1], ends_a[i2], ends_b[j1], ends_b[j2])
        if spans and here[0] - spans[-1][1] <= CLOSE:
            spans[-1] = (spans[-1][0], here[1], spans[-1][2], here[3])
        else:
            spans.append(here)
    whole = (spans[0][0], spans[-1][1], spans[0][2], spans[-1][3])
    options = []
    for group in (spans, [whole]):
        try:
            found = [_swap(old, new, span) for span in group]
            if _swapped(0, old, [_split(s) for s in found])[0] == new:
                options.append(found)
        except ValueError:
            continue
    if not options:
        raise ValueError("a sentence is written anew")
    return min(options, key=lambda found: sum(len(s) + 3 for s in found))


def _split(swap: str) -> tuple[str, str]:
    old, _, new = f" {swap} ".partition(f" {ARROW} ")
    return old.strip(), new.strip()


def _swap(old: str, new: str, span: tuple[int, int, int, int]) -> str:
    """The shortest operation that makes one change, with as many words around it as it takes to name the place."""
    a0, a1, b0, b1 = span
    want = old[:a0] + new[b0:b1] + old[a1:]
    best = ""
    for left, right in ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (2, 2), (99, 99)):
        lo, hi = _reach(old, a0, -left), _reach(old, a1, right)
        place = old[lo:hi].strip()
        put = (old[lo:a0] + new[b0:b1] + old[a1:hi]).strip()
        if not place:
            continue
        words, named = place.split(" "), [place]
        if len(words) > 2 and GAP not in words:
            named.append(f"{words[0]} {GAP} {words[-1]}")
            named += [f"{words[0]} {GAP}", f"{words[0]} {words[1]} {GAP}"] if hi == len(old) else []
            named += [f"{GAP} {words[-1]}"] if lo == 0 else []
            named += [GAP] if lo == 0 and hi == len(old) else []
        for name in named:
            made = f"{name} {ARROW} {put}".rstrip()
            if best and len(made) >= len(best):
                continue
            try:
                if _split(made) == (name, put) and _swapped(0, old, [(name, put)])[0] == want:
                    best = made
            except ParseError:
                continue
    if not best:
        raise ValueError("no operation makes this change")
    return best


def _reach(text: str, at: int, words: int) -> int:
    """`at` moved to the end of the word it stands in, and by so many words on; a negative number moves left."""
    step = 1 if words > 0 else -1
    for _ in range(abs(words)):
        while 0 <= at + min(step, 0) < len(text) and text[at + min(step, 0)].isspace():
            at += step
        while 0 <= at + min(step, 0) < len(text) and not text[at + min(step, 0)].isspace():
            at += step
    return at
