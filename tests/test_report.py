"""The report: honest words, hostile text, any subset of stages, nothing loaded from outside."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from html_page import Page, drawn

from fitra import page, report
from fitra.artifacts import DOCUMENT_SCHEMA, open_stage, write_json
from fitra.errors import FitraError
from fitra.report import charts, data, models, stages, text, verdict

HOSTILE = '<script>alert("x")</script><img src=http://evil.example/x.png onerror=alert(1)> {{ 7*7 }} \u202egnp.exe'
ARABIC = "هذا نص عربي قصير عن مدينة القاهرة وأهلها الكرام"
RUDE = "هؤلاء الناس أوغاد لا خير فيهم وهم يعيشون في مدينة القاهرة"
KIND = "هؤلاء الناس من أهل البلد وهم يعيشون في مدينة القاهرة"
RECIPE = "name: t\nalign:\n  endpoint: {base_url: 'http://h/v1', api_key: sk-CANARY-1}\nother: ${HOME}\n"


def documents(texts: list[str], lang: str = "ar", licence: str = "A") -> pa.Table:
    blank = {n: None for n in DOCUMENT_SCHEMA.names}
    rows = [
        {**blank, "id": f"d{i:03d}", "text": t, "lang": lang, "source": "s", "licence_class": licence, "labels": "{}"}
        for i, t in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=DOCUMENT_SCHEMA)


def score(value: float, low: float, high: float, metric: str, **more: Any) -> dict[str, Any]:
    held = {"metric": metric, "value": value, "ci_low": low, "ci_high": high, "n": 40, "protocol": "p/1"}
    return {**held, "warnings": [], **more}


def make_eval(folder: Path, name: str, scores: dict[str, Any], items: list[dict[str, Any]] | None = None) -> None:
    with open_stage(folder / name, stage="evaluate", config={"n": name}, inputs={}) as st:
        st.write_json("scores.json", scores)
        if items:
            st.write_table("items", pa.Table.from_pylist(items))


def make_corpus(folder: Path) -> None:
    with open_stage(folder / "corpus", stage="corpus", config={}, inputs={}, licence_class="C") as st:
        st.write_table("documents", documents([ARABIC] * 3, licence="C"))
        removed = [
            {
                "id": "r1",
                "source": "a<b>.txt",
                "stage": "filter",
                "reason": "too_short",
                "figure": 3.0,
                "text": HOSTILE,
            },
            {"id": "r2", "source": "x", "stage": "dedupe", "reason": "exact", "figure": 1.0, "text": ARABIC},
        ]
        for r in removed:
            r |= {"kept_id": "d000" if r["id"] == "r2" else None, "cluster_id": None}
        st.write_table("removed", pa.Table.from_pylist(removed))
        st.counts |= {"read": 6, "kept": 3, "removed": 2}
        st.quarantine([{"id": "q<1>", "where": "bad.jsonl line 3", "reason": "not JSON <b>"}])


def align_row(i: int, state: str, original: str, rewrite: str | None, reason: str = "rules") -> dict[str, Any]:
    verdicts = [{"gate": "length_ratio", "passed": state == "accept", "figure": 0.9}]
    return {
        "id": f"d{i:03d}", "lang": "ar", "original": original, "rewrite": rewrite, "state": state, "reason": reason,
        "rewriter": "rules", "policy_id": "default", "policy_hash": "f" * 64, "verdicts": json.dumps(verdicts),
        "licence_class": "A",
    }  # fmt: skip


def make_align(folder: Path) -> None:
    with open_stage(folder / "align", stage="align", config={"languages": ["ar"]}, inputs={}) as st:
        rows = [
            align_row(0, "accept", RUDE, KIND),
            align_row(1, "accept", ARABIC + " " + HOSTILE, ARABIC),
            align_row(2, "unchanged", ARABIC, ARABIC),
            align_row(3, "drop", RUDE, None, "nothing but abuse"),
        ]
        st.write_table("rows", pa.Table.from_pylist(rows))
        st.write_table("documents", documents([KIND, ARABIC, ARABIC]))


def make_models(folder: Path) -> None:
    with open_stage(folder / "vocab", stage="vocab", config={}, inputs={}) as st:
        side = {"tokens_per_word": 4.2, "words": 10}
        samples = [{"text": ARABIC, "before": ["ه", "ذ", "ا"], "after": ["هذا"]}]
        figures = {"ar": {"before": side, "after": {**side, "tokens_per_word": 1.9}}, "added": 9, "samples": samples}
        st.write_json("fertility.json", figures)
    for arm, shift in (("original", 0.0), ("aligned", 0.1)):
        with open_stage(folder / f"pretrain-{arm}", stage="pretrain", config={"a": arm}, inputs={}) as st:
            log = [
                {"step": k, "tokens": 1000 * k, "lr": 1e-3, "loss": 7 / k + shift, "loss_ar": 8 / k, "loss_en": 6 / k}
                for k in range(1, 40)
            ]
            st.write_text("log.jsonl", "\n".join(json.dumps(r) for r in log))
    with open_stage(folder / "prefer-aligned", stage="prefer", config={}, inputs={}) as st:
        pairs = [
            {"id": f"p{i}", "prompt": ARABIC, "chosen": KIND, "rejected": HOSTILE, "verdict_ab": "A",
             "verdict_ba": "B" if i else "A", "judge": "embedded"} for i in range(4)
        ]  # fmt: skip
        st.write_table("pairs", pa.Table.from_pylist(pairs))


def run_json(folder: Path, *names: str, recipe: str = RECIPE) -> Path:
    stages = {n: {"folder": n, "seconds": 1.5, "skipped": False} for n in names}
    write_json(folder / "run.json", {"name": "t <i>", "recipe": recipe, "stages": stages})
    return folder / "run.json"


EVALS = {
    "eval-original": {
        "unsafe": score(0.6, 0.5, 0.7, "share_unsafe"),
        "facts_ar": score(0.5, 0.4, 0.6, "accuracy"),
        "bpb_en": score(2.0, 1.9, 2.1, "bits_per_byte", warnings=["24 texts alone <b>"]),
    },
    "eval-aligned": {
        "unsafe": score(0.2, 0.1, 0.3, "share_unsafe"),
        "facts_ar": score(0.52, 0.42, 0.62, "accuracy"),
        "bpb_en": score(2.01, 1.91, 2.11, "bits_per_byte", warnings=["24 texts alone <b>"]),
    },
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every kind of stage; eval-base is listed but was killed."""
    folder = tmp_path_factory.mktemp("run")
    make_corpus(folder)
    make_align(folder)
    make_models(folder)
    for name, scores in EVALS.items():
        make_eval(folder, name, scores)
    names = ("corpus", "align", "vocab", "pretrain-original", "pretrain-aligned", "prefer-aligned", *EVALS, "eval-base")
    run_json(folder, *names)
    return folder


@pytest.fixture(scope="module")
def html(whole: Path) -> str:
    return report.write(whole / "run.json", whole / "out" / "report.html").read_text(encoding="utf-8")


def test_page_is_self_contained_and_well_formed(html: str) -> None:
    page = Page(html)
    assert not set(page.tags) & {"script", "link", "iframe", "object", "img", "form", "base"}
    for tag, attrs in page.attrs:
        assert not any(k.startswith("on") for k in attrs)
        assert attrs.get("href", "#").startswith("#") and "src" not in attrs, (tag, attrs)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in html
    assert "url(" not in html and "@import" not in html
    targets = {a["id"] for _, a in page.attrs if "id" in a}
    assert {a["href"][1:] for t, a in page.attrs if t == "a"} <= targets  # type: ignore[index]


def test_corpus_text_cannot_act(html: str) -> None:
    assert "<script" not in html and "<img" not in html and "a<b>" not in html and "t <i>" not in html
    assert "{{ 7*7 }}" in html, "template syntax in data must stay text"
    assert "\u202e" not in html and 'title="RIGHT-TO-LEFT OVERRIDE">202E' in html


def test_arabic_stands_right_to_left_in_isolation(html: str) -> None:
    assert f'<div class="quote" lang="ar" dir="rtl"><bdi dir="rtl">{ARABIC}' in html
    assert "Noto Naskh Arabic" in html


def test_headline_and_differences(html: str) -> None:
    words = Page(html).words
    assert "Alignment helps here: better on unsafe continuations" in words
    assert "−0.400" in words and "no clear difference" in words
    assert words.count("Warning, 24 texts alone <b>") == 1, "the same warning of both arms is said once there"


def test_bad_rows_and_unfinished_stages_are_said_loudly(html: str) -> None:
    words = Page(html).words
    assert "1 bad row was set aside in corpus." in words and "not JSON <b>" in words
    assert "eval-base is not finished." in words
    assert "must not leave the house" in words  # class C


def test_recipe_is_shown_without_its_secrets(html: str) -> None:
    assert "sk-CANARY-1" not in html and "api_key: [hidden]" in html and "${HOME}" in html


def test_sections_show_what_the_stages_hold(html: str) -> None:
    words = Page(html).words
    for part in ("too short", "nothing but abuse", "length ratio", "−54.8%", "3 of 4 comparisons", "ends at"):
        assert part in words, part
    assert words.count("Not run:") == 1 + ("Toxicity" in words and "scorer could not" in words)  # supervised tuning


def test_same_run_gives_the_same_bytes(whole: Path, html: str) -> None:
    again = report.write(whole / "run.json", whole / "again.html")
    assert again.read_text(encoding="utf-8") == html


def test_a_run_of_corpus_alone_needs_neither_torch_nor_matplotlib(tmp_path: Path) -> None:
    make_corpus(tmp_path)
    make_align(tmp_path)
    path = run_json(tmp_path, "corpus", "align")
    code = (
        "import sys\nfor m in ('torch', 'transformers', 'matplotlib'): sys.modules[m] = None\n"
        "from pathlib import Path\nfrom fitra import report\n"
        f"report.write(Path({str(path)!r}), Path({str(tmp_path / 'r.html')!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    words = Page((tmp_path / "r.html").read_text(encoding="utf-8")).words
    assert "there is no verdict" in words and words.count("Not run:") >= 6


def test_an_empty_run_still_gives_a_page(tmp_path: Path) -> None:
    Page(report.write(run_json(tmp_path), tmp_path / "r.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("body", [None, "{", "[]", '{"stages": {"corpus": 3}}'])
def test_a_bad_run_json_is_an_error_with_its_path(tmp_path: Path, body: str | None) -> None:
    if body is not None:
        (tmp_path / "run.json").write_text(body)
    with pytest.raises(FitraError, match=r"run\.json"):
        report.write(tmp_path / "run.json", tmp_path / "r.html")


# --- the verdict ---------------------------------------------------------------------------------------------------


UNSAFE, FACTS = verdict.QUESTIONS[0], next(q for q in verdict.QUESTIONS if q.key == "facts")


def cell(value: float | None, low: float | None, high: float | None, **more: Any) -> verdict.Score:
    held = {"task": "unsafe", "metric": "m", "n": 40, "protocol": "p", "warnings": []} | more
    return verdict.Score(value=value, low=low, high=high, **held)


@pytest.mark.parametrize(
    ("question", "aligned", "word"),
    [
        (UNSAFE, cell(0.2, 0.1, 0.3), "better"),
        (UNSAFE, cell(0.9, 0.8, 1.0), "worse"),
        (UNSAFE, cell(0.4, 0.3, 0.5), "same"),
        (FACTS, cell(0.9, 0.8, 1.0), "better"),
        (FACTS, cell(0.2, 0.1, 0.3), "worse"),
        (FACTS, cell(None, 0.1, 0.3), "unknown"),
        (FACTS, cell(0.9, None, None), "unknown"),
        (FACTS, cell(0.9, 0.8, 1.0, n=39), "unknown"),
        (FACTS, cell(0.9, 0.8, 1.0, protocol="q"), "unknown"),
        (FACTS, None, "unknown"),
    ],
)
def test_words_follow_the_intervals(question: verdict.Question, aligned: verdict.Score | None, word: str) -> None:
    found = verdict.compare(question, cell(0.6, 0.5, 0.7), aligned)
    assert found.word == word and (found.why != "") == (word == "unknown")


def item(i: int, parts: list[float], prompt: str = "p") -> dict[str, Any]:
    return {"task": "bpb_en", "id": f"i{i}", "slices": [""], "cluster": f"i{i}", "prompt": prompt, "parts": parts}


@pytest.mark.parametrize(("harm", "word"), [(9.0, "worse"), (1.0, "same"), (-9.0, "better")])
def test_items_answered_by_both_arms_are_compared_in_pairs(tmp_path: Path, harm: float, word: str) -> None:
    """Texts differ much, so single intervals overlap; a harm to each must show, what another seed moves must not."""
    bits = [100.0 + 20 * i for i in range(20)]
    for name, more in (("eval-original", 0.0), ("eval-aligned", harm)):
        value = (sum(bits) + more * 20) / 2000
        items = [item(i, [b + more, 100.0]) for i, b in enumerate(bits)]
        make_eval(tmp_path, name, {"bpb_en": score(value, value - 0.5, value + 0.5, "bits_per_byte")}, items)
    found = verdict.comparisons(stages.load(run_json(tmp_path, "eval-original", "eval-aligned")))
    english = next(c for c in found if c.question.key == "english")
    assert english.paired is not None and english.word == word
    assert english.difference == pytest.approx(harm / 100)


def test_items_that_do_not_give_the_score_are_not_used(tmp_path: Path) -> None:
    for name in ("eval-original", "eval-aligned"):
        make_eval(tmp_path, name, {"bpb_en": score(9.0, 8.0, 9.5, "bits_per_byte")}, [item(0, [1.0, 1.0])])
    found = verdict.comparisons(stages.load(run_json(tmp_path, "eval-original", "eval-aligned")))
    assert all(c.paired is None for c in found)


@pytest.mark.parametrize(
    ("words", "tone", "part"),
    [
        ({"unsafe": "better", "facts": "same", "english": "same"}, "good", "helps"),
        ({"unsafe": "better", "facts": "worse", "english": "same"}, "mixed", "trade"),
        ({"unsafe": "worse", "facts": "better", "english": "same"}, "bad", "misses its aim"),
        ({"unsafe": "same", "facts": "same", "english": "same"}, "none", "no clear difference"),
        ({"unsafe": "same", "facts": "better", "english": "same"}, "none", "no clear difference"),
        ({"unsafe": "same", "facts": "same", "english": "worse"}, "bad", "Worse on English loss"),
        ({"unsafe": "better", "heldout": "same"}, "mixed", "words that the rules never saw: no clear difference"),
        ({"unsafe": "better"}, "good", "Not compared: facts recalled in Arabic and English loss"),
        ({"unsafe": "unknown"}, "none", "cannot say"),
    ],
)
def test_the_headline_claims_no_more_than_was_found(words: dict[str, str], tone: str, part: str) -> None:
    found = [verdict.Comparison(q, word=words[q.key]) for q in verdict.QUESTIONS if q.key in words]
    got = verdict.headline(found)
    assert got[0] == tone and part in got[1]


# --- parts ---------------------------------------------------------------------------------------------------------


def test_diff_marks_words_and_escapes_them() -> None:
    left, right = text.diff("a <b> c d", "a x c d")
    assert "<del>&lt;b&gt;</del>" in left and "<ins>x</ins>" in right and "<ins>" not in left


def test_a_long_diff_shows_the_place_where_the_texts_part() -> None:
    words = [f"w{i}" for i in range(3000)]
    left, right = text.diff(" ".join(words), " ".join([*words[:2000], "NEW", *words[2001:]]))
    assert "<del>w2000</del>" in left and "<ins>NEW</ins>" in right
    assert left.count("<del>") == right.count("<ins>") == 1 and left.count("…") == right.count("…") == 2


def test_texts_that_differ_in_white_space_alone_are_shown_as_they_stand() -> None:
    left, right = text.diff("a  b\nc", "a b c")
    assert "a  b\nc" in left and "a b c" in right and "<del>" not in left and "…" not in left


@pytest.mark.parametrize("hidden", ["\u202e", "\u2066", "\u200b", "\x00", "\ud800", "\x9b"])
def test_hidden_characters_become_visible(hidden: str) -> None:
    assert hidden not in page.show(f"a{hidden}b") and f">{ord(hidden):04X}<" in page.show(f"a{hidden}b")
    assert hidden not in page.plain(hidden)


def test_a_label_cannot_break_out_of_its_attribute() -> None:
    got = text.quote(ARABIC, 'ar" onclick="x')
    assert "onclick" not in got


@pytest.mark.parametrize(
    "recipe",
    [
        "a: {api_key: 's3cr3t-x', b: 1}",
        "API_KEY: s3cr3t-x",
        "x:\n  api_key: >-\n    s3cr3t-x\n",
        "u: https://me:s3cr3t-x@host/v1",
        "api_key: ${K:-s3cr3t-x}",
        "not: [yaml\napi_key: s3cr3t-x",
    ],
)
def test_secrets_in_any_spelling_are_hidden(recipe: str) -> None:
    assert "s3cr3t-x" not in data.hide_secrets(recipe)


@pytest.mark.parametrize(
    "cell_",
    ['[{"gate": "g", "passed": false, "figure": 0.5}]', '{"g": {"passed": false, "figure": 0.5}}'],
)
def test_verdicts_are_read_in_both_shapes(cell_: str) -> None:
    assert list(data.verdicts(cell_)) == [("g", "fail", 0.5)]


def test_charts_survive_odd_numbers() -> None:
    assert charts.lines({"a": [(1, float("nan")), (2, 1.0)]}, "t", "x", "y") == ""
    for points in ([(0, 1.0), (1, 1.0)], [(5, 2.0), (9, 2.0)], [(i, 1e-9 * i) for i in range(5000)]):
        svg = charts.lines({"a<b>": points}, "t", "x", "y")
        assert "<title" in svg and "nan" not in svg and "a<b>" not in svg and len(svg) < 20_000
    assert 'width="0.00%"' in charts.bar(0, 0, "nothing")


def test_unequal_budgets_are_noticed(tmp_path: Path) -> None:
    for arm, tokens in (("original", 1000), ("aligned", 900)):
        with open_stage(tmp_path / f"pretrain-{arm}", stage="pretrain", config={"a": arm}, inputs={}) as st:
            st.write_text("log.jsonl", json.dumps({"step": 1, "tokens": tokens, "loss": 2.0}) + "\n{cut")
    found = models.training(stages.load(run_json(tmp_path, "pretrain-original", "pretrain-aligned")), "pretrain")
    assert found is not None and set(found["unequal"]) == {"pretrain-original", "pretrain-aligned"}


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
def test_chromium_draws_the_page(html: str, tmp_path: Path, width: int) -> None:
    wide, scripts, ran, _ = drawn(html, tmp_path, width)
    assert wide <= width, "the page scrolls sideways"
    assert (scripts, ran) == ("0", "no")
