"""The policy: complete, with an identity, and checked by its own examples."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fitra import policy
from fitra.align import masking, rules
from fitra.errors import FitraError


def rewrite(text: str) -> str:
    masked = masking.mask(text)
    made = rules.apply(masked, rules.compile_rules(policy.load()))
    return masking.unmask(made.text, masked, [int(m[1]) for m in masking.PLACEHOLDER.finditer(made.text)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(Path(policy.__file__).parent / "default", tmp_path / "mine"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_shipped_policy_is_complete_and_its_examples_hold() -> None:
    assert policy.check("default", rewrite) == []
    held = policy.load("default")
    assert {r.group for r in held.rules} == set(policy.GROUPS)
    assert all(r.statement_ar and r.statement_en and r.reason for r in held.rules)
    assert held.title["ar"] in policy.show() and "moderation.ads" in policy.show()


def test_identity_follows_content_not_comments(folder: Path) -> None:
    before = policy.load(folder).hash
    assert before == policy.load("default").hash
    with (folder / "policy.yaml").open("a", encoding="utf-8") as f:
        f.write("# a remark\n")
    assert policy.load(folder).hash == before
    edit(folder / "policy.yaml", "unsafe: 0.9", "unsafe: 0.8")
    assert policy.load(folder).hash != before


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("rules/values.yaml", "    ar: ", "    arabic: ", "'ar' is missing"),
        ("rules/values.yaml", "id: values.groups", "id: moderation.ads", "already used"),
        ("prompts/expert.md", "{rules}", "", "does not cite {rules}"),
        ("policy.yaml", "numbers_lost: 0", "numbers_lots: 0", "numbers_lost"),
        ("lexicon/ads.yaml", "(?:ال)?(?:خصم", "(?:ال?(?:خصم", "bad pattern"),
        ("rules/format.yaml", "group: format", "group: shape", "none of"),
    ],
)
def test_check_names_what_is_wrong(folder: Path, file: str, old: str, new: str, says: str) -> None:
    edit(folder / file, old, new)
    assert any(says in problem for problem in policy.check(folder))
    with pytest.raises(FitraError):
        policy.load(folder)


def test_check_finds_an_example_that_breaks_its_rule(folder: Path) -> None:
    edit(folder / "rules/moderation.yaml", 'after: "افتُتح المتحف عام 1902."', 'after: "شيء آخر."')
    assert any("moderation.ads" in problem for problem in policy.check(folder, rewrite))


def test_unknown_policy_and_bad_yaml_are_explained(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FitraError, match="neither shipped"):
        policy.load(tmp_path / "nowhere")
    (folder / "policy.yaml").write_text("id: [", encoding="utf-8")
    with pytest.raises(FitraError, match="not valid YAML"):
        policy.load(folder)
