"""The stage of `fitra align run` against servers that misbehave: every document in one state, none lost, none twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fault_server import KINDS, LASTING, FaultServer, revive_soon
from light_edits import edited

from fitra.align import STATES, align
from fitra.artifacts import DOCUMENT_SCHEMA, open_stage, read_table
from fitra.llm import client, endpoints
from fitra.recipe import Align

PLACES = ("القاهرة", "دمشق", "بغداد", "الرباط", "تونس", "صنعاء", "الخرطوم")
THINGS = ("الماء", "القمح", "الدواء", "الكتاب", "الخشب", "الحديد", "القطن", "الزيت", "الملح", "الورق", "الصوف")


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BACKOFF_S", (0.02, 0.1))
    monkeypatch.setattr(endpoints, "REST_S", (0.1, 0.4))


def documents(n: int) -> list[dict[str, Any]]:
    """Every third is in trouble, each kind in turn."""
    out = []
    for i in range(n):
        place, thing = PLACES[i % len(PLACES)], THINGS[i % len(THINGS)]
        text = f"وصلت إلى {place} خلال الأسبوع {i + 100} شاحنة تحمل {thing}، حيث استقبلها عمال الميناء."
        text += " وأضاف المدير أن السعر ثابت."
        if i % 3 == 0:
            text += f" ~{KINDS[i // 3 % len(KINDS)]}~"
        out.append(
            dict.fromkeys(DOCUMENT_SCHEMA.names) | {"id": f"d{i:04d}", "text": text, "lang": "ar", "licence_class": "A"}
        )
    return out


def test_every_document_in_one_state_and_only_the_bad_ones_without_a_rewrite(tmp_path: Path) -> None:
    docs = documents(3 * len(KINDS))
    with open_stage(tmp_path / "corpus", stage="corpus", config={}, inputs={}) as st:
        st.write_table("documents", pa.Table.from_pylist(docs, DOCUMENT_SCHEMA))
    with (
        FaultServer(edited) as a,
        FaultServer(edited, dies_after=6, beside=a) as b,
        FaultServer(edited, start_s=0.2, beside=a) as c,
    ):
        revive_soon(b)
        given = {"model": "fake", "timeout_s": 2.0, "retries": 4, "concurrency": 8}
        servers = [{"base_url": s.base_url, **given} for s in (a, b, c)]
        cfg = Align.model_validate({"triage": "all", "context_chars": 0, "expert": {"endpoints": servers}})
        made = align(cfg, tmp_path / "corpus", tmp_path / "out")
        sent = sum(s.requests for s in (a, b, c))
        again = align(cfg, tmp_path / "corpus", tmp_path / "out")
        assert again == made and sum(s.requests for s in (a, b, c)) == sent  # done is done
    rows = list(read_table(tmp_path / "out", "rows").to_pylist())
    assert [r["id"] for r in rows] == [d["id"] for d in docs]
    assert all(r["state"] in STATES and r["reason"] for r in rows)
    bad = {d["id"] for d in docs if any(f"~{k}~" in d["text"] for k in LASTING)}
    rewritten = {r["id"] for r in rows if r["state"] == "accept" and r["tier"] == "expert"}
    assert rewritten == {d["id"] for d in docs} - bad
    for row in rows:
        if row["id"] in bad:
            assert row["state"] == "keep_original" and row["reason"].startswith("rewriter: "), row
            assert row["rewrite"] is None or row["rewrite"] == row["original"]
    went_on = Counter(d["id"] for d in read_table(tmp_path / "out", "documents").to_pylist())
    assert went_on == Counter(d["id"] for d in docs)
