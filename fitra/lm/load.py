"""Model folders: safetensors only, no code from the folder, nothing from the network."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from fitra.errors import FitraError

# Their bars and advice would interleave with ours; errors still come through.
transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class LM:
    """A causal language model in evaluation mode, ready to score and generate."""

    model: Any  # transformers.PreTrainedModel
    tokenizer: Any  # transformers.PreTrainedTokenizerFast
    device: torch.device
    path: Path

    @property
    def max_positions(self) -> int:
        """Longest sequence (tokens) the model was made for."""
        text = self.model.config.get_text_config()
        return int(getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None) or 2048)

    def prefix(self) -> list[int]:
        """The ids this tokenizer itself puts before every text (its BOS, or nothing)."""
        ids = list(self.tokenizer("")["input_ids"])
        while ids and ids[-1] == self.tokenizer.eos_token_id and ids[-1] != self.tokenizer.bos_token_id:
            ids.pop()
        return ids

    def start(self) -> list[int]:
        """What stands for 'a document begins here' when there is no context at all: BOS, else EOS."""
        if ids := self.prefix():
            return ids
        for one in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if one is not None:
                return [int(one)]
        raise FitraError(
            f"{self.path}: the tokenizer has neither BOS nor EOS.", "Set bos_token in tokenizer_config.json."
        )

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, with the tokenizer's prefix exactly once (a chat template may have written it already)."""
        prefix = self.prefix()
        if not texts:
            return []
        rows = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return [list(ids) if ids[: len(prefix)] == prefix else prefix + list(ids) for ids in rows]


def model_folder(path: Path) -> Path:
    """The folder with config.json: `path` itself, or `path/model` when a stage's folder is given.

    Raises FitraError when neither is a model folder with safetensors weights.
    """
    path = Path(path)
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            if not any(folder.glob("*.safetensors")):
                raise FitraError(
                    f"{folder}: no *.safetensors weights.", "Fitra reads no pickled weights; convert them first."
                )
            return folder
    if not path.exists():
        raise FitraError(f"{path}: no such model folder.", "Check the path.")
    raise FitraError(
        f"{path}: not a model folder, config.json is missing.", "Give a folder in the Hugging Face layout."
    )


def pick_device(device: str = "auto") -> torch.device:
    """'auto' is CUDA where there is one, else the CPU; FitraError when the named device is absent."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError:
        raise FitraError(f"device '{device}': unknown.", "Use auto, cpu or cuda.") from None
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise FitraError(f"device '{device}': no CUDA device here.", "Use device auto or cpu.")
    return picked


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """'auto' is bf16 on CUDA and fp32 elsewhere; FitraError for another name."""
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if precision not in kinds:
        raise FitraError(f"precision '{precision}': unknown.", "Use auto, fp32 or bf16.")
    return kinds[precision]


def load(path: Path, device: str = "auto", precision: str = "auto") -> LM:
    """Load a model folder (or a stage folder that holds `model/`) in evaluation mode.

    Raises FitraError when it is not a model folder or cannot be read.
    """
    folder = model_folder(path)
    where = pick_device(device)
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, dtype=pick_dtype(precision, where), **local
        )
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as e:
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise FitraError(f"{folder}: cannot be loaded as a causal language model: {reason}", "") from e
    return LM(model.to(where).eval(), tokenizer, where, Path(path))


def render(m: LM, prompt: str, system: str | None = None) -> str:
    """A user's prompt as the chat model expects it; the bare text where the tokenizer has no chat template."""
    if not m.tokenizer.chat_template:
        return prompt
    turns = [{"role": "system", "content": system}] if system else []
    turns.append({"role": "user", "content": prompt})
    return str(m.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def weights_hash(path: Path) -> str:
    """SHA-256 (hex) over the names and bytes of the safetensors files: the identity of a local model."""
    whole = hashlib.sha256()
    for file in sorted(model_folder(path).glob("*.safetensors")):
        with file.open("rb") as f:
            whole.update(f"{file.name}:{hashlib.file_digest(f, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()
