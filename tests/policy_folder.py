"""A copy of the shipped policy that a test may spoil."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fitra import policy
from fitra.cli.policy import rewriter

SHIPPED = Path(policy.__file__).parent / "default"
PACKS = ["egypt", "gulf", "iraq", "levant", "maghreb"]
REWRITE = rewriter(policy.load())  # the deterministic rewriter, as `fitra policy check` tries examples with it


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def save(path: Path, data: Any) -> None:
    path.write_text(yaml.dump(data, Dumper=yaml.CSafeDumper, allow_unicode=True), encoding="utf-8")


def change(path: Path, rule_id: str, **fields: Any) -> None:
    """Set fields of one rule of a YAML file; None takes a field out."""
    data = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    (rule,) = (r for r in data["rules"] if rule_id in (r.get("id"), r.get("overrides")))
    for key, value in fields.items():
        rule.pop(key) if value is None else rule.__setitem__(key, value)
    save(path, data)


def pack(folder: Path, name: str, *entries: dict[str, Any], **more: Any) -> None:
    data = {"id": name, "title": {"ar": "حزمة للتجربة", "en": "A pack to try"}, "rules": list(entries), **more}
    (folder / "packs" / f"{name}.yaml").write_text(
        yaml.dump(data, Dumper=yaml.CSafeDumper, allow_unicode=True), encoding="utf-8"
    )


def said(folder: Path, **given: Any) -> list[str]:
    return [str(p) for p in policy.check(folder, **given)]
