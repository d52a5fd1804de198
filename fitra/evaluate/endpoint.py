"""A server as what is measured: an OpenAI-compatible one, ours or another's, asked through the ledger.

Log-probabilities are where the servers differ. Tried in this order, before any work: the prompt echoed with its
log-probabilities (OpenAI's old completions, llama.cpp, vLLM), vLLM's own `prompt_logprobs`, the likeliest next tokens.
With the last, tasks whose options are one letter or short word can be run and no others; with none, what is written.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fitra import llm, lm
from fitra.errors import FitraError
from fitra.evaluate.backend import Prompt, tokenizer_hash
from fitra.evaluate.card import Card
from fitra.llm.completions import HOW
from fitra.recipe import Endpoint as Server

TOP = (20, 5)  # how many next tokens to ask for: vLLM's most, OpenAI's most
SHORT = 8  # letters of an option that may be one token
UNSPELT = "this endpoint's tokens do not spell Arabic text: give its tokenizer with --tokenizer FOLDER"
PROBE = "السؤال: ما عاصمة مصر؟\nالإجابة: القاهرة"


class Endpoint:
    """A model behind a server. `ledger` keeps every answer, so that nothing is asked twice."""

    chunk = 1024

    def __init__(
        self,
        server: Server,
        ledger: Path,
        *,
        tokenizer: Path | None = None,
        context: int | None = None,
        revision: str = "",
        probe: bool = True,
    ) -> None:
        self._server, self._ledger, self._revision = server, ledger, revision
        self._context = context
        self._troubles: Counter[str] = Counter()
        self._lm = _tokens_only(tokenizer) if tokenizer else None
        self._tokenizer = tokenizer_hash(self._lm.tokenizer) if self._lm else ""
        self._texts = llm.CompletionsBackend(server, revision=revision)
        self._talk = llm.EndpointBackend(server, revision=revision)
        self._spells = True  # whether the server's tokens can be told apart without its tokenizer
        self.how = ""  # 'echo', 'prompt_logprobs', 'top' or '': how log-probabilities are to be had
        self.completes = True  # whether plain completions are to be had at all
        self._top = TOP[0]
        if probe:
            self._probe()

    @property
    def identity(self) -> str:
        """The model's name and revision: which host serves it does not matter."""
        return f"{self._talk.identity} by {self.how or 'text'} {self._tokenizer[:16]}".strip()

    @property
    def max_positions(self) -> int | None:
        """As given: servers do not say."""
        return self._context

    @property
    def has_chat(self) -> bool:
        """A server has its template."""
        return True

    def refuses(self, card: Card) -> str:
        """Why the card cannot be run here: what it needs, this server does not give."""
        if card.kind in ("generate", "sample"):
            return "" if card.chat or self.completes else "it answers chats alone, and this task continues a plain text"
        if card.kind == "text":
            if self.how in HOW and self._lm is not None:
                return ""
            return "text is measured by token ids: it needs log-probabilities of the prompt and --tokenizer FOLDER"
        if card.last_token and (self._lm is None or self.how not in HOW):
            return "a label's token is looked up by its id: it needs the prompt's log-probabilities and --tokenizer"
        if self.how in HOW:
            return ""
        if not self.how:
            return "this endpoint gives no log-probabilities" if self._spells else UNSPELT
        if any(len(o.strip()) > SHORT for i in card.items for o in i.options):
            return (
                "this endpoint gives log-probabilities of the next token alone, and the options are longer"
                if self._spells
                else UNSPELT
            )
        return ""

    def encode(self, texts: Sequence[str]) -> list[list[int]] | None:
        """Token ids, where the tokenizer was given."""
        return self._lm.encode(list(texts)) if self._lm else None

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[lm.Score | None]:
        """log P(continuation | context), from the prompt's own log-probabilities or from the likeliest next tokens."""
        if self.how == "top":
            return self._letters(pairs)
        rows = [
            {"id": k, **(self._ids(*lm.split(self._lm, c, o)) if self._lm else {"text": c + o, "tail": len(o)})}
            for k, (c, o) in enumerate(pairs)
        ]
        return [lm.Score(a["logprob"], a["n"], a["greedy"]) if a else None for a in self._tails(rows)]

    def last_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[lm.Score | None]:
        """The last token of each option, read alone, right after the context."""
        assert self._lm is not None
        contexts = dict(zip([c for c, _ in pairs], self._lm.encode([c for c, _ in pairs]), strict=True))
        rows = [
            {"id": k, **self._ids([*contexts[c], lm.last_token(self._lm, o)], len(contexts[c]))}
            for k, (c, o) in enumerate(pairs)
        ]
        return [lm.Score(a["logprob"], 1, a["greedy"]) if a else None for a in self._tails(rows)]

    def perplexity(self, texts: Sequence[str]) -> list[lm.Nll | None]:
        """Negative log-likelihood of whole texts, through windows that move by half the context."""
        assert self._lm is not None
        rows: list[dict[str, Any]] = []
        owner: list[int] = []
        for k, text in enumerate(texts):
            for ids, tail in lm.windows(self._lm, text, self._context or lm.WINDOW):
                rows.append({"id": len(rows), "ids": ids, "tail": tail})
                owner.append(k)
        nll, tokens, lost = [0.0] * len(texts), [0] * len(texts), set[int]()
        for k, a in zip(owner, self._tails(rows), strict=True):
            if a is None:
                lost.add(k)
                continue
            nll[k] -= a["logprob"]
            tokens[k] += a["n"]
        return [
            None if k in lost else lm.Nll(nll[k], tokens[k], len(texts[k].encode())) for k in range(len(texts))
        ]  # fmt: skip

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
        """What the server writes. A row's seed is its own, so that equal prompts are not answered alike."""
        sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_new_tokens}
        if stop:
            sampling["stop"] = list(stop)
        rows = [{"id": k, "prompt": p} for k, p in enumerate(prompts)]
        talks = chat or any(not isinstance(p, str) for p in prompts)
        job = llm.Job("evaluate", _turns if talks else _plain, lambda reply, row: reply, sampling=sampling)
        if temperature > 0:  # draws of the ledger are told apart by their seed
            job = replace(job, sampling={**sampling, "seed": seed})
        return [a.value for a in self._run(job, rows, self._talk if talks else self._texts)]

    def troubles(self) -> dict[str, int]:
        """What the server would not answer, by reason."""
        out, self._troubles = dict(self._troubles), Counter()
        return out

    def _ids(self, ids: list[int], border: int) -> dict[str, Any]:
        """A row of token ids; one too long for the context loses its beginning, as with a local model."""
        cut = max(0, len(ids) - self._context + 1) if self._context else 0  # the server writes one token more
        return {"ids": ids[cut:], "tail": len(ids) - border}

    def _tails(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | None]:
        job = llm.Job("evaluate", _prompt, _object, sampling={"how": self.how})
        return [a.value for a in self._run(job, rows, self._texts)]

    def _letters(self, pairs: Sequence[tuple[str, str]]) -> list[lm.Score | None]:
        """The options as the next token. One beyond the likeliest gets the figure of the last: it has no more."""
        contexts = list(dict.fromkeys(c for c, _ in pairs))
        job = llm.Job("evaluate", _prompt, _object, sampling={"top": self._top})
        answers = self._run(job, [{"id": k, "text": c} for k, c in enumerate(contexts)], self._texts)
        tops = {c: a.value["top"] if a.value else {} for c, a in zip(contexts, answers, strict=True)}
        shown = Counter(c for c, o in pairs if o in tops[c])
        out: list[lm.Score | None] = []
        for c, o in pairs:
            top = tops[c]
            if not shown[c]:
                if top:
                    self._troubles["no option among the likeliest next tokens"] += 1
                out.append(None)
            else:
                best = max(top.values())
                out.append(lm.Score(top.get(o, min(top.values())), 1, top.get(o, best - 1) >= best))
        return out

    def _run(self, job: llm.Job, rows: Iterable[Mapping[str, Any]], backend: llm.Backend) -> list[llm.Answer]:
        rows = list(rows)
        answers = list(llm.run(job, rows, backend, self._ledger, progress=False)) if rows else []
        passing = [a.error for a in answers if a.error and not _final(a.error)]
        if passing:
            raise FitraError(
                f"{self._server.model}: {len(passing)} of {len(answers)} requests failed: {passing[0]}.",
                "Run the same command again: what was answered is kept.",
            )
        for a in answers:
            if a.error:
                self._troubles[a.error] += 1
        return answers

    def _probe(self) -> None:
        """Find out how log-probabilities are to be had. Raises FitraError when nobody answers at all."""
        for how in (*HOW, "top", "text"):
            row: dict[str, Any] = {"id": 0, "text": PROBE}
            tries: tuple[dict[str, Any], ...] = ({"how": how},)
            if how == "top":
                tries = tuple({"top": n} for n in TOP)
            elif how == "text":
                tries = ({"max_tokens": 1, "temperature": 0.0},)
            else:
                row = {"id": 0, "ids": self._lm.encode([PROBE])[0], "tail": 1} if self._lm else {**row, "tail": 4}
            for sampling in tries:
                job = llm.Job("evaluate-probe", _prompt, lambda reply, row: reply, sampling=sampling)
                try:
                    (answer,) = llm.run(job, [row], self._texts, self._ledger, progress=False)
                except llm.EndpointDown as e:
                    if "HTTP 404" not in e.message:
                        raise
                    self.completes = False  # chats alone
                    return
                if not answer.error:
                    self.how, self._top = ("" if how == "text" else how), sampling.get("top", TOP[0])
                    return
                self._spells &= "do not spell" not in answer.error
                self._texts = llm.CompletionsBackend(self._server, revision=self._revision)
        self.completes = False


def _tokens_only(folder: Path) -> lm.LM:
    """A model without weights: its tokenizer says how text becomes ids."""
    import torch
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise FitraError(f"{folder}: no tokenizer: {(str(e).splitlines() or [''])[0]}", "Check --tokenizer.") from None
    return lm.LM(None, tokenizer, torch.device("cpu"), Path(folder))


def _prompt(row: Mapping[str, Any]) -> list[llm.Message]:
    asked = (
        {"role": "ids", "content": json.dumps(row["ids"])}
        if "ids" in row
        else {"role": "prompt", "content": row["text"]}
    )
    return [{**asked, "tail": str(row["tail"])} if "tail" in row else asked]


def _plain(row: Mapping[str, Any]) -> list[llm.Message]:
    return [{"role": "prompt", "content": row["prompt"]}]


def _turns(row: Mapping[str, Any]) -> list[llm.Message]:
    prompt = row["prompt"]
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(t) for t in prompt]


def _object(reply: str, row: Mapping[str, Any]) -> Any:
    return json.loads(reply)


def _final(error: str) -> bool:
    """Whether asking again would be answered the same: the request itself is refused (too long, say)."""
    return error.startswith(("request: HTTP 4", "request: no log-probabilities", "render:", "parse:", "check:"))
