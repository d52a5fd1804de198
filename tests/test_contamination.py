"""Decontamination: planted rows are found however they are spelt, innocent text is left alone."""

from __future__ import annotations

import gzip
import json
import random
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fitra import arabic
from fitra.errors import FitraError
from fitra.recipe.contamination import Benchmark, Contamination
from fitra.signals.contamination import Hit, Index, build, read, report
from fitra.signals.view import view

WORDS = re.findall(
    r"\w+",
    "كتاب مدينة رجل إلى أهل القاهرة سؤال جواب علم الناس سنة يوم بيت باب مدرسة طالب أستاذ درس حرف كلمة جملة فقرة"
    " نص معنى شرح بحر نهر جبل سهل قرية سوق تاجر مال ذهب فضة حرب سلام ملك وزير قاض شاهد حكم شعر قصيدة ليل نهار",
)
INNOCENT = "افتتح الوزير صباح اليوم المعرض الدولي للكتاب في دورته الجديدة بحضور عدد من الأدباء والناشرين العرب"


def sentence(seed: int, n: int) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) + ("ة" if rng.random() < 0.2 else "") for _ in range(n))


ROWS = [("quiz", f"q{i}", sentence(i, 14) + " في عام 1973") for i in range(40)]


@pytest.fixture(scope="module")
def index() -> Index:
    return build(ROWS)


def around(text: str) -> str:
    return f"{INNOCENT}. {text}، ثم {INNOCENT}"


def variants(text: str) -> dict[str, str]:
    rng = random.Random(5)
    words = text.split()
    edited = list(words)
    edited[rng.randrange(2)] = "شيء"
    edited[-1] = "آخر"
    return {
        "verbatim": text,
        "vocalised": "".join(c + rng.choice(["َ", "ُ", "ِ", "ْ", "ّ"]) if c.isalpha() else c for c in text),
        "tatweel": " ".join(w[:2] + "ـــ" + w[2:] for w in words),
        "digits": text.replace("1973", "١٩٧٣"),
        "letters": text.replace("إ", "ا").replace("أ", "ا").replace("ة", "ه"),
        "punctuation": "، ".join(words),
        "lines": "\n\n".join(words),
        "edited": " ".join(edited),
    }


@pytest.mark.parametrize("variant", list(variants("أ ب ج")))
def test_a_planted_row_is_found_however_it_is_spelt(index: Index, variant: str) -> None:
    docs = [around(variants(text)[variant]) for _, _, text in ROWS]
    hits = index.find(view(docs), min_share=0.5)
    assert [(h.doc, h.row) for h in hits] == [(i, r) for i, (_, r, _) in enumerate(ROWS)]
    assert all(h.benchmark == "quiz" and (variant == "edited" or h.share == 1.0) for h in hits)


def test_innocent_text_and_parts_are_told_apart_by_share(index: Index) -> None:
    assert index.find(view([INNOCENT, "", "كلمة", " ".join(WORDS)])) == []
    words = ROWS[0][2].split()
    half = index.find(view([" ".join(words[: len(words) // 2 + 2])]))
    assert len(half) == 1 and 0 < half[0].share < 0.5
    assert index.find(view([" ".join(words[:8])]), min_grams=3) == []


def test_a_row_is_not_found_across_the_border_of_two_documents(index: Index) -> None:
    words = ROWS[0][2].split()
    assert index.find(view([" ".join(words[:7]), " ".join(words[7:14])])) == []


def test_short_rows_are_found_whole_or_not_at_all() -> None:
    index = build([("b", "five", "ما هي عاصمة جمهورية الصومال"), ("b", "two", "ما هي"), ("b", "ten", sentence(1, 10))])
    assert index.skipped == {"b": 1} and index.rows_by_benchmark() == {"b": 2}
    found = index.find(view(["سألني: ما هي عاصمة جمهورية الصومال؟", "ما هي عاصمة جمهورية مصر"]))
    assert found == [Hit(0, "b", "five", 1.0, 1)]


def test_options_count_only_where_the_question_is_short() -> None:
    index = build([("b", "1", [sentence(3, 9), "لا شيء مما سبق ذكره هنا"]), ("b", "2", ["أيها صحيح", sentence(4, 6)])])
    assert index.find(view(["قال لا شيء مما سبق ذكره هنا اليوم"])) == []
    assert [h.row for h in index.find(view([around(sentence(4, 6))]))] == ["2"]


def test_an_instruction_before_every_question_says_nothing() -> None:
    preamble = "اختر الإجابة الصحيحة من بين البدائل الأربعة التالية ثم اكتبها"
    index = build([("b", str(i), f"{preamble} {sentence(i, 12)}") for i in range(30)], common=20)
    assert index.find(view([around(preamble)])) == []
    assert [h.row for h in index.find(view([f"{preamble} {sentence(7, 12)}"]), min_share=0.9)] == ["7"]


def test_a_passage_of_many_questions_is_not_common() -> None:
    passage = sentence(9, 40)
    index = build([("b", str(i), [passage, sentence(100 + i, 9)]) for i in range(30)], common=20)
    assert len(index.find(view([passage]), min_share=0.5)) == 30


def test_an_index_is_saved_without_pickle_and_equal_everywhere(index: Index, tmp_path: Path) -> None:
    path = tmp_path / "index.npz"
    index.save(path)
    with np.load(path, allow_pickle=False) as f:
        assert all(f[k].dtype != object for k in f.files)
    docs = [around(t) for _, _, t in ROWS]
    loaded = Index.load(path)
    together = loaded.find(view(docs))
    assert together == index.find(view(docs))
    # Batches have their own vocabularies; the hashes are the words' own.
    one_by_one = [h for i, d in enumerate(docs) for h in loaded.find(view([d]))]
    assert [(h.row, h.share) for h in one_by_one] == [(h.row, h.share) for h in together]
    assert np.array_equal(build(reversed(ROWS)).hashes, index.hashes)


def test_what_is_no_index_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Index) -> None:
    with pytest.raises(FitraError, match="no such file"):
        Index.load(tmp_path / "none.npz")
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"PK\x03\x04 no")
    with pytest.raises(FitraError, match="not an index"):
        Index.load(bad)
    index.save(bad)
    monkeypatch.setattr(arabic, "FOLD_VERSION", "other")
    with pytest.raises(FitraError, match="made with folding"):
        Index.load(bad)
    with pytest.raises(FitraError, match="no row of the evaluation sets"):
        build([("b", "1", "كلمة")])


def test_benchmarks_are_read_from_parquet_and_jsonl(tmp_path: Path) -> None:
    rows = [{"n": 7, "q": "سؤال", "options": ["أ", "ب"]}, {"n": 8, "q": None, "options": []}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "set.parquet")
    want = [("set", "7", ["سؤال", "أ", "ب"]), ("set", "8", [])]
    assert list(read(Benchmark(path=str(tmp_path / "set.parquet"), text=["q", "options"], id="n"))) == want
    lines = "\n".join(json.dumps(r) for r in rows) + "\n\n"
    (tmp_path / "set.jsonl").write_text(lines)
    (tmp_path / "set.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    for name in ("set.jsonl", "set.jsonl.gz"):
        got = list(read(Benchmark(path=str(tmp_path / name), text=["q", "options"], name="mine")))
        assert got == [("mine", "0", ["سؤال", "أ", "ب"]), ("mine", "1", [])]
    with pytest.raises(FitraError, match="no column 'x'"):
        list(read(Benchmark(path=str(tmp_path / "set.parquet"), text=["x"])))
    with pytest.raises(FitraError, match="no such file"):
        list(read(Benchmark(path=str(tmp_path / "none.jsonl"), text=["q"])))
    (tmp_path / "bad.jsonl").write_text('{"q": "a"}\n{"q')
    with pytest.raises(FitraError, match="damaged"):
        list(read(Benchmark(path=str(tmp_path / "bad.jsonl"), text=["q"])))


def test_the_report_counts_rows_and_documents() -> None:
    hits = [Hit(0, "a", "1", 1.0, 9), Hit(0, "a", "2", 0.6, 9), Hit(3, "a", "1", 1.0, 9), Hit(3, "b", "x", 0.5, 4)]
    assert report(hits, {"a": 10, "b": 5, "c": 7}).to_pylist() == [
        {"benchmark": "a", "rows_found": 2, "rows": 10, "documents": 2},
        {"benchmark": "b", "rows_found": 1, "rows": 5, "documents": 1},
        {"benchmark": "c", "rows_found": 0, "rows": 7, "documents": 0},
    ]


def test_real_sets_are_in_the_encyclopedia_and_not_in_the_news(data: Path) -> None:
    sets = [("arcd_ar", ["context", "question"]), ("exams_ar", ["question", "A", "B", "C", "D"])]
    index = build(
        r for name, text in sets for r in read(Benchmark(path=str(data / "eval" / f"{name}.parquet"), text=text))
    )
    cfg = Contamination()

    def found(name: str) -> set[str]:
        texts = pq.read_table(data / "raw" / f"{name}.parquet", columns=["text"])["text"].slice(0, 1500)
        hits = index.find(view(texts.combine_chunks()), cfg.min_share, cfg.min_grams)
        return {h.benchmark for h in hits}

    assert found("ar_wiki") == {"arcd_ar"}  # its passages are from there
    assert found("ar_news") == set()
