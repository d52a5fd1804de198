"""A judge model looks at a sample of pairs, claim by claim: what the words cannot show. Optional; asked through `llm`.

    rows = claims.sample(accepted, policy)
    for answer in llm.run(claims.job(policy), rows, backend, ledger):
        verdict = claims.verdict(answer, policy)

What the judge does not answer, or answers in another form than asked, is a failed verdict: never a pass.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fitra import llm
from fitra.align.gates.verdict import Verdict, few
from fitra.policy import Policy

__all__ = ["SCHEMA", "job", "parse", "sample", "verdict"]

KINDS = ("lost", "changed", "new")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "claims": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"claim": {"type": "string"}, "verdict": {"enum": ["kept", *KINDS]}},
                "required": ["claim", "verdict"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["claims"],
    "additionalProperties": False,
}
_FENCE = re.compile(r"\A\s*```(?:json)?\s*(.*?)\s*```\s*\Z", re.S)


def sample(rows: Iterable[Mapping[str, Any]], policy: Policy) -> Iterator[Mapping[str, Any]]:
    """The share `claims_share` of rows {id, original, rewrite}, chosen by their id: the same ones in every run."""
    share = policy.gates["claims_share"]
    for row in rows:
        if int.from_bytes(hashlib.sha256(str(row["id"]).encode()).digest()[:8], "big") < share * 2**64:
            yield row


def job(policy: Policy) -> llm.Job:
    """The job that asks a judge about rows {id, original, rewrite}; its values are lists of (claim, verdict)."""
    template = policy.prompts["claims"]

    def render(row: Mapping[str, Any]) -> list[llm.Message]:
        # The mark depends on both texts, so neither can contain it by design.
        nonce = hashlib.sha256(f"{row['original']}\0{row['rewrite']}".encode()).hexdigest()[:12]
        values = {"nonce": nonce, "original": str(row["original"]), "rewrite": str(row["rewrite"])}
        return [{"role": "user", "content": re.sub(r"\{(nonce|original|rewrite)\}", lambda m: values[m[1]], template)}]

    return llm.Job("claims", render, lambda reply, _: parse(reply), schema=SCHEMA)


def parse(reply: str) -> list[tuple[str, str]]:
    """(claim, verdict) of each claim; llm.ParseError for anything else, also for no claims at all."""
    fence = _FENCE.match(reply)
    try:
        claims = json.loads(fence[1] if fence else reply)["claims"]
        found = [(str(c["claim"]), str(c["verdict"])) for c in claims]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise llm.ParseError("the judge's reply is not the JSON that was asked for") from None
    if not found or any(v not in ("kept", *KINDS) for _, v in found):
        raise llm.ParseError("the judge named no claims, or an unknown verdict")
    return found


def verdict(answer: llm.Answer, policy: Policy) -> Verdict:
    """The verdict on one pair; an answer with an error fails."""
    limit = policy.gates["claims_changed"]
    if answer.error is not None or not answer.value:
        return Verdict("claims", False, -1.0, limit, few([f"judge failed: {answer.error or 'nothing'}"]))
    wrong = [claim for claim, v in answer.value if v != "kept"]
    return Verdict("claims", len(wrong) <= limit, float(len(wrong)), limit, few(wrong) if len(wrong) > limit else "")
