"""Labels and verdicts for a batch of documents: what it is, and whether it stays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fitra import arabic
from fitra.artifacts import DOCUMENT_SCHEMA
from fitra.corpus import filters
from fitra.corpus.ingest import Document, labels_json
from fitra.corpus.lines import Cutter
from fitra.errors import FitraError
from fitra.recipe import Corpus
from fitra.signals import contamination, dialect, language, personal, quality, toxicity
from fitra.signals.view import View, view

# Regions of dialects that have a language code of their own in the corpora people join this one with.
REGION_CODES = {"egypt": "arz", "levant": "apc"}
INDEX = "contamination.npz"  # in the work folder
_SHOWN = ("mean_word_length", "vocalised_share", "line_end_share", "stop_word_share", "unique_word_share")


def fate(doc: Document, stage: str, reason: str, figure: float) -> Document:
    """A row of the table of removals."""
    row = {"stage": stage, "reason": reason, "figure": figure, "kept_id": None, "cluster_id": None}
    return {**row, **{k: doc[k] for k in ("id", "source", "text")}}


def _rounded(values: npt.NDArray[Any]) -> list[float]:
    """As labels show them."""
    return [round(v, 3) for v in values.tolist()]


def _table(docs: list[Document], texts: pa.Array) -> pa.Table:
    """Documents as they are stored; the texts are in Arrow already and large, so they are not made again."""
    columns: dict[str, Any] = {}
    for field in DOCUMENT_SCHEMA:
        if field.name == "text":
            columns["text"] = texts
        elif field.name == "labels":
            columns["labels"] = pa.array([labels_json(d["labels"]) for d in docs], pa.string())
        else:
            columns[field.name] = pa.array([d[field.name] for d in docs], field.type)
    return pa.table(columns)


class Judged(NamedTuple):
    """What became of a batch."""

    kept: pa.Table  # columns of DOCUMENT_SCHEMA
    folded: pa.Array  # their folded texts
    removed: list[Document]  # rows of the table of removals
    hits: list[tuple[str, int, contamination.Hit]]  # ("kept" or "removed", row there, what it holds)


class Judge:
    """Callable on the documents of a shard, batch by batch; what is loaded is loaded once in a process."""

    def __init__(self, cfg: Corpus, work: str) -> None:
        self.cfg, self.work = cfg, work
        self.wanted = set(cfg.labels)
        if cfg.toxicity.drop_over and "toxicity" not in self.wanted:
            raise FitraError("corpus.toxicity.drop_over needs the scores.", "Add toxicity to corpus.labels.")
        self.score = toxicity.scorer(cfg.toxicity.scorer, cfg.toxicity.labels) if "toxicity" in self.wanted else None
        known = [*toxicity.HEADINGS, toxicity.OVERALL]
        if unknown := sorted(set(cfg.toxicity.drop_over) - set(known)):
            raise FitraError(f"corpus.toxicity.drop_over: no heading '{unknown[0]}'.", f"Known: {', '.join(known)}.")
        self.index = contamination.Index.load(Path(work) / INDEX) if cfg.contamination.benchmarks else None
        self.cutters: dict[int, Cutter] = {}

    @staticmethod
    @lru_cache(maxsize=2)
    def _made(config: str, work: str) -> Judge:
        return Judge(Corpus.model_validate_json(config), work)

    @staticmethod
    def of(cfg: Corpus, work: str) -> Judge:
        """The judge for a config; made once in a process."""
        return Judge._made(cfg.model_dump_json(), work)

    def __call__(self, docs: list[Document], shard: int) -> Judged:
        """Label and judge the documents of a batch; their texts are masked in place."""
        drops: dict[int, tuple[str, str, float]] = {}
        hits: list[contamination.Hit] = []
        if self.cfg.dedupe.lines.min_documents:
            self._cut_lines(docs, shard, drops)
        self._personal(docs, drops)
        texts = pa.array([d["text"] for d in docs], pa.large_string())
        bare = personal.without_masks(texts)
        if self.wanted or self.index:
            seen = view(bare)
            folded = seen.folded
            if self.wanted:
                self._label(docs, seen, drops)
            hits = self._contamination(seen, drops)
        else:
            folded = arabic.fold_array(bare, "search")
        gone = [fate(docs[i], *drops[i]) for i in sorted(drops)]
        stay = [i for i in range(len(docs)) if i not in drops]
        place = {i: ("kept", n) for n, i in enumerate(stay)} | {i: ("removed", n) for n, i in enumerate(sorted(drops))}
        found = [(*place[h.doc], h) for h in hits]
        if not drops:
            return Judged(_table(docs, texts), folded, gone, found)
        at = pa.array(stay, pa.int64())
        return Judged(_table([docs[i] for i in stay], texts.take(at)), folded.take(at), gone, found)

    def _contamination(self, seen: View, drops: dict[int, tuple[str, str, float]]) -> list[contamination.Hit]:
        if self.index is None:
            return []
        cfg = self.cfg.contamination
        hits = self.index.find(seen, cfg.min_share, cfg.min_grams)
        if cfg.remove:
            for hit in sorted(hits, key=lambda h: -h.share):
                drops.setdefault(hit.doc, ("contamination", f"holds_{hit.benchmark}", hit.share))
        return hits

    def _cut_lines(self, docs: list[Document], shard: int, drops: dict[int, tuple[str, str, float]]) -> None:
        cfg = self.cfg.dedupe.lines
        if shard not in self.cutters:
            self.cutters = {shard: Cutter(cfg, self.work, shard)}
        texts = [d["text"] for d in docs]
        from fitra.signals import register

        registers, _ = register.label(view(texts))
        cut = self.cutters[shard](texts, [r in cfg.registers for r in registers])
        for i, (doc, (text, n)) in enumerate(zip(docs, cut, strict=True)):
            if n:
                doc["labels"]["lines_cut"] = n
                if text.strip():
                    doc["text"] = text
                else:  # nothing of its own: shown whole, so that one sees what went
                    drops[i] = ("lines", "repeated_lines_only", float(n))

    def _personal(self, docs: list[Document], drops: dict[int, tuple[str, str, float]]) -> None:
        mode = self.cfg.personal_data
        if mode == "keep":
            return
        # What is removed is masked as well: nobody who reads why should meet a telephone number.
        how = "mask" if mode == "drop" else mode
        texts, counts = personal.mask_all([d["text"] for d in docs], how, self.cfg.personal_kinds)
        for i, (doc, text, found) in enumerate(zip(docs, texts, counts, strict=True)):
            if found:
                doc["text"] = text
                doc["labels"]["personal"] = dict(sorted(found.items()))
                if mode == "drop" and i not in drops:
                    drops[i] = ("personal", "personal_data", float(sum(found.values())))

    def _label(self, docs: list[Document], seen: View, drops: dict[int, tuple[str, str, float]]) -> None:
        n = len(docs)
        varieties: Sequence[str | None] = [None] * n
        registers: Sequence[str | None] = [None] * n
        languages, confidences = language.detect_view(seen)
        labels: list[dict[str, Any]] = [d["labels"] for d in docs]
        sure = _rounded(confidences)
        for held, code, p, words in zip(labels, languages, sure, seen.n_words.tolist(), strict=True):
            held |= {"lang_detected": code, "lang_confidence": p, "words": words}
        codes = list(languages)
        if "variety" in self.wanted:
            varieties, regions, shares = dialect.label(seen)
            found = zip(labels, languages, varieties, regions, _rounded(shares), strict=True)
            for i, (held, code, variety, region, confidence) in enumerate(found):
                if code == "ar":
                    held |= {"variety": variety, "variety_confidence": confidence}
                    if region:
                        held["region"] = region
                        codes[i] = REGION_CODES.get(region, "ar") if variety == "dialect" else "ar"
        if "register" in self.wanted:
            from fitra.signals import register

            registers, shares = register.label(seen)
            for held, name, confidence in zip(labels, registers, _rounded(shares), strict=True):
                held |= {"register": name, "register_confidence": confidence}
        for doc, code in zip(docs, codes, strict=True):
            doc["lang"] = doc["lang"] or code
        if "quality" in self.wanted:
            figures = quality.figures(seen, self.cfg.filters.stop_words)
            shown = np.round(np.stack([figures[k] for k in _SHOWN], axis=1), 3).tolist()
            for held, row in zip(labels, shown, strict=True):
                held["quality"] = dict(zip(_SHOWN, row, strict=True))
            given = [d["lang"] for d in docs]
            verdicts = filters.judge(self.cfg.filters, figures, given, confidences, registers, varieties, self.cfg)
            for i, failed in enumerate(verdicts):
                if failed and i not in drops:
                    drops[i] = ("filter", *failed)
        if self.score:
            self._toxicity(labels, seen, drops)

    def _toxicity(self, labels: list[dict[str, Any]], seen: View, drops: dict[int, tuple[str, str, float]]) -> None:
        assert self.score is not None
        found = self.score(seen)
        names = sorted(found)
        table = np.round(np.stack([found[k] for k in names], axis=1).astype(np.float64), 3)
        for held, row in zip(labels, table.tolist(), strict=True):
            held["toxicity"] = {k: None if v != v else v for k, v in zip(names, row, strict=True)}
        limits = sorted(self.cfg.toxicity.drop_over.items())
        for name, most in limits:
            if name not in names:
                raise FitraError(f"the toxicity scorer gives no '{name}'.", f"It gives {', '.join(names)}.")
            values = table[:, names.index(name)]
            for i in np.flatnonzero(values > most).tolist():
                drops.setdefault(i, ("toxicity", f"toxic_{name}", float(values[i])))
            for i in np.flatnonzero(np.isnan(values)).tolist():  # what could not be scored does not count as clean
                drops.setdefault(i, ("toxicity", "not_scored", float("nan")))


class Description(NamedTuple):
    """What the filters look at in one text."""

    figures: dict[str, float]
    lang: str
    confidence: float
    register: str | None
    variety: str | None


def describe(cfg: Corpus, text: str) -> Description:
    """Measure one text again, as it was measured in its batch."""
    from fitra.signals import register

    seen = view(personal.without_masks(pa.array([text], pa.large_string())))
    languages, confidences = language.detect_view(seen)
    figures = {k: float(v[0]) for k, v in quality.figures(seen, cfg.filters.stop_words).items()}
    variety, code = None, languages[0]
    if "variety" in cfg.labels:
        varieties, regions, _ = dialect.label(seen)
        variety = varieties[0]
        if code == "ar" and variety == "dialect":
            code = REGION_CODES.get(regions[0] or "", "ar")
    name = register.label(seen)[0][0] if "register" in cfg.labels else None
    return Description(figures, code, float(confidences[0]), name, variety)
