"""Is this machine fit: versions, cores, memory, GPU, disk, endpoints."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from fitra.artifacts import software
from fitra.recipe import Recipe

GIB = 1024**3


def check(out: Path, recipe: Recipe | None = None) -> list[tuple[str, bool, str]]:
    """Findings as (what, fine, detail); a finding that is not fine says what to do."""
    found = [("python", True, platform.python_version())]
    versions = software()
    found += [(k, True, v) for k, v in versions.items() if k != "python"]
    for extra, package in (("train", "torch"),):
        if package not in versions:
            found.append((package, recipe is None or recipe.base is None, f"absent: pip install 'fitra[{extra}]'"))
    found.append(("cores", True, str(os.cpu_count())))
    memory = _memory()
    found.append(("memory", memory is None or memory >= 4, f"{memory:.0f} GiB" if memory else "unknown"))
    found.append(_gpu("torch" in versions))
    found.append(_disk(out))
    if recipe and recipe.align:
        found += [("endpoint", *answers(e.base_url)) for m in recipe.align.models().values() for e in m.endpoints]
    return found


def _memory() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    except (ValueError, OSError):
        return None


def _gpu(torch_there: bool) -> tuple[str, bool, str]:
    if not torch_there:
        return ("gpu", True, "not looked for (no torch)")
    import torch

    if torch.cuda.is_available():
        return ("gpu", True, torch.cuda.get_device_name(0))
    return ("gpu", True, "none: training runs on the CPU")


def _disk(out: Path) -> tuple[str, bool, str]:
    folder = out
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as e:
        return ("disk", False, f"{folder} is not writable ({e.strerror}): choose another --out")
    free = shutil.disk_usage(folder).free / GIB
    return ("disk", free >= 1, f"{free:.0f} GiB free in {folder}")


def answers(base_url: str) -> tuple[bool, str]:
    """Whether a server answers at an OpenAI-compatible address, and a sentence that says so."""
    url = base_url.rstrip("/") + "/models"
    if not url.startswith(("http://", "https://")):
        return False, f"{base_url} is not an http(s) address"
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return True, f"{base_url} answers ({reply.status})"
    except urllib.error.HTTPError as e:
        # A server that asks for a key is there all the same.
        return e.code in (401, 403, 404), f"{base_url} answers ({e.code})"
    except (urllib.error.URLError, OSError, ValueError) as e:
        return False, f"{base_url} does not answer ({getattr(e, 'reason', e)}): start it or correct base_url"
