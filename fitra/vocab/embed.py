"""Rows of the embedding and of the output head for new tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM

from fitra.errors import FitraError
from fitra.vocab import init


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
    return _made(matrix, matrix.shape[0], init.mean(pieces), len(pieces), 0)


def _made(matrix: torch.Tensor, known: int, how: init.Mix | str, n: int, seed: int) -> torch.Tensor:
    old = matrix.detach()[:known]
    parts = list(init.rows(lambda ids: old[ids.to(old.device)].float().cpu(), known, how, n, seed))
    return torch.cat(parts) if parts else torch.zeros(0, old.shape[1])


def grow(
    model: Any, first_id: int, pieces: Sequence[Sequence[int]], how: init.Mix | str = "mean", seed: int = 0
) -> bool:
    """Give a loaded `model` rows first_id .. first_id+len(pieces)-1, in both matrices; returns whether they are tied.

    `how` is "mean", "gaussian", "random" or a mixture made before. Rows below `first_id` stay as they are; rows above
    the tokenizer that the base had as padding are reused. The head is initialised like the embedding, from its own
    rows: the papers do not state it, but a mean of head rows makes the new token about as likely as its pieces.
    Whole folders are grown by `checkpoint.grow`, which loads nothing.
    """
    if isinstance(how, str) and how == "mean":
        how = init.mean(pieces)
    return put(model, range(first_id, first_id + len(pieces)), how, seed, known=first_id)


def put(model: Any, ids: Sequence[int], how: init.Mix | str, seed: int = 0, known: int | None = None) -> bool:
    """Set the rows `ids` (rising) of both matrices of a loaded model, which grows where it has too few.

    New values come from the rows as they were, for drawn ones from the first `known`. Returns whether they are tied.
    """
    embed, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None:
        raise FitraError("the base model has no output head.", "Give a causal language model.")
    tied = bool(head.weight is embed.weight or head.weight.data_ptr() == embed.weight.data_ptr())
    known = embed.weight.shape[0] if known is None else known
    new_embed = _made(embed.weight, known, how, len(ids), 2 * seed)
    new_head = None if tied else _made(head.weight, known, how, len(ids), 2 * seed + 1)
    bias = getattr(head, "bias", None)
    new_bias = None if bias is None else _made(bias[:, None], known, how, len(ids), 2 * seed + 1)[:, 0]
    if len(ids) and ids[-1] >= embed.weight.shape[0]:
        model.resize_token_embeddings(ids[-1] + 1, mean_resizing=False)
    embed, head = model.get_input_embeddings(), model.get_output_embeddings()
    at = torch.tensor(list(ids), dtype=torch.long, device=embed.weight.device)
    with torch.no_grad():
        embed.weight[at] = new_embed.to(embed.weight)
        if new_head is not None:
            head.weight[at.to(head.weight.device)] = new_head.to(head.weight)
        if new_bias is not None:
            head.bias[at.to(head.bias.device)] = new_bias.to(head.bias)
    return tied
