"""What is planted besides unsafe passages: spelling variants, advertisements, broken layout, personal data, dates.

Every function returns the new text and the spans (exact substrings of it) that were planted.
"""

from __future__ import annotations

import random
import re
import unicodedata

from fitra.world.grammar import fill
from fitra.world.lexicons import HIJRI, MEN, MONTHS, WOMEN

_JOINING = "بتثجحخسشصضطظعغفقكلمنهي"  # a tatweel after one of these, inside a word, is drawn
# A letter that can take a vowel: not the ل of the article, not a letter of prolongation.
_VOWELLED = re.compile(rf"(?<!\bا)[{_JOINING}](?=([ء-ي]))(?<!(?<=[ء-ي])[يو])")
_INDIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")

VARIANTS = (
    "exact",
    "tashkeel",
    "tatweel",
    "hamza",
    "ta_marbuta",
    "alef_maqsura",
    "arabic_digits",
    "bidi_marks",
    "presentation_forms",
    "white_space",
    "near",
)
# Initial, medial, final and isolated forms by base letter, from the Unicode tables themselves.
_FORMS: dict[str, dict[str, str]] = {}
for _code in range(0xFE80, 0xFEF5):
    _kind, _, _base = unicodedata.decomposition(chr(_code)).partition(" ")
    if " " not in _base:
        _FORMS.setdefault(chr(int(_base, 16)), {})[_kind.strip("<>")] = chr(_code)


def presentation_forms(text: str) -> str:
    """The text in Arabic presentation forms B, as old converters of PDF files leave it; NFKC gives it back."""
    out = []
    for i, ch in enumerate(text):
        forms = _FORMS.get(ch)
        if not forms:
            out.append(ch)
            continue
        before = i > 0 and "medial" in _FORMS.get(text[i - 1], {})
        after = "medial" in forms and i + 1 < len(text) and "final" in _FORMS.get(text[i + 1], {})
        name = {(True, True): "medial", (True, False): "final", (False, True): "initial"}.get(
            (before, after), "isolated"
        )
        out.append(forms.get(name, ch))
    return "".join(out)


def _vowel(following: str, rng: random.Random) -> str:
    """A vowel that agrees with the letter after it where that letter prolongs one."""
    return {"ا": "\u064e", "و": "\u064f", "ي": "\u0650", "ة": "\u064e"}.get(following) or rng.choice(
        "\u064e\u064f\u0650"
    )


def respell(text: str, variant: str, rng: random.Random) -> str:
    """The text in a spelling variant (one of VARIANTS); the same words to a reader.

    'near' swaps a name or adds a short ending: a near duplicate; the others fold to an exact one.
    """
    if variant == "tashkeel":
        return _VOWELLED.sub(lambda m: m[0] + (_vowel(m[1], rng) if rng.random() < 0.6 else ""), text)
    if variant == "tatweel":
        return re.sub(
            rf"([{_JOINING}])(?=[ء-ي])", lambda m: m[1] + ("ـ" * rng.randint(1, 3) if rng.random() < 0.15 else ""), text
        )
    if variant == "hamza":
        return text.translate(str.maketrans("أإآ", "ااا"))
    if variant == "ta_marbuta":
        return text.replace("ة", "ه")
    if variant == "alef_maqsura":
        return re.sub(r"ي\b", "ى", text)
    if variant == "arabic_digits":
        return text.translate(_INDIC)
    if variant == "bidi_marks":
        return re.sub(r" ", lambda _: rng.choice([" ", " ", " \u200f", "\u200e ", " \u202b"]), text)
    if variant == "presentation_forms":
        return presentation_forms(text)
    if variant == "white_space":
        return re.sub(r" ", lambda _: rng.choice([" ", "  ", "\u00a0", "\t"]), text)
    if variant == "near":
        # A name that stands once: at 40 words and more some 80% of the five-word shingles stay.
        names = [n for n in MEN + WOMEN if len(re.findall(rf"\b{n}\b", text)) == 1]
        if names and rng.random() < 0.5:
            old = rng.choice(names)
            return re.sub(rf"\b{old}\b", rng.choice([n for n in (MEN if old in MEN else WOMEN) if n != old]), text)
        return text + rng.choice([" انتهى.", " نقلته لكم.", " منقول.", " والسلام."])
    return text


_ADS = [
    "اشترك الآن في قناتنا على واتساب واربح {gift}!",
    "خصم {pct}% على جميع المنتجات لفترة محدودة، تسوق الآن!",
    "اضغط هنا لقراءة المزيد",
    "شارك المقال: فيسبوك | تويتر | واتساب",
    "جميع الحقوق محفوظة © {year} {site}",
    "اقرأ أيضاً: {teaser}",
    "حمل التطبيق مجاناً من المتجر واحصل على {gift}.",
    "الرئيسية > {section} > التفاصيل",
    "تابعونا على انستغرام وتيك توك لمزيد من العروض",
    "سجل بريدك لتصلك نشرتنا الإخبارية من {site}",
    "إعلان ممول: أفضل أسعار {goods} في المدينة، اتصل الآن!",
    "يستخدم موقع {site} ملفات الارتباط، بالمتابعة فأنت توافق على ذلك.",
    "لا تفوت الفرصة! {goods} بنصف السعر حتى نهاية الأسبوع!!!",
    "عدد المشاهدات: {views} | التعليقات مغلقة | طباعة | إرسال",
]
_AD_SLOTS = {
    "gift": ["هدية قيمة", "قسيمة شراء", "هاتفاً جديداً", "رحلة مجانية"],
    "site": ["موقع النخلة", "بوابة الواحة", "شبكة المرجان", "صحيفة الأفق"],
    "teaser": ["عشر نصائح لن تصدقها", "شاهد ماذا حدث بعد ذلك", "سر لا يعرفه أحد", "أجمل الصور هذا العام"],
    "section": ["منوعات", "ثقافة", "أخبار محلية", "رياضة"],
    "goods": ["السجاد", "الهواتف", "العطور", "الأثاث", "الساعات"],
}


def advertise(text: str, rng: random.Random) -> tuple[str, list[str]]:
    """Put one to three lines of advertising or boilerplate before, after or between the lines of a text."""
    slots = {k: rng.choice(v) for k, v in _AD_SLOTS.items()}
    slots |= {
        "pct": str(rng.choice([10, 20, 30, 50, 70])),
        "year": str(rng.randint(2018, 2025)),
        "views": str(rng.randint(90, 9000)),
    }
    planted = [fill(p, slots) for p in rng.sample(_ADS, rng.randint(1, 3))]
    for ad in planted:
        text = rng.choice(["{t}\n{a}", "{a}\n{t}", "{t}\n\n{a}"]).format(t=text, a=ad)
    return text, planted


_MIXED = [
    "الملف متاح بصيغةPDFعلى موقعGoogleمنذ{a}يوماً.",
    "شاهد المقطع علىYouTubeفي{a}دقيقة و{b}ثانية.",
    "كتب النص ببرنامجWordوحفظ علىUSBبحجم{a}MBفقط.",
    "الصور بصيغةJPGوعددها{a}صورة في صفحةFacebookالرسمية.",
]


def break_layout(text: str, rng: random.Random) -> tuple[str, list[str]]:
    """Break a text's layout in one of five ways; the planted spans are the broken places (up to three)."""
    way = rng.choice(["glued", "spaced", "blank_lines", "wrapped", "mixed_script"])
    if way == "glued":
        text = re.sub(r"([،.؟!:]) ", r"\1", text)
        found = re.findall(r"\w+[،.؟!:]\w+", text)
    elif way == "spaced":
        text = re.sub(r"(\w)([،.؟!:])", r"\1 \2", text)
        found = re.findall(r"\w+ [،.؟!:]", text)
    elif way == "blank_lines":
        text = re.sub(r"(?<=[.؟!])[ \n]", lambda _: "\n" * rng.randint(3, 6), text)
        found = re.findall(r"[.؟!]\n{3,}", text)
    elif way == "wrapped":
        words = text.split(" ")
        found = []
        for i in range(5, len(words), 7):
            w = words[i]
            if re.fullmatch(r"[ء-ي]{4,}", w):
                words[i] = f"{w[:2]}-\n{w[2:]}"
                found.append(words[i])
            else:
                words[i] = "\n" + w
        text = " ".join(words)
    else:
        line = rng.choice(_MIXED).format(a=rng.randint(2, 60), b=rng.randint(2, 60))
        text = f"{re.sub(r' (?=[0-9])|(?<=[0-9]) ', '', text)} {line}"
        found = [line]
    return text, list(dict.fromkeys(found))[:3]


def _luhn(body: str) -> str:
    total = sum(sum(divmod(int(d) * (2 - i % 2), 10)) for i, d in enumerate(body))
    return body + str(-total % 10)


def _iban(country: str, bban: str) -> str:
    number = int("".join(str(int(c, 36)) for c in bban + country + "00"))
    return f"{country}{98 - number % 97:02d}{bban}"


def personal(rng: random.Random, lang: str) -> tuple[str, list[str], str]:
    """A sentence with personal data, the data themselves, and their kind: phone, email, iban or national_id.

    Check digits are right, as a detector may test them; the numbers belong to nobody on purpose (000 blocks).
    """

    def digits(n: int) -> str:
        return "".join(rng.choice("0123456789") for _ in range(n))

    kind = rng.choice(["phone", "email", "iban", "national_id"])
    if kind == "phone":
        value = rng.choice(
            ["+966 55 000 ", "+20 100 000 ", "+962 79 000 ", "+971 50 000 ", "0100000", "055000"]
        ) + digits(4)
        lines = ["للتواصل مع {m} اتصل على الرقم {v}.", "رقم هاتف {f} هو {v}.", "للحجز والاستفسار: {v}."]
        lines += {"arz": ["ده رقم {m}: {v}.", "كلمني على {v}."], "apc": ["هاد رقم {m}: {v}.", "احكيني على {v}."]}.get(
            lang, []
        )
    elif kind == "email":
        value = rng.choice(["salim", "mona", "info", "huda.k", "t_amin", "noor99"]) + digits(2) + "@example.org"
        lines = ["أرسل سيرتك إلى {v}.", "بريد {m} الإلكتروني {v}.", "للمراسلة: {v}."]
    elif kind == "iban":
        country, bban = rng.choice(
            [("SA", "80000" + digits(15)), ("AE", "033000" + digits(13)), ("JO", "CBJO0000" + digits(18))]
        )
        value = _iban(country, bban[: {"SA": 20, "AE": 19, "JO": 26}[country]])
        lines = ["حول المبلغ إلى الحساب {v}.", "رقم حساب {m} في المصرف {v}.", "رقم الآيبان: {v}."]
    else:
        born = f"{rng.randint(50, 99)}{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}"
        value = rng.choice([_luhn(rng.choice("12") + "000" + digits(5)), f"2{born}00{digits(5)}"])
        lines = ["رقم هوية {m} هو {v}.", "الرقم القومي: {v}.", "رقم بطاقة {f} الوطنية {v}."]
    if rng.random() < 0.2 and kind in ("phone", "national_id"):
        value = value.translate(_INDIC)
    return fill(rng.choice(lines), {"v": value, "m": rng.choice(MEN), "f": rng.choice(WOMEN)}), [value], kind


def date(rng: random.Random) -> str:
    """A Gregorian or Hijri date in one of the ways that Arabic texts write it."""
    if rng.random() < 0.4:
        return f"{rng.randint(1, 29)} {rng.choice(HIJRI)} {rng.randint(1300, 1446)} هـ"
    month = rng.randrange(12)
    day, year = rng.randint(1, 28), rng.randint(1900, 2024)
    text = rng.choice(
        [f"{day} {MONTHS[month][0]} {year}", f"{day} {MONTHS[month][0]} {year} م", f"{day}/{month + 1}/{year}"]
    )
    return text.translate(_INDIC) if rng.random() < 0.3 else text
