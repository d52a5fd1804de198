"""Figures equal their slow definitions, marks count for nothing, and filters take what they should, for its reason."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any
from unicodedata import category

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fitra import arabic
from fitra.corpus import filters
from fitra.errors import FitraError
from fitra.recipe import Corpus
from fitra.recipe.filters import PRESETS, Filters
from fitra.signals import quality, repetition, stopwords
from fitra.signals.view import view

PROSE = (
    "ذهب الطالب إلى المدرسة في الصباح مع أخيه الصغير، وقال له إن الدرس اليوم عن تاريخ المدينة القديمة. ثم جلسا في "
    "الصف حتى حضر المعلم الذي شرح لهم كيف بنى الناس الأسوار من الحجر، ولماذا اختاروا هذا المكان بين النهر والجبل."
)


def of(text: str, **kw: Any) -> dict[str, float]:
    return {k: float(v[0]) for k, v in quality.figures(view([text]), **kw).items()}


def fate(text: str, cfg: Filters | None = None, lang: str = "ar", **kw: Any) -> str | None:
    got = filters.judge(cfg or Filters(), quality.figures(view([text])), [lang], [0.99], **kw)[0]
    return got[0] if got else None


# --- the slow definitions ------------------------------------------------------------------------------------------


def slow(text: str) -> dict[str, float]:
    """The figures of one text, said plainly."""
    folded = arabic.fold(text, "search").split()
    text = re.sub(r"(?:https?://|www\.)\S+|@\w+", " ", text, flags=re.ASCII)
    kept = "".join(c for c in text if category(c) not in ("Mn", "Me", "Cf") and c != "\u0640")
    words = kept.split()
    lines = [" ".join(line.split()) for line in re.split("[\n\x0b\x0c\x85\u2028\u2029]", kept)]
    paragraphs: list[str] = []
    fresh = True
    for line in lines:
        if line and fresh:
            paragraphs.append(line)
        elif line:
            paragraphs[-1] += "\n" + line
        fresh = not line
    lines = [line for line in lines if line]
    ink = "".join(words)
    letters = [c for c in ink if category(c)[0] == "L"]
    in_arabic = [c for c in letters if arabic.is_arabic(c)]

    def share(part: float, whole: float) -> float:
        return part / whole if whole else 0.0

    def repeated(items: list[str]) -> tuple[int, int]:
        again = [s for i, s in enumerate(items) if s in items[:i]]
        return len(again), sum(map(len, again))

    ends = tuple('.!?؟۔…:؛»”"')
    n_dup, dup = repeated(lines)
    p_dup, p_chars = repeated(paragraphs)
    p_chars -= sum(p.count("\n") for i, p in enumerate(paragraphs) if p in paragraphs[:i])  # breaks are no characters
    total = sum(map(len, lines))
    stops = stopwords.stop_words()
    out = {
        "n_words": sum(any(category(c)[0] == "L" or category(c) == "Nd" for c in w) for w in words),
        "n_chars": len(" ".join(words)),
        "n_lines": len(lines),
        "n_sentences": sum(w.endswith(tuple(".!?؟۔…")) for w in words),
        "mean_word_length": share(sum(map(len, folded)), len(folded)),
        "arabic_share": share(len(in_arabic), len(letters)),
        "digit_share": share(sum(category(c) == "Nd" for c in ink), len(ink)),
        "symbol_share": share(sum(category(c)[0] in "PSC" for c in ink), len(ink)),
        "alpha_word_share": share(sum(any(category(c)[0] == "L" for c in w) for w in words), len(words)),
        "single_letter_share": share(sum(arabic.is_arabic(w) for w in words if len(w) == 1 and w not in "وعفبل"), len(words)),  # noqa: E501
        "line_end_share": share(sum(line.endswith(ends) for line in lines), len(lines)),
        "short_line_share": share(sum(len(line) <= 30 for line in lines), len(lines)),
        "mean_line_length": share(total, len(lines)),
        "bullet_line_share": share(sum(line[0] in "•-*" for line in lines), len(lines)),
        "ellipsis_line_share": share(sum(line.endswith(("...", "…")) for line in lines), len(lines)),
        "dup_line_share": share(n_dup, len(lines)),
        "dup_line_char_share": share(dup, total),
        "dup_paragraph_share": share(p_dup, len(paragraphs)),
        "dup_paragraph_char_share": share(p_chars, total),
        "n_stop_words": len({w for w in folded if w in stops}),
        "stop_word_share": share(sum(w in stops for w in folded), len(folded)),
        "unique_word_share": share(len(set(folded)), len(folded)),
        "ellipsis_to_word": 0.0,
        "vocalised_share": share(sum(category(c) == "Mn" and 0x600 <= ord(c) < 0x900 for c in text), len(in_arabic)),
    }  # fmt: skip
    out["ellipsis_to_word"] = share(kept.count("...") + kept.count("…"), out["n_words"])
    return out | slow_ngrams(folded)


def slow_ngrams(words: list[str]) -> dict[str, float]:
    out = {}
    total = len(" ".join(words))
    for n in repetition.TOP:
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        best, count = Counter(grams).most_common(1)[0] if grams else ((), 0)
        out[f"top_{n}_gram_share"] = len(" ".join(best)) * count / total if count > 1 else 0.0
    for n in repetition.DUPLICATE:
        seen, i, chars = set(), 0, 0
        while i + n <= len(words):
            gram = tuple(words[i : i + n])
            if gram in seen:
                chars += len("".join(gram))
                i += n
            else:
                seen.add(gram)
                i += 1
        out[f"dup_{n}_gram_share"] = chars / total if total else 0.0
    return out


PIECES = st.sampled_from(
    [*"اب وتط.…!:#{}-•\n\n\n  ", "\u064e", "\u0640", "...",
     "كتاب", "في", "فِي", " من ", "\n\n", "12", "٣", "abc", "é", "\r\n", "؟",
     "\u200f", "@me", " http://x.y/z ", "و ", " و", "\u2028", "한", "\ufffd", "«", "»", "قال له ", "السلام عليكم "]
)  # fmt: skip
TEXTS = st.lists(st.lists(PIECES, max_size=60).map("".join), min_size=1, max_size=6)


@given(TEXTS)
@settings(max_examples=150, deadline=None)
def test_figures_equal_their_slow_definitions(texts: list[str]) -> None:
    got = quality.figures(view(texts))
    assert set(got) == set(quality.FIGURES)
    for i, text in enumerate(texts):
        for name, want in slow(text).items():
            assert got[name][i] == pytest.approx(want), (name, text)


WORDS = st.lists(st.sampled_from(list("ابتث")), max_size=80)


@given(st.lists(WORDS, min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_repetition_equals_the_slow_walk_on_texts_of_few_words(texts: list[list[str]]) -> None:
    got = repetition.ngrams(view([" ".join(t) for t in texts]))
    for i, words in enumerate(texts):
        for name, want in slow_ngrams(words).items():
            assert got[name][i] == pytest.approx(want), name


@given(st.integers(1, 15), st.integers(1, 40), st.sampled_from(["", " خاتمة", " ثم جاء"]))
@settings(max_examples=60, deadline=None)
def test_repetition_equals_the_slow_walk_on_periodic_texts(period: int, times: int, end: str) -> None:
    text = " ".join([" ".join(f"كلمة{i}" for i in range(period))] * times) + end
    got = repetition.ngrams(view([text]))
    for name, want in slow_ngrams(arabic.fold(text, "search").split()).items():
        assert got[name][0] == pytest.approx(want), name


MARKS = st.text(st.sampled_from("\u064b\u064e\u064f\u0650\u0651\u0652\u0640\u200f"), max_size=2)


@given(st.lists(MARKS, min_size=40, max_size=40))
def test_tashkeel_and_tatweel_count_for_nothing(marks: list[str]) -> None:
    plain = PROSE[:160] + "\n" + PROSE[:40] + "\n" + PROSE[:40]
    dressed = "".join(c + (marks[i % len(marks)] if arabic.is_arabic(c) else "") for i, c in enumerate(plain))
    a, b = of(plain), of(dressed)
    assert a.pop("vocalised_share") == 0
    assert b.pop("vocalised_share") >= 0
    assert a == pytest.approx(b)


def test_batches_and_pieces_do_not_change_figures() -> None:
    texts = [PROSE, "", "كلمة", PROSE * 3, "\n\n", "a b c"] * 3
    together = quality.figures(view(texts))
    for i, text in enumerate(texts):
        assert {k: v[i] for k, v in together.items()} == of(text)
    assert all(len(v) == 0 for v in quality.figures(view([])).values())


def test_an_empty_text_has_figures_of_nothing() -> None:
    assert not any(of("").values())


def test_own_function_words() -> None:
    assert of("فِي البيت وفي المدرسة", stop_words=["في"])["n_stop_words"] == 1
    assert of("فِي البيت وفي المدرسة")["n_stop_words"] == 2  # with its conjunction as well


def test_phrases_are_counted_once_and_inside_one_text() -> None:
    v = view(["سياسة الخصوصية وشروط الاستخدام", "جميع الحقوق", "محفوظة", "جميع الحقوق محفوظة"])
    assert repetition.in_phrases(v, stopwords.furniture()).tolist() == [2, 0, 0, 3]


# --- filters -------------------------------------------------------------------------------------------------------

GARBAGE = {
    "repeated_lines": "تابعونا على صفحتنا الرسمية\n" * 30,
    "single_letters": " ".join("الحكومة الأردنية تبالغ في تبني رواية".replace(" ", "") * 3),
    "mojibake": (PROSE.encode().decode("latin-1") + " ") * 2,
    "digit_share": "\n".join(f"الصنف {i} {i * 37} {i * 91} {i * 13} {i * 7}" for i in range(1000, 1040)),
    "furniture": "نستخدم ملفات تعريف الارتباط لتحسين تجربتك، اقرأ سياسة الخصوصية وشروط الاستخدام ثم اضغط قبول الكل",
    "script_share": "const a = { b: function () { return document.getElementById('x') } }; " * 5,
    "symbol_share": "★ ☆ ♥ ◆ ~~~ ==== كلمة //// **** ▓▓▓ عرض ---- >>>> <<<< " * 8,
}


@pytest.mark.parametrize("reason", GARBAGE)
def test_garbage_goes_for_its_reason(reason: str) -> None:
    assert fate(GARBAGE[reason]) == reason


def test_utf8_read_as_windows_1256_goes() -> None:
    damaged = PROSE.encode().decode("cp1256", errors="replace")
    assert fate(damaged * 2) == "mojibake"


def test_prose_stays_with_and_without_its_marks_and_stops() -> None:
    bare = PROSE.replace(".", "").replace("،", "")
    for text in (PROSE, bare, "".join(c + "\u064e" if arabic.is_arabic(c) else c for c in PROSE)):
        assert fate(text) is None


def test_a_refrain_stays_in_a_poem_and_goes_from_a_page() -> None:
    verses = [f"يا ليل طال بك السهاد فهل لنا من فجر يلوح وراء تلك {w} الآن" for w in ("الربى", "التلال", "الديار")]
    poem = "\n".join(f"{v}\nيا ليل يا عين يا ليل يا عين قد طال السفر على المحبين يا ليل يا عين" for v in verses * 2)
    cfg = Filters(max_repeated_line_share=0.5)
    assert fate(poem, cfg, registers=["web"]) == "repeated_lines"
    assert fate(poem, cfg, registers=["poetry"]) is None


def test_the_first_rule_that_fails_is_the_reason_with_its_figure() -> None:
    got = filters.judge(Filters(), quality.figures(view(["قصير", PROSE, PROSE])), ["ar", "fa", "ar"], [0.9, 0.8, 0.9])
    assert got == [("too_short", 1.0), ("language", 0.8), None]


def test_top_level_keys_of_the_corpus_hold_unless_a_profile_says_otherwise() -> None:
    short = "بيت من الشعر قصير جدا"
    assert fate(short, corpus=Corpus(min_words=3)) is None
    assert fate(short, corpus=Corpus(min_words=9)) == "too_short"
    lax = Filters(profiles={"poetry": {"min_words": 2}})
    assert fate(short, lax, registers=["poetry"]) is None
    assert fate(short, lax, registers=["news"]) == "too_short"


def test_a_classical_text_without_a_register_of_its_own_has_the_classical_profile() -> None:
    assert filters.profile_of("books", "classical") == "classical"
    assert filters.profile_of("poetry", "classical") == "poetry"
    assert filters.profile_of(None, None) == filters.profile_of("books", "msa") == "default"


@given(
    st.lists(st.sampled_from([*GARBAGE.values(), PROSE, "", "قصير"]), min_size=1, max_size=6),
    st.sampled_from(sorted(PRESETS)),
)
@settings(max_examples=60, deadline=None)
def test_explain_agrees_with_judge(texts: list[str], preset: Any) -> None:
    cfg = Filters(preset=preset)
    got = quality.figures(view(texts))
    registers = ["poetry", "web", None, "legal", "social", "news"][: len(texts)]
    for i, verdict in enumerate(filters.judge(cfg, got, ["ar"] * len(texts), [0.97] * len(texts), registers)):
        rows = filters.explain(cfg, {k: float(v[i]) for k, v in got.items()}, "ar", 0.97, registers[i])
        removing = [r for r in rows if r.verdict == "removes"]
        assert (removing[0].rule, round(removing[0].value, 4)) == verdict if verdict else not removing


def test_every_threshold_is_used_by_a_rule_and_every_figure_is_known() -> None:
    keys = {c.key for rule in filters.RULES for c in rule.conditions} - {"four_lines"}
    assert keys == set(Filters.model_fields) - {"preset", "fineweb2", "stop_words", "profiles"}
    figures = {c.figure for rule in filters.RULES for c in rule.conditions}
    assert figures <= set(quality.FIGURES) | {"share_of_script", "confidence"}


# --- recipe --------------------------------------------------------------------------------------------------------


def test_null_switches_a_filter_off_and_the_dump_says_so() -> None:
    off = Filters(max_digit_share=None)
    assert fate(GARBAGE["digit_share"], off) != "digit_share"
    assert off.model_dump() != Filters().model_dump()
    assert Filters.model_validate(off.model_dump()) == off


def test_preset_none_leaves_the_corpus_keys_only() -> None:
    assert fate("لا شيء " * 40, Filters(preset="none")) is None
    assert fate("لا شيء", Filters(preset="none")) == "too_short"


def test_fineweb2_yaml(tmp_path: Path) -> None:
    path = tmp_path / "arb_Arab.yml"
    path.write_text(
        "dup_line_frac: 0.304\ntop_n_grams:\n- - 2\n  - 0.197\ndup_n_grams:\n- - 5\n  - 0.165\nline_punct_thr: -1\n"
        "max_non_alpha_words_ratio: 0.787\nstopwords:\n- في\n- من\n",
        encoding="utf-8",
    )
    cfg = Filters.model_validate({"fineweb2": str(path), "min_words": 5})
    assert (cfg.max_dup_line_share, cfg.max_top_2_gram_share, cfg.max_dup_5_gram_share) == (0.304, 0.197, 0.165)
    assert (cfg.min_line_end_share, cfg.min_alpha_word_share, cfg.min_words) == (None, 0.787, 5)
    assert cfg.stop_words == ["في", "من"]
    vocalised = "فِي البَيْتِ الكَبِيرِ مِنَ المَدِينَةِ القَدِيمَةِ"
    got = filters.judge(cfg, quality.figures(view([vocalised]), cfg.stop_words), ["ar"], [0.9])
    assert got == [None]


@pytest.mark.parametrize(
    ("text", "says"),
    [("dup_line_frack: 1", "dup_line_frac"), ("- 1", "mapping"), ("dup_line_frac: x", "another kind"), ("a: [", "YAML"),
     ("top_n_grams: [[9, 0.1]]", "9-grams")],
)  # fmt: skip
def test_a_bad_fineweb2_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "x.yml"
    path.write_text(text)
    with pytest.raises(FitraError) as e:
        Filters.model_validate({"fineweb2": str(path)})
    assert "x.yml" in str(e.value) and says in f"{e.value} {e.value.hint}"


def test_a_missing_fineweb2_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FitraError, match="no such"):
        Filters.model_validate({"fineweb2": str(tmp_path / "gone.yml")})


def test_unknown_keys_and_registers_are_refused() -> None:
    with pytest.raises(ValidationError):
        Filters.model_validate({"max_digit_shar": 1})
    with pytest.raises(FitraError, match="max_digit_shar"):
        Filters.model_validate({"profiles": {"poetry": {"max_digit_shar": 1}}})
    with pytest.raises(FitraError, match="poem"):
        Filters.model_validate({"profiles": {"poem": {}}})


def test_judging_a_batch_is_judging_each() -> None:
    texts = [*GARBAGE.values(), PROSE, ""]
    registers = (["poetry", "web", None, "religious"] * 3)[: len(texts)]
    all_at_once = filters.judge(
        Filters(), quality.figures(view(texts)), ["ar"] * len(texts), np.ones(len(texts)), registers
    )
    for text, register, got in zip(texts, registers, all_at_once, strict=True):
        assert filters.judge(Filters(), quality.figures(view([text])), ["ar"], [1.0], [register])[0] == got


def test_the_page_of_filters_names_every_key_reason_and_figure() -> None:
    page = (Path(__file__).parent.parent / "docs" / "filters.md").read_text(encoding="utf-8")
    wanted = {*Filters.model_fields, *quality.FIGURES, *(rule.reason for rule in filters.RULES)}
    assert not [name for name in sorted(wanted) if f"`{name}`" not in page]


@pytest.mark.parametrize("between", ["\n", "   ***   ", " .. "])
def test_classical_verse_stays_in_any_layout_without_a_label(between: str) -> None:
    file = Path(__file__).parent.parent / "benchmarks" / "data" / "verse.txt"
    poems = [
        "\n".join(line.replace(" / ", between) for line in poem.splitlines()[1:])
        for poem in file.read_text(encoding="utf-8").strip().split("\n\n")
    ]
    assert len(poems) >= 30
    got = filters.judge(Filters(), quality.figures(view(poems)), ["ar"] * len(poems), np.ones(len(poems)))
    assert [p.splitlines()[0] for p, v in zip(poems, got, strict=True) if v] == []
