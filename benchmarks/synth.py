"""Translation through a stand-in that knows the reference, and through stand-ins that spoil it, by kind.

    FITRA_DATA=... python benchmarks/synth.py [--rows 1000] [--seed 11] [--source en|ar]

Half of the rows are Tatoeba sentences, half TICO-19 (`$FITRA_DATA/parallel`), each source text once, drawn with the
seed. They go through `fitra.synth.translate` and a real HTTP server (tests/fault_server.py) without retries. The
references must be accepted, the spoilt ones refused; what is not is printed. "Another sentence" shows what gates
cannot see. The last line is the share of spoilt answers refused, "another sentence" left out.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from fault_server import FaultServer  # type: ignore[import-not-found]

from fitra import synth
from fitra.artifacts import read_table
from fitra.recipe import Translate

Spoil = Callable[[str, str, random.Random], str | None]
REFUSALS = [
    "عذرا، لا أستطيع ترجمة هذا النص.", "آسف، لكن لا يمكنني المساعدة في هذا الطلب.", "لا أستطيع تلبية هذا الطلب.",
    "I'm sorry, but I can't help with that.", "I cannot assist with this request.", "As an AI, I can't translate this.",
]  # fmt: skip
LINK = " https://example.org/a1b2"


def number(source: str, good: str, dice: random.Random) -> str | None:
    """Another digit in one number of two digits and more."""
    found = [m for m in re.finditer(r"\d+", good) if len(m[0]) > 1]
    if not found:
        return None
    m = dice.choice(found)
    i = dice.randrange(m.start() + 1, m.end())
    return good[:i] + str((int(good[i]) + dice.randrange(1, 10)) % 10) + good[i + 1 :]


def dropped(source: str, good: str, dice: random.Random) -> str | None:
    """One number of two digits and more left out."""
    found = [m for m in re.finditer(r"\d+", good) if len(m[0]) > 1 and good.count(m[0]) == 1]
    if not found:
        return None
    m = dice.choice(found)
    return good[: m.start()] + good[m.end() :]


def half(source: str, good: str, dice: random.Random) -> str | None:
    """The second half left in the source's language; of texts of sixteen words and more."""
    words = source.split()
    if len(words) < 16:
        return None
    return " ".join([*good.split()[: len(good.split()) // 2], *words[len(words) // 2 :]])


def cut(share: float) -> Spoil:
    """The end missing, at a word's end."""

    def spoil(source: str, good: str, dice: random.Random) -> str | None:
        words = good.split()
        keep = max(1, int(len(words) * share))
        return " ".join(words[:keep]) if len(words) >= 4 and keep < len(words) else None

    return spoil


def talk(source: str, good: str, dice: random.Random) -> str:
    """Words of the model around the translation."""
    return dice.choice(
        [f"الترجمة: {good}", f"{good}\n\nملاحظة المترجم: ترجمة بتصرف.", f"Here is the translation: {good}",
         f"{good}\n\nTranslator's note: kept literal.", f"النص المترجم:\n{good}\nTranslation notes: none."]
    )  # fmt: skip


def other(rows: list[tuple[str, str]]) -> Spoil:
    """The translation of another sentence."""
    return lambda source, good, dice: dice.choice(rows)[1]


def kinds(rows: list[tuple[str, str]]) -> dict[str, Spoil]:
    """The ways to spoil an answer."""
    return {
        "number changed": number,
        "number dropped": dropped,
        "left untranslated": lambda s, g, d: s,
        "half untranslated": half,
        "refusal": lambda s, g, d: d.choice(REFUSALS),
        "cut at 50%": cut(0.5),
        "cut at 70%": cut(0.7),
        "cut at 85%": cut(0.85),
        "notes, headings": talk,
        "loop": lambda s, g, d: " ".join([g] * 4),
        "empty": lambda s, g, d: "",
        "another sentence": other(rows),
    }


def run(rows: list[tuple[str, str, str]], source: str, folder: Path) -> tuple[Counter[str], Counter[str], float]:
    """Translate (source text, reference, answer) rows; states, kinds of reason, seconds. Prints nothing."""
    answers = {s: a for s, _, a in rows}

    def answer(request: dict[str, Any]) -> str:
        found = re.search(r"<<<([0-9a-f]{8})\n(.*)\n\1>>>", request["messages"][-1]["content"], re.S)
        assert found
        return answers[found[2]]

    table = [{"id": f"r{i:05d}", "text": s, "lang": source, "licence_class": "A"} for i, (s, _, _) in enumerate(rows)]
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(table), folder / "in.parquet")
    with FaultServer(answer) as s:
        cfg = Translate(endpoint={"base_url": s.base_url, "model": "stand-in"}, source=source, retries=0)
        start = time.monotonic()
        manifest = synth.translate(cfg, folder / "in.parquet", folder / "out")
        seconds = time.monotonic() - start
        assert s.requests == len(rows), "each source text is asked once"
    assert manifest["counts"]["rows"] == len(rows)
    found = read_table(folder / "out", "rows").to_pylist()
    why = Counter(r["reason"].split(":")[0] for r in found if r["state"] != "accept")
    return Counter(r["state"] for r in found), why, seconds


def main() -> None:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=1000)
    p.add_argument("--seed", type=int, default=11)
    p.add_argument("--source", choices=["en", "ar"], default="en")
    a = p.parse_args()
    os.environ.setdefault("FITRA_PROGRESS", "0")
    target = "ar" if a.source == "en" else "en"
    dice, rows = random.Random(a.seed), list[tuple[str, str]]()
    for name in ("tatoeba", "tico19"):
        table = pq.read_table(Path(os.environ["FITRA_DATA"]) / "parallel" / f"{name}_ar_en.parquet").to_pylist()
        unique = list({r[a.source].strip(): r[target].strip() for r in table}.items())
        rows += dice.sample(unique, min(a.rows // 2, len(unique)))
    caught = spoilt = 0
    with tempfile.TemporaryDirectory() as tmp:
        states, why, seconds = run([(s, g, g) for s, g in rows], a.source, Path(tmp) / "good")
        print(f"| answer | rows | accepted | refused | set aside | refused by |\n|{'---|' * 6}")
        show("the reference", len(rows), states, why)
        print(f"seconds: {seconds:.1f}", file=sys.stderr)
        for out in read_table(Path(tmp) / "good" / "out", "rows").to_pylist():
            if out["state"] != "accept":
                print(f"  refused: {out['reason']} | {out['source']} | {out['result']}", file=sys.stderr)
        for n, (kind, spoil) in enumerate(kinds(rows).items()):
            made = [(s, g, bad) for s, g in rows if (bad := spoil(s, g, dice)) is not None and bad != g]
            states, why, _ = run(made, a.source, Path(tmp) / str(n))
            show(kind, len(made), states, why)
            for out in read_table(Path(tmp) / str(n) / "out", "rows").to_pylist():
                if out["state"] == "accept" and kind != "another sentence" and dice.random() < 0.2:
                    print(f"  {kind}, accepted: {out['source']} | {out['result']}", file=sys.stderr)
            if kind != "another sentence":
                caught, spoilt = caught + len(made) - states["accept"], spoilt + len(made)
    print(f"synth: {caught / spoilt:.4f}")


def show(kind: str, n: int, states: Counter[str], why: Counter[str]) -> None:
    """One line of the table."""
    by = ", ".join(f"{k} {v}" for k, v in why.most_common(4))
    share = (states[s] / n for s in ("accept", "refused", "quarantine"))
    print(f"| {kind} | {n} | " + " | ".join(f"{x:.3f}" for x in share) + f" | {by} |", flush=True)


if __name__ == "__main__":
    main()
