"""Continued pre-training on a mixture of Arabic, English and parallel text.

AceGPT (section 2.2) and ALLaM (section 3.2) both go on from an English model with Arabic and English mixed, so that
Arabic is won and English is kept; ALLaM adds translated text. The shares are of the token budget.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fitra import lm, recipe, train
from fitra.artifacts import Stage, licence_of, open_stage, read_manifest, worst_licence
from fitra.errors import FitraError
from fitra.pretrain import sources, staged

GROUPS = ("ar", "en", "parallel")


def continue_pretraining(
    cfg: recipe.Pretrain, model: Path, documents: Path, seed: int, out: Path, parallel: Sequence[Path] = (),
    stages: Sequence[staged.Stage] = (),
) -> dict[str, Any]:  # fmt: skip
    """Train `model` (a model folder, or the stage folder that holds it) on `documents` (a stage folder) and `parallel`.

    Leaves out/model and out/log.jsonl (step, tokens, lr, loss, loss_ar, loss_en, loss_parallel) and returns the
    manifest. Runs with the same `cfg` and `seed` train on equally many tokens and draw their rows alike, whatever the
    documents: only so can two corpora be compared. Where the caps on repetition leave less than the budget the
    manifest says so (`tokens_short`).
    With `stages` (those of the vocabulary of `model`, in order) the vocabulary grows while it trains: see `staged`. The
    log then has `stage` and `added`, too, and the manifest's notes a row for each stage.
    Raises FitraError when an input is missing or no group has data.
    """
    files = [*(Path(p) for p in cfg.parallel), *parallel]
    texts = sources.documents(documents)
    texts["parallel"] = sources.parallel(files)
    start = lm.model_folder(model)
    licence = worst_licence([licence_of(start), *(t.licence for t in texts.values() if t.texts)])
    config: dict[str, Any] = {"pretrain": cfg, "seed": seed}
    if stages:
        config["stages"] = staged.identity(stages)
    inputs: dict[str, Any] = {"model": start, "documents": documents, "parallel": [_file(f) for f in files]}
    with open_stage(out, stage="pretrain", config=config, inputs=inputs, licence_class=licence) as st:
        if st.done:
            return read_manifest(out)
        m = lm.load(start, device=cfg.train.device, precision="fp32")
        if stages:
            counts, notes = _by_stages(cfg, m, texts, stages, seed, st)
        else:
            counts, notes = _at_once(cfg, m, texts, documents, seed, st)
        with st.folder("model") as tmp:
            m.model.save_pretrained(tmp)
            m.tokenizer.save_pretrained(tmp)
        st.counts |= counts | {f"documents_{g}": len(texts[g].texts) for g in GROUPS}
        st.notes |= notes
        shutil.rmtree(out / "checkpoint", ignore_errors=True)
        staged.clear(out)
        return st.commit()


Texts = Mapping[str, sources.Texts]
Figures = tuple[dict[str, float], dict[str, Any]]  # counts and notes of the manifest


def _at_once(cfg: recipe.Pretrain, m: lm.LM, texts: Texts, documents: Path, seed: int, st: Stage) -> Figures:
    seq_len = min(cfg.train.seq_len, m.max_positions)
    rows = {g: train.pack(m.tokenizer, train.shuffled(texts[g].texts, seed), seq_len) for g in GROUPS}
    sizes = {g: len(r) for g, r in rows.items()}
    budget = max(1, cfg.train.tokens // seq_len)
    try:
        drawn = train.mixture(sizes, cfg.mixture.model_dump(), budget, cfg.mixture.max_repeats)
    except FitraError as e:
        raise FitraError(f"{documents}: {e.message}", e.hint) from None
    batches = train.Packed(rows, drawn, max(1, cfg.train.batch_tokens // seq_len), seed)
    train.describe(st.out, m.model, m.tokenizer)
    log = train.fit(
        m.model, batches, cfg.train, st.out, seed=seed, groups=GROUPS, identity=st.fingerprint, description="pretrain"
    )
    counts: dict[str, float] = {"tokens": log[-1]["tokens"], "steps": log[-1]["step"]}
    notes = {"loss": log[-1]["loss"]}
    if short := cfg.train.tokens // seq_len - sum(drawn.values()):
        counts["tokens_short"] = short * seq_len
    for g in GROUPS:
        counts[f"tokens_{g}"] = drawn[g] * seq_len
        counts[f"repeats_{g}"] = round(drawn[g] / sizes[g], 3) if sizes[g] else 0
        notes[f"loss_{g}"] = next((r[f"loss_{g}"] for r in reversed(log) if r[f"loss_{g}"] is not None), None)
    return counts, notes


def _by_stages(
    cfg: recipe.Pretrain, m: lm.LM, texts: Texts, stages: Sequence[staged.Stage], seed: int, st: Stage
) -> Figures:
    counts, rows = staged.fit(
        m, {g: texts[g].texts for g in GROUPS}, stages, cfg, st.out, seed=seed, fingerprint=st.fingerprint
    )
    losses = {f"loss_{g}": rows[-1].get(f"loss_{g}") for g in GROUPS}
    return counts, {**losses, "stages": rows}


def _file(path: Path) -> Path:
    """The file itself is the input where a stage folder is given: its other tables do not count."""
    return Path(path) / "parallel.parquet" if Path(path).is_dir() else Path(path)
