"""The paper's loop as a recipe: expert, seed, worker, corpus; killed and run again it gives the same, for no call."""

from __future__ import annotations

import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from test_kill import KILLS, artefacts, start

pytest.importorskip("torch", reason="needs fitra[train]")
pytest.importorskip("uvicorn", reason="needs fitra[serve]")

from fitra import recipe, world
from fitra.artifacts import read_manifest, read_table
from fitra.world import expert

RECIPE = """
name: loop
arms: [aligned]
corpus:
  inputs: [{{path: {world}/documents, licence: Apache-2.0, licence_class: A}}]
  min_words: 5
align:
  expert: {{endpoints: {{base_url: "{url}", model: world-expert, api_key: secret}}}}
  seed: {{documents: 40}}
  train:
    serve: local
    max_tokens: 24
    base:
      languages: [ar]
      scratch: {{vocab_size: 400, hidden_size: 32, layers: 1, heads: 2, intermediate_size: 64, max_positions: 512}}
      train: {{tokens: 4096, batch_tokens: 1024, seq_len: 64, checkpoint_every: 2}}
    train: {{tokens: 16384, batch_tokens: 2048, seq_len: 512, checkpoint_every: 2}}
"""


class Counting(expert.Expert):
    """The stand-in, and how often it was asked."""

    asked = 0

    def rewrite(self, text: str) -> str:
        type(self).asked += 1
        return super().rewrite(text)


@pytest.mark.slow
def test_the_loop_killed_and_run_again(tmp_path: Path) -> None:
    world.write(recipe.World(facts=6, documents=160, instructions=4, prompts=4), 3, tmp_path / "world")
    with expert.serving(Counting(tmp_path / "world"), "secret") as endpoint:
        path = tmp_path / "loop.yaml"
        path.write_text(RECIPE.format(world=tmp_path / "world", url=endpoint.base_url), encoding="utf-8")
        calm, hurt = tmp_path / "calm", tmp_path / "hurt"
        started = time.monotonic()
        assert start(path, calm).wait() == 0
        whole, once = time.monotonic() - started, Counting.asked
        assert once >= 40
        stages = {m.parent.name.rsplit("-", 1)[0] for m in calm.glob("*/manifest.json")}
        assert {"corpus", "seed", "align-seed", "worker-base", "worker", "align"} <= stages
        dice = random.Random(0)
        for _ in range(KILLS):
            p = start(path, hurt)
            time.sleep(dice.uniform(0.3, whole))
            p.send_signal(signal.SIGKILL)
            p.wait()
        assert start(path, hurt).wait() == 0
        a, b = artefacts(calm), artefacts(hurt)
        assert set(a) == set(b) and [name for name in a if a[name] != b[name]] == []
        # With the answers kept and the rows gone nothing is asked a second time.
        before = Counting.asked
        for folder in hurt.glob("align-*"):
            shutil.rmtree(folder)
        assert start(path, hurt).wait() == 0
        assert Counting.asked == before
        again = artefacts(hurt)
        assert [name for name in a if a[name] != again.get(name)] == []
    seed, last = next(hurt.glob("align-seed-*")), next(p for p in hurt.glob("align-*") if "seed" not in p.name)
    rows = {r["id"]: r for r in read_table(last, "rows").to_pylist()}
    for row in read_table(seed, "rows").to_pylist():  # the seed is taken over as the expert left it
        assert rows[row["id"]] == row
    assert read_manifest(last)["notes"]["actual"]["tiers"]
