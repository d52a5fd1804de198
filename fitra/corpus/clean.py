"""Cleaning, in steps that each leave files and are not done twice.

1. Shards of the input are read, labelled and judged, by worker processes or on a cluster (`shards`). 2. Their keys are
compared (`dedupe`). 3. Rows are dealt to parts sorted by id (`deal`). In memory at once: a batch or a part in each
worker; in the driver the ids and one column of hashes of all documents.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fitra import arabic, engine, tables
from fitra.artifacts import Stage, open_stage, read_manifest, worst_licence, write_parquet
from fitra.corpus import deal, decontaminate, dedupe, lines, shards
from fitra.corpus.keys import Keys
from fitra.errors import FitraError
from fitra.progress import track
from fitra.recipe import Corpus, Source
from fitra.signals import data_hash

VERSION = 3
STAGE = "corpus"
MANY_PARTS = 3
SMALL_BYTES = 4 << 20  # of input: less is done in this process


def clean(cfg: Corpus, out: Path) -> dict[str, Any]:
    """Clean `cfg.inputs` into `out`/documents and `out`/removed; the manifest.

    Every row read ends in exactly one place: documents + removed + quarantined = read + split_added (the pieces of
    split documents beyond the first). Killed and run again, it goes on with the shards that are not done. Raises
    FitraError for missing or unreadable inputs, and for a text column that is not there.
    """
    if not cfg.inputs:
        raise FitraError("the corpus has no inputs.", "Give corpus.inputs in the recipe, or files on the command line.")
    found = [tables.find(source.path) for source in cfg.inputs]
    sources = [(source, f.files) for source, f in zip(cfg.inputs, found, strict=True)]
    files = [f for _, listed in sources for f in listed]
    local = [Path(f) for f in files if "://" not in f.path]
    # Where the work is done never changes a result.
    settings: dict[str, Any] = {"corpus": cfg.model_dump(mode="json", exclude={"engine"})}
    if cfg.labels:
        settings["signals"] = data_hash()
    if remote := [tables.identity(f) for f in files if "://" in f.path]:
        settings["remote"] = remote
    inputs: dict[str, Sequence[Path]] = {"inputs": local}
    if cfg.contamination.benchmarks:
        inputs["benchmarks"] = [Path(b.path) for b in cfg.contamination.benchmarks]
    if cfg.dedupe.against:
        inputs["against"] = [Path(p) for p in cfg.dedupe.against]
    version = VERSION * 1000 + int(arabic.FOLD_VERSION)
    with open_stage(Path(out), stage=STAGE, config=settings, inputs=inputs, version=version) as st:
        if st.done:
            return read_manifest(Path(out))
        if ignored := sorted({name for f in found for name in f.ignored}):
            st.notes["ignored"] = {"files": sum(len(f.ignored) for f in found), "first": ignored[:10]}
        return _clean(cfg, sources, st)


def _clean(cfg: Corpus, sources: list[tuple[Source, list[tables.File]]], st: Stage) -> dict[str, Any]:
    out = st.out.resolve()
    work = out / ".work"
    mark = work / "fingerprint"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != st.fingerprint:
        for name in (".work", "documents", "removed", "index"):
            shutil.rmtree(out / name, ignore_errors=True)
        work.mkdir(parents=True)
        mark.write_text(st.fingerprint, encoding="utf-8")
    tasks = _tasks(cfg, sources, work)
    earlier = _earlier(cfg, work, len(tasks))
    small = sum(s.size for t in [*tasks, *earlier] for s in t.splits) < SMALL_BYTES
    with engine.Pool(cfg.engine, inline=small) as pool:
        pool.start(len(tasks))
        return _work(cfg, st, work, tasks, earlier, _Runner(pool))


def _work(
    cfg: Corpus, st: Stage, work: Path, tasks: list[shards.Task], earlier: list[shards.Task], say: _Runner
) -> dict[str, Any]:
    out = work.parent
    counts: Counter[str] = Counter(dict.fromkeys(("read", "split_added", "kept", "removed"), 0))
    index = decontaminate.write_index(cfg.contamination, work) if cfg.contamination.benchmarks else None
    if cfg.dedupe.lines.min_documents:
        say(lines.count, tasks, "Counting lines")
        st.notes["repeated_lines"] = lines.find(cfg.dedupe.lines, work, len(tasks))
    reports = say(shards.run, tasks, "Reading, labelling and judging", shards.finished)
    _stop_where_an_input_gave_nothing(tasks, reports)
    for found in reports:
        counts.update({k: v for k, v in found["counts"].items() if k in ("read", "split_added")})
    say(shards.sign, [t for t in earlier if t.splits], "Reading earlier runs", shards.finished)
    keys = Keys(
        [t.file("keys.parquet") for t in tasks],
        _key_files(earlier, cfg),
        [t.file("removed.parquet") for t in tasks],
    )
    gone = dedupe.duplicates(cfg.dedupe, keys)
    parts = deal.plan(work, len(tasks), keys, gone)
    # A part is put together from all shards: with many parts each shard would be read again and again.
    if max(parts.values()) > MANY_PARTS:
        say(deal.deal, [deal.Deal(i, str(work)) for i in range(len(tasks))], "Dealing documents to parts")
    merges = [deal.Merge(i, name, str(work), str(out)) for name, n in parts.items() for i in range(n)]
    languages: Counter[str] = Counter()
    classes: set[str] = set()
    for found in say(deal.merge, merges, "Writing parts"):
        counts.update(found["counts"])
        languages.update(found["languages"])
        classes.update(found["classes"])
    if bad := deal.concat_bad(work, len(tasks), out):
        st.counts["quarantined"] = bad
    if index:
        st.notes["contamination"] = decontaminate.gather(index, keys, work, len(tasks), out)
    if cfg.dedupe.index:
        _write_index(keys, gone, len(tasks), out)
    shutil.rmtree(work)
    if not counts["kept"]:
        reasons = ", ".join(f"{k} {v}" for k, v in sorted(counts.items()) if v) or "no rows"
        st.notes["warning"] = f"no document is left: {reasons}"
    st.counts |= {k: counts[k] for k in sorted(counts)}
    st.notes["languages"] = dict(sorted(languages.items()))
    st.licence_class = worst_licence(sorted(classes, key=str))
    st.notes["fold_version"] = arabic.FOLD_VERSION
    return st.commit()


def _stop_where_an_input_gave_nothing(tasks: Sequence[shards.Task], reports: Sequence[dict[str, Any]]) -> None:
    """Raise the first trouble of an input none of whose rows could be read, say for a wrong `text` column."""
    for source in sorted({t.source for t in tasks}):
        mine = [r for t, r in zip(tasks, reports, strict=True) if t.source == source]
        good = sum(r["counts"].get("read", 0) - r["counts"].get("quarantined", 0) for r in mine)
        trouble = next((r["trouble"] for r in mine if r["trouble"]), None)
        if trouble and not good:
            for t in tasks:  # read again once it is mended
                if t.source == source:
                    t.file("json").unlink(missing_ok=True)
            raise FitraError(trouble[0], trouble[1])


class _Runner:
    """Runs tasks with the engine of the recipe, in the order of their numbers; what is finished is not run."""

    def __init__(self, pool: engine.Pool) -> None:
        self.pool = pool

    def __call__(
        self,
        function: Callable[[Any], Any],
        tasks: Sequence[Any],
        description: str,
        finished: Callable[[Any], Any] = lambda _: None,
    ) -> list[Any]:
        results = [finished(t) for t in tasks]
        todo = [i for i, r in enumerate(results) if r is None]
        done = self.pool.run(function, [tasks[i] for i in todo])
        for i, result in track(done, description, total=len(todo)):
            results[todo[i]] = result
        return results


def _tasks(cfg: Corpus, sources: list[tuple[Source, list[tables.File]]], work: Path) -> list[shards.Task]:
    config = cfg.model_dump_json(exclude={"engine"})
    out: list[shards.Task] = []
    for n, (source, files) in enumerate(sources):
        pieces = tables.splits(files, cfg.shard_mb << 20)
        if len(sources) > 1:
            pieces = [replace(p, alone=False) for p in pieces]
        # A sample is read from the front, so it is one shard.
        groups = [tuple(pieces)] if source.limit else [(p,) for p in pieces]
        for group in _packed(groups, cfg.shard_mb << 20):
            out.append(shards.Task(len(out), str(work), config, n, group, source.limit))
    return out


def _packed(groups: Sequence[tuple[tables.Split, ...]], target: int) -> list[tuple[tables.Split, ...]]:
    """Small neighbours together: a folder of a million small files is no million shards."""
    out: list[tuple[tables.Split, ...]] = []
    size = 0
    for group in groups:
        this = sum(s.size for s in group)
        if out and size + this <= target:
            out[-1] += group
            size += this
        else:
            out.append(group)
            size = this
    return out


def _earlier(cfg: Corpus, work: Path, first: int) -> list[shards.Task]:
    """A task for each earlier run that kept no index: its documents are signed now."""
    out: list[shards.Task] = []
    for path in cfg.dedupe.against:
        if _has_index(Path(path), cfg):
            continue
        pieces = tables.splits(tables.resolve(path), cfg.shard_mb << 20)
        for group in _packed([(p,) for p in pieces], cfg.shard_mb << 20):
            task = shards.Task(
                first + len(out), str(work), cfg.model_dump_json(exclude={"engine"}), 0, group, reference=True
            )
            out.append(task)
    return out


def _has_index(folder: Path, cfg: Corpus) -> bool:
    """Whether an earlier run kept hashes. Raises FitraError where they were made with other settings."""
    held = read_manifest(folder).get("config", {}).get("corpus", {}).get("dedupe", {})
    if not (folder / "index").is_dir():
        return False
    for name in ("near", "bands", "rows", "ngram"):
        if held.get(name) != getattr(cfg.dedupe, name):
            raise FitraError(
                f"{folder}: its index was made with dedupe.{name}={held.get(name)}.",
                f"Set dedupe.{name} to that, or delete {folder / 'index'}: the documents are then hashed again.",
            )
    return True


def _key_files(earlier: list[shards.Task], cfg: Corpus) -> list[Path]:
    kept = [p for path in cfg.dedupe.against for p in sorted((Path(path) / "index").glob("part-*.parquet"))]
    return [*(t.file("keys.parquet") for t in earlier), *kept]


def _write_index(keys: Keys, gone: dict[int, dedupe.Removal], n: int, out: Path) -> None:
    """The keys of what stays, under final ids, for later runs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for i in range(n):
        start, stop = keys.span(i)
        table = pq.read_table(keys.files[keys.first + i])
        table = table.set_column(0, "id", keys.ids.slice(start, stop - start))
        stays = pa.array([r not in gone for r in range(start, stop)], pa.bool_())
        write_parquet(out / "index" / f"part-{i:05d}.parquet", table.filter(stays))
