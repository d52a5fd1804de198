"""Continued BPE: go on merging where the base tokenizer stopped, in words of one script only.

The base segments every word of the corpus. Each of its pieces becomes one code point, so that the words turn into
short strings over an alphabet of old pieces; the `tokenizers` trainer (Rust) learns merges on those, and the merges
are mapped back and appended after the old ones. What a BPE encoder then does to a word is: first everything the base
did, then the new merges in the order they were learned (I-BPE, AraLLaMA section 4.1).

Before that, letters have to be whole. An English byte-level base cuts them into bytes: `mend` joins pieces that hold
parts of one letter, the most frequent first. A SentencePiece base has most letters and writes the others in bytes:
those that occur become tokens.

Every new token starts at a letter border and holds letters and marks, with at most one space in front, or is one sign
of the script (a comma, a digit). The one
exception, in byte-level vocabularies: a token may end in the first byte of a letter where a clean token is built from
it (`partial`). Bytes D8-DB are the first bytes of U+0600-06FF and of nothing else, so text without those characters
cannot meet a new merge.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from fitra.errors import FitraError
from fitra.vocab import bpe
from fitra.vocab.bpe import SPACE, SUPPORTED, TO_BYTE, TO_CHAR, Ints, Merge
from fitra.vocab.script import DEFAULT, Script

# Code points for old pieces: the short ones first, for the frequent pieces. No white space among them.
CODES = (
    range(0x21, 0x7F),
    range(0xA1, 0x800),
    range(0xE000, 0xF900),
    range(0xF0000, 0xFFFFE),
    range(0x100000, 0x10FFFE),
)
MAX_MEND_ROUNDS = 8
MAX_FED = 60_000_000  # occurrences handed to the trainer; above it all counts are scaled down


@dataclass(frozen=True)
class Expansion:
    """What was learned. `tokens` in id order; `used` by some corpus word, `scaffold` only on the way to a used one."""

    merges: list[Merge]
    tokens: list[str]
    used: int
    scaffold: int
    partial: int
    unreachable: int


@dataclass(frozen=True)
class _Cut:
    """Words cut into pieces: `ids` of all, `owner[i]` the word that piece i belongs to."""

    ids: Ints
    owner: Ints


def _cut(spec: Mapping[str, Any], words: Sequence[str]) -> _Cut:
    return _Cut(*bpe.segment_flat(spec, words))


def _names(spec: Mapping[str, Any]) -> dict[int, str]:
    return {i: t for t, i in spec["model"]["vocab"].items()}


def mend(spec: Mapping[str, Any], words: Mapping[str, int], min_count: int, script: Script = DEFAULT) -> list[Merge]:
    """What makes letters whole: merges (byte-level), or characters as Merge(character, "") (SentencePiece)."""
    if bpe.kind(spec) == "sentencepiece":
        return _new_letters(spec, words, min_count, script)
    merges: list[Merge] = []
    seen: set[tuple[str, str]] = set()
    left = dict(words)
    for _ in range(MAX_MEND_ROUNDS):
        now = bpe.extend(spec, merges)
        name, cut = _names(now), _cut(now, list(left))
        counts = np.fromiter(left.values(), np.int64, len(left))
        # A continuation byte (10xxxxxx) at the front of a piece: the border before it lies inside a letter.
        inside = np.zeros(max(name, default=0) + 1, bool)
        inside[[i for i, t in name.items() if TO_BYTE.get(t[:1], 0) & 0xC0 == 0x80]] = True
        at = np.flatnonzero(inside[cut.ids[1:]] & (cut.owner[1:] == cut.owner[:-1]))
        pairs, where = np.unique(np.stack([cut.ids[at], cut.ids[at + 1]]), axis=1, return_inverse=True)
        total = np.bincount(where.ravel(), weights=counts[cut.owner[at]], minlength=pairs.shape[1])
        found = {
            (a, b): n
            for a, b, n in zip((name[i] for i in pairs[0]), (name[i] for i in pairs[1]), total, strict=True)
            if n >= min_count and (a, b) not in seen and _may_mend(a + b, script)
        }
        if not found:
            break
        seen.update(found)
        merges += [Merge(*p) for p in sorted(found, key=lambda p: (-found[p], p))]
        keys = list(left)
        left = {keys[i]: left[keys[i]] for i in np.unique(cut.owner[at])}
    return merges


def _may_mend(piece: str, script: Script) -> bool:
    return bpe.is_token(piece, "bytes", script) or bpe.is_partial(piece, script)


def _new_letters(spec: Mapping[str, Any], words: Mapping[str, int], min_count: int, script: Script) -> list[Merge]:
    points = np.frombuffer("".join(words).encode("utf-32-le"), "<u4")
    times = np.repeat(np.fromiter(words.values(), np.int64, len(words)), [len(w) for w in words])
    found = np.bincount(points, weights=times)
    counts = {chr(i): int(found[i]) for i in np.flatnonzero(found)}
    vocab = spec["model"]["vocab"]
    new = [(c, n) for c, n in counts.items() if n >= min_count and c not in vocab and script.is_token(c)]
    return [Merge(c, "") for c, _ in sorted(new, key=lambda cn: (-cn[1], cn[0]))]


def learn(
    spec: Mapping[str, Any], words: Mapping[str, int], add: int, min_count: int, script: Script = DEFAULT
) -> list[Merge]:
    """At most `add` merges of the pieces that the tokenizer makes of `words`, in the order BPE learns them."""
    if add <= 0 or not words:
        return []
    kind, name, cut = bpe.kind(spec), _names(spec), _cut(spec, list(words))
    counts = np.fromiter(words.values(), np.int64, len(words))
    times = np.bincount(cut.ids, weights=counts[cut.owner], minlength=max(name) + 1)
    order = [int(i) for i in np.argsort(-times, kind="stable") if times[i] > 0]
    sort = np.zeros(len(times), np.int8)  # 0: nothing merges with it; 1, 2: what may merge with its like
    for i in order:
        sort[i] = _sort(name[i], kind, script)
    code = np.zeros(len(times), np.uint32)
    free = itertools.chain.from_iterable(CODES)
    used = [i for i in order if sort[i]]
    for i in used:
        code[i] = next(free, 0)
        if not code[i]:
            raise FitraError("more than 139,000 old pieces occur in words of this script.", SUPPORTED)
    learner = train(_strings(cut, sort, code, counts), [chr(code[i]) for i in used], add, min_count)
    piece = {chr(code[i]): name[i] for i in used}
    found = [
        Merge("".join(piece[c] for c in a), "".join(piece[c] for c in b))
        for a, b in json.loads(learner.to_str())["model"]["merges"]
    ]
    return [m for m in found if bpe.is_clean(m.token, kind, script)]


def _sort(piece: str, kind: bpe.Kind, script: Script) -> int:
    """0 for what no new token may hold, else 1; 2 for marks where they have to stay apart."""
    if piece == (TO_CHAR[0x20] if kind == "bytes" else SPACE):
        return 1
    if not bpe.is_clean(piece, kind, script):
        return 0
    return 2 if script.apart and bpe.piece_text(piece, kind)[0] in script.marks else 1


def _strings(cut: _Cut, sort: npt.NDArray[np.int8], code: npt.NDArray[np.uint32], counts: Ints) -> dict[str, int]:
    """Stretches of pieces that may merge, as strings of code points, with their counts."""
    kinds = sort[cut.ids]
    border = np.flatnonzero((cut.owner[1:] != cut.owner[:-1]) | (kinds[1:] != kinds[:-1])) + 1
    starts = np.concatenate([[0], border])
    ends = np.concatenate([border, [len(kinds)]])
    keep = (ends - starts > 1) & (kinds[starts] > 0)
    text = code[cut.ids].astype("<u4").tobytes().decode("utf-32-le")
    out: dict[str, int] = {}
    for a, b, n in zip(
        starts[keep].tolist(), ends[keep].tolist(), counts[cut.owner[starts[keep]]].tolist(), strict=True
    ):
        out[text[a:b]] = out.get(text[a:b], 0) + n
    return out


def train(strings: Mapping[str, int], alphabet: list[str], add: int, min_count: int) -> Tokenizer:
    """A BPE of single characters trained on words with counts: at most `add` merges."""
    scale = min(1.0, MAX_FED / max(sum(strings.values()), 1))
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + add,
        min_frequency=max(1, round(min_count * scale)),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # The trainer counts words itself and takes no counts, so each word is handed over as often as it occurs.
    learner.train_from_iterator(fed(strings, scale), trainer=trainer)
    return learner


def fed(strings: Mapping[str, int], scale: float = 1.0) -> Iterable[str]:
    """Words as often as they occur (times `scale`), many in one string: each string costs the trainer a call."""
    held: list[str] = []
    size = 0
    for w, n in strings.items():
        left = n if scale == 1.0 else round(n * scale)
        while left > 0:
            k = min(left, 256)
            held.append(" ".join([w] * k) if k > 1 else w)
            size += k
            left -= k
            if size >= 256:
                yield " ".join(held)
                held, size = [], 0
    if held:
        yield " ".join(held)


def continue_bpe(
    spec: Mapping[str, Any], words: Mapping[str, int], add: int, min_count: int, script: Script = DEFAULT
) -> Expansion:
    """Learn up to `add` new tokens from word counts (words in the writing of the vocabulary, see `bpe.words_of`).

    Tokens that no word yields and no other new token needs are dropped and replaced by the next candidates. Fewer
    than `add` come back when the words hold fewer pairs that occur `min_count` times.
    """
    letters = mend(spec, words, min_count, script)
    # Room for what will be dropped; one training serves all rounds, as a longer BPE run starts with the shorter one.
    spare = add // 20 + 64
    found = learn(bpe.extend(spec, letters), words, add + spare, min_count, script)
    return settle(spec, [*letters, *found], words, add, script)


def settle(
    spec: Mapping[str, Any], candidates: Sequence[Merge], words: Mapping[str, int], add: int, script: Script = DEFAULT
) -> Expansion:
    """The first `add` tokens among `candidates` that words need, each of which is what its own text is read as."""
    kind, keys = bpe.kind(spec), list(words)
    dropped = set[str]()
    while True:
        merges, tokens = first(spec, [m for m in candidates if m.token not in dropped], add)
        now = bpe.extend(spec, merges)
        name, vocab = _names(now), now["model"]["vocab"]
        seen = {name[i] for i in np.unique(_cut(now, keys).ids).tolist()} if words else set()
        alone = dict(zip(tokens, bpe.segment(now, tokens), strict=True))
        reached = {t for t in tokens if alone[t] == [vocab[t]]}
        needed = _needed(now, merges, seen & reached, kind)
        bad = {t for t in tokens if t not in needed or t not in reached}
        if not bad:
            break
        dropped |= bad
    used = sum(t in seen for t in tokens)
    partial = sum(not bpe.is_token(t, kind, script) for t in tokens)
    return Expansion(merges, tokens, used, len(tokens) - used, partial, len(dropped))


def first(spec: Mapping[str, Any], candidates: Sequence[Merge], add: int) -> tuple[list[Merge], list[str]]:
    """The longest run of merges from the front that needs at most `add` new tokens, and those tokens in order."""
    old = spec["model"]["vocab"]
    merges: list[Merge] = []
    tokens: dict[str, None] = {}
    for m in candidates:
        if m.right and any(p not in old and p not in tokens for p in (m.left, m.right)):
            continue  # a part of it was dropped
        if m.token not in old and m.token not in tokens:
            if len(tokens) == add:
                break
            tokens[m.token] = None
        merges.append(m)
    return merges, list(tokens)


def _needed(spec: Mapping[str, Any], merges: Sequence[Merge], seen: set[str], kind: bpe.Kind) -> set[str]:
    """`seen` and all parts from which its tokens are merged."""
    needed = set(seen)
    for m in reversed(merges):  # parts are always learned before what is made of them
        if m.token in needed:
            needed.update((m.left, m.right))
    return needed
