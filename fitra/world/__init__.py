"""The small bilingual world: Arabic and English documents that Fitra writes itself, with the truth about each.

Because the world is ours, every claim about cleaning, aligning and training on it can be checked (docs/world.md).
Nothing but `fitra.cli` and the tests imports this package: rules, gates and scorers must not know it.
"""

from fitra.world.write import write

__all__ = ["write"]
