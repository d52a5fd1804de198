"""The stages of a progressive expansion as data: a table from final ids to a stage's ids, and its files.

What a stage is and why a table is enough: `vocab.progressive`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fitra.artifacts import write_json, write_parquet
from fitra.errors import FitraError
from fitra.vocab import embed, init

SCHEMA = pa.schema([("stage", pa.int32()), ("id", pa.int32()), ("ids", pa.list_(pa.int32()))])


@dataclass(frozen=True)
class Table:
    """Ids of the final vocabulary to ids of a stage: id i becomes ids[starts[i]:starts[i + 1]]."""

    starts: np.ndarray  # (V + 1,) int64
    ids: np.ndarray  # (m,) int32

    @classmethod
    def of(cls, size: int, apart: Mapping[int, Sequence[int]]) -> Table:
        """The table of `size` ids in which those of `apart` are taken apart and the others stay."""
        lengths = np.ones(size, np.int64)
        keys = np.fromiter(apart, np.int64, len(apart))
        lengths[keys] = [len(apart[k]) for k in keys.tolist()]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        ids = np.repeat(np.arange(size, dtype=np.int32), lengths)
        for k, v in apart.items():
            ids[starts[k] : starts[k + 1]] = v
        return cls(starts, ids)

    def __call__(self, stream: np.ndarray) -> np.ndarray:
        """A stream (n,) of final ids as the stage's ids, int32."""
        lengths = np.diff(self.starts)[stream]
        ends = np.cumsum(lengths)
        if not len(ends):
            return np.zeros(0, np.int32)
        # Place j of the result belongs to token t(j) and is the (j - begin of t)th of its pieces.
        at = np.repeat(self.starts[stream] - (ends - lengths), lengths) + np.arange(ends[-1])
        out: np.ndarray = self.ids[at]
        return out

    def take(self, stream: np.ndarray, at: int, n: int) -> tuple[np.ndarray, int]:
        """The next `n` ids from place `at` of a stream of final ids that goes round and round, and the place after.

        Places go on counting: divided by the length of the stream they are the times it was read.
        """
        parts: list[np.ndarray] = []
        while n:
            if not len(stream):
                raise ValueError("an empty stream")
            chunk = stream[at % len(stream) :][:n]  # a final id gives at least one
            ends = np.cumsum(np.diff(self.starts)[chunk])
            if ends[-1] > n:
                chunk = chunk[: int(np.searchsorted(ends, n)) + 1]
            parts.append(self(chunk)[:n])
            at, n = at + len(chunk), n - len(parts[-1])
        return np.concatenate([np.zeros(0, np.int32), *parts]), at

    def pieces(self, i: int) -> list[int]:
        """What id i becomes."""
        return self.ids[self.starts[i] : self.starts[i + 1]].tolist()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Stage:
    """One stage. Ids below `end` exist in it; `fresh` came with it, `pieces` are what they were in the stage before."""

    index: int  # from 0
    added: int  # new tokens so far
    end: int  # rows the model has in this stage
    arabic: float  # share of Arabic in its data
    table: Table
    fresh: list[int]
    pieces: list[list[int]]
    base_pieces: list[list[int]]  # of the fresh tokens, in the vocabulary of the base

    def begin(self, model: Any, origin: Literal["base", "previous"] = "base", seed: int = 0) -> None:
        """Give a loaded model the rows of this stage: each fresh token starts at the mean of its pieces.

        `origin`: the pieces in the base's vocabulary, as AraLLaMA section 4.1 has it (and better where we measured it,
        docs/vocab-progressive.md), or those of the stage before. Both matrices; an optimiser made before must be made
        anew.
        """
        pieces = self.pieces if origin == "previous" else self.base_pieces
        if self.fresh:
            embed.put(model, self.fresh, init.mean(pieces), seed)

    def new_share(self, stream: np.ndarray) -> float:
        """Share of the stage's tokens that came with it: what AraLLaMA calls the OOV ratio, as far as one can tell."""
        ids = self.table(stream)
        return float(np.isin(ids, self.fresh).mean()) if len(ids) else 0.0


def save(stages: Sequence[Stage], folder: Path) -> None:
    """Write stages.parquet (only what is taken apart) and stages.json: what `load` reads."""
    rows = [
        {"stage": s.index, "id": i, "ids": s.table.pieces(i)}
        for s in stages
        for i in np.flatnonzero(_changed(s.table)).tolist()
    ]
    write_parquet(folder / "stages.parquet", pa.Table.from_pylist(rows, schema=SCHEMA))
    last = stages[-1]
    write_json(
        folder / "stages.json",
        {"first": last.end - last.added, "stages": [
            {"added": s.added, "arabic": s.arabic, "fresh": s.fresh, "pieces": s.pieces, "base_pieces": s.base_pieces}
            for s in stages]},
    )  # fmt: skip


def _changed(table: Table) -> np.ndarray:
    one = np.diff(table.starts) == 1
    own = table.ids[table.starts[:-1].clip(max=len(table.ids) - 1)] == np.arange(len(one))
    out: np.ndarray = ~(one & own)
    return out


def load(folder: Path) -> list[Stage]:
    """The stages that `save` wrote; FitraError where they are not there or damaged."""
    try:
        found = json.loads((Path(folder) / "stages.json").read_text(encoding="utf-8"))
        table = pq.read_table(Path(folder) / "stages.parquet", schema=SCHEMA)
        first, size = found["first"], found["first"] + found["stages"][-1]["added"]
    except FileNotFoundError as e:
        raise FitraError(
            f"{folder}: no {Path(str(e.filename)).name}, so no stages.", "Set vocab.progressive."
        ) from None
    except (ValueError, KeyError, TypeError, IndexError, OSError):
        raise FitraError(f"{folder}: damaged stages.", "Make the vocabulary again.") from None
    apart: list[dict[int, list[int]]] = [{} for _ in found["stages"]]
    for k, i, ids in zip(*(table[c].to_pylist() for c in SCHEMA.names), strict=True):
        apart[k][i] = ids
    return [
        Stage(k, s["added"], first + s["added"], s["arabic"], Table.of(size, apart[k]), s["fresh"], s["pieces"],
              s["base_pieces"])
        for k, s in enumerate(found["stages"])
    ]  # fmt: skip
