"""Yes or no in a written answer, by whole words and their negations; None where it says both, neither, or asks back."""

from __future__ import annotations

import re

from fitra import arabic


def _folded(words: str) -> frozenset[str]:
    return frozenset(arabic.fold(words, level="search").split())


YES_ALONE = _folded("نعم أجل بلى أيوه yes yep yeah")  # a verdict only where nothing leans on it
NO_ALONE = _folded("لا كلا no nope")
YES = _folded("صح صحيح صحيحة صحيحا صحيحتان صائب صائبة صائبا true correct")
NO = _folded("خطأ خطاء خاطئ خاطيء خاطئة خاطئا غلط مغلوط مغلوطة كاذب كاذبة false incorrect wrong untrue")
NEGATORS = _folded("غير ليس ليست ليسا وليس وليست لا ولا لم لن ما مش مو مب موش بدون دون بلا not never without no")
CUES = _folded(
    "الإجابة إجابة إجابتي الجواب جواب جوابي فالجواب فالإجابة الرد الحكم النتيجة الصحيح الصحيحة النهائية النهائي هي "
    "هو ب answer is final correct verdict the"
)
ASKS = _folded("هل إذا سواء لو whether if") | {"ان_كانت", "ان_كان"}
HEDGES = _folded("أعلم أعرف أدري أستطيع يمكنني يمكننا متأكد متأكدة واثق الجزم أجزم know sure cannot unsure")
AFTER_NO = _folded("هذه هذا هي هو إنها إنه أنها أنه ليس ليست تلك ذلك فهي فهو بل it this that")
GRACE = _folded("الله ربي ربنا ربك المولى الدنيا كثيرة عظيمة العبد الرجل")  # نِعَم and نِعْمَ
BOOKS = _folded("البخاري مسلم ابن الترمذي الجامع")
MANNER = _folded("بشكل بنحو نحو وجه بصورة بطريقة")
# What a predicate like صحيحة must be said of, unless it opens its clause: «معلومات صحيحة» judges nothing.
SUBJECTS = _folded(
    "الجملة الجملتان العبارة المقولة القول الكلام الادعاء المعلومة الإجابة الجواب السؤال الخبر الرأي النص هذا هذه ذلك "
    "تلك هي هو إنها إنه أنها أنه فهي فهو وهي وهو بأنها بأنه كلاهما statement sentence claim answer it this that"
)
COPULAS = _folded("is are was were seems تعتبر يعتبر تعد يعد تبدو يبدو تكون يكون كانت كان")
LIGHT = _folded("هناك يوجد توجد أي بالتأكيد طبعا بالطبع تماما جدا فعلا حقا من هنا also quite absolutely definitely")
SUMS_UP = _folded("الإجابة إجابة إجابتي الجواب جوابي فالجواب فالإجابة الحكم النتيجة الخلاصة answer verdict conclusion")
NEAR = 3  # sentences in which a verdict may stand without such a word: further on it belongs to an explanation
_SIGNS = str.maketrans({**dict.fromkeys("✓✔✅☑", " صح "), **dict.fromkeys("✗✘❌✖❎", " خطا ")})
_NO_DOUBT = re.compile(r"\b(?:ب?لا (?:شك|ريب|جدال|خلاف)(?: في)?|(?:there is )?no doubt)\b", re.IGNORECASE)
_NO_ERROR = re.compile(r"\bلا خطا (في|فيها|فيه|بها|به)\b")
_NOT = re.compile(r"n't\b", re.IGNORECASE)
_IF_IT_WERE = re.compile(r"\b(?:ان|ما اذا) (كانت|كان)\b")
_SENTENCE = re.compile(r"[.!\n]|(?<=\?)")
_CLAUSE = re.compile(r"[,;:()\[\]\"'/]|(?:^| )(?:-|(?:لان|لانها|لانه|بل|because|but|او|ام|or)(?= ))")
_WORD = re.compile(r"\w+")


def yes_no(text: str) -> bool | None:
    """The verdict of a folded answer (`extract.plain`): of its first sentence that has one, if it has only one.

    Looked for in the first three sentences, and later where one sums up («إذن الإجابة هي لا»). True for نعم, صح,
    «ليست خاطئة»; False for لا, خطأ, «غير صحيحة»; None for «نعم أو لا», «لا أعلم», a question, or an answer that
    contradicts itself.
    """
    text = _IF_IT_WERE.sub(r"ان_\1", _NO_DOUBT.sub(" ", text.translate(_SIGNS)))
    text = _NOT.sub(" not", _NO_ERROR.sub("صح", text))
    n = 0
    for sentence in _SENTENCE.split(text):
        words = _WORD.findall(sentence.lower())
        n += bool(words)
        if (
            not words
            or (n > NEAR and not SUMS_UP & set(words))
            or sentence.rstrip().endswith("?")
            or ASKS & set(words)
            or HEDGES & set(words)
        ):
            continue
        said = {v for part in _CLAUSE.split(sentence.lower()) for v in _clause(_WORD.findall(part))}
        if said:
            return said.pop() if len(said) == 1 else None
    return None


def _clause(words: list[str]) -> set[bool]:
    """What one clause affirms."""
    said: set[bool] = set()
    whole = words
    words = words[next((k for k, w in enumerate(words[:-1]) if w not in CUES), max(0, len(words) - 1)) :]
    if not words:
        return said
    first, after = words[0], words[1] if len(words) > 1 else ""
    if first in YES_ALONE and after not in GRACE:
        said.add(True)
        words = words[1:]
    elif first in NO_ALONE and (not after or (first != "كلا" and (after in AFTER_NO or after.startswith("ال")))):
        said.add(False)
        words = words[1:]
    elif words[-1] in YES_ALONE | NO_ALONE and len(words) > 1 and words[-2] in CUES:
        said.add(words[-1] in YES_ALONE)  # «جوابي على ذلك هو لا»
        words = words[:-1]
    flips, judged, light = 0, len(words) < len(whole), True
    for k, word in enumerate(words):
        before, then = words[k - 1] if k else "", words[k + 1] if k + 1 < len(words) else ""
        if word in NEGATORS:
            flips += 1
        elif word in YES | NO or (before == "من" and word in ("الصحيح", "الخطا")):
            near = [w for w in words[max(0, k - 2) : k] if w not in NEGATORS][-1:]
            said_of = judged or light or bool(near and near[0] in COPULAS)
            noun = word == "correct" and then in ("answer", "option", "choice", "response")
            if noun or not said_of or then in BOOKS or before in MANNER:
                continue
            if words == ["لا", "خطا"]:
                return said  # no error, or no: wrong
            right = word in YES or word == "الصحيح"
            said.add(right != bool(flips % 2))
            flips = 0
        judged = judged or word in SUBJECTS
        light = light and word in NEGATORS | LIGHT
    return said
