"""Arabic folding: equal texts fold to equal strings, folding twice changes nothing, both twins agree."""

from __future__ import annotations

import itertools
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitra import arabic

LEVELS = ("display", "compare", "search")
ARABIC = st.text(
    st.one_of(
        st.characters(min_codepoint=0x600, max_codepoint=0x6FF),
        st.characters(min_codepoint=0xFB50, max_codepoint=0xFEFF),
        st.sampled_from(" \n\r\t\u200f\u200c\u0301\u00a0…é﷽e\u2028\ufe0f😀1.A\u1100\u1161\u11a8ﷺ½\x00"),
        st.characters(codec="utf-8"),
    ),
    max_size=30,
)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("كتــاب", "كتاب"),
        ("كِتَابٌ", "كتاب"),
        ("أحمد إلى آخر ٱلله", "احمد الى اخر الله"),
        ("مدرسة على", "مدرسه علي"),
        ("مسؤول شيء مائة", "مسوول شيء مايه"),
        ("١٢٣ ۴۵۶", "123 456"),
        ("کتاب یک", "كتاب يك"),
        ("ﻛﺘﺎﺏ ﻻ ﷲ", "كتاب لا الله"),
        ("\u200fمرحبا\u200e\u202b", "مرحبا"),
        ("مرحبا،  يا\u00a0عالم؟\n", "مرحبا, يا عالم?"),
        ("صلى الله عليه وسلم", "ﷺ"),
        ("قال: «نعم»", 'قال: "نعم"'),
        ("كتابﹱ", "كتاب"),
    ],
)
def test_variants_compare_equal(a: str, b: str) -> None:
    assert arabic.fold(a) == arabic.fold(b)


@pytest.mark.parametrize(("a", "b"), [("كتاب", "كتب"), ("علم", "عالم"), ("12", "21"), ("قلب", "كلب")])
def test_other_words_stay_apart(a: str, b: str) -> None:
    assert arabic.fold(a) != arabic.fold(b)


def test_display_keeps_what_readers_see() -> None:
    assert arabic.fold("كِتَـابٌ  أ\u200f\r\n\r\n\r\n\r\nسطر \n آخر", "display") == "كِتَـابٌ أ\n\nسطر\nآخر"


def test_search_drops_punctuation_and_case() -> None:
    assert arabic.fold("«مرحبا»، World! (٣)", "search") == "مرحبا world 3"


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=300, deadline=None)
@given(text=ARABIC)
def test_folding_twice_changes_nothing(level: arabic.Level, text: str) -> None:
    once = arabic.fold(text, level)
    assert arabic.fold(once, level) == once
    assert unicodedata.is_normalized("NFC", once)


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=200, deadline=None)
@given(texts=st.lists(st.one_of(st.none(), ARABIC), max_size=6))
def test_the_vectorised_twin_agrees(level: arabic.Level, texts: list[str | None]) -> None:
    for kind in (pa.string(), pa.large_string()):
        got = arabic.fold_array(pa.array(texts, kind), level)
        assert got.type == kind
        assert got.to_pylist() == [None if t is None else arabic.fold(t, level) for t in texts]


def test_canonically_equal_texts_fold_equal() -> None:
    for code in [*range(0xC0, 0x250), *range(0x600, 0x700), *range(0x1E00, 0x1F00)]:
        ch = chr(code)
        assert arabic.fold(f"x{ch}\u0301") == arabic.fold(unicodedata.normalize("NFD", f"x{ch}\u0301"))


def test_slices_chunks_and_large_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fitra.arabic.array.CHUNK_BYTES", 40)
    texts = ["أهلًا وسهلًا " * n + "é😀" for n in range(12)] + [None, "", "…"]
    array = pa.chunked_array([pa.array(texts).slice(3), pa.array(texts)])
    assert arabic.fold_array(array).to_pylist() == [t and arabic.fold(t) for t in texts[3:] + texts]


@pytest.mark.parametrize("level", LEVELS)
def test_every_character_of_the_basic_plane(level: arabic.Level) -> None:
    """Each among Arabic words; the whole needs many more codes than a page has."""
    texts = [
        "".join(f"كِتّاب {chr(c)}{chr(c + 1)} ، " for c in range(start, start + 128, 2) if not 0xD800 <= c < 0xE000)
        for start in [*range(0, 0x10000, 128), *range(0x1F300, 0x1FB00, 128), 0x1F100, 0xE0100]
    ]
    assert arabic.fold_array(pa.array(texts), level).to_pylist() == [arabic.fold(t, level) for t in texts]


@pytest.mark.parametrize("level", LEVELS)
def test_runs_of_spaces_breaks_and_vanishing_marks(level: arabic.Level) -> None:
    pieces = ["  ", "\n", "\r\n", "\u064b", "، ", "«", "”", ".", "ﷺ", "\u200f", "\u00a0", "\u2028", "ب", ""]
    texts = ["".join(p) for p in itertools.product(pieces, repeat=3)] + [" \n" * 40 + "ب" + " " * 40 + "." * 9]
    assert arabic.fold_array(pa.array(texts), level).to_pylist() == [arabic.fold(t, level) for t in texts]


BROKEN = (
    *(b"a\xff", b"\xd8", b"\xd8 a", b"\x80", b"\xe2\x80", b"\xe2\x80a", b"\xed\xa0\x80", b"\xc0\x80"),
    *(b"\xe0\x80\x80", b"\xd8\xa8\x80", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\xf0\x80\x80\x80"),
    *(b"\xf8\x88\x80\x80\x80", b"\xe2\xff\x80", b"\xff"),
)


@pytest.mark.parametrize("raw", BROKEN)
def test_bytes_that_are_no_text_raise(raw: bytes) -> None:
    """Arrow does not check what it reads from a file."""
    good = "ب".encode()
    for rows in ([raw], [good, raw], [raw + good, good]):
        array = pa.array(rows, pa.binary())
        broken = pa.StringArray.from_buffers(len(rows), array.buffers()[1], array.buffers()[2])
        with pytest.raises(UnicodeDecodeError):
            arabic.fold_array(broken)


def test_words_keep_their_marks() -> None:
    assert arabic.words("قَالَ: don't، ٣ كتـب!") == ["قَالَ", "don't", "٣", "كتـب"]


def test_digits_and_letters() -> None:
    assert arabic.digits_to_ascii("هاتف ٠٥٠ و۱۲") == "هاتف 050 و12"
    assert arabic.is_arabic("ك") and arabic.is_arabic("ً") and not arabic.is_arabic("؟") and not arabic.is_arabic("٣")
