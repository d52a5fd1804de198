"""Figures of quality of texts, counted for a whole batch in NumPy.

All is measured on de-vocalised text: tashkeel, tatweel and invisible marks are taken out first and count for nothing,
so vocalised text measures like the same text without its marks. Repetition is measured on folded words. Links and
handles are left out before characters are counted: they say nothing of the language.

`FIGURES` says what each figure is. Sources: Gopher (Rae et al. 2021, arXiv 2112.11446, table A1 and section A.1.1),
C4 (Raffel et al. 2020, section 2.2), FineWeb (Penedo et al. 2024, section 3.6); the n-gram figures follow the readable
definition of datatrove (`find_top_duplicate`, `find_all_duplicate`) but for two things: a gram said once repeats
nothing, and the share is of the folded text, whose punctuation is out.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fitra import arabic
from fitra.signals import repetition, stopwords
from fitra.signals.view import View

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FIGURES = {
    "n_words": "white-space separated words with a letter or digit, links and handles left out",
    "n_chars": "characters without marks, runs of white space as one, links and handles left out",
    "n_lines": "lines that are not blank",
    "n_sentences": "words that end in . ! ? ؟ ۔ or …",
    "mean_word_length": "letters and digits per folded word",
    "arabic_share": "letters of the Arabic script among all letters",
    "latin_share": "Latin letters among all letters",
    "symbol_share": "punctuation and symbols among all ink",
    "digit_share": "digits among all ink",
    "alpha_word_share": "words with a letter among all white-space separated words",
    "single_letter_share": "words of one Arabic letter, but و ع ف ب ل, among all words: letters torn apart",
    "long_word_share": "characters in folded words of more than 24 letters, 10 of them different: encoded data",
    "line_end_share": 'lines that end in . ! ? ؟ ۔ … : ؛ » ” " among lines',
    "newline_per_word": "line breaks per word",
    "short_line_share": "lines of at most 30 characters among lines",
    "mean_line_length": "characters per line",
    "bullet_line_share": "lines that start with a bullet, dash or asterisk among lines",
    "ellipsis_line_share": "lines that end in … or ... among lines",
    "dup_line_share": "lines that say again what a line before said, among lines",
    "dup_line_char_share": "the same by characters",
    "dup_paragraph_share": "paragraphs (parted by blank lines) that repeat one before, among paragraphs",
    "dup_paragraph_char_share": "the same by characters",
    **{f"top_{n}_gram_share": f"characters in the most frequent {n}-gram of words" for n in repetition.TOP},
    **{f"dup_{n}_gram_share": f"characters in {n}-grams of words said before" for n in repetition.DUPLICATE},
    "n_stop_words": "different function words",
    "stop_word_share": "function words among all folded words",
    "unique_word_share": "different words among all folded words",
    "hash_to_word": "# per word",
    "ellipsis_to_word": "… or ... per word",
    "javascript_share": "mentions of javascript among folded words",
    "n_lorem": "words of lorem ipsum",
    "curly_share": "curly brackets among all ink",
    "furniture_share": "words in phrases of web furniture (consent, navigation, rights, forms)",
    "link_share": "characters in links and handles",
    "vocalised_share": "tashkeel per Arabic letter",
    "mojibake_share": "accented Latin letters, replacement characters, control codes among all ink",
    "ta_za_share": "ط and ظ among Arabic letters: UTF-8 read as windows-1256 is half of them",
}

_ADDRESS = r"(?:https?://|www\.)[^\s]+|@\w+"  # RE2: \w and \s are ASCII, as in handles
SHORT_LINE = 30  # characters
LONG_WORD = 24  # letters
_VARIED = 10  # different letters: «ههههههه» is laughter
_LETTER_WORDS = "وعفبل"  # spoken Arabic writes them alone
_CHUNK_BYTES = 2 << 20

# Kinds of characters, in an order that makes groups ranges: dropped, white space, letters, digits, other ink.
_MARK, _INVISIBLE, _SPACE, _NEWLINE, _ARABIC, _TA_ZA, _LATIN, _ACCENTED, _LETTER, _DIGIT, _OTHER = range(11)
_SYMBOL, _END, _STOP, _ELLIPSIS, _BULLET, _CURLY, _HASH, _BROKEN = range(11, 19)
_KINDS = 19
_ENDS = '!?؟۔:؛»”"‼⁇⁈⁉？！。'
_SENTENCE_ENDS = (_STOP, _ELLIPSIS)
_BULLETS = "•-*–—▪▫◦●○■□►▶‣⁃∙·✓✔➢➤٭"


@functools.cache
def _kinds() -> npt.NDArray[np.uint8]:
    """The kind of each code point below 0x20000; above are ideographs and private use."""
    table = np.full(0x20001, _LETTER, dtype=np.uint8)
    marks = {c for c in range(0x600, 0x900) if unicodedata.category(chr(c)) == "Mn"}
    for code in (*range(0x3400), *range(0xA000, 0xAC00), *range(0xD800, 0x20000)):
        ch = chr(code)
        category = unicodedata.category(ch)
        if ch in "\n\x0b\x0c\x85\u2028\u2029":
            table[code] = _NEWLINE
        elif code in marks:
            table[code] = _MARK
        elif category in ("Mn", "Cf", "Me") or code == 0x640:  # tatweel is a stroke, not a letter
            table[code] = _INVISIBLE
        elif category[0] == "Z" or ch in "\t\r":
            table[code] = _SPACE
        elif category in ("Cc", "Cn", "Co", "Cs") or code == 0xFFFD:
            table[code] = _BROKEN
        elif category[0] == "L":
            latin = code < 0x250 or 0x1E00 <= code < 0x1F00
            accented = 0xC0 <= code < 0x180
            table[code] = _ARABIC if arabic.is_arabic(ch) else _ACCENTED if accented else _LATIN if latin else _LETTER
        elif category == "Nd":
            table[code] = _DIGIT
        else:
            table[code] = _SYMBOL if category[0] in "PS" else _OTHER
    for chars, kind in (
        ("طظ", _TA_ZA),
        (_ENDS, _END),
        (".", _STOP),
        ("…", _ELLIPSIS),
        (_BULLETS, _BULLET),
        ("{}", _CURLY),
        ("#", _HASH),
    ):
        for ch in chars:
            table[ord(ch)] = kind
    return table


def figures(view: View, stop_words: Sequence[str] | None = None) -> dict[str, Floats]:
    """All of `FIGURES` for each text of the batch, float64 (n,) each; `stop_words` replaces the built-in list.

    A share of nothing (no letters, no lines, no words) is 0.
    """
    out = _characters(view.texts) | _words(view, stop_words) | repetition.ngrams(view)
    return {name: out[name] for name in FIGURES}


def ratio(part: npt.NDArray[np.generic], whole: npt.NDArray[np.generic]) -> Floats:
    """Elementwise share, 0 where the whole is 0."""
    out: Floats = np.zeros(len(part))
    np.divide(part, whole, out=out, where=np.asarray(whole) != 0, casting="unsafe")
    return out


def _words(view: View, given: Sequence[str] | None) -> dict[str, Floats]:
    """What is a fact of folded words."""
    lengths = pc.utf8_length(view.vocab).to_numpy(zero_copy_only=False).astype(np.float32)
    stops = stopwords.stop_words() if given is None else frozenset(arabic.fold(w, "search") for w in given)
    stop = view.member(stops - {""})
    long = np.zeros_like(lengths)
    for i in np.flatnonzero(lengths > LONG_WORD).tolist():  # rare
        long[i] = lengths[i] if len(set(view.vocab[i].as_py())) > _VARIED else 0
    facts = np.stack(
        [
            lengths,
            long,
            stop,
            view.member(frozenset(("javascript", "جافاسكريبت", "جافاسكربت"))),
            view.member(frozenset(("lorem", "ipsum", "لوريم", "ايبسوم"))),
        ],
        axis=1,
    )
    chars, long_chars, stopped, script, lorem = view.sums(facts).T
    n = view.n_words
    docs = np.repeat(np.arange(len(view), dtype=np.int64), n)
    pairs = np.sort(docs * max(len(view.vocab), 1) + view.ids)
    first = np.ones(len(pairs), dtype=bool)
    first[1:] = pairs[1:] != pairs[:-1]
    pairs = pairs[first]
    at = np.searchsorted(pairs, np.arange(len(view) + 1) * max(len(view.vocab), 1))
    different = np.concatenate(([0.0], np.cumsum(stop[pairs % max(len(view.vocab), 1)], dtype=np.float64)))
    return {
        "mean_word_length": ratio(chars, n),
        "long_word_share": ratio(long_chars, chars),
        "stop_word_share": ratio(stopped, n),
        "n_stop_words": np.diff(different[at]),
        "unique_word_share": ratio(np.diff(at), n),
        "javascript_share": ratio(script, n),
        "n_lorem": lorem.astype(np.float64),
        "furniture_share": ratio(repetition.in_phrases(view, stopwords.furniture()), n),
    }


def _characters(texts: pa.LargeStringArray) -> dict[str, Floats]:
    """What is a fact of characters and lines, in pieces that fit the cache."""
    sizes = pc.binary_length(texts).to_numpy(zero_copy_only=False)
    ends = np.cumsum(sizes)
    parts: list[dict[str, Floats]] = []
    start = 0
    while start < len(texts):
        base = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, base + _CHUNK_BYTES, side="right")))
        parts.append(_count(texts.slice(start, stop - start)))
        start = stop
    if not parts:
        parts = [_count(pa.array([""], pa.large_string()))]
        return {k: v[:0] for k, v in parts[0].items()}
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


def _without_addresses(texts: pa.LargeStringArray) -> tuple[pa.LargeStringArray, Floats]:
    """Links and handles as a space, and the share of characters that they were."""
    found = pc.or_(
        pc.match_substring(texts, "@"), pc.or_(pc.match_substring(texts, "http"), pc.match_substring(texts, "www."))
    )
    share = np.zeros(len(texts))
    if not pc.any(found).as_py():
        return texts, share
    some = texts.filter(found)
    bare = pc.replace_substring_regex(some, _ADDRESS, " ")
    before = pc.utf8_length(some).to_numpy(zero_copy_only=False)
    after = pc.utf8_length(bare).to_numpy(zero_copy_only=False)
    share[found.to_numpy(zero_copy_only=False)] = ratio(before - after, before)
    return pc.replace_with_mask(texts, found, bare), share


def _count(given: pa.LargeStringArray) -> dict[str, Floats]:
    texts, link_share = _without_addresses(given)
    n = len(texts)
    codes, bounds = arabic.code_points(texts)
    kinds = np.take(_kinds(), codes, mode="clip")
    docs = np.repeat(np.arange(n, dtype=np.int64) * _KINDS, np.diff(bounds))
    by_kind = np.bincount(docs + kinds, minlength=n * _KINDS).reshape(n, _KINDS)
    keep = kinds > _INVISIBLE
    if not keep.all():
        bounds = np.concatenate(([0], np.cumsum(keep, dtype=np.int64)))[bounds]
        codes, kinds = codes[keep], kinds[keep]
    total = by_kind.sum(axis=1)
    ink = total - by_kind[:, _MARK : _NEWLINE + 1].sum(axis=1)
    letters = by_kind[:, _ARABIC : _LETTER + 1].sum(axis=1)
    in_arabic = by_kind[:, _ARABIC] + by_kind[:, _TA_ZA]

    # White-space separated words: runs of ink, [start, end).
    inked = kinds > _NEWLINE
    starts, stops = _runs(inked, bounds)
    of_doc = np.searchsorted(starts, bounds)  # words of text i: of_doc[i] to of_doc[i + 1]
    alpha = _prefix((kinds >= _ARABIC) & (kinds <= _LETTER))
    alnum = _prefix((kinds >= _ARABIC) & (kinds <= _DIGIT))
    has_alpha = alpha[stops] > alpha[starts]
    length = stops - starts
    real = _per_doc(alnum[stops] > alnum[starts], of_doc)
    tokens = np.diff(of_doc)
    first_kind, last_kind = kinds[starts], kinds[stops - 1]
    last_code = codes[stops - 1]
    lone = (length == 1) & ((first_kind == _ARABIC) | (first_kind == _TA_ZA))
    lone &= ~np.isin(codes[starts], [ord(c) for c in _LETTER_WORDS])
    closes = (last_kind == _STOP) | (last_kind == _ELLIPSIS) | np.isin(last_code, [ord(c) for c in "!?؟۔"])
    dots = _dots(codes, bounds)

    lines = _lines(codes, kinds, bounds, starts, stops)
    return {
        "n_words": real.astype(np.float64),
        "n_chars": (ink + np.maximum(tokens - 1, 0)).astype(np.float64),
        "n_sentences": _per_doc(closes, of_doc).astype(np.float64),
        "arabic_share": ratio(in_arabic, letters),
        "latin_share": ratio(by_kind[:, _LATIN] + by_kind[:, _ACCENTED], letters),
        "symbol_share": ratio(by_kind[:, _SYMBOL:].sum(axis=1), ink),
        "digit_share": ratio(by_kind[:, _DIGIT], ink),
        "alpha_word_share": ratio(_per_doc(has_alpha, of_doc), tokens),
        "single_letter_share": ratio(_per_doc(lone, of_doc), tokens),
        "newline_per_word": ratio(by_kind[:, _NEWLINE], real),
        "hash_to_word": ratio(by_kind[:, _HASH], real),
        "ellipsis_to_word": ratio(by_kind[:, _ELLIPSIS] + dots, real),
        "curly_share": ratio(by_kind[:, _CURLY], ink),
        "link_share": link_share,
        "vocalised_share": ratio(by_kind[:, _MARK], in_arabic),
        "mojibake_share": ratio(by_kind[:, _ACCENTED] + by_kind[:, _BROKEN], ink),
        "ta_za_share": ratio(by_kind[:, _TA_ZA], in_arabic),
        **lines,
    }


def _runs(hit: npt.NDArray[np.bool_], bounds: Ints) -> tuple[Ints, Ints]:
    """Starts and ends of the runs of `hit`; a run does not cross the bounds of texts."""
    start, stop = hit.copy(), hit.copy()
    start[1:] &= ~hit[:-1]
    stop[:-1] &= ~hit[1:]
    full = bounds[:-1] < bounds[1:]
    heads, tails = bounds[:-1][full], bounds[1:][full] - 1
    start[heads], stop[tails] = hit[heads], hit[tails]
    return np.flatnonzero(start), np.flatnonzero(stop) + 1


def _prefix(hit: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    out = np.zeros(len(hit) + 1, dtype=np.int32)
    np.cumsum(hit, out=out[1:])
    return out


def _per_doc(values: npt.NDArray[np.generic], bounds: Ints) -> Floats:
    """Sums of consecutive values between bounds."""
    return np.diff(np.concatenate(([0], np.cumsum(values, dtype=np.int64)))[bounds])


def _dots(codes: npt.NDArray[np.uint32], bounds: Ints) -> Ints:
    """How often "..." occurs in each text, without overlap: a run of k dots has k // 3."""
    at = np.flatnonzero(codes == ord("."))
    if not len(at):
        return np.zeros(len(bounds) - 1, dtype=np.int64)
    doc = np.searchsorted(bounds, at, side="right") - 1
    head = np.ones(len(at), dtype=bool)
    head[1:] = (at[1:] != at[:-1] + 1) | (doc[1:] != doc[:-1])
    first = np.flatnonzero(head)
    threes = np.diff(np.append(first, len(at))) // 3
    return np.bincount(doc[first], weights=threes, minlength=len(bounds) - 1).astype(np.int64)


def _lines(
    codes: npt.NDArray[np.uint32], kinds: npt.NDArray[np.uint8], bounds: Ints, starts: Ints, stops: Ints
) -> dict[str, Floats]:
    """Figures of lines and paragraphs; `starts` and `stops` are those of white-space separated words."""
    n = len(bounds) - 1
    breaks = np.flatnonzero(kinds == _NEWLINE)
    heads = np.sort(np.concatenate((breaks + 1, bounds[:-1])), kind="stable")
    # A break at the very end of a text opens a line that belongs to no text: it has no words, so it is blank.
    words = np.searchsorted(starts, np.append(heads, len(codes)))
    full = words[:-1] < words[1:]
    blank_before = np.ones(len(heads), dtype=bool)
    blank_before[1:] = ~full[:-1]
    first, last = words[:-1][full], words[1:][full] - 1
    doc = np.minimum(np.searchsorted(bounds, starts[first], side="right") - 1, n - 1)
    opens = blank_before[full]
    opens[1:] |= doc[1:] != doc[:-1]
    opens[:1] = True
    of_doc = np.searchsorted(doc, np.arange(n + 1))
    inks = np.concatenate(([0], np.cumsum(stops - starts)))
    size = inks[last + 1] - inks[first] + last - first  # one space between words
    begin, end = starts[first], stops[last]
    last_kind = kinds[end - 1]
    dotted = (end - begin >= 3) & (last_kind == _STOP)
    dotted[dotted] = (kinds[end[dotted] - 2] == _STOP) & (kinds[end[dotted] - 3] == _STOP)
    n_lines = np.diff(of_doc).astype(np.float64)
    spans = repetition.Spans(codes)
    again = repetition.said_before(doc, spans.hashes(begin, end))
    head = np.flatnonzero(opens)
    tail = np.append(head[1:], len(opens)) - 1 if len(head) else head
    para_doc = doc[head]
    para_size = _per_doc(size, np.append(head, len(size))) if len(head) else np.zeros(0, dtype=np.int64)
    para_again = repetition.said_before(para_doc, spans.hashes(begin[head], end[tail]))
    para_of = np.searchsorted(para_doc, np.arange(n + 1))
    chars = _per_doc(size, of_doc)
    return {
        "n_lines": n_lines,
        "line_end_share": ratio(_per_doc((last_kind >= _END) & (last_kind <= _ELLIPSIS), of_doc), n_lines),
        "short_line_share": ratio(_per_doc(size <= SHORT_LINE, of_doc), n_lines),
        "mean_line_length": ratio(chars, n_lines),
        "bullet_line_share": ratio(_per_doc(kinds[begin] == _BULLET, of_doc), n_lines),
        "ellipsis_line_share": ratio(_per_doc(dotted | (last_kind == _ELLIPSIS), of_doc), n_lines),
        "dup_line_share": ratio(_per_doc(again, of_doc), n_lines),
        "dup_line_char_share": ratio(_per_doc(again * size, of_doc), chars),
        "dup_paragraph_share": ratio(_per_doc(para_again, para_of), np.diff(para_of)),
        "dup_paragraph_char_share": ratio(_per_doc(para_again * para_size, para_of), chars),
    }
