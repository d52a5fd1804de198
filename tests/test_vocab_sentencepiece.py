"""SentencePiece-type bases (Llama-2, Mistral v1) and tekken: read, grown, equal to their packages."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="needs fitra[train]")

import torch
from test_vocab import ENGLISH, arabic_text, write_corpus
from tokenizers import Tokenizer, models, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from fitra import recipe, vocab
from fitra.errors import FitraError
from fitra.vocab import bpe, checks, learn, sentencepiece, tekken
from fitra.vocab.script import Script

LETTERS = "ابتثجحخدذرزسشصضطظعغفقكلمنهويىة"


def tiny_model(letters: str = LETTERS) -> sentencepiece.Model:
    """A SentencePiece BPE like Llama's: control pieces, 256 bytes, pieces by rank, then single characters."""
    P = sentencepiece.Piece
    trainer = trainers.BpeTrainer(vocab_size=260, show_progress=False)
    english = Tokenizer(models.BPE())
    words = [f"▁{w}" for t in ENGLISH * 5 for w in t.split()]
    english.train_from_iterator(words, trainer)
    merges = json.loads(english.to_str())["model"]["merges"]
    ranked = list(dict.fromkeys("".join(m) for m in merges))
    chars = sorted({c for t in ENGLISH for c in t if c != " "} | {"▁", "،"} | set(letters))
    pieces = [P("<unk>", 0, 2), P("<s>", 0, 3), P("</s>", 0, 3)]
    pieces += [P(f"<0x{b:02X}>", 0, 6) for b in range(256)]
    pieces += [P(t, -float(i), 1) for i, t in enumerate(ranked)]
    pieces += [P(c, -float(len(ranked) + i), 1) for i, c in enumerate(chars)]
    trainer_spec = sentencepiece._key(3, 0) + b"\x02" + sentencepiece._key(4, 0) + sentencepiece._number(len(pieces))
    normal = sentencepiece._message(1, b"identity") + b"\x18\x01\x20\x00"
    spec = sentencepiece._message(2, trainer_spec + sentencepiece._key(35, 0) + b"\x01")
    raw = b"".join(map(sentencepiece._piece, pieces)) + spec + sentencepiece._message(3, normal)
    return sentencepiece.Model(raw, tuple(pieces), 2, True, False, b"", False)


def write_base(folder: Path, model: sentencepiece.Model, json_too: bool = True, rows: int = 0) -> Path:
    torch.manual_seed(0)
    cfg = LlamaConfig(
        vocab_size=rows or len(model.pieces), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    LlamaForCausalLM(cfg).save_pretrained(folder)
    (folder / sentencepiece.NAME).write_bytes(model.raw)
    if json_too:
        spec = sentencepiece.to_spec(model)
        (folder / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False))
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [("ar", arabic_text(i)) for i in range(80)] + [("en", t) for t in ENGLISH]
    return write_corpus(tmp_path_factory.mktemp("corpus") / "c", texts)


def read_back(raw: bytes, folder: Path) -> sentencepiece.Model:
    (folder / "m.model").write_bytes(raw)
    return sentencepiece.read(folder / "m.model")


def counted(texts: list[str], spec: dict[str, Any]) -> dict[str, int]:
    runs: dict[str, int] = {}
    for t in texts:
        for r in bpe.RUN.findall(t):
            runs[r] = runs.get(r, 0) + 1
    return bpe.words_of(runs, bpe.build(spec), bpe.kind(spec))


@pytest.mark.parametrize("json_too", [True, False])
def test_expansion_of_a_sentencepiece_base(json_too: bool, corpus: Path, tmp_path: Path) -> None:
    # Without teh marbuta: a letter that the base can only write in bytes.
    base = write_base(tmp_path / "base", tiny_model(LETTERS.replace("ة", "")), json_too)
    manifest = vocab.expand(recipe.Vocab(add=60, pad_multiple=16), base, corpus, 7, tmp_path / "v")
    counts, notes, model = manifest["counts"], manifest["notes"], tmp_path / "v" / "model"
    assert notes["kind"] == "sentencepiece" and counts["added"] == 60 and counts["unreachable"] == 0
    assert counts["rows_after"] % 16 == 0 and counts["rows_after"] >= counts["first_new_id"] + 60
    assert notes["sentencepiece"]["pieces"] == counts["first_new_id"] + 60
    figures = json.loads((tmp_path / "v" / "fertility.json").read_text())
    assert figures["ar"]["after"]["tokens_per_word"] < figures["ar"]["before"]["tokens_per_word"] / 2
    assert figures["en"]["after"]["tokens_per_word"] == figures["en"]["before"]["tokens_per_word"]
    tok = AutoTokenizer.from_pretrained(model)
    text = arabic_text(200)
    assert tok.decode(tok(text, add_special_tokens=False)["input_ids"]) == text
    assert "ة" in {bpe.piece_text(t, "sentencepiece") for t in tok.get_vocab()}
    was, now = AutoModelForCausalLM.from_pretrained(base), AutoModelForCausalLM.from_pretrained(model)
    old = bpe.build(bpe.read(base))
    new = Tokenizer.from_file(str(model / "tokenizer.json"))
    for i in (counts["first_new_id"], counts["first_new_id"] + 59):
        pieces = [t.id for t in old.model.tokenize(new.id_to_token(i))]
        for get in ("get_input_embeddings", "get_output_embeddings"):
            assert torch.allclose(getattr(now, get)().weight[i], getattr(was, get)().weight[pieces].mean(0), atol=1e-6)


@pytest.mark.parametrize("name", ["LlamaTokenizer", "LlamaTokenizerFast"])
def test_a_base_of_llamas_own_tokenizer_class(name: str, corpus: Path, tmp_path: Path) -> None:
    """AutoTokenizer gives LlamaTokenizer, which rebuilds itself from the file and reads a space in front otherwise."""
    base = write_base(tmp_path / "base", tiny_model())
    config = {"tokenizer_class": name, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": True}
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    made = vocab.expand(recipe.Vocab(add=40), base, corpus, 7, tmp_path / "v")
    assert made["notes"]["reload"]["class"] == "LlamaTokenizer" and made["notes"]["reload"]["base_differs"] == 0
    was, now = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(tmp_path / "v" / "model")
    ours = Tokenizer.from_file(str(tmp_path / "v" / "model" / "tokenizer.json"))
    assert type(now).__name__ == "LlamaTokenizer" and len(now) == len(was) + 40
    for t in (arabic_text(300), *ENGLISH, "a  b 12"):
        assert now(t, add_special_tokens=False)["input_ids"] == ours.encode(t, add_special_tokens=False).ids
    for t in (*ENGLISH, " in front", "a  b 12"):
        assert now(t)["input_ids"] == was(t)["input_ids"]


def test_reload_tells_what_transformers_reads_otherwise(corpus: Path, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", tiny_model())
    vocab.expand(recipe.Vocab(add=20), base, corpus, 7, tmp_path / "v")
    model = tmp_path / "v" / "model"
    old, new = bpe.build(bpe.read(base)), bpe.build(bpe.read(model))
    first = len(tiny_model().pieces)

    def check(texts: list[str]) -> dict[str, Any]:
        return checks.check_reload(base, model, old, new, first, 20, texts)

    assert check([" in front", *ENGLISH])["base_differs"] == 0
    for folder in (base, model):
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    assert check([" in front", *ENGLISH])["base_differs"] == 1
    (base / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    with pytest.raises(FitraError, match="AutoTokenizer reads ' in front' differently"):
        check([" in front"])


def test_the_faster_writing_reads_alike() -> None:
    spec = sentencepiece.to_spec(tiny_model())
    fast = bpe.lean(spec)
    assert fast["pre_tokenizer"]["type"] == "Metaspace" and bpe.lean(fast) == fast
    a, b = bpe.build(spec), bpe.build(fast)
    for t in (*ENGLISH, arabic_text(1), " a", "a  b\n\n c ", "", " ", "<s> a</s> b", "▁ ▁▁x", "\u00a0a", "🙂 b"):
        x, y = a.encode(t), b.encode(t)
        assert (x.ids, x.offsets) == (y.ids, y.offsets) and a.decode(x.ids) == b.decode(y.ids)
    other = {**spec, "normalizer": {"type": "Sequence", "normalizers": spec["normalizer"]["normalizers"][1:]}}
    assert bpe.lean(other) == other


def test_the_grown_model_file_reads_as_the_grown_json(tmp_path: Path) -> None:
    package = pytest.importorskip("sentencepiece", reason="the package sentencepiece is the slow path")
    base = tiny_model()
    spec = sentencepiece.to_spec(base)
    texts = [arabic_text(i) for i in range(60)]
    got = learn.continue_bpe(spec, counted(texts, spec), 80, 2)
    grown = bpe.extend(spec, got.merges)
    raw = sentencepiece.extend(base, {t: grown["model"]["vocab"][t] for t in got.tokens})
    processor, fast = package.SentencePieceProcessor(model_proto=raw), bpe.build(grown)
    for text in [*texts, *ENGLISH, "  كتاب  ABC\nسوق ", "", "ڤيتامين 12", "ههههه ههه", "a  b"]:
        assert processor.encode(text) == fast.encode(text, add_special_tokens=False).ids, text
    assert raw.startswith(base.raw)
    scores = [p.score for p in read_back(raw, tmp_path).pieces if p.type == sentencepiece.NORMAL]
    assert all(a > b for a, b in itertools.pairwise(scores))


def test_scores_stay_apart_after_a_huge_one(tmp_path: Path) -> None:
    """Mistral's ▁▁ has the score -1e9, where one less is the same 32-bit number."""
    base = tiny_model()
    huge = sentencepiece.Piece("▁▁", -1e9, 1)
    base = sentencepiece.Model(base.raw + sentencepiece._piece(huge), (*base.pieces, huge), 2, True, False, b"", False)
    n = len(base.pieces)
    back = read_back(sentencepiece.extend(base, {f"▁كتاب{i}": n + i for i in range(50)}), tmp_path)
    scores = [p.score for p in back.pieces[n - 1 :]]
    assert all(a > b for a, b in itertools.pairwise(scores))


def test_added_tokens_after_the_model_keep_their_places(tmp_path: Path) -> None:
    base = tiny_model()
    n = len(base.pieces)
    added = [{"id": n, "content": "<pad>", "special": True}]
    back = read_back(sentencepiece.extend(base, {"▁كت": n + 1}, added), tmp_path)
    assert [(p.text, p.type) for p in back.pieces[n:]] == [("<pad>", sentencepiece.CONTROL), ("▁كت", 1)]
    with pytest.raises(FitraError, match="gaps"):
        sentencepiece.extend(base, {"▁كت": n + 1})


def test_a_replaced_piece_leaves_all_others(tmp_path: Path) -> None:
    base = tiny_model()
    back = read_back(sentencepiece.extend(base, {"▁كتاب": 300}), tmp_path)
    assert len(back.pieces) == len(base.pieces) and back.pieces[300].text == "▁كتاب"
    assert [p.text for i, p in enumerate(back.pieces) if i != 300] == [
        p.text for i, p in enumerate(base.pieces) if i != 300
    ]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    words=st.lists(st.text(alphabet=LETTERS[:9] + "ڤ\u0651", min_size=1, max_size=6), min_size=3, max_size=25),
    other=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=50),
    add=st.integers(1, 50),
)
def test_text_comes_back_and_other_text_stays(words: list[str], other: str, add: int) -> None:
    spec, old = SPEC, bpe.build(SPEC)
    text = " ".join(words * 3)
    got = learn.continue_bpe(spec, counted([text], spec), add, 2)
    grown = bpe.extend(spec, got.merges)
    new, slow = bpe.build(grown), checks.reference(grown)
    for token in got.tokens:
        assert slow(token) == [grown["model"]["vocab"][token]]
    for mixed in (text, other, f"{other} {text}{other}"):
        for special in ("<s>", "</s>", "<unk>"):
            mixed = mixed.replace(special, "")
        ids = new.encode(mixed, add_special_tokens=False).ids
        assert new.decode(ids, skip_special_tokens=False) == old.decode(
            old.encode(mixed, add_special_tokens=False).ids, skip_special_tokens=False
        )
        if not bpe.RUN.search(mixed):
            assert ids == old.encode(mixed, add_special_tokens=False).ids


SPEC = sentencepiece.to_spec(tiny_model())


@pytest.mark.parametrize(("change", "says"), [
    ("cut", "damaged or not"), ("noise", "damaged or not"), ("unigram", "'Unigram', expected 'BPE'"),
])  # fmt: skip
def test_a_model_file_that_will_not_do_is_named(change: str, says: str, tmp_path: Path) -> None:
    raw = tiny_model().raw
    if change == "cut":
        raw = raw[:1000]
    elif change == "noise":
        raw = random.Random(1).randbytes(500)
    else:
        raw += sentencepiece._message(2, b"\x18\x01")
    with pytest.raises(FitraError, match=says):
        read_back(raw, tmp_path)


def test_a_model_file_of_another_tokenizer_is_refused(corpus: Path, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", tiny_model())
    spec = json.loads((base / "tokenizer.json").read_text())
    vocab_ = spec["model"]["vocab"]
    vocab_["ا"], vocab_["ب"] = vocab_["ب"], vocab_["ا"]
    (base / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(FitraError, match="2 pieces have other ids"):
        vocab.expand(recipe.Vocab(add=5), base, corpus, 7, tmp_path / "v")


def test_the_slow_path_can_disagree() -> None:
    spec = json.loads(json.dumps(SPEC))
    got = learn.continue_bpe(spec, counted([arabic_text(1)] * 3, spec), 20, 2)
    grown = bpe.extend(spec, got.merges)
    assert checks.check_slow(spec, grown, [arabic_text(2)])["base_differs"] == 0
    with pytest.raises(FitraError, match="out of reach"):
        deaf = json.loads(json.dumps(grown))
        deaf["model"]["merges"] = deaf["model"]["merges"][: len(spec["model"]["merges"])]
        checks.check_tokens(deaf, got.tokens, Script.of(recipe.Vocab()))
    package = pytest.importorskip("sentencepiece", reason="the package sentencepiece is the slow path")
    assert package
    base = tiny_model()
    places = [grown["model"]["vocab"][t] for t in got.tokens]
    turned = sentencepiece.extend(base, dict(zip(reversed(got.tokens), places, strict=True)))
    with pytest.raises(FitraError, match="differently"):
        checks.check_slow(spec, grown, [arabic_text(i) for i in range(9)], base.raw, turned)


# --- the real ones -------------------------------------------------------------------------------------------------


def real(name: str) -> Path:
    package = pytest.importorskip("mistral_common", reason="mistral-common holds the real tokenizers")
    return Path(package.__file__).parent / "data" / name


def real_texts(n: int = 25) -> list[str]:
    data = os.environ.get("FITRA_DATA")
    if not data:
        pytest.skip("FITRA_DATA is not set: no real text to compare on")
    files = ("ar_wiki", "ar_social", "ar_classical_books", "ar_web_markdown", "en_books")
    columns = [pq.read_table(Path(data) / "raw" / f"{f}.parquet", columns=["text"])["text"] for f in files]
    return [str(t) for c in columns for t in c.slice(0, n).to_pylist()]


def test_mistral_v1_is_read_as_its_package_reads_it() -> None:
    package = pytest.importorskip("sentencepiece", reason="the package to compare with")
    path, texts = real("tokenizer.model.v1"), real_texts()
    fast = bpe.build(sentencepiece.to_spec(sentencepiece.read(path)))
    slow = package.SentencePieceProcessor(model_file=str(path))
    assert [e.ids for e in fast.encode_batch(texts, add_special_tokens=False)] == slow.encode(texts)


@pytest.mark.slow
def test_tekken_is_read_as_its_package_reads_it() -> None:
    path, texts = real("tekken_240911.json"), real_texts()
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    fast, slow = bpe.build(tekken.to_spec(tekken.read(path))), Tekkenizer.from_file(path)
    assert [e.ids for e in fast.encode_batch(texts, add_special_tokens=False)] == [
        slow.encode(t, bos=False, eos=False) for t in texts
    ]


@pytest.mark.slow
def test_mistral_v1_expanded(tmp_path: Path) -> None:
    texts = real_texts(150)
    corpus = write_corpus(tmp_path / "c", [("en" if t.isascii() else "ar", t) for t in texts])
    base = write_base(tmp_path / "base", sentencepiece.read(real("tokenizer.model.v1")), json_too=False)
    manifest = vocab.expand(recipe.Vocab(add=3000), base, corpus, 7, tmp_path / "v")
    assert manifest["counts"]["round_trip_exact"] == manifest["counts"]["texts"] == len(texts)
    figures = json.loads((tmp_path / "v" / "fertility.json").read_text())["ar"]
    assert figures["after"]["tokens_per_word"] < 0.5 * figures["before"]["tokens_per_word"]
    shutil.rmtree(tmp_path / "v")
