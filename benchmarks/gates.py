"""Do the gates catch what they must and let pass what they should? Corruptions and light edits of real news.

    python benchmarks/gates.py [--show KIND]

Bad pairs: an article and a corruption of it, of one kind each; kinds that the issue names come first, the others are
harder ones of our own. Names come from titles of Wikipedia, insults and refusals from data sets and from lists written
here: no list of the gates is read. (Months, units and words of denial are closed classes: no generator can avoid
them.) Good pairs: light edits that keep the truth, what the policy's rules do, and articles that two papers took from
one agency. The last line is the speed of all gates together, in MB/s of originals over the 2 that were asked for.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fitra import arabic, policy
from fitra.align import gates, masking, rules
from fitra.tables import near

DATA = Path(os.environ["FITRA_DATA"])
N = 300  # pairs of each kind
SEED = int(os.environ.get("SEED", "20"))  # 20 was looked at while the gates were written
WANTED_BAD, WANTED_GOOD = 0.95, 0.03
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


# --- bad pairs


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


# --- good pairs

SYNONYMS = [
    ("حيث", "إذ"), ("كما", "كذلك"), ("أيضا", "كذلك"), ("خلال", "أثناء"), ("بسبب", "جراء"), ("منذ", "مذ"),
    ("لكن", "غير أن"),
    ("هذا", "ذلك"), ("وقال", "وذكر"), ("وأضاف", "وزاد"), ("وأوضح", "وبين"), ("بعد", "عقب"), ("عند", "لدى"),
    ("جميع", "كل"),
    ("نحو", "قرابة"), ("إلى أن", "حتى"), ("وأكد", "وشدد"), ("من أجل", "بغية"), ("بواسطة", "عبر"),
    ("سوف", "قد"), ("فقط", "فحسب"),
]  # fmt: skip


def punctuation(text: str, r: Random) -> str:
    """Latin signs to Arabic ones, spaces before signs out, a full stop at the end."""
    text = re.sub(r" +([،.؛:؟!])", r"\1", text.replace(",", "،").replace(";", "؛"))
    text = re.sub(r"(?<=\d)،(?=\d)", ",", text)
    return text if text[-1] in '.!؟»"' else text + "."


def spacing(text: str, r: Random) -> str:
    """Runs of spaces and of empty lines."""
    return re.sub(r"\n\s*\n+", "\n\n", re.sub(r"[ \t]+", " ", text)).strip()


def spelling(text: str, r: Random) -> str:
    """Tashkeel and tatweel out, hamza put where it belongs in frequent words, final ya and ta marbuta."""
    text = re.sub("[\u064b-\u0652\u0640]", "", text)
    for a, b in (
        ("ان ", "أن "),
        ("الى ", "إلى "),
        ("او ", "أو "),
        ("اي ", "أي "),
        ("اكد", "أكد"),
        ("الامم", "الأمم"),
        ("الاسلامية", "الإسلامية"),
    ):
        text = re.sub(rf"(?<!\w){a}", b, text)
    return text


def digits(text: str, r: Random) -> str:
    """Digits of the other set."""
    if re.search("[٠-٩]", text):
        return arabic.digits_to_ascii(text)
    return re.sub(
        r"(?<![A-Za-z/.=_-])\d+(?![A-Za-z/=_-])",
        lambda m: m[0].translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")),
        text,
    )


def moved(text: str, r: Random) -> str:
    """A clause between commas goes to the end of its sentence."""
    m = one(r"، ([^،.\n]{15,80})، ([^.،\n]{10,200})(?=[.\n](?:\s|$))", text, r)
    fits = m and not re.search(r"\d$|\b\w$", m[1]) and not re.search(r"\d$|\b\w$|^\d", m[2])
    return put(text, m, f"، {m[2]}، {m[1]}") if m and fits else text


def synonyms(text: str, r: Random) -> str:
    """Some function words become others of the same meaning."""
    for a, b in r.sample(SYNONYMS, 8):
        text = re.sub(rf"(?<!\w){a}(?!\w)", b, text, count=2)
    return text


def all_light(text: str, r: Random) -> str:
    """All light edits at once."""
    for edit in (spelling, spacing, punctuation, moved, synonyms):
        text = edit(text, r)
    return text


LIGHT = (punctuation, spacing, spelling, digits, moved, synonyms, all_light)


def by_rules(text: str, compiled: rules.Rules) -> gates.Pair | None:
    """What the policy's rules make of a text; None when they leave it alone."""
    masked = masking.mask(text)
    made = rules.apply(masked, compiled)
    gone = {int(m[1]) for x in made.removed for m in masking.PLACEHOLDER.finditer(x.text)}
    stay = [i for i in range(len(masked.spans)) if i not in gone]
    final = masking.unmask(made.text, masked, stay)
    if final == text or not final.strip():
        return None
    safe = [s for _, s in compiled.unsafe if s in final and s not in text]

    def reveal(t: str) -> str:
        return masking.PLACEHOLDER.sub(lambda m: masked.spans[int(m[1])], t)

    return gates.Pair(text, final, [reveal(x.text) for x in made.removed], safe, [masked.spans[i] for i in stay])


# What papers put around the agency's text: bylines, tags, links to themselves.
FURNITURE = re.compile(
    r"\A.{0,60}?(?:عين اليوم|سبق|الوئام|واس|رويترز|فرانس برس|صحيفة المرصد|المرصد|متابعات|تواصل|الرياض|عاجل|أ ف ب)"
    r"[^\n.:]{0,40}?[:–-]+ *"
    r"|(?:رابط الخبر بصحيفة|سمات ).*\Z",
    re.S,
)


def agencies(texts: list[str]) -> list[gates.Pair]:
    """Articles that are near duplicates of one another (MinHash as `fitra corpus clean`, similarity 0.8) and not equal.

    Papers add and cut sentences, and correct figures: only pairs that differ by edits of up to three words are taken
    for the same text. Some of these change facts too: those that the gates refused were read, and the ones that do are
    listed in data/agency_changed.txt.
    """
    texts = [FURNITURE.sub("", FURNITURE.sub("", t)).strip() for t in texts]
    folded = arabic.fold_array(pa.array(texts, pa.large_string()), "search")
    found = near.signatures(folded, hashes=112, ngram=5)
    bands = near.band_hashes(found, 8)
    rows = np.arange(len(texts))
    edges = np.unique(np.concatenate([near.stars(bands[:, b], rows) for b in range(bands.shape[1])]), axis=0)
    keys = folded.to_pylist()
    close = [(a, b) for a, b in edges.tolist() if keys[a] != keys[b] and (found[a] == found[b]).mean() >= 0.8]
    framed = [framed_alike(texts[a], texts[b]) for a, b in close]
    return [gates.Pair(a, b, protected=None) for a, b in framed if a != b and small_edits(a, b)]


def framed_alike(a: str, b: str) -> tuple[str, str]:
    """Two articles without the dateline and the tags that one of them has: up to six words at either end."""
    x, y = a.split(), b.split()
    same = [m for m in SequenceMatcher(None, x, y, False).get_matching_blocks() if m.size >= 2]
    if not same:
        return a, b
    i, j, k = same[0].a, same[0].b, same[-1]
    s, t = len(x) - k.a - k.size, len(y) - k.b - k.size
    head, tail = max(i, j) <= 6, max(s, t) <= 6 and min(s, t) == 0
    return (
        " ".join(x[i if head else 0 : len(x) - (s if tail else 0)]),
        " ".join(y[j if head else 0 : len(y) - (t if tail else 0)]),
    )


def pair_key(p: gates.Pair) -> str:
    """What data/agency_changed.txt knows a pair by."""
    return hashlib.sha256(f"{p.original}\0{p.rewrite}".encode()).hexdigest()[:16]


def small_edits(a: str, b: str) -> bool:
    """Whether two texts differ by edits of up to three words alone."""
    a, b = arabic.fold(a, "search"), arabic.fold(b, "search")
    ops = SequenceMatcher(None, a.split(), b.split(), False).get_opcodes()
    return all(tag == "equal" or max(j - i, m - k) <= 3 for tag, i, j, k, m in ops)


# --- the table


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


def good_pairs(texts: list[str]) -> Iterator[tuple[str, list[gates.Pair]]]:
    """Each kind of true edit with its pairs."""
    compiled = rules.compile_rules(policy.load())
    for edit in LIGHT:
        r = Random(f"{SEED} {edit.__name__}")
        made = ((t, edit(t, r)) for t in texts)
        yield edit.__name__.replace("_", " "), [gates.Pair(a, b) for a, b in made if a != b][:N]
    yield "rules", [p for t in texts[: 2 * N] if (p := by_rules(t, compiled))][:N]


def main() -> None:
    """Print the table; with --show KIND some pairs of a kind that were judged wrongly."""
    show = sys.argv[sys.argv.index("--show") + 1] if "--show" in sys.argv else ""
    policy_ = policy.load()
    texts = articles()
    gates.judge_all([gates.Pair(t, t) for t in texts[:50]], policy_)  # lists are read once
    timed: list[gates.Pair] = []
    short: list[str] = []
    print(f"{'kind':20} {'pairs':>6} {'refused':>8}  most often by")

    def row(kind: str, pairs: list[gates.Pair], bad: bool) -> tuple[int, int]:
        judged = gates.judge_all(pairs, policy_)
        refused = [any(not v.passed for v in vs) for vs in judged]
        by = Counter(v.gate for vs in judged for v in vs if not v.passed)
        share = sum(refused) / max(1, len(pairs))
        good = share >= WANTED_BAD if bad else share <= WANTED_GOOD
        told = ", ".join(f"{g} {n}" for g, n in by.most_common(4))
        print(f"{kind:20} {len(pairs):6} {share:8.3f}  {told}{'' if good else '   <- falls short'}", flush=True)
        if not good:
            short.append(kind)
        if show == kind:
            wrong = [(p, vs) for p, vs, x in zip(pairs, judged, refused, strict=True) if x != bad]
            for p, vs in wrong[:25]:
                report(p, vs)
        return sum(refused), len(pairs)

    for kind, pairs in bad_pairs(texts):
        row(kind, pairs, True)
        timed += pairs[:60]
    print()
    wrong = total = 0
    for kind, pairs in good_pairs(texts[::-1]):
        n, of = row(kind, pairs, False)
        wrong, total = wrong + n, total + of
        timed += pairs[:120]
    print(f"{'all light edits':20} {total:6} {wrong / total:8.3f}")
    copies = agencies(column("raw/ar_news.parquet", "text"))
    changed = set((Path(__file__).parent / "data" / "agency_changed.txt").read_text().split())
    row("agency, same facts", [p for p in copies if pair_key(p) not in changed], False)
    row("agency, other facts", [p for p in copies if pair_key(p) in changed], True)
    print("(each refused copy was read; those of other facts lose or add one, so their row is 1.000 by construction)")
    print()
    size = sum(len(p.original.encode()) for p in timed) / 1e6
    start = time.process_time()
    gates.judge_all(timed, policy_)
    seconds = time.process_time() - start
    start = time.process_time()
    for p in timed[:200]:
        gates.judge(p.original, p.rewrite, policy_)
    single = (time.process_time() - start) / 200
    print(f"{len(timed)} pairs, {size:.2f} MB of originals: {seconds:.2f} s of one core, {size / seconds:.2f} MB/s")
    print(f"one pair by itself: {single * 1e3:.2f} ms; in a batch {seconds / len(timed) * 1e3:.2f} ms")
    print(f"falls short: {', '.join(short) or 'nothing'}")
    print(f"gates: {size / seconds / 2:.2f}")


def report(p: gates.Pair, vs: list[gates.Verdict]) -> None:
    """Where two texts differ, word by word, and what the gates said."""
    a, b = p.original.split(), p.rewrite.split()
    print("--", gates.complaint(vs))
    for tag, i, j, k, m in SequenceMatcher(None, a, b, False).get_opcodes():
        if tag != "equal":
            print(f"   {' '.join(a[max(0, i - 3) : i])} [{' '.join(a[i:j])[:200]}] -> [{' '.join(b[k:m])[:200]}]")


if __name__ == "__main__":
    main()
