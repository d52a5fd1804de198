"""An OpenAI-compatible server of plain completions that really scores, with a small local model.

    with FakeCompletions(model_folder, gives=("echo",)) as s:
        ... s.base_url ...; s.requests

`gives` says what it can: 'echo' (OpenAI's echo with logprobs), 'prompt_logprobs' (vLLM's), 'top' (the likeliest next
tokens, at most `most`), 'chat' (chat completions too), 'text' (plain completions at all). The figures come from the
model's own forward, beside fitra.lm.score.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from fake_endpoint import FakeEndpoint, Fault

from fitra import lm


class FakeCompletions(FakeEndpoint):
    """The server; `max_positions` is the longest prompt it takes (400 beyond)."""

    def __init__(self, model: Path, gives: Sequence[str] = ("text", "echo", "top", "chat"), most: int = 20) -> None:
        super().__init__(self._reply)
        self.m = lm.load(model, device="cpu")
        self.gives, self.most = set(gives), most
        self.fail: dict[str, Fault] = {}  # part of a prompt -> what comes instead

    async def _answer(self, head: str, request: dict[str, Any], writer: Any) -> bool:
        if "messages" not in request:  # so that the parent can count
            request = {**request, "messages": [{"content": json.dumps(request["prompt"], ensure_ascii=False)}]}
        return await super()._answer(head, request, writer)

    def _reply(self, request: dict[str, Any], seen: int) -> str | Fault:
        if "prompt" not in request:
            if "chat" not in self.gives:
                return Fault(404)
            text = self.m.tokenizer.apply_chat_template(request["messages"], tokenize=False, add_generation_prompt=True)
            return lm.generate(self.m, [text], max_new_tokens=request["max_tokens"], stop=request.get("stop", ()))[0]
        if "text" not in self.gives:
            return Fault(404)
        prompt = request["prompt"]
        for part, fault in self.fail.items():
            if isinstance(prompt, str) and part in prompt:
                return fault
        ids = self.m.encode([prompt])[0] if isinstance(prompt, str) else prompt
        if len(ids) + request.get("max_tokens", 16) > self.m.max_positions:
            return Fault(400, body='{"error": {"message": "the prompt is longer than the context"}}')
        if (request.get("logprobs") or 0) > self.most:
            return Fault(400, body='{"error": {"message": "too many logprobs"}}')
        written = (
            lm.generate(self.m, [prompt], max_new_tokens=request["max_tokens"])[0] if isinstance(prompt, str) else ""
        )
        return Fault(body=json.dumps(self._choice(ids, written, request), ensure_ascii=False))

    @torch.inference_mode()
    def _choice(self, ids: list[int], written: str, request: dict[str, Any]) -> dict[str, Any]:
        logp = self.m.model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)  # (T, V)
        names = [self.m.tokenizer.decode([i]) for i in range(logp.shape[1])]
        choice: dict[str, Any] = {"index": 0, "text": written, "finish_reason": "length", "logprobs": None}
        last = int(logp[-1].argmax())

        def best(row: torch.Tensor, n: int) -> dict[str, float]:
            got = row.topk(n)
            return {names[i]: v for v, i in zip(got.values.tolist(), got.indices.tolist(), strict=True)}

        if "prompt_logprobs" in request and "prompt_logprobs" in self.gives:
            choice["prompt_logprobs"] = [None] + [
                {
                    str(t): {"logprob": float(logp[k, t]), "rank": 1, "decoded_token": names[t]},
                    str(int(logp[k].argmax())): {
                        "logprob": float(logp[k].max()), "rank": 1, "decoded_token": names[int(logp[k].argmax())],
                    },
                }
                for k, t in enumerate(ids[1:])
            ]  # fmt: skip
        if request.get("echo") and "echo" in self.gives:
            seen = [*ids, last]
            choice["logprobs"] = {
                "tokens": [names[i] for i in seen],
                "token_logprobs": [None, *(float(logp[k, t]) for k, t in enumerate(seen[1:]))],
                "top_logprobs": [None, *(best(logp[k], 1) for k in range(len(ids)))],
            }
        elif request.get("logprobs") and not request.get("echo") and "top" in self.gives:
            choice["logprobs"] = {
                "tokens": [names[last]], "token_logprobs": [float(logp[-1, last])],
                "top_logprobs": [best(logp[-1], request["logprobs"])],
            }  # fmt: skip
        usage = {"prompt_tokens": len(ids), "completion_tokens": 1, "total_tokens": len(ids) + 1}
        return {"id": "x", "object": "text_completion", "model": "fake", "choices": [choice], "usage": usage}
