"""Triage: which document needs what."""

from __future__ import annotations

from dataclasses import replace

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
        ("يا حيوان يا زبالة، سنقتلكم جميعا ونحرق بيوتكم.", "model"),
        ("رقم جوالي 0501234567 وأنا في الرياض اليوم.", "model"),
        ("ويظن بعض الناس أن سكان الحي يجب ألا يدخلوا السوق.", "model"),
        ("ويرى بعض الناس أن سكان الحي شركاء لنا في المدينة.", "untouched"),
        ("لو الولد سخن اديله بخاخ مبيد ع الريق وخلاص يا دكتور.", "model"),
        ("ا ل م د ي ن ة كبيرة ج د ا وفيها أسواق ك ث ي ر ة", "model"),
        ("سأقتلك وسأذبحك أنت وأولادك جميعا يا كلب", "model"),
    ],
)
def test_a_document_gets_its_tier(text: str, tier: str) -> None:
    assert needs(text)[0].tier == tier


@pytest.mark.parametrize(
    ("text", "tier"),
    [
        # Nothing here is in a list of abuse: pronouns and forms of verbs set «us» against «them».
        ("قال الرجل عن سكان الضفة: لا تهدوا إليهم تمرا ولا تطرقوا لهم بابا.", "model"),
        ("سكان الضفة جيران قدامى: نزورهم في العيد ويزوروننا.", "model"),  # a false alarm: «نـ ... هم»
        ("كتب الفلاحون الذين أعلنوا مطالبهم إلى الوزارة رسالة ثانية.", "untouched"),
        ("زار سكان الضفة جيرانهم وأهدوا إليهم تمرا وزيتا.", "untouched"),
        # somebody without a name says something of a group
        ("ويكرر صاحب الدكان في كل مرة أن سكان الضفة سبب ما نحن فيه.", "model"),
        ("ويكرر المؤرخ ابن خلدون أن سكان الضفة زرعوا الزيتون.", "untouched"),
        # a group that no list names
        ("الموسيقيون لا يصلحون لشيء.", "model"),
        # a case, and what to do in it; a warning is none
        ("وإذا سال الدم من الأنف فاملأه رملا.", "model"),
        ("وإذا سال الدم من الأنف فاتصل بالطبيب، ويحذر الأطباء من إهماله.", "untouched"),
        ("وإذا طلع القمر رأيت النهر فضيا.", "untouched"),
    ],
)
def test_what_no_list_names_is_told_by_its_form(text: str, tier: str) -> None:
    assert needs(text)[0].tier == tier, needs(text)[0]


def test_no_documents_need_nothing() -> None:
    assert needs() == []


def test_what_the_rules_made_is_used() -> None:
    text = "القاهرة عاصمة مصر."
    made = [rules.Rewrite("", (), ("moderation.ads",))]
    assert triage.assign([text], [masking.mask(text)], RULES, POLICY, made)[0].tier == "drop"


def test_reasons_have_figures_at_their_thresholds() -> None:
    need = needs("رقم جوالي 0501234567 وأنا في الرياض اليوم.")[0]
    assert need.reasons == ("personal",) and need.figures["personal"] == 1.0
    assert all(need.figures[r] >= triage.thresholds(POLICY)[r] for r in need.reasons)


def test_the_policy_sets_thresholds() -> None:
    lax = replace(POLICY, triage={**POLICY.triage, "model_from": 0.7, "personal": 2.0})
    limits = triage.thresholds(lax)
    assert limits["toxicity_rules"] == 0.7 and limits["personal"] == 2.0
    text = "رقم جوالي 0501234567 وأنا في الرياض اليوم."
    assert triage.assign([text], [masking.mask(text)], RULES, lax)[0].tier == "untouched"
