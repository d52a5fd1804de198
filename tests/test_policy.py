"""The policy: complete in both languages, with an identity, with regional packs, to be read and compared."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_folder import PACKS, REWRITE, SHIPPED, change, edit, pack, save
from typer.testing import CliRunner

from fitra import policy
from fitra.align import gates, masking, rules
from fitra.cli import app
from fitra.errors import FitraError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "mine"))


# --- the shipped policy


def test_the_shipped_policy_is_complete_and_its_examples_hold() -> None:
    assert policy.check("default", REWRITE) == []
    held = policy.load("default")
    assert len(held.rules) >= 24 and {r.group for r in held.rules} == set(policy.GROUPS)
    assert {r.action for r in held.rules} == set(policy.ACTIONS)
    assert policy.packs() == PACKS
    by_rules = [r for r in held.rules if r.by == "rules"]
    assert len(by_rules) >= 8 and all(r.examples and r.counter_examples for r in by_rules)


def test_each_rule_of_the_papers_ten_is_there() -> None:
    wanted = (
        "knowledge.unchanged", "knowledge.language", "knowledge.keep", "format.structure", "knowledge.light_touch",
        "values.both_sides", "values.customs", "values.groups", "knowledge.errors", "values.universal",
        "format.language_errors", "format.punctuation", "moderation.ads",
    )  # fmt: skip
    held = policy.load()
    assert all(held.rule(w) for w in wanted) and held.rule("no.such") is None


def test_what_the_align_room_reports_are_rules_of_the_policy() -> None:
    ids = set(re.findall(r'"((?:values|moderation)\.\w+)"', Path(rules.__file__).read_text(encoding="utf-8")))
    assert ids and ids <= {r.id for r in policy.load().rules}


def test_what_the_rules_ask_for_is_not_refused_by_the_gates() -> None:
    """An example in the midst of a document: an expert that obeys the policy must get past its gates."""
    held = policy.load(packs=PACKS)
    compiled = rules.compile_rules(held)
    before = (
        "تقع المدينة القديمة على ضفة النهر، ويسكنها اليوم نحو خمسين ألف نسمة يعمل كثير منهم في الزراعة والتجارة. "
        "وقد بُنيت أسوارها في القرن التاسع، ثم جُددت بعد ذلك مرات، وبقيت منها أبواب يزورها الناس كل صيف. "
        "وفي وسطها سوق كبيرة تباع فيها الحبوب والأقمشة والأواني، وإلى جانبها مكتبة عامة ومدرسة ومستشفى."
    )
    after = (
        "وتشتهر المدينة بصناعة السجاد والفخار، وتقيم كل ربيع معرضًا يقصده الزوار من المدن المجاورة، ويستمر أسبوعًا "
        "كاملًا تُعرض فيه الحرف القديمة وتُلقى المحاضرات عن تاريخ المنطقة وأهلها وعمارتها."
    )
    refused = {}
    for rule in held.rules:
        for old, new in rule.examples:
            pair = [f"{before}\n\n{side}\n\n{after}" for side in (old, new)]
            masked = masking.mask(pair[0])
            gone = [masking.PLACEHOLDER.sub(lambda m, spans=masked.spans: spans[int(m[1])], r.text)
                    for r in rules.apply(masked, compiled).removed]  # fmt: skip
            safe = [s for _, s in compiled.unsafe if s in new]
            verdicts = gates.judge(*pair, held, removed=gone, added=safe)
            if bad := [f"{v.gate}: {v.detail}" for v in verdicts if not v.passed]:
                refused[rule.id] = bad
    assert refused == {}


def test_the_manual_lists_every_rule() -> None:
    page = Path(__file__).parents[1] / "docs" / "policy.md"
    listed = re.findall(r"^\| `(\w+\.\w+)` \| `(\w+)` \| `(\w+)`", page.read_text(encoding="utf-8"), re.M)
    assert listed == [(r.id, r.action, r.code) for r in policy.load().rules]


def test_every_prompt_shares_a_short_prefix_with_every_rule_in_arabic() -> None:
    held = policy.load()
    shown = policy.render(held)
    assert all(r.statement_ar in shown for r in held.rules)
    assert not any(r.statement_en in shown for r in held.rules)
    # 2,500 tokens at 2.3 letters a token, as measured with a tokenizer of 150,000 tokens (docs/policy.md)
    assert len(shown) < 5750
    for name in ("expert", "edits", "judge"):
        assert shown in policy.prompt(held, name, nonce="n")


# --- identity


def test_identity_follows_content_not_comments(folder: Path) -> None:
    before = policy.load(folder).hash
    assert before == policy.load("default").hash
    with (folder / "policy.yaml").open("a", encoding="utf-8") as f:
        f.write("# a remark\n")
    assert policy.load(folder).hash == before
    edit(folder / "policy.yaml", "unsafe: 0.9", "unsafe: 0.8")
    assert policy.load(folder).hash != before


@pytest.mark.parametrize(
    "file", ["rules/values.yaml", "prompts/judge.md", "card/ar.md", "lexicon/ads.yaml", "packs/gulf.yaml"]
)
def test_every_file_counts(folder: Path, file: str) -> None:
    before = policy.load(folder, ["gulf"]).hash
    bare = policy.load(folder).hash
    letter = "You" if file == "prompts/judge.md" else "الم"
    edit(folder / file, letter, letter + "ا")
    assert policy.load(folder, ["gulf"]).hash != before
    assert (policy.load(folder).hash == bare) == file.startswith("packs/")  # a pack that is not loaded does not count


def test_the_order_in_which_packs_are_named_changes_nothing() -> None:
    made = {policy.load("default", chosen).hash for chosen in itertools.permutations(["gulf", "egypt", "iraq"])}
    assert len(made) == 1
    assert policy.load("default", ["gulf", "gulf"]) == policy.load("default", ["gulf"])
    assert policy.load("default", ["iraq", "egypt"]).id == "default+egypt+iraq"


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(PACKS), unique=True))
def test_packs_only_add_and_extend(chosen: list[str]) -> None:
    base, held = policy.load(), policy.load("default", chosen)
    assert set(held.packs) == set(chosen)
    for rule in base.rules:
        mine = held.rule(rule.id)
        assert mine and mine.group == rule.group and set(mine.packs) <= set(chosen)
        assert mine.packs or mine == rule
    assert all(r.packs and r.packs[0] in chosen for r in held.rules if base.rule(r.id) is None)
    assert (held.hash == base.hash) == (not chosen)


def test_a_pack_overrides_what_it_names_and_keeps_the_rest(folder: Path) -> None:
    text = {"ar": "لا تسخر من أحد.", "en": "Mock nobody."}
    pack(folder, "mine", {"overrides": "values.faith", "statement": text, "action": "light_edit"})
    base, held = policy.load(folder), policy.load(folder, ["mine"])
    was, now = base.rule("values.faith"), held.rule("values.faith")
    assert was and now and (now.statement_ar, now.statement_en) == (text["ar"], text["en"])
    assert now.action == "light_edit" and now.reason == was.reason and now.examples == was.examples
    assert now.packs == ("mine",) and len(held.rules) == len(base.rules)
    assert policy.load("default", [str(folder / "packs" / "mine.yaml")]).rule("values.faith") == now


# --- reading and comparing


def test_show_has_both_languages_and_nothing_that_steers_a_terminal(folder: Path) -> None:
    held = policy.load("default", ["gulf"])
    text = policy.show(held)
    for rule in held.rules:
        assert (
            rule.statement_ar in text and rule.statement_en in text and rule.reason_ar in text and rule.reason in text
        )
        assert all(kept.splitlines()[0] in text for kept in rule.counter_examples)
    assert "pack gulf" in text and "model_from: 0.3" in text and held.title["ar"] in text
    assert "## الغرض" in text and "## Limits" in text
    change(
        folder / "rules/values.yaml",
        "values.faith",
        reason={"ar": "سبب \u202e\x1b[31m", "en": "why \x1b]0;x\x07 \u2066"},
    )
    hostile = policy.load(folder)
    for isolate in (False, True):
        shown = policy.show(hostile, isolate)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066]", shown)
        assert "<U+202E>" in shown and "<U+001B>[31m" in shown
    lines = policy.show(hostile, isolate=True).splitlines()
    assert all(x.count("\u2067") == x.count("\u2069") for x in lines) and any("\u2067" in x for x in lines)


def test_diff_says_what_changed_by_rule_threshold_and_prompt(folder: Path) -> None:
    assert "no difference" in policy.diff_text(policy.diff(policy.load(), policy.load(folder)))
    change(folder / "rules/values.yaml", "values.faith", action="light_edit")
    data = yaml.safe_load((folder / "rules/moderation.yaml").read_text(encoding="utf-8"))
    data["rules"] = [r for r in data["rules"] if r["id"] != "moderation.fraud"]
    (folder / "rules/moderation.yaml").write_text(
        yaml.dump(data, Dumper=yaml.CSafeDumper, allow_unicode=True), encoding="utf-8"
    )
    edit(folder / "policy.yaml", "numbers_lost: 0", "numbers_lost: 2")
    edit(folder / "policy.yaml", "exhausted: keep_original", "exhausted: quarantine")
    edit(folder / "prompts/retry.md", "avoid this", "mend this")
    words = yaml.safe_load((folder / "lexicon/insults.yaml").read_text(encoding="utf-8"))
    save(folder / "lexicon/insults.yaml", {**words, "vocatives": [*words["vocatives"], "هيا"]})
    found = policy.diff(policy.load(), policy.load(folder))
    assert found["rules"] == {
        "added": [], "removed": ["moderation.fraud"],
        "changed": {"values.faith": {"action": ["neutralise", "light_edit"]}},
    }  # fmt: skip
    assert found["thresholds"] == {
        "gates.numbers_lost": [0, 2], "outcomes.exhausted": ["keep_original", "quarantine"]
    }  # fmt: skip
    assert set(found["prompts"]) == {"retry"} and found["other"] == ["lexicon/insults"]
    text = policy.diff_text(found)
    for part in ("- rule moderation.fraud", "~ rule values.faith", "gates.numbers_lost: 0.0 -> 2.0", "mend this"):
        assert part in text
    back = policy.diff(policy.load(folder), policy.load())
    assert back["rules"]["added"] == ["moderation.fraud"]


def test_diff_of_base_and_pack_names_the_pack() -> None:
    found = policy.diff(policy.load(), policy.load("default", ["gulf"]))
    assert found["rules"]["added"] and all(i.startswith("gulf.") for i in found["rules"]["added"])
    assert found["rules"]["removed"] == [] and set(found["rules"]["changed"]) == {"values.customs"}
    assert found["rules"]["changed"]["values.customs"]["packs"] == [(), ("gulf",)]


def test_a_prompt_is_filled_in_one_pass() -> None:
    held = policy.load("default", ["egypt"])
    made = policy.prompt(held, "judge", original="{rewrite} {rules}", rewrite="ب", nonce="abc")
    assert "<<<abc original\n{rewrite} {rules}\nabc>>>" in made and "default+egypt" in made
    assert '{"format": 1' in made and "{policy_id}" not in made
    assert policy.prompt(held, "edits", format="F", placeholder="P").count("{") == 0
    assert len(policy.prompt(held, "worker")) < 300  # a worker has learnt the rules


# --- the commands


@pytest.fixture
def fitra() -> Callable[..., Any]:
    return lambda *given: CliRunner().invoke(app, ["policy", *map(str, given)])


def test_check_command(fitra: Callable[..., Any], folder: Path) -> None:
    fine = fitra("check", "default")
    assert fine.exit_code == 0 and "examples tried, fine" in fine.stdout
    change(folder / "rules/values.yaml", "values.law", action="forbid")
    change(folder / "rules/values.yaml", "values.sects", code="x")
    bad = fitra("check", folder)
    assert bad.exit_code == 1 and "2 to mend" in bad.stdout
    assert "rules/values.yaml: rule 'values.law': unknown action 'forbid'. One of pass" in bad.stdout
    told = json.loads(fitra("check", folder, "--json").stdout)
    assert [(t["file"], t["rule"]) for t in told] == [("rules/values.yaml", f"values.{x}") for x in ("sects", "law")]
    assert all(t["problem"] and t["hint"] for t in told)


def test_check_command_tries_examples(fitra: Callable[..., Any], folder: Path) -> None:
    edit(folder / "rules/moderation.yaml", 'after: "افتُتح المتحف عام 1902."', 'after: "افتُتح المتحف."')
    bad = fitra("check", folder)
    assert bad.exit_code == 1 and "moderation.ads" in bad.stdout and "expected 'افتُتح المتحف.'" in bad.stdout
    edit(folder / "lexicon/insults.yaml", "predicate:", "predicates:")
    bad = fitra("check", folder)
    assert bad.exit_code == 1 and "lexicon/insults.yaml" in bad.stdout


def test_show_and_diff_commands(fitra: Callable[..., Any]) -> None:
    shown = fitra("show", "default", "--pack", "iraq")
    assert shown.exit_code == 0 and "iraq.components" in shown.stdout and "\u2067" not in shown.stdout
    told = json.loads(fitra("show", "--json").stdout)
    assert told["hash"] == policy.load().hash and len(told["rules"]) == len(policy.load().rules)
    assert "+ rule maghreb.amazigh" in fitra("diff", "default", "--pack", "maghreb").stdout
    assert json.loads(fitra("diff", "default", "default", "--json").stdout)["rules"]["changed"] == {}
    assert isinstance(fitra("diff", "default").exception, FitraError)
