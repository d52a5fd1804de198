"""A real HTTP server on the loopback that misbehaves on demand: an OpenAI-like endpoint as a raw asyncio protocol.

    with FaultServer() as s: ... s.base_url ... s.asked["the last user message"] ...
    python tests/fault_server.py --latency 1 --slots 256        a process of its own; prints its address

What it does to a request is written in a user's message as `‹kind›` or `~kind~` (see `KINDS`); all else is answered by
the message in upper case, or, with `--answer edited`, lightly edited. Passing kinds trouble the first request only,
lasting ones every request. Fast enough (some thousand replies a second) to leave the client as the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import orjson
from light_edits import edited, said

PASSING = ("429-after", "429", "500", "503", "408", "hang", "reset", "json", "no-choices", "slow")
LASTING = ("400-always", "empty-always", "refusal-always", "json-always", "500-always")
HARMLESS = ("leak",)  # the paper's template around the answer: the parser takes it off
KINDS = (*PASSING, *LASTING, *HARMLESS)
_MARK = re.compile(r"[‹~]([\w-]+)[›~]")

LEAK = "Arabic text:\nold\n\nAnalysis:\nThe text is fine.\n\nRewritten text:\n{text}"
REFUSAL = "I'm sorry, but I can't help with that."

Reply = tuple[int, bytes, tuple[str, ...]]  # status, body, further header lines
Answer = Callable[[dict[str, Any]], str]


def completion(text: str, prompt_tokens: int = 7, finish_reason: str = "stop") -> bytes:
    """The body of a good reply."""
    tokens = max(1, len(text) // 4)
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens, "total_tokens": prompt_tokens + tokens}
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}}
    return orjson.dumps(
        {"id": "x", "object": "chat.completion", "created": 0, "model": "fake", "choices": [choice], "usage": usage}
    )


def error(message: str, code: str = "") -> bytes:
    """The body of an error."""
    return json.dumps({"error": {"message": message, "code": code}}).encode()


class FaultServer:
    """The server, on a thread of its own.

    `latency` in seconds before each reply, at most `slots` of them at once (the others wait, as in a batching server);
    `answer(request)` makes the text; `limit` refuses with 429 beyond so many requests a second; `dies_after` so many
    requests the server is gone until `revive`; `start_s` it answers 503 for so long; servers `beside` each other
    trouble a row once together. Counted: `requests`, `asked` by last message, `statuses`, `most_active`, `prefixes`
    (distinct system messages).
    """

    def __init__(
        self,
        answer: Answer | None = None,
        *,
        latency: float = 0.0,
        slots: int = 1 << 20,
        limit: float = 0.0,
        dies_after: int = 0,
        start_s: float = 0.0,
        headers: tuple[str, ...] = (),
        beside: FaultServer | None = None,
    ) -> None:
        self.answer: Answer = answer or (lambda request: said(request["messages"][-1]).upper())
        self.latency, self.slots, self.limit, self.dies_after = latency, slots, limit, dies_after
        self.headers = headers
        self.quota = False  # the account is empty
        self.refuses = ""  # a field of the request that is answered with 400
        self.requests = self.active = self.most_active = 0
        self.asked: Counter[str] = beside.asked if beside else Counter()
        self.statuses: Counter[int] = Counter()
        self.prefixes: set[str] = set()
        self.files: dict[str, bytes] = {}  # of the batch API
        self.batches: dict[str, dict[str, Any]] = {}
        self.batch_polls = 2  # so many questions until a batch is ready
        self.ready_at = time.monotonic() + start_s
        self.first_at = self.last_at = 0.0  # monotonic seconds: the first request came, the last reply went
        self._recent: deque[float] = deque()
        self._waiting: deque[Callable[[], None]] = deque()
        self._open: set[_Connection] = set()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def base_url(self) -> str:
        """For an Endpoint."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> FaultServer:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self.loop).result()
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._die(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _listen(self) -> None:
        self._server = await self.loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _die(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for c in list(self._open):
            c.transport.abort()

    @property
    def alive(self) -> bool:
        """Does it listen?"""
        return self._server is not None

    def die(self) -> None:
        """Close the port and abort every connection."""
        asyncio.run_coroutine_threadsafe(self._die(), self.loop).result()

    def revive(self) -> None:
        """Listen again on the same port."""
        self.dies_after = 0
        asyncio.run_coroutine_threadsafe(self._listen(), self.loop).result()

    def chat(self, connection: _Connection, body: bytes) -> None:
        """One chat request: decide, wait, answer."""
        try:
            request = orjson.loads(body)
            text = said(request["messages"][-1])
        except (ValueError, LookupError, TypeError):
            connection.send(400, error("not a chat request"))
            return
        if self.quota:
            connection.send(429, error("pay first", "insufficient_quota"))
            return
        seen = self.asked[text]
        self.asked[text] += 1
        self.requests += 1
        if request["messages"][0]["role"] == "system" and len(self.prefixes) < 1000:
            self.prefixes.add(said(request["messages"][0]))
        if self.dies_after and self.requests >= self.dies_after:
            self.loop.create_task(self._die())
            return
        if self.refuses and self.refuses in request:
            connection.send(400, error(f"unknown field {self.refuses}"))
            return
        now = time.monotonic()
        self.first_at = self.first_at or now
        if now < self.ready_at:
            connection.send(503, error("loading"))
            return
        if self.limit:
            while self._recent and self._recent[0] < now - 1:
                self._recent.popleft()
            if len(self._recent) >= self.limit:
                connection.send(429, error("too fast"), (f"retry-after-ms: {50}",))
                return
            self._recent.append(now)
        turns = [said(m) for m in reversed(request["messages"]) if m["role"] == "user"]
        mark = next((m for m in map(_MARK.search, turns) if m), None)
        kind = mark[1] if mark else ""
        if kind in PASSING and seen:
            kind = ""
        if self.active >= self.slots:
            self._waiting.append(lambda: self._begin(connection, request, text, kind))
        else:
            self._begin(connection, request, text, kind)

    def _begin(self, connection: _Connection, request: dict[str, Any], text: str, kind: str) -> None:
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        if self.latency:
            self.loop.call_later(self.latency, self._end, connection, request, text, kind)
        else:
            self._end(connection, request, text, kind)

    def _end(self, connection: _Connection, request: dict[str, Any], text: str, kind: str) -> None:
        self.active -= 1
        self.last_at = time.monotonic()
        self._reply(connection, request, text, kind)
        if self._waiting:
            self._waiting.popleft()()

    def _reply(self, connection: _Connection, request: dict[str, Any], text: str, kind: str) -> None:
        base = kind.removesuffix("-always")
        if base == "hang":
            return
        if base in ("reset", "slow"):
            whole = connection.frame(200, completion(self.answer(request)))
            connection.transport.write(whole[: len(whole) // 2])
            if base == "reset":
                self.loop.call_soon(connection.transport.abort)
            else:
                self.loop.call_later(0.2, connection.transport.write, whole[len(whole) // 2 :])
        elif base == "429-after":
            connection.send(429, error("slow down"), ("retry-after: 0.1",))
        elif base.isdigit():
            connection.send(int(base), error(f"planted {base}"))
        elif base == "json":
            connection.send(200, b'{"choices": [{"message": {"content": "cut o')
        elif base == "no-choices":
            connection.send(200, b'{"choices": []}')
        elif base == "empty":
            connection.send(200, completion(""))
        elif base == "refusal":
            connection.send(200, completion(REFUSAL))
        elif base == "leak":
            connection.send(200, completion(LEAK.format(text=self.answer(request))))
        else:
            connection.send(200, completion(self.answer(request)))

    def batch(self, connection: _Connection, method: str, path: str, body: bytes) -> None:
        """The batch API: files and batches, as far as a client needs them."""
        parts = path.split("?")[0].strip("/").split("/")[1:]
        if method == "POST" and parts == ["files"]:
            raw = body.split(b"\r\n\r\n")
            found = next((p for p in raw if p.lstrip().startswith(b"{")), b"")
            name = f"file-{len(self.files)}"
            self.files[name] = found[: found.rfind(b"}") + 1]
            told = {"id": name, "object": "file", "bytes": 1, "created_at": 0, "filename": "f", "purpose": "batch"}
            connection.send(200, orjson.dumps(told | {"status": "processed"}))
        elif method == "GET" and parts[0] == "files" and parts[-1] == "content":
            connection.send(200, self.files[parts[1]])
        elif method == "POST" and parts == ["batches"]:
            asked = orjson.loads(body)
            name = f"batch-{len(self.batches)}"
            self.batches[name] = {
                "id": name, "object": "batch", "status": "in_progress", "created_at": 0, "endpoint": asked["endpoint"],
                "completion_window": "24h", "input_file_id": asked["input_file_id"], "polls": 0,
                "metadata": asked.get("metadata"),
            }  # fmt: skip
            connection.send(200, orjson.dumps(self.batches[name]))
        elif method == "GET" and parts == ["batches"]:
            connection.send(200, orjson.dumps({"object": "list", "data": list(self.batches.values()),
                                               "has_more": False}))  # fmt: skip
        elif method == "GET" and parts[0] == "batches" and parts[1] in self.batches:
            held = self.batches[parts[1]]
            held["polls"] += 1
            if held["polls"] >= self.batch_polls and held["status"] == "in_progress":
                self._work_off(held)
            connection.send(200, orjson.dumps(held))
        else:
            connection.send(404, error(f"no {method} {path}"))

    def _work_off(self, held: dict[str, Any]) -> None:
        good, bad = [], []
        for line in reversed(self.files[held["input_file_id"]].splitlines()):  # the order is not promised
            item = orjson.loads(line)
            text = item["body"]["messages"][-1]["content"]
            self.asked[text] += 1
            self.requests += 1
            if "‹400-always›" in text:
                bad.append({"custom_id": item["custom_id"], "response": None, "error": {"code": "400",
                            "message": "planted"}})  # fmt: skip
            else:
                reply = {"status_code": 200, "body": orjson.loads(completion(self.answer(item["body"])))}
                good.append({"custom_id": item["custom_id"], "response": reply, "error": None})
        for key, lines in (("output_file_id", good), ("error_file_id", bad)):
            if lines:
                name = f"file-{len(self.files)}"
                self.files[name] = b"\n".join(orjson.dumps(x) for x in lines) + b"\n"
                held[key] = name
        held["status"] = "completed"


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, server: FaultServer) -> None:
        self._server = server
        self._buffer = b""
        self._close = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._server._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server._open.discard(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if at < 0 and b"chunked" in head:
                done = self._buffer.find(b"\r\n0\r\n\r\n", end)
                if done < 0:
                    return
                body, self._buffer = _unchunk(self._buffer[end + 4 : done + 2]), self._buffer[done + 7 :]
            elif len(self._buffer) < end + 4 + length:
                return
            else:
                body, self._buffer = self._buffer[end + 4 : end + 4 + length], self._buffer[end + 4 + length :]
            self._close = b"connection: close" in head
            method, path = head.split(b" ", 2)[:2]
            if path.endswith(b"/chat/completions"):
                self._server.chat(self, body)
            elif path.endswith(b"/models"):
                self.send(200, b'{"object": "list", "data": [{"id": "m", "object": "model"}]}')
            elif path == b"/counts":
                s = self._server
                self.send(200, orjson.dumps({"requests": s.requests, "distinct": len(s.asked),
                                             "most_active": s.most_active, "active": s.active,
                                             "span_s": s.last_at - s.first_at}))  # fmt: skip
            else:
                self._server.batch(self, method.decode().upper(), path.decode(), body)

    def frame(self, status: int, body: bytes, headers: tuple[str, ...] = ()) -> bytes:
        extra = "".join(f"{h}\r\n" for h in (*headers, *self._server.headers))
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{extra}content-length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def send(self, status: int, body: bytes, headers: tuple[str, ...] = ()) -> None:
        if not self.transport.is_closing():
            self._server.statuses[status] += 1
            self.transport.write(self.frame(status, body, headers))
            if self._close:
                self.transport.close()


def _unchunk(raw: bytes) -> bytes:
    out = b""
    while raw:
        size, _, rest = raw.partition(b"\r\n")
        n = int(size, 16)
        out, raw = out + rest[:n], rest[n + 2 :]
    return out


def faulty_rows(n: int) -> list[dict[str, str]]:
    """Rows of which every fifth is in trouble, each kind in turn."""
    rows = [{"id": f"r{i:06d}", "text": f"row {i}"} for i in range(n)]
    for i in range(0, n, 5):
        rows[i]["text"] += f" ‹{KINDS[i // 5 % len(KINDS)]}›"
    return rows


def revive_soon(server: FaultServer, after_s: float = 0.5) -> None:
    """Once the server has died, bring it back after a while; returns at once."""

    def wait() -> None:
        while server.alive:
            time.sleep(0.01)
        time.sleep(after_s)
        server.revive()

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Serve until killed; the first line of the output is the address."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--latency", type=float, default=0.0)
    p.add_argument("--slots", type=int, default=1 << 20)
    p.add_argument("--answer", choices=["upper", "edited"], default="upper")
    a = p.parse_args()
    with FaultServer(edited if a.answer == "edited" else None, latency=a.latency, slots=a.slots) as s:
        print(s.base_url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
