"""Do the gates catch what they must and let pass what they should? Corruptions and light edits of real news.

    SEED=20 python benchmarks/gates.py [--show KIND]

Bad pairs (`gates_corruptions`): an article and a corruption of it, of one kind each; kinds that were asked for come
first, the others are harder ones of our own. Good pairs (`gates_edits`): light edits that keep the truth, what the
policy's rules do, and articles that two papers took from one agency. --show prints pairs of a kind that were judged
wrongly. The last line is the speed of all gates together, in MB/s of originals over the 2 that were asked for.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from difflib import SequenceMatcher
from pathlib import Path

from gates_corruptions import articles, bad_pairs, column
from gates_edits import agencies, good_pairs, pair_key

from fitra import policy
from fitra.align import gates

WANTED_BAD, WANTED_GOOD = 0.95, 0.03
POLICY = policy.load()


def row(kind: str, pairs: list[gates.Pair], bad: bool, show: str) -> tuple[int, bool]:
    """Print a line of the table; (how many were refused, whether that is as wanted)."""
    judged = gates.judge_all(pairs, POLICY)
    refused = [any(not v.passed for v in vs) for vs in judged]
    by = Counter(v.gate for vs in judged for v in vs if not v.passed)
    share = sum(refused) / max(1, len(pairs))
    good = share >= WANTED_BAD if bad else share <= WANTED_GOOD
    told = ", ".join(f"{g} {n}" for g, n in by.most_common(4))
    print(f"{kind:20} {len(pairs):6} {share:8.3f}  {told}{'' if good else '   <- falls short'}", flush=True)
    if show == kind:
        wrong = [(p, vs) for p, vs, x in zip(pairs, judged, refused, strict=True) if x != bad]
        for p, vs in wrong[:25]:
            report(p, vs)
    return sum(refused), good


def report(p: gates.Pair, vs: list[gates.Verdict]) -> None:
    """Where two texts differ, word by word, and what the gates said."""
    a, b = p.original.split(), p.rewrite.split()
    print("--", gates.complaint(vs))
    for tag, i, j, k, m in SequenceMatcher(None, a, b, False).get_opcodes():
        if tag != "equal":
            print(f"   {' '.join(a[max(0, i - 3) : i])} [{' '.join(a[i:j])[:200]}] -> [{' '.join(b[k:m])[:200]}]")


def speed(timed: list[gates.Pair]) -> float:
    """Print how fast all gates are together; megabytes of originals per second of one core."""
    size = sum(len(p.original.encode()) for p in timed) / 1e6
    start = time.process_time()
    gates.judge_all(timed, POLICY)
    seconds = time.process_time() - start
    start = time.process_time()
    for p in timed[:200]:
        gates.judge(p.original, p.rewrite, POLICY)
    single = (time.process_time() - start) / 200
    print(f"{len(timed)} pairs, {size:.2f} MB of originals: {seconds:.2f} s of one core, {size / seconds:.2f} MB/s")
    print(f"one pair by itself: {single * 1e3:.2f} ms; in a batch {seconds / len(timed) * 1e3:.2f} ms")
    return size / seconds


def main() -> None:
    """Print the tables."""
    show = sys.argv[sys.argv.index("--show") + 1] if "--show" in sys.argv else ""
    texts = articles()
    gates.judge_all([gates.Pair(t, t) for t in texts[:50]], POLICY)  # lists are read once
    timed: list[gates.Pair] = []
    short: list[str] = []

    def note(kind: str, pairs: list[gates.Pair], bad: bool) -> int:
        refused, good = row(kind, pairs, bad, show)
        if not good:
            short.append(kind)
        return refused

    print(f"{'kind':20} {'pairs':>6} {'refused':>8}  most often by")
    for kind, pairs in bad_pairs(texts):
        note(kind, pairs, True)
        timed += pairs[:60]
    print()
    wrong = total = 0
    for kind, pairs in good_pairs(texts[::-1]):
        wrong, total = wrong + note(kind, pairs, False), total + len(pairs)
        timed += pairs[:120]
    print(f"{'all light edits':20} {total:6} {wrong / total:8.3f}")
    copies = agencies(column("raw/ar_news.parquet", "text"))
    changed = set((Path(__file__).parent / "data" / "agency_changed.txt").read_text().split())
    note("agency, same facts", [p for p in copies if pair_key(p) not in changed], False)
    note("agency, other facts", [p for p in copies if pair_key(p) in changed], True)
    print("(refused copies were read; those of other facts lose or add one, so nearly all of their row is refused)")
    print()
    rate = speed(timed)
    print(f"falls short: {', '.join(short) or 'nothing'}")
    print(f"gates: {rate / 2:.2f}")


if __name__ == "__main__":
    main()
