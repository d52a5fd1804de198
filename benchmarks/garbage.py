# ruff: noqa: SIM905, E501
"""Planted garbage: kinds of text that no corpus wants, made from word lists with a fixed seed.

`make(kind, n, prose)` gives n texts of at least 50 white-space separated words where the kind has words at all; `prose`
are good texts for the kinds that are damaged good text.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Sequence
from urllib.parse import quote

NAMES = "أحمد محمد سعيد خالد يوسف ليلى فاطمة مريم سارة نورة عمر حسن إبراهيم سلمى هدى كريم طارق منى رانيا وليد".split()
PLACES = "الرياض القاهرة دمشق بغداد تونس الرباط عمان بيروت الدوحة مسقط جدة الإسكندرية حلب البصرة صفاقس فاس".split()
GOODS = (
    "شقق فلل أراضي مكاتب محلات سيارات جوالات عطور ساعات أثاث مكيفات ثلاجات غسالات ملابس أحذية حقائب هواتف شاشات "
    "كمبيوتر لابتوب مطابخ ستائر سجاد ذهب نظارات كاميرات"
).split()
ADJECTIVES = "رخيصة جديدة مستعملة فاخرة مفروشة أصلية حديثة ممتازة مخفضة مضمونة عصرية راقية".split()
SECTIONS = (
    "الرئيسية أخبار رياضة اقتصاد ثقافة فن تكنولوجيا صحة سيارات سياحة منوعات فيديو صور مقالات آراء تحقيقات محليات "
    "عالمية "
    "حوادث مرأة أطفال طعام ديكور أزياء وظائف عقارات تعليم جامعات ألعاب برامج تحميل أرشيف طقس بورصة عملات مواقيت أبراج"
).split()
SYMBOLS = "★☆♥♦◆◇■□▲△▼▽●○◎♪♫☎✿❀✦✧➤➥→←↑↓░▒▓█▄▀═║╔╗╚╝|/\\~^*+=<>#@$%&_"
FURNITURE = [
    "نستخدم ملفات تعريف الارتباط لتحسين تجربتك على موقعنا وعرض إعلانات تناسب اهتماماتك",
    "بالنقر على قبول الكل فإنك توافق على استخدام ملفات تعريف الارتباط وفق سياسة الخصوصية",
    "يمكنك إدارة إعدادات الخصوصية أو رفض الكل في أي وقت من أسفل الصفحة",
    "تسجيل الدخول أو إنشاء حساب جديد، هل نسيت كلمة المرور؟",
    "اشترك في النشرة البريدية ليصلك كل جديد على البريد الإلكتروني",
    "جميع الحقوق محفوظة، شروط الاستخدام وسياسة الخصوصية واتصل بنا ومن نحن",
    "تابعنا على فيسبوك وتويتر وانستغرام، حمل التطبيق من متجر التطبيقات",
    "لن يتم نشر عنوان بريدك الإلكتروني، الحقول الإلزامية مشار إليها، اترك تعليقا أو إلغاء الرد",
]
CODE = [
    "var {0} = document.getElementById('{1}');",
    "function {0}({1}) {{ return {1}.map(x => x.{0} || null); }}",
    "$('#{0}').on('click', function(e) {{ e.preventDefault(); {1}(e.target); }});",
    "if (typeof {0} !== 'undefined') {{ window.{0} = window.{0} || {{}}; }}",
    ".{0} {{ margin: 0 auto; padding: {2}px; background: #fff; }}",
    "import {0} from '@site/src/{1}';",
]
WORDS_EN = (
    "data value item node list menu banner slider index cache loader config widget panel frame track push".split()
)

Maker = Callable[[random.Random, Sequence[str]], str]


def menu(r: random.Random, prose: Sequence[str]) -> str:
    return "\n".join(
        r.choice(("", "- ", "» ")) + r.choice(SECTIONS) + r.choice(("", " " + r.choice(PLACES))) for _ in range(90)
    )


def repeated_line(r: random.Random, prose: Sequence[str]) -> str:
    line = " ".join(r.choice(prose).split()[: r.randint(5, 14)])
    return "\n".join([line] * r.randint(12, 60))


def keywords(r: random.Random, prose: Sequence[str]) -> str:
    base = [
        f"{r.choice(GOODS)} {r.choice(ADJECTIVES)} {r.choice(('للبيع', 'للإيجار', 'اسعار', 'عروض'))} {r.choice(PLACES)}"
        for _ in range(9)
    ]
    return r.choice((" ", "، ", " - ", "\n")).join(r.choice(base) for _ in range(40))


def tag_cloud(r: random.Random, prose: Sequence[str]) -> str:
    return r.choice((" ", "، ", " | ")).join(r.choice(GOODS + SECTIONS + PLACES + ADJECTIVES) for _ in range(120))


def keyword_questions(r: random.Random, prose: Sequence[str]) -> str:
    # With function words, as people type them into search boxes.
    ask = ("كيف أجد", "ما هي أفضل", "أين يوجد", "كم سعر", "افضل شركة", "ارخص")
    base = [f"{r.choice(ask)} {r.choice(GOODS)} {r.choice(ADJECTIVES)} في {r.choice(PLACES)}" for _ in range(6)]
    return r.choice((" ", "، ", " | ", "\n")).join(r.choice(base) for _ in range(40))


def doorway(r: random.Random, prose: Sequence[str]) -> str:
    # The page that exists to be found: one service and one town in every sentence.
    service = (
        f"شركة {r.choice(('نقل عفش', 'تنظيف منازل', 'مكافحة حشرات', 'كشف تسربات', 'عزل أسطح'))} {r.choice(PLACES)}"
    )
    says = (
        "تقدم {0} أفضل الخدمات بأرخص الأسعار", "إذا كنت تبحث عن {0} فنحن {0} الأولى",
        "{0} لديها عمالة مدربة على أعلى مستوى",
        "اتصل الآن بأفضل {0} على مدار الساعة", "تعتبر {0} من أكبر الشركات", "أسعار {0} تناسب الجميع مع {0}", "{0} خصم كبير",
    )  # fmt: skip
    return r.choice((" ", ". ", "\n")).join(r.choice(says).format(service) for _ in range(45))


def forum(r: random.Random, prose: Sequence[str]) -> str:
    return "\n".join(
        f"{r.choice(NAMES)}\nعضو مميز\nتاريخ التسجيل: {r.randint(2001, 2012)}\nالمشاركات: {r.randint(1, 9999)}\n"
        f"{r.choice(('شكرا', 'مشكور', 'يعطيك العافية', 'بارك الله فيك'))}\nرد مع اقتباس" for _ in range(20)
    )  # fmt: skip


def headlines(r: random.Random, prose: Sequence[str]) -> str:
    # A page of teasers that break off.
    return "\n".join(" ".join(r.choice(prose).split()[: r.randint(4, 7)]) + " ..." for _ in range(40))


def consent(r: random.Random, prose: Sequence[str]) -> str:
    return "\n".join(r.sample(FURNITURE, 6))


def symbols(r: random.Random, prose: Sequence[str]) -> str:
    words = ["".join(r.choice(SYMBOLS) for _ in range(r.randint(1, 8))) for _ in range(90)]
    return " ".join(r.choice(GOODS) if r.random() < 0.25 else w for w in words)


def encoded(r: random.Random, prose: Sequence[str]) -> str:
    lines = [base64.b64encode(r.randbytes(57)).decode() for _ in range(60)]
    return " ".join(r.choice(prose).split()[:15]) + "\n" + "\n".join(lines)


def split_letters(r: random.Random, prose: Sequence[str]) -> str:
    words = r.choice(prose).split()[:80]
    return " ".join(" ".join(w) if r.random() < 0.6 else w for w in words)


def javascript(r: random.Random, prose: Sequence[str]) -> str:
    lines = [r.choice(CODE).format(r.choice(WORDS_EN), r.choice(WORDS_EN), r.randint(1, 40)) for _ in range(40)]
    return "\n".join([*lines[:20], " ".join(r.choice(prose).split()[:25]), *lines[20:]])


def numbers(r: random.Random, prose: Sequence[str]) -> str:
    rows = [f"{r.choice(PLACES)} " + " ".join(f"{r.uniform(0, 9999):.2f}" for _ in range(7)) for _ in range(25)]
    return "\n".join(rows)


def stubs(r: random.Random, prose: Sequence[str]) -> str:
    # One template over and over with another name in it, as bots write.
    return "\n".join(
        f"{r.choice(NAMES)} {r.choice(NAMES)} هو لاعب كرة قدم من مواليد يوم {r.randint(1, 28)} في مدينة {r.choice(PLACES)} لعب مع نادي "
        f"{r.choice(PLACES)} في مركز الوسط." for _ in range(30)
    )  # fmt: skip


def utf8_as_latin1(r: random.Random, prose: Sequence[str]) -> str:
    return " ".join(r.choice(prose).split()[:120]).encode().decode("latin-1")


def utf8_as_1256(r: random.Random, prose: Sequence[str]) -> str:
    return " ".join(r.choice(prose).split()[:120]).encode().decode("cp1256", errors="replace")


def cp1256_as_latin1(r: random.Random, prose: Sequence[str]) -> str:
    return " ".join(r.choice(prose).split()[:120]).encode("cp1256", errors="replace").decode("latin-1")


def replaced(r: random.Random, prose: Sequence[str]) -> str:
    return "".join(
        "\ufffd" if r.random() < 0.3 and not c.isspace() else c for c in " ".join(r.choice(prose).split()[:120])
    )


def question_marks(r: random.Random, prose: Sequence[str]) -> str:
    return "".join(c if c.isspace() else "?" for c in " ".join(r.choice(prose).split()[:120]))


def lorem(r: random.Random, prose: Sequence[str]) -> str:
    words = "لوريم ايبسوم دولار سيت أميت كونسيكتيتور أدايبا يسكينج أليايت سيت دو أيوسمود تيمبور أنكايديديونتيوت لابوري ات دولار ماجنا أليكيوا".split()
    return " ".join(words * 4)


def links(r: random.Random, prose: Sequence[str]) -> str:
    return "\n".join(
        f"{r.choice(GOODS)} {r.choice(PLACES)} http://www.example.com/{r.choice(WORDS_EN)}/{r.randint(1, 99999)}/{quote(r.choice(GOODS))}"
        for _ in range(40)
    )


def hashtags(r: random.Random, prose: Sequence[str]) -> str:
    return " ".join(f"#{r.choice(GOODS)}_{r.choice(PLACES)}" for _ in range(80))


def prices(r: random.Random, prose: Sequence[str]) -> str:
    return "\n".join(
        f"{r.choice(GOODS)} {r.choice(ADJECTIVES)} {r.randint(10, 9999)} ريال أضف إلى السلة" for _ in range(40)
    )


def percent(r: random.Random, prose: Sequence[str]) -> str:
    return " ".join(quote(w) for w in r.choice(prose).split()[:120])


def loop(r: random.Random, prose: Sequence[str]) -> str:
    # A model that got stuck: a good beginning, then one phrase for ever.
    words = r.choice(prose).split()
    phrase = words[40 : 40 + r.randint(4, 12)] or words[:6]
    return " ".join(words[:40] + phrase * 30)


def dates(r: random.Random, prose: Sequence[str]) -> str:
    months = "يناير فبراير مارس أبريل مايو يونيو يوليو أغسطس سبتمبر أكتوبر نوفمبر ديسمبر".split()
    return "\n".join(f"{m} {y} ({r.randint(1, 300)})" for y in range(2005, 2015) for m in months)


def style_sheet(r: random.Random, prose: Sequence[str]) -> str:
    rule = ".{0}-{1} > a:hover {{ color: #{2:06x}; margin: {3}px auto; }}"
    return "\n".join(
        rule.format(r.choice(WORDS_EN), r.choice(WORDS_EN), r.randrange(1 << 24), r.randint(0, 99)) for _ in range(40)
    )


def site_map(r: random.Random, prose: Sequence[str]) -> str:
    # Headlines only: good language, no text.
    return "\n".join(" ".join(r.choice(prose).split()[: r.randint(4, 9)]) for _ in range(60))


def directory(r: random.Random, prose: Sequence[str]) -> str:
    return "\n".join(
        f"{r.choice(NAMES)} {r.choice(NAMES)} {r.choice(PLACES)} هاتف 05{r.randint(10**7, 10**8 - 1)}"
        for _ in range(30)
    )


def classified(r: random.Random, prose: Sequence[str]) -> str:
    return "\n".join(
        f"{r.choice(('للبيع', 'مطلوب', 'للإيجار'))} {r.choice(GOODS)} {r.choice(ADJECTIVES)} {r.choice(PLACES)} السعر {r.randint(1, 900)} ألف"
        for _ in range(25)
    )


def mostly_menu(r: random.Random, prose: Sequence[str]) -> str:
    # A page whose article is a fifth of it.
    return menu(r, prose) + "\n" + " ".join(r.choice(prose).split()[:40]) + "\n" + menu(r, prose)


def random_letters(r: random.Random, prose: Sequence[str]) -> str:
    return " ".join(
        "".join(r.choice("ابتثجحخدذرزسشصضطظعغفقكلمنهوي") for _ in range(r.randint(2, 9))) for _ in range(120)
    )


def shuffled(r: random.Random, prose: Sequence[str]) -> str:
    words = [w for t in r.sample(list(prose), 3) for w in t.split()]
    return " ".join(r.sample(words, 150))


def half_mojibake(r: random.Random, prose: Sequence[str]) -> str:
    return (
        " ".join(r.choice(prose).split()[:80])
        + "\n"
        + " ".join(r.choice(prose).split()[:40]).encode().decode("latin-1")
    )


KINDS: dict[str, Maker] = {
    f.__name__: f
    for f in (
        menu, repeated_line, keywords, keyword_questions, doorway, forum, headlines, tag_cloud, consent, symbols, encoded, split_letters, javascript, numbers, stubs,
        utf8_as_latin1, utf8_as_1256, cp1256_as_latin1, replaced, question_marks, lorem, links, hashtags, prices, percent,
        loop, dates,
    )
}  # fmt: skip

# Written after the thresholds were fixed; nothing was tuned on them.
UNSEEN: dict[str, Maker] = {
    f.__name__: f
    for f in (style_sheet, site_map, directory, classified, mostly_menu, random_letters, shuffled, half_mojibake)
}


def make(kind: str, n: int, prose: Sequence[str], seed: int = 0) -> list[str]:
    """`n` texts of a kind."""
    r = random.Random(f"{kind}-{seed}")
    return [(KINDS | UNSEEN)[kind](r, prose) for _ in range(n)]
