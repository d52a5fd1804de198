"""Stages and what they leave behind: immutable shards, and a manifest written last.

A stage is a function of (config, input artifacts, output folder). Every file it writes appears in its final place in
one step; `manifest.json` is the commit. A folder with a manifest is finished and never changes; a folder without one
may hold finished shards, which a restarted stage may reuse, and nothing half-written that anyone would read.

    with open_stage(out, stage="corpus", config=cfg, inputs={"raw": path}) as st:
        if not st.done:
            st.write_parquet("documents/part-00000.parquet", table)
            st.counts["kept"] = table.num_rows
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from fitra.errors import FitraError

MANIFEST = "manifest.json"

DOCUMENT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("lang", pa.string()),  # ISO 639: ar, arz, apc, en ...
        ("source", pa.string()),
        ("url", pa.string()),
        ("licence", pa.string()),
        ("licence_class", pa.string()),  # A permissive, B share-alike, C non-commercial, D unknown
        ("parent_id", pa.string()),  # the document this one was made from, or null
        ("pair_id", pa.string()),  # joins the two sides of a translation, or null
        ("labels", pa.string()),  # JSON object, keys sorted: deterministic facts about the text only
    ]
)

LICENCE_CLASSES = "ABCD"


# What `${NAME}` became when a recipe was loaded -> as it was written: manifests show the latter, never the value.
as_written: dict[str, str] = {}


def _unexpanded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _unexpanded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_unexpanded(v) for v in value]
    return as_written.get(value, value) if isinstance(value, str) else value


def worst_licence(classes: Sequence[str | None]) -> str:
    """The class that an artefact inherits from what it was made of; an unknown or missing class counts as D."""
    return max((c if c in tuple(LICENCE_CLASSES) else "D" for c in classes), default="A")


def canonical_json(value: Any) -> str:
    """JSON that is equal byte for byte whenever the values are equal."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)


def digest(value: Any) -> str:
    """SHA-256 (hex) of a JSON-able value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def config_dict(config: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    """A config as plain data; `SecretStr` fields come out masked, so secrets stay outside fingerprints."""
    if isinstance(config, BaseModel):
        return config.model_dump(mode="json")
    return {k: config_dict(v) if isinstance(v, BaseModel) else v for k, v in config.items()}


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def input_fingerprint(path: Path) -> str:
    """Identity of an input: a finished stage's fingerprint, else the hash of the file's or folder's bytes."""
    path = Path(path)
    if (path / MANIFEST).is_file():
        return str(read_manifest(path)["fingerprint"])
    if path.is_file():
        return file_hash(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        return digest([[p.relative_to(path).as_posix(), file_hash(p)] for p in files])
    raise FitraError(f"{path}: no such file or folder.", "Check the path in the recipe or on the command line.")


def fingerprint(
    stage: str, config: BaseModel | Mapping[str, Any], inputs: Mapping[str, Path | Sequence[Path]], version: int = 1
) -> str:
    """Identity of a stage's result: hash of its name, version, config and inputs (paths themselves do not count)."""
    ins = {
        k: [input_fingerprint(Path(p)) for p in v] if isinstance(v, list | tuple) else input_fingerprint(Path(v))  # type: ignore[arg-type]
        for k, v in inputs.items()
    }
    return digest({"stage": stage, "version": version, "config": _portable(config_dict(config)), "inputs": ins})


def _portable(value: Any) -> Any:
    """Config without absolute paths: what lies there is fingerprinted as an input, where it lies does not matter."""
    if isinstance(value, dict):
        return {k: _portable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_portable(v) for v in value]
    return "" if isinstance(value, str) and value.startswith("/") else value


def _fsync_dir(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `final`; on success it is flushed and takes the final name in one step.

    Raises FitraError when the disk is full; what was finished before stays.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    tmp = final.parent / f".{final.name}.{os.getpid()}.tmp"
    try:
        yield tmp
        with tmp.open("rb") as f:
            os.fsync(f.fileno())
        os.replace(tmp, final)
        _fsync_dir(final.parent)
    except OSError as e:
        tmp.unlink(missing_ok=True)
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FitraError(
                f"{final}: no space left on the disk.", "Free some space and run the same command again."
            ) from e
        raise
    except BaseException:
        tmp.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file in one step."""
    with atomic_path(path) as tmp:
        tmp.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON (keys sorted) in one step."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True, default=str) + "\n")


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a zstd parquet file in one step; equal tables give equal bytes."""
    with atomic_path(path) as tmp:
        pq.write_table(table.replace_schema_metadata(None), tmp, compression="zstd", row_group_size=65536)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished stage; FitraError where there is none."""
    path = Path(folder) / MANIFEST
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FitraError(f"{folder}: no {MANIFEST}, so this stage is not finished.", "Run it first.") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise FitraError(f"{path}: damaged.", "Delete the folder and run the stage again.") from None
    if not isinstance(value, dict) or "fingerprint" not in value:
        raise FitraError(f"{path}: not a Fitra manifest.", "Point to the output folder of a Fitra stage.")
    return value


def read_table(folder: Path, name: str, columns: list[str] | None = None) -> pa.Table:
    """All shards `folder/name/part-*.parquet` of a finished stage, in order."""
    read_manifest(folder)
    parts = table_parts(folder, name)
    return pa.concat_tables([pq.read_table(p, columns=columns) for p in parts])


def licence_of(path: Path) -> str:
    """The licence class in the manifest of a stage (or of the stage that holds this model folder); unknown is D."""
    for folder in (Path(path), Path(path).parent):
        if (folder / MANIFEST).is_file():
            return str(read_manifest(folder).get("licence_class") or "D")
    return "D"


def table_parts(folder: Path, name: str) -> list[Path]:
    """The shards of one table of a stage, in order."""
    parts = sorted((Path(folder) / name).glob("part-*.parquet"))
    if not parts:
        raise FitraError(f"{folder}: no table '{name}'.", "Check that this is the output of the right stage.")
    return parts


def software() -> dict[str, str]:
    """Versions of what can change a result."""
    out = {"python": platform.python_version()}
    for name in ("fitra", "daft", "pyarrow", "torch", "transformers", "tokenizers", "trl", "openai"):
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return out


class Stage:
    """A stage in progress; see `open_stage`. `counts`, `notes` and `licence_class` go into the manifest."""

    def __init__(self, out: Path, stage: str, fp: str, meta: dict[str, Any], done: bool) -> None:
        self.out, self.stage, self.fingerprint, self.done = out, stage, fp, done
        self.counts: dict[str, float] = {}
        self.notes: dict[str, Any] = {}
        self.licence_class: str | None = meta.get("licence_class")
        self._meta = meta
        self._started = time.time()

    def write_parquet(self, rel: str, table: pa.Table) -> None:
        """Put one shard into place, `rel` like 'documents/part-00000.parquet'."""
        write_parquet(self.out / rel, table)

    def write_table(self, name: str, table: pa.Table, rows_per_part: int = 50_000) -> None:
        """Write a whole table as shards 'name/part-00000.parquet', ... (at least one, even when empty)."""
        for i, start in enumerate(range(0, max(table.num_rows, 1), rows_per_part)):
            self.write_parquet(f"{name}/part-{i:05d}.parquet", table.slice(start, rows_per_part))

    def write_json(self, rel: str, value: Any) -> None:
        """Put one JSON file into place."""
        write_json(self.out / rel, value)

    def write_text(self, rel: str, text: str) -> None:
        """Put one text file into place."""
        write_text(self.out / rel, text)

    @contextmanager
    def folder(self, rel: str) -> Iterator[Path]:
        """A temporary folder that takes its final name on success: for models and tokenizers."""
        final, tmp = self.out / rel, self.out / f".{rel.replace('/', '_')}.tmp"
        shutil.rmtree(tmp, ignore_errors=True)
        tmp.mkdir(parents=True)
        try:
            yield tmp
        except OSError as e:
            if e.errno in (errno.ENOSPC, errno.EDQUOT):
                shutil.rmtree(tmp, ignore_errors=True)
                raise FitraError(f"{final}: no space left on the disk.", "Free some space and run again.") from e
            raise
        shutil.rmtree(final, ignore_errors=True)
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(tmp, final)

    def quarantine(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Set bad rows aside, each with `id`, `where` (file or table) and `reason`; the run then says so."""
        old = self.counts.get("quarantined", 0)
        cols = {k: [str(r.get(k, "")) for r in rows] for k in ("id", "where", "reason")}
        table = pa.table({k: pa.array(v, pa.string()) for k, v in cols.items()})
        part = len(list((self.out / "quarantine").glob("*.parquet")))
        self.write_parquet(f"quarantine/part-{part:05d}.parquet", table)
        self.counts["quarantined"] = old + len(rows)

    def commit(self) -> dict[str, Any]:
        """Write the manifest: from here on the stage is finished."""
        manifest = {
            **self._meta,
            **({"licence_class": self.licence_class} if self.licence_class else {}),
            "stage": self.stage,
            "fingerprint": self.fingerprint,
            "counts": self.counts,
            "notes": self.notes,
            "seconds": round(time.time() - self._started, 3),
            "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "software": software(),
        }
        write_json(self.out / MANIFEST, manifest)
        self.done = True
        return manifest


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a folder for one writing process; FitraError when another one holds it. Freed when the process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FitraError(
                f"{folder}: another Fitra process is writing here.", "Wait for it, or choose another --out."
            ) from None
        yield


@contextmanager
def open_stage(
    out: Path,
    *,
    stage: str,
    config: BaseModel | Mapping[str, Any],
    inputs: Mapping[str, Path | Sequence[Path]],
    version: int = 1,
    licence_class: str | None = None,
) -> Iterator[Stage]:
    """Open `out` for a stage. `done` is true when it already holds this very result; a body that ends well commits.

    Raises FitraError when `out` holds the finished result of another config or input, or another process writes there.
    """
    out = Path(out)
    fp = fingerprint(stage, config, inputs, version)
    if (out / MANIFEST).is_file():
        held = read_manifest(out)
        # A document taken out later changes the fingerprint that stages made from this one see, not what this one is.
        if held.get("fingerprint_before", held["fingerprint"]) != fp:
            raise FitraError(
                f"{out}: holds a finished '{held.get('stage')}' made from another configuration or input.",
                "Choose another --out, or delete the folder.",
            )
        st = Stage(out, stage, fp, held, done=True)
        st.counts, st.notes = dict(held.get("counts", {})), dict(held.get("notes", {}))
        yield st
        return
    meta = {
        "version": version,
        "config": _unexpanded(config_dict(config)),
        "inputs": _unexpanded(
            {k: [str(x) for x in v] if isinstance(v, list | tuple) else str(v) for k, v in inputs.items()}
        ),
    }
    if licence_class:
        meta["licence_class"] = licence_class
    with lock(out):
        # A killed run may have left the quarantine of its last try: it is written anew.
        shutil.rmtree(out / "quarantine", ignore_errors=True)
        st = Stage(out, stage, fp, meta, done=False)
        yield st
        if not st.done:
            st.commit()
