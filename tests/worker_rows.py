"""Rows of an align stage and a random base, for tests of the worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from fitra import llm, policy, recipe
from fitra.align import align
from fitra.artifacts import DOCUMENT_SCHEMA, open_stage
from fitra.lm.chat import prepare_tokenizer
from fitra.pretrain.base import small_llama, train_tokenizer

POLICY = policy.load("default")
PLACES = ["القاهرة", "دمشق", "بغداد", "تونس", "عمان", "مسقط", "الرباط", "بيروت"]
AD = "اشترك الآن في قناتنا"


def corpus(path: Path, texts: list[str]) -> Path:
    rows = [
        {k: None for k in DOCUMENT_SCHEMA.names}
        | {"id": f"d{i:03d}", "text": t, "lang": "ar", "licence_class": "B", "labels": "{}"}
        for i, t in enumerate(texts)
    ]
    with open_stage(path, stage="corpus", config={}, inputs={}) as st:
        st.write_table("documents", pa.Table.from_pylist(rows, DOCUMENT_SCHEMA))
    return path


def aligned(tmp: Path, texts: list[str], fn: Callable[[str], str], **kw: Any) -> Path:
    """An align stage whose model applies `fn` to the masked text."""

    def reply(messages: list[llm.Message], sampling: Any, schema: Any) -> str:
        return fn(messages[1]["content"].rsplit("<<<", 1)[1].split("\n", 1)[1].rsplit("\n", 2)[0])

    cfg = recipe.Align(triage="all", **kw)
    backends = {"expert": llm.FunctionBackend("m", reply)}
    align(cfg, corpus(tmp / "corpus", texts), tmp / "aligned", backends=backends)
    return tmp / "aligned"


def without_ad(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if AD not in line)


TEXTS = [
    f"زار سالم مدينة {p} وقال «الصبر مفتاح الفرج» في رحلته الأولى." + (f"\n{AD}" if i % 2 else "")
    for i, p in enumerate(PLACES * 3)
]
TEXTS = [t.replace("رحلته الأولى", f"رحلته رقم {i}") for i, t in enumerate(TEXTS)]


def model(path: Path) -> Path:
    """A random small model with a chat template, whose tokenizer knows these texts."""
    tokenizer = train_tokenizer([*TEXTS, *TEXTS], 420)
    scratch = recipe.Scratch(vocab_size=420, hidden_size=32, layers=2, heads=2, intermediate_size=64, max_positions=256)
    model = small_llama(scratch, tokenizer, 0)
    prepare_tokenizer(tokenizer, model)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def config(**kw: Any) -> recipe.Worker:
    train = {"tokens": 1500, "batch_tokens": 512, "seq_len": 256, "lr": 3e-3, "device": "cpu"} | kw.pop("train", {})
    return recipe.Worker.model_validate({"train": train} | kw)
