"""Reading written answers: cases by hand, folding that never changes the class, and real generations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitra import arabic
from fitra.errors import FitraError
from fitra.evaluate.extract import HOW, acegpt_string, plain, read

CITIES = ("القاهرة", "الرياض", "بغداد", "دمشق")
VITAMINS = ("فيتامين د", "فيتامين أ", "فيتامين ب", "لا شيء مما سبق")
NUMBERS = ("2", "4", "6", "8")
NESTED = ("الدولة العباسية", "الدولة", "الدولة الأموية", "الخلافة")

LETTERS: list[tuple[str, int | None, tuple[str, ...]]] = [
    # the letter alone, in every dress
    ("أ", 0, CITIES),
    ("ا", 0, CITIES),
    ("إ", 0, CITIES),
    ("ب", 1, CITIES),
    ("جـ", 2, CITIES),
    ("د.", 3, CITIES),
    ("هـ", 4, ()),
    ("ه", 4, ()),
    ("و", 4, ()),
    ("و", 5, tuple("123456")),
    ("بَ", 1, CITIES),
    ("  ( ج )  ", 2, CITIES),
    ("[د]", 3, CITIES),
    ("**ب**", 1, CITIES),
    ("__أ__", 0, CITIES),
    ("`C`", 2, CITIES),
    ("D", 3, CITIES),
    ("d", 3, CITIES),
    ("(b)", 1, CITIES),
    ("Ｂ", 1, CITIES),
    ("E", 4, ()),
    ("1", 0, CITIES),
    ("٣", 2, CITIES),
    ("٤)", 3, CITIES),
    ("\u200fب\u200f", 1, CITIES),
    ("ﺏ", 1, CITIES),
    ("\\boxed{C}", 2, CITIES),
    ("باء", 1, CITIES),
    # in front of its option
    ("ب) الرياض", 1, CITIES),
    ("ج. بغداد", 2, CITIES),
    ("A- القاهرة", 0, CITIES),
    ("C بغداد", 2, CITIES),
    ("د دمشق", 3, CITIES),
    ("2. الرياض", 1, CITIES),
    ("B\n\nسؤال: ما عاصمة مصر؟\nA. القاهرة", 1, CITIES),
    ("D سؤال: أي مما يلي A", 3, CITIES),
    # after a cue
    ("الإجابة الصحيحة هي أ", 0, CITIES),
    ("الإجابةُ الصحيحةُ هِيَ: (ب)", 1, CITIES),
    ("الإجـــابة: ج", 2, CITIES),
    ("الاجابه هي د", 3, CITIES),
    ("الجواب الصحيح هو الخيار ب.", 1, CITIES),
    ("إجابة: C", 2, CITIES),
    ("الجواب: (٢)", 1, CITIES),
    ("**الإجابة الصحيحة:** ب) الرياض", 1, CITIES),
    ("الخيار الثالث", 2, CITIES),
    ("أختار الخيار الأول لأنه الأدق", 0, CITIES),
    ("ج: ب", 1, CITIES),
    ("The correct answer is (C).", 2, CITIES),
    ("Answer: b", 1, CITIES),
    ("A good question. The answer is D.", 3, CITIES),
    ("لننظر في الخيارات. أ خاطئة و ب خاطئة. الإجابة النهائية: ج", 2, CITIES),
    ("الإجابة أ. بعد المراجعة، الإجابة النهائية هي د", 3, CITIES),
    ("الجواب باء", 1, CITIES),
    ("الإجابة هي ب وليس أ", 1, CITIES),
    ("ليست أ بل ب", 1, CITIES),
    ("أظن أنها ب", 1, CITIES),
    ("ب هي الإجابة الصحيحة", 1, CITIES),
    ("أجيب بـ (ج)", 2, CITIES),
    # in the option's words
    ("بغداد", 2, CITIES),
    ("عاصمة العراق هي بَغْداد.", 2, CITIES),
    ("القاهره", 0, CITIES),
    ("فيتامين أ", 1, VITAMINS),
    ("أظن أنه فيتامين د", 0, VITAMINS),
    ("لا شيء مما سبق", 3, VITAMINS),
    ("4", 1, NUMBERS),
    ("الجواب ٨", 3, NUMBERS),
    ("ج", 2, NUMBERS),
    ("هي الدولة العباسية", 0, NESTED),
    # unparsed
    ("", None, CITIES),
    ("   \n ", None, CITIES),
    ("أ أو ب", None, CITIES),
    ("أ و ب", None, CITIES),
    ("أ وب", None, CITIES),
    ("الإجابة هي أ أو ج", None, CITIES),
    ("A, B", None, CITIES),
    ("A و B", None, CITIES),
    ("(أ) و(ب) معا", None, CITIES),
    ("الإجابة ليست أ", None, CITIES),
    ("E", None, CITIES),
    ("هـ", None, CITIES),
    ("٩", None, CITIES),
    ("لا أعرف", None, CITIES),
    ("A good answer needs thought", None, CITIES),
    ("أ) الرياض", None, CITIES),
    ("الرياض أو بغداد", None, CITIES),
    ("سنة 1400 هـ", None, ()),
    ("قال د. محمد ذلك", None, CITIES),
    ("3.5", None, CITIES),
    ("50%", None, CITIES),
    ("من من من", None, CITIES),
    ("تمن يمن إ", None, CITIES),
    ("السلام عليكم", None, CITIES),
    ("الجواب أ. لا، الجواب ب.", None, CITIES),
    ("نحسب f(b) ثم نجمع", None, CITIES),
    ("المسافة (2) ثم غيرها", None, CITIES),
    ("1. زر الموقع.\n2. املأ الطلب.\n3. انتظر", None, CITIES),
    ("أ) القاهرة\nب) الرياض\nج) بغداد", None, CITIES),
    ("أ) القاهرة\nب) الرياض\nالإجابة: ب", 1, CITIES),
]

YES, NO = 0, 1
VERDICTS: list[tuple[str, int | None]] = [
    ("نعم", YES),
    ("نَعَمْ.", YES),
    ("نعـــم", YES),
    ("**نعم**", YES),
    ("'نعم'", YES),
    ("نعم، هذه الجملة صحيحة.", YES),
    ("صح", YES),
    ("صحيح", YES),
    ("صحيحة", YES),
    ("صحيحه", YES),
    ("صَحِيحٌ", YES),
    ("الجملة صحيحة", YES),
    ("العبارة صحيحةٌ تمامًا", YES),
    ("الإجابة الصحيحة هي: نعم", YES),
    ("الجواب: صح", YES),
    ("إجابة: نعم\n\nسؤال: هل لا", YES),
    ("yes", YES),
    ("Yes, that is true.", YES),
    ("TRUE", YES),
    ("✅", YES),
    ("ليست خاطئة", YES),
    ("الجملة ليست غير صحيحة", YES),
    ("لا شك أن العبارة صحيحة", YES),
    ("لا يوجد خطأ في الجملة", YES),
    ("not false", YES),
    ("لا", NO),
    ("لَا", NO),
    ("لا.", NO),
    ("«لا»", NO),
    ("لا، الجملة غير صحيحة", NO),
    ("لا هذه العبارة خاطئة", NO),
    ("خطأ", NO),
    ("خطا", NO),
    ("خَطَأٌ", NO),
    ("خاطئة", NO),
    ("خاطىء", NO),
    ("الجملة خاطئة لأن مكة ليست عاصمة", NO),
    ("غير صحيح", NO),
    ("غير صحيحة", NO),
    ("ليست صحيحة", NO),
    ("ليس صحيحًا", NO),
    ("العبارة ليست صحيحة", NO),
    ("ليس من الصحيح أن الكعبة في المدينة", NO),
    ("لا أعتقد أن العبارة صحيحة", NO),
    ("مش صحيح", NO),
    ("الإجابة هي: لا", NO),
    ("جوابي على ذلك هو لا", NO),
    ("هل الجملة صحيحة؟ لا", NO),
    ("No.", NO),
    ("False", NO),
    ("This is not correct.", NO),
    ("The correct answer is no.", NO),
    ("isn't true", NO),
    ("❌", NO),
    ("", None),
    ("السلام عليكم", None),
    ("الإسلام دين عظيم", None),
    ("النعم كثيرة", None),
    ("نعم الله لا تحصى", None),
    ("صحيح البخاري", None),
    ("خطأ أم صح", None),
    ("نعم أو لا", None),
    ("نعم، هذه الجملة غير صحيحة", None),
    ("لا، الجملة صحيحة", None),
    ("لا أعلم", None),
    ("لا أستطيع الجزم بأن الجملة صحيحة", None),
    ("هل الجملة صحيحة؟", None),
    ("إذا كانت صحيحة، فالرجاء الرد بـ 'نعم'", None),
    ("لا خطأ", None),
    ("there is no time", None),
    ("كلا الفريقين", None),
    ("الكبسة طبق سعودي", None),
    ("يرجى تقديم معلومات صحيحة ومحدثة", None),
    ("هذه عادة قديمة في مصر. يعرفها الناس. تنتشر في الريف. والتشخيص الخاطئ شائع، وهذا غير صحيح", None),
    ("هذه عادة قديمة في مصر. يعرفها الناس. تنتشر في الريف. إذن الإجابة هي نعم", YES),
    ("Here is how to check a correct address", None),
    ("أعتقد أنها صحيحة", YES),
    ("The sun being cold is not correct", NO),
    ("تعتبر صحيحة", YES),
    ("بالتأكيد صحيح", YES),
    ("هناك خطأ في الجملة", NO),
]


@pytest.mark.parametrize(("text", "want", "options"), LETTERS)
def test_letters(text: str, want: int | None, options: tuple[str, ...]) -> None:
    assert read(text, "letter", options) == want


@pytest.mark.parametrize(("text", "want"), VERDICTS)
def test_verdicts(text: str, want: int | None) -> None:
    assert read(text, "yes_no") == want


def test_the_options_say_which_place_is_yes() -> None:
    assert [read("صحيحة", "yes_no", o) for o in ((" نعم", " لا"), ("خطأ", "صح"), ("no", "yes"))] == [0, 1, 1]
    assert read("غير صحيحة", "yes_no", ("خطأ", "صح")) == 0


def test_letters_as_options_are_no_texts_to_look_for() -> None:
    letters = (" أ", " ب", " ج", " د")
    assert [read(x, "letter", letters) for x in ("ب", "الجواب ج", "كتب الطالب د", "أ أو ب")] == [1, 2, None, None]


def test_an_unknown_reading_is_named() -> None:
    with pytest.raises(FitraError, match="no reading 'guess'"):
        read("أ", "guess")
    assert set(HOW) == {"letter", "yes_no", "acegpt_letters", "acegpt_yes_no"}


@pytest.mark.parametrize(
    ("text", "string", "index"),
    [
        ("C\n\nسؤال: A", "C", 2),
        ("A و B\n", "AB", None),
        ("BAD CAB", "ABCD", None),
        ("\nC", "", None),
        ("أ", "", None),
        ("b", "", None),
        ("DNA", "AD", None),
        ("الجواب Book", "B", 1),
        ("C C C", "C", 2),
    ],
)
def test_acegpt_letters_as_they_were_read(text: str, string: str, index: int | None) -> None:
    assert (acegpt_string(text), read(text, "acegpt_letters")) == (string, index)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("نعم", 0),
        ("السلام عليكم", 1),  # لا inside a word
        ("الإسلام: نعم", 1),
        ("النعم كثيرة", 0),
        ("نعم أو لا", 0),
        ("\nنعم", None),
        ("نَعم", None),
        ("صحيحة", None),
        ("غير صحيحة", None),
    ],
)
def test_acegpt_yes_no_as_it_was_read(text: str, want: int | None) -> None:
    assert read(text, "acegpt_yes_no") == want


MARKS = st.text(
    alphabet="\u064b\u064c\u064d\u064e\u064f\u0650\u0651\u0652\u0670\u0640\u200f\u200e\u200d\u2066", max_size=2
)
KNOWN = st.sampled_from([c[0] for c in LETTERS] + [v[0] for v in VERDICTS])
ANYTHING = st.text(alphabet="أإابجدهـوةىي لاصحخطأنعم()[].,،:؛*\n؟ABCDEabcde12٣٤ليسغير", max_size=40)


@settings(max_examples=300, deadline=None)
@given(
    text=KNOWN | ANYTHING | st.text(max_size=60),
    how=st.sampled_from(["letter", "yes_no"]),
    options=st.sampled_from([CITIES, ()]),
)
def test_folding_never_changes_the_class(text: str, how: str, options: tuple[str, ...]) -> None:
    got = read(text, how, options)
    assert read(arabic.fold(text, level="display"), how, options) == got
    assert read("\n".join(arabic.fold(x) for x in arabic.fold(text, level="display").split("\n")), how, options) == got
    assert plain(plain(text)) == plain(text)
    assert got is None or 0 <= got < (len(options) or 5)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), how=st.sampled_from(["letter", "yes_no"]))
def test_marks_anywhere_never_change_the_class(data: st.DataObject, how: str) -> None:
    text = data.draw(KNOWN)
    marked = "".join(ch + (data.draw(MARKS) if arabic.is_arabic(ch) else "") for ch in text)
    assert read(marked, how, CITIES) == read(text, how, CITIES)


def test_real_generations_read_as_their_program_read_them(data: Path) -> None:
    """Llama-2's published accuracies come out of the historical reading in all 55 subjects at hand."""
    import json

    rows = pq.read_table(data / "reference/acegpt_mmlu_outputs.parquet").to_pylist()
    assert len(rows) == 23_226
    strings = {
        m: Counter(acegpt_string(r["output"]) for r in rows if r["model"] == m) for m in {r["model"] for r in rows}
    }
    ace = strings["AceGPT_7B_base"]
    assert (sum(ace.values()), ace["AB"], ace[""]) == (11_613, 1, 91)
    right: Counter[str] = Counter()
    n: Counter[str] = Counter()
    for r in rows:
        if r["model"] == "llama-2-7b-hf":
            n[r["subject"]] += 1
            right[r["subject"]] += read(r["output"], "acegpt_letters") == "ABCD".index(r["gold"])
    published = json.loads((data / "reference/acegpt_mmlu_metrics.json").read_text(encoding="utf-8"))["llama-2-7b-hf"]
    flat = {s: v["Accuracy"] for domain in published.values() for part in domain.values() for s, v in part.items()}
    assert len(n) == 55
    assert all(right[s] / n[s] == pytest.approx(flat[s]) for s in n)


def test_arabic_aware_reading_finds_what_the_historical_one_loses(data: Path) -> None:
    rows = pq.read_table(data / "reference/acegpt_mmlu_outputs.parquet").to_pylist()
    unlike = [r["output"] for r in rows if read(r["output"], "letter", "ABCD") != read(r["output"], "acegpt_letters")]
    assert sorted(x.split("\n")[0] for x in unlike) == ["أ", "أ", "ب"]


def test_open_answers_are_mostly_left_unread(data: Path) -> None:
    """Long chat answers to open questions: a letter or a verdict found there is nearly always a mistake."""
    texts = pq.read_table(data / "eval/vicuna80_ar_answers.parquet")["response"].to_pylist()
    read_by = {
        how: sum(read(t or "", how, CITIES if how == "letter" else ()) is not None for t in texts) for how in HOW
    }
    assert len(texts) == 560
    assert read_by["letter"] <= 12 and read_by["yes_no"] <= 12
    assert read_by["acegpt_letters"] > 3 * read_by["letter"] and read_by["acegpt_yes_no"] > 200
