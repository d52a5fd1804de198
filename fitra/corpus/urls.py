"""Addresses that lead to the same page."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit

import xxhash

# Keys that say where a visitor came from, not what is shown.
_TRACKING = re.compile(r"^(utm_\w+|fbclid|gclid|dclid|msclkid|yclid|mc_[ce]id|igshid|ref|ref_src|spm|amp)$", re.I)


def canonical(url: str) -> str:
    """An address without scheme, user, `www.`, default port, fragment, tracking keys and final slash; keys sorted."""
    try:
        parts = urlsplit(url.strip() if "://" in url else "//" + url.strip())
        port = parts.port
    except ValueError:
        return url.strip()
    host = (parts.hostname or "").removeprefix("www.").removeprefix("m.").rstrip(".")
    query = sorted((k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if not _TRACKING.match(k))
    shown = host + (f":{port}" if port not in (None, 80, 443) else "") + parts.path.rstrip("/")
    return shown + (f"?{urlencode(query)}" if query else "")


def url_key(url: str | None) -> int:
    """A 64-bit number of the canonical address, never 0; 0 for none."""
    return (xxhash.xxh3_64_intdigest(canonical(url).encode("utf-8", "replace")) or 1) if url and url.strip() else 0
