"""Asking a judge: which questions a protocol puts to it, through the ledger; and what came back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fitra import llm
from fitra.errors import FitraError
from fitra.evaluate.judged import embedded
from fitra.evaluate.judged.answers import Answers
from fitra.evaluate.judged.card import ChatCard, Question
from fitra.evaluate.judged.prompts import Prompts, read_pair, read_rating, render

__all__ = ["TEMPERATURE", "Judgement", "asked", "by_model", "by_rules"]

MOST_FAILED = 0.05  # of the requests: a figure over fewer replies would look like a finished one
TEMPERATURE = 0.2  # of the judge: AceGPT's evaluation, as AraLLaMA's Appendix I reports it
SPECIAL = ("coding", "math")  # categories that are judged by a criterion of their own, as Vicuna's judge does
Ask = dict[str, Any]


@dataclass(frozen=True)
class Judgement:
    """One reply of a judge, or what the rules say. `score` is the model's, `reference_score` that of the reference.

    `order`: 'ab' when the model's answer stood first, 'ba' when second, '' when it stood alone or order is unseen.
    `error` begins with 'parse' (a reply that is no score) or 'request' (no reply; asked again in the next run).
    """

    id: str
    aspect: str
    turn: int
    order: str
    draw: int
    score: float | None
    reference_score: float | None
    reply: str
    error: str

    @property
    def failed(self) -> bool:
        """No reply came, unlike one that is no score."""
        return bool(self.error) and not self.error.startswith(("parse", "check"))


def asked(card: ChatCard, answers: Answers, reference: Answers | None) -> list[Ask]:
    """The questions to a judge, in order of the card's questions; each row is what `prompts.render` takes.

    ratio, safety: both answers side by side in both orders where there is a reference model's, else one alone;
    culture: one alone, beside an accepted answer where there is one, and side by side too; turns: one alone per turn.
    """
    return [a for q in card.questions if q.id in answers for a in _of(card, q, answers[q.id], reference)]


def _of(card: ChatCard, q: Question, answer: tuple[str, ...], reference: Answers | None) -> Iterator[Ask]:
    protocol = card.set.protocol
    other = (reference or {}).get(q.id)
    for aspect in aspects(card, q):
        name = aspect if aspect in SPECIAL else ""
        base = {"item": q.id, "aspect": aspect, "label": "quality" if name else aspect, "order": "", "turn": 1}
        alone = protocol in ("turns", "culture") or reference is None
        for turn in range(len(q.turns)) if alone else ():
            gold = q.reference[turn] if turn < len(q.reference) else ""
            before = [q.turns[0], answer[0]] if turn else []
            form = "rate_second" if turn else "rate"
            ask = {**base, "form": form, "turn": turn + 1, "question": q.turns[turn], "first": answer[turn]}
            yield _named({**ask, "reference": gold, "before": before})
        if other is not None and protocol != "turns":
            for order, (first, second) in (("ab", (answer[0], other[0])), ("ba", (other[0], answer[0]))):
                ask = {**base, "form": "compare", "order": order, "question": q.turns[0], "first": first}
                yield _named({**ask, "second": second, "reference": q.reference[0] if q.reference else ""})


def _named(ask: Ask) -> Ask:
    return {**ask, "id": "\0".join([ask["item"], ask["aspect"], ask["form"], str(ask["turn"]), ask["order"]])}


def aspects(card: ChatCard, q: Question) -> tuple[str, ...]:
    """What is judged of a question's answer."""
    if card.set.protocol == "safety":
        return ("harmlessness", "helpfulness")
    if card.set.protocol == "culture":
        return ("culture",)
    return (q.category if q.category in SPECIAL else "quality",)


def by_model(
    asks: Sequence[Ask],
    prompts: Prompts,
    backend: llm.Backend,
    ledger: Path,
    draws: int,
    budget: llm.Budget | None = None,
) -> list[Judgement]:
    """What a judge model says, `draws` times each; nothing that the ledger holds is asked again.

    Raises FitraError when the endpoint is down, more than a twentieth of the requests fail, or the budget is spent;
    what was answered until then is kept.
    """

    def parse(reply: str, row: Mapping[str, Any]) -> tuple[float, float | None]:
        if row["form"] != "compare":
            return read_rating(reply, str(row["first"])), None
        first, second = read_pair(reply)
        return (first, second) if row["order"] == "ab" else (second, first)

    job = llm.Job(
        "chat-judge", lambda row: render(prompts, row), parse, sampling={"temperature": TEMPERATURE}, draws=draws
    )
    rows = {a["id"]: a for a in asks}
    out = []
    for got in llm.run(job, asks, backend, ledger, budget=budget):
        a = rows[got.row_id]
        score, other = got.value if got.error is None else (None, None)
        reply = got.reply.text if got.reply else ""
        place = (a["item"], a["label"], a["turn"], a["order"], got.draw)
        out.append(Judgement(*place, score, other, reply, got.error or ""))
    lost = [j.error for j in out if j.failed]
    if len(lost) > MOST_FAILED * len(out):
        raise FitraError(
            f"the judge failed on {len(lost)} of {len(out)} requests ({lost[0][:200]}).",
            "Run the same command again: answered requests are kept and only these are asked.",
        )
    return out


def by_rules(asks: Sequence[Ask]) -> list[Judgement]:
    """What the embedded judge says: each answer on its own, once, since it sees no order and knows no chance."""
    once = [a for a in asks if a["order"] != "ba"]
    texts = [{**a, "answer": a["first"]} for a in once]
    others = [{**a, "answer": a["second"]} for a in once if a["form"] == "compare"]
    scores, rest = embedded.rate(texts), iter(embedded.rate(others))
    return [
        Judgement(a["item"], a["label"], a["turn"], "", 0, s, next(rest) if a["form"] == "compare" else None, "", "")
        for a, s in zip(once, scores, strict=True)
    ]
