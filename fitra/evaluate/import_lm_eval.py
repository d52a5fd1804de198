"""A simple lm-eval task as a task card: multiple choice whose texts are fields of a row and nothing more.

lm-eval's templates are programs. What is read here is `{{column}}`, `{{column.strip()}}` and `{{column | trim}}`, with
any text around them; whatever computes is refused by name, so that no card asks something else than its task did.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fitra.artifacts import write_text
from fitra.errors import FitraError
from fitra.evaluate import taskcard
from fitra.evaluate.benchmark import LETTERS, NO, YES

HINT = "Write a card by hand: docs/evaluate-tasks.md."
_FIELD = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*(?:\.strip\(\)|\|\s*trim)?\s*\}\}")
_STRIPPED = re.compile(r"strip\(\)|trim")
_LIST = re.compile(r"\{\{\s*(\[.*\])\s*\}\}", re.DOTALL)
_INDEX = re.compile(r"\{\{\s*(\[[^\]]*\])\.index\(\s*([A-Za-z_]\w*)(?:\.strip\(\))?\s*\)\s*\}\}")
_MINUS_ONE = re.compile(r"\{\{\s*\(?\s*([A-Za-z_]\w*)\s*(?:\|\s*int\s*)?\)?\s*-\s*1\s*\}\}")
_NAME = re.compile(r"[A-Za-z_]\w*")
GOLDS = ("letter", "index", "number", "text", "yes_no")


class _Loader(yaml.SafeLoader):
    """Safe, but able to say which key a `!function` stands under."""


class _Function(str):
    """What a YAML file wanted to be run."""


_Loader.add_constructor("!function", lambda loader, node: _Function(node.value))


def read(path: Path, depth: int = 0) -> dict[str, Any]:
    """The keys of an lm-eval YAML file, with those of the file beside it that it includes.

    Raises FitraError where it is no YAML, or includes a file from elsewhere.
    """
    path = Path(path)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a SafeLoader
    except OSError as e:
        raise FitraError(f"{path}: {e.strerror}.", "Give the YAML file of an lm-eval task.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise FitraError(f"{path}: not readable as YAML.", "Give the YAML file of an lm-eval task.") from None
    if not isinstance(raw, dict):
        raise FitraError(f"{path}: not a task: it has no keys.", "Give the YAML file of an lm-eval task.")
    other = raw.pop("include", None)
    if other is None:
        return raw
    if not isinstance(other, str) or "/" in other or "\\" in other or depth > 4:
        raise FitraError(f"{path}: include: '{other}' is not a file beside it.", HINT)
    return {**read(path.parent / other, depth + 1), **raw}


def card(path: Path, gold: str | None = None, options: Sequence[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """(a task card as plain data, what to know about it) from an lm-eval YAML file.

    `gold` says how the answer column is written (one of GOLDS) and `options` which columns hold the options' texts,
    where the file does not tell. Raises FitraError naming the key that cannot be a card.
    """
    raw = read(path)
    where = str(path)
    for key, value in raw.items():
        if isinstance(value, _Function) and key.startswith(("doc_to", "process")):
            raise FitraError(f"{where}: {key} is a function.", HINT)
    if raw.get("output_type", "generate_until") != "multiple_choice":
        raise FitraError(f"{where}: output_type is {raw.get('output_type')}, not multiple_choice.", HINT)
    if gold is not None and gold not in GOLDS:
        raise FitraError(f"gold '{gold}' is not one of {', '.join(GOLDS)}.", "--gold letter")
    known = _Fields()
    said: list[str] = []
    ask = known.template(_text(raw, "doc_to_text", where), f"{where}: doc_to_text")
    labels, columns = _choices(raw, where)
    columns = list(options) or columns
    answer, how = _target(raw, where, labels)
    if not columns and len(labels) and not _yes_no(labels):
        # The options' texts stand in the prompt by name: as many columns as there are labels, named last.
        columns = known.names[-len(labels) :] if len(known.names) > len(labels) else []
        if not columns:
            raise FitraError(f"{where}: doc_to_choice: which columns hold the options?", "--options A,B,C,D")
    how = gold or how
    if not columns:
        labels, how = _two(raw, labels, gold or how, where)
    question = next((n for n in known.names if n not in columns), known.names[0] if known.names else "")
    if not question:
        raise FitraError(f"{where}: doc_to_text names no column.", HINT)
    ask = re.sub(rf"(?<!\{{)\{{{known.of[question]}(?=[|}}])", "{question", ask)
    fields = {f: c for c, f in known.of.items() if c != question}
    delimiter = str(raw.get("target_delimiter", " "))
    description = (
        known.template(str(raw.get("description", "")), f"{where}: description") if raw.get("description") else ""
    )
    few = {
        "head": description,
        "shot": f"{ask}{_plain(delimiter)}{{answer}}{_plain(str(raw.get('fewshot_delimiter', chr(10) * 2)))}",
        "ask": ask,
    }
    shots = raw.get("num_fewshot") or 0
    metrics = [m.get("metric") for m in raw.get("metric_list") or [] if isinstance(m, dict)]
    said += [f"the metric {m} is left out" for m in metrics if m not in ("acc", None)]
    data: dict[str, Any] = {"question": question, "answer": answer, "gold": how or "index"}
    if columns:
        data["options"] = columns if len(columns) > 1 else columns[0]
    if fields:
        data["fields"] = fields
    if shots or raw.get("fewshot_split"):
        test, dev = raw.get("test_split") or raw.get("validation_split"), raw.get("fewshot_split")
        data |= {"split": "split", "test": [str(test or "test")], "shots": [str(dev or "dev")]}
        said.append("worked examples: the file needs a column 'split' that says which rows they are")
    protocol = {
        "about": f"lm-eval's {_line(raw.get('task', path.stem))}",
        "version": _version(raw),
        "ask": description + ask,
        "few": few,
        "shots": int(shots),
        "lead": delimiter,
        "option": "{text}",
        "metrics": ["accuracy"],
        **({"labels": labels} if labels else {"scored": "text"}),
    }
    name = re.sub(r"[^a-z0-9_]+", "_", str(raw.get("task", path.stem)).lower()).strip("_") or "imported"
    source = "/".join(str(raw[k]) for k in ("dataset_path", "dataset_name") if isinstance(raw.get(k), str))
    made = {
        "name": name if name[0].isalpha() else f"task_{name}",
        "title": _line(raw.get("task", path.stem)),
        "about": "imported from an lm-eval task",
        "source": source or "not stated",
        "licence": "not stated",
        "data": data,
        "protocols": {"lm_eval": protocol},
    }
    return made, said


def convert(path: Path, out: Path, gold: str | None = None, options: Sequence[str] = ()) -> list[str]:
    """Write the card of an lm-eval task to `out`, read it back, and return what to know about it."""
    made, said = card(path, gold, options)
    write_text(Path(out), yaml.safe_dump(made, allow_unicode=True, sort_keys=False))
    taskcard.load(Path(out))  # whatever is wrong with it is said now
    return said


class _Fields:
    """Columns and the fields that stand for them: small letters, each column one field."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}

    @property
    def names(self) -> list[str]:
        return list(self.of)

    def template(self, text: str, where: str) -> str:
        """The text with {field} for {{column}}. Raises FitraError for anything that computes."""
        out, at = [], 0
        for m in _FIELD.finditer(text):
            out += [self._between(text[at : m.start()], where), self._field(m)]
            at = m.end()
        return "".join([*out, self._between(text[at:], where)])

    def _between(self, text: str, where: str) -> str:
        if "{{" in text or "{%" in text or "{#" in text:
            found = text[max(0, text.find("{")) :][:60]
            raise FitraError(f"{where}: {found!r} is more than the name of a column.", HINT)
        return _plain(text)

    def _field(self, m: re.Match[str]) -> str:
        base = re.sub(r"[^a-z0-9_]", "_", m[1].lower()).lstrip("_0123456789") or "field"
        name = self.of.get(m[1])
        if name is None:
            taken = {*self.of.values(), "question", "options", "answer", "category", "letter", "text", "value"}
            name = next(n for n in (base, *(f"{base}_{k}" for k in range(2, 99))) if n not in taken)
            self.of[m[1]] = name
        return "{" + name + ("|strip}" if _STRIPPED.search(m[0]) else "}")


def _plain(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _line(text: Any) -> str:
    return " ".join(str(text).split())[:200]


def _version(raw: Mapping[str, Any]) -> int:
    metadata = raw.get("metadata")
    value = metadata.get("version") if isinstance(metadata, dict) else None
    try:
        return max(1, int(float(value)))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 1


def _text(raw: Mapping[str, Any], key: str, where: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value.strip():
        raise FitraError(f"{where}: {key} is not a text.", HINT)
    return "{{" + value + "}}" if _NAME.fullmatch(value) else value  # lm-eval: a column by its bare name


def _literal(text: str, where: str) -> list[str] | None:
    """The names or the quoted texts of a list; None where it holds something else."""
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        raise FitraError(f"{where}: {text[:60]!r} is no list.", HINT) from None
    if not isinstance(tree, ast.List):
        return None
    if all(isinstance(e, ast.Constant) and isinstance(e.value, str) for e in tree.elts):
        return ["'" + e.value for e in tree.elts if isinstance(e, ast.Constant) and isinstance(e.value, str)]
    if all(isinstance(e, ast.Name) for e in tree.elts):
        return [e.id for e in tree.elts if isinstance(e, ast.Name)]
    return None


def _choices(raw: Mapping[str, Any], where: str) -> tuple[list[str], list[str]]:
    """(labels, columns of the options): one of them is empty."""
    value, where = raw.get("doc_to_choice"), f"{where}: doc_to_choice"
    if isinstance(value, str):
        listed = _LIST.fullmatch(value.strip())
        alone = _FIELD.fullmatch(value.strip())
        if listed:
            found = _literal(listed[1], where)
            if found is not None:
                words = [x[1:] for x in found if x.startswith("'")]
                return (words, []) if words else ([], found)
        elif alone or _NAME.fullmatch(value.strip()):
            return [], [alone[1] if alone else value.strip()]
    if isinstance(value, list) and len(value) > 1 and all(isinstance(x, str | int) for x in value):
        fields = [_FIELD.fullmatch(str(x).strip()) for x in value]
        if all(fields):
            return [], [m[1] for m in fields if m]
        if not any("{{" in str(x) or "{%" in str(x) for x in value):
            return [str(x) for x in value], []
    raise FitraError(f"{where} is neither a list of texts nor of columns.", HINT)


def _target(raw: Mapping[str, Any], where: str, labels: Sequence[str]) -> tuple[str, str]:
    """(the answer's column, how it is written or '')."""
    value, where = raw.get("doc_to_target"), f"{where}: doc_to_target"
    if isinstance(value, str):
        text = value.strip()
        if m := _INDEX.fullmatch(text):
            listed = [x.removeprefix("'") for x in _literal(m[1], where) or []]
            if [LETTERS.get(x) for x in listed] == list(range(len(listed))) and listed:
                return m[2], "letter"
        elif m := _MINUS_ONE.fullmatch(text):
            return m[1], "number"
        elif m := _FIELD.fullmatch(text):
            return m[1], ""
        elif _NAME.fullmatch(text):
            return text, ""
    raise FitraError(f"{where}: {str(value)[:60]!r} names no column.", HINT)


def _yes_no(labels: Sequence[str]) -> bool:
    return len(labels) == 2 and {_side(x) for x in labels} == {0, 1}


def _side(label: str) -> int | None:
    text = label.strip().lower()
    return 0 if text in YES else 1 if text in NO else None


def _two(raw: Mapping[str, Any], labels: list[str], how: str, where: str) -> tuple[list[str], str]:
    """Yes and no as the answers: the card wants yes first, and reads 1, true, نعم as yes."""
    yes_first = _side(labels[0]) == 0
    if how in ("index", "") and yes_first:
        raise FitraError(
            f"{where}: doc_to_target: is 0 yes, as the order of doc_to_choice says, or are the words written there?",
            "--gold text where the column holds the words themselves.",
        )
    if how not in ("index", "", "text", "yes_no"):
        raise FitraError(f"{where}: gold '{how}' does not go with yes and no.", "--gold text")
    return (labels if yes_first else labels[::-1]), "yes_no"
