"""Rows for 12,800 new tokens of a 32,000 x 4096 model: seconds and memory, by method.

    python benchmarks/vocab_init.py [--work DIR] [--methods mean,weighted,gaussian,random,focus]

A checkpoint of the shape of a 7B model with one layer is written in four shards (bf16, untied). Each method grows it in
a process of its own, which prints its seconds and the highest anonymous memory above what it had after its imports. The
result is compared with a plain mean of the rows first. The last line is the budget of 5 s over the seconds of `mean`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from measured import arguments, folder

OLD, NEW, WIDTH, HIDDEN = 32_000, 12_800, 4096, 11_008
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": OLD, "hidden_size": WIDTH,
    "intermediate_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 32, "num_key_value_heads": 8,
    "max_position_embeddings": 4096, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip


def shapes() -> list[dict[str, tuple[int, ...]]]:
    layer = "model.layers.0."
    return [
        {"model.embed_tokens.weight": (OLD, WIDTH)},
        {f"{layer}self_attn.{p}_proj.weight": ((1024 if p in "kv" else WIDTH), WIDTH) for p in "qkvo"},
        {
            f"{layer}mlp.gate_proj.weight": (HIDDEN, WIDTH), f"{layer}mlp.up_proj.weight": (HIDDEN, WIDTH),
            f"{layer}mlp.down_proj.weight": (WIDTH, HIDDEN), f"{layer}input_layernorm.weight": (WIDTH,),
            f"{layer}post_attention_layernorm.weight": (WIDTH,),
        },
        {"model.norm.weight": (WIDTH,), "lm_head.weight": (OLD, WIDTH)},
    ]  # fmt: skip


def write(out: Path) -> None:
    import torch
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(CONFIG))
    names, size = {}, 0
    torch.manual_seed(0)
    for i, held in enumerate(shapes(), 1):
        file = f"model-{i:05d}-of-00004.safetensors"
        tensors = {k: (torch.randn(s) * 0.02).to(torch.bfloat16) for k, s in held.items()}
        save_file(tensors, out / file, {"format": "pt"})
        names |= dict.fromkeys(tensors, file)
        size += sum(t.numel() * 2 for t in tensors.values())
    (out / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": size}, "weight_map": names})
    )


def anonymous() -> int:
    """Bytes of anonymous memory of this process: what is not backed by a file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def child(method: str, base: Path, out: Path) -> None:
    import numpy as np

    from fitra.vocab import checkpoint, init

    rng = np.random.default_rng(0)
    # A token of 12,800 has some three letters: six bytes, of which few kinds occur, or two to four pieces.
    pieces = [rng.integers(0, 400, rng.integers(2, 9)).tolist() for _ in range(NEW)]
    stream = rng.zipf(1.3, 400_000) % (OLD + NEW) if method == "focus" else np.zeros(0, np.int64)
    checkpoint.read(base)  # classes of transformers are loaded on first use: not what is measured
    start, peak, stop = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.005):
            peak[0] = max(peak[0], anonymous())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    t = time.perf_counter()
    how: init.Mix | str = method
    if method == "mean":
        how = init.mean(pieces)
    elif method == "weighted":
        how = init.weighted(pieces, rng.integers(1, 5, OLD), rng.integers(1, 1000, OLD))
    elif method == "focus":
        how = init.focus(pieces, [stream], OLD)
    got = checkpoint.grow(checkpoint.read(base), out, OLD, how, NEW, 0)
    seconds = time.perf_counter() - t
    stop.set()
    thread.join()
    print(json.dumps({"seconds": seconds, "start": start, "peak": peak[0] - start, **got}))
    if method == "mean":
        _compare(base, out, pieces)


def _compare(base: Path, out: Path, pieces: Any) -> None:
    import torch

    from fitra.vocab import checkpoint

    before, after = checkpoint.read(base), checkpoint.read(out)
    for a, b in zip(before.grown, after.grown, strict=True):
        old, new = a.source(), b.source()(torch.arange(OLD, OLD + NEW))
        for i in range(0, NEW, 97):
            want = old(torch.tensor(pieces[i])).mean(0).to(torch.bfloat16).float()
            assert torch.allclose(new[i], want, rtol=2**-7), f"row {i} of {b.name}"
    checkpoint.check(before, out, OLD, NEW)


def disk(work: Path) -> float:
    """Seconds to write and flush as many zero bytes as the two shards hold: what the disk alone takes."""
    t = time.perf_counter()
    with (work / "zeros").open("wb") as f:
        for _ in range(2 * (OLD + NEW) * WIDTH * 2 // (1 << 22)):
            f.write(bytes(1 << 22))
        f.flush()
    seconds = time.perf_counter() - t
    (work / "zeros").unlink()
    return seconds


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--methods", default="mean,weighted,gaussian,random,focus")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.work / "base", args.work / f"out-{args.child}")
        return
    work = folder(args.work)
    if not (work / "base" / "config.json").is_file():
        write(work / "base")
    two = 2 * OLD * WIDTH * 2
    print(f"two matrices {two / 1e6:,.0f} MB; {2 * NEW:,} rows of {WIDTH} to make; disk {disk(work):.2f} s")
    print(f"{'method':10} {'seconds':>8} {'anonymous MB':>13} {'of the two':>11}  shards written, linked")
    ratio = 0.0
    for method in args.methods.split(","):
        shutil.rmtree(work / f"out-{method}", ignore_errors=True)
        done = subprocess.run(
            [sys.executable, __file__, "--work", str(work), "--child", method],
            check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        said = json.loads(done.stdout.strip().splitlines()[-1])
        print(
            f"{method:10} {said['seconds']:8.2f} {said['peak'] / 1e6:13,.0f} {said['peak'] / two:11.2f}  "
            f"{said['written']}, {said['linked']}"
        )
        if method == "mean":
            ratio = 5 / said["seconds"]
        shutil.rmtree(work / f"out-{method}", ignore_errors=True)
    print(f"vocab_init: {ratio:.2f}")


if __name__ == "__main__":
    main()
