"""Personal data and toxicity: what is found, what is left alone."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fitra.signals import personal, toxicity


def kinds(text: str) -> list[str]:
    return [s.kind for s in personal.find(text)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("راسلني على name.one@example.org اليوم", "email"),
        ("الجوال 0501234567", "phone"),
        ("الجوال ٠٥٠١٢٣٤٥٦٧ متاح", "phone"),
        ("اتصل +966 50 123 4567 الآن", "phone"),
        ("00201012345678", "phone"),
        ("هاتف: 4567890", "phone"),
        ("حسابي SA03 8000 0000 6080 1016 7519 في البنك", "iban"),
        ("رقم الهوية 1098765432", "national_id"),
        ("الرقم القومي ٢٩٩٠١٠١١٢٣٤٥٦٧", "national_id"),
        ("الخادم 192.168.1.10 يعمل", "ip"),
        ("عنوانه 2001:db8:0:0:0:0:2:1 اليوم", "ip"),
    ],
)
def test_personal_data_is_found_in_both_digit_sets(text: str, kind: str) -> None:
    assert kinds(text) == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "تأسست عام 1902 وبلغ سكانها 1,234,567 نسمة",
        "في 2015-07-21 الساعة 10:30:45",
        "من 2010 - 2015 بلغ الإنتاج 12345678 طنا",
        "الإصدار 1.2.3.4 متاح",
        "انظر https://example.org/0501234567?mail=a@example.org",
        "SA03 8000 0000 6080 1016 7518",  # the check digits are wrong
        "بنسبة 3.14159265358979",
    ],
)
def test_numbers_dates_versions_and_links_are_no_personal_data(text: str) -> None:
    assert kinds(text) == []


def test_mask_keeps_the_rest_of_the_text() -> None:
    assert personal.mask("بريدي a@example.org ورقمي ٠٥٠١٢٣٤٥٦٧.") == "بريدي [EMAIL] ورقمي [PHONE]."
    assert personal.mask("لا شيء هنا") == "لا شيء هنا"


def test_toxicity_is_graded_and_under_the_right_heading() -> None:
    clean = toxicity.score("افتتح الوزير المدرسة الجديدة صباح اليوم.")
    assert set(clean) == set(toxicity.HEADINGS) and max(clean.values()) == 0
    assert toxicity.score("أنت غبي وحقير")["harassment"] > toxicity.score("أنت غبي")["harassment"] > 0.5
    assert toxicity.score("النساء حثالة")["hate"] > 0.5
    assert toxicity.score("سأقتلك الليلة")["violence"] > 0.5
    assert toxicity.score("اشتر الآن بخصم 50% واضغط هنا")["spam"] > 0.5


def test_toxicity_handles_clitics_marks_and_stretching() -> None:
    for text in ("يا غَبِيّ", "والأغبياء هنا", "يا غبييييي", "يا غـــبي"):
        assert toxicity.score(text)["harassment"] > 0.5, text


@pytest.mark.parametrize(
    "text",
    [
        "الكلب حيوان أليف يحرس البيت منذ آلاف السنين ويعرف صاحبه من صوته ورائحته دائما",
        "خولة طبيبة في القاهرة",
        "النساء لسن أغبياء",
        "قتل أربعة أشخاص في حادث سير",
        "وغدا يزور الوفد المدينة",
    ],
)
def test_innocent_text_is_not_toxic(text: str) -> None:
    assert max(toxicity.score(text)[h] for h in toxicity.SAFETY_HEADINGS) < 0.5


@pytest.mark.parametrize(("name", "auc"), [("mpold_ar", 0.72), ("mlma_ar", 0.65)])
def test_toxicity_ranks_labelled_comments(data: Path, name: str, auc: float) -> None:
    rows = pq.read_table(data / "toxicity" / f"{name}.parquet", columns=["text", "label"]).to_pylist()[::2]
    scored = sorted(
        (max(toxicity.score(r["text"])[h] for h in toxicity.SAFETY_HEADINGS), int(r["label"])) for r in rows
    )
    bad = [s for s, label in scored if label]
    good = [s for s, label in scored if not label]
    wins = sum((b > g) + 0.5 * (b == g) for b in bad for g in good)
    assert wins / (len(bad) * len(good)) >= auc
