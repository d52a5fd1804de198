"""What new tokens are worth to a small model, in bits per byte after a fixed number of training tokens, five seeds.

    python benchmarks/vocab_learning.py [--data DIR] [--seeds 5] [--tokens 60000] [--arms random,mean]

A small Llama is trained on English with a tenth of Arabic (bytes, to an English tokenizer), once per seed. Its
vocabulary is continued by 1,024 Arabic tokens. Then four arms see equally many training tokens in five phases whose
share of Arabic rises as in AraLLaMA, with the learning rate restarted in each:

- `random`: all tokens at once, rows drawn from the mean and deviation of the old ones;
- `mean`: all tokens at once, rows the mean of their pieces;
- `progressive`: 0, 16, 64, 256, 1,024 tokens (AraLLaMA section 4.5), rows the mean of the pieces in the base's
  vocabulary, as AraLLaMA has it;
- `previous`: the same, rows the mean of the pieces in the phase before, which is trained by then;
- `progressive-text`: as `progressive`, but a phase gets as much *text* as in `mean`: more tokens where they are short.

All end with the final vocabulary and are read on the same Arabic and English documents that nothing was trained on.
Printed are bits per byte and paired differences over the seeds with a 95% t interval. The last line is the mean bits
per byte of `random` over those of `mean`: above 1 the latter is better. A fixed number of *tokens* is what is
asked: a phase with few new tokens sees less text, since its tokens are shorter.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from measured import arguments, folder

SIZES = [0, 16, 64, 256, 1024]
ARMS = ("random", "mean", "progressive", "previous", "progressive-text")
SEQ, ROWS = 128, 16  # tokens of a row, rows of a batch
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


def documents(data: Path, name: str, n: int) -> list[str]:
    texts = pq.read_table(data / "raw" / f"{name}.parquet", columns=["text"])["text"].to_pylist()
    return [t[:4000] for t in texts if t and len(t) > 400][:n]


def stream(tok: Any, texts: Sequence[str]) -> np.ndarray:
    """Documents as one stream of ids, the end of text between them."""
    end = tok.token_to_id("<|end_of_text|>")
    parts = [[*e.ids, end] for e in tok.encode_batch(list(texts), add_special_tokens=False)]
    return np.array([i for p in parts for i in p], np.int64)


def fit(model: Any, ar: np.ndarray, en: np.ndarray, share: float, tokens: int, seed: int, out: Path) -> None:
    """Train on rows of both languages, `share` of them Arabic."""
    from fitra import recipe, train

    n = max(ROWS, tokens // SEQ)
    counts = {"ar": round(n * share), "en": n - round(n * share)}
    rows = {k: s[: len(s) // SEQ * SEQ].reshape(-1, SEQ) for k, s in (("ar", ar), ("en", en))}
    cfg = recipe.Train(tokens=n * SEQ, batch_tokens=ROWS * SEQ, seq_len=SEQ, lr=2e-3, warmup_share=0.15,
                       min_lr_share=0.2, checkpoint_every=10_000, device="cpu", precision="fp32")  # fmt: skip
    train.fit(model, train.Packed(rows, counts, ROWS, seed), cfg, out, seed=seed, groups=["ar", "en"],
              identity=f"{out.name}-{seed}-{share}-{n}")  # fmt: skip


def bits(model: Any, tok: Any, texts: Sequence[str]) -> float:
    """Bits per byte, read with the tokenizer as it is now."""
    import torch
    from transformers import PreTrainedTokenizerFast

    from fitra import lm

    fast: Any = PreTrainedTokenizerFast
    wrapped = fast(
        tokenizer_object=tok, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>", pad_token="<|pad|>"
    )
    got = lm.perplexity(lm.LM(model.eval(), wrapped, torch.device("cpu"), Path()), texts)
    return sum(g.nll for g in got) / np.log(2) / sum(g.bytes for g in got)  # type: ignore[no-any-return]


def train_arm(arm: str, base: Any, plans: Any, held: Any, tokens: int, seed: int, work: Path) -> Any:
    """One arm from the base to its model."""
    import copy

    from fitra.vocab import embed, init

    model, staged = copy.deepcopy(base), arm not in ("random", "mean")
    once = plans["once"]
    if not staged:
        embed.put(model, once.fresh, init.mean(once.pieces) if arm == "mean" else arm, seed)
    for i, stage in enumerate(plans["stages"]):
        if staged:
            stage.begin(model, "previous" if arm == "previous" else "base")
        ar, en = ((stage if staged else once).table(held[k]) for k in ("ar", "en"))
        n = tokens // len(SIZES)
        if arm == "progressive-text":
            n = round(n * (stage.arabic * len(ar) / len(held["ar"]) + 1 - stage.arabic))
        fit(model, ar, en, stage.arabic, n, 1000 * seed + i, work / f"{arm}-{seed}-{i}")
    return model


def prepare(data: Path, add: int) -> dict[str, Any]:
    """Tokenizers, streams in the final vocabulary, plans, test texts."""
    import json

    from fitra.pretrain import base as pretrain
    from fitra.vocab import bpe, learn, progressive

    en, ar = documents(data, "en_books", 500), documents(data, "ar_wiki", 1200)
    test, texts = {"test_en": en[:20], "test_ar": ar[:30]}, {"en": en[20:], "ar": ar[30:]}
    spec = json.loads(pretrain.train_tokenizer(texts["en"], 1500).backend_tokenizer.to_str())
    old = bpe.build(spec)
    runs = Counter(run for t in texts["ar"] for run in bpe.RUN.findall(t))
    got = learn.continue_bpe(spec, bpe.words_of(runs, old, "bytes"), add, 2)
    new_spec = bpe.extend(spec, got.merges)
    new = bpe.build(new_spec)
    stages = progressive.plan(spec, new_spec, SIZES)
    progressive.verify(new_spec, stages, [*test["test_ar"], *test["test_en"][:5]])
    return {
        **test, "old": old, "new": new, "stages": stages, "once": progressive.plan(spec, new_spec, [add])[0],
        **{k: stream(new, v) for k, v in texts.items()},
    }  # fmt: skip


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FITRA_DATA", "data")))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=60_000, help="of each arm")
    parser.add_argument("--base-tokens", type=int, default=60_000)
    parser.add_argument("--arms", default=",".join(ARMS))
    args = parser.parse_args()
    arms = args.arms.split(",")
    work = folder(args.work)
    os.environ["FITRA_PROGRESS"] = "0"
    from fitra import recipe
    from fitra.pretrain.base import small_llama

    held = prepare(args.data, SIZES[-1])
    chars = {k: (held["stages"][0].table(held[k]).size, held[k].size) for k in ("ar", "en")}
    print(f"tokens before and after: {chars}; {args.tokens:,} training tokens an arm")
    shape = recipe.Scratch(vocab_size=1500, hidden_size=96, layers=3, heads=4, intermediate_size=256, max_positions=SEQ)
    scores: dict[str, list[tuple[float, float]]] = {a: [] for a in arms}
    began, n = time.perf_counter(), 0
    for seed in range(args.seeds):
        base = small_llama(shape, _Sized(held["old"]), seed)
        zero = held["stages"][0].table
        fit(base, zero(held["ar"]), zero(held["en"]), 0.1, args.base_tokens, seed, work / f"base-{seed}")
        at = [bits(base, held["old"], held[k]) for k in ("test_ar", "test_en")]
        print(f"seed {seed}: base {at[0]:.4f} {at[1]:.4f}", flush=True)
        for arm in arms:
            model = train_arm(arm, base, held, held, args.tokens, seed, work)
            scores[arm].append(tuple(bits(model, held["new"], held[k]) for k in ("test_ar", "test_en")))  # type: ignore[arg-type]
            n += 1
            left = (time.perf_counter() - began) / n * (args.seeds * len(arms) - n)
            print(f"seed {seed}: {arm} {scores[arm][-1][0]:.4f} {scores[arm][-1][1]:.4f}; {left:.0f} s left",
                  file=sys.stderr, flush=True)  # fmt: skip
    table(scores)


class _Sized:
    """As much of a tokenizer as `small_llama` asks for."""

    def __init__(self, tok: Any) -> None:
        self.n = tok.get_vocab_size()
        self.bos_token_id, self.eos_token_id, self.pad_token_id = range(3)

    def __len__(self) -> int:
        return int(self.n)


def table(scores: dict[str, list[tuple[float, float]]]) -> None:
    print(f"{'arm':18} {'Arabic':>8} {'English':>8}  Arabic by seed")
    for arm, got in scores.items():
        ar, en = np.array(got).T
        print(f"{arm:18} {ar.mean():8.4f} {en.mean():8.4f}  {' '.join(f'{x:.4f}' for x in ar)}")
    for a, b in (("random", "mean"), *(("mean", x) for x in ARMS[2:])):
        for name, k in (("Arabic", 0), ("English", 1)):
            if a not in scores or b not in scores:
                continue
            d = np.array(scores[b])[:, k] - np.array(scores[a])[:, k]
            half = T95.get(len(d), 1.96) * d.std(ddof=1) / len(d) ** 0.5 if len(d) > 1 else float("nan")
            print(f"{b} - {a}, {name}: {d.mean():+.4f} [{d.mean() - half:+.4f}, {d.mean() + half:+.4f}]")
    if {"random", "mean"} <= scores.keys():
        ratio = np.mean([x for x, _ in scores["random"]]) / np.mean([x for x, _ in scores["mean"]])
        print(f"vocab_learning: {ratio:.3f}")


if __name__ == "__main__":
    main()
