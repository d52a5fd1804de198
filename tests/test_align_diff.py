"""The word diff of a rewrite, and text made fit for a terminal."""

import itertools
import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fitra.align.diff import diff, terminal_safe

WORDS = st.lists(
    st.sampled_from(["في", "قال", "المدير", "الغبي", "،", ".", " ", "  ", "\n", "\t", "123", "\u202e", "a"])
)


def joined(pieces, *kinds):
    return "".join(text for kind, text in pieces if kind in kinds)


def check(before, after):
    pieces = diff(before, after)
    assert joined(pieces, "same", "gone") == before
    assert joined(pieces, "same", "new") == after
    assert all(text for _, text in pieces)
    assert all(x[0] != y[0] for x, y in itertools.pairwise(pieces))
    assert all((x[0], y[0]) != ("new", "gone") for x, y in itertools.pairwise(pieces))
    return pieces


@settings(max_examples=300, deadline=None)
@given(WORDS.map("".join), WORDS.map("".join))
@example("", "")
@example(" ", "")
@example(" x ", " ")
@example("a  b", "a b")
def test_pieces_give_both_sides_back(before, after):
    check(before, after)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text(before, after):
    check(before, after)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_long_texts_with_moved_and_repeated_words(seed, kinds):
    rng = random.Random(seed)
    before = [f"w{rng.randrange(kinds * 5)}" for _ in range(400)]
    after = [w for w in before if rng.random() > 0.2]
    at = rng.randrange(300)
    after = after[at:] + after[:at] + ["x"] * rng.randrange(50)
    check(" ".join(before), " ".join(after))


def test_one_word_taken_out():
    assert check("قال المدير الغبي إن العمل تم.", "قال المدير إن العمل تم.") == [
        ("same", "قال المدير "),
        ("gone", "الغبي "),
        ("same", "إن العمل تم."),
    ]


def test_a_comma_put_right_changes_no_word():
    assert check("وصل الوزير , ثم غادر", "وصل الوزير، ثم غادر") == [
        ("same", "وصل الوزير"),
        ("gone", " ,"),
        ("new", "،"),
        ("same", " ثم غادر"),
    ]


def test_a_passage_written_anew_is_one_piece():
    got = check("كان الرجل يمشي في طريق طويل جدا اليوم", "ذهبت سيدة تعمل في مكتب صغير قرب اليوم")
    assert [kind for kind, _ in got] == ["gone", "new", "same"]


def test_white_space_alone():
    assert check("سطر\n\n\nسطر", "سطر\nسطر") == [("same", "سطر\n"), ("gone", "\n\n"), ("same", "سطر")]


def test_long_documents():
    """100 kB and more, easy and made to be hard: comparing every word with every other would take minutes."""
    words = [f"كلمة{i % 3000}" for i in range(12_000)]
    same = " ".join(words)
    fewer = " ".join(w for i, w in enumerate(words) if i % 500)
    assert len(joined(check(same, fewer), "gone").split()) == 24
    assert joined(check(same, fewer), "new") == ""
    for text in (same[::-1], "في " * 20_000, "من في " * 10_000, "في من " * 10_001, ""):
        check(same, text)
    check("أ ب " * 20_000, "ب أ ج " * 15_000)


def test_terminal_safe():
    hostile = "\x1b[31mأحمر\x1b[0m \x9b2J \u202eعكس\u202c \u2067\u200f\r\x07\ud800\U000e0041"
    safe = terminal_safe(hostile)
    assert safe.startswith("«\\x1b»[31mأحمر«\\x1b»[0m «\\x9b»2J ⟨U+202E⟩عكس⟨U+202C⟩ ⟨U+2067⟩⟨U+200F⟩«\\x0d»«\\x07»")
    assert safe.endswith("⟨U+D800⟩⟨U+E0041⟩")
    safe.encode()
    assert terminal_safe("سطر\tأول\nمی‌خواهم") == "سطر\tأول\nمی‌خواهم"
