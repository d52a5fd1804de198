"""What the rules repair in a world with ground truth, on the visible and the held-out half.

    fitra world --out runs/world && python benchmarks/align_rules.py runs/world

For each kind of planted defect: `fixed` = no planted passage is left in what goes on (or the document was dropped or
quarantined: counted apart); `words kept` = share of the words outside planted passages that are still there, over the
documents that go on; `harmed` = documents that go on having lost such a word; `lost` = documents dropped or quarantined
although they state facts. Clean documents show what the rules break.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow.parquet as pq

from fitra import arabic
from fitra.align import align
from fitra.artifacts import read_table
from fitra.recipe import Align


def words(text: str) -> Counter[str]:
    """Folded words with their counts."""
    return Counter(re.findall(r"\w+", arabic.fold(text, "search")))


def main(world: Path) -> None:
    """Align the world's documents by the rules and print the table."""
    truth = {
        d["id"]: json.loads(d["truth"])
        for p in sorted((world / "documents").glob("*.parquet"))
        for d in pq.read_table(p, columns=["id", "truth"]).to_pylist()
    }
    with tempfile.TemporaryDirectory() as tmp:
        start = time.perf_counter()
        manifest = align(Align(), world, Path(tmp) / "out")
        seconds = time.perf_counter() - start
        rows = read_table(Path(tmp) / "out", "rows").to_pylist()
    table: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        t = truth[row["id"]]
        if row["lang"] == "en":
            continue
        kinds = [k for k in t["kind"] if k not in ("duplicate", "exact", "near", "safe_twin", "harmless")] or ["clean"]
        if "phone" in kinds or "personal" in kinds:
            kinds = ["personal"]
        for kind in kinds:
            c = table[kind, t["half"] or "-"]
            c["n"] += 1
            c[row["state"]] += 1
            if row["state"] in ("drop", "quarantine"):
                c["lost"] += bool(t["facts"])
                continue
            text = row["rewrite"] if row["state"] == "accept" else row["original"]
            left = [p for p in t["planted"] if p in text]
            c["fixed"] += bool(t["planted"]) and not left
            rest = row["original"]
            for p in t["planted"] if kind != "layout" else []:
                rest = rest.replace(p, " ")
            want, got = words(rest), words(text)
            c["words"] += sum(want.values())
            c["kept"] += sum((want & got).values())
            c["harmed"] += bool(want - got)
            c["protected_lost"] += any(p not in text for p in t["protected"] if p in row["original"])
    print(
        f"{len(rows)} documents, {seconds:.1f} s ({1000 * seconds / len(rows):.1f} s per 1,000); {manifest['counts']}"
    )
    print(
        "kind | half | n | fixed | accept | unchanged | keep_original | quarantine | drop | lost | harmed | words kept"
    )
    for (kind, half), c in sorted(table.items()):
        on = c["n"] - c["drop"] - c["quarantine"]
        fixed = f"{c['fixed'] / on:.3f}" if on and kind != "clean" else "-"
        states = " | ".join(
            str(c[k]) for k in ("accept", "unchanged", "keep_original", "quarantine", "drop", "lost", "harmed")
        )
        print(f"{kind} | {half} | {c['n']} | {fixed} | {states} | {c['kept'] / max(1, c['words']):.4f}")
    print("protected spans lost:", sum(c["protected_lost"] for c in table.values()))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
