"""Native alignment (the paper's section on data): documents rewritten by a code of conduct, each ending in one state.

    accept         rewritten, and every gate passed
    unchanged      nothing to change, or a language that is not asked for
    keep_original  a rewrite was tried and refused, or the rewriter failed: the original stays
    quarantine     unsafe, and no rewrite passed: left out of the documents
    drop           nothing but advertising or abuse: left out of the documents

and in one tier: who did it (untouched, rules, edits, worker, expert, drop).
"""

from fitra.align.stage import ROW_SCHEMA, STATES, align

__all__ = ["ROW_SCHEMA", "STATES", "align"]
