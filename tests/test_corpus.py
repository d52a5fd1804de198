"""The corpus room: nothing is lost, every removal says why, two runs are equal byte for byte."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from fitra import corpus
from fitra.artifacts import DOCUMENT_SCHEMA, read_table
from fitra.corpus import ingest
from fitra.errors import FitraError
from fitra.recipe import Corpus, Dedupe, Filters, Source, Toxicity
from fitra.signals import language
from fitra.signals.view import View

VERSE = "بِسْمِ اللَّهِ الرَّحْمَٰنِ الرَّحِيمِ الْحَمْدُ لِلَّهِ رَبِّ الْعَالَمِينَ الرَّحْمَٰنِ الرَّحِيمِ مَالِكِ يَوْمِ الدِّينِ إِيَّاكَ نَعْبُدُ وَإِيَّاكَ نَسْتَعِينُ"
POEM = "قفا نبك من ذكرى حبيب ومنزل\nبسقط اللوى بين الدخول فحومل\nفتوضح فالمقراة لم يعف رسمها\nلما نسجتها من جنوب وشمأل"
EGYPTIAN = "انا مش عارف ازاي الناس دي بتعمل كده كل يوم وبعدين عايزين ايه دلوقتي يعني"
LEVANTINE = "شو هيدا الحكي كتير منيح بس ليش عم تحكي هيك معنا هلق وما بدك تروح لهون"
VOCABULARY = "مدينة كتاب علم قلب نهر جبل سوق بيت طريق شجرة مدرسة معلم طفل حديقة سماء أرض بحر قمر شمس نجم ليل صباح"
WORDS = VOCABULARY.split()


def prose(seed: int, n: int = 60) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(n))


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


def config(*paths: Path, **more: Any) -> Corpus:
    # What `prose` makes is no language: filters of words would rightly refuse it.
    more.setdefault("filters", Filters(preset="none"))
    return Corpus(inputs=[Source(path=str(p)) for p in paths], **more)


def rows(out: Path, name: str) -> dict[str, dict[str, Any]]:
    return {r["id"]: r for r in read_table(out, name).to_pylist()}


def snapshot(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*.parquet"))}


def test_arabic_variants_are_duplicates_and_the_longest_stays(tmp_path: Path) -> None:
    plain = prose(1)
    marked = plain.replace("مدينة", "مَدِينَةٌ").replace("علم", "عِلْم")
    variants = [plain, marked, plain.replace("مدينة", "مدينه"), plain.replace("كتاب", "كتـــاب"), "\u200f" + plain]
    out = tmp_path / "out"
    m = corpus.clean(
        config(jsonl(tmp_path / "a.jsonl", [{"id": f"d{i}", "text": t} for i, t in enumerate(variants)])), out
    )
    assert list(rows(out, "documents")) == ["d1"]
    assert m["counts"]["removed_exact_duplicate"] == 4
    gone = rows(out, "removed")["d0"]
    assert (gone["kept_id"], gone["cluster_id"], gone["stage"]) == ("d1", "d0", "dedupe")


def test_near_duplicates_go_and_others_stay(tmp_path: Path) -> None:
    docs = [{"id": f"o{i:03d}", "text": prose(i)} for i in range(60)]
    edited = [{"id": f"e{i:03d}", "text": prose(i, 60) + " زيادة"} for i in range(30)]
    out = tmp_path / "out"
    m = corpus.clean(config(jsonl(tmp_path / "a.jsonl", docs + edited)), out)
    removed = rows(out, "removed")
    assert m["counts"]["removed_near_duplicate"] >= 28
    assert all(r["kept_id"] == "e" + i[1:] and r["figure"] >= 0.8 for i, r in removed.items())
    off = corpus.clean(config(tmp_path / "a.jsonl", dedupe=Dedupe(near=False)), tmp_path / "exact")
    assert off["counts"]["kept"] == 90


def test_each_filter_says_what_it_measured(tmp_path: Path) -> None:
    docs = {
        "short": "كلمتان فقط",
        "farsi": "این کتاب برای من است و می خواهم آن را بخوانم که خیلی خوب است",
        "symbols": "كلمة أخرى بعد كلمة ثم كلمة بعد كلمة أخرى " + "★☆ ◆◇ " * 30,
        "lines": "\n".join(["هذا سطر طويل يعاد مرة بعد مرة"] * 9),
        "good": prose(5),
    }
    out = tmp_path / "out"
    corpus.clean(config(jsonl(tmp_path / "a.jsonl", [{"id": k, "text": v} for k, v in docs.items()])), out)
    got = {k: r["reason"] for k, r in rows(out, "removed").items()}
    assert got == {"short": "too_short", "farsi": "language", "symbols": "symbol_share", "lines": "repeated_lines"}
    assert rows(out, "removed")["short"]["figure"] == 2
    jsonl(tmp_path / "b.jsonl", [{"text": "an English text that says it is Arabic, ten words", "lang": "ar"}])
    corpus.clean(config(tmp_path / "b.jsonl"), tmp_path / "b")
    assert next(iter(rows(tmp_path / "b", "removed").values()))["reason"] == "script_share"


@pytest.mark.parametrize(("text", "lang"), [(VERSE, "ar"), (POEM, "ar"), (EGYPTIAN, "arz"), (LEVANTINE, "apc")])
def test_vocalised_poetic_and_dialect_text_survives(tmp_path: Path, text: str, lang: str) -> None:
    corpus.clean(config(jsonl(tmp_path / "a.jsonl", [{"id": "x", "text": text}])), tmp_path / "out")
    doc = rows(tmp_path / "out", "documents")["x"]
    assert (doc["text"], doc["lang"]) == (text, lang)


def test_bad_rows_are_set_aside_and_harm_no_neighbour(tmp_path: Path) -> None:
    good = [json.dumps({"id": f"g{i}", "text": prose(i)}, ensure_ascii=False).encode() for i in range(3)]
    bad = [b'{"id": "cut", "text": "abc', b'{"id": "x", "text": "\xff\xfe"}', b'{"id": "n", "text": null}', b"[1]",
           b'{"id": "e", "text": "  "}', b'{"id": "i", "text": 5}',
           b'{"id": "s", "text": "\\ud800 x"}', b'{"id": "k"}']  # fmt: skip
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([good[0], *bad[:4], good[1], *bad[4:], good[2]]))
    out = tmp_path / "out"
    m = corpus.clean(config(path), out)
    assert sorted(rows(out, "documents")) == ["g0", "g1", "g2"]
    aside = read_table(out, "quarantine").to_pylist()
    assert m["counts"]["quarantined"] == len(bad) == len(aside)
    assert {r["where"] for r in aside} >= {"a.jsonl:2", "a.jsonl:3"}
    assert {"not UTF-8", "empty text", "no key 'text'"} <= {r["reason"] for r in aside}
    assert corpus.explain(out, "a.jsonl:2")["state"] == "quarantined"


def test_parquet_with_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    raw = pa.array([prose(1).encode(), b"\xff\xfe abc", prose(2).encode()], pa.binary())
    text = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    pq.write_table(pa.table({"id": ["a", "b", "c"], "text": text}), tmp_path / "a.parquet")
    corpus.clean(config(tmp_path / "a.parquet"), tmp_path / "out")
    assert sorted(rows(tmp_path / "out", "documents")) == ["a", "c"]
    assert read_table(tmp_path / "out", "quarantine")["id"].to_pylist() == ["b"]


def test_every_kind_of_file_and_folders_and_globs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    lines = (json.dumps({"id": "gz", "text": prose(1)}) + "\n").encode()
    (data / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    (data / "b.jsonl.zst").write_bytes(zstandard.compress(lines.replace(b'"gz"', b'"zst"').replace(b"}", b', "n": 1}')))
    with (data / "c.csv").open("w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows([["id", "text"], ["csv", prose(3) + "\nسطر, ثان"]])
    (data / "d.txt").write_text(prose(4), encoding="utf-8")
    pq.write_table(pa.table({"doc_id": ["pq"], "text": [prose(5)]}), data / "e.parquet")
    jsonl(data / "f.jsonl", [{"id": "jsonl", "text": prose(6)}])
    (data / ".hidden.txt").write_text("x")
    for path in (data, data / "*"):
        out = tmp_path / path.name.replace("*", "star")
        corpus.clean(config(path, dedupe=Dedupe(exact=False, near=False)), out)
        assert sorted(rows(out, "documents")) == ["csv", "d", "gz", "jsonl", "pq", "zst"]
    # A finished stage stands for its documents, whose own columns stay.
    corpus.clean(config(tmp_path / "star"), tmp_path / "again")
    assert rows(tmp_path / "again", "documents")["csv"]["source"] == "c"


def test_clear_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "not.parquet").write_bytes(b"this is no parquet")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 1000)[:40])
    pq.write_table(pa.table({"body": ["x"], "title": ["y"]}), tmp_path / "other.parquet")
    jsonl(tmp_path / "other.jsonl", [{"body": "x"}])
    (tmp_path / "other.csv").write_text("body,title\nx,y\n")
    (tmp_path / "what.docx").write_bytes(b"x")
    for name, says in [
        ("empty.jsonl", "empty"), ("not.parquet", "damaged"), ("cut.jsonl.gz", "damaged"), ("none.txt", "no such file"),
        ("other.parquet", "body, title"), ("other.jsonl", "body"), ("other.csv", "body, title"),
        ("what.docx", "unknown"),
    ]:  # fmt: skip
        with pytest.raises(FitraError, match=says) as e:
            corpus.clean(config(tmp_path / name), tmp_path / f"out-{name}")
        assert name in e.value.message
    with pytest.raises(FitraError, match="no inputs"):
        corpus.clean(Corpus(), tmp_path / "out")


def test_one_bad_file_among_many_harms_no_other_but_an_input_of_nothing_stops(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(3):
        jsonl(folder / f"{k}.jsonl", [{"id": f"{k}-{i}", "text": prose(10 * k + i)} for i in range(5)])
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 1000)[:40])
    (folder / "photo.jpg").write_bytes(b"x")
    m = corpus.clean(config(folder), tmp_path / "out")
    assert (m["counts"]["kept"], m["counts"]["quarantined"]) == (15, 1)
    assert m["notes"]["ignored"] == {"files": 1, "first": ["photo.jpg"]}
    (row,) = read_table(tmp_path / "out", "quarantine").to_pylist()
    assert "cut.jsonl.gz" in row["where"]
    (tmp_path / "other").mkdir()
    for k in range(2):
        jsonl(tmp_path / "other" / f"{k}.jsonl", [{"body": prose(i)} for i in range(5)])
    with pytest.raises(FitraError, match="body"):
        corpus.clean(config(folder, tmp_path / "other"), tmp_path / "never")


def test_columns_ids_and_licences(tmp_path: Path) -> None:
    own = {"licence_class": "B", "licence": "CC BY-SA", "url": "u", "source": "s", "pair_id": "p", "genre": "news",
           "labels": '{"kept":1}', "truth": "secret"}  # fmt: skip
    jsonl(
        tmp_path / "a.jsonl", [{"id": "x", "text": prose(1), **own}, {"id": "x", "text": prose(2)}, {"text": prose(3)}]
    )
    out = tmp_path / "out"
    cfg = config().model_copy(
        update={"inputs": [Source(path=str(tmp_path / "a.jsonl"), licence="MIT", licence_class="A")]}
    )
    m = corpus.clean(cfg, out)
    docs = rows(out, "documents")
    assert read_table(out, "documents").schema.equals(DOCUMENT_SCHEMA)
    assert {"x", "x-2"} < set(docs) and len(docs) == 3 and list(docs) == sorted(docs)
    assert {k: docs["x"][k] for k in ("licence_class", "licence", "url", "source", "pair_id")} == {
        k: own[k] for k in ("licence_class", "licence", "url", "source", "pair_id")
    }
    assert (docs["x-2"]["licence_class"], docs["x-2"]["licence"], docs["x-2"]["source"]) == ("A", "MIT", "a")
    labels = json.loads(docs["x"]["labels"])
    assert (
        labels["kept"] == 1 and labels["genre"] == "news" and labels["lang_detected"] == "ar" and "truth" not in labels
    )
    assert m["licence_class"] == "B"


def test_split_keeps_every_character(tmp_path: Path) -> None:
    text = "\n\n".join(prose(i, 30) for i in range(40))
    for limit in (50, 333, 1000):
        pieces = ingest.split(text, limit)
        assert "".join(pieces) == text and max(map(len, pieces)) <= limit
    assert "".join(ingest.split("ا" * 1001, 100)) == "ا" * 1001
    out = tmp_path / "out"
    m = corpus.clean(config(jsonl(tmp_path / "a.jsonl", [{"id": "big", "text": text}]), max_chars=1000), out)
    docs = rows(out, "documents")
    assert {d["parent_id"] for d in docs.values()} == {"big"} and next(iter(docs)) == "big#00001"
    assert "".join(d["text"] for d in docs.values()) == text
    assert m["counts"]["kept"] + m["counts"]["removed"] == m["counts"]["read"] + m["counts"]["split_added"]
    assert corpus.explain(out, "big") == {"id": "big", "state": "split", "parts": list(docs)}


def test_personal_data_is_masked_everywhere_or_dropped(tmp_path: Path) -> None:
    mail = "someone@example.org"
    path = jsonl(
        tmp_path / "a.jsonl", [{"id": "a", "text": f"{prose(1)} {mail}"}, {"id": "b", "text": f"راسلني {mail}"}]
    )
    corpus.clean(config(path), tmp_path / "mask")
    shown = rows(tmp_path / "mask", "documents") | rows(tmp_path / "mask", "removed")
    assert set(shown) == {"a", "b"} and not any(mail in d["text"] for d in shown.values())
    corpus.clean(config(path, personal_data="keep"), tmp_path / "keep")
    assert mail in rows(tmp_path / "keep", "documents")["a"]["text"]
    corpus.clean(config(path, personal_data="drop"), tmp_path / "drop")
    assert rows(tmp_path / "drop", "removed")["a"]["reason"] == "personal_data"


def test_toxicity_is_a_label_and_removes_only_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def score(seen: View) -> dict[str, Any]:
        texts = seen.texts.to_pylist()
        values = [np.nan if "عطل" in t else 0.9 if "كلب" in t else 0.1 for t in texts]
        return {"hate": np.array(values, np.float32), "overall": np.array(values, np.float32)}

    monkeypatch.setattr("fitra.signals.toxicity.scorer", lambda spec, labels: score)
    docs = {"clean": prose(1), "toxic": prose(2) + " كلب", "unknown": prose(3) + " عطل"}
    path = jsonl(tmp_path / "a.jsonl", [{"id": k, "text": v} for k, v in docs.items()])
    corpus.clean(config(path), tmp_path / "label")
    labels = {k: json.loads(d["labels"])["toxicity"]["hate"] for k, d in rows(tmp_path / "label", "documents").items()}
    assert labels == {"clean": 0.1, "toxic": 0.9, "unknown": None}
    corpus.clean(config(path, toxicity=Toxicity(drop_over={"overall": 0.5})), tmp_path / "drop")
    assert list(rows(tmp_path / "drop", "documents")) == ["clean"]
    why = {k: r["reason"] for k, r in rows(tmp_path / "drop", "removed").items()}
    assert why == {"toxic": "toxic_overall", "unknown": "not_scored"}
    with pytest.raises(FitraError, match="no heading 'bad'"):
        corpus.clean(config(path, toxicity=Toxicity(drop_over={"bad": 0.5})), tmp_path / "bad")


def test_masks_of_personal_data_count_neither_as_words_nor_as_latin(tmp_path: Path) -> None:
    said = "أحسنت وأجدت يا أخي الكريم في هذا الكلام الجميل كله"
    handles = " ".join(f"@reader{i}" for i in range(12))
    docs = [{"id": "long", "text": f"{handles} {said}"}, {"id": "short", "text": f"{handles} أحسنت يا أخي"}]
    corpus.clean(config(jsonl(tmp_path / "a.jsonl", docs)), tmp_path / "out")
    assert "[HANDLE]" in rows(tmp_path / "out", "documents")["long"]["text"]
    assert rows(tmp_path / "out", "removed")["short"]["reason"] == "too_short"


def test_two_runs_are_equal_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fitra.tables.batch.BATCH_BYTES", 20_000)  # many batches
    monkeypatch.setattr("fitra.corpus.deal.PART_ROWS", 50)  # many parts
    docs: list[Any] = [{"id": f"d{i}", "text": prose(i % 150, 8 + i % 40)} for i in range(400)] + [
        {"id": "n", "text": ""}
    ]
    random.Random(1).shuffle(docs)
    path = jsonl(tmp_path / "a.jsonl", docs)
    m = corpus.clean(config(path), tmp_path / "one")
    corpus.clean(config(path), tmp_path / "two")
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")
    kept, removed = rows(tmp_path / "one", "documents"), rows(tmp_path / "one", "removed")
    assert set(kept) | set(removed) | {"n"} == {d["id"] for d in docs} and not set(kept) & set(removed)
    assert list(kept) == sorted(kept) and list(removed) == sorted(removed)
    assert all(r["kept_id"] in kept for r in removed.values() if r["kept_id"])
    c = m["counts"]
    assert c["kept"] + c["removed"] + c["quarantined"] == c["read"] == len(docs)
    assert not (tmp_path / "one" / ".work").exists()
    assert corpus.clean(config(path), tmp_path / "one")["finished_at"] == m["finished_at"]  # not run again
    some = next(i for i, r in removed.items() if r["kept_id"])
    why = corpus.explain(tmp_path / "one", some)
    assert why["state"] == "removed" and some in why["cluster"]
    assert some in corpus.explain(tmp_path / "one", why["kept_id"])["duplicates"]
    with pytest.raises(FitraError, match="no document"):
        corpus.explain(tmp_path / "one", "never")


def test_limit_takes_a_sample(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"id": str(i), "text": prose(i)} for i in range(9)])
    out = tmp_path / "out"
    corpus.clean(config().model_copy(update={"inputs": [Source(path=str(path), limit=4)]}), out)
    assert list(rows(out, "documents")) == ["0", "1", "2", "3"]


def test_language_on_other_scripts() -> None:
    for text, lang in [
        ("یہ کتاب میرے لیے ہے اور میں اس کو پڑھنا چاہتا ہوں", "ur"), ("Bonjour le monde, je ne suis pas ici", "other"),
        ("Это русский текст", "other"), ("The book is on the table and it was good", "en"), ("123 !!", "other"),
        ("مرحبا بالعالم https://example.org/a/very/long/english/address", "ar"),
    ]:  # fmt: skip
        assert language.detect(text)[0] == lang


@pytest.mark.slow
def test_a_document_of_fifty_megabytes(tmp_path: Path) -> None:
    text = "\n\n".join(prose(i, 500) for i in range(13_000))
    (tmp_path / "big.txt").write_text(text, encoding="utf-8")
    assert len(text.encode()) > 50e6
    m = corpus.clean(config(tmp_path / "big.txt"), tmp_path / "out")
    assert m["counts"]["chars"] == len(text)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("FITRA_DATA"), reason="set FITRA_DATA to the folder with the real data")
def test_real_vocalised_classical_and_dialect_text_survives(tmp_path: Path) -> None:
    data = Path(os.environ["FITRA_DATA"])
    quran = pq.read_table(data / "parallel/quran_ar_en.parquet")
    text = next(c for c in quran.column_names if "ar" in c.split("_"))
    long = quran.filter(pa.array([len(t.split()) >= 8 for t in quran[text].to_pylist()]))
    pq.write_table(pa.table({"text": long[text]}), tmp_path / "quran.parquet")
    inputs = [
        tmp_path / "quran.parquet",
        data / "raw/ar_classical_books.parquet",
        data / "raw/arz_wiki_egyptian.parquet",
    ]
    m = corpus.clean(config(*inputs, dedupe=Dedupe(exact=False, near=False)), tmp_path / "out")
    lost = {k: v for k, v in m["counts"].items() if k.startswith("removed_")}
    assert sum(v for k, v in lost.items() if k != "removed_too_short") < 0.01 * m["counts"]["read"], lost
