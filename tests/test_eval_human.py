"""Human evaluation: known values of every figure, what may not change them, blind plans, bad rows by name."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch", reason="needs fitra[train]")

from fitra.artifacts import read_manifest, read_table
from fitra.cli import app
from fitra.errors import FitraError
from fitra.evaluate import human
from fitra.evaluate.human import agreement, elo
from fitra.evaluate.human.records import Vote
from fitra.evaluate.human.score import decide, figures

# Fleiss (1971) by way of its best-known worked example: 10 subjects, 14 raters, 5 categories; kappa 0.210.
FLEISS = [
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1), (7, 7, 0, 0, 0),
    (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
]  # fmt: skip
# Krippendorff's example with three coders, 15 units and missing values; nominal alpha 0.691.
CODERS = ("*****34121133*3", "1*213343*******", "**21344*21133*4")


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return path


def votes(seed: int = 0, questions: int = 40, noise: float = 0.3) -> list[Vote]:
    """Three raters on three models, the first of them better; now and then a fourth."""
    rng = random.Random(seed)
    out = []
    for q in range(questions):
        for a, b in (("m1", "m2"), ("m1", "m3"), ("m2", "m3")):
            truth = rng.choice(["a", "a", "a", "b", "tie", "both_bad"])
            three = [rng.choice(human.VERDICTS) if rng.random() < noise else truth for _ in range(3)]
            out += [
                Vote(f"q{q}", a, b, f"r{i}", v, "ab"[(q + i) % 2], category=f"c{q % 3}") for i, v in enumerate(three)
            ]
            if len(set(three)) == 3:
                out.append(Vote(f"q{q}", a, b, "r3", truth, "a", tie_break=True))
    return out


def test_fleiss_kappa_of_the_worked_example() -> None:
    sums = agreement.parts(FLEISS).sum(axis=0, keepdims=True)
    assert agreement.observed(sums)[0] == pytest.approx(0.378, abs=5e-4)
    assert agreement.fleiss(sums)[0] == pytest.approx(0.210, abs=5e-4)


def test_krippendorffs_alpha_of_the_worked_example() -> None:
    units = [[sum(c[u] == k for c in CODERS) for k in "1234"] for u in range(15)]
    sums = agreement.parts(units).sum(axis=0, keepdims=True)
    assert agreement.krippendorff(sums)[0] == pytest.approx(0.691, abs=5e-4)


def test_agreement_by_hand() -> None:
    """Two units, three raters: (a a b) and (a a a). P = (1/3 + 1) / 2; shares 5/6, 1/6; chance 26/36."""
    made = [Vote("q1", "x", "y", f"r{i}", v) for i, v in enumerate("aab")]
    made += [Vote("q2", "x", "y", f"r{i}", "a") for i in range(3)]
    got = agreement.figures(agreement.by_unit(made), 0)
    assert got["observed"]["value"] == pytest.approx(2 / 3)
    assert got["fleiss_kappa"]["value"] == pytest.approx((2 / 3 - 26 / 36) / (1 - 26 / 36))
    # alpha: disagreement observed (6 - (1 + 3)) / 6 = 1/3, expected (36 - 26) / (6 * 5) = 1/3.
    assert got["krippendorff_alpha"]["value"] == pytest.approx(0.0)
    assert got["observed"]["n"] == 2
    same = [Vote(f"q{i}", "x", "y", f"r{j}", "a") for i in range(3) for j in range(3)]
    got = agreement.figures(agreement.by_unit(same), 0)
    assert got["observed"]["value"] == 1 and got["fleiss_kappa"]["value"] is None
    assert agreement.figures(agreement.by_unit(made[:1]), 0) == {}


def test_majority_and_the_fourth_rater() -> None:
    def said(*verdicts: str, fourth: str = "") -> list[Vote]:
        made = [Vote("q", "x", "y", f"r{i}", v) for i, v in enumerate(verdicts)]
        return made + ([Vote("q", "x", "y", "r9", fourth, tie_break=True)] if fourth else [])

    assert decide(said("a", "b", "a")) == ("a", "majority")
    assert decide(said("a", "b", "tie")) == (None, "undecided")
    assert decide(said("a", "b", "tie", fourth="b")) == ("b", "tie_break")
    assert decide(said("a", "b", "tie", fourth="both_bad")) == (None, "undecided")
    assert decide(said("a", "b", "a", fourth="b")) == ("a", "majority")  # nobody needed it
    assert decide(said("a", "a")) == (None, "incomplete")
    assert decide(said("a"), raters=1) == ("a", "majority")


def test_elo_by_hand() -> None:
    """Equal ratings move by K/2; the second win of the same model by K (1 - 1 / (1 + 10^(-32/400)))."""
    two = elo.play(np.array([[[0, 1], [0, 1]]]), np.array([[[1.0, 0.0], [1.0, 0.0]]]), 2)
    gain = 32 * (1 - 1 / (1 + 10 ** (-32 / 400)))
    assert two[0].tolist() == pytest.approx([1016 + gain, 984 - gain])
    one = [elo.Game("q", "x", "y", "both_bad")]
    assert [r["value"] for r in elo.elo(one, "default").values()] == [1000, 1000]
    assert [r["value"] for r in elo.elo(one, "custom").values()] == [984, 984]  # zero for both: both lose
    tie = [elo.Game("q", "x", "y", "tie")]
    assert {r["value"] for s in elo.SCORES for r in elo.elo(tie, s).values()} == {1000}
    win = elo.elo([elo.Game("q", "x", "y", "b")], "custom", k=10)
    assert [(m, r["value"]) for m, r in win.items()] == [("y", 1005), ("x", 995)]


def test_bradley_terry_of_two_is_the_log_odds() -> None:
    games = [elo.Game(f"q{i}", "x", "y", "a" if i < 30 else "b") for i in range(40)]
    got = elo.bradley_terry(games, True)
    assert got["x"]["value"] - got["y"]["value"] == pytest.approx(400 * math.log10(3), abs=0.01)
    assert got["x"]["ci_low"] < got["x"]["value"] < got["x"]["ci_high"]
    never = elo.bradley_terry(games[:30], True)
    assert never["x"] == {"value": None, "ci_low": None, "ci_high": None, "bounded": False}
    bad = [*games, *(elo.Game(f"z{i}", "x", "y", "both_bad") for i in range(40))]
    assert elo.bradley_terry(bad, False)["x"]["value"] == pytest.approx(got["x"]["value"])
    assert elo.bradley_terry(bad, True)["x"]["value"] < got["x"]["value"]


def test_elo_finds_strengths_whatever_the_order_of_the_file() -> None:
    """Strengths 1200, 1000, 800: the ratings come out in that order, and a shuffled file changes nothing."""
    rng = random.Random(1)
    true = {"x": 1200, "y": 1000, "z": 800}
    games = []
    for q in range(300):
        for a, b in (("x", "y"), ("x", "z"), ("y", "z")):
            p = 1 / (1 + 10 ** ((true[b] - true[a]) / 400))
            games.append(elo.Game(f"q{q}", a, b, "a" if rng.random() < p else "b"))
    terry = elo.bradley_terry(games, True)
    assert list(terry) == ["x", "y", "z"]
    assert all(abs(terry[m]["value"] - true[m]) < 60 for m in true)
    first = elo.elo(games, "default", seed=1)
    rng.shuffle(games)
    other = elo.elo(games, "default", seed=2)
    for m in true:
        assert abs(first[m]["value"] - other[m]["value"]) < 4 * first[m]["order_sd"] / math.sqrt(elo.ORDERS) * 2
        assert first[m]["ci_low"] < first[m]["value"] < first[m]["ci_high"]
    assert list(other) == ["x", "y", "z"]


def test_names_of_raters_and_the_order_of_rows_change_nothing() -> None:
    made = votes()
    want = figures(made)
    shuffled = random.Random(5).sample(made, len(made))
    assert figures(shuffled) == want
    names = {"r0": "زيد", "r1": "zz", "r2": "a", "r3": "m"}
    renamed = figures([replace(v, rater=names[v.rater]) for v in made])
    old = want.pop("raters")
    new = renamed.pop("raters")
    want["warnings"] = renamed["warnings"] = []  # they name raters
    assert renamed == want and {names[k]: v for k, v in old.items()} == new


def test_swapping_the_two_models_of_a_row_changes_nothing(tmp_path: Path) -> None:
    row = {"question": "q", "model_a": "x", "model_b": "y", "rater": "r", "verdict": "a", "first": "b"}
    turned = {**row, "model_a": "y", "model_b": "x", "verdict": "b", "first": "a"}
    got = [human.read([lines(tmp_path / f"{i}.jsonl", [r])])[0] for i, r in enumerate((row, turned))]
    assert got[0] == got[1] == [Vote("q", "x", "y", "r", "a", "b")]


def test_tables_are_the_shares_of_the_majority() -> None:
    made = votes()
    got = figures(made)
    for name, t in got["pairs"].items():
        a, b = name.split(" / ")
        assert sum(t[w]["value"] for w in ("win", "tie", "loss", "both_bad")) == pytest.approx(1)
        verdicts = Counter(
            decide(v)[0] for u, v in agreement.by_unit(made).items() if u[2:] == (a, b) and decide(v)[0] is not None
        )
        assert t["n"] == sum(verdicts.values()) and t["win"]["value"] == verdicts["a"] / t["n"]
        assert t["win"]["ci_low"] <= t["win"]["value"] <= t["win"]["ci_high"]
    assert set(got["categories"]) == {"c0", "c1", "c2"}
    assert got["counts"]["pairs"] == sum(got["counts"][s] for s in ("majority", "tie_break", "undecided", "incomplete"))
    assert next(iter(got["elo"]["default"])) == "m1"
    custom, default = ({m: r["value"] for m, r in got["elo"][s].items()} for s in ("custom", "default"))
    assert sum(custom.values()) < sum(default.values()) == pytest.approx(3000)


def test_a_rater_who_takes_the_first_answer_is_seen() -> None:
    made = votes(noise=0.1)
    lazy = [replace(v, verdict=v.first) if v.rater == "r2" else v for v in made]
    got = figures(lazy)
    assert got["raters"]["r2"]["first"]["value"] == 1.0
    assert got["raters"]["r2"]["agreement"]["value"] < got["raters"]["r0"]["agreement"]["value"] - 0.1
    assert any("rater 'r2': 100%" in w for w in got["warnings"])
    # Questions and raters take turns in what stands first: an honest rater's share does not leave one half.
    assert got["raters"]["r0"]["first"]["ci_low"] < 0.5 < got["raters"]["r0"]["first"]["ci_high"]


GOOD = {"question": "q", "model_a": "x", "model_b": "y", "rater": "r1", "verdict": "tie"}
BAD = [
    ("verdict 'A' is not one of", {**GOOD, "rater": "z1", "verdict": "A"}),
    ("no 'rater'", {**GOOD, "rater": " "}),
    ("no 'question'", {**GOOD, "question": None}),
    ("'x' against itself", {**GOOD, "model_b": "x"}),
    ("judged this pair before: first 'tie', then 'a'", {**GOOD, "verdict": "a"}),
    ("judged this pair before: the same way", GOOD),
    ("'first' is neither", {**GOOD, "rater": "z2", "first": "left"}),
    ("'turn' is no number", {**GOOD, "rater": "z3", "turn": -1}),
    ("its key is needed", {"task": "t1", "rater": "r", "verdict": "first"}),
    ("'verdict' is a int", {**GOOD, "verdict": 3}),
    ("", "{no json"),
]


def test_bad_rows_are_set_aside_with_their_reason(tmp_path: Path) -> None:
    path = lines(tmp_path / "r.jsonl", [GOOD, *(r for _, r in BAD)])
    got, aside = human.read([path])
    assert len(got) == 1 and len(aside) == len(BAD)
    for (reason, _), row in zip(BAD, sorted(aside, key=lambda a: int(a["where"].rsplit(":", 1)[1])), strict=True):
        assert reason in row["reason"] and "r.jsonl:" in row["where"]
    with pytest.raises(FitraError, match="no judgement that can be counted"):
        human.read([lines(tmp_path / "none.jsonl", [BAD[0][1]])])
    with pytest.raises(FitraError):
        human.read([lines(tmp_path / "other.jsonl", [{"a": 1}])])
    with pytest.raises(FitraError):
        human.read([tmp_path / "missing.jsonl"])


def answers(path: Path, model: str, n: int = 12, **more: str) -> Path:
    return lines(
        path,
        [
            {
                "id": f"q{i}",
                "category": f"c{i % 3}",
                "prompt": f"ما {i}؟",
                "answer": f"{'جواب' * (i + 1)} {hash_of(model, i)}",
            }
            for i in range(n)
        ],
    )


def hash_of(model: str, i: int) -> int:
    return sum(map(ord, model)) * 31 + i


def test_a_plan_is_blind_balanced_and_repeatable(tmp_path: Path) -> None:
    files = {m: answers(tmp_path / f"{m}.jsonl", m) for m in ("allam", "jais", "command")}
    people = ["ali", "mona", "sara", "omar", "huda"]
    got = human.make(files, tmp_path / "p1", raters=people, seed=3)
    human.make(dict(reversed(files.items())), tmp_path / "p2", raters=people, seed=3)
    human.make(files, tmp_path / "p3", raters=people, seed=4)
    text = [(tmp_path / p / "tasks.jsonl").read_text(encoding="utf-8") for p in ("p1", "p2", "p3")]
    assert text[0] == text[1] != text[2]
    assert not any(m in text[0] for m in files)
    tasks = [json.loads(x) for x in text[0].splitlines()]
    key = {k["task"]: k for k in map(json.loads, (tmp_path / "p1/key.jsonl").read_text(encoding="utf-8").splitlines())}
    assert got["counts"]["tasks"] == 3 * 12 * 3 == sum(not t["tie_break"] for t in tasks)
    for pair in (("allam", "command"), ("allam", "jais"), ("command", "jais")):
        mine = [k for k in key.values() if (k["model_a"], k["model_b"]) == pair and not k["tie_break"]]
        assert abs(2 * sum(k["first"] == "a" for k in mine) - len(mine)) <= 1
        for q in range(12):
            said = [
                k["rater"] for k in key.values() if k["question"] == f"q{q}" and (k["model_a"], k["model_b"]) == pair
            ]
            assert len(set(said)) == 4
    load = Counter(t["rater"] for t in tasks if not t["tie_break"])
    assert max(load.values()) - min(load.values()) <= 1
    for t in tasks:
        k = key[t["task"]]
        first, second = (k["model_a"], k["model_b"])[:: 1 if k["first"] == "a" else -1]
        i = int(t["question"][1:])
        assert t["answer_first"].endswith(str(hash_of(first, i))) and t["answer_second"].endswith(
            str(hash_of(second, i))
        )
    few = human.make(files, tmp_path / "p4", questions=6)
    asked = {json.loads(x)["question"] for x in (tmp_path / "p4/tasks.jsonl").read_text(encoding="utf-8").splitlines()}
    assert few["counts"]["questions"] == 6 and Counter(int(q[1:]) % 3 for q in asked) == {0: 2, 1: 2, 2: 2}


def test_plan_sets_aside_what_cannot_be_compared(tmp_path: Path) -> None:
    a = lines(tmp_path / "a.jsonl", [{"id": i, "prompt": "p", "response": f"I am Jais {i}"} for i in range(4)])
    b = lines(tmp_path / "b.jsonl", [{"id": i, "prompt": "p" if i else "other", "response": "x"} for i in range(3)])
    got = human.make({"allam": a, "jais": b}, tmp_path / "plan", raters=1)
    assert got["counts"] == {"quarantined": 2, "tasks": 2, "questions": 2} and got["notes"]["names_in_answers"] == 2
    with pytest.raises(FitraError, match="one model alone"):
        human.make({"allam": a}, tmp_path / "x")
    with pytest.raises(FitraError, match="3 raters"):
        human.make({"allam": a, "jais": b}, tmp_path / "y", raters=["x", "y", "z"])


def test_from_plan_to_scores_by_the_commands(tmp_path: Path) -> None:
    """A rater who always prefers one model, whatever its place: that model wins all, with no position bias."""
    files = [f"{m}={answers(tmp_path / f'{m}.jsonl', m)}" for m in ("allam", "jais")]
    run = CliRunner()
    done = run.invoke(app, ["eval", "human", "plan", *files, "--out", str(tmp_path / "plan")])
    assert done.exit_code == 0, done.output
    key = [json.loads(x) for x in (tmp_path / "plan/key.jsonl").read_text(encoding="utf-8").splitlines()]
    said = [
        {"task": k["task"], "rater": k["rater"], "verdict": "first" if k["first"] == "a" else "second"}
        for k in key if not k["tie_break"]
    ]  # fmt: skip
    records = lines(tmp_path / "said.jsonl", [*said, {"task": "t999999", "rater": "r1", "verdict": "tie"}])
    command = ["eval", "human", "score", str(records), "--key", str(tmp_path / "plan/key.jsonl"), "--out"]
    done = run.invoke(app, [*command, str(tmp_path / "scores")])
    assert done.exit_code == 3, done.output
    found = json.loads((tmp_path / "scores/figures.json").read_text(encoding="utf-8"))
    win = found["pairs"]["allam / jais"]["win"]
    assert (win["value"], win["n"]) == (1.0, 12) and 0.7 < win["ci_low"] < 1
    assert found["position"]["value"] == 0.5
    assert any("no finite answer" in w for w in found["warnings"])
    assert read_manifest(tmp_path / "scores")["counts"]["quarantined"] == 1
    units = read_table(tmp_path / "scores", "units").to_pylist()
    assert {(u["verdict"], u["state"], u["a"]) for u in units} == {("a", "majority", 3)}
    assert "allam" in done.output
