"""What must hold of an expanded tokenizer and model before the stage commits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from fitra.errors import FitraError
from fitra.vocab.embed import load_model

BLOCK = re.compile("[\u0600-\u06ff]")
BATCH = 256
REPORT = "This base is not handled rightly: please report it with the name of the base."


def check_texts(old: Tokenizer, new: Tokenizer, texts: Iterable[str]) -> dict[str, int]:
    """Compare both tokenizers on every text.

    Text without a character of U+0600-06FF must keep its ids. All text must decode to what the base decodes it to.
    Counts: texts, texts_same_ids (all without Arabic), round_trip_exact (decoded equals the text itself; fewer than
    all only where the base normalises). Raises FitraError with the first text that breaks a rule.
    """
    counts = {"texts": 0, "texts_same_ids": 0, "round_trip_exact": 0}
    for batch in _batches(texts):
        before, after = (t.encode_batch(batch, add_special_tokens=False) for t in (old, new))
        for text, a, b in zip(batch, before, after, strict=True):
            counts["texts"] += 1
            if a.ids == b.ids:
                decoded = old.decode(a.ids, skip_special_tokens=False)
            else:
                decoded = new.decode(b.ids, skip_special_tokens=False)
                if decoded != old.decode(a.ids, skip_special_tokens=False):
                    raise FitraError(f"the new tokenizer does not give back the text {text[:60]!r}.", REPORT)
            counts["round_trip_exact"] += decoded == text
            if not BLOCK.search(text):
                if a.ids != b.ids:
                    raise FitraError(f"text without Arabic is read differently: {text[:60]!r}.", REPORT)
                counts["texts_same_ids"] += 1
    return counts


def _batches(texts: Iterable[str]) -> Iterable[list[str]]:
    batch: list[str] = []
    for t in texts:
        batch.append(t)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def check_ids(old: Tokenizer, new: Tokenizer, tokens: Sequence[str], first_id: int) -> dict[str, int]:
    """Old tokens keep their ids, special tokens stay single, new tokens follow each other from `first_id`."""
    before, after = old.get_vocab(with_added_tokens=True), new.get_vocab(with_added_tokens=True)
    if moved := [t for t, i in before.items() if after.get(t) != i]:
        raise FitraError(f"{len(moved)} old tokens changed their id, one is {min(moved)!r}.", REPORT)
    if wrong := [t for i, t in enumerate(tokens) if after.get(t) != first_id + i]:
        raise FitraError(f"{len(wrong)} new tokens have a wrong id, one is {wrong[0]!r}.", REPORT)
    if len(after) != len(before) + len(tokens):
        raise FitraError(f"{len(after)} tokens, expected {len(before)} + {len(tokens)}.", REPORT)
    special = [a.content for a in old.get_added_tokens_decoder().values()]
    for s in special:
        if new.encode(s, add_special_tokens=False).ids != [before[s]]:
            raise FitraError(f"the special token {s!r} is no longer read as one token.", REPORT)
    return {"old_ids": len(before), "special_tokens": len(special)}


def check_reload(folder: Path, new: Tokenizer, base: Any, first_id: int, n: int, texts: Sequence[str]) -> Any:
    """Load the saved folder as a user would; returns the loaded transformers tokenizer.

    The tokenizer must read `texts` as `new` does; old rows must equal those of `base` (a loaded model, its rows
    below `first_id`), new rows must be finite, and `config.vocab_size` must be the number of rows.
    """
    loaded = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    for t in texts:
        if loaded(t, add_special_tokens=False)["input_ids"] != new.encode(t, add_special_tokens=False).ids:
            raise FitraError(f"AutoTokenizer reads {t[:60]!r} differently from tokenizer.json.", REPORT)
    if len(loaded) < first_id + n:
        raise FitraError(f"AutoTokenizer sees {len(loaded)} tokens, expected {first_id + n}.", REPORT)
    model = load_model(folder)
    for name in ("get_input_embeddings", "get_output_embeddings"):
        was, now = (getattr(m, name)().weight.detach() for m in (base, model))
        if now.shape[0] != model.config.get_text_config().vocab_size or now.shape[0] < first_id + n:
            raise FitraError(f"config.vocab_size and the {now.shape[0]} rows of the model do not fit.", REPORT)
        if not torch.equal(was[:first_id], now[:first_id]):
            raise FitraError("rows of old tokens changed.", REPORT)
        if not torch.isfinite(now[first_id : first_id + n].float()).all():
            raise FitraError("new rows are not finite.", "Check the weights of the base model.")
    return loaded
