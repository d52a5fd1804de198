"""Ways to give a tokenizer new words: continued BPE and the three that it is compared with.

- continued: go on with the base's own merges (`learn`);
- merged: train a separate tokenizer on the same words and add every token that is not there (ALLaM section 3.1);
- add_tokens: the same tokens as `tokenizer.add_tokens` adds them, whole and without merges;
- replacement: continued BPE, but the new tokens take the ids of tokens in scripts that are given up; no row is added.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fitra.errors import FitraError
from fitra.recipe import Vocab
from fitra.vocab import bpe, learn
from fitra.vocab.bpe import TO_CHAR, Merge
from fitra.vocab.script import Script

KEPT_SCRIPTS = ("LATIN", "ARABIC")  # letters whose tokens are never given up


@dataclass(frozen=True)
class Made:
    """An expanded tokenizer. `tokens` in the writing of the vocabulary, `ids` beside them, `pieces` in old ids.

    `replaced` are the old tokens whose ids were taken (replacement alone), `counts` what is worth noting.
    """

    spec: dict[str, Any]
    tokens: list[str]
    ids: list[int]
    pieces: list[list[int]]
    counts: dict[str, float] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)


def make(method: str, spec: Mapping[str, Any], words: Mapping[str, int], cfg: Vocab, script: Script) -> Made:
    """Expand a tokenizer.json by up to `cfg.add` tokens learned from `words` (see `bpe.words_of`).

    Raises FitraError when the tokenizer has too few tokens of other scripts to replace.
    """
    if method == "merged":
        made = _merged(spec, words, cfg, script)
    elif method == "add_tokens":
        made = _added(spec, words, cfg, script)
    elif method == "replacement":
        made = _replaced(spec, words, cfg, script)
    else:
        made = _continued(spec, learn.continue_bpe(spec, words, cfg.add, cfg.min_count, script))
    return replace(made, spec=bpe.lean(made.spec))


def _continued(spec: Mapping[str, Any], got: learn.Expansion) -> Made:
    counts: dict[str, float] = {
        "used": got.used, "scaffold": got.scaffold, "partial": got.partial, "unreachable_dropped": got.unreachable,
        "merges": len(got.merges),
    }  # fmt: skip
    new = bpe.extend(spec, got.merges)
    return Made(new, got.tokens, _ids(new, got.tokens), _pieces(spec, got.tokens), counts)


def _ids(spec: Mapping[str, Any], tokens: Sequence[str]) -> list[int]:
    vocab = spec["model"]["vocab"]
    return [vocab[t] for t in tokens]


def _pieces(spec: Mapping[str, Any], tokens: Sequence[str]) -> list[list[int]]:
    """What the base makes of each new token."""
    return list(bpe.segment(spec, tokens))


def separate(
    spec: Mapping[str, Any], words: Mapping[str, int], add: int, min_count: int, script: Script
) -> list[Merge]:
    """The merges of a tokenizer trained on `words` from letters alone, written for this vocabulary, letters first."""
    kind = bpe.kind(spec)
    strings: Counter[str] = Counter()
    letters: Counter[str] = Counter()
    for w, n in words.items():
        for part in script.parts(bpe.piece_text(w, kind)):
            strings[part.replace(" ", bpe.SPACE)] += n
            for c in part.strip():
                letters[c] += n
    alphabet = sorted({bpe.SPACE, *letters})
    trained = learn.train(strings, alphabet, add, min_count)
    merges = [m for c in sorted(letters, key=lambda c: (-letters[c], c)) if letters[c] >= min_count
              for m in _letter(c, kind, spec["model"]["vocab"])]  # fmt: skip
    have = {m.token for m in merges} | set(spec["model"]["vocab"])
    for a, b in json.loads(trained.to_str())["model"]["merges"]:
        left, right = (bpe.piece_of(x.replace(bpe.SPACE, " "), kind) for x in (a, b))
        if left in have and right in have:
            merges.append(Merge(left, right))
            have.add(left + right)
    return [m for m in merges if bpe.is_token(m.token, kind, script) or kind == "bytes"]


def _letter(c: str, kind: bpe.Kind, vocab: Mapping[str, int]) -> list[Merge]:
    """What makes one letter a token."""
    if kind == "sentencepiece":
        return [] if c in vocab else [Merge(c, "")]
    chars = [TO_CHAR[b] for b in c.encode()]
    return [Merge("".join(chars[:i]), chars[i]) for i in range(1, len(chars))]


def _merged(spec: Mapping[str, Any], words: Mapping[str, int], cfg: Vocab, script: Script) -> Made:
    merges, tokens = _separate_tokens(spec, words, cfg, script)
    new = bpe.extend(spec, merges)
    ids = _ids(new, tokens)
    unreachable = sum(got != [i] for got, i in zip(bpe.segment(new, tokens), ids, strict=True))
    counts: dict[str, float] = {"merges": len(merges), "unreachable": unreachable}
    return Made(new, tokens, ids, _pieces(spec, tokens), counts)


def _separate_tokens(
    spec: Mapping[str, Any], words: Mapping[str, int], cfg: Vocab, script: Script
) -> tuple[list[Merge], list[str]]:
    # Some of what is learned is there already: that many more are learned.
    known = sum(bpe.is_clean(t, bpe.kind(spec), script) for t in spec["model"]["vocab"] if readable(t, spec))
    found = separate(spec, words, cfg.add + known + 256, cfg.min_count, script)
    return learn.first(spec, found, cfg.add)


def readable(token: str, spec: Mapping[str, Any]) -> bool:
    """Whether a token is written in the vocabulary's writing (an added token need not be)."""
    return bpe.kind(spec) != "bytes" or all(c in bpe.TO_BYTE for c in token)


def _added(spec: Mapping[str, Any], words: Mapping[str, int], cfg: Vocab, script: Script) -> Made:
    kind = bpe.kind(spec)
    tokens = [t for t in _separate_tokens(spec, words, cfg, script)[1] if bpe.is_token(t, kind, script)]
    model = dict(spec["model"])
    vocab = dict(bpe.extend(spec, [])["model"]["vocab"])
    nxt, added = max(vocab.values()) + 1, []
    for t in tokens:
        content = bpe.piece_text(t, kind)
        vocab[content] = nxt
        added.append({"id": nxt, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                      "normalized": False, "special": False})  # fmt: skip
        nxt += 1
    model["vocab"] = vocab
    new = {**spec, "model": model, "added_tokens": [*spec.get("added_tokens", []), *added]}
    return Made(new, [a["content"] for a in added], [a["id"] for a in added], _pieces(spec, tokens))


def foreign(spec: Mapping[str, Any], script: Script) -> list[str]:
    """Tokens that hold letters of scripts that are given up, the least missed first: long before single, high ids."""
    special = {a["content"] for a in spec.get("added_tokens", [])}
    kind, vocab = bpe.kind(spec), spec["model"]["vocab"]
    found = []
    for t, i in vocab.items():
        if t in special or not readable(t, spec) or (kind == "sentencepiece" and bpe.BYTE.fullmatch(t)):
            continue
        text = bpe.piece_text(t, kind)
        if "\ufffd" not in text and (others := _foreign_letters(text)) and not script.block.search(text):
            found.append((len(text.strip()) == 1, -i, t, others))
    return [t for _, _, t, _ in sorted(found)]


def _foreign_letters(text: str) -> set[str]:
    return {
        c for c in text
        if unicodedata.category(c)[0] in "LM" and not unicodedata.name(c, "").startswith(KEPT_SCRIPTS)
        and not c.isascii() and unicodedata.category(c) not in ("Lm", "Mn")
    }  # fmt: skip


def _replaced(spec: Mapping[str, Any], words: Mapping[str, int], cfg: Vocab, script: Script) -> Made:
    gone = foreign(spec, script)
    if len(gone) < cfg.add:
        raise FitraError(
            f"replacement: {cfg.add} tokens were asked for, the base has {len(gone)} in scripts to give up.",
            "Ask for fewer (add), or use method: continued.",
        )
    out = gone[: cfg.add]
    pruned = without(spec, out)
    got = learn.continue_bpe(pruned, words, cfg.add, cfg.min_count, script)
    out = out[: len(got.tokens)]
    if len(out) < len(gone[: cfg.add]):  # fewer were learned: give up no more than needed
        pruned = without(spec, out)
    grown = bpe.extend(pruned, got.merges)
    free = sorted(spec["model"]["vocab"][t] for t in out)
    vocab = {**grown["model"]["vocab"], **dict(zip(got.tokens, free, strict=True))}
    new = {**grown, "model": {**grown["model"], "vocab": vocab}}
    made = _continued(spec, got)
    return Made(new, got.tokens, free, made.pieces, {**made.counts, "replaced": len(out)}, out)


def without(spec: Mapping[str, Any], tokens: Iterable[str]) -> dict[str, Any]:
    """A tokenizer.json without some tokens and every merge that needs or gives one."""
    gone = set(tokens)
    model = dict(spec["model"])
    model["vocab"] = {t: i for t, i in model["vocab"].items() if t not in gone}
    kept = [not {a, b, a + b} & gone for a, b in bpe.pairs_of(spec)]
    model["merges"] = [m for m, keep in zip(model["merges"], kept, strict=True) if keep]
    return {**spec, "model": model}


def letters_of(tokens: Iterable[str], kind: bpe.Kind) -> set[str]:
    """The letters whose texts read differently once these tokens are gone."""
    return {c for t in tokens for c in _foreign_letters(bpe.piece_text(t, kind))}
