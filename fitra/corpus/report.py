"""The page of a cleaned corpus: what came in, what went and why, what is left. One file that loads nothing."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fitra import page
from fitra.artifacts import write_text
from fitra.corpus import report_text as draw
from fitra.corpus.report_data import BINS, Figures, gather
from fitra.corpus.variants import KINDS
from fitra.signals import personal, toxicity

__all__ = ["write"]

STAGES = {
    "lines": "only repeated lines",
    "personal": "personal data",
    "filter": "filters",
    "toxicity": "toxicity",
    "contamination": "evaluation sets",
    "dedupe": "duplicates",
}
# Reason -> (in words, what its figure is). Others are shown as they are called.
REASONS = {
    "too_short": ("too few words", "words"),
    "too_long": ("too many words", "words"),
    "language": ("not one of the wanted languages", "confidence"),
    "language_confidence": ("language not sure", "confidence"),
    "script_share": ("letters of another script", "share of letters in the script"),
    "symbol_share": ("mostly symbols", "share of symbols"),
    "digit_share": ("mostly digits", "share of digits"),
    "single_letters": ("words torn into letters", "share of one-letter words"),
    "long_words": ("words run together", "share of long words"),
    "word_length": ("words too short or too long", "mean letters"),
    "few_words": ("few words of letters", "share of words"),
    "few_different_words": ("the same words again and again", "share of different words"),
    "one_sentence_repeated": ("one sentence again and again", "share"),
    "stop_words": ("no running text", "share of stop words"),
    "list": ("a list, not text", "share of short lines"),
    "keywords": ("keywords, not text", "share of stop words"),
    "links": ("mostly links", "share of links"),
    "furniture": ("menus and buttons", "share"),
    "hashes": ("mostly tags", "tags to a word"),
    "ellipses": ("mostly ellipses", "ellipses to a word"),
    "ellipsis_lines": ("lines that break off", "share of lines"),
    "mojibake": ("wrongly decoded", "share"),
    "javascript": ("program code", "share"),
    "curly_brackets": ("program code", "share of brackets"),
    "lorem_ipsum": ("filler text", "times"),
    "repeated_lines": ("lines said before", "share"),
    "repeated_lines_only": ("nothing but repeated lines", "lines"),
    "repeated_paragraphs": ("paragraphs said before", "share"),
    "exact_duplicate": ("the same text, spelling aside", "similarity"),
    "near_duplicate": ("nearly the same text", "similarity"),
    "same_url": ("another copy of one address", "similarity"),
    "personal_data": ("personal data", "pieces"),
    **{f"top_{n}_gram": (f"{n} words that come too often", "share") for n in range(2, 5)},
    **{f"repeated_{n}_grams": (f"{n} words in a row said before", "share") for n in range(5, 11)},
    **{f"toxic_{h}": (f"toxic: {h}", "probability") for h in toxicity.HEADINGS},
}
PLACEHOLDER = re.compile("|".join(re.escape(p) for p in personal.PLACEHOLDERS.values()))


def write(out: Path, target: Path) -> Path:
    """Write the page about the finished corpus folder `out` to `target`; returns `target`.

    Raises FitraError where the folder is not finished. Labels that were not made are left out.
    """
    from jinja2 import Environment, StrictUndefined

    got = gather(Path(out))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "n": _n,
        "documents": _documents,
        "share": _share,
        "show": page.show,
        "quote": draw.quote,
        "figure": _figure,
    }
    environment.globals |= {"bar": page.bar}
    files = resources.files("fitra.corpus")
    template = environment.from_string((files / "report.html.jinja").read_text(encoding="utf-8"))
    style = Markup((files / "report.css").read_text(encoding="utf-8"))
    drawn = template.render(style=style, f=got, **_page(got))
    # A lone surrogate is shown as a badge; none is left here, but a page must be writable whatever comes.
    write_text(Path(target), drawn.encode("utf-8", "replace").decode("utf-8"))
    return Path(target)


def _n(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _documents(n: int) -> str:
    return f"{n:,} document{'' if n == 1 else 's'}"


def _share(part: float, whole: float) -> str:
    if not whole or not part:
        return "0%" if whole else "–"
    return f"{100 * part / whole:.1f}%" if part / whole >= 0.001 else "< 0.1%"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _page(got: Figures) -> dict[str, Any]:
    counts = got.manifest.get("counts", {})
    words_out = got.words or int(counts.get("words", 0))
    words_gone = sum(got.removed_words.values())
    return {
        "warning": (got.manifest.get("notes") or {}).get("warning"),
        "funnel": _funnel(got, counts, words_out + words_gone),
        "words_out": words_out,
        "words_in": words_out + words_gone,
        "total": sum(got.removed.values()) + got.documents,
        "reasons": _reasons(got),
        "distributions": _distributions(got),
        "histograms": _histograms(got),
        "toxicity": [(h, got.over_half[h]) for h in sorted(got.over_half)],
        "personal": [(k, got.personal[k]) for k in personal.KINDS if got.personal[k]],
        "personal_samples": [_masked(s) for s in got.personal_samples],
        "variants": [(k, got.variants[k]) for k in KINDS if got.variants[k]],
        "variant_samples": [_pair(k, got.variant_samples[k]) for k in KINDS if k in got.variant_samples],
        "sources": _sources(got),
        "quarantine": got.quarantine.most_common(12),
        "config": json.dumps(got.manifest.get("config", {}), ensure_ascii=False, indent=1, sort_keys=True),
    }


def _funnel(got: Figures, counts: dict[str, Any], words: int) -> list[dict[str, Any]]:
    """From what came in to what is left: documents and words after each step."""
    left, left_words = sum(got.removed.values()) + got.documents, words
    rows = [
        {"name": "read" if not counts.get("split_added") else "read, long ones split", "gone": None, "words": words}
    ]
    rows[0]["documents"] = left
    by_stage: Counter[str] = Counter()
    stage_words: Counter[str] = Counter()
    for (stage, reason), n in got.removed.items():
        by_stage[stage] += n
        stage_words[stage] += got.removed_words[stage, reason]
    order = [*STAGES, *sorted(set(by_stage) - set(STAGES))]
    for stage in order:
        if by_stage[stage]:
            left -= by_stage[stage]
            left_words -= stage_words[stage]
            name = f"after {STAGES.get(stage, stage)}"
            rows.append({"name": name, "gone": by_stage[stage], "documents": left, "words": left_words})
    return rows


def _reasons(got: Figures) -> list[dict[str, Any]]:
    out = []
    for (stage, reason), n in got.removed.most_common():
        name, unit = REASONS.get(reason, (reason.replace("_", " "), "figure"))
        samples = sorted(got.samples.get((stage, reason), []), key=lambda s: str(s["id"]))
        out.append(
            {
                "name": name, "key": reason, "stage": STAGES.get(stage, stage), "unit": unit, "documents": n,
                "words": got.removed_words[stage, reason], "samples": samples,
            }
        )  # fmt: skip
    return out


_TABLES = {
    "language": "Language", "variety": "Variety of Arabic", "region": "Region of the dialects", "register": "Register",
    "licence": "Licence class",
}  # fmt: skip


def _distributions(got: Figures) -> list[dict[str, Any]]:
    out = []
    for key, title in _TABLES.items():
        counts = got.tables.get(key)
        if counts:
            shown = counts.most_common(12)
            rest = sum(counts.values()) - sum(n for _, n in shown)
            rows = [(name, n, got.table_words[key][name]) for name, n in shown]
            if rest:
                rows.append((f"{len(counts) - len(shown)} others", rest, 0))
            out.append({"title": title, "rows": rows, "total": sum(counts.values()), "key": key})
    return out


def _histograms(got: Figures) -> list[Markup]:
    out = []
    if got.lengths:
        low, high = min(got.lengths), max(got.lengths)
        counts = [got.lengths[k] for k in range(low, high + 1)]

        def words(i: int) -> str:
            return _brief(2 ** ((low + i) / 2))

        out.append(draw.histogram(counts, words, "Words in a document"))
    names = {"lang_confidence": "Confidence of the language", "register_confidence": "Confidence of the register"}
    for key, counts in sorted(got.shares.items(), key=lambda kv: (kv[0] not in names, kv[0])):
        title = names.get(key) or key.replace("_", " ").capitalize()
        tone = 2 if key.startswith("toxicity") else 3 if key.startswith("quality") else 1
        out.append(draw.histogram(counts, lambda i: f"{i / BINS:g}", title, tone))
    return out


def _brief(x: float) -> str:
    x = float(f"{x:.2g}")
    return f"{x / 1e6:g}M" if x >= 1e6 else f"{x / 1e3:g}k" if x >= 1e3 else f"{math.floor(x):d}"


def _masked(sample: dict[str, Any]) -> dict[str, Any]:
    """The text around the first piece of personal data, what stands in its place marked."""
    text = sample["text"]
    spans = [m.span() for m in PLACEHOLDER.finditer(text)] or [(s.start, s.end) for s in personal.find(text)]
    start = max(0, spans[0][0] - 120) if spans else 0
    if start:
        start = text.find(" ", start, spans[0][0]) + 1 or start
    lead = "… " if start else ""
    window = lead + text[start : start + 420]
    moved = [(a - start + len(lead), b - start + len(lead)) for a, b in spans if a >= start]
    return {
        "id": sample["id"],
        "kinds": ", ".join(f"{k} {v}" for k, v in sorted(sample["personal"].items())),
        "block": draw.quote(window, 400, moved),
    }


def _pair(kind: str, pair: dict[str, Any]) -> dict[str, Any]:
    gone, kept = draw.difference(pair["text"], pair["kept"])
    return {
        "kind": kind, "kinds": ", ".join(pair["kinds"]), "id": pair["id"], "kept_id": pair["kept_id"],
        "figure": pair["figure"], "gone": gone, "kept": kept,
    }  # fmt: skip


def _sources(got: Figures) -> list[dict[str, Any]]:
    """Those that lost most documents."""
    return [
        {"name": name, "removed": n, "of": n + got.sources_kept[name]}
        for name, n in got.sources_removed.most_common(15)
    ]
