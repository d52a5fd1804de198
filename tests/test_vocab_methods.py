"""Ways of expanding side by side, what tokens may hold, what words count, and checks of the result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs fitra[train]")

import pyarrow as pa
from test_vocab import ENGLISH, arabic_text, english_tokenizer, write_base, write_corpus
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from fitra import recipe, vocab
from fitra.artifacts import DOCUMENT_SCHEMA, open_stage
from fitra.errors import FitraError
from fitra.recipe import Engine
from fitra.vocab import bpe, checks, gguf, methods, progressive, words
from fitra.vocab.script import DEFAULT, Script


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [("ar", arabic_text(i)) for i in range(80)] + [("en", t) for t in ENGLISH]
    return write_corpus(tmp_path_factory.mktemp("corpus") / "c", texts)


def cyrillic_base(folder: Path) -> Path:
    """A base with tokens of a script to give up."""
    tok = english_tokenizer()
    spec = json.loads(tok.to_str())
    spec["added_tokens"] = []
    vocab_ = {t: i for t, i in spec["model"]["vocab"].items() if t not in ("<s>", "</s>")}
    vocab_ = {t: i for i, t in enumerate(sorted(vocab_, key=vocab_.__getitem__))}
    for word in ("река", "дом", "мир", "снег", "лето", "зима", "вода", "небо"):
        left = ""
        for c in bpe.piece_of(word, "bytes"):
            if left and left + c not in vocab_:
                vocab_[left + c] = len(vocab_)
                spec["model"]["merges"].append([left, c])
            left += c
    spec["model"]["vocab"] = vocab_
    tok = Tokenizer.from_str(json.dumps(spec))
    tok.add_special_tokens(["<s>", "</s>"])
    return write_base(folder, tok)


def test_methods_side_by_side(corpus: Path, tmp_path: Path) -> None:
    base = cyrillic_base(tmp_path / "base")
    cfg = recipe.Vocab(add=12, compare=["merged", "add_tokens", "replacement"])
    vocab.expand(cfg, base, corpus, 7, tmp_path / "v")
    table = json.loads((tmp_path / "v" / "fertility.json").read_text())["methods"]
    assert list(table) == ["add_tokens", "base", "continued", "merged", "replacement"]
    before = table["base"]["ar"]["tokens_per_word"]
    for name in ("continued", "merged", "add_tokens", "replacement"):
        assert table[name]["tokens"] == 12 and table[name]["english_same"] == 1.0, name
        assert table[name]["ar"]["tokens_per_word"] < before, name
    assert table["continued"]["round_trip"] == 1.0 and table["continued"]["unreachable"] == 0


@pytest.mark.parametrize("method", ["merged", "add_tokens"])
def test_the_other_methods_write_models_too(method: str, corpus: Path, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", english_tokenizer())
    manifest = vocab.expand(recipe.Vocab(add=30, method=method), base, corpus, 7, tmp_path / "v")
    assert manifest["counts"]["added"] == 30 and manifest["notes"]["method"] == method
    tok = AutoTokenizer.from_pretrained(tmp_path / "v" / "model")
    assert tok.decode(tok(arabic_text(3), add_special_tokens=False)["input_ids"]) == arabic_text(3)
    if method == "add_tokens":  # whole tokens, found before anything is merged
        added = [t for t in tok.get_vocab() if bpe.RUN.fullmatch(t) or t in DEFAULT.signs]
        assert len(added) == 30 and all(len(tok(t, add_special_tokens=False)["input_ids"]) == 1 for t in added)


def test_replacement_takes_the_ids_of_other_scripts(corpus: Path, tmp_path: Path) -> None:
    base = cyrillic_base(tmp_path / "base")
    manifest = vocab.expand(recipe.Vocab(add=12, method="replacement"), base, corpus, 7, tmp_path / "v")
    counts = manifest["counts"]
    assert counts["replaced"] == counts["added"] == 12 and counts["rows_after"] == counts["rows_before"]
    old, new = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(tmp_path / "v" / "model")
    assert len(old) == len(new)
    for text in ENGLISH:
        assert old(text)["input_ids"] == new(text)["input_ids"]
    russian = "небо вода зима"
    assert len(new(russian)["input_ids"]) > len(old(russian)["input_ids"])
    assert new.decode(new(russian)["input_ids"]) == russian
    with pytest.raises(FitraError, match="in scripts to give up"):
        vocab.expand(recipe.Vocab(add=90, method="replacement"), base, corpus, 7, tmp_path / "w")


def made(cfg: recipe.Vocab, texts: list[str]) -> list[str]:
    script, tok = Script.of(cfg), english_tokenizer()
    runs: dict[str, int] = {}
    for t in texts:
        for r in script.run.findall(script.without_marks(t)):
            runs[r] = runs.get(r, 0) + 1
    spec = json.loads(tok.to_str())
    counted = bpe.words_of(runs, tok, "bytes", script)
    got = methods.make("continued", spec, counted, cfg, script)
    checks.check_tokens(got.spec, got.tokens, script)
    return [bpe.piece_text(t) for t in got.tokens]


VOCALISED = ["كَتَبَ الوَلَدُ دَرْسَهُ " * 4, "كتب الولد درسه " * 3]


def test_tashkeel_is_kept_apart_or_stripped() -> None:
    marks = set(Script.of(recipe.Vocab()).marks)

    def mixed(tokens: list[str]) -> list[str]:
        return [t for t in tokens if set(t) & marks and set(t.strip()) - marks]

    # GPT-2 cuts words before marks, so within a word no token holds both whatever is asked; within a run of text the
    # script decides.
    keep, apart, strip = (Script.of(recipe.Vocab(tashkeel=k)) for k in ("keep", "apart", "strip"))
    assert keep.is_clean(" كَتَ") and not apart.is_clean(" كَتَ") and not strip.is_clean(" كَتَ")
    assert apart.is_clean("\u064e\u0651") and not strip.is_clean("\u064e")
    assert apart.parts(" كَتب") == [" ك", "\u064e", "تب"]
    assert not mixed(made(recipe.Vocab(add=30, tashkeel="apart"), VOCALISED))
    assert not any(set(t) & marks for t in made(recipe.Vocab(add=30, tashkeel="strip"), VOCALISED))


def test_protected_characters_and_scripts() -> None:
    text = ["الذين ٱلذين كتابٱ ۩ ﷺ ﷲ 12٣٤ كتـاب، ABCكتاب " * 4]
    tokens = made(recipe.Vocab(add=60, protected="ٱ"), text)
    assert tokens and not any(c in t for t in tokens for c in "ٱ۩ﷺﷲ12ABC")
    signs = {t for t in tokens if any(c in t for c in "٣٤ـ،")}
    assert signs == {"٣", "٤", "ـ", "،"}  # each by itself, as the byte-level base has no token for them
    assert not {"،", "ـ"} & set(made(recipe.Vocab(add=60, protected="،ـ"), text))
    assert any("ٱ" in t for t in made(recipe.Vocab(add=60), text))
    african = ["\u0752\u0756\u08a0\u08a1 \u0752\u0756\u08a0 " * 5]
    assert not made(recipe.Vocab(add=20), african)
    extended = made(recipe.Vocab(add=20, script="arabic-extended"), african)
    assert any("\u0752" in t for t in extended) and any("\u08a0" in t for t in extended)


def weighted_corpus(folder: Path) -> Path:
    texts = {"news": "وزارة التعليم", "songs": "حبيبي يا نور العين"}
    rows = [
        {"id": f"{s}{i}", "text": f"{t} {i}", "lang": "arz" if s == "songs" else "ar", "source": s,
         "licence_class": "A", "labels": json.dumps({"dialect": "egyptian"} if s == "songs" else {})}
        for s, t in texts.items() for i in range(60)
    ]  # fmt: skip
    with open_stage(folder, stage="corpus", config={}, inputs={}) as stage:
        stage.write_table("documents", pa.Table.from_pylist(rows, schema=DOCUMENT_SCHEMA), rows_per_part=50)
    return folder


def test_weights_by_source_and_dialect(tmp_path: Path) -> None:
    corpus = weighted_corpus(tmp_path / "corpus")

    def count(name: str, **keys: object) -> dict[str, int]:
        (tmp_path / name).mkdir()
        return words.count([corpus], recipe.Vocab.model_validate(keys), tmp_path / name).runs

    plain = count("a")
    assert plain[" التعليم"] > 40
    tripled = count("b", source_weights={"news": 3.0}, dialect_weights={"egyptian": 0.5})
    assert tripled[" التعليم"] == 3 * plain[" التعليم"]
    assert tripled[" نور"] == round(plain[" نور"] / 2)
    assert " نور" not in count("c", dialect_weights={"egyptian": 0})
    with pytest.raises(FitraError, match="'poems', which no Arabic document"):
        count("d", source_weights={"poems": 2.0})


def test_counts_are_the_same_with_any_number_of_workers(tmp_path: Path) -> None:
    corpus = weighted_corpus(tmp_path / "c")
    found = []
    for n in (1, 2):
        (tmp_path / str(n)).mkdir()
        found.append(words.count([corpus], recipe.Vocab(engine=Engine(workers=n)), tmp_path / str(n)))
    assert found[0].runs == found[1].runs and found[0].samples == found[1].samples


def test_memory_is_bounded_by_forgetting_the_rarest(tmp_path: Path) -> None:
    letters = "ابتثجحخدذرزسشصضطظعغ"
    rare = [f"{a}{b}{c}" for a in letters for b in letters for c in letters][:3000]
    corpus = write_corpus(tmp_path / "c", [("ar", " ".join(rare)), *[("ar", "كتاب مدرسة")] * 40])
    (tmp_path / "w").mkdir()
    found = words.count([corpus], recipe.Vocab(max_kinds=1000), tmp_path / "w")
    assert found.runs[" مدرسة"] > 20 and len(found.runs) <= 1000 and found.seen["forgotten_up_to"] == 1


def test_a_rich_base_is_told_what_is_gained(corpus: Path, tmp_path: Path) -> None:
    first = write_base(tmp_path / "base", english_tokenizer())
    vocab.expand(recipe.Vocab(add=90), first, corpus, 7, tmp_path / "v")
    again = vocab.expand(recipe.Vocab(add=3), tmp_path / "v", corpus, 7, tmp_path / "w")
    assert again["counts"]["arabic_tokens_before"] == 90
    assert "reads Arabic well already (90 Arabic tokens" in again["notes"]["warning"]


def test_chat_template_and_gguf(corpus: Path, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", english_tokenizer())
    template = "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}"
    (base / "chat_template.jinja").write_text(template)
    manifest = vocab.expand(recipe.Vocab(add=40), base, corpus, 7, tmp_path / "v")
    model = tmp_path / "v" / "model"
    assert manifest["notes"]["chat_template"] == "same"
    (model / "chat_template.jinja").write_text(template.replace("<s>", "</s>"))
    with pytest.raises(FitraError, match="chat template changed"):
        checks.check_chat_template(base, model)
    pytest.importorskip("gguf", reason="the check writes a GGUF file")
    assert manifest["notes"]["gguf"]["checked"] and manifest["notes"]["gguf"]["merges"] > 40
    tokens = checks.tokens_in_order(json.loads((model / "tokenizer.json").read_text()))
    with pytest.raises(FitraError, match="GGUF holds"):
        gguf.check(model, [*tokens[:-1], "another"])


def test_what_tokens_must_not_hold_is_found() -> None:
    spec = json.loads(english_tokenizer().to_str())
    script = Script.of(recipe.Vocab())
    digit = bpe.Merge(*(bpe.piece_of(x, "bytes") for x in ("1", "2")))
    spoilt = bpe.extend(spec, [digit])
    with pytest.raises(FitraError, match="must not, one is '12'"):
        checks.check_tokens(spoilt, [digit.token], script)
    with pytest.raises(FitraError, match="no multiple of 64"):
        checks.check_padding(100, 64)


def test_stages_stand_beside_the_model(corpus: Path, tmp_path: Path) -> None:
    base = cyrillic_base(tmp_path / "base")
    cfg = recipe.Vocab(add=12, progressive=recipe.Progressive(stages=4))
    made = vocab.expand(cfg, base, corpus, 7, tmp_path / "v")
    assert made["notes"]["progressive"]["sizes"][-1] == 12 and progressive.load(tmp_path / "v")[-1].added == 12
    with pytest.raises(FitraError, match="continued"):
        refused = cfg.model_copy(update={"method": "merged"})
        vocab.expand(refused, base, corpus, 7, tmp_path / "w")
