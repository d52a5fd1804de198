"""The stage that writes the small world into a folder."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from fitra import recipe
from fitra.artifacts import DOCUMENT_SCHEMA, canonical_json, open_stage
from fitra.world import tasks
from fitra.world.documents import Doc, english, write_documents
from fitra.world.facts import Fact, select

VERSION = 1
LICENCE = "Apache-2.0"


def _string_table(rows: Sequence[tasks.Row], columns: Sequence[str]) -> pa.Table:
    kinds = {"options": pa.list_(pa.string())}
    return pa.table({c: pa.array([r[c] for r in rows], kinds.get(c, pa.string())) for c in columns})


def _document_table(docs: Sequence[Doc]) -> pa.Table:
    rows = []
    for d in sorted(docs, key=lambda d: d.id):
        truth = {
            "kind": d.kind,
            "facts": d.facts,
            "duplicate_of": d.duplicate_of,
            "variant": d.variant,
            "planted": d.planted,
            "protected": d.protected,
            "half": d.half,
            "genre": d.genre,
        }
        rows.append(
            {
                "id": d.id,
                "text": d.text,
                "lang": d.lang,
                "source": "fitra-world",
                "url": "",
                "licence": LICENCE,
                "licence_class": "A",
                "parent_id": None,
                "pair_id": None,
                "labels": "{}",  # a document shows nothing of its truth
                "truth": canonical_json(truth),
            }
        )
    return pa.Table.from_pylist(rows, schema=DOCUMENT_SCHEMA.append(pa.field("truth", pa.string())))


def _held_out(n: int, facts: Sequence[Fact], docs: Sequence[Doc], rng: random.Random) -> list[tasks.Row]:
    known = {d.text for d in docs}
    rows: list[tasks.Row] = []
    while len(rows) < n:
        text = english(rng.sample(list(facts), min(rng.choice([0, 2, 3]), len(facts))), rng).text
        if text not in known:
            known.add(text)
            rows.append({"id": f"h{len(rows):05d}", "text": text})
    return rows


def write(cfg: recipe.World, seed: int, out: Path) -> None:
    """Write the world into the stage folder `out`: equal (cfg, seed) give equal bytes.

    documents/ (DOCUMENT_SCHEMA and `truth`), parallel, instructions, prompts, probes, unsafe_probes, english_heldout
    and references .parquet; docs/world.md describes the columns. Does nothing when `out` holds this very world.
    Each table draws from its own random stream, so that changing one size leaves the other tables alone.
    Raises FitraError when `out` holds another result.
    """
    config = {"world": cfg, "seed": seed}
    with open_stage(out, stage="world", config=config, inputs={}, version=VERSION, licence_class="A") as st:
        if st.done:
            return

        def stream(name: str) -> random.Random:
            return random.Random(f"{name}:{seed}")

        both, english_only = select(cfg.facts, seed)
        docs = write_documents(cfg.documents, both, english_only, stream("documents"))
        st.write_table("documents", _document_table(docs))
        references: list[tasks.Row] = [
            {"id": d.id, "text": d.text, "reference": d.reference, "kind": d.kind[0], "half": d.half}
            for d in sorted(docs, key=lambda d: d.id)
            if d.reference is not None
        ]
        held_out = _held_out(max(20, cfg.documents // 15), [*both, *english_only], docs, stream("english_heldout"))
        tables: dict[str, tuple[Sequence[tasks.Row], str]] = {
            "references": (references, "id text reference kind half"),
            "probes": (
                tasks.probes(both, english_only, stream("probes")),
                "id fact_id lang prompt answer options half",
            ),
            "unsafe_probes": (tasks.unsafe_probes(stream("unsafe_probes")), "id lang prompt unsafe safe kind half"),
            "instructions": (
                tasks.instructions(cfg.instructions, both, english_only, stream("instructions")),
                "id instruction output lang licence_class",
            ),
            "prompts": (tasks.prompts(cfg.prompts, both, stream("prompts")), "id prompt lang licence_class"),
            "parallel": (
                tasks.parallel(max(20, cfg.documents * 2 // 5), both, stream("parallel")),
                "id ar en licence_class",
            ),
            "english_heldout": (held_out, "id text"),
        }
        for name, (rows, columns) in tables.items():
            st.write_parquet(f"{name}.parquet", _string_table(rows, columns.split()))
            st.counts[name] = len(rows)
        st.counts["documents"] = len(docs)
        st.counts["facts"] = len(both)
        st.counts["facts_english_only"] = len(english_only)
        st.counts["unsafe_documents"] = len(references)
