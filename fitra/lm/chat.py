"""The chat template: one token opens a turn and one closes it, with nothing between token and text.

No role has a written name, so nothing English stands in an Arabic talk and no space or line break of the frame mixes
with right-to-left text; and because a special token borders every text, the ids of an answer are the same whether it
is tokenised alone or within the talk. That is what makes the loss mask exact.
"""

from __future__ import annotations

from typing import Any

import torch

SYSTEM, USER, ASSISTANT, END = CHAT_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")

CHAT_TEMPLATE = """\
{{- bos_token or '' -}}
{%- for message in messages -%}
{%- if message['role'] not in ['system', 'user', 'assistant'] -%}
{{- raise_exception('unknown role ' ~ message['role']) -}}
{%- endif -%}
{{- '<|' ~ message['role'] ~ '|>' -}}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{- message['content'] | trim -}}{{- '<|end|>' -}}{%- endgeneration -%}
{%- else -%}
{{- message['content'] | trim -}}{{- '<|end|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


def prepare_tokenizer(tokenizer: Any, model: Any) -> int:
    """Give tokenizer and model the chat tokens, the template and the end of a turn; returns how many tokens were new.

    New rows of the embeddings start as the mean of the old ones. The model stops at <|end|> as well as at EOS, and
    says so in its generation config.
    """
    known = tokenizer.get_vocab()
    new = [t for t in CHAT_TOKENS if t not in known]
    if new:
        tokenizer.add_special_tokens({"additional_special_tokens": new}, replace_extra_special_tokens=False)
        old = model.get_input_embeddings().weight.shape[0]
        if len(tokenizer) > old:
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        with torch.no_grad():
            for matrix in {id(w): w for w in _embeddings(model)}.values():
                rows = [tokenizer.convert_tokens_to_ids(t) for t in new]
                matrix[rows] = matrix[: min(old, min(rows))].mean(0)
    tokenizer.chat_template = CHAT_TEMPLATE
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or END
    ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END)} - {None}
    model.generation_config.eos_token_id = sorted(ends)
    return len(new)


def _embeddings(model: Any) -> list[Any]:
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    return [layer.weight for layer in layers if layer is not None]


def without_chat_tokens(text: str) -> str:
    """Data cannot open or close a turn: what looks like a chat token is taken out of it."""
    for token in CHAT_TOKENS:
        text = text.replace(token, "")
    return text
