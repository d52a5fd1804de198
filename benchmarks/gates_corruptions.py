"""Corruptions of real news that the gates must refuse: for benchmarks/gates.py.

Names come from titles of Wikipedia, insults and refusals from data sets and from lists written here: no list of the
gates is read. (Months, units and words of denial are closed classes: no generator can avoid them.)
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq

from fitra.align import gates

DATA = Path(os.environ["FITRA_DATA"])
N = 300  # pairs of each kind
SEED = int(os.environ.get("SEED", "20"))  # 20 was looked at while the gates were written
Random = random.Random
Corruption = Callable[[str, Random], str | None]  # None: this text has nothing to corrupt


def column(path: str, name: str) -> list[str]:
    """One column of a parquet file of the data, nulls left out."""
    return [x for x in pq.read_table(DATA / path, columns=[name])[name].to_pylist() if x]


def articles() -> list[str]:
    """News of 400 to 6,000 characters, shuffled."""
    found = [t.strip() for t in column("raw/ar_news.parquet", "text") if 400 <= len(t) <= 6000]
    Random(SEED).shuffle(found)
    return found


def one(pattern: str, text: str, r: Random) -> re.Match[str] | None:
    """A random match."""
    found = list(re.finditer(pattern, text))
    return r.choice(found) if found else None


def put(text: str, m: re.Match[str], new: str, group: int = 0) -> str:
    """The text with a match replaced."""
    return text[: m.start(group)] + new + text[m.end(group) :]


def number(text: str, r: Random) -> str | None:
    """One digit of a number becomes another."""
    m = one(r"(?<![\w/:.,])\d+(?![\w/:])", text, r)
    if not m:
        return None
    i = r.randrange(len(m[0]))
    digit = r.choice([d for d in "123456789" if int(d) != int(m[0][i])])
    return put(text, m, m[0][:i] + digit + m[0][i + 1 :])


SPELT = [
    "ثلاثة",
    "أربعة",
    "خمسة",
    "ستة",
    "سبعة",
    "ثمانية",
    "تسعة",
    "عشرة",
    "عشرين",
    "ثلاثين",
    "أربعين",
    "خمسين",
    "ستين",
]


def number_word(text: str, r: Random) -> str | None:
    m = one(rf"(?<!\w)(?:{'|'.join(SPELT)})(?!\w)", text, r)
    return put(text, m, r.choice([s for s in SPELT if s != m[0]])) if m else None


MONTHS = [
    "يناير فبراير مارس أبريل مايو يونيو يوليو أغسطس سبتمبر أكتوبر نوفمبر ديسمبر",
    "المحرم رجب شعبان رمضان شوال",
    "شباط آذار نيسان أيار حزيران تموز أيلول",
    "الأحد الاثنين الثلاثاء الأربعاء الخميس الجمعة السبت",
]


def date(text: str, r: Random) -> str | None:
    """A month or day of the week becomes another, or a part of a date in digits."""
    groups = [g.split() for g in MONTHS]
    spots = list(re.finditer(rf"(?<![\w\u064b-\u0652])[وفبل]?({'|'.join(w for g in groups for w in g)})(?!\w)", text))
    spots += list(re.finditer(r"(?<![\d/])()\d{1,2}[/-]\d{1,2}[/-]\d{4}", text))
    if not spots:
        return None
    m = r.choice(spots)
    if not m[1]:
        day, rest = re.split(r"(?=[/-])", m[0], maxsplit=1)
        return put(text, m, f"{int(day) % 28 + 1}{rest}")
    group = next(g for g in groups if m[1] in g)
    return put(text, m, r.choice([w for w in group if w != m[1]]), 1)


def negation(text: str, r: Random) -> str | None:
    """A word of denial goes, or one comes before a verb."""
    m = one(r"(?<!\w)([وف]?)(?:لا|لم|لن|ليس|ليست|دون|بدون|عدم) ", text, r) if r.random() < 0.6 else None
    if m:
        return put(text, m, m[1] and m[1] + " ")
    m = one(
        r"(?<=\w )(?=(?:يكون|يمكن|يجب|يتم|كان|كانت|أعلن|أكد|قال|يستطيع|تكون|تم|شارك|حضر|وافق|سيتم|تمكن|نجح|بدأ)\b)",
        text,
        r,
    )
    return put(text, m, r.choice(["لا ", "لم ", "ليس "])) if m else None


def titles() -> list[str]:
    """Names of people and places: titles of Wikipedia whose article begins as one of these does."""
    table = pq.read_table(DATA / "raw/ar_wiki.parquet", columns=["title", "text"]).to_pylist()
    about = re.compile(r"ولد|مولود|هي مدينة|هو لاعب|ممثل|سياسي|هي دولة|تقع في|عاصمة|مغني|كاتب|ملك|رئيس")
    out = set()
    for row in table:
        name = re.sub(r"\(.*|،.*", "", row["title"]).strip()
        if (
            about.search(row["text"][:250])
            and 1 <= len(name.split()) <= 2
            and re.fullmatch(r"[\u0621-\u064a ]{4,}", name)
        ):
            out.add(name)
    return sorted(out)


# Read in a sample: titles that are words as well.
NO_NAMES = {
    *"رفعت نادرة مملكة مقاطعة سبتمبر جمهورية حريصا جمعة مجلس دينا يانا لدينا بيانا لولا دولة".split(),  # noqa: SIM905
    *"أماني ناري ثري طيبة دينار هيام وجودي معاهدة".split(),  # noqa: SIM905
    "مجلس الوزراء",
}


def names() -> Corruption:
    """A name that Wikipedia knows becomes another one, its clitics kept."""
    known = titles()
    parts = sorted({w for t in known for w in t.split() if len(w) > 3})
    frequent = Counter(w for t in articles()[:3000] for w in set(re.findall(r"\w+", t)))
    # Parts that are everyday words («عبد», «جميل»: they take the article) are not names by themselves.
    plain = {w for w in parts if frequent[w] < 120 and not frequent["ال" + w] and not w.startswith("ال")}
    inside = (plain | {t for t in known if " " in t and " ال" not in t}) - NO_NAMES
    spot = re.compile(rf"(?<!\w)([وفبل]?)({'|'.join(sorted(map(re.escape, inside), key=len, reverse=True))})(?!\w)")

    def name(text: str, r: Random) -> str | None:
        found = list(spot.finditer(text))
        if not found:
            return None
        m = r.choice(found)
        return put(text, m, r.choice([t for t in known if m[2] not in t and t not in text]), 2)

    return name


UNITS = [
    ("كيلومترا", "ميلا"), ("كيلومتر", "ميل"), ("كم", "متر"), ("متر", "قدم"), ("مليون", "مليار"), ("ملايين", "مليارات"),
    ("مليار", "مليون"), ("ألف", "مليون"), ("ريال", "دولار"), ("دولار", "ريال"), ("في المئة", "في الألف"),
    ("درجة", "دقيقة"),
    ("يوما", "شهرا"), ("أيام", "أسابيع"), ("ساعات", "دقائق"), ("ساعة", "دقيقة"), ("دقيقة", "ساعة"), ("سنوات", "أشهر"),
    ("عاما", "يوما"), ("أشهر", "سنوات"), ("طن", "كيلوغرام"), ("برميل", "لتر"), ("%", " كم"), ("درهم", "دينار"),
]  # fmt: skip


def unit(text: str, r: Random) -> str | None:
    """What stands behind a number becomes another unit."""
    swap = dict(UNITS)
    m = one(rf"(?<=\d)( ?)({'|'.join(sorted(swap, key=len, reverse=True))})(?!\w)", text, r)
    return put(text, m, swap[m[2]], 2) if m else None


def url(text: str, r: Random) -> str | None:
    """A link loses or changes a character; articles without one are given one on both sides (see `bad_pairs`)."""
    m = one(r"(?:https?://|www\.)[\w./?=&%-]+[\w/]", text, r)
    if not m:
        return None
    i = r.randrange(8, len(m[0]))
    return put(text, m, m[0][:i] + r.choice(["", "x", "7", "-a"]) + m[0][i + 1 :])


INSULTS = [
    *["الحقير", "السافل", "الوضيع", "التافه", "القذر", "الجبان"],
    *["الوقح", "الخائن", "النذل", "الأحمق", "البغيض", "المنحط"],
]


def insults() -> Corruption:
    """A noun is given an insult, or a comment that people marked as abusive is added."""
    rows = pq.read_table(DATA / "toxicity/mpold_ar.parquet").to_pylist()
    bad = [t["text"].strip() for t in rows if t["label"] == 1 and 15 <= len(t["text"]) <= 140]

    def insult(text: str, r: Random) -> str | None:
        if r.random() < 0.5:
            m = one(
                r"(?<!\w)(?:الرئيس|الوزير|المدير|المدرب|اللاعب|الأمين|المتحدث|الناطق|السفير|الكاتب|رجل|المسؤول)(?!\w)",
                text,
                r,
            )
            if m:
                word = r.choice(INSULTS)
                return put(text, m, f"{m[0]} {word if m[0].startswith('ال') else word.removeprefix('ال')}")
        m = one(r"[.؟!]\s", text, r)
        return put(text, m, f". {r.choice(bad)}. ") if m else f"{text} {r.choice(bad)}"

    return insult


def phone(text: str, r: Random) -> str | None:
    """A telephone number is added."""
    digits = "".join(r.choice("0123456789") for _ in range(8))
    shown = r.choice(
        [f"05{digits}", f"+966 5{digits[0]} {digits[1:4]} {digits[4:]}", f"010{digits}", f"00971 50 {digits[:7]}"]
    )
    said = r.choice([" للتواصل {}.", " (هاتف {})", " جوال: {}", " {}"]).format(shown)
    m = one(r"[.،]\s", text, r)
    return text[: m.start()] + said + text[m.start() :] if m else text + said


def translations() -> Corruption:
    """English of the same length."""
    books = column("raw/en_books.parquet", "text")
    medical = " ".join(column("parallel/tico19_ar_en.parquet", "en"))

    def translation(text: str, r: Random) -> str | None:
        source = r.choice(books) if r.random() < 0.5 else medical
        at = r.randrange(max(1, len(source) - len(text)))
        return source[at : at + len(text)]

    return translation


def sentences(text: str) -> list[str]:
    return [s for s in re.split(r"(?<=[.؟!])\s+|\n+", text) if s.strip()]


def summary(text: str, r: Random) -> str | None:
    """The lead alone, or every third sentence."""
    parts = sentences(text)
    if len(parts) < 4:
        return None
    return " ".join(parts[: max(1, len(parts) // 3)] if r.random() < 0.5 else parts[::3])


REFUSALS = [
    "عذرًا، لا يمكنني إعادة كتابة هذا النص لأنه يتضمن محتوى حساسا.",
    "أعتذر، لكن هذا المحتوى يخالف سياسات الاستخدام الخاصة بي.",
    "لا أستطيع تلبية هذا الطلب.", "آسف، لا أقدر على مساعدتك في هذا الموضوع.",
    "بصفتي مساعدا ذكيا، لا يمكنني معالجة هذا النص.",
    "I'm sorry, but I can't help with that.", "As an AI language model, I cannot rewrite this text.",
    "I apologize, but I won't be able to assist.",
    "للأسف لا يمكنني الاستجابة لهذا الطلب لأنه ينتهك القواعد.",
]  # fmt: skip


def refusals() -> Corruption:
    """A refusal in place of the text, one of ours or a real one of a model, or in front of it."""
    said = [t.strip() for t in column("eval/arabic_safety_questions.parquet", "jais_response")]
    real = [t for t in said if re.match(r"(?:آسف|أعتذر|عذر|أنا آسف|لا أستطيع|لا يمكنني|بصفتي|أعتقد أنه من غير)", t)]

    def refusal(text: str, r: Random) -> str | None:
        mine = r.choice([*REFUSALS, r.choice(real), r.choice(real)])
        return mine if r.random() < 0.6 else f"{mine}\n\n{text}"

    return refusal


PREAMBLES = [
    "إليك النص بعد إعادة صياغته:", "بالتأكيد، هذا هو النص المعدل:", "فيما يلي النص المنقح وفقا للقواعد:",
    "تفضل النص المحسن:",
    "Sure, here is the rewritten text:", "Here's the polished version:",
    "Certainly! Below is the revised text.", "النص المعاد صياغته:",
    "حسنا، سأعيد كتابة النص:", "**النص النهائي:**", "بكل سرور! إليك النسخة المعدلة:",
    "Of course! Rewritten text:", "التحليل: النص سليم.\nالنص المعدل:",
]  # fmt: skip


def preamble(text: str, r: Random) -> str | None:
    """What a model says before the text."""
    return f"{r.choice(PREAMBLES)}\n{text}"


def repetition(text: str, r: Random) -> str | None:
    """The text ends in a loop."""
    words = text.split()
    at, k = r.randrange(len(words) // 2, len(words)), r.choice([3, 5, 8, 12, 20])
    loop = words[max(0, at - k) : at]
    return " ".join([*words[:at], *loop * r.randrange(5, 20)])


def truncated(text: str, r: Random) -> str | None:
    """The text breaks off somewhere between a third and nine tenths."""
    words = text.split()
    return " ".join(words[: int(len(words) * r.uniform(0.33, 0.9))])


def dropped(text: str, r: Random) -> str | None:
    """One sentence of eight words and more is gone."""
    parts = [s for s in sentences(text)]
    long = [i for i, s in enumerate(parts) if len(s.split()) >= 8]
    if len(long) < 2 or len(parts) < 4:
        return None
    gone = r.choice(long)
    return "\n".join(s for i, s in enumerate(parts) if i != gone)


def invented() -> Corruption:
    """A sentence of another article is put in."""
    pool = [s for t in articles()[-300:] for s in sentences(t) if 8 <= len(s.split()) <= 30]

    def invention(text: str, r: Random) -> str | None:
        parts = sentences(text)
        parts.insert(r.randrange(len(parts) + 1), r.choice(pool))
        return "\n".join(parts)

    return invention


def bad_pairs(texts: list[str]) -> Iterator[tuple[str, list[gates.Pair]]]:
    """Each kind with its pairs."""
    named: dict[str, Corruption] = {
        "number": number, "number word": number_word, "date": date, "negation": negation, "name": names(), "unit": unit,
        "URL": url, "added insult": insults(), "added phone": phone, "translation": translations(), "summary": summary,
        "refusal": refusals(), "preamble": preamble, "repetition": repetition, "truncated": truncated,
        "dropped sentence": dropped, "invented sentence": invented(),
    }  # fmt: skip
    for kind, corrupt in named.items():
        r = Random(f"{SEED} {kind}")
        out: list[gates.Pair] = []
        for i, text in enumerate(texts):
            if kind == "URL" and "http" not in text:
                text = f"{text}\nhttps://www.example{i}.org/news/{r.randrange(10**6)}/a?id={i}"
            made = corrupt(text, r)
            if made and made != text:
                out.append(gates.Pair(text, made))
            if len(out) == N:
                break
        yield kind, out
