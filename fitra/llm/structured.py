"""What is in a reply: JSON by a schema, the paper's template, or plain text with talk around it.

Structured output is asked for where a server offers it (`Job.schema`), but never relied on: these parsers read what
servers without it send, too. A model's text is data; whatever is not understood raises ParseError, for its row alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["REWRITE_SCHEMA", "ParseError", "is_refusal", "parse_json", "parse_object", "parse_rewrite"]

# The order matters: a model that writes the analysis first writes the better text (the paper's template).
REWRITE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"analysis": {"type": "string"}, "rewritten_text": {"type": "string"}},
    "required": ["analysis", "rewritten_text"],
    "additionalProperties": False,
}

_THINK = re.compile(r"\A\s*<think>.*?</think>\s*", re.S)
_FENCE = re.compile(r"\A\s*```[\w-]*[ \t]*\n(.*?)\n?```\s*\Z", re.S)
_PREAMBLE = re.compile(
    r"\A\s*(?:بالتأكيد|بكل سرور|حسنا|إليك|هذا هو|فيما يلي|sure|certainly|of course|here is|here's)"
    r"[^\n:：]{0,80}[:：!.]\s*\n+",
    re.I,
)
_EDGE, _COLON = r"^[ \t*#>_]*(?:\d[.)][ \t]*)?[*_]*", r"[ \t*_]*[:：][ \t*_]*\n?"
_REWRITTEN = re.compile(
    _EDGE + r"(?:النص (?:المعاد (?:صياغته|كتابته)|المعدل|المهذب|المنقح|بعد التعديل|بعد التهذيب)"
    r"|rewritten(?: arabic)?[ _]text|rewritten|polished(?: arabic)? text|revised text)" + _COLON,
    re.I | re.M,
)
_OTHER = re.compile(_EDGE + r"(?:تحليل النص|التحليل|analysis|(?:original |arabic )text)" + _COLON, re.I | re.M)
_REFUSAL = re.compile(
    r"\A\W*(?:(?:عذرا|آسف|أعتذر|للأسف)ً?[،,]?\s*(?:و?لكن(?:ني)?\s*)?(?:ف?لا|لن)\s*(?:أستطيع|يمكنني|أقدر)"
    r"|(?:لا|لن) (?:أستطيع|يمكنني) (?:مساعدتك|المساعدة|تلبية|معالجة|إعادة)"
    r"|(?:i'?m |i am )?(?:very )?(?:sorry|apologi[sz]e)[,.]? (?:but )?i (?:can(?:no|'|’)t|am unable|won'?t)"
    r"|i (?:can(?:not|'t|’t)|am unable to|won't) (?:help|assist|rewrite|comply|fulfil)|as an ai\b)",
    re.I,
)
_SHORT = 400  # characters: a longer text that begins like a refusal is a text


class ParseError(ValueError):
    """A reply that is not what the job asked for; recorded with its row, neighbours are not touched."""


def parse_json(text: str) -> Any:
    """The JSON object or array in a reply, with or without a code fence or talk around it; ParseError without one."""
    starts = [i for i in (text.find("{"), text.find("[")) if i >= 0]
    for start in sorted(starts):
        try:
            return json.JSONDecoder().raw_decode(text, start)[0]
        except (ValueError, RecursionError):
            continue
    raise ParseError("no JSON in the reply")


def parse_object(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object in a reply, checked against the required keys and plain types of `schema`."""
    value = parse_json(_THINK.sub("", text))
    if not isinstance(value, dict):
        raise ParseError(f"expected a JSON object, got {type(value).__name__}")
    missing = [k for k in schema.get("required", []) if k not in value]
    if missing:
        raise ParseError(f"the JSON lacks {', '.join(missing)}")
    for key, want in schema.get("properties", {}).items():
        kind = want.get("type") if isinstance(want, Mapping) else None
        if key in value and isinstance(kind, str) and not _fits(value[key], kind):
            raise ParseError(f"'{key}' in the JSON is no {kind}")
    return value


def _fits(value: Any, kind: str) -> bool:
    kinds: dict[str, Any] = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list,
                             "object": dict, "null": type(None)}  # fmt: skip
    if isinstance(value, bool) and kind in ("integer", "number"):
        return False
    return kind not in kinds or isinstance(value, kinds[kind])


def parse_rewrite(reply: str) -> str:
    """The rewritten text in a model's reply, in whichever shape it came.

    JSON by REWRITE_SCHEMA; the paper's template (Arabic text, analysis, rewritten text: what follows the last heading
    counts); or the text alone, with or without a code fence, a preamble line, <think>. Raises ParseError when nothing
    is left, and where the template breaks off before its rewritten text: its analysis must not pass for a text.
    """
    text = _unfenced(_THINK.sub("", reply.replace("\r\n", "\n")))
    if text.lstrip().startswith("{") and '"rewritten_text"' in text:
        found = parse_object(text, REWRITE_SCHEMA | {"required": ["rewritten_text"]})["rewritten_text"]
        text = str(found)
    else:
        text = _PREAMBLE.sub("", text)
        parts = _REWRITTEN.split(text)
        if len(parts) > 1:
            text = parts[-1]
        elif _OTHER.match(text.lstrip()):
            raise ParseError("the template without its rewritten text")
        text = _unfenced(text)
    text = text.strip("\n \t")
    if not text:
        raise ParseError("an empty reply")
    return text


def _unfenced(text: str) -> str:
    fence = _FENCE.match(text)
    return fence[1] if fence else text


def is_refusal(text: str) -> bool:
    """Does a reply say, in Arabic or English, that the model will not do it?"""
    return len(text) <= _SHORT and _REFUSAL.match(text) is not None
