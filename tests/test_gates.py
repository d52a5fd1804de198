"""Gates on pairs: what each catches, what all let pass, outcomes, batches, claims, diversity."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from fitra import llm, policy
from fitra.align import gates
from fitra.align.gates import Pair, words
from fitra.errors import FitraError
from fitra.signals import contamination

POLICY = policy.load()
TEXT = (
    "افتتح وزير التعليم خالد الفيصل يوم الأحد 12 مايو 2015 مدرسة في القاهرة بكلفة 30 مليون ريال. ولم يحضر الحفل أحد من"
    " سكان الحي لأن المطر كان شديدا. وقال المدير إن المدرسة تبعد 5 كم عن المحطة، وإن 40% من طلابها من البنات. ويمكن"
    " التسجيل في الموقع https://example.org/school/a1 حتى نهاية الشهر. وستفتح مدرستان أخريان بعد ثلاثة أعوام."
)


def failed(original: str, rewrite: str, **more: object) -> set[str]:
    """The gates that refuse a pair."""
    return {v.gate for v in gates.judge(original, rewrite, POLICY, **more) if not v.passed}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "new", "gate"),
    [
        ("2015", "2016", "numbers_lost"),
        ("40%", "45%", "numbers_new"),
        ("40%", "40", "numbers_lost"),
        ("ثلاثة أعوام", "خمسة أعوام", "numbers_lost"),
        ("مايو", "يونيو", "dates"),
        ("12 مايو", "13 مايو", "dates"),
        ("الأحد", "الاثنين", "dates"),
        ("القاهرة", "دمشق", "names_lost"),
        ("في القاهرة", "في قرطبة", "names_lost"),
        ("خالد الفيصل", "سعيد الفيصل", "names_lost"),
        ("5 كم", "5 أميال", "units"),
        ("مليون", "مليار", "units"),
        ("ريال", "دولار", "units"),
        ("ولم يحضر", "وحضر", "negation"),
        ("كان شديدا", "ما كان شديدا أو ليس شديدا", "negation"),
        ("school/a1", "school/a2", "urls"),
        ("المدير", "المدير الحقير", "toxicity"),
        ("المدير", "المدير البغيض", "toxicity"),
        ("الشهر.", "الشهر، جوال 0501234567.", "personal"),
        (" وستفتح مدرستان أخريان بعد ثلاثة أعوام.", " وستفتح", "unfinished"),
    ],
)
def test_a_gate_catches_a_changed_fact(old: str, new: str, gate: str) -> None:
    assert old in TEXT
    assert gate in failed(TEXT, TEXT.replace(old, new))


@pytest.mark.parametrize(
    ("rewrite", "gate"),
    [
        ("The minister of education opened a school in Cairo. " * 8, "language"),
        (f"إليك النص بعد التهذيب:\n{TEXT}", "leaks"),
        (f"Sure, here is the rewritten text:\n{TEXT}", "leaks"),
        ("عذرا، لا يمكنني المساعدة في إعادة صياغة هذا النص.", "leaks"),
        (f"{TEXT} آمل أن يكون هذا مفيدا.", "leaks"),
        (TEXT + " وقال المدير إن الحفل كان جميلا جدا." * 6, "repeats"),
        (TEXT[: TEXT.index(" ويمكن")], "passage_lost"),
        (TEXT + " ثم عزفت فرقة موسيقية ألحانا شعبية قديمة ورقص الأطفال حول النافورة حتى ساعة متأخرة.", "passage_new"),
    ],
)
def test_a_gate_catches_what_models_do(rewrite: str, gate: str) -> None:
    assert gate in failed(TEXT, rewrite)


def test_a_dialect_is_kept() -> None:
    standard = "لا أعرف لماذا يريد هؤلاء الناس أن يذهبوا إلى هناك الآن، وماذا يفعلون بعد ذلك كل يوم."
    spoken = "مش عارف ليه الناس دي عايزة تروح هناك دلوقتي، وبيعملوا ايه بعد كده كل يوم يا عم."
    assert "dialect" in failed(standard, spoken)
    assert "dialect" not in failed(spoken, spoken.replace("يا عم", "").strip())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("في ١٢ مايو ٢٠١٥ بلغ العدد ١٬٢٥٠", "في 12 مايو 2015 بلغ العدد 1,250"),
        ("بلغت النسبة 40% في شباط (فبراير)", "بلغت النسبة 40 في المئة في فبراير"),
        ("حضر ثلاثة وعشرون طالبا إلى الرياض", "حضر 23 طالبا إلى الرياض"),
        ("وُلد في 5/3/1990 بتونس", "ولد في 5 مارس 1990 بتونس"),
        ("وصل الملك عبد العزيز وبالقاهرة نزل", "وصل الملك عبدالعزيز ونزل بالقاهرة"),
        ("قالت الأميركية إن الجو بارد", "قالت الأمريكية إن الجو بارد"),
        ("عُدّ ذلك مسؤولًا عن شئون المدينة", "عد ذلك مسؤولا عن شؤون المدينة"),
        ("على بعد 5 كيلومترات", "على بعد 5 كم"),
        ("بعد الساعة5 قتل8آلاف في 26سبتمبر وعاد25مليار", "بعد الساعة 5 قتل 8 آلاف في 26 سبتمبر وعاد 25 مليار"),
        ("ملفات بصيغةPDFعلى موقعGoogleمنذ34يوماً", "ملفات بصيغة PDF على موقع Google منذ 34 يوماً"),
        ("ولد أحمد في ال-\nصومال وعاش بعـ-\nملة صعبة", "ولد أحمد في الصومال وعاش بعملة صعبة"),
        ("باقي ثلاث اياااااام يا كىىىىم", "باقي ثلاث ايام يا كىم"),
        ("لم يأت أحد، غير أن المدير حضر", "لم يأت أحد لكن المدير حضر"),
    ],
)
def test_the_same_fact_in_other_writing_passes(before: str, after: str) -> None:
    assert gates.complaint(gates.judge(before, after, POLICY)) == ""
    assert gates.complaint(gates.judge(after, before, POLICY)) == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("المخرج يوسف شاهين", "المخرج يوسف بيليني"),  # looks like «شاه» with an ending
        ("من تقرير فوكس عن", "من تقرير بيكاسو عن"),  # «ف» before a word, by its look
        ("ولاعب آخر هو بدوي.", "ولاعب آخر هو الشامية."),  # what came looks like a word
    ],
)
def test_a_name_that_looks_like_a_word_is_not_swapped(old: str, new: str) -> None:
    text = f"حضر العرض جمهور كبير. وتحدث {old} ثم انصرف الناس إلى بيوتهم مسرورين"
    assert {"names_lost", "names_new"} & failed(text, text.replace(old, new))


def test_forms_of_a_word_are_no_swapped_names() -> None:
    text = "وصل المدير الذي قام بتكريم الطلاب ثم زار المعرض يوم أمس"
    assert failed(text, text.replace("قام بتكريم", "كرّم")) == set()


def test_new_tags_are_new_words() -> None:
    text = "في القدس <div class='x'>حضر كثيرون</div> ثم رحلوا"
    assert failed(text, "في القدس حضر كثيرون ثم رحلوا") == set() == failed(text, text)
    assert failed(text, text.replace("حضر", "<img alt='Visit Casino Dubai'>حضر"))
    assert "leaks" in failed("حضر كثيرون ثم رحلوا", "حضر <b>كثيرون</b> ثم رحلوا")
    assert failed("شركة Baume &amp; Mercier<br/>في القدس", "شركة Baume & Mercier\nفي القدس") == set()


@pytest.mark.parametrize(
    "beside",
    [
        "أنت محرر عربي خبير.",  # of the prompt
        POLICY.rules[0].statement_ar,
        "والقمر مربع الشكل.",  # answers to nothing in the original
        "\x1b[31m",
        "\u202e",
    ],
)
def test_what_a_model_says_beside_the_text_is_a_leak(beside: str) -> None:
    assert "leaks" in failed(TEXT, f"{TEXT} {beside}")
    assert "leaks" not in failed(f"{TEXT} {beside}", f"{TEXT} {beside}")


def test_a_text_in_json_is_a_leak() -> None:
    assert "leaks" in failed(TEXT, f'{{"النص": "{TEXT}"}}')
    assert "leaks" in failed(TEXT, f'```json\n["{TEXT[:20]}", "{TEXT[20:]}"]\n```')


def test_what_a_word_is_glued_to_is_still_compared() -> None:
    text = "الصور بصيغةJPGوعددها23صورة في صفحةFacebookالرسمية"
    assert "numbers_lost" in failed(text, text.replace("23", " 24 "))
    assert "names_lost" in failed(text, text.replace("Facebook", " Twitter "))
    assert "units" in failed("سار5كم في يوم", "سار 5 أميال في يوم")


def test_boilerplate_that_went_does_not_make_the_rest_worse() -> None:
    bad, dull = "يا حمار يا كلب", "عدد المشاهدات: 2076 | التعليقات مغلقة | طباعة | إرسال " * 4
    overall = next(v for v in gates.judge(f"{dull}\n{bad}", bad, POLICY) if v.gate == "toxicity_overall")
    assert not overall.passed
    assert "toxicity_overall" not in failed(f"{dull}\n{bad}", bad, removed=[dull])


def test_one_of_several_mentions_that_is_swapped_is_caught() -> None:
    text = "زار الوزير دمشق ثم بيروت. وفي دمشق التقى المدير ثلاثة وفود، وفي بيروت خمسة وفود ثم ثلاثة تجار."
    assert "names_lost" in failed(text, text.replace("وفي دمشق", "وفي بيروت"))
    assert "numbers_lost" in failed(text, text.replace("المدير ثلاثة", "المدير خمسة"))
    assert failed(text, text.replace("ثم بيروت. وفي دمشق", "ثم بيروت، وفي دمشق")) == set()


def test_declared_removals_and_additions_are_not_asked_for() -> None:
    advert = " اتصل بنا في بغداد على 0501234567 ولا تتردد خلال شهر رمضان 1436."
    assert failed(TEXT + advert, TEXT)
    assert failed(TEXT + advert, TEXT, removed=[advert]) == set()
    assert failed(TEXT, f"{TEXT} استشر 3 أطباء في عمان.", added=["استشر 3 أطباء في عمان."]) == set()


def test_protected_spans_are_compared_or_looked_for() -> None:
    text = "قال تعالى ﴿قُلْ هُوَ اللَّهُ أَحَدٌ﴾ ثم قال الرجل «هذا كلام يطول شرحه كثيرا» ومضى."
    verse = "﴿قُلْ هُوَ اللَّهُ أَحَدٌ﴾"
    bare = text.replace(verse, "﴿قل هو الله أحد﴾")
    assert "protected" in failed(text, bare, protected=[verse])
    assert "protected" in failed(text, bare, protected=None)
    assert "protected" not in failed(text, text.replace("ومضى", "ثم مضى"), protected=None)


def test_benchmark_text_that_was_not_there_is_caught() -> None:
    question = "ما هي عاصمة الدولة الأموية التي أسسها معاوية بن أبي سفيان في بلاد الشام قديما"
    index = contamination.build([("quiz", "q1", question)])
    by = {v.gate: v for v in gates.judge(TEXT, f"{TEXT}\n{question}", POLICY, benchmarks=index)}
    assert not by["benchmark"].passed and by["benchmark"].detail == "quiz q1"
    own = {v.gate: v for v in gates.judge(question, question, POLICY, benchmarks=index)}
    assert own["benchmark"].passed


def test_a_batch_is_judged_as_its_pairs_are_one_by_one() -> None:
    pairs = [
        Pair(TEXT, TEXT.replace("القاهرة", "دمشق")),
        Pair("", "نص جديد"),
        Pair(TEXT, ""),
        Pair("ولله الحمد", "الحمد لله"),
        Pair("جاء حمد", "جاء سالم"),
        Pair(TEXT, TEXT, protected=None),
        Pair("Hello World", "Hello world!"),
    ]
    assert gates.judge_all(pairs, POLICY) == [
        gates.judge(p.original, p.rewrite, POLICY, protected=p.protected) for p in pairs
    ]
    assert gates.judge_all([], POLICY) == []


def test_thresholds_are_the_policys() -> None:
    rewrite = TEXT.replace("القاهرة", "دمشق")
    assert {"names_lost", "names_new"} <= failed(TEXT, rewrite)
    loose = dataclasses.replace(POLICY, gates={**POLICY.gates, "names_lost": 1, "names_new": 1})
    assert gates.complaint(gates.judge(TEXT, rewrite, loose)) == ""


def test_outcomes_follow_the_policy() -> None:
    good, bad = gates.judge(TEXT, TEXT, POLICY), gates.judge(TEXT, TEXT.replace("2015", "2016"), POLICY)
    assert gates.outcome(good, POLICY).state == "accept"
    assert gates.outcome(good, POLICY, rewrite_unsafe=True).state == "quarantine"
    again = gates.outcome(bad, POLICY, tries_left=1)
    assert again.state == "retry" and "سقطت أرقام" in again.complaint and "2015" in again.complaint
    assert gates.outcome(bad, POLICY).state == "keep_original"
    assert gates.outcome(bad, POLICY, unsafe=True).state == "quarantine"
    assert gates.outcome([], POLICY).state == "keep_original", "no judgement is no pass"
    strict = dataclasses.replace(POLICY, outcomes={**POLICY.outcomes, "numbers_new": "drop"})
    assert gates.outcome(bad, strict, tries_left=3).state == "drop"


def test_a_complaint_carries_no_marks_and_no_line_breaks_of_the_corpus() -> None:
    text = "انظر https://example.org/\u202eabc\u2066" + "x" * 100
    told = gates.ask(gates.judge(text, "انظر هنا", POLICY))
    assert told and not set("\u202e\u2066⟦⟧{}") & set(told) and "x" * 60 not in told


def test_a_policy_with_a_wrong_outcome_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(Path(policy.__file__).parent / "default", folder)
    path = folder / "policy.yaml"
    path.write_text(path.read_text("utf-8").replace("default: retry", "default: maybe"), "utf-8")
    with pytest.raises(FitraError, match="maybe"):
        policy.load(folder)


def test_words_are_known_under_clitics() -> None:
    assert words.fact("وبالقاهره").name == words.fact("القاهره").name != ""
    assert words.fact("للرياض").name == words.fact("الرياض").name
    assert words.fact("الحمد").name == "" and words.fact("حمد").name == "حمد"
    assert words.fact("1436").number == "1436" and words.fact("ايااااام").unit == "day"
    assert words.fact("فلم").negation and words.fact("ومش").negation and not words.fact("علم").negation


# --- the judge and the corpus


def test_what_a_judge_does_not_answer_is_no_pass(tmp_path: Path) -> None:
    every = dataclasses.replace(POLICY, gates={**POLICY.gates, "claims_share": 1.0})
    said = iter(
        [
            '{"claims": [{"claim": "افتتح", "verdict": "kept"}]}',
            '```json\n{"claims": [{"claim": "2015", "verdict": "changed"}]}\n```',
            "The rewriting is fine.",
            '{"claims": []}',
        ]
    )
    rows = [{"id": i, "original": f"{TEXT} {i}", "rewrite": TEXT} for i in range(4)]
    asked = list(gates.claims.sample(rows, every))
    assert len(asked) == 4 and not list(gates.claims.sample(rows, POLICY))
    backend = llm.FunctionBackend("judge", lambda messages, sampling, schema: next(said))
    answers = list(llm.run(gates.claims.job(every), asked, backend, tmp_path / "l", concurrency=1, progress=False))
    verdicts = [gates.claims.verdict(a, every) for a in answers]
    assert [v.passed for v in verdicts] == [True, False, False, False]
    assert verdicts[1].detail == "2015" and "judge failed" in verdicts[2].detail


def test_a_corpus_that_becomes_uniform_is_noticed() -> None:
    originals = [f"في سنة {i} وصل التاجر رقم {i * 7} إلى المدينة {i * 3} ومعه بضاعة {i * 11}" for i in range(200)]
    same, flat = gates.Diversity(), gates.Diversity()
    for at in range(0, 200, 50):
        same.add(originals[at : at + 50], originals[at : at + 50])
        flat.add(originals[at : at + 50], ["وصل التاجر إلى المدينة ومعه بضاعة كثيرة من كل نوع"] * 50)
    assert same.verdict(POLICY).passed and same.verdict(POLICY).figure == 1
    assert not flat.verdict(POLICY).passed and flat.verdict(POLICY).figure < 0.1
