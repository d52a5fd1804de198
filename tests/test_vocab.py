"""Vocabulary expansion: what it adds, and what it must leave alone."""

from __future__ import annotations

import itertools
import json
import os
import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="needs fitra[train]")

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fitra import recipe, vocab
from fitra.artifacts import DOCUMENT_SCHEMA, open_stage
from fitra.errors import FitraError
from fitra.vocab import bpe, checks, embed, learn

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ENGLISH = [
    "The river runs past the old mill and the children play there in the summer.",
    "Every morning the baker opens the shop, sells bread & cakes, and counts 1,234 coins.",
    "Learning a language takes time; she reads two pages each day and writes one letter.",
    "In 1998 the museum moved to a larger building near the station (platform 7).",
]
STEMS = ["كتاب", "مدرسة", "مدينة", "مكتبة", "جميل", "كبير", "يذهب", "الولد", "البيت", "السوق", "قرأ", "طعام"]


def arabic_text(seed: int, words: int = 60) -> str:
    rng = random.Random(seed)
    parts = [
        rng.choice(("", "ال", "و", "وال", "ب")) + rng.choice(STEMS) + rng.choice(("", "", "ها", "ة"))
        for _ in range(words)
    ]
    return " ".join(parts) + "، ١٢٣ و 45."


def english_tokenizer(split: str = "gpt2", vocab_size: int = 400) -> Tokenizer:
    tok = Tokenizer(models.BPE())
    if split == "gpt2":
        tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        from tokenizers import Regex

        tok.normalizer = normalizers.NFC()
        tok.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tok.train_from_iterator(ENGLISH * 5, trainer)
    tok.add_special_tokens(["<s>", "</s>"])  # numbered after the vocabulary, as in Llama-3
    return tok


def write_base(folder: Path, tok: Tokenizer, tied: bool = True, padding: int = 0) -> Path:
    torch.manual_seed(0)
    cfg = LlamaConfig(
        vocab_size=tok.get_vocab_size() + padding, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=64, tie_word_embeddings=tied,
    )  # fmt: skip
    LlamaForCausalLM(cfg).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    return folder


def write_corpus(folder: Path, texts: list[tuple[str, str]]) -> Path:
    rows = [
        {"id": f"d{i:05d}", "text": t, "lang": lang, "source": "test", "licence_class": "B", "labels": "{}"}
        for i, (lang, t) in enumerate(texts)
    ]
    with open_stage(folder, stage="corpus", config={}, inputs={}) as stage:
        stage.write_table("documents", pa.Table.from_pylist(rows, schema=DOCUMENT_SCHEMA))
    return folder


def count_words(texts: list[str], tok: Tokenizer) -> dict[str, int]:
    return bpe.words_of(Counter(r for t in texts for r in bpe.RUN.findall(t)), tok, "bytes")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [("ar", arabic_text(i)) for i in range(80)] + [("en", t) for t in ENGLISH]
    return write_corpus(tmp_path_factory.mktemp("corpus") / "c", texts)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "m", english_tokenizer())


def test_expansion_shortens_arabic_and_keeps_english(base: Path, corpus: Path, tmp_path: Path) -> None:
    manifest = vocab.expand(recipe.Vocab(add=90), base, corpus, 7, tmp_path / "v")
    counts, model = manifest["counts"], tmp_path / "v" / "model"
    assert counts["added"] == 90 and counts["used"] + counts["scaffold"] == 90
    assert manifest["licence_class"] == "B"
    fertility = json.loads((tmp_path / "v" / "fertility.json").read_text())
    assert fertility["held_out"] and fertility["added"] == 90
    assert fertility["ar"]["after"]["tokens_per_word"] < fertility["ar"]["before"]["tokens_per_word"] / 2
    assert fertility["ar"]["after"]["unbroken_words"] > 0.05 > fertility["ar"]["before"]["unbroken_words"]
    assert fertility["en"]["after"] == fertility["en"]["before"]
    assert "".join(fertility["samples"][0]["after"]) == fertility["samples"][0]["text"]

    old, new = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(model)
    for text in ENGLISH:
        assert old(text)["input_ids"] == new(text)["input_ids"]
    loaded = AutoModelForCausalLM.from_pretrained(model)
    assert loaded.config.vocab_size == len(new) == len(old) + 90
    assert new.bos_token_id == old.bos_token_id and new("</s>")["input_ids"] == [old.eos_token_id]
    ids = new(arabic_text(3), return_tensors="pt")["input_ids"]
    assert loaded(ids[:, :60]).logits.shape[-1] == len(new)
    assert (model / "model.safetensors").is_file() and not list(model.glob("*.bin"))


def test_new_tokens_are_clean_arabic_and_reachable(base: Path, corpus: Path) -> None:
    spec = bpe.read(base)
    texts = [r["text"] for r in pq.read_table(corpus / "documents").to_pylist() if r["lang"] == "ar"]
    words = count_words(texts, bpe.build(spec))
    got = learn.continue_bpe(spec, words, 90, 2)
    tok = bpe.build(bpe.extend(spec, got.merges))
    assert got.partial == 0 and all(bpe.is_clean(t) for t in got.tokens)
    assert not any(c.isdigit() or c in "،.ـ" for t in got.tokens for c in bpe.piece_text(t))
    for token in got.tokens:
        assert tok.encode(bpe.piece_text(token), add_special_tokens=False).tokens == [token]
    seen = {t for text in texts for t in tok.encode(text, add_special_tokens=False).tokens}
    assert sum(t in seen for t in got.tokens) >= got.used


def test_same_input_gives_the_same_bytes(base: Path, corpus: Path, tmp_path: Path) -> None:
    for name in "ab":
        vocab.expand(recipe.Vocab(add=40), base, corpus, 7, tmp_path / name)
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    for f in files:
        if f.name != "manifest.json":
            assert (tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes(), f


def test_untied_llama3_like_base_with_padding_rows(corpus: Path, tmp_path: Path) -> None:
    tok = english_tokenizer("llama3")
    base = write_base(tmp_path / "base", tok, tied=False, padding=24)
    manifest = vocab.expand(recipe.Vocab(add=60), base, [corpus], 7, tmp_path / "v")
    assert manifest["notes"]["tied"] is False
    was = AutoModelForCausalLM.from_pretrained(base)
    now = AutoModelForCausalLM.from_pretrained(tmp_path / "v" / "model")
    first = tok.get_vocab_size()
    assert manifest["counts"]["first_new_id"] == first and now.config.vocab_size == first + 60
    new = Tokenizer.from_file(str(tmp_path / "v" / "model" / "tokenizer.json"))
    for i in (first, first + 59):
        pieces = [t.id for t in tok.model.tokenize(new.id_to_token(i))]
        for get in ("get_input_embeddings", "get_output_embeddings"):
            a, b = getattr(was, get)().weight, getattr(now, get)().weight
            assert torch.allclose(b[i], a[pieces].mean(0), atol=1e-6)
            assert torch.equal(a[:first], b[:first])


def test_random_rows_follow_the_seed(base: Path, corpus: Path, tmp_path: Path) -> None:
    rows = []
    for seed in (1, 2):
        vocab.expand(recipe.Vocab(add=10, init="random"), base, corpus, seed, tmp_path / str(seed))
        rows.append(
            AutoModelForCausalLM.from_pretrained(tmp_path / str(seed) / "model").get_input_embeddings().weight[-10:]
        )
    assert not torch.equal(*rows)
    assert torch.isfinite(rows[0]).all()


def test_half_letter_pieces_of_the_base_are_kept_as_steps() -> None:
    """GPT-2 has ' \\xd8' as a token: what is built from it still has to be reachable."""
    tok = english_tokenizer()
    spec = json.loads(tok.to_str())
    space_lead, vocab_ = "ĠØ", spec["model"]["vocab"]
    spec["model"]["merges"].append(["Ġ", "Ø"])
    vocab_[space_lead] = len(vocab_)
    for added in spec["added_tokens"]:
        added["id"] += 1
    words = {w: 5 for w in count_words([arabic_text(i) for i in range(20)], bpe.build(spec))}
    got = learn.continue_bpe(spec, words, 80, 2)
    new = bpe.build(bpe.extend(spec, got.merges))
    assert any(m.left == space_lead for m in got.merges)
    for token in got.tokens:
        assert new.encode(bpe.piece_text(token), add_special_tokens=False).tokens == [token]


def test_a_new_token_that_needs_a_half_letter_gets_it() -> None:
    """A base piece that ends one letter and begins the next forces a step that is no valid UTF-8."""
    spec = json.loads(english_tokenizer().to_str())
    tail_lead = bpe.TO_CHAR[0xA7] + bpe.TO_CHAR[0xD9]  # second byte of alef, first byte of lam
    spec["model"]["merges"].append([bpe.TO_CHAR[0xA7], bpe.TO_CHAR[0xD9]])
    spec["model"]["vocab"][tail_lead] = len(spec["model"]["vocab"])
    for added in spec["added_tokens"]:
        added["id"] += 1
    words = count_words(["ال الكتاب المدرسة " * 10], bpe.build(spec))
    got = learn.continue_bpe(spec, words, 40, 2)
    assert got.partial > 0 and len(got.tokens) <= 40
    new = bpe.build(bpe.extend(spec, got.merges))
    assert new.encode("ال", add_special_tokens=False).tokens == ["".join(bpe.TO_CHAR[b] for b in "ال".encode())]
    assert new.decode(new.encode("الكتاب قال").ids) == "الكتاب قال"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    words=st.lists(st.text(alphabet="ابتجدرسلمنوي\u0651", min_size=1, max_size=7), min_size=3, max_size=30),
    other=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60),
    add=st.integers(0, 60),
    split=st.sampled_from(["gpt2", "llama3"]),
)
def test_learned_merges_never_touch_other_text(words: list[str], other: str, add: int, split: str) -> None:
    spec = json.loads(TOKENIZERS[split].to_str())
    old = bpe.build(spec)
    text = " ".join(words * 3)
    got = learn.continue_bpe(spec, count_words([text], old), add, 2)
    new = bpe.build(bpe.extend(spec, got.merges))
    assert len(got.tokens) <= add
    for mixed in (text, other, f"{other} {text}{other}", *ENGLISH):
        expected = old.normalizer.normalize_str(mixed) if old.normalizer else mixed
        for specials in ("<s>", "</s>"):
            expected = expected.replace(specials, "")
        ids = new.encode(mixed, add_special_tokens=False).ids
        assert new.decode(ids) == expected
        if not any("\u0600" <= c <= "\u06ff" for c in mixed):
            assert ids == old.encode(mixed, add_special_tokens=False).ids


TOKENIZERS = {name: english_tokenizer(name) for name in ("gpt2", "llama3")}


def test_asking_for_more_than_there_is_says_how_many_there_are(base: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", [("ar", "كتاب كتاب قلم قلم"), ("en", ENGLISH[0])])
    with pytest.raises(FitraError, match="5000 tokens were asked for, the corpus gives 13") as e:
        vocab.expand(recipe.Vocab(add=5000), base, corpus, 7, tmp_path / "v")
    assert "Set add to 13" in str(e.value.hint) and not (tmp_path / "v" / "manifest.json").exists()
    assert vocab.expand(recipe.Vocab(add=13), base, corpus, 7, tmp_path / "v")["counts"]["added"] == 13


def test_finished_work_is_not_done_twice(base: Path, corpus: Path, tmp_path: Path) -> None:
    first = vocab.expand(recipe.Vocab(add=5), base, corpus, 7, tmp_path / "v")
    stamp = (tmp_path / "v" / "model" / "tokenizer.json").stat().st_mtime_ns
    assert vocab.expand(recipe.Vocab(add=5), base, corpus, 7, tmp_path / "v") == first
    assert (tmp_path / "v" / "model" / "tokenizer.json").stat().st_mtime_ns == stamp


def _spoil(folder: Path, change: str) -> None:
    path = folder / "tokenizer.json"
    spec = json.loads(path.read_text())
    if change == "unigram":
        spec["model"] = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0]], "byte_fallback": False}
    elif change == "metaspace":
        spec["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}
    elif change == "dropout":
        spec["model"]["dropout"] = 0.1
    path.write_text(json.dumps(spec))


@pytest.mark.parametrize(("change", "says"), [
    ("unigram", "'Unigram', expected 'BPE'"), ("metaspace", "ByteLevel"), ("dropout", "dropout"),
    ("no tokenizer", "no tokenizer.json"), ("no weights", "safetensors"), ("no config", "config.json"),
    ("damaged weights", "not a whole safetensors file"),
])  # fmt: skip
def test_a_base_that_will_not_do_is_named(change: str, says: str, corpus: Path, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base", english_tokenizer())
    if change == "damaged weights":
        (folder / "model.safetensors").write_bytes(b"not weights")
    elif change.startswith("no "):
        gone = {"tokenizer": "tokenizer.json", "weights": "model.safetensors", "config": "config.json"}[change[3:]]
        (folder / gone).unlink()
    else:
        _spoil(folder, change)
    with pytest.raises(FitraError, match=says):
        vocab.expand(recipe.Vocab(add=5), folder, corpus, 7, tmp_path / "v")
    assert not (tmp_path / "v" / "manifest.json").exists()


def test_a_corpus_without_arabic_is_refused(base: Path, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", [("en", t) for t in ENGLISH])
    with pytest.raises(FitraError, match="no Arabic words"):
        vocab.expand(recipe.Vocab(add=5), base, corpus, 7, tmp_path / "v")


def test_the_checks_can_fail() -> None:
    spec = json.loads(english_tokenizer().to_str())
    old = bpe.build(spec)
    pieces = old.encode(ENGLISH[0], add_special_tokens=False).tokens
    # Two pieces of one English word: a merge across a word border would never fire.
    a, b = next(p for p in itertools.pairwise(pieces) if p[0][-1].isalpha() and p[1][0].isascii() and p[1].isalpha())
    spoiled = bpe.build(bpe.extend(spec, [bpe.Merge(a, b)]))
    with pytest.raises(FitraError, match="without Arabic is read differently"):
        checks.check_texts(old, spoiled, ENGLISH)
    with pytest.raises(FitraError, match="expected"):
        checks.check_ids(old, spoiled, [], old.get_vocab_size())
    moved = json.loads(json.dumps(spec))
    for added in moved["added_tokens"]:
        added["content"] = added["content"].upper()
    with pytest.raises(FitraError, match="old tokens changed their id"):
        checks.check_ids(old, bpe.build(moved), [], old.get_vocab_size())
    deaf = json.loads(json.dumps(spec))
    deaf["normalizer"] = {"type": "Lowercase"}
    with pytest.raises(FitraError, match="does not give back"):
        checks.check_texts(old, bpe.build(deaf), ["كتاب ABC"])


def test_mean_rows_is_the_mean_of_the_pieces() -> None:
    matrix = torch.arange(12, dtype=torch.float32).reshape(4, 3)
    rows = embed.mean_rows(matrix, [[0, 3], [1], [2, 2, 0]])
    assert torch.allclose(rows, torch.stack([matrix[[0, 3]].mean(0), matrix[1], matrix[[2, 2, 0]].mean(0)]))


@pytest.mark.slow
def test_real_arabic(base: Path, tmp_path: Path) -> None:
    data = os.environ.get("FITRA_DATA")
    if not data:
        pytest.skip("FITRA_DATA is not set: no real Arabic to learn from")
    wiki = pq.read_table(Path(data) / "raw" / "ar_wiki.parquet", columns=["text"])["text"].to_pylist()
    books = pq.read_table(Path(data) / "raw" / "en_books.parquet", columns=["text"])["text"].to_pylist()
    corpus = write_corpus(tmp_path / "c", [*(("ar", t) for t in wiki[:600]), *(("en", t) for t in books[:60])])
    manifest = vocab.expand(recipe.Vocab(add=4000), base, corpus, 7, tmp_path / "v")
    assert manifest["counts"]["added"] == 4000
    assert manifest["counts"]["round_trip_exact"] == manifest["counts"]["texts"] == 660
    figures = json.loads((tmp_path / "v" / "fertility.json").read_text())
    assert figures["held_out"]
    assert figures["ar"]["after"]["tokens_per_word"] < 0.35 * figures["ar"]["before"]["tokens_per_word"]
