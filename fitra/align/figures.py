"""What native alignment did to a corpus, in figures: those of the paper, and what was kept, refused and paid.

    from fitra.align import figures
    found = figures.figures(Path("runs/real/align"))

One pass over `rows/` in bounded memory. Counts are over all rows; what needs the texts (toxicity, facts, perplexity,
the five aspects) is taken from samples drawn evenly by a hash of the id, so equal stages give equal figures.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from fitra import llm, policy
from fitra.align import aspects, gates, masking
from fitra.align import perplexity as ppl
from fitra.align.gates import names as name_facts
from fitra.align.gates import pairs as facts
from fitra.align.gates import text as text_facts
from fitra.align.levels import Pair, toxicity_levels
from fitra.artifacts import read_manifest
from fitra.errors import FitraError
from fitra.progress import track

__all__ = ["Lowest", "batches", "figures", "kind", "row_files"]

ROWS = 512  # per batch
COLUMNS = ["id", "lang", "original", "rewrite", "state", "tier", "reason", "rewriter", "policy_hash", "verdicts"]
SAMPLE = 8000  # documents, as many as the paper put through the moderation API
PAIRS = 500  # whose perplexity is taken
JUDGED = 200  # that the judge of the five aspects sees
NO_TIER = "not recorded"
REASONS = 10_000  # different ones that are counted apart
_FACT_BATCH = 500
_LOST = {"numbers": "numbers_lost", "dates": "dates", "names": "names_lost", "links": "urls"}


def row_files(stage: Path) -> list[Path]:
    """The parquet files of `rows/`, given a stage's folder or that folder itself; FitraError where there are none."""
    folder = Path(stage) / "rows" if (Path(stage) / "rows").is_dir() else Path(stage)
    found = sorted(folder.glob("*.parquet"))
    if not found:
        raise FitraError(f"{stage}: no rows of an alignment here.", "Give the output folder of `fitra align run`.")
    return found


def batches(stage: Path, columns: Sequence[str] = COLUMNS) -> Iterator[dict[str, pa.Array]]:
    """Columns of the rows, some hundred rows at a time; a column that is not there is all null."""
    for path in row_files(stage):
        with pq.ParquetFile(path) as file:
            there = [c for c in columns if c in file.schema_arrow.names]
            if missing := {"id", "original", "state"} - set(file.schema_arrow.names):
                raise FitraError(
                    f"{path}: no column '{min(missing)}'.", "Expected the rows of an align stage (ROW_SCHEMA)."
                )
            for batch in file.iter_batches(batch_size=ROWS, columns=there):
                yield {c: batch[c] if c in there else pa.nulls(batch.num_rows, pa.string()) for c in columns}


class Lowest:
    """The `size` rows whose ids have the lowest hashes: an even sample that does not depend on the order."""

    def __init__(self, size: int, salt: str) -> None:
        self.size, self.salt = size, salt
        self.held: list[tuple[int, str, Any]] = []  # a heap by the negative hash

    def rank(self, ident: str) -> int | None:
        """The hash of an id that is to be held, or None."""
        at = xxhash.xxh3_64_intdigest(f"{self.salt}\0{ident}".encode("utf-8", "surrogatepass"))
        return at if self.size > 0 and (len(self.held) < self.size or -at > self.held[0][0]) else None

    def add(self, ident: str, at: int, thing: Any) -> None:
        """Hold what has this rank."""
        (heapq.heappush if len(self.held) < self.size else heapq.heapreplace)(self.held, (-at, ident, thing))

    @property
    def rows(self) -> list[Any]:
        """What is held, lowest hash first: any beginning of it is an even sample too."""
        return [thing for _, _, thing in sorted(self.held, key=lambda h: (-h[0], h[1]))]


@dataclass
class _Counts:
    tiers: dict[str, Counter[str]] = field(default_factory=dict)  # tier -> state -> documents
    characters: dict[str, Counter[str]] = field(default_factory=dict)  # tier -> state -> characters of the originals
    after: int = 0  # characters that go on
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)  # (state, kind of reason)
    refused: dict[str, Counter[str]] = field(default_factory=dict)  # gate -> state -> documents
    judged: Counter[str] = field(default_factory=Counter)  # gate -> documents
    broken: int = 0  # rows whose verdicts cannot be read
    rewriters: Counter[str] = field(default_factory=Counter)
    policies: Counter[str] = field(default_factory=Counter)
    words_kept: list[float] = field(default_factory=lambda: [0.0, 0.0])  # sum and number of the gate's figures


def kind(reason: str | None) -> str:
    """The kind of a reason: what stands before its details ("gates: numbers_lost 1" is "gates: numbers_lost")."""
    first, colon, rest = (reason or "none").partition(":")
    word = rest.split()[0].rstrip(":;,") if colon and first in ("gates", "rewriter") and rest.split() else ""
    return f"{first}: {word}"[:80] if word else first[:80]


def figures(
    stage: Path,
    held: policy.Policy | None = None,
    *,
    sample: int = SAMPLE,
    seed: int = 0,
    scorer: str = "embedded",
    model: Path | None = None,
    pairs: int = PAIRS,
    judge: llm.Backend | None = None,
    judged: int = JUDGED,
    ledger: Path | None = None,
    verses: masking.Verses | None = None,
) -> dict[str, Any]:
    """All figures of an align stage (its folder, or the folder of its rows), as plain data.

    `held` is the policy (the shipped one by default), `scorer` any of `signals.toxicity.scorer`, `model` a model folder
    for perplexity (left out without), `judge` a backend for the five aspects (the embedded judge without), whose
    answers go to `ledger`. `sample`, `pairs` and `judged` say how many documents are read for what. Raises FitraError
    for a folder without rows, an unfinished stage, a bad model, a judge that is down.
    """
    stage = Path(stage)
    held = held or policy.load()
    manifest = read_manifest(stage) if (stage / "rows").is_dir() else {}
    counts = _Counts()
    everyone, rewritten = Lowest(sample, f"documents {seed}"), Lowest(sample, f"rewritten {seed}")
    total = sum(pq.ParquetFile(p).metadata.num_rows for p in row_files(stage))
    done = track(range(total), "figures", total)
    for batch in batches(stage):
        _count(batch, counts, everyone, rewritten)
        for _ in range(len(batch["id"])):
            next(done, None)
    changed: list[Pair] = rewritten.rows
    rows = [{"id": p.id, "original": p.before, "rewrite": p.after} for p in changed]
    return {
        "documents": total,
        "sample": {"documents": len(everyone.held), "rewritten": len(changed), "seed": seed},
        "policy": _policy(held, counts),
        "rewriters": dict(counts.rewriters.most_common(20)),
        "states": dict(sum(counts.tiers.values(), Counter[str]()).most_common()),
        "tiers": {t: dict(sorted(c.items())) for t, c in sorted(counts.tiers.items())},
        "characters": {
            "before": sum(sum(c.values()) for c in counts.characters.values()),
            "after": counts.after,
            "tiers": {t: dict(sorted(c.items())) for t, c in sorted(counts.characters.items())},
        },
        "cost": {k: (manifest.get("notes") or {}).get(k) for k in ("plan", "actual")},
        "seconds": manifest.get("seconds"),
        "licence_class": manifest.get("licence_class"),
        "reasons": [[s, r, n] for (s, r), n in sorted(counts.reasons.items(), key=lambda kv: (-kv[1], kv[0]))],
        "gates": _gates(counts),
        "toxicity": toxicity_levels(everyone.rows, changed, scorer, seed),
        "knowledge": knowledge(changed),
        "diversity": _diversity(changed, held),
        "perplexity": _perplexity(changed[:pairs], model, seed) if model is not None else None,
        "aspects": _aspects(rows[:judged], held, judge, ledger or stage / "ledger", verses, seed),
    }


def _count(batch: Mapping[str, pa.Array], counts: _Counts, everyone: Lowest, rewritten: Lowest) -> None:
    columns = {c: batch[c].to_pylist() for c in COLUMNS if c not in ("original", "rewrite")}
    sizes = {c: pc.fill_null(pc.utf8_length(batch[c]), 0).to_pylist() for c in ("original", "rewrite")}
    for i, ident in enumerate(columns["id"]):
        state, tier = str(columns["state"][i]), columns["tier"][i] or NO_TIER
        counts.tiers.setdefault(tier, Counter())[state] += 1
        counts.characters.setdefault(tier, Counter())[state] += sizes["original"][i]
        if state not in ("quarantine", "drop"):
            counts.after += sizes["rewrite" if state == "accept" else "original"][i]
        reason = state, kind(columns["reason"][i])
        counts.reasons[reason if reason in counts.reasons or len(counts.reasons) < REASONS else (state, "others")] += 1
        counts.rewriters[str(columns["rewriter"][i])] += 1
        counts.policies[str(columns["policy_hash"][i])] += 1
        lost = _verdicts(columns["verdicts"][i], state, counts)
        for into in (everyone, rewritten) if state == "accept" else (everyone,):
            at = into.rank(str(ident))
            if at is not None:  # only now are the texts decoded
                before = batch["original"][i].as_py() or ""
                after = {"accept": batch["rewrite"][i].as_py() or "", "quarantine": None, "drop": None}.get(
                    state, before
                )
                into.add(str(ident), at, Pair(str(ident), before, after, state == "accept", lost))


def _verdicts(text: str | None, state: str, counts: _Counts) -> dict[str, float]:
    """Count a row's verdicts; what the gates on facts let pass (of chunks that were refused the original stays)."""
    if not text or text == "[]":
        return {}
    try:
        found = [(str(v["gate"]), bool(v["passed"]), float(v["figure"])) for v in json.loads(text)]
    except (ValueError, TypeError, KeyError):
        counts.broken += 1
        return {}
    for gate in sorted({g for g, _, _ in found}):
        counts.judged[gate] += 1
        if not all(passed for g, passed, _ in found if g == gate):
            counts.refused.setdefault(gate, Counter())[state] += 1
    kept = [f for g, _, f in found if g == "words_kept"]
    if kept and state == "accept":
        counts.words_kept[0] += sum(kept) / len(kept)
        counts.words_kept[1] += 1
    lost: Counter[str] = Counter()
    for gate, passed, figure in found:
        if passed and gate in _LOST.values():
            lost[gate] += round(figure)
    return {g: n for g, n in lost.items() if n}


def _policy(held: policy.Policy, counts: _Counts) -> dict[str, Any]:
    hashes = sorted(counts.policies)
    return {"id": held.id, "hash": held.hash, "rows": hashes[:20], "same": hashes in ([held.hash], [])}


def _gates(counts: _Counts) -> dict[str, Any]:
    total, n = counts.words_kept
    return {
        "judged": {g: counts.judged[g] for g in sorted(counts.judged)},
        "refused": {g: dict(sorted(c.items())) for g, c in sorted(counts.refused.items())},
        "unreadable": counts.broken,
        "words_kept": round(total / n, 4) if n else None,
    }


def knowledge(pairs: Sequence[Pair]) -> dict[str, dict[str, Any]]:
    """Numbers, dates, names and links of the originals that stand in the rewrites too: different ones per document.

    What went with an advertisement or an insult that was taken out counts as lost here, though not for the gates: of
    the `lost` ones `purpose` are such.
    """
    out = {k: Counter[str](total=0, lost=0, new=0) for k in ("numbers", "dates", "names", "links")}
    for start in range(0, len(pairs), _FACT_BATCH):
        part = pairs[start : start + _FACT_BATCH]
        before, after = [p.before for p in part], [p.after or "" for p in part]
        nothing = [""] * len(part)
        whole, both = facts.look(before, nothing, nothing, nothing), facts.look(before, after, nothing, nothing)
        for name, look in (("dates", facts.dates), ("names", name_facts.names)):
            there = [set(x) for x in look(whole)[0]]
            lost, new = look(both)
            for all_, a, b in zip(there, lost, new, strict=True):
                out[name].update(total=len(all_), lost=len(all_ & set(a)), new=len(set(b)))
        for was, now in zip(before, after, strict=True):
            for name, of in (("numbers", gates.numbers), ("links", text_facts.links)):
                had, has = of(was), of(now)
                lost_here, new_here = had - has, has - had
                if name == "numbers":  # written out, or the parts of a date
                    lost_here, new_here = text_facts.unsaid(lost_here, now), text_facts.unsaid(new_here, was)
                out[name].update(total=len(had), lost=len(lost_here), new=len(new_here))
    for k, c in out.items():
        c["purpose"] = max(0, c["lost"] - round(sum(p.lost.get(_LOST[k], 0) for p in pairs)))
    return {k: {**c, "kept": round(1 - c["lost"] / c["total"], 5) if c["total"] else None} for k, c in out.items()}


def _diversity(pairs: Sequence[Pair], held: policy.Policy) -> dict[str, Any]:
    found = gates.Diversity()
    for start in range(0, len(pairs), _FACT_BATCH):
        part = pairs[start : start + _FACT_BATCH]
        found.add([p.before for p in part], [p.after or "" for p in part])
    return found.verdict(held).as_dict()


def _perplexity(pairs: Sequence[Pair], model: Path, seed: int) -> dict[str, Any]:
    # The name of the folder, not its path: a page leaves the house, paths should not.
    found = ppl.perplexity([p.before for p in pairs], [p.after or "" for p in pairs], model, seed)
    return {"model": Path(model).resolve().name, "characters": ppl.CHARACTERS, **found}


def _aspects(
    rows: Sequence[Mapping[str, Any]],
    held: policy.Policy,
    judge: llm.Backend | None,
    ledger: Path,
    verses: masking.Verses | None,
    seed: int,
) -> dict[str, Any]:
    """The rewrites, and the originals as if they were rewrites: what a copy would get."""
    copies = [{**r, "rewrite": r["original"]} for r in rows]

    def ask(given: Sequence[Mapping[str, Any]]) -> list[aspects.Judged]:
        if judge is None:
            return aspects.embedded(given, held, verses)
        return aspects.judge(given, held, judge, ledger)

    return {
        "judge": judge.identity if judge is not None else aspects.EMBEDDED,
        "embedded": judge is None,
        "rewrites": aspects.summary(ask(rows), seed),
        "copies": aspects.summary(ask(copies), seed),
    }
