"""What the paper's programme needs between its stages: the seed, and rows of an earlier stage taken over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset as ds

from fitra import recipe
from fitra.align import seed as seeds
from fitra.artifacts import DOCUMENT_SCHEMA, open_stage, read_manifest, table_parts, worst_licence

__all__ = ["seed", "taken"]


def seed(cfg: recipe.Seed, languages: list[str], corpus: Path, out: Path, number: int) -> dict[str, Any]:
    """Write the documents of a corpus that the expert is to rewrite first (`seed.choose`); returns the manifest.

    Raises FitraError where the corpus is not finished, or perplexity is asked for without a model.
    """
    inputs = {"corpus": corpus} | ({"model": Path(cfg.model)} if cfg.model else {})
    config = {"seed": cfg.model_dump(exclude={"model"}), "languages": languages, "number": number}
    with open_stage(out, stage="seed", config=config, inputs=inputs) as st:
        if not st.done:
            documents = ds.dataset([str(p) for p in table_parts(corpus, "documents")], schema=DOCUMENT_SCHEMA)
            mine = documents.to_table(columns=["id", "text"], filter=pc.field("lang").isin(languages))
            texts = mine["text"].to_pylist() if cfg.by != "random" else []
            model = Path(cfg.model) if cfg.model else None
            ids = seeds.choose(mine["id"].to_pylist(), texts, cfg.documents, cfg.by, model, number)
            chosen = documents.to_table(filter=pc.field("id").isin(ids)).sort_by("id")
            st.write_table("documents", chosen)
            st.counts |= {"documents": chosen.num_rows, "of": mine.num_rows}
            st.licence_class = worst_licence(chosen["licence_class"].to_pylist())
    return read_manifest(out)


def taken(stage: Path | None) -> dict[str, dict[str, Any]]:
    """Rows of an earlier align stage by document id: the seed is not rewritten a second time."""
    if stage is None:
        return {}
    rows = ds.dataset([str(p) for p in table_parts(stage, "rows")]).to_table().to_pylist()
    return {row["id"]: row for row in rows}
