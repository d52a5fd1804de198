"""Native alignment: protected spans, rules, gates, states, endpoint, restart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fitra import llm, policy
from fitra.align import align, gates, masking, rewrite, rules
from fitra.artifacts import DOCUMENT_SCHEMA, open_stage, read_table, table_parts
from fitra.errors import FitraError
from fitra.llm.chunk import chunks, sentences
from fitra.recipe import Align

POLICY = policy.load()
RULES = rules.compile_rules(POLICY)
VERSE = "إِنَّا أَعْطَيْنَاكَ الْكَوْثَرَ فَصَلِّ لِرَبِّكَ وَانْحَرْ"


def by_rules(text: str) -> str:
    masked = masking.mask(text)
    made = rules.apply(masked, RULES)
    return masking.unmask(made.text, masked, [int(m[1]) for m in masking.PLACEHOLDER.finditer(made.text)])


def corpus(path: Path, texts: Sequence[str], lang: str = "ar") -> Path:
    rows = [
        dict.fromkeys(DOCUMENT_SCHEMA.names) | {"id": f"d{i:05d}", "text": t, "lang": lang, "licence_class": "A"}
        for i, t in enumerate(texts)
    ]
    with open_stage(path, stage="corpus", config={"texts": list(texts)}, inputs={}) as st:
        st.write_table("documents", pa.Table.from_pylist(rows, DOCUMENT_SCHEMA))
    return path


def rows_of(out: Path) -> list[dict[str, Any]]:
    return list(read_table(out, "rows").to_pylist())


# --- protected spans


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("قال تعالى ﴿قُلْ هُوَ اللَّهُ أَحَدٌ﴾ صدق", "quran"),
        ("قال «يا غبي» ثم مضى", "quote"),
        ('قال "كلام   مقتبس" ثم', "quote"),
        ("انظر https://example.org/a,b?c=1 هنا", "url"),
        ("الكود `x  =  1` هنا", "code"),
        ("في 5/3/2010 وقع", "number"),
        ("عن النبي صلى الله عليه وسلم أنه قال: لا تغضب", "hadith"),
        ("قفا نبك من ذكرى     حبيب ومنزل قديم\nبسقط اللوى بين     الدخول فحومل هنا", "poetry"),
        ("المعادلة $x_1^2 = 4$ هنا", "formula"),
    ],
)
def test_protected_spans_are_found_and_come_back_byte_for_byte(text: str, kind: str) -> None:
    masked = masking.mask(text)
    assert kind in masked.kinds
    assert all(s not in masked.text for s in masked.spans)
    assert masking.unmask(masked.text, masked) == text


def test_verses_are_known_without_marks_and_as_fragments() -> None:
    verses = masking.Verses([VERSE])
    for text in (f"قرأ {VERSE} ثم ركع", "قرأ أعطيناك الكوثر فصل لربك ثم ركع", "قرأ انا اعطيناك الكوثر فصل لربك"):
        assert masking.mask(text, verses).kinds == ("quran",)
    assert masking.mask("أعطيناك الكوثر فقط", verses).kinds == ()


def test_forged_and_damaged_placeholders_are_refused() -> None:
    masked = masking.mask("قال «أ ب» و«ج د».")
    a, b = masked.placeholder(0), masked.placeholder(1)
    for bad in (
        f"قال {b} و{a}.",
        f"قال {a}.",
        f"{a} {a} {b}",
        masked.text.replace("⟧", "", 1),
        masked.text + "⟦zz:0⟧ " + a,
    ):
        with pytest.raises(masking.MaskError):
            masking.unmask(bad, masked)
    forged = masking.mask(masked.text + " «هـ و»")  # corpus text that already holds a placeholder
    assert masking.unmask(forged.text, forged) == masked.text + " «هـ و»"


def test_pieces_join_to_the_text() -> None:
    text = "جملة أولى. جملة ثانية؟ د. أحمد\n\nفقرة  ثانية 3.5 كم!  نهاية\n" * 20
    assert "".join(s + sep for s, sep in sentences(text)) == text
    cut = chunks(text, 200)
    assert "".join(cut) == text and max(map(len, cut)) <= 200


# --- rules


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("هذا   نص    متباعد .", "هذا نص متباعد."),
        ("مرحبـــــا بكم,أهلا عام2015 !!!!", "مرحبا بكم، أهلا عام 2015!"),
        ("أولا\n\n\n\n\nثانيا", "أولا\n\nثانيا"),
        ("الـGPS و1436هـ و30% و3.5 كم", "الـGPS و1436هـ و30% و3.5 كم"),
        ("قال المدير الغبي إن العدد 30.", "قال المدير إن العدد 30."),
        ("بنى هؤلاء الأغبياء جسرا طوله 300 متر.", "بنى هؤلاء الأشخاص جسرا طوله 300 متر."),
        ("يا ابن الكلب أين المفتاح؟", "أين المفتاح؟"),
        ("تأسست المدينة عام 1900 وأهلها معروفون بالكسل.", "تأسست المدينة عام 1900."),
        ("يقع الحي شمالا. كل سكانه لصوص.", "يقع الحي شمالا."),
        ("افتتح المتحف. احجز تذكرتك الآن بخصم 30% على الرقم 0501234567", "افتتح المتحف."),
        ("نص مفيد هنا.\nجميع الحقوق محفوظة", "نص مفيد هنا."),
    ],
)
def test_rules_repair(before: str, after: str) -> None:
    assert by_rules(before) == after
    assert by_rules(after) == after


@pytest.mark.parametrize(
    "text",
    [
        "الكلب حيوان أليف يعيش مع الإنسان.",
        "بلغت مبيعات الشركة 30 مليون ريال بعد تخفيضات كبيرة في الأسعار.",
        "يحذر الأطباء من التوقف عن تناول الدواء.",
        "وغدا يصل الوفد إلى جدة.",
        "قال: «يا غبي» ثم اعتذر.",
        "تواصل الأندية الموسمية فعالياتها للطلاب.",
        "ليس صحيحا أن كل سكان الحي كسالى.",
        "الساكت عن الحق شيطان أخرس.",
        "بلغ المؤشر 9،300 نقطة و10،5 في المئة.",
    ],
)
def test_rules_leave_ordinary_text_alone(text: str) -> None:
    assert by_rules(text) == text


def test_unsafe_advice_is_replaced_by_a_safe_statement() -> None:
    out = by_rules("سالم: أوقف دواءك فورا. يقع المستشفى في الشمال.")
    assert "أوقف" not in out and out.startswith("سالم: لا تغيّر دواءك") and out.endswith("يقع المستشفى في الشمال.")


def test_protected_spans_survive_rules() -> None:
    text = f"يا غبي!!! ﴿{VERSE}﴾ وقال «نص   مقتبس ,هنا» في 1436/10/05 على https://example.org/a،b"
    out = by_rules(text)
    assert out != text
    for span in masking.mask(text).spans:
        assert span in out


# --- gates


@pytest.mark.parametrize(
    ("rewritten", "gate"),
    [
        ("افتتح الوزير المدرسة عام 1903 في القاهرة وحضر 250 طالبا.", "numbers_lost"),
        ("The minister opened the school in 1902 in Cairo with 250 students.", "script"),
        ("افتتح 1902 250.", "length"),
        ("النص المعدل: افتتح الوزير المدرسة عام 1902 في القاهرة وحضر 250 طالبا.", "leaks"),
        ("افتتح الوزير الحقير المدرسة عام 1902 في القاهرة وحضر 250 طالبا.", "toxicity"),
        ("افتتح الوزير المدرسة عام 1902 في القاهرة وحضر 250 طالبا، جوال 0501234567.", "personal"),
        ("عذرا، لا أستطيع مساعدتك في هذا الأمر 1902 250 لأنه غير مناسب تماما.", "leaks"),
        ("افتتح الوزير المدرسة عام 1902 في القاهرة وحضر 250 طالبا، و7 آخرون.", "numbers_new"),
        ("سافر التاجر بعيدا ثم رجع بعد شهرين 1902 ومعه 250 بعيرا وحمولة.", "words_kept"),
    ],
)
def test_a_gate_catches(rewritten: str, gate: str) -> None:
    original = "افتتح الوزير المدرسة عام 1902 في القاهرة وحضر 250 طالبا."
    failed = {v.gate for v in gates.judge(original, rewritten, POLICY) if not v.passed}
    assert gate in failed


def test_gates_pass_light_edits_and_both_digit_sets() -> None:
    original = "إفتتح الوزير المدرسة ,عام ١٩٠٢ في القاهرة وحضر ١٬٢٥٠ طالبا"
    edited = "افتتح الوزير المدرسة عام 1902 في القاهرة، وحضر 1,250 طالبا."
    assert gates.complaint(gates.judge(original, edited, POLICY)) == ""


def test_a_declared_removal_is_not_a_lost_number() -> None:
    original, kept = "افتتح المتحف عام 1902. اتصل بنا 0501234567", "افتتح المتحف عام 1902."
    assert gates.complaint(gates.judge(original, kept, POLICY)) != ""
    assert gates.complaint(gates.judge(original, kept, POLICY, removed=["اتصل بنا 0501234567"])) == ""


# --- the stage


TEXTS = [
    "القاهرة عاصمة مصر.",
    "قال المدير الغبي إن العدد 30 في القاهرة.",
    "اشتر الآن بخصم 50% والتوصيل مجاني!",
    "قال تعالى ﴿قُلْ هُوَ اللَّهُ أَحَدٌ﴾   ثم ركع .",
    "سأقتلك وسأذبحك يا كلب وسأقتلكم جميعا",
]


def test_every_document_ends_in_one_state(tmp_path: Path) -> None:
    manifest = align(Align(), corpus(tmp_path / "c", TEXTS), tmp_path / "a")
    rows = rows_of(tmp_path / "a")
    assert [r["state"] for r in rows] == ["unchanged", "accept", "drop", "accept", "quarantine"]
    assert all(r["reason"] and r["policy_hash"] == POLICY.hash for r in rows)
    assert all(v["passed"] for v in json.loads(rows[1]["verdicts"]))
    docs = read_table(tmp_path / "a", "documents").to_pylist()
    assert [(d["id"], d["parent_id"]) for d in docs] == [("d00000", None), ("d00001", "d00001"), ("d00003", "d00003")]
    assert docs[1]["text"] == "قال المدير إن العدد 30 في القاهرة."
    assert manifest["counts"]["documents"] == 5 and manifest["notes"]["policy"]["hash"] == POLICY.hash


def test_other_languages_pass_unchanged(tmp_path: Path) -> None:
    align(Align(), corpus(tmp_path / "c", ["Buy now!!!   You stupid dog ."], lang="en"), tmp_path / "a")
    assert rows_of(tmp_path / "a")[0]["state"] == "unchanged"
    assert read_table(tmp_path / "a", "documents")["text"].to_pylist() == ["Buy now!!!   You stupid dog ."]


def test_a_killed_run_keeps_its_shards_and_another_policy_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fitra.align import shards
    from fitra.align import stage as room

    monkeypatch.setattr(shards, "SHARD_ROWS", 2)
    source = corpus(tmp_path / "c", TEXTS)
    align(Align(), source, tmp_path / "whole")
    made: list[int] = []
    real = room.begin

    def dies(docs: Any, work: Any) -> Any:
        made.append(len(docs))
        if len(made) == 3:
            raise KeyboardInterrupt
        return real(docs, work)

    monkeypatch.setattr(room, "begin", dies)
    with pytest.raises(KeyboardInterrupt):
        align(Align(), source, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    align(Align(), source, tmp_path / "a")
    assert made == [2, 2, 1, 1]  # the two finished shards were kept
    for name in ("rows", "documents"):
        pairs = zip(table_parts(tmp_path / "a", name), table_parts(tmp_path / "whole", name), strict=True)
        assert all(x.read_bytes() == y.read_bytes() for x, y in pairs)
    mine = Path(shutil.copytree(Path(policy.__file__).parent / "default", tmp_path / "mine"))
    (mine / "policy.yaml").write_text(
        (mine / "policy.yaml").read_text(encoding="utf-8").replace("unsafe: 0.9", "unsafe: 0.91"), encoding="utf-8"
    )
    align(Align(policy=str(mine)), source, tmp_path / "b")
    assert {r["policy_hash"] for r in rows_of(tmp_path / "b")} == {policy.load(mine).hash}


# --- a language model


def between(content: str) -> str:
    """The text between the marks, without its context; a worker gets it without marks."""
    return content if "<<<" not in content else content.rsplit("<<<", 1)[1].split("\n", 1)[1].rsplit("\n", 2)[0]


def answering(fn: Callable[[str], str]) -> llm.FunctionBackend:
    """A backend that applies `fn` to the text between the markers."""

    def reply(messages: list[llm.Message], sampling: Any, schema: Any) -> str:
        return fn(between(messages[1]["content"]))

    return llm.FunctionBackend("test-model", reply)


ENDPOINT = Align(triage="all")


@pytest.mark.parametrize(
    "reply",
    [
        "نص",
        "```\nنص\n```",
        "إليك النص المهذب:\n\nنص",
        "Arabic text: أصل\nAnalysis: كلام\nRewritten text: نص",
        "النص العربي: أصل\n\n**التحليل:** كلام\n\n**النص المعاد صياغته:**\nنص",
        "<<<abcd1234\nنص\nabcd1234>>>",
    ],
)
def test_what_surrounds_a_rewrite_is_taken_off(reply: str) -> None:
    assert rewrite.parse_reply(reply, "abcd1234") == "نص"


def test_a_model_rewrites_and_cannot_touch_protected_text(tmp_path: Path) -> None:
    source = corpus(tmp_path / "c", [TEXTS[1], TEXTS[3], "القاهرة عاصمة مصر."])
    backend = answering(lambda t: t.replace(" الغبي", "").replace(" .", "."))
    align(ENDPOINT, source, tmp_path / "a", backends={"expert": backend})
    rows = rows_of(tmp_path / "a")
    assert [r["state"] for r in rows] == ["accept", "accept", "unchanged"]
    assert rows[0]["rewriter"] == "test-model" and "﴿قُلْ هُوَ اللَّهُ أَحَدٌ﴾" in rows[1]["rewrite"]


@pytest.mark.parametrize(
    "bad",
    [
        lambda t: "",
        lambda t: "عذرا، لا أستطيع مساعدتك في هذا.",
        lambda t: t.replace("30", "31"),
        lambda t: t.replace("⟦", "").replace("⟧", ""),
        lambda t: "Translated: the director said 30.",
        lambda t: t + " " + "اتصل على 0501234567",
    ],
)
def test_a_bad_reply_is_never_accepted_and_harms_no_neighbour(tmp_path: Path, bad: Callable[[str], str]) -> None:
    source = corpus(tmp_path / "c", ["قال الرجل «كلام» إن العدد 30 في القاهرة اليوم.", "نص  سليم فيه مسافات وكلمات."])
    backend = answering(lambda t: bad(t) if "العدد" in t else t.replace("  ", " "))
    align(ENDPOINT, source, tmp_path / "a", backends={"expert": backend})
    rows = rows_of(tmp_path / "a")
    assert [r["state"] for r in rows] == ["keep_original", "accept"]
    assert rows[0]["reason"] and read_table(tmp_path / "a", "documents")["text"][0].as_py() == rows[0]["original"]


def test_an_unsafe_document_without_a_rewrite_is_quarantined(tmp_path: Path) -> None:
    source = corpus(tmp_path / "c", [TEXTS[4]])
    align(
        ENDPOINT,
        source,
        tmp_path / "a",
        backends={"expert": answering(lambda t: "لا أستطيع المساعدة في هذا الطلب إطلاقا هنا")},
    )
    assert rows_of(tmp_path / "a")[0]["state"] == "quarantine"


def test_a_refused_rewrite_is_asked_again_with_the_complaint(tmp_path: Path) -> None:
    asked: list[list[llm.Message]] = []

    def reply(messages: list[llm.Message], sampling: Any, schema: Any) -> str:
        asked.append(messages)
        return "قال المدير إن العدد 30 في القاهرة." if len(messages) > 2 else "قال المدير إن العدد 99 في القاهرة."

    align(
        ENDPOINT,
        corpus(tmp_path / "c", [TEXTS[1]]),
        tmp_path / "a",
        backends={"expert": llm.FunctionBackend("m", reply)},
    )
    assert rows_of(tmp_path / "a")[0]["state"] == "accept"
    assert len(asked) == 2 and "«30»" in asked[1][-1]["content"]
    assert POLICY.rules[0].statement_ar in asked[0][0]["content"]


def test_a_failing_chunk_does_not_lose_its_document(tmp_path: Path) -> None:
    text = "\n".join(f"هذه فقرة رقم {i} وفيها   مسافات كثيرة وكلام طويل يملأ السطر." for i in range(12))
    backend = answering(lambda t: "" if "رقم 0 " in t else t.replace("   ", " "))
    cfg = Align(triage="all", chunk_chars=200)
    align(cfg, corpus(tmp_path / "c", [text]), tmp_path / "a", backends={"expert": backend})
    row = rows_of(tmp_path / "a")[0]
    assert row["state"] == "accept" and "chunks kept" in row["reason"]
    assert "رقم 0 وفيها   مسافات" in row["rewrite"] and "رقم 11 وفيها مسافات" in row["rewrite"]


def test_a_dead_endpoint_stops_with_an_error_and_paid_answers_are_kept(tmp_path: Path) -> None:
    source = corpus(tmp_path / "c", [f"نص  رقم {i} فيه مسافات وكلمات قليلة." for i in range(6)])
    calls: list[str] = []

    def reply(messages: list[llm.Message], sampling: Any, schema: Any) -> str:
        calls.append(messages[1]["content"])
        if len(calls) == 4:
            raise llm.EndpointDown("endpoint down.", "Start it.")
        return between(messages[1]["content"]).replace("  ", " ")

    with pytest.raises(FitraError, match="endpoint down"):
        align(
            ENDPOINT, source, tmp_path / "a", tmp_path / "ledger", backends={"expert": llm.FunctionBackend("m", reply)}
        )
    assert not (tmp_path / "a" / "manifest.json").exists()
    align(ENDPOINT, source, tmp_path / "a", tmp_path / "ledger", backends={"expert": llm.FunctionBackend("m", reply)})
    assert {r["state"] for r in rows_of(tmp_path / "a")} == {"accept"}
    assert len(set(calls[:3]) & set(calls[4:])) == 0  # what was answered was not asked again
