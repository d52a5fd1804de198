"""Prompts as data: text with {fields}, filled in one pass and nothing else.

`{name}` puts a field's text; `{name|strip}` without the white space around it; `{name|spaces}` with spaces for
underscores. `{{` and `}}` are braces. What a field holds is never looked at again, so benchmark text cannot reach out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from fitra.errors import FitraError

_TOKEN = re.compile(r"\{\{|\}\}|\{([a-z_][a-z0-9_]*)(?:\|(\w+))?\}|[{}]")
FILTERS: dict[str, Callable[[str], str]] = {"strip": str.strip, "spaces": lambda text: text.replace("_", " ")}


def fields(template: str, where: str) -> set[str]:
    """The fields a template names. Raises FitraError for a stray brace or an unknown filter; `where` says of what."""
    found = set()
    for m in _TOKEN.finditer(template):
        if m[0] in "{}":
            raise FitraError(f"{where}: a stray '{m[0]}' in {template!r}.", "Write {{ or }} for a brace.")
        if m[1]:
            found.add(m[1])
        if m[2] and m[2] not in FILTERS:
            raise FitraError(f"{where}: no filter '{m[2]}' in {template!r}.", f"There are: {', '.join(FILTERS)}.")
    return found


def render(template: str, values: Mapping[str, str]) -> str:
    """The template with its fields filled. Raises KeyError for a field without a value."""

    def one(m: re.Match[str]) -> str:
        if not m[1]:
            return m[0][0]
        return FILTERS[m[2]](values[m[1]]) if m[2] else values[m[1]]

    return _TOKEN.sub(one, template)
