"""pretrain: the base from nothing, and the bilingual mixture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")

from fitra import lm, pretrain, recipe
from fitra.artifacts import DOCUMENT_SCHEMA, open_stage, read_manifest
from fitra.errors import FitraError
from fitra.pretrain import sources

ENGLISH = ["The old baker of the small town sold {} loaves of bread in the morning market.", "She read {} books."]
ARABIC = ["باع خباز البلدة القديمة {} رغيفا في سوق الصباح.", "قرأت {} كتابا في المكتبة."]
SCRATCH = recipe.Scratch(vocab_size=300, hidden_size=32, layers=1, heads=2, intermediate_size=48, max_positions=64)


def corpus(folder: Path, arabic: int = 40, english: int = 40, licence: str = "B") -> Path:
    rows: list[dict[str, Any]] = []
    for i in range(english):
        rows.append({"id": f"e{i:03}", "text": ENGLISH[i % 2].format(i), "lang": "en", "licence_class": "A"})
    for i in range(arabic):
        lang = ("ar", "arz", "apc")[i % 3]
        rows.append({"id": f"a{i:03}", "text": ARABIC[i % 2].format(i), "lang": lang, "licence_class": licence})
    full = [{name: r.get(name) for name in DOCUMENT_SCHEMA.names} for r in rows]
    with open_stage(folder, stage="corpus", config={"n": [arabic, english, licence]}, inputs={}) as st:
        st.write_table("documents", pa.Table.from_pylist(full, schema=DOCUMENT_SCHEMA))
    return folder


def small(**kw: Any) -> recipe.Train:
    return recipe.Train(**{"tokens": 4096, "batch_tokens": 256, "seq_len": 32, "device": "cpu"} | kw)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pretrain")
    pretrain.make_base(recipe.Base(scratch=SCRATCH, train=small()), corpus(root / "corpus"), 7, root / "base")
    return root / "base"


def test_base_speaks_bytes_and_keeps_chat_tokens(base: Path) -> None:
    m = lm.load(base, device="cpu")
    for text in ("the bread", "بسم الله الرحمن الرحيم", "مُحَمَّدٌ", "日本 🙂\n\t x"):
        ids = m.tokenizer(text)["input_ids"]
        assert ids[0] == m.tokenizer.bos_token_id and m.tokenizer.unk_token_id not in ids[1:]
        assert m.tokenizer.decode(ids, skip_special_tokens=True) == text
    for token in ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"):
        assert len(m.tokenizer(token, add_special_tokens=False)["input_ids"]) == 1
    assert len(m.tokenizer) == m.model.config.vocab_size == 300


def test_base_learns_from_english_alone(base: Path) -> None:
    log = [json.loads(x) for x in (base / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"] and log[-1]["tokens"] == 4096
    manifest = read_manifest(base)
    assert manifest["counts"]["documents"] == 40 and manifest["licence_class"] == "A"
    pieces = lm.load(base, device="cpu").tokenizer.get_vocab()
    assert not any(len(p) > 2 and p[0] in "ØÙ" for p in pieces)  # no Arabic word was merged
    assert not (base / "checkpoint").exists()


def test_base_is_the_same_whatever_the_arabic(base: Path, tmp_path: Path) -> None:
    pretrain.make_base(recipe.Base(scratch=SCRATCH, train=small()), corpus(tmp_path / "c", arabic=3), 7, tmp_path / "b")
    assert lm.weights_hash(tmp_path / "b") == lm.weights_hash(base)


def test_base_from_a_folder_is_linked(base: Path, tmp_path: Path) -> None:
    made = pretrain.make_base(recipe.Base(path=str(base / "model")), tmp_path / "unused", 7, tmp_path / "b")
    assert lm.weights_hash(tmp_path / "b" / "model") == lm.weights_hash(base)
    assert made["licence_class"] == "A"


def test_base_without_english_or_with_a_bad_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FitraError, match="language 'en'"):
        pretrain.make_base(recipe.Base(), corpus(tmp_path / "c", english=0), 7, tmp_path / "b")
    folder = corpus(tmp_path / "d")
    with pytest.raises(FitraError, match="vocab_size"):
        pretrain.make_base(recipe.Base(scratch=recipe.Scratch(vocab_size=200)), folder, 7, tmp_path / "e")
    with pytest.raises(FitraError, match="hidden_size"):
        pretrain.make_base(recipe.Base(scratch=recipe.Scratch(hidden_size=50)), folder, 7, tmp_path / "f")


def parallel_file(path: Path, rows: int = 30) -> Path:
    table = {"ar": [ARABIC[1].format(i) for i in range(rows)], "en": [ENGLISH[1].format(i) for i in range(rows)]}
    pq.write_table(pa.table(table | {"licence_class": ["A"] * rows}), path)
    return path


def test_mixture_trains_all_groups_and_logs_each(base: Path, tmp_path: Path) -> None:
    cfg = recipe.Pretrain(train=small(tokens=8192))
    folder, both = corpus(tmp_path / "c"), parallel_file(tmp_path / "p.parquet")
    made = pretrain.continue_pretraining(cfg, base / "model", folder, 7, tmp_path / "out", parallel=[both])
    log = [json.loads(x) for x in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert set(log[0]) == {"step", "tokens", "lr", "loss", "loss_ar", "loss_en", "loss_parallel"}
    assert log[-1]["loss_ar"] < log[0]["loss_ar"]
    counts = made["counts"]
    assert sum(counts[f"tokens_{g}"] for g in ("ar", "en", "parallel")) == counts["tokens"] == 8192
    assert counts["tokens_ar"] / 8192 == pytest.approx(0.55, abs=0.01)
    assert made["licence_class"] == "B"
    # the same call again does nothing and gives the same manifest
    assert pretrain.continue_pretraining(cfg, base / "model", folder, 7, tmp_path / "out", parallel=[both]) == made


def test_two_corpora_of_unlike_size_train_on_equal_tokens(base: Path, tmp_path: Path) -> None:
    cfg = recipe.Pretrain(train=small(tokens=2048))
    made = [
        pretrain.continue_pretraining(cfg, base, corpus(tmp_path / f"c{n}", arabic=n), 7, tmp_path / f"o{n}")["counts"]
        for n in (20, 40)
    ]
    assert made[0]["tokens"] == made[1]["tokens"] == 2048
    assert made[0]["tokens_ar"] == made[1]["tokens_ar"] and made[0]["tokens_parallel"] == 0
    assert made[0]["repeats_ar"] > made[1]["repeats_ar"]


def test_caps_that_leave_less_than_the_budget_are_told(base: Path, tmp_path: Path) -> None:
    cfg = recipe.Pretrain(train=small(tokens=65536), mixture=recipe.Mixture(max_repeats=2))
    counts = pretrain.continue_pretraining(cfg, base, corpus(tmp_path / "c"), 7, tmp_path / "o")["counts"]
    assert counts["tokens_short"] == 65536 - counts["tokens"] > 0


def test_parallel_rows_alternate_and_bad_files_are_named(tmp_path: Path) -> None:
    got = sources.parallel([parallel_file(tmp_path / "p.parquet", 2)])
    assert got.texts == [
        ARABIC[1].format(0) + "\n" + ENGLISH[1].format(0), ENGLISH[1].format(1) + "\n" + ARABIC[1].format(1),
    ]  # fmt: skip
    with pytest.raises(FitraError, match="no such file"):
        sources.parallel([tmp_path / "none.parquet"])
    pq.write_table(pa.table({"ar": ["x"]}), tmp_path / "bad.parquet")
    with pytest.raises(FitraError, match="no column en"):
        sources.parallel([tmp_path / "bad.parquet"])
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(FitraError, match="not a parquet"):
        sources.parallel([tmp_path / "text.parquet"])
