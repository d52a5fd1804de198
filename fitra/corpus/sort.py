"""Writing a table sorted by id without holding it: rows are dealt to parts by rank, then each part is sorted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fitra.artifacts import Stage

PART_CHARS = 48 << 20
PART_ROWS = 50_000


class Sorter:
    """`ids` and `sizes` (characters) of all rows, in the order in which `add` will bring them."""

    def __init__(self, st: Stage, name: str, schema: pa.Schema, ids: list[str], sizes: list[int]) -> None:
        self.st, self.name, self.schema = st, name, schema
        order = sorted(range(len(ids)), key=ids.__getitem__)
        self.part = np.zeros(len(ids), dtype=np.int64)
        part = rows = chars = 0
        for r in order:
            if rows and (rows >= PART_ROWS or chars + sizes[r] > PART_CHARS):
                part, rows, chars = part + 1, 0, 0
            self.part[r] = part
            rows, chars = rows + 1, chars + sizes[r]
        self.parts = part + 1
        self.at = 0
        self.writers: dict[int, pq.ParquetWriter] = {}
        self.folder = st.out / ".work" / name
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(self, table: pa.Table) -> None:
        """The next rows."""
        here = self.part[self.at : self.at + table.num_rows]
        self.at += table.num_rows
        for part in np.unique(here).tolist():
            if part not in self.writers:
                self.writers[part] = pq.ParquetWriter(self.folder / str(part), self.schema, compression="lz4")
            self.writers[part].write_table(table.filter(pa.array(here == part)).cast(self.schema))

    def finish(self) -> None:
        """Sort each part and put it into place; a table without rows gets one empty part."""
        for part in range(self.parts):
            table = self.schema.empty_table()
            if part in self.writers:
                self.writers[part].close()
                table = pq.read_table(self.folder / str(part)).sort_by("id")
                (self.folder / str(part)).unlink()
            self.st.write_parquet(f"{self.name}/part-{part:05d}.parquet", table.combine_chunks())
