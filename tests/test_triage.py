"""Triage: which document needs what."""

from __future__ import annotations

import pytest

from fitra import policy
from fitra.align import masking, rules, triage

POLICY = policy.load()
RULES = rules.compile_rules(POLICY)


def needs(*texts: str) -> list[triage.Need]:
    return triage.assign(texts, [masking.mask(t) for t in texts], RULES, POLICY)


@pytest.mark.parametrize(
    ("text", "tier"),
    [
        ("القاهرة عاصمة مصر.", "untouched"),
        ("هذا   نص    متباعد .", "rules"),
        ("قال المدير الغبي إن العدد 30 في القاهرة.", "rules"),
        ("اشتر الآن بخصم 50% والتوصيل مجاني!", "drop"),
        ("سأقتلك وسأذبحك أنت وأولادك جميعا يا كلب", "model"),
    ],
)
def test_a_document_gets_its_tier(text: str, tier: str) -> None:
    assert needs(text)[0].tier == tier


def test_no_documents_need_nothing() -> None:
    assert needs() == []


def test_what_the_rules_made_is_used() -> None:
    text = "القاهرة عاصمة مصر."
    made = [rules.Rewrite("", (), ("moderation.ads",))]
    assert triage.assign([text], [masking.mask(text)], RULES, POLICY, made)[0].tier == "drop"
