"""A model that edits lightly: what `fault_server` answers with `--answer edited`."""

from __future__ import annotations

import re
from typing import Any

# Words that can stand for each other: what `edited` changes, once each.
_EDITS = (
    (" حيث ", " إذ "), (" خلال ", " أثناء "), (" أيضا", " كذلك"), ("وأضاف ", "وزاد "), ("وقال ", "وذكر "),
    (" بعد ", " عقب "), (" حول ", " بشأن "),
)  # fmt: skip
_BETWEEN = re.compile(r"<<<([0-9a-f]{8})[ \t]*\n(.*?)\n\1>>>", re.S)  # where the prompts of `fitra align` put the text
AS_IS = "‹as is›"  # in the system message: `edited` changes nothing


def said(message: dict[str, Any]) -> str:
    """The text of a message, also where it comes as a list of parts."""
    content = message["content"]
    return "".join(str(p.get("text", "")) for p in content) if isinstance(content, list) else str(content)


def edited(request: dict[str, Any]) -> str:
    """The text of the first turn, between its marks where it has them, with a few words exchanged for others."""
    turns = [m for m in request["messages"] if m["role"] != "system"]
    text = said(turns[0])
    if found := _BETWEEN.search(text):
        text = found[2]
    if AS_IS not in said(request["messages"][0]):
        for old, new in _EDITS:
            text = text.replace(old, new, 1)
    return text
