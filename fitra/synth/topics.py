"""Topic trees: a file that people write, and levels of subtopics that a model adds below it.

AraLLaMA's ALAN went from 127 topics over fields and disciplines to 11,430 subjects (after GLAN); here the depth and
breadth are settings, every topic says where it comes from, and what repeats another topic is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from fitra import llm
from fitra.artifacts import LICENCE_CLASSES, canonical_json, digest
from fitra.errors import FitraError
from fitra.recipe import Instruct
from fitra.synth import ask, compare, gates

__all__ = ["Topic", "Tree", "ask_lists", "grow", "load", "texts_of"]

WORDS, CHARS = (1, 14), 110  # of a topic
NEAR = 0.8  # topics are short: one word in five may differ
ITEMS = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": {"type": "string"}}},
    "required": ["items"],
    "additionalProperties": False,
}
_LISTED = re.compile(r"^\s*(?:[-*•]|[\d٠-٩]{1,3}[.):\-])\s+(.+?)\s*$", re.M)
SEPARATOR = " ← "


@dataclass
class Topic:
    """One topic; `path` holds the names from the root to it."""

    id: str
    path: tuple[str, ...]
    parent_id: str = ""
    state: str = "accept"
    reason: str = ""

    @property
    def name(self) -> str:
        """Its own name."""
        return self.path[-1]

    def row(self, model: str) -> dict[str, Any]:
        """Its row (schemas.TOPIC_SCHEMA)."""
        return {"id": self.id, "topic": self.name, "path": SEPARATOR.join(self.path), "parent_id": self.parent_id,
                "state": self.state, "reason": self.reason, "model": model, "level": len(self.path)}  # fmt: skip


@dataclass(frozen=True)
class Tree:
    """A loaded topic file: all topics, the leaves among them, its licence class and the hash of its content."""

    topics: list[Topic]
    leaves: list[Topic]
    licence_class: str
    hash: str


def load(given: str | None = None) -> Tree:
    """Read a topic file, or the one that ships. FitraError names what is wrong with it."""
    name = given or "topics.yaml"
    try:
        if given:
            text = Path(given).read_text(encoding="utf-8")
        else:
            text = resources.files("fitra.synth").joinpath("topics.yaml").read_text("utf-8")
        raw = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as e:
        raise FitraError(f"{name}: cannot be read: {e}", "Give a YAML file of topics.") from None
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise FitraError(f"{name}{where}: not valid YAML.", "Check the indentation.") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("topics"), list) or not raw["topics"]:
        raise FitraError(f"{name}: expected a mapping with a list 'topics'.", "See docs/synth.md.")
    licence = str(raw.get("licence_class") or "D")
    if licence not in tuple(LICENCE_CLASSES):
        raise FitraError(f"{name}: licence_class '{licence}' is none of A, B, C, D.", "Correct it.")
    topics: list[Topic] = []
    leaves: list[Topic] = []
    _read(raw["topics"], (), "", name, topics, leaves)
    repeated = compare.duplicates([t.name for t in topics], 1.0)
    for t, of in zip(topics, repeated, strict=True):
        if of >= 0:
            raise FitraError(f"{name}: '{t.name}' ({t.id}) is there twice (also {topics[of].id}).", "Remove one.")
    return Tree(topics, leaves, licence, digest(raw))


def _read(given: Any, path: tuple[str, ...], parent: str, name: str, topics: list[Topic], leaves: list[Topic]) -> None:
    if not isinstance(given, list):
        raise FitraError(f"{name}: below '{' / '.join(path)}' expected a list of topics.", "See docs/synth.md.")
    for i, entry in enumerate(given, 1):
        title = entry if isinstance(entry, str) else entry.get("ar") if isinstance(entry, dict) else None
        if not isinstance(title, str) or not title.strip():
            where = " / ".join(path) or "the root"
            raise FitraError(f"{name}: topic {i} below {where} has no Arabic name 'ar'.", "For example '- ar: الفقه'.")
        topic = Topic(f"{parent}{'.' if parent else ''}{i:02d}", (*path, " ".join(title.split())), parent)
        topics.append(topic)
        below = entry.get("topics") if isinstance(entry, dict) else None
        if below:
            _read(below, topic.path, topic.id, name, topics, leaves)
        else:
            leaves.append(topic)


def shown(topic: Topic) -> str:
    """A topic as the model sees it."""
    return "\n".join(f"{'  ' * i}{name}" for i, name in enumerate(topic.path))


def texts_of(name: str, topic: Topic, count: int, kind: str = "") -> tuple[str, str]:
    """(system, user) of a request for topics or questions."""
    system = ask.fill(ask.prompt(name), count=str(count), kind=kind)
    return system, ask.between(shown(topic))


def items_of(reply: str) -> list[str]:
    """The texts of a list in a reply: JSON by ITEMS, a JSON array, or lines with numbers or dots."""
    found: list[Any] = []
    try:
        value = llm.parse_json(reply)
        found = value.get("items", []) if isinstance(value, dict) else value
    except llm.ParseError:
        found = _LISTED.findall(reply)
    texts = [" ".join(x.split()) if "\n" not in x else x.strip() for x in found if isinstance(x, str)]
    texts = [t for t in texts if t]
    if not texts:
        raise llm.ParseError("no list of texts in the reply")
    return texts


def ask_lists(
    cfg: Instruct, asker: ask.Asker, name: str, topics: Sequence[Topic], count: int, kind: str = ""
) -> dict[str, ask.Question]:
    """Ask for a list about each topic; the questions by topic id, `text` of those accepted being a JSON array."""
    asked: dict[str, ask.Question] = {}
    system = ""
    for t in topics:
        system, user = texts_of(name, t, count, kind)
        asked[t.id] = ask.Question(t.id, t.name, user, nonce=ask.nonce_of(shown(t)))

    def parse(reply: str, q: ask.Question) -> str:
        return canonical_json(items_of(ask.unmarked(reply, q.nonce))[: 2 * count])

    def judge(_: Sequence[ask.Question], pairs: Sequence[gates.Asked]) -> list[list[gates.Verdict]]:
        return gates.lists(pairs, [json.loads(p.answer) for p in pairs], cfg)

    asker.ask(name, system, list(asked.values()), parse, judge, draws=1, schema=ITEMS)
    return asked


def grow(cfg: Instruct, asker: ask.Asker, tree: Tree) -> tuple[list[Topic], list[Topic]]:
    """(all topics, leaves) after `cfg.depth` levels of `cfg.breadth` subtopics; refused topics are among the first.

    A leaf whose subtopics could not be had stays a leaf, so that no subject is lost to a bad reply.
    """
    topics, leaves = list(tree.topics), list(tree.leaves)
    for _ in range(cfg.depth):
        asked = ask_lists(cfg, asker, "topics", leaves, cfg.breadth)
        made: list[Topic] = []
        for leaf in leaves:
            q = asked[leaf.id]
            if q.state != "accept":
                made.append(Topic(f"{leaf.id}.00", (*leaf.path, ""), leaf.id, q.state, q.reason))
                continue
            for i, name in enumerate(json.loads(q.text)[: cfg.breadth], 1):
                problem = gates.item(name, cfg, WORDS, CHARS)
                state = "refused" if problem else "accept"
                made.append(Topic(f"{leaf.id}.{i:02d}", (*leaf.path, name), leaf.id, state, problem))
        known = [t.name for t in topics if t.state == "accept"]
        fresh = [t for t in made if t.state == "accept"]
        repeated = compare.duplicates([*known, *(t.name for t in fresh)], NEAR)[len(known) :]
        for t, of in zip(fresh, repeated, strict=True):
            if of >= 0:
                t.state, t.reason = "refused", "duplicate: of another topic"
        topics += made
        below = {t.parent_id for t in made if t.state == "accept"}
        leaves = [t for t in leaves if t.id not in below] + [t for t in made if t.state == "accept"]
        leaves.sort(key=lambda t: t.id)
    return topics, leaves
