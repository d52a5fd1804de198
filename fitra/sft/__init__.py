"""Supervised fine-tuning on instructions, loss on the answers alone."""

from fitra.lm.chat import CHAT_TEMPLATE, CHAT_TOKENS, prepare_tokenizer
from fitra.sft.tune import tune

__all__ = ["CHAT_TEMPLATE", "CHAT_TOKENS", "prepare_tokenizer", "tune"]
