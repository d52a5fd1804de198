"""Arabic documents out of nothing: Zipf-like words, paragraphs, punctuation, digits; and planted variants of some.

The words are made up, the letters, their frequencies, the article and the endings are those of Arabic. Everything
follows from the seed. Made by NumPy and Arrow, some 60 MB/s, so that ten gigabytes take minutes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

WORDS = 60_000
_LETTERS = "اليمنوتربعدكهسفحقجطصشخذزضثغءئؤظ"
_WEIGHTS = 1 / (np.arange(len(_LETTERS)) + 3.0)
_STARTS = ["", "", "", "", "ال", "ال", "و", "وال", "ب", "بال", "لل", "أ", "إ", "م", "ي", "ت", "لا"]
_ENDS = ["", "", "", "", "ة", "ات", "ون", "ين", "ها", "هم", "ى", "ي", "ية", "ان"]
_MARKS = "\u064b\u064c\u064d\u064e\u064f\u0650\u0651\u0652"
_JOINING = "بتثجحخسشصضطظعغفقكلمنهيئ"


class Maker:
    """Documents from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.words = self._lexicon()
        p = 1 / (np.arange(WORDS) + 2.7)
        self.cumulative = np.cumsum(p / p.sum())
        # A word, with a comma, at the end of a sentence, of a question, of a paragraph.
        ends = [" ", "، ", ". ", "؟ ", ".\n\n"]
        self.tokens = pa.array([w + e for e in ends for w in self.words], pa.large_string())
        self.end_p = np.cumsum([0.80, 0.10, 0.07, 0.01, 0.02])

    def _lexicon(self) -> list[str]:
        p = _WEIGHTS / _WEIGHTS.sum()
        found: dict[str, None] = {}
        while len(found) < WORDS - 1000:
            n = 4096
            sizes = self.rng.choice([2, 3, 3, 3, 4, 4, 5], n)
            roots = self.rng.choice(list(_LETTERS), (n, 5), p=p)
            starts, ends = self.rng.choice(_STARTS, n), self.rng.choice(_ENDS, n)
            for i in range(n):
                found[starts[i] + "".join(roots[i, : sizes[i]]) + ends[i]] = None
        words = list(found)[: WORDS - 1000]
        numbers = [str(x) for x in self.rng.integers(1, 2100, 1000)]
        # Numbers are words like others, spread over the ranks.
        for at, number in zip(np.linspace(40, WORDS - 1001, 1000).astype(int).tolist(), numbers, strict=True):
            words.insert(at, number)
        return words

    def texts(self, n: int, mean_words: int = 360) -> pa.LargeStringArray:
        """`n` documents."""
        sizes = np.maximum(self.rng.lognormal(np.log(mean_words) - 0.08, 0.4, n).astype(np.int64), 60)
        total = int(sizes.sum())
        which = np.searchsorted(self.cumulative, self.rng.random(total)).clip(max=WORDS - 1)
        which += WORDS * np.searchsorted(self.end_p, self.rng.random(total)).clip(max=4)
        flat = self.tokens.take(pa.array(which))
        offsets = np.frombuffer(flat.buffers()[1], dtype=np.int64)[: total + 1]
        bounds = offsets[np.concatenate(([0], np.cumsum(sizes)))]
        made = pa.LargeStringArray.from_buffers(n, pa.py_buffer(bounds.tobytes()), flat.buffers()[2])
        return pc.utf8_rtrim_whitespace(made)

    # --- variants -------------------------------------------------------------------------------------------------

    def _some(self, text: str, pattern: str, share: float, change: Callable[[str], str]) -> str:
        return re.sub(pattern, lambda m: change(m.group()) if self.rng.random() < share else m.group(), text)

    def edits(self, text: str) -> str:
        """One word in a hundred is another."""
        words = text.split(" ")
        for i in self.rng.choice(len(words), max(1, round(len(words) / 100)), replace=False).tolist():
            words[i] = self.words[int(self.rng.integers(WORDS))]
        return " ".join(words)

    def tashkeel(self, text: str) -> str:
        """Six letters in ten get a mark."""
        return self._some(text, "[\u0621-\u064a]", 0.6, lambda c: c + _MARKS[int(self.rng.integers(len(_MARKS)))])

    def tatweel(self, text: str) -> str:
        """One joining letter in twelve is stretched."""
        return self._some(text, f"[{_JOINING}](?=[\u0621-\u064a])", 0.08, lambda c: c + "ـ" * 2)

    def alef(self, text: str) -> str:
        """Alef without hamza."""
        return re.sub("[أإآ]", "ا", text)

    def ya_ha(self, text: str) -> str:
        """ه for ة and ي for ى."""
        return text.replace("ة", "ه").replace("ى", "ي")

    def digits(self, text: str) -> str:
        """Arabic-Indic digits."""
        return text.translate({ord("0") + i: "٠١٢٣٤٥٦٧٨٩"[i] for i in range(10)})

    def punctuation(self, text: str) -> str:
        """Latin comma and question mark."""
        return text.replace("،", ",").replace("؟", "?")

    def ligature(self, text: str) -> str:
        """Lam-alef as one presentation form."""
        return text.replace("لا", "ﻻ").replace("لأ", "ﻷ").replace("لإ", "ﻹ")

    def marks(self, text: str) -> str:
        """RIGHT-TO-LEFT MARK before one word in five."""
        return self._some(text, r"(?<= )\w", 0.2, lambda c: "\u200f" + c)

    def mix(self, text: str) -> str:
        """Five at once."""
        return self.tashkeel(self.tatweel(self.digits(self.ya_ha(self.alef(text)))))


VARIANTS: dict[str, Callable[[Maker, str], str]] = {
    "exact": lambda _, text: text,
    "1% edits": Maker.edits,
    "tashkeel": Maker.tashkeel,
    "tatweel": Maker.tatweel,
    "alef": Maker.alef,
    "ta marbuta, ya": Maker.ya_ha,
    "digits": Maker.digits,
    "punctuation": Maker.punctuation,
    "lam-alef": Maker.ligature,
    "RTL marks": Maker.marks,
    "mix of five": Maker.mix,
}


def corpus(
    folder: Path, seed: int, docs: int, planted: int, shards: int = 8, kinds: tuple[str, ...] = tuple(VARIANTS)
) -> dict[str, str]:
    """Write `docs` documents and `planted` variants of each kind, shuffled, as jsonl shards; {variant id: original}.

    A variant is named `kind/number`. Originals of different variants are different documents.
    """
    maker = Maker(seed)
    texts = maker.texts(docs).to_pylist()
    rows = [(f"d{i:06d}", text) for i, text in enumerate(texts)]
    chosen = maker.rng.choice(docs, planted * len(kinds), replace=False).reshape(len(kinds), planted)
    truth = {}
    for kind, sources in zip(kinds, chosen.tolist(), strict=True):
        for n, source in enumerate(sources):
            truth[f"{kind}/{n:04d}"] = f"d{source:06d}"
            rows.append((f"{kind}/{n:04d}", VARIANTS[kind](maker, texts[source])))
    order = maker.rng.permutation(len(rows)).tolist()
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        with (folder / f"{shard:05d}.jsonl").open("w", encoding="utf-8") as f:
            for i in order[shard::shards]:
                f.write(json.dumps({"id": rows[i][0], "text": rows[i][1]}, ensure_ascii=False) + "\n")
    return truth


def lines(maker: Maker, megabytes: float, prefix: str, paragraphs: list[str] | None = None) -> Iterator[bytes]:
    """jsonl in blocks of some 20 MB: fresh documents, one in ten a near copy of another of its block. With paragraphs
    of real text every document is made of six of those: real words, whose number does not grow without end."""
    done, block = 0.0, 0
    while done < megabytes * 1e6:
        if paragraphs:
            picked = maker.rng.integers(0, len(paragraphs), (4000, 6)).tolist()
            texts = ["\n\n".join(paragraphs[p] for p in row) for row in picked]
        else:
            texts = maker.texts(4000).to_pylist()
        for i in maker.rng.choice(4000, 400, replace=False).tolist():
            texts[i] = texts[i - 7].replace("ة", "ه", 3)
        made = "".join(
            json.dumps({"id": f"{prefix}{block:05d}-{i:04d}", "text": t}, ensure_ascii=False) + "\n"
            for i, t in enumerate(texts)
        ).encode()
        done += len(made)
        block += 1
        yield made
