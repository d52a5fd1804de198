"""AI feedback: sample answers, ask a judge in both orders, keep what it says twice, tune on the pairs (DPO).

prefer(cfg, model, [prompts_parquet], seed, out)   # samples/, pairs/, model/, log.jsonl
"""

from fitra.judge import figures
from fitra.prefer.judge import judge_pairs
from fitra.prefer.run import prefer

__all__ = ["figures", "judge_pairs", "prefer"]
