"""What a model is asked: the policy as one prefix that all requests share, the text between marks, context, complaint.

The corpus text is material: it stands between marks made of a hash of it, so it cannot hold them, and templates are
filled in one pass, so braces in it mean nothing.
"""

from __future__ import annotations

import re

from fitra import llm
from fitra.align import edits
from fitra.align.masking import Masked
from fitra.align.worker.prompt import instruction
from fitra.align.worker.prompt import messages as taught
from fitra.artifacts import digest
from fitra.policy import Policy, prompt

__all__ = ["PLACEHOLDER", "fingerprint", "messages", "system"]

PLACEHOLDER = "⟦1a2b3c4d:0⟧"  # shown in prompts: what a placeholder looks like


def system(policy: Policy, tier: str, form: str = "rewrite") -> str:
    """What all requests to the 'worker' or the 'expert' begin with, in the form 'rewrite' or 'edits'."""
    if tier == "worker":
        return instruction(policy, "edits" if form == "edits" else "rewrite")
    if form == "edits":
        return prompt(policy, "edits", placeholder="⟦0⟧", format=edits.FORMAT)
    return prompt(policy, "expert", placeholder=PLACEHOLDER)


def fingerprint(policy: Policy, tier: str, form: str) -> str:
    """Identity of the prompts that a model is asked with (12 hex digits): it stands in every row."""
    turns = [policy.prompts[name] for name in ("text", "context", "retry")]
    return digest([system(policy, tier, form), *turns])[:12]


def messages(
    policy: Policy, tier: str, masked: Masked, *,
    form: str = "rewrite", context: str = "", reply: str = "", complaint: str = "",
) -> list[llm.Message]:  # fmt: skip
    """The turns after the system prompt: context and text, and after a refusal the last reply and the complaint.

    A worker gets the text alone, as in its training.
    """
    if tier == "worker":
        turns = taught(policy, masked.text, "edits" if form == "edits" else "rewrite")[1:]
    else:
        text = edits.numbered(masked.text) if form == "edits" else masked.text
        user = prompt(policy, "text", text=text, nonce=masked.nonce)
        if context:
            # Written by whoever wrote the text before: it must not close the marks of this one.
            context = re.sub(masked.nonce, "", context, flags=re.I)
            user = prompt(policy, "context", context=context, nonce=masked.nonce) + user
        turns = [{"role": "user", "content": user}]
    if complaint:
        if reply:
            turns.append({"role": "assistant", "content": reply})
        turns.append({"role": "user", "content": prompt(policy, "retry", complaint=complaint)})
    return turns
