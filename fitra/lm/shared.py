"""Read log-probabilities from a forest of token sequences: what sequences share is computed once.

Sequences with common beginnings form a tree. Long shared beginnings ("stems": the worked examples of a subject) are
encoded once and their keys and values kept; what hangs on them ("twigs": a question with its options) is packed without
padding into one row per forward, where every token sees its own ancestors alone. Projections and MLPs run over packed
tokens; attention is split in two that are merged by their log-sum-exp: over the stem, and inside each twig (the
split is that of Hydragen, Juravsky et al. 2024; the mask of a tree that of SpecInfer, Miao et al. 2023).

The model needs to be one of transformers that lets its attention be exchanged. Whether that gives the same numbers is
tried on the model itself before it is used; models with recurrence, ALiBi, attention sinks, capped scores or a window
shorter than the sequences are left to the plain path.

Shapes: N packed tokens, P tokens of a stem, H query heads, G key-value heads, D width of a head, B twigs of L tokens.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from fitra.lm import packed
from fitra.lm.load import LM
from fitra.lm.packed import CURRENT, NAME, Ask, Pack, Stem, Twig, Unsupported, blocks_of, mask_of, starts

TWIG = 384  # tokens in a twig beyond the trunk that all its sequences share; more is cut into several twigs
TRUNK = 2048  # tokens in a twig of several sequences: its mask grows with the square
GAIN = 192  # tokens that a stem must save, to be worth a forward of its own
PACK = {"cpu": 2048}  # tokens per forward, where fewer than the caller allows are faster
KEPT = 2**23  # numbers that the head may write in one forward (positions times vocabulary)
PART = {"cpu": 2**21}  # numbers of a log-softmax at a time: near the processor, and no large fp32 copy
HELD = {"cpu": 2**28, "cuda": 2**31}  # bytes of keys and values of stems that one forward may need


Row = tuple[int, ...]
Asks = Mapping[Row, Sequence[Ask]]


class Sums:
    """What was read, added up per owner."""

    def __init__(self, owners: int) -> None:
        self.total = np.zeros(owners)
        self.count = np.zeros(owners, dtype=np.int64)
        self.greedy = np.ones(owners, dtype=bool)

    def add(self, logits: torch.Tensor, slots: Sequence[int], targets: Sequence[int], owners: Sequence[int]) -> None:
        """`logits` (rows, V); reading k takes row slots[k] and token targets[k] for owners[k]."""
        device = logits.device
        slot, target = torch.tensor(slots, device=device), torch.tensor(targets, device=device)
        picked, hit = [], []
        step = max(1, PART.get(device.type, 2**27) // logits.shape[1])
        order = torch.argsort(slot, stable=True)
        bounds = torch.searchsorted(slot[order], torch.arange(0, logits.shape[0] + step, step, device=device)).tolist()
        for n, (a, b) in enumerate(itertools.pairwise(bounds)):
            if a == b:
                continue
            part = logits[n * step : (n + 1) * step].float()
            at, want = slot[order[a:b]] - n * step, target[order[a:b]]
            logp = part.log_softmax(-1)
            picked.append(logp[at, want])
            # The largest is cheap, its place is not: look for the place only where the token may be it.
            ok = part[at, want] >= part.amax(-1)[at]
            if bool(ok.any()):
                ok[ok.clone()] = part[at[ok]].argmax(-1) == want[ok]
            hit.append(ok)
        who = np.asarray(owners)[order.cpu().numpy()]
        np.add.at(self.total, who, torch.cat(picked).double().cpu().numpy())
        np.add.at(self.count, who, 1)
        np.logical_and.at(self.greedy, who, torch.cat(hit).cpu().numpy())


# --- the forest -------------------------------------------------------------------------------------------------------


def _common(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> int:
    n = min(len(a), len(b))
    differ = a[:n] != b[:n]
    at = int(differ.argmax()) if n else 0
    return at if n and differ[at] else n


class _Forest:
    """Sorted sequences and how much each shares with the one before it: a tree without nodes."""

    def __init__(self, asks: Asks) -> None:
        self.rows = sorted(asks)
        self.asks = asks
        arrays = [np.asarray(r, dtype=np.int64) for r in self.rows]
        self.lens = np.array([len(r) for r in self.rows])
        self.lcp = np.array([0, *(_common(a, b) for a, b in itertools.pairwise(arrays))])
        self.first = np.array([min(a.at for a in asks[r]) for r in self.rows])  # what is read must be in a twig

    def size(self, lo: int, hi: int, depth: int) -> int:
        """Distinct tokens of rows lo..hi beyond `depth`."""
        known = np.maximum(self.lcp[lo:hi], depth)
        known[0] = depth
        return int((self.lens[lo:hi] - known).sum())

    def twig(self, lo: int, hi: int, depth: int) -> Twig:
        """Rows lo..hi beyond `depth` as one tree, in depth-first order."""
        tokens: list[int] = []
        positions: list[int] = []
        asks: list[Ask] = []
        path: list[int] = []  # packed places of the current row's tokens
        mask = np.zeros((0, 0), dtype=bool)
        if hi - lo > 1:
            n = self.size(lo, hi, depth)
            mask = np.zeros((n, n), dtype=bool)
        for i in range(lo, hi):
            row = self.rows[i]
            old = 0 if i == lo else max(int(self.lcp[i]) - depth, 0)
            a, b = len(tokens), len(tokens) + len(row) - depth - old
            del path[old:]
            if hi - lo > 1:
                mask[a:b, path] = True
                mask[a:b, a:b] = np.tri(b - a, dtype=bool)
            path.extend(range(a, b))
            tokens.extend(row[depth + old :])
            positions.extend(range(depth + old, len(row)))
            asks.extend(Ask(path[x.at - depth], x.target, x.owner) for x in self.asks[row])
        return Twig(tokens, positions, mask if hi - lo > 1 else None, asks)


class _Reader:
    """Packs twigs, runs forwards, adds up."""

    def __init__(self, m: LM, owners: int, batch_tokens: int) -> None:
        self.m, self.sums = m, Sums(owners)
        self.kind = m.device.type
        self.pack_tokens = min(batch_tokens, PACK.get(self.kind, batch_tokens))
        self.kept = max(1, KEPT // int(m.model.config.get_text_config().vocab_size))
        self.pending: list[tuple[Stem | None, list[Twig]]] = []
        self.tokens = self.reads = 0

    def read(self, forest: _Forest) -> None:
        """Everything in the forest, depth first, so that few stems are alive at a time."""
        longest = int(forest.lens.max(initial=0))
        todo: list[tuple[int, int, Stem | None, int]] = [(0, len(forest.rows), None, 0)]
        while todo:
            lo, hi, stem, depth = todo.pop()
            if depth > (stem.depth if stem else 0):
                stem = self.encode(forest.rows[lo][:depth], stem, longest)
            twigs = []
            inner = [(lo, hi)]
            while inner:
                lo, hi = inner.pop()
                common = int(forest.lcp[lo + 1 : hi].min(initial=forest.lens[lo]))
                size = forest.size(lo, hi, depth)
                if hi - lo == 1 or (size <= TRUNK and size - max(0, common - depth) <= TWIG):
                    twigs.append(forest.twig(lo, hi, depth))
                    continue
                cuts = [lo, *(lo + 1 + np.flatnonzero(forest.lcp[lo + 1 : hi] == common)).tolist(), hi]
                deep = min(common, int(forest.first[lo:hi].min()))
                if (deep - depth) * (len(cuts) - 2) >= GAIN:
                    todo.append((lo, hi, stem, deep))
                else:
                    inner.extend(itertools.pairwise(cuts))
            for twig in sorted(twigs, key=lambda t: -len(t.tokens)):
                self.put(stem, twig, longest)
        self.flush(longest)

    def encode(self, ids: Row, parent: Stem | None, longest: int) -> Stem:
        """Keys and values of `ids`, of which `parent` holds the first."""
        stem = Stem(len(ids))
        begin = parent.depth if parent else 0
        twig = Twig(list(ids[begin:]), list(range(begin, len(ids))), None, [])
        self.forward(Pack([(parent, [twig])], longest, fill=stem))
        return stem

    def put(self, stem: Stem | None, twig: Twig, longest: int) -> None:
        full = self.tokens + len(twig.tokens) > self.pack_tokens or self.reads + len(twig.asks) > self.kept
        if self.pending and full:
            self.flush(longest)
        if not self.pending or self.pending[-1][0] is not stem:
            held = sum(s.bytes() for s, _ in self.pending if s) + (stem.bytes() if stem else 0)
            if self.pending and held > HELD.get(self.kind, 2**28):
                self.flush(longest)
            self.pending.append((stem, []))
        self.pending[-1][1].append(twig)
        self.tokens += len(twig.tokens)
        self.reads += len(twig.asks)

    def flush(self, longest: int) -> None:
        if self.pending:
            self.forward(Pack(self.pending, longest))
        self.pending, self.tokens, self.reads = [], 0, 0

    def forward(self, pack: Pack) -> None:
        """Run the model over the packed tokens and take what the twigs ask."""
        twigs = [t for _, some in pack.groups for t in some]
        device = self.m.device
        ids = torch.tensor([[x for t in twigs for x in t.tokens]], device=device)
        positions = torch.tensor([[x for t in twigs for x in t.positions]], device=device)
        if packed.FLASH is not None and self.kind == "cpu":
            pack.blocks = list(blocks_of(twigs, self.m.model.dtype))
        else:
            pack.masks = [mask_of(stem, some, device) for stem, some in pack.groups]
        asks = [Ask(a + x.at, x.target, x.owner) for a, t in starts(twigs) for x in t.asks]
        keep = sorted({x.at for x in asks}) or [ids.shape[1] - 1]
        token = CURRENT.set(pack)
        try:
            out = self.m.model(
                input_ids=ids,
                position_ids=positions,
                use_cache=False,
                logits_to_keep=torch.tensor(keep, device=device),
            ).logits[0]  # (kept, V)
        finally:
            CURRENT.reset(token)
        if asks:
            slot = {at: j for j, at in enumerate(keep)}
            self.sums.add(out, [slot[x.at] for x in asks], [x.target for x in asks], [x.owner for x in asks])


# --- which models -----------------------------------------------------------------------------------------------------

_TRIED: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


@contextmanager
def _exchanged(model: Any) -> Iterator[None]:
    """The model with this module's attention for a while."""
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def supports(m: LM) -> bool:
    """Whether the model gives the same log-probabilities through `read`; tried once for each loaded model."""
    model = m.model
    if not isinstance(model, torch.nn.Module) or not hasattr(model, "set_attn_implementation"):
        return False
    if not {"logits_to_keep", "position_ids"} <= set(inspect.signature(model.forward).parameters):
        return False
    if model not in _TRIED:
        _TRIED[model] = _try(m)
    return _TRIED[model]


def _try(m: LM) -> bool:
    """A small forest both ways: two stems, trees and single sequences, read at every position of the twigs."""
    if not getattr(type(m.model), "_supports_attention_backend", False):
        return False
    vocab = int(m.model.config.get_text_config().vocab_size)
    draw = np.random.default_rng(0).integers(0, vocab, (4, 12)).tolist()
    if m.max_positions < 24:
        return False
    ends = [draw[1][:9], draw[1][:6] + draw[2][:3], draw[3]]
    rows = [tuple(draw[0] + e) for e in ends] + [tuple(draw[2] + e) for e in ends]
    asks = {r: [Ask(at, r[at], 0) for at in range(11, len(r))] for r in rows}
    try:
        with torch.inference_mode(), _exchanged(m.model):
            reader = _Reader(m, len(rows), 4096)
            forest = _Forest({r: [a._replace(owner=i) for a in asks[r]] for i, r in enumerate(rows)})
            for lo, hi in ((0, 3), (3, 6)):
                stem = reader.encode(forest.rows[lo][:11], None, 24)
                reader.put(stem, forest.twig(lo, lo + 1, 11), 24)
                reader.put(stem, forest.twig(lo + 1, hi, 11), 24)
            reader.flush(24)
        with torch.inference_mode():
            for i, r in enumerate(rows):
                logp = m.model(input_ids=torch.tensor([r], device=m.device), use_cache=False).logits[0].float()
                logp = logp.log_softmax(-1)
                want = sum(float(logp[a.at, a.target]) for a in asks[r])
                loose = 1e-3 if logp.dtype == m.model.dtype else 0.03 * abs(want)  # half precision rounds more
                if not abs(want - reader.sums.total[i]) <= loose:
                    return False
    except (Unsupported, AttributeError, TypeError, ValueError, KeyError, RuntimeError):
        return False
    return True


@torch.inference_mode()
def read(m: LM, asks: Asks, owners: int, batch_tokens: int) -> Sums:
    """What `asks` reads, per owner. Raises Unsupported where the model's attention cannot be split after all."""
    with _exchanged(m.model):
        reader = _Reader(m, owners, batch_tokens)
        reader.read(_Forest(asks))
    return reader.sums
