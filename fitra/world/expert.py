"""A stand-in for the expert: a small OpenAI-compatible server that knows the world's reference rewrites.

It answers with what `references.parquet` says about the sentences it is sent, and with the deterministic rules where it
knows none. It shows that the loop expert → worker → corpus runs; the quality of a real expert it does not show.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fitra import policy
from fitra.align import masking, rules
from fitra.errors import FitraError
from fitra.llm.chunk import sentences
from fitra.recipe import Endpoint

__all__ = ["MODEL", "Expert", "application", "serving"]

MODEL = "world-expert"
_TEXT = re.compile(r"<<<([0-9a-f]{4,64})[ \t]*\n(.*)\n\1>>>", re.S)
Sentences = tuple[str, ...]


class Expert:
    """Rewrites by the references of one world, else by rules."""

    def __init__(self, world: Path, policy_name: str = "default") -> None:
        """`world`: a folder that `fitra world` wrote. FitraError where it has no references."""
        path = Path(world) / "references.parquet"
        if not path.is_file():
            raise FitraError(f"{path}: no such file.", "Write a world first: fitra world --out runs/world")
        self._known: dict[Sentences, tuple[str, ...]] = {}
        for row in pq.read_table(path, columns=["text", "reference"]).to_pylist():
            self._learn(str(row["text"]), str(row["reference"]))
        self._longest = max((len(k) for k in self._known), default=0)
        self._rules = rules.compile_rules(policy.load(policy_name))

    def _learn(self, text: str, reference: str) -> None:
        a, b = ([s for s, _ in sentences(t)] for t in (text, reference))
        for kind, i1, i2, j1, j2 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
            if kind == "replace":
                self._known[tuple(a[i1:i2])] = tuple(b[j1:j2])

    def rewrite(self, text: str) -> str:
        """A text (masked or not) as the references have it, else as the rules have it; placeholders stay."""
        pieces = list(sentences(text))
        out, i, found = list[str](), 0, False
        while i < len(pieces):
            for n in range(min(self._longest, len(pieces) - i), 0, -1):
                safe = self._known.get(tuple(s for s, _ in pieces[i : i + n]))
                if safe is not None:
                    out += [" ".join(safe), pieces[i + n - 1][1]]
                    i, found = i + n, True
                    break
            else:
                out += pieces[i]
                i += 1
        if found:
            return "".join(out)
        numbers = [int(m[1]) for m in masking.PLACEHOLDER.finditer(text)]
        # What a placeholder stands for is not known here: as code it goes with nothing.
        spans = max(numbers, default=-1) + 1
        made = rules.apply(masking.Masked(text, ("",) * spans, ("code",) * spans, "0" * 8), self._rules).text
        return made if [int(m[1]) for m in masking.PLACEHOLDER.finditer(made)] == numbers else text

    def reply(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The answer to a chat: the rewrite of the last text between nonce markers, else of the last user's turn."""
        turns = [str(m.get("content") or "") for m in messages if m.get("role") == "user"]
        marked = [m[2] for t in turns if (m := _TEXT.search(t))]
        return self.rewrite(marked[-1] if marked else (turns[-1] if turns else ""))


def application(expert: Expert, token: str) -> Any:
    """The ASGI application: POST /v1/chat/completions, GET /v1/models (both ask for `token`), GET /health."""
    try:
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import JSONResponse
        from starlette.routing import Route
    except ImportError:
        raise FitraError("the stand-in expert needs starlette and uvicorn.", "pip install 'fitra[web]'") from None

    def problem(status: int, message: str) -> JSONResponse:
        return JSONResponse({"error": {"message": message, "type": "invalid_request_error"}}, status)

    def allowed(request: Request) -> bool:
        return hmac.compare_digest(request.headers.get("authorization", "").encode(), f"Bearer {token}".encode())

    async def chat(request: Request) -> JSONResponse:
        if not allowed(request):
            return problem(401, "wrong or missing token")
        try:
            body = json.loads(await request.body())
            turns = [m for m in body["messages"] if isinstance(m, dict)]
        except (ValueError, KeyError, TypeError):
            return problem(400, "expected JSON with 'messages'")
        text = expert.reply(turns)
        sizes = [sum(len(str(m.get("content") or "").split()) for m in turns), len(text.split())]
        usage = {"prompt_tokens": sizes[0], "completion_tokens": sizes[1], "total_tokens": sum(sizes)}  # words
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        return JSONResponse(
            {
                "id": "world",
                "object": "chat.completion",
                "created": 0,
                "model": MODEL,
                "choices": [choice],
                "usage": usage,
            }
        )

    async def models(request: Request) -> JSONResponse:
        if not allowed(request):
            return problem(401, "wrong or missing token")
        return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "fitra"}]})

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
        ]
    )


def _uvicorn(expert: Expert, token: str, port: int) -> Any:
    app = application(expert, token)
    try:
        import uvicorn
    except ImportError:
        raise FitraError("the stand-in expert needs starlette and uvicorn.", "pip install 'fitra[web]'") from None
    return uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", access_log=False))


def serve(expert: Expert, token: str, port: int) -> None:
    """Serve until the process is stopped. FitraError when the port is taken."""
    server = _uvicorn(expert, token, port)
    try:
        server.run()
    except SystemExit:
        raise FitraError(f"127.0.0.1:{port}: the server did not start.", "Is the port taken? Choose another.") from None


@contextlib.contextmanager
def serving(expert: Expert, token: str, timeout_s: float = 20.0) -> Iterator[Endpoint]:
    """The server on a thread and a free port, for the time of the block; yields its endpoint."""
    server = _uvicorn(expert, token, 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until = time.monotonic() + timeout_s
        while not server.started:
            if not thread.is_alive() or time.monotonic() > until:
                raise FitraError("the stand-in expert did not start.", "")
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Endpoint.model_validate(
            {"base_url": f"http://127.0.0.1:{port}/v1", "model": MODEL, "api_key": token, "structured": False}
        )
    finally:
        server.should_exit = True
        thread.join(timeout_s)
