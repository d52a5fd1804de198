"""Taking insults out of a sentence word by word, so that the sentence and what it says remain.

What happens where: after a vocative («يا غبي») both go; an adjective beside its noun goes («المدير الغبي» -> «المدير»),
unless the noun is a thing («لأسباب تافهة» insults nobody); after «هذا», a verb or a preposition it becomes a neutral
person («هؤلاء الخونة» -> «هؤلاء الأشخاص»); as a predicate it becomes «مخطئ», in gender and number. Obscene words go.

Three grades of words. Hard ones are insults wherever they stand. Soft ones (animals, dirt, «فاشل») are insults where
they are aimed at somebody, in a frame of abuse («اسكت يا ..., محدش عايز رأيك»), or where the caller says so:
`Found.open` names those that stand unaimed, and `rules` asks the trained scorer about them. Accusations («قاتل») only
to somebody's face.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from fitra.align.groups import fold
from fitra.align.insult_words import (
    ACCUSATION,
    ATTACHED,
    DEFINITE,
    FIRST,
    HARD,
    NOUN,
    SOFT,
    STRONG,
    VULGAR,
    Lexicon,
    bare,
    compile_lexicon,
    forms_of,
)  # fmt: skip

__all__ = ["Found", "Lexicon", "compile_lexicon", "neutralise"]

_TOKEN = re.compile(r"⟦[0-9a-f]{8}:\d+⟧|[\w\u0610-\u061a\u0640\u064b-\u065f\u0670]+")
_CLITIC = re.compile(r"^[وف]?(?:لل|بال|كال|عال)")
SHORT = 12  # words: an obscene sentence this short says nothing else


def _folded(words: str) -> frozenset[str]:
    return frozenset(fold(w) for w in words.split())


_SUBJECTS = _folded(
    "هو هي هم هن انت انتي انتا انته انتم انتو انتوا انا احنا نحن انه انها انهم انك انكم انني اني انو ليس ليست"
    " هذا هذه ذلك تلك ده دي دا هاد هادا هيدا هؤلاء كلهم كلكم كلنا جميعهم جميعكم فهو فهي فهم وهو وهي وهم وانت"
    " وانتي وانتم بانه بانك بانهم بانها لانه لانك لانهم لانها لانو كانه كانك لكنه لكنك لكنهم والله اصلا طبعا"
    " يعني فعلا دايما دائما جدا كتير مجرد اكبر ليش لماذا كم شو ما مين"
)
_BEING = _folded(
    "كان كانت كانوا كنت كنتم يكون تكون يكونوا بيكون بتكون صار صارت صاروا صرت اصبح اصبحت يصبح طلع طلعت طلعوا"
    " كنا كنتو كنتوا يكونو نكون"
    " يطلع بقى بقيت بقوا يبقى تبقى بيبقى ظل ظلت يظل يبدو تبدو اعتبر يعتبر تعتبر اعتبره يعتبره سماه يسميه وصفه"
    " وصفته يصفه هتفضل حتضل رح تضل"
)
_PEOPLE = _folded(
    "واحد واحدة وحدة وحده شخص اشخاص رجل رجال زلمة زلمه حد حدا كائن مخلوق بني ادم بنادم انسان ناس اناس شوية"
    " مجموعة شلة شلت شويه"
)
_DEMONSTRATIVES = _folded("هذا هذه ذلك تلك هؤلاء أولئك وهذا وهؤلاء لهذا بهذا ذاك هذول هدول هذولا دول هاد هالـ")
_PLURAL_BEFORE = _folded("هؤلاء أولئك وهؤلاء هذول هدول هذولا دول هم انتم انتو كلهم كلكم جميعهم انهم انكم كانوا صاروا")
_AIMS = _folded(
    "انت انتي انتا انته انتم انتو انتوا انك انكم هؤلاء كلكم كلهم أيها يا ي مثلك ياايها أيتها هم هذول هدول ولك ولاك"
)
_YOU = _folded("انت انتي انتا انته انتم انتو انتوا انك انكم")
_DENIALS = _folded("ليس ليسوا ليست لست ولست لسنا لسن وليس مش مو غير لا ولا مب ماهو مهو مانك مانو ماني منيش")
_AIMS_AFTER = _folded("مثلك مثلكم متلك متلكم زيك زيكم انت انتي")
_SLOT = _folded(
    "قال قالت أن بأن أنه من إلى على عن في ثم حيث إذا عندما مثل بعض أحد كل هل أين متى كيف أو أم و زعم يقول جاء"
    " ذهب مع عند لدى ضد بين ان الى ع ف زي متل يا شاف شفت رايت سمعت كلم ضرب راح اجا شوف انا بيقول قالوا قلت منك"
    " هناك هنالك لك اي اللي الي كما لكن بس حتى الا سوى غير"
)
_LIKE = _folded("زي متل مثل شبه وزي ومتل")
_VERB_WITH_OBJECT = re.compile(r"^[وف]?[بح]?ا\w{3}(?:ه|ها|ك|ني)$")  # «رح أجربها»: I shall try it
_MOST = re.compile(r"^[وف]?ا\w{2,3}(هم|هن|كم|نا)$")  # «أجدبهم»
_KIN = re.compile(r"^(?:ام|اخت|خالت|عمت|بنت|مرت|مرات|ست|عرض|طيز|كس|خوات|اخوات|اهل)(?:ك|كم|كو|ه|ها|هم|و|ي)$")
_OWNED = re.compile(r"\w{3,}(?:هم|هن|ها|كم|نا)$")  # «حيواناتهم» are animals that somebody has
_DEGREE = _folded("جدا كتير قوي اوي خالص مره للغاية بقوة كثير حيل واجد برشا بزاف")
_ALL_PEOPLE = _folded("المجتمع البشر الناس الشعب البلد الأمة التاريخ الأرض العالم القوم الخلق")
_POSSESSIVE = re.compile(r"(?:ه|ها|هم|هن|كم|نا|ك)$")
_VERB = re.compile(r"^(?:بي|بت|هي|هت|سي|ست|بن|حي|حت|ي(?!وم|د|مين|سار|اس|ابان|هود))\w{3,}$")


@dataclass(frozen=True)
class Found:
    """A sentence without its insults; the words taken out; the tokens that may be insults and stand unaimed.

    `nouns` are those of `open` that name animals or things before people; `words` are the folded tokens.
    """

    text: str
    removed: tuple[str, ...] = ()
    open: tuple[int, ...] = ()
    nouns: tuple[int, ...] = ()
    words: tuple[str, ...] = ()


class _Sentence:
    def __init__(self, text: str, lex: Lexicon, accept: Collection[int], bits: int) -> None:
        self.text, self.lex, self.accept, self.bits = text, lex, accept, bits
        self.tokens = [(m.start(), m.end(), m[0]) for m in _TOKEN.finditer(text)]
        self.words = ["⟦" if t.startswith("⟦") else fold(t) for _, _, t in self.tokens]
        self.edits: dict[int, str | None] = {}  # token -> replacement, None to delete
        self.kept: set[int] = set()  # tokens whose replacement stands alone when all else went
        self.framed: set[int] = set()
        self.open: list[int] = []
        self.obscene = False

    def _patterns(self) -> None:
        bits = self.bits & (1 << len(self.lex.patterns)) - 1
        if not bits:
            return
        line = " ".join(self.words)
        starts, at = {}, 0
        for i, w in enumerate(self.words):
            starts[at] = i
            at += len(w) + 1
        for i, p in enumerate(self.lex.patterns):
            for m in p.finditer(line) if bits >> i & 1 else ():
                if i < len(self.lex.phrases):
                    self.edits.update({t: None for s, t in starts.items() if m.start() <= s < m.end()})
                elif (token := starts.get(m.start("x"))) is not None and not self._spared(token):
                    self.framed.add(token)

    def _spared(self, i: int) -> bool:
        word = self.words[i]
        return word == "⟦" or word in self.lex.spared or word in self.lex.things or word in _SUBJECTS or word in _PEOPLE

    def _kind(self, i: int) -> str:
        """'adjective', 'noun' or '' for token i; soft words that nobody aims are noted in `open`."""
        word, lex = self.words[i], self.lex
        bits = lex.classify(word)
        if i in self.framed:
            return "noun" if bits & (NOUN | STRONG) else "adjective"
        if not bits & ~FIRST or (_VERB_WITH_OBJECT.search(word) and not bits & (STRONG | NOUN | VULGAR)):
            return ""
        prev = self.words[i - 1] if i else ""
        if word in lex.homonyms and i not in self.accept and self._may_be_a_name(i):
            if not self._of_a_thing(i):
                self.open.append(i)
            return ""
        if bits & VULGAR:
            self.obscene = True
            return "vulgar"
        if prev in _DENIALS or f"{prev} {word}" in lex.epithets:
            return ""  # «ليس الغبي بسيد في قومه» insults nobody
        after = self.words[i + 1] if i + 1 < len(self.words) else ""
        chained = i - 1 in self.edits  # «يا غبي يا فاشل», «الغبي الفاشل»
        called = prev in lex.vocatives
        aimed = called or chained or prev in _AIMS or after in _AIMS_AFTER
        thing = not called and self._of_a_thing(i)
        if word.startswith("كال") and not bits & (HARD | STRONG):
            return ""  # «أنت كالكلب في حفاظك للود» is praise
        if i in self.accept:
            return "noun" if bits & NOUN and not bits & SOFT else "adjective"
        if bits & HARD and not thing:
            return "adjective"
        if bits & STRONG and not (thing and lex.thing(prev) and bool(DEFINITE.match(prev) and DEFINITE.match(word))):
            return "noun"
        if aimed and bits & SOFT and not thing:
            return "adjective"
        if aimed and bits & NOUN:
            return "noun"
        if prev in _DEMONSTRATIVES and DEFINITE.match(word) and bare(word) in lex.labels:
            return "noun"
        if bits & ATTACHED or ((called or (prev in _YOU and word[0] != "و")) and bits & ACCUSATION):
            return "adjective"
        if (bits & SOFT and not thing) or (bits & NOUN and self._said_of_somebody(i)):
            self.open.append(i)
        return ""

    def _may_be_a_name(self, i: int) -> bool:
        """Is a homonym neither called nor among abuse nor followed by somebody's mother?"""
        after = self.words[i + 1] if i + 1 < len(self.words) else ""
        abuse = HARD | STRONG | SOFT | VULGAR
        others = any(self.lex.classify(w) & abuse and w not in self.lex.homonyms for w in self.words)
        return not (others or self.edits or _KIN.search(after) or (i and self.words[i - 1] in self.lex.vocatives))

    def _said_of_somebody(self, i: int) -> bool:
        """May an animal or a thing be a predicate here? «كلب الجيران» and «الكلاب تنبح» are dogs."""
        word, after = self.words[i], self.words[i + 1] if i + 1 < len(self.words) else ""
        if not i or DEFINITE.match(word) or DEFINITE.match(after) or _OWNED.search(word):
            return False
        return self._says(self.words[i - 1], self.tokens[i - 1][2]) or self.lex.thing(self.words[i - 1])

    def _of_a_thing(self, i: int) -> bool:
        """Is the word beside a thing, with nothing but words of its own definiteness between («عمل إجرامي جبان»)?"""
        definite = bool(DEFINITE.match(self.words[i]))
        if _CLITIC.match(self.words[i]):
            return False  # «يمنح الفرصة للمعتوهين»
        for j in range(i - 1, max(-1, i - 4), -1):
            word = self.words[j]
            if self.lex.thing(word):
                return True
            if bool(DEFINITE.match(word)) != definite or word in _SLOT or word in _BEING:
                return False
        return False

    def _plural(self, i: int) -> bool:
        word, prev = self.words[i], self.words[i - 1] if i else ""
        forms = forms_of(word)
        if any(f in self.lex.plurals for f in forms) or prev in _PLURAL_BEFORE:
            return True
        return word.endswith(("ون", "ين", "ات")) and not {word, bare(word)} & self.lex.singulars

    def _predicate(self, i: int) -> str:
        word, (masculine, feminine, plural, oblique) = self.words[i], self.lex.predicate
        if m := _MOST.search(word):
            return f"{self.lex.superlative[0]}{m[1]} {self.lex.superlative[1]}"
        if self._plural(i):
            prev = self.words[i - 1] if i else ""
            return oblique if word.endswith(("ين", "ا")) or prev in _BEING else plural
        if word.endswith(("ه", "اء")) and not any(f in self.lex.masculine for f in (word, bare(word))):
            return feminine
        return masculine + ("ا" if word.endswith("ا") and len(word) > 3 else "")

    def _edit(self, i: int, kind: str) -> None:
        word, lex, edits = self.words[i], self.lex, self.edits
        prev, raw = (self.words[i - 1], self.tokens[i - 1][2]) if i else ("", "")
        after = self.words[i + 1] if i + 1 < len(self.words) else ""
        plural = self._plural(i)
        definite = DEFINITE.match(word)
        person = lex.person[1 if plural else 0].removeprefix("ال")
        gone_before = i - 1 in edits and edits[i - 1] is None
        if kind == "vulgar":
            edits[i] = None
        elif prev == "و" and i - 2 in edits:
            edits[i] = edits[i - 1] = None
        elif prev in lex.vocatives or prev in ("ايها", "ايتها"):
            edits[i] = edits[i - 1] = None
            if i > 1 and self.words[i - 2] in ("يا", "ويا"):
                edits[i - 2] = None
        elif (word.startswith("ي") and lex.classify(word) & ATTACHED) or (i - 1 in edits and word.startswith("و")):
            edits[i] = None
        elif definite and prev in _LIKE:
            edits[i] = edits[i - 1] = None  # «بيحكي زي الأهبل»
        elif definite and prev in _DEMONSTRATIVES:
            edits[i] = lex.person[1 if plural else 0]
        elif definite and (m := _CLITIC.match(word)):  # «للمعتوهين» is no adjective of what stands before
            edits[i] = m[0] + person
        elif definite and (gone_before or (i and prev not in _SLOT and prev not in _BEING and kind == "adjective")):
            edits[i] = None
        elif definite and after in lex.spared and definite[0] == "ال":
            edits[i] = None  # «الوغد جمال قال»
        elif definite:
            edits[i] = definite[0] + person
        elif gone_before:
            edits[i] = None
        elif i == 0:
            says = kind == "adjective" and after not in _SLOT  # «غبي قال لصاحبه» is a person
            edits[i] = self._predicate(i) if says else lex.person[3 if plural else 2]
        elif prev in _PEOPLE:
            edits[i] = None
        elif self._says(prev, raw) or (prev == "و" and kind == "adjective") or _MOST.search(word):
            edits[i] = self._predicate(i)
        elif prev in _SLOT or (kind == "noun" and _VERB.match(prev)):
            edits[i] = lex.person[3 if plural else 2]
        else:
            edits[i] = None  # an adjective beside its indefinite noun
        self._with(i, kind)

    def _says(self, prev: str, raw: str) -> bool:
        """Does a predicate follow this word? Pronouns, verbs of being, definite nouns and possessives."""
        if prev in _SUBJECTS or prev in _BEING or prev == "⟦" or raw.startswith("#"):
            return True
        possessive = len(prev) > 4 and _POSSESSIVE.search(raw) is not None and not raw.endswith("ة")
        return bool(DEFINITE.match(prev)) or possessive or prev in self.lex.spared

    def _with(self, i: int, kind: str) -> None:
        """What goes along: a degree («غبي جدا»), the second half of «حثالة المجتمع»."""
        if i + 1 >= len(self.words):
            return
        after = self.words[i + 1]
        if (self.edits[i] is None and after in _DEGREE) or (
            kind == "noun" and not DEFINITE.match(self.words[i]) and self.edits[i] and after in _ALL_PEOPLE
        ):
            self.edits[i + 1] = None

    def run(self) -> Found:
        self._patterns()
        for i, word in enumerate(self.words):
            if i in self.edits or word == "⟦":
                continue
            pair = f"{word} {self.words[i + 1]}" if i + 1 < len(self.words) else ""
            if (
                pair
                and self.lex.classify(word) & FIRST
                and any(f"{f} {self.words[i + 1]}" in self.lex.two_words for f in forms_of(word))
            ):
                self._edit(i, "adjective")
                self.edits[i + 1] = None
                continue
            kind = self._kind(i)
            if kind:
                self._edit(i, kind)
        still = tuple(i for i in self.open if i not in self.edits)
        nouns = tuple(i for i in still if not self.lex.classify(self.words[i]) & SOFT)
        if not self.edits:
            return Found(self.text, (), still, nouns, tuple(self.words))
        removed = tuple(self.tokens[i][2] for i in sorted(self.edits))
        left = [w for i, w in enumerate(self.words) if self.edits.get(i, w) is not None]
        fact = any(w == "⟦" or any(c.isdigit() for c in w) for w in left)
        if not fact and (len(left) <= 1 or (self.obscene and len(self.words) <= SHORT)):
            return Found("", removed)
        return Found(_tidy(self._apply()), removed, still, nouns, tuple(self.words))

    def _apply(self) -> str:
        out, at = [], 0
        for i, (start, end, _) in enumerate(self.tokens):
            if i in self.edits:
                out += [self.text[at:start], self.edits[i] or ""]
                at = end
        return "".join([*out, self.text[at:]])


def _tidy(text: str) -> str:
    """Signs and spaces that a deletion left behind."""
    text = re.sub(r"(?<!\S)#(?!\S)", "", text)
    text = re.sub(r"[ \t]{2,}", " ", text)
    text = re.sub(r"\s+(?=[،؛,.!؟:])", "", text)
    text = re.sub(r"([،؛])(?:\s*[،؛])+", r"\1", text)
    text = re.sub(r"[،؛,:]+(?=[.!؟])", "", text)
    text = re.sub(r"([!؟.])(?:\s*[!؟])+", lambda m: "؟" if "؟" in m[0] else m[1], text)
    text = re.sub(r"\(\s*\)", "", text)
    return re.sub(r"^[\s،؛,.!؟:]+", "", text).rstrip()


def neutralise(sentence: str, lex: Lexicon, accept: Collection[int] = (), bits: int = -1) -> Found:
    """The sentence without its insults ('' when it said nothing else); `accept` are open tokens to take for insults.

    `bits` say which of `Lexicon.patterns` may match.
    """
    return _Sentence(sentence, lex, accept, bits).run()
