"""From a task card and a file to cards of questions. One builder for every benchmark: what differs is data.

load("acva")                          # or a YAML file of your own
cards(card, path, shots=0, limit=500, protocols=["oall"])
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fitra.errors import FitraError
from fitra.evaluate import defects, template
from fitra.evaluate.card import Card, Item, bad, blank, read, same_text, take, unique
from fitra.evaluate.taskcard import Data, Part, Prompt, TaskCard, columns, load, names

__all__ = ["Question", "TaskCard", "cards", "example", "load", "names", "questions", "render"]
LETTERS = {
    **{c: i for i, c in enumerate("ABCDEFGHIJ")},
    **dict(zip(("أ", "ا", "ب", "ج", "د", "ه", "هـ"), (0, 0, 1, 2, 3, 4, 4), strict=True)),
}
YES = {"true", "yes", "1", "نعم", "صح", "صحيح", "صحيحة"}
NO = {"false", "no", "0", "لا", "خطأ", "خاطئ", "خاطئة"}
LONG = 200  # characters: a passage that names a cluster is cut to a hash beyond


@dataclass(frozen=True)
class Question:
    """A row that can be asked."""

    id: str
    test: bool  # else a worked example
    text: str
    options: tuple[str, ...]
    gold: int
    category: str = ""
    cluster: str = ""
    answers: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)  # fields of the prompt
    lacking: Mapping[str, str] = field(default_factory=dict)  # field -> why this row does not have it


def questions(task: TaskCard, path: Path) -> tuple[list[Question], list[dict[str, str]]]:
    """The rows of a file in its order, and those set aside with a reason. Other splits are passed over.

    Raises FitraError for a missing file or column, and where the split column never says `data.test`.
    """
    data = task.data
    good: list[Question] = []
    aside: list[dict[str, str]] = []
    seen: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}  # by role: splits may be numbered alike
    rows = read(path, list(dict.fromkeys(columns(data))), task.name, data.aliases)
    for n, row in enumerate(rows):
        split = str(row[data.split]) if data.split else ""
        test = not data.split or split in data.test
        names_ = [row.get(c) for c in ((data.id,) if isinstance(data.id, str) else data.id)]
        rid = unique(None if None in names_ else "-".join(map(str, names_)), n, seen[test])
        if data.split and not test and split not in data.shots:
            if not split.strip() or row[data.split] is None:
                aside.append(bad(rid, path, f"'{data.split}' is empty"))
            continue
        asked = _question(row, rid, test, data)
        if isinstance(asked, str):
            aside.append(bad(rid, path, asked))
        else:
            good.append(asked)
    if rows and data.split and not any(str(r[data.split]) in data.test for r in rows):
        raise FitraError(
            f"{path}: no row has {data.split} = {' or '.join(data.test)}, so there is nothing to ask.",
            f"It says: {', '.join(sorted({str(r[data.split]) for r in rows})[:8])}.",
        )
    return good, aside


def _question(row: Mapping[str, Any], rid: str, test: bool, data: Data) -> Question | str:
    """The row, or why it cannot be asked."""
    empty = blank(row, [data.question])
    if empty:
        return f"'{empty}' is empty"
    options = _options(row, data)
    if isinstance(options, str):
        return options
    answers: tuple[str, ...] = ()
    if data.answers:
        given = row[data.answers]
        answers = tuple(x for x in (given if isinstance(given, list) else [given]) if isinstance(x, str) and x.strip())
        if not answers:
            return f"'{data.answers}' is empty"
    gold: int | None = 0
    if data.answer:
        gold = _gold(row[data.answer], data, options)
        if gold is None:
            shown = str(row[data.answer])[:40]
            return f"{data.answer} '{shown}' is none of the {len(options) or 2} options, written as {data.gold}"
    values, lacking = {"question": row[data.question]}, {}
    for name, part in data.fields.items():
        text, reason = _field(row, part if isinstance(part, Part) else Part(of=part))
        values[name] = text
        if reason:
            lacking[name] = reason
    for name in sorted(template.fields(data.category, "category") & set(lacking)):
        return lacking[name]
    values["category"] = template.render(data.category, values)
    cluster = next((row[c] for c in (*data.cluster, data.question) if isinstance(row[c], str) and row[c].strip()), "")
    key = same_text(cluster)
    return Question(
        rid,
        test,
        row[data.question],
        options,
        gold or 0,
        values["category"],
        key if len(key) <= LONG else hashlib.sha256(key.encode()).hexdigest()[:16],
        answers,
        values,
        lacking,
    )


def _options(row: Mapping[str, Any], data: Data) -> tuple[str, ...] | str:
    given: Sequence[Any]
    if isinstance(data.options, str):
        given = row[data.options] if isinstance(row[data.options], list) else []
        least = data.min_options or 2
    else:
        given = [row.get(c) for c in data.options]
        least = data.min_options or len(given)
    texts = [str(x) if x is not None and str(x).strip() else "" for x in given]
    while texts and not texts[-1]:
        texts.pop()
    if "" in texts:
        return f"option {texts.index('') + 1} of {len(texts)} is empty"
    if len(texts) < least:
        return f"{len(texts)} options where {least} are needed"
    return tuple(texts)


def _gold(value: Any, data: Data, options: tuple[str, ...]) -> int | None:
    """Index of the right option; None where the value names none."""
    text = str(value).strip() if value is not None else ""
    found: int | None = None
    if data.gold == "yes_no":
        return 0 if text.lower() in YES else 1 if text.lower() in NO else None
    if data.gold == "letter":
        found = LETTERS.get(text.upper())
    elif data.gold == "text":
        return options.index(str(value)) if options.count(str(value)) == 1 else None
    elif text.removesuffix(".0").isdecimal():
        found = int(text.removesuffix(".0")) - (data.gold == "number")
    return found if found is not None and 0 <= found < len(options) else None


def _field(row: Mapping[str, Any], part: Part) -> tuple[str, str]:
    """(text, why it is missing)."""
    cell = row[part.of]
    value = "" if cell is None else str(cell)
    if not value.strip():
        return ("", f"'{part.of}' is empty") if part.missing is None else (part.missing, "")
    if part.map and value not in part.map and part.other == "refuse":
        return "", f"{part.of} '{value[:40]}' is not known to the card"
    return template.render(part.text, {"value": part.map.get(value, value)}), ""


def cards(
    task: TaskCard,
    path: Path,
    shots: int | None = None,
    limit: int | None = None,
    protocols: Sequence[str] | None = None,
) -> tuple[list[Card], list[dict[str, str]]]:
    """A card for each protocol (all of the task card, in its order), and the rows set aside.

    `shots` worked examples, the first of the same category, or as published where None; a protocol without a few-shot
    form is asked without. `limit` takes the same questions under every protocol.
    Raises FitraError for an unknown protocol, and for what `questions` refuses.
    """
    chosen = list(task.protocols if protocols is None else protocols)
    for name in chosen:
        if name not in task.protocols:
            there = ", ".join(task.protocols)
            raise FitraError(f"{task.name}: no protocol '{name}'.", f"There are: {there}.")
    rows, aside = questions(task, path)
    facts, warnings = describe(task, rows)
    defect = defects.find(rows, defects.RULES.get(task.name))
    test = take((q for q in rows if q.test), limit, task.name)
    worked: dict[str, list[Question]] = defaultdict(list)
    for q in rows:
        if not q.test:
            worked["" if task.data.any_shots else q.category].append(q)
    made = []
    for name in chosen:
        p = task.protocols[name]
        n = (p.shots if shots is None else shots) if p.few else 0
        used = _used(p, n)
        shown = {
            category: [example(p, s) for s in of if not used & set(s.lacking)][:n] for category, of in worked.items()
        }
        items, fewer = [], 0
        for q in test:
            lacking = sorted(used & set(q.lacking))
            if lacking:
                aside.append(bad(q.id, path, f"{name}: {q.lacking[lacking[0]]}"))
                continue
            examples = shown.get("" if task.data.any_shots else q.category, [])
            fewer += len(examples) < n
            items.append(render(p, q, "".join(examples)))
        told = list(warnings)
        if n and facts.get("test_rows_in_dev"):
            told.append("few-shot examples come from dev, part of which is in test")
        if fewer:
            told.append(f"{fewer} of {len(items)} prompts have fewer than {n} worked examples")
        told += [p.note] if p.note else []
        made.append(
            Card(
                f"{task.name}_{name}",
                protocol_text(task, name, n),
                p.kind,
                p.metrics,
                defects.mark(items, defect),
                tuple(told),
                p.per_byte,
                {**facts, "items": len(items), "items_sha256": hash_of(items)},
                p.extract,
                p.max_new_tokens,
                p.chat,
                p.bare,
                str(p.version),
                task.name,
                task.by_category(),
                p.last_token,
                p.stop,
            )
        )
    return made, aside


def _used(p: Prompt, shots: int) -> set[str]:
    """Fields that the prompt needs with this many examples."""
    texts = [p.few.head, p.few.shot, p.few.ask or p.ask] if p.few and shots else [p.ask]
    return set().union(*(template.fields(t, "") for t in texts))


def example(p: Prompt, q: Question) -> str:
    """A worked example, its answer included; '' under a protocol without a few-shot form."""
    if not p.few:
        return ""
    return template.render(p.few.shot, {**_values(p, q), "answer": (q.answers or _scored(p, q)[q.gold :])[0]})


def render(p: Prompt, q: Question, examples: str = "") -> Item:
    """One question under a protocol, after the worked examples if there are any."""
    options = tuple(p.lead + o for o in _scored(p, q))
    if p.kind == "generate":  # a model may answer with the letter or repeat the option: reading `letter` takes both
        options = q.options if p.extract == "letter" else _scored(p, q)
    values = _values(p, q)
    asked, before = p.ask, ""
    if examples and p.few:
        asked, before = p.few.ask or p.ask, template.render(p.few.head, values) + examples
    return Item(
        q.id,
        before + template.render(asked, values),
        options,
        q.gold,
        cluster=q.cluster,
        category=q.category,
        answers=q.answers,
    )


def _scored(p: Prompt, q: Question) -> tuple[str, ...]:
    """What is compared or told apart: labels or the options' texts."""
    if q.answers:
        return ()
    return q.options if p.scored == "text" else p.labels[: len(q.options) or None]


def _values(p: Prompt, q: Question) -> dict[str, str]:
    lines = (
        template.render(p.option, {"letter": p.labels[k] if p.labels else "", "text": text})
        for k, text in enumerate(q.options)
    )
    return {**q.values, "options": p.join.join(lines)}


def protocol_text(task: TaskCard, name: str, shots: int) -> str:
    """The protocol in one line; two scores are comparable when it is the same."""
    p = task.protocols[name]
    if p.kind == "generate":
        read_by = f"read by {p.extract}" if p.extract else "compared with the accepted answers"
        template_ = "through the model's chat template" if p.chat else "no chat template"
        until = f" or to {json.dumps(list(p.stop))}" if p.stop else ""
        how = f"greedy, at most {p.max_new_tokens} new tokens{until}, {read_by}; {template_}"
    else:
        what = "each option's text" if p.scored == "text" else " ".join(f"'{p.lead}{x}'" for x in p.labels)
        per = "per UTF-8 byte" if p.per_byte else "summed, not normalised"
        how = f"log-likelihood of {what}, {per}; no chat template"
        if p.last_token:
            how = f"logit of the last token of {what} at the prompt's last position; no chat template"
    return f"{task.name}-{name}/{p.version} ({p.about}): {shots}-shot, {how}"


def hash_of(items: Sequence[Item]) -> str:
    """Sixteen hex digits over ids, prompts, options and gold: equal where the same was asked in the same way."""
    digest = hashlib.sha256()
    for i in items:
        digest.update(json.dumps([i.id, i.prompt, i.options, i.gold, i.answers], ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()[:16]


def describe(task: TaskCard, rows: Sequence[Question]) -> tuple[dict[str, Any], list[str]]:
    """(figures counted from this very file, warnings). Two questions are the same when passage, question and options
    are, white space, diacritics and tatweel aside."""
    keys = ["\n".join([same_text(q.text), q.cluster, *sorted(same_text(o) for o in q.options)]) for q in rows]
    truths: dict[str, set[str]] = defaultdict(set)
    for key, q in zip(keys, rows, strict=True):
        truths[key].add(same_text(q.options[q.gold]) if q.options else str(q.gold))
    test = [key for key, q in zip(keys, rows, strict=True) if q.test]
    dev = {key for key, q in zip(keys, rows, strict=True) if not q.test}
    facts: dict[str, Any] = {
        "rows": len(rows),
        "distinct": len(truths),
        "both_labels": sum(len(v) > 1 for v in truths.values()),
        "test_rows": len(test),
        "test_distinct": len(set(test)),
        "test_rows_in_dev": sum(k in dev for k in test),
    }
    warnings = []
    if task.rows is not None and len(test) != task.rows:
        warnings.append(f"{len(test):,} of the {task.rows:,} published test questions")
    if facts["distinct"] < len(rows):
        warnings.append(
            f"{len(rows):,} rows hold {facts['distinct']:,} distinct questions ({len(test):,} test rows, "
            f"{facts['test_distinct']:,} distinct): the interval treats repeats as one cluster"
        )
    if facts["both_labels"]:
        warnings.append(f"{facts['both_labels']} questions carry more than one answer")
    if facts["test_rows_in_dev"]:
        warnings.append(f"{facts['test_rows_in_dev']} test rows repeat a dev question")
    warnings += task.defects
    if task.data.gold == "yes_no" and test:
        yes = sum(q.gold == 0 for q in rows if q.test) / len(test)
        facts["test_yes"] = sum(q.gold == 0 for q in rows if q.test)
        warnings.append(f"always answering yes scores accuracy {yes:.3f} and macro-F1 {yes / (1 + yes):.3f}")
    return facts, warnings
