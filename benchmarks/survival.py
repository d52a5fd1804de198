"""What filters alone keep of good Arabic and take of garbage, beside the rules of FineWeb-2.

    python benchmarks/survival.py --data DIR [--peer PYTHON] [--show GENRE]

Documents of at least 50 words. "fitra" is the default preset with every document under the default profile; "labelled"
is the same with the registers and varieties that the labels of the package give; the FineWeb-2 column runs datatrove's
filters with FineWeb-2's thresholds (`--peer` names a Python that has datatrove and spaCy; without it the rules are said
again in `fineweb2_rules.py`). `--show` prints removed documents of a genre. The last line is the lowest share kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from fineweb2_rules import judges
from garbage import KINDS, UNSEEN, make

from fitra.corpus import filters
from fitra.recipe.filters import Filters
from fitra.signals import quality
from fitra.signals.view import view

HERE = Path(__file__).parent
MIN_WORDS = 50
GARBAGE_OF_A_KIND = 100


def column(data: Path, name: str, *columns: str) -> list[tuple[str, ...]]:
    rows = pq.read_table(data / f"{name}.parquet", columns=list(columns)).to_pylist()
    return [tuple(r[c] for c in columns) for r in rows]


def genres(data: Path) -> dict[str, tuple[list[str], str]]:
    """Texts of each genre and the FineWeb-2 configuration that fits its language."""
    out: dict[str, tuple[list[str], str]] = {}
    for genre, name, config in (
        ("classical books", "ar_classical_books", "arb"),
        ("Egyptian wiki", "arz_wiki_egyptian", "arz"),
        ("news", "ar_news", "arb"),
        ("wiki", "ar_wiki", "arb"),
        ("web markdown", "ar_web_markdown", "arb"),
    ):
        out[genre] = [t for (t,) in column(data / "raw", name, "text")], config
    posts: dict[str, list[str]] = {}  # no authors or threads in the data: twenty in a row of one source
    for text, source in column(data / "raw", "ar_social", "text", "source"):
        posts.setdefault(source, []).append(text)
    out["social, 20 posts"] = (
        ["\n".join(p[i : i + 20]) for p in posts.values() for i in range(0, len(p), 20)], "apc"
    )  # fmt: skip
    verses: list[list[str]] = [[]]
    for (text,) in column(data / "parallel", "quran_ar_en", "ar"):
        verses[-1].append(text)
        if sum(len(v.split()) for v in verses[-1]) >= 100:
            verses.append([])
    full = verses[:-1]
    out["vocalised, running"] = [" ".join(v) for v in full], "arb"
    out["vocalised, in lines"] = ["\n".join(v) for v in full], "arb"
    poems = [
        [tuple(h.strip() for h in line.split("/")) for line in poem.splitlines() if not line.startswith("#")]
        for poem in (HERE / "data" / "verse.txt").read_text(encoding="utf-8").strip().split("\n\n")
    ]
    out["verse, half lines"] = ["\n".join("\n".join(line) for line in p) for p in poems], "arb"
    out["verse, whole lines"] = ["\n".join("   ***   ".join(line) for line in p) for p in poems], "arb"
    out["verse, running"] = [" ".join(" .. ".join(line) for line in p) for p in poems], "arb"
    return {g: ([t for t in texts if len(t.split()) >= MIN_WORDS], c) for g, (texts, c) in out.items()}


def judged(cfg: Filters, texts: list[str], labelled: bool = False) -> list[tuple[str, float] | None]:
    """Verdicts; languages are given as Arabic so that filters alone are measured."""
    seen = view(texts)
    registers = varieties = None
    if labelled:
        from fitra.signals import dialect, register

        registers, varieties = register.label(seen)[0], dialect.label(seen)[0]
    n = len(texts)
    return filters.judge(cfg, quality.figures(seen, cfg.stop_words), ["ar"] * n, np.ones(n), registers, varieties)


def fineweb2(texts: dict[str, tuple[list[str], str]], peer: str | None) -> tuple[str, dict[str, list[str | None]]]:
    """FineWeb-2's verdicts of each group."""
    rows = [{"text": t, "config": c} for group, c in texts.values() for t in group]
    if peer:
        asked = "\n".join(json.dumps(r) for r in rows)
        done = subprocess.run(
            [peer, str(HERE / "fineweb2_rules.py")], input=asked, capture_output=True, text=True, check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"{peer} failed: {done.stderr[-500:]}")
        first, *rest = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", '"', "null"))]
        how, verdicts = first["how"], rest
    else:
        how, judge = judges()
        verdicts = [judge[r["config"]](r["text"]) for r in rows]
    out, at = {}, 0
    for name, (group, _) in texts.items():
        out[name] = verdicts[at : at + len(group)]
        at += len(group)
    assert at == len(verdicts)
    return how, out


def reasons(verdicts: list[tuple[str, float] | None]) -> str:
    return ", ".join(f"{r} {n}" for r, n in Counter(v[0] for v in verdicts if v).most_common(3))


def main() -> None:
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", type=Path, default=os.environ.get("FITRA_DATA"))
    ap.add_argument("--peer")
    ap.add_argument("--show", help="print removed documents of this genre (or kept garbage of this kind)")
    args = ap.parse_args()
    if not args.data:
        sys.exit("Give --data or set FITRA_DATA.")
    good = genres(Path(args.data))
    prose = [t for t in good["news"][0] if len(t.split()) > 120][:400]
    bad = {kind: (make(kind, GARBAGE_OF_A_KIND, prose), "arb") for kind in (*KINDS, *UNSEEN)}
    cfg = Filters()
    ours = {g: judged(cfg, texts) for g, (texts, _) in (good | bad).items()}
    try:
        labelled = {g: judged(cfg, texts, labelled=True) for g, (texts, _) in (good | bad).items()}
    except ImportError:
        labelled = {}
    if args.show:
        texts = (good | bad)[args.show][0]
        wanted = [(t, v) for t, v in zip(texts, ours[args.show], strict=True) if (v is None) == (args.show in bad)]
        for text, v in wanted[:10]:
            print(v, "\n" + text[:700], "\n" + "-" * 80)
        return
    safe = {g: judged(Filters(preset="fineweb2"), texts) for g, (texts, _) in (good | bad).items()}
    how, theirs = fineweb2(good | bad, args.peer)

    def share(verdicts: list[object]) -> float:
        return sum(v is None for v in verdicts) / len(verdicts)

    def line(g: str) -> str:
        by_label = f"{share(labelled[g]):9.1%}" if labelled else "       --"  # type: ignore[arg-type]
        return (
            f"{g:<22}{len(ours[g]):6d} {share(ours[g]):9.1%}{by_label}{share(safe[g]):10.1%}{share(theirs[g]):10.1%}  "  # type: ignore[arg-type]
            f"{reasons(ours[g])}"
        )

    head = f"{'':<22}{'texts':>6}{'fitra':>10}{'labelled':>9}{'fineweb2':>10}{'FineWeb-2':>10}  reasons (fitra)"
    print(f"fineweb2: our preset; FineWeb-2: its own rules, run by {how}\n\nGood text, share KEPT\n{head}")
    for g in good:
        print(line(g))
    print(f"\nGarbage, share KEPT (lower is better)\n{head}")
    for g in KINDS:
        print(line(g))
    print(f"\nGarbage written after the thresholds were fixed, share KEPT\n{head}")
    for g in UNSEEN:
        print(line(g))
    kept = [share(ours[g]) for g in KINDS]  # type: ignore[arg-type]
    print(f"\ngarbage removed, mean over kinds: {1 - sum(kept) / len(kept):.3f}; worst kind: {1 - max(kept):.3f}")
    lowest = min(share(v[g]) for v in (ours, labelled) if v for g in good)  # type: ignore[arg-type]
    print(f"survival: {lowest:.4f}")


if __name__ == "__main__":
    main()
