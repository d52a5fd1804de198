"""What the paper's programme needs between its stages: the seed, and rows of an earlier stage taken over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from fitra import policy, recipe
from fitra.align import human
from fitra.align import seed as seeds
from fitra.artifacts import DOCUMENT_SCHEMA, open_stage, read_manifest, table_parts, worst_licence

__all__ = ["seed", "taken"]


def seed(
    cfg: recipe.Seed | None,
    languages: list[str],
    corpus: Path,
    out: Path,
    number: int,
    edits: tuple[Path, policy.Policy] | None = None,
) -> dict[str, Any]:
    """Write the documents of a corpus that the expert is to rewrite first (`seed.choose`); returns the manifest.

    With `edits`, a file of edits by people and the policy they must be made under, the documents they judged belong to
    it too where their text is still the one that was judged; without `cfg` they alone. Raises FitraError where the
    corpus is not finished, or perplexity is asked for without a model.
    """
    inputs: dict[str, Path] = {"corpus": corpus} | ({"model": Path(cfg.model)} if cfg and cfg.model else {})
    config: dict[str, Any] = {
        "seed": cfg.model_dump(exclude={"model"}) if cfg else None,
        "languages": languages,
        "number": number,
    }
    judged: dict[str, human.Edit] = {}
    if edits:
        path, held = edits
        inputs["human"], config["policy"] = path, held.hash
        judged = human.read(path, held.hash).of
    with open_stage(out, stage="seed", config=config, inputs=inputs) as st:
        if not st.done:
            documents = ds.dataset([str(p) for p in table_parts(corpus, "documents")], schema=DOCUMENT_SCHEMA)
            mine = documents.to_table(columns=["id", "text"], filter=pc.field("lang").isin(languages))
            ids: list[str] = []
            if cfg:
                texts = mine["text"].to_pylist() if cfg.by != "random" else []
                model = Path(cfg.model) if cfg.model else None
                ids = seeds.choose(mine["id"].to_pylist(), texts, cfg.documents, cfg.by, model, number)
            seen = documents.to_table(columns=["id", "text"], filter=_in(list(judged)))
            ids += [r["id"] for r in seen.to_pylist() if human.fits(judged[r["id"]], r["text"] or "")]
            chosen = documents.to_table(filter=_in(ids)).sort_by("id")
            st.write_table("documents", chosen)
            st.counts |= {"documents": chosen.num_rows, "of": mine.num_rows}
            st.licence_class = worst_licence(chosen["licence_class"].to_pylist())
    return read_manifest(out)


def _in(ids: Sequence[str]) -> pc.Expression:
    """Rows with one of these ids; the type is said, since an empty list has none."""
    return pc.field("id").isin(pa.array(ids, pa.string()))


def taken(stage: Path | None) -> dict[str, dict[str, Any]]:
    """Rows of an earlier align stage by document id: the seed is not rewritten a second time."""
    if stage is None:
        return {}
    rows = ds.dataset([str(p) for p in table_parts(stage, "rows")]).to_table().to_pylist()
    return {row["id"]: row for row in rows}
