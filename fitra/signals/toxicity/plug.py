"""Any toxicity scorer behind one function: the embedded one, a Hugging Face classifier, or a moderation endpoint.

    scorer("embedded")            the model that ships
    scorer("hf:PATH")             a transformers sequence classifier (folder or hub name), scored in batches
    scorer("endpoint:URL")        an OpenAI-style /v1/moderations endpoint; the key is read from OPENAI_API_KEY

Each gives a function View -> {heading: float32 (n,)}, and `OVERALL` with the headings: the embedded model has a head
for it, of the others it is the highest heading that is not spam. What could not be scored is NaN ("null"), never 0.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fitra.errors import FitraError
from fitra.signals import linear
from fitra.signals.toxicity import model
from fitra.signals.toxicity.lexicon import HEADINGS, SAFETY_HEADINGS
from fitra.signals.view import View

Floats = npt.NDArray[np.float32]
Scorer = Callable[[View], dict[str, Floats]]

# Parts of the names of labels and categories, most specific first: "hate/threatening" is hate, "self-harm" is nothing.
LABELS = {
    "hate": ("hate", "racis", "identity", "كراهية"),
    "sexual": ("sexual", "obscen", "vulgar", "porn"),
    "violence": ("violence", "threat", "weapon", "عنف"),
    "spam": ("spam", "advert", "ads"),
    "harassment": ("harass", "toxic", "offens", "abus", "insult", "bully", "off"),
}
_NEGATED = ("non", "not", "no_", "no-", "neutral", "normal", "clean", "safe", "ham", "neither", "none")
BATCH, CHARACTERS = 32, 8000
OVERALL = "overall"


def scorer(spec: str = "embedded", labels: Mapping[str, str] | None = None) -> Scorer:
    """The scorer that `spec` names; `labels` maps a classifier's labels to headings where their names do not tell."""
    kind, _, value = spec.partition(":")
    if spec == "embedded":
        return _model(None)
    if kind == "npz" and value:
        return _model(model.load(Path(value)))
    if kind == "hf" and value:
        return _with_overall(_hf(value, labels or {}))
    if kind == "endpoint" and value.startswith(("http://", "https://")):
        return _with_overall(_endpoint(value))
    raise FitraError(
        f"toxicity scorer {spec!r} is not known", "Use embedded, npz:FILE, hf:MODEL_PATH or endpoint:https://HOST/v1."
    )


def _model(trained: linear.Linear | None) -> Scorer:
    return lambda view: {**model.score_all(view, trained), OVERALL: model.overall(view, trained)}


def _with_overall(score: Scorer) -> Scorer:
    def scored(view: View) -> dict[str, Floats]:
        found = score(view)
        known = [found[h] for h in SAFETY_HEADINGS if h in found]
        return {**found, OVERALL: np.maximum.reduce(known)} if known else found  # a NaN stays one

    return scored


def heading_of(label: str, labels: Mapping[str, str]) -> str | None:
    """The heading that a label or category stands for; None for a label of harmless text or of another matter."""
    if label in labels:
        return labels[label] if labels[label] in HEADINGS else None
    low = label.lower()
    if low.startswith(_NEGATED):
        return None
    return next((h for h, parts in LABELS.items() if any(p in low for p in parts)), None)


def _hf(path: str, labels: Mapping[str, str]) -> Scorer:
    try:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ImportError as e:
        raise FitraError("toxicity scorer hf: needs torch and transformers", 'pip install "fitra[train]"') from e
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path)
        classifier: Any = AutoModelForSequenceClassification.from_pretrained(path).eval()
    except (OSError, ValueError) as e:
        raise FitraError(f"{path}: not a sequence classifier that transformers can load ({e})") from e
    names: dict[int, str] = {int(i): str(n) for i, n in classifier.config.id2label.items()}
    to = {i: heading_of(n, labels) for i, n in names.items()}
    if not any(to.values()):
        raise FitraError(
            f"{path}: none of the labels {', '.join(names.values())} is a heading",
            f"Say which label is which of {', '.join(HEADINGS)}, for example toxicity.labels: {{LABEL_1: harassment}}.",
        )
    several = classifier.config.problem_type == "multi_label_classification" or len(names) == 1
    device = "cuda" if torch.cuda.is_available() else "cpu"
    classifier.to(device)

    def score(view: View) -> dict[str, Floats]:
        texts = view.texts.to_pylist()
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # equal lengths together: little padding
        out = {h: np.zeros(len(texts), np.float32) for h in HEADINGS if h in to.values()}
        for at in range(0, len(order), BATCH):
            rows = order[at : at + BATCH]
            given = tokenizer(
                [texts[i][:CHARACTERS] for i in rows],
                padding=True,
                truncation=True,
                max_length=512,
                return_tensors="pt",
            ).to(device)
            with torch.inference_mode():
                logits = classifier(**given).logits.float()
            p = (torch.sigmoid(logits) if several else torch.softmax(logits, dim=-1)).cpu().numpy()
            for i, heading in to.items():
                if heading:
                    out[heading][rows] = np.maximum(out[heading][rows], p[:, i])
        return out

    return score


def _endpoint(url: str) -> Scorer:
    import openai

    client = openai.OpenAI(base_url=url, api_key=os.environ.get("OPENAI_API_KEY", "none"), max_retries=3, timeout=60)

    def ask(texts: Sequence[str]) -> list[dict[str, float]]:
        answer = client.moderations.create(input=list(texts))
        rows = [dict(r.category_scores.model_dump(by_alias=True)) for r in answer.results]
        if len(rows) != len(texts):
            raise FitraError(f"{url}: {len(rows)} verdicts for {len(texts)} texts")
        return rows

    def score(view: View) -> dict[str, Floats]:
        texts = [t[:CHARACTERS] for t in view.texts.to_pylist()]
        out = {h: np.full(len(texts), np.nan, np.float32) for h in HEADINGS if h != "spam"}
        asked = [i for i, t in enumerate(texts) if t.strip()]
        answered = 0
        for at in range(0, len(asked), BATCH):
            part = asked[at : at + BATCH]
            try:
                rows = ask([texts[i] for i in part])
            except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as e:
                raise FitraError(f"{url}: {e}", "Check the address and OPENAI_API_KEY.") from e
            except (openai.APIError, FitraError) as e:
                failure: Exception = e
                continue  # these texts stay null
            answered += len(part)
            for i, row in zip(part, rows, strict=True):
                for heading in out:
                    found = [float(v) for k, v in row.items() if v is not None and heading_of(k, {}) == heading]
                    if found:
                        out[heading][i] = max(found)
        if asked and not answered:
            raise FitraError(f"{url}: no text could be scored ({failure})", "The endpoint must answer /v1/moderations.")
        for i, t in enumerate(texts):
            if not t.strip():
                for heading in out:
                    out[heading][i] = 0
        return out

    return score
