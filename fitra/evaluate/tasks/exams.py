"""EXAMS, Arabic part: school examination questions with four options (Hardalov et al. 2020, AceGPT's files).

`exams_oall`: the prompt of OALL and lm-eval's `arabic_exams`; the log-likelihood of the letters أ ب ج د is compared.
AceGPT generates Latin letters instead, and lm-eval's `aexams` scores Latin letters: other tests, other scores.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from fitra.evaluate.card import Card, Item, bad, blank, read, same_text, take, unique

COLUMNS = ("split", "subject", "question", "A", "B", "C", "D", "answer")
LETTERS = ("أ", "ب", "ج", "د")
PUBLISHED_TEST_ROWS = 537


def load(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Rows with a unique id and a gold index 0-3, and the rows set aside."""
    good, aside = [], []
    seen: Counter[str] = Counter()
    for n, row in enumerate(read(path, COLUMNS, "EXAMS")):
        rid = unique(row.get("id"), n, seen)
        empty = blank(row, COLUMNS)
        if empty or row["answer"].strip() not in ("A", "B", "C", "D"):
            aside.append(bad(rid, path, f"'{empty}' is empty" if empty else f"answer '{row['answer']}' is not A-D"))
            continue
        good.append({**row, "id": rid, "gold": "ABCD".index(row["answer"].strip())})
    return good, aside


def prompt(row: dict[str, Any], shots: list[dict[str, Any]]) -> str:
    """The test question after the worked ones, as lm-eval renders `arabic_exams` (target delimiter one space)."""

    def ask(r: dict[str, Any]) -> str:
        head = f"الأسئلة التالية هي أسئلة متعددة الإختيارات مع الجواب الصحيح حول {r['subject'].replace('_', ' ')}. \n\n"
        options = "\n".join(f" {letter}) {r[k]}\n" for letter, k in zip(LETTERS, "ABCD", strict=True))
        return f"{head}السؤال: {r['question']}\n{options}\nالإجابة:"

    return "".join(f"{ask(s)} {LETTERS[s['gold']]}\n\n" for s in shots) + ask(row)


def cards(path: Path, shots: int, limit: int | None) -> tuple[list[Card], list[dict[str, str]]]:
    """The test rows; shots are the first dev rows of the same subject."""
    rows, aside = load(path)
    subjects: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for r in rows:
        if r["split"] == "dev":
            subjects[r["subject"]].append(r)
    test = [r for r in rows if r["split"] == "test"]
    keys = Counter(same_text(r["question"]) for r in test)
    dev = {same_text(r["question"]) for r in rows if r["split"] == "dev"}
    facts = {
        "rows": len(rows),
        "test_rows": len(test),
        "test_distinct": len(keys),
        "test_rows_in_dev": sum(same_text(r["question"]) in dev for r in test),
    }
    warnings = ["public since 2020, so it may be in pre-training data"]
    if len(test) != PUBLISHED_TEST_ROWS:
        warnings.append(f"{len(test)} of the {PUBLISHED_TEST_ROWS} published test questions")
    if len(keys) < len(test):
        warnings.append(f"{len(test)} test rows hold {len(keys)} distinct questions")
    if facts["test_rows_in_dev"]:
        warnings.append(f"{facts['test_rows_in_dev']} test rows repeat a dev question")
    items = take(
        (
            Item(
                r["id"],
                prompt(r, subjects[r["subject"]][:shots]),
                tuple(" " + x for x in LETTERS),
                r["gold"],
                cluster=same_text(r["question"]),
            )
            for r in test
        ),
        limit,
        "exams",
    )
    text = (
        f"exams-oall/1 (prompt and letters of OALL; shots of the same subject): {shots}-shot, log-likelihood of "
        "' أ' ' ب' ' ج' ' د', summed, not normalised; no chat template"
    )
    return [Card("exams_oall", text, "choice", ("accuracy",), items, tuple(warnings), facts=facts)], aside
