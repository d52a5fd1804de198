"""Task cards: prompts to the letter, rows read or set aside, errors by name, known facts of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fitra.evaluate.benchmark import cards, load

ACVA = [
    ("d1", "مدن", "dev", "مكة مدينة.", True),
    ("d2", "مدن", "dev", "البحر صحراء.", False),
    ("t1", "مدن", "test", "القاهرة مدينة.", True),
    ("t2", "مدن", "test", "القاهِرة  مدينة.", False),  # t1 again, with a mark, and the other label
    ("t3", "مدن", "test", "مكة مدينة.", True),  # also in dev
    ("t4", "مدن", "test", "الشمس قمر.", False),
    ("t5", "مدن", "test", None, False),
]


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def acva_file(tmp_path: Path) -> Path:
    columns = ("id", "category", "split", "question", "label")
    return table(tmp_path / "acva.parquet", [dict(zip(columns, r, strict=True)) for r in ACVA])


def test_acva_prompts_are_those_of_their_protocols(acva_file: Path) -> None:
    (oall, yesno), aside = cards(load("acva"), acva_file, 1, protocols=("oall", "yesno"))
    assert [i.id for i in oall.items] == ["t1", "t2", "t3", "t4"]
    assert oall.items[0].prompt == "السؤال: مكة مدينة.\nالإجابة: صح\n\nالسؤال: القاهرة مدينة.\nالإجابة:"
    assert (oall.items[0].options, [i.gold for i in oall.items]) == ((" صح", " خطأ"), [0, 1, 0, 1])
    assert yesno.items[0].prompt.endswith("سؤال: مكة مدينة.\nإجابة: نعم\n\nسؤال: القاهرة مدينة.\nإجابة:")
    assert "acva-oall/1" in oall.protocol and "1-shot" in oall.protocol
    assert [b["id"] for b in aside] == ["t5"] and "question" in aside[0]["reason"]


def test_acva_defects_are_counted_from_the_file(acva_file: Path) -> None:
    (card,), _ = cards(load("acva"), acva_file, protocols=("oall",))
    want = {"rows": 6, "distinct": 4, "both_labels": 1, "test_rows": 4, "test_rows_in_dev": 1}
    assert {k: card.facts[k] for k in want} == want


def test_real_acva_has_the_known_defects(data: Path) -> None:
    (card,), aside = cards(load("acva"), data / "eval/acva_ar.parquet", 5, protocols=("oall",))
    want = {"rows": 9000, "distinct": 6155, "both_labels": 58, "test_rows_in_dev": 355}
    assert ({k: card.facts[k] for k in want}, len(card.items), aside) == (want, 8711, [])
    assert any("accuracy 0.600 and macro-F1 0.375" in w for w in card.warnings)


def test_real_exams_has_the_known_rows(data: Path) -> None:
    (card,), aside = cards(load("exams"), data / "eval/exams_ar.parquet", 5, protocols=("oall",))
    assert (len(card.items), aside) == (260, [])
    assert all(i.prompt.count("الإجابة:") == 6 for i in card.items)
