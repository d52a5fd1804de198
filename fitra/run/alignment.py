"""The steps of native alignment in a run: align; or as in the paper: expert, seed, worker, and the worker aligns.

corpus ─► seed ─► align-seed (expert) ─► worker (trained) ─► align (worker served; the expert where it fails)
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fitra.errors import FitraError
from fitra.llm import Backend
from fitra.recipe import Align, Endpoint, Model, Recipe
from fitra.run.step import Folders, Step, files_of, paths_of

__all__ = ["steps"]


def steps(recipe: Recipe, ledger: Path) -> list[Step]:
    """The steps that `align` in a recipe stands for; the last one is called 'align'."""
    cfg = recipe.align
    assert cfg is not None
    if cfg.train is None:
        return [_align(cfg, ledger)]
    if cfg.expert is None:
        raise FitraError("align.train needs align.expert.", "The worker learns from what the expert wrote.")
    if cfg.worker and cfg.worker.format != cfg.train.format:
        raise FitraError(
            f"align.worker.format is {cfg.worker.format}, align.train.format {cfg.train.format}.",
            "The worker answers as it was trained: give both the same format.",
        )
    out = [_seed(recipe, cfg), _align_seed(cfg, ledger)]
    base = cfg.train.base
    if not base.path:
        out.append(_base(recipe, cfg))
    return [*out, _worker(recipe, cfg), _align_by_worker(cfg, ledger)]


def _key(cfg: Align) -> dict[str, Any]:
    return cfg.lasting() | {"policy": cfg.policy, "packs": cfg.packs}


def _inputs(cfg: Align) -> tuple[Path, ...]:
    folders = [p for p in (cfg.policy, *cfg.packs) if "/" in p]
    return paths_of(cfg.quran, *folders, *(b.path for b in cfg.benchmarks))


def _align(cfg: Align, ledger: Path) -> Step:
    def make(out: Path, at: Folders) -> Any:
        from fitra import align

        return align.align(cfg, at["corpus"], out, ledger=ledger)

    return Step("align", _key(cfg), ("corpus",), _inputs(cfg), make, {"models": ", ".join(cfg.models()) or "none"})


def _seed(recipe: Recipe, cfg: Align) -> Step:
    def make(out: Path, at: Folders) -> Any:
        from fitra.align import programme

        return programme.seed(cfg.seed, cfg.languages, at["corpus"], out, recipe.seed)

    return Step("seed", cfg.seed, ("corpus",), paths_of(cfg.seed.model), make, {"documents": cfg.seed.documents})


def _align_seed(cfg: Align, ledger: Path) -> Step:
    # The expert sees every document of the seed: the worker must learn what to leave alone, too.
    seed = cfg.model_copy(update={"triage": "all", "train": None})

    def make(out: Path, at: Folders) -> Any:
        from fitra import align

        return align.align(seed, at["seed"], out, ledger=ledger)

    return Step("align-seed", _key(seed), ("seed",), _inputs(cfg), make, {"models": "expert"})


def _base(recipe: Recipe, cfg: Align) -> Step:
    assert cfg.train is not None
    base = cfg.train.base

    def make(out: Path, at: Folders) -> Any:
        from fitra import pretrain

        return pretrain.make_base(base, at["corpus"], recipe.seed, out)

    return Step("worker-base", base, ("corpus",), (), make, {"tokens": base.train.tokens})


def _worker(recipe: Recipe, cfg: Align) -> Step:
    assert cfg.train is not None
    # It is trained as it will be asked.
    given = {"policy": cfg.policy, "chunk_chars": cfg.chunk_chars, "languages": cfg.languages}
    train = cfg.train.model_copy(update=given)
    path = train.base.path

    def make(out: Path, at: Folders) -> Any:
        from fitra.align import worker

        start = Path(path) if path else at["worker-base"] / "model"
        return worker.train(train, at["align-seed"], start, out, seed=recipe.seed)

    needs = ("align-seed",) if path else ("align-seed", "worker-base")
    key = train.model_dump(mode="json", exclude={"base", "serve", "max_tokens"})
    return Step("worker", key, needs, files_of([path] if path else []), make, {"tokens": train.train.tokens})


def _align_by_worker(cfg: Align, ledger: Path) -> Step:
    def make(out: Path, at: Folders) -> Any:
        from fitra import align
        from fitra.align import serve

        train = cfg.train
        assert train is not None
        folder = at["worker"] / "model"
        backends: dict[str, Backend] | None = None
        with ExitStack() as held:
            if cfg.worker:
                model = _served(cfg.worker, folder)
            elif train.serve == "server":
                endpoint = held.enter_context(serve.server(folder, max_tokens=train.max_tokens))
                model = Model(endpoints=[endpoint], format=train.format)
            else:
                local = serve.local(folder, max_tokens=train.max_tokens)
                # Never asked at an address: the backend answers.
                endpoint = Endpoint(base_url="local", model=local.identity, max_tokens=train.max_tokens)
                backends = {"worker": local}
                model = Model(endpoints=[endpoint], format=train.format)
            asked = cfg.model_copy(update={"worker": model, "train": None})
            return align.align(asked, at["corpus"], out, ledger=ledger, backends=backends, given=at["align-seed"])

    key = _key(cfg) | {"train": {"format": cfg.train.format, "max_tokens": cfg.train.max_tokens} if cfg.train else {}}
    needs = ("corpus", "align-seed", "worker")
    return Step("align", key, needs, _inputs(cfg), make, {"models": "worker, expert"})


def _served(model: Model, folder: Path) -> Model:
    """The worker where the recipe says that it is served, known by the weights it should have.

    Raises FitraError, with the folder to serve, where none of its endpoints answers.
    """
    from fitra import lm
    from fitra.run.doctor import answers

    said = [answers(e.base_url) for e in model.endpoints]
    if not any(ok for ok, _ in said):
        raise FitraError(
            f"align.worker: {said[0][1]}.",
            f"The worker is trained. Serve it, with vLLM for example: vllm serve {folder} --served-model-name "
            f"{model.endpoints[0].model}; then run again: what is finished stays.",
        )
    update = {"revision": lm.weights_hash(folder)[:16], "tokenizer": str(folder)}
    return model.model_copy(update=update)
