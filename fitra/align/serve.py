"""Serve a model folder for the time of a run: `transformers serve` or vLLM as a process, or batches in this one.

    with serve.server(Path("runs/worker/model")) as endpoint:
        align.align(Align(worker=Model(endpoints=[endpoint], format="edits")), corpus, out)

`local` answers without a server, in batches through `lm.generate`: on a CPU several times as fast as a server, since
`transformers serve` answers one request after another there. Both name the model by the hash of its weights, so that
the ledger knows its answers wherever the folder lies.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fitra.errors import FitraError
from fitra.llm import Message, Reply, RequestError
from fitra.recipe import Endpoint

__all__ = ["Kind", "Local", "local", "server"]

Kind = Literal["auto", "transformers", "vllm"]
TAIL = 12  # lines of a server's log that an error shows
GATHER_S = 0.02  # how long a batch waits for company
STOP_S = 10.0


@contextlib.contextmanager
def server(
    model: Path,
    *,
    kind: Kind = "auto",
    concurrency: int | None = None,
    max_tokens: int = 512,
    timeout_s: float = 300.0,
    extra: Sequence[str] = (),
) -> Iterator[Endpoint]:
    """A server of `model` on a free port of 127.0.0.1, for the time of the block; yields its endpoint.

    'auto' takes vLLM where it is installed and there is CUDA, else `transformers serve`. `extra` are more arguments for
    it. vLLM asks for a token of this run; `transformers serve` knows none: whoever has an account on this machine can
    ask it. Raises FitraError with the end of the server's log when it does not come up within `timeout_s`.
    """
    from fitra import lm

    folder = lm.model_folder(model).resolve()
    chosen = _kind(kind)
    name = f"worker-{lm.weights_hash(folder)[:16]}"
    token = secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory(prefix="fitra-serve-") as tmp:
        # A name of its own instead of the folder's path: it is the model's identity in the ledger.
        (Path(tmp) / name).symlink_to(folder)
        port = _free_port()
        command, env = _command(chosen, name, port, token)
        log = Path(tmp) / "server.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [*command, *extra], cwd=tmp, env=os.environ | env, stdin=subprocess.DEVNULL, stdout=sink,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            _wait(process, port, log, timeout_s, " ".join(command[:3]))
            yield Endpoint.model_validate(
                {
                    "base_url": f"http://127.0.0.1:{port}/v1",
                    "model": name,
                    "api_key": token,
                    "max_tokens": max_tokens,
                    "concurrency": concurrency or (64 if chosen == "vllm" else 8),
                    "structured": chosen == "vllm",
                }
            )
        finally:
            _stop(process)


def _kind(kind: Kind) -> Literal["transformers", "vllm"]:
    if kind == "auto":
        import torch

        kind = "vllm" if importlib.util.find_spec("vllm") and torch.cuda.is_available() else "transformers"
    needed = {"vllm": ("vllm",), "transformers": ("transformers", "fastapi", "uvicorn")}[kind]
    if missing := [n for n in needed if importlib.util.find_spec(n) is None]:
        raise FitraError(
            f"serving by {kind}: {', '.join(missing)} is not installed.",
            "pip install vllm" if kind == "vllm" else "pip install 'transformers[serving]'",
        )
    return kind


def _command(kind: str, name: str, port: int, token: str) -> tuple[list[str], dict[str, str]]:
    """What starts the server, and what its environment has besides ours: a token in the arguments could be read."""
    at = ["--host", "127.0.0.1", "--port", str(port)]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
    script = Path(sys.executable).with_name("vllm" if kind == "vllm" else "transformers")
    start = [str(script)] if script.is_file() else [shutil.which(script.name) or script.name]
    if kind == "vllm":
        return [*start, "serve", name, *at, "--served-model-name", name], offline | {"VLLM_API_KEY": token}
    return [*start, "serve", name, *at, "--log-level", "error"], offline


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int, log: Path, timeout_s: float, command: str) -> None:
    """Return once the server says that it is well."""
    until = time.monotonic() + timeout_s
    while True:
        code = process.poll()
        if code is not None or time.monotonic() > until:
            lines = log.read_bytes().decode("utf-8", "replace").splitlines()
            tail = " | ".join("".join(c for c in x if c.isprintable()) for x in lines[-TAIL:] if x.strip())
            why = f"ended with code {code}" if code is not None else f"did not come up in {timeout_s:.0f} s"
            raise FitraError(f"{Path(command).name}: {why}. Its log ends: {tail or '(empty)'}", "")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and everything it started: its whole process group."""
    for sign, patience in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            break
    until = time.monotonic() + STOP_S
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < until:  # what outlived its parent
            os.killpg(process.pid, signal.SIGKILL)
            time.sleep(0.02)


class _Ask(NamedTuple):
    """A request that waits: `size` tokens of prompt, `how` = (most new tokens, temperature, seed, stop)."""

    prompt: str
    size: int
    how: tuple[int, float, int, tuple[str, ...]]
    answer: asyncio.Future[Reply]


def local(model: Path, *, batch: int = 32, max_tokens: int = 512, device: str = "auto") -> Local:
    """A backend for `llm.run` that answers from a model folder, `batch` requests at a time."""
    return Local(model, batch=batch, max_tokens=max_tokens, device=device)


class Local:
    """Requests that come together are answered together by `lm.generate`, on one thread."""

    def __init__(self, model: Path, *, batch: int, max_tokens: int, device: str) -> None:
        from fitra import lm

        self._lm = lm.load(model, device=device)
        if not self._lm.tokenizer.chat_template:
            raise FitraError(f"{model}: no chat template.", "Give a chat model.")
        self.identity = f"worker-{lm.weights_hash(model)[:16]}"
        self.sampling: dict[str, Any] = {"temperature": 0.0, "max_tokens": max_tokens}
        self.batch, self.concurrency = batch, 4 * batch  # like lengths go together: the more wait, the less padding
        self._waiting: list[_Ask] = []
        self._worker: asyncio.Task[None] | None = None
        self._thread: ThreadPoolExecutor | None = None

    async def complete(
        self, messages: Sequence[Message], sampling: Mapping[str, Any], schema: Mapping[str, Any] | None
    ) -> Reply:
        """One reply; RequestError where the prompt leaves no room in the model."""
        m = self._lm
        prompt = m.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        size = len(m.encode([prompt])[0])
        room = m.max_positions - size
        if room < 1:
            raise RequestError(f"the prompt has {size} tokens, the model {m.max_positions} positions")
        stop = sampling.get("stop") or ()
        how = (
            min(room, int(sampling.get("max_tokens") or 512)),
            float(sampling.get("temperature") or 0.0),
            int(sampling.get("seed") or 0),
            (stop,) if isinstance(stop, str) else tuple(stop),
        )
        ask = _Ask(str(prompt), size, how, asyncio.get_running_loop().create_future())
        self._waiting.append(ask)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())
        return await ask.answer

    async def _work(self) -> None:
        """Answer batch after batch until nobody waits: the longest prompts first, like lengths together."""
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="fitra-local")
        await asyncio.sleep(GATHER_S)
        while self._waiting:
            self._waiting.sort(key=lambda w: (w.how, -w.size))
            how = self._waiting[0].how
            # Sampling draws by the place in a batch: alone, an answer depends on its own seed and nothing else.
            most = self.batch if how[1] <= 0 else 1
            taken = [w for w in self._waiting[:most] if w.how == how]
            self._waiting = self._waiting[len(taken) :]
            try:
                replies = await loop.run_in_executor(self._thread, self._generate, taken)
            except Exception as e:
                for ask in taken:
                    if not ask.answer.done():
                        ask.answer.set_exception(RequestError(f"{type(e).__name__}: {e}"))
                continue
            for ask, reply in zip(taken, replies, strict=True):
                if not ask.answer.done():
                    ask.answer.set_result(reply)

    def _generate(self, taken: Sequence[_Ask]) -> list[Reply]:
        from fitra import lm

        most, temperature, seed, stop = taken[0].how
        texts = lm.generate(
            self._lm, [ask.prompt for ask in taken], max_new_tokens=most, temperature=temperature, seed=seed,
            stop=stop, batch_size=len(taken),
        )  # fmt: skip
        out = []
        for ask, text in zip(taken, texts, strict=True):
            made = len(self._lm.tokenizer(text, add_special_tokens=False)["input_ids"])
            usage = {"prompt_tokens": ask.size, "completion_tokens": made, "total_tokens": ask.size + made}
            out.append(Reply(text, usage, "length" if made >= most else "stop"))
        return out

    async def aclose(self) -> None:
        """Let go of the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None
