"""Language of a text from its letters and function words: no model, no download, no Python per text.

`detect_view` answers ``ar`` (standard, classical or any dialect, in Arabic script), ``fa`` (Persian and Dari), ``ur``,
``ckb`` (Kurdish in Arabic script), ``ps`` (Pashto), ``en``, ``arabizi`` (Arabic in Latin letters and digits) or
``other``. `detect` and `detect_all` also name two dialects as languages, ``arz`` (Egyptian) and ``apc`` (Levantine).

Inside the Arabic script it is a naive Bayes of two kinds of evidence, with probabilities set by hand. Letters: which
share of them belongs to each language's own (taken from the text as written, as folding unifies them). Words: how many
are function words of the language or carry the Arabic article. Neither is enough alone: Arabic may be typed on a
Persian keyboard and Persian on an Arabic one.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fitra import arabic
from fitra.signals import dialect
from fitra.signals import letters as kinds
from fitra.signals.view import View
from fitra.signals.view import view as make_view

CODES = ("ar", "fa", "ur", "ckb", "ps", "en", "arabizi", "other")

Floats = npt.NDArray[np.float64]


def _lexicon(words: str) -> frozenset[str]:
    return frozenset(arabic.fold(words, "search").split())


# Folded words must not collide across languages: «ہے» and «هي», «این» and «أين», «او» and «أو» fold alike.
ARABIC = _lexicon(
    "في من على إلى عن أن هذا هذه ذلك تلك التي الذي الذين لم لن قد ليس ليست كما حيث بين بعد قبل عند منذ خلال أو ثم لكن"
    " غير كل كان كانت يكون لا ما إذا نحن سوف مع لقد إنه بأن لأن فقد وقد وفي ومن وعلى فيه فيها منه منها"
    " عليه عليها به بها"
    " له لها وهو وهي وكان ولا وما يا عليهم فإن قال"
    " فى اللى اللي ده دي مش كده كدا عشان علشان دا شو هيك كتير بدي مو وين ليش هاد وش ايش ابي الحين زين هواي"
    " شنو اكو ديال"
    " واش بزاف حنا انا انت انتي انتو احنا هما والله بس كمان هلق عم لسه ليه فين ازاي يعني ياخي"
)
PERSIAN = _lexicon(
    "که از را با است برای می های خود شد شده یک در تا نیز بود کرد کند ها باید شود هر آنها باشد دارد اند"
    " بوده کرده یا وی"
    " دیگر هیچ چون چه نمی کنند خواهد ایشان همه بدون مورد آنکه شوند چنین اینکه گردد کس هستند داشته"
) - _lexicon("يا در با مي هر وي ها همه چه چون مورد")
URDU = _lexicon(
    "میں اور سے کو نے پر یہ وہ بھی ہیں تھا ایک اس نہیں گیا تھے ہوں ہو گا گی گے جو کہ کیا کرنے ہوتا اپنے"
    " اپنی ان کسی حاصل"
    " ہے جائے دیا لیے لئے ساتھ اگر سکتا کوئی طرح والے رہا بہت کے کی کا"
) - _lexicon("سے کو نے پر یہ وہ ہو جو کہ کیا کسی ہے کی کے کا اس ان گا گی حاصل دیا")
KURDISH = _lexicon("لە بۆ کە ئەم ئەو لەگەڵ هەر دەبێت دەکات هەموو هەیە خۆی یان وەک بەڵام نییە دوای ئێستا نێوان چۆن")
PASHTO = _lexicon(
    "په چې څخه کړي لپاره هغه خپل سره کول پر وي دغه شوی کوي ټول هیڅ باید شي لري ډول هر چا خپلو دی یو نو مې ورته هم او دي"
) - _lexicon("دي هر يو نو او هم وي شي چا")
# Neighbours of these that write with the same letters: Western Panjabi, Saraiki, Sindhi, Azerbaijani, Malay.
ARABIC_SCRIPT_OTHERS = _lexicon(
    "دے دی نوں ایہہ ای نیں پئی اتے کوں وچ دا تھیوے اوں جیا آهي جي ۾ جو کي کان بیر ایله اوچون اولان دير لار اولماق"
    " يڠ دان اوليه تياد سواتو كڤد اتاو اين سچارا لاءين اينله سباڬاي ڤد اداله اين دالم تيدق حق سموا ستياڤ اورڠ"
) - _lexicon("دان حق اين جو دير دا دي اي")
PANJABI = _lexicon(
    "دے دی نوں دا ای اے نیں پئی ایہہ اوہ ہووے وچ لئی اتے تے کوں ہن اوں کیتے ہوسی تھیوے ڳالھ اپݨے آپݨی کر"
    " نال سارے کیتا ہک"
)
# What English has and other Latin writing hardly: single letters and «me», «so» are everywhere.
ENGLISH_ONLY = _lexicon(
    "the of and that with was for are this have from which their there they were what would been has had"
    " his by not it is"
    " you your we our to should when"
)
ENGLISH = _lexicon(
    "the of and to in a is that it was for on are as with his they at be this have from or had by not but"
    " what all were"
    " we when your can said there an which she do how their if will up about out many then them these so"
    " her i you he my"
    " me no has been would who more its our shall any one other should could may only such into than some"
    " over very after"
    " before because through between did most also where must being down now us him everyone against under"
    " without own"
    " upon those while never always every again same both whose during each does just like until here made make time"
)
LATIN_OTHERS = _lexicon(
    "le la les des et est une du que pas pour dans sur qui avec el los las por con para der die das und ist nicht ein"
    " eine mit den von zu il che di non per della een het van niet bir ve bu için de da en um uma não os"
    " se na ne je se"
    " nie jest to i w z do się og det som til av på är och att med den inte ja on ei se että af hana ya"
    " kwa ni wa la za"
    " ang ng sa mga yang dan untuk dengan au aux ou al del lo un una y o e ha è si no más como sono och för vi du jeg"
    " ke ki ka mo va ta te nga o ko ma a li lu su ni dhe të në ku iyo ka ee waa oo ir ar un az egy nem és"
    " hogy mit sich"
    " auf im dem wird jeder hat oder sein seine jede haf wan fi dem fe di dey be wey sey im evri hev hez aa ilk onie"
    " ti bi se ki awon hen kho có và của là các mbeki ose yon pou nan moun u w o w ye maki sy ny amin izay her"
) - _lexicon("to no a i on do be her time made us an ar fi may is")
# English and other words that look like Arabizi.
_NOT_ARABIZI = _lexicon(
    "abi al ala ash bel chu da di dial dy eh el fee fen fi fil had hada hal hay hik il kan kano khaled kola"
    " kul la laa lama law li lli masa salam shoo tab wash wen zain zen"
)
ARABIZI_SHARED = _lexicon("el al la ya fe w we ma da di fi fel le men ho hal a bas had li kan")
_ENGLISH_ENDING = (
    "^[a-z]{2,}(?:ing|tion|tions|ness|ity|ment|ments|ous|ful|ly|ed|able|al|ical|ious|ance|ence|ship|ght|ck|th)$"
)
# Digits stand for letters inside a Latin word: 3arabi, 7abibi, sa2al, ma5rag; units, ordinals and names do not count.
_DIGIT_WORD = "^(?:[a-z]*[a-z][23578]+[a-z]+[a-z23579]*|[23579]+[a-z]{2,}[a-z23579]*|[a-z]{2,}[2379])$"
_NO_DIGIT_WORD = (
    "^(?:[0-9]+(?:st|nd|rd|th|kg|km|cm|mm|ml|mg|gb|mb|kb|tb|hz|ghz|mhz|am|pm|hr|hrs|min|px|pt|ft|in|lb|lbs|oz|bit|way"
    "|x|k|d|g|kw|mw|gw|kwh|nm|sq|yr|yrs|eme|er|de|m|s|l|w|v|ème|ers)|covid.*|mp3|mp4|h2o|co2|b2b|b2c|p2p|k12|o2|c3po"
    "|r2d2|v[0-9]|[a-z]+[0-9])$"
)


@functools.cache
def _arabizi() -> frozenset[str]:
    """The words of data/arabizi.txt: common ones, and those of example sentences, both written for Fitra."""
    shipped = (resources.files("fitra.signals") / "data" / "arabizi.txt").read_text("utf-8")
    return _lexicon(shipped) - _NOT_ARABIZI - ENGLISH - LATIN_OTHERS


# Probability of each group of letters in each language, set by hand (rows sum to about 1 with the common letters).
_GROUPS = ("common", "true", "keys", "fa_keys", "persian", "urdu", "kurdish", "pashto", "ve", "rest")
_SCRIPT = ("ar", "fa", "ur", "ckb", "ps", "other", "other")  # the last: Panjabi and Saraiki, with the letters of Urdu
_LETTERS = np.array(
    [  # common   true  ar_keys fa_keys persian urdu   kurdish pashto  ve     rest
        [0.8000, 0.0700, 0.0900, 0.0200, 0.0020, 0.0010, 0.0004, 0.0004, 0.0010, 0.0004],  # ar
        [0.8000, 0.0100, 0.0300, 0.1200, 0.0350, 0.0010, 0.0006, 0.0006, 0.0003, 0.0006],  # fa
        [0.6600, 0.0030, 0.0060, 0.1200, 0.0200, 0.1900, 0.0004, 0.0004, 0.0002, 0.0010],  # ur
        [0.5800, 0.0020, 0.0150, 0.1300, 0.0300, 0.0200, 0.2100, 0.0010, 0.0070, 0.0020],  # ckb
        [0.7600, 0.0100, 0.0400, 0.0600, 0.0200, 0.0030, 0.0010, 0.1000, 0.0003, 0.0030],  # ps
        [0.6400, 0.0100, 0.0500, 0.0700, 0.0300, 0.0500, 0.0200, 0.0300, 0.0100, 0.0800],  # other
        [0.6500, 0.0030, 0.0060, 0.1200, 0.0200, 0.1850, 0.0004, 0.0004, 0.0002, 0.0050],  # other, like Urdu
    ]
)
# Probability that a word is in a lexicon, per language: rows lexicons, columns `_SCRIPT`.
_WORDS = np.array(
    [  #  ar     fa     ur     ckb    ps     other  Panjabi
        [0.250, 0.030, 0.030, 0.040, 0.040, 0.060, 0.030],  # ARABIC
        [0.005, 0.250, 0.015, 0.010, 0.020, 0.030, 0.015],  # PERSIAN
        [0.005, 0.005, 0.180, 0.003, 0.005, 0.060, 0.050],  # URDU
        [0.002, 0.010, 0.003, 0.150, 0.003, 0.010, 0.003],  # KURDISH
        [0.010, 0.020, 0.010, 0.005, 0.220, 0.020, 0.010],  # PASHTO
        [0.010, 0.005, 0.015, 0.005, 0.010, 0.120, 0.030],  # ARABIC_SCRIPT_OTHERS
        [0.020, 0.020, 0.060, 0.020, 0.040, 0.030, 0.220],  # PANJABI
        [0.220, 0.020, 0.010, 0.010, 0.010, 0.030, 0.010],  # the article
    ]
)
_TEMPER = 0.35  # letters and words of one text are not independent: a text is worth about a third of its evidence
_PRIOR = np.log(np.array([0.90, 0.03, 0.02, 0.01, 0.01, 0.02, 0.01]))


def _sums(view: View, lexicon: frozenset[str]) -> Floats:
    return view.sums(view.member(lexicon))


def _matches(view: View, pattern: str, among: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
    """1.0 for the words of the vocabulary that match, else 0.0; only those with 1.0 in `among` are looked at."""
    if among is None:
        found = pc.match_substring_regex(view.vocab, pattern)
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.float32)
    out = np.zeros(len(view.vocab), dtype=np.float32)
    at = np.flatnonzero(among)
    out[at] = pc.match_substring_regex(view.vocab.take(pa.array(at)), pattern).to_numpy(zero_copy_only=False)
    return out


def _in_addresses(found: kinds.Letters) -> npt.NDArray[np.int64]:
    """Latin letters per text that stand in links, e-mail addresses and handles: they say nothing of the language."""
    codes, n = found.codes, len(found.bounds) - 1
    out = np.zeros(n, dtype=np.int64)
    hits = np.flatnonzero(found.kinds == kinds.AT)
    colon = np.flatnonzero(codes[:-2] == ord(":")) if len(codes) > 2 else np.zeros(0, np.int64)
    colon = colon[(codes[colon + 1] == ord("/")) & (codes[colon + 2] == ord("/"))]
    hits = np.sort(np.concatenate((hits, colon)))
    if not len(hits):
        return out
    blank = np.flatnonzero((found.kinds == kinds.SPACE) | (found.kinds == kinds.BREAK))
    ends = np.concatenate(([0], blank, [len(codes)]))
    after = np.searchsorted(blank, hits)
    doc = np.searchsorted(found.bounds, hits, side="right")
    starts, stops = np.maximum(ends[after], found.bounds[doc - 1]), np.minimum(ends[after + 1], found.bounds[doc])
    starts, first = np.unique(starts, return_index=True)
    stops = stops[first]
    counts = kinds.span_sums((found.kinds == kinds.LATIN) | (found.kinds == kinds.LATIN_MARKED), starts, stops)
    np.add.at(out, np.searchsorted(found.bounds, starts, side="right") - 1, counts)
    return out


def detect_view(view: View) -> tuple[list[str], npt.NDArray[np.float32]]:
    """The language code of each text and a confidence from 0 to 1, (n,); a text without letters is other, 0."""
    found = kinds.letters(view)
    in_arabic = found.in_arabic.astype(np.float64)
    in_latin = (found.in_latin - _in_addresses(found)).astype(np.float64)
    in_other = found.counts[:, kinds.OTHER].astype(np.float64)
    total = in_arabic + in_latin + in_other
    script_code, script_sure = _arabic_script(view, found)
    latin_code, latin_sure = _latin_script(view, found, in_latin)
    arabic_first = (in_arabic > 0) & (in_arabic >= np.maximum(in_latin, in_other))
    latin_first = ~arabic_first & (in_latin > 0) & (in_latin >= in_other)
    code = np.where(arabic_first, script_code, np.where(latin_first, latin_code, CODES.index("other")))
    sure = np.where(arabic_first, script_sure * in_arabic, np.where(latin_first, latin_sure * in_latin, in_other))
    sure = np.divide(sure, total, out=np.zeros(len(view)), where=total > 0)
    return [CODES[c] for c in code.tolist()], sure.astype(np.float32)


def _arabic_script(view: View, found: kinds.Letters) -> tuple[npt.NDArray[np.int64], Floats]:
    counts = found.counts[:, : len(_GROUPS)].astype(np.float64)
    evidence = counts @ np.log(_LETTERS).T
    words = np.maximum(view.n_words, 1).astype(np.float64)
    article = _matches(view, "^[وفبك]?(?:ال|لل)..")
    lexicons = (ARABIC, PERSIAN, URDU, KURDISH, PASHTO, ARABIC_SCRIPT_OTHERS, PANJABI)
    for row, hits in zip(_WORDS, [*(_sums(view, x) for x in lexicons), view.sums(article)], strict=True):
        evidence += hits[:, None] * np.log(row) + (words - hits)[:, None] * np.log1p(-row)
    evidence = _TEMPER * evidence + _PRIOR
    evidence -= evidence.max(axis=1, keepdims=True)
    p = np.exp(evidence)
    p /= p.sum(axis=1, keepdims=True)
    best = np.argmax(p, axis=1)
    return np.array([CODES.index(c) for c in _SCRIPT])[best], p[np.arange(len(view)), best]


def _latin_script(view: View, found: kinds.Letters, in_latin: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    latin = _matches(view, "^[0-9]*[a-z\u00df-\u024f]")
    digits = _matches(view, _DIGIT_WORD, latin) * (1 - _matches(view, _NO_DIGIT_WORD, latin))
    as_arabic = np.maximum(digits, view.member(_arabizi()))
    words = np.maximum(view.sums(latin), 1)
    english, only, others, mixed, shared = (
        x / words
        for x in (
            _sums(view, ENGLISH) + 0.5 * view.sums(_matches(view, _ENGLISH_ENDING, latin)),
            _sums(view, ENGLISH_ONLY),
            _sums(view, LATIN_OTHERS),
            view.sums(as_arabic),
            _sums(view, ARABIZI_SHARED),
        )
    )
    others = others + 4 * found.counts[:, kinds.LATIN_MARKED] / np.maximum(in_latin, 1)
    # «el», «ya», «la» are Spanish and French too: they count as Arabic beside words that are Arabic alone.
    mixed, as_others = np.where(mixed >= 0.1, mixed + shared, mixed), np.where(mixed >= 0.1, others - shared, others)
    sound = (only >= 0.06) | (words < 20) | ((english >= 0.3) & (others < 0.08) & (only >= 0.02))
    is_english = (english > others) & (english > 1.2 * mixed) & (english >= 0.15) & sound
    is_mixed = ~is_english & (mixed >= 0.2) & (mixed > 1.2 * as_others)
    # A few words without any function word: a name, a title. English is likeliest in Arabic data, and unsure.
    short = ~is_english & ~is_mixed & (words < 12) & (english >= others) & (mixed == 0) & (others == 0)
    code = np.where(
        is_english | short, CODES.index("en"), np.where(is_mixed, CODES.index("arabizi"), CODES.index("other"))
    )
    sure = np.where(
        is_english,
        0.5 + english,
        np.where(is_mixed, 0.5 + mixed, np.where(short, 0.3, np.where(others > english, 0.7, 0.4))),
    )
    return code, np.minimum(sure, 1.0)


def detect_all(texts: Sequence[str]) -> list[tuple[str, float]]:
    """Language and confidence of each text; Egyptian is ``arz`` and Levantine ``apc`` where dialect is clear."""
    view = make_view(texts)
    codes, sure = detect_view(view)
    variety, region, how_sure = dialect.label(view)
    out = []
    for i, code in enumerate(codes):
        named = {"egypt": "arz", "levant": "apc"}.get(region[i] or "") if variety[i] == "dialect" else None
        if code == "ar" and named and how_sure[i] >= 0.8:
            out.append((named, round(float(sure[i] * how_sure[i]), 3)))
        else:
            out.append((code, round(float(sure[i]), 3)))
    return out


def detect(text: str) -> tuple[str, float]:
    """The language code and a confidence from 0 to 1; a text without letters is ``("other", 0.0)``."""
    return detect_all([text])[0]
