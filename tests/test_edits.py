"""Edit programs: the executor is strict, the shortest program turns one text into the other."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fitra.align import edits
from fitra.llm import ParseError

TEXT = "قال المدير الغبي إن العمل جيد. ثم ذهب إلى السوق.\nاشترك الآن في قناتنا!\n\nسطر أخير ⟦1a2b3c4d:0⟧ هنا."


def test_what_the_model_sees() -> None:
    assert edits.numbered(TEXT) == (
        "1 قال المدير الغبي إن العمل جيد.\n2+ ثم ذهب إلى السوق.\n3 اشترك الآن في قناتنا!\n\n4 سطر أخير ⟦0⟧ هنا."
    )
    assert edits.numbered("") == ""


@pytest.mark.parametrize("text", ["", "\n\n", "  نص. آخر\n\n\n ثالث \t\n", TEXT, "a.\x0bb\r\nc", " .\n. . "])
def test_units_are_the_text(text: str) -> None:
    lead, found = edits.units(text)
    assert lead + "".join(u.text + u.after for u in found) == text
    assert all(u.text == u.text.strip() and u.text for u in found)


@pytest.mark.parametrize(
    ("program", "became"),
    [
        ("=", TEXT),
        ("1 الغبي →", TEXT.replace(" الغبي", "")),
        ("1 الغبي → الجديد", TEXT.replace("الغبي", "الجديد")),
        ("2 -\n3 -", TEXT.replace("ثم ذهب إلى السوق.\nاشترك الآن في قناتنا!\n\n", "").replace("جيد. ", "جيد.\n\n")),
        ("1 المدير … جيد. → شيئا", TEXT.replace("المدير الغبي إن العمل جيد.", "شيئا")),
        ("3 … → أهلا", TEXT.replace("اشترك الآن في قناتنا!", "أهلا")),
        ("3 الآن … → غدا", TEXT.replace("الآن في قناتنا!", "غدا")),
        ("3 … الآن → شارك", TEXT.replace("اشترك الآن", "شارك")),
        ("1 /\n3 _", TEXT.replace("جيد. ", "جيد.\n").replace("!\n\n", "! ")),
        ("4 سطر → شيء\n4 هنا. → هناك.", TEXT.replace("سطر", "شيء").replace("هنا", "هناك")),
    ],
)
def test_operations(program: str, became: str) -> None:
    assert edits.apply(program, TEXT) == became


@pytest.mark.parametrize(
    "program",
    [
        "", "\n", "نص مهذب", "= \n1 -", "1", "0 -", "5 -", "01 -", "١ -", "9999 -", "-1 -", "1 - -",
        "2 -\n1 -",  # out of order
        "1 -\n1 -", "1 -\n1 قال → كتب", "1 قال → كتب\n1 -", "1 /\n1 _",
        "1 غير موجود → شيء", "4 ر → ز",  # nowhere; more than once
        "1 ال → ل",
        "1 → شيء", "1 قال →→ كتب", "1 قال → كتب → أجاب", "1 قال - كتب",
        "1 قال … غائب → كتب", "1 … … →",
        "1 قال المدير →\n1 المدير الغبي → أحد",  # places overlap
        "3 … →",  # nothing left: that is a deletion
        "4 -", "4 … → شيء", "4 أخير … هنا. → شيء", "4 هنا. → هنا ⟦0⟧", "4 ⟦0⟧ →", "4 هنا → ⟦1a2b3c4d:0⟧",
        "1 جيد. → جيد 5", "1 جيد. → جيد ٥", "1 جيد. → good",  # digits and Latin that were not there
        "1 جيد. → واحد اثنان ثلاثة أربعة خمسة ستة سبعة ثمانية تسعة",
        "1 قال → واحد اثنان ثلاثة أربعة خمسة\n2 ثم → ستة سبعة ثمانية تسعة عشرة",  # too much altogether
        "4 _",  # nothing stands after the last
        "1 قال → كتب\nشرح: غيرت كلمة", "```\n1 -\n```",
    ],
)  # fmt: skip
def test_whatever_is_not_an_operation_is_refused(program: str) -> None:
    with pytest.raises(ParseError):
        edits.apply(program, TEXT)


def test_an_address_may_go_with_its_advertisement_where_that_is_allowed() -> None:
    assert edits.apply("4 -", TEXT, droppable=[0]) == TEXT[: TEXT.index("\n\nسطر")]
    with pytest.raises(ParseError):
        edits.apply("4 -", TEXT, droppable=[1])
    with pytest.raises(ParseError):
        edits.apply("4 أخير … هنا. →", TEXT, droppable=[0])


@pytest.mark.parametrize(
    ("before", "after", "most"),
    [
        ("قال المدير الغبي إن العمل جيد.", "قال المدير إن العمل جيد.", "1 الغبي →"),
        ("كتب: أهل الريف كلاب ولا خير فيهم.", "كتب: أهل الريف فيهم خير كثير.", "1 كلاب … → فيهم خير كثير."),
        ("اشترك الآن!\nنص أول. نص ثان.\nتابعونا على تويتر\n", "نص أول. نص ثان.\n", "1 -\n4 -"),
        ("نص.نص آخر", "نص. نص آخر", "1 نص.نص → نص. نص"),
        ("نص أول\n\n\n\n\nثان", "نص أول\n\nثان", "1 //"),
        ("نص أول هو كت-\nاب جيد", "نص أول هو كتاب جيد", "1 كت- → كتاب جيد\n2 -"),
        ("موقعGoogleمنذ5يوماً جيد", "موقع Google منذ 5 يوماً جيد", "1 موقعGoogleمنذ5يوماً → موقع Google منذ 5 يوماً"),
        ("هو هو هو غبي هو", "هو هو هو هو", "1 غبي →"),
        ("حثالة كلها.\n", "", "1 -"),
    ],
)  # fmt: skip
def test_programs_are_short(before: str, after: str, most: str) -> None:
    made = edits.program(before, after)
    assert edits.apply(made, before) == after and len(made) <= len(most)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("نص أول. نص ثان.", "نص ثان. نص أول."),  # moved
        ("نص أول.", "نص أول. واحد اثنان ثلاثة أربعة خمسة ستة سبعة ثمانية تسعة."),  # written anew
        ("نص أول.", "نص أول 5."),
        ("نص أول.", " نص أول."),
        ("نص ⟦1a2b3c4d:0⟧ أول.", "نص أول."),
        ("نص أول. ثان", "نص أول.\t\tثان"),
    ],
)
def test_what_needs_free_rewriting_is_refused(before: str, after: str) -> None:
    with pytest.raises(ValueError):
        edits.program(before, after)


WORDS = st.sampled_from(
    ["قال", "المدير", "غبي", "كلب،", "→", "…", "-", "=", "2", "ok", "⟦1a2b3c4d:0⟧", "«", "نعم.", "لا!", "ثم", "a.b"]
)
SPACE = st.sampled_from([" ", " ", " ", "\n", "\n\n", "  ", "\n\n\n"])
DOCS = st.lists(st.tuples(WORDS, SPACE), max_size=25).map(lambda x: "".join(w + s for w, s in x))


@settings(max_examples=300, deadline=None)
@given(DOCS, st.data())
def test_a_program_gives_the_other_text_or_is_refused(before: str, data: st.DataObject) -> None:
    pieces = re.findall(r"\S+\s*|\s+", before)
    keep = data.draw(st.lists(st.sampled_from(["keep"] * 6 + ["drop", "word", "space"]), min_size=len(pieces)))
    new = data.draw(st.lists(st.tuples(WORDS, SPACE), min_size=len(pieces), max_size=len(pieces)))
    after = ""
    for piece, how, (word, space) in zip(pieces, keep, new, strict=False):
        after += {"keep": piece, "drop": "", "word": word + " ", "space": piece.strip() + space}[how]
    try:
        made = edits.program(before, after)
    except ValueError:
        assume(False)
    assert edits.apply(made, before) == after
    assert before.count("⟦") == after.count("⟦")


@settings(max_examples=300, deadline=None)
@given(DOCS, st.lists(st.tuples(st.integers(0, 9), WORDS, WORDS, st.sampled_from(["-", "→", "… →", "_", "//", "~"]))))
def test_no_program_touches_a_protected_span_or_brings_a_number(before: str, parts: list[tuple[int, ...]]) -> None:
    lines = [f"{n} {a} {op} {b}" if "→" in op else f"{n} {op}" for n, a, b, op in sorted(parts, key=lambda p: p[0])]
    try:
        after = edits.apply("\n".join(lines), before)
    except ParseError:
        return
    assert after.count("⟦1a2b3c4d:0⟧") == before.count("⟦1a2b3c4d:0⟧")
    assert after.count("2") <= before.count("2") and after.count("ok") <= before.count("ok")
