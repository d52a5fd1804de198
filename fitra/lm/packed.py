"""Attention over packed twigs of a forest and the stems they hang on; see fitra.lm.shared.

Shapes: N packed tokens, P tokens of a stem, H query heads, G key-value heads, D width of a head, B twigs of L tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "fitra_shared"
_REFUSED = ("softcap", "s_aux", "position_bias", "alibi", "head_mask")  # attention that is more than a softmax


class Ask(NamedTuple):
    """One reading: at position `at` of a sequence look up the token `target`; it counts for `owner`."""

    at: int
    target: int
    owner: int


class Unsupported(Exception):
    """This model's attention cannot be split; nothing has been counted yet that the caller could keep."""


@dataclass(eq=False)
class Stem:
    """A shared beginning: keys and values of its tokens and of all before them, by layer, (1, G, P, D) each."""

    depth: int
    kv: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for pair in self.kv.values() for t in pair)


@dataclass(eq=False)
class Twig:
    """A small tree in one packed stretch; `mask` (n, n) says who sees whom, None: each token all before it."""

    tokens: list[int]
    positions: list[int]
    mask: np.ndarray[Any, np.dtype[np.bool_]] | None
    asks: list[Ask]  # `at` is the token's place in the twig


@dataclass
class Block:
    """Twigs of like length side by side: `take` (B*L,) packed places, `back` (n,) where each packed token went."""

    take: torch.Tensor
    back: torch.Tensor
    shape: tuple[int, int]
    bias: torch.Tensor | None  # (B, 1, L, L), 0 or -inf; None: causal
    a: int
    b: int


@dataclass
class Pack:
    """One forward: stretches of packed tokens, each behind its stem (or none)."""

    groups: list[tuple[Stem | None, list[Twig]]]
    longest: int = 0
    fill: Stem | None = None  # the stem that this forward encodes
    blocks: list[Block] = field(default_factory=list)
    masks: list[torch.Tensor] = field(default_factory=list)


CURRENT: ContextVar[Pack] = ContextVar("fitra_pack")
FLASH = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over packed twigs and their stems, in the form transformers asks for: query (1, H, N, D)."""
    pack = CURRENT.get()
    window = more.get("sliding_window")
    if any(more.get(k) is not None for k in _REFUSED) or (window is not None and window < pack.longest):
        raise Unsupported
    if attention_mask is not None or query.shape[0] != 1 or query.shape[2] != key.shape[2]:
        raise Unsupported
    layer = module.layer_idx
    if pack.fill is not None:
        stem = pack.groups[0][0]
        old = stem.kv[layer] if stem else (key[:, :, :0], value[:, :, :0])
        pack.fill.kv[layer] = (torch.cat([old[0], key], 2), torch.cat([old[1], value], 2))
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    if pack.masks:
        return _masked(pack, layer, query, key, value, scaling), None
    return _split(pack, layer, query, key, value, scaling), None


def _heads(x: torch.Tensor, h: int) -> torch.Tensor:
    """Key-value heads repeated for the query heads that share them."""
    return x if x.shape[1] == h else x.repeat_interleave(h // x.shape[1], 1)


def _masked(pack: Pack, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    """One masked attention for each stem and what hangs on it; (1, N, H, D)."""
    out, a = [], 0
    for (stem, twigs), mask in zip(pack.groups, pack.masks, strict=True):
        b = a + sum(len(t.tokens) for t in twigs)
        keys, values = k[:, :, a:b], v[:, :, a:b]
        if stem:
            keys, values = torch.cat([stem.kv[layer][0], keys], 2), torch.cat([stem.kv[layer][1], values], 2)
        h = q.shape[1]
        got = torch.nn.functional.scaled_dot_product_attention(
            q[:, :, a:b], _heads(keys, h), _heads(values, h), attn_mask=mask, scale=scale
        )
        out.append(got.transpose(1, 2))
        a = b
    return torch.cat(out, 1)


def _split(pack: Pack, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    """Attention inside twigs and over stems apart, merged by their log-sum-exp; (1, N, H, D)."""
    h, d = q.shape[1], q.shape[3]
    keys, values = _heads(k, h), _heads(v, h)
    outs, sums = [], []
    for block in pack.blocks:
        n, width = block.shape
        three = [x[0].index_select(1, block.take).view(h, n, width, d).transpose(0, 1) for x in (q, keys, values)]
        o, s = FLASH(*three, 0.0, block.bias is None, attn_mask=block.bias, scale=scale)  # type: ignore[misc]
        outs.append(o.transpose(1, 2).reshape(n * width, h, d).index_select(0, block.back))
        sums.append(s.transpose(1, 2).reshape(n * width, h).index_select(0, block.back))
    out = torch.cat(outs) if len(outs) > 1 else outs[0]  # (N, H, D)
    lse = torch.cat(sums) if len(sums) > 1 else sums[0]  # (N, H)
    a = 0
    for stem, twigs in pack.groups:
        b = a + sum(len(t.tokens) for t in twigs)
        if stem:
            pk, pv = stem.kv[layer]
            o, s = FLASH(q[:, :, a:b], _heads(pk, h), _heads(pv, h), 0.0, False, scale=scale)  # type: ignore[misc]
            share = torch.sigmoid(s[0].transpose(0, 1) - lse[a:b]).to(out.dtype)[:, :, None]
            out[a:b] = torch.lerp(out[a:b], o[0].transpose(0, 1), share)
        a = b
    return out[None]


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)


def starts(twigs: Sequence[Twig]) -> Iterator[tuple[int, Twig]]:
    a = 0
    for t in twigs:
        yield a, t
        a += len(t.tokens)


def mask_of(stem: Stem | None, twigs: Sequence[Twig], device: torch.device) -> torch.Tensor:
    """Who sees whom behind one stem: (1, 1, n, P + n), True where seen."""
    p, n = stem.depth if stem else 0, sum(len(t.tokens) for t in twigs)
    mask = np.zeros((n, p + n), dtype=bool)
    mask[:, :p] = True
    for a, t in starts(twigs):
        b = a + len(t.tokens)
        mask[a:b, p + a : p + b] = np.tri(b - a, dtype=bool) if t.mask is None else t.mask
    return torch.from_numpy(mask)[None, None].to(device)


def blocks_of(twigs: Sequence[Twig], dtype: torch.dtype) -> Iterator[Block]:
    """Neighbouring twigs of like length, padded to the longest of them."""
    group: list[Twig] = []
    first = a = 0
    for t in [*twigs, None]:
        sizes = [len(x.tokens) for x in group]
        if group and (t is None or not 0.6 * max(sizes) <= len(t.tokens) <= min(sizes) / 0.6):
            width = max(sizes)
            take = np.zeros((len(group), width), dtype=np.int64)
            trees = any(x.mask is not None for x in group)
            seen = np.zeros((len(group), 1, width, width), dtype=bool)
            for k, (at, x) in enumerate(starts(group)):
                n = sizes[k]
                take[k, :n] = np.arange(first + at, first + at + n)
                if trees:
                    seen[k, 0, :n, :n] = np.tri(n, dtype=bool) if x.mask is None else x.mask
                    seen[k, 0, range(n, width), range(n, width)] = True  # a padded place must see something
            bias = torch.zeros(seen.shape, dtype=dtype).masked_fill_(torch.from_numpy(~seen), -torch.inf)
            back = np.concatenate([k * width + np.arange(n) for k, n in enumerate(sizes)])
            yield Block(
                torch.from_numpy(take.reshape(-1)), torch.from_numpy(back), (len(group), width),
                bias if trees else None, first, a,
            )  # fmt: skip
            group, first = [], a
        if t is not None:
            group.append(t)
            a += len(t.tokens)
