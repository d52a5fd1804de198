"""What a written answer says: which option, or that it cannot be told (None, the unparsed answer).

Four readings, by name. `letter` and `yes_no` know Arabic: they read folded text (tashkeel, tatweel, hamza, digits,
Markdown aside), whole words alone, and say None where the text names two answers or none. `acegpt_letters` and
`acegpt_yes_no` do what AceGPT's program did to get the published figures (its `eval/` folder), faults included.

An answer may be repeated in the words of its option, so `options` helps: give the texts where there are some.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fitra import arabic
from fitra.errors import FitraError
from fitra.evaluate.verdict import yes_no

MOST = 10  # options that labels can name
LATIN = "ABCDEFGHIJ"
ABJAD = "ابجدهوزحطي"  # folded; the order in which Arabic examinations letter their options
NAMES = {"الف": 0, "باء": 1, "جيم": 2, "دال": 3, "هاء": 4}


def folded(words: str) -> frozenset[str]:
    """A lexicon of folded words, from words as they are written."""
    return frozenset(arabic.fold(words, level="search").split())


FINAL = folded("النهائي النهائية final")
STRONG = folded(
    "الإجابة إجابة إجابتي فالإجابة والإجابة الجواب جواب جوابي فالجواب والجواب الحل الصحيح الصحيحة answer ans"
)
WEAK = folded(
    "الخيار خيار الاختيار اختيار اختياري أختار اخترت نختار سأختار البديل الحرف حرف option choice choose letter"
)
FILLERS = (
    FINAL
    | STRONG
    | WEAK
    | folded(
        "هي هو هنا المناسب المناسبة الأفضل الأدق رقم رمز رمزها بحرف تكون ستكون "
        "is the best correct right number boxed text"
    )
)
NEGATORS = folded("ليس ليست وليس وليست لا ولا غير لن not isn never")
WRONG = folded("خاطئ خاطئة خطأ غير ليس ليست لا wrong incorrect false")
JOINS = folded("أو و أم or and") | {",", "/", "&", "+", "|", "-", "=", ";"}
FRAME_BEFORE = folded("إنها أنها أنه إنه بأنها بأنه هي هو فهي فهو لعلها لعله بل")
FRAME_AFTER = folded("هي هو صحيح صحيحة الصحيح الصحيحة وليس وليست فقط")
ORDINALS = {
    word: n
    for n, words in enumerate(
        (
            "الأول الأولى first",
            "الثاني الثانية second",
            "الثالث الثالثة third",
            "الرابع الرابعة fourth",
            "الخامس الخامسة fifth",
        )
    )
    for word in folded(words)
}
OPENERS, CLOSERS = set("([{\"'<"), set(")]}\"'>.:,-;!?")
_BREAKS = re.compile("[\n\x0b\x0c\r\x85\u2028\u2029]")
_MARKDOWN = re.compile(r"[*_`#~\\$]+")
_TOKEN = re.compile(r"\w+|[^\w\s]|\n")
_NEXT = re.compile(r"(?:^|\s)(?:ال)?سوال *\d* *:|^(?:ال)?سوال\b|\bquestion *\d* *:", re.IGNORECASE)
_ITEM = re.compile(rf"^\W*([{ABJAD}]|[A-Ja-j]|\d+)\s*[).:\-]", re.MULTILINE)
_LABELLED = re.compile(rf"^\W*(?:[{ABJAD}]|[A-Ja-j]|\d)\s*[).:\-]\s*")


class _Token(NamedTuple):
    text: str
    start: int
    end: int


def read(text: str, how: str, options: Sequence[str] = ()) -> int | None:
    """The index of the option that `text` names, by the reading `how` (a key of HOW); None where it names none.

    `options`: the answers to tell apart, in order; without them five letters are allowed, and 0 means yes. Raises
    FitraError for an unknown reading.
    """
    try:
        reading = HOW[how]
    except KeyError:
        raise FitraError(f"extract: no reading '{how}'.", f"Known: {', '.join(HOW)}.") from None
    return reading(text, options)


def plain(text: str) -> str:
    """The answer folded line by line (level compare), Markdown out, cut where the model goes on to a next question."""
    lines = (_MARKDOWN.sub(" ", arabic.fold(line)) for line in _BREAKS.split(text))
    kept: list[str] = []
    for line in (re.sub(" +", " ", x).strip() for x in lines):
        cut = _NEXT.search(line)
        if cut and (kept or line[: cut.start()].strip()):
            kept.append(line[: cut.start()].strip())
            break
        kept.append(line)
    return "\n".join(x for x in kept if x)


def letter(text: str, options: Sequence[str] = ()) -> int | None:
    """Letters of either script, digits, ordinals, or the option's own words.

    In this order, the first that says something decides: the answer is an option word for word; a letter after a cue
    («الإجابة الصحيحة هي»); a letter in front; the words of one option somewhere; one letter somewhere. A letter denied
    («ليست أ») does not count; two that are both affirmed make it unparsed.
    """
    block = plain(text)
    if not block:
        return None
    n = min(len(options) or 5, MOST)
    texts = [_words(_bare(o)) for o in options]
    same = [i for i, t in enumerate(texts) if t and t == _words(block)]
    if len(same) == 1:
        return same[0]
    t = _Text(block, n, digits=not any(x.replace(" ", "").isdigit() for x in texts))
    for stage in (_after_cue, _in_front, _in_words, _somewhere):
        found = stage(t, texts)
        if found is not None:
            return found if 0 <= found < n else None
    return None


CONFLICT = -1  # two answers: no later stage may decide


class _Text:
    """The tokens of an answer and what may be a label among them."""

    def __init__(self, block: str, n: int, digits: bool) -> None:
        self.block, self.n, self.digits = block, n, digits
        self.tokens = [_Token(m.group(), m.start(), m.end()) for m in _TOKEN.finditer(block)]

    def at(self, k: int) -> str:
        """Token k, or '' outside."""
        return self.tokens[k].text if 0 <= k < len(self.tokens) else ""

    def label(self, k: int) -> int | None:
        """The option that token k names if it is a label at all, whatever stands around it. May be beyond the last."""
        token = self.at(k)
        if len(token) == 1 and token.isalpha():
            if token in ABJAD:
                place = ABJAD.index(token)
                return 4 if place == 5 and self.n <= 5 else place  # ArabicMMLU letters its fifth option و
            return LATIN.index(token.upper()) if token.upper() in LATIN else None
        if self.digits and token.isdigit() and len(token) <= 2 and int(token) > 0:
            near = [x for x in (k - 1, k + 1) if 0 <= x < len(self.tokens)]
            part = any(self.at(x) in ".,%/" and self.at(2 * x - k).isdigit() and self.touch(x, k) for x in near)
            return None if part or self.at(k + 1) == "%" else int(token) - 1
        return None

    def touch(self, a: int, b: int) -> bool:
        """Whether two neighbouring tokens have no space between them."""
        first, second = self.tokens[min(a, b)], self.tokens[max(a, b)]
        return first.end == second.start

    def bracketed(self, k: int) -> bool:
        """(x), [x], "x"; not f(x)."""
        call = k > 1 and self.at(k - 2).isalnum() and self.touch(k - 2, k - 1)
        return self.at(k - 1) in OPENERS and self.at(k + 1) in CLOSERS and not call

    def denied(self, k: int) -> bool:
        """«ليست أ», «أ خاطئة»."""
        j = k
        while j > max(0, k - 3) and (self.at(j - 1).isalpha() or self.at(j - 1) in OPENERS):
            j -= 1
        before = [self.at(x) for x in range(j, k) if self.at(x).isalpha()][-2:]
        after = [self.at(j) for j in range(k + 1, k + 5) if self.at(j).isalpha()]
        if (before and before[-1] in NEGATORS) or (len(before) > 1 and before[0] in NEGATORS and before[1] in FILLERS):
            return True
        after = after[1:] if after[:1] in (["هي"], ["هو"], ["is"], ["فهو"], ["فهي"]) else after
        return bool(after) and after[0] in WRONG and self.at(k + 1) not in set(",.\n:;")

    def joined(self, k: int) -> bool:
        """Whether another label is joined to label k: «أ أو ب», «A, C», «أ وب»."""
        j = k + 1
        while self.at(j) in CLOSERS - {",", "-", ";"} and self.at(j):
            j += 1
        if len(self.at(j)) == 2 and self.at(j)[0] == "و" and self.at(j)[1] in ABJAD[: self.n]:
            return True
        if self.at(j) not in JOINS:
            return False
        while self.at(j) in JOINS | OPENERS | FILLERS and self.at(j):
            j += 1
        other = self.label(j)
        return other is not None and other != self.label(k) and self.ends(j) and not self.denied(j)

    def ends(self, k: int) -> bool:
        """Whether nothing but a delimiter follows token k."""
        return self.at(k + 1) in CLOSERS | {"", "\n", "/", "|", "&", "+", "="} or self.at(k + 1) in JOINS


def _after_cue(t: _Text, texts: Sequence[str]) -> int | None:
    found: dict[int, list[int]] = {}
    for k in range(len(t.tokens)):
        word = t.at(k).lower()
        level = 2 if word in STRONG else 1 if word in WEAK else 0
        if word == "ج" and t.at(k + 1) == ":" and t.label(k + 2) is not None:
            level = 2  # س: ... ج: ...
        if not level:
            continue
        j = k + 1
        while j <= k + 12 and (t.at(j).lower() in FILLERS or (t.at(j) and not t.at(j).isalnum() and t.at(j) != "?")):
            level = 3 if t.at(j).lower() in FINAL else level
            j += 1
        if t.at(j).lower() in ORDINALS and level == 1:
            at = ORDINALS[t.at(j).lower()]
        elif (named := _named(t.at(j))) is not None and level >= 2:
            at = named
        elif (label := t.label(j)) is not None and not _article(t, j) and not (t.at(j) == "و" and not t.ends(j)):
            at = label
        else:
            continue
        if not t.denied(j):
            found.setdefault(level, []).append(CONFLICT if t.joined(j) else at)
    if not found:
        return None
    best = found[max(found)]
    if max(found) == 3:
        return best[-1]
    return best[0] if len(set(best)) == 1 else CONFLICT


def _in_front(t: _Text, texts: Sequence[str]) -> int | None:
    k = 0
    while t.at(k) and not t.at(k).isalnum():
        k += 1
    label = t.label(k)
    line = t.block.split("\n", 1)[0]
    if label is None:
        return _named(t.at(k)) if line.strip(" .") == t.at(k) else None
    if t.joined(k):
        return CONFLICT
    if len({m.group(1) for m in _ITEM.finditer(t.block)}) > 1:
        return None  # a list: the options repeated, or advice in ten points
    rest = _words(t.block[t.tokens[k].end :].split("\n", 1)[0])
    inside = 0 <= label < len(texts)
    own = inside and bool(texts[label]) and f"{rest} ".startswith(f"{texts[label]} ")
    foreign = (
        t.at(k).isascii() and t.at(k).isupper() and bool(re.match(r"\s+[\u0600-\u06ff]", t.block[t.tokens[k].end :]))
    )
    if not (t.ends(k) or own or foreign) or t.denied(k):
        return None
    if rest and not own and rest in texts:
        return CONFLICT  # the letter of one option, the words of another
    return label


def _in_words(t: _Text, texts: Sequence[str]) -> int | None:
    """The one option whose words stand in the answer; an option within a longer one that matched does not count."""
    whole = f" {_words(t.block)} "
    found: list[int] = []
    for i in sorted((i for i, x in enumerate(texts) if len(x) > 1 or x.isdigit()), key=lambda i: -len(texts[i])):
        mark = f" {texts[i]} "
        at = whole.find(mark)
        if at < 0:
            continue
        before = whole[:at].split()[-1:]
        whole = whole.replace(mark, " \0 ")
        if not (before and before[0] in NEGATORS):
            found.append(i)
    return found[0] if len(found) == 1 else CONFLICT if found else None


def _somewhere(t: _Text, texts: Sequence[str]) -> int | None:
    found = set()
    for k in range(len(t.tokens)):
        label = t.label(k)
        token = t.at(k)
        if label is None or token.isdigit() or t.denied(k):
            continue
        if token == "ب" and (t.at(k + 1) in OPENERS or t.label(k + 1) is not None):
            continue  # the preposition: «أجيب بـ (ج)»
        if not t.bracketed(k):
            if token == "و" or token.isdigit() or (token.islower() and token.isascii()) or _article(t, k):
                continue
            # A lone Arabic letter is more often a word cut off, a title or a year than an answer: it needs a frame.
            if token in ABJAD and t.at(k - 1) not in FRAME_BEFORE and t.at(k + 1) not in FRAME_AFTER:
                continue
        found.add(label)
    return None if not found else found.pop() if len(found) == 1 else CONFLICT


def _article(t: _Text, k: int) -> bool:
    """«A good answer»: the English article, no label."""
    return t.at(k) in ("A", "a") and t.at(k + 1).isascii() and t.at(k + 1).isalpha()


def _named(word: str) -> int | None:
    return NAMES.get(word, NAMES.get(word.removeprefix("ال")))


def _bare(option: str) -> str:
    """An option's words, '' where it is a letter alone."""
    folded = _LABELLED.sub("", _MARKDOWN.sub(" ", arabic.fold(option)))
    return "" if len(folded.strip()) == 1 and not folded.strip().isdigit() else folded


def _words(folded: str) -> str:
    return arabic.fold(folded, level="search")


def acegpt_string(text: str) -> str:
    """AceGPT's reading of an MCQ answer: the capitals A-D anywhere in the first line, sorted, each once."""
    return "".join(sorted(set(re.findall("[A-D]", text.split("\n", 1)[0]))))


def acegpt_letters(text: str, options: Sequence[str] = ()) -> int | None:
    """`acegpt_string` where it is one letter; its program counted '' and 'AB' as wrong answers."""
    got = acegpt_string(text)
    return LATIN.index(got) if len(got) == 1 else None


def acegpt_yes_no(text: str, options: Sequence[str] = ()) -> int | None:
    """AceGPT's reading of an ACVA answer: the leftmost نعم (0) or لا (1) in the first line, inside words too."""
    got = re.search("نعم|لا", text.split("\n", 1)[0])
    return None if got is None else ("نعم", "لا").index(got.group())


def _yes_no(text: str, options: Sequence[str] = ()) -> int | None:
    """0 for yes and 1 for no, or the places of yes and no among two `options` given the other way round."""
    said = yes_no(plain(text))
    if said is None:
        return None
    classes = [yes_no(plain(o)) for o in options]
    if sorted(classes, key=str) == [False, True]:
        return classes.index(said)
    return 0 if said else 1


HOW: dict[str, Callable[[str, Sequence[str]], int | None]] = {
    "letter": letter,
    "yes_no": _yes_no,
    "acegpt_letters": acegpt_letters,
    "acegpt_yes_no": acegpt_yes_no,
}
