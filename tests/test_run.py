"""Whole runs of the tiny recipe: finished stages are skipped, equal runs give equal bytes, errors stay one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY

from fitra import recipe as recipes
from fitra import run as runs
from fitra import world
from fitra.errors import FitraError

ROOMS = {"world", "corpus", "align", "base", "vocab", "pretrain-original", "pretrain-aligned", "sft-original"}


def go(folder: Path, sets: list[str] | None = None, **how: Any) -> dict[str, Any]:
    path = folder.parent / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    recipe = recipes.load(path, sets or [])
    return runs.run(recipe, TINY, folder, write_world=world.write, say=lambda _: None, **how)


def shards(out: Path, stage: str) -> dict[str, bytes]:
    (folder,) = out.glob(f"{stage}-*")
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.parquet"))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    go(out)
    return out


def test_every_room_ran_and_committed(finished: Path) -> None:
    record = runs.status(finished)
    assert set(record["stages"]) >= ROOMS | {"sft-aligned", "prefer-aligned", "eval-base", "eval-prefer-aligned"}
    assert all(stage["counts"] for stage in record["stages"].values())
    assert record["begun"] == []


def test_running_again_does_nothing(finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file() and p.name != runs.RUN}
    result = go(finished)
    assert all(stage["skipped"] for stage in result["stages"].values())
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_equal_runs_give_equal_bytes(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for stage in ("world", "corpus", "align"):
        go(out, only=stage)
    for stage in ("corpus", "align"):
        assert shards(out, stage) == shards(finished, stage)
        assert any(name.startswith("documents/") for name in shards(out, stage))


def test_a_changed_recipe_forks(finished: Path) -> None:
    before = set(finished.iterdir())
    go(finished, ["vocab.add=48"], only="vocab")
    new = {p.name.split("-")[0] for p in set(finished.iterdir()) - before}
    assert new == {"vocab"}


def test_a_stage_out_of_order(tmp_path: Path) -> None:
    with pytest.raises(FitraError, match="needs 'world', which is not finished"):
        go(tmp_path / "out", only="corpus")
    with pytest.raises(FitraError, match="no stage 'pretian'"):
        go(tmp_path / "out", only="pretian")


def test_two_runs_into_one_folder(tmp_path: Path) -> None:
    from fitra.artifacts import lock

    with lock(tmp_path / "out"), pytest.raises(FitraError, match="another Fitra process"):
        go(tmp_path / "out", only="world")


def test_another_recipe_does_not_take_the_folder(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "o.yaml").write_text(TINY.replace("name: tiny", "name: other"))
    recipe = recipes.load(tmp_path / "o.yaml")
    with pytest.raises(FitraError, match="belongs to the recipe 'tiny'"):
        runs.run(recipe, "", finished, write_world=world.write, say=lambda _: None)


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (["base=null"], "'vocab' but not 'base'"),
        (["align=null"], "the arm 'aligned' needs 'align'"),
        (["arms=[new]"], "unknown arm"),
        (["world=null"], "nothing to read"),
        (["base.path=/nonexistent/model"], "not a model folder"),
        (["evaluate.acva=/nonexistent.parquet"], "no such file"),
    ],
)
def test_recipes_that_cannot_run(tmp_path: Path, sets: list[str], expected: str) -> None:
    with pytest.raises(FitraError, match=expected):
        go(tmp_path / "out", sets)


def test_dry_run_shows_states(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(TINY)
    rows = runs.dry_run(recipes.load(tmp_path / "t.yaml"), finished, world.write)
    assert {r["state"] for r in rows} == {"finished"}
    rows = runs.dry_run(recipes.load(tmp_path / "t.yaml"), tmp_path / "none", world.write)
    assert {r["state"] for r in rows} == {"to do"} and not (tmp_path / "none").exists()


def test_a_vocabulary_in_stages_is_trained_in_stages(tmp_path: Path) -> None:
    sets = ["vocab.progressive.stages=3", "arms=[original]", "sft=null", "prefer=null", "evaluate=null", "align=null"]
    go(tmp_path / "out", sets)
    (folder,) = (tmp_path / "out").glob("pretrain-*")
    log = [json.loads(x) for x in (folder / "log.jsonl").read_text().splitlines()]
    assert sorted({(r["stage"], r["added"]) for r in log}) == [(1, 0), (2, 1), (3, 64)]
    stages = json.loads((folder / "manifest.json").read_text())["notes"]["stages"]
    assert [r["arabic"] for r in stages] == [0.3, 0.4757, 0.9]


def test_every_artefact_carries_the_licence_class(finished: Path) -> None:
    for manifest in finished.glob("*/manifest.json"):
        assert json.loads(manifest.read_text())["licence_class"] == "A", manifest
