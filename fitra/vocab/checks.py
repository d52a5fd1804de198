"""What must hold of an expanded tokenizer and model before the stage commits. Every check can fail."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from fitra.errors import FitraError
from fitra.vocab import bpe, sentencepiece
from fitra.vocab.embed import load_model
from fitra.vocab.script import Script

BLOCK = re.compile("[\u0600-\u06ff]")
BATCH = 256
REPORT = "This base is not handled rightly: please report it with the name of the base."
LOADED_BYTES = 4 << 30  # weights of more are not loaded to be looked at: their rows are compared in the files
Encode = Callable[[str], list[int]]


def check_texts(
    old: Tokenizer,
    new: Tokenizer,
    texts: Iterable[str],
    block: re.Pattern[str] = BLOCK,
    used: npt.NDArray[np.int64] | None = None,
) -> dict[str, int]:
    """Compare both tokenizers on every text.

    Text without a character of `block` must keep its ids. All text must decode to itself, or to what the base decodes
    it to. Counts: texts, texts_same_ids (all without such characters), round_trip_exact (decoded equals the text
    itself; fewer than all only where the base normalises). `used` (a count per id) gets how often each id occurs in
    texts that read differently. Raises FitraError with the first text that breaks a rule.
    """
    counts = {"texts": 0, "texts_same_ids": 0, "round_trip_exact": 0}
    for batch in _batches(texts):
        before, after = (t.encode_batch(batch, add_special_tokens=False) for t in (old, new))
        for text, a, b in zip(batch, before, after, strict=True):
            counts["texts"] += 1
            if a.ids == b.ids:
                decoded = old.decode(a.ids, skip_special_tokens=False)
            else:
                decoded = new.decode(b.ids, skip_special_tokens=False)
                if decoded != text and decoded != old.decode(a.ids, skip_special_tokens=False):
                    raise FitraError(f"the new tokenizer does not give back the text {text[:60]!r}.", REPORT)
                if used is not None:
                    found = np.bincount(b.ids)
                    used[: len(found)] += found
            counts["round_trip_exact"] += decoded == text
            if not block.search(text):
                if a.ids != b.ids:
                    raise FitraError(f"text without Arabic is read differently: {text[:60]!r}.", REPORT)
                counts["texts_same_ids"] += 1
    return counts


def _batches(texts: Iterable[str]) -> Iterable[list[str]]:
    batch: list[str] = []
    for t in texts:
        batch.append(t)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def check_ids(
    old: Tokenizer,
    new: Tokenizer,
    tokens: Sequence[str],
    first_id: int,
    ids: Sequence[int] = (),
    replaced: Iterable[str] = (),
) -> dict[str, int]:
    """Old tokens keep their ids, special tokens stay single, new tokens follow each other from `first_id`.

    With `ids` new tokens have those instead, which belonged to the `replaced` ones.
    """
    before, after = old.get_vocab(with_added_tokens=True), new.get_vocab(with_added_tokens=True)
    gone = set(replaced)
    wanted = list(ids) or list(range(first_id, first_id + len(tokens)))
    if moved := [t for t, i in before.items() if t not in gone and after.get(t) != i]:
        raise FitraError(f"{len(moved)} old tokens changed their id, one is {min(moved)!r}.", REPORT)
    if wrong := [t for i, t in zip(wanted, tokens, strict=True) if after.get(t) != i]:
        raise FitraError(f"{len(wrong)} new tokens have a wrong id, one is {wrong[0]!r}.", REPORT)
    if len(after) != len(before) + len(tokens) - len(gone):
        raise FitraError(f"{len(after)} tokens, expected {len(before)} + {len(tokens)} - {len(gone)}.", REPORT)
    special = [a.content for a in old.get_added_tokens_decoder().values()]
    for s in special:
        if _alone(old, s) == [before[s]] != _alone(new, s):
            raise FitraError(f"the special token {s!r} is no longer read as one token.", REPORT)
    return {"old_ids": len(before) - len(gone), "special_tokens": len(special)}


def _alone(tok: Tokenizer, text: str) -> list[int]:
    return list(tok.encode(text, add_special_tokens=False).ids)


def check_tokens(spec: Mapping[str, Any], tokens: Sequence[str], script: Script) -> dict[str, int]:
    """Every new token is read as itself; it holds letters and marks of the script, or is one sign of it.

    A byte-level token may end in the first byte of a letter where another new token is built from it (`partial`).
    """
    kind, vocab = bpe.kind(spec), spec["model"]["vocab"]
    if deaf := [t for t, got in zip(tokens, bpe.segment(spec, tokens), strict=True) if got != [vocab[t]]]:
        raise FitraError(f"{len(deaf)} new tokens are out of reach, one is {bpe.piece_text(deaf[0], kind)!r}.", REPORT)
    unclean = [t for t in tokens if not bpe.is_token(t, kind, script)]
    parts = {p for m in bpe.pairs_of(spec) for p in m}
    if bad := [t for t in unclean if kind != "bytes" or not bpe.is_partial(t, script) or t not in parts]:
        text = bpe.piece_text(bad[0], kind)
        raise FitraError(f"{len(bad)} new tokens hold what they must not, one is {text!r}.", REPORT)
    return {"unreachable": 0, "crossing": 0}


def check_slow(
    old: Mapping[str, Any], new: Mapping[str, Any], texts: Sequence[str], old_model: bytes = b"", new_model: bytes = b""
) -> dict[str, Any]:
    """Two implementations read alike: the fast one (Rust) and a slow one.

    The slow one is the sentencepiece package on the model files, where there are such; else, and where the package is
    not installed, a BPE in plain Python. Where the base's own two differ on a text, it is counted and not compared.
    """
    pairs: list[tuple[Encode, Encode]] = []
    name = "python"
    fast_old, fast_new = (bpe.build(s) for s in (old, new))
    if new_model:
        try:
            import sentencepiece as package

            slow_old, slow_new = (package.SentencePieceProcessor(model_proto=m).encode for m in (old_model, new_model))
            pairs = [(lambda t: _alone(fast_old, t), slow_old), (lambda t: _alone(fast_new, t), slow_new)]
            name = "sentencepiece"
        except ImportError:
            pass
    if not pairs:
        pairs = [(_model_ids(f), reference(s)) for f, s in ((fast_old, old), (fast_new, new))]
        kind = bpe.kind(old)
        texts = [w for t in texts for w in _words(fast_new, t, kind)]
        texts = sorted(set(texts))[:20_000]
    differ = 0
    for t in texts:
        (fast, slow), (fast_after, slow_after) = pairs
        if fast(t) != slow(t):
            differ += 1
        elif fast_after(t) != slow_after(t):
            raise FitraError(f"the fast and the slow path read {t[:60]!r} differently ({name}).", REPORT)
    return {"with": name, "texts": len(texts), "base_differs": differ}


def _model_ids(tok: Tokenizer) -> Encode:
    return lambda word: [t.id for t in tok.model.tokenize(word)]


def _words(tok: Tokenizer, text: str, kind: bpe.Kind) -> list[str]:
    """What the BPE model gets of a text."""
    text = text[:4000]
    if tok.normalizer:
        text = tok.normalizer.normalize_str(text)
    if kind == "bytes":
        return [w for w, _ in tok.pre_tokenizer.pre_tokenize_str(text)]
    # One border is safe: no piece holds ▁ after another character.
    return re.findall(f"{bpe.SPACE}*[^{bpe.SPACE}]+", text.replace(" ", bpe.SPACE))


def reference(spec: Mapping[str, Any]) -> Encode:
    """BPE as its definition says, in plain Python: merge the neighbours of lowest rank, leftmost first, until none."""
    model = spec["model"]
    vocab: dict[str, int] = model["vocab"]
    rank = {p: i for i, p in enumerate(bpe.pairs_of(spec))}
    whole = bool(model.get("ignore_merges"))
    unknown = vocab.get(model.get("unk_token") or "")

    def encode(word: str) -> list[int]:
        if whole and word in vocab:
            return [vocab[word]]
        pieces: list[str] = []
        for c in word:
            pieces += [c] if c in vocab else [f"<0x{b:02X}>" for b in c.encode()]
        while len(pieces) > 1:
            best = min(range(len(pieces) - 1), key=lambda i: (rank.get((pieces[i], pieces[i + 1]), len(rank)), i))
            if (pieces[best], pieces[best + 1]) not in rank:
                break
            pieces[best : best + 2] = [pieces[best] + pieces[best + 1]]
        return [vocab.get(p, unknown) for p in pieces]  # type: ignore[misc]

    return encode


def check_reload(
    base: Path, folder: Path, old: Tokenizer, new: Tokenizer, first_id: int, n: int, texts: Sequence[str]
) -> dict[str, Any]:
    """Load the saved folder as a user would; says as which class, and on how many texts transformers differs.

    The tokenizer must read `texts` as `new` does, the model must load and have a row for every token (models of more
    than 4 GB are not loaded; their files are compared row by row elsewhere). Some classes of transformers rebuild a
    tokenizer and read a few texts differently from its file (LlamaTokenizer: those that begin with a space). A text
    on which that is so for the base, too, is counted; without Arabic it must still be read as the base is.
    """
    loaded, before = load_tokenizer(folder), load_tokenizer(base)
    differ = 0
    for t in texts:
        got, was = (x(t, add_special_tokens=False)["input_ids"] for x in (loaded, before))
        if got == _alone(new, t):
            continue
        if was == _alone(old, t) or (not BLOCK.search(t) and got != was):
            raise FitraError(f"AutoTokenizer reads {t[:60]!r} differently from tokenizer.json.", REPORT)
        differ += 1
    if len(loaded) < first_id + n:
        raise FitraError(f"AutoTokenizer sees {len(loaded)} tokens, expected {first_id + n}.", REPORT)
    if sum(p.stat().st_size for p in folder.glob("*.safetensors")) <= LOADED_BYTES:
        model = load_model(folder)
        for name in ("get_input_embeddings", "get_output_embeddings"):
            rows = getattr(model, name)().weight.shape[0]
            if rows != model.config.get_text_config().vocab_size or rows < first_id + n:
                raise FitraError(f"config.vocab_size and the {rows} rows of the model do not fit.", REPORT)
        if texts:
            ids = loaded(texts[0], add_special_tokens=False, return_tensors="pt")["input_ids"][:, :16]
            with torch.no_grad():
                if ids.shape[1] and not torch.isfinite(model(ids).logits.float()).all():
                    raise FitraError("the model gives numbers that are not finite.", "Check the weights of the base.")
    return {"class": type(loaded).__name__, "texts": len(texts), "base_differs": differ}


def load_tokenizer(folder: Path) -> Any:
    """The transformers tokenizer of a folder; FitraError when it cannot be loaded."""
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as e:  # transformers raises many kinds here, some of them bare Exceptions from Rust
        said = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise FitraError(f"{folder}: AutoTokenizer cannot load it: {said}", "Check the tokenizer's files.") from None


MESSAGES = [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "4"}]


def check_chat_template(base: Path, folder: Path) -> str:
    """The chat template is the base's and gives the same ids for an English exchange: 'same', or 'none' there."""
    old, new = load_tokenizer(base), load_tokenizer(folder)
    if not old.chat_template and not new.chat_template:
        return "none"
    if old.chat_template != new.chat_template:
        raise FitraError("the chat template changed.", REPORT)
    try:
        before, after = (t.apply_chat_template(MESSAGES, tokenize=True, return_dict=False) for t in (old, new))
    except Exception as e:  # whatever a template raises, it is the base's own
        return f"same, but the base's own template fails: {(str(e).splitlines() or [type(e).__name__])[0]}"
    if before != after:
        raise FitraError("the chat template gives other ids for English than before.", REPORT)
    return "same"


def check_padding(rows: int, multiple: int) -> None:
    """The number of rows is a multiple of what was asked."""
    if rows % multiple:
        raise FitraError(f"{rows} rows are no multiple of {multiple}.", REPORT)


def check_sentencepiece(raw: bytes, spec: Mapping[str, Any]) -> dict[str, int]:
    """A tokenizer.model holds the vocabulary of the tokenizer.json, every token at its id."""
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile(suffix=".model") as f:
        Path(f.name).write_bytes(raw)
        model = sentencepiece.read(Path(f.name))
    vocab = {t: i for t, i in spec["model"]["vocab"].items()}
    if wrong := [p.text for i, p in enumerate(model.pieces) if vocab.get(p.text) != i]:
        raise FitraError(f"{len(wrong)} pieces of {sentencepiece.NAME} differ, one is {wrong[0]!r}.", REPORT)
    if len(model.pieces) != len(vocab):
        raise FitraError(f"{sentencepiece.NAME} has {len(model.pieces)} pieces, tokenizer.json {len(vocab)}.", REPORT)
    return {"pieces": len(model.pieces)}


def tokens_in_order(spec: Mapping[str, Any]) -> list[str]:
    """All tokens by id; a gap shows as an empty string."""
    ids = {i: t for t, i in spec["model"]["vocab"].items()}
    ids |= {a["id"]: a["content"] for a in spec.get("added_tokens", [])}
    return [ids.get(i, "") for i in range(max(ids) + 1)]
