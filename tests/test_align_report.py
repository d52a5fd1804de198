"""The page of an alignment: hostile text, samples of every tier and state, cost, narrow and wide, and its command."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tiny_model
import typer
from align_rows import row, stage, verdict
from fake_endpoint import FakeEndpoint
from html_page import Page, drawn
from test_align import answering, corpus
from typer.testing import CliRunner

from fitra import policy
from fitra.align import align, figures, report
from fitra.align import report_text as page
from fitra.cli import align_report
from fitra.errors import FitraError
from fitra.recipe import Align

HOSTILE = (
    '<script>alert("x")</script><img src=http://evil.example/x.png onerror=alert(1)><a href="javascript:alert(1)">'
    "{{ 7*7 }} {% raw %} \u202egnp.exe\u2066\x00\x1b[31m\ud800 </div></bdi></body> ']]> &amp;"
)
CLEAN = "وصل القطار إلى المحطة صباحا ثم غادر بعد ساعة."
ABUSE = "RT [HANDLE]: أنت غبي وحقير يا كلب ولا تفهم شيئا"
CIVIL = "RT [HANDLE]: أنت لا تفهم شيئا"
LONG = f"{CLEAN} " * 400
TIERS = ("untouched", "rules", "edits", "worker", "expert", "drop")
GRADES = json.dumps({"format": 9, "accuracy": 8, "moderation": 10, "advertisement": 7, "detail": 6})


def rows() -> list[dict[str, Any]]:
    made = [
        row(f"n{i:03d}", CLEAN, CLEAN, "unchanged", tier="untouched", reason="nothing to change") for i in range(60)
    ]
    made += [row(f"a{t}{i}", ABUSE, CIVIL, tier=t, reason="moderation.insults") for t in TIERS[1:5] for i in range(5)]
    refused = [verdict("numbers_lost", False, 2.0, detail=f"7 {HOSTILE}"), verdict("length")]
    made += [
        row("kept", CLEAN + " 7", CLEAN, "keep_original", reason=f"gates: numbers_lost {HOSTILE}", verdicts=refused)
    ]
    made += [row("q", ABUSE, None, "quarantine", tier="worker", reason="unsafe (hate), no rule applies")]
    made += [row("d", "اشتر الآن", "", "drop", tier="drop", reason="nothing left: ads")]
    made += [row("long", LONG.replace("صباحا", "صباحا ،", 1), LONG, tier="expert", reason="format")]
    made += [row("spaces", "سطر\n\n\nسطر\u200f آخر", "سطر\nسطر آخر", tier="rules", reason="format")]
    evil = HOSTILE.replace("\ud800", "")  # parquet holds no lone surrogate
    made += [
        row(
            evil,
            evil,
            evil + " x",
            evil,
            tier=evil,
            reason=evil,
            rewriter=evil,
            verdicts=[verdict(evil, False, detail=evil)],
        ),
        row("evil2", ABUSE + evil, CIVIL + evil, verdicts="{no", policy_hash=evil),
    ]
    return [{k: v.replace("\ud800", "") if isinstance(v, str) else v for k, v in r.items()} for r in made]


NOTES = {
    "plan": {"tiers": {"worker": {"documents": [3, 5], "model": HOSTILE, "prompt_tokens": [1000, 2000], "money": None},
                       "rules": {"documents": [1, 1]}, HOSTILE: 2},
             "documents": 90, "sampled": 9, "unknown": [HOSTILE], "prompt_tokens": [1000, 2000],
             "money": [0.5, 1.25], "hours": [1, 1], HOSTILE: HOSTILE},
    "actual": {"tiers": {"worker": {"documents": 4, "prompt_tokens": 900, "money": 2.5},
                         "expert": {"prompt_tokens": 600}},
               "possibly_paid": 0},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    notes = json.loads(json.dumps(NOTES).replace("\\ud800", ""))
    return stage(tmp_path_factory.mktemp("page") / "align", rows(), notes)


@pytest.fixture(scope="module")
def found(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    model = tiny_model.write(tmp_path_factory.mktemp("model") / "<b>tiny")
    return figures.figures(folder, model=model)


@pytest.fixture(scope="module")
def html(folder: Path, found: dict[str, Any]) -> str:
    return report.write(folder, folder.parent / "out" / "page.html", found).read_text(encoding="utf-8")


def test_hostile_text_is_text(html: str) -> None:
    seen = Page(html)
    assert not {"script", "img", "iframe", "object", "form"} & set(seen.tags)
    for _, attrs in seen.attrs:
        for name, value in attrs.items():
            assert not name.startswith("on")
            assert name not in ("src", "href") or str(value).startswith("#")
            assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b]", str(value))
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b]", html)
    assert "{{ 7*7 }} {% raw %}" in seen.words and "202E" in seen.words and "001B" in seen.words
    assert "default-src 'none'" in html and "url(" not in html and "@import" not in html and "http://evil" in seen.words
    assert "7*7" in seen.words and " 49 " not in seen.words.split("Samples")[-1].split("Of what")[0]


def test_samples_of_every_tier_and_state(html: str, found: dict[str, Any]) -> None:
    words = Page(html).words
    for tier, states in found["tiers"].items():
        if tier in TIERS:
            for state, n in states.items():
                assert re.search(rf"{tier} · {state.replace('_', ' ')} \d+ of {n}\b", words), (tier, state)
    assert "What was tried and did not pass:" in words and "numbers lost 2, limit 0" in words
    assert "The verdicts of 1 rows cannot be read" in words and "under another policy" in words


def test_a_changed_word_is_marked_in_its_place(html: str) -> None:
    assert "أنت <del>غبي وحقير يا كلب ولا</del><ins>لا</ins>" in html
    assert "↵\n" in html and '<span class="badge" title="RIGHT-TO-LEFT MARK">200F</span>' in html
    assert "characters unchanged" in html
    # A line that begins with Latin still runs from right to left.
    assert '<div class="quote" lang="ar" dir="rtl"><bdi dir="rtl">RT [HANDLE]' in html


def test_plan_and_actual(html: str) -> None:
    words = Page(html).words
    assert "in all prompt tokens 1,000 to 2,000 1,500 as planned" in words  # 900 of one tier, 600 of another
    assert "in all money 0.5 to 1.25 2.5 above the plan" in words
    assert "in all hours 1 –" in words and "in all possibly paid – 0" in words
    assert "worker documents 3 to 5 4 as planned" in words
    assert "worker prompt tokens 1,000 to 2,000 900 below the plan" in words and "worker money – 2.5" in words


def test_figures_stand_on_the_page(html: str, found: dict[str, Any]) -> None:
    words = Page(html).words
    flagged = found["toxicity"]["rules"]["flagged"]
    change = f"−{100 * flagged['headings']['any']['reduction']:.1f}%"
    assert f"{change} toxicity of the {flagged['n']} flagged by the rules" in words
    for part in (
        "accept",
        "Facts kept",
        "Refusals",
        "Perplexity",
        "Five aspects",
        "fitra-embedded-aspects/1",
        "<b>tiny",
    ):
        assert part in words
    assert f"{found['documents']} documents" in words


def test_equal_stages_give_equal_pages(folder: Path, found: dict[str, Any], html: str, tmp_path: Path) -> None:
    assert report.write(folder, tmp_path / "again.html", found).read_text(encoding="utf-8") == html


def test_pages_of_little_and_of_nothing(tmp_path: Path) -> None:
    empty = stage(tmp_path / "none", [])
    words = Page(report.write(empty, tmp_path / "a.html").read_text(encoding="utf-8")).words
    assert "0 documents" in words and "No gate refused anything" in words and "Cost" not in words
    one = stage(tmp_path / "one", [row("1", "", "", "unchanged", tier=None, reason=None)], {"plan": {"tokens": 5}})
    words = Page(report.write(one, tmp_path / "b.html").read_text(encoding="utf-8")).words
    assert "Only the plan is known" in words and "not recorded · unchanged 1 of 1" in words
    odd = stage(
        tmp_path / "odd", [row("1", CLEAN, CLEAN)], {"plan": "none", "actual": {"tiers": [1], "tokens": [1, "x"]}}
    )
    assert "Nothing was planned" in Page(report.write(odd, tmp_path / "c.html").read_text(encoding="utf-8")).words


def test_a_run_with_models_from_its_rows_to_its_page(tmp_path: Path) -> None:
    """No row made by hand: what `align` writes is what the page reads."""
    source = corpus(tmp_path / "c", ["نص  أول هنا للقراءة.", "نص  ثان هنا للقراءة.", "نص ثالث لا يجاب عنه."])
    worker = answering(lambda t: t.replace("  ", " ") if "أول" in t else "عذرا، لا أستطيع المساعدة.")
    expert = answering(lambda t: t.replace("  ", " ") if "ثان" in t else "")
    align(Align(triage="all"), source, tmp_path / "a", backends={"worker": worker, "expert": expert})
    words = Page(report.write(tmp_path / "a", tmp_path / "p.html").read_text(encoding="utf-8")).words
    assert "worker · accept 1 of 1" in words and "expert · accept 1 of 1" in words
    assert "expert · keep original 1 of 1" in words and "under another policy" not in words
    assert re.search(r"in all prompt tokens [\d,]+ to [\d,]+ ", words)
    assert re.search(r"worker documents 3 1 below the plan", words)
    assert re.search(r"worker requests 3( to \d+)? [3-5] (as planned|above the plan)", words)
    assert "Unknown when it was planned: " in words


def test_many_kinds_of_reasons_do_not_make_a_heavy_page(tmp_path: Path) -> None:
    many = [row(f"{i:04d}", CLEAN, CIVIL, reason=f"reason {i}") for i in range(700)]
    groups = report.samples(stage(tmp_path / "align", many))
    assert [g["n"] for g in groups] == [700] and len(groups[0]["rows"]) <= report.KINDS * report.EACH


def test_small_parts() -> None:
    assert 'dir="ltr"' in page.quote("only English") and 'dir="rtl"' in page.quote("RT عربي كله")
    assert page.show("a\u202eb") == 'a<span class="badge" title="RIGHT-TO-LEFT OVERRIDE">202E</span>b'
    assert page.differences("أ  ب", "أ ب").count("<del>␣</del>") == 1
    assert "cut here" in page.differences("x " * 5000, "y " * 5000)
    left, right = page.both("قال المدير الغبي كلاما", "قال المدير كلاما")
    assert "<del>الغبي </del>" in left and "<del>" not in right and "<ins>" not in left
    assert page.columns([("a", [0, 0])], ["1", "2"], "none") == ""
    assert "<title>a, 1: 3</title>" in page.columns([("a", [3, 0])], ["1", "2"], "some")
    assert page.plain("a\u202eb") == "a<U+202E>b"


def invoke(*args: str) -> Any:
    app = typer.Typer()
    group = typer.Typer()
    app.add_typer(group, name="align")
    group.command("other")(lambda: None)
    align_report.add_to(app)
    return CliRunner().invoke(app, ["align", "report", *args], catch_exceptions=True)


def test_the_command(folder: Path, tmp_path: Path) -> None:
    done = invoke(str(folder), "--out", str(tmp_path / "p.html"), "--sample", "30")
    assert done.exit_code == 0 and done.output.strip() == str(tmp_path / "p.html"), done.output
    with FakeEndpoint(lambda request, seen: GRADES) as server:
        judge = [
            "--judge.base_url",
            server.base_url,
            "--judge.model",
            "m",
            "--judged",
            "3",
            "--ledger",
            str(tmp_path / "l"),
        ]
        done = invoke(str(folder), "--out", str(tmp_path / "q.html"), *judge, "--json")
        got = json.loads(done.output)
        assert got["aspects"]["judge"] and got["aspects"]["rewrites"]["aspects"]["format"]["value"] == 9.0
        asked = len(server.requests)
        invoke(str(folder), "--out", str(tmp_path / "q.html"), *judge)
        assert len(server.requests) == asked  # the answers are in the ledger
    assert "one question for each pair" in Page((tmp_path / "q.html").read_text(encoding="utf-8")).words
    assert "Example: fitra align report" in invoke("--help").output


def test_rows_made_under_packs_are_held_against_them(tmp_path: Path) -> None:
    hash_ = policy.load("default", ["egypt"]).hash
    folder = stage(tmp_path / "s", [row("a", "نص.", None, "unchanged", policy_hash=hash_)])
    for packs, same in (([], False), (["--pack", "egypt"], True)):
        done = invoke(str(folder), "--out", str(tmp_path / "p.html"), *packs, "--json")
        assert json.loads(done.output)["policy"]["same"] is same, done.output
        page = Page((tmp_path / "p.html").read_text(encoding="utf-8")).words
        assert ("made under another policy" in page) is not same


def test_the_judges_key_comes_from_the_environment_and_stays_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(align_report.KEY, "sk-canary-123")
    with FakeEndpoint(lambda request, seen: GRADES) as server:
        done = invoke(
            str(folder), "--out", str(tmp_path / "p.html"), "--judge.base_url", server.base_url, "--judge.model", "m",
            "--judged", "2", "--ledger", str(tmp_path / "ledger"), "--json",
        )  # fmt: skip
        assert any("sk-canary-123" in h for h in server.headers)
    kept = b"".join(f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())
    assert b"sk-canary" not in kept and "sk-canary" not in done.output


def test_the_command_says_what_is_missing(folder: Path, tmp_path: Path) -> None:
    half = invoke(str(folder), "--judge.base_url", "http://127.0.0.1:9")
    assert isinstance(half.exception, FitraError) and "--judge.model" in str(half.exception)
    assert isinstance(invoke(str(tmp_path)).exception, FitraError)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_chromium_draws_the_page(html: str, tmp_path: Path, width: int) -> None:
    starts_right = (  # a quotation that begins with «RT» in Arabic text
        "(()=>{const r=d.createRange(),"
        "q=[...d.querySelectorAll('.quote bdi')].find(e=>e.textContent.startsWith('RT'));"
        "r.setStart(q.firstChild,0);r.setEnd(q.firstChild,10);"
        "return r.getBoundingClientRect().right>q.getBoundingClientRect().right-20})()"
    )
    wide, scripts, ran, rtl = drawn(html, tmp_path, width, starts_right)
    assert wide <= width, "the page scrolls sideways"
    assert (scripts, ran, rtl) == ("0", "no", "true")
