"""Model folders as files: the matrices with a row per token are lengthened without loading the model.

A 70B model lies in thirty shards, and a vocabulary touches two matrices in one or two of them. Only those shards are
written anew: old bytes are copied by the kernel, new rows are made a chunk at a time and appended. All other shards are
hard links (copies where the file system has no links).
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from fitra.errors import FitraError
from fitra.vocab import init

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# safetensors' names of types: as NumPy sees the bytes, as torch reads them.
DTYPES: dict[str, tuple[str, torch.dtype]] = {
    "F32": ("<i4", torch.float32),
    "BF16": ("<i2", torch.bfloat16),
    "F16": ("<i2", torch.float16),
    "F64": ("<i8", torch.float64),
}
HEADER_LIMIT = 100_000_000  # as in the safetensors library
AGAIN = "Fetch the model again."


@dataclass(frozen=True)
class Tensor:
    """One tensor of a safetensors file."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int  # of its bytes in the file
    size: int

    def array(self) -> np.ndarray:
        """Its raw rows, mapped into memory: integers of the right width, (V, d); a vector is (V, 1)."""
        shape = self.shape if len(self.shape) == 2 else (*self.shape, 1)
        return np.memmap(self.file, DTYPES[self.dtype][0], "r", self.start, shape)

    def source(self) -> init.Source:
        """Fetches rows by id as float32."""
        raw, dtype = self.array(), DTYPES[self.dtype][1]
        return lambda ids: torch.from_numpy(raw[ids.numpy()]).view(dtype).float()


@dataclass(frozen=True)
class Layout:
    """Where the rows of a model's tokens are."""

    folder: Path
    files: tuple[Path, ...]
    embed: Tensor
    head: Tensor | None  # None where it is tied and not stored
    bias: Tensor | None  # of the head, where it has one
    tied: bool
    config_rows: int  # vocab_size of config.json

    @property
    def rows(self) -> int:
        """Rows of the embedding, padding included."""
        return self.embed.shape[0]

    @property
    def grown(self) -> tuple[Tensor, ...]:
        """What gets new rows."""
        return tuple(t for t in (self.embed, self.head, self.bias) if t is not None)


def header(file: Path) -> tuple[dict[str, Any], int]:
    """The JSON header of a safetensors file and the offset of its data; FitraError where it is damaged or cut off."""
    damaged = FitraError(f"{file}: not a whole safetensors file.", AGAIN)
    try:
        with file.open("rb") as f:
            (length,) = struct.unpack("<Q", f.read(8))
            if length > HEADER_LIMIT:
                raise damaged
            found = json.loads(f.read(length))
    except (struct.error, ValueError):
        raise damaged from None
    if not isinstance(found, dict):
        raise damaged
    try:
        end = max((v["data_offsets"][1] for k, v in found.items() if k != "__metadata__"), default=0)
    except (TypeError, KeyError, IndexError):
        raise damaged from None
    if file.stat().st_size != 8 + length + end:
        raise damaged
    return found, 8 + length


def read(folder: Path) -> Layout:
    """Find the matrices of a model folder; nothing is loaded.

    Raises FitraError when the folder is no causal language model, when a shard that the index names is missing or cut
    off, when the head of an untied model is not there, when a matrix is stored in a type that is not a float, and when
    the matrices do not have one row each per token.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise FitraError(f"{folder}: no config.json, so this is not a model folder.", "Point base to a model folder.")
    where = _shards(folder)
    embed_name, head_name, bias_name, tied, rows = _names(folder)
    headers = {f: header(f) for f in sorted(set(where.values()))}

    def tensor(name: str) -> Tensor | None:
        stored = _stored(name, where)
        if stored is None:
            return None
        found, start = headers[where[stored]]
        if stored not in found:
            raise FitraError(f"{where[stored]}: the tensor '{stored}' is not in it, as {INDEX} says.", AGAIN)
        t = found[stored]
        a, b = t["data_offsets"]
        if t["dtype"] not in DTYPES:
            raise FitraError(
                f"{where[stored]}: '{stored}' is stored as {t['dtype']}, expected one of {', '.join(DTYPES)}.",
                "Expand the model before it is quantised.",
            )
        return Tensor(where[stored], stored, t["dtype"], tuple(t["shape"]), start + a, b - a)

    embed = tensor(embed_name)
    if embed is None:
        raise FitraError(f"{folder}: no tensor '{embed_name}', the embedding.", AGAIN)
    head = tensor(head_name)
    if head is None and not tied:
        raise FitraError(
            f"{folder}: no tensor '{head_name}', though the head is not tied to the embedding.",
            "Fetch the missing shard, or set tie_word_embeddings in config.json if the head is the embedding.",
        )
    bias = tensor(bias_name) if bias_name else None
    for t in (head, bias):
        if t is not None and t.shape[0] != embed.shape[0]:
            raise FitraError(f"{folder}: '{t.name}' has {t.shape[0]} rows, the embedding {embed.shape[0]}.", AGAIN)
    return Layout(folder, tuple(headers), embed, head, bias, tied, rows)


def _shards(folder: Path) -> dict[str, Path]:
    """Tensor name -> file; FitraError for a missing shard. One file is preferred to an index, as transformers does."""
    single, index = folder / SINGLE, folder / INDEX
    if single.is_file():
        return {k: single for k in header(single)[0] if k != "__metadata__"}
    if not index.is_file():
        raise FitraError(f"{folder}: no *.safetensors weights ({SINGLE} or {INDEX}).", "Convert it to safetensors.")
    try:
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        named = {str(k): str(v) for k, v in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FitraError(f"{index}: not an index of weights.", AGAIN) from None
    if odd := [v for v in named.values() if Path(v).name != v]:
        raise FitraError(f"{index}: names a file outside the folder: {odd[0]!r}.", AGAIN)
    gone = sorted({v for v in named.values() if not (folder / v).is_file()})
    if gone:
        raise FitraError(f"{folder}: {len(gone)} shards are missing, the first is {gone[0]}.", "Fetch them.")
    return {k: folder / v for k, v in named.items()}


def _stored(name: str, stored: Mapping[str, Path]) -> str | None:
    """The stored name of a tensor: the model's own, else the one name that ends like it (`wte.weight` of GPT-2)."""
    if name in stored:
        return name
    parts = name.split(".")
    for at in range(len(parts) - 1):
        tail = ".".join(parts[at:])
        if len(found := [n for n in stored if n == tail or n.endswith(f".{tail}")]) == 1:
            return found[0]
    return None


def _names(folder: Path) -> tuple[str, str, str, bool, int]:
    """Names of embedding, head and the head's bias ('' for none), whether both are tied, vocab_size.

    The model is made without memory (device meta): its class knows what it calls its matrices.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):
            make: Any = AutoModelForCausalLM.from_config  # untyped
            model = make(config, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as e:
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise FitraError(f"{folder}: not a causal language model: {reason}", "Check config.json.") from None
    embed, head = model.get_input_embeddings(), model.get_output_embeddings()
    if embed is None or head is None:
        raise FitraError(f"{folder}: the model has no {'head' if embed is not None else 'embedding'}.", "")
    names = {id(m): n for n, m in model.named_modules()}
    text = config.get_text_config()
    tied = head.weight is embed.weight or bool(getattr(text, "tie_word_embeddings", False))
    bias = f"{names[id(head)]}.bias" if getattr(head, "bias", None) is not None else ""
    return f"{names[id(embed)]}.weight", f"{names[id(head)]}.weight", bias, tied, int(text.vocab_size)


def grow(
    layout: Layout, out: Path, first: int, how: init.Mix | str, n: int, seed: int, multiple: int = 1
) -> dict[str, Any]:
    """Write the model of `layout` to the folder `out` with rows first .. first+n-1 made by `how` (see `init.rows`).

    Old rows keep their bytes. Rows the base had as padding from `first` on are used; what is left of them stays. The
    number of rows becomes a multiple of `multiple`; rows that no token uses get the mean of all old ones. Embedding and
    head are each made from their own rows, in the type they have. Writes the weights, config.json and
    generation_config.json; tokenizer files are the caller's. Returns tied, rows_before, rows_after, written, linked.
    """
    out.mkdir(parents=True, exist_ok=True)
    if not 0 < first <= layout.rows:
        raise FitraError(
            f"{layout.folder}: the tokenizer has {first} tokens, the model {layout.rows} rows.",
            "Model and tokenizer do not belong together.",
        )
    end = max(first + n, layout.rows)
    total = -(-end // multiple) * multiple
    changed = {t.file for t in layout.grown}
    if total == layout.rows and not n:
        changed = set()
    for file in layout.files:
        if file in changed:
            # The head draws other numbers than the embedding, whatever file either is in.
            mine = {t.name: (t, 2 * seed + (t is not layout.embed)) for t in layout.grown if t.file == file}
            _rewrite(file, out / file.name, mine, first, how, n, total)
        else:
            _link(file, out / file.name)
    if (layout.folder / INDEX).is_file() and SINGLE not in {f.name for f in layout.files}:
        _index(layout, out / INDEX, total)
    _config(layout.folder, out, total)
    return {
        "tied": layout.tied, "rows_before": layout.rows, "rows_after": total,
        "written": len(changed), "linked": len(layout.files) - len(changed),
    }  # fmt: skip


def _link(file: Path, target: Path) -> None:
    """The same file under another name; a copy where there are no hard links (another disk, an object store)."""
    real = file.resolve()  # a link to a link in a cache would break when the cache is cleaned
    try:
        os.link(real, target)
    except OSError:
        shutil.copyfile(real, target)


def _rewrite(
    file: Path, target: Path, longer: dict[str, tuple[Tensor, int]], first: int, how: init.Mix | str, n: int, total: int
) -> None:
    """A copy of a safetensors file in which some tensors are longer; `longer` has each with its seed."""
    found, begin = header(file)
    order = sorted((k for k in found if k != "__metadata__"), key=lambda k: found[k]["data_offsets"])
    made: dict[str, Any] = {"__metadata__": found.get("__metadata__") or {"format": "pt"}}
    at = 0
    for k in order:
        a, b = found[k]["data_offsets"]
        size, shape = b - a, list(found[k]["shape"])
        if k in longer:
            size, shape[0] = size // shape[0] * total, total
        made[k] = {"dtype": found[k]["dtype"], "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(made, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data starts at a multiple of eight
    with file.open("rb") as old, target.open("wb") as new:
        new.write(struct.pack("<Q", len(text)) + text)
        for k in order:
            a, b = found[k]["data_offsets"]
            if k not in longer:
                _copy(old, new, begin + a, b - a)
                continue
            t, seed = longer[k]
            row = (b - a) // t.shape[0]
            _copy(old, new, begin + a, first * row)
            for part in init.rows(t.source(), first, how, n, seed):
                new.write(_raw(part, t.dtype))
            left = max(0, t.shape[0] - first - n)
            _copy(old, new, begin + b - left * row, left * row)
            if pad := total - max(first + n, t.shape[0]):
                new.write(_mean(t, first) * pad)


def _copy(old: BinaryIO, new: BinaryIO, start: int, size: int) -> None:
    """Bytes from file to file inside the kernel where it can."""
    new.flush()
    while size:
        try:
            done = os.copy_file_range(old.fileno(), new.fileno(), size, start, new.tell())
        except (OSError, AttributeError):
            done = 0
        if not done:
            old.seek(start)
            done = new.write(old.read(min(size, 1 << 24)))
            new.flush()
        else:
            new.seek(done, os.SEEK_CUR)
        start, size = start + done, size - done


def _raw(x: torch.Tensor, dtype: str) -> bytes:
    kind, to = DTYPES[dtype]
    return x.to(to).contiguous().view(getattr(torch, f"int{8 * int(kind[-1])}")).numpy().tobytes()


def _mean(t: Tensor, known: int) -> bytes:
    fetch = t.source()
    total: Any = 0
    for ids in init.spans(0, known, 2048):
        total = total + fetch(ids).sum(0, dtype=torch.float64)
    return _raw((total / known).float(), t.dtype)


def _index(layout: Layout, target: Path, total: int) -> None:
    found = json.loads((layout.folder / INDEX).read_text(encoding="utf-8"))
    meta = found.setdefault("metadata", {})
    if isinstance(meta, dict):
        for t in layout.grown:
            more = total - t.shape[0]
            if isinstance(meta.get("total_size"), int | float):
                meta["total_size"] += more * (t.size // t.shape[0])
            if isinstance(meta.get("total_parameters"), int | float):
                meta["total_parameters"] += more * (t.shape[1] if len(t.shape) > 1 else 1)
    target.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _config(folder: Path, out: Path, total: int) -> None:
    """config.json with the new vocab_size and nothing else changed."""
    found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    holders: list[dict[str, Any]] = [h for h in (found, found.get("text_config")) if isinstance(h, dict)]
    for h in [h for h in holders if "vocab_size" in h] or [found]:
        h["vocab_size"] = total
    (out / "config.json").write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if (folder / "generation_config.json").is_file():
        shutil.copyfile(folder / "generation_config.json", out / "generation_config.json")


def check(before: Layout, after: Path, first: int, n: int) -> dict[str, int]:
    """Compare a grown folder with its base without loading either; counts of what was compared.

    Old rows must be equal bit for bit, new ones finite, every other tensor of a rewritten file byte for byte as it
    was, and config.json must name the number of rows. Raises FitraError with the first thing that does not hold.
    """
    now = read(after)
    if now.config_rows != now.rows or now.rows < first + n:
        raise FitraError(f"{after}: config.json says {now.config_rows} tokens, the model has {now.rows} rows.", AGAIN)
    for a, b in zip(before.grown, now.grown, strict=True):
        x, y = a.array(), b.array()
        for at in range(0, first, 8192):
            if not np.array_equal(x[at : min(first, at + 8192)], y[at : min(first, at + 8192)]):
                raise FitraError(f"{after}: rows of old tokens changed in '{b.name}'.", AGAIN)
        for ids in init.spans(first, first + n, 4096):
            if not torch.isfinite(b.source()(ids)).all():
                raise FitraError(f"{after}: new rows of '{b.name}' are not finite.", "Check the weights of the base.")
    same = 0
    for x_file, y_file in zip(before.files, now.files, strict=True):
        if x_file.samefile(y_file):
            continue
        (x_head, x_at), (y_head, y_at) = header(x_file), header(y_file)
        for k in x_head:
            if k == "__metadata__" or k in {t.name for t in before.grown}:
                continue
            (a0, a1), (b0, b1) = x_head[k]["data_offsets"], y_head[k]["data_offsets"]
            left = np.memmap(x_file, np.uint8, "r")[x_at + a0 : x_at + a1]
            if not np.array_equal(left, np.memmap(y_file, np.uint8, "r")[y_at + b0 : y_at + b1]):
                raise FitraError(f"{after}: the tensor '{k}' changed.", AGAIN)
            same += 1
    return {"old_rows_equal": first * len(now.grown), "new_rows": n * len(now.grown), "tensors_equal": same}
