"""Generation in batches with a KV cache; each row draws from a random stream of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import DynamicCache

from fitra.errors import FitraError
from fitra.lm.load import LM


def generate(
    m: LM,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    stop: Sequence[str] = (),
    batch_size: int = 32,
) -> list[str]:
    """Continue each prompt; greedy at temperature 0. Returns only what was added, up to EOS or a stop string.

    Row i draws from a stream seeded by (seed, i), so what is sampled does not depend on the batch size (up to the
    rounding of batched matrix products). A prompt too long for the model loses its beginning.
    Raises FitraError when max_new_tokens leaves no room for a prompt.
    """
    room = m.max_positions - max_new_tokens
    if room < 1 or max_new_tokens < 1:
        raise FitraError(
            f"max_new_tokens {max_new_tokens}: the model has {m.max_positions} positions.", "Ask for fewer tokens."
        )
    encoded = [ids[-room:] or m.start() for ids in m.encode(list(prompts))]
    answers = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: (-len(encoded[i]), i))  # like lengths together: little padding
    for begin in range(0, len(order), batch_size):
        rows = order[begin : begin + batch_size]
        texts = _batch(m, [encoded[i] for i in rows], rows, max_new_tokens, temperature, seed, stop)
        for i, text in zip(rows, texts, strict=True):
            answers[i] = text
    return answers


def end_ids(m: LM) -> set[int]:
    """Ids that end a generation: the tokenizer's EOS and those of the generation config (a chat model's turn end)."""
    config = getattr(m.model, "generation_config", None)
    more = getattr(config, "eos_token_id", None)
    ids = set(more if isinstance(more, list) else [more]) | {m.tokenizer.eos_token_id}
    return {int(i) for i in ids if i is not None}


def _cut(text: str, stop: Sequence[str]) -> str:
    """The text before the first stop string."""
    return text[: min((at for s in stop if s and (at := text.find(s)) >= 0), default=len(text))]


@torch.inference_mode()
def _batch(
    m: LM, prompts: list[list[int]], index: list[int], new: int, temperature: float, seed: int, stop: Sequence[str]
) -> list[str]:
    ends = end_ids(m)
    width = max(len(p) for p in prompts)
    pad = m.tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=m.device)  # (B, width), left padding
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=m.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    # One uniform number per row and step, fixed before anything runs: that makes rows independent of their batch.
    drawn = np.stack([np.random.Generator(np.random.Philox([seed, i])).random(new) for i in index])
    out: list[list[int]] = [[] for _ in prompts]
    live = list(range(len(prompts)))
    tail = (
        4 * max((len(s) for s in stop), default=0) + 4
    )  # tokens that can hold a stop string: at most 4 bytes a letter
    cache = DynamicCache(config=m.model.config)
    for step in range(new):
        got = m.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
        logits = got.logits[:, -1].float()  # (live, V)
        chosen = _pick(logits, temperature, drawn[live, step])
        keep = []
        for k, (row, token) in enumerate(zip(live, chosen.tolist(), strict=True)):
            if token in ends:
                continue
            out[row].append(token)
            recent = m.tokenizer.decode(out[row][-tail:]) if stop else ""
            if not any(s and s in recent for s in stop):
                keep.append(k)
        if not keep:
            break
        if len(keep) < len(live):  # finished rows leave the batch
            at = torch.tensor(keep, device=m.device)
            cache.batch_select_indices(at)
            chosen, mask, positions = chosen[at], mask[at], positions[at]
            live = [live[k] for k in keep]
        ids = chosen[:, None]
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
    return [_cut(m.tokenizer.decode(o, skip_special_tokens=True), stop) for o in out]


def _pick(logits: torch.Tensor, temperature: float, uniform: np.ndarray) -> torch.Tensor:
    """Greedy, or the inverse of the cumulative distribution at `uniform`. logits (B, V) -> ids (B,)."""
    if temperature <= 0:
        return logits.argmax(-1)
    heights = (logits.double() / temperature).softmax(-1).cumsum(-1)
    u = torch.as_tensor(uniform, device=logits.device, dtype=torch.float64)[:, None] * heights[:, -1:]
    return torch.searchsorted(heights, u, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
