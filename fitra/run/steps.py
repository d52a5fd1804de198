"""The graph of a run: which stages a recipe has, what each reads, and which function makes it.

A step's folder is `OUT/<name>-<key>`, the key being a hash of its config, its inputs and Fitra's version. So a
changed recipe makes new folders beside the old ones and never mixes with them, and nothing finished is made twice.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fitra import tables
from fitra.errors import FitraError
from fitra.recipe import Engine, Recipe, Source, World
from fitra.run import alignment
from fitra.run.step import Folders, Step, files_of, finished, folder_of, paths_of
from fitra.signals import data_hash

__all__ = ["Folders", "Step", "finished", "folder_of", "plan"]

WriteWorld = Callable[[World, int, Path], Any]


def plan(recipe: Recipe, ledger: Path, write_world: WriteWorld | None) -> list[Step]:
    """The steps of a recipe, in the order they run. Raises FitraError for a room without the room it stands on."""
    _check(recipe)
    seed, steps = recipe.seed, list[Step]()
    world = ("world",) if recipe.world else ()
    if recipe.world:
        if write_world is None:
            raise FitraError("this recipe needs the small world.", "Run it through the command line.")
        steps.append(_world(recipe.world, seed, write_world))
    steps.append(_corpus(recipe, world))
    if recipe.align:
        steps += alignment.steps(recipe, ledger)
    if recipe.base and not recipe.base.path:
        steps.append(_base(recipe))
    if recipe.vocab:
        steps.append(_vocab(recipe))
    if recipe.evaluate and recipe.base:
        steps.append(_evaluate(recipe, "base", "base", world))
    for arm in recipe.arms:
        steps += _arm(recipe, arm, world)
    return steps


def _check(recipe: Recipe) -> None:
    if not recipe.world and not recipe.corpus.inputs:
        raise FitraError("the recipe has nothing to read.", "Give corpus.inputs (or world, for the small world).")
    needs = {"vocab": "base", "pretrain": "base", "sft": "base", "prefer": "sft", "evaluate": "base"}
    for room, below in needs.items():
        if getattr(recipe, room) and not getattr(recipe, below):
            raise FitraError(f"the recipe has '{room}' but not '{below}', which it stands on.", f"Add '{below}'.")
    if unknown := set(recipe.arms) - {"original", "aligned"}:
        raise FitraError(f"unknown arm '{min(unknown)}'.", "Arms are 'original' and 'aligned'.")
    if "aligned" in recipe.arms and recipe.pretrain and not recipe.align:
        raise FitraError("the arm 'aligned' needs 'align' in the recipe.", "Add 'align', or set arms: [original].")


def _world(cfg: World, seed: int, write: WriteWorld) -> Step:
    return Step("world", cfg, (), (), lambda out, _: write(cfg, seed, out), {"documents": cfg.documents})


def _corpus(recipe: Recipe, world: tuple[str, ...]) -> Step:
    cfg = recipe.corpus

    def make(out: Path, at: Folders) -> Any:
        from fitra import corpus

        inputs = list(cfg.inputs)
        if world:
            inputs.append(Source(path=str(at["world"] / "documents"), licence="Apache-2.0", licence_class="A"))
        return corpus.clean(cfg.model_copy(update={"inputs": inputs}), out)

    # Where the work is done never changes a result; what lies elsewhere is known by what its store says of it.
    key: dict[str, Any] = {"corpus": cfg.model_copy(update={"engine": Engine()})}
    if cfg.labels:
        key["signals"] = data_hash()
    paths = [s.path for s in cfg.inputs]
    if remote := [p for p in paths if "://" in p]:
        key["remote"] = [tables.identity(f) for p in remote for f in tables.resolve(p)]
    others = [*cfg.dedupe.against, *(b.path for b in cfg.contamination.benchmarks)]
    files = files_of([*(p for p in paths if "://" not in p), *others])
    return Step("corpus", key, world, files, make, {"sources": len(cfg.inputs)})


def _base(recipe: Recipe) -> Step:
    cfg = recipe.base
    assert cfg is not None

    def make(out: Path, at: Folders) -> Any:
        from fitra import pretrain

        return pretrain.make_base(cfg, at["corpus"], recipe.seed, out)

    return Step("base", cfg, ("corpus",), (), make, {"tokens": cfg.train.tokens})


def _model(recipe: Recipe, stage: str) -> tuple[tuple[str, ...], tuple[Path, ...], Callable[[Folders], Path]]:
    """The model that `stage` made, or the base given as a path: what to need, what to hash, where to find it."""
    if stage == "base" and recipe.base and recipe.base.path:
        given = Path(recipe.base.path)
        if not (given / "config.json").is_file():
            raise FitraError(f"{given}: not a model folder (no config.json).", "Point base.path to a saved model.")
        return (), (given,), lambda at: given
    return (stage,), (), lambda at: at[stage] / "model"


def _vocab(recipe: Recipe) -> Step:
    cfg = recipe.vocab
    assert cfg is not None
    needs, files, model = _model(recipe, "base")

    def make(out: Path, at: Folders) -> Any:
        from fitra import vocab

        return vocab.expand(cfg, model(at), at["corpus"], recipe.seed, out)

    return Step("vocab", cfg, (*needs, "corpus"), files, make, {"add": cfg.add})


def _arm(recipe: Recipe, arm: str, world: tuple[str, ...]) -> list[Step]:
    """Pre-training, tuning, preferences and their evaluations on one version of the corpus."""
    steps: list[Step] = []
    if not recipe.pretrain:
        return steps
    steps.append(_pretrain(recipe, arm, world))
    if recipe.evaluate:
        steps.append(_evaluate(recipe, arm, f"pretrain-{arm}", world))
    if recipe.sft:
        steps.append(_sft(recipe, arm, world))
        if recipe.evaluate:
            steps.append(_evaluate(recipe, f"sft-{arm}", f"sft-{arm}", world))
    # Preferences crown the last arm alone: the comparison of the arms is made before them.
    if recipe.prefer and arm == recipe.arms[-1]:
        steps.append(_prefer(recipe, arm, world))
        if recipe.evaluate:
            steps.append(_evaluate(recipe, f"prefer-{arm}", f"prefer-{arm}", world))
    return steps


def _pretrain(recipe: Recipe, arm: str, world: tuple[str, ...]) -> Step:
    cfg = recipe.pretrain
    assert cfg is not None
    needs, files, model = _model(recipe, "vocab" if recipe.vocab else "base")
    documents = "align" if arm == "aligned" else "corpus"

    def make(out: Path, at: Folders) -> Any:
        from fitra import pretrain

        parallel = [Path(p) for p in cfg.parallel] + [at[w] / "parallel.parquet" for w in world]
        stages = _stages(at["vocab"]) if recipe.vocab and recipe.vocab.progressive else []
        return pretrain.continue_pretraining(
            cfg, model(at), at[documents], recipe.seed, out, parallel=parallel, stages=stages
        )

    files = files + files_of(cfg.parallel)
    return Step(f"pretrain-{arm}", cfg, (*needs, documents, *world), files, make, {"tokens": cfg.train.tokens})


def _stages(vocabulary: Path) -> Any:
    from fitra.vocab import progressive

    return progressive.load(vocabulary)


def _sft(recipe: Recipe, arm: str, world: tuple[str, ...]) -> Step:
    cfg = recipe.sft
    assert cfg is not None

    def make(out: Path, at: Folders) -> Any:
        from fitra import sft

        instructions = [Path(p) for p in cfg.instructions] + [at[w] / "instructions.parquet" for w in world]
        return sft.tune(cfg, at[f"pretrain-{arm}"] / "model", instructions, recipe.seed, out)

    needs = (f"pretrain-{arm}", *world)
    return Step(f"sft-{arm}", cfg, needs, files_of(cfg.instructions), make, {"tokens": cfg.train.tokens})


def _prefer(recipe: Recipe, arm: str, world: tuple[str, ...]) -> Step:
    cfg = recipe.prefer
    assert cfg is not None

    def make(out: Path, at: Folders) -> Any:
        from fitra import prefer

        prompts = [Path(p) for p in cfg.prompts] + [at[w] / "prompts.parquet" for w in world]
        return prefer.prefer(cfg, at[f"sft-{arm}"] / "model", prompts, recipe.seed, out)

    needs = (f"sft-{arm}", *world)
    return Step(f"prefer-{arm}", cfg, needs, files_of(cfg.prompts), make, {"prompts": cfg.limit})


def _evaluate(recipe: Recipe, name: str, stage: str, world: tuple[str, ...]) -> Step:
    cfg = recipe.evaluate
    assert cfg is not None
    needs, files, model = _model(recipe, stage)

    def make(out: Path, at: Folders) -> Any:
        from fitra import evaluate

        return evaluate.evaluate(cfg, model(at), recipe.seed, out, world=at.get("world"))

    files = files + paths_of(cfg.acva, cfg.exams, cfg.retention, cfg.texts, cfg.corpus, cfg.data)
    if cfg.endpoint:
        raise FitraError("evaluate.endpoint: a run measures its own models.", "Use `fitra eval run --endpoint`.")
    return Step(f"eval-{name}", cfg.asked(), (*needs, *world), files, make)
