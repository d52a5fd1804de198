"""The shape of the house: imports go down only, rooms do not know each other, data work needs no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fitra

PACKAGE = Path(fitra.__file__).parent
FLOORS = {
    0: {"recipe", "artifacts", "arabic", "stats", "errors", "progress", "engine", "page"},
    1: {"tables", "llm", "lm", "train", "signals", "policy", "judge"},
    2: {"corpus", "align", "vocab", "pretrain", "sft", "prefer", "evaluate", "synth"},
    3: {"run", "report", "world", "cli", "__main__"},
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
TORCH_ROOMS = {"lm", "train", "vocab", "pretrain", "sft", "prefer", "evaluate"}
HEAVY = {"torch", "transformers", "trl", "accelerate", "safetensors", "tokenizers", "peft"}


def module_of(path: Path) -> str:
    """The part of the house a file belongs to: 'corpus' for fitra/corpus/clean.py, '' for fitra/__init__.py."""
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import in a file, those inside functions too."""
    package = ["fitra", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*above, *([node.module] if node.module else [])])
            # `from fitra import arabic` names a module, `from fitra.arabic import fold` something in it.
            yield from ((node.lineno, f"{name}.{a.name}") for a in node.names)


def inside() -> Iterator[tuple[str, str, str]]:
    """(importing module, imported module, where) for all imports within the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for line, name in imports(path):
            parts = name.split(".")
            if parts[0] == "fitra" and len(parts) > 1 and parts[1] in FLOOR_OF:
                yield module_of(path), parts[1], f"{path.relative_to(PACKAGE.parent)}:{line}"


def test_every_module_has_a_floor() -> None:
    found = {module_of(p) for p in PACKAGE.rglob("*.py")} - {""}
    assert found <= set(FLOOR_OF), f"give these a floor: {sorted(found - set(FLOOR_OF))}"


def test_imports_go_down_only() -> None:
    up = [f"{where}: {a} imports {b}" for a, b, where in inside() if a and FLOOR_OF[b] > FLOOR_OF[a]]
    assert not up, "\n".join(up)


def test_rooms_do_not_import_each_other() -> None:
    rooms = FLOORS[2]
    across = [f"{where}: {a} imports {b}" for a, b, where in inside() if a in rooms and b in rooms and a != b]
    assert not across, "\n".join(across)


def test_only_the_command_line_knows_the_small_world() -> None:
    """Rules, gates and scorers that had seen the world would prove nothing on it."""
    known = [f"{where}: {a}" for a, b, where in inside() if b == "world" and a not in ("cli", "world")]
    assert not known, "\n".join(known)


def test_only_the_training_side_imports_torch() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        if module_of(path) in TORCH_ROOMS:
            continue
        top = ast.parse(path.read_text(encoding="utf-8"))
        for node in top.body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not HEAVY & {n.split(".")[0] for n in names}, f"{path}:{node.lineno}"


def test_only_tables_imports_daft() -> None:
    users = {
        module_of(p) for p in PACKAGE.rglob("*.py") for _, name in imports(p) if name.split(".")[0] == "daft"
    }  # fmt: skip
    assert users <= {"tables"}


BLOCKED = """
import importlib, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is not installed here")
sys.meta_path.insert(0, Block())
assert importlib.import_module({module!r}).__file__, "an empty folder is no room"
assert not {blocked!r} & set(sys.modules)
"""


@pytest.mark.parametrize("module", ["fitra.corpus", "fitra.align", "fitra.synth", "fitra.cli"])
def test_data_work_needs_no_torch(module: str) -> None:
    code = BLOCKED.format(blocked=HEAVY, module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
