"""What is wrong with a benchmark's rows, found in the file itself, so that every score stands twice.

`find` marks test rows:

- `duplicate`: the same question, options and passage came before in the test part; the first is kept.
- `two_labels`: the same question is given with different answers, in any part; all of them are marked.
- `in_dev`: it is also among the worked examples.
- `overwritten`, `foreign_options`: another question, or its options, stand in its place (`RULES`, by benchmark).
- `equal_options`, `empty_option`, `option_count`: options that are the same, blank, or more or fewer than they must be.
- `answer_outside`: the answer is none of the options.
- `contaminated`: a document of the training corpus holds it (`contaminated`, which needs the corpus).

Texts are the same when they differ in white space, tashkeel and tatweel alone (`card.same_text`).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from fitra import arabic, tables
from fitra.evaluate.card import Card, Item, same_text
from fitra.recipe import Contamination
from fitra.signals import contamination
from fitra.signals.view import view

_LETTER = re.compile(r"^\W*\w{1,2}[).:\-] +")  # «أ) », "A. "
SHOWN = 5  # documents named for each contaminated item


class Asked(Protocol):
    """A row of a benchmark, without the prompt around it: `benchmark.Question` is one."""

    @property
    def id(self) -> str: ...
    @property
    def test(self) -> bool: ...
    @property
    def text(self) -> str: ...
    @property
    def options(self) -> tuple[str, ...]: ...
    @property
    def gold(self) -> int: ...
    @property
    def answers(self) -> tuple[str, ...]: ...
    @property
    def cluster(self) -> str: ...


Rule = Callable[[Asked], str]  # the name of the defect, or ''


def key(row: Asked) -> str:
    """Under which two rows are the same question: its text, its options in any order, and its passage if it has one."""
    passage = "" if row.cluster in ("", same_text(row.text)) else row.cluster
    return "\n".join([same_text(row.text), passage, *sorted(same_text(o) for o in row.options)])


def find(
    rows: Sequence[Asked], rule: Rule | None = None, option_count: int | None = None
) -> dict[str, tuple[str, ...]]:
    """Defects of the test rows that have some, by id. `rule` finds those of one benchmark; see RULES."""
    keys = [key(r) for r in rows]
    dev = {k for k, r in zip(keys, rows, strict=True) if not r.test}
    labels = _labels(rows, keys)
    seen: set[str] = set()
    out: dict[str, tuple[str, ...]] = {}
    for k, row in zip(keys, rows, strict=True):
        if not row.test:
            continue
        texts = [same_text(o) for o in row.options]
        named = {
            "duplicate": k in seen,
            "two_labels": len(labels[k]) > 1,
            "in_dev": k in dev,
            rule(row) if rule else "": True,
            "empty_option": any(not t for t in texts),
            "equal_options": len(set(texts)) < len(texts),
            "option_count": option_count is not None and len(texts) != option_count,
            "answer_outside": bool(texts) and not 0 <= row.gold < len(texts),
        }
        seen.add(k)
        marks = tuple(name for name, there in named.items() if name and there)
        if marks:
            out[row.id] = marks
    return out


def mark(items: Iterable[Item], found: Mapping[str, tuple[str, ...]]) -> tuple[Item, ...]:
    """The items with the defects that `find` gave, by id, added to those they have."""
    return tuple(
        replace(i, defects=tuple(dict.fromkeys((*i.defects, *found[i.id])))) if i.id in found else i for i in items
    )


def counts(rows: Sequence[Asked], found: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Figures for the manifest: as written, and with white space, tashkeel and tatweel aside.

    The two differ: of ACVA's 8,711 test rows 5,970 are distinct as written and 5,961 with tashkeel aside.
    """
    test = [r for r in rows if r.test]
    out: dict[str, Any] = {"rows": len(rows), "test_rows": len(test)}
    for name, of in (("as_written", _written), ("folded", key)):
        keys = {id(r): of(r) for r in rows}
        labels = _labels(test, [keys[id(r)] for r in test])
        dev = {keys[id(r)] for r in rows if not r.test}
        out[name] = {
            "distinct": len(set(keys.values())),
            "test_distinct": len(labels),
            "two_labels": sum(len(v) > 1 for v in labels.values()),
            "two_labels_rows": sum(len(labels[keys[id(r)]]) > 1 for r in test),
            "test_rows_in_dev": sum(keys[id(r)] in dev for r in test),
        }
    out["defects"] = dict(sorted(Counter(d for marks in found.values() for d in marks).items()))
    out["clean"] = sum(r.id not in found for r in test)
    return out


def _written(row: Asked) -> str:
    return "\n".join([row.text.strip(), row.cluster, *sorted(row.options)])


def _labels(rows: Sequence[Asked], keys: Sequence[str]) -> dict[str, set[str]]:
    """The answers given to each question: texts, since options may be in another order; accepted texts never clash."""
    labels: dict[str, set[str]] = defaultdict(set)
    for k, row in zip(keys, rows, strict=True):
        inside = 0 <= row.gold < len(row.options)
        labels[k].add("" if row.answers else same_text(row.options[row.gold]) if inside else str(row.gold))
    return labels


# -- MMLU-ar ---------------------------------------------------------------------------------------------------------
#
# In the Arabic MMLU of AceGPT the translator answered a long or odd row with the example of its own prompt: «how is
# IP address spoofing detected», with four options of network security; the row kept its old answer letter. The rule:
#
#   overwritten      the question names an IP address (عنوان or عناوين, and IP, الآي بي or بروتوكول الإنترنت), and
#                    option B speaks of TTL or option D of TCP;
#   foreign_options  the options do, under another question (some of it is still there, and no option answers it).
#
# One row of computer security is that question by right, as its English twin shows. Words are folded before comparing.

_ADDRESS = re.compile("عنوان|عناوين|address")
_NETWORK = re.compile(r"\bip\b|اي ?بي|بروتوكول|انترنت|internet")
_ORIGINAL = (
    "كيف يتم اكتشاف تزييف عنوان IP؟",
    "تثبيت وتكوين نظام كشف التسلل (IDS) الذي يمكنه قراءة رأس IP",
    "مقارنة قيم TTL للعناوين الفعلية والمزيفة",
    "تنفيذ جدار حماية على الشبكة",
    "تحديد جميع جلسات TCP التي تم بدئها ولم تكتمل بنجاح",
)


def overwritten_mmlu_ar(row: Asked) -> str:
    """'overwritten', 'foreign_options' or '' for a row of MMLU-ar, by the rule above."""
    if len(row.options) != 4 or (row.text, *row.options) == _ORIGINAL:
        return ""
    second, last = (arabic.fold(row.options[i], level="search") for i in (1, 3))
    if "ttl" not in second and "tcp" not in last:
        return ""
    asked = arabic.fold(row.text, level="search")
    return "overwritten" if _ADDRESS.search(asked) and _NETWORK.search(asked) else "foreign_options"


RULES: dict[str, Rule] = {"mmlu_ar": overwritten_mmlu_ar}  # by Card.benchmark


# -- contamination ---------------------------------------------------------------------------------------------------


def contaminated(
    cards: Sequence[Card], corpus: Sequence[Path | str], cfg: Contamination | None = None, text: str = "text"
) -> tuple[list[Card], list[dict[str, Any]], dict[str, Any]]:
    """Cards whose items that a document of `corpus` holds are marked `contaminated`; the evidence; the figures.

    `corpus`: files, folders or finished stages, streamed a batch at a time: memory holds the index of the benchmarks
    and, for each item found, its best documents, whatever the corpus weighs. `cfg` says when a document holds a row
    (`share` of its word n-grams); the benchmarks that it names are not used. The evidence has a row for each item
    found: benchmark, id, share (the highest), documents (how many), in (ids of the best five). Figures by benchmark:
    items, indexed (others are too short to be told), found, documents_read.
    Raises FitraError for a corpus that cannot be read, and where no item is long enough.
    """
    cfg = cfg or Contamination()
    first: dict[str, Card] = {}
    for card in cards:
        if card.items and card.kind in ("choice", "generate", "text", "preference"):
            first.setdefault(card.benchmark or card.task, card)
    rows = [(name, i.id, own) for name, card in first.items() for i, own in own_texts(card)]
    index = contamination.build(rows, cfg.ngram, cfg.min_words, cfg.common)
    best: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    total: Counter[tuple[str, str]] = Counter()
    read = 0
    for path in corpus:
        for file in tables.resolve(str(path)):
            for batch in tables.read(file, text):
                read += len(batch.rows)
                if not batch.rows:
                    continue
                for hit in index.find(view([r[text] for r in batch.rows]), cfg.min_share, cfg.min_grams):
                    row = batch.rows[hit.doc]
                    ident = row.get("id", row.get("doc_id"))
                    at = (hit.benchmark, hit.row)
                    total[at] += 1
                    best[at].append((-hit.share, str(row["_where"] if ident is None else ident)))
                    best[at] = sorted(best[at])[:SHOWN]
    evidence = [
        {
            "benchmark": b,
            "id": i,
            "share": -best[b, i][0][0],
            "documents": total[b, i],
            "in": [d for _, d in best[b, i]],
        }
        for b, i in sorted(best)
    ]
    indexed = index.rows_by_benchmark()
    figures = {
        name: {
            "items": len(card.items),
            "indexed": indexed.get(name, 0),
            "found": sum(e["benchmark"] == name for e in evidence),
            "documents_read": read,
        }
        for name, card in first.items()
    }
    found = {(e["benchmark"], e["id"]): ("contaminated",) for e in evidence}
    out = []
    for card in cards:
        name = card.benchmark or card.task
        hits = {i.id: found[name, i.id] for i in card.items if (name, i.id) in found}
        told = (f"{len(hits)} of {len(card.items)} items are in the corpus given",) if hits else ()
        out.append(replace(card, items=mark(card.items, hits), warnings=(*card.warnings, *told)) if hits else card)
    return out, evidence, figures


def own_texts(card: Card) -> Iterable[tuple[Item, list[str]]]:
    """Each item with the texts that are its own: the lines of its prompt without the template, and its options.

    A prompt opens with instructions and worked examples that say nothing about the item: what all prompts of a category
    begin with, as whole lines, then what all items begin and end with, as whole words. A letter before an option is
    cut, and labels as options are no texts.
    """
    by_category: dict[str, list[Item]] = defaultdict(list)
    for i in card.items:
        by_category[i.category].append(i)
    own = [i.prompt for i in card.items]
    if card.kind != "text":
        everywhere = _shared([i.prompt for i in card.items], "\n")
        lines = {c: max(everywhere, _shared([i.prompt for i in items], "\n")) for c, items in by_category.items()}
        own = [i.prompt[lines[i.category] :] for i in card.items]
        # An item alone in its category may keep worked examples: it does not say what the others have in common.
        several = [x for i, x in zip(card.items, own, strict=True) if len(by_category[i.category]) > 1] or own
        head = several[0][: _shared(several, " \n")]
        tail = several[0][len(several[0]) - _shared([x.removeprefix(head)[::-1] for x in several], " \n") :]
        own = [x.removeprefix(head).removesuffix(tail) for x in own]
    labels = len({i.options for i in card.items}) == 1 and len(card.items) > 1
    for i, text in zip(card.items, own, strict=True):
        yield i, [*(_LETTER.sub("", x) for x in text.split("\n")), *([] if labels else i.options), *i.answers]


def _shared(texts: Sequence[str], breaks: str) -> int:
    """How much all texts begin with, up to the last break in it; nothing where there is but one text."""
    a, b = min(texts), max(texts)  # what the first and the last in order share, all between share too
    if a == b:
        return 0
    n = next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return max(a[:n].rfind(x) for x in breaks) + 1
