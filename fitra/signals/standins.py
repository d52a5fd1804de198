"""Stand-ins for personal data: the same original always becomes the same look-alike, of the same shape and digits.

A stand-in comes from a keyed hash (BLAKE2b, RFC 7693) of the original in plain form, so that ٠٥٠ 123 4567 and
0501234567 get the same digits. The key is read from the environment variable FITRA_PII_KEY. Without one the stand-ins
are still stable, but whoever guesses an original can check the guess: set a key where that matters.

A stand-in of an e-mail address, a handle or an address of a machine is recognised and left as it is; a telephone number
cannot be, so replace once.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import unicodedata

__all__ = ["standin"]

_EMAIL = re.compile(r"user\d{5}@example\.(?:org|com|net)")
_HANDLE = re.compile(r"@?user_\d{5}")
_MACHINE = re.compile(r"(?:192\.0\.2|198\.51\.100|203\.0\.113)\.\d{1,3}|2001:db8:.*", re.I)


@functools.lru_cache(maxsize=8)
def _key(given: str) -> bytes:
    return hashlib.blake2b(given.encode(), digest_size=32).digest() if given else b""


def _number(original: str, kind: str) -> int:
    """64 bits of the keyed hash."""
    key = _key(os.environ.get("FITRA_PII_KEY", ""))
    # Another kind, another hash: a handle shall not tell of the e-mail address of the same name.
    plain = f"{kind}:{original}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(plain, digest_size=8, key=key).digest(), "big")


def _ascii(text: str) -> str:
    return "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in text)


def _redigit(text: str, digits: str) -> str:
    """`text` with its last len(digits) digits replaced, each in the script of the digit that was there."""
    out, left = list(text), list(digits)
    for i in range(len(out) - 1, -1, -1):
        if not left:
            break
        if out[i].isdigit():
            zero = ord(out[i]) - unicodedata.digit(out[i])
            out[i] = chr(zero + int(left.pop()))
    return "".join(out)


def _tail(text: str, kind: str, n: int, known: str) -> str:
    """New last n digits, never those that were there."""
    value = _number(known, kind) % 10**n
    if f"{value:0{n}d}" == _digits(text)[-n:]:
        value = (value + 1) % 10**n
    return _redigit(text, f"{value:0{n}d}")


def _digits(text: str) -> str:
    return "".join(c for c in _ascii(text) if c.isdigit())


def standin(original: str, kind: str) -> str:
    """The look-alike for one finding of `kind` (see `personal.KINDS`)."""
    plain = _ascii(original)
    if kind == "email":
        return original if _EMAIL.fullmatch(plain) else f"user{_number(plain.lower(), kind) % 10**5:05d}@example.org"
    if kind == "handle":
        sign, name = original[: original.startswith("@")], plain.lstrip("@").lower()
        return original if _HANDLE.fullmatch(plain) else f"{sign}user_{_number(name, kind) % 10**5:05d}"
    if kind == "ip":
        return original if _MACHINE.fullmatch(plain) else _machine(plain, _number(plain.lower(), kind), original)
    digits = _digits(plain)
    if kind == "phone":
        # The last eight digits are the subscriber, with a country code or without.
        return _tail(original, kind, min(6, len(digits) - 2), digits[-8:])
    if kind == "iban":
        # Check digits are 02 to 98: with 00 it is nobody's account, and is not found again.
        letters = "".join(c for c in plain.upper() if c.isalnum())
        replaced = list(_tail(original, kind, min(10, len(digits) - 2), letters))
        zero = ord(replaced[2]) - unicodedata.digit(replaced[2])
        replaced[2:4] = [chr(zero)] * 2
        return "".join(replaced)
    return _tail(original, kind, max(1, len(digits) - 1), digits)


def _machine(plain: str, number: int, original: str) -> str:
    if ":" in plain:  # documentation range, RFC 3849
        return f"2001:db8::{number >> 16 & 0xFFFF:x}:{number & 0xFFFF:x}"
    net = ("192.0.2", "198.51.100", "203.0.113")[number % 3]  # documentation ranges, RFC 5737
    made = f"{net}.{(number >> 8) % 254 + 1}"
    zero = ord(original[0]) - unicodedata.digit(original[0])
    return "".join(chr(zero + int(c)) if c.isdigit() else c for c in made)
