"""The list of pairs to judge: every model against every other on the questions all have, blind and balanced.

Which answer stands first, who judges what and in which order are drawn from the seed. Each pair of models has every
question shown in both orders as evenly as can be; each rater gets as many tasks as the others. The task rows say
nothing of the models; the key, which the raters do not see, does.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from fitra.artifacts import canonical_json, open_stage, read_manifest
from fitra.errors import FitraError
from fitra.evaluate.card import bad
from fitra.evaluate.human.records import OTHER, rows
from fitra.evaluate.human.score import RATERS

VERSION = 1
ANSWERS = ("answer", "response", "output")  # names of the column with the answer
QUESTIONS = ("prompt", "question", "query")
IDS = ("id", "question_id", "prompt_id")
Answer = dict[str, Any]  # id, category, prompt, answer


def read_answers(path: Path) -> tuple[dict[str, Answer], list[dict[str, str]]]:
    """A model's answers by question id, and the rows set aside.

    JSON lines or parquet with id, prompt, answer (or the names in IDS, QUESTIONS, ANSWERS) and maybe category. Raises
    FitraError where a file has none of the names, or no answer.
    """
    found: dict[str, Answer] = {}
    aside = []
    column = _column(Path(path), ANSWERS)
    for row, where, reason in rows(Path(path), column):
        ident = _first(row or {}, IDS)
        prompt = _first(row or {}, QUESTIONS)
        if row is None or not ident or not prompt or ident in found:
            reason = reason or ("no id" if not ident else "no prompt" if not prompt else "this id again")
            aside.append(bad(ident, where, reason))
            continue
        category = row.get("category")
        found[ident] = {
            "id": ident, "prompt": prompt, "answer": row[column],
            "category": category if isinstance(category, str) else "",
        }  # fmt: skip
    if not found:
        raise FitraError(f"{path}: no answer that can be judged.", f"{aside[0]['reason'] if aside else 'No row'}.")
    return found, aside


def _column(path: Path, names: Sequence[str]) -> str:
    for name in names:
        try:
            next(iter(rows(path, name)), None)
        except FitraError:
            if name == names[-1]:
                raise
            continue
        return name
    return names[0]


def _first(row: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((str(row[n]) for n in names if isinstance(row.get(n), str | int) and str(row[n]).strip()), "")


def make(
    answers: Mapping[str, Path],
    out: Path,
    raters: int | Sequence[str] = RATERS,
    questions: int | None = None,
    seed: int = 7,
) -> dict[str, Any]:
    """Write the plan of an evaluation of two models or more; the manifest.

    `answers` is model -> file; `raters` how many judge each pair, or the names of all raters, of whom RATERS judge each
    pair and one more breaks ties. `questions` draws so many, evenly by category. Writes tasks.jsonl {task, rater,
    tie_break, question, category, prompt, answer_first, answer_second}, key.jsonl {task, question, category, model_a,
    model_b, first (a or b), rater, tie_break} and quarantine/. The manifest's notes count answers that name a model.
    Raises FitraError for fewer than two models, too few raters, or no common question.
    """
    if len(answers) < 2:
        raise FitraError("one model alone cannot be compared.", "Give two files of answers or more: NAME=FILE.")
    each = raters if isinstance(raters, int) else RATERS
    names = [f"r{i + 1}" for i in range(each + 1)] if isinstance(raters, int) else list(raters)
    if each < 1 or len(set(names)) < each + 1:
        raise FitraError(
            f"{len(set(names))} raters; {each} judge each pair and one more breaks ties.", f"Name {each + 1} or more."
        )
    config = {"raters": names, "each": each, "questions": questions, "seed": seed, "models": sorted(answers)}
    inputs = {f"answers_{i}": Path(answers[m]) for i, m in enumerate(sorted(answers))}
    with open_stage(out, stage="human_plan", config={"plan": config}, inputs=inputs, version=VERSION) as st:
        if not st.done:
            held, aside = {}, []
            for model in sorted(answers):
                held[model], more = read_answers(Path(answers[model]))
                aside += more
            common, more = _common(held)
            aside += more
            if aside:
                st.quarantine(aside)
            if not common:
                raise FitraError("the files have no question in common.", "Ids and prompts must be the same in all.")
            rng = np.random.default_rng(seed)
            chosen = draw(common, held, questions, rng)
            tasks = assign(chosen, held, names, each, rng)
            for name, columns in (("tasks", TASK), ("key", KEY)):
                st.write_text(
                    f"{name}.jsonl", "".join(canonical_json({k: t[k] for k in columns}) + "\n" for t in tasks)
                )
            st.counts.update({"tasks": sum(not t["tie_break"] for t in tasks), "questions": len(chosen)})
            st.notes["names_in_answers"] = named(held, chosen)
    return read_manifest(out)


TASK = ("task", "rater", "tie_break", "question", "category", "prompt", "answer_first", "answer_second")
KEY = ("task", "question", "category", "model_a", "model_b", "first", "rater", "tie_break")


def _common(held: Mapping[str, Mapping[str, Answer]]) -> tuple[list[str], list[dict[str, str]]]:
    """Questions that all models answered, with the same prompt; and what was set aside."""
    models = list(held)
    good, aside = [], []
    for ident in sorted(set().union(*held.values())):
        lacking = [m for m in models if ident not in held[m]]
        if lacking:
            aside.append(bad(ident, lacking[0], "not answered by every model"))
        elif len({held[m][ident]["prompt"] for m in models}) > 1:
            aside.append(bad(ident, models[0], "the models were asked different prompts"))
        else:
            good.append(ident)
    return good, aside


def draw(
    common: Sequence[str], held: Mapping[str, Mapping[str, Answer]], most: int | None, rng: np.random.Generator
) -> list[str]:
    """At most `most` questions, one category after the other in turn, each category in random order."""
    by: dict[str, list[str]] = defaultdict(list)
    first = next(iter(held.values()))
    for i in rng.permutation(len(common)):
        by[first[common[i]]["category"]].append(common[i])
    turns = [[(place, c, q) for place, q in enumerate(qs)] for c, qs in sorted(by.items())]
    return [q for _, _, q in sorted(x for t in turns for x in t)][:most]


def assign(
    chosen: Sequence[str],
    held: Mapping[str, Mapping[str, Answer]],
    names: Sequence[str],
    each: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Tasks in the order in which they are to be shown, rater by rater; tie-breaks last."""
    order = [names[i] for i in rng.permutation(len(names))]
    load: Counter[str] = Counter()
    made: list[dict[str, Any]] = []
    start = 0
    for a, b in combinations(sorted(held), 2):
        turn = int(rng.integers(2))  # one pair of models after the other: each has its orders balanced on its own
        for question in chosen:
            if len(names) == each + 1:
                people = order  # slots: the last one breaks ties everywhere
            else:
                people = sorted(order, key=lambda n: (load[n], (order.index(n) - start) % len(order)))
                start += 1
            for place, rater in enumerate(people[: each + 1]):
                tie_break = place == each  # may never be asked: it takes no part in the balance
                first = "ab"[int(rng.integers(2)) if tie_break else turn % 2]
                if not tie_break:
                    load[rater] += 1
                    turn += 1
                sides = {"a": held[a][question], "b": held[b][question]}
                made.append(
                    {
                        "question": question, "category": sides["a"]["category"], "prompt": sides["a"]["prompt"],
                        "model_a": a, "model_b": b, "first": first, "rater": rater, "tie_break": tie_break,
                        "answer_first": sides[first]["answer"], "answer_second": sides[OTHER[first]]["answer"],
                    }
                )  # fmt: skip
    shuffled = [made[i] for i in rng.permutation(len(made))]
    shuffled.sort(key=lambda t: (t["tie_break"], t["rater"]))
    return [{"task": f"t{n:06d}", **t} for n, t in enumerate(shuffled, 1)]


def named(held: Mapping[str, Mapping[str, Answer]], chosen: Sequence[str]) -> int:
    """Answers that say the name of one of the models: such a pair is not blind."""
    say = re.compile("|".join(rf"\b{re.escape(m)}\b" for m in held), re.IGNORECASE)
    return sum(bool(say.search(held[m][q]["answer"])) for m in held for q in chosen)
