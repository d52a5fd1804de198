"""Shared prefixes give what the plain path gives: random trees of prompts, kinds of models, what must fall back."""

from __future__ import annotations

import importlib
import random
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import transformers as tf  # noqa: E402
from test_lm import TEXT, write_model  # noqa: E402

from fitra import lm  # noqa: E402
from fitra.lm import packed, pieces, shared  # noqa: E402

scoring = importlib.import_module("fitra.lm.score")  # `lm.score` is the function

Pair = tuple[str, str]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def plain(m: lm.LM, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch) -> list[lm.Score]:
    with monkeypatch.context() as patch:
        patch.setattr(shared, "supports", lambda m: False)
        return lm.score(m, pairs)


def same(got: list[lm.Score], want: list[lm.Score], within: float = 1e-4) -> None:
    assert [(g.n_tokens, g.greedy) for g in got] == [(w.n_tokens, w.greedy) for w in want]
    assert max(abs(g.logprob - w.logprob) for g, w in zip(got, want, strict=True)) < within


def tree(seed: int, questions: int = 12) -> list[Pair]:
    """Subjects with worked examples, questions behind them, options behind those; some odd ones."""
    draw = random.Random(seed)
    words = [*" ".join(TEXT).split(), "؟", "12", "ال", "s"]

    def some(n: int) -> str:
        return " ".join(draw.choice(words) for _ in range(n))

    pairs = []
    for _ in range(draw.randint(1, 3)):
        head = some(draw.choice([0, 3, 40, 70]))
        for _ in range(draw.randint(1, questions)):
            question = head + some(draw.randint(0, 12)) + draw.choice(["\n", "", ":", " the ca"])
            options = [draw.choice(["", " "]) + some(draw.randint(1, 5)) for _ in range(draw.randint(1, 4))]
            pairs += [(question, o) for o in draw.choice([options, [" أ", " ب", " ج"], ["t sat", "t"]])]
    pairs += [("", "the cat"), ("a", ""), pairs[0], (pairs[0][0] + pairs[0][1], " dog")]
    draw.shuffle(pairs)
    return pairs


@pytest.fixture(scope="module", params=[True, False], ids=["bos", "no-bos"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> lm.LM:
    path = tmp_path_factory.mktemp("shared") / "m"
    return lm.load(write_model(path, positions=512, bos=request.param), device="cpu")


@pytest.mark.parametrize("masked", [False, True], ids=["split", "masked"])
@pytest.mark.parametrize("seed", range(6))
def test_random_trees_of_prompts(model: lm.LM, seed: int, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = tree(seed)
    monkeypatch.setattr(shared, "GAIN", random.Random(seed).choice([1, 16, 192]))
    monkeypatch.setattr(shared, "TWIG", random.Random(seed + 1).choice([4, 32, 384]))
    monkeypatch.setattr(shared, "TRUNK", random.Random(seed + 2).choice([0, 2048]))
    monkeypatch.setitem(shared.HELD, "cpu", random.Random(seed + 3).choice([0, 2**28]))
    if masked:  # the way of devices without the kernel
        monkeypatch.setattr(packed, "FLASH", None)
    assert shared.supports(model)
    want = plain(model, pairs, monkeypatch)
    for budget in (1, 200, 8192):
        same(lm.score(model, pairs, batch_tokens=budget), want)


def count(m: lm.LM, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """(tokens run, positions that the head was applied to)."""
    seen = [0, 0]
    body, head = m.model.model.forward, m.model.lm_head.forward

    def spy_body(*a: Any, **k: Any) -> Any:
        seen[0] += k["input_ids"].numel()
        return body(*a, **k)

    def spy_head(x: Any) -> Any:
        seen[1] += x.shape[:-1].numel()
        return head(x)

    with monkeypatch.context() as patch:
        patch.setattr(m.model.model, "forward", spy_body)
        patch.setattr(m.model.lm_head, "forward", spy_head)
        lm.score(m, pairs)
    return seen[0], seen[1]


def test_a_shared_beginning_runs_once_and_the_head_only_where_options_are_read(
    model: lm.LM, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = " ".join(TEXT * 6)
    questions = [f"{head} {i} {w}:" for i, w in enumerate(TEXT[0].split() * 8)]
    pairs = [(q, o) for q in questions for o in (" أ", " ب", " ج", " د")]
    ids = [len(x) for x in model.encode(questions)]
    common = len(model.encode([head])[0])
    tokens, kept = count(model, pairs, monkeypatch)
    assert tokens < common + sum(n - common for n in ids) + 8 * len(questions) < sum(ids) / 5
    n = {s.n_tokens for s in lm.score(model, pairs)}
    assert kept <= len(questions) * (4 * (max(n) - 1) + 1) + 3  # the first token of all options is read at one place


def test_a_passage_with_several_options_is_one_tree(model: lm.LM, monkeypatch: pytest.MonkeyPatch) -> None:
    passage = " ".join(TEXT * 6)
    tokens, _ = count(model, [(passage, f" {t}") for t in TEXT], monkeypatch)
    assert tokens < len(model.encode([passage])[0]) + sum(len(x) for x in model.encode(TEXT)) + 8


def test_memory_does_not_grow_with_the_number_of_items(model: lm.LM, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = []
    read = shared.read
    monkeypatch.setattr(shared, "read", lambda m, asks, *a: (largest.append(len(asks)), read(m, asks, *a))[1])
    monkeypatch.setattr(scoring, "WINDOW", 2_000)
    pairs = [(f"{TEXT[0]} {i}:", o) for i in range(200) for o in (" أ", " ب")]
    got = list(lm.stream(model, iter(pairs)))
    assert len(largest) > 5 and max(largest) < 100
    same(got, plain(model, pairs, monkeypatch))


def test_stream_yields_in_order_before_all_is_read(model: lm.LM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "WINDOW", 100)
    taken = []

    def pairs() -> Any:
        for i in range(50):
            taken.append(i)
            yield f"{TEXT[0]} {i}", " the"

    results = lm.stream(model, pairs())
    next(results)
    assert len(taken) < 20
    assert len(list(results)) == 49


def llama(**more: Any) -> tf.PreTrainedModel:
    return tf.LlamaForCausalLM(tf.LlamaConfig(vocab_size=300, max_position_embeddings=512, **SMALL, **more))


KINDS = {
    "llama": lambda: llama(),
    "grouped, tied": lambda: llama(num_key_value_heads=2, tie_word_embeddings=True),
    "qwen2": lambda: tf.Qwen2ForCausalLM(
        tf.Qwen2Config(vocab_size=300, max_position_embeddings=512, num_key_value_heads=2, **SMALL)
    ),
    "qwen3": lambda: tf.Qwen3ForCausalLM(
        tf.Qwen3Config(vocab_size=300, max_position_embeddings=512, num_key_value_heads=2, head_dim=16, **SMALL)
    ),
    "gpt2": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=300, n_positions=512, n_embd=32, n_layer=2, n_head=4)),
    "wide window": lambda: tf.MistralForCausalLM(
        tf.MistralConfig(
            vocab_size=300, max_position_embeddings=512, num_key_value_heads=2, sliding_window=400, **SMALL
        )
    ),
}
LEFT_PLAIN = {
    "window": lambda: tf.MistralForCausalLM(
        tf.MistralConfig(vocab_size=300, max_position_embeddings=512, num_key_value_heads=2, sliding_window=8, **SMALL)
    ),
    "capped": lambda: tf.Gemma2ForCausalLM(
        tf.Gemma2Config(
            vocab_size=300, max_position_embeddings=512, num_key_value_heads=2, head_dim=8, sliding_window=400, **SMALL
        )
    ),
    "recurrent": lambda: tf.MambaForCausalLM(
        tf.MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, state_size=4)
    ),
    "alibi": lambda: tf.BloomForCausalLM(tf.BloomConfig(vocab_size=300, hidden_size=32, n_layer=2, n_head=4)),
}


def as_lm(kind: Any, tokenizer: Any) -> lm.LM:
    torch.manual_seed(0)
    made = kind().eval()
    with torch.no_grad():
        for p in made.parameters():
            if p.ndim > 1:
                p.mul_(8.0)  # untrained models hardly look at what they read; these do
    return lm.LM(made, tokenizer, torch.device("cpu"), Path("x"))


@pytest.mark.parametrize("name", KINDS)
def test_kinds_of_models(name: str, model: lm.LM, monkeypatch: pytest.MonkeyPatch) -> None:
    m = as_lm(KINDS[name], model.tokenizer)
    assert shared.supports(m)
    before = m.model.config._attn_implementation
    pairs = tree(3)
    done = []
    read = shared.read
    monkeypatch.setattr(shared, "read", lambda *a: done.append(read(*a)) or done[-1])
    same(lm.score(m, pairs), plain(m, pairs, monkeypatch))
    assert done and m.model.config._attn_implementation == before


@pytest.mark.parametrize("name", LEFT_PLAIN)
def test_what_cannot_be_shared_is_scored_plainly(name: str, model: lm.LM, monkeypatch: pytest.MonkeyPatch) -> None:
    m = as_lm(LEFT_PLAIN[name], model.tokenizer)
    pairs = tree(4)
    before = getattr(m.model.config, "_attn_implementation", None)
    got = lm.score(m, pairs)
    assert got == plain(m, pairs, monkeypatch)
    assert getattr(m.model.config, "_attn_implementation", None) == before


def test_a_model_that_computes_something_else_is_found_out(model: lm.LM, monkeypatch: pytest.MonkeyPatch) -> None:
    m = as_lm(KINDS["llama"], model.tokenizer)
    real = packed._split
    monkeypatch.setattr(packed, "_split", lambda *a: real(*a) * 1.01)
    assert not shared.supports(m)


def test_half_precision_stays_near(model: lm.LM, monkeypatch: pytest.MonkeyPatch) -> None:
    m = as_lm(KINDS["grouped, tied"], model.tokenizer)
    pairs = tree(5)
    exact = plain(m, pairs, monkeypatch)
    m.model.to(torch.bfloat16)
    assert shared.supports(m)
    got, want = lm.score(m, pairs), plain(m, pairs, monkeypatch)

    def apart(some: list[lm.Score]) -> float:
        return sum(abs(a.logprob - b.logprob) for a, b in zip(some, exact, strict=True))

    assert apart(got) < 1.5 * apart(want)  # sharing rounds no worse than bf16 itself does


def test_the_place_of_ties_and_maxima_is_the_first() -> None:
    logits = torch.zeros(3, 5)
    logits[1, 3] = 2.0
    sums = shared.Sums(4)
    sums.add(logits, [0, 0, 1, 2], [0, 1, 3, 4], [0, 1, 2, 3])
    assert sums.greedy.tolist() == [True, False, True, False]
    assert sums.total[1] == pytest.approx(-(torch.tensor(5.0).log().item()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_cuda(tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    m = lm.load(write_model(tmp_path / "m", positions=512), device="cuda", precision=precision)
    assert shared.supports(m)
    pairs = tree(6)
    got, want = lm.score(m, pairs), plain(m, pairs, monkeypatch)
    assert max(abs(g.logprob - w.logprob) for g, w in zip(got, want, strict=True)) < (
        1e-3 if precision == "fp32" else 1
    )


def test_perplexity_and_plain_reading_agree(model: lm.LM) -> None:
    asks = {(3, 4, 5, 6): [shared.Ask(1, 5, 0), shared.Ask(3, 9, 1)]}
    a, b = shared.read(model, asks, 2, 64), scoring._read(model, asks, 2, 64)
    assert a.total == pytest.approx(b.total, abs=1e-5) and a.count.tolist() == b.count.tolist() == [1, 1]


def own_tokenizer(pattern: str | None, **more: Any) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    steps = [pre_tokenizers.Split(Regex(pattern), "isolated"), byte] if pattern else [byte]
    bpe.pre_tokenizer = pre_tokenizers.Sequence(steps) if pattern else byte
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<s>", "<pad>"], initial_alphabet=byte.alphabet(), show_progress=False
    )
    bpe.train_from_iterator([" ".join(TEXT * 3), "\n\n a  b\n12 345 don't ok.\n\n"] * 4, trainer)
    return tf.PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", pad_token="<pad>", **more)


@pytest.mark.parametrize("pattern", [None, *pieces.KNOWN])
def test_texts_encoded_in_parts_have_the_same_ids(pattern: str | None, model: lm.LM) -> None:
    m = lm.LM(model.model, own_tokenizer(pattern), model.device, model.path)
    assert pieces.cuttable(m.tokenizer)
    draw = random.Random(1)
    bits = [
        *" ".join(TEXT).split(),
        " ",
        "  ",
        "\n",
        "\n\n",
        " \n ",
        "\t",
        "12",
        ".",
        "؟",
        "،",
        "<s>",
        "'s",
        "ـَ",
        "é",
        "x",
    ]

    def some(n: int) -> str:
        return "".join(draw.choice(bits) + draw.choice(["", " ", "\n"]) for _ in range(n))

    for _ in range(40):
        head = some(draw.choice([0, 5, 60, 200]))
        contexts = [head + some(draw.randint(0, 20)) for _ in range(draw.randint(1, 5))]
        pairs = [(c, some(draw.randint(0, 4))) for c in contexts for _ in range(draw.randint(1, 3))]
        alone, wholes = pieces.encode(m, pairs)
        assert wholes == m.encode([c + o for c, o in pairs])
        assert list(alone.values()) == m.encode(list(alone))


def test_a_beginning_is_encoded_once(model: lm.LM) -> None:
    m = lm.LM(model.model, own_tokenizer(None), model.device, model.path)
    head = " ".join(TEXT * 20)
    pairs = [(f"{head} {t} x\n{t}:", o) for t in TEXT * 3 for o in (" أ", " ب")]
    seen = 0
    real = m.tokenizer

    class Counting:
        backend_tokenizer, eos_token_id, bos_token_id = real.backend_tokenizer, real.eos_token_id, real.bos_token_id

        def __call__(self, texts: Any, **k: Any) -> Any:
            nonlocal seen
            seen += sum(map(len, texts))
            return real(texts, **k)

    pieces.encode(lm.LM(m.model, Counting(), m.device, m.path), pairs)
    assert seen < 3 * len(head) < sum(len(c) for c, _ in pairs) / 5


def test_unknown_tokenizers_encode_whole_texts() -> None:
    from tokenizers import AddedToken, normalizers, pre_tokenizers

    fine = own_tokenizer(None)
    assert pieces.cuttable(fine)
    assert not pieces.cuttable(own_tokenizer(r"\w+\s|\s+|\S"))
    fine.backend_tokenizer.add_tokens([AddedToken("the cat")])
    assert not pieces.cuttable(fine)
    for change in ("normalizer", "pre_tokenizer"):
        other = own_tokenizer(None)
        part = normalizers.NFKC() if change == "normalizer" else pre_tokenizers.Metaspace()
        setattr(other.backend_tokenizer, change, part)
        assert not pieces.cuttable(other)
    assert not pieces.cuttable(object())
