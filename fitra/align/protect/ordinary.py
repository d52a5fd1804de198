"""Words of the Qur'an that are ordinary Arabic too.

A match of four or five words made of nothing but these words («إن لم يكن له», «من قبل ومن بعد») is protected only
where something says that it is scripture: its marks, brackets, words like «قال تعالى» before it, a reference after it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fitra import arabic
from fitra.align.protect.spans import Match
from fitra.align.protect.words import folded

__all__ = ["cued", "may_be"]

LONGEST = 5  # words; a longer match is scripture whatever its words
_LIST = """
من في على إلى عن ما لا لم لن إن أن أنه إنه أنهم هو هي هم هذا هذه ذلك تلك الذي التي الذين كان كانوا كانت يكن
يكون تكون كل بعد قبل حتى إذا إذ إلا أو أم بل ثم قد لقد مع بين عند غير كما لما مما فيه فيها منه منها منهم لهم
له لها لك لنا به بها عليه عليها عليهم إليه إليهم وما ولا وإن وأن ولم وكان ومن وفي وعلى وهو وهم أنا أنت أنتم
نحن الله لله قال شيء شاء سبيل بني إسرائيل أولاد أحد رسول ورسوله رسوله وقال لو ليس ألا فقال حزب عنك قادر ومن
الناس أيها يا وأنا أنعم شيئا علم بأن لأن وذلك وهذا وقد
"""
_WORDS = frozenset(folded(w)[0] for w in _LIST.split())
# Read as ordinary in news and encyclopaedias though their words are not.
_PHRASES = frozenset(
    tuple(folded(w)[0] for w in phrase.split())
    for phrase in ("من بعد صلاة العشاء", "من قبل ومن بعد", "من السماء إلى الأرض", "إلى بني إسرائيل في")
)
_MARK = re.compile("[\u064b-\u0652\u0670]")
_OPEN = re.compile(r"[﴿{«“\"(\[]\s*(?:[.…]{1,3}\s*)?\Z")
_SHUT = re.compile(r"\s*[.…،]{0,3}\s*[﴾}»”\")\]]")
_BEFORE = re.compile(
    "(?:قال|قول|يقول|قوله|الله|ربنا|الحق) (?:تعالي|سبحانه|عز وجل|جل وعلا|جل جلاله|تبارك)|قوله|قول الله|كتابه|الايه|ايه"
    "|الايات|سوره|القران|تنزيل|تلا|قرا |اعوذ بالله|بسم الله"
)
_AFTER = re.compile(r"\W{0,4}(?:[\[(]\s*(?:سوره )?\w+(?: \w+)?\s*[:،/]\s*(?:الايه )?\d|سوره|الايه|صدق الله)")


def may_be(words: Sequence[str]) -> bool:
    """Whether a match (words as `folded`) could as well be ordinary Arabic."""
    return len(words) <= LONGEST and (tuple(words) in _PHRASES or _WORDS.issuperset(words))


def cued(text: str, m: Match) -> bool:
    """Whether something around a match, or its marks, says that it is scripture."""
    letters = sum(map(str.isalpha, text[m.start : m.end]))
    if len(_MARK.findall(text, m.start, m.end)) >= 0.4 * letters:
        return True
    before, after = text[max(0, m.start - 40) : m.start], text[m.end : m.end + 40]
    if _OPEN.search(before) and _SHUT.match(after):
        return True
    return bool(
        _BEFORE.search(arabic.fold(before, "search")) or _AFTER.match(arabic.fold(after, "compare").replace("  ", " "))
    )
