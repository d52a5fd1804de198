"""Word classes in a view, and what stands next to what: the facts the trained scorer weighs beside plain words.

`data/abuse.yaml` sorts some 1,890 words and phrases into classes (insult, animal, curse, group of people, negation,
counter-speech, prayer, ...). A word carries the classes of every entry it may be once clitics, endings and stretched
letters are off. The forms an entry may take are spelled out once and looked up by hash, so no word is taken apart.

From the classes come signed features in a hashed space of their own kind: each class; each pair of classed words that
follow one another, with their distance; each classed word's class with its plain neighbours. The last makes «النساء
حثالة» and «اللاجئين حثالة» one feature, and tells «يا كلب» from «الكلب حيوان».
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import yaml

from fitra import arabic
from fitra.signals.linear import Hashes, Ints, mix, ngram_hashes
from fitra.signals.view import View

# fmt: off
PREFIXES = (
    "و", "ف", "ب", "ل", "ك", "ال", "لل", "وال", "فال", "بال", "كال", "ولل", "يا", "يال",
    "هال", "عال", "ها", "وب", "ول",
)
SHORT_PREFIXES = frozenset("فبلك")
SUFFIXES = (
    "ه", "ها", "هم", "هن", "ك", "كم", "كن", "ي", "نا", "ين", "ون", "ات", "وا", "و", "يه", "يين", "يون", "ا",
)
# fmt: on
AIMED = ("يا", "يال", "هال")  # prefixes that aim a word at somebody
_P = np.uint64(0x9E3779B97F4A7C15)
FAR = 6  # words: classed words further apart are not paired


@dataclass(frozen=True)
class Lexicon:
    """Classes by name; sorted hashes of word forms and of phrases with the bits of their classes."""

    names: tuple[str, ...]
    forms: Hashes
    form_bits: Ints
    heads: Hashes  # hashes of first words of phrases
    phrases: Hashes
    phrase_bits: Ints


def _forms(stem: str) -> list[str]:
    out = []
    for p in ("", *PREFIXES):
        if p and len(stem) < (4 if p in SHORT_PREFIXES else 3):
            continue
        out.append(p + stem)
        if len(stem) >= 4:
            out += [p + stem + s for s in SUFFIXES]
    return out


def _hash(words: list[str]) -> Hashes:
    return ngram_hashes(pa.array(words, pa.large_string()), (0, 0))[0]


def _sorted(hashes: Hashes, bits: Ints) -> tuple[Hashes, Ints]:
    unique, inverse = np.unique(hashes, return_inverse=True)
    joined = np.zeros(len(unique), np.int64)
    np.bitwise_or.at(joined, inverse, bits)
    return unique, joined


@cache
def lexicon() -> Lexicon:
    """The classes of `data/abuse.yaml`, folded and spelled out; made once per process."""
    source = resources.files("fitra.signals").joinpath("data/abuse.yaml").read_text(encoding="utf-8")
    raw: dict[str, Any] = yaml.safe_load(source)["classes"]
    names = (*raw, "aimed")
    words: dict[str, int] = {}
    phrases: dict[tuple[str, ...], int] = {}
    for bit, entries in enumerate(raw.values()):
        for entry in entries:
            first, *rest = arabic.fold(str(entry), "search").split()
            if rest:
                phrases[first, *rest] = phrases.get((first, *rest), 0) | 1 << bit
            else:
                words[first] = words.get(first, 0) | 1 << bit
    spelled: dict[str, int] = {}
    aimed = 1 << (len(names) - 1)
    for stem, bits in words.items():
        for form in _forms(stem):
            aim = aimed if form != stem and form.startswith(AIMED) and not stem.startswith(AIMED) else 0
            spelled[form] = spelled.get(form, 0) | bits | aim
    forms, form_bits = _sorted(_hash(list(spelled)), np.array(list(spelled.values()), np.int64))
    hashes, heads, of = [], [], []
    for parts, bits in phrases.items():
        for p in ("", "و", "يا", "ال") if len(parts[0]) > 2 else ("",):
            h = _hash([p + parts[0], *parts[1:]])
            heads.append(h[0])
            hashes.append(_chain(*h))
            of.append(bits)
    phrase, phrase_bits = _sorted(np.array(hashes, np.uint64), np.array(of, np.int64))
    return Lexicon(names, forms, form_bits, np.unique(np.array(heads, np.uint64)), phrase, phrase_bits)


def _chain(*hashes: Any) -> Any:
    out = np.asarray(hashes[0], np.uint64).reshape(-1)
    for h in hashes[1:]:
        out = mix(out * _P + np.asarray(h, np.uint64).reshape(-1))
    return out if len(out) != 1 else out[0]


def _look_up(keys: Hashes, bits: Ints, wanted: Hashes) -> Ints:
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, bits[at], 0)


def unstretched(words: Any) -> Any:
    """Words with every run of three or more equal characters made one: «غبييييي» to «غبي»."""
    codes, bounds = arabic.code_points(words)
    if len(codes) < 3:
        return words
    same = np.zeros(len(codes), bool)
    same[1:] = codes[1:] == codes[:-1]
    same[bounds[:-1][bounds[:-1] < len(codes)]] = False
    begin = np.flatnonzero(~same)
    length = np.diff(np.concatenate((begin, [len(codes)])))
    run = np.repeat(length, length)
    keep = ~same | (run < 3)
    if keep.all():
        return words
    sizes = np.add.reduceat(keep, bounds[:-1]) * (np.diff(bounds) > 0)
    text = codes[keep].astype("<u4").tobytes().decode("utf-32-le").encode()
    byte = np.concatenate(([0], np.cumsum(_utf8_size(codes[keep]), dtype=np.int64)))
    offsets = byte[np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))]
    return pa.LargeStringArray.from_buffers(len(words), pa.py_buffer(offsets), pa.py_buffer(text))


def _utf8_size(codes: npt.NDArray[Any]) -> Ints:
    return (1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)).astype(np.int64)


def classes(view: View, hashes: Hashes) -> Ints:
    """Bits of the classes of each word occurrence, (m,); `hashes` are those of the view's words."""
    lex = lexicon()
    plain = unstretched(view.vocab)
    bits = _look_up(lex.forms, lex.form_bits, hashes if plain is view.vocab else ngram_hashes(plain, (0, 0))[0])
    out = bits[view.ids]
    _spaced_out(view, out)
    first = np.isin(hashes, lex.heads)
    at = np.flatnonzero(first[view.ids])
    end = np.repeat(view.bounds[1:], view.n_words)
    h = hashes[view.ids]
    for size in (2, 3):
        at = at[at + size <= end[at]]
        found = _look_up(lex.phrases, lex.phrase_bits, _chain(*(h[at + i] for i in range(size)))) if len(at) else at
        for i in range(size):
            out[at + i] |= found
    return out


def _spaced_out(view: View, out: Ints) -> None:
    """Words written letter by letter («م ت ن ا ك») get the classes of the joined word; such runs are rare."""
    lex = lexicon()
    codes, bounds = arabic.code_points(view.vocab)
    single = (np.diff(bounds) == 1)[view.ids]
    if not single.any():
        return
    single = np.concatenate(([False], single, [False]))
    edges = np.flatnonzero(single[1:] != single[:-1])
    doc = np.searchsorted(view.bounds, edges[::2], side="right")
    for a, b, d in zip(edges[::2], edges[1::2], doc, strict=True):
        stop = min(b, view.bounds[d])
        if 3 <= stop - a <= 12:
            word = "".join(chr(codes[bounds[i]]) for i in view.ids[a:stop])
            out[a:stop] |= int(_look_up(lex.forms, lex.form_bits, _hash([word]))[0])


def class_hashes(view: View, hashes: Hashes) -> tuple[Ints, Hashes]:
    """(word occurrence, hash) of every class feature of the view, in no order."""
    bits = classes(view, hashes)
    hit = np.flatnonzero(bits)
    if not len(hit):
        return np.zeros(0, np.int64), np.zeros(0, np.uint64)
    doc = np.repeat(np.arange(len(view)), view.n_words)
    where, found = [], []

    def add(at: Ints, *parts: Any) -> None:
        if len(at):
            where.append(at)
            found.append(
                np.asarray(_chain(*(np.broadcast_to(np.asarray(p, np.uint64), at.shape) for p in parts))).reshape(-1)
            )

    for bit in range(len(lexicon().names)):
        at = hit[(bits[hit] >> bit) & 1 == 1]
        add(at, 101, bit)
    symbol = bits[hit].astype(np.uint64)
    for step in (1, 2):
        a, b = hit[:-step], hit[step:]
        near = (doc[a] == doc[b]) & (b - a <= FAR)
        a, b, sa, sb = a[near], b[near], symbol[:-step][near], symbol[step:][near]
        add(a, 102, sa, sb)
        add(a, 103, sa, sb, np.minimum(b - a, 3))
    h = hashes[view.ids]
    last = len(bits) - 1
    after = hit[(hit < last)]
    after = after[doc[after] == doc[np.minimum(after + 1, last)]]
    add(after, 104, bits[after], np.where(bits[after + 1] > 0, bits[after + 1].astype(np.uint64), h[after + 1]))
    before = hit[hit > 0]
    before = before[doc[before] == doc[before - 1]]
    add(before, 105, bits[before], np.where(bits[before - 1] > 0, bits[before - 1].astype(np.uint64), h[before - 1]))
    two = before[(before < last)]
    two = two[doc[two] == doc[np.minimum(two + 1, last)]]
    add(two, 106, bits[two], h[two - 1], h[two + 1])
    return np.concatenate(where), np.concatenate(found)
