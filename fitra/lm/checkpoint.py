"""Checkpoints of a training that still goes on: OUT/checkpoint/step-N holds the weights alone.

Beside them `train.fit` leaves `checkpoint/like/`, the config and the tokenizer; where it is missing (an older run, a
folder copied alone) a model folder of the same shape is named as `base`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from fitra.artifacts import file_hash
from fitra.errors import FitraError
from fitra.lm.load import LM, load, model_folder, pick_device, pick_dtype, weights_hash

WEIGHTS = "model.safetensors"


def step_folder(path: Path) -> Path | None:
    """The newest checkpoint of a stage in training, or `path` itself where it is one; None where there is none."""
    path = Path(path)
    if path.name.startswith("step-") and (path / WEIGHTS).is_file() and not (path / "config.json").is_file():
        return path
    if (path / "config.json").is_file() or (path / "model" / "config.json").is_file():
        return None
    for folder in (path / "checkpoint", path):
        if found := [p for p in sorted(folder.glob("step-*")) if (p / WEIGHTS).is_file()]:
            return found[-1]
    return None


def weights_of(path: Path) -> str:
    """SHA-256 (hex) over the weights of a model folder or a checkpoint."""
    step = step_folder(path)
    if step is None:
        return weights_hash(path)
    return file_hash(step / WEIGHTS)


def load_any(path: Path, device: str = "auto", precision: str = "auto", base: Path | None = None) -> LM:
    """`load`, for checkpoints too: the newest of a stage that is still training, or the one named.

    `base` is a model folder with the config and the tokenizer, for a checkpoint that has none beside it.
    Raises FitraError where there is no model, or the weights do not fit the config.
    """
    step = step_folder(path)
    if step is None:
        return load(path, device, precision)
    like = model_folder(base) if base is not None else step.parent / "like"
    if not (like / "config.json").is_file():
        raise FitraError(
            f"{step}: a checkpoint holds weights alone, and there is no {like} with config and tokenizer.",
            "Name a model of the same shape: --base MODEL (the one the training started from).",
        )
    where = pick_device(device)
    dtype = pick_dtype(precision, where)
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(like, **local)
        config.vocab_size = _rows(step / WEIGHTS) or config.vocab_size  # chat tokens may have come since
        make: Any = AutoModelForCausalLM
        model = make.from_config(config, trust_remote_code=False)
        load_model(model, str(step / WEIGHTS))
        tokenizer = AutoTokenizer.from_pretrained(like, **local)
    except FileNotFoundError:
        raise FitraError(f"{step}: gone while it was read.", "The training wrote a newer one: run again.") from None
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as e:
        first = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise FitraError(f"{step}: does not fit {like}: {first}", "Name the model it was started from.") from e
    return LM(model.to(where, dtype).eval(), tokenizer, where, step)


def _rows(file: Path) -> int:
    """Rows of the embedding in the file, 0 where its name is not known."""
    with safe_open(str(file), framework="pt") as f:
        for name in f.keys():  # noqa: SIM118
            if name.endswith(("embed_tokens.weight", "wte.weight", "embed_in.weight", "lm_head.weight")):
                return int(f.get_slice(name).get_shape()[0])
    return 0
