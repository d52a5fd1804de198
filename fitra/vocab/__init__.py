"""Vocabulary: teach a base tokenizer Arabic without touching what it knows.

`expand` reads the Arabic documents of one or more stages, continues the BPE of the base on them (`vocab.learn`, or one
of the ways it is compared with: `vocab.methods`), adds rows for the new tokens to both matrices of the model
(`vocab.init`, `vocab.checkpoint`), measures before and after (`vocab.measure`) and commits only when the checks hold
(`vocab.checks`).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from fitra import recipe
from fitra.artifacts import MANIFEST, Stage, open_stage, read_manifest, table_parts, worst_licence
from fitra.errors import FitraError
from fitra.vocab import bpe, checkpoint, checks, embed, gguf, init, measure, methods, progressive, sentencepiece, words
from fitra.vocab.script import Script

__all__ = ["expand"]

VERSION = 2
# Beside tokenizer.json and the model itself, these belong to the tokenizer and stay true. vocab.json and merges.txt
# would describe the old vocabulary and are left behind; tokenizer.model is written anew.
KEPT_FILES = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "added_tokens.json")
RICH = 0.15  # a gain in tokens per word below which the manifest warns
PROBES = 100  # documents of each language that the slow path reads, too


def expand(cfg: recipe.Vocab, base: Path, corpus: Path | Sequence[Path], seed: int, out: Path) -> dict[str, Any]:
    """Expand the vocabulary of `base` by `cfg.add` Arabic tokens; returns the manifest.

    Args:
        base: a model folder (config.json, safetensors, and tokenizer.json, tokenizer.model or tekken.json), or the
            output of a stage with such a `model/`.
        corpus: one or more stage folders with `documents/`; rows in ar, arz, apc teach, rows in en are checked.
        seed: used where rows are drawn (`init`: gaussian, random, focus).
        out: gets `model/` and `fertility.json`.

    Raises FitraError when the base is no BPE causal model of a known kind, when the corpus has no Arabic or fewer
    pairs than tokens asked, or when a check fails.
    """
    corpora = [Path(corpus)] if isinstance(corpus, str | Path) else [Path(c) for c in corpus]
    base = Path(base)
    drawn = cfg.init in ("gaussian", "random", "focus")
    # Where words are counted never changes a result.
    config = {"vocab": cfg.model_copy(update={"engine": recipe.Engine()}), "seed": seed if drawn else 0}
    for c in corpora:
        read_manifest(c)
    inputs: dict[str, Any] = {"base": base, "corpus": corpora}
    with open_stage(
        out, stage="vocab", config=config, inputs=inputs, version=VERSION, licence_class=_licence(corpora, base)
    ) as st:
        if not st.done:
            _expand(st, cfg, _model_folder(base), corpora, seed)
    return read_manifest(Path(out))


def _model_folder(base: Path) -> Path:
    return base / "model" if (base / "model" / "config.json").is_file() else base


def _licence(corpora: Sequence[Path], base: Path) -> str:
    """The worst class among the documents and, where the base is a stage of ours, the base."""
    classes: set[str | None] = set()
    for c in corpora:
        for part in table_parts(c, "documents"):
            classes.update(pq.read_table(part, columns=["licence_class"])["licence_class"].unique().to_pylist())
    for folder in (base, base.parent):
        if (folder / MANIFEST).is_file():
            classes.add(read_manifest(folder).get("licence_class"))
            break
    return worst_licence(sorted(classes, key=str))


def _expand(st: Stage, cfg: recipe.Vocab, base: Path, corpora: Sequence[Path], seed: int) -> None:
    if cfg.progressive and cfg.method != "continued":
        raise FitraError(f"vocab.progressive needs method 'continued', not '{cfg.method}'.", "Drop one of the two.")
    spec = bpe.read(base)
    layout = checkpoint.read(base)
    old_model = _sentencepiece_of(base, spec)
    script, kind, old = Script.of(cfg), bpe.kind(spec), bpe.build(spec)
    with tempfile.TemporaryDirectory(dir=st.out) as tmp:
        found = words.count(corpora, cfg, Path(tmp))
    counted = bpe.words_of(found.runs, old, kind, script)
    if cfg.add and not counted:
        raise FitraError(
            f"{', '.join(map(str, corpora))}: no Arabic words in documents with lang {', '.join(words.LANGS)}.",
            "Check the corpus, or leave 'vocab' out of the recipe.",
        )
    made = methods.make(cfg.method, spec, counted, cfg, script)
    if len(made.tokens) < cfg.add:
        raise FitraError(
            f"{cfg.add} tokens were asked for, the corpus gives {len(made.tokens)} that occur {cfg.min_count} times.",
            f"Set add to {len(made.tokens)} or less, or give more text.",
        )
    new = bpe.build(made.spec)
    first = max(old.get_vocab(with_added_tokens=True).values()) + 1
    counts, notes = _check_tokenizer(cfg, corpora, script, spec, made, first)
    ar, en = _held(found)
    probe = [r["text"][:2000] for r in (*ar[:20], *en[:20])]
    slow = [r["text"] for r in (*ar[:PROBES], *en[:PROBES])]
    with st.folder("model") as folder:
        grown = _write_model(cfg, base, layout, folder, made, first, seed, bpe.segment, ar)
        _write_tokenizer(base, folder, made, old_model, spec)
        new_model = (folder / sentencepiece.NAME).read_bytes() if old_model else b""
        if new_model:
            notes["sentencepiece"] = checks.check_sentencepiece(new_model, made.spec)
        notes["fast_and_slow"] = checks.check_slow(
            spec, made.spec, slow, old_model.raw if old_model else b"", new_model
        )
        added = 0 if made.replaced else len(made.tokens)
        notes["reload"] = checks.check_reload(base, folder, old, new, first, added, probe)
        notes["chat_template"] = checks.check_chat_template(base, folder)
        checks.check_padding(grown["rows_after"], cfg.pad_multiple)
        notes["gguf"] = gguf.check(folder, checks.tokens_in_order(made.spec))
    figures = _figures(old, new, ar, en)
    st.write_json("fertility.json", {
        "added": len(made.tokens), "asked": cfg.add, "held_out": found.seen["held_out"] > 0, "method": cfg.method,
        **figures, "samples": measure.samples(old, new, [r["text"] for r in ar]),
        "first_tokens": [bpe.piece_text(t, kind) if cfg.method != "add_tokens" else t for t in made.tokens[:100]],
        "methods": _compare(cfg, script, spec, counted, made, ar, en),
    })  # fmt: skip
    st.counts |= counts | made.counts | {
        "asked": cfg.add, "added": len(made.tokens), "first_new_id": first, "rows_before": grown["rows_before"],
        "rows_after": grown["rows_after"], "arabic_documents": found.seen["ar"],
        "held_out_documents": found.seen["held_out"], "word_kinds": len(counted),
    }  # fmt: skip
    if cfg.progressive:
        texts = [d["text"] for d in ar[:200]]
        notes["progressive"] = progressive.write(cfg.progressive, spec, made.spec, texts, st.out)
    st.notes |= {"init": cfg.init, "method": cfg.method, "kind": kind, "tied": grown["tied"], **notes}
    if found.seen["forgotten_up_to"]:
        st.notes["forgotten"] = f"words that had occurred {found.seen['forgotten_up_to']} times when memory was full"
    _say_gain(st, spec, figures, script)


def _held(found: words.Found) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Documents to measure on. A corpus too small to hold anything out is measured on what was learned from."""
    return found.samples["ar" if found.seen["held_out"] else "learned"], found.samples["en"]


def _sentencepiece_of(base: Path, spec: dict[str, Any]) -> sentencepiece.Model | None:
    """The base's tokenizer.model, if it has one that says the same as its tokenizer.json."""
    path = base / sentencepiece.NAME
    if bpe.kind(spec) != "sentencepiece" or not path.is_file():
        return None
    model = sentencepiece.read(path)
    vocab = spec["model"]["vocab"]
    if wrong := [p.text for i, p in enumerate(model.pieces) if vocab.get(p.text) != i]:
        raise FitraError(
            f"{path}: {len(wrong)} pieces have other ids in tokenizer.json, one is {wrong[0]!r}.",
            "Keep the file that is right and remove the other.",
        )
    return model


def _check_tokenizer(
    cfg: recipe.Vocab, corpora: Sequence[Path], script: Script, spec: dict[str, Any], made: methods.Made, first: int
) -> tuple[dict[str, float], dict[str, Any]]:
    old, new = bpe.build(spec), bpe.build(made.spec)
    own = made.ids if made.replaced else ()
    counts: dict[str, float] = dict(checks.check_ids(old, new, made.tokens, first, own, made.replaced))
    if cfg.method in ("continued", "replacement"):
        counts |= checks.check_tokens(made.spec, made.tokens, script)
    block = script.block
    if gone := methods.letters_of(made.replaced, bpe.kind(spec)):
        import re

        block = re.compile(f"{block.pattern}|[{re.escape(''.join(sorted(gone)))}]")
    used = np.zeros(max(new.get_vocab(with_added_tokens=True).values()) + 1, np.int64)
    counts |= checks.check_texts(old, new, words.documents(corpora, "vocab: checking every document"), block, used)
    idle = int((used[made.ids] == 0).sum())
    return counts | {"not_in_corpus": idle}, {}


def _write_model(
    cfg: recipe.Vocab, base: Path, layout: checkpoint.Layout, folder: Path, made: methods.Made, first: int, seed: int,
    segment: Any, sample: Sequence[dict[str, str]],
) -> dict[str, Any]:  # fmt: skip
    """The model with rows for the new tokens; rows_before, rows_after, tied."""
    how = _rows(cfg, made, bpe.read(base), first, seed, sample)
    if not made.replaced:
        grown = checkpoint.grow(layout, folder, first, how, len(made.tokens), seed, cfg.pad_multiple)
        checkpoint.check(layout, folder, first, len(made.tokens))
        return grown
    # Rows inside the matrices change, so the model is loaded.
    model = embed.load_model(base)
    rows = model.get_input_embeddings().weight.shape[0]
    order = np.argsort(made.ids)
    if isinstance(how, init.Mix):
        how = init.mean([made.pieces[i] for i in order])
    tied = embed.put(model, [made.ids[i] for i in order], how, seed, known=first)
    if rows % cfg.pad_multiple:
        model.resize_token_embeddings(rows, pad_to_multiple_of=cfg.pad_multiple, mean_resizing=False)
    model.save_pretrained(folder, safe_serialization=True)
    return {"tied": tied, "rows_before": rows, "rows_after": model.get_input_embeddings().weight.shape[0]}


def _rows(
    cfg: recipe.Vocab, made: methods.Made, spec: dict[str, Any], first: int, seed: int,
    sample: Sequence[dict[str, str]],
) -> init.Mix | str:  # fmt: skip
    """How new rows begin."""
    if made.replaced and cfg.init in ("weighted", "focus"):
        raise FitraError(f"init: {cfg.init} is not made for method: replacement.", "Use mean, gaussian or random.")
    if cfg.init == "mean":
        return init.mean(made.pieces)
    texts = [r["text"] for r in sample]
    if cfg.init == "weighted":
        names = {i: t for t, i in spec["model"]["vocab"].items()}
        length = bpe.byte_length(bpe.kind(spec))
        lengths = np.array([length(names.get(i, "")) for i in range(first)])
        counts = np.zeros(first, np.int64)
        for e in bpe.build(spec).encode_batch_fast(texts, add_special_tokens=False):
            counts += np.bincount(e.ids, minlength=first)[:first]
        return init.weighted(made.pieces, lengths, counts)
    if cfg.init == "focus":
        new = bpe.build(made.spec).encode_batch_fast(texts, add_special_tokens=False)
        return init.focus(made.pieces, (np.array(e.ids) for e in new), first, seed)
    return cfg.init


def _write_tokenizer(
    base: Path, folder: Path, made: methods.Made, model: sentencepiece.Model | None, spec: dict[str, Any]
) -> None:
    for name in KEPT_FILES:
        if (base / name).is_file():
            shutil.copy2(base / name, folder / name)
    (folder / "tokenizer.json").write_text(json.dumps(made.spec, ensure_ascii=False), encoding="utf-8")
    if not (folder / "tokenizer_config.json").is_file():
        names = {a["content"] for a in made.spec.get("added_tokens", [])}
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        wanted = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        config |= {k: v for k, v in wanted.items() if v in names}
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    if model:
        tokens = dict(zip(made.tokens, made.ids, strict=True))
        added = [] if made.replaced else made.spec.get("added_tokens", [])
        if any(a["content"] in tokens for a in added):  # whole tokens without rank: user-defined pieces
            tokens = {}
        (folder / sentencepiece.NAME).write_bytes(sentencepiece.extend(model, tokens, added))


def _figures(old: Any, new: Any, ar: Sequence[dict[str, str]], en: Sequence[dict[str, str]]) -> dict[str, Any]:
    return {
        lang: {"before": measure.measure(old, texts, lang), "after": measure.measure(new, texts, lang)}
        for lang, texts in (("ar", [r["text"] for r in ar]), ("en", [r["text"] for r in en])) if texts
    }  # fmt: skip


def _compare(
    cfg: recipe.Vocab, script: Script, spec: dict[str, Any], counted: dict[str, int], made: methods.Made,
    ar: Sequence[dict[str, str]], en: Sequence[dict[str, str]],
) -> dict[str, Any]:  # fmt: skip
    """Figures of the base, the chosen method and those it is compared with, on the same documents."""
    old = bpe.build(spec)
    texts = {"ar": [r["text"] for r in ar], "en": [r["text"] for r in en]}
    out = {"base": _method_figures(old, old, texts, {})}
    for name in dict.fromkeys((cfg.method, *cfg.compare)):
        try:
            got = made if name == cfg.method else methods.make(name, spec, counted, cfg, script)
        except FitraError as e:
            out[name] = {"why_not": e.message}
            continue
        extra = {"tokens": len(got.tokens), "unreachable": got.counts.get("unreachable", 0)}
        out[name] = _method_figures(old, bpe.build(got.spec), texts, extra)
    return out


def _method_figures(old: Any, new: Any, texts: dict[str, list[str]], extra: dict[str, Any]) -> dict[str, Any]:
    both = [t for lang in texts.values() for t in lang]
    back = same = 0
    for at in range(0, len(both), checks.BATCH):
        part = both[at : at + checks.BATCH]
        for t, e in zip(part, new.encode_batch(part, add_special_tokens=False), strict=True):
            back += new.decode(e.ids, skip_special_tokens=False) == t
    for at in range(0, len(texts["en"]), checks.BATCH):
        part = texts["en"][at : at + checks.BATCH]
        pairs = zip(*(k.encode_batch(part, add_special_tokens=False) for k in (old, new)), strict=True)
        same += sum(a.ids == b.ids for a, b in pairs)
    figures = {lang: measure.measure(new, held, lang) for lang, held in texts.items() if held}
    return {
        **extra, **figures, "round_trip": round(back / max(len(both), 1), 4),
        "english_same": round(same / max(len(texts["en"]), 1), 4),
    }  # fmt: skip


def _say_gain(st: Stage, spec: dict[str, Any], figures: dict[str, Any], script: Script) -> None:
    """What the base had of this script already, and whether expansion was worth it."""
    kind = bpe.kind(spec)
    had = sum(bpe.is_token(t, kind, script) for t in spec["model"]["vocab"] if methods.readable(t, spec))
    st.counts["arabic_tokens_before"] = had
    if "ar" in figures:
        before, after = (figures["ar"][k]["tokens_per_word"] for k in ("before", "after"))
        gain = 1 - after / before if before else 0.0
        st.counts["gain"] = round(gain, 4)
        if gain < RICH:
            st.notes["warning"] = (
                f"The base reads Arabic well already ({had} Arabic tokens, {before} tokens per word): "
                f"{after} now, {gain:.0%} fewer."
            )
