"""What the rules repair: in a world with ground truth, and in real text.

    fitra world --out runs/world && python benchmarks/align_rules.py world runs/world
    FITRA_DATA=... python benchmarks/align_rules.py real --sample 2000 --half odd

World. For each kind of planted defect: `repaired` = share of documents in which the rules left no planted passage;
`goes on` = the same after the gates (a refused rewrite keeps its original); `words kept` = share of the words outside
planted passages that are still there; `harmed` = documents that lost such a word; `lost` = documents dropped or
quarantined although they state facts; `tier` = how many leave the tier "untouched". Clean documents show what breaks.

Real. Documents flagged at 0.5 by the readable rules (highest safety heading) or by the trained scorer, before and
after, by three scorers. The rules know the words of the first and ask the second; the third is made here, of OSACT4 and
L-HSAB with plain words and letters, and shares nothing with either (its sets have no licence: it measures and never
ships). While tuning only even rows were read: `--half odd` measures the others.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from fitra import arabic
from fitra.align import align, masking, rules, triage
from fitra.align.documents import Work, begin
from fitra.align.gates import words as gate_words
from fitra.artifacts import read_table
from fitra.policy import load
from fitra.recipe import Align
from fitra.signals import linear, toxicity
from fitra.signals.view import view

SETS = ("ar_social", "ar_news", "ar_satire_noisy", "ar_wiki", "arz_wiki_egyptian")
Scorer = Callable[[Sequence[str]], "np.ndarray[Any, Any]"]


def words(text: str) -> Counter[str]:
    """Folded words with their counts."""
    return Counter(re.findall(r"\w+", arabic.fold(text, "search")))


def of_world(world: Path) -> None:
    """Align the world's documents by the rules and print the table."""
    truth = {
        d["id"]: json.loads(d["truth"])
        for p in sorted((world / "documents").glob("*.parquet"))
        for d in pq.read_table(p, columns=["id", "truth"]).to_pylist()
    }
    with tempfile.TemporaryDirectory() as tmp:
        manifest = align(Align(), world, Path(tmp) / "out")
        rows = [r for r in read_table(Path(tmp) / "out", "rows").to_pylist() if r["lang"] != "en"]
    policy = load()
    compiled = rules.compile_rules(policy)
    texts = [r["original"] for r in rows]
    masked = [masking.mask(t) for t in texts]
    made = [rules.apply(m, compiled) for m in masked]
    needs = triage.assign(texts, masked, compiled, policy, made)
    table: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row, m, rewrite, need in zip(rows, masked, made, needs, strict=True):
        t = truth[row["id"]]
        kinds = [k for k in t["kind"] if k not in ("duplicate", "exact", "near", "safe_twin", "harmless")] or ["clean"]
        if {"phone", "email", "iban", "national_id", "personal"} & set(kinds):
            kinds = ["personal"]
        if kinds == ["clean"] and "duplicate" in t["kind"]:
            kinds = ["clean copy"]  # some were planted with tatweel, bidi marks and the like
        for kind in kinds:
            c = table[kind, t["half"] or "-"]
            c["n"] += 1
            c["left"] += need.tier != "untouched"
            c[f"tier {need.tier}"] += 1
            c[row["state"]] += 1
            shown = masking.PLACEHOLDER.sub(lambda x, m=m: m.spans[int(x[1])], rewrite.text)  # type: ignore[misc]
            c["repaired"] += bool(t["planted"]) and not any(p in shown for p in t["planted"])
            rest = row["original"]
            for p in t["planted"] if kind != "layout" else []:
                rest = rest.replace(p, " ")
            want, got = words(rest), words(shown)
            c["words"] += sum(want.values())
            c["kept"] += sum((want & got).values())
            c["harmed"] += bool(want - got)
            if row["state"] in ("drop", "quarantine"):
                c["lost"] += bool(t["facts"])
                continue
            text = row["rewrite"] if row["state"] == "accept" else row["original"]
            c["fixed"] += bool(t["planted"]) and not any(p in text for p in t["planted"])
            c["protected_lost"] += any(p not in text for p in t["protected"] if p in row["original"])
    print(f"{len(rows)} documents; {manifest['counts']}")
    head = (
        "kind | half | n | repaired | goes on | accept | unchanged | keep_original | quarantine | drop | lost | harmed"
    )
    print(head + " | words kept | leaves untouched | tiers rules, model, drop")
    for (kind, half), c in sorted(table.items()):
        on = c["n"] - c["drop"] - c["quarantine"]
        share = [f"{c['repaired'] / c['n']:.3f}", f"{c['fixed'] / max(1, on):.3f}"] if "clean" not in kind else "--"
        states = [c[k] for k in ("accept", "unchanged", "keep_original", "quarantine", "drop", "lost", "harmed")]
        cells = [
            kind,
            half,
            c["n"],
            *share,
            *states,
            f"{c['kept'] / max(1, c['words']):.4f}",
            f"{c['left'] / c['n']:.3f}",
        ]
        print(" | ".join(map(str, [*cells, ", ".join(str(c[f"tier {k}"]) for k in ("rules", "model", "drop"))])))
    print("protected spans lost:", sum(c["protected_lost"] for c in table.values()))


def independent(data: Path) -> Scorer:
    """A scorer of OSACT4 and L-HSAB alone: plain words, letters and pairs; (n,) of 0..1."""
    texts: list[str] = []
    labels: list[int] = []
    for name in ("osact4_ar", "lhsab_levantine"):
        t = pq.read_table(data / "toxicity" / f"{name}.parquet", columns=["text", "label"])
        texts += t["text"].to_pylist()
        labels += t["label"].to_pylist()
    for name in ("ar_wiki", "ar_news"):
        for text in pq.read_table(data / "raw" / f"{name}.parquet", columns=["text"])["text"].to_pylist()[::4]:
            parts = text.split()[:108]
            texts += [" ".join(parts[i : i + 36]) for i in range(0, len(parts), 36)]
            labels += [0] * (len(texts) - len(labels))
    space = linear.Space(bits=19, ngrams=(2, 5), pairs=True, pooling="sqrt")
    y = np.array(labels, np.float32)[:, None]
    model = linear.fit(linear.features(view(texts), space), y, ("toxic",), space, loss="sigmoid", epochs=4)

    def score(some: Sequence[str]) -> np.ndarray[Any, Any]:
        v = view(list(some))
        out = 1 / (1 + np.exp(-np.clip(model.margins(v, 36, 0.2)[:, 0], -30, 30)))
        return np.where(v.n_words == 0, 0.0, out)

    return score


def by_rules(texts: Sequence[str]) -> np.ndarray[Any, Any]:
    """Highest safety heading of the readable rules."""
    return np.array([max(s[h] for h in toxicity.SAFETY_HEADINGS) for s in map(toxicity.score, texts)] or [0.0])


def trained(texts: Sequence[str]) -> np.ndarray[Any, Any]:
    """The trained scorer, in batches."""
    return np.concatenate([toxicity.overall(view(list(texts[i : i + 2000]))) for i in range(0, len(texts), 2000)])


def facts(text: str) -> dict[str, Counter[str]]:
    """Numbers, months and names of a text."""
    out: dict[str, Counter[str]] = {"numbers": Counter(re.findall(r"\d+", arabic.digits_to_ascii(text)))}
    found = [gate_words.fact(w) for w in arabic.fold(text, "search").split()]
    out["months"] = Counter(f.month for f in found if f.month)
    out["names"] = Counter(f.name for f in found if f.name and not re.fullmatch(r"[a-z].*", f.name))
    return out


def of_real(data: Path, sample: int, half: str, show: int) -> None:
    """The rules over samples of real text: toxicity of what was flagged, facts kept, speed."""
    work = Work(Align())
    third = independent(data)
    scorers: dict[str, Scorer] = {"rules": by_rules, "trained": trained, "third": third}
    for name in SETS:
        rows = pq.read_table(data / "raw" / f"{name}.parquet", columns=["doc_id", "text"]).to_pylist()
        rows = rows[{"even": 0, "odd": 1, "all": 0}[half] :: 1 if half == "all" else 2]
        flags = {k: scorers[k]([r["text"] for r in rows]) >= 0.5 for k in ("rules", "trained")}
        some = np.random.default_rng(11).permutation(len(rows))[:sample]
        masked = [masking.mask(rows[i]["text"]) for i in some]
        size = sum(len(rows[i]["text"].encode()) for i in some) / 1e6
        start = time.process_time()
        for m in masked:
            rules.apply(m, work.rules)
        seconds = time.process_time() - start
        chosen = sorted({int(i) for i in some} | {int(i) for k in flags for i in np.flatnonzero(flags[k])})
        docs = [{"id": rows[i]["doc_id"], "text": rows[i]["text"], "lang": "ar", "licence_class": "C"} for i in chosen]
        done = dict(zip(chosen, (r for r in begin(docs, work)[0] if r), strict=True))
        after = {i: _goes_on(r) for i, r in done.items()}
        states = Counter(done[int(i)]["state"] for i in some)
        print(f"## {name}: {len(rows)} documents, sample {len(some)}: {dict(sorted(states.items()))}; ", end="")
        print(f"rules {size / seconds:.2f} MB/s/core")
        kept, all_ = Counter[str](), Counter[str]()
        for row in done.values():
            if row["state"] == "accept":
                a, b = facts(row["original"]), facts(row["rewrite"])
                for k in a:
                    all_[k] += sum(a[k].values())
                    kept[k] += sum((a[k] & b[k]).values())
        print(
            "   kept in changed documents:",
            {k: f"{kept[k]} of {all_[k]} ({kept[k] / max(1, all_[k]):.4f})" for k in all_},
        )
        for by, flag in flags.items():
            at = [int(i) for i in np.flatnonzero(flag)]
            if not at:
                continue
            out = Counter(done[i]["state"] for i in at)
            on = [i for i in at if after[i] is not None]
            print(f"   flagged by {by}: {len(at)} {dict(sorted(out.items()))}")
            for scorer, of in scorers.items():
                b, a = of([rows[i]["text"] for i in at]).mean(), of([after[i] or "" for i in at]).sum() / len(at)
                b_on, a_on = of([rows[i]["text"] for i in on]).mean(), of([str(after[i]) for i in on]).mean()
                print(f"      by {scorer}: {b:.3f} -> {a:.3f} ({1 - a / b:.0%}); ", end="")
                print(f"of those that go on {b_on:.3f} -> {a_on:.3f} ({1 - a_on / b_on:.0%})")
        for i in np.random.default_rng(5).permutation([i for i in chosen if done[i]["state"] != "unchanged"])[:show]:
            print(f"   [{done[i]['state']}: {done[i]['reason'][:80]}]")
            print(f"    - {rows[i]['text'][:400]}\n    + {(done[i]['rewrite'] or '')[:400]}")


def _goes_on(row: dict[str, Any]) -> str | None:
    if row["state"] in ("drop", "quarantine"):
        return None
    return str(row["rewrite"] if row["state"] == "accept" else row["original"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["world", "real"])
    parser.add_argument("world", type=Path, nargs="?", help="a folder that `fitra world` wrote")
    parser.add_argument("--sample", type=int, default=2000)
    parser.add_argument("--half", choices=["even", "odd", "all"], default="odd")
    parser.add_argument("--show", type=int, default=0, help="print so many rewrites of each set")
    given = parser.parse_args()
    if given.what == "world":
        of_world(given.world)
    else:
        of_real(Path(os.environ["FITRA_DATA"]), given.sample, given.half, given.show)
