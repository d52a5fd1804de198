"""The small world: seeded, sized, true to what it says about itself, and unknown to what it judges."""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from fitra import recipe, world
from fitra.artifacts import DOCUMENT_SCHEMA, file_hash, read_table
from fitra.errors import FitraError
from fitra.world import facts, lexicons, patterns, patterns_en, plants, prose
from fitra.world.documents import DEFECTS, UNSAFE

ROOT = Path(__file__).resolve().parent.parent
JUDGES = ("align", "signals", "policy", "evaluate", "prefer", "corpus", "lm", "llm", "train")
TABLES = ("parallel", "instructions", "prompts", "probes", "unsafe_probes", "english_heldout", "references")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world") / "w"
    world.write(recipe.World(), 7, out)
    return out


@pytest.fixture(scope="module")
def documents(folder: Path) -> list[dict[str, Any]]:
    rows = read_table(folder, "documents").to_pylist()
    return [{**r, "truth": json.loads(r["truth"])} for r in rows]


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return list(pq.read_table(folder / f"{name}.parquet").to_pylist())


def hashes(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): file_hash(p) for p in sorted(folder.rglob("*.parquet"))}


def test_same_seed_gives_the_same_bytes_and_another_seed_another_world(folder: Path, tmp_path: Path) -> None:
    world.write(recipe.World(), 7, tmp_path / "again")
    assert hashes(tmp_path / "again") == hashes(folder)
    world.write(recipe.World(), 8, tmp_path / "other")
    changed = {k for k, v in hashes(tmp_path / "other").items() if v != hashes(folder)[k]}
    assert changed == set(hashes(folder))


def test_a_finished_world_is_left_alone_and_another_refused(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    world.write(recipe.World(), 7, folder)
    assert (folder / "manifest.json").read_bytes() == before
    with pytest.raises(FitraError, match="another configuration"):
        world.write(recipe.World(), 8, folder)


@pytest.mark.parametrize(("n_facts", "n_documents"), [(4, 20), (300, 700)])
def test_size_is_a_setting(tmp_path: Path, n_facts: int, n_documents: int) -> None:
    cfg = recipe.World(facts=n_facts, documents=n_documents, instructions=30, prompts=0)
    world.write(cfg, 0, tmp_path / "w")
    table = read_table(tmp_path / "w", "documents")
    assert table.num_rows == n_documents
    assert len(rows(tmp_path / "w", "instructions")) == 30
    assert rows(tmp_path / "w", "prompts") == []
    probed = {r["fact_id"] for r in rows(tmp_path / "w", "probes") if r["lang"] == "ar"}
    assert len(probed) == n_facts


def test_schema_and_order(folder: Path) -> None:
    table = read_table(folder, "documents")
    assert table.schema.names == [*DOCUMENT_SCHEMA.names, "truth"]
    for name in TABLES:
        ids = [r["id"] for r in rows(folder, name)]
        assert ids and ids == sorted(set(ids)), name
    ids = table["id"].to_pylist()
    assert ids == sorted(set(ids))
    assert set(table["lang"].to_pylist()) == {"ar", "arz", "apc", "en"}
    assert set(table["labels"].to_pylist()) == {"{}"}, "a document must not show its truth"


def test_planted_and_protected_spans_stand_in_the_text(documents: list[dict[str, Any]]) -> None:
    for d in documents:
        for span in d["truth"]["planted"] + d["truth"]["protected"]:
            assert span and span in d["text"], d["id"]
        assert len(d["text"].split()) >= 15, d["text"]
        assert "{" not in d["text"] and "<" not in d["text"] and "|f" not in d["text"], d["text"]


def test_shares_of_defects(documents: list[dict[str, Any]]) -> None:
    arabic = [d["truth"]["kind"] for d in documents if d["lang"] != "en"]
    assert all(d["truth"]["kind"] == [] for d in documents if d["lang"] == "en")
    dirty = [k for k in arabic if set(k) & set(DEFECTS)]
    assert 0.35 <= len(dirty) / len(arabic) <= 0.45
    count = Counter(k for kinds in arabic for k in kinds)
    for kind in DEFECTS:
        assert count[kind] >= 0.02 * len(arabic), kind
    assert 0.06 <= count["duplicate"] / len(arabic) <= 0.10


def test_facts_are_stated_often_in_clean_and_in_dirty_documents(folder: Path, documents: list[dict[str, Any]]) -> None:
    by_id = {f.id: f for fs in facts.FACTS.values() for f in fs}
    clean, dirty = Counter[str](), Counter[str]()
    english = Counter[str]()
    for d in documents:
        for name in d["truth"]["facts"]:
            fact = by_id[name]
            if d["lang"] == "en":
                assert fact.answer_en.lower() in d["text"].lower()
                english[name] += 1
            elif not d["truth"]["kind"]:
                assert fact.answer_ar in d["text"], (name, d["text"])
                clean[name] += 1
            elif set(d["truth"]["kind"]) & set(UNSAFE):
                assert fact.answer_ar in d["text"]
                dirty[name] += 1
    for r in rows(folder, "probes"):
        counts = clean if r["lang"] == "ar" else english
        assert counts[r["fact_id"]] >= 8, r["fact_id"]
        assert r["lang"] == "en" or dirty[r["fact_id"]] >= 1, r["fact_id"]


def test_probes_have_four_options_and_one_true_answer(folder: Path, documents: list[dict[str, Any]]) -> None:
    everything = {
        lang: "\n".join(d["text"] for d in documents if (d["lang"] == "en") == (lang == "en")) for lang in ("ar", "en")
    }
    by_id = {f.id: f for fs in facts.FACTS.values() for f in fs}
    probes = rows(folder, "probes")
    for r in probes:
        assert len(set(r["options"])) == 4 and r["options"].count(r["answer"]) == 1, r
        assert not set(by_id[r["fact_id"]].also_true) & (set(r["options"]) - {r["answer"]}), r
        assert everything[r["lang"]].count(r["answer"]) >= 8, r
        assert r["answer"] not in r["prompt"] and not r["prompt"].endswith(" ")
    # A held-out probe asks in words that no document uses.
    held = [r for r in probes if r["half"] == "heldout"]
    assert len(held) == len(probes) // 2
    assert not [r for r in held if f"{r['prompt']} {r['answer']}." in everything[r["lang"]]]


def test_options_never_hold_two_true_answers_over_all_facts() -> None:
    import random

    everything, _ = facts.select(300, 3)
    assert len(everything) == 300 and len({f.id for f in everything}) == 300
    true = {(f.relation, f.subject_en, f.answer_en) for f in everything}
    for f in everything:
        opts = facts.options(f, everything, "en", random.Random(0))
        assert len(set(opts)) == 4
        assert [o for o in opts if (f.relation, f.subject_en, o) in true] == [f.answer_en]


def test_halves_are_split_by_hash_and_both_stand_in_the_world(folder: Path, documents: list[dict[str, Any]]) -> None:
    for lexicon in (lexicons.INSULTS, lexicons.INSULTS_ONE):
        split = lexicons.split(lexicon)
        assert min(len(v) for v in split.values()) >= len(lexicon) // 4
        assert sorted(split["visible"] + split["heldout"]) == sorted(lexicon)
    assert lexicons.half("أغبياء") == lexicons.half("أغبياء") == "visible"
    for name in ("references", "unsafe_probes"):
        table = rows(folder, name)
        kinds = Counter((r["kind"], r["half"]) for r in table)
        assert {k for k, _ in kinds} == set(UNSAFE)
        assert {h for _, h in kinds} == {"visible", "heldout"}
        assert Counter(r["half"] for r in table)["heldout"] >= len(table) // 4
    unsafe = [d for d in documents if set(d["truth"]["kind"]) & set(UNSAFE)]
    assert all(d["truth"]["half"] for d in unsafe) and len(unsafe) == len(rows(folder, "references"))


def test_references_change_the_unsafe_passage_alone(folder: Path, documents: list[dict[str, Any]]) -> None:
    by_id = {d["id"]: d for d in documents}
    for r in rows(folder, "references"):
        d = by_id[r["id"]]
        (passage,) = d["truth"]["planted"]
        before, after = d["text"].split(passage)
        assert r["text"] == d["text"] and passage not in r["reference"]
        assert r["reference"].startswith(before) and r["reference"].endswith(after)
        assert all(span in r["reference"] for span in d["truth"]["protected"])


def test_duplicates_fold_to_their_originals(documents: list[dict[str, Any]]) -> None:
    by_id = {d["id"]: d for d in documents}
    copies = [d for d in documents if d["truth"]["duplicate_of"]]
    assert {d["truth"]["variant"] for d in copies} == set(plants.VARIANTS)

    def skeleton(text: str) -> str:
        """An independent, crude fold: letters and digits only, look-alikes unified."""
        text = unicodedata.normalize("NFKC", text).translate(str.maketrans("أإآىةـ", "ااايه ")).replace(" ", "")
        text = "".join(str(unicodedata.digit(c, c)) for c in text)
        return re.sub(r"[^ء-ي0-9a-zA-Z]", "", re.sub(r"[\u064b-\u0652]", "", text))

    for d in copies:
        of = by_id[d["truth"]["duplicate_of"]]
        assert of["truth"]["kind"] == [] and of["lang"] == d["lang"]
        if d["truth"]["variant"] == "exact":
            assert d["text"] == of["text"]
        else:
            assert d["text"] != of["text"] or d["truth"]["variant"] == "arabic_digits"
        if d["truth"]["variant"] != "near":
            assert skeleton(d["text"]) == skeleton(of["text"]), d["truth"]["variant"]
    # Nothing else is a duplicate by accident.
    rest = [skeleton(d["text"]) if d["lang"] != "en" else d["text"] for d in documents if d not in copies]
    assert len(set(rest)) == len(rest)


def test_held_out_english_is_not_in_the_documents(folder: Path, documents: list[dict[str, Any]]) -> None:
    seen = {d["text"] for d in documents}
    held = rows(folder, "english_heldout")
    assert len(held) >= 20 and not [r for r in held if r["text"] in seen]


def test_every_relation_has_ten_patterns_and_hundreds_of_surfaces() -> None:
    bilingual = set(patterns.CORES)
    assert bilingual | set(facts.ENGLISH_ONLY) == set(facts.FACTS) == set(patterns_en.CORES_EN)
    for cores in (patterns.CORES, patterns_en.CORES_EN):
        for relation, found in cores.items():
            assert len(set(found)) == len(found) >= 10, relation
            assert len(patterns.cloze(relation, cores)) >= 2, relation
            assert all(re.search(r"\{(l:)?s\}", c) and "{a}" in c for c in found), relation
    assert all(set(patterns.ASK[lang]) == bilingual for lang in ("ar", "arz", "apc"))
    assert sum(map(len, patterns.CORES.values())) * len(set(patterns.FRAMES)) > 2000


def test_presentation_forms_join_letters() -> None:
    assert plants.presentation_forms("بيت") == "\ufe91\ufef4\ufe96"
    assert plants.presentation_forms("دار") == "\ufea9\ufe8d\ufead"


def test_verses_are_vowelled_and_quoted_in_their_brackets() -> None:
    for verse in prose.VERSES:
        assert verse.startswith("﴿") and verse.endswith("﴾")
        assert re.search(r"[\u064b-\u0652]", verse)


def test_ibans_have_right_check_digits() -> None:
    import random

    found = 0
    for seed in range(60):
        _, (value,), kind = plants.personal(random.Random(seed), "ar")
        if kind == "iban":
            found += 1
            moved = value[4:] + value[:4]
            assert int("".join(str(int(c, 36)) for c in moved)) % 97 == 1
    assert found


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{'.' * node.level}{node.module or ''}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= {node.value} if node.value.startswith("fitra.world") else set()
    return names


@pytest.mark.parametrize("room", JUDGES)
def test_rules_gates_and_scorers_do_not_know_the_world(room: str) -> None:
    files = [*(ROOT / "fitra" / room).rglob("*.py"), *(ROOT / "fitra").glob(f"{room}.py")]
    if not files:
        pytest.skip(f"fitra.{room} is not there yet")
    for path in files:
        assert not [n for n in imported(path) if re.search(r"^(fitra|\.+)\.?world(\.|$)", n)], path
