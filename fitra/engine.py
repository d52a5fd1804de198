"""Where shards are worked on: here, in worker processes, or on a Ray cluster. One function, the same tasks everywhere.

A task is a plain value; the function that works on it lives at the top of a module, writes its result to files (in one
step, see `artifacts.atomic_path`) and returns something small. Order of execution is free: results come with the number
of their task. A worker that dies (killed, out of memory) is replaced and its task tried again; a task that raises
stops the run with that error. Working processes give their memory back when they end.
"""

from __future__ import annotations

import errno
import multiprocessing as mp
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from fitra.errors import FitraError
from fitra.recipe.engine import Engine

Task = TypeVar("Task")
TRIES = 3  # of one task whose worker died


def workers(engine: Engine) -> int:
    """How many processes work here: as asked, else one for each core that this process may use."""
    return engine.workers or len(os.sched_getaffinity(0))


def run(
    function: Callable[[Task], Any], tasks: Sequence[Task], engine: Engine, *, inline: bool = False
) -> Iterator[tuple[int, Any]]:
    """`Pool.run` with a pool for this alone."""
    with Pool(engine, inline=inline) as pool:
        yield from pool.run(function, tasks)


class Pool:
    """Workers for several rounds of tasks, started when first needed, ended with the `with` block.

    With `inline` all is done in this process: for work so small that starting others would take longer.
    """

    def __init__(self, engine: Engine, *, inline: bool = False) -> None:
        self.engine = engine
        self.inline = inline or engine.workers == 1
        self.held: list[_Worker] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for w in self.held:
            w.stop()
        self.held.clear()

    def start(self, tasks: int) -> None:
        """Start the workers that so many tasks need: best before this process starts threads of its own."""
        if self.engine.kind == "local" and not self.inline:
            while len(self.held) < min(workers(self.engine), tasks):
                self.held.append(_Worker([w.pipe for w in self.held]))

    def run(self, function: Callable[[Task], Any], tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        """(number of the task, what `function` returned), as they are ready.

        Raises what a task raised, and FitraError where workers keep dying on a task or there is no cluster.
        """
        if self.engine.kind == "ray":
            return _on_ray(function, tasks, self.engine)
        if self.inline:
            return ((i, _do(function, task)) for i, task in enumerate(tasks))
        return self._in_processes(function, tasks)

    def _in_processes(self, function: Callable[[Task], Any], tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        todo, tries = deque(range(len(tasks))), [0] * len(tasks)
        pool = self.held
        try:
            while todo or any(w.task >= 0 for w in pool):
                self.start(len(tasks))
                for w in pool:
                    if w.task < 0 and todo:
                        w.task = todo.popleft()
                        w.pipe.send((function, tasks[w.task]))
                for pipe in wait([w.pipe for w in pool if w.task >= 0]):
                    w = next(x for x in pool if x.pipe is pipe)
                    try:
                        fine, value = w.pipe.recv()
                    except (EOFError, OSError):
                        tries[w.task] += 1
                        _give_up_after(tries[w.task], tasks[w.task], w.process.exitcode)
                        todo.appendleft(w.task)
                        pool.remove(w)
                        w.stop()
                        continue
                    if not fine:
                        _raise(value)
                    done, w.task = w.task, -1
                    yield done, value
        finally:
            for w in [w for w in pool if w.task >= 0]:  # stopped in the middle: nobody waits for the answer
                w.process.kill()
                w.stop()
                pool.remove(w)


def _serve(pipe: Connection, others: Sequence[Connection]) -> None:
    """A worker: tasks come through the pipe until it closes, which it also does when the parent is killed."""
    for other in others:  # a forked worker has the parent's ends too, and would keep them open
        other.close()
    _die_with_parent()
    while True:
        try:
            function, task = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            answer = (True, _do(function, task))
        except KeyboardInterrupt:
            return
        except FitraError as e:
            answer = (False, (e.message, e.hint))
        except BaseException:
            answer = (False, traceback.format_exc())
        try:
            pipe.send(answer)
        except (BrokenPipeError, OSError):
            return


def _die_with_parent() -> None:
    """On Linux a worker is killed with the process that forked it, so that its lock on the output goes at once."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class _Worker:
    def __init__(self, others: Sequence[Connection]) -> None:
        context = _context()
        self.pipe, theirs = context.Pipe()
        forks = context.get_start_method() == "fork"
        held = [*others, self.pipe] if forks else []
        self.process = context.Process(target=_serve, args=(theirs, held), daemon=True)
        with _main_left_alone():
            self.process.start()
        theirs.close()  # so that the pipe ends with the worker
        self.task = -1

    def stop(self) -> None:
        self.pipe.close()
        self.process.join(timeout=2)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@contextmanager
def _main_left_alone() -> Iterator[None]:
    """Keep workers from running the user's script again, which without a __main__ guard would start more workers.

    They need nothing of it: the functions they run live in modules.
    """
    main = sys.modules["__main__"]
    held = {name: getattr(main, name, None) for name in ("__file__", "__spec__")}
    for name in held:
        setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in held.items():
            setattr(main, name, value)


# Libraries that keep threads of their own: a fork would copy the locks that these hold.
_THREADED = ("torch", "ray", "daft", "grpc", "tensorflow", "jax")


def _context() -> Any:
    """How workers start: by a plain fork where this process is simple, which takes milliseconds, else by a server."""
    simple = threading.active_count() == 1 and not any(name in sys.modules for name in _THREADED)
    if sys.platform == "linux" and simple:
        return mp.get_context("fork")
    context = mp.get_context("forkserver")
    # Arrow imports pandas where there is one.
    context.set_forkserver_preload(["fitra.corpus.shards", "pandas"])
    return context


def _do(function: Callable[[Task], Any], task: Task) -> Any:
    """Raises FitraError where the disk is full."""
    try:
        return function(task)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f"{e.filename}: " if e.filename else ""
            hint = "Free some space and run the same command again: what is finished is kept."
            raise FitraError(f"{where}no space left on the disk.", hint) from e
        raise


def _give_up_after(tries: int, task: Any, exitcode: int | None) -> None:
    if tries >= TRIES:
        raise FitraError(
            f"a worker died {tries} times on {task} (exit code {exitcode}).",
            "Most often memory: set engine.workers lower. What is finished is kept; run the same command again.",
        )


def _raise(value: Any) -> None:
    if isinstance(value, tuple):
        raise FitraError(*value)
    raise RuntimeError(f"a worker failed:\n{value}")


def _on_ray(function: Callable[[Task], Any], tasks: Sequence[Task], engine: Engine) -> Iterator[tuple[int, Any]]:
    try:
        import ray
    except ImportError:
        raise FitraError("engine: ray needs the package ray.", "pip install 'fitra[ray]'") from None
    if not ray.is_initialized():
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        try:
            ray.init(address=engine.address or os.environ.get("RAY_ADDRESS") or "auto", log_to_driver=False)
        except (ConnectionError, RuntimeError) as e:
            first = str(e).splitlines()[0]
            raise FitraError(
                f"no Ray cluster: {first}", "Start one (ray start --head) or set engine.address."
            ) from None
    # Losing a node costs a retry of its tasks; results are files, put into place in one step.
    remote = ray.remote(num_cpus=1, max_retries=TRIES, retry_exceptions=False)(_answer)
    todo, running = deque(range(len(tasks))), dict[Any, int]()
    cores = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
    most = engine.workers or max(2 * cores, 1)
    while todo or running:
        while todo and len(running) < most:
            i = todo.popleft()
            running[remote.remote(function, tasks[i])] = i
        ready, _ = ray.wait(list(running), num_returns=1)
        for ref in ready:
            i = running.pop(ref)
            try:
                fine, value = ray.get(ref)
            except ray.exceptions.RayError as e:
                first = str(e).strip().splitlines()[0]
                raise FitraError(f"Ray gave up on task {i}: {first}", "What is finished is kept; run again.") from None
            if not fine:
                _raise(value)
            yield i, value


def _answer(function: Callable[[Any], Any], task: Any) -> tuple[bool, Any]:
    try:
        return True, _do(function, task)
    except FitraError as e:
        return False, (e.message, e.hint)
