"""What becomes of documents: triage, the rules, what the models made of their chunks, one row each.

`begin` decides all that needs no model; a document that needs one stays open until its chunks are settled (`finish`).
A failing rewriter or gate is never a pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fitra import policy
from fitra.align import gates, human, masking, prompts, rewrite, rules, triage
from fitra.align.models import judge, routes
from fitra.artifacts import canonical_json, worst_licence
from fitra.errors import FitraError
from fitra.llm import Backend
from fitra.llm.tokens import Tokens
from fitra.recipe import Align
from fitra.signals import contamination, toxicity

__all__ = ["Document", "Open", "Row", "Work", "begin", "finish", "refuse"]

Document = Mapping[str, Any]
Row = dict[str, Any]
_ROWS_FAULT = (masking.MaskError, ValueError, KeyError, IndexError, RecursionError)


class Work:
    """What every document needs: policy, compiled rules, verses, models, evaluation sets."""

    def __init__(
        self, cfg: Align, backends: Mapping[str, Backend] | None = None, index: contamination.Index | None = None
    ) -> None:
        self.cfg, self.index = cfg, index
        self.given: Mapping[str, Row] = {}  # rows of an earlier stage, by id
        self.policy = policy.load(cfg.policy, cfg.packs)
        self.rules = rules.compile_rules(self.policy)
        self.verses = masking.load_verses(cfg.quran)
        self.human = human.read(cfg.human, self.policy.hash) if cfg.human else human.Edits()
        self.routes, self.judge = routes(cfg, backends), judge(cfg, backends)
        self.tokens = None
        if cfg.chunk_tokens and self.routes:
            self.tokens = Tokens.of(cfg.models()[self.routes[0].tier])
            if self.tokens is None:
                raise FitraError("align: chunk_tokens without a tokenizer.", "Give worker.tokenizer: its folder.")
        # By tier: what wrote it, and with what prompts.
        self.writers = {"rules": ("rules", "")} | {
            r.name: (r.backend.identity, prompts.fingerprint(self.policy, r.tier, r.form)) for r in self.routes
        }


@dataclass
class _Seen:
    """A document with what the rules make of it."""

    n: int
    doc: Document
    masked: masking.Masked
    made: rules.Rewrite
    need: triage.Need | None = None


@dataclass
class _Candidate:
    """What the rules made of a document, on its way to the gates."""

    text: str
    rules: tuple[str, ...]
    pair: gates.Pair


@dataclass
class Open:
    """A document whose chunks are with a model; `n` is its place among those it began with."""

    n: int
    seen: _Seen
    chunks: list[rewrite.Chunk]
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.chunks)


def begin(docs: Sequence[Document], work: Work) -> tuple[list[Row | None], list[Open]]:
    """Rows of the documents in their order, None for those that wait for a model."""
    rows: list[Row | None] = [None] * len(docs)
    seen: list[_Seen] = []
    edited: list[tuple[int, Document, human.Edit]] = []
    for n, doc in enumerate(docs):
        if (edit := work.human.of.get(doc["id"])) and human.fits(edit, doc["text"] or ""):
            edited.append((n, doc, edit))
            continue
        if (held := work.given.get(doc["id"])) and held["original"] == (doc["text"] or ""):
            rows[n] = dict(held)
            continue
        if doc["lang"] not in work.cfg.languages:
            rows[n] = _row(doc, None, doc["text"] or "", "unchanged", "language: not asked for", "untouched", work)
            continue
        try:
            masked = masking.mask(doc["text"] or "", work.verses)
            seen.append(_Seen(n, doc, masked, rules.apply(masked, work.rules)))
        except _ROWS_FAULT as e:
            rows[n] = _refused(doc, None, None, f"rewriter: {type(e).__name__}: {e}", [], "rules", work)
    for (n, *_), row in zip(edited, _by_human([(doc, edit) for _, doc, edit in edited], work), strict=True):
        rows[n] = row
    texts = [s.doc["text"] or "" for s in seen]
    needs = triage.assign(texts, [s.masked for s in seen], work.rules, work.policy, [s.made for s in seen])
    opened: list[Open] = []
    candidates: list[tuple[_Seen, _Candidate]] = []
    for s, need in zip(seen, needs, strict=True):
        s.need = need
        try:
            got = _triaged(s, work)
        except _ROWS_FAULT as e:
            got = _refused(s.doc, s.masked, None, f"rewriter: {type(e).__name__}: {e}", [], "rules", work)
        if isinstance(got, Open):
            opened.append(got)
        elif isinstance(got, _Candidate):
            candidates.append((s, got))
        else:
            rows[s.n] = got
    for (s, _), row in zip(candidates, _by_rules(candidates, work), strict=True):
        rows[s.n] = row
    return rows, opened


def _triaged(s: _Seen, work: Work) -> Row | Open | _Candidate:
    assert s.need is not None
    if s.need.tier == "drop":
        why = ", ".join(r for r in s.made.rules if r != "format") or "empty"
        return _row(s.doc, s.masked, "", "drop", f"nothing left: {why}", "drop", work)
    # Personal data alone is no reason to send a text anywhere: cleaning the corpus masks it.
    asks = s.need.tier == "model" and s.need.reasons != ("personal",)
    if work.routes and (asks or work.cfg.triage == "all"):
        cfg = work.cfg
        pieces = rewrite.split(
            s.doc["id"], s.masked, work.rules, cfg.chunk_chars, made=s.made,
            tokens=work.tokens.count if work.tokens else None, most_tokens=cfg.chunk_tokens, context=cfg.context_chars,
        )  # fmt: skip
        return Open(s.n, s, pieces)
    return _candidate(s, work) or _as_it_is(s, work)


def _as_it_is(s: _Seen, work: Work) -> Row:
    """The rules change nothing."""
    heading = _unsafe(s.masked.text, work)
    if heading:
        why = f"unsafe ({heading}), no rule applies"
        return _row(s.doc, s.masked, None, "quarantine", why, "rules", work)
    why = "nothing to change"
    if s.need and s.need.tier == "model":
        why += f", though it needs a model ({', '.join(s.need.reasons)})"
    return _row(s.doc, s.masked, s.doc["text"] or "", "unchanged", why, "untouched", work)


def _candidate(s: _Seen, work: Work) -> _Candidate | None:
    """What the rules made, for the gates; None where that is the text itself."""
    text = s.doc["text"] or ""
    gone = {int(m[1]) for r in s.made.removed for m in masking.PLACEHOLDER.finditer(r.text)}
    stay = [i for i in range(len(s.masked.spans)) if i not in gone]
    final = masking.unmask(s.made.text, s.masked, stay)
    if final == text:
        return None
    pair = gates.Pair(
        text,
        final,
        [rewrite.reveal(r.text, s.masked) for r in s.made.removed],
        [safe for _, safe in work.rules.unsafe if safe in final and safe not in text],
        [s.masked.spans[i] for i in stay],
    )
    return _Candidate(final, tuple(s.made.rules), pair)


def _by_rules(candidates: Sequence[tuple[_Seen, _Candidate]], work: Work, before: str = "") -> list[Row]:
    """Rows of what the rules made, judged together; `before` says what was tried first."""
    verdicts = gates.judge_all([c.pair for _, c in candidates], work.policy, work.verses, work.index)
    out = []
    for (s, made), found in zip(candidates, verdicts, strict=True):
        if problem := gates.complaint(found):
            state = gates.outcome(found, work.policy).state
            out.append(_refused(s.doc, s.masked, made.text, f"{before}gates: {problem}", found, "rules", work, state))
        elif heading := _unsafe_text(made.text, work):
            why = f"{before}unsafe ({heading}), still so after the rules"
            out.append(_row(s.doc, s.masked, made.text, "quarantine", why, "rules", work, found))
        else:
            why = before + ", ".join(made.rules)
            out.append(_row(s.doc, s.masked, made.text, "accept", why, "rules", work, found))
    return out


def _by_human(given: Sequence[tuple[Document, human.Edit]], work: Work) -> list[Row]:
    """Rows of what people made: the same spans and gates as for a model, but for what they overruled with a reason."""
    out: list[Row] = []
    asked: list[tuple[int, masking.Masked, list[int], gates.Pair]] = []
    for doc, edit in given:
        text = doc["text"] or ""
        try:
            masked = masking.mask(text, work.verses)
            made = rules.apply(masked, work.rules)
        except _ROWS_FAULT as e:
            why = f"human refused: {type(e).__name__}: {e}"
            out.append(_refused(doc, None, edit.rewrite, why, [], "human", work))
            continue
        if edit.decision == "reject":
            row = _refused(doc, masked, edit.rewrite or None, edit.why, [], "human", work)
        elif not edit.rewrite.strip():
            row = _row(doc, masked, "", "drop", edit.why, "human", work)
        elif (heading := _unsafe_text(edit.rewrite, work)) and human.UNSAFE not in edit.overrules:
            why = f"human refused: unsafe ({heading})"
            row = _row(doc, masked, edit.rewrite, "quarantine", why, "human", work)
        elif edit.rewrite == text:
            row = _row(doc, masked, text, "unchanged", _why_of(edit, heading), "human", work)
        else:
            row = _row(doc, masked, edit.rewrite, "accept", _why_of(edit, heading), "human", work)
            # As for a model: what the rules would take out may go, all other spans stay.
            there = {int(m[1]) for m in masking.PLACEHOLDER.finditer(masking.again(edit.rewrite, masked))}
            free = {int(m[1]) for r in made.removed for m in masking.PLACEHOLDER.finditer(r.text)}
            stay = [i for i in range(len(masked.spans)) if i in there or i not in free]
            gone = [rewrite.reveal(r.text, masked) for r in made.removed]
            added = [safe for _, safe in work.rules.unsafe if safe in edit.rewrite and safe not in text]
            pair = gates.Pair(text, edit.rewrite, gone, added, [masked.spans[i] for i in stay])
            asked.append((len(out), masked, stay, pair))
        out.append(row | {"rewriter": f"human:{edit.reviewer}"})
    found = gates.judge_all([pair for *_, pair in asked], work.policy, work.verses, work.index)
    for (n, masked, stay, pair), verdicts in zip(asked, found, strict=True):
        doc, edit = given[n]
        said, standing = human.settle(edit, masked, stay, verdicts)
        if standing:
            state = gates.outcome(standing, work.policy).state
            why = f"human refused: gates: {gates.complaint(standing)}"
            row = _refused(doc, masked, pair.rewrite, why, said, "human", work, state)
            out[n] = row | {"rewriter": out[n]["rewriter"]}
        else:
            out[n]["verdicts"] = canonical_json([v.as_dict() for v in said])
    return out


def _why_of(edit: human.Edit, heading: str) -> str:
    return edit.why + (f"; unsafe ({heading}) overruled: {edit.overrules[human.UNSAFE]}" if heading else "")


def finish(open_: Open, work: Work) -> Row:
    """The row of a document whose chunks are all settled: a refused chunk keeps its original text."""
    s, group = open_.seen, open_.chunks
    keys = [k for c in group for k in c.keys]
    text = "".join(c.original if c.text is None else c.text for c in group)
    refused = [c for c in group if c.text is None]
    tier = _highest([c.tier for c in group if c.text is not None] or [c.tier for c in group], work)
    verdicts = [v for c in group for v in c.verdicts]
    graver = {c.outcome for c in refused} & {"quarantine", "drop"}
    if len(refused) == len(group) or graver:
        why = _why(next(c for c in refused if not graver or c.outcome in graver).problem)
        state = "drop" if "drop" in graver else "quarantine" if graver else "keep_original"
        made = None if graver else _candidate(s, work)
        if made is not None:  # no model could: what the rules repair is repaired
            return _by_rules([(s, made)], work, f"{tier} refused ({why}); ")[0] | {"keys": keys}
        attempt = "".join(c.attempt or c.original for c in group) if any(c.attempt for c in group) else None
        return _refused(s.doc, s.masked, attempt, why, verdicts, tier, work, state) | {"keys": keys}
    kept = f"{len(refused)} of {len(group)} chunks kept" if refused else ""
    if not text.strip():
        row = _row(s.doc, s.masked, "", "drop", f"nothing left: {tier}", tier, work, verdicts)
    elif heading := _unsafe_text(text, work):
        why = f"unsafe ({heading}), still so after rewriting"
        row = _row(s.doc, s.masked, text, "quarantine", why, tier, work, verdicts)
    elif text == s.doc["text"]:
        why = "no change by the model" + (f", {kept}" if kept else "")
        row = _row(s.doc, s.masked, text, "unchanged", why, tier, work, verdicts)
    else:
        row = _row(s.doc, s.masked, text, "accept", "model" + (f": {kept}" if kept else ""), tier, work, verdicts)
    return row | {"keys": keys}


def _highest(tiers: Sequence[str], work: Work) -> str:
    order = [r.name for r in work.routes]
    return max(tiers, key=order.index)


def _why(problem: str) -> str:
    return (
        f"rewriter: {problem}"
        if problem.startswith(("request:", "parse:", "render:", "check:"))
        else f"gates: {problem}"
    )


def _unsafe(masked: str, work: Work) -> str:
    """The safety heading under which a masked text is unsafe; '' for none."""
    scores = toxicity.score(masking.PLACEHOLDER.sub(" ", masked))
    level, heading = max((scores[h], h) for h in toxicity.SAFETY_HEADINGS)
    return heading if level >= work.policy.unsafe else ""


def _unsafe_text(text: str, work: Work) -> str:
    """The same of a plain text, protected spans aside. Only what scores at all is masked for it."""
    scores = toxicity.score(text)
    if max(scores[h] for h in toxicity.SAFETY_HEADINGS) < work.policy.unsafe:
        return ""
    return _unsafe(masking.mask(text, work.verses).text, work)


def _refused(
    doc: Document, masked: masking.Masked | None, attempt: str | None, why: str, verdicts: Sequence[gates.Verdict],
    tier: str, work: Work, state: str = "keep_original",
) -> Row:  # fmt: skip
    """No rewrite was accepted: an unsafe original may not go on, any other stays as it is."""
    heading = _unsafe(masked.text, work) if masked else _unsafe_text(doc["text"] or "", work)
    if heading and state == "keep_original":
        return _row(doc, masked, attempt, "quarantine", f"unsafe ({heading}), {why}", tier, work, verdicts)
    return _row(doc, masked, attempt, state, why, tier, work, verdicts)


def refuse(
    doc: Document, attempt: str | None, why: str, verdicts: Sequence[gates.Verdict], tier: str, work: Work, state: str
) -> Row:  # fmt: skip
    """The row of a document whose rewrite was refused after all; `state` is what the policy says of it."""
    masked = masking.mask(doc["text"] or "", work.verses)
    return _refused(doc, masked, attempt, why, verdicts, tier, work, state)


def _row(
    doc: Document, masked: masking.Masked | None, text: str | None, state: str, reason: str, tier: str, work: Work,
    verdicts: Sequence[gates.Verdict] = (),
) -> Row:  # fmt: skip
    spans = [[*at, kind] for at, kind in zip(masked.places, masked.kinds, strict=True)] if masked else []
    writer, prompt = work.writers.get(tier, ("", ""))
    return {
        "id": doc["id"], "lang": doc["lang"], "original": doc["text"] or "", "rewrite": text, "state": state,
        "reason": reason, "tier": tier, "rewriter": writer, "policy_id": work.policy.id,
        "policy_hash": work.policy.hash, "prompt_hash": prompt,
        "verdicts": canonical_json([v.as_dict() for v in verdicts]),
        "licence_class": worst_licence([doc["licence_class"]]), "spans": canonical_json(spans), "keys": [],
    }  # fmt: skip
