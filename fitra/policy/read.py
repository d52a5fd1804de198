"""Reading a policy folder and its packs into a `Policy`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fitra.artifacts import digest
from fitra.errors import FitraError
from fitra.policy.model import GROUPS, Policy, Rule

__all__ = ["Source", "build", "folder_of", "merge", "read"]

Data = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """A policy folder as parsed, nothing checked yet. Files are named as a reader finds them in the folder."""

    folder: Path
    head: Data
    groups: tuple[tuple[str, Data], ...]
    prompts: Mapping[str, str]
    lexicon: Mapping[str, Data]
    card: Mapping[str, str]
    packs: tuple[tuple[str, Data], ...]


# The C parser reads a policy in a tenth of the time; PyYAML can be built without it.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]  # either of the two
    """YAML whose keys are texts, each given once: a second one would replace the first in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            problem = ""
            if key.tag != "tag:yaml.org,2002:str":
                problem = "a key must be text: put it in quotation marks"
            elif key.value in seen:
                problem = f"the key '{key.value}' is given twice"
            if problem:
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        held: dict[str, Any] = super().construct_mapping(node, deep)
        return held


def _yaml(path: Path) -> Data:
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        mark = getattr(e, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise FitraError(
            f"{path}{line}: not valid YAML: {getattr(e, 'problem', e)}.",
            "Check the indentation, and quote a text that holds ': ' or ' #'.",
        ) from None
    if not isinstance(value, dict):
        raise FitraError(f"{path}: expected a mapping.", "Compare with the shipped policy.")
    return value


def folder_of(name_or_folder: str | Path) -> Path:
    """The folder of a policy; FitraError names those that ship where there is none."""
    shipped = Path(__file__).parent / str(name_or_folder)
    if re.fullmatch(r"[\w-]+", str(name_or_folder)) and (shipped / "policy.yaml").is_file():
        return shipped
    folder = Path(name_or_folder)
    if (folder / "policy.yaml").is_file():
        return folder
    known = sorted(p.parent.name for p in Path(__file__).parent.glob("*/policy.yaml"))
    raise FitraError(
        f"policy '{name_or_folder}': neither shipped with Fitra ({', '.join(known)}) nor a folder with policy.yaml.",
        "Copy the shipped folder to start one of your own.",
    )


def _pack(folder: Path, name: str) -> Path:
    own = folder / "packs" / f"{name}.yaml"
    path = own if re.fullmatch(r"[\w-]+", name) else Path(name)
    if path.is_file():
        return path
    known = ", ".join(sorted(p.stem for p in (folder / "packs").glob("*.yaml"))) or "none"
    raise FitraError(
        f"policy {folder.name}: no pack '{name}': neither one of this policy ({known}) nor a .yaml file.",
        "A pack is a file packs/NAME.yaml in the policy's folder, or a path to one.",
    )


def read(name_or_folder: str | Path, packs: Sequence[str] | None = ()) -> Source:
    """Read a policy and the named packs, or all packs of its folder for None; FitraError for what cannot be read.

    Packs come in the order of their ids, each once: the order in which they were named changes nothing.
    """
    folder = folder_of(name_or_folder)
    if packs is None:
        paths = sorted((folder / "packs").glob("*.yaml"))
    else:
        paths = list({p.resolve(): p for p in (_pack(folder, name) for name in packs)}.values())
    held = [(f"packs/{p.name}", _yaml(p)) for p in paths]
    return Source(
        folder,
        _yaml(folder / "policy.yaml"),
        tuple((f"rules/{p.name}", _yaml(p)) for p in sorted((folder / "rules").glob("*.yaml"))),
        {p.stem: p.read_text(encoding="utf-8") for p in sorted((folder / "prompts").glob("*.md"))},
        {p.stem: _yaml(p) for p in sorted((folder / "lexicon").glob("*.yaml"))},
        {p.stem: p.read_text(encoding="utf-8") for p in sorted((folder / "card").glob("*.md"))},
        tuple(sorted(held, key=lambda h: str(h[1].get("id")))),
    )


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> Data:
    """A raw rule with what a pack says about it on top: what the pack does not mention stays."""
    out = dict(base)
    for key, value in override.items():
        if key in ("statement", "reason") and isinstance(value, Mapping) and isinstance(base.get(key), Mapping):
            out[key] = {**base[key], **value}
        elif key != "overrides":
            out[key] = value
    return out


def rule(raw: Mapping[str, Any], group: str, packs: Iterable[str] = ()) -> Rule:
    """A rule from its (checked) raw form."""
    return Rule(
        id=raw["id"],
        group=group,
        statement_ar=raw["statement"]["ar"].strip(),
        statement_en=raw["statement"]["en"].strip(),
        reason=raw["reason"]["en"].strip(),
        reason_ar=raw["reason"]["ar"].strip(),
        examples=tuple((e["before"], e["after"]) for e in raw.get("examples") or []),
        counter_examples=tuple(raw.get("counter_examples") or []),
        action=raw["action"],
        code=raw["code"],
        by=raw.get("by", "model"),
        protects=group == "knowledge" or bool(raw.get("protects")),
        packs=tuple(packs),
    )


def build(source: Source) -> Policy:
    """The policy of a checked source: rules in the order of the groups, a pack's own rules after those of the base."""
    raws: dict[str, tuple[Data, str, list[str]]] = {}
    for _, data in source.groups:
        for r in data["rules"]:
            raws[r["id"]] = (r, data["group"], [])
    codes = dict(source.head["codes"])
    for _, pack in source.packs:
        codes |= pack.get("codes") or {}
        for r in pack["rules"]:
            if "overrides" in r:
                raw, group, by = raws[r["overrides"]]
                raws[r["overrides"]] = (merge(raw, r), group, [*by, pack["id"]])
            else:
                raws[r["id"]] = (r, r["group"], [pack["id"]])
    rules = [rule(raw, group, packs) for raw, group, packs in raws.values()]
    rules.sort(key=lambda r: (GROUPS.index(r.group), len(r.packs) > 0 and not _is_base(source, r)))
    head, names = source.head, tuple(str(pack["id"]) for _, pack in source.packs)
    parts = [
        head, [d for _, d in source.groups], source.prompts, source.lexicon, source.card, [d for _, d in source.packs],
    ]  # fmt: skip
    return Policy(
        id="+".join((head["id"], *names)),
        version=head["version"],
        hash=digest(parts),
        rules=tuple(rules),
        prompts=source.prompts,
        gates={k: float(v) for k, v in head["gates"].items()},
        outcomes={"default": "retry", "exhausted": "keep_original", **(head.get("outcomes") or {})},
        unsafe=float(head["unsafe"]),
        lexicon=source.lexicon,
        title=head["title"],
        card={k: v.strip() for k, v in source.card.items()},
        triage={k: float(v) for k, v in head["triage"].items()},
        codes=codes,
        packs=names,
    )


def _is_base(source: Source, held: Rule) -> bool:
    return any(r["id"] == held.id for _, data in source.groups for r in data["rules"])
