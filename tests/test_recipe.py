"""Recipes: typed, with errors that name the line and the nearest known key."""

from __future__ import annotations

from pathlib import Path

import pytest

from fitra.artifacts import config_dict, fingerprint, open_stage
from fitra.errors import FitraError
from fitra.recipe import load

MINIMAL = "name: x\ncorpus:\n  inputs:\n    - path: a.jsonl\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    recipe = load(write(tmp_path, MINIMAL + "out: ../runs/x\n"))
    assert recipe.corpus.inputs[0].path == str(tmp_path / "a.jsonl")
    assert recipe.out == str(tmp_path.parent / "runs/x")


def test_override(tmp_path: Path) -> None:
    recipe = load(write(tmp_path, MINIMAL), ["corpus.min_words=20", "corpus.dedupe.near=false", "vocab.add=12"])
    assert recipe.corpus.min_words == 20 and recipe.corpus.dedupe.near is False
    assert recipe.vocab is not None and recipe.vocab.add == 12


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MINIMAL + "  min_wrods: 3\n", "line 5: unknown key 'corpus.min_wrods'. Did you mean 'min_words'?"),
        (MINIMAL + "  min_words: many\n", "line 5: 'corpus.min_words'"),
        (MINIMAL + "  inputs_: [\n", "not valid YAML"),
        (MINIMAL + "  dedupe: {treshold: 0.5}\n", "Did you mean 'threshold'?"),
        ("- a\n", "a recipe is a mapping"),
        ("corpus: {}\n", "'name'"),
        (MINIMAL + "seed: ${FITRA_TEST_UNSET}\n", "line 5: the environment variable FITRA_TEST_UNSET is not set"),
        ("name: x\ncorpus:\n  inputs:\n    - pth: a\n", "line 4: "),
    ],
)
def test_errors_say_where_and_what(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(FitraError) as e:
        load(write(tmp_path, text))
    assert expected in str(e.value)
    assert str(tmp_path / "r.yaml") in str(e.value)


def test_missing_and_binary_recipes(tmp_path: Path) -> None:
    with pytest.raises(FitraError, match="no such recipe"):
        load(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FitraError, match="not UTF-8"):
        load(tmp_path / "b.yaml")


def test_secrets_stay_out_of_fingerprints_and_manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = "{base_url: 'http://127.0.0.1:1', model: m, api_key: '${FITRA_TEST_KEY}'}"
    text = MINIMAL + f"align:\n  expert: {{endpoints: {endpoint}}}\n"
    found = []
    for secret in ("canary-one", "canary-two"):
        monkeypatch.setenv("FITRA_TEST_KEY", secret)
        recipe = load(write(tmp_path, text))
        assert recipe.align and recipe.align.expert
        assert recipe.align.expert.endpoints[0].api_key.get_secret_value() == secret
        assert secret not in str(config_dict(recipe.align))
        found.append(fingerprint("align", recipe.align, {}))
    assert found[0] == found[1]


def test_manifests_show_variables_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITRA_TEST_URL", "http://127.0.0.1:1/canary-token")
    text = MINIMAL + "align:\n  expert: {endpoints: {base_url: '${FITRA_TEST_URL}', model: m}}\n"
    recipe = load(write(tmp_path, text))
    assert recipe.align and recipe.align.expert and "canary" in recipe.align.expert.endpoints[0].base_url
    with open_stage(tmp_path / "s", stage="align", config=recipe.align, inputs={}):
        pass
    manifest = (tmp_path / "s/manifest.json").read_text()
    assert "canary" not in manifest and "${FITRA_TEST_URL}" in manifest
