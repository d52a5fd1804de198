"""A judge model looks at a sample of what was accepted, claim by claim: what words alone cannot show (`gates.claims`).

Optional: `align.judge` names the model, `claims_share` in the policy the share. A judge that fails is not a pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from fitra import llm
from fitra.align import gates
from fitra.align.documents import Row, Work, refuse
from fitra.artifacts import canonical_json

__all__ = ["look"]


def look(rows: list[Row], docs: list[dict[str, Any]], work: Work, ledger: Path) -> None:
    """Ask about the sampled accepted rows; one that changed a claim is refused, its verdict is added to all.

    What a person accepted is not asked about: a person has compared the claims.
    """
    if work.judge is None:
        return
    place = {row["id"]: n for n, row in enumerate(rows)}
    accepted = (r for r in rows if r["state"] == "accept" and r["tier"] != "human")
    chosen = list(gates.claims.sample(accepted, work.policy))
    job = gates.claims.job(work.policy)
    for answer in llm.run(job, chosen, work.judge.backend, ledger, progress=False, budget=work.judge.budget):
        n = place[answer.row_id]
        verdict = gates.claims.verdict(answer, work.policy)
        verdicts = [gates.Verdict(**v) for v in orjson.loads(rows[n]["verdicts"])] + [verdict]
        keys = [*rows[n]["keys"], answer.key]
        if not verdict.passed:
            state = gates.outcome([verdict], work.policy).state
            why = f"gates: {gates.complaint([verdict])}"
            rows[n] = refuse(docs[n], rows[n]["rewrite"], why, verdicts, rows[n]["tier"], work, state)
        rows[n] |= {"verdicts": canonical_json([v.as_dict() for v in verdicts]), "keys": keys}
