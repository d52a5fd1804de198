"""Continued pre-training while the vocabulary grows stage by stage (AraLLaMA sections 4.1 and 4.3).

The texts are tokenised once, with the final vocabulary; a stage reads the streams of ids through its table, from the
place where the stage before stopped. A stage begins with the rows of its new tokens, has an equal part of the token
budget, its own share of Arabic and its own learning-rate schedule.

On disk, in `out/work-<fingerprint>` until the stage is finished: `tokens/GROUP.npy` (the streams), and for the stage
that is being trained `NN/begin.safetensors` (weights when it began) with the checkpoints of the loop beside it. A
beginning is in place before what led to it is deleted, so a killed run goes on from the newest one.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from fitra import recipe, train
from fitra.artifacts import write_text
from fitra.errors import FitraError
from fitra.lm import LM

BEGIN = "begin.safetensors"


class Table(Protocol):
    """Ids of the final vocabulary to ids of a stage: id i becomes starts[i + 1] - starts[i] ids."""

    @property
    def starts(self) -> np.ndarray: ...
    def take(self, stream: np.ndarray, at: int, n: int) -> tuple[np.ndarray, int]: ...


class Stage(Protocol):
    """What training needs of a stage of the vocabulary; `fitra.vocab.progressive` makes them."""

    @property
    def index(self) -> int: ...
    @property
    def added(self) -> int: ...  # new tokens so far
    @property
    def end(self) -> int: ...  # rows of the model in this stage
    @property
    def arabic(self) -> float: ...
    @property
    def table(self) -> Table: ...
    def begin(self, model: Any) -> None: ...


@dataclass
class Stream:
    """Documents of one group in final ids."""

    ids: np.ndarray  # (n,) int32, mapped from a file
    bytes: int  # of their texts
    at: int = 0  # ids read so far: above n they are read again
    drawn: int = 0  # rows that stages have made of them

    def __post_init__(self) -> None:
        self._counts = np.bincount(self.ids)

    @property
    def repeats(self) -> float:
        """How often it was read."""
        return self.at / len(self.ids) if len(self.ids) else 0.0

    def length(self, stage: Stage) -> int:
        """How many ids the stage makes of all."""
        return int(np.diff(stage.table.starts)[: len(self._counts)] @ self._counts)


def identity(stages: Sequence[Stage]) -> list[list[float]]:
    """What of the stages belongs to the identity of a run; their tables follow from it and the model's tokenizer."""
    return [[s.added, s.end, s.arabic] for s in stages]


def fit(
    m: LM, texts: Mapping[str, Sequence[str]], stages: Sequence[Stage], cfg: recipe.Pretrain, out: Path, *,
    seed: int, fingerprint: str,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:  # fmt: skip
    """Train `m.model`, which has the rows of the last stage, through all stages; (counts, a row for each stage).

    out/log.jsonl has the rows of `train.fit` with `stage` (from 1) and `added` in front, steps and tokens counted over
    all stages. A row for a stage: stage, added, arabic, tokens, and by group the loss and the bits per byte (losses of
    stages do not compare: their tokens are of unlike length), means over the second half of the stage.
    Raises FitraError when the budget has fewer rows than there are stages, or stages and model do not fit.
    """
    rows = m.model.get_input_embeddings().weight.shape[0]
    if stages[-1].end > min(rows, len(m.tokenizer)):
        raise FitraError(
            f"the stages end at {stages[-1].end} tokens; the model has {rows} rows, its tokenizer {len(m.tokenizer)}.",
            "Give the model that `fitra vocab expand` wrote beside these stages.",
        )
    seq_len = min(cfg.train.seq_len, m.max_positions)
    budget = cfg.train.tokens // seq_len
    if budget < len(stages):
        raise FitraError(
            f"pretrain.train.tokens {cfg.train.tokens} is {budget} rows of {seq_len}, for {len(stages)} stages.",
            "Train longer, or set fewer vocab.progressive.stages.",
        )
    work = out / f"work-{fingerprint[:16]}"
    for old in set(out.glob("work-*")) - {work}:
        shutil.rmtree(old)
    streams = {
        g: Stream(
            _stored(work / "tokens" / f"{g}.npy", m.tokenizer, train.shuffled(held, seed)),
            sum(len(t.encode()) for t in held),
        )
        for g, held in texts.items()
    }
    plan = _plan(streams, stages, cfg.mixture, budget, seq_len)
    put_back = _spare(m.model, stages[-1].end)
    newest = _resume(m.model, stages, work)
    log, told = list[dict[str, Any]](), list[dict[str, Any]]()
    for k, (stage, parts) in enumerate(zip(stages, plan, strict=True)):
        here = work / f"{k:02}"
        if k >= newest:
            if k != newest:
                _begin(m.model, stage, here, work / f"{k - 1:02}")
            drawn = {
                g: stage.table.take(streams[g].ids, at, n * seq_len)[0].reshape(n, seq_len)
                for g, (n, at) in parts.items()
            }
            counts = {g: n for g, (n, _) in parts.items()}
            batches = train.Packed(drawn, counts, max(1, cfg.train.batch_tokens // seq_len), seed + k)
            train.fit(
                m.model, batches, cfg.train, here, seed=seed, groups=list(streams), identity=f"{fingerprint}-{k}",
                description=f"stage {k + 1}/{len(stages)}",
            )  # fmt: skip
        part = [json.loads(x) for x in (here / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        told.append(_told(stage, part, streams))
        done = log[-1] if log else {"step": 0, "tokens": 0}
        log += [
            {"stage": k + 1, "added": stage.added, **r} | {c: r[c] + done[c] for c in ("step", "tokens")} for r in part
        ]
    write_text(out / "log.jsonl", "".join(json.dumps(r) + "\n" for r in log))
    put_back(m.model)
    totals: dict[str, Any] = {"tokens": log[-1]["tokens"], "steps": log[-1]["step"], "stages": len(stages)}
    if short := budget - sum(s.drawn for s in streams.values()):
        totals["tokens_short"] = short * seq_len
    for g, s in streams.items():
        totals |= {f"tokens_{g}": s.drawn * seq_len, f"repeats_{g}": round(s.repeats, 3)}
    return totals, told


def clear(out: Path) -> None:
    """Delete what was kept for resuming."""
    for old in out.glob("work-*"):
        shutil.rmtree(old, ignore_errors=True)


def _stored(path: Path, tokenizer: Any, texts: Iterable[str]) -> np.ndarray:
    """The stream of a group, made once and mapped from its file."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        tmp = path.with_suffix(".tmp")
        with tmp.open("wb") as f:
            np.save(f, train.stream(tokenizer, texts))
            f.flush()
            os.fsync(f.fileno())
        os.replace(tmp, path)
    held: np.ndarray = np.load(path, mmap_mode="r")
    return held


def _plan(
    streams: Mapping[str, Stream], stages: Sequence[Stage], mixture: recipe.Mixture, rows: int, seq_len: int
) -> list[dict[str, tuple[int, int]]]:
    """For each stage by group: how many rows, and from which place of the stream.

    Stages have equal parts of `rows`. Arabic has the stage's share, the other groups share the rest as the mixture has
    them. The cap on repeats counts over all stages. Raises FitraError where a stage has nothing to read.
    """
    given, out = mixture.model_dump(), list[dict[str, tuple[int, int]]]()
    rest = sum(given[g] for g, s in streams.items() if g != "ar" and len(s.ids))
    for k, stage in enumerate(stages):
        shares = {g: stage.arabic if g == "ar" else (1 - stage.arabic) * given[g] / (rest or 1) for g in streams}
        left = {
            g: int(max(0.0, mixture.max_repeats - s.repeats) * s.length(stage)) // seq_len for g, s in streams.items()
        }
        try:
            counts = train.mixture(left, shares, rows * (k + 1) // len(stages) - rows * k // len(stages), 1.0)
        except FitraError as e:
            raise FitraError(f"stage {k + 1} of the vocabulary: {e.message}", e.hint) from None
        out.append({g: (counts[g], s.at) for g, s in streams.items()})
        for g, s in streams.items():
            s.at = stage.table.take(s.ids, s.at, counts[g] * seq_len)[1]
            s.drawn += counts[g]
    return out


def _resume(model: Any, stages: Sequence[Stage], work: Path) -> int:
    """Load the newest beginning of a stage and return its index; else the rows of the base and -1."""
    for k in reversed(range(len(stages))):
        path = work / f"{k:02}" / BEGIN
        if not path.is_file():
            continue
        model.resize_token_embeddings(stages[k].end, mean_resizing=False)
        try:
            load_model(model, str(path))
        except (OSError, RuntimeError, SafetensorError):
            raise FitraError(f"{path}: damaged.", f"Delete {work} and start again.") from None
        print(f"{work.parent}: going on in stage {k + 1} of {len(stages)}", file=sys.stderr)
        return k
    model.resize_token_embeddings(stages[-1].end - stages[-1].added, mean_resizing=False)
    return -1


def _begin(model: Any, stage: Stage, here: Path, before: Path) -> None:
    """Give the model the rows of a stage and store it so; what led there goes."""
    stage.begin(model)
    # A stage without new tokens of its own still has the rows that its number says.
    model.resize_token_embeddings(stage.end, mean_resizing=False)
    here.mkdir(parents=True, exist_ok=True)
    tmp = here / f".{BEGIN}"
    save_model(model, str(tmp))
    with tmp.open("rb") as f:
        os.fsync(f.fileno())
    os.replace(tmp, here / BEGIN)
    shutil.rmtree(before / "checkpoint", ignore_errors=True)
    (before / BEGIN).unlink(missing_ok=True)


def _spare(model: Any, end: int) -> Callable[[Any], None]:
    """Keeps the rows from `end` on (padding that no token uses); the function returned puts them back."""

    def matrices(of: Any) -> list[torch.Tensor]:
        head = of.get_output_embeddings()
        found = (of.get_input_embeddings().weight, head.weight, getattr(head, "bias", None))
        return [x for x in found if x is not None]

    rows = matrices(model)[0].shape[0]
    held = [x.detach()[end:].clone() for x in matrices(model)]

    def put_back(to: Any) -> None:
        to.resize_token_embeddings(rows, mean_resizing=False)
        with torch.no_grad():
            for x, old in zip(matrices(to), held, strict=True):
                x[end:] = old.to(x)

    return put_back


def _told(stage: Stage, log: list[dict[str, Any]], streams: Mapping[str, Stream]) -> dict[str, Any]:
    row: dict[str, Any] = {"stage": stage.index + 1, "added": stage.added, "arabic": round(stage.arabic, 4)}
    row |= {"tokens": log[-1]["tokens"]}
    half = log[len(log) // 2 :]
    for g, s in streams.items():
        found = [x for r in half if (x := r.get(f"loss_{g}")) is not None]
        if found:
            loss = sum(found) / len(found)
            row[f"loss_{g}"] = round(loss, 4)
            row[f"bits_per_byte_{g}"] = round(loss * s.length(stage) / s.bytes / math.log(2), 4)
    return row
