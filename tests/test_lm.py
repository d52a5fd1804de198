"""lm: loading, scoring against a naive reference, generating, perplexity."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: E402

from fitra import lm  # noqa: E402
from fitra.errors import FitraError  # noqa: E402

TEXT = ["the cat sat on the mat", "القط جلس على السجادة", "a dog ran to the house", "ذهب الولد إلى المدرسة في الصباح"]


def write_model(path: Path, positions: int = 64, bos: bool = True, seed: int = 0) -> Path:
    """A random Llama with a byte-level tokenizer trained on TEXT."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?[\p{L}\p{M}]+|\s+|[^\s\p{L}\p{M}]+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tok.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<bos>", "<eos>", "<pad>"]
    tok.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    if bos:
        tok.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=positions, bos_token_id=0, eos_token_id=1, pad_token_id=2, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    fast.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> lm.LM:
    return lm.load(write_model(tmp_path_factory.mktemp("lm") / "m"), device="cpu")


def naive(m: lm.LM, context: str, option: str) -> tuple[float, int, bool]:
    """One pair, one forward, full logits, no batching."""
    whole, alone = m.encode([context + option, context])
    border = 0
    while border < min(len(whole), len(alone)) and whole[border] == alone[border]:
        border += 1
    ids = torch.tensor([whole])
    with torch.inference_mode():
        logp = m.model(ids).logits[0].float().log_softmax(-1)
    targets = range(border, len(whole))
    total = sum(float(logp[t - 1, whole[t]]) for t in targets)
    greedy = all(int(logp[t - 1].argmax()) == whole[t] for t in targets)
    return total, len(targets), greedy


PAIRS = [
    ("the cat sat on", " the mat"), ("the cat sat on", " the house"), ("ذهب الولد إلى", " المدرسة"), ("", "a dog"),
    ("the ca", "t sat"), ("a", "b"), ("a", "c"), ("ال", "قط جلس"), ("question: yes or no?\n", "نعم"),
]  # fmt: skip


@pytest.mark.parametrize("budget", [1, 40, 8192])
def test_scores_equal_the_naive_reference(model: lm.LM, budget: int) -> None:
    for pair, got in zip(PAIRS, lm.score(model, PAIRS, batch_tokens=budget), strict=True):
        want = naive(model, *pair)
        assert got.logprob == pytest.approx(want[0], abs=1e-4), pair
        assert (got.n_tokens, got.greedy) == want[1:]


def test_one_token_options_share_one_forward(model: lm.LM, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    forward = model.model.forward

    def spy(*a: object, **k: object) -> object:
        seen.append(tuple(k["input_ids"].shape))  # type: ignore[attr-defined]
        return forward(*a, **k)

    monkeypatch.setattr(model.model, "forward", spy)
    lm.score(model, [("12", x) for x in "3456"])
    assert [s[0] for s in seen] == [1]


def test_a_straddling_token_is_scored_and_not_lost(model: lm.LM) -> None:
    # " sat" is one token; the context ends inside it, so the whole token belongs to the continuation.
    assert lm.score(model, [("the cat sa", "t")])[0].n_tokens == 1


def test_long_context_loses_its_beginning_and_long_option_is_refused(model: lm.LM) -> None:
    short, long = lm.score(model, [("x" * 80, "y"), ("z" * 20 + "x" * 80, "y")])
    assert short.logprob == pytest.approx(long.logprob, abs=1e-4)
    with pytest.raises(FitraError, match="pair 0"):
        lm.score(model, [("a", "#" * 400)])


def test_empty_continuation_scores_nothing(model: lm.LM) -> None:
    assert lm.score(model, [("a", "")])[0] == lm.Score(0.0, 0, True)
    assert lm.score(model, []) == []


def test_perplexity_of_short_texts_is_the_score_of_the_whole(model: lm.LM) -> None:
    got = lm.perplexity(model, [*TEXT, ""])
    for text, one, whole in zip(TEXT, got, lm.score(model, [("", t) for t in TEXT]), strict=False):
        assert one.nll == pytest.approx(-whole.logprob, abs=1e-4)
        assert (one.tokens, one.bytes) == (whole.n_tokens, len(text.encode()))
    assert got[-1] == lm.Nll(0.0, 0, 0)


def test_perplexity_scores_every_token_of_a_long_text_once(model: lm.LM) -> None:
    text = " ".join(TEXT * 8)
    n = len(model.encode([text])[0]) - 1
    got = lm.perplexity(model, [text])[0]
    assert n > 3 * model.max_positions and got.tokens == n
    assert math.isfinite(got.nll) and got.nll > 0


def test_greedy_generation_equals_step_by_step(model: lm.LM) -> None:
    got = lm.generate(model, ["the cat", "a dog ran to", "القط"], max_new_tokens=8)
    for prompt, text in zip(["the cat", "a dog ran to", "القط"], got, strict=True):
        ids = model.encode([prompt])[0]
        out: list[int] = []
        for _ in range(8):
            with torch.inference_mode():
                token = int(model.model(torch.tensor([ids + out])).logits[0, -1].argmax())
            if token == model.tokenizer.eos_token_id:
                break
            out.append(token)
        assert text == model.tokenizer.decode(out, skip_special_tokens=True)


def test_sampling_does_not_depend_on_the_batch_size(model: lm.LM) -> None:
    prompts = ["the cat", "a", "القط جلس", "the cat", "a dog ran to the"] * 2
    draws = [lm.generate(model, prompts, max_new_tokens=12, temperature=1.0, seed=3, batch_size=b) for b in (1, 3, 32)]
    assert draws[0] == draws[1] == draws[2]
    assert draws[0][0] != draws[0][3]  # the same prompt twice: two draws
    assert draws[0] != lm.generate(model, prompts, max_new_tokens=12, temperature=1.0, seed=4)


def test_stop_strings_end_the_text_before_them(model: lm.LM) -> None:
    free = lm.generate(model, ["the cat"], max_new_tokens=12)[0]
    stop = free[3:5]
    got = lm.generate(model, ["the cat"], max_new_tokens=12, stop=[stop])[0]
    assert got == free[: free.find(stop)]


def test_a_prompt_that_already_begins_with_bos_gets_no_second(model: lm.LM) -> None:
    assert model.encode(["<bos>a"]) == model.encode(["a"])
    assert lm.render(model, "hi") == "hi"


def test_tokenizer_without_bos_still_scores_an_empty_context(tmp_path: Path) -> None:
    m = lm.load(write_model(tmp_path / "m", bos=False), device="cpu")
    assert m.prefix() == []
    assert lm.score(m, [("", "the cat")])[0].n_tokens == lm.perplexity(m, ["the cat"])[0].tokens


def test_weights_hash_is_that_of_the_weights(tmp_path: Path) -> None:
    a, b, c = (write_model(tmp_path / n, seed=s) for n, s in (("a", 0), ("b", 0), ("c", 1)))
    assert lm.weights_hash(a) == lm.weights_hash(b) != lm.weights_hash(c)


def test_what_is_no_model_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FitraError, match="no such model folder"):
        lm.load(tmp_path / "nothing")
    with pytest.raises(FitraError, match=r"config\.json is missing"):
        lm.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(FitraError, match="safetensors"):
        lm.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(FitraError, match="cannot be loaded"):
        lm.load(tmp_path)


def test_a_stage_folder_leads_to_its_model(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    assert lm.model_folder(tmp_path) == tmp_path / "model"
