"""Shapes of replies, and structured output where it is offered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from client_job import backend, job, rows
from fault_server import REFUSAL, FaultServer

from fitra import llm
from fitra.llm import client, endpoints, structured


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BACKOFF_S", (0.02, 0.1))
    monkeypatch.setattr(endpoints, "REST_S", (0.1, 0.4))
    monkeypatch.setenv("FITRA_PROGRESS", "0")


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("نص فقط", "نص فقط"),
        ("Arabic text:\nقديم\n\nAnalysis:\nجيد\n\nRewritten text:\nجديد", "جديد"),
        ("**Analysis:** fine\n**Rewritten Arabic Text:** جديد", "جديد"),
        ("التحليل: جيد\nالنص المعاد صياغته:\nجديد\nوسطر", "جديد\nوسطر"),
        ('{"analysis": "ok", "rewritten_text": "جديد"}', "جديد"),
        ('```json\n{"analysis": "ok", "rewritten_text": "جديد"}\n```', "جديد"),
        ("<think>hm: Rewritten text: no</think>\nجديد", "جديد"),
        ("Sure, here is the text:\n\nجديد", "جديد"),
        ("```\nجديد\n```", "جديد"),
        ("1. Analysis: x\n2. Rewritten text: جديد", "جديد"),
    ],
)
def test_the_rewritten_text_is_found(reply: str, text: str) -> None:
    assert llm.parse_rewrite(reply) == text


@pytest.mark.parametrize(
    "reply", ["", "  \n", "Analysis:\nthe text is bad", '{"rewritten_text": 3}', "Rewritten text:"]
)
def test_what_holds_no_text_is_an_error(reply: str) -> None:
    with pytest.raises(llm.ParseError):
        llm.parse_rewrite(reply)


def test_refusals() -> None:
    for text in (REFUSAL, "عذرا، لا أستطيع مساعدتك في ذلك.", "I cannot help with that", "As an AI model, I"):
        assert llm.is_refusal(text)
    for text in ("قال الوزير: لا أستطيع الحضور.", "أعتذر عن التأخير.", "نص طويل", "I can help"):
        assert not llm.is_refusal(text)


def test_objects_are_checked_against_the_schema() -> None:
    schema = {"properties": {"n": {"type": "integer"}, "s": {"type": "string"}}, "required": ["n"]}
    assert structured.parse_object('x {"n": 1}', schema) == {"n": 1}
    for bad in ('{"s": "a"}', '{"n": true}', '{"n": 1, "s": 2}', "[1]", "none"):
        with pytest.raises(llm.ParseError):
            structured.parse_object(bad, schema)


def test_structured_output_where_it_is_offered(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> str:
        seen.append(request)
        return '{"analysis": "", "rewritten_text": "new"}' if "response_format" in request else "new"

    with FaultServer(answer) as s:
        (a,) = llm.run(job(schema=llm.REWRITE_SCHEMA), rows(1), backend(s), tmp_path / "a")
        assert a.value == "new" and seen[0]["response_format"]["json_schema"]["schema"] == llm.REWRITE_SCHEMA
        with FaultServer(answer) as old:  # one that does not know it
            old.refuses = "response_format"
            got = list(llm.run(job(schema=llm.REWRITE_SCHEMA), rows(30), backend(old), tmp_path / "b"))
            assert [a.value for a in got] == ["new"] * 30
            assert old.statuses[400] <= 16  # those in flight before it was known
        (a,) = llm.run(job(schema=llm.REWRITE_SCHEMA), rows(1), backend(s, structured=False), tmp_path / "c")
        assert a.value == "new" and "response_format" not in seen[-1]
