"""The steps of native alignment in a run: a worker that the user serves."""

from __future__ import annotations

import threading
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
import tiny_model

pytest.importorskip("torch", reason="needs fitra[train]")

from fitra import lm, recipe
from fitra.errors import FitraError
from fitra.recipe import Align, Model, Recipe, Worker
from fitra.run import alignment

RECIPES = Path(__file__).parent.parent / "recipes"


def model(url: str, **more: str) -> Model:
    return Model.model_validate({"endpoints": {"base_url": url, "model": "worker"}, **more})


def test_a_dead_worker_says_what_to_serve(tmp_path: Path) -> None:
    tiny_model.write(tmp_path / "model")
    with pytest.raises(FitraError) as caught:
        alignment._served(model("http://127.0.0.1:9/v1"), tmp_path / "model")
    assert "127.0.0.1:9" in caught.value.message and str(tmp_path / "model") in caught.value.hint


def test_a_served_worker_is_known_by_its_weights(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    tiny_model.write(folder)
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        got = alignment._served(model(f"http://127.0.0.1:{server.server_port}/v1"), folder)
        thread.join()
    assert got.revision == lm.weights_hash(folder)[:16] and got.tokenizer == str(folder)


def test_a_worker_answers_as_it_was_trained(tmp_path: Path) -> None:
    one = model("http://127.0.0.1:9/v1")
    cfg = Recipe(name="x", align=Align(expert=one, worker=one, train=Worker(format="edits")))
    with pytest.raises(FitraError, match=r"format is rewrite, align\.train.format edits"):
        alignment.steps(cfg, tmp_path)
    with pytest.raises(FitraError, match=r"needs align\.expert"):
        alignment.steps(Recipe(name="x", align=Align(train=Worker())), tmp_path)


def test_the_papers_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CRAWL", "WORKER", "EXPERT_URL", "EXPERT_MODEL", "EXPERT_KEY"):
        monkeypatch.setenv(f"FITRA_{name}", str(tmp_path))
    tiny_model.write(tmp_path)
    cfg = recipe.load(RECIPES / "native-align.yaml")
    names = [s.name for s in alignment.steps(cfg, tmp_path)]
    assert names == ["seed", "align-seed", "worker", "align"]
