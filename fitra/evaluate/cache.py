"""Results of single items, kept as they come: an interrupted evaluation asks again only what is missing.

    store = Cache(folder, identity(model, precision="fp32"))
    todo = [i for i in items if key(card, i) not in store]
    store.put({key(card, i): {"scores": [...], "lengths": [...]} for i in todo})

What an item gives depends on the model and on what is asked of it, on nothing else: not on the gold answer, the slices
or the other items. So its key is the hash of the task's version, the protocol and the item's texts, and each model has
files of its own. Every process appends to a file of its own, one checksummed line an item; a torn line is no line.
Results can therefore be shared: several processes write into one folder, and `gather` waits until all is there.
"""

from __future__ import annotations

import json
import os
import re
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fitra.artifacts import canonical_json, digest, file_hash
from fitra.errors import FitraError
from fitra.evaluate.card import Card, Item

T = TypeVar("T")
LAYOUT = 1  # raised when lines written before must not be read any more


def key(card: Card, item: Item, **more: Any) -> str:
    """Identity of what is asked with one item, SHA-256 (hex); `more` is whatever else the answer depends on, such as
    the number of samples and their seed.

    The number of examples, the options' order and the prompt's wording are in the texts themselves.
    """
    asked = [card.benchmark or card.task, card.version, card.protocol, card.kind, card.chat, card.bare]
    if card.kind == "generate":
        asked.append(card.max_new_tokens)
    return digest([LAYOUT, asked, item.prompt, item.options, more])


def identity(model: Path, weights: str, **settings: Any) -> str:
    """Identity of what answers, SHA-256 (hex): `weights` (`lm.weights_hash`), its config, its tokenizer and
    `settings` such as precision and device, all of which change log-likelihoods.

    `model` is the folder with config.json; an endpoint has no folder: use `digest` of its name and parameters.
    """
    names = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
    files = {n: file_hash(model / n) for n in names if (model / n).is_file()}
    return digest([weights, files, settings])


def place() -> tuple[int, int]:
    """(rank, number of processes) as `torchrun` and `srun` tell them; (0, 1) alone.

    Raises FitraError when they make no sense.
    """
    for rank_name, world_name in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        if rank_name in os.environ and world_name in os.environ:
            try:
                rank, world = int(os.environ[rank_name]), int(os.environ[world_name])
            except ValueError:
                rank, world = -1, 0
            if not 0 <= rank < world:
                said = f"{rank_name}={os.environ[rank_name]!r}, {world_name}={os.environ[world_name]!r}"
                raise FitraError(f"{said}: not a place among processes.", "Start with torchrun, or unset both.")
            return rank, world
    return 0, 1


def share(items: Sequence[T], rank: int, world: int, size: Any = None) -> list[T]:
    """The part of `items` that process `rank` of `world` scores: a contiguous stretch, so that items with a common
    beginning stay together; of like total `size` (a function of an item; its prompt's length where it has one, else 1).
    """
    if size is None:
        size = lambda i: len(i.prompt) + 1 if isinstance(i, Item) else 1  # noqa: E731
    sizes = [size(i) for i in items]
    total, done, mine = sum(sizes), 0, []
    for item, n in zip(items, sizes, strict=True):
        # An item belongs to the process in whose stretch its middle lies.
        if min(int((done + n / 2) * world / total) if total else 0, world - 1) == rank:
            mine.append(item)
        done += n
    return mine


class Cache:
    """What one model has answered so far, in `folder`; survives a kill at any byte.

    Only this process writes its file; what others write is seen at opening and after `refresh`.
    """

    def __init__(self, folder: Path, model_hash: str) -> None:
        if not re.fullmatch(r"[0-9a-zA-Z_-]{1,128}", model_hash):
            raise FitraError(f"model hash {model_hash[:40]!r}: letters and digits expected.", "Use cache.identity.")
        self.folder = Path(folder) / model_hash[:32]
        self.torn = 0  # lines that do not stand their checksum
        self._values: dict[str, dict[str, Any]] = {}
        self._read: dict[str, int] = {}  # bytes of each file that are known
        self._out: int | None = None
        self._mine = ""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise FitraError(f"{self.folder}: cannot keep results here: {e.strerror}.", "Check the path.") from None
        self.refresh()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def get(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """What is known of `keys`."""
        return {k: self._values[k] for k in keys if k in self._values}

    def put(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep `values` by key, in one write; the first value of a key stays. They must be what JSON can hold."""
        new = {k: json.loads(canonical_json(v)) for k, v in values.items() if k not in self._values}
        if not new:
            return
        block = b"".join(_line(k, v) for k, v in new.items())
        if self._out is None:
            self._out = self._open()
        while block:
            block = block[os.write(self._out, block) :]
        self._values.update(new)

    def refresh(self) -> None:
        """Take in what other processes have written since."""
        for file in sorted(self.folder.glob("*.jsonl")):
            if file.name == self._mine:
                continue
            with file.open("rb") as f:
                f.seek(self._read.get(file.name, 0))
                block = f.read()
            whole = block.rfind(b"\n") + 1  # a line without an end is still being written, or torn for ever
            self._read[file.name] = self._read.get(file.name, 0) + whole
            for line in block[:whole].splitlines():
                pair = _parse(line)
                if pair is None:
                    self.torn += 1
                else:
                    self._values.setdefault(*pair)

    def close(self) -> None:
        """Bring what was written to the disk."""
        if self._out is not None:
            os.fsync(self._out)
            os.close(self._out)
            self._out, self._mine = None, ""

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> int:
        """A new file of this process's own: a torn end of an older one is never written after."""
        n = len(list(self.folder.glob("*.jsonl")))
        while True:
            name = f"{n:06d}.jsonl"
            try:
                out = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            except FileExistsError:
                n += 1
                continue
            self._mine = name
            return out


def gather(store: Cache, keys: Sequence[str], patience: float = 1800.0) -> dict[str, dict[str, Any]]:
    """The values of all `keys`, waiting for what other processes still owe.

    Raises FitraError when nothing has come for `patience` seconds.
    """
    wanted = set(keys)
    missing = len(wanted - store.get(wanted).keys())
    last, pause = time.monotonic(), 0.02
    while missing:
        store.refresh()
        left = len(wanted - store.get(wanted).keys())
        if left < missing:
            missing, last, pause = left, time.monotonic(), 0.02
        elif time.monotonic() - last > patience:
            raise FitraError(
                f"{store.folder}: {missing} of {len(wanted)} results have not come for {patience:.0f} s.",
                "Another process may have died; run again, what is there is kept.",
            )
        if missing:
            time.sleep(pause)
            pause = min(1.0, pause * 1.5)
    return store.get(keys)


def _line(key: str, value: Mapping[str, Any]) -> bytes:
    body = canonical_json([key, value]).encode()
    return b"%08x " % zlib.crc32(body) + body + b"\n"


def _parse(line: bytes) -> tuple[str, dict[str, Any]] | None:
    """Key and value of a line, None for one that was not written whole."""
    if line[8:9] != b" " or line[:8] != b"%08x" % zlib.crc32(line[9:]):
        return None
    try:
        key, value = json.loads(line[9:])
    except ValueError:
        return None
    return (key, value) if isinstance(key, str) and isinstance(value, dict) else None


def chunks(items: Sequence[T], n: int) -> Iterator[Sequence[T]]:
    """`items` in stretches of `n`: what is scored, and kept, at a time."""
    for i in range(0, len(items), n):
        yield items[i : i + n]
