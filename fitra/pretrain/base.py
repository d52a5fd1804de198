"""The base: a folder that exists, or a tiny Llama trained here from nothing (the quickstart's, or a tiny worker's)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fitra import lm, recipe, train
from fitra.artifacts import licence_of, open_stage, read_manifest, worst_licence
from fitra.errors import FitraError
from fitra.pretrain import sources

BOS, EOS, PAD = "<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"
# The chat tokens are reserved now, so that tuning needs no new rows.
RESERVED = (BOS, EOS, PAD, "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
# A word with its marks is one piece (Arabic with tashkeel stays whole), digits go by threes, the rest apart.
PIECES = r" ?[\p{L}\p{M}]+| ?\p{N}{1,3}| ?[^\s\p{L}\p{M}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+"
MODEL_FILES = (".json", ".safetensors", ".model", ".txt", ".jinja")  # no pickles, no code


def make_base(cfg: recipe.Base, corpus: Path, seed: int, out: Path) -> dict[str, Any]:
    """Make `out/model`, the English base that the rest adapts, and return the manifest.

    With `cfg.path` that folder is linked and nothing is trained. Else a byte-level BPE and a Llama of `cfg.scratch`
    are trained on the documents of `cfg.languages` in `corpus` (a stage folder with documents/), and on nothing else.
    Raises FitraError when the model folder cannot be read or the corpus has no documents of a language.
    """
    if cfg.path:
        return _link(cfg, Path(cfg.path), seed, out)
    read = sources.documents(corpus, cfg.languages)
    if missing := [lang for lang in cfg.languages if not read[lang].texts]:
        raise FitraError(f"{corpus}: no documents of language '{missing[0]}'.", "Add a source, or set base.path.")
    licence = worst_licence([of.licence for of in read.values()])
    texts = [text for of in read.values() for text in of.texts]
    config = {"base": cfg, "seed": seed}
    with open_stage(
        out, stage="base", config=config, inputs={"corpus": corpus}, licence_class=licence
    ) as st:  # fmt: skip
        if st.done:
            return read_manifest(out)
        tokenizer = train_tokenizer(texts, cfg.scratch.vocab_size)
        model = small_llama(cfg.scratch, tokenizer, seed)
        seq_len = min(cfg.train.seq_len, cfg.scratch.max_positions)
        rows = {k: train.pack(tokenizer, train.shuffled(of.texts, seed), seq_len) for k, of in read.items()}
        counts = _shares({k: len(r) for k, r in rows.items()}, max(1, cfg.train.tokens // seq_len))
        batches = train.Packed(rows, counts, max(1, cfg.train.batch_tokens // seq_len), seed)
        train.describe(out, model, tokenizer)
        log = train.fit(
            model, batches, cfg.train, out, seed=seed, groups=list(rows), identity=st.fingerprint, description="base"
        )
        with st.folder("model") as tmp:
            model.save_pretrained(tmp)
            tokenizer.save_pretrained(tmp)
        st.counts |= {"documents": len(texts), "tokens": log[-1]["tokens"], "steps": log[-1]["step"]}
        st.counts["parameters"] = sum(p.numel() for p in model.parameters())
        st.counts["repeats"] = round(sum(counts.values()) / sum(map(len, rows.values())), 3)
        st.notes["loss"] = log[-1]["loss"]
        shutil.rmtree(out / "checkpoint", ignore_errors=True)
        return st.commit()


def _shares(sizes: dict[str, int], total: int) -> dict[str, int]:
    """`total` rows among languages, as their sizes are."""
    held, out = sum(sizes.values()), {}
    for name, size in sizes.items():
        out[name] = max(1, round(total * size / held))
    return out


def _link(cfg: recipe.Base, path: Path, seed: int, out: Path) -> dict[str, Any]:
    given = lm.model_folder(path)
    config = {"base": {"path": str(cfg.path)}, "seed": seed}
    with open_stage(
        out, stage="base", config=config, inputs={"base": given}, licence_class=licence_of(given)
    ) as st:  # fmt: skip
        if st.done:
            return read_manifest(out)
        model = lm.load(given, device="cpu").model  # what cannot be loaded fails here, not three stages later
        with st.folder("model") as tmp:
            for file in sorted(given.iterdir()):
                if file.suffix in MODEL_FILES:
                    (tmp / file.name).symlink_to(file.resolve())
        st.counts["parameters"] = sum(p.numel() for p in model.parameters())
        return st.commit()


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> Any:
    """A byte-level BPE of `vocab_size` pieces: all 256 bytes are pieces, so any text in any script comes back whole.

    It puts BOS before every text; the reserved chat tokens have the ids after BOS, EOS and padding.
    Raises FitraError when vocab_size has no room for the bytes and the reserved tokens.
    """
    if vocab_size < 256 + len(RESERVED):
        raise FitraError(
            f"base.scratch.vocab_size {vocab_size}: too small.", f"At least {256 + len(RESERVED)} are needed."
        )
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(RESERVED),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tok.train_from_iterator(texts, trainer, length=len(texts))
    tok.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tok.token_to_id(BOS))]
    )
    fast: Any = PreTrainedTokenizerFast  # its constructor is untyped
    return fast(
        tokenizer_object=tok,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def small_llama(cfg: recipe.Scratch, tokenizer: Any, seed: int) -> Any:
    """A Llama with random weights drawn from `seed`, input and output embeddings tied."""
    if cfg.hidden_size % cfg.heads or (cfg.hidden_size // cfg.heads) % 2:
        raise FitraError(
            f"base.scratch: hidden_size {cfg.hidden_size} does not give {cfg.heads} heads of even width.",
            "Choose hidden_size as an even multiple of heads.",
        )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=cfg.hidden_size,
        num_hidden_layers=cfg.layers,
        num_attention_heads=cfg.heads,
        intermediate_size=cfg.intermediate_size,
        max_position_embeddings=cfg.max_positions,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)
