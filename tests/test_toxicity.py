"""The trained toxicity scorer, its word classes, the linear model under it, and the plug for other scorers."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitra.errors import FitraError
from fitra.signals import linear, toxicity, train
from fitra.signals.toxicity import classes, model, training
from fitra.signals.view import view

TOXIC = [
    "يا كلب",
    "يا غَبِيّ يا حِمَار",
    "يا غبييييييي",
    "يا غـــبي",
    "انت م ت ن ا ك",
    "النساء حثالة",
    "بكره كل اللاجئين هالحشرات",
    "سأقتلك يا كلب",
    "الله يلعنك يا ابن الكلب",
]
CLEAN = [
    "الكلب حيوان أليف",
    "الحمار يأكل العشب",
    "النساء لسن حثالة",
    "نرفض خطاب الكراهية ضد اللاجئين",
    "يا رب وفق اخي في الامتحان",
    "بكره نروح على السوق ان شاء الله",
    "السلام عليكم ورحمة الله وبركاته",
    "أحب النساء واحترمهن",
    "قال تعالى إن المنافقين في الدرك الأسفل من النار",
    "حكمت المحكمة بإعدام القاتل بعد ثبوت التهمة",
]


@pytest.mark.parametrize("text", TOXIC)
def test_abuse_is_flagged(text: str) -> None:
    assert toxicity.overall(view([text]))[0] >= toxicity.threshold()


@pytest.mark.parametrize("text", CLEAN)
def test_the_same_words_in_their_plain_sense_are_not(text: str) -> None:
    assert toxicity.overall(view([text]))[0] < toxicity.threshold()


def test_headings_say_which_kind() -> None:
    found = toxicity.score_all(
        view(["سكس ونيك وصور عارية", "خصم 50% اطلب الان واتساب", "اقتلوهم كلهم بلا رحمة", "أكره كل اليهود"])
    )
    assert set(found) == set(toxicity.HEADINGS)
    assert all(v.dtype == np.float32 and v.shape == (4,) for v in found.values())
    assert found["sexual"][0] > 0.5 and found["spam"][1] > 0.5 and found["violence"][2] > 0.5 and found["hate"][3] > 0.5
    assert found["spam"][0] < 0.5 and found["sexual"][1] < 0.5


@pytest.mark.parametrize("texts", [[], [""], ["", "   ", "!!!"], ["\u200f", "😀"]])
def test_texts_without_words_are_not_toxic(texts: list[str]) -> None:
    v = view(texts)
    assert toxicity.overall(v).tolist() == [0.0] * len(texts)
    assert all(x.shape == (len(texts),) for x in toxicity.score_all(v).values())


def test_a_text_scores_the_same_alone_and_in_a_batch() -> None:
    texts = [*TOXIC, "", *CLEAN, "كلام " * 300]
    together = toxicity.overall(view(texts))
    alone = [toxicity.overall(view([t]))[0] for t in texts]
    assert np.allclose(together, alone, atol=1e-5)


def test_abuse_in_a_long_text_is_not_drowned() -> None:
    calm = "افتتح الوزير المدرسة الجديدة صباح اليوم بحضور الطلاب والمعلمين وأولياء الأمور. "
    bad = "يا كلب يا حقير يا ابن الكلب الله يلعنك انت وامثالك يا زبالة. "
    calm_figure, mixed = toxicity.overall(view([calm * 12, calm * 6 + bad * 6 + calm * 2]))
    assert calm_figure < 0.1 and mixed > 0.9


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=6))
def test_any_text_has_figures_between_0_and_1(texts: list[str]) -> None:
    texts = [t.encode("utf-8", "ignore").decode() for t in texts]
    p = model.probabilities(view(texts))
    assert p.shape == (len(texts), 6) and np.isfinite(p).all() and ((p >= 0) & (p <= 1)).all()


def test_one_endless_word_is_no_danger() -> None:
    assert np.isfinite(toxicity.overall(view(["كلب" * 500_000, "ه" * 500_000]))).all()


def _classes(text: str) -> list[set[str]]:
    v = view([text])
    bits = classes.classes(v, linear.ngram_hashes(v.vocab, (0, 0))[0])
    return [{n for i, n in enumerate(classes.lexicon().names) if b >> i & 1} for b in bits.tolist()]


def test_classes_see_clitics_stretching_phrases_and_spacing() -> None:
    assert "insult" in _classes("والأغبياء")[0]
    assert "insult" in _classes("غبيييي")[0]
    assert {"insult", "aimed"} <= _classes("هالغبي")[0]
    assert all("family" in c for c in _classes("ابن الكلب"))
    assert all("sexslur" in c for c in _classes("م ت ن ا ك"))
    assert _classes("افتتح المدرسة") == [set(), set()]


def test_phrases_do_not_reach_over_the_end_of_a_text() -> None:
    v = view(["ابن", "الكلب"])
    bits = classes.classes(v, linear.ngram_hashes(v.vocab, (0, 0))[0])
    family = 1 << classes.lexicon().names.index("family")
    assert not (bits & family).any()


# The linear model under it


def _small() -> tuple[linear.Linear, Any, np.ndarray]:
    texts = ["جميل جدا", "رائع وجميل", "سيء جدا", "قبيح وسيء"] * 5
    labels = np.array([0, 0, 1, 1] * 5)
    v, space = view(texts), linear.Space(bits=12)
    return linear.fit(linear.features(v, space), labels, ["good", "bad"], space), v, labels


def test_linear_learns_and_margins_equal_its_rows(tmp_path: Path) -> None:
    m, v, labels = _small()
    found = m.margins(v)
    assert (found.argmax(axis=1) == labels).all()
    rows = linear.features(v, m.space)
    first = rows.take(np.array([1]))
    assert np.allclose(first.values @ m.table[first.buckets] + m.bias, found[1], atol=1e-4)
    assert np.allclose(m.margins(v, window=50), found, atol=1e-5)


def test_linear_files_are_equal_and_checked(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        _small()[0].save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = linear.Linear.load(tmp_path / "a.npz")
    assert np.array_equal(again.margins(_small()[1]), _small()[0].margins(_small()[1]))
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nothing")
    for path in (tmp_path / "bad.npz", tmp_path / "none.npz"):
        with pytest.raises(FitraError, match="not a linear model"):
            linear.Linear.load(path)
    with pytest.raises(FitraError, match="no toxicity scorer"):
        model.load(tmp_path / "a.npz")


def test_windows_take_the_strongest_part() -> None:
    m, *_ = _small()
    v = view(["جميل جدا " * 40 + "سيء قبيح " * 10])
    whole, windows, share = m.margins(v), m.margins(v, window=20), m.margins(v, window=20, share=0.5)
    assert windows[0, 1] > share[0, 1] > whole[0, 1]


# Training


def test_split_keeps_near_duplicates_together() -> None:
    texts = ["هذا الخبر وصل اليوم من العاصمة عمان", "هذا الخبر وصل اليوم من العاصمة", "لا علاقة له بما قبله ابدا", ""]
    assert training.clusters(view(texts)).tolist() == [0, 0, 2, 3]


def test_examples_are_reproducible_and_templates_do_not_part() -> None:
    assert training.examples((0,), 3) == training.examples((0,), 3)
    assert not set(training.examples((0,))[0]) & set(training.examples((1, 2, 3, 4))[0])


def test_training_without_its_data_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["toxicity", "--data", str(tmp_path), "--out", str(tmp_path / "x.npz")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_shipped_scorer_ranks_unseen_sets(data: Path) -> None:
    sets = training.labelled(data)
    for name, least in (("osact4", 0.85), ("lhsab", 0.83)):
        at = np.flatnonzero(sets.source == name)[::5]
        s, y = toxicity.overall(view([sets.texts[i] for i in at])), sets.label[at]
        bad, good = s[y == 1], s[y == 0]
        assert (bad[:, None] > good).mean() >= least
    held = training.articles(data, "ar_wiki", (0,))
    assert (toxicity.overall(view(held)) >= toxicity.threshold()).mean() <= 0.03


# Other scorers


def test_scorer_specs() -> None:
    one = view(["يا كلب يا حقير"])
    assert set(toxicity.scorer("embedded")(one)) == {*toxicity.HEADINGS, toxicity.OVERALL}
    assert toxicity.scorer("embedded")(one)["overall"] == toxicity.overall(one)
    for spec in ("nonsense", "hf:", "endpoint:ftp://x"):
        with pytest.raises(FitraError, match="not known"):
            toxicity.scorer(spec)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("classifier")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "كلب", "يا", "سلام"]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    transformers.BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        id2label={0: "non-toxic", 1: "hate", 2: "obscene"}, label2id={"non-toxic": 0, "hate": 1, "obscene": 2},
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_hugging_face_classifier(classifier: Path) -> None:
    score = toxicity.scorer(f"hf:{classifier}")
    texts = ["يا كلب", "سلام " * 700, "", *["يا سلام"] * 40]
    found = score(view(texts))
    assert set(found) == {"hate", "sexual", "overall"} and all(v.shape == (len(texts),) for v in found.values())
    assert all(((v > 0) & (v < 1)).all() for v in found.values())
    again = score(view(texts[::-1]))
    assert np.allclose(again["hate"][::-1], found["hate"], atol=1e-5)
    assert set(toxicity.scorer(f"hf:{classifier}", {"non-toxic": "", "obscene": "spam"})(view(texts))) == {
        "hate",
        "overall",
        "spam",
    }
    with pytest.raises(FitraError, match="sequence classifier"):
        toxicity.scorer(f"hf:{classifier / 'nowhere'}")


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []

    class Fake(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append({"path": self.path, "key": self.headers["Authorization"], **body})
            fails = any("عطل" in t for t in body["input"])
            fixed = {"hate": 0.1, "hate/threatening": 0.7, "violence": 0.2, "self-harm": 0.99}
            results = [
                {
                    "flagged": True,
                    "categories": {},
                    "category_scores": fixed | {"harassment": 0.9 if "كلب" in t else 0.01},
                }
                for t in body["input"]
            ]
            good = {"id": "1", "model": "m", "results": results}
            answer = json.dumps({"error": {"message": "no"}} if fails else good)
            self.send_response(400 if fails else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fake)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1", asked
    server.shutdown()
    server.server_close()


def test_endpoint_scores_and_its_failures_are_never_clean(
    endpoint: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = endpoint
    monkeypatch.setenv("OPENAI_API_KEY", "k-123")
    score = toxicity.scorer(f"endpoint:{url}")
    found = score(view(["يا كلب", "سلام", ""]))
    assert found["harassment"].tolist() == pytest.approx([0.9, 0.01, 0.0])
    assert found["hate"].tolist() == pytest.approx([0.7, 0.7, 0.0])
    assert np.isnan(found["sexual"][:2]).all(), "a category the endpoint does not have is unknown"
    assert asked[0]["path"].endswith("/moderations") and asked[0]["key"] == "Bearer k-123"
    mixed = score(view(["سلام"] * 32 + ["عطل"]))
    assert np.isnan(mixed["hate"][-1]) and not np.isnan(mixed["hate"][:32]).any()
    with pytest.raises(FitraError, match="no text could be scored"):
        score(view(["عطل"]))
