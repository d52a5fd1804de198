"""train: batches, the loop against transformers.Trainer, kill and resume."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

from fitra import recipe, train  # noqa: E402
from fitra.errors import FitraError  # noqa: E402
from fitra.train.data import IGNORE  # noqa: E402
from fitra.train.loop import BETAS, group_loss  # noqa: E402

VOCAB = 50


def tiny(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
            max_position_embeddings=64, tie_word_embeddings=True,
        )
    )  # fmt: skip


def rows(n: int, seq: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, VOCAB, (n, seq)).astype(np.int32)


def packed(steps: int = 12, seed: int = 1) -> train.Packed:
    data = {"ar": rows(9, seed=1), "en": rows(6, seed=2)}
    return train.Packed(data, {"ar": 3 * steps, "en": steps}, batch_rows=4, seed=seed)


class FakeTokenizer:
    """One id per letter: what packing does is then plain to see."""

    bos_token_id: int | None = 1
    eos_token_id: int | None = 2

    def __call__(self, texts: list[str], add_special_tokens: bool = True) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(c) - 60 for c in t] for t in texts]}


def cfg(**kw: Any) -> recipe.Train:
    return recipe.Train(**{"lr": 1e-2, "checkpoint_every": 5, "device": "cpu", "precision": "fp32"} | kw)


def test_packing_keeps_every_token_but_the_tail() -> None:
    got = train.pack(FakeTokenizer(), ["ABC", "DE", "FGH"], 5)
    assert got.tolist() == [[1, 5, 6, 7, 2], [1, 8, 9, 2, 1]]
    assert train.pack(FakeTokenizer(), ["A"], 6).tolist() == [[1, 5, 2, 1, 5, 2]]  # less than a row: repeated
    assert train.pack(FakeTokenizer(), [], 6).shape == (0, 6)


def test_mixture_shares_caps_and_sums() -> None:
    shares = {"ar": 0.55, "en": 0.35, "parallel": 0.10}
    assert train.mixture({"ar": 99, "en": 99, "parallel": 99}, shares, 100) == {"ar": 55, "en": 35, "parallel": 10}
    assert train.mixture({"ar": 99, "en": 99, "parallel": 0}, shares, 90) == {"ar": 55, "en": 35, "parallel": 0}
    capped = train.mixture({"ar": 5, "en": 1000, "parallel": 1000}, shares, 100, max_repeats=2)
    assert capped["ar"] == 10 and sum(capped.values()) == 100 and capped["en"] == 70
    assert sum(train.mixture({"ar": 5, "en": 5, "parallel": 5}, shares, 100, max_repeats=2).values()) == 30
    with pytest.raises(FitraError, match="no group"):
        train.mixture({"ar": 0, "en": 0}, shares, 10)


def test_draw_is_even_repeatable_and_by_epochs() -> None:
    a, b = packed(), packed()
    assert all(torch.equal(x.input_ids, y.input_ids) for x, y in zip(a, b, strict=False))
    for i in range(len(a)):
        assert 2 <= int((a[i].group == 0).sum()) <= 4  # a share of 3 in 4, spread over the run
    drawn = a.what[a.which == 0]
    assert sorted(drawn[:9]) == list(range(9)) == sorted(drawn[9:18])
    assert list(drawn[:9]) != list(drawn[9:18])
    assert not np.array_equal(packed(seed=2).what, a.what)


def test_padded_batches_mask_prompt_and_padding() -> None:
    examples = [train.Example([5] * n, 2, 0) for n in (4, 9, 6)]
    data = train.Padded(examples, tokens=60, batch_tokens=20, pad=0, seed=0)
    assert data.tokens >= 60
    for i in range(len(data)):
        ids, labels, _ = data[i]
        assert ids.numel() <= 20
        for row, lab in zip(ids, labels, strict=True):
            n = int((row != 0).sum())
            assert (lab[:2] == IGNORE).all() and (lab[n:] == IGNORE).all() and (lab[2:n] == row[2:n]).all()
    with pytest.raises(FitraError, match="no training example"):
        train.Padded([], 10, 10, 0, 0)


def test_schedule_warms_up_and_ends_near_the_floor() -> None:
    c = cfg(lr=1.0, warmup_share=0.1, min_lr_share=0.1)
    lr = [train.schedule(s, 100, c) for s in range(100)]
    assert lr[0] == pytest.approx(0.1) and max(lr) == lr[9] == 1.0 and lr[-1] == pytest.approx(0.1, abs=1e-3)
    flat = cfg(lr=1.0, warmup_share=0.1, min_lr_share=1.0)
    assert {train.schedule(s, 100, flat) for s in range(10, 100)} == {1.0}


def test_group_losses_add_up_to_the_loss_of_the_model() -> None:
    model, batch = tiny(), packed()[0]
    loss, parts = group_loss(model, batch.input_ids, batch.labels, batch.group, 2)
    want = model(input_ids=batch.input_ids, labels=batch.labels).loss
    assert loss.item() == pytest.approx(want.item(), abs=1e-5)
    assert float(parts[:, 0].sum() / parts[:, 1].sum()) == pytest.approx(want.item(), abs=1e-5)
    english = batch.group == 1
    if english.any():
        only = model(input_ids=batch.input_ids[english], labels=batch.labels[english]).loss
        assert float(parts[1, 0] / parts[1, 1]) == pytest.approx(only.item(), abs=1e-5)


def test_log_has_loss_per_group_and_falls(tmp_path: Path) -> None:
    model = tiny()
    seen: list[int] = []
    log = train.fit(
        model, packed(30), cfg(), tmp_path, seed=0, groups=["ar", "en"], on_step=lambda s, m, r: seen.append(s)
    )
    assert [r["step"] for r in log] == seen == list(range(1, 31))
    assert set(log[0]) == {"step", "tokens", "lr", "loss", "loss_ar", "loss_en"}
    assert log[-1]["loss"] < log[0]["loss"] and log[-1]["tokens"] == 30 * 4 * 16
    assert [json.loads(x) for x in (tmp_path / "log.jsonl").read_text().splitlines()] == log


class Killed(BaseException):
    pass


class DiesAt:
    """Batches that kill the run at one step, as a signal would."""

    def __init__(self, inner: train.Packed, step: int) -> None:
        self.inner, self.step = inner, step

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, i: int) -> train.Batch:
        if i == self.step:
            raise Killed
        return self.inner[i]


@pytest.mark.parametrize("at", [3, 8, 11])
def test_killed_and_resumed_run_ends_with_the_same_bits(tmp_path: Path, at: int) -> None:
    whole, cut, again = tiny(), tiny(), tiny()
    kw: dict[str, Any] = {"seed": 0, "groups": ["ar", "en"]}
    log = train.fit(whole, packed(), cfg(), tmp_path / "whole", **kw)
    with pytest.raises(Killed):
        train.fit(cut, DiesAt(packed(), at), cfg(), tmp_path / "cut", **kw)
    asked: list[int] = []
    batches = packed()
    first = at // 5 * 5

    class Watched(DiesAt):
        def __getitem__(self, i: int) -> train.Batch:
            asked.append(i)
            return self.inner[i]

    assert train.fit(again, Watched(batches, -1), cfg(), tmp_path / "cut", **kw) == log
    assert asked == list(range(first, 12))  # nothing before the checkpoint is done twice
    for (name, a), b in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_checkpoints_of_another_run_and_damaged_ones_are_not_used(tmp_path: Path) -> None:
    kw: dict[str, Any] = {"groups": ["ar", "en"]}
    train.fit(tiny(), packed(), cfg(), tmp_path, seed=0, **kw)
    a, b = tiny(), tiny()
    train.fit(a, packed(), cfg(), tmp_path, seed=1, **kw)
    for state in (tmp_path / "checkpoint").rglob("state.pt"):
        state.write_bytes(state.read_bytes()[:100])
    train.fit(b, packed(), cfg(), tmp_path, seed=1, **kw)
    assert torch.equal(a.model.embed_tokens.weight, b.model.embed_tokens.weight)


def test_infinite_loss_and_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tiny()
    with torch.no_grad():
        broken.model.embed_tokens.weight.fill_(math.nan)
    with pytest.raises(FitraError, match="not finite"):
        train.fit(broken, packed(), cfg(), tmp_path, seed=0, groups=["ar", "en"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(FitraError, match="several processes"):
        train.fit(tiny(), packed(), cfg(), tmp_path, seed=0, groups=["ar", "en"])


def trainer_losses(model: Any, batches: train.Packed, c: recipe.Train, out: Path) -> list[float]:
    """The same batches in the same order through transformers.Trainer."""
    from torch.utils.data import DataLoader
    from transformers import Trainer, TrainingArguments

    class InOrder(Trainer):  # type: ignore[misc]
        def get_train_dataloader(self) -> Any:
            items = [{"input_ids": batches[i].input_ids, "labels": batches[i].labels} for i in range(len(batches))]
            return DataLoader(items, batch_size=None)

    args = TrainingArguments(
        output_dir=str(out), max_steps=len(batches), learning_rate=c.lr, weight_decay=c.weight_decay,
        max_grad_norm=c.clip, adam_beta1=BETAS[0], adam_beta2=BETAS[1], logging_steps=1, save_strategy="no",
        report_to=[], use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    made = InOrder(model=model, args=args, train_dataset=[0])
    made.create_optimizer()
    made.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
        made.optimizer, lambda s: train.schedule(min(s, len(batches) - 1), len(batches), c) / c.lr
    )
    made.train()
    return [r["loss"] for r in made.state.log_history if "loss" in r]


@pytest.mark.parametrize("steps", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_losses_equal_those_of_the_trainer(tmp_path: Path, steps: int) -> None:
    c = cfg(lr=3e-3, weight_decay=0.1)
    ours = train.fit(tiny(), packed(steps), c, tmp_path / "a", seed=0, groups=["ar", "en"])
    theirs = trainer_losses(tiny(), packed(steps), c, tmp_path / "b")
    assert [r["loss"] for r in ours] == pytest.approx(theirs, abs=2e-4)
