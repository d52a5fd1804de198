"""What answers: a local model, a checkpoint of one in training, or (fitra.evaluate.endpoint) a server.

All give the same three things, so that a benchmark is run the same way on each: log-likelihoods of continuations,
negative log-likelihoods of texts, and text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fitra import lm
from fitra.artifacts import digest
from fitra.evaluate.card import Card

Prompt = str | Sequence[Mapping[str, str]]  # a text, or the turns of a talk


class Backend(Protocol):
    """What can be measured. Lists come back in the order given; None stands for 'no answer was to be had'."""

    chunk: int  # prompts that are best given at once

    @property
    def identity(self) -> str:
        """What answers, weights and tokenizer: equal answers may be shared under it."""

    @property
    def max_positions(self) -> int | None:
        """Longest sequence in tokens; None where it is not known."""

    @property
    def has_chat(self) -> bool:
        """Whether it takes a user's turn through a chat template of its own."""

    def refuses(self, card: Card) -> str:
        """Why this card cannot be run here, or ''."""

    def encode(self, texts: Sequence[str]) -> list[list[int]] | None:
        """Token ids of each text; None where the tokenizer is not at hand."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[lm.Score | None]:
        """log P(continuation | context) in nats."""

    def last_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[lm.Score | None]:
        """log P of the last token of each option, read alone, right after the context."""

    def perplexity(self, texts: Sequence[str]) -> list[lm.Nll | None]:
        """Negative log-likelihood of whole texts in nats."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        seed: int = 0,
        chat: bool = False,
    ) -> list[str | None]:
        """What is written after each prompt; greedy at temperature 0. With `chat` a prompt is a user's turn."""

    def troubles(self) -> dict[str, int]:
        """Why there was no answer, and how often; counted since it was last asked."""


class Local:
    """A model in this process."""

    chunk = 512

    def __init__(self, m: lm.LM) -> None:
        self.m = m
        self._identity = ""

    @property
    def identity(self) -> str:
        """Hash of the weights, the tokenizer and the precision: each changes what comes out."""
        if not self._identity:
            dtype = str(next(self.m.model.parameters()).dtype)
            self._identity = digest([lm.weights_of(self.m.path), tokenizer_hash(self.m.tokenizer), dtype])
        return self._identity

    @property
    def max_positions(self) -> int | None:
        """Positions the model was made for."""
        return self.m.max_positions

    @property
    def has_chat(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return bool(self.m.tokenizer.chat_template)

    def refuses(self, card: Card) -> str:
        """A local model runs everything but chat without a template."""
        return "the tokenizer has no chat template" if card.chat and not self.has_chat else ""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        return self.m.encode(list(texts))

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[lm.Score | None]:
        """See fitra.lm.score."""
        return list(lm.score(self.m, pairs))

    def last_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[lm.Score | None]:
        """See fitra.lm.last_tokens."""
        return list(lm.last_tokens(self.m, pairs))

    def perplexity(self, texts: Sequence[str]) -> list[lm.Nll | None]:
        """See fitra.lm.perplexity."""
        return list(lm.perplexity(self.m, texts))

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        seed: int = 0,
        chat: bool = False,
    ) -> list[str | None]:
        """See fitra.lm.generate."""
        texts = [self._text(p, chat) for p in prompts]
        return list(
            lm.generate(self.m, texts, max_new_tokens=max_new_tokens, stop=stop, temperature=temperature, seed=seed)
        )

    def _text(self, prompt: Prompt, chat: bool) -> str:
        if isinstance(prompt, str):
            return lm.render(self.m, prompt) if chat else prompt
        turns = [dict(t) for t in prompt]
        if not self.has_chat:
            return "\n\n".join(t["content"] for t in turns)
        return str(self.m.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def troubles(self) -> dict[str, int]:
        """None: what goes wrong here stops the run."""
        return {}


def tokenizer_hash(tokenizer: Any) -> str:
    """Identity of a tokenizer: of what says how text becomes tokens, and a talk becomes text."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    what = fast.to_str() if fast is not None else sorted(tokenizer.get_vocab().items())
    return digest([what, tokenizer.chat_template, tokenizer("")["input_ids"]])


def of(model: Path, device: str, precision: str, base: Path | None = None) -> Local:
    """The backend of a model folder, a stage folder, or the checkpoint of a training that still goes on.

    Raises FitraError when there is no model.
    """
    return Local(lm.load_any(model, device=device, precision=precision, base=base))
