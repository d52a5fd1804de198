"""Tables: reading rows from files, and the relational work that Daft does.

Reading is our own, streamed, one bad row harming no neighbour: a data-frame reader fails a whole file for one broken
line. What compares rows with rows is in `near`.
"""

from fitra.tables.near import Ints, Near, components, exact_groups, near_pairs
from fitra.tables.reader import BATCH_BYTES, SUFFIXES, Batch, Row, read, resolve

__all__ = [
    "BATCH_BYTES",
    "SUFFIXES",
    "Batch",
    "Ints",
    "Near",
    "Row",
    "components",
    "exact_groups",
    "near_pairs",
    "read",
    "resolve",
]
