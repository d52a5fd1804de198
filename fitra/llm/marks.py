"""Untrusted text inside a prompt: marks that the text cannot write itself, and templates whose values mean nothing."""

from __future__ import annotations

import hashlib
import re

__all__ = ["between", "block", "fill", "nonce_of"]


def fill(template: str, **values: str) -> str:
    """Replace {name} in one pass: braces in the values, and unknown names, mean nothing."""
    return re.sub(r"\{(\w+)\}", lambda m: values.get(m[1], m[0]), template)


def nonce_of(text: str) -> str:
    """Eight hex digits made from a text that does not hold them: equal texts make equal requests."""
    held, n = text.casefold(), 0
    while True:
        made = hashlib.sha256(f"{n}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
        if made not in held:
            return made
        n += 1


def between(text: str) -> str:
    """Untrusted text between two markers that it cannot write itself."""
    nonce = nonce_of(text)
    return f"<<<{nonce}\n{text}\n{nonce}>>>"


def block(name: str, text: str, nonce: str) -> str:
    """One of several untrusted texts of a prompt, named; `nonce` is of all of them together."""
    return f"<<<{nonce} {name}\n{text}\n{nonce} {name}>>>"
