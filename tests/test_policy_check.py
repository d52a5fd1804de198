"""What `fitra policy check` finds in a policy and its packs, and what it lets be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_folder import REWRITE, SHIPPED, change, edit, pack, said, save

from fitra import policy
from fitra.errors import FitraError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "mine"))


# --- check: what is wrong with a policy


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("rules/values.yaml", "      ar: لا تنحز", "      arabic: لا تنحز", "statement.ar is missing"),
        ("rules/values.yaml", "      en: Take no side", "      english: Take no side", "statement.en is missing"),
        ("rules/values.yaml", "      ar: النص الذي يخاصم", "      xx: النص", "reason.ar is missing"),
        ("rules/values.yaml", "id: values.groups", "id: values.both_sides", "id already used"),
        ("rules/values.yaml", "id: values.groups", "id: moderation.ads", "must be values.NAME"),
        ("rules/values.yaml", "action: recontextualise", "action: rewrite", "unknown action 'rewrite'"),
        ("rules/values.yaml", "code: dispute", "code: disputes", "unknown reason code 'disputes'"),
        ("rules/values.yaml", "    counter_examples:", "    counterexamples:", "unknown key 'counterexamples'"),
        ("policy.yaml", "ar: مدونة السلوك الافتراضية", "ar: The code of good conduct", "Latin ones"),
        ("rules/values.yaml", "en: Take no side", "en: Take no جانب", "statement.en holds Arabic letters"),
        ("rules/values.yaml", "مسألة خلافية؛", "مسألة خلافية;", "Latin punctuation"),
        ("rules/format.yaml", "group: format", "group: shape", "none of"),
        ("rules/knowledge.yaml", "action: light_edit", "action: drop", "preserves knowledge cannot drop"),
        ("prompts/expert.md", "{rules}", "", "does not cite {rules}"),
        ("prompts/edits.md", "{rules}", "", "does not cite {rules}"),
        ("prompts/judge.md", "{rules}", "", "does not cite {rules}"),
        ("prompts/worker.md", "{policy_id}", "", "does not cite {policy_id}"),
        ("prompts/judge.md", "{rules}", "{rules} {ruls}", "cites {ruls}, which nothing fills in"),
        ("policy.yaml", "numbers_lost: 0", "numbers_lots: 0", "unknown gate 'numbers_lots'"),
        ("policy.yaml", "numbers_lost: 0", "numbers_lost: .nan", "gates.numbers_lost must be a number"),
        ("policy.yaml", "model_from: 0.3", "model_from: 0.95", "triage.model_from is 0.95"),
        ("policy.yaml", "model_from: 0.3", "model_form: 0.3", "unknown triage 'model_form'"),
        ("policy.yaml", "  layout: {ar: تنسيق, en: layout}", "  layout: {ar: تنسيق}", "codes.layout.en is missing"),
        ("policy.yaml", "  en: Default", "  fr: Default", "title.en is missing"),
        ("lexicon/ads.yaml", "(?:ال)?(?:خصم", "(?:ال?(?:خصم", "bad pattern"),
    ],
)
def test_check_names_what_is_wrong(folder: Path, file: str, old: str, new: str, says: str) -> None:
    path = folder / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new) if file == "prompts/worker.md" else text.replace(old, new, 1), "utf-8")
    found = [p for p in policy.check(folder) if says in p.says]
    assert found and all(p.file == file for p in found)
    with pytest.raises(FitraError):
        policy.load(folder)


def test_problems_name_file_and_rule_all_at_once(folder: Path) -> None:
    change(folder / "rules/values.yaml", "values.law", action="forbid", code="crime")
    change(folder / "rules/knowledge.yaml", "knowledge.keep", reason={"ar": "لأن المعرفة أمانة."})
    (folder / "card" / "ar.md").unlink()
    found = {(p.file, p.rule) for p in policy.check(folder)}
    assert found == {
        ("rules/values.yaml", "values.law"), ("rules/knowledge.yaml", "knowledge.keep"), ("card/ar.md", ""),
    }  # fmt: skip
    assert all(p.hint for p in policy.check(folder))


def test_an_empty_group_is_found(folder: Path) -> None:
    (folder / "rules" / "moderation.yaml").write_text("group: moderation\nrules: []\n", encoding="utf-8")
    assert "rules/: group 'moderation' has no rules" in said(folder)


def test_a_key_that_is_no_text_is_named(folder: Path) -> None:
    edit(folder / "policy.yaml", "  model_from: 0.3", "  model_from: 0.3\n  no: 0.5")  # YAML reads «no» as false
    with pytest.raises(FitraError, match=r"policy.yaml, line \d+: .*a key must be text"):
        policy.check(folder)


def test_a_key_given_twice_is_not_lost_in_silence(folder: Path) -> None:
    edit(folder / "rules/values.yaml", "    code: dispute\n", "    code: dispute\n    code: faith\n")
    with pytest.raises(FitraError, match=r"values.yaml, line \d+: .*'code' is given twice"):
        policy.check(folder)


@pytest.mark.parametrize(
    ("rule", "examples", "says"),
    [
        ("moderation.insults", [{"before": "جاء المدير.", "after": "جاء المدير."}], "shows no change"),
        ("moderation.insults", [{"before": "جاء 3 رجال.", "after": "جاء 4 رجال."}], "invents 4"),
        ("moderation.insults", [{"before": "يا غبي", "after": ""}], "nothing stays"),
        ("moderation.insults", [{"before": "يا غبي"}], "needs 'before' and 'after'"),
        ("moderation.insults", [], "has no example"),
        ("moderation.private", [{"before": "جاء.", "after": "ذهب."}], "the action is pass"),
    ],
)
def test_an_example_that_cannot_be_one(folder: Path, rule: str, examples: list[Any], says: str) -> None:
    change(folder / "rules/moderation.yaml", rule, examples=examples)
    (found,) = policy.check(folder)
    assert says in found.says and found.rule == rule


def test_an_example_that_breaks_its_rule_is_found(folder: Path) -> None:
    edit(folder / "rules/moderation.yaml", 'after: "افتُتح المتحف عام 1902."', 'after: "افتُتح المتحف."')
    (found,) = policy.check(folder, REWRITE)
    assert found.rule == "moderation.ads" and found.file == "rules/moderation.yaml"
    assert "becomes 'افتُتح المتحف عام 1902.'" in found.says


def test_an_after_that_does_not_stay_is_found(folder: Path) -> None:
    """Of a rule for models too: what is held up as good must not be changed by the rules."""
    change(
        folder / "rules/values.yaml", "values.faith",
        examples=[{"before": "يؤدون طقوسهم السخيفة.", "after": "قال المدير الغبي إنهم يؤدون طقوسهم."}],
    )  # fmt: skip
    (found,) = policy.check(folder, REWRITE)
    assert found.rule == "values.faith" and "must stay as it is" in found.says


def test_a_counter_example_that_is_changed_is_found(folder: Path) -> None:
    change(folder / "rules/format.yaml", "format.layout", counter_examples=["أعلن المدير الغبي الخبر."])
    (found,) = policy.check(folder, REWRITE)
    assert found.rule == "format.layout" and "must stay as it is" in found.says


def test_two_rules_must_not_disagree_about_a_text(folder: Path) -> None:
    change(folder / "rules/knowledge.yaml", "knowledge.keep", counter_examples=["خذ حقك بيدك."])
    (found,) = policy.check(folder)
    assert found.rule == "moderation.unsafe" and "'knowledge.keep' says must stay" in found.says


@given(st.sampled_from(policy.load().rules), st.sampled_from(["statement", "reason"]), st.sampled_from(["ar", "en"]))
@settings(max_examples=25, deadline=None)
def test_a_missing_translation_is_found_wherever_it_is(
    tmp_path_factory: pytest.TempPathFactory, rule: policy.Rule, key: str, lang: str
) -> None:
    folder = Path(shutil.copytree(SHIPPED, tmp_path_factory.mktemp("p") / "mine"))
    both = {
        "statement": {"ar": rule.statement_ar, "en": rule.statement_en},
        "reason": {"ar": rule.reason_ar, "en": rule.reason},
    }[key]
    change(folder / f"rules/{rule.group}.yaml", rule.id, **{key: {k: v for k, v in both.items() if k != lang}})
    assert [(p.rule, p.says) for p in policy.check(folder, packs=())] == [(rule.id, f"{key}.{lang} is missing")]


# --- check: what is wrong with packs

STATEMENT = {"ar": "لا تسخر من أحد.", "en": "Mock nobody."}
NEW = {
    "id": "mine.rule", "group": "values", "action": "pass", "code": "faith", "statement": STATEMENT,
    "reason": {"ar": "لأن السخرية تؤذي.", "en": "Mockery hurts."}, "counter_examples": ["ضحك الناس."],
}  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"overrides": "values.fate", "statement": STATEMENT}, "a rule that the policy does not have"),
        ({"overrides": "values.faith", "group": "format"}, "of group 'values' into 'format'"),
        ({"overrides": "values.faith", "id": "mine.faith"}, "keeps the id"),
        ({"overrides": "values.faith", "action": "ban"}, "unknown action 'ban'"),
        ({"overrides": "knowledge.keep", "statement": STATEMENT}, "loosens a protection: statement.ar"),
        ({"overrides": "knowledge.protected", "action": "light_edit"}, "loosens a protection: action"),
        (
            {"overrides": "knowledge.history", "counter_examples": ["جاء الناس."]},
            "counter-examples of the rule are gone",
        ),
        ({"overrides": "moderation.unsafe", "action": "pass"}, "loosens a protection: action"),
        ({"overrides": "moderation.incitement", "protects": False}, "loosens a protection: protects"),
        ({**NEW, "id": "values.rule"}, "must be mine.NAME"),
        ({**NEW, "group": "knowledge", "action": "drop"}, "preserves knowledge cannot drop"),
        ({**NEW, "group": "manners"}, "none of"),
        ({**NEW, "code": "nothing"}, "unknown reason code"),
        ({**NEW, "counter_examples": None}, "no counter-example"),
        (
            {**NEW, "action": "drop", "examples": [{"before": "القاهرة عاصمة مصر.", "after": ""}]},
            "'knowledge.unchanged' says must stay",
        ),
    ],
)
def test_check_names_what_is_wrong_with_a_pack(folder: Path, entry: dict[str, Any], says: str) -> None:
    pack(folder, "mine", entry)
    found = [p for p in policy.check(folder) if says in p.says]
    assert found and found[0].file == "packs/mine.yaml" and found[0].rule
    assert policy.load(folder)  # the base is fine without it
    with pytest.raises(FitraError):
        policy.load(folder, ["mine"])


def test_a_protection_may_be_extended(folder: Path) -> None:
    was = policy.load().rule("knowledge.protected")
    assert was
    longer = {
        "ar": was.statement_ar.rstrip(".") + "؛ ومنها الدستور.",
        "en": was.statement_en + " So is the constitution.",
    }
    kept = [*was.counter_examples, "المادة الأولى من الدستور."]
    pack(folder, "mine", {"overrides": was.id, "statement": longer, "counter_examples": kept})
    assert policy.check(folder, REWRITE) == []


def test_packs_that_contradict_each_other_are_found(folder: Path) -> None:
    one = {"overrides": "values.faith", "statement": STATEMENT}
    pack(folder, "mine", one)
    pack(folder, "yours", {**one, "statement": {"ar": "اسخر بلطف.", "en": "Mock gently."}})
    (found,) = policy.check(folder)
    assert found.rule == "values.faith" and "overridden differently by packs/mine.yaml" in found.says
    assert policy.check(folder, packs=["mine"]) == [] == policy.check(folder, packs=["yours", "gulf"])
    with pytest.raises(FitraError, match="overridden differently"):
        policy.load(folder, ["yours", "mine"])
    pack(folder, "yours", one)  # the same words twice are no contradiction
    assert policy.check(folder) == []
    held = policy.load(folder, ["yours", "mine"]).rule("values.faith")
    assert held and held.packs == ("mine", "yours")


def test_two_packs_cannot_share_an_id_or_change_thresholds(folder: Path) -> None:
    pack(folder, "mine", NEW)
    shutil.copy(folder / "packs" / "mine.yaml", folder / "packs" / "other.yaml")
    assert any("id 'mine' already used" in s for s in said(folder))
    assert any("'mine.rule': id already used" in s for s in said(folder))
    pack(folder, "mine", NEW, gates={"numbers_lost": 5})
    assert any("unknown key 'gates'" in s for s in said(folder, packs=["mine"]))


def test_unknown_policy_pack_and_bad_yaml_are_explained(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FitraError, match="neither shipped"):
        policy.load(tmp_path / "nowhere")
    with pytest.raises(FitraError, match=r"no pack 'mars': neither one of this policy \(egypt, gulf"):
        policy.load("default", ["mars"])
    (folder / "policy.yaml").write_text("id: [", encoding="utf-8")
    with pytest.raises(FitraError, match="not valid YAML"):
        policy.load(folder)


@given(
    st.sampled_from(sorted(p.relative_to(SHIPPED).as_posix() for p in SHIPPED.rglob("*.yaml"))),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3)),
    st.integers(0, 60),
)
@settings(max_examples=40, deadline=None)
def test_no_shape_of_a_file_breaks_the_check(
    tmp_path_factory: pytest.TempPathFactory, file: str, value: Any, at: int
) -> None:
    """Whatever stands in the place of one value: problems or a FitraError, never another exception."""
    folder = Path(shutil.copytree(SHIPPED, tmp_path_factory.mktemp("p") / "mine"))
    data = yaml.load((folder / file).read_text(encoding="utf-8"), yaml.CSafeLoader)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(data)
    node, key = places[at * len(places) // 61]
    node[key] = value
    save(folder / file, data)
    try:
        found = policy.check(folder)
        if not found:
            policy.load(folder, policy.packs(folder))
    except FitraError:
        pass
