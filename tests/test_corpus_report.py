"""The page of a cleaned corpus: honest figures, hostile text, missing labels, nothing loaded from outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from html_page import Page, drawn

from fitra.artifacts import DOCUMENT_SCHEMA, open_stage, write_json
from fitra.corpus import report, report_data
from fitra.corpus.report_data import gather
from fitra.corpus.report_text import difference, histogram, quote
from fitra.corpus.variants import variants
from fitra.errors import FitraError
from fitra.page import clip, show

HOSTILE = (
    '<script>alert("x")</script><img src=http://evil.example/x.png onerror=alert(1)> {{ 7*7 }} {% raw %} \u202egnp.exe'
    "\u2066\x00 </div></body> &amp; " + "ا" * 3000
)
ARABIC = "هذا نص عربي قصير عن مدينة القاهرة وأهلها الكرام"
MASKED = "كلام طويل قبل الرقم. " * 20 + "للتواصل على [PHONE] أو [EMAIL] اليوم"
REMOVED = pa.schema(
    [("id", pa.string()), ("source", pa.string()), ("stage", pa.string()), ("reason", pa.string()),
     ("figure", pa.float64()), ("kept_id", pa.string()), ("cluster_id", pa.string()), ("text", pa.string())]
)  # fmt: skip


def document(i: int, text: str, labels: dict[str, Any] | str, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(DOCUMENT_SCHEMA.names)
    held = labels if isinstance(labels, str) else json.dumps(labels, ensure_ascii=False)
    return row | {
        "id": f"d{i:03d}",
        "text": text,
        "lang": "ar",
        "source": "s",
        "licence_class": "A",
        "labels": held,
        **more,
    }


def removed(i: int, reason: str, text: str, stage: str = "filter", kept: str | None = None, source: str = "s") -> Any:
    return {
        "id": f"r{i:03d}", "source": source, "stage": stage, "reason": reason, "figure": 0.125, "kept_id": kept,
        "cluster_id": kept, "text": text,
    }  # fmt: skip


def labels(i: int) -> dict[str, Any]:
    return {
        "words": 2 ** (i % 9), "lang_detected": "ar", "lang_confidence": i / 40, "register": "news",
        "variety": "dialect" if i % 2 else "msa", "region": "gulf" if i % 2 else None, "register_confidence": 0.7,
        "toxicity": {"hate": 0.9 if i == 3 else 0.1, "spam": 0.0},
        "quality": {"stop_word_share": 0.2, "mean_length": 4},
        **({"personal": {"phone": 1, "email": 1}} if i == 5 else {}),
    }  # fmt: skip


def make(folder: Path, docs: list[dict[str, Any]], gone: list[dict[str, Any]], bad: list[dict[str, str]]) -> Path:
    with open_stage(folder, stage="corpus", config={"name": HOSTILE[:60]}, inputs={}, licence_class="C") as st:
        st.write_table("documents", pa.Table.from_pylist(docs, schema=DOCUMENT_SCHEMA), rows_per_part=17)
        st.write_table("removed", pa.Table.from_pylist(gone, schema=REMOVED))
        if bad:
            st.quarantine(bad)
        st.counts |= {"read": len(docs) + len(gone), "kept": len(docs), "removed": len(gone)}
    return folder


SPELLINGS = {
    "same bytes": ARABIC,
    "tashkeel": ARABIC.replace("نص", "نَصٌّ"),
    "tatweel": ARABIC.replace("عربي", "عـــربي"),
    "alef and hamza": ARABIC.replace("وأهلها", "واهلها"),
    "ya and ta marbuta": ARABIC.replace("مدينة", "مدينه"),
    "look-alike letters": ARABIC.replace("الكرام", "الکرام"),
    "punctuation": ARABIC + "!",
    "white space and invisible marks": ARABIC.replace(" ", "\n\n").replace("نص", "\u200fنص"),
    "presentation forms": ARABIC.replace("ال", "\ufe8d\ufedf"),
    "edited words": ARABIC.replace("قصير", "طويل جدا"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    docs = [document(i, ARABIC, labels(i)) for i in range(40)]
    docs[5]["text"] = MASKED
    docs[7] |= {"lang": HOSTILE, "source": HOSTILE, "text": HOSTILE, "id": HOSTILE[:40]}
    gone = [removed(i, "too_short", "كلمة") for i in range(30)]
    gone += [removed(40, HOSTILE, HOSTILE, stage=HOSTILE, source=HOSTILE)]
    gone += [
        removed(50 + i, "exact_duplicate", text, "dedupe", "d001") for i, text in enumerate(SPELLINGS.values())
    ] + [removed(70, "near_duplicate", ARABIC, "dedupe", "an-earlier-run")]
    out = make(tmp_path_factory.mktemp("c") / "out", docs, gone, [{"id": "", "where": "<b>:3", "reason": HOSTILE}])
    rows = [{"benchmark": HOSTILE[:30], "rows_found": 3, "rows": 10, "documents": 2}]
    write_json(out / "contamination.json", {"benchmarks": rows})
    return out


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    target = report.write(folder, folder.parent / "page" / "corpus.html")
    return target.read_text(encoding="utf-8")


def test_figures_add_up(folder: Path, html: str) -> None:
    got = gather(folder)
    assert got.documents == 40 and sum(got.removed.values()) == 42
    words = Page(html).words
    assert "40 documents are left, 48.8% of 82" in words
    assert "too few words too_short 30" in words and "after duplicates 11 41" in words
    assert "1 dialect" not in words and "dialect 20" in words and "gulf 20" in words
    assert got.over_half == {"hate": 1, "spam": 0} and "hate 1" in words
    assert got.personal == {"phone": 1, "email": 1}
    assert got.shares["lang_confidence"][-1] == 2 and sum(got.shares["lang_confidence"]) == 40


def test_hostile_text_is_text(html: str) -> None:
    page = Page(html)
    assert "script" not in page.tags and "img" not in page.tags
    assert not any(
        name.startswith("on") or (name in ("src", "href") and not str(v).startswith("#"))
        for _, attrs in page.attrs
        for name, v in attrs.items()
    )
    assert "\u202e" not in html and "\u2066" not in html and "\x00" not in html
    assert "{{ 7*7 }} {% raw %}" in page.words
    assert "default-src 'none'" in html and "url(" not in html and "@import" not in html
    assert "202E" in page.words


def test_arabic_runs_from_right_to_left_and_samples_are_marked(html: str) -> None:
    assert '<div class="quote" lang="ar" dir="rtl">' in html
    assert "<mark>[PHONE]</mark>" in html and "<mark>[EMAIL]</mark>" in html


def test_equal_folders_give_equal_pages(folder: Path, html: str, tmp_path: Path) -> None:
    assert report.write(folder, tmp_path / "again.html").read_text(encoding="utf-8") == html


@pytest.mark.parametrize("kind", list(SPELLINGS))
def test_duplicates_are_told_apart_by_their_spelling(kind: str) -> None:
    assert variants(SPELLINGS[kind], ARABIC) == [kind]


def test_several_differences_are_all_named() -> None:
    assert variants("في عام ١٩٧٣ ذهب أحمَد", "في عام 1973، ذهب احمد") == [
        "tashkeel", "alef and hamza", "digits", "punctuation"
    ]  # fmt: skip
    assert variants("The Book", "the book") == ["case"]


def test_duplicates_of_an_earlier_run_are_not_compared(folder: Path) -> None:
    got = gather(folder)
    assert got.compared == len(SPELLINGS) and got.variants["edited words"] == 1 and got.variants["same bytes"] == 1


def test_labels_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    docs = [document(1, ARABIC, ""), document(2, ARABIC, "[]"), document(3, ARABIC, "{no"), document(4, ARABIC, {})]
    docs[3]["labels"] = None
    odd = {"words": "many", "toxicity": 3, "personal": [1], "quality": None, "lang_confidence": "high", "variety": None}
    docs.append(document(5, ARABIC, odd))
    out = make(tmp_path / "out", docs, [], [])
    page = Page(report.write(out, tmp_path / "page.html").read_text(encoding="utf-8")).words
    assert "5 documents are left" in page and "Why documents went" not in page and "Histograms" not in page
    assert "5 documents without a count of words" in page


def test_an_empty_corpus_and_an_unfinished_one(tmp_path: Path) -> None:
    out = make(tmp_path / "out", [], [removed(1, "too_short", "كلمة")], [])
    assert "0 documents are left" in Page(report.write(out, tmp_path / "p.html").read_text(encoding="utf-8")).words
    with pytest.raises(FitraError, match="not finished"):
        report.write(tmp_path / "none", tmp_path / "p.html")


def test_samples_hold_no_batches_and_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_data, "ROWS", 50)
    gone = [removed(i, "near_duplicate", f"{ARABIC} {i}", "dedupe", "d001", f"s{i}") for i in range(2000)]
    out = make(tmp_path / "out", [document(1, ARABIC, {"words": 9})], gone, [])
    monkeypatch.setattr(report_data, "MANY", 100)
    got = gather(out)
    assert got.compared == report_data.PAIRS and len(got.samples["dedupe", "near_duplicate"]) == report_data.PER_REASON
    assert len(got.sources_removed) <= 100
    numbers = sorted(int(s["text"].rsplit(" ", 1)[1]) for s in got.samples["dedupe", "near_duplicate"])
    assert numbers[-1] > 200  # not the first ones only


def test_small_parts() -> None:
    assert clip("كلمة " * 100, 50).endswith("…") and len(clip("ا" * 999, 50)) <= 52
    assert show("a\u202eb") == 'a<span class="badge" title="RIGHT-TO-LEFT OVERRIDE">202E</span>b'
    assert 'dir="ltr"' in quote("only English") and "<mark>b</mark>" in quote("abc", spans=[(1, 2)])
    left, right = difference("واحد اثنان ثلاثة", "واحد اثنين ثلاثة")
    assert "<mark>اثنان</mark>" in left and "<mark>اثنين</mark>" in right
    assert difference("", "نص")[0] and histogram([0, 0], str, "none") == ""
    assert "<title>0 to 1: 3 documents</title>" in histogram([3, 1], str, "some")


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
def test_chromium_draws_the_page(html: str, tmp_path: Path, width: int) -> None:
    wide, scripts, ran, _ = drawn(html, tmp_path, width)
    assert wide <= width, "the page scrolls sideways"
    assert (scripts, ran) == ("0", "no")
