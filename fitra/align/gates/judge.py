"""All gates on a batch of pairs at once: a pure function of the pairs, the policy and the code of the gates.

Nothing is asked of a model, so a changed threshold is judged anew over stored answers without a call.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fitra import arabic
from fitra.align import masking
from fitra.align.gates import pairs as figures
from fitra.align.gates import text
from fitra.align.gates.beside import recited, unasked
from fitra.align.gates.names import names
from fitra.align.gates.verdict import Pair, Verdict, few
from fitra.policy import Policy
from fitra.signals import contamination, dialect, language, letters, personal, toxicity
from fitra.signals.view import View, view

__all__ = ["GATES_VERSION", "judge", "judge_all"]

GATES_VERSION = 3  # goes into fingerprints: change it with any gate or list
EXACT = ("code", "quran", "hadith", "formula")  # protected byte for byte where nobody masked; others by their words
BLAME = 0.5  # rise of the toxicity rules by a word of blame that the original does not have
MIN_WORDS = 8  # fewer say nothing about dialect
_BATCH = 2_000_000  # characters of one view

Floats = npt.NDArray[np.float64]
Row = tuple[str, float, str, bool, str]  # gate, figure, threshold, passed, detail


def judge(
    original: str,
    rewrite: str,
    policy: Policy,
    *,
    removed: Sequence[str] = (),
    added: Sequence[str] = (),
    protected: Sequence[str] | None = (),
    verses: masking.Verses | None = None,
    benchmarks: contamination.Index | None = None,
) -> list[Verdict]:
    """All gates on one pair; see `Pair`. Many pairs are judged several times faster by `judge_all`."""
    return judge_all([Pair(original, rewrite, removed, added, protected)], policy, verses, benchmarks)[0]


def judge_all(
    given: Sequence[Pair],
    policy: Policy,
    verses: masking.Verses | None = None,
    benchmarks: contamination.Index | None = None,
) -> list[list[Verdict]]:
    """Verdicts of each pair, in order; the same as judging them one by one.

    `verses` is for pairs whose protected spans are None; `benchmarks` adds the gate against recited evaluation text.
    """
    out: list[list[Verdict]] = []
    start = 0
    while start < len(given):
        stop, size = start, 0
        while stop < len(given) and (stop == start or size < _BATCH):
            size += len(given[stop].original) + len(given[stop].rewrite)
            stop += 1
        out += _batch(given[start:stop], policy, verses, benchmarks)
        start = stop
    return out


def _batch(
    given: Sequence[Pair], policy: Policy, verses: masking.Verses | None, benchmarks: contamination.Index | None
) -> list[list[Verdict]]:
    t = policy.gates
    n = len(given)
    before, after = [p.original for p in given], [p.rewrite for p in given]
    removed, added = ["\n".join(p.removed) for p in given], ["\n".join(p.added) for p in given]
    w = figures.look(before, after, removed, added)
    of, first = w.whole, int(w.whole.bounds[2 * n])  # originals and rewrites alone
    sides = View(of.texts[: 2 * n], of.folded[: 2 * n], of.vocab, of.ids[:first], of.bounds[: 2 * n + 1])
    rows: list[list[Verdict]] = [[] for _ in given]

    def gate(
        name: str, figure: Sequence[float] | Floats, threshold: str, detail: Sequence[str], low: bool = False
    ) -> None:
        limit = t[threshold]
        for i, f in enumerate(np.round(np.asarray(figure, dtype=np.float64), 4).tolist()):
            passed = f >= limit if low else f <= limit
            rows[i].append(Verdict(name, passed, f, limit, "" if passed else detail[i] or ""))

    none = [""] * n
    found = letters.letters(sides)
    total = found.in_arabic + found.in_latin + found.counts[:, letters.OTHER]
    share = np.divide(found.in_arabic, total, out=np.ones(2 * n), where=total > 0)
    gate("script", np.abs(share[:n] - share[n:]), "script_drift", ["another script"] * n)
    codes, sure = language.detect_view(sides)
    other = np.array([codes[i] != codes[n + i] for i in range(n)], dtype=bool)
    gate(
        "language",
        np.where(other, np.minimum(sure[:n], sure[n:]), 0),
        "language_drift",
        [f"{codes[i]} became {codes[n + i]}" for i in range(n)],
    )
    spoken = _dialect(sides)
    gate("dialect", np.abs(spoken[:n] - spoken[n:]), "dialect_drift", ["another variety"] * n)
    _length(given, policy, rows)
    _numbers(given, w, gate)
    lost, new = figures.dates(w)
    lost = [_written_out(k, p.rewrite) for k, p in zip(lost, given, strict=True)]
    new = [_written_out(k, p.original) for k, p in zip(new, given, strict=True)]
    gate("dates", [len(a) + len(b) for a, b in zip(lost, new, strict=True)], "dates_changed", _both(lost, new))
    lost, new = figures.units(w)
    gate("units", [len(a) + len(b) for a, b in zip(lost, new, strict=True)], "units_changed", _both(lost, new))
    lost, new = names(w)
    gate("names_lost", [len(a) for a in lost], "names_lost", [few(a) for a in lost])
    gate("names_new", [len(a) for a in new], "names_new", [few(a) for a in new])
    drift = figures.negations(w)
    gate("negation", np.abs(drift), "negation_drift", [f"{d:+.0f}" for d in drift])
    _links(given, gate)
    missing = [_missing(p, verses) for p in given]
    gate("protected", [len(m) for m in missing], "protected_lost", [few(m) for m in missing])
    kept = figures.content(w)
    gate("words_kept", kept.kept, "words_kept_min", [f"{k:.2f} of the words" for k in kept.kept], low=True)
    gate("passage_lost", kept.lost, "passage_lost_max", [f"{k:.0f} words" for k in kept.lost])
    gate("passage_new", kept.new, "passage_new_max", [f"{k:.0f} words" for k in kept.new])
    gate("unfinished", [float(_unfinished(p)) for p in given], "unfinished", ["cut off"] * n)
    short = (kept.new > 1) & (kept.new <= t["passage_new_max"])
    said = [
        a + b + c
        for a, b, c in zip(text.leaks(before, after), recited(w, policy), unasked(w, after, short, policy), strict=True)
    ]
    gate("leaks", [len(s) for s in said], "leaks", [few(s) for s in said])
    gate("repeats", figures.repeats(w).astype(np.float64), "repeats_max", none)
    rises = _rules(given, w)
    gate("toxicity", [r for r, _ in rises], "toxicity_rise", [h for _, h in rises])
    gate("toxicity_overall", _overall(given, sides, t["toxicity_overall_rise"]), "toxicity_overall_rise", none)
    fresh = _personal(before, after)
    gate("personal", fresh, "personal_new", [f"{f} new" for f in fresh])
    if benchmarks is not None:
        known = _recited(sides, n, benchmarks)
        gate("benchmark", [len(r) for r in known], "benchmark_new", [few(r) for r in known])
    return rows


def _both(lost: Sequence[Sequence[str]], new: Sequence[Sequence[str]]) -> list[str]:
    return [
        few([*(f"-{x}" for x in a), *(f"+{x}" for x in b)]) if a or b else "" for a, b in zip(lost, new, strict=True)
    ]


def _dialect(sides: View) -> Floats:
    """Probability that a text is dialect, (n,); 0 for a text too short to tell."""
    odds = dialect.evidence(sides)
    odds -= odds.max(axis=1, keepdims=True)
    p = np.exp(odds)
    share = p[:, 2:].sum(axis=1) / p.sum(axis=1)
    half = len(sides) // 2
    short = np.minimum(sides.n_words[:half], sides.n_words[half:]) < MIN_WORDS
    return np.where(np.concatenate((short, short)), 0, share)


def _length(given: Sequence[Pair], policy: Policy, rows: list[list[Verdict]]) -> None:
    low, high = policy.gates["length_min"], policy.gates["length_max"]
    for i, p in enumerate(given):
        was = max(1, _size(p.original) - sum(map(_size, p.removed)))
        now = _size(p.rewrite) - sum(map(_size, p.added))
        ratio = round(max(0, now) / was, 4)
        short = ratio < low and was > 20  # next to nothing left over: any ratio says nothing
        long = ratio > high and now > 20
        bad = short or long
        rows[i].append(Verdict("length", not bad, ratio, high if long else low, f"ratio {ratio:.2f}" if bad else ""))


def _size(s: str) -> int:
    return len(s) - s.count(" ") - s.count("\n")


def _numbers(given: Sequence[Pair], w: figures.Words, gate: Any) -> None:
    lost: list[list[str]] = []
    new: list[list[str]] = []
    spelt_lost, spelt_new = figures.simple(w, "spelt")
    for i, p in enumerate(given):
        was, now = text.number_counts(p.original), text.number_counts(p.rewrite)
        a, b, c, d = set(was - now), set(now - was), set(spelt_lost[i]), set(spelt_new[i])
        if a or b or c or d:
            gone = sum(map(text.number_counts, p.removed), Counter[str]())
            put = sum(map(text.number_counts, p.added), Counter[str]())
            a, b = set(was - gone - now), set(now - put - was)
            if not (a and b):  # one more mention of a number or one less is no swap
                a, b = a - set(now), b - set(was)
            a, b = text.unsaid(a, p.rewrite), text.unsaid(b, p.original)
            if not (c and d):
                c = {x for x in c if not _within(x, p.rewrite)}
                d = {x for x in d if not _within(x, p.original)}
        lost.append([*a, *c])
        new.append([*b, *d])
    gate("numbers_lost", [len(x) for x in lost], "numbers_lost", [few(x) for x in lost])
    gate("numbers_new", [len(x) for x in new], "numbers_new", [few(x) for x in new])


def _within(value: str, other: str) -> bool:
    """Whether a number word is part of a number that the other text writes in digits: «ثلاثة وعشرون» in «23»."""
    found = [n for n in text.numbers(other) if n.isdigit()]
    return any(len(n) >= len(value) and n[-len(value)] == value[0] for n in found)


def _written_out(keys: Sequence[str], other: str) -> list[str]:
    """Dates of one side without those that the other has in digits: «5 مارس 1990», 5/3/1990."""
    if not keys:
        return []
    parts = [re.split("[/-]", n) for n in text.numbers(other) if n.count("/") + n.count("-") == 2]
    months = {p.lstrip("0") for n in parts for p in n}
    return [k for k in keys if not ((m := re.search(r"[gh](\d+)", k)) and m[1] in months)]


def _links(given: Sequence[Pair], gate: Any) -> None:
    lost: list[list[str]] = []
    for p in given:
        if not ("://" in p.original or "://" in p.rewrite or "www." in p.original or "www." in p.rewrite):
            lost.append([])
            continue
        was, now = text.links(p.original), text.links(p.rewrite)
        gone = set[str]().union(*map(text.links, p.removed), set())
        lost.append([*(f"-{u}" for u in was - now - gone), *(f"+{u}" for u in now - was)])
    gate("urls", [len(x) for x in lost], "urls_changed", [few(x) for x in lost])


def _missing(p: Pair, verses: masking.Verses | None) -> list[str]:
    if p.protected is None:
        return _missing_by_kind(p, verses)
    at, missing = 0, []
    for span in p.protected:
        found = p.rewrite.find(span, at)
        if found < 0:
            missing.append(span)
        else:
            at = found + len(span)
    return missing


def _missing_by_kind(p: Pair, verses: masking.Verses | None) -> list[str]:
    """Protected spans of the original that the rewrite has not; quotations and verse by their words."""
    out: list[str] = []
    folded, gone = "", ""
    for span in masking.find(p.original, verses):
        body = p.original[span.start : span.end]
        if span.kind in ("number", "url") or body in p.rewrite:
            continue  # gates of their own
        folded = folded or arabic.fold(p.rewrite, "search")
        gone = gone or arabic.fold("\n".join(p.removed), "search")
        key = arabic.fold(body, "search").strip()
        if key in gone or (span.kind not in EXACT and key in folded):
            continue
        out.append(body)
    return out


def _unfinished(p: Pair) -> bool:
    last, ended = text.ends(p.original)
    if not ended:
        return False
    now, done = text.ends(p.rewrite)
    return not done and now != last


def _rules(given: Sequence[Pair], w: figures.Words) -> list[tuple[float, str]]:
    """Rise of the rules; only where a word came that was not there, or a denial went."""
    _, new = figures.simple(w, "stem")
    _, blamed = figures.simple(w, "blame")
    out = []
    for i, p in enumerate(given):
        rise, heading = text.toxic_rise(p.original, p.rewrite) if new[i] or len(p.rewrite) < 400 else (0.0, "")
        # Words of blame are ordinary in their place («المجرم أمام القاضي»); the original must have them.
        out.append((BLAME, f"{heading} {few(blamed[i])}".strip()) if blamed[i] and rise < BLAME else (rise, heading))
    return out


def _overall(given: Sequence[Pair], sides: View, limit: float) -> Floats:
    """Rise of the trained scorer, (n,); against the original without what was declared removed where that is worse.

    The scorer weighs a text as a whole: what is left of one without its harmless boilerplate was as bad before.
    """
    n = len(given)
    level = toxicity.overall(sides).astype(np.float64)
    before = level[:n].copy()
    look = [i for i in np.flatnonzero(level[n:] - before > limit).tolist() if given[i].removed]
    if look:
        rest = []
        for i in look:
            text = given[i].original
            for gone in given[i].removed:
                text = text.replace(gone, " ")
            rest.append(text)
        before[look] = np.maximum(before[look], toxicity.overall(view(rest)))
    return np.asarray(level[n:] - before)


def _personal(before: Sequence[str], after: Sequence[str]) -> list[int]:
    """Pieces of personal data in each rewrite that its original does not have."""
    _, counts = personal.mask_all(list(after), "count")
    out = []
    for was, now, n in zip(before, after, counts, strict=True):
        fresh = {_bare(now[s.start : s.end]) for s in personal.find(now)} if n else set()
        if fresh:
            plain = _bare(was)
            fresh = {f for f in fresh if f not in plain}
        out.append(len(fresh))
    return out


def _bare(s: str) -> str:
    return arabic.digits_to_ascii(s).translate({ord(c): None for c in " \t\n\r\u00a0-().+"})


def _recited(sides: View, n: int, benchmarks: contamination.Index) -> list[list[str]]:
    """Rows of evaluation sets that stand in each rewrite and not in its original."""
    rows: list[set[str]] = [set() for _ in range(2 * n)]
    for hit in benchmarks.find(sides):
        rows[hit.doc].add(f"{hit.benchmark} {hit.row}")
    return [sorted(rows[n + i] - rows[i]) for i in range(n)]
