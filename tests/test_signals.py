"""Toxicity: what is found, what is left alone."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fitra.signals import toxicity


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
