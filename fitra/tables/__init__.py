"""Tables: reading rows from files, and the relational work that Daft does.

Reading is our own, streamed, one bad row harming no neighbour: a data-frame reader fails a whole file for one broken
line. What compares rows with rows is in `near`.
"""

from fitra.tables.batch import BATCH_BYTES, Batch, Row
from fitra.tables.files import SUFFIXES, File, Found, find, identity, resolve
from fitra.tables.near import Ints, components, exact_groups
from fitra.tables.reader import read, read_split
from fitra.tables.splits import Split, splits

__all__ = [
    "BATCH_BYTES",
    "SUFFIXES",
    "Batch",
    "File",
    "Found",
    "Ints",
    "Row",
    "Split",
    "components",
    "exact_groups",
    "find",
    "identity",
    "read",
    "read_split",
    "resolve",
    "splits",
]
