"""The tables that other rooms read."""

from __future__ import annotations

import pyarrow as pa

__all__ = ["INSTRUCTION_SCHEMA", "PARALLEL_SCHEMA", "TOPIC_SCHEMA"]


def _strings(names: str) -> pa.Schema:
    return pa.schema([(k, pa.string()) for k in names.split()])


# `fitra pretrain --parallel` reads ar, en, licence_class; `pair_id` joins the pieces of one document.
PARALLEL_SCHEMA = _strings("id ar en licence_class pair_id direction model")
# `fitra sft` reads id, instruction, input, output, lang, licence_class.
INSTRUCTION_SCHEMA = _strings(
    "id instruction input output lang licence_class parent_id pair_id topic kind direction model"
)
TOPIC_SCHEMA = _strings("id topic path parent_id state reason model").append(pa.field("level", pa.int32()))
