"""A worker learns from the stand-in expert on the small world; what it mends on patterns that it never saw.

    python benchmarks/worker.py --work runs/worker-bench --tokens 3000000

World → rows by the stand-in expert through its server → pairs → a small Llama trained from nothing (first on the text,
then on edit programs or on rewrites) → held-out documents through `llm.run`, gates, and the world's truth. Training
takes tokens divided by some 5,000 a second and core; what is finished in --work is used again. Held out are all
documents with an insult, pattern or advertisement of the held-out half, and a tenth of the rest.

`fixed` is the share of planted passages that are gone from what goes on; `facts` the share of stated facts (subject and
answer in one sentence) that still are; a rewrite that the gates refuse leaves the original. The last line is the
defects fixed over those of the untrained model, in the better format (one defect where that fixes none).
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fitra import align, arabic, llm, policy, recipe, train, world
from fitra.align import aspects, gates, masking, rewrite, rules, serve, worker
from fitra.artifacts import DOCUMENT_SCHEMA, open_stage, read_table
from fitra.llm.chunk import sentences
from fitra.lm.chat import prepare_tokenizer
from fitra.pretrain.base import small_llama, train_tokenizer
from fitra.world import expert, plants
from fitra.world.facts import select
from fitra.world.grammar import half

SEED, FACTS = 7, 60
HELD_OUT = "held-out patterns"
DEFECTS = ("advertisement", "insult", "hate", "bias", "advice")
SCRATCH = recipe.Scratch(
    vocab_size=4096, hidden_size=128, layers=4, heads=4, intermediate_size=352, max_positions=1024
)  # fmt: skip
POLICY = policy.load("default")
RULES = rules.compile_rules(POLICY)
Truth = Mapping[str, Any]


def held_out(truth: Truth) -> bool:
    """Does a document hold a pattern of the held-out half?"""
    if truth["half"] == "heldout":
        return True
    if "advertisement" not in truth["kind"]:
        return False
    fixed = [(p, [f for f in p.replace("}", "{").split("{")[::2] if f]) for p in plants._ADS]
    return any(half(p) == "heldout" and all(f in ad for f in parts) for ad in truth["planted"] for p, parts in fixed)


def make_rows(work: Path, documents: int) -> tuple[Path, dict[str, Truth]]:
    """What the stand-in expert made of a corpus for models, and the truth by document.

    The corpus has the world's Arabic documents with an unsafe passage or advertising, and as many without. Layout and
    spelling variants are the rules' work and are left out, as triage does.
    """
    folder, rows = work / "world", work / "expert"
    world.write(recipe.World(facts=FACTS, documents=documents), SEED, folder)
    table = read_table(folder, "documents")
    truth = {d["id"]: json.loads(d["truth"]) for d in table.select(["id", "truth"]).to_pylist()}
    bad = {i for i, t in truth.items() if defect_of(t)}
    plain = [i for i, t in sorted(truth.items()) if not {*t["kind"]} & {*DEFECTS, "layout", "duplicate"}]
    arabic_ids = set(table.filter(pc.not_equal(table["lang"], "en"))["id"].to_pylist())
    chosen = bad | set([i for i in plain if i in arabic_ids][: len(bad)])
    corpus = work / "corpus"
    with open_stage(corpus, stage="corpus", config={"documents": documents}, inputs={"world": folder}) as st:
        if not st.done:
            kept = table.filter(pc.is_in(table["id"], pa.array(sorted(chosen)))).select(DOCUMENT_SCHEMA.names)
            st.write_table("documents", kept)
    with expert.serving(expert.Expert(folder), "benchmark") as endpoint:
        cfg = recipe.Align(triage="all", expert=recipe.Model(endpoints=[endpoint]))
        manifest = align.align(cfg, corpus, rows)
    print("expert:", manifest["counts"], f"{manifest['seconds']:.0f} s")
    return rows, truth


def defect_of(truth: Truth) -> str:
    """The kind of defect that a model is asked to mend in a document, or ''."""
    return next((k for k in truth["kind"] if k in DEFECTS), "")


def make_base(work: Path, texts: Sequence[str], tokens: int, hidden: int, layers: int) -> Path:
    """A small Llama with a chat template, trained on `texts` alone."""
    out = work / f"base-{hidden}x{layers}-{tokens}"
    if not (out / "config.json").is_file():
        size = {"hidden_size": hidden, "layers": layers, "intermediate_size": hidden * 11 // 4}
        scratch = SCRATCH.model_copy(update=size)
        tokenizer = train_tokenizer(texts, scratch.vocab_size)
        model = small_llama(scratch, tokenizer, SEED)
        cfg = recipe.Train(tokens=tokens, batch_tokens=1024, seq_len=128, lr=3e-3, checkpoint_every=10**6)
        rows = {"ar": train.pack(tokenizer, train.shuffled(texts, SEED), cfg.seq_len)}
        batches = train.Packed(rows, {"ar": max(1, tokens // cfg.seq_len)}, cfg.batch_tokens // cfg.seq_len, SEED)
        log = train.fit(model, batches, cfg, work / "base-log", seed=SEED, groups=["ar"], description="base")
        shutil.rmtree(work / "base-log")
        prepare_tokenizer(tokenizer, model)
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
        print(f"base: {sum(p.numel() for p in model.parameters()):,} parameters, loss {log[-1]['loss']}")
    return out


def config(kind: str, hold: Path, tokens: int) -> recipe.Worker:
    """How a worker of one format is trained."""
    how = {"tokens": tokens, "lr": 2e-3, "batch_tokens": 1536, "checkpoint_every": 10**6}
    return recipe.Worker.model_validate({"format": kind, "hold": str(hold), "train": how})


def answers(model: Path, kind: Any, chunks: Sequence[rewrite.Chunk], ledger: Path) -> list[str | None]:
    """What a worker makes of each chunk, unmasked; None where its reply is no rewrite."""
    rows = [{"id": c.id, "masked": c.masked} for c in chunks]
    longest = 160 if kind == "edits" else 420
    backend = serve.local(model, batch=32, max_tokens=longest)
    out: list[str | None] = []
    for chunk, a in zip(chunks, llm.run(worker.job(POLICY, kind), rows, backend, ledger), strict=True):
        out.append(None if a.error else unmask(a.value, chunk))
    return out


def unmask(text: str, chunk: rewrite.Chunk) -> str | None:
    """A masked text with its spans; None where they did not come back."""
    try:
        plain = masking.unmask(text, chunk.masked).strip()
    except masking.MaskError:
        return None
    return plain


def facts_in(text: str, facts: Sequence[Any]) -> int:
    """How many of the facts some sentence states."""
    lines = [arabic.fold(s, "search") for s, _ in sentences(text)]
    names = [(arabic.fold(f.subject_ar, "search").strip(), arabic.fold(f.answer_ar, "search").strip()) for f in facts]
    return sum(any(bare(s) in line and a in line for line in lines) for s, a in names)


def bare(subject: str) -> str:
    """Without the article, which «لل» swallows."""
    return subject.removeprefix("ال")


def measure(
    name: str, made: Sequence[str | None], chunks: Sequence[rewrite.Chunk], truth: Mapping[str, Truth]
) -> dict[str, Any]:
    """The figures of one rewriter over the held-out documents."""
    by_id = {f.id: f for f in select(FACTS, SEED)[0]}
    pairs = [
        gates.Pair(c.original, m or c.original, c.removed, (), c.masked.spans)
        for c, m in zip(chunks, made, strict=True)
    ]
    refused = [gates.complaint(v) for v in gates.judge_all(pairs, POLICY)]
    n: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for chunk, text, no in zip(chunks, made, refused, strict=True):
        t = truth[chunk.id.split("#")[0]]
        defect = defect_of(t)
        n["documents"] += 1
        n["replies"] += text is not None
        changed = text is not None and text != chunk.original.strip()
        n["changed"] += changed
        n["accepted"] += changed and not no
        after = text if changed and not no and text is not None else chunk.original
        if not defect:
            n["clean"] += 1
            n["clean_changed"] += changed
        for passage in t["planted"] if defect else []:
            kinds[defect]["planted"] += 1
            kinds[defect]["raw"] += passage not in (text if text is not None else chunk.original)
            kinds[defect]["fixed"] += passage not in after
        facts = [by_id[f] for f in t["facts"] if f in by_id]
        stated = [f for f in facts if facts_in(chunk.original, [f])]
        n["facts"] += len(stated)
        n["kept"] += facts_in(after, stated)
        n["kept_raw"] += facts_in(text if text is not None else chunk.original, stated)
    total = Counter[str]()
    for c in kinds.values():
        total.update(c)
    return {
        "name": name, "documents": n["documents"], "replies": n["replies"] / n["documents"],
        "acceptance": n["accepted"] / n["changed"] if n["changed"] else None,
        "changed": n["changed"], "planted": total["planted"],
        "raw": total["raw"] / max(1, total["planted"]), "fixed": total["fixed"] / max(1, total["planted"]),
        "facts_raw": n["kept_raw"] / max(1, n["facts"]), "facts": n["kept"] / max(1, n["facts"]),
        "clean_changed": n["clean_changed"] / max(1, n["clean"]),
        "kinds": {k: f"{c['fixed']}/{c['planted']}" for k, c in sorted(kinds.items())},
    }  # fmt: skip


def show(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The table of figures."""
    heads = ("replies that are rewrites", "gates accept", "fixed", "... before gates", "facts kept", "... before gates")
    yield "| rewriter | " + " | ".join((*heads, "clean changed")) + " |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for r in rows:
        cells = [r[k] for k in ("replies", "acceptance", "fixed", "raw", "facts", "facts_raw", "clean_changed")]
        yield f"| {r['name']} | " + " | ".join("–" if c is None else f"{c:.3f}" for c in cells) + " |"
    kinds = list(rows[0]["kinds"])
    if not kinds:
        return
    yield "\n| fixed, of planted | " + " | ".join(kinds) + " |"
    yield "|---|" + "---:|" * len(kinds)
    for r in rows:
        yield f"| {r['name']} | " + " | ".join(r["kinds"].get(k, "-") for k in kinds) + " |"


def in_aspects(made: Mapping[str, Sequence[str | None]], chunks: Sequence[rewrite.Chunk]) -> Iterator[str]:
    """The table of the embedded judge (1 to 10; no model): what each made, the original where it made nothing."""
    yield "| embedded judge, mean | " + " | ".join(aspects.ASPECTS) + " |"
    yield "|---|" + "---:|" * len(aspects.ASPECTS)
    for name, texts in made.items():
        rows = [
            {"id": c.id, "original": c.original, "rewrite": c.original if t is None else t}
            for c, t in zip(chunks, texts, strict=True)
        ]
        found = aspects.summary(aspects.embedded(rows, POLICY))["aspects"]
        yield f"| {name} | " + " | ".join(f"{found[a]['value']:.2f}" for a in aspects.ASPECTS) + " |"


def main() -> None:
    """Run it all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=40_000)
    parser.add_argument("--base-tokens", type=int, default=1_000_000)
    parser.add_argument("--tokens", type=int, default=3_000_000)
    parser.add_argument("--hidden", type=int, default=SCRATCH.hidden_size, help="width of the model, a multiple of 4")
    parser.add_argument("--layers", type=int, default=SCRATCH.layers)
    parser.add_argument("--formats", nargs="+", default=["edits", "rewrite"])
    parser.add_argument("--most", type=int, default=500, help="at most so many documents of each kind to measure on")
    parser.add_argument("--show", type=int, default=12, help="so many replies to read")
    args = parser.parse_args()
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    rows, truth = make_rows(work, args.documents)
    hold = work / "hold.txt"
    hold.write_text("".join(f"{i}\n" for i, t in sorted(truth.items()) if held_out(t)), encoding="utf-8")
    cfg = config("edits", hold, args.tokens)
    found = list(worker.pairs(cfg, rows))
    print(f"pairs: {len(found)}, to train on {sum(not p.held_out for p in found)}")
    known = {p.id.split("#")[0] for p in found if not p.held_out}
    texts = read_table(rows, "rows", ["id", "lang", "original"]).to_pylist()
    seen = [r["original"] for r in texts if r["lang"] != "en" and r["id"] in known]
    began = time.perf_counter()
    base = make_base(work, seen, args.base_tokens, args.hidden, args.layers)
    print(f"base: {time.perf_counter() - began:.0f} s")
    sets = held_out_sets(texts, truth, {p.id.split("#")[0] for p in found if p.held_out}, args.most)
    chunks = [c for group in sets.values() for c in group]
    print("documents to measure on:", {name: len(group) for name, group in sets.items()})
    teacher = expert.Expert(work / "world")
    made: dict[str, list[str | None]] = {
        "copy": [c.original.strip() for c in chunks],
        "rules": [unmask(rules.apply(c.masked, RULES).text, c) for c in chunks],
        "expert (stand-in)": [unmask(teacher.rewrite(c.masked.text), c) for c in chunks],
    }
    for kind in args.formats:
        made[f"untrained, {kind}"] = answers(base, kind, chunks, work / "ledger")
        out = work / f"worker-{kind}-{args.hidden}x{args.layers}-{args.base_tokens}-{args.tokens}"
        manifest = worker.train(config(kind, hold, args.tokens), rows, base, out, seed=SEED)
        print(f"{kind}: {manifest['seconds']:.0f} s training, {manifest['counts']}, {manifest['notes']}")
        began = time.perf_counter()
        made[f"worker, {kind}"] = answers(out / "model", kind, chunks, work / "ledger")
        print(f"{kind}: {len(chunks) / (time.perf_counter() - began):.1f} documents/s in batches")
        read(made[f"worker, {kind}"], chunks, truth, args.show)
    at, last = 0, list[dict[str, Any]]()
    for name, group in sets.items():
        here = slice(at, at := at + len(group))
        results = [measure(who, what[here], group, truth) for who, what in made.items()]
        print(f"\n{name} ({len(group)} documents)\n\n" + "\n".join(show(results)))
        print("\n" + "\n".join(in_aspects({who: what[here] for who, what in made.items()}, group)))
        if name == HELD_OUT:
            last = results
    best = max((r for r in last if r["name"].startswith("worker")), key=lambda r: r["fixed"])
    start = next(r for r in last if r["name"] == best["name"].replace("worker", "untrained"))
    print(f"\nbetter format: {best['name']}, facts kept {best['facts']:.3f}")
    print(f"worker: {best['fixed'] * best['planted'] / max(1.0, start['fixed'] * start['planted']):.2f}")


def held_out_sets(
    texts: Sequence[Mapping[str, Any]], truth: Mapping[str, Truth], held: Collection[str], most: int
) -> dict[str, list[rewrite.Chunk]]:
    """Documents never trained on: with a held-out pattern, with a known one (and accepted by the gates), clean."""
    of: dict[str, list[Mapping[str, Any]]] = {HELD_OUT: [], "known patterns": [], "clean": []}
    for r in texts:
        t = truth[r["id"]]
        if held_out(t):
            of[HELD_OUT].append(r)
        elif r["id"] in held and (defect_of(t) or not t["kind"]):
            of["known patterns" if defect_of(t) else "clean"].append(r)
    return {
        name: [
            c
            for r in group[:: -(-len(group) // most)]
            for c in rewrite.split(r["id"], masking.mask(r["original"]), RULES, 10**6)
        ]
        for name, group in of.items()
        if group
    }


def read(made: Sequence[str | None], chunks: Sequence[rewrite.Chunk], truth: Mapping[str, Truth], n: int) -> None:
    """Print some of what a worker made, as a diff of sentences."""
    for chunk, text in list(zip(chunks, made, strict=True))[:: max(1, len(chunks) // max(1, n))]:
        t = truth[chunk.id.split("#")[0]]
        print("---", chunk.id, *t["kind"], "| planted:", *t["planted"])
        before, after = ([s for s, _ in sentences(x or "")] for x in (chunk.original.strip(), text))
        if text is None:
            print("  no rewrite")
        for s in before if text is not None else []:
            if s not in after:
                print("  -", s)
        for s in after:
            if s not in before:
                print("  +", s)


if __name__ == "__main__":
    main()
