# ruff: noqa: SIM905
"""The rules of FineWeb-2 for Arabic, as a yardstick: run by datatrove where it is installed, else said again here.

    python benchmarks/fineweb2_rules.py < texts.jsonl > verdicts.jsonl     # rows {"text": ..., "config": "arb"}

Verdicts are the reason of removal or null. Thresholds and order: the repository huggingface/fineweb-2, configs and
pipeline; filters of datatrove 0.10: Gopher repetition, FineWeb quality, Gopher quality. The language score (GlotLID)
and duplicates are left out: filters alone. Needs nothing of fitra, so it runs in an environment of its own; the words
are those of spaCy's blank Arabic tokenizer with datatrove, else white space with punctuation split off.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from typing import Any

CONFIGS: dict[str, dict[str, Any]] = {
    "arb": {
        "dup_line_frac": 0.304, "line_punct_thr": 0.143, "new_line_ratio": 0.189, "avg": (2, 9), "alpha": 0.787,
        "top": [(2, 0.197), (3, 0.172), (4, 0.146)],
        "dup": [(5, 0.165), (6, 0.153), (7, 0.142), (8, 0.131), (9, 0.12), (10, 0.109)],
        "stopwords": "، في من على إلى عام أن مع أو هو عن التي كان بين ما كانت هي المتحدة بعد".split(),
    },
    "arz": {
        "dup_line_frac": 0.409, "line_punct_thr": 0.286, "new_line_ratio": 0.333, "avg": (3, 8), "alpha": 0.83,
        "top": [(2, 0.135), (3, 0.165), (4, 0.194)],
        "dup": [(5, 0.286), (6, 0.265), (7, 0.246), (8, 0.229), (9, 0.215), (10, 0.202)],
        "stopwords": "فى و من لينكات هيا اللى برانيه يوم مواليد حياته كان".split(),
    },
    "apc": {
        "dup_line_frac": 0.4, "line_punct_thr": -1, "new_line_ratio": 0.25, "avg": (3, 8), "alpha": 1.0,
        "top": [(2, 0.282), (3, 0.3), (4, 0.359)],
        "dup": [(5, 0.353), (6, 0.323), (7, 0.297), (8, 0.282), (9, 0.265), (10, 0.248)],
        "stopwords": "و ما من على بس انا في عم شو".split(),
    },
}  # fmt: skip
_SPLIT = re.compile(r"[^\W_]+(?:[\u064b-\u0652\u0670\u0640]+[^\W_]*)*|[^\w\s]|_")
_TERMINAL = tuple(".!?؟۔。？！؞؝⁇⁈⁉‼…")
_PUNCTUATION = set("!/—”:&(،\\[#%«؛+]^~“„؟;'’{|=-`*–?$<>)…@_.\"}»")


def filters(config: str, language: Any) -> list[Any]:
    """datatrove's own filters with FineWeb-2's thresholds of one language; ImportError where it is not installed."""
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

    c = CONFIGS[config]
    return [
        GopherRepetitionFilter(
            language=language, dup_para_frac=0, dup_line_char_frac=0, dup_para_char_frac=0,
            dup_line_frac=c["dup_line_frac"], top_n_grams=c["top"], dup_n_grams=c["dup"],
        ),
        FineWebQualityFilter(
            language=language, short_line_thr=999, char_duplicates_ratio=0.1, line_punct_thr=c["line_punct_thr"],
            new_line_ratio=c["new_line_ratio"],
        ),
        GopherQualityFilter(
            language=language, min_avg_word_length=c["avg"][0], max_avg_word_length=c["avg"][1],
            stop_words=c["stopwords"], max_non_alpha_words_ratio=c["alpha"], min_stop_words=2,
        ),
    ]  # fmt: skip


def by_datatrove(config: str) -> Any:
    """A function text -> reason or None that runs datatrove's own filters; ImportError where it is not installed."""
    from datatrove.data import Document

    steps = filters(config, f"{config}_Arab")

    def judge(text: str) -> str | None:
        for step in steps:
            got = step.filter(Document(text=text, id="0"))
            if isinstance(got, tuple):
                if not got[0]:
                    return str(got[1])
            elif not got:
                return step.name
        return None

    judge("تجربة أولى")  # loads the tokenizer
    return judge


def by_hand(config: str) -> Any:
    """The same rules said plainly."""
    c = CONFIGS[config]

    def judge(text: str) -> str | None:
        words = _SPLIT.findall(text)
        lines = re.split("\n+", text)
        if (len(lines) - len(set(lines))) / len(lines) > c["dup_line_frac"]:
            return "dup_line_frac"
        for n, limit in c["top"]:
            grams = Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
            if grams and len(grams.most_common(1)[0][0]) * grams.most_common(1)[0][1] / len(text) > limit:
                return f"top_{n}_gram"
        for n, limit in c["dup"]:
            if _duplicated(words, n) / len(text) > limit:
                return f"duplicated_{n}_n_grams"
        lines = [line for line in text.split("\n") if line.strip()]
        if sum(line.endswith(_TERMINAL) for line in lines) / len(lines) < c["line_punct_thr"]:
            return "line_punct_ratio"
        seen: Counter[str] = Counter(lines)
        if sum(len(s) * (k - 1) for s, k in seen.items()) / len(text.replace("\n", "")) > 0.1:
            return "char_dup_ratio"
        if text.count("\n") / len(words) > c["new_line_ratio"]:
            return "list_ratio"
        real = [w for w in words if any(ch not in _PUNCTUATION for ch in w)]
        if len(real) < 50:
            return "gopher_short_doc"
        if not c["avg"][0] <= sum(map(len, real)) / len(real) <= c["avg"][1]:
            return "gopher_avg_length"
        if text.count("#") / len(words) > 0.1 or (text.count("...") + text.count("…")) / len(words) > 0.1:
            return "gopher_symbols"
        rows = text.splitlines()
        if sum(s.lstrip().startswith(("•", "-")) for s in rows) / len(rows) > 0.9:
            return "gopher_too_many_bullets"
        if sum(s.rstrip().endswith(("...", "…")) for s in rows) / len(rows) > 0.3:
            return "gopher_too_many_end_ellipsis"
        if sum(any(ch.isalpha() for ch in w) for w in words) / len(words) < c["alpha"]:
            return "gopher_below_alpha_threshold"
        if len(set(c["stopwords"]) & set(words)) < 2:
            return "gopher_enough_stop_words"
        return None

    return judge


def _duplicated(words: list[str], n: int) -> int:
    seen, i, chars = set(), 0, 0
    while i + n <= len(words):
        gram = "".join(words[i : i + n])
        if gram in seen:
            chars += len(gram)
            i += n
        else:
            seen.add(gram)
            i += 1
    return chars


def judges() -> tuple[str, dict[str, Any]]:
    """How the rules are run here, and a judge for each config."""
    try:
        return "datatrove", {c: by_datatrove(c) for c in CONFIGS}
    except ImportError:
        return "the rules said again", {c: by_hand(c) for c in CONFIGS}


if __name__ == "__main__":
    how, judge = judges()
    print(json.dumps({"how": how}))
    for row in sys.stdin:
        asked = json.loads(row)
        print(json.dumps(judge[asked["config"]](asked["text"])))
