"""Language and dialect of a text, from script, letters and function words: no model, no download.

`detect` answers ``ar`` (standard, classical or an Arabic dialect that it cannot name), ``arz`` (Egyptian), ``apc``
(Levantine), ``fa``, ``ur``, ``en`` or ``other``, and how sure it is. A dialect is a hint: it is named only where words
that standard Arabic does not have are seen, so short dialect texts without such a word come out as ``ar``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa

from fitra import arabic

# At most this much is looked at, in three windows: start, middle, end.
WINDOW_CHARS = 1500

_ARABIC = re.compile("[\u0620-\u064a\u066e-\u06d3\u0750-\u077f\u08a0-\u08c7\ufb50-\ufdff\ufe70-\ufefc]+")
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]+")
_OTHER = re.compile(
    "[\u0370-\u058f\u0590-\u05ff\u0700-\u074f\u0780-\u085f\u0900-\u1fff\u2c00-\u2dff\u3040-\ud7a3\uf900-\ufaff]+"
)
_PERSIAN_LETTERS = re.compile("[پچژگکی]+")
_URDU_LETTERS = re.compile("[ٹڈڑںےہھ]+")
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+|\S+@\S+|@\w+")  # Latin letters that say nothing of the language


def _lexicon(words: str) -> frozenset[str]:
    return frozenset(arabic.fold(words, "search").split())


STANDARD = _lexicon(
    "في من على إلى عن أن إن هذا هذه ذلك تلك التي الذي الذين اللذين لم لن قد ليس ليست كما حيث بين بعد قبل عند منذ"
    " خلال أو ثم لكن غير حتى كل بعض هو هي هم كان كانت يكون لا ما إذا نحن سوف أي مع لقد إنه أنه بأن لأن فقد وقد"
)
EGYPTIAN = _lexicon(
    "ده دي دا دول اللي مش ازاي إزاي عشان علشان كده كدا بتاع بتاعة بتاعت بتوع دلوقتي دلوقت إيه ايه احنا إحنا انتو"
    " إنتو ليه فين امتى إمتى برضه برضو النهارده النهاردة امبارح بكره عايز عاوز عايزه عايزين مفيش مافيش هوه هيه"
    " هما اتولد اتولدت يعنى زى اوى أوي قوي بقى بقا كمان معاه معاها حاجه حاجة وده ودي وكمان اهو لسه بيقول بتقول"
    " مصرى كانو اتجوز اشتغل ولاد بيه ازيك يلا خالص تانى تاني عليهم بيعمل محدش علي ان لما جدا هيبقى هيكون"
) - _lexicon("ان لما جدا علي عليهم يعني خالص حاجه تاني مصري قوي زي بيه ولاد كمان يلا")
LEVANTINE = _lexicon(
    "هيدا هيدي هاد هاي هاذ هالشي شو ليش هلق هلأ هلا منيح منيحة كتير كتيير بدي بدك بدو بدنا بدها بدهم عم مو مشان"
    " عشاني هيك لسا لساتك رح راح وين كيفك يلي إلي إلك إلنا فيني فيك ما في معي معك حدا شي هون هونيك هنيك إيمتى"
    " إيمت لإنو لأنو إنو أنو منو شوي زلمة مرتي عندو تبعي تبع تبعك بيقولو بحكي بتحكي حكي احكي منشان كرمال ليك"
    " والله حبيبي نحنا انتي بس شلون اجا إجا إجت ايجا قديش قديه هاليوم هالبلد خلص هاد هدول هدا هادا بعرف بتعرف"
) - _lexicon("والله حبيبي ما في معي معك شي راح فيك بس خلص تبع إلي أنو إنو شلون انتي حكي")
# Words of other dialects: seen, they speak against the two that are named here.
GULF_MAGHREB = _lexicon(
    "شلون وش ايش ابغى ابغا ابي زين هذي الحين وايد مب مهوب اللحين يبي تبي ياخي ديال بزاف واش كيفاش حنا راه ديالي"
    " دابا هاد علاش بصح كاين ماكاش برشا توا شنو شنوا ياسر باش"
)
PERSIAN = _lexicon("این که از را با است برای می های آن به خود شد شده یک در تا هم نیز بود کرد کند او ها ای")
URDU = _lexicon("کے کی کا میں ہے اور سے کو نے پر یہ وہ بھی ہیں تھا کر ایک اس نہیں تو گیا تھے")
ENGLISH = _lexicon(
    "the of and to in a is that it was for on are as with his they at be this have from or had by not but what all"
    " were we when your can said there an which she do how their if will up about out many then them these so her i"
    " you he my me no has been would who more its our"
)
LATIN_OTHERS = _lexicon(
    "le la les des et est une du que pas pour dans sur qui avec el los las una por con para der die das und ist nicht"
    " ein eine mit den von zu il che di non per della een het van niet bir ve bu için de da en um uma não os se"
)


def _window(text: str) -> str:
    if len(text) <= 3 * WINDOW_CHARS:
        return text
    middle = len(text) // 2
    return "\n".join((text[:WINDOW_CHARS], text[middle : middle + WINDOW_CHARS], text[-WINDOW_CHARS:]))


def _letters(pattern: re.Pattern[str], text: str) -> int:
    return sum(map(len, pattern.findall(text)))


def detect(text: str) -> tuple[str, float]:
    """The language code and a confidence from 0 to 1; a text without letters is ``("other", 0.0)``."""
    return detect_all([text])[0]


def detect_all(texts: Sequence[str]) -> list[tuple[str, float]]:
    """`detect` for many texts, folding them together."""
    samples = [_ADDRESS.sub(" ", _window(t)) for t in texts]
    folded = arabic.fold_array(pa.array(samples, pa.large_string()), "search").to_pylist()
    return [_detect(s, f.split()) for s, f in zip(samples, folded, strict=True)]


def _detect(sample: str, tokens: list[str]) -> tuple[str, float]:
    in_arabic, in_latin, in_other = (_letters(p, sample) for p in (_ARABIC, _LATIN, _OTHER))
    total = in_arabic + in_latin + in_other
    if not total:
        return "other", 0.0
    if in_arabic >= max(in_latin, in_other):
        lang, sure = _arabic_script(sample, tokens, in_arabic)
        return lang, round(sure * in_arabic / total, 3)
    if in_latin >= in_other:
        lang, sure = _latin_script(sample, tokens)
        return lang, round(sure * in_latin / total, 3)
    return "other", round(in_other / total, 3)


def _hits(tokens: list[str], lexicon: frozenset[str]) -> int:
    return sum(map(lexicon.__contains__, tokens))


def _arabic_script(sample: str, tokens: list[str], letters: int) -> tuple[str, float]:
    n = max(len(tokens), 1)
    urdu, persian = (_letters(p, sample) / letters for p in (_URDU_LETTERS, _PERSIAN_LETTERS))
    hits = {name: _hits(tokens, lexicon) for name, lexicon in _LEXICONS.items()}
    if urdu > 0.02 and hits["ur"] > hits["ar"]:
        return "ur", min(1.0, 0.5 + 10 * urdu)
    # Egyptian web text may type Persian ya for ya: the letters alone do not make a text Persian.
    if persian > 0.02 and hits["fa"] > hits["ar"]:
        return "fa", min(1.0, 0.5 + 5 * persian)
    if (persian > 0.1 or urdu > 0.1) and hits["ar"] / n < 0.05:
        return ("ur" if urdu > 0.1 else "fa"), 0.5
    name = max(("arz", "apc"), key=lambda k: hits[k])
    dialect, rest = hits[name], hits["arz"] + hits["apc"] - hits[name] + hits["gulf"]
    # One word in a short text is enough; in a long one dialect must be a share, or quotations would decide.
    if dialect > rest and dialect / n >= 0.015:
        return name, min(1.0, 0.5 + 0.1 * (dialect - rest) + dialect / n)
    return "ar", min(1.0, 0.6 + hits["ar"] / n)


_LEXICONS = {"ar": STANDARD, "arz": EGYPTIAN, "apc": LEVANTINE, "gulf": GULF_MAGHREB, "fa": PERSIAN, "ur": URDU}


def _latin_script(sample: str, tokens: list[str]) -> tuple[str, float]:
    n = max(len(tokens), 1)
    english, others = _hits(tokens, ENGLISH), _hits(tokens, LATIN_OTHERS)
    if english > others and english / n >= 0.08:
        return "en", min(1.0, 0.5 + english / n)
    if n < 12 and sample.isascii() and english >= others:
        return "en", 0.3
    return "other", 0.5 if others > english else 0.3
