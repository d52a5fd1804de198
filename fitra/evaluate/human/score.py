"""From votes to figures: majority, agreement, tables, Elo, raters; and the folder that holds them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fitra.artifacts import open_stage, read_manifest
from fitra.evaluate.human import agreement
from fitra.evaluate.human.agreement import Unit, share
from fitra.evaluate.human.elo import SCORES, Game, K, bradley_terry, elo
from fitra.evaluate.human.records import OTHER, VERDICTS, Vote, read

VERSION = 1
RATERS = 3  # judgements that make a verdict
WORDS = {"a": "win", "b": "loss", "tie": "tie", "both_bad": "both_bad"}
UNIT_SCHEMA = pa.schema(
    [
        ("question", pa.string()),
        ("turn", pa.int64()),
        ("category", pa.string()),
        ("model_a", pa.string()),
        ("model_b", pa.string()),
        ("a", pa.int64()),  # votes of each kind, a tie-break's among them
        ("b", pa.int64()),
        ("tie", pa.int64()),
        ("both_bad", pa.int64()),
        ("verdict", pa.string()),  # what most gave, or null
        ("state", pa.string()),  # majority, tie_break, undecided, incomplete
    ]
)


def decide(votes: Sequence[Vote], raters: int = RATERS) -> tuple[str | None, str]:
    """(verdict, state) of one pair. With `raters` votes or more the most frequent verdict stands ('majority'). Where
    there is none, the vote of one more rater is added ('tie_break'); 'undecided' if that is missing or settles
    nothing, 'incomplete' with fewer votes. A tie-break that nobody needed counts for nothing.
    """
    first = [v for v in votes if not v.tie_break]
    if len(first) < raters:
        return None, "incomplete"
    verdict = agreement.plurality(first)
    if verdict is not None:
        return verdict, "majority"
    verdict = agreement.plurality(votes)
    return verdict, "undecided" if verdict is None else "tie_break"


def figures(votes: Sequence[Vote], raters: int = RATERS, k: float = K, seed: int = 7) -> dict[str, Any]:
    """All figures of some votes; equal votes in any order, and under any raters' names, give equal figures.

    counts, agreement, position (share of decisive votes for the answer shown first), pairs and models (win, tie, loss,
    both_bad with intervals, seen from the model), categories, elo {default, custom}, bradley_terry {default,
    without_both_bad}, raters, tie_breaks_needed [units], warnings.
    """
    units = agreement.by_unit(votes)
    decided = {u: decide(v, raters) for u, v in units.items()}
    states = Counter(state for _, state in decided.values())
    games = [(u, verdict) for u, (verdict, _) in decided.items() if verdict is not None]
    played = [Game(u[0], u[2], u[3], verdict) for u, verdict in games]
    category = {u: next((v.category for v in vs if v.category), "") for u, vs in units.items()}
    known = [agreement.first_won(v.question, v) for vs in units.values() for v in vs if v.first and v.verdict in OTHER]
    found: dict[str, Any] = {
        "counts": {
            "votes": len(votes), "raters": len({v.rater for v in votes}), "pairs": len(units),
            "questions": len({v.question for v in votes}), **{s: states[s] for s in STATES},
        },
        "agreement": agreement.figures(units, seed),
        "position": share(known, seed),
        "pairs": {f"{a} / {b}": table([(u, v) for u, v in games if u[2:] == (a, b)], a, seed)
                  for a, b in sorted({u[2:] for u, _ in games})},
        "models": {m: table([(u, v) for u, v in games if m in u[2:]], m, seed)
                   for m in sorted({m for u, _ in games for m in u[2:]})},
        "categories": {
            c: {m: table([(u, v) for u, v in games if m in u[2:] and category[u] == c], m, seed)
                for m in sorted({m for u, _ in games if category[u] == c for m in u[2:]})}
            for c in sorted({category[u] for u, _ in games} - {""})
        },
        "elo": {s: elo(played, s, k, seed) for s in SCORES} if played else {},
        "bradley_terry": {
            "default": bradley_terry(played, True, seed), "without_both_bad": bradley_terry(played, False, seed),
        } if played else {},
        "raters": agreement.raters(units, seed),
        "tie_breaks_needed": [list(u) for u, (_, s) in decided.items()
                              if s == "undecided" and not any(v.tie_break for v in units[u])],
        "settings": {"raters": raters, "k": k, "seed": seed},
    }  # fmt: skip
    found["warnings"] = _warnings(found)
    return found


STATES = ("majority", "tie_break", "undecided", "incomplete")


def table(games: Sequence[tuple[Unit, str]], model: str, seed: int) -> dict[str, Any]:
    """Shares of win, tie, loss and both_bad as `model` sees them, each with its interval; n decided pairs."""
    seen = [(u[0], WORDS[v if u[2] == model else OTHER.get(v, v)]) for u, v in games]
    out: dict[str, Any] = {"n": len(seen)}
    for word in WORDS.values():
        out[word] = share([(q, float(w == word)) for q, w in seen], seed)
    return out


def _warnings(found: Mapping[str, Any]) -> list[str]:
    out = []
    n = found["counts"]
    if n["incomplete"]:
        out.append(f"{n['incomplete']} of {n['pairs']} pairs have fewer judgements than a verdict needs: left out")
    if n["undecided"]:
        waiting = len(found["tie_breaks_needed"])
        out.append(
            f"{n['undecided']} of {n['pairs']} pairs are undecided: left out"
            + (f"; {waiting} of them wait for one more rater" if waiting else "")
        )
    kappa = found["agreement"].get("fleiss_kappa", {})
    if kappa.get("ci_low") is not None and kappa["ci_low"] <= 0:
        out.append("the raters' agreement is not told apart from chance")
    for who, got in (("all raters together", found["position"]), *_positions(found["raters"])):
        if got and not got["ci_low"] <= 0.5 <= got["ci_high"]:
            out.append(f"{who}: {got['value']:.0%} of the decisive votes went to the answer shown first")
    if any(not m["bounded"] for m in found["bradley_terry"].get("default", {}).values()):
        out.append("some model only won or only lost: Bradley-Terry has no finite answer")
    return out


def _positions(raters: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(f"rater '{name}'", r["first"]) for name, r in raters.items()]


def score(
    records: Sequence[Path], out: Path, key: Path | None = None, raters: int = RATERS, k: float = K, seed: int = 7
) -> dict[str, Any]:
    """Figures of some files of records; the manifest.

    Writes figures.json (see `figures`), units/ (one row a judged pair, with its verdict) and quarantine/. Raises
    FitraError for a file that cannot be read, and where no row can be counted.
    """
    config = {"raters": raters, "k": k, "seed": seed}
    inputs: dict[str, Any] = {"records": [Path(p) for p in records], **({"key": Path(key)} if key else {})}
    with open_stage(out, stage="human", config={"human": config}, inputs=inputs, version=VERSION) as st:
        if not st.done:
            votes, aside = read(records, key)
            if aside:
                st.quarantine(aside)
            found = figures(votes, raters, k, seed)
            st.write_json("figures.json", found)
            shutil.rmtree(Path(out) / "units", ignore_errors=True)
            st.write_table("units", pa.Table.from_pylist(_rows(votes, raters), schema=UNIT_SCHEMA))
            st.counts.update(found["counts"])
    return read_manifest(out)


def _rows(votes: Sequence[Vote], raters: int) -> list[dict[str, Any]]:
    rows = []
    for unit, said in agreement.by_unit(votes).items():
        verdict, state = decide(said, raters)
        question, turn, a, b = unit
        row = {"question": question, "turn": turn, "model_a": a, "model_b": b, "verdict": verdict, "state": state}
        n = dict(zip(VERDICTS, agreement.counts(said), strict=True))
        rows.append({**row, **n, "category": next((v.category for v in said if v.category), "")})
    return rows
