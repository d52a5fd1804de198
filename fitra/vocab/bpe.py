"""Continued byte-level BPE: go on merging where the base tokenizer stopped, in Arabic words only.

The base segments every Arabic word of the corpus. Each of its pieces becomes one private-use code point, so that the
words turn into short strings over an alphabet of old pieces; the `tokenizers` trainer (Rust) learns merges on those,
and the merges are mapped back and appended after the old ones. What a BPE encoder then does to an Arabic word is:
first everything the base did, then the new merges in the order they were learned.

Two phases, because an English base cuts Arabic letters into bytes:

1. `mend`: pieces that hold parts of one letter are joined, the most frequent first, until letters are whole;
2. `learn`: the trainer merges whole letters and old pieces by frequency (I-BPE, AraLLaMA section 4.1).

Every new token starts at a letter border and holds Arabic letters and marks, with at most one space in front. The one
exception: a token may end in the first byte of a letter where a clean token is built from it (`partial`). Bytes D8-DB
are the first bytes of U+0600-06FF and of nothing else, so text without those characters cannot meet a new merge.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from fitra.errors import FitraError

SUPPORTED = "Supported: byte-level BPE as in GPT-2, Llama-3, Qwen (tokenizer.json: model BPE, pre-tokenizer ByteLevel)."
# Arabic letters and marks of U+0600-06FF. Left out on purpose: digits, punctuation, format signs, tatweel (a stroke).
ARABIC = (
    "\u0610-\u061a\u0620-\u063f\u0641-\u065f\u066e-\u06d3\u06d5-\u06dc\u06df-\u06e8\u06ea-\u06ef\u06fa-\u06fc\u06ff"
)
RUN = re.compile(f" ?[{ARABIC}]+")
LEADS = frozenset(range(0xD8, 0xDC))
PRIVATE_USE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))
MAX_MEND_ROUNDS = 8


def _byte_alphabet() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte: itself where printable, else the next free code point from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(hidden)}}


TO_CHAR = _byte_alphabet()
TO_BYTE = {c: b for b, c in TO_CHAR.items()}


def piece_bytes(piece: str) -> bytes:
    """The bytes that a byte-level piece stands for."""
    return bytes(TO_BYTE[c] for c in piece)


def piece_text(piece: str) -> str:
    """A piece as people read it; half letters show as U+FFFD."""
    return piece_bytes(piece).decode("utf-8", errors="replace")


def is_clean(piece: str) -> bool:
    """Whether a piece is whole Arabic letters and marks, with at most one space in front."""
    try:
        return RUN.fullmatch(piece_bytes(piece).decode("utf-8")) is not None
    except UnicodeDecodeError:
        return False


def is_partial(piece: str) -> bool:
    """Whether a piece is a space or clean Arabic or nothing, followed by the first byte of an Arabic letter."""
    raw = piece_bytes(piece)
    if not raw or raw[-1] not in LEADS:
        return False
    try:
        head = raw[:-1].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return head in ("", " ") or RUN.fullmatch(head) is not None


@dataclass(frozen=True)
class Merge:
    """One learned merge, in byte-level characters: `left` + `right` side by side become one token."""

    left: str
    right: str

    @property
    def token(self) -> str:
        return self.left + self.right


def read(folder: Path) -> dict[str, Any]:
    """The `tokenizer.json` of a model folder; FitraError when it is missing or not a byte-level BPE."""
    path = folder / "tokenizer.json"
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FitraError(f"{folder}: no tokenizer.json.", SUPPORTED) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise FitraError(f"{path}: not valid JSON.", "Fetch the tokenizer again.") from None
    model = spec.get("model") if isinstance(spec, dict) else None
    if not isinstance(model, dict) or model.get("type") != "BPE":
        kind = model.get("type") if isinstance(model, dict) else "unknown"
        raise FitraError(f"{path}: the tokenizer model is '{kind}', expected 'BPE'.", SUPPORTED)
    pre = spec.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers", [pre])
    if not any(s.get("type") == "ByteLevel" for s in steps) or (spec.get("decoder") or {}).get("type") != "ByteLevel":
        raise FitraError(f"{path}: a BPE without the ByteLevel pre-tokenizer and decoder.", SUPPORTED)
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(key):
            raise FitraError(f"{path}: the BPE model sets '{key}'.", SUPPORTED)
    if missing := [
        b for b, c in TO_CHAR.items() if c not in model["vocab"] and b not in (0xC0, 0xC1, *range(0xF5, 256))
    ]:
        raise FitraError(f"{path}: {len(missing)} bytes have no token, the first is 0x{missing[0]:02X}.", SUPPORTED)
    return spec  # type: ignore[no-any-return]


def extend(spec: Mapping[str, Any], merges: Sequence[Merge]) -> dict[str, Any]:
    """A copy of a tokenizer.json with `merges` appended and their tokens numbered after every old id."""
    model = dict(spec["model"])
    vocab: dict[str, int] = dict(model["vocab"])
    # An added token outside the model's vocabulary is numbered by its size when the file is loaded: with a bigger
    # vocabulary it would move. Written into the vocabulary it keeps its id.
    for added in spec.get("added_tokens", []):
        vocab.setdefault(added["content"], added["id"])
    nxt = max(vocab.values()) + 1
    for m in merges:
        if m.token not in vocab:
            vocab[m.token] = nxt
            nxt += 1
    old = model["merges"]
    as_text = bool(old) and isinstance(old[0], str)  # files before tokenizers 0.20 write "a b"
    model["vocab"] = vocab
    model["merges"] = [*old, *(f"{m.left} {m.right}" if as_text else [m.left, m.right] for m in merges)]
    return {**spec, "model": model}


def build(spec: Mapping[str, Any]) -> Tokenizer:
    """A tokenizer from the content of a tokenizer.json, without truncation or padding."""
    tok = Tokenizer.from_str(json.dumps(spec, ensure_ascii=False))
    tok.no_truncation()
    tok.no_padding()
    return tok


def count_words(texts: Iterable[str], tok: Tokenizer) -> dict[str, int]:
    """Count the Arabic pre-tokens of `texts`: byte-level string → occurrences, sorted by string.

    Runs of Arabic are counted first and pre-tokenized once each. A pre-token that is not clean is left out.
    """
    runs: Counter[str] = Counter()
    for text in texts:
        runs.update(RUN.findall(tok.normalizer.normalize_str(text) if tok.normalizer else text))
    words: Counter[str] = Counter()
    for run, n in runs.items():
        for pre, _ in tok.pre_tokenizer.pre_tokenize_str(run):
            if is_clean(pre):
                words[pre] += n
    return dict(sorted(words.items()))


def segment(tok: Tokenizer, words: Iterable[str]) -> Iterator[list[str]]:
    """The pieces of each byte-level pre-token."""
    tokenize = tok.model.tokenize
    for w in words:
        yield [t.value for t in tokenize(w)]


def mend(spec: Mapping[str, Any], words: Mapping[str, int], min_count: int) -> list[Merge]:
    """Merges that join parts of one letter, the most frequent first in each round, until letters are whole."""
    merges: list[Merge] = []
    seen: set[tuple[str, str]] = set()
    for _ in range(MAX_MEND_ROUNDS):
        tok = build(extend(spec, merges))
        pairs: Counter[tuple[str, str]] = Counter()
        for pieces, n in zip(segment(tok, words), words.values(), strict=True):
            for a, b in itertools.pairwise(pieces):
                # A continuation byte (10xxxxxx) at the front of `b`: the border lies inside a letter.
                if TO_BYTE[b[0]] & 0xC0 == 0x80 and (is_clean(a + b) or is_partial(a + b)):
                    pairs[a, b] += n
        new = [p for p, n in sorted(pairs.items(), key=lambda kv: (-kv[1], kv[0])) if n >= min_count and p not in seen]
        if not new:
            break
        seen.update(new)
        merges += [Merge(*p) for p in new]
    return merges


def learn(tok: Tokenizer, words: Mapping[str, int], add: int, min_count: int) -> list[Merge]:
    """At most `add` merges of the pieces that `tok` makes of `words`, in the order BPE learns them."""
    if add <= 0:
        return []
    code: dict[str, str] = {}
    free = (chr(c) for block in PRIVATE_USE for c in block)
    coded: list[tuple[str, int]] = []
    for pieces, n in zip(segment(tok, words), words.values(), strict=True):
        for p in pieces:
            if p not in code:
                code[p] = next(free, "")
                if not code[p]:
                    raise FitraError("more than 137,000 old pieces occur in Arabic words.", SUPPORTED)
        if len(pieces) > 1:
            coded.append(("".join(code[p] for p in pieces), n))
    trainer = trainers.BpeTrainer(
        vocab_size=len(code) + add,
        min_frequency=min_count,
        initial_alphabet=list(code.values()),
        show_progress=False,
    )
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # The trainer counts words itself and takes no counts, so each word is handed over as often as it occurs.
    learner.train_from_iterator(
        (" ".join([w] * min(1000, n - at)) for w, n in coded for at in range(0, n, 1000)), trainer=trainer
    )
    piece = {c: p for p, c in code.items()}
    found = []
    for left, right in json.loads(learner.to_str())["model"]["merges"]:
        found.append(Merge("".join(piece[c] for c in left), "".join(piece[c] for c in right)))
    return [m for m in found if is_clean(m.token)]


@dataclass(frozen=True)
class Expansion:
    """What was learned. `tokens` in id order; `used` by some corpus word, `scaffold` only on the way to a used one."""

    merges: list[Merge]
    tokens: list[str]
    used: int
    scaffold: int
    partial: int
    unreachable: int


def continue_bpe(spec: Mapping[str, Any], words: Mapping[str, int], add: int, min_count: int) -> Expansion:
    """Learn up to `add` new tokens from word counts (byte-level pre-token → occurrences).

    Tokens that no word yields and no other new token needs are dropped and replaced by the next candidates. Fewer
    than `add` come back when the words hold fewer pairs that occur `min_count` times.
    """
    letters = mend(spec, words, min_count)
    # Room for what will be dropped; one training serves all rounds, as a longer BPE run starts with the shorter one.
    spare = add // 20 + 64
    candidates = [*letters, *learn(build(extend(spec, letters)), words, add + spare, min_count)]
    dropped = set[str]()
    while True:
        merges, tokens = _first(spec, [m for m in candidates if m.token not in dropped], add)
        seen = set[str]()
        for pieces in segment(build(extend(spec, merges)), words):
            seen.update(pieces)
        needed = _needed(merges, seen)
        bad = {t for t in tokens if t not in needed}
        if not bad:
            break
        dropped |= bad
    used = sum(t in seen for t in tokens)
    partial = sum(not is_clean(t) for t in tokens)
    return Expansion(merges, tokens, used, len(tokens) - used, partial, len(dropped))


def _first(spec: Mapping[str, Any], candidates: Sequence[Merge], add: int) -> tuple[list[Merge], list[str]]:
    """The longest run of merges from the front that needs at most `add` new tokens, and those tokens in order."""
    old = spec["model"]["vocab"]
    merges: list[Merge] = []
    tokens: dict[str, None] = {}
    for m in candidates:
        if any(p not in old and p not in tokens for p in (m.left, m.right)):
            continue  # a part of it was dropped
        if m.token not in old and m.token not in tokens:
            if len(tokens) == add:
                break
            tokens[m.token] = None
        merges.append(m)
    return merges, list(tokens)


def _needed(merges: Sequence[Merge], seen: set[str]) -> set[str]:
    """`seen` and all parts from which its tokens are merged."""
    needed = set(seen)
    for m in reversed(merges):  # parts are always learned before what is made of them
        if m.token in needed:
            needed.update((m.left, m.right))
    return needed
