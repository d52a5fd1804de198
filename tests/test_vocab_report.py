"""The page of a vocabulary: its figures, hostile text, right to left, narrow and wide, and its command."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import typer
from html_page import Page, drawn
from typer.testing import CliRunner

pytest.importorskip("torch", reason="needs fitra[train]")

from test_vocab_progressive import ENGLISH, arabic, base_spec
from tokenizers import Tokenizer, decoders, models, normalizers

from fitra import recipe
from fitra.artifacts import DOCUMENT_SCHEMA, open_stage
from fitra.cli import vocab_report
from fitra.errors import FitraError
from fitra.vocab import bpe, learn, measure, report, report_figures

HOSTILE = (
    '<script>alert("x")</script><img src=http://evil.example/x.png onerror=alert(1)><a href="javascript:alert(1)">'
    "{{ 7*7 }} {% raw %} \u202egnp.exe\u2066\x1b[31m </div></bdi></body> كتاب"
)
TEXTS = [arabic(i) for i in range(60)]


def document(i: int, text: str, lang: str, source: str, **labels: str) -> dict[str, Any]:
    return {"id": f"d{i:04d}", "text": text, "lang": lang, "source": source, "licence_class": "A",
            "labels": json.dumps(labels)}  # fmt: skip


def write_stage(folder: Path, methods: dict[str, Any] | None = None) -> Path:
    """A base, a corpus, and what `vocab expand` leaves that the page reads."""
    rows = [document(i, t, "ar", "press", register="news", dialect="msa") for i, t in enumerate(TEXTS)]
    rows += [document(100 + i, f"{HOSTILE} {arabic(i)}", "arz", HOSTILE, register=HOSTILE) for i in range(30)]
    rows += [document(200 + i, f"{t} {i}", "en", "books") for i, t in enumerate(ENGLISH * 5)]
    rows += [document(300, "متن فارسی", "fa", "other"), document(301, "", "ar", "press")]
    rows += [{**document(302, arabic(302), "ar", "press"), "labels": "{no"}]
    with open_stage(folder / "corpus", stage="corpus", config={}, inputs={}) as st:
        st.write_table("documents", pa.Table.from_pylist(rows, schema=DOCUMENT_SCHEMA))
    base = base_spec()
    (folder / "base").mkdir()
    (folder / "base" / "tokenizer.json").write_text(json.dumps(base))
    runs = Counter(run for t in TEXTS for run in bpe.RUN.findall(t))
    got = learn.continue_bpe(base, bpe.words_of(runs, bpe.build(base), "bytes"), 90, 2)
    spec = bpe.extend(base, got.merges)
    cfg = recipe.Vocab(add=90, held_out=4)
    inputs = {"base": folder / "base", "corpus": [folder / "corpus"]}
    with open_stage(folder / "v", stage="vocab", config={"vocab": cfg}, inputs=inputs, licence_class="A") as st:
        with st.folder("model") as out:
            (out / "tokenizer.json").write_text(json.dumps(spec))
        st.write_json("fertility.json", {"method": "continued", "methods": methods or {}})
        st.counts |= {"added": 90}
        st.notes |= {"method": "continued", "init": "mean"}
    return folder / "v"


METHODS = {
    "base": {"ar": {"tokens_per_word": 9.99}},
    "continued": {"ar": {"tokens_per_word": 1.11}},
    "merged": {"ar": {"tokens_per_word": 4.44, "bytes_per_token": 2.5, "unbroken_words": 0.25}, "en": {}, "tokens": 90},
    "replacement": {"why_not": "too few tokens <b>to replace"},
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stage(tmp_path_factory.mktemp("page"), METHODS)


@pytest.fixture(scope="module")
def found(stage: Path) -> dict[str, Any]:
    return report_figures.figures(stage, compare={"same <i>": stage.parent / "base"})


@pytest.fixture(scope="module")
def html(stage: Path, found: dict[str, Any]) -> str:
    return report.write(stage, stage.parent / "out" / "page.html", found).read_text(encoding="utf-8")


def test_figures(found: dict[str, Any]) -> None:
    assert found["sample"]["held_out"] and 10 < found["sample"]["ar"] < 50 and found["sample"]["en"] == 10
    ar, en = found["languages"]["ar"], found["languages"]["en"]
    assert ar["new"]["tokens_per_word"] < ar["base"]["tokens_per_word"] / 2
    assert ar["base"]["unbroken_words"] == 0 < ar["new"]["unbroken_words"]
    assert en["new"] == en["base"] and found["english_same"] == 1.0
    assert found["saved"]["tokens"] == ar["base"]["tokens"] - ar["new"]["tokens"]
    assert found["saved"]["words"]["new"] == round(4096 / ar["new"]["tokens_per_word"])
    groups = found["groups"]
    assert {(g["name"], g["lang"]) for g in groups["source"]} == {("press", "ar"), (HOSTILE, "ar"), ("books", "en")}
    assert sum(g["new"]["tokens"] for g in groups["source"] if g["lang"] == "ar") == ar["new"]["tokens"]
    assert {"msa", "arz"} <= {g["name"] for g in groups["dialect"]} <= {"msa", "arz", "ar"}
    assert {g["name"] for g in groups["register"]} == {"news", HOSTILE}
    assert sum(c["tokens"] for c in found["classes"]) == found["new_tokens"] == 90 == sum(found["lengths"].values())
    assert [m["name"] for m in found["methods"]] == ["base", "new", "same <i>", "merged", "replacement"]
    assert found["methods"][2]["ar"] == ar["base"] and found["methods"][1]["round_trip"] == 1.0


def test_only_held_out_documents_are_measured(stage: Path) -> None:
    got, unseen = report_figures.documents([stage.parent / "corpus"], 4, 2000)
    assert unseen and all(int(d.key[:2], 16) % 4 == 0 for d in got if d.lang == "ar")
    fewer, _ = report_figures.documents([stage.parent / "corpus"], 4, 5)
    assert [d.key for d in fewer if d.lang == "ar"] == [d.key for d in got if d.lang == "ar"][:5]
    none, unseen = report_figures.documents([stage.parent / "corpus"], 10**9, 2000)
    assert not unseen and len(none) > len(got)


def test_classes_of_tokens() -> None:
    for text, name in (
        (" والكتاب", "with the article"), (" للبيت", "with the article"), (" كتاب", "begins a word"),
        ("كتاب", "inside or at the end of a word"), ("ك", "a single letter"), (" ك", "a single letter"),
        (" كِتاب", "with tashkeel"), ("كتا\ufffd", "part of a letter"), (" گفت", "letters of other languages too"),
        ("abc", "anything else"),
    ):  # fmt: skip
        assert report_figures.class_of(text) == name, text


def test_hostile_text_is_text(html: str) -> None:
    seen = Page(html)
    assert not {"script", "img", "iframe", "object", "form"} & set(seen.tags)
    for _, attrs in seen.attrs:
        for name, value in attrs.items():
            assert not name.startswith("on")
            assert name not in ("src", "href") or str(value).startswith("#")
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b]", html)
    assert "default-src 'none'" in html and "url(" not in html and "@import" not in html
    assert "{{ 7*7 }}" in seen.words and "202E" in seen.words and "too few tokens <b>to replace" in seen.words


def test_the_page_says_the_figures(html: str, found: dict[str, Any]) -> None:
    words = Page(html).words
    ar = found["languages"]["ar"]
    assert f"{ar['new']['tokens_per_word']:.2f} tokens per Arabic word" in words
    assert f"{100 * found['saved']['share']:.1f}% of the tokens of Arabic text saved" in words
    assert "100.00% of 10 English documents read exactly as before" in words
    assert "merged measured when the vocabulary was made 4.44 2.50 25.0%" in words and "1.11" not in words
    assert "that no token was learned from" in words and "90 new tokens" in words
    # Right to left, with the tokens in turn, and letters of the base that take two tokens marked.
    assert re.search('<div class="quote" lang="ar" dir="rtl"><span class="a', html)
    assert '<span class="b many" title="2 tokens">' in html


def test_equal_figures_give_equal_pages(stage: Path, html: str, tmp_path: Path) -> None:
    found = report_figures.figures(stage, compare={"same <i>": stage.parent / "base"})
    assert report.write(stage, tmp_path / "again.html", found).read_text(encoding="utf-8") == html


def test_cut_gives_the_text_back() -> None:
    tok = bpe.build(base_spec())
    for text in ("كتاب the mill 😀ab", "", " ", "\n\nab", HOSTILE):
        assert "".join(t for t, _ in measure.cut(tok, text)) == text
    assert measure.cut(tok, "كت") == [("ك", 2), ("ت", 2)]


def test_lam_and_alef_of_two_tokens_stay_two() -> None:
    assert "ل\u200d\u200c</span>" in report.pieces([("ال", 1), ("ا", 1)])
    assert '<span class="b">\u200dا' in report.pieces([("ال", 1), ("ا", 1)])
    assert "\u200d" not in report.pieces([("لا", 1), ("م", 1)]) + report.pieces([("ل", 1), (" ا", 1)])


def sentencepiece_like() -> Tokenizer:
    vocab = {t: i for i, t in enumerate(["<unk>", *(f"<0x{b:02X}>" for b in range(256)), "▁", "ك", "ت", "ب", "،"])}
    merges = [("ك", "ت"), ("▁", "كت"), ("▁كت", "ب"), ("كت", "ب")]
    for a, b in merges:
        vocab[a + b] = len(vocab)
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tok


def test_words_are_measured_where_they_stand() -> None:
    """A word after a space, at the start, after a comma, in a SentencePiece tokenizer without a pre-tokenizer."""
    tok = sentencepiece_like()
    got = measure.measure(tok, ["كتب كتب،كتب كتبت"], "ar")
    assert got["unbroken_words"] == 0.75 and got["words"] == 3
    assert measure.cut(tok, "كتب دكتب") == [("كتب", 1), (" ", 1), ("د", 2), ("كتب", 1)]
    assert measure.cut(tok, "تب") == [("ت", 2), ("ب", 1)]  # with the space that is put before a text
    assert measure.measure(tok, ["كتبa"], "ar")["unbroken_words"] == 1.0
    assert measure.measure(tok, [], "ar")["tokens_per_word"] == 0


def test_renyi_efficiency() -> None:
    assert measure.renyi(np.array([5, 5, 5, 5])) == pytest.approx(1)
    assert measure.renyi(np.array([7, 0])) == 1.0 and measure.renyi(np.zeros(3)) == 1.0
    p = np.array([0.7, 0.2, 0.1])
    assert measure.renyi(p * 1000) == pytest.approx(np.log((p**2.5).sum()) / -1.5 / np.log(3))


def test_a_corpus_too_small_says_so(stage: Path, tmp_path: Path) -> None:
    with open_stage(tmp_path / "c", stage="corpus", config={}, inputs={}) as st:
        learned = next(i for i in range(99) if hashlib.sha256(f"d{i:04d}".encode()).digest()[0] % 4)
        rows = [document(learned, TEXTS[0], "ar", "press")]
        st.write_table("documents", pa.Table.from_pylist(rows, schema=DOCUMENT_SCHEMA))
    html = report.write(stage, tmp_path / "p.html", corpora=[tmp_path / "c"]).read_text(encoding="utf-8")
    words = Page(html).words
    assert "too small to hold documents out" in words and "no labels of register" in words
    assert "English documents read" not in words


def invoke(*args: str) -> Any:
    app = typer.Typer()
    group = typer.Typer()
    app.add_typer(group, name="vocab")
    group.command("other")(lambda: None)
    vocab_report.add_to(app)
    return CliRunner().invoke(app, ["vocab", "report", *args], catch_exceptions=True)


def test_the_command(stage: Path, tmp_path: Path) -> None:
    done = invoke(str(stage), "--out", str(tmp_path / "p.html"), "--documents", "5")
    assert done.exit_code == 0 and done.output.strip() == str(tmp_path / "p.html"), done.output
    done = invoke(
        str(stage), "--out", str(tmp_path / "q.html"), "--compare", f"other={stage.parent / 'base'}", "--json",
        "--base", str(stage.parent / "base"), "--corpus", str(stage.parent / "corpus"),
    )  # fmt: skip
    assert json.loads(done.output)["languages"]["ar"]["other"]["tokens"] > 0
    assert "Example: fitra vocab report" in invoke("--help").output


@pytest.mark.parametrize(("args", "says"), [
    (["--compare", "x"], "expected NAME=FOLDER"), (["--compare", "base=."], "expected NAME=FOLDER"),
    (["--compare", "x=/nowhere"], "/nowhere: no such folder"), (["--base", "/nowhere"], "Give --base"),
    (["--corpus", "/nowhere"], "Give --corpus"),
])  # fmt: skip
def test_the_command_says_what_is_missing(stage: Path, tmp_path: Path, args: list[str], says: str) -> None:
    done = invoke(str(stage), "--out", str(tmp_path / "p.html"), *args)
    assert isinstance(done.exception, FitraError) and says in str(done.exception)
    assert isinstance(invoke(str(tmp_path)).exception, FitraError)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_chromium_draws_the_page(html: str, tmp_path: Path, width: int) -> None:
    first_is_right = (
        "(()=>{const s=[...d.querySelector('.quote[dir=rtl]').children];"
        "return s[0].getBoundingClientRect().right>s[1].getBoundingClientRect().right})()"
    )
    wide, scripts, ran, rtl = drawn(html, tmp_path, width, first_is_right)
    assert wide <= width, "the page scrolls sideways"
    assert (scripts, ran, rtl) == ("0", "no", "true")
