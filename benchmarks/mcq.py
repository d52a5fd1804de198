"""Multiple choice: `fitra.lm.score` against lm-eval's `hf` back end, on the same model and the same token ids.

    python benchmarks/mcq.py --data $FITRA_DATA                    # everything; hours at 100 M
    python benchmarks/mcq.py --limit 40 --sizes 12 --sets exams    # a look

Questions: EXAMS (Arabic) and the first ten subjects of the translated MMLU, all test rows, with five worked examples of
the subject or none. `letters`: the options stand in the prompt, the letters are scored. `text`: they do not, their
texts are scored. Models: Llama type, untrained, tied head, 32k vocabulary trained on Arabic text, fp32.

The two take turns. No time is told unless they are equal: same token ids, same prediction on every item,
log-likelihoods within 1e-4. Both are given strings and give back one log-likelihood for each option: encoding counts on
both sides, loading on neither. lm-eval runs at the batch size that was fastest on a sample. Last lines: lm-eval's
seconds over ours, with five shots, all questions of a model together.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measured

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
SIZES = {12: (256, 6, 4, 704), 32: (384, 12, 6, 1056), 100: (768, 11, 12, 2048)}  # width, layers, heads, MLP
VOCABULARY = 32_000
ARABIC = ("أ", "ب", "ج", "د")
SUBJECTS = 10
Pair = tuple[str, str]


def main() -> None:
    parser = measured.arguments(__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("FITRA_DATA"), help="folder with eval/ and raw/")
    parser.add_argument("--sizes", default="12,32,100", help="millions of parameters")
    parser.add_argument("--sets", default="exams,mmlu")
    parser.add_argument("--kinds", default="letters,text")
    parser.add_argument("--shots", default="5,0")
    parser.add_argument("--repeats", type=int, default=5, help="at 100 M it is always one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", default="4,8,16,32", help="sizes tried for lm-eval; the fastest is taken")
    parser.add_argument("--limit", type=int, help="questions of each set, drawn with a seed")
    args = parser.parse_args()
    if args.data is None:
        sys.exit("--data: give the folder with eval/exams_ar.parquet, eval/mmlu_ar.parquet and raw/ar_*.parquet.")
    import torch

    torch.set_num_threads(args.threads)
    logging.disable(logging.WARNING)
    batches = [int(b) for b in args.batches.split(",")]
    work = measured.folder(args.work)
    print(f"{args.threads} threads, {measured.CORES} cores, load {os.getloadavg()[0]:.1f}", versions())
    last = []
    for size in (int(s) for s in args.sizes.split(",")):
        path = model(work, args.data, size)
        took: dict[str, list[float]] = {"fitra": [], "lm-eval": []}
        for shots in (int(s) for s in args.shots.split(",")):
            for name in args.sets.split(","):
                for kind in args.kinds.split(","):
                    rows = questions(args.data, name, args.limit)
                    pairs = [p for r in rows for p in ask(r, kind, shots)]
                    got = compare(path, pairs, args.repeats if size < 100 else 1, batches)
                    report(size, f"{name} {kind} {shots}-shot", len(rows), got)
                    if shots:
                        for who in took:
                            took[who].append(middle(got[who], 0))
        if took["fitra"]:
            last.append(f"mcq-{size}m: {sum(took['lm-eval']) / sum(took['fitra']):.1f}")
    print("\n".join(last))


# --- questions --------------------------------------------------------------------------------------------------------


def questions(data: Path, name: str, limit: int | None) -> list[dict[str, Any]]:
    """Test rows of whole subjects, each with the dev rows of its subject."""
    import pyarrow.parquet as pq

    rows = pq.read_table(data / "eval" / f"{name}_ar.parquet").to_pylist()
    rows = [r for r in rows if all(isinstance(r[c], str) for c in ("question", *"ABCD"))]
    dev = defaultdict(list)
    for r in rows:
        if r["split"] == "dev":
            dev[r["subject"]].append(r)
    kept = set(sorted(dev)[:SUBJECTS])
    test = [{**r, "dev": dev[r["subject"]]} for r in rows if r["split"] == "test" and r["subject"] in kept]
    if limit is not None and limit < len(test):
        chosen = sorted(random.Random(0).sample(range(len(test)), limit))
        test = [test[i] for i in chosen]
    return test


def ask(row: dict[str, Any], kind: str, shots: int) -> list[Pair]:
    """(context, continuation) for each option."""

    def one(r: dict[str, Any]) -> str:
        listed = "".join(f"{x}) {r[k]}\n" for x, k in zip(ARABIC, "ABCD", strict=True)) if kind == "letters" else ""
        return f"السؤال: {r['question'].strip()}\n{listed}الإجابة:"

    def answer(r: dict[str, Any], k: str) -> str:
        return " " + (ARABIC["ABCD".index(k)] if kind == "letters" else r[k].strip())

    head = f"الأسئلة التالية هي أسئلة متعددة الاختيارات مع الجواب الصحيح حول {row['subject'].replace('_', ' ')}.\n\n"
    worked = "".join(f"{one(s)}{answer(s, s['answer'].strip())}\n\n" for s in row["dev"][:shots])
    return [(head + worked + one(row), answer(row, k)) for k in "ABCD"]


# --- models -----------------------------------------------------------------------------------------------------------


def model(work: Path, data: Path, size: int) -> Path:
    """A model folder with its tokenizer, made once."""
    import pyarrow.parquet as pq
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    path = work / f"llama-{size}m"
    if (path / "config.json").is_file():
        return path
    saved = work / "tokenizer.json"
    if not saved.is_file():
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        texts = [t for f in sorted((data / "raw").glob("ar*.parquet")) for t in pq.read_table(f)["text"].to_pylist()]
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=["<s>", "</s>", "<pad>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        bpe.train_from_iterator(texts, trainer)
        bpe.save(str(saved))
    fast = PreTrainedTokenizerFast(tokenizer_file=str(saved), bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    width, layers, heads, mlp = SIZES[size]
    torch.manual_seed(size)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=mlp, max_position_embeddings=4096, tie_word_embeddings=True,
        bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    fast.save_pretrained(path)
    return path


# --- the two ----------------------------------------------------------------------------------------------------------


def compare(path: Path, pairs: list[Pair], repeats: int, batches: list[int]) -> dict[str, Any]:
    """Seconds (wall, processor) of each, taking turns; the end where they are not equal."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from fitra import lm

    ours = lm.load(path, device="cpu", precision="fp32")
    theirs = HFLM(pretrained=str(path), device="cpu", dtype="float32", batch_size=16)
    requests = [Instance("loglikelihood", {}, p, i) for i, p in enumerate(pairs)]

    def peer(some: list[Any], batch: int) -> list[tuple[float, bool]]:
        theirs.batch_size_per_gpu = batch
        return theirs.loglikelihood(some, disable_tqdm=True)

    same_ids(ours, theirs, pairs)
    step = max(1, len(requests) // 4 // 16)
    sample = [r for at in range(0, len(requests), 4 * step) for r in requests[at : at + 4]]
    best = batches[0] if len(batches) == 1 else min(batches, key=lambda b: timed(lambda: peer(sample, b))[0])
    lm.score(ours, pairs[:8])
    times: dict[str, Any] = {"fitra": [], "lm-eval": [], "batch": best}

    def turn() -> tuple[list[tuple[float, bool]], list[Any]]:
        told: list[Any] = []
        times["lm-eval"].append(timed(lambda: told.append(peer(requests, best))))
        times["fitra"].append(timed(lambda: told.append(lm.score(ours, pairs))))
        return told[0], told[1]

    want, got = turn()
    apart = max(abs(w[0] - g.logprob) for w, g in zip(want, got, strict=True))
    chosen = [
        [pick(x[i : i + 4]) for i in range(0, len(pairs), 4)] for x in ([w[0] for w in want], [g.logprob for g in got])
    ]
    differ = sum(a != b for a, b in zip(*chosen, strict=True))
    greedy = sum(w[1] != g.greedy for w, g in zip(want, got, strict=True))
    if apart >= 1e-4 or differ or greedy:
        sys.exit(f"not equal: {apart:.1e} apart, {differ} predictions and {greedy} greedy marks differ.")
    times["apart"] = apart
    for _ in range(repeats - 1):
        turn()
    return times


def same_ids(ours: Any, theirs: Any, pairs: list[Pair]) -> None:
    for (context, option), ids in zip(pairs, ours.encode([c + o for c, o in pairs]), strict=True):
        left, right = theirs._encode_pair(context, option)
        if left + right != ids:
            sys.exit(f"not the same token ids after {context[-60:]!r}.")


def pick(scores: list[float]) -> int:
    return max(range(len(scores)), key=lambda k: (scores[k], -k))


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Wall and processor seconds."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def middle(times: list[tuple[float, float]], which: int) -> float:
    return sorted(t[which] for t in times)[len(times) // 2]


def report(size: int, what: str, questions: int, got: dict[str, Any]) -> None:
    wall, cpu = ([middle(got[w], k) for w in ("lm-eval", "fitra")] for k in (0, 1))
    spread = " ".join(f"{a[0] / b[0]:.1f}" for a, b in zip(got["lm-eval"], got["fitra"], strict=True))
    print(
        f"{size} M, {what}, {questions} questions: lm-eval (batch {got['batch']}) {wall[0]:.1f} s, "
        f"fitra {wall[1]:.2f} s, "
        f"{wall[0] / wall[1]:.1f}x ({spread}); processor {cpu[0]:.1f} s, {cpu[1]:.2f} s, {cpu[0] / cpu[1]:.1f}x; "
        f"all predictions equal, log-likelihoods within {got['apart']:.0e}",
        flush=True,
    )


def versions() -> str:
    from importlib.metadata import version

    return json.dumps({p: version(p) for p in ("torch", "transformers", "tokenizers", "lm_eval")})


if __name__ == "__main__":
    main()
