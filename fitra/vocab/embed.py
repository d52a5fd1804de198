"""Rows of the embedding and of the output head for new tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM

from fitra.errors import FitraError


def load_model(folder: Path) -> Any:
    """The causal model of a folder in its own precision; FitraError when there is none."""
    if not (folder / "config.json").is_file():
        raise FitraError(f"{folder}: no config.json, so this is not a model folder.", "Point base to a model folder.")
    if not any(folder.glob("*.safetensors")):
        raise FitraError(f"{folder}: no *.safetensors weights.", "Convert the model to safetensors.")
    try:
        AutoConfig.from_pretrained(folder, trust_remote_code=False)
        return AutoModelForCausalLM.from_pretrained(folder, dtype="auto", use_safetensors=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as e:
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise FitraError(f"{folder}: the model cannot be loaded: {reason}", "Check the folder.") from None


def mean_rows(matrix: torch.Tensor, pieces: Sequence[Sequence[int]]) -> torch.Tensor:
    """For each list of ids the mean of those rows of `matrix` [V, d], as float32 [len(pieces), d].

    ALLaM section 3.1 and AraLLaMA section 4.1: a new token starts at the mean of its pieces in the old vocabulary.
    """
    flat = torch.tensor([i for p in pieces for i in p], dtype=torch.long)
    owner = torch.repeat_interleave(torch.arange(len(pieces)), torch.tensor([len(p) for p in pieces]))
    total = torch.zeros(len(pieces), matrix.shape[1])
    total.index_add_(0, owner, matrix.detach()[flat].float())
    return total / torch.tensor([len(p) for p in pieces], dtype=torch.float32).unsqueeze(1)


def random_rows(matrix: torch.Tensor, n: int, seed: int) -> torch.Tensor:
    """`n` normal rows with the mean and standard deviation of all entries of `matrix` [V, d], as float32 [n, d]."""
    gen = torch.Generator().manual_seed(seed)
    known = matrix.detach().float()
    return torch.randn(n, known.shape[1], generator=gen) * known.std() + known.mean()


def grow(
    model: Any, first_id: int, pieces: Sequence[Sequence[int]], init: Literal["mean", "random"], seed: int
) -> bool:
    """Give `model` rows first_id .. first_id+len(pieces)-1, in both matrices; returns whether they are tied.

    Rows below `first_id` stay as they are. Rows above the tokenizer that the base had as padding are reused. The head
    is initialised like the embedding, from its own rows: the papers do not state it, but a mean of head rows makes
    the new token about as likely as its pieces.
    """
    embed, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None:
        raise FitraError("the base model has no output head.", "Give a causal language model.")
    tied = head.weight is embed.weight or head.weight.data_ptr() == embed.weight.data_ptr()
    rows = {}
    for name, matrix in (("embed", embed.weight), ("head", head.weight)):
        if name == "embed" or not tied:
            old = matrix[:first_id]
            rows[name] = mean_rows(old, pieces) if init == "mean" else random_rows(old, len(pieces), seed)
    bias = getattr(head, "bias", None)
    new_bias = mean_rows(bias[:first_id, None], pieces)[:, 0] if bias is not None else None
    end = first_id + len(pieces)
    if end > embed.weight.shape[0]:
        model.resize_token_embeddings(end, mean_resizing=False)
    embed, head = model.get_input_embeddings(), model.get_output_embeddings()
    with torch.no_grad():
        embed.weight[first_id:end] = rows["embed"].to(embed.weight.dtype)
        if not tied:
            head.weight[first_id:end] = rows["head"].to(head.weight.dtype)
        if new_bias is not None:
            head.bias[first_id:end] = new_bias.to(head.bias.dtype)
    return tied
