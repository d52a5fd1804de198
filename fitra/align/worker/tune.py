"""Fine-tune a causal model on pairs; the loss is on the rewrite (or edit program) alone."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fitra import lm, policy, train
from fitra.align.worker.pairs import Pair, pairs
from fitra.align.worker.prompt import messages, target
from fitra.artifacts import licence_of, open_stage, read_manifest, worst_licence
from fitra.errors import FitraError
from fitra.lm.chat import prepare_tokenizer
from fitra.recipe import Worker

VERSION = 1
GROUPS = ("changed", "unchanged")


def tune(cfg: Worker, rows: Path, base: Path, out: Path, *, seed: int = 7) -> dict[str, Any]:
    """Train a worker; returns the manifest.

    `rows` is the folder of an align stage (or its rows/), `base` a model folder; without a chat template it gets
    Fitra's. Leaves out/model (merged weights, tokenizer), out/pairs (every pair with its split and target: what was
    trained on, and what never was) and out/log.jsonl (loss on changed and unchanged texts). A killed run goes on from
    its last checkpoint. The budget `train.tokens` counts tokens without padding. Pairs that give no example are counted
    by reason in the manifest's notes. Raises FitraError when there is nothing to learn.
    """
    stage = rows.parent if rows.name == "rows" else rows
    read_manifest(stage)
    held = policy.load(cfg.policy, cfg.packs)
    start = lm.model_folder(base)
    prompt = messages(held, "", cfg.format)[0]["content"]
    learnt = cfg.model_dump(mode="json", exclude={"policy", "packs", "hold", "base", "serve", "max_tokens"})
    config = {"worker": learnt, "prompt": prompt, "seed": seed}
    inputs: dict[str, Path] = {"rows": stage, "base": start} | ({"hold": Path(cfg.hold)} if cfg.hold else {})
    with open_stage(out, stage="worker", config=config, inputs=inputs, version=VERSION) as st:
        if st.done:
            return read_manifest(out)
        m = lm.load(start, device=cfg.train.device, precision="fp32")
        if not m.tokenizer.chat_template:
            prepare_tokenizer(m.tokenizer, m.model)
        lost = Counter[str]()
        found = list(pairs(cfg, stage, lost))
        examples, table = _examples(m, found, cfg, held, lost)
        st.write_table("pairs", table)
        if not examples:
            raise FitraError(
                f"{stage}: no pair to learn from; left out: {dict(lost.most_common(5))}.",
                "Accept some rewrites first, or raise worker.train.seq_len where texts are too long.",
            )
        pad = m.tokenizer.pad_token_id
        batches = train.Padded(
            examples, cfg.train.tokens, cfg.train.batch_tokens, m.tokenizer.eos_token_id if pad is None else pad, seed
        )
        model = _lora(m.model, cfg.lora, seed) if cfg.lora else m.model
        log = train.fit(
            model, batches, cfg.train, out, seed=seed, groups=GROUPS, identity=st.fingerprint, description="worker"
        )
        if cfg.lora:
            model = model.merge_and_unload()
        with st.folder("model") as tmp:
            model.save_pretrained(tmp)
            m.tokenizer.save_pretrained(tmp)
        splits = Counter(table["split"].to_pylist())
        st.counts |= {"pairs": len(found), "examples": len(examples), "held_out": splits["held_out"]}
        st.counts |= {"changed": sum(e.group == 0 for e in examples), "tokens": batches.tokens}
        st.counts |= {"steps": log[-1]["step"], "parameters": sum(p.numel() for p in model.parameters())}
        st.counts["repeats"] = round(batches.tokens / sum(len(e.ids) for e in examples), 3)
        st.notes |= {"format": cfg.format, "loss": log[-1]["loss"], "left_out": dict(sorted(lost.items()))}
        st.licence_class = worst_licence([licence_of(start), *(p.licence for p in found)])
        shutil.rmtree(out / "checkpoint", ignore_errors=True)
        return st.commit()


def _examples(
    m: lm.LM, found: Sequence[Pair], cfg: Worker, held: policy.Policy, lost: Counter[str]
) -> tuple[list[train.Example], pa.Table]:
    """Ids and answer border of each pair to train on; and the table of all pairs."""
    tok, room = m.tokenizer, min(cfg.train.seq_len, m.max_positions)
    special = [t for t in tok.all_special_tokens if t]
    rows: dict[str, list[Any]] = {k: [] for k in ("id", "split", "before", "after", "target")}
    prompts, wholes, groups = [], [], []
    for p in found:
        try:
            answer = target(p.before.text, p.after, cfg.format, p.gone)
        except ValueError as e:
            lost[f"no edit program: {_kind(e)}"] += 1
            answer = None
        if answer is not None and any(t in p.before.text + answer for t in special):
            lost["holds a special token"] += 1  # it would open or close a turn
            answer = None
        if not (p.held_out or answer is None):
            turns = messages(held, p.before.text, cfg.format)
            prompts.append(tok.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
            wholes.append(tok.apply_chat_template([*turns, {"role": "assistant", "content": answer}], tokenize=False))
            groups.append(0 if p.changed else 1)
        split = "held_out" if p.held_out else "left_out" if answer is None else "train"
        for key, value in zip(rows, (p.id, split, p.before.text, p.after, answer), strict=True):
            rows[key].append(value)
    examples = []
    before_ids = tok(prompts, add_special_tokens=False)["input_ids"] if prompts else []
    whole_ids = tok(wholes, add_special_tokens=False)["input_ids"] if wholes else []
    for before, ids, group in zip(before_ids, whole_ids, groups, strict=True):
        if ids[: len(before)] != before:
            lost["the tokenizer joins prompt and answer"] += 1
        elif len(ids) > room:
            lost["longer than train.seq_len"] += 1  # a target cut short would teach to stop early
        else:
            examples.append(train.Example(list(ids), len(before), group))
    return examples, pa.table({k: pa.array(v, pa.string()) for k, v in rows.items()})


def _kind(error: ValueError) -> str:
    """The reason without what is particular to one text."""
    return str(error).split(": ")[-1].lstrip("0123456789 ")


def _lora(model: Any, rank: int, seed: int) -> Any:
    """`model` with trainable low-rank additions to every linear layer; its own weights stand still."""
    try:
        import peft
    except ImportError:
        raise FitraError("worker.lora needs the package peft.", "pip install peft, or set worker.lora to 0.") from None
    import torch

    torch.manual_seed(seed)
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    return peft.get_peft_model(model, config)
