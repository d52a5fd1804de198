"""Shared by the tests: the tiny recipe that goes the whole path in seconds, and the folder of real data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("FITRA_PROGRESS", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

TINY = """
name: tiny
seed: 3
world: {facts: 6, documents: 120, instructions: 30, prompts: 8}
corpus: {min_words: 5}
align: {}
base:
  scratch: {vocab_size: 400, hidden_size: 32, layers: 1, heads: 2, intermediate_size: 64, max_positions: 128}
  train: {tokens: 8192, batch_tokens: 1024, seq_len: 64, checkpoint_every: 2}
vocab: {add: 64}
pretrain:
  train: {tokens: 8192, batch_tokens: 1024, seq_len: 64, checkpoint_every: 2}
sft:
  train: {tokens: 4096, batch_tokens: 1024, seq_len: 64, checkpoint_every: 2}
prefer: {limit: 4, samples: 2, max_new_tokens: 8}
evaluate: {limit: 20}
"""


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Path:
    """The whole path with a model too small to learn: for contracts, not for figures."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data; tests that need it skip where FITRA_DATA is unset."""
    given = os.environ.get("FITRA_DATA")
    if not given or not Path(given).is_dir():
        pytest.skip("FITRA_DATA is not set to the folder of real data")
    return Path(given)
