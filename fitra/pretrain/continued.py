"""Continued pre-training on a mixture of Arabic, English and parallel text.

AceGPT (section 2.2) and ALLaM (section 3.2) both go on from an English model with Arabic and English mixed, so that
Arabic is won and English is kept; ALLaM adds translated text. The shares are of the token budget.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fitra import lm, recipe, train
from fitra.artifacts import licence_of, open_stage, read_manifest, worst_licence
from fitra.errors import FitraError
from fitra.pretrain import sources

GROUPS = ("ar", "en", "parallel")


def continue_pretraining(
    cfg: recipe.Pretrain, model: Path, documents: Path, seed: int, out: Path, parallel: Sequence[Path] = ()
) -> dict[str, Any]:
    """Train `model` (a model folder, or the stage folder that holds it) on `documents` (a stage folder) and `parallel`.

    Leaves out/model and out/log.jsonl (step, tokens, lr, loss, loss_ar, loss_en, loss_parallel) and returns the
    manifest. Runs with the same `cfg` and `seed` train on equally many tokens and draw their rows alike, whatever the
    documents: only so can two corpora be compared. Where the caps on repetition leave less than the budget the
    manifest says so (`tokens_short`).
    Raises FitraError when an input is missing or no group has data.
    """
    files = [*(Path(p) for p in cfg.parallel), *parallel]
    texts = sources.documents(documents)
    texts["parallel"] = sources.parallel(files)
    start = lm.model_folder(model)
    licence = worst_licence([licence_of(start), *(t.licence for t in texts.values() if t.texts)])
    config = {"pretrain": cfg, "seed": seed}
    inputs: dict[str, Any] = {"model": start, "documents": documents, "parallel": [_file(f) for f in files]}
    with open_stage(out, stage="pretrain", config=config, inputs=inputs, licence_class=licence) as st:
        if st.done:
            return read_manifest(out)
        m = lm.load(start, device=cfg.train.device, precision="fp32")
        seq_len = min(cfg.train.seq_len, m.max_positions)
        rows = {g: train.pack(m.tokenizer, train.shuffled(texts[g].texts, seed), seq_len) for g in GROUPS}
        sizes = {g: len(r) for g, r in rows.items()}
        budget = max(1, cfg.train.tokens // seq_len)
        try:
            counts = train.mixture(sizes, cfg.mixture.model_dump(), budget, cfg.mixture.max_repeats)
        except FitraError as e:
            raise FitraError(f"{documents}: {e.message}", e.hint) from None
        batches = train.Packed(rows, counts, max(1, cfg.train.batch_tokens // seq_len), seed)
        train.describe(out, m.model, m.tokenizer)
        log = train.fit(
            m.model, batches, cfg.train, out, seed=seed, groups=GROUPS, identity=st.fingerprint, description="pretrain"
        )
        with st.folder("model") as tmp:
            m.model.save_pretrained(tmp)
            m.tokenizer.save_pretrained(tmp)
        st.counts |= {"tokens": log[-1]["tokens"], "steps": log[-1]["step"]}
        if short := cfg.train.tokens // seq_len - sum(counts.values()):
            st.counts["tokens_short"] = short * seq_len
        for g in GROUPS:
            st.counts[f"documents_{g}"] = len(texts[g].texts)
            st.counts[f"tokens_{g}"] = counts[g] * seq_len
            st.counts[f"repeats_{g}"] = round(counts[g] / sizes[g], 3) if sizes[g] else 0
            st.notes[f"loss_{g}"] = next((r[f"loss_{g}"] for r in reversed(log) if r[f"loss_{g}"] is not None), None)
        st.notes["loss"] = log[-1]["loss"]
        shutil.rmtree(out / "checkpoint", ignore_errors=True)
        return st.commit()


def _file(path: Path) -> Path:
    """The file itself is the input where a stage folder is given: its other tables do not count."""
    return Path(path) / "parallel.parquet" if Path(path).is_dir() else Path(path)
