"""The deterministic rewriter: what it repairs, what it leaves alone, what it declares."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fitra import policy
from fitra.align import cues, gates, insults, layout, masking, rules

POLICY = policy.load()
RULES = rules.compile_rules(POLICY)


def rewrite(text: str) -> rules.Rewrite:
    return rules.apply(masking.mask(text), RULES)


def by_rules(text: str) -> str:
    masked = masking.mask(text)
    made = rules.apply(masked, RULES)
    return masking.unmask(made.text, masked, [int(m[1]) for m in masking.PLACEHOLDER.finditer(made.text)])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # beside its noun, after «هذا», in the plural, as a predicate, in a chain
        ("رأيت الموظفة الغبية عند الباب أمس.", "رأيت الموظفة عند الباب أمس."),
        ("سرق هؤلاء الخونة مفاتيح المخزن كلها.", "سرق هؤلاء الأشخاص مفاتيح المخزن كلها."),
        ("أخبرتك أمس بأنك أحمق لكنك لم تسمع.", "أخبرتك أمس بأنك مخطئ لكنك لم تسمع."),
        ("كانت جارتنا غبية حين باعت بيتها.", "كانت جارتنا مخطئة حين باعت بيتها."),
        ("وصل المدير الحقير السافل إلى المكتب.", "وصل المدير إلى المكتب."),
        ("زوجها حقير وديوث وترك البيت أمس.", "زوجها مخطئ وترك البيت أمس."),
        # number and case: «خاين» is one, «خرفانا» are many; who is joined with «و»; one like whom; the worst of them
        ("انت خاين ومش راجع عالبيت اليوم", "انت مخطئ ومش راجع عالبيت اليوم"),
        ("لا أسميكم خرفانا في هذا المجلس.", "لا أسميكم مخطئين في هذا المجلس."),
        ("كان كلامه فاسح كتير و وقح اكتر", "كان كلامه فاسح كتير و مخطئ اكتر"),
        ("هناك اغبياء يغردون كل يوم في الليل", "هناك أشخاص يغردون كل يوم في الليل"),
        ("بيروح عالشغل زي الاهبل كل يوم", "بيروح عالشغل كل يوم"),
        ("ابو علي اجدبهم والله وما حدا بيحكي", "ابو علي أكثرهم خطأ والله وما حدا بيحكي"),
        ("غبي قال لصاحبه تعال نسأل الجيران", "شخص قال لصاحبه تعال نسأل الجيران"),
        ("لن ينجح هؤلاء الحاقدون في خطتهم أبدا.", "لن ينجح هؤلاء الأشخاص في خطتهم أبدا."),
        ("يمنح هذا الخطاب الفرصة للمعتوهين كل يوم.", "يمنح هذا الخطاب الفرصة للأشخاص كل يوم."),
        # vocatives, written on or apart; phrases; obscene words
        ("لسه يا كلب لسانك طالع من الصبح", "لسه لسانك طالع من الصبح"),
        ("راح الولد عالسوق ياحمار وما رجع", "راح الولد عالسوق وما رجع"),
        ("الله يلعن ابوك وين حطيت المفتاح امبارح", "وين حطيت المفتاح امبارح"),
        ("اثبتي يلعن قملك لقيت الدبوس تحت الطاولة", "اثبتي لقيت الدبوس تحت الطاولة"),
        ("راحوا عالسوق ولاد عرصات وما دفعوا", "راحوا عالسوق وما دفعوا"),
        ("يخرب بيتك وين حطيت المفتاح امبارح", "وين حطيت المفتاح امبارح"),
        # a frame of abuse makes an insult of an unknown word
        ("اسكت يا طنبور، محدش عايز رأيك. القاهرة كبيرة.", "القاهرة كبيرة."),
    ],
)
def test_insults_go_and_the_sentence_stays(before: str, after: str) -> None:
    assert by_rules(before) == after
    assert by_rules(after) == after


@pytest.mark.parametrize(
    "text",
    [
        "تشاجر الأخوان لأسباب تافهة ثم تصالحا.",
        "وصف المتحدث التفجير بأنه عمل إجرامي جبان دنيء.",
        "أنت كالكلب في حفاظك للود.",
        "وفي القصة كلاب تحرس الغنم من الذئب.",
        "اعتقلت الشرطة القاتل في منزله.",
        "قال محمد: اسكت قليلا يا أخي.",
        "[[تصنيف:مدن السعودية]]",
        "السعوديون الذين سافروا كسالى في الصيف عادوا أمس.",
        "رفض الكاتب القول إن النساء لا يصلحن للقيادة.",
        "هؤلاء اللصوص سرقوا المصرف أمس.",
        "قد تنمو الشركات بسرعة كبيرة في سوق السيارات.",
        "سبح بعكس التيار كسمكة سلمون في البحر.",
        "فاز وليام براغ بالجائزة ورحل يانيك عن الفريق في غور الأردن.",
        "بكره عندي امتحان رياضيات مع البنات.",
        # names and words that only look like abuse
        "وقال المتحدث باسم الحملة نيك ميريل إن الكشف عن الرسائل جار.",
        "تعاقدت شركة نايك مع اللاعب.",
        "قطع المسلحون مفرق الوضيع في محافظة أبين.",
        "أسروا لويس التاسع وقواده في فارسكور.",
        "كل الخير لهم ولأراضيهم وحيواناتهم.",
        "رح أجربها بكرة مع الرز.",
        "قضى خالد بن الوليد على مسيلمة الكذاب.",
        "ولد الشيخ محمد زمان ابن كلب علي التبريزي في أصفهان.",
        "حارب علي الخوارج في معركة النهروان.",
        # praise that begins like a curse; a verb; a thing; somebody beside somebody; nobody
        "يخرب بيت عيونك شو حلوين",
        "ظل يلعن في وثيقة السلمي أمام المذيع.",
        "ماذا يفعل الشاعر في هذا الزمن الوغد؟",
        "شنت القناة حملة مسعورة على الكاتب.",
        "خطط للأمر انت وسفاح الروس في الصيف",
        "ألفت كتبها بعاطفتها من غير عقل أو منطق.",
        "بعد المباراة صارت التذكرة مالهاش قيمة.",
    ],
)
def test_what_insults_nobody_stays(text: str) -> None:
    assert by_rules(text) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("بني الحي قبل قرن. وقال أحدهم إن تجاره نصابون.", "بني الحي قبل قرن. وقال أحدهم إن تجاره نصابون."),
        ("بني الحي قبل قرن. وأهل الحي كلهم لصوص.", "بني الحي قبل قرن."),
        ("بني الحي قبل قرن. البنات لا يصلحن لقيادة السيارات.", "بني الحي قبل قرن."),
        ("بني الحي قبل قرن. كتب عن سكان الحي: اطردوهم من المدينة.", "بني الحي قبل قرن."),
        ("سالم: أهل الجبل لصوص.\nماجد: السوق مفتوح.", "ماجد: السوق مفتوح."),
    ],
)
def test_judgements_on_groups(before: str, after: str) -> None:
    assert by_rules(before) == after


def test_names_and_numbers_keep_their_part() -> None:
    for text in (
        "ما يحدث للاجئين السوريين على الحدود وصمة عار على جبين الجزائر والمغرب",
        "بلغ عدد سكان المدينة 300 ألف وكلهم لصوص حسب محمد الذي زارها عام 1990.",
    ):
        out = by_rules(text)
        assert all(w in out for w in re.findall(r"\d+|الجزائر|المغرب|محمد|السوريين", text))


@pytest.mark.parametrize(
    "text",
    [
        "اطلب الآن واحصل على شحن مجاني لباب بيتك!",
        "تابعونا على انستغرام وتيك توك لمزيد من العروض",
        "يستخدم موقعنا ملفات الارتباط، بالمتابعة فأنت توافق على ذلك.",
        "لا تنسوا الاشتراك في القناة وتفعيل الجرس",
        "للحجز والاستفسار تواصل معنا على واتساب 0501234567",
    ],
)
def test_advertisements_go_and_are_declared(text: str) -> None:
    made = rewrite(f"افتتح المتحف في القاهرة أمس.\n{text}")
    assert made.text == "افتتح المتحف في القاهرة أمس."
    assert [r.rule for r in made.removed] in (["moderation.ads"], ["moderation.boilerplate"])


@pytest.mark.parametrize(
    "text",
    ["اشرب كوبا من الكلور لتطهير المعدة.", "سيب العيل لوحده في البانيو خمس دقايق.", "ابعت كلمة السر لأي حد يطلبها."],
)
def test_unsafe_advice_becomes_a_safe_statement(text: str) -> None:
    made = rewrite(text)
    assert made.rules == ("moderation.unsafe",) and made.text in {s for _, s in RULES.unsafe}


def test_a_cut_text_is_put_together_and_passes_the_gates() -> None:
    masked = masking.mask("مازن: أجيب هدية من \nاليمن؟\nأنس: أعلى جبل في ال-\nصومال.\nمازن: شكرا.\nأنس: عفوا.")
    made = rules.apply(masked, RULES)
    assert "هدية من اليمن؟" in made.text and "في الصومال." in made.text
    pair = gates.Pair(masked.text, made.text, [], [], [])
    assert gates.complaint(gates.judge_all([pair], POLICY)[0]) == ""


@pytest.mark.parametrize(
    "text",
    [
        "شاهد علىYouTubeفي25دقيقة",
        "مرحبـــا,كيف\n\n\n\nالحال ؟؟؟",
        "<p>نص&nbsp;هنا</p>",
        "كنت أحسبك ملاكا ,, فخاب ظني ,,",
    ],
)
def test_repair_keeps_letters_and_is_stable(text: str) -> None:
    out = layout.repair(text)
    bare = [re.sub(r"</?p>|&nbsp;|[\W_ـ]+", "", t) for t in (text, out)]
    assert out != text and bare[0] == bare[1] and layout.repair(out) == out


def test_cues_never_miss_a_match() -> None:
    patterns = [
        re.compile(p) for p in (r"\b[وف]?(?:اشتر|اطلب الان)\b", r"(?<!\S)(?:و)?يا (?:ال)?كلب", r"كل شيء", r"^من\b")
    ]
    known = cues.cues(patterns)
    lines = ["فاشتر الان", "و يا الكلب", "ويا كلب", "هذا كل شيء", "من هنا", "لا شيء", "واطلب الان", "اشتراك"]
    for line in lines:
        bits = known.of(line.split())
        assert all(bits >> i & 1 for i, p in enumerate(patterns) if p.search(line)), line
    assert known.of(["لا", "شيء"]) == known.always == 1 << 2


def test_the_scorer_is_asked_about_soft_words_only() -> None:
    found = insults.neutralise("قال إن الكاتب فاشل في الحساب", RULES.insults)
    assert found.text == "قال إن الكاتب فاشل في الحساب" and [found.words[i] for i in found.open] == ["فاشل"]
    assert insults.neutralise(found.text, RULES.insults, found.open).text == "قال إن الكاتب مخطئ في الحساب"


def test_every_shipped_insult_is_found_behind_clitics() -> None:
    lexicon = RULES.insults
    for word in lexicon.strong_nouns | lexicon.vulgar:
        if " " not in word and len(word) > 3:
            assert lexicon.classify("وال" + word), word


def test_the_shipped_policy_keeps_its_examples() -> None:
    assert policy.check(Path(policy.__file__).parent / "default", by_rules) == []
