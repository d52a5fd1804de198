"""What a run would cost, before anything is spent: documents, requests, tokens, money, hours as ranges per tier.

A sample of the corpus goes through triage, masking and chunking as it would in the run, and its prompts are counted
with the model's own tokenizer (else estimated from bytes). What only the model knows, how much it writes and how often
it is refused, is a range, taken from the ledger where it holds answers of this model to this job.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from fitra import llm, stats
from fitra.align import prompts
from fitra.align.documents import Open, Work, begin
from fitra.align.rewrite import Route
from fitra.artifacts import table_parts, write_json
from fitra.llm.prices import cost
from fitra.llm.tokens import Tokens
from fitra.recipe import Align, Model

__all__ = ["SAMPLE", "actual", "first", "plan"]

SAMPLE = 500  # documents
DRAWS = 400  # of the bootstrap
KNOWN = 50  # answers in the ledger from which its figures are trusted
# Bytes of UTF-8 a token, between vocabularies that know Arabic well and those that do not (docs/vocab.md).
BYTES_PER_TOKEN = (2.0, 6.5)
WRITTEN = {"rewrite": (0.7, 1.15), "edits": (0.02, 0.35)}  # tokens written per token of text
AGAIN = (0.0, 0.35)  # further tries per chunk and retry allowed
ESCALATED = (0.0, 1.0)  # share of the worker's chunks that the expert gets
TURN = 8  # tokens that a chat template adds to a turn
Range = tuple[float, float]


@dataclass
class _Asked:
    """What one chunk of a sampled document asks of a model, in tokens."""

    document: int
    prefix: Range
    prompt: Range  # beyond the prefix
    text: Range


def plan(cfg: Align, corpus: Path, ledger: Path | None = None, *, work: Work | None = None) -> dict[str, Any]:
    """The plan of a run as plain data; nothing is asked and nothing written.

    Keys: documents, sampled, tiers {tier: {documents: [low, high], and for models: model, requests, prompt_tokens,
    cached_tokens (of these, the shared prefix), completion_tokens, money, hours, gpu_hours, basis}}, and the sums
    tokens, money, hours, gpu_hours. Ranges are [low, high]; None is unknown, and `unknown` says what would tell.
    """
    work = work or Work(cfg)
    parts = table_parts(corpus, "documents")
    total = sum(pq.ParquetFile(p).metadata.num_rows for p in parts)
    docs = list(_sample(parts, total))
    rows, opened = begin(docs, work)
    tiers: dict[str, Any] = {}
    for tier in ("untouched", "rules", "drop", *(["human"] if work.human.of else [])):
        n = sum(r is not None and r["tier"] == tier for r in rows)
        tiers[tier] = {"documents": _share(n, len(docs), total)}
    out = {"documents": total, "sampled": len(docs), "tiers": tiers, "unknown": []}
    models = cfg.models()
    known = _known(ledger)
    share: Range = (1.0, 1.0)
    for route in work.routes:
        model = models.get(route.tier)
        count = _counter(model, out["unknown"], route.tier)
        asked = [a for doc in opened for a in _asked(doc, route, work, count)]
        scale = total / max(1, len(docs))
        costs = _of_model(asked, len(docs), scale, route, model, cfg, known.get(_job(route)), share, out["unknown"])
        documents = _share(len(opened), len(docs), total)
        tiers[route.name] = {"documents": [round(d * s) for d, s in zip(documents, share, strict=True)], **costs}
        share = ESCALATED
    for key in ("prompt_tokens", "completion_tokens", "money", "hours", "gpu_hours"):
        out[key] = _total([t[key] for t in tiers.values() if key in t])
    return out


def first(cfg: Align, corpus: Path, ledger: Path, work: Work, out: Path) -> dict[str, Any]:
    """The plan that a run began with, kept while it is killed and resumed: it is held against what came of it."""
    at = Path(out) / ".plan.json"
    if not at.is_file():
        write_json(at, plan(cfg, corpus, ledger, work=work))
    return dict(json.loads(at.read_text(encoding="utf-8")))


def _sample(parts: Sequence[Path], total: int) -> Iterable[dict[str, Any]]:
    """SAMPLE documents at random, the same ones every time."""
    chosen = np.sort(np.random.default_rng(0).choice(total, min(total, SAMPLE), replace=False))
    first_row = 0
    for part in parts:
        n = pq.ParquetFile(part).metadata.num_rows
        mine = chosen[(chosen >= first_row) & (chosen < first_row + n)] - first_row
        if len(mine):
            yield from pq.read_table(part).take(mine).to_pylist()
        first_row += n


def _share(n: int, of: int, total: int) -> list[int]:
    """How many of `total` there are, where `n` of a sample of `of` are such; exact for a sample of all."""
    if of >= total:
        return [n, n]
    share = stats.wilson(n, of)
    return [math.floor(share.low * total), math.ceil(share.high * total)]


def _counter(model: Model | None, unknown: list[str], tier: str) -> Any:
    tokens = Tokens.of(model)
    if tokens is not None:
        return lambda texts: [(float(n), float(n)) for n in tokens.counts(texts)]
    unknown.append(f"tokens of the {tier} are estimated from bytes: give {tier}.tokenizer")
    few, many = BYTES_PER_TOKEN[1], BYTES_PER_TOKEN[0]
    return lambda texts: [(len(t.encode()) / few, len(t.encode()) / many) for t in texts]


def _asked(doc: Open, route: Route, work: Work, count: Any) -> Iterable[_Asked]:
    prefix = count([prompts.system(work.policy, route.tier, route.form)])[0]
    for chunk in doc.chunks:
        turns = prompts.messages(work.policy, route.tier, chunk.masked, form=route.form, context=chunk.context)
        prompt, text = count([turns[0]["content"], chunk.masked.text])
        yield _Asked(doc.n, prefix, (prompt[0] + 2 * TURN, prompt[1] + 2 * TURN), text)


def _of_model(
    asked: Sequence[_Asked], sampled: int, scale: float, route: Route, model: Model | None, cfg: Align,
    known: Mapping[str, float] | None, share: Range, unknown: list[str],
) -> dict[str, Any]:  # fmt: skip
    """One model's part: sums over the sample, with the sample's own uncertainty, times what only the model knows."""
    known = known if known and known["answers"] >= KNOWN else None
    tries = (1 + AGAIN[0] * cfg.retries, 1 + AGAIN[1] * cfg.retries)
    low, high = share
    of = _Sums(asked, sampled, scale)
    requests = (of.low(lambda a: 1.0) * tries[0] * low, of.high(lambda a: 1.0) * tries[1] * high)
    prefix = (of.low(lambda a: a.prefix[0]) * tries[0] * low, of.high(lambda a: a.prefix[1]) * tries[1] * high)
    prompt = (of.low(lambda a: a.prompt[0]) * tries[0] * low, of.high(lambda a: a.prompt[1]) * tries[1] * high)
    # Another try carries the refused reply and the complaint as well.
    prompt = (prompt[0], prompt[1] + of.high(lambda a: a.text[1]) * (tries[1] - 1) * high)
    wrote = WRITTEN[route.form]
    completion = (
        of.low(lambda a: a.text[0]) * wrote[0] * tries[0] * low,
        of.high(lambda a: a.text[1]) * wrote[1] * tries[1] * high,
    )
    if known and known.get("completion_tokens"):
        each = known["completion_tokens"] / known["answers"]
        completion = (each * 0.9 * requests[0], each * 1.1 * requests[1])
    hours = _hours(requests, completion, model, known)
    if hours is None:
        unknown.append(f"hours of the {route.tier}: give {route.tier}.tokens_per_second, or run a few documents first")
    money = _money(prefix, prompt, completion, model)
    if money is None:
        unknown.append(f"money of the {route.tier}: give endpoints.price (input, output, cached)")
    gpus = model.gpus if model else None
    return {
        "model": route.backend.identity,
        "requests": _whole(requests),
        "prompt_tokens": _whole((prefix[0] + prompt[0], prefix[1] + prompt[1])),
        "cached_tokens": _whole(prefix),
        "completion_tokens": _whole(completion),
        "money": money,
        "hours": hours,
        "gpu_hours": None if hours is None or gpus is None else [round(h * gpus, 4) for h in hours],
        "basis": f"{int(known['answers']):,} answers in the ledger" if known else "assumed shares",
    }


class _Sums:
    """Totals over the corpus of what sampled documents ask: 95% bootstrap intervals, since few documents ask most."""

    def __init__(self, asked: Sequence[_Asked], sampled: int, scale: float) -> None:
        self.asked, self.sampled, self.scale = asked, max(1, sampled), scale
        draws = np.random.default_rng(0).integers(0, self.sampled, (DRAWS, self.sampled))
        self._times = np.stack([np.bincount(d, minlength=self.sampled) for d in draws])

    def _totals(self, of: Any) -> Any:
        """The sum over the sample, drawn anew DRAWS times, times what the sample stands for."""
        values = np.zeros(self.sampled)
        by: dict[int, float] = defaultdict(float)
        for a in self.asked:
            by[a.document] += of(a)
        values[: len(by)] = list(by.values())
        if self.scale <= 1:  # the sample is the corpus
            return np.array([values.sum()])
        return self._times @ values * self.scale

    def low(self, of: Any) -> float:
        """The lower end."""
        return float(np.quantile(self._totals(of), 0.025))

    def high(self, of: Any) -> float:
        """The upper end."""
        return float(np.quantile(self._totals(of), 0.975))


def _money(prefix: Range, prompt: Range, completion: Range, model: Model | None) -> list[float] | None:
    price = model.endpoints[0].price if model else None
    if price is None or model is None:
        return None
    out = []
    for i in (0, 1):
        usage = {"prompt_tokens": round(prefix[i] + prompt[i]), "completion_tokens": round(completion[i])}
        usage["cached_tokens"] = round(prefix[i]) if i == 0 else 0  # at worst the server has no prefix cache
        out.append(round(cost(usage, price, batch=model.batch), 4))
    return out


def _hours(
    requests: Range, completion: Range, model: Model | None, known: Mapping[str, float] | None
) -> list[float] | None:
    if model is None:
        return None
    per_second = None
    if model.tokens_per_second:
        per_second = [c / model.tokens_per_second for c in completion]
    elif known and known.get("seconds"):
        slots = sum(e.concurrency for e in model.endpoints)
        per_second = [r * known["seconds"] / known["answers"] / slots for r in requests]
    limits = [e.requests_per_minute for e in model.endpoints]
    if all(limits):
        floor = [r / sum(x for x in limits if x) * 60 for r in requests]
        per_second = floor if per_second is None else [max(a, b) for a, b in zip(floor, per_second, strict=True)]
    return None if per_second is None else [round(s / 3600, 4) for s in per_second]


def _known(ledger: Path | None) -> dict[str, dict[str, float]]:
    if ledger is None or not any(Path(ledger).glob("segment-*")):
        return {}
    return dict(llm.stats(ledger)["by"])


def _job(route: Route) -> str:
    return f"{route.backend.identity} / align-{route.name}"


def _whole(of: Range) -> list[int]:
    return [round(of[0]), round(of[1])]


def _total(ranges: Sequence[Sequence[float] | None]) -> list[float] | None:
    if not ranges or any(r is None for r in ranges):
        return None
    return [round(sum(r[i] for r in ranges if r is not None), 4) for i in (0, 1)]


def actual(work: Work, rows: Sequence[Path], ledger: Path) -> dict[str, Any]:
    """What the answers behind these rows were: by tier documents, and by model requests, tokens, money.

    Answers that another run had paid for are in it: it is what this output is made of. `possibly_paid` counts requests
    of the whole ledger that may have been charged without an answer.
    """
    tiers: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    job_tier = {f"align-{r.name}": r for r in work.routes}
    seen: set[str] = set()
    if not any(Path(ledger).glob("segment-*")):
        return {"tiers": {}}
    with llm.Ledger(ledger) as held:
        for path in rows:
            table = pq.read_table(path, columns=["id", "tier", "keys"])
            for doc_id, tier, keys in zip(*(table[k].to_pylist() for k in ("id", "tier", "keys")), strict=True):
                if doc_id in work.given:  # paid for in the stage that it comes from
                    continue
                tiers[tier]["documents"] += 1
                for key in keys or ():
                    record = None if key in seen else held.get(key)
                    seen.add(key)
                    if record is None or record.job not in job_tier:
                        continue
                    route = job_tier[record.job]
                    t = tiers[route.name]
                    t["requests"] += 1
                    for name in ("prompt_tokens", "cached_tokens", "completion_tokens"):
                        t[name] += record.usage.get(name, 0)
                    t["seconds"] += record.seconds
                    model = work.cfg.models().get(route.tier)
                    price = model.endpoints[0].price if model else None
                    if price is not None and model is not None:
                        t["money"] += cost(record.usage, price, batch=model.batch)
    return {
        "tiers": {k: {n: round(v, 4) for n, v in sorted(t.items())} for k, t in sorted(tiers.items())},
        "possibly_paid": llm.stats(ledger)["possibly_paid"],
    }
