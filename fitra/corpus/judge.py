"""Labels and verdicts for a batch of documents: what it is, and whether it stays."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Any

import pyarrow as pa

from fitra import arabic
from fitra.corpus import measure
from fitra.corpus.ingest import Document, labels_json
from fitra.recipe import Corpus
from fitra.signals import language, personal


def fate(doc: Document, stage: str, reason: str, figure: float) -> Document:
    """A row of the table of removals."""
    row = {"stage": stage, "reason": reason, "figure": figure, "kept_id": None, "cluster_id": None}
    return {**row, **{k: doc[k] for k in ("id", "source", "text")}}


class Judge:
    """Callable on a batch; holds what is loaded once."""

    def __init__(self, cfg: Corpus, work: str) -> None:
        self.cfg = cfg

    @staticmethod
    @lru_cache(maxsize=2)
    def _made(config: str, work: str) -> Judge:
        return Judge(Corpus.model_validate_json(config), work)

    @staticmethod
    def of(cfg: Corpus, work: str) -> Judge:
        """The judge for a config; made once in a process."""
        return Judge._made(cfg.model_dump_json(), work)

    def notes(self, task: Any) -> dict[str, Any]:
        """What a shard reports beyond counts."""
        return {}

    def __call__(self, docs: list[Document], task: Any) -> tuple[list[Document], pa.Array, list[Document]]:
        """(documents that stay, their folded texts, rows of removals); labels become JSON."""
        cfg = self.cfg
        drops: dict[int, tuple[str, str, float]] = {}
        for i, doc in enumerate(docs):
            if cfg.personal_data != "keep":
                masked = personal.mask(doc["text"])
                if masked != doc["text"]:
                    spans = personal.find(doc["text"])
                    # Removed rows are masked as well: nobody who reads why should meet a telephone number.
                    doc["text"] = masked
                    doc["labels"]["personal"] = dict(sorted(Counter(s.kind for s in spans).items()))
                    if cfg.personal_data == "drop":
                        drops[i] = ("personal", "personal_data", float(len(spans)))
        texts = pa.array([d["text"] for d in docs], pa.large_string())
        got = measure.figures(texts)
        detections = language.detect_all([d["text"] for d in docs])
        for i, (doc, (detected, confidence)) in enumerate(zip(docs, detections, strict=True)):
            doc["lang"] = doc["lang"] or detected
            doc["labels"] |= {"lang_detected": detected, "lang_confidence": confidence, "words": int(got.words[i])}
            failed = measure.verdict(cfg, doc["text"], doc["lang"], confidence, got, i)
            if failed and i not in drops:
                drops[i] = ("filter", *failed)
            doc["labels"] = labels_json(doc["labels"])
        stay = [i for i in range(len(docs)) if i not in drops]
        folded = arabic.fold_array(texts.take(pa.array(stay, pa.int64())), "search")
        return [docs[i] for i in stay], folded, [fate(docs[i], *drops[i]) for i in sorted(drops)]
