"""Protected spans: recall of the Qur'an matcher, matches to read for precision, speed, and hostile rewriters.

    python benchmarks/protect.py --data DIR [--rewrites 10000] [--sample protect-sample.tsv]

DIR/parallel/quran_ar_en.parquet holds the verses, DIR/raw/*.parquet real texts.

- recall: whole verses of four words and more and fragments of 4 to 12 words, some across the border of two verses, put
  into news at random places in eight writings. Found means: every character of what was inserted lies in protected
  text. By default only the matcher looks; nothing around the insertion says that it is scripture.
- slips: whole verses of which one word is replaced, left out, put in or swapped: how much is protected.
- precision: every match in the news and the encyclopaedia goes to the sample, one a line, with its context.
- speed: megabytes of UTF-8 per second of CPU time, for the matcher and for `mask` as a whole.
- hostile: real text with inserted verses through rewriters that rewrite everything, reorder, duplicate, drop, invent,
  change what is inside a placeholder, its case, add tashkeel. Altered means: a rewrite was accepted in which not every
  protected span and every inserted verse stands byte for byte, in order, with nothing put against its letters.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from fitra.align import masking
from fitra.align.protect.quran import place

MARK = re.compile("[\u064b-\u0652\u0670]")
Text = str


def bare(text: Text) -> Text:
    """Without tashkeel."""
    return MARK.sub("", text)


def tatweel(text: Text, rng: random.Random) -> Text:
    """Without tashkeel, stretched at random places where letters join."""
    return re.sub("(?<=[بتثجحخسشصضطظعغفقكلمنهي])(?=[ء-ي])", lambda _: rng.choice(["", "", "ـ", "ـــ"]), bare(text))


def variants(text: Text, rng: random.Random) -> Text:
    """Without tashkeel; alef, hamza, ya and ta marbuta as people type them."""
    swaps = {"أ": "أاإ", "إ": "إاأ", "آ": "آا", "ى": "ىي", "ة": "ةه", "ؤ": "ؤو", "ئ": "ئي", "ي": "يييى"}
    out = []
    for word in bare(text).split(" "):
        letters = [
            rng.choice(swaps[c]) if c in swaps and (c != "ي" or i == len(word) - 1) else c for i, c in enumerate(word)
        ]
        out.append("".join(letters))
    return " ".join(out)


def presentation(text: Text, rng: random.Random) -> Text:
    """Without tashkeel, in isolated presentation forms, as old programs wrote."""
    return "".join(_FORMS.get(c, c) for c in bare(text))


_FORMS: dict[str, str] = {}
for _code in range(0xFE80, 0xFEF5):
    _letter = unicodedata.normalize("NFKC", chr(_code))
    if len(_letter) == 1:
        _FORMS.setdefault(_letter, chr(_code))

WRITINGS: dict[str, Callable[[Text, random.Random], Text]] = {
    "as it is": lambda t, _: t,
    "without tashkeel": lambda t, _: bare(t),
    "some tashkeel": lambda t, rng: "".join(c for c in t if not MARK.match(c) or rng.random() < 0.4),
    "tatweel": tatweel,
    "alef, hamza, ya": variants,
    "Uthmani signs": lambda t, _: t.replace("ا", "ٱ", 1).replace("ا ", "اْ ").replace("مِنْ ", "مِن "),
    "dagger alef": lambda t, rng: re.sub("َا(?=[\u0621-\u064a])", lambda m: rng.choice([m[0], "َـٰ"]), t),
    "presentation forms": presentation,
}


def read(data: Path) -> tuple[masking.Verses, list[Text], list[Text]]:
    """The matcher, the verses and fragments to insert (drawn once), and texts of news."""
    table = pq.read_table(data / "parallel/quran_ar_en.parquet", columns=["id", "ar"])
    verses, names = table["ar"].to_pylist(), table["id"].to_pylist()
    rng = random.Random(1)
    whole = [v for v in verses if len(v.split()) >= 4]
    parts = []
    for i, v in enumerate(verses):
        words = v.split()
        here, following = place(names[i]), place(names[i + 1]) if i + 1 < len(names) else None
        if here and following == (here[0], here[1] + 1) and rng.random() < 0.3:
            words = words[-6:] + verses[i + 1].split()[:6]
        if len(words) < 4:
            continue
        n = rng.randint(4, min(12, len(words)))
        at = rng.randint(0, len(words) - n)
        parts.append(" ".join(words[at : at + n]))
    matcher = masking.load_verses(data / "parallel/quran_ar_en.parquet")
    assert matcher is not None
    return matcher, [*whole, *parts], news(data, "ar_news")


def news(data: Path, name: str) -> list[Text]:
    """The texts of one file."""
    return [t for t in pq.read_table(data / f"raw/{name}.parquet", columns=["text"])["text"].to_pylist() if t]


def inserted(text: Text, part: Text, rng: random.Random) -> tuple[Text, int]:
    """`part` between two words of `text`, and where it begins."""
    gaps = [m.start() for m in re.finditer(" ", text)] or [len(text)]
    at = rng.choice(gaps)
    return f"{text[:at]} {part} {text[at:].lstrip(' ')}", at + 1


def recall(matcher: masking.Verses, parts: list[Text], texts: list[Text], whole: int) -> None:
    """Print recall per writing and kind, and per number of words."""
    rng = random.Random(2)
    print(f"{'writing':22} whole verses       fragments        all recall")
    sizes: Counter[tuple[int, bool]] = Counter()
    missed: list[Text] = []
    total = [0, 0]
    for name, write in WRITINGS.items():
        hit = [[0, 0], [0, 0]]
        for k, part in enumerate(parts):
            shown = write(part, rng)
            text, at = inserted(rng.choice(texts)[:1500], shown, rng)
            open_ = bytearray(b"\1" * len(shown))
            for p in matcher.find(text):
                a, b = max(p.start, at), min(p.end, at + len(shown))
                if a < b:
                    open_[a - at : b - at] = bytes(b - a)
            found = not any(x for x, c in zip(open_, shown, strict=True) if not c.isspace())
            hit[k >= whole][0] += found
            hit[k >= whole][1] += 1
            if name == "without tashkeel":
                sizes[min(13, len(part.split())), found] += 1
                if not found:
                    missed.append(part)
        total = [total[0] + hit[0][0] + hit[1][0], total[1] + hit[0][1] + hit[1][1]]
        cells = "   ".join(f"{a:5} of {b:5}" for a, b in hit)
        print(f"{name:22} {cells}   {(hit[0][0] + hit[1][0]) / (hit[0][1] + hit[1][1]):.4f}")
    print(f"{'all':22} {total[0]} of {total[1]}: {total[0] / total[1]:.4f}")
    shares = {n: sizes[n, True] / (sizes[n, True] + sizes[n, False]) for n in sorted({n for n, _ in sizes})}
    print("without tashkeel, by words:", ", ".join(f"{n}{'+' if n > 12 else ''}: {s:.3f}" for n, s in shares.items()))
    print("missed, first ten:", " | ".join(map(bare, missed[:10])))


def slips(matcher: masking.Verses, whole: list[Text]) -> None:
    """Print how much of verses of 6 to 25 words is protected when one word of them is wrong."""
    rng = random.Random(5)
    verses = [bare(v).split() for v in rng.sample([v for v in whole if 6 <= len(v.split()) <= 25], 1200)]
    for kind in ("replaced", "left out", "put in", "swapped with the next"):
        full = touched = left = 0
        for verse in verses:
            words, i = list(verse), rng.randrange(len(verse) - 1)
            if kind == "replaced":
                words[i] = "كلمة"
            elif kind == "left out":
                del words[i]
            elif kind == "put in":
                words.insert(i, "كلمة")
            else:
                words[i : i + 2] = words[i + 1], words[i]
            text = " ".join(words)
            spans = list(matcher.find(f"ذكر {text} ضمن"))
            open_ = sum(
                not any(p.start <= m.start() + 4 and m.end() + 4 <= p.end for p in spans)
                for m in re.finditer(r"\S+", text)
            )
            full, touched, left = full + (open_ == 0), touched + (open_ < len(words)), left + open_
        n = len(verses)
        print(f"one word {kind:24} whole {full / n:.3f}  in part {touched / n:.3f}  words left open {left / n:.2f}")


def precision(matcher: masking.Verses, data: Path, sample: Path) -> None:
    """Write every match in news and encyclopaedia to `sample`; print how many and how fast."""
    lines = []
    for name in ("ar_news", "ar_wiki", "ar_classical_books", "ar_social"):
        texts = news(data, name)
        size = sum(len(t.encode()) for t in texts) / 1e6
        began = time.process_time()
        found = [list(matcher.find(t)) for t in texts]
        took = time.process_time() - began
        part = texts[:1000]
        small = sum(len(t.encode()) for t in part) / 1e6
        began = time.process_time()
        for t in part:
            masking.mask(t, matcher)
        whole = time.process_time() - began
        n = sum(map(len, found))
        print(
            f"{name:20} {size:5.1f} MB  {n:6} matches  matcher {size / took:5.1f} MB/s  mask {small / whole:5.1f} MB/s"
        )
        if name in ("ar_news", "ar_wiki"):
            for i, (t, spans) in enumerate(zip(texts, found, strict=True)):
                for p in spans:
                    cells = (t[max(0, p.start - 40) : p.start], t[p.start : p.end], t[p.end : p.end + 30])
                    words = len(t[p.start : p.end].split())
                    lines.append("\t".join([name, str(i), str(words), *(" ".join(c.split()) for c in cells)]))
    sample.write_text("file\trow\twords\tbefore\tmatch\tafter\n" + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} matches to read in {sample}")


def workers(masked: masking.Masked, rng: random.Random) -> dict[str, Text]:
    """What hostile rewriters answer."""
    pieces = re.split(f"(⟦{masked.nonce}:[0-9]+⟧)", masked.text)
    marks = range(1, len(pieces), 2)
    one = rng.choice(marks)

    def swap(i: int, new: Text) -> Text:
        return "".join([*pieces[:i], new, *pieces[i + 1 :]])

    mark = pieces[one]
    at = rng.randrange(1, len(mark) - 1)
    order = [pieces[i] for i in marks]
    rng.shuffle(order)
    between = [" ".join(rng.sample(w, len(w))) if (w := p.split()) else p for p in pieces[0::2]]
    return {
        "rewrites everything": "هذا نص آخر لا صلة له بما كان",
        "rewrites all but placeholders": " كلام ".join(pieces[i] for i in marks),
        "shuffles the words between": " ".join(
            x for i in range(len(pieces)) for x in [between[i // 2] if i % 2 == 0 else pieces[i]]
        ),
        "reorders": "".join(order.pop() if i % 2 else p for i, p in enumerate(pieces)),
        "duplicates": swap(one, f"{mark} {mark}"),
        "drops": swap(one, ""),
        "writes the span itself": swap(one, bare(masked.spans[(one - 1) // 2])),
        "invents a number": masked.text + f" ⟦{masked.nonce}:{len(masked.spans)}⟧",
        "invents a nonce": masked.text + f" ⟦{rng.getrandbits(32):08x}:0⟧",
        "changes a character inside": swap(one, mark[:at] + rng.choice("0f:z٣ ") + mark[at + 1 :]),
        "drops a character": swap(one, mark[:at] + mark[at + 1 :]),
        "drops a bracket": swap(one, mark[1:] if rng.random() < 0.5 else mark[:-1]),
        "other brackets": swap(one, f"[[{mark[1:-1]}]]"),
        "upper case": masked.text.upper(),
        "tashkeel everywhere": re.sub(r"(?<=[\w⟧])", "\u064e", masked.text),
        "tashkeel on letters": re.sub("(?<=[ء-ي])", "\u064e", masked.text),
        "tatweel everywhere": re.sub(r"(?<=\w)", "ـ", masked.text),
        "glues a letter": swap(one, "و" + mark + "ا"),
        "joins all words": masked.text.replace(" ", ""),
        "nests": swap(one, f"⟦{mark}⟧"),
    }


def altered(out: Text, masked: masking.Masked, verses: list[Text]) -> bool:
    """Whether an accepted rewrite has not every span and verse as it was; written without a look at `unmask`."""
    at = 0
    for part in masked.spans:
        at = out.find(part, at)
        if at < 0:
            return True
        at += len(part)
    if masked.nonce in out or any(c in out for c in "⟦⟧" if c not in "".join(masked.spans)):
        return True
    for verse in verses:
        places = [m.start() for m in re.finditer(re.escape(verse), out)]
        around = [(out[p - 1 : p], out[p + len(verse) :][:1]) for p in places]
        if not any(not _touches(before) and not _touches(after) for before, after in around):
            return True
    return False


def _touches(ch: Text) -> bool:
    return ch in ("ـ", "\u200c", "\u200d") or unicodedata.category(ch or " ")[0] in "LMN"


def hostile(matcher: masking.Verses, parts: list[Text], texts: list[Text], rewrites: int) -> None:
    """Print what became of hostile rewrites."""
    rng = random.Random(4)
    counts: dict[str, Counter[str]] = {}
    bad = done = forged = planted = left_open = 0
    while done < rewrites:
        text = rng.choice(texts)[: rng.randint(400, 1800)]
        verses = []
        for _ in range(rng.randint(1, 3)):
            shown = rng.choice([str, bare])(rng.choice(parts))
            text, _ = inserted(text, shown, rng)
            verses.append(shown)
        verses = [v for v in verses if v in text]  # a later one may have been put into the middle of it
        planted += len(verses)
        if rng.random() < 0.3:  # text that holds a placeholder already, the very one of the text before
            first = masking.mask(text, matcher)
            evil = rng.choice([first.placeholder(0), first.text, "⟦0a0b0c0d:1⟧", "⟦", f"⟧ {first.nonce}"])
            text, forged = (f"{evil} {text}" if rng.random() < 0.5 else f"{text} {evil}"), forged + 1
        masked = masking.mask(text, matcher)
        hidden = [v for v in verses if any(v in s for s in masked.spans)]
        left_open += len(verses) - len(hidden)
        if masking.unmask(masked.text, masked) != text:
            bad += 1
        for name, reply in workers(masked, rng).items():
            done += 1
            tally = counts.setdefault(name, Counter())
            try:
                out = masking.unmask(reply, masked)
            except masking.MaskError as e:
                tally[e.reason] += 1
                continue
            wrong = altered(out, masked, hidden)
            bad += wrong
            tally["ALTERED" if wrong else "kept"] += 1
    print(f"{planted} verses and fragments put in, {left_open} of them not found")
    print(f"{done} hostile rewrites, {forged} texts with a placeholder of their own: {bad} altered")
    for name, tally in counts.items():
        print(f"  {name:32} " + ", ".join(f"{k} {v}" for k, v in tally.most_common()))


def main() -> None:
    """Run all five."""
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--data", type=Path, default=Path(os.environ.get("FITRA_DATA", "data")))
    args.add_argument("--rewrites", type=int, default=10_000)
    args.add_argument("--sample", type=Path, default=Path("protect-sample.tsv"))
    got = args.parse_args()
    matcher, parts, texts = read(got.data)
    whole = sum(len(v.split()) >= 4 for v in pq.read_table(got.data / "parallel/quran_ar_en.parquet")["ar"].to_pylist())
    print(f"{len(matcher)} verses; {whole} whole, {len(parts) - whole} fragments")
    recall(matcher, parts, texts, whole)
    slips(matcher, parts[:whole])
    precision(matcher, got.data, got.sample)
    hostile(matcher, parts, texts, got.rewrites)


if __name__ == "__main__":
    main()
