"""What the gates know of single words: worked out once per different word, then gathered per occurrence.

A word is folded (`arabic.fold`, level search); clitics («وبالقاهرة») come off before it is looked up. Names have no
capital letter to tell them by, so a word is name-like when it is listed (lexicon), follows a title, is a number-free
Latin word, or is none of the common stems of running text (common.txt, made by `learn`).
"""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import Any, NamedTuple

import yaml

from fitra import arabic
from fitra.signals.stopwords import stop_words

__all__ = ["Fact", "Lexicon", "common_stems", "fact", "forms", "lexicon", "stem", "value_of"]

_STRETCHED = re.compile("([\u0621-\u064a])\\1{2,}")
_HEAD = re.compile(r"^(?:[وف]?(?:[بك]?ال|لل)(?=...)|[وف](?=....))")
_ENDING = re.compile(r"(?<=...)(?:هما|ها|هم|ات|ون|ين|ان|ه|ا|ي)$")
_VERB = re.compile("^س?[يتن](?=...)")
_PLURAL = re.compile("(?:ه|ين|ون|ات)$")
_DIGITS = re.compile("[0-9]+")
_LATIN = re.compile(r"[a-z\u00df-\u024f][a-z\u00df-\u024f'’-]{2,}")
_ARABIC = re.compile(r"[\u0621-\u064a\u066e-\u06d3]{3,}")
_VARIANT = re.compile("امريك|انكليز|انغليز|انقليز")
_DIALECT_NOT = re.compile(r"[وف]?م[اي]?(?:[اتينبه]|عند|في|ك).{2,}ش")


class Fact(NamedTuple):
    """One word. '' where it has no such meaning."""

    stem: str  # content stem; '' for function words, numbers and single letters
    name: str  # a listed name, without clitics, or a Latin word
    key: str  # what names are compared by: the name, else the stem
    rare: str  # a stem that is not common: perhaps a name, perhaps a rare word
    number: str  # value as digits
    spelt: str  # the value of a number word
    unit: str
    negation: bool
    cue: int  # 1 a title, 2 a kind of place, 3 «عبد»
    weekday: str
    month: str  # the first word of a month's name
    blame: str
    speech: bool
    article: bool
    stop: bool


_NOTHING = Fact("", "", "", "", "", "", "", False, 0, "", "", "", False, False, False)


class Lexicon(NamedTuple):
    """The lists of lexicon.yaml and places.yaml, folded."""

    months: dict[tuple[str, ...], str]
    month_heads: frozenset[str]
    ambiguous: frozenset[str]
    weekdays: dict[str, str]
    numbers: dict[str, str]
    units: dict[str, str]
    negation: frozenset[str]
    not_before: dict[str, frozenset[str]]
    cues: dict[str, int]
    speech: frozenset[str]
    names: frozenset[str]
    connectives: frozenset[str]
    blame: frozenset[str]
    aliases: dict[str, frozenset[str]]  # by name: keys of words that say the same


def _fold(word: Any) -> str:
    return arabic.fold(str(word), "search").strip()


@functools.cache
def lexicon() -> Lexicon:
    """The lists, read once."""
    here = resources.files("fitra.align.gates")
    raw = yaml.safe_load(here.joinpath("lexicon.yaml").read_text("utf-8"))
    listed = yaml.safe_load(here.joinpath("places.yaml").read_text("utf-8"))
    flat = {part: {_fold(w): k for k, ws in raw[part].items() for w in ws} for part in ("weekdays", "units")}
    months = {tuple(_fold(w).split()): k for k, ws in raw["months"].items() for w in ws}
    names = {_fold(str(w).replace("_", " ")) for ws in listed.values() for w in ws}
    # Compound names are known by each part that is not an everyday word.
    single = {n for n in names if " " not in n} | {n.replace(" ", "") for n in names}
    return Lexicon(
        months=months,
        month_heads=frozenset(m[0] for m in months),
        ambiguous=frozenset(map(_fold, raw["months_ambiguous"])),
        weekdays=flat["weekdays"],
        numbers={_fold(w): str(k) for k, ws in raw["numbers"].items() for w in ws},
        units=flat["units"],
        negation=frozenset(w for entry in raw["negation"] for w in _fold(entry).split()),
        not_before={_fold(k): frozenset(map(_fold, ws)) for k, ws in raw["negation_not_before"].items()},
        cues={**{_fold(w): 2 for w in raw["place_cues"]}, **{_fold(w): 1 for w in raw["cues"]}, "عبد": 3},
        speech=frozenset(map(_fold, raw["speech"])),
        # «علي» folds to «على»: function words are no names.
        names=(frozenset(n.removeprefix("ال") if len(n) > 5 else n for n in single) | single) - stop_words(),
        connectives=frozenset(map(_fold, raw["connectives"])),
        blame=frozenset(map(_fold, raw["blame"])),
        aliases={_bare(_fold(k)): frozenset(stem(_fold(w)) for w in ws) for k, ws in raw["aliases"].items()},
    )


@functools.cache
def common_stems() -> frozenset[str]:
    """Stems of running text that are hardly names: they take endings and the article (made by `learn`)."""
    return frozenset(resources.files("fitra.align.gates").joinpath("common.txt").read_text("utf-8").split())


@functools.cache
def beside_names() -> frozenset[str]:
    """Words that stand where names stand, though they may look like common ones (made by `learn_names`)."""
    return frozenset(resources.files("fitra.align.gates").joinpath("names.txt").read_text("utf-8").split())


def stem(word: str) -> str:
    """A rough stem of a folded word, so that a changed clitic or ending is not a lost word."""
    return _ENDING.sub("", _HEAD.sub("", word))


def _variant(m: re.Match[str]) -> str:
    """One spelling for the frequent names that are written in several."""
    return "اميرك" if m[0] == "امريك" else "انجليز"


def _bare(name: str) -> str:
    """A listed name as it is compared: without the article, «عبدالعزيز» as «عزيز» (it is written apart too)."""
    if name.startswith("عبدال") and len(name) > 7:
        name = name[5:]
    return name.removeprefix("ال") if len(name) > 5 else name


@functools.lru_cache(maxsize=1 << 16)
def forms(word: str) -> tuple[str, ...]:
    """The word and what it may be without clitics, longest first; «للرياض» is «الرياض» too."""
    out = [word]
    bare = word
    for part in (("و", "ف"), ("ب", "ل", "ك"), ("ال",)):
        cut = bare[len(part[0]) :]
        if len(cut) > 2 and bare.startswith(part):
            out.append(cut)
            bare = cut
    if word.startswith(("لل", "ولل", "فلل")) and len(word) > 5:
        out.append(word[word.index("لل") + 2 :])
    return tuple(dict.fromkeys(out))


@functools.lru_cache(maxsize=1 << 16)
def value_of(word: str) -> str:
    """The value of a number word, clitics aside; '' for any other word."""
    numbers = lexicon().numbers
    return next((numbers[f] for f in forms(word) if f in numbers), "")


@functools.lru_cache(maxsize=1 << 18)
def fact(word: str) -> Fact:
    """Everything the gates ask of one folded word."""
    lex = lexicon()
    word = _STRETCHED.sub(r"\1", word)
    stop = word in stop_words()
    if _DIGITS.fullmatch(word):
        return _NOTHING._replace(number=word.lstrip("0") or "0")
    if len(word) > 40:
        return _NOTHING._replace(stem=word[:40])
    shapes = forms(_VARIANT.sub(_variant, word))
    arabic_word = bool(_ARABIC.fullmatch(word))
    # A name has its article or has it not: «ولله الحمد» is not حمد.
    listed = () if stop else tuple(f for f in shapes if not (f != word and f"ال{f}" in shapes))
    word = _VARIANT.sub(_variant, word) if arabic_word else word
    name = next((_bare(f) for f in listed if f in lex.names or (f.startswith("عبدال") and len(f) > 7)), "")
    if not name and _LATIN.fullmatch(word) and not stop and word not in ("http", "https", "www", "com", "net", "org"):
        name = word
    usual = "" if stop or len(word) < 3 else next((x for x in map(stem, shapes) if x in common_stems()), "")
    base = usual or ("" if stop or len(word) < 3 else stem(word))
    number = next((lex.numbers[f] for f in shapes if f in lex.numbers), "")
    unit = next((lex.units[f] for f in shapes if f in lex.units), "")
    short = word[1:] if word[:1] in "وف" and len(word) > 2 else word
    weekday = next((lex.weekdays[f] for f in (word, *shapes) if f in lex.weekdays), "")
    if weekday or (number == "100" and "ال" in word[:3]):  # «الاثنين», «في المئة»
        number = ""
    deny = word in lex.negation or short in lex.negation or bool(_DIALECT_NOT.fullmatch(word) and arabic_word)
    rare = ""
    if (
        base
        and arabic_word
        and not (lex.month_heads | lex.connectives | lex.speech) & set(shapes)
        and not name
        and not number
        and not unit
        and not deny
    ):
        # «يستقبل», «ستصل»: a verb with its prefix is as common as without.
        verbs = {_VERB.sub("", x) for x in map(stem, shapes)}
        if not usual and not verbs & common_stems():
            rare = stem(shapes[-1])
        else:
            rare = next((f for f in shapes if f in beside_names() and f"ال{f}" not in shapes), "")
    if word == "عبد":  # half a name
        return _NOTHING._replace(cue=3)
    return Fact(
        base if len(base) > 2 else "",
        name,
        name or rare or (base if len(base) > 2 and not lex.connectives & set(shapes) else ""),
        rare,
        number,
        number,
        unit,
        deny,
        next((lex.cues[f] for f in shapes[:2] if f in lex.cues), 0),
        weekday,
        next((f for f in shapes if f in lex.month_heads), ""),
        next((f for f in shapes if f in lex.blame or _PLURAL.sub("", f) in lex.blame), ""),
        word in lex.speech or short in lex.speech,
        word.startswith("ال") or word[1:3] == "ال",
        stop,
    )
