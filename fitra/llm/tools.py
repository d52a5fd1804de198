"""What one does with a ledger besides running jobs: count, check, export, import, seal, compact, clean. All of it
streams."""

from __future__ import annotations

import json
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq
import xxhash

from fitra.artifacts import atomic_path
from fitra.errors import FitraError
from fitra.llm import index, lease, segment
from fitra.llm.ledger import Ledger
from fitra.llm.record import Record, pack
from fitra.llm.segment import KEY_BYTES, Damage

SEGMENT_BYTES = 1 << 32  # of segments that compacting writes
KEY_COLUMNS = ("key", "keys", "ledger_key", "ledger_keys")


def _open(path: Path) -> Ledger:
    if not segment.paths(Path(path)):
        raise FitraError(f"{path}: no ledger here.", "A ledger is a folder with files segment-*.log.")
    return Ledger(path)


def stats(path: Path) -> dict[str, Any]:
    """Counts of a ledger: segments, bytes, answers, damage; and answers, tokens and seconds by model and job.

    Keys: segments, sealed, bytes, answers (distinct keys), stored (duplicates counted), damaged (stretches),
    possibly_paid (requests that were on the way when their worker died or lost the connection, so that the provider may
    have charged for them) and of these unanswered (not asked again since),
    by: {"model / job": {answers, prompt_tokens, completion_tokens, seconds, ...}}.
    """
    by: dict[str, Counter[str]] = {}
    answers = repeated = 0
    with _open(path) as ledger:
        lost = _lost(ledger.path)
        for r in ledger.records():
            answers += 1
            repeated += r.maybe_paid
            if lost:
                lost.pop(lease.tag(bytes.fromhex(r.key)), None)
            count = by.setdefault(f"{r.identity} / {r.job}", Counter())
            count["answers"] += 1
            count["seconds"] += r.seconds  # type: ignore[assignment]
            count.update({k: v for k, v in r.usage.items() if isinstance(v, int)})
        files = segment.paths(ledger.path)
        return {
            "segments": len(files),
            "sealed": sum(map(index.is_sealed, files)),
            "bytes": sum(p.stat().st_size for p in files),
            "answers": answers,
            "stored": len(ledger),
            "damaged": len(verify(path)),
            "possibly_paid": repeated + sum(lost.values()),
            "unanswered": sum(lost.values()),
            "by": {k: {n: round(v, 3) for n, v in sorted(c.items())} for k, c in sorted(by.items())},
        }


def _lost(path: Path) -> dict[tuple[int, int], int]:
    if not (path / lease.TABLE).exists():
        return {}
    try:
        leases = lease.Leases(path)
    except OSError:  # we may only read here
        return {}
    try:
        return leases.lost()
    finally:
        leases.close()


def verify(path: Path) -> list[Damage]:
    """Read every byte and check it; the damaged stretches, by segment and offset. An empty list: all is well.

    A 'torn' stretch is what a killed writer left half-written (or what one is writing now) and is repaired by the next
    writer. 'rot' is damage to stored answers: they are skipped and will be asked for again. An index that is not that
    of its segment is 'rot' too; it is not used, and `seal` makes it anew.
    """
    _open(path).close()
    found = []
    for p in segment.paths(Path(path)):
        with p.open("rb") as f:
            damage = [d for d in segment.scan(f.fileno(), p.name) if isinstance(d, Damage)]
            idx = index.index_path(p)
            if idx.exists():
                size = os.fstat(f.fileno()).st_size
                sealed = index.read_index(idx, size)
                if sealed is None or (not damage and sealed.checksum != index.file_checksum(f.fileno())):
                    found.append(Damage(idx.name, 0, idx.stat().st_size, "rot"))
        found += damage
    return found


def export(path: Path, out: Path) -> int:
    """Write all answers, each key once and ordered by key, as JSON lines; returns their number."""
    n = 0
    with _open(path) as ledger, atomic_path(Path(out)) as tmp, tmp.open("w", encoding="utf-8", errors="replace") as f:
        for r in ledger.records():
            f.write(json.dumps(vars(r), ensure_ascii=False) + "\n")
            n += 1
    return n


@dataclass(frozen=True)
class Imported:
    """What `import_` found: `read` answers, of which `added` were new, `known` the same as ours, `differs` another
    answer to a question that ours answers already (ours stays), `refused` ones that are no answers (the first 20 in
    `problems`, as line or key with the reason)."""

    read: int
    added: int
    known: int
    differs: int
    refused: int
    problems: tuple[str, ...]


def import_(path: Path, source: Path, dry_run: bool = False) -> Imported:
    """Add the answers of another ledger, or of a file that `export` wrote, after checking each.

    Nothing that is here is changed. Raises FitraError where `source` is neither, or is a ledger with rot: repair it or
    export what it has. Killed half-way, it may be run again.
    """
    path, source = Path(path), Path(source)
    count: Counter[str] = Counter()
    problems: list[str] = []
    with ExitStack() as stack:
        if source.is_dir():
            rot = [d for d in verify(source) if d.kind == "rot" and d.segment.endswith(".log")]
            if rot:
                where = f"{rot[0].segment}, byte {rot[0].offset:,}"
                raise FitraError(
                    f"{source}: damaged ({len(rot)} places, the first in {where}).", "Export it, then import."
                )
            records: Iterable[Record | str] = stack.enter_context(_open(source)).records()
        elif source.is_file():
            records = _lines(stack.enter_context(source.open("rb")))
        else:
            raise FitraError(f"{source}: no ledger and no file.", "Give a ledger folder, or JSON lines of `export`.")
        ours = stack.enter_context(Ledger(path))
        for n, r in enumerate(records, 1):
            count["read"] += 1
            if isinstance(r, str):
                count["refused"] += 1
                problems.append(f"line {n}: {r}")
                continue
            held = ours.get(r.key)
            if held is not None:
                count["known" if held.text == r.text else "differs"] += 1
                continue
            count["added"] += 1
            if not dry_run:
                ours.put(r)
                if count["added"] % 4096 == 0:
                    ours.flush()
    figures = {k: count[k] for k in ("read", "added", "known", "differs", "refused")}
    return Imported(**figures, problems=tuple(problems[:20]))


def _lines(f: BinaryIO) -> Iterator[Record | str]:
    for line in f:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            yield "no JSON"
            continue
        yield _checked(value)


def _checked(value: Any) -> Record | str:
    """An answer from foreign JSON, or why it is none."""
    if not isinstance(value, dict) or not {"key", "text"} <= set(value):
        return "no object with key and text"
    if unknown := set(value) - {f.name for f in fields(Record)}:
        return f"unknown field {min(unknown)!r}"
    key, usage = value["key"], value.get("usage", {})
    if not (isinstance(key, str) and len(key) == 2 * KEY_BYTES and set(key) <= set("0123456789abcdef")):
        return f"a key has {2 * KEY_BYTES} hex digits"
    if not all(isinstance(value.get(k, ""), str) for k in ("text", "finish_reason", "identity", "job")):
        return "text, finish_reason, identity or job is no text"
    if not (isinstance(usage, dict) and all(type(n) is int for n in usage.values())):
        return "usage holds something else than numbers"
    if not all(type(value.get(k, 0)) in (int, float) for k in ("at", "seconds")):
        return "at or seconds is no number"
    if not all(type(value.get(k, 0)) is int for k in ("attempts", "maybe_paid")):
        return "attempts or maybe_paid is no whole number"
    try:
        value["text"].encode()
        record = Record(**value)
        pack(record)
    except ValueError:
        return "a text that cannot be stored"
    return record


def seal(path: Path) -> list[str]:
    """Seal all segments that nobody is writing to; the names of those sealed now. Afterwards they can be copied."""
    done = []
    _open(path).close()
    for p in segment.paths(Path(path)):
        if index.is_sealed(p) and index.read_index(index.index_path(p), p.stat().st_size):
            continue
        fd = segment.lock(p)
        if fd is None:
            continue
        try:
            segment.repair(fd)
            index.seal(p, fd)
            done.append(p.name)
        finally:
            os.close(fd)
    return done


def compact(path: Path) -> dict[str, int]:
    """Rewrite all segments as sealed ones ordered by key, without duplicates and damage.

    FitraError while another process writes. Safe to kill: a new segment appears whole, and the old ones go when all are
    there; in between answers are merely stored twice. Returns {"before": bytes, "after": bytes, "answers": number}.
    """
    report = _rewrite(Path(path), lambda r: True)
    return {k: report[k] for k in ("before", "after", "answers")}


def gc(
    path: Path, *, used: Iterable[str] | None = None, older_than: float | None = None, dry_run: bool = True
) -> dict[str, Any]:
    """Drop answers that are not among `used` (keys, see `keys_of`), or that were stored before `older_than` (unix
    seconds); with both, those to which both apply. A dry run only says what would go.

    Returns {"answers", "dropped": numbers, "bytes": freed, "dry_run", "by": {"model / job": dropped}, "tokens": paid
    for what goes}; what was dropped will be paid for again when it is asked again. FitraError without a condition, and
    while another process writes.
    """
    if used is None and older_than is None:
        raise FitraError("gc: neither used keys nor an age is given.", "Say what may go: runs that stay, or an age.")
    keys = None if used is None else {bytes.fromhex(k)[:16] for k in used}
    by: Counter[str] = Counter()
    tokens = freed = 0

    def stays(r: Record) -> bool:
        nonlocal tokens, freed
        if keys is not None and bytes.fromhex(r.key)[:16] in keys:
            return True
        if older_than is not None and r.at >= older_than:
            return True
        by[f"{r.identity} / {r.job}"] += 1
        tokens += r.usage.get("total_tokens") or r.usage.get("prompt_tokens", 0) + r.usage.get("completion_tokens", 0)
        freed += len(pack(r))
        return False

    if dry_run:
        with _open(Path(path)) as ledger:
            total = sum(1 for r in ledger.records() if stays(r))
    else:
        report = _rewrite(Path(path), stays)
        total, freed = report["answers"], report["before"] - report["after"]
    dropped = sum(by.values())
    figures = {"answers": total + dropped, "dropped": dropped, "bytes": freed, "dry_run": dry_run}
    return {**figures, "by": dict(sorted(by.items())), "tokens": tokens}


def keys_of(runs: Iterable[Path]) -> set[str]:
    """The ledger keys that runs used: of all parquet and jsonl files in these folders (or of these files) the fields
    key, keys, ledger_key and ledger_keys. FitraError for a run that names none: cleaning by it would drop everything.
    """
    found: set[str] = set()
    for run in map(Path, runs):
        files = [run] if run.is_file() else sorted(run.rglob("*.parquet")) + sorted(run.rglob("*.jsonl"))
        mine: set[str] = set()
        for p in files:
            mine |= {k for k in _keys_in(p) if len(k) == 2 * KEY_BYTES}
        if not mine:
            raise FitraError(f"{run}: no ledger keys in it.", "Give folders of runs whose rows name their answers.")
        found |= mine
    return found


def _keys_in(p: Path) -> Iterator[str]:
    if p.suffix == ".parquet":
        with pq.ParquetFile(p) as f:
            columns = [c for c in KEY_COLUMNS if c in f.schema_arrow.names]
            rows: Iterable[Any] = (r for b in f.iter_batches(4096, columns=columns) for r in b.to_pylist())
            yield from _keys_of_rows(rows if columns else ())
    else:
        with p.open("rb") as lines:
            yield from _keys_of_rows(json.loads(line) for line in lines if line.strip())


def _keys_of_rows(rows: Iterable[Any]) -> Iterator[str]:
    for row in rows:
        for c in KEY_COLUMNS if isinstance(row, dict) else ():
            value = row.get(c)
            yield from [value] if isinstance(value, str) else [k for k in value or () if isinstance(k, str)]


def _rewrite(path: Path, stays: Callable[[Record], bool]) -> dict[str, int]:
    _open(path).close()
    with ExitStack() as stack:
        old = segment.paths(path)
        for p in old:
            fd = segment.lock(p)
            if fd is None:
                raise FitraError(f"{p}: another process is writing here.", "Compact when no run uses this ledger.")
            stack.callback(os.close, fd)
        before = sum(p.stat().st_size for p in old)
        number = int(old[-1].name[8:14])
        after = n = 0
        # Opened only now: a writer may have added answers before all was locked.
        with Ledger(path) as ledger:
            records = (r for r in ledger.records() if stays(r))
            r = next(records, None)
            while r is not None:
                number += 1
                # The letter keeps the name apart from any that a new writer may choose meanwhile.
                r, size, held = _write_sealed(path / f"segment-{number:06d}c.log", r, records)
                after, n = after + size, n + held
        for p in old:
            p.unlink()
            index.index_path(p).unlink(missing_ok=True)
        return {"before": before, "after": after, "answers": n}


def _write_sealed(new: Path, r: Record | None, more: Iterator[Record]) -> tuple[Record | None, int, int]:
    """One sealed segment of `r` and what follows; the answer that did not fit, the bytes and number of those in it."""
    keys, offsets, size, h = array("Q"), array("Q"), 0, xxhash.xxh64()
    with atomic_path(new) as tmp:
        with tmp.open("wb") as f:
            while r is not None and size < SEGMENT_BYTES:
                frame = pack(r)
                f.write(frame)
                h.update(frame)
                keys.append(index.short(bytes.fromhex(r.key[:16])))
                offsets.append(size)
                size += len(frame)
                r = next(more, None)
        index.write_index(index.index_path(new), keys, offsets, size, h.intdigest())
    return r, size, len(keys)
