"""The stage: answers, verdicts, pairs, and the model tuned on them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fitra import lm
from fitra.artifacts import Stage, canonical_json, licence_of, open_stage, read_manifest, worst_licence
from fitra.judge import figures
from fitra.prefer import prompts as prompt_files
from fitra.prefer.judge import IDENTITY, Verdict, judge_pairs
from fitra.progress import track
from fitra.recipe import Prefer

VERSION = 1
SHARD = 32  # prompts whose answers are kept together once sampled
NO_PAIRS = "no pair was kept, so the model is a copy of the one that came in"
TOO_LONG = "no prompt leaves room for an answer in the model's positions, so the model is a copy"
PAIR_SCHEMA = pa.schema(
    [(c, pa.string()) for c in ("id", "prompt", "chosen", "rejected", "verdict_ab", "verdict_ba", "judge", "figures")]
)


def prefer(cfg: Prefer, model: Path, prompts: list[Path], seed: int, out: Path) -> dict[str, Any]:
    """Preference pairs from AI feedback, then DPO; the manifest.

    Writes samples/ (id, prompt, answers), pairs/ (id, prompt, chosen, rejected, verdict_ab, verdict_ba, judge,
    figures), model/ and log.jsonl. One pair per prompt: the answer with most and the one with fewest wins, if the
    judge put the first above the second in both orders (AceGPT section 3.3). Where no pair is kept, model/ is a copy
    and the notes say so. A killed run goes on from the answers it had sampled; judged answers are in ledger/.
    Raises FitraError for a missing file or column, no prompt, or a folder that is no model.
    """
    given = cfg.judge == "given"
    whole = {"prefer": cfg, "seed": seed}
    with open_stage(
        out, stage="prefer", config=whole, inputs={"model": model, "prompts": list(prompts)}, version=VERSION
    ) as st:
        if not st.done:
            rows, aside = prompt_files.read(prompts, cfg.limit, given)
            if aside:
                st.quarantine(aside)
            st.licence_class = worst_licence([licence_of(model), prompt_files.licence(prompts)])
            m = lm.load(model, precision="fp32")  # DPO updates these weights, and bf16 loses small steps
            st.counts["prompts"] = len(rows)
            pairs = [_given(r) for r in rows] if given else _judged(st, m, cfg, rows, seed)
            shutil.rmtree(out / "pairs", ignore_errors=True)  # of a killed run with other settings
            st.write_table("pairs", pa.Table.from_pylist(pairs, schema=PAIR_SCHEMA))
            st.counts["pairs"] = len(pairs)
            st.notes["judge"] = cfg.judge if given else IDENTITY
            _tune(st, m, cfg, pairs, model, seed)
    return read_manifest(out)


def _given(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "verdict_ab": "", "verdict_ba": "", "judge": "given", "figures": "{}"}


def _judged(st: Stage, m: lm.LM, cfg: Prefer, rows: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    sampled = _sample(st, m, cfg, rows, seed)
    outcomes: Counter[str] = Counter()
    pairs = []
    by_id = {r["id"]: r for r in sampled}
    for rid, verdicts in judge_pairs(sampled, st.out / "ledger"):
        outcomes.update(v.outcome for v in verdicts)
        best = pick(verdicts)
        if best is None:
            continue
        row, (verdict, chosen, rejected) = by_id[rid], best
        texts = {"chosen": row["answers"][chosen], "rejected": row["answers"][rejected]}
        seen = {k: figures(row["prompt"], t) for k, t in texts.items()}
        pairs.append(
            {
                "id": rid,
                "prompt": row["prompt"],
                **texts,
                "verdict_ab": verdict.ab,
                "verdict_ba": verdict.ba,
                "judge": IDENTITY,
                "figures": canonical_json(seen),
            }
        )
    st.counts["answers"] = sum(len(r["answers"]) for r in sampled)
    st.counts["judged"] = sum(outcomes.values())
    st.counts.update({k: outcomes[k] for k in ("agreed", "tied", "disagreed", "failed")})
    return pairs


def pick(verdicts: Sequence[Verdict]) -> tuple[Verdict, int, int] | None:
    """(verdict, chosen, rejected) of the pair with most wins against fewest that the judge decided consistently."""
    wins: Counter[int] = Counter()
    for v in verdicts:
        if v.winner is not None:
            wins[v.winner] += 1
            wins[v.first + v.second - v.winner] -= 1
    decided = [(v, v.winner, v.first + v.second - v.winner) for v in verdicts if v.winner is not None]
    return max(decided, key=lambda d: (wins[d[1]] - wins[d[2]], -d[1], -d[2]), default=None)


def _sample(st: Stage, m: lm.LM, cfg: Prefer, rows: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """`cfg.samples` answers per prompt, in shards that a restarted run finds again."""
    mark = st.out / "samples.json"
    if not mark.is_file() or json.loads(mark.read_text(encoding="utf-8")).get("fingerprint") != st.fingerprint:
        shutil.rmtree(st.out / "samples", ignore_errors=True)
        st.write_json("samples.json", {"fingerprint": st.fingerprint})
    shards = [rows[i : i + SHARD] for i in range(0, len(rows), SHARD)]
    out: list[dict[str, Any]] = []
    for n, shard in enumerate(track(shards, "sampling answers", total=len(shards))):
        path = st.out / "samples" / f"part-{n:05d}.parquet"
        if not path.is_file():
            asked = [lm.render(m, r["prompt"]) for r in shard for _ in range(cfg.samples)]
            texts = lm.generate(
                m, asked, max_new_tokens=cfg.max_new_tokens, temperature=cfg.temperature, seed=seed + 1_000_003 * n
            )
            answers = [[t.strip() for t in texts[i : i + cfg.samples]] for i in range(0, len(texts), cfg.samples)]
            kept = [{"id": r["id"], "prompt": r["prompt"], "answers": a} for r, a in zip(shard, answers, strict=True)]
            st.write_parquet(f"samples/{path.name}", pa.Table.from_pylist(kept))
        out += pq.read_table(path).to_pylist()
    return out


def _tune(st: Stage, m: lm.LM, cfg: Prefer, pairs: list[dict[str, Any]], model: Path, seed: int) -> None:
    usable = []
    if pairs:
        from fitra.prefer.dpo import fits, tune  # trl takes seconds to import

        usable = fits(m, pairs)
        st.counts["too_long"] = len(pairs) - len(usable)
    if not usable:
        st.notes["tuning"] = NO_PAIRS if not pairs else TOO_LONG
        with st.folder("model") as folder:
            shutil.copytree(lm.model_folder(model), folder, dirs_exist_ok=True)
        return
    log = tune(m, usable, cfg, seed, st.out)
    st.write_text("log.jsonl", "".join(canonical_json(x) + "\n" for x in log))
    st.counts["steps"] = len(log)
    with st.folder("model") as folder:
        m.model.save_pretrained(folder)
        m.tokenizer.save_pretrained(folder)
