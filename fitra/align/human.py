"""Edits by people: rows to be judged go out, judged rows come back and stand beside what a model wrote.

`export` writes documents of an align stage with what was proposed for them; a reviewer fills in `decision` (and, where
the text is to be another one, `rewrite`), and `read` takes the file back. An edit counts only for the very text that
the reviewer saw: a document whose original is another one by now is not touched by it. What a person wrote passes the
same protected spans and gates as what a model wrote; a gate may be overruled with a reason, which is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from fitra import tables
from fitra.align import masking
from fitra.align.figures import Lowest, batches
from fitra.align.gates import Verdict
from fitra.artifacts import atomic_path, canonical_json, write_parquet
from fitra.errors import FitraError

__all__ = ["DECISIONS", "NEVER", "REVIEW_SCHEMA", "UNSAFE", "Edit", "Edits", "export", "fits", "read", "settle"]

DECISIONS = ("accept", "edit", "reject")
# What a page shows, then what a reviewer fills in. `rewrite` comes filled with the proposal, where there is one.
REVIEW_SCHEMA = pa.schema(
    [(k, pa.string()) for k in ("id", "lang", "state", "tier", "reason", "original", "original_hash")]
    + [(k, pa.string()) for k in ("refused", "spans", "policy_id", "policy_hash")]  # refused, spans: JSON
    + [(k, pa.string()) for k in ("rewrite", "decision", "reviewer", "note", "overrules")]  # overrules: JSON object
)
STATES = ("accept", "keep_original", "quarantine")
UNSAFE = "unsafe"  # may be overruled like a gate: the policy's level for a text that must not go on
# Evaluation sets are kept out of a corpus whoever wrote the text; scripture is kept by its kind.
NEVER = frozenset(["benchmark"])
SCRIPTURE = frozenset(["quran", "hadith"])
_COLUMNS = ["id", "lang", "original", "rewrite", "state", "tier", "reason", "policy_id", "policy_hash", "verdicts",
            "spans"]  # fmt: skip
_MOST = 4000  # characters of a note or reason


@dataclass(frozen=True)
class Edit:
    """What a person decided about one document; `overrules` are gates with the reason why each does not count."""

    id: str
    original_hash: str
    decision: str
    rewrite: str
    reviewer: str
    note: str = ""
    overrules: Mapping[str, str] = field(default_factory=dict)
    where: str = ""

    @property
    def why(self) -> str:
        """For the row: who, and the note."""
        return f"human {self.decision}: {self.reviewer}" + (f"; {self.note}" if self.note else "")


@dataclass
class Edits:
    """A file of edits: those that may be used by document, and rows set aside (id, where, reason)."""

    of: dict[str, Edit] = field(default_factory=dict)
    aside: list[dict[str, str]] = field(default_factory=list)
    pending: int = 0  # rows without a decision


def hash_of(text: str) -> str:
    """SHA-256 (hex) of a text's UTF-8: the name of what a reviewer saw."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def fits(edit: Edit, text: str) -> bool:
    """Was this the text that the reviewer saw?"""
    return edit.original_hash == hash_of(text)


def read(path: str | Path, policy_hash: str) -> Edits:
    """Read a parquet or jsonl file of edits (columns of REVIEW_SCHEMA from `id` on, others are ignored).

    Rows that cannot be used are set aside with the reason, each harming no other: judged under another policy, no
    reviewer, an unknown decision, two that do not agree about one document. Raises FitraError for a file that cannot be
    read at all.
    """
    out = Edits()
    found: dict[str, list[Edit]] = {}
    for batch in tables.read(path, text="id", ident="id"):
        out.aside += batch.bad
        for row in batch.rows:
            if row.get("decision") in (None, ""):
                out.pending += 1
                continue
            try:
                edit = _edit(row, policy_hash)
            except ValueError as e:
                out.aside.append({"id": str(row["id"]), "where": str(row["_where"]), "reason": str(e)})
                continue
            found.setdefault(edit.id, []).append(edit)
    for ident, edits in found.items():
        if len({(e.original_hash, e.decision == "reject", e.rewrite) for e in edits}) > 1:
            who = ", ".join(sorted({e.reviewer for e in edits}))
            reason = f"{len(edits)} edits of this document do not agree ({who})"
            out.aside += [{"id": ident, "where": e.where, "reason": reason} for e in edits]
        else:
            out.of[ident] = edits[0]
    return out


def _edit(row: Mapping[str, Any], policy_hash: str) -> Edit:
    """An edit, or ValueError with what is wrong with the row."""
    got = {k: row.get(k) for k in ("original_hash", "decision", "rewrite", "reviewer", "note", "policy_hash")}
    for key, value in got.items():
        if value is not None and not isinstance(value, str):
            raise ValueError(f"'{key}' is a {type(value).__name__}, not a string")
        if value is not None and any("\ud800" <= c <= "\udfff" for c in value):
            raise ValueError(f"'{key}' is not UTF-8")
    decision, text = got["decision"], got["rewrite"]
    reviewer, note = (" ".join((got[k] or "").split()) for k in ("reviewer", "note"))
    if decision not in DECISIONS:
        raise ValueError(f"decision '{str(decision)[:40]}' is none of {', '.join(DECISIONS)}")
    if not reviewer:
        raise ValueError("no reviewer")
    if len(note) > _MOST or len(reviewer) > 200:
        raise ValueError(f"a note of more than {_MOST} characters, or a reviewer of more than 200")
    if got["policy_hash"] != policy_hash:
        raise ValueError(f"judged under another policy ({(got['policy_hash'] or 'none')[:12]})")
    if decision != "reject" and text is None:
        raise ValueError(f"{decision} without a text: 'rewrite' is null")
    if decision != "reject" and not (text or "").strip() and not note:
        raise ValueError("an empty text drops the document: say why in 'note'")
    return Edit(
        str(row["id"]), got["original_hash"] or "", decision, text or "", reviewer, note,
        _overrules(row.get("overrules")), str(row["_where"]),
    )  # fmt: skip


def _overrules(value: Any) -> dict[str, str]:
    """{gate: reason}, given as an object or as JSON of one."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError("'overrules' is not JSON") from None
    if not value:
        return {}
    if not isinstance(value, dict):
        raise ValueError("'overrules' is no object of gates and reasons")
    out = {}
    for gate, reason in value.items():
        if reason is None:  # a parquet struct has every key
            continue
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(f"'{str(gate)[:40]}' is overruled without a reason")
        if gate in NEVER or len(reason) > _MOST:
            raise ValueError(f"'{str(gate)[:40]}' cannot be overruled" + " so wordily" * (gate not in NEVER))
        out[str(gate)] = " ".join(reason.split())
    return out


def settle(
    edit: Edit, masked: masking.Masked, stay: Sequence[int], verdicts: Sequence[Verdict]
) -> tuple[list[Verdict], list[Verdict]]:
    """(verdicts for the row, those of them that stand against the edit).

    The gate on protected spans also refuses letters put right against one. An overruled verdict stays a refusal, with
    reviewer and reason; scripture cannot be overruled.
    """
    problem = _spans(edit.rewrite, masked, stay)
    lost = {masked.kinds[i] for i in stay if masked.spans[i] not in edit.rewrite}
    said, standing = [], []
    for v in verdicts:
        if v.gate == "protected" and v.passed and problem:
            v = Verdict(v.gate, False, 1.0, v.threshold, problem)
        if not v.passed:
            reason = edit.overrules.get(v.gate)
            if reason is None or v.gate in NEVER or (v.gate == "protected" and lost & SCRIPTURE):
                standing.append(v)
            else:
                detail = f"{v.detail}; overruled by {edit.reviewer}: {reason}".removeprefix("; ")
                v = Verdict(v.gate, v.passed, v.figure, v.threshold, detail)
        said.append(v)
    return said, standing


def _spans(text: str, masked: masking.Masked, stay: Sequence[int]) -> str:
    """What is wrong with the protected spans of a text that a person wrote; '' where nothing is."""
    try:
        masking.unmask(masking.again(text, masked), masked, stay)
    except masking.MaskError as e:
        return str(e)
    return ""


def aside(edits: Edits, rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """All that was not used of a file of edits, with the reason; `rows` are the rows of its documents by id."""
    out = list(edits.aside)
    for ident, edit in edits.of.items():
        row = rows.get(ident)
        why = ""
        if row is None:
            why = "no document with this id and the text that was judged"
        elif not fits(edit, row["original"]):
            why = "the original has changed since it was judged"
        elif row["reason"].startswith("human refused"):
            why = row["reason"]
        if why:
            out.append({"id": ident, "where": edit.where, "reason": why})
    return sorted(out, key=lambda a: (a["where"], a["id"]))


def export(
    stage: Path, out: Path, *, states: Iterable[str] = STATES, documents: int | None = None, seed: int = 0
) -> int:
    """Write documents of an align stage for people to judge, as REVIEW_SCHEMA, sorted by id; returns how many.

    `documents` draws so many evenly by a hash of the id. The file is parquet or jsonl by its name. What was refused
    comes with the attempt and the gates that refused it. Raises FitraError for a folder without rows, an unknown state
    or another kind of file.
    """
    chosen = tuple(states)
    if unknown := set(chosen) - {*STATES, "unchanged", "drop"}:
        raise FitraError(f"no state '{min(unknown)}'.", f"One of {', '.join(STATES)}, unchanged, drop.")
    if out.suffix not in (".parquet", ".jsonl"):
        raise FitraError(f"{out}: unknown kind of file.", "Give a name that ends in .parquet or .jsonl.")
    held = Lowest(documents if documents is not None else 1 << 62, f"review {seed}")
    for batch in batches(stage, _COLUMNS):
        state = batch["state"].to_pylist()
        for i, ident in enumerate(batch["id"].to_pylist()):
            at = held.rank(str(ident)) if state[i] in chosen else None
            if at is not None:
                held.add(str(ident), at, {k: v[i].as_py() for k, v in batch.items()})
    rows = sorted((_shown(r) for r in held.rows), key=lambda r: str(r["id"]))
    if out.suffix == ".parquet":
        write_parquet(out, pa.Table.from_pylist(rows, REVIEW_SCHEMA))
    else:
        with atomic_path(out) as tmp, tmp.open("w", encoding="utf-8") as f:
            f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    return len(rows)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    original = row["original"] or ""
    try:
        refused = [v for v in json.loads(row["verdicts"] or "[]") if isinstance(v, dict) and v.get("passed") is False]
    except ValueError:
        refused = []
    gates = [{k: v.get(k) for k in ("gate", "figure", "threshold", "detail")} for v in refused]
    blank = dict.fromkeys(REVIEW_SCHEMA.names)
    kept = {k: row[k] for k in _COLUMNS if k not in ("original", "verdicts")}
    return blank | kept | {
        "original": original, "original_hash": hash_of(original), "refused": canonical_json(gates),
    }  # fmt: skip
