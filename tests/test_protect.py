"""Protected spans: found where they are, taken out, and back byte for byte whatever the rewriter does.

Of the Qur'an the tests hold a few verses only; `benchmarks/protect.py` measures on the whole text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fitra import policy
from fitra.align import masking, rules
from fitra.align.masking import MaskError, Verses, find, load_verses, mask, unmask
from fitra.errors import FitraError

VERSES = {
    "1:2": "الْحَمْدُ لِلَّهِ رَبِّ الْعَالَمِينَ",
    "1:3": "الرَّحْمَنِ الرَّحِيمِ",
    "1:4": "مَالِكِ يَوْمِ الدِّينِ",
    "1:5": "إِيَّاكَ نَعْبُدُ وَإِيَّاكَ نَسْتَعِينُ",
    "2:3": "الَّذِينَ يُؤْمِنُونَ بِالْغَيْبِ وَيُقِيمُونَ الصَّلَاةَ وَمِمَّا رَزَقْنَاهُمْ يُنْفِقُونَ",
    "3:56": "فَأَمَّا الَّذِينَ كَفَرُوا فَأُعَذِّبُهُمْ عَذَابًا شَدِيدًا فِي الدُّنْيَا وَالْآخِرَةِ وَمَا لَهُمْ مِنْ نَاصِرِينَ",
    "4:1": "يَا أَيُّهَا النَّاسُ اتَّقُوا رَبَّكُمُ الَّذِي خَلَقَكُمْ مِنْ نَفْسٍ وَاحِدَةٍ",
    "112:3": "لَمْ يَلِدْ وَلَمْ يُولَدْ",
    "112:4": "وَلَمْ يَكُنْ لَهُ كُفُوًا أَحَدٌ",
}  # fmt: skip
QURAN = Verses(list(VERSES.values()), list(VERSES))
MARK = re.compile("[\u064b-\u0652\u0670]")


def bare(text: str) -> str:
    return MARK.sub("", text)


def quran(text: str) -> list[str]:
    return [text[p.start : p.end] for p in find(text, QURAN) if p.kind == "quran"]


# --- the Qur'an


WRITINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "without marks": bare,
    "tatweel": lambda v: re.sub("(?<=[لسمن])(?=[عيما])", "ـ", bare(v)),
    "bare alef": lambda v: re.sub("[أإآ]", "ا", bare(v)),
    "ya and ha": lambda v: bare(v).replace("ى", "ي").replace("ة", "ه"),
    "hamza dropped": lambda v: re.sub("[ؤ]", "و", bare(v)).replace("ئ", "ي"),
    "joined vocative": lambda v: bare(v).replace("يا أ", "ياأ"),
    "some marks": lambda v: "".join(c for i, c in enumerate(v) if not MARK.match(c) or i % 3),
    "zero width": lambda v: bare(v).replace("ال", "ا\u200dل"),
    "verse numbers": lambda v: re.sub(r" (\S+ \S+)$", r" ﴿٣﴾ \1", bare(v)) if len(v.split()) > 6 else v,
    "line breaks": lambda v: bare(v).replace(" ", "\n"),
}


@pytest.mark.parametrize("writing", WRITINGS.values(), ids=list(WRITINGS))
def test_verses_and_fragments_are_found_however_written(writing: Callable[[str], str]) -> None:
    for verse in VERSES.values():
        words = verse.split()
        for part in [words, words[1:6], words[-5:]] if len(words) > 5 else [words]:
            if len(part) < 4:
                continue
            shown = writing(" ".join(part))
            text = f"ذكر الكاتب {shown} ضمن المقال."
            found = quran(text)
            assert len(found) == 1 and found[0] == shown, (shown, found)


def test_uthmani_writing_is_known() -> None:
    for shown in ("ٱلْحَمْدُ لِلَّهِ رَبِّ ٱلْعَـٰلَمِينَ", "وَيُقِيمُونَ ٱلصَّلَوٰةَ وَمِمَّا رَزَقْنَـٰهُمْ يُنفِقُونَ", "الحمد لله رب العلمين"):
        assert quran(f"قرأ {shown} ثم") == [shown]


def test_fragments_go_across_the_borders_of_verses_but_not_of_gaps() -> None:
    assert quran("قرأ رب العالمين الرحمن الرحيم مالك يوم الدين ثم") == ["رب العالمين الرحمن الرحيم مالك يوم الدين"]
    assert quran("قرأ لم يلد ولم يولد (3) ولم يكن له كفوا أحد.") == ["لم يلد ولم يولد (3) ولم يكن له كفوا أحد"]
    assert quran("قال مما رزقناهم ينفقون فأما الذين كفروا") == []  # 2:3 and 3:56 do not follow each other


def test_three_words_are_ordinary_arabic() -> None:
    assert quran("كتب رب العالمين الرحمن ثم") == [] and quran("الحمد لله رب") == []


def test_ordinary_phrases_need_a_sign_of_scripture() -> None:
    verses = Verses(["إِنْ لَمْ يَكُنْ لَهُ وَلَدٌ", "لِلَّهِ الْأَمْرُ مِنْ قَبْلُ وَمِنْ بَعْدُ"])

    def found(text: str) -> list[str]:
        return [text[p.start : p.end] for p in find(text, verses) if p.kind == "quran"]

    assert found("عمل إن لم يكن له مال") == [] and found("وصل من قبل ومن بعد") == []
    assert found("قال تعالى إن لم يكن له مال") == ["إن لم يكن له"]
    assert found("ورد (إن لم يكن له) هنا") == ["إن لم يكن له"]
    assert found("عمل إِنْ لَمْ يَكُنْ لَهُ مال") == ["إِنْ لَمْ يَكُنْ لَهُ"]
    assert found("لله الأمر من قبل ومن بعد") == ["لله الأمر من قبل ومن بعد"]


def test_words_behind_a_full_stop_are_not_the_verse() -> None:
    assert quran("وقال. الحمد لله رب العالمين. الرحمن اسم") == ["الحمد لله رب العالمين. الرحمن"]  # a border of verses
    assert quran("الذين كفروا فأعذبهم عذابا. شديدا كان البرد") == ["الذين كفروا فأعذبهم عذابا"]
    assert quran("قال الذين كفروا فأعذبهم. عذابا كان") == []


@pytest.mark.parametrize("slip", ["كبيرا", "", "جد شديدا", "مؤلما كبيرا"])
def test_a_verse_with_a_slip_is_one_span(slip: str) -> None:
    verse = bare(VERSES["3:56"])
    text = " ".join(verse.replace("شديدا", slip).split())
    assert quran(f"ذكر أن {text} ضمن كلامه") == [text]
    assert quran(f"ذكر: {verse.replace('شديدا', 'شديدا.')} اليوم") != []


def test_the_same_consonants_elsewhere_do_not_hide_a_verse() -> None:
    verses = Verses(
        ["الحمد لله رب العالمين", "والحمد لله رب العالمين", "إن هو إلا ذكرى للعالمين", "إن هو إلا ذكر للعالمين"]
    )
    for text in ("والحمد لله رب العالمين", "إن هو إلا ذكر للعالمين"):
        assert [f"نص {text} نص"[p.start : p.end] for p in find(f"نص {text} نص", verses)] == [text]


def test_offsets_hold_with_ligatures_and_other_planes() -> None:
    text = "😀 ﷺ 𝒳 الحمد ﷲ رب العالمين 😀"
    assert quran(text) == ["الحمد ﷲ رب العالمين"]
    text = "ﺍﻟﺤﻤﺪ ﻟﻠﻪ ﺭﺏ ﺍﻟﻌﺎﻟﻤﻴﻦ"
    assert quran(f"نص {text} نص") == [text]


def test_verses_are_read_from_parquet_and_text(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"id": [f"quran-{k}" for k in VERSES], "ar": list(VERSES.values())}), tmp_path / "q.parquet"
    )
    (tmp_path / "q.txt").write_text("\n".join(VERSES.values()), encoding="utf-8")
    text = "قرأ رب العالمين الرحمن الرحيم ثم"
    for name in ("q.parquet", "q.txt"):
        verses = load_verses(tmp_path / name)
        assert verses is not None and [p.kind for p in find(text, verses)] == ["quran"]
    assert load_verses(None) is None
    pq.write_table(pa.table({"other": ["x"]}), tmp_path / "bad.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    for name in ("bad.parquet", "broken.parquet", "none.txt"):
        with pytest.raises(FitraError):
            load_verses(tmp_path / name)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="اأإآلحمدهـ َُّرب نعي\u200c\u0670\n.1aﷲ﴿﴾😀\u06dd", max_size=60))
def test_any_text_has_exact_spans(text: str) -> None:
    text = f"{text} الحمد لله رب العالمين {text}"
    spans = find(text, QURAN)
    assert any("لله رب العالمين" in text[p.start : p.end] for p in spans)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    masked = mask(text, QURAN)
    assert unmask(masked.text, masked) == text


# --- other kinds


POEM = (
    "يا ليل الصب متى غده\nأقيام الساعة موعده\nرقد السمار فأرقه\nأسف للبين يردده\nفبكاه النجم ورق له\nمما يرعاه ويرصده"
)


@pytest.mark.parametrize(
    ("text", "kind", "span"),
    [
        (
            "وروي أن قال رسول الله ﷺ: «إنما الأعمال بالنيات. وإنما لكل امرئ ما نوى». وهذا أصل.",
            "hadith",
            "وروي أن قال رسول الله ﷺ: «إنما الأعمال بالنيات. وإنما لكل امرئ ما نوى»",
        ),
        (
            "قال رسول الله صلى الله عليه وسلم:\n«لا تغضب»\nثم مضى الراوي.",
            "hadith",
            "قال رسول الله صلى الله عليه وسلم:\n«لا تغضب»",
        ),
        (
            "عن النَّبِيِّ صَلَّى اللهُ عَلَيْهِ وَسَلَّمَ أنه نهى عن الغضب. وأمر بالصبر. رواه البخاري. وبعد.",
            "hadith",
            "عن النَّبِيِّ صَلَّى اللهُ عَلَيْهِ وَسَلَّمَ أنه نهى عن الغضب. وأمر بالصبر. رواه البخاري.",
        ),
        (
            "قال الشاعر:\nألا ليت الشباب يعود يوما ... فأخبره بما فعل المشيب\nثم بكى.",
            "poetry",
            "ألا ليت الشباب يعود يوما ... فأخبره بما فعل المشيب",
        ),
        (
            f"مقدمة النص هنا طويلة تشرح ما بعدها من الكلام وتطيل فيه كثيرا.\n{POEM}\nانتهى.",
            "poetry",
            POEM,
        ),
        (
            "نظام\nالمادة (5):\nيلتزم صاحب العمل بالأجر. ولا يخفضه.\nالمادة السادسة: تسري من نشرها.\n\nتعليق.",
            "law",
            "المادة (5):\nيلتزم صاحب العمل بالأجر. ولا يخفضه.",
        ),
        (
            "وأضاف أن المادة 12 من النظام تنص على أن الأجر حق ثابت. وختم.",
            "law",
            "المادة 12 من النظام تنص على أن الأجر حق ثابت",
        ),
        ("استند إلى المادة الثالثة من القانون.", "law", "المادة الثالثة"),
        ("قبل\n```python\nx = 1\n\ny = 2\n```\nبعد", "code", "```python\nx = 1\n\ny = 2\n```"),
        ("استعمل ``a ` b`` هنا", "code", "``a ` b``"),
        ("العلاقة E = mc² معروفة", "formula", "E = mc²"),
        ("راسلنا على info@example.org. شكرا", "url", "info@example.org"),
        ("زر example.com/a اليوم", "url", "example.com/a"),
        ("انظر https://example.org/x.", "url", "https://example.org/x"),
        ("كتب {الله نور السماوات والأرض} [النور: 35] هنا", "quran", "{الله نور السماوات والأرض}"),
    ],
)
def test_spans_have_their_bounds(text: str, kind: str, span: str) -> None:
    found = [(p.kind, text[p.start : p.end]) for p in find(text)]
    assert (kind, span) in found


@pytest.mark.parametrize(
    "text",
    [
        "قال الوزير إن المادة الخام متوفرة في الأسواق.",
        "قال النائب إن رسول الحكومة وصل أمس.",
        "أحمر\nأخضر\nأزرق\nأصفر\nأبيض\nأسود\nبني",
        'طول الشاشة 5" وعرضها كبير',
        "يبلغ سعره 30 ريالا فقط.",
    ],
)
def test_ordinary_text_is_left_open(text: str) -> None:
    assert [p.kind for p in find(text, QURAN)] == []


def test_spans_that_meet_become_one() -> None:
    text = "قال «قرأت الحمد لله رب العالمين» ثم الرحمن الرحيم مالك"
    spans = find(text, QURAN)
    assert [p.kind for p in spans] == ["quran"] and text[spans[0].start] == "«"


# --- out and back

TEXT = "قال تعالى الحمد لله رب العالمين ثم «كلام مقتبس» وزار https://example.org/a يوم 5/3/2010 وانصرف."


def hostile(masked: masking.Masked) -> dict[str, tuple[str, str]]:
    """Name -> (reply, reason of the refusal; '' where it is put right)."""
    t, p = masked.text, [masked.placeholder(i) for i in range(len(masked.spans))]
    n = masked.nonce
    return {
        "rewrites everything": ("كلام آخر تماما بلا شيء من الأصل", "lost"),
        "rewrites all between": (" س ".join(p), ""),
        "reorders": (t.replace(p[0], "@").replace(p[1], p[0]).replace("@", p[1]), "moved"),
        "duplicates": (t + " " + p[0], "repeated"),
        "drops": (t.replace(p[1], ""), "lost"),
        "invents a number": (t + f" ⟦{n}:{len(p)}⟧", "invented"),
        "invents a nonce": (t + " ⟦00000000:0⟧", "invented"),
        "changes a letter": (t.replace(p[0], p[0].replace(n[0], "g", 1)), "damaged"),
        "changes the number": (t.replace(p[0], p[1]), "repeated"),
        "leading zero": (t.replace(p[0], f"⟦{n}:00⟧"), "invented"),
        "loses a bracket": (t.replace("⟧", "", 1), "damaged"),
        "other brackets": (t.replace(p[0], f"[{n}:0]"), "lost"),
        "leaves the nonce": (t + " " + n.upper(), "damaged"),
        "upper case": (t.upper(), ""),
        "spaces inside": (t.replace("⟦", "⟦ ").replace("⟧", " ⟧"), ""),
        "arabic digits": (t.replace(":0⟧", ":٠⟧").replace(":1⟧", ":۱⟧"), ""),
        "tashkeel inside": (t.replace(":0⟧", ":\u064e0⟧"), ""),
        "bidi inside": (t.replace("⟦", "⟦\u200f"), ""),
        "tashkeel after": (t.replace(p[0], p[0] + "\u064e"), "glued"),
        "letter before": (t.replace(" " + p[0], " و" + p[0]), "glued"),
        "letter after": (t.replace(p[0] + " ", p[0] + "ا "), "glued"),
        "tatweel after": (t.replace(p[0], p[0] + "ـ"), "glued"),
        "joiner after": (t.replace(p[0], p[0] + "\u200d"), "glued"),
    }


@pytest.mark.parametrize("name", list(hostile(mask(TEXT, QURAN))))
def test_a_hostile_rewriter_alters_no_verse(name: str) -> None:
    masked = mask(TEXT, QURAN)
    assert masked.kinds == ("quran", "quote", "url", "number")
    reply, reason = hostile(masked)[name]
    if reason:
        with pytest.raises(MaskError) as e:
            unmask(reply, masked)
        assert e.value.reason == reason and reason in masking.REASONS
    else:
        out, at = unmask(reply, masked), 0
        for span in masked.spans:
            at = out.index(span, at) + len(span)


def test_text_that_holds_a_placeholder_cannot_forge_one() -> None:
    first = mask(TEXT, QURAN)
    for evil in (first.text, first.placeholder(0) * 2, "⟦⟧⟦", "⟦aaaaaaaa:0⟧", first.nonce.upper(), "⟧ نص ⟦"):
        masked = mask(f"{evil} {TEXT} {evil}", QURAN)
        ours = masking.PLACEHOLDER.findall(masked.text)
        assert ours == [str(i) for i in range(len(masked.spans))]
        assert masked.nonce not in (evil + TEXT).casefold()
        assert masked.text.count("⟦") == masked.text.count("⟧") == len(ours)
        assert unmask(masked.text, masked) == f"{evil} {TEXT} {evil}"


def test_a_piece_keeps_what_the_whole_protected() -> None:
    text = f"قال الشاعر:\nألا ليت الشباب يعود يوما ... فأخبره بما فعل المشيب\nثم قال {VERSES['1:5']} وسكت."
    whole = mask(text, QURAN)
    head, tail = whole.text.split("\n", 1)
    assert [whole.kinds, [text[a:b] for a, b in whole.places]] == [("poetry", "quran"), list(whole.spans)]
    original, piece = masking.part(whole, tail)
    assert f"{head}\n{original}" == text and unmask(piece.text, piece) == original
    assert piece.kinds == ("poetry", "quran") != mask(original, QURAN).kinds
    assert piece.nonce == mask(original, QURAN).nonce != whole.nonce
    assert masking.part(whole, head)[1].spans == ()


def test_rules_and_pieces_stand_a_forged_placeholder() -> None:
    """Callers look up what `PLACEHOLDER` finds: in a masked text it must find nothing of the corpus's own."""
    text = f"⟦0a0b0c0d:77⟧ يا غبي!!! {VERSES['1:5']} ⟦{mask(TEXT).nonce}:99⟧ .\n" * 3
    masked = mask(text, QURAN)
    made = rules.apply(masked, rules.compile_rules(policy.load()))
    stay = [int(m[1]) for m in masking.PLACEHOLDER.finditer(made.text)]
    out = unmask(made.text, masked, stay)
    assert "غبي" not in out and out.count(VERSES["1:5"]) == 3 and out.count("⟦0a0b0c0d:77⟧") == 3


def test_the_nonce_is_of_the_text_and_the_salt() -> None:
    assert mask(TEXT).nonce == mask(TEXT).nonce != mask(TEXT + " ").nonce
    assert mask(TEXT).nonce != mask(TEXT, salt="2").nonce == mask(TEXT, salt="2").nonce


@pytest.mark.parametrize(
    "spam",
    [
        "\\( ",
        "\\[ ",
        "\\begin{align} ",
        "<math> ",
        "<pre>x ",
        "a.",
        "a@",
        "1.",
        "](",
        "$a=",
        "``` ",
        "المادة 1 على ",
        "⟦a",
        "ﷺ «(",
    ],
)
def test_text_that_opens_and_never_closes_is_read_in_one_go(spam: str) -> None:
    text = spam * (60_000 // len(spam))  # with a pattern that goes back for every sign this takes minutes
    masked = mask(text, QURAN)
    assert unmask(masked.text, masked) == text


def test_fuzzed_replies_are_refused_or_keep_every_span() -> None:
    rng = random.Random(3)
    masked = mask(TEXT, QURAN)
    pieces = re.split("(⟦[^⟧]*⟧)", masked.text)
    refused = 0
    for _ in range(400):
        made = list(pieces)
        for _ in range(rng.randint(1, 4)):
            i = rng.randrange(len(made))
            made[i : i + 1] = rng.choice(
                [[], [made[i]] * 2, [made[i][::-1]], [made[i].upper()], ["نص"], [made[i], "\u064e"]]
            )
            made = made or [""]
        try:
            out, at = unmask("".join(made), masked), 0
        except MaskError:
            refused += 1
            continue
        for span in masked.spans:
            at = out.index(span, at) + len(span)
    assert 0 < refused < 400
