"""Rows for new tokens: what they hold, and that folders of any layout grow without being loaded."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs fitra[train]")

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

from fitra.errors import FitraError
from fitra.vocab import checkpoint, embed, init

FIRST, WIDTH = 40, 16
PIECES = [[0, 3], [1], [2, 2, 39], [7, 8, 9, 10]] * 300  # more than a chunk
N = len(PIECES)


def llama(folder: Path, tied: bool = False, padding: int = 0, dtype: Any = torch.float32, shards: str = "1GB") -> Path:
    torch.manual_seed(1)
    cfg = LlamaConfig(
        vocab_size=FIRST + padding, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=3,
        num_attention_heads=2, max_position_embeddings=64, tie_word_embeddings=tied,
    )  # fmt: skip
    LlamaForCausalLM(cfg).to(dtype).save_pretrained(folder, max_shard_size=shards)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for f in folder.glob("*.safetensors") for k, v in load_file(f).items()}


def expected(matrix: torch.Tensor) -> torch.Tensor:
    return torch.stack([matrix.float()[p].mean(0) for p in PIECES])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("tied", "padding", "shards"), [(False, 0, "1GB"), (True, 24, "1GB"), (False, 24, "6KB")])
def test_a_folder_grows_and_loads(tmp_path: Path, tied: bool, padding: int, shards: str, dtype: Any) -> None:
    base = llama(tmp_path / "base", tied, padding, dtype, shards)
    layout = checkpoint.read(base)
    got = checkpoint.grow(layout, tmp_path / "out", FIRST, init.mean(PIECES), N, 0)
    assert got["tied"] is tied and got["rows_after"] == FIRST + N and got["rows_before"] == FIRST + padding
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert model.config.vocab_size == FIRST + N and model.dtype is dtype
    before, after = weights(base), weights(tmp_path / "out")
    assert before.keys() == after.keys()
    grown = {"model.embed_tokens.weight"} | (set() if tied else {"lm_head.weight"})
    for name, was in before.items():
        if name in grown:
            assert torch.equal(after[name][:FIRST], was[:FIRST])
            assert torch.allclose(after[name][FIRST:].float(), expected(was[:FIRST]).to(dtype).float())
        else:
            assert torch.equal(after[name], was)
    assert torch.equal(model.get_input_embeddings().weight.data, after["model.embed_tokens.weight"])
    assert checkpoint.check(layout, tmp_path / "out", FIRST, N)["new_rows"] == N * len(grown)


def test_only_the_shards_with_the_matrices_are_written(tmp_path: Path) -> None:
    base = llama(tmp_path / "base", shards="3KB")
    layout = checkpoint.read(base)
    assert len(layout.files) > 4
    got = checkpoint.grow(layout, tmp_path / "out", FIRST, init.mean(PIECES), N, 0)
    assert got["written"] == 2 and got["linked"] == len(layout.files) - 2
    linked = [f.name for f in layout.files if f.samefile(tmp_path / "out" / f.name)]
    assert len(linked) == got["linked"]
    index = json.loads((tmp_path / "out" / checkpoint.INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(t.numel() * 4 for t in weights(tmp_path / "out").values())


def test_where_there_are_no_links_shards_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(os, "copy_file_range", refused)
    base = llama(tmp_path / "base", shards="3KB")
    checkpoint.grow(checkpoint.read(base), tmp_path / "out", FIRST, init.mean(PIECES), N, 0)
    assert checkpoint.check(checkpoint.read(base), tmp_path / "out", FIRST, N)["tensors_equal"] > 4
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_padding_is_used_and_made(tmp_path: Path) -> None:
    base = llama(tmp_path / "base", padding=24)
    layout = checkpoint.read(base)
    few = init.mean(PIECES[:4])
    assert checkpoint.grow(layout, tmp_path / "a", FIRST, few, 4, 0)["rows_after"] == 64
    was, now = (weights(f)["lm_head.weight"] for f in (base, tmp_path / "a"))
    assert torch.equal(now[44:], was[44:])  # padding that nobody needed stays
    assert checkpoint.grow(layout, tmp_path / "b", FIRST, few, 4, 0, multiple=50)["rows_after"] == 100
    now = weights(tmp_path / "b")["lm_head.weight"]
    assert torch.allclose(now[64:], was[:FIRST].mean(0).expand(36, -1), atol=1e-6)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "b").config.vocab_size == 100


def test_other_families(tmp_path: Path) -> None:
    torch.manual_seed(0)
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=FIRST, n_embd=WIDTH, n_layer=1, n_head=2, n_positions=32))
    gpt2.save_pretrained(tmp_path / "gpt2")
    # The published GPT-2 files leave the prefix out.
    file = tmp_path / "gpt2" / "model.safetensors"
    save_file({k.removeprefix("transformer."): v for k, v in load_file(file).items()}, file, {"format": "pt"})
    phi = PhiForCausalLM(
        PhiConfig(vocab_size=FIRST, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    )
    torch.nn.init.normal_(phi.lm_head.bias)
    phi.save_pretrained(tmp_path / "phi")
    for name in ("gpt2", "phi"):
        checkpoint.grow(checkpoint.read(tmp_path / name), tmp_path / f"{name}2", FIRST, init.mean(PIECES), N, 0)
        model = AutoModelForCausalLM.from_pretrained(tmp_path / f"{name}2")
        was = AutoModelForCausalLM.from_pretrained(tmp_path / name)
        assert torch.allclose(model.get_input_embeddings().weight[FIRST:], expected(was.get_input_embeddings().weight))
        ids = torch.tensor([[1, 2, 3]])
        assert torch.allclose(model(ids).logits[..., :FIRST], was(ids).logits, atol=1e-5)
        if name == "phi":
            means = torch.stack([was.lm_head.bias[p].mean() for p in PIECES])
            assert torch.allclose(model.lm_head.bias[FIRST:], means)


def test_in_memory_and_on_disk_give_the_same(tmp_path: Path) -> None:
    for tied in (True, False):
        base = llama(tmp_path / f"base{tied}", tied)
        for how in (init.mean(PIECES), "gaussian", "random"):
            model = AutoModelForCausalLM.from_pretrained(base)
            assert embed.grow(model, FIRST, PIECES, how, seed=3) is tied
            out = tmp_path / f"{tied}{how if isinstance(how, str) else 'mean'}"
            checkpoint.grow(checkpoint.read(base), out, FIRST, how, N, 3)
            other = AutoModelForCausalLM.from_pretrained(out)
            for a, b in zip(model.parameters(), other.parameters(), strict=True):
                assert torch.allclose(a, b, atol=1e-6)


def _spoil(base: Path, what: str) -> None:
    names = sorted(base.glob("*.safetensors"))
    index = base / checkpoint.INDEX
    if what == "shard":
        names[-1].unlink()
    elif what == "cut":
        names[0].write_bytes(names[0].read_bytes()[:-8])
    elif what == "head":
        found = json.loads(index.read_text())
        del found["weight_map"]["lm_head.weight"]
        index.write_text(json.dumps(found))
    elif what == "outside":
        found = json.loads(index.read_text())
        found["weight_map"]["lm_head.weight"] = "../../secret"
        index.write_text(json.dumps(found))
    elif what == "index":
        index.write_text("{}")
    elif what == "weights":
        for n in (*names, index):
            n.unlink()
    elif what == "config":
        (base / "config.json").unlink()
    elif what == "kind":
        (base / "config.json").write_text('{"model_type": "nothing-known"}')
    elif what == "other file":
        for n in names:
            n.write_bytes(b"no weights")


@pytest.mark.parametrize(("what", "says"), [
    ("shard", "1 shards are missing, the first is model-"), ("cut", "not a whole safetensors file"),
    ("head", "head is not tied"), ("outside", "outside the folder"), ("index", "not an index"),
    ("weights", "no .*safetensors weights"), ("config", "no config.json"), ("kind", "not a causal language model"),
    ("other file", "not a whole safetensors file"),
])  # fmt: skip
def test_bad_folders_are_named_before_any_work(tmp_path: Path, what: str, says: str) -> None:
    base = llama(tmp_path / "base", shards="3KB")
    _spoil(base, what)
    with pytest.raises(FitraError, match=says):
        checkpoint.read(base)


def test_a_quantised_matrix_and_a_foreign_tokenizer_are_refused(tmp_path: Path) -> None:
    base = llama(tmp_path / "base")
    with pytest.raises(FitraError, match="41 tokens, the model 40 rows"):
        checkpoint.grow(checkpoint.read(base), tmp_path / "out", FIRST + 1, "random", 1, 0)
    found = load_file(base / "model.safetensors")
    found["lm_head.weight"] = found["lm_head.weight"].to(torch.float8_e4m3fn)
    save_file(found, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(FitraError, match="stored as F8_E4M3"):
        checkpoint.read(base)


def test_the_check_can_fail(tmp_path: Path) -> None:
    base = llama(tmp_path / "base")
    layout = checkpoint.read(base)
    checkpoint.grow(layout, tmp_path / "out", FIRST, init.mean(PIECES), N, 0)
    file = tmp_path / "out" / "model.safetensors"
    good = load_file(file)
    for name, row, value, says in (
        ("lm_head.weight", 3, 1.0, "rows of old tokens changed"),
        ("model.embed_tokens.weight", FIRST + 5, float("nan"), "not finite"),
        ("model.norm.weight", 0, 5.0, "'model.norm.weight' changed"),
    ):
        bad = {k: v.clone() for k, v in good.items()}
        bad[name][row] = value
        save_file(bad, file, {"format": "pt"})
        with pytest.raises(FitraError, match=says):
            checkpoint.check(layout, tmp_path / "out", FIRST, N)
    save_file(good, file, {"format": "pt"})
    config = tmp_path / "out" / "config.json"
    config.write_text(config.read_text().replace(f": {FIRST + N}", ": 50"))
    with pytest.raises(FitraError, match="says 50 tokens"):
        checkpoint.check(layout, tmp_path / "out", FIRST, N)


def test_weighted_mean() -> None:
    mix = init.weighted([[0, 1], [2]], np.array([1, 3, 2]))
    assert np.allclose(mix.dense(3), [[0.25, 0.75, 0], [0, 0, 1]])
    # A piece that stands everywhere says less.
    mix = init.weighted([[0, 1]], np.array([1, 1]), np.array([1000, 10]))
    share = np.array([1001, 11]) / 1012
    assert np.allclose(mix.dense(2)[0], np.log2(share) / np.log2(share).sum())
    with pytest.raises(ValueError, match="no pieces"):
        init.mean([[1], []])


def test_drawn_rows_look_like_the_old_ones() -> None:
    torch.manual_seed(0)
    old = torch.randn(3000, 8) @ torch.randn(8, 8) + torch.arange(8.0)
    gauss = torch.cat(list(init.rows(lambda i: old[i], 3000, "gaussian", 20000, 1)))
    some = old[torch.linspace(0, 2999, init.SAMPLED, dtype=torch.float64).long()]
    assert torch.allclose(gauss.mean(0), some.mean(0), atol=0.1)
    for rows, close in ((some, 0.04), (old, 0.15)):
        assert torch.allclose(gauss.T.cov(), rows.T.cov(), atol=close * old.T.cov().abs().max().item())
    plain = torch.cat(list(init.rows(lambda i: old[i], 3000, "random", 20000, 1)))
    assert plain.mean().item() == pytest.approx(old.mean().item(), abs=0.05)
    assert plain.std().item() == pytest.approx(old.std().item(), rel=0.02)
    again = torch.cat(list(init.rows(lambda i: old[i], 3000, "random", 20000, 1)))
    assert torch.equal(plain, again)
    with pytest.raises(ValueError, match="make its mixture first"):
        init.rows(lambda i: old[i], 3000, "mean", 1, 1)


def test_focus_finds_the_token_of_like_use() -> None:
    """New 20 stands where old 3 stands, new 21 where old 7 does; 22 is never seen."""
    rng = np.random.default_rng(0)
    frame = {3: (10, 11), 20: (10, 11), 7: (12, 13), 21: (12, 13)}
    stream = [i for t in rng.choice([3, 20, 7, 21], 4000) for i in (frame[t][0], int(t), frame[t][1])]
    mix = init.focus([[0], [1], [2, 4]], [np.array(stream)], 20).dense(20)
    assert mix[0].argmax() == 3 and mix[1].argmax() == 7
    assert mix[0, 3] > 0.5 and np.allclose(mix.sum(1), 1, atol=1e-5)
    assert np.allclose(mix[2, [2, 4]], 0.5)
    nothing = init.focus([[0], [1, 2]], [], 20)
    assert np.allclose(nothing.dense(20), init.mean([[0], [1, 2]]).dense(20))


def test_files_in_a_cache_of_links(tmp_path: Path) -> None:
    """The hub's cache holds links to blobs; what is grown from it must not point into it."""
    real = llama(tmp_path / "real", shards="3KB")
    base = tmp_path / "cache"
    base.mkdir()
    for f in real.iterdir():
        (base / f.name).symlink_to(f)
    checkpoint.grow(checkpoint.read(base), tmp_path / "out", FIRST, init.mean(PIECES), N, 0)
    shutil.rmtree(real)
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")
