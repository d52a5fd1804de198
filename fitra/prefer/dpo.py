"""DPO by trl's stable trainer, kept quiet, seeded, and off the network."""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import transformers
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import DPOConfig, DPOTrainer  # type: ignore[attr-defined]

from fitra import lm
from fitra.errors import FitraError
from fitra.progress import track
from fitra.recipe import Prefer

BATCH = 8  # pairs
LONGEST = 1024  # tokens of prompt and answer
KEPT = ("loss", "learning_rate", "rewards/accuracies", "rewards/margins", "rewards/chosen", "rewards/rejected")


def tune(m: lm.LM, pairs: Sequence[dict[str, Any]], cfg: Prefer, seed: int, out: Path) -> list[dict[str, Any]]:
    """Tune `m.model` in place on pairs (prompt, chosen, rejected); one record per step.

    The reference is the model as it came in: its log-probabilities are computed once, before the first step.
    Prompts go through the chat template where the tokenizer has one. Raises FitraError when the tokenizer has no EOS.
    """
    if m.tokenizer.eos_token is None:
        raise FitraError(f"{m.path}: the tokenizer has no EOS token, so no answer could end.", "Set eos_token.")
    if m.tokenizer.pad_token is None:
        m.tokenizer.pad_token = m.tokenizer.eos_token
    scratch = out / ".trl"
    steps = _steps(len(pairs), cfg.epochs)
    transformers.set_seed(seed)
    try:
        with _quiet():
            trainer = DPOTrainer(
                model=m.model,
                args=_config(m, cfg, seed, scratch),
                train_dataset=_dataset(m, pairs),
                processing_class=m.tokenizer,
                callbacks=[_Ticks(steps)],
            )
            for noisy in (PrinterCallback, ProgressCallback):
                trainer.remove_callback(noisy)
            trainer.train()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    m.model.eval()
    return [_record(x) for x in trainer.state.log_history if "loss" in x]


def longest(m: lm.LM) -> int:
    """Tokens of prompt and answer that a pair may have; what is beyond is cut from the answer."""
    return min(LONGEST, m.max_positions)


def fits(m: lm.LM, pairs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The pairs whose prompt leaves room for an answer: trl would drop the others without a word."""
    lengths = [len(ids) for ids in m.encode([lm.render(m, p["prompt"]) for p in pairs])]
    return [p for p, n in zip(pairs, lengths, strict=True) if n < longest(m) - 1]


def _config(m: lm.LM, cfg: Prefer, seed: int, scratch: Path) -> Any:
    return DPOConfig(
        output_dir=str(scratch),
        beta=cfg.beta,
        learning_rate=cfg.lr,
        num_train_epochs=cfg.epochs,
        per_device_train_batch_size=BATCH,
        precompute_ref_log_probs=True,
        max_length=longest(m),
        seed=seed,
        data_seed=seed,
        use_cpu=m.device.type == "cpu",
        bf16=m.device.type == "cuda",
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def _steps(pairs: int, epochs: float) -> int:
    return max(1, round(-(-pairs // BATCH) * epochs))


def _record(entry: dict[str, Any]) -> dict[str, Any]:
    found = {k.replace("rewards/", ""): entry[k] for k in KEPT if k in entry}
    found["lr"] = found.pop("learning_rate", None)
    return {"step": entry["step"], **found}


def _dataset(m: lm.LM, pairs: Sequence[dict[str, Any]]) -> Any:
    if not m.tokenizer.chat_template:
        return datasets.Dataset.from_list([{k: p[k] for k in ("prompt", "chosen", "rejected")} for p in pairs])
    return datasets.Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": p["prompt"]}],
                "chosen": [{"role": "assistant", "content": p["chosen"]}],
                "rejected": [{"role": "assistant", "content": p["rejected"]}],
            }
            for p in pairs
        ]
    )


class _Ticks(TrainerCallback):
    """Our progress bar in the place of theirs."""

    def __init__(self, steps: int) -> None:
        self._bar = iter(track(range(steps), "DPO", total=steps))

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        next(self._bar, None)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        for _ in self._bar:
            pass


@contextmanager
def _quiet() -> Iterator[None]:
    """trl, datasets and accelerate write bars and advice to stderr, where our own progress is."""
    names = ("trl", "accelerate", "datasets", "transformers")
    before = {n: logging.getLogger(n).level for n in names}
    tqdm = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"  # trl asks for this one by name where it computes the reference
    for n in names:
        logging.getLogger(n).setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for n, level in before.items():
            logging.getLogger(n).setLevel(level)
        if tqdm is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = tqdm
