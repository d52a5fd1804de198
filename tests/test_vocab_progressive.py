"""Progressive expansion: schedules, and that taking tokens apart is what the stage's own tokenizer reads."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="needs fitra[train]")

import tiny_model
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM

from fitra.errors import FitraError
from fitra.recipe.vocab import Progressive
from fitra.vocab import bpe, learn, progressive

ENGLISH = ["The river runs past the old mill, and 12 children play there in the summer.", "A letter a day."]
STEMS = ["كتاب", "مدرسة", "مدينة", "مكتبة", "جميل", "كبير", "يذهب", "الولد", "البيت", "السوق", "قرأ", "طعام"]


def arabic(seed: int, words: int = 60) -> str:
    rng = random.Random(seed)
    pick = rng.choice
    return " ".join(
        pick(("", "ال", "و", "وال", "ب")) + pick(STEMS) + pick(("", "ها", "ة")) for _ in range(words)
    ) + f"، ١٢٣ و {seed}."  # fmt: skip


ARABIC = [arabic(i) for i in range(40)]


def base_spec(texts: list[str] = ENGLISH, size: int = 300) -> dict[str, Any]:
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False),
    )
    tok.add_special_tokens(["<s>", "</s>"])
    return json.loads(tok.to_str())  # type: ignore[no-any-return]


def expanded(base: dict[str, Any], texts: list[str], add: int, ignore: bool = False) -> dict[str, Any]:
    base["model"]["ignore_merges"] = ignore
    runs = Counter(run for t in texts for run in bpe.RUN.findall(t))
    got = learn.continue_bpe(base, bpe.words_of(runs, bpe.build(base), "bytes"), add, 2)
    return bpe.extend(base, got.merges)


def new_tokens(base: dict[str, Any], spec: dict[str, Any]) -> int:
    first = max([*base["model"]["vocab"].values(), *(a["id"] for a in base["added_tokens"])]) + 1
    return sum(i >= first for i in spec["model"]["vocab"].values())


def test_schedules_of_the_paper() -> None:
    assert progressive.exponential(12_800) == [0, *(2**i for i in range(14)), 12_800]
    printed = [0, 853, None, 2559, 3412, 4265, 5118, 5971, 6824, 7677, 8530, 9383, 10236, 11089, 11942, 12800]
    assert all(b is None or a == b for a, b in zip(progressive.uniform(12_800), printed, strict=True))
    shares = [30, 30.33, 31.31, 32.94, 35.19, 38.04, 41.46, 45.41, 49.85, 54.73, 60, 65.6, 71.46, 77.53, 83.73, 90]
    assert np.allclose(100 * np.array(progressive.arabic_shares(16)), shares, atol=0.01)


@pytest.mark.parametrize("schedule", [progressive.exponential, progressive.uniform])
def test_schedules_of_other_sizes(schedule: Any) -> None:
    for add in (1, 2, 3, 17, 300, 1024, 12_800, 64_000):
        for stages in (2, 3, 5, 16, 40):
            got = schedule(add, stages)
            assert got[0] == 0 and got[-1] == add and len(got) <= stages
            assert all(b > a for a, b in itertools.pairwise(got))
    with pytest.raises(FitraError, match="1 stages"):
        schedule(5, 1)


@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize("schedule", [progressive.exponential, progressive.uniform])
def test_taking_apart_is_the_stages_own_segmentation(ignore: bool, schedule: Any) -> None:
    base = base_spec()
    spec = expanded(base, ARABIC, 150, ignore)
    stages = progressive.plan(base, spec, schedule(new_tokens(base, spec)))
    assert len(stages) > 8
    found = progressive.verify(spec, stages, [*ARABIC, *ENGLISH, "", "<s>كتاب</s>", "نص لم ير قط 99"])
    assert found["texts"] == 45
    first = stages[0].end
    zero = bpe.build(progressive.tokenizer_of(spec, stages, 0))
    last = bpe.build(progressive.tokenizer_of(spec, stages, len(stages) - 1))
    assert zero.get_vocab() == bpe.build(base).get_vocab() and last.to_str() == bpe.build(spec).to_str()
    lengths = []
    ids = np.array(last.encode(" ".join(ARABIC), add_special_tokens=False).ids)
    for stage in stages:
        out = stage.table(ids)
        assert out.max() < stage.end == first + stage.added
        lengths.append(len(out))
    assert lengths == sorted(lengths, reverse=True) and lengths[0] > 2 * lengths[-1] == 2 * len(ids)
    assert stages[-1].table(ids).tolist() == ids.tolist()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    words=st.lists(st.text(alphabet="ابتسلم", min_size=1, max_size=8), min_size=4, max_size=40),
    base=st.lists(st.text(alphabet="ابتسلم", min_size=1, max_size=5), max_size=12),
    read=st.text(alphabet="ابتسلم a", max_size=60),
    add=st.integers(2, 60),
    ignore=st.booleans(),
)
def test_it_holds_for_any_words_or_is_refused(
    words: list[str], base: list[str], read: str, add: int, ignore: bool
) -> None:
    """A base that knows Arabic already, and merges that give one token in several ways."""
    old = base_spec([*ENGLISH, *base], 290)
    spec = expanded(old, [" ".join(words * 3)], add, ignore)
    n = new_tokens(old, spec)
    if not n:
        return
    sizes = list(range(n + 1))  # a stage for every token
    try:
        stages = progressive.plan(old, spec, sizes)
    except FitraError as e:
        assert ignore and "reached by a new merge alone" in e.message
        return
    progressive.verify(spec, stages, [read, " ".join(words), *words, *base])


def _by_hand(merges: list[tuple[str, str]], new: list[tuple[str, str]], ignore: bool) -> tuple[Any, Any]:
    """A base over the letters a-f with some merges, and its expansion."""
    letters = "abcdef"
    vocab = {c: i for i, c in enumerate(letters)}
    for a, b in merges:
        vocab.setdefault(a + b, len(vocab))
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=ignore))
    tok.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    base = json.loads(tok.to_str())
    return base, bpe.extend(base, [bpe.Merge(*m) for m in new])


@pytest.mark.parametrize("ignore", [False, True])
def test_one_token_by_two_ways(ignore: bool) -> None:
    """'abc' is merged as ab+c in no word of its own (bc comes first), yet that merge has the lower rank."""
    base, spec = _by_hand([("b", "c")], [("a", "b"), ("ab", "c"), ("abc", "d"), ("a", "bc")], ignore)
    stages = progressive.plan(base, spec, [0, 1, 2, 3])
    texts = ["abc abcd ab xabc aabc abcabc dabc abcdabc bcab"]
    progressive.verify(spec, stages, texts)
    # With both merges and an id below the end, 'abc' is not yet a token of the third stage: its way comes last.
    assert stages[2].table.pieces(spec["model"]["vocab"]["abc"]) != [spec["model"]["vocab"]["abc"]]
    assert "abc" not in progressive.tokenizer_of(spec, stages, 2)["model"]["vocab"]
    assert spec["model"]["vocab"]["abc"] in stages[3].fresh


def test_an_old_token_that_only_a_new_merge_reaches() -> None:
    """'ef' is in the base's vocabulary without a merge, as in some published files."""
    for ignore in (False, True):
        base, spec = _by_hand([("a", "b")], [], ignore)
        base["model"]["vocab"]["ef"] = 7
        spec = bpe.extend(base, [bpe.Merge("c", "d"), bpe.Merge("e", "f"), bpe.Merge("ef", "a")])
        if ignore:
            with pytest.raises(FitraError, match="'ef' is reached by a new merge alone"):
                progressive.plan(base, spec, [0, 1, 2])
        else:
            stages = progressive.plan(base, spec, [0, 1, 2])
            progressive.verify(spec, stages, ["ef efa aef cdef efef fefe"])
            assert stages[0].table.pieces(7) == [4, 5] and stages[2].table.pieces(7) == [7]


def test_sentencepiece_type_with_byte_fallback() -> None:
    """As in Llama-2's tokenizer.json: no pre-tokenizer, spaces written out, letters without a token cut into bytes."""
    letters = ["<unk>", *(f"<0x{b:02X}>" for b in range(256)), "▁", *"abcdehilmnorstu", "ا", "ل", "م"]
    vocab = {t: i for i, t in enumerate(letters)}
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he")]
    for a, b in merges:
        vocab[a + b] = len(vocab)
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    base = json.loads(tok.to_str())
    new = ["ك", "ت"]  # letters first, without merges
    spec = json.loads(json.dumps(base))
    for t in new:
        spec["model"]["vocab"][t] = len(spec["model"]["vocab"])
    for a, b in [("ا", "ل"), ("▁", "ال"), ("ك", "ت"), ("كت", "ا"), ("▁ال", "كتا")]:
        spec["model"]["vocab"][a + b] = len(spec["model"]["vocab"])
        spec["model"]["merges"].append([a, b])
    texts = ["the الكتاب كتاب المكتا ت", "كاكا the hat", "x الكتاالكتا"]
    stages = progressive.plan(base, spec, list(range(8)))
    progressive.verify(spec, stages, texts)
    assert len(stages[0].table.pieces(spec["model"]["vocab"]["ك"])) == 2  # two bytes
    base["model"]["byte_fallback"] = spec["model"]["byte_fallback"] = False
    with pytest.raises(FitraError, match="nothing for its letters"):
        progressive.plan(base, spec, list(range(8)))


def test_tables_apply_to_shards_at_once() -> None:
    table = progressive.Table.of(6, {4: [0, 1], 5: [0, 1, 2]})
    assert table(np.array([3, 5, 4, 0, 5], np.int32)).tolist() == [3, 0, 1, 2, 0, 1, 0, 0, 1, 2]
    assert table(np.zeros(0, np.int32)).tolist() == []
    rng = np.random.default_rng(0)
    stream = rng.integers(0, 6, 5000)
    slow = [i for t in stream.tolist() for i in table.pieces(t)]
    assert table(stream).tolist() == slow


def test_a_stream_is_taken_piece_by_piece_round_and_round() -> None:
    table = progressive.Table.of(6, {4: [0, 1], 5: [0, 1, 2]})
    stream = np.array([3, 5, 4, 0], np.int32)  # 3 012 01 0
    assert table.take(stream, 0, 3)[0].tolist() == [3, 0, 1] and table.take(stream, 0, 3)[1] == 2
    got, at = table.take(stream, 2, 9)
    assert got.tolist() == [0, 1, 0, 3, 0, 1, 2, 0, 1] and at == 7
    assert table.take(stream, 7, 2)[0].tolist() == [0, 3]
    assert table.take(stream, 3, 0)[1] == 3
    rng = np.random.default_rng(0)
    stream, at = rng.integers(0, 6, 500), 0
    whole = table(np.tile(stream, 4))
    for n in rng.integers(1, 300, 8).tolist():
        ids, after = table.take(stream, at, n)
        start = len(table(np.tile(stream, 4)[:at]))
        assert ids.tolist() == whole[start : start + n].tolist()
        assert len(table(np.tile(stream, 4)[at:after])) >= n > len(table(np.tile(stream, 4)[at : after - 1]))
        at = after


def test_the_rows_of_a_stage(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model.write(tmp_path / "m"))
    base = json.loads((tmp_path / "m" / "tokenizer.json").read_text())
    spec = expanded(base, ["كتاب كتب مكتبة مكتب " * 5], 12)
    n = new_tokens(base, spec)
    stages = progressive.plan(base, spec, [0, 3, n])
    before = model.get_input_embeddings().weight.detach().clone()
    for stage in stages:
        was = model.get_input_embeddings().weight.detach().clone()
        head = model.get_output_embeddings().weight.detach().clone()
        stage.begin(model, origin="previous")
        now = model.get_input_embeddings().weight.detach()
        assert now.shape[0] == stage.end and torch.equal(now[: len(was)], was)
        for i, pieces in zip(stage.fresh, stage.pieces, strict=True):
            assert max(pieces) < len(was)
            assert torch.allclose(now[i], was[pieces].mean(0))
            assert torch.allclose(model.get_output_embeddings().weight[i], head[pieces].mean(0))
        with torch.no_grad():  # training moves all rows
            model.get_input_embeddings().weight.add_(0.1)
    stages[-1].begin(model)
    i, pieces = stages[-1].fresh[-1], stages[-1].base_pieces[-1]
    assert max(pieces) < len(before)
    assert torch.allclose(model.get_input_embeddings().weight[i], before[pieces].mean(0) + 0.3, atol=1e-5)


def test_saved_stages_come_back(tmp_path: Path) -> None:
    base = base_spec()
    spec = expanded(base, ARABIC, 60)
    stages = progressive.plan(base, spec, progressive.exponential(new_tokens(base, spec), 6))
    progressive.save(stages, tmp_path)
    again = progressive.load(tmp_path)
    for a, b in zip(stages, again, strict=True):
        assert np.array_equal(a.table.ids, b.table.ids) and np.array_equal(a.table.starts, b.table.starts)
        assert (a.index, a.added, a.end, a.arabic) == (b.index, b.added, b.end, b.arabic)
        assert (a.fresh, a.pieces, a.base_pieces) == (b.fresh, b.pieces, b.base_pieces)
    with pytest.raises(FitraError, match="no stages"):
        progressive.load(tmp_path / "none")
    (tmp_path / "stages.json").write_text("{")
    with pytest.raises(FitraError, match="damaged"):
        progressive.load(tmp_path)


def test_stages_as_a_recipe_asks_for_them(tmp_path: Path) -> None:
    base = base_spec()
    spec = expanded(base, ARABIC, 60)
    n = new_tokens(base, spec)
    for cfg in (Progressive(stages=6), Progressive(stages=4, schedule="uniform")):
        note = progressive.write(cfg, base, spec, ARABIC, tmp_path / cfg.schedule)
        stages = progressive.load(tmp_path / cfg.schedule)
        assert note["sizes"] == [s.added for s in stages] and stages[-1].added == n and note["verified_texts"] == 40
    assert note["schedule"] == "uniform" and len(stages) == 4


def test_what_has_no_ranks_is_refused() -> None:
    base = base_spec()
    spec = expanded(base, ARABIC, 20)
    sizes = [0, new_tokens(base, spec)]
    assert progressive.plan(base, spec, sizes)

    def spoilt(change: Any) -> dict[str, Any]:
        copy = json.loads(json.dumps(spec))
        change(copy)
        return copy  # type: ignore[no-any-return]

    def swap(s: dict[str, Any]) -> None:
        v = s["model"]["vocab"]
        a, b = sorted(v, key=v.__getitem__)[-2:]
        v[a], v[b] = v[b], v[a]

    for change, says in (
        (swap, "not in the order of their merges"),
        (lambda s: s["model"]["merges"].insert(0, s["model"]["merges"].pop()), "begin with the base's merges"),
        (lambda s: s["added_tokens"].append({"id": 999, "content": "كلمة"}), "added whole, without merges: 'كلمة'"),
        (lambda s: s["model"].update(dropout=0.1), "no BPE without dropout"),
        (lambda s: s["model"]["vocab"].update(late=5000), "have gaps"),
        (lambda s: s["model"]["vocab"].update(a=1, b=2), "other ids"),
    ):
        with pytest.raises(FitraError, match=says):
            progressive.plan(base, spoilt(change), sizes)
    for wrong in ([], [0], [5, 3, sizes[-1]], [0, 999]):
        with pytest.raises(FitraError, match="rising numbers"):
            progressive.plan(base, spec, wrong)
    with pytest.raises(FitraError, match="1 shares for 2 stages"):
        progressive.plan(base, spec, sizes, [0.5])


def test_verifying_can_fail() -> None:
    base = base_spec()
    spec = expanded(base, ARABIC, 60)
    stages = progressive.plan(base, spec, [0, new_tokens(base, spec)])
    other = expanded(base, ARABIC[:1] * 9, 60)
    with pytest.raises(FitraError, match="stage 0: taking tokens apart is not what it reads"):
        progressive.verify(other, stages, ARABIC)


def test_figures_of_the_paper_for_a_stream() -> None:
    base = base_spec()
    spec = expanded(base, ARABIC, 60)
    stages = progressive.plan(base, spec, progressive.exponential(new_tokens(base, spec), 5))
    text = " ".join(ARABIC)
    ids = np.array(bpe.build(spec).encode(text).ids)
    rows = progressive.figures(stages, ids, len(text))
    assert rows[0]["new_share"] == 0 < rows[1]["new_share"]
    assert [r["tokens_per_character"] for r in rows] == sorted((r["tokens_per_character"] for r in rows), reverse=True)
