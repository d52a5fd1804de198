"""Progressive expansion (AraLLaMA section 4.1): the new tokens come to the model in stages.

Merges are ranked, so the tokenizer of stage k is the final one without the merges that come later. What it makes of a
text is what the final one makes of it, with every later token taken apart again: both do the same merges in the same
order until stage k has none left, and a later merge never crosses the border of a final token. So token shards are
stored once, in the final vocabulary, and a stage is a table from id to ids.

    stages = progressive.plan(base_spec, spec, progressive.exponential(12_800))
    progressive.verify(spec, stages, texts)
    for stage in stages:
        stage.begin(model)                       # new rows: the mean of the pieces
        ids, at = stage.table.take(stream, at, n)  # the next n of one stream of final ids, as this stage reads it
        ...                                      # train on stage.arabic Arabic, the rest English
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fitra.errors import FitraError
from fitra.recipe.vocab import Progressive
from fitra.vocab import bpe
from fitra.vocab.stages import Stage, Table, load, save

__all__ = ["Stage", "Table", "arabic_shares", "exponential", "figures", "load", "plan", "save", "uniform", "verify"]

NEEDS = "Progressive stages need tokens that continue the base's own merges (method: continued)."


def exponential(add: int, stages: int = 16) -> list[int]:
    """Tokens added by the end of each stage: 0, 1, 2, 4, ... and `add` (AraLLaMA table 10: 16 stages, 12,800).

    Where doubling would overshoot or leave more than a fourfold last step the factor is another: 0, 1, f, f², ...
    Small vocabularies can give equal numbers in a row; such stages fall together and the list is shorter.
    """
    _stages(add, stages)
    steps = stages - 2  # from the first token to the last stage
    if not steps:
        return [0, add]
    doubled = [2**i for i in range(steps)]
    if not doubled[-1] < add <= 4 * doubled[-1]:
        doubled = [round(add ** (i / steps)) for i in range(steps)]
    return _rising([0, *doubled, add])


def uniform(add: int, stages: int = 16) -> list[int]:
    """Equal steps, the last one a little longer (AraLLaMA table 11: 853 a stage for 12,800)."""
    _stages(add, stages)
    step = max(1, add // (stages - 1))
    return _rising([min(add, step * i) for i in range(stages - 1)] + [add])


def _stages(add: int, stages: int) -> None:
    if stages < 2 or add < 1:
        raise FitraError(f"{stages} stages for {add} tokens: at least 2 and 1 are needed.", "See vocab.progressive.")


def _rising(sizes: Sequence[int]) -> list[int]:
    return [n for i, n in enumerate(sizes) if i == 0 or n > max(sizes[:i])]


def arabic_shares(stages: int, first: float = 0.30, last: float = 0.90) -> list[float]:
    """The share of Arabic in each stage's data, on the first quarter of a cosine.

    first + (last - first) * (1 - cos(pi/2 * i / (stages - 1))): with 16 stages every row of AraLLaMA's table 10 to 0.01
    per cent. There English has 0.95 less this, and mathematics with code 0.05.
    """
    if stages == 1:
        return [last]
    return [first + (last - first) * (1 - math.cos(math.pi / 2 * i / (stages - 1))) for i in range(stages)]


def _merges(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = (m.split(" ", 1) if isinstance(m, str) else m for m in spec["model"]["merges"])
    return [(a, b) for a, b in pairs]


def plan(
    base: Mapping[str, Any], spec: Mapping[str, Any], sizes: Sequence[int], shares: Sequence[float] | None = None
) -> list[Stage]:
    """The stages of an expanded tokenizer.

    Args:
        base: the base's tokenizer.json.
        spec: the expanded one: the base's merges first, then the new ones, new ids in the order of their merges.
        sizes: how many new tokens each stage has in all, rising, the last one all of them (`exponential`, `uniform`).
        shares: the share of Arabic in each; without it the quarter cosine.

    Raises FitraError where taking apart would not give the stage's own segmentation: new tokens without rank, ids in
    another order than merges, an old token that only a new merge reaches while `ignore_merges` finds it at once.
    """
    known = {*base["model"]["vocab"].values(), *(a["id"] for a in base.get("added_tokens", []))}
    first = max(known) + 1
    new = _ranked(base, spec, first)
    if not sizes or sizes[-1] != len(new) or list(sizes) != _rising(sizes) or sizes[0] < 0:
        raise FitraError(f"stages {list(sizes)}: expected rising numbers that end at {len(new)}, the new tokens.", "")
    shares = arabic_shares(len(sizes)) if shares is None else shares
    if len(shares) != len(sizes):
        raise FitraError(f"{len(shares)} shares for {len(sizes)} stages.", "Give one share per stage.")
    vocab, size = spec["model"]["vocab"], first + len(new)
    targets = {a + b for a, b in _merges(spec)[len(base["model"]["merges"]) :]}
    old = sorted(t for t in targets if vocab[t] < first)  # old tokens that new merges give, too
    origin = Table.of(size, _apart(spec, first, 0, [*new, *old]))
    _refuse_hidden(spec, old, origin)
    ignore = bool(spec["model"].get("ignore_merges"))
    stages: list[Stage] = []
    before, alive = origin, set[int]()
    for i, added in enumerate(sizes):
        end = first + added
        apart = {} if added == len(new) else _apart(spec, first, added, new if ignore else [*new, *old])
        table = Table.of(size, apart)
        now = {vocab[t] for t in new if vocab[t] < end} - apart.keys()
        was = stages[-1].end if stages else first
        fresh = sorted((now - alive) | set(range(was, end)))
        stages.append(
            Stage(i, added, end, float(shares[i]), table, fresh,
                  [before.pieces(t) for t in fresh], [origin.pieces(t) for t in fresh])
        )  # fmt: skip
        before, alive = table, now
    return stages


def _ranked(base: Mapping[str, Any], spec: Mapping[str, Any], first: int) -> list[str]:
    """The new tokens in the order of their ids; FitraError where they are not ranked after the base's."""
    if spec["model"].get("type") != "BPE" or spec["model"].get("dropout"):
        raise FitraError("the tokenizer is no BPE without dropout.", NEEDS)
    if added := [a["content"] for a in spec.get("added_tokens", []) if a["id"] >= first]:
        raise FitraError(f"{len(added)} tokens were added whole, without merges: {added[0]!r}.", NEEDS)
    old, merges = _merges(base), _merges(spec)
    if merges[: len(old)] != old:
        raise FitraError("the new tokenizer does not begin with the base's merges.", NEEDS)
    vocab: dict[str, int] = spec["model"]["vocab"]
    if any(vocab.get(t) != i for t, i in base["model"]["vocab"].items()):
        raise FitraError("old tokens have other ids in the new tokenizer.", NEEDS)
    new = sorted((t for t, i in vocab.items() if i >= first), key=vocab.__getitem__)
    if [vocab[t] for t in new] != list(range(first, first + len(new))):
        raise FitraError("the ids of the new tokens have gaps.", NEEDS)
    seen = [vocab[t] for t in dict.fromkeys(a + b for a, b in merges) if vocab[t] >= first]
    if seen != sorted(seen):
        raise FitraError("the ids of the new tokens are not in the order of their merges.", NEEDS)
    return new


def _cut(spec: Mapping[str, Any], first: int, added: int) -> dict[str, Any]:
    """The tokenizer with the ids below first + added and the merges that come before any later token's."""
    model, end = dict(spec["model"]), first + added
    vocab = model["vocab"]
    merges, pairs = model["merges"], _merges(spec)
    stop = next((i for i, p in enumerate(pairs) if max(vocab[p[0]], vocab[p[1]], vocab[p[0] + p[1]]) >= end), None)
    model["vocab"] = {t: i for t, i in vocab.items() if i < end}
    model["merges"] = merges[:stop]
    return {**spec, "model": model}


def _apart(spec: Mapping[str, Any], first: int, added: int, tokens: Sequence[str]) -> dict[int, list[int]]:
    """Those of `tokens` that the merges of the stage do not give, with what they give instead."""
    cut = _cut(spec, first, added)
    cut["model"] = {**cut["model"], "ignore_merges": False}
    tok, unknown = bpe.build(cut), spec["model"].get("unk_token")
    vocab, out = spec["model"]["vocab"], dict[int, list[int]]()
    for t in tokens:
        pieces = tok.model.tokenize(t)
        if unknown is not None and any(p.value == unknown for p in pieces):
            raise FitraError(f"without the token {t!r} the tokenizer has nothing for its letters.", NEEDS)
        if (ids := [p.id for p in pieces]) != [vocab[t]]:
            out[vocab[t]] = ids
    return out


def _refuse_hidden(spec: Mapping[str, Any], old: Sequence[str], origin: Table) -> None:
    """With `ignore_merges` a whole word that is a token is found at once; inside a word only merges give it.

    An old token that only new merges reach is then one token in the first place and pieces in the second, in the same
    stage: no table from id to ids can tell them apart.
    """
    if not spec["model"].get("ignore_merges"):
        return
    vocab = spec["model"]["vocab"]
    tok = bpe.build({**spec, "model": {**spec["model"], "ignore_merges": False}})
    for t in old:
        if origin.pieces(vocab[t]) != [vocab[t]] and [p.id for p in tok.model.tokenize(t)] == [vocab[t]]:
            raise FitraError(f"the old token {t!r} is reached by a new merge alone, under ignore_merges.", NEEDS)


def tokenizer_of(spec: Mapping[str, Any], stages: Sequence[Stage], index: int) -> dict[str, Any]:
    """The tokenizer.json of a stage, whose model is usable with it.

    A token that the stage has an id for but no merges that lead to it (they come later) is left out, so that
    `ignore_merges` cannot find it either.
    """
    stage, last = stages[index], stages[-1]
    if stage.added == last.added:
        return dict(spec)
    cut = _cut(spec, last.end - last.added, stage.added)
    first = last.end - last.added
    gone = {t for t, i in cut["model"]["vocab"].items() if i >= first and stage.table.pieces(i) != [i]}
    model = dict(cut["model"])
    model["vocab"] = {t: i for t, i in model["vocab"].items() if t not in gone}
    if gone:
        pairs = _merges(cut)
        held = [i for i, (a, b) in enumerate(pairs) if not {a, b, a + b} & gone]
        model["merges"] = [model["merges"][i] for i in held]
    return {**cut, "model": model}


def verify(spec: Mapping[str, Any], stages: Sequence[Stage], texts: Iterable[str]) -> dict[str, int]:
    """Encode texts with every stage's own tokenizer and compare with the table; FitraError where they differ."""
    held = list(texts)
    final = [e.ids for e in bpe.build(spec).encode_batch(held, add_special_tokens=False)]
    for stage in stages:
        tok = bpe.build(tokenizer_of(spec, stages, stage.index))
        for text, ids, e in zip(held, final, tok.encode_batch(held, add_special_tokens=False), strict=True):
            if stage.table(np.array(ids, np.int64)).tolist() != e.ids:
                raise FitraError(
                    f"stage {stage.index}: taking tokens apart is not what it reads in {text[:60]!r}.", NEEDS
                )
    return {"texts": len(held), "stages": len(stages), "tokens": sum(map(len, final))}


def write(
    cfg: Progressive, base: Mapping[str, Any], spec: Mapping[str, Any], texts: Iterable[str], folder: Path
) -> dict[str, Any]:
    """Plan the stages a recipe asks for, verify them on texts, save them in `folder`; what a manifest should note."""
    added = len(spec["model"]["vocab"].keys() - base["model"]["vocab"].keys() - _added(base))
    schedule = exponential if cfg.schedule == "exponential" else uniform
    sizes = schedule(added, cfg.stages)
    stages = plan(base, spec, sizes, arabic_shares(len(sizes), cfg.arabic_from, cfg.arabic_to))
    checked = verify(spec, stages, texts)
    save(stages, folder)
    return {"schedule": cfg.schedule, "sizes": [s.added for s in stages], "verified_texts": checked["texts"]}


def _added(spec: Mapping[str, Any]) -> set[str]:
    return {a["content"] for a in spec.get("added_tokens", [])}


def figures(stages: Sequence[Stage], stream: np.ndarray, characters: int) -> list[dict[str, float]]:
    """AraLLaMA's table 10 for a stream of final ids: tokens per character of its text, share of new tokens."""
    return [
        {"stage": s.index + 1, "added": s.added, "arabic": round(s.arabic, 4),
         "tokens_per_character": round(len(s.table(stream)) / max(1, characters), 4),
         "new_share": round(s.new_share(stream), 4)}
        for s in stages
    ]  # fmt: skip
