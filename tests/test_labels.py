"""Labels of language, variety and region, register: what they answer, and that a batch changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitra import arabic
from fitra.signals import dialect, language, letters, register
from fitra.signals.view import view

TEXTS = Path(__file__).parent.parent / "benchmarks" / "texts"
DATA = os.environ.get("FITRA_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="set FITRA_DATA to the folder of the data")

LANGUAGES = {
    "ar": "ذهب الأولاد إلى المدرسة في الصباح الباكر، وكان المعلم ينتظرهم عند الباب ليبدأ معهم درس الحساب.",
    "fa": "کودکان صبح زود به مدرسه رفتند و معلم در کنار در منتظر آنها بود تا درس حساب را شروع کند.",
    "ur": "بچے صبح سویرے اسکول گئے اور استاد دروازے پر ان کا انتظار کر رہے تھے تاکہ سبق شروع کیا جا سکے۔",
    "ckb": "منداڵان بەیانی زوو چوون بۆ قوتابخانە و مامۆستا لەبەر دەرگا چاوەڕێیان بوو بۆ ئەوەی وانەکە دەست پێ بکات.",
    "ps": "ماشومان سهار وختي ښوونځي ته ولاړل او ښوونکی د دروازې په خوا کې ورته ولاړ و چې د حساب درس پیل کړي.",
    "en": "The children went to school early in the morning and the teacher was waiting for them at the door.",
    "arabizi": "el welad ra7o el madrasa badri w el modarres kan mestanni 3and el bab 3ashan yebda2 el 7essa",
    "other": "Les enfants sont allés à l'école tôt le matin et le maître les attendait devant la porte.",
}


@pytest.mark.parametrize(("code", "text"), LANGUAGES.items())
def test_languages(code: str, text: str) -> None:
    assert language.detect_view(view([text]))[0] == [code]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Он пошёл в школу рано утром", "other"),
        ("孩子们一大早就去上学了", "other"),
        ("", "other"),
        ("123 !! 😀", "other"),
        ("بالەتۇرغان ئۇيغۇرلارنىڭ تىلى ۋە يېزىقى بار", "other"),  # Uyghur
        ("پیغمبر اکرم در شهر مکه به دنیا آمد و در مدینه درگذشت", "fa"),
        ("ذَهَبَ الوَلَدُ إلى المَدرَسَةِ في الصَّباحِ", "ar"),
        ("المدرسه دى فى القاهره واتبنت فى القرن اللى فات", "ar"),  # ya as alef maqsura
        ("ذهبت إلی المدرسة فی الصباح و کان المعلم ینتظر علی الباب", "ar"),  # typed on a Persian keyboard
        ("مرحبا بالعالم https://example.org/a/very/long/english/address", "ar"),
        ("The covid19 vaccine was given to 3rd year students on the 2nd floor of the hospital", "en"),
    ],
)
def test_language_by_letters_and_words(text: str, code: str) -> None:
    assert language.detect_view(view([text]))[0] == [code]


def test_rooms_that_ask_for_dialects_get_them() -> None:
    got = language.detect_all(
        ["ازيك عامل ايه النهارده، انا مش فاضي دلوقتي", "شو بدك هلق، هيدا مو منيح كتير", LANGUAGES["ar"]]
    )
    assert [g[0] for g in got] == ["arz", "apc", "ar"]
    assert all(0 <= g[1] <= 1 for g in got)


def test_unseen_arabizi() -> None:
    lines = (TEXTS / "arabizi.txt").read_text("utf-8").split("\n")[:-1]
    got = language.detect_view(view(lines))[0]
    assert got.count("arabizi") / len(lines) >= 0.9


@pytest.mark.parametrize(
    ("text", "variety", "region"),
    [
        ("ازيك عامل ايه النهارده، انا مش فاضي دلوقتي خالص", "dialect", "egypt"),
        ("شو بدك هلق، هيدا الحكي مو منيح وأنا كتير زعلان", "dialect", "levant"),
        ("وش تبي الحين، ابغى اروح السوق بس مب فاضي", "dialect", "gulf"),
        ("واش بغيتي دابا، راه ما كاين والو فالدار ديالي بزاف", "dialect", "maghreb"),
        ("شكو ماكو، هسه اريد اروح وياك بس ماكو سيارة هواي", "dialect", "iraq"),
        ("يا زول داير شنو، نحنا قاعدين هسع في البيت", "dialect", "sudan"),
        ("اشتي اسير السوق ذلحين ومابش معي سيارة", "dialect", "yemen"),
        ("أعلنت الحكومة أمس خطة جديدة لتطوير التعليم في المناطق البعيدة خلال العام المقبل.", "msa", None),
        (
            "حدثنا أبو بكر قال أخبرنا عبد الله رضي الله عنه أنه سمع شيخنا رحمه الله يقول: فلما دخل عليه قيل له"
            " اتقوا الله فقال إنما الأعمال بالنيات وقيل غير ذلك",
            "classical",
            None,
        ),
        ("بِسْمِ اللَّهِ الرَّحْمَنِ الرَّحِيمِ الْحَمْدُ لِلَّهِ رَبِّ الْعَالَمِينَ", "classical", None),
    ],
)
def test_varieties_and_regions(text: str, variety: str, region: str | None) -> None:
    varieties, regions, sure = dialect.label(view([text]))
    assert (varieties[0], regions[0]) == (variety, region)
    assert 0 < sure[0] <= 1


def test_a_quoted_word_of_dialect_leaves_a_long_text_standard() -> None:
    standard = "افتتح الوزير المدرسة الجديدة أمس وقال إن الحكومة تعمل على بناء مدارس أخرى في المنطقة خلال هذا العام. "
    long = standard * 12 + "وهتف الأطفال: احنا عايزين نتعلم! " + standard * 12
    assert dialect.label(view([long]))[0] == ["msa"]


def registers() -> list[tuple[str, str]]:
    blocks = (TEXTS / "registers.txt").read_text("utf-8").split("%% ")[1:]
    return [(b.partition("\n")[0], b.partition("\n")[2].strip()) for b in blocks]


def test_registers() -> None:
    want, texts = zip(*registers(), strict=True)
    got, sure = register.label(view(list(texts)))
    assert sum(w == g for w, g in zip(want, got, strict=True)) >= len(want) - 3
    assert ((sure > 0) == np.array([g != "other" for g in got])).all()


def test_verse_by_its_shape_alone() -> None:
    rhymed = "كلام موزون قصير ساري\nحديث عن مدى الأسفار جاري\nيمر على بيوت القوم نهاري\nويمضي في طريق النهر داري"
    assert register.label(view([rhymed]))[0] == ["poetry"]
    halves = "\n".join(f"{a} *** {b}" for a, b in zip(rhymed.split("\n")[::2], rhymed.split("\n")[1::2], strict=True))
    assert register.label(view([halves]))[0] == ["poetry"]


texts_of_all_sorts = st.lists(
    st.text(st.sampled_from("ابتكيىةگچےەښ ًaé3#@*.:\n؟😀Ж字…|"), max_size=60) | st.text(max_size=30),
    min_size=0,
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(texts_of_all_sorts)
def test_labels_of_a_text_do_not_depend_on_its_neighbours(texts: list[str]) -> None:
    texts = [t.encode("utf-8", "replace").decode() for t in texts]
    batch = view(texts)
    together = [language.detect_view(batch)[0], *dialect.label(batch)[:2], register.label(batch)[0]]
    alone = [view([t]) for t in texts]
    assert together[0] == [language.detect_view(v)[0][0] for v in alone]
    assert together[1] == [dialect.label(v)[0][0] for v in alone]
    assert together[2] == [dialect.label(v)[1][0] for v in alone]
    assert together[3] == [register.label(v)[0][0] for v in alone]
    for scores in (language.detect_view(batch)[1], dialect.label(batch)[2], register.label(batch)[1]):
        assert len(scores) == len(texts) and np.all((scores >= 0) & (scores <= 1))


@settings(max_examples=40, deadline=None)
@given(texts_of_all_sorts)
def test_letters_count_every_code_point_once(texts: list[str]) -> None:
    found = letters.letters(view([t.encode("utf-8", "replace").decode() for t in texts]))
    assert found.counts.sum(axis=1).tolist() == np.diff(found.bounds).tolist()


def test_lists_hold_no_common_word_of_standard_arabic_for_one_region_only() -> None:
    assert set(register.REGISTERS) and set(dialect.REGIONS) < set(dialect.lists())
    for word in ("من", "في", "على", "الذي", "ليس", "سوف"):
        at = dialect.load_words().words.to_pylist()
        folded = arabic.fold(word, "search")
        assert folded not in at or dialect.load_words().dialect[at.index(folded)] < 0.7


@needs_data
def test_on_real_text() -> None:
    raw = Path(DATA or "") / "raw"

    def some(name: str, n: int = 200) -> list[str]:
        return [t for t in pq.read_table(raw / f"{name}.parquet")["text"].to_pylist()[: 3 * n] if len(t) > 300][:n]

    books, news, wiki = view(some("ar_classical_books")), view(some("ar_news")), view(some("ar_wiki"))
    assert dialect.label(books)[0].count("classical") / len(books) > 0.9
    assert dialect.label(news)[0].count("msa") / len(news) > 0.9
    assert register.label(news)[0].count("news") / len(news) > 0.6
    assert register.label(wiki)[0].count("encyclopedia") / len(wiki) > 0.6
    for batch in (books, news, wiki):
        assert language.detect_view(batch)[0].count("ar") / len(batch) > 0.98
