"""The page of an evaluation: figures as they are, hostile text, models side by side, narrow and wide, its command."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from html_page import Page, drawn
from typer.testing import CliRunner

pytest.importorskip("torch", reason="needs fitra[train]")

from fitra.artifacts import open_stage
from fitra.cli import app
from fitra.errors import FitraError
from fitra.evaluate import human, report, report_data
from fitra.evaluate.bias import tables
from fitra.evaluate.card import Card, Item

HOSTILE = (
    '<script>alert("x")</script><img src=http://evil.example/x.png onerror=alert(1)><a href="javascript:alert(1)">'
    "{{ 7*7 }} {% raw %} \u202egnp.exe\u2066\x1b[31m </div></bdi></body> كتاب"
)
TASK = HOSTILE.replace("/", "|")  # a task's name ends at the first stroke


def score(value: float, n: int, **more: Any) -> dict[str, Any]:
    return {
        "metric": "accuracy", "value": value, "ci_low": value - 0.1, "ci_high": value + 0.1, "n": n, "clusters": n,
        "interval": "wilson", "higher_is_better": True, "protocol": "mcq/1: letters", "warnings": [], **more,
    }  # fmt: skip


def item(i: int, right: bool, task: str = "mcq", **more: Any) -> dict[str, Any]:
    gold = i % 4
    picked = gold if right else (gold + 1) % 4
    return {
        "task": task, "id": f"q{i:03d}", "slices": [], "cluster": f"q{i:03d}", "category": f"topic {i % 3}",
        "prompt": f"السؤال: ما {i}؟\nالإجابة:", "options": [" أ", " ب", " ج", " د"],
        "scores": [-1.25 if k == picked else -3.5 for k in range(4)], "gold": gold, "predicted": picked,
        "correct": right, "parts": [float(right), 1.0], "output": None, "defects": [],
        "lengths": [1, 1, 1, 1], "bare_scores": [-2.0] * 4, **more,
    }  # fmt: skip


def write(folder: Path, rows: list[dict[str, Any]], scores: dict[str, Any], tables: dict[str, Any] | None = None,
          contamination: dict[str, Any] | None = None) -> Path:  # fmt: skip
    """An evaluation on disk, as `fitra eval run` leaves it."""
    with open_stage(folder, stage="evaluate", config={"n": folder.name}, inputs={}, licence_class="B") as st:
        st.write_table("items", pa.Table.from_pylist(rows))
        st.write_json("scores.json", scores)
        if tables is not None:
            st.write_json("tables.json", tables)
        if contamination is not None:
            st.write_json("contamination.json", contamination)
    return folder


def tables_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What `fitra.evaluate.bias` makes of rows like these."""
    items = tuple(
        Item(r["id"], r["prompt"], tuple(r["options"]), r["gold"], category=r["category"], cluster=r["cluster"])
        for r in rows
    )
    return tables(Card(rows[0]["task"], "p", "choice", ("accuracy",), items), rows)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    where = tmp_path_factory.mktemp("page")
    made = {}
    for name, right in (("base", 3), ("ours", 2)):
        rows = [item(i, i % right != 0) for i in range(60)]
        good = sum(r["correct"] for r in rows) / 60
        written = [
            item(i, False, "said", output=f"لا أعلم {i}", scores=[], predicted=None) if i % 5 == 0
            else item(i, True, "said", output="الجواب: أ", scores=[])
            for i in range(20)
        ]  # fmt: skip
        evil = [
            item(
                i, False, TASK, id=f"{HOSTILE}{i}", category=HOSTILE, prompt=HOSTILE, options=[HOSTILE, "x"],
                scores=[-2.0, -1.0], lengths=[9, 1], bare_scores=[], gold=0, predicted=1, output=HOSTILE,
                defects=[HOSTILE],
            )
            for i in range(3)
        ]  # fmt: skip
        cleaned = {"value": good - 0.011, "ci_low": 0.2, "ci_high": 0.8, "n": 51}
        scores = {
            "mcq": score(good, 60, cleaned=cleaned, warnings=["5 test rows repeat a dev statement"]),
            "mcq/heldout": score(0.5, 30),
            "said": score(0.8, 20, unparsed=0.2),
            TASK: score(0.0, 3, protocol=HOSTILE, warnings=[HOSTILE]),
            "bpb_ar": score(1.234, 5, metric="bits_per_byte", higher_is_better=False),
        }
        made[name] = write(
            where / name, rows + written + evil, scores, {"mcq": tables_of(rows), TASK: tables_of(evil)},
            contamination={"benchmarks": {"mcq": {"items": 60, "indexed": 55, "found": 4, "documents_read": 9}}},
        )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def html(folders: dict[str, Path]) -> str:
    return report.write(folders, folders["base"].parent / "page.html").read_text(encoding="utf-8")


def test_hostile_text_is_text(html: str) -> None:
    seen = Page(html)
    assert not {"script", "img", "iframe", "object", "form", "link"} & set(seen.tags)
    for _, attrs in seen.attrs:
        for name, value in attrs.items():
            assert not name.startswith("on")
            assert name not in ("src", "href") or str(value).startswith("#")
            assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b]", str(value))
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b]", html)
    assert "{{ 7*7 }} {% raw %}" in seen.words and "202E" in seen.words
    assert "default-src 'none'" in html and "url(" not in html and "@import" not in html
    assert seen.words.count("{{ 7*7 }}") > 8  # task, protocol, warning, category, prompt, option, output, table ...


def test_scores_stand_as_published_and_cleaned(html: str) -> None:
    words = Page(html).words
    assert "base 66.7% 56.7% to 76.7% 65.6% 20.0% to 80.0% of 51 60" in words
    assert "ours 50.0% 40.0% to 60.0% 48.9% 20.0% to 80.0% of 51 60" in words
    assert "5 test rows repeat a dev statement" in words and "1 thing to know" in words
    assert "1.234" in words and "lower is better" in words and "123.4%" not in words
    assert "heldout" in words and "licence class B" in words
    assert "mcq base 4 of 60 6.7% 55 9" in words  # contamination


def test_differences_are_those_of_compare(html: str, folders: dict[str, Path]) -> None:
    from fitra.evaluate import compare

    got = compare(folders["base"], folders["ours"], seed=0)["mcq"]
    words = Page(html).words
    assert f"mcq −16.7 {100 * got['ci_low']:+.1f} to".replace("to -", "to −").replace(" -", " −") in words
    assert (">worse</span>" in html) == (got["ci_high"] < 0) and ">not told apart</span>" in html


def test_verdict_follows_the_direction_of_the_metric() -> None:
    up = {"ci_low": 0.1, "ci_high": 0.2, "higher_is_better": True}
    assert report_data._verdict(up) == "better"
    assert report_data._verdict({**up, "higher_is_better": False}) == "worse"
    assert report_data._verdict({**up, "ci_low": -0.1}) == "not told apart"
    assert report_data._verdict({"ci_low": None, "ci_high": None}) == ""


def test_figures_are_read_as_what_they_are() -> None:
    assert (report.figure(0.5), report.figure(1.0), report.figure(None)) == ("50.0%", "100.0%", "–")
    assert (report.figure(0.9, "bits_per_byte"), report.figure(1.2, "rating")) == ("0.900", "1.200")
    assert (report.gap(-0.1), report.gap(-0.591, "rating"), report.gap(0.0)) == ("−10.0", "−0.591", "+0.0")


def test_categories_and_their_order(html: str, folders: dict[str, Path]) -> None:
    found = report_data.collect(folders)
    task = next(t for t in found["tasks"] if t["name"] == "mcq")
    values = [c["by"]["base"]["value"] for c in task["categories"]]
    assert values == sorted(values, reverse=True) and len(values) == 3
    assert [c["n"] for c in task["categories"]] == [20, 20, 20]
    assert task["chance"] == 0.25
    words = Page(html).words
    assert "topic 0" in words
    # Equal bare scores change no order: the same accuracy under PMI. Label words are not divided by their length.
    assert re.search(r"summed 66\.7% \S+ to \S+ 50\.0% \S+ to \S+ against the bare prompt \(PMI\) 66\.7%", words)
    assert "Not per token or per byte: the options are label words" in words


def test_letters_chosen_and_right(folders: dict[str, Path]) -> None:
    task = next(t for t in report_data.collect(folders)["tasks"] if t["name"] == "mcq")
    rows = task["letters"]["rows"]
    assert [x["name"] for x in rows] == ["أ", "ب", "ج", "د"]
    assert [x["gold"] for x in rows] == [0.25] * 4
    assert sum(x["by"]["ours"] for x in rows) == pytest.approx(1)
    assert task["letters"]["tests"]["knows the questions"]["base"][0] == "yes"


def test_unparsed_answers_are_counted(html: str) -> None:
    assert "answers base ours not read 20.0%" in Page(html).words
    assert "لا أعلم" in html


def test_samples_of_every_outcome_and_never_too_many(folders: dict[str, Path], tmp_path: Path) -> None:
    task = next(t for t in report_data.collect(folders)["tasks"] if t["name"] == "mcq")
    for c in task["samples"]:
        assert c["n"] == 20 and c["right"]["base"] == sum(
            1 for i in range(60) if i % 3 != 0 and f"topic {i % 3}" == c["category"]
        )
    outcomes = {tuple(r["right"]) for c in task["samples"] for r in c["rows"]}
    assert {("base",), ("ours",), ("base", "ours"), ()} == outcomes
    long = "كلمة " * 300
    rows = [item(i, i % 2 == 0, category=f"c{i}", prompt=long + f"آخر {i}", options=[long] * 4) for i in range(3000)]
    big = write(tmp_path / "big", rows, {"mcq": score(0.5, 3000)})
    text = report.write({"big": big}, tmp_path / "big.html").read_text(encoding="utf-8")
    assert len(text) < 3_000_000 and text.count('class="sample"') <= report_data.MOST
    assert "آخر" in text  # a prompt is cut at its beginning: the question is at its end


def test_an_old_evaluation_without_tables_or_categories_is_shown(tmp_path: Path) -> None:
    rows = [{k: v for k, v in item(i, True).items() if k not in ("category", "output", "defects")} for i in range(4)]
    bare = {"metric": "accuracy", "value": 1.0, "ci_low": 0.5, "ci_high": 1.0, "n": 4, "higher_is_better": True,
            "protocol": "p", "warnings": []}  # fmt: skip
    old = write(tmp_path / "old", rows, {"mcq": bare})
    words = Page(report.write({"old": old}, tmp_path / "p.html").read_text(encoding="utf-8")).words
    assert "100.0% 50.0% to 100.0%" in words and "Categories" not in words and "Differences" not in words


def test_people_stand_on_the_page(tmp_path: Path) -> None:
    said = tmp_path / "said.jsonl"
    rows = [
        {"question": f"q{i}", "model_a": "ours", "model_b": HOSTILE, "rater": f"r{j}", "verdict": "ab"[i % 3 == 0]}
        for i in range(12) for j in range(3)
    ]  # fmt: skip
    said.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    human.score([said], tmp_path / "human")
    words = Page(report.write({"people": tmp_path / "human"}, tmp_path / "p.html").read_text(encoding="utf-8")).words
    assert "36 votes of 3 raters on 12 pairs: 12 by majority" in words and "fleiss kappa 1.000" in words
    assert "ours 66.7%" in words and "202E" in words


def test_the_same_evaluations_give_the_same_page(folders: dict[str, Path], html: str, tmp_path: Path) -> None:
    assert report.write(folders, tmp_path / "again.html").read_text(encoding="utf-8") == html


def test_the_command(folders: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "p.html"
    done = CliRunner().invoke(
        app, ["eval", "report", str(folders["base"]), f"mine={folders['ours']}", "--out", str(out)]
    )
    assert done.exit_code == 0 and out.is_file(), done.output
    words = Page(out.read_text(encoding="utf-8")).words
    assert "mine minus base" in words
    twice = CliRunner().invoke(app, ["eval", "report", f"a={folders['base']}", f"a={folders['ours']}"])
    assert isinstance(twice.exception, FitraError) and "given twice" in str(twice.exception)
    with pytest.raises(FitraError, match="not finished"):
        report.write({"x": tmp_path}, tmp_path / "x.html")


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_in_chromium(html: str, tmp_path: Path, width: int) -> None:
    """Fits its width with everything open, runs nothing, loads nothing, and Arabic runs from the right."""
    also = (
        "(()=>{const q=[...d.querySelectorAll('.quote')].find(x=>x.textContent.includes('السؤال'));"
        "return getComputedStyle(q).direction+' '+d.querySelectorAll('article.sample').length})()"
    )
    wide, scripts, ran, found = drawn(html.replace("<details>", "<details open>"), tmp_path, width, also)
    assert wide <= width and scripts == "0" and ran == "no"
    assert found.startswith("rtl ") and int(found.split()[1]) > 5
