"""sft: the chat template, the loss mask, what happens to bad rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")

from fitra import lm, recipe, sft
from fitra.errors import FitraError
from fitra.pretrain.base import small_llama, train_tokenizer

SCRATCH = recipe.Scratch(vocab_size=300, hidden_size=32, layers=1, heads=2, intermediate_size=48, max_positions=128)
ROWS: list[dict[str, Any]] = [
    {"id": f"r{i}", "instruction": f"كم عدد {i}؟", "input": "", "output": f" الجواب {i}. ", "lang": "ar"}
    for i in range(8)
] + [{"id": "en", "instruction": "Count.", "input": "one two", "output": "2", "lang": "en"}]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sft") / "model"
    tokenizer = train_tokenizer(["the bread of the baker", "count one two three", "الجواب كم عدد"] * 3, 300)
    small_llama(SCRATCH, tokenizer, 0).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)) + "\n" for r in rows))
    return path


def config(**kw: Any) -> recipe.Sft:
    train = recipe.Train(tokens=2000, batch_tokens=256, seq_len=96, lr=1e-3, device="cpu")
    return recipe.Sft(**{"train": train} | kw)


@pytest.fixture
def examples(base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run tune and catch the examples on their way into the batches."""
    caught: list[Any] = []
    real = sft.tune.__globals__["train"].Padded

    def spy(rows: Any, *a: Any) -> Any:
        caught.extend(rows)
        return real(rows, *a)

    monkeypatch.setattr(sft.tune.__globals__["train"], "Padded", spy)

    def run(rows: list[Any], **kw: Any) -> tuple[list[Any], dict[str, Any], lm.LM]:
        made = sft.tune(config(**kw), base, [jsonl(tmp_path / "i.jsonl", rows)], 7, tmp_path / "out")
        return caught, made, lm.load(tmp_path / "out", device="cpu")

    return run


def test_loss_is_on_the_answer_and_its_end_alone(examples: Any) -> None:
    got, made, m = examples(ROWS)
    assert made["counts"]["examples"] == 9 and "quarantined" not in made["counts"]
    for row, e in zip(ROWS, got, strict=True):
        talk = [
            {"role": "user", "content": f"{row['instruction']}\n{row['input']}".strip()},
            {"role": "assistant", "content": row["output"]},
        ]
        whole = m.tokenizer.apply_chat_template(talk, return_dict=True, return_assistant_tokens_mask=True)
        assert e.ids == list(whole["input_ids"])
        mask = whole["assistant_masks"]
        assert mask == [0] * e.answer_from + [1] * (len(e.ids) - e.answer_from)
        assert m.tokenizer.decode(e.ids[e.answer_from :]) == row["output"].strip() + "<|end|>"
        assert e.ids.count(m.tokenizer.bos_token_id) == 1


def test_prompt_for_generation_is_the_beginning_of_what_was_trained(examples: Any) -> None:
    got, _, m = examples(ROWS)
    prompt = lm.render(m, "كم عدد 0؟")
    assert m.encode([prompt])[0] == got[0].ids[: got[0].answer_from]
    assert prompt == "<|begin_of_text|><|user|>كم عدد 0؟<|end|><|assistant|>"
    assert m.tokenizer.convert_tokens_to_ids("<|end|>") in m.model.generation_config.eos_token_id
    assert "<|end|>" not in lm.generate(m, [prompt], max_new_tokens=5)[0]


def test_tuning_lowers_the_loss_on_answers(examples: Any, base: Path, tmp_path: Path) -> None:
    _, _, m = examples(ROWS)
    log = [json.loads(x) for x in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"]
    pair = [(lm.render(m, ROWS[0]["instruction"]), "الجواب 0.")]
    assert lm.score(m, pair)[0].logprob > lm.score(lm.load(base, device="cpu"), pair)[0].logprob


def test_bad_rows_go_to_quarantine_with_a_reason(examples: Any, tmp_path: Path) -> None:
    bad: list[Any] = [
        "{not json", {"id": "n", "instruction": 5, "output": "x"}, {"id": "e", "instruction": "q", "output": " "},
        {"id": "long", "instruction": "س" * 200, "output": "x"}, {"id": "i", "instruction": "", "output": "x"}, [1],
    ]  # fmt: skip
    got, made, _ = examples([*bad, *ROWS])
    assert len(got) == len(ROWS) and made["counts"]["quarantined"] == len(bad)
    table = pq.read_table(tmp_path / "out" / "quarantine")
    reasons = dict(zip(table["where"].to_pylist(), table["reason"].to_pylist(), strict=True))
    assert reasons["i.jsonl:1"] == reasons["i.jsonl:6"] == "not a JSON object"
    assert reasons["i.jsonl:3"] == "empty answer" and "no room" in reasons["i.jsonl:4"]


def test_long_answers_are_cut_and_counted(examples: Any) -> None:
    rows = [{"instruction": "q", "output": "abcdefghij" * 30}, {"instruction": "q", "output": "ok"}]
    got, made, m = examples(rows, max_answer_chars=10)
    assert made["counts"]["answers_cut"] == 1
    assert m.tokenizer.decode(got[0].ids[got[0].answer_from :]) == "abcdefghij<|end|>"


def test_data_cannot_open_a_turn(examples: Any) -> None:
    rows = [{"instruction": "hi<|end|><|assistant|>", "output": "a<|user|>b"}]
    got, _, m = examples(rows)
    assert m.tokenizer.decode(got[0].ids) == "<|begin_of_text|><|user|>hi<|end|><|assistant|>ab<|end|>"


def test_tokenizer_without_chat_tokens_gets_them(base: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    raw = json.loads((base / "tokenizer.json").read_text())
    chat = set(sft.CHAT_TOKENS)
    raw["added_tokens"] = [t for t in raw["added_tokens"] if t["content"] not in chat]
    rename = {t: f"unused{i}" for i, t in enumerate(sft.CHAT_TOKENS)}
    raw["model"]["vocab"] = {rename.get(k, k): v for k, v in raw["model"]["vocab"].items()}
    m = lm.load(base, device="cpu")
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(raw)), bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>"
    )
    old = m.model.get_input_embeddings().weight.detach().clone()
    assert sft.prepare_tokenizer(tokenizer, m.model) == 4
    new = m.model.get_input_embeddings().weight.detach()
    assert new.shape[0] == len(tokenizer) == len(old) + 4 and tokenizer.pad_token_id is not None
    assert (new[-4:] - old.mean(0)).abs().max() < 1e-6 and (new[:-4] == old).all()
    assert sft.prepare_tokenizer(tokenizer, m.model) == 0


def test_missing_columns_and_files_are_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(FitraError, match="no column output"):
        sft.tune(
            config(), base, [jsonl(tmp_path / "a.jsonl", [{"instruction": "x", "answer": "y"}])], 7, tmp_path / "o"
        )
    pq.write_table(pa.table({"prompt": ["x"]}), tmp_path / "b.parquet")
    with pytest.raises(FitraError, match="no column instruction, output"):
        sft.tune(config(), base, [tmp_path / "b.parquet"], 7, tmp_path / "o")
    with pytest.raises(FitraError, match="no such file"):
        sft.tune(config(), base, [tmp_path / "c.parquet"], 7, tmp_path / "o")
    with pytest.raises(FitraError, match="no instructions"):
        sft.tune(config(), base, [], 7, tmp_path / "o")
    with pytest.raises(FitraError, match="no usable instruction"):
        sft.tune(config(), base, [jsonl(tmp_path / "d.jsonl", [{"instruction": "x", "output": ""}])], 7, tmp_path / "p")


def test_parquet_reads_like_jsonl(base: Path, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "i.parquet")
    a = sft.tune(config(), base, [tmp_path / "i.parquet"], 7, tmp_path / "a")
    sft.tune(config(), base, [jsonl(tmp_path / "i.jsonl", ROWS)], 7, tmp_path / "b")
    assert lm.weights_hash(tmp_path / "a") == lm.weights_hash(tmp_path / "b")
    assert a["licence_class"] == "D"  # neither the model nor the rows name one
