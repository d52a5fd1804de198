"""Tasks for the tests of the engine: worker processes import them from here."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

from fitra.errors import FitraError


def square(n: int) -> int:
    return n * n


def die_once(task: tuple[int, str]) -> int:
    number, folder = task
    mark = Path(folder) / f"died-{number}"
    if number == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_always(task: int) -> int:
    if task == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def refuse(task: int) -> int:
    if task == 1:
        raise FitraError("row 1 is bad.", "Fix it.")
    if task == 2:
        raise ValueError("a bug")
    return task


def fill(task: int) -> int:
    raise OSError(errno.ENOSPC, "No space left on device", "/data/x")
