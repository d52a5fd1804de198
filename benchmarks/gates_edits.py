"""Edits of real news that the gates should let pass: for benchmarks/gates.py.

Light edits that keep the truth, what the policy's rules do, and articles that two papers took from one agency.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from difflib import SequenceMatcher

import numpy as np
import pyarrow as pa
from gates_corruptions import SEED, N, Random, one, put

from fitra import arabic, policy
from fitra.align import gates, masking, rules
from fitra.tables import near

SYNONYMS = [
    ("حيث", "إذ"), ("كما", "كذلك"), ("أيضا", "كذلك"), ("خلال", "أثناء"), ("بسبب", "جراء"), ("منذ", "مذ"),
    ("لكن", "غير أن"),
    ("هذا", "ذلك"), ("وقال", "وذكر"), ("وأضاف", "وزاد"), ("وأوضح", "وبين"), ("بعد", "عقب"), ("عند", "لدى"),
    ("جميع", "كل"),
    ("نحو", "قرابة"), ("إلى أن", "حتى"), ("وأكد", "وشدد"), ("من أجل", "بغية"), ("بواسطة", "عبر"),
    ("سوف", "قد"), ("فقط", "فحسب"),
]  # fmt: skip


def punctuation(text: str, r: Random) -> str:
    """Latin signs to Arabic ones, spaces before signs out, a full stop at the end."""
    text = re.sub(r" +([،.؛:؟!])", r"\1", text.replace(",", "،").replace(";", "؛"))
    text = re.sub(r"(?<=\d)،(?=\d)", ",", text)
    return text if text[-1] in '.!؟»"' else text + "."


def spacing(text: str, r: Random) -> str:
    """Runs of spaces and of empty lines."""
    return re.sub(r"\n\s*\n+", "\n\n", re.sub(r"[ \t]+", " ", text)).strip()


def spelling(text: str, r: Random) -> str:
    """Tashkeel and tatweel out, hamza put where it belongs in frequent words, final ya and ta marbuta."""
    text = re.sub("[\u064b-\u0652\u0640]", "", text)
    for a, b in (
        ("ان ", "أن "),
        ("الى ", "إلى "),
        ("او ", "أو "),
        ("اي ", "أي "),
        ("اكد", "أكد"),
        ("الامم", "الأمم"),
        ("الاسلامية", "الإسلامية"),
    ):
        text = re.sub(rf"(?<!\w){a}", b, text)
    return text


def digits(text: str, r: Random) -> str:
    """Digits of the other set."""
    if re.search("[٠-٩]", text):
        return arabic.digits_to_ascii(text)
    return re.sub(
        r"(?<![A-Za-z/.=_-])\d+(?![A-Za-z/=_-])",
        lambda m: m[0].translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")),
        text,
    )


def moved(text: str, r: Random) -> str:
    """A clause between commas goes to the end of its sentence."""
    m = one(r"، ([^،.\n]{15,80})، ([^.،\n]{10,200})(?=[.\n](?:\s|$))", text, r)
    fits = m and not re.search(r"\d$|\b\w$", m[1]) and not re.search(r"\d$|\b\w$|^\d", m[2])
    return put(text, m, f"، {m[2]}، {m[1]}") if m and fits else text


def synonyms(text: str, r: Random) -> str:
    """Some function words become others of the same meaning."""
    for a, b in r.sample(SYNONYMS, 8):
        text = re.sub(rf"(?<!\w){a}(?!\w)", b, text, count=2)
    return text


def all_light(text: str, r: Random) -> str:
    """All light edits at once."""
    for edit in (spelling, spacing, punctuation, moved, synonyms):
        text = edit(text, r)
    return text


LIGHT = (punctuation, spacing, spelling, digits, moved, synonyms, all_light)


def by_rules(text: str, compiled: rules.Rules) -> gates.Pair | None:
    """What the policy's rules make of a text; None when they leave it alone."""
    masked = masking.mask(text)
    made = rules.apply(masked, compiled)
    gone = {int(m[1]) for x in made.removed for m in masking.PLACEHOLDER.finditer(x.text)}
    stay = [i for i in range(len(masked.spans)) if i not in gone]
    final = masking.unmask(made.text, masked, stay)
    if final == text or not final.strip():
        return None
    safe = [s for _, s in compiled.unsafe if s in final and s not in text]

    def reveal(t: str) -> str:
        return masking.PLACEHOLDER.sub(lambda m: masked.spans[int(m[1])], t)

    return gates.Pair(text, final, [reveal(x.text) for x in made.removed], safe, [masked.spans[i] for i in stay])


# What papers put around the agency's text: bylines, tags, links to themselves.
FURNITURE = re.compile(
    r"\A.{0,60}?(?:عين اليوم|سبق|الوئام|واس|رويترز|فرانس برس|صحيفة المرصد|المرصد|متابعات|تواصل|الرياض|عاجل|أ ف ب)"
    r"[^\n.:]{0,40}?[:–-]+ *"
    r"|(?:رابط الخبر بصحيفة|سمات ).*\Z",
    re.S,
)


def agencies(texts: list[str]) -> list[gates.Pair]:
    """Articles that are near duplicates of one another (MinHash as `fitra corpus clean`, similarity 0.8) and not equal.

    Papers add and cut sentences, and correct figures: only pairs that differ by edits of up to three words are taken
    for the same text. Some of these change facts too: those that the gates refused were read, and the ones that do are
    listed in data/agency_changed.txt.
    """
    texts = [FURNITURE.sub("", FURNITURE.sub("", t)).strip() for t in texts]
    folded = arabic.fold_array(pa.array(texts, pa.large_string()), "search")
    found = near.signatures(folded, hashes=112, ngram=5)
    bands = near.band_hashes(found, 8)
    rows = np.arange(len(texts))
    edges = np.unique(np.concatenate([near.stars(bands[:, b], rows) for b in range(bands.shape[1])]), axis=0)
    keys = folded.to_pylist()
    close = [(a, b) for a, b in edges.tolist() if keys[a] != keys[b] and (found[a] == found[b]).mean() >= 0.8]
    framed = [framed_alike(texts[a], texts[b]) for a, b in close]
    return [gates.Pair(a, b, protected=None) for a, b in framed if a != b and small_edits(a, b)]


def framed_alike(a: str, b: str) -> tuple[str, str]:
    """Two articles without the dateline and the tags that one of them has: up to six words at either end."""
    x, y = a.split(), b.split()
    same = [m for m in SequenceMatcher(None, x, y, False).get_matching_blocks() if m.size >= 2]
    if not same:
        return a, b
    i, j, k = same[0].a, same[0].b, same[-1]
    s, t = len(x) - k.a - k.size, len(y) - k.b - k.size
    head, tail = max(i, j) <= 6, max(s, t) <= 6 and min(s, t) == 0
    return (
        " ".join(x[i if head else 0 : len(x) - (s if tail else 0)]),
        " ".join(y[j if head else 0 : len(y) - (t if tail else 0)]),
    )


def pair_key(p: gates.Pair) -> str:
    """What data/agency_changed.txt knows a pair by."""
    return hashlib.sha256(f"{p.original}\0{p.rewrite}".encode()).hexdigest()[:16]


def small_edits(a: str, b: str) -> bool:
    """Whether two texts differ by edits of up to three words alone."""
    a, b = arabic.fold(a, "search"), arabic.fold(b, "search")
    ops = SequenceMatcher(None, a.split(), b.split(), False).get_opcodes()
    return all(tag == "equal" or max(j - i, m - k) <= 3 for tag, i, j, k, m in ops)


def good_pairs(texts: list[str]) -> Iterator[tuple[str, list[gates.Pair]]]:
    """Each kind of true edit with its pairs."""
    compiled = rules.compile_rules(policy.load())
    for edit in LIGHT:
        r = Random(f"{SEED} {edit.__name__}")
        made = ((t, edit(t, r)) for t in texts)
        yield edit.__name__.replace("_", " "), [gates.Pair(a, b) for a, b in made if a != b][:N]
    yield "rules", [p for t in texts[: 2 * N] if (p := by_rules(t, compiled))][:N]
