"""The training loop: AdamW, cosine schedule, loss per group, checkpoints that resume exactly.

One process on one device. Everything a step depends on is (weights, optimiser state, random state, step number), and
that is what a checkpoint holds; batches are a function of the step number.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_model, save_model

from fitra import recipe
from fitra.artifacts import digest, write_text
from fitra.errors import FitraError
from fitra.lm.load import pick_device, pick_dtype
from fitra.train.data import IGNORE, Batches

BETAS = (0.9, 0.95)
LOG_POINTS = 200  # at most about this many rows of log, whatever the number of steps
PLAIN_EVERY_S = 10.0
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h

OnStep = Callable[[int, Any, dict[str, Any]], None]


def schedule(step: int, steps: int, cfg: recipe.Train) -> float:
    """The learning rate of step 0..steps-1: linear warm-up, then a cosine down to min_lr_share (1.0 keeps it flat)."""
    warm = round(cfg.warmup_share * steps)
    if step < warm:
        return cfg.lr * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return cfg.lr * (cfg.min_lr_share + (1 - cfg.min_lr_share) * 0.5 * (1 + math.cos(math.pi * done)))


def fit(
    model: Any,
    batches: Batches,
    cfg: recipe.Train,
    out: Path,
    *,
    seed: int,
    groups: Sequence[str],
    on_step: OnStep | None = None,
    identity: str = "",
    description: str = "train",
) -> list[dict[str, Any]]:
    """Train `model` in place on all batches and return the log.

    A row of the log: step (from 1), tokens seen, lr, loss, and loss_<group> for every group, each the mean over the
    predicted tokens since the row before (None where a group had none). It is written to out/log.jsonl too.
    A killed run that is started again with the same `identity` (config, seed and data are part of it anyway) goes on
    from its last checkpoint and ends with the same weights, bit for bit on a CPU.
    `on_step(step, model, row)` is called after every logged step. Raises FitraError when the loss is not finite, or
    when started as one of several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise FitraError("training on several processes is not supported yet.", "Start one process, without torchrun.")
    device = pick_device(cfg.device)
    dtype = pick_dtype(cfg.precision, device)
    if device.type == "cpu":
        _keep_memory()
    model.to(device=device, dtype=torch.float32).train()  # master weights; bf16 only inside autocast
    optimizer = _adamw(model, cfg, device)
    torch.manual_seed(seed)
    steps = len(batches)
    key = digest([cfg.model_dump(mode="json"), seed, list(groups), steps, identity])
    sums = torch.zeros(len(groups), 2, dtype=torch.float64)  # (loss, predicted tokens) per group since the last row
    first, tokens, log = _resume(out / "checkpoint", key, model, optimizer, sums)
    every = max(1, steps // LOG_POINTS)
    amp: Any = torch.autocast(device.type, dtype) if dtype is not torch.float32 else nullcontext()
    with _watch(range(first, steps), description, steps, first) as (numbers, tell):
        for step in numbers:
            batch = batches[step]
            lr = schedule(step, steps, cfg)
            for one in optimizer.param_groups:
                one["lr"] = lr
            with amp:
                loss, parts = group_loss(model, batch.input_ids, batch.labels, batch.group, len(groups))
            torch.autograd.backward(loss)
            if cfg.clip > 0:
                torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            sums += parts
            tokens += batch.input_ids.numel()
            last = step + 1 == steps
            if (step + 1) % every == 0 or last:
                row = _row(step + 1, tokens, lr, sums, groups)
                if not math.isfinite(row["loss"] or 0.0):
                    raise FitraError(f"{out}: the loss is not finite at step {step + 1}.", "Lower train.lr.")
                sums.zero_()
                log.append(row)
                tell(tokens, row["loss"])
                if on_step:
                    on_step(step + 1, model, row)
                    model.train()
            if (step + 1) % cfg.checkpoint_every == 0 or last:
                _save(out / "checkpoint", key, model, optimizer, step + 1, tokens, log, sums)
                _write_log(out, log)
    _write_log(out, log)
    model.eval()
    return log


def describe(out: Path, model: Any, tokenizer: Any) -> None:
    """Leave config and tokenizer in out/checkpoint/like: with them a checkpoint can be measured while it trains."""
    final, tmp = out / "checkpoint" / "like", out / "checkpoint" / ".like"
    for folder in (tmp, final):
        shutil.rmtree(folder, ignore_errors=True)
    model.config.save_pretrained(tmp)
    tokenizer.save_pretrained(tmp)
    os.replace(tmp, final)


def group_loss(
    model: Any, input_ids: torch.Tensor, labels: torch.Tensor, group: torch.Tensor, groups: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss over the predicted tokens (what is minimised), and (loss sum, token count) per group.

    input_ids, labels (B, T); group (B,) -> scalar, (groups, 2) float64 on the CPU.
    """
    device = next(model.parameters()).device
    logits = model(input_ids=input_ids.to(device), use_cache=False).logits  # (B, T, V)
    # Shifting the labels, not the logits, saves a copy of the largest tensor.
    target = F.pad(labels[:, 1:], (0, 1), value=IGNORE).to(device)
    flat = F.cross_entropy(
        logits.float().flatten(0, 1), target.flatten(), ignore_index=IGNORE, reduction="none"
    )  # zero where ignored
    counted = (target != IGNORE).sum(1)
    per_row = flat.view_as(target).sum(1)
    loss = per_row.sum() / counted.sum().clamp(min=1)
    parts = torch.zeros(groups, 2, dtype=torch.float64)
    both = torch.stack([per_row.detach().double(), counted.double()], dim=1).cpu()
    return loss, parts.index_add_(0, group.cpu(), both)


def _keep_memory() -> None:
    """Let glibc keep freed buffers: by default each step maps the logits anew and the kernel zeroes them again.

    Measured on two cores with the quickstart's model: 59,000 page faults a step become 12,000, some 12% more tokens/s.
    Elsewhere than on Linux with glibc nothing happens.
    """
    if sys.platform != "linux":
        return
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:
        tune(M_MMAP_THRESHOLD, 1 << 30)
        tune(M_TRIM_THRESHOLD, 1 << 30)


def _adamw(model: Any, cfg: recipe.Train, device: torch.device) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices alone: norms and biases keep their scale."""
    trained = [p for p in model.parameters() if p.requires_grad]
    kinds = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": cfg.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [k for k in kinds if k["params"]], lr=cfg.lr, betas=BETAS, fused=device.type in ("cpu", "cuda")
    )


def _row(step: int, tokens: int, lr: float, sums: torch.Tensor, groups: Sequence[str]) -> dict[str, Any]:
    def mean(pair: torch.Tensor) -> float | None:
        return round(float(pair[0] / pair[1]), 6) if pair[1] > 0 else None

    row: dict[str, Any] = {"step": step, "tokens": tokens, "lr": lr, "loss": mean(sums.sum(0))}
    if len(groups) > 1:
        row |= {f"loss_{g}": mean(sums[i]) for i, g in enumerate(groups)}
    return row


def _write_log(out: Path, log: list[dict[str, Any]]) -> None:
    write_text(out / "log.jsonl", "".join(json.dumps(r) + "\n" for r in log))


def _save(
    folder: Path, key: str, model: Any, optimizer: Any, step: int, tokens: int, log: list[Any], sums: torch.Tensor
) -> None:
    """Put checkpoint/step-N into place in one rename, then delete the older ones."""
    final, tmp = folder / f"step-{step:09d}", folder / ".tmp"
    shutil.rmtree(tmp, ignore_errors=True)
    tmp.mkdir(parents=True)
    save_model(model, str(tmp / "model.safetensors"))
    random = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        random["cuda"] = torch.cuda.get_rng_state()
    state = {
        "key": key, "step": step, "tokens": tokens, "log": json.dumps(log), "sums": sums, "random": random,
        "optimizer": optimizer.state_dict(),
    }  # fmt: skip
    torch.save(state, tmp / "state.pt")
    for file in tmp.iterdir():
        with file.open("rb") as f:
            os.fsync(f.fileno())
    shutil.rmtree(final, ignore_errors=True)
    os.replace(tmp, final)
    for old in folder.glob("step-*"):
        if old != final:
            shutil.rmtree(old, ignore_errors=True)


def _resume(
    folder: Path, key: str, model: Any, optimizer: Any, sums: torch.Tensor
) -> tuple[int, int, list[dict[str, Any]]]:
    """Load the newest checkpoint of this very run: step, tokens, log; (0, 0, []) where there is none.

    Checkpoints of other runs and damaged ones are deleted.
    """
    for found in sorted(folder.glob("step-*"), reverse=True):
        try:
            state = torch.load(found / "state.pt", map_location="cpu", weights_only=True)
            if state["key"] != key:
                raise ValueError("of another run")
            load_model(model, str(found / "model.safetensors"))
        except (OSError, ValueError, KeyError, RuntimeError, EOFError):
            shutil.rmtree(found, ignore_errors=True)
            continue
        optimizer.load_state_dict(state["optimizer"])
        sums.copy_(state["sums"])
        torch.set_rng_state(state["random"]["cpu"])
        if "cuda" in state["random"] and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["random"]["cuda"])
        print(f"{folder.parent}: going on from step {state['step']}", file=sys.stderr)
        return int(state["step"]), int(state["tokens"]), json.loads(state["log"])
    return 0, 0, []


@contextmanager
def _watch(
    numbers: Iterable[int], description: str, total: int, first: int
) -> Iterator[tuple[Iterable[int], Callable[[int, float | None], None]]]:
    """Progress on stderr: a bar on a terminal, else a line about every ten seconds; loss, tokens/s, time left.

    Yields the step numbers and a function (tokens so far, loss) that tells the bar what to show.
    """
    began = last = time.monotonic()
    base: list[int] = []

    def note(tokens: int, loss: float | None) -> str:
        base[:] = base or [tokens]
        rate = (tokens - base[0]) / max(1e-9, time.monotonic() - began)
        return f"loss {loss or 0:.3f}, {rate:,.0f} tokens/s"

    if os.environ.get("FITRA_PROGRESS") == "0":
        yield numbers, lambda tokens, loss: None
        return
    if sys.stderr.isatty():
        from rich import progress
        from rich.console import Console

        columns = (
            progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[note]}"), progress.TimeRemainingColumn(),
        )  # fmt: skip
        with progress.Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(description, total=total, completed=first, note="")

            def steps() -> Iterator[int]:
                for n in numbers:
                    yield n
                    bar.advance(task)

            yield steps(), lambda tokens, loss: bar.update(task, note=note(tokens, loss))
        return
    done = [first]

    def counted() -> Iterator[int]:
        for n in numbers:
            done[0] = n + 1
            yield n

    def tell(tokens: int, loss: float | None) -> None:
        nonlocal last
        text, now = note(tokens, loss), time.monotonic()
        if now - last >= PLAIN_EVERY_S:
            last = now
            left = (now - began) / max(1, done[0] - first) * (total - done[0])
            print(f"{description}: {done[0]}/{total}, {text}, {left:.0f} s left", file=sys.stderr, flush=True)

    yield counted(), tell
