"""A small OpenAI-compatible server with faults on demand, for tests and benchmarks.

    with FakeEndpoint(lambda request, seen: Fault(status=429) if seen == 0 else "ok") as s:
        ... s.base_url ...; s.requests; s.asked["the last user message"]

The script gets the parsed request body and how often this very last message was asked before. It returns the reply's
text, or a Fault. Without a script the server answers with the last message, upper-cased.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Fault:
    """Something else than a good reply: a status, a raw body, a delay, silence, or a reset in the middle."""

    status: int = 200
    body: str = '{"error": {"message": "planted"}}'
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: bool = False
    reset: bool = False


Script = Callable[[dict[str, Any], int], "str | Fault"]


def completion(text: str) -> str:
    """The body of a good reply."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return json.dumps(
        {"id": "x", "object": "chat.completion", "created": 0, "model": "fake", "choices": [choice], "usage": usage}
    )


class FakeEndpoint:
    """The server, on a thread of its own; `latency` in seconds before each reply."""

    def __init__(self, script: Script | None = None, latency: float = 0.0) -> None:
        self.script: Script = script or (lambda request, seen: request["messages"][-1]["content"].upper())
        self.latency = latency
        self.requests: list[dict[str, Any]] = []
        self.headers: list[str] = []
        self.asked: Counter[str] = Counter()
        self.active = self.most_active = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> FakeEndpoint:
        self._thread.start()
        start = asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result()
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    def __exit__(self, *error: object) -> None:
        async def stop() -> None:
            self._server.close()
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for t in tasks:
                t.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(int(h[15:]) for h in head.split("\r\n") if h.lower().startswith("content-length:"))
                request = json.loads(await reader.readexactly(length))
                if not await self._answer(head, request, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: str, request: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        last = request["messages"][-1]["content"]
        seen = self.asked[last]
        self.asked[last] += 1
        self.requests.append(request)
        self.headers.append(head)
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            out = self.script(request, seen)
            fault = out if isinstance(out, Fault) else Fault(body=completion(out))
            if self.latency:
                await asyncio.sleep(self.latency)
            if fault.hang:
                await asyncio.sleep(3600)
            body = fault.body.encode()
            lines = [f"HTTP/1.1 {fault.status} X", "content-type: application/json", f"content-length: {len(body)}"]
            lines += [f"{k}: {v}" for k, v in fault.headers.items()]
            raw = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
            if fault.reset:
                writer.write(raw[: len(raw) // 2])
                writer.transport.abort()
                return False
            writer.write(raw)
            return True
        finally:
            self.active -= 1
