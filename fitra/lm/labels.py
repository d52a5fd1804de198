"""The likelihood of a label's last token, as ArabicMMLU's authors compare their letters."""

from __future__ import annotations

from collections.abc import Sequence

from fitra.lm.load import LM
from fitra.lm.packed import Ask
from fitra.lm.score import Score, _read_shared


def last_token(m: LM, option: str) -> int:
    """The last token of an option read alone, without what the tokenizer puts before a text."""
    return int(m.tokenizer(option, add_special_tokens=False)["input_ids"][-1])


def last_tokens(m: LM, pairs: Sequence[tuple[str, str]], batch_tokens: int = 8192) -> list[Score]:
    """log P of one token right after each context: the last of the option read alone.

    A context too long for the model loses its beginning. Contexts that are equal run once.
    """
    contexts = list(dict.fromkeys(c for c, _ in pairs))
    ids = {c: tuple(x)[-m.max_positions :] for c, x in zip(contexts, m.encode(contexts), strict=True)}
    asks: dict[tuple[int, ...], list[Ask]] = {}
    for i, (context, option) in enumerate(pairs):
        row = ids[context] or tuple(m.start())
        asks.setdefault(row, []).append(Ask(len(row) - 1, last_token(m, option), i))
    sums = _read_shared(m, asks, len(pairs), batch_tokens)
    return [Score(float(t), 1, bool(g)) for t, g in zip(sums.total, sums.greedy, strict=True)]
