"""One stage of a run: its config, what it needs, and the folder that its result has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fitra import __version__
from fitra.artifacts import MANIFEST, config_dict, fingerprint
from fitra.errors import FitraError
from fitra.recipe import Config

Folders = Mapping[str, Path]


@dataclass(frozen=True)
class Step:
    """One stage of a run: `make(folder, folders_of_needed_steps)` writes it; `files` are inputs outside the run."""

    name: str
    config: Config | Mapping[str, Any]
    needs: tuple[str, ...]
    files: tuple[Path, ...]
    make: Callable[[Path, Folders], Any]
    work: dict[str, Any] = field(default_factory=dict)  # what a dry run shows


def folder_of(step: Step, out: Path, folders: Folders, seed: int) -> Path:
    """Where the result of a step lies; its needed steps must be finished, its files must exist."""
    inputs: dict[str, Any] = {n: folders[n] for n in step.needs}
    inputs["files"] = list(step.files)
    key = fingerprint(step.name, {"config": config_dict(step.config), "seed": seed, "fitra": __version__}, inputs)
    return out / f"{step.name}-{key[:12]}"


def finished(folder: Path) -> bool:
    """Whether a stage folder is committed."""
    return (folder / MANIFEST).is_file()


def files_of(paths: list[str]) -> tuple[Path, ...]:
    found: list[Path] = []
    for p in map(Path, paths):
        if any(c in p.name for c in "*?["):
            hits = sorted(p.parent.glob(p.name))
            if not hits:
                raise FitraError(f"{p}: nothing matches.", "Check the path in the recipe.")
            found += hits
        elif p.exists():
            found.append(p)
        else:
            raise FitraError(f"{p}: no such file or folder.", "Check the path in the recipe.")
    return tuple(found)


def paths_of(*values: str | None) -> tuple[Path, ...]:
    return files_of([v for v in values if v])
