"""Word lists of the small world: people, places, insults, groups. `half` splits them by hash."""

# ruff: noqa: SIM905  a word list reads best as a line of words
from __future__ import annotations

from fitra.world.grammar import half

__all__ = ["GROUPS", "INSULTS", "INSULTS_DIALECT", "INSULTS_ONE", "half", "split"]

# Predicates in the plural; broken plurals and collectives, so that no case ending shows.
INSULTS = (
    "أغبياء حمقى كسالى جهلة أوغاد حثالة كلاب حمير خنازير سفلة جبناء لصوص همج بهائم رعاع أنذال حقراء بلهاء خونة أوباش "
    "أراذل حشرات جرذان سفهاء لئام أشرار ثقلاء قردة غوغاء خبثاء أجلاف سذج بلطجية حرامية نصابة عالة"
).split()
# Said to one man, after يا.
INSULTS_ONE = (
    "غبي حمار كلب أحمق تافه حقير وغد نذل جاهل كسول أبله سافل جبان كذاب خنزير بهيم معتوه وقح سخيف "
    "لئيم خسيس منافق حثالة متخلف"
).split()
INSULTS_DIALECT = {
    "arz": ["حيوان", "متخلف", "بجم", "أهبل", "عبيط", "حمار", "كلب", "واطي", "غبي", "جزمة", "زبالة", "معفن"],
    "apc": ["أجدب", "أهبل", "جحش", "حمار", "كلب", "واطي", "غبي", "بلا مخ", "حيوان", "هبيلة", "زبالة", "بهيم"],
}
# Groups that exist nowhere or everywhere: no real nation, sect or tribe is insulted here.
GROUPS = [
    "أهل الشمال",
    "أهل الجنوب",
    "سكان الحي الشرقي",
    "سكان الحي الغربي",
    "أبناء القرية المجاورة",
    "أهل الجبل",
    "أهل الساحل",
    "جماهير الفريق الأخضر",
    "جماهير الفريق الأزرق",
    "عمال المصنع القديم",
    "أهل زمردة",
    "سكان جزيرة ناردين",
    "أبناء بني سهيل",
    "أهل الريف",
    "شباب هذه الأيام",
    "أصحاب الدكاكين",
    "سكان العمارة المقابلة",
    "العمال الأجانب",
    "طلاب المدرسة الأخرى",
    "تجار السوق القديم",
    "أهل مرجانة",
    "سكان وادي الريحان",
]
MEN = "سالم خالد يوسف كريم مازن طارق حسن سامي ماجد عمر زياد أنس باسم رامي نبيل فارس".split()
WOMEN = "منى ليلى سعاد هدى ريم سلمى نور أمل دانة رنا هالة سارة مها لمى ندى شيماء".split()
MEN_EN = "Salim Khalid Yusuf Karim Mazen Tariq Hasan Sami Majid Omar Ziad Anas Basim Rami Nabil Faris".split()
WOMEN_EN = "Mona Layla Suad Huda Reem Salma Nour Amal Dana Rana Hala Sara Maha Lama Nada Shaima".split()
DAYS = [
    ("السبت", "Saturday"),
    ("الأحد", "Sunday"),
    ("الاثنين", "Monday"),
    ("الثلاثاء", "Tuesday"),
    ("الأربعاء", "Wednesday"),
    ("الخميس", "Thursday"),
]
TIMES = [
    ("الصباح الباكر", "early in the morning"),
    ("وقت الظهر", "at noon"),
    ("وقت العصر", "in the afternoon"),
    ("المساء", "in the evening"),
]
PLACES = [
    ("السوق", "the market"),
    ("المدرسة", "the school"),
    ("المكتبة", "the library"),
    ("الحديقة", "the garden"),
    ("المخبز", "the bakery"),
    ("المتحف", "the museum"),
    ("النادي", "the club"),
    ("المستشفى", "the hospital"),
    ("محطة الحافلات", "the bus station"),
    ("الميناء", "the harbour"),
]
THINGS = [
    ("الخبز", "bread"),
    ("الفواكه", "fruit"),
    ("الكتب", "books"),
    ("الأقلام", "pens"),
    ("الزهور", "flowers"),
    ("القهوة", "coffee"),
    ("الشاي", "tea"),
    ("السمك", "fish"),
    ("الخضار", "vegetables"),
    ("العسل", "honey"),
]
# Ordinal, numeral month names and Hijri months, for dates.
MONTHS = [
    ("يناير", "January"),
    ("فبراير", "February"),
    ("مارس", "March"),
    ("أبريل", "April"),
    ("مايو", "May"),
    ("يونيو", "June"),
    ("يوليو", "July"),
    ("أغسطس", "August"),
    ("سبتمبر", "September"),
    ("أكتوبر", "October"),
    ("نوفمبر", "November"),
    ("ديسمبر", "December"),
]
HIJRI = ["محرم", "صفر", "رجب", "شعبان", "رمضان", "شوال", "ربيع الأول", "ذي القعدة", "ذي الحجة"]


def split(words: list[str]) -> dict[str, list[str]]:
    """A lexicon as {'visible': [...], 'heldout': [...]}."""
    return {name: [w for w in words if half(w) == name] for name in ("visible", "heldout")}
