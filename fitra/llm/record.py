"""One stored answer, and how it lies in a frame of a segment: the key (32 bytes), then UTF-8 JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from fitra.llm import segment
from fitra.llm.segment import KEY_BYTES, MAX_PAYLOAD


@dataclass(frozen=True)
class Record:
    """One stored answer. `key` is 64 hex digits; `at` (unix seconds), `seconds` and `attempts` say what it took.

    `maybe_paid` counts the workers that had asked the same before and died, or lost the connection, before an answer
    was stored: the provider may have charged for each.
    """

    key: str
    text: str
    finish_reason: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    identity: str = ""
    job: str = ""
    at: float = 0.0
    seconds: float = 0.0
    attempts: int = 1
    maybe_paid: int = 0


def pack(record: Record) -> bytes:
    """One frame for a segment; ValueError where the key is malformed or the answer absurdly long."""
    key = bytes.fromhex(record.key)
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {2 * KEY_BYTES} hex digits, not {len(record.key)}")
    body = {k: v for k, v in vars(record).items() if k != "key" and (v or k != "maybe_paid")}
    # surrogatepass: a server may send lone surrogates, and what was paid for is kept as it came.
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")
    if len(text) > MAX_PAYLOAD - KEY_BYTES:
        raise ValueError(f"an answer of {len(text):,} bytes does not fit into a ledger")
    return segment.encode(key + text)


def unpack(payload: bytes | memoryview) -> Record | None:
    """The answer in a frame; None where a later version wrote it with fields that we do not know."""
    body = bytes(payload[KEY_BYTES:]).decode(errors="surrogatepass")
    try:
        return Record(key=bytes(payload[:KEY_BYTES]).hex(), **json.loads(body))
    except (ValueError, TypeError):
        return None
