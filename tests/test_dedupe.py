"""Duplicates over shards and runs: what is found, which copy stays; lines that repeat; documents taken down."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_corpus import config, jsonl, prose, rows, snapshot

from fitra import corpus
from fitra.artifacts import read_manifest, read_table
from fitra.corpus.urls import canonical, url_key
from fitra.errors import FitraError
from fitra.recipe import Benchmark, Contamination, Dedupe, Lines
from fitra.tables import near


def components_slowly(edges: list[tuple[int, int]]) -> dict[int, int]:
    """The smallest member of each node's component, by walking."""
    neighbours: dict[int, set[int]] = {}
    for a, b in edges:
        neighbours.setdefault(a, set()).add(b)
        neighbours.setdefault(b, set()).add(a)
    out: dict[int, int] = {}
    for node in neighbours:
        seen, todo = {node}, [node]
        while todo:
            for n in neighbours[todo.pop()] - seen:
                seen.add(n)
                todo.append(n)
        out[node] = min(seen)
    return out


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_components_equal_a_slow_walk(edges: list[tuple[int, int]]) -> None:
    nodes, roots = near.components(np.array(edges, dtype=np.int64).reshape(-1, 2))
    assert dict(zip(nodes.tolist(), roots.tolist(), strict=True)) == components_slowly(edges)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=40))
def test_stars_join_equal_keys_and_nothing_else(keys: list[int]) -> None:
    found = near.stars(np.array(keys, dtype=np.uint64), np.arange(len(keys)) * 10)
    expected = [(keys.index(k) * 10, i * 10) for i, k in enumerate(keys) if keys.index(k) != i]
    assert sorted(map(tuple, found.tolist())) == sorted(expected)


def test_similarity_is_about_the_share_of_common_shingles() -> None:
    words = prose(1, 400).split()
    other = [*words[:300], *prose(2, 100).split()]
    texts = pa.array([" ".join(words), " ".join(other)])
    a, b = near.signatures(texts, hashes=512, ngram=5)
    shingles = [{tuple(w[i : i + 5]) for i in range(len(w) - 4)} for w in (words, other)]
    jaccard = len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1])
    assert abs((a == b).mean() - jaccard) < 0.08


def test_one_address_one_document(tmp_path: Path) -> None:
    same = "https://www.example.org/a/?utm_source=x&b=2&a=1#top"
    assert canonical(same) == canonical("http://example.org/a?a=1&b=2") != canonical("http://example.org/a?a=2")
    assert url_key(None) == url_key("  ") == 0 != url_key("example.org")
    docs = [{"id": "old", "text": prose(1, 30), "url": same}, {"id": "new", "text": prose(2, 40), "url": same[12:]}]
    path = jsonl(tmp_path / "a.jsonl", [*docs, {"id": "none", "text": prose(3)}, {"id": "nil", "text": prose(4)}])
    corpus.clean(config(path, dedupe=Dedupe(urls=True)), tmp_path / "out")
    assert set(rows(tmp_path / "out", "documents")) == {"new", "none", "nil"}
    assert rows(tmp_path / "out", "removed")["old"]["reason"] == "same_url"
    corpus.clean(config(path, dedupe=Dedupe(urls=True, keep="first")), tmp_path / "first")
    assert set(rows(tmp_path / "first", "documents")) == {"old", "none", "nil"}


@pytest.mark.parametrize("index", [True, False])
def test_a_new_crawl_against_an_old_one(tmp_path: Path, index: bool) -> None:
    old = [{"id": f"o{i}", "text": prose(i)} for i in range(20)]
    corpus.clean(config(jsonl(tmp_path / "old.jsonl", old), dedupe=Dedupe(index=index)), tmp_path / "old")
    assert (tmp_path / "old" / "index").exists() == index
    new = [{"id": f"n{i}", "text": prose(i) + (" زيادة" if i % 2 else "")} for i in range(10, 30)]
    cfg = config(jsonl(tmp_path / "new.jsonl", new), dedupe=Dedupe(against=[str(tmp_path / "old")]))
    corpus.clean(cfg, tmp_path / "new")
    assert set(rows(tmp_path / "new", "documents")) == {f"n{i}" for i in range(20, 30)}
    gone = rows(tmp_path / "new", "removed")
    assert {i: r["kept_id"] for i, r in gone.items()} == {f"n{i}": f"o{i}" for i in range(10, 20)}
    assert {r["reason"] for r in gone.values()} == {"exact_duplicate", "near_duplicate"}
    if index:
        other = cfg.model_copy(update={"dedupe": Dedupe(bands=7, against=[str(tmp_path / "old")])})
        with pytest.raises(FitraError, match=r"bands=14"):
            corpus.clean(other, tmp_path / "other")


def test_shards_change_nothing_and_ids_are_unique(tmp_path: Path) -> None:
    docs = [{"id": f"d{i % 150}", "text": prose(i % 200, 40)} for i in range(300)]
    docs += [{"id": "d1-2", "text": prose(999)}, {"id": "d1", "text": "قصير"}]
    random.Random(3).shuffle(docs)
    whole = jsonl(tmp_path / "whole.jsonl", docs)
    many = tmp_path / "many"
    many.mkdir()
    for k in range(6):
        jsonl(many / f"whole-{k}.jsonl", docs[k * 50 : (k + 1) * 50] if k < 5 else docs[250:])
    a = corpus.clean(config(whole), tmp_path / "a")
    b = corpus.clean(config(many), tmp_path / "b")
    assert a["counts"] == b["counts"]
    for name in ("documents", "removed"):
        one, other = rows(tmp_path / "a", name), rows(tmp_path / "b", name)
        assert {k: v["text"] for k, v in one.items()} == {k: v["text"] for k, v in other.items()}
    every = [*rows(tmp_path / "a", "documents"), *rows(tmp_path / "a", "removed")]
    assert len(every) == len(set(every)) == len(docs)


MENU = "الرئيسية اتصل بنا من نحن سياسة الخصوصية"


def test_lines_that_many_documents_repeat_are_cut(tmp_path: Path) -> None:
    docs = [{"id": f"{i:02d}", "text": f"{MENU}\n{prose(i)}\nحقوق النشر محفوظة لدى الموقع"} for i in range(12)]
    docs += [{"id": "menu", "text": MENU + "\n" + MENU}, {"id": "short", "text": f"{prose(50)}\nكلمتان فقط"}]
    docs += [{"id": "tatweel", "text": MENU.replace("من", "مـــن") + "\n" + prose(51)}]
    path = jsonl(tmp_path / "a.jsonl", docs)
    lines = Lines(min_documents=5, registers=[])
    m = corpus.clean(config(path, dedupe=Dedupe(lines=lines)), tmp_path / "out")
    kept = rows(tmp_path / "out", "documents")
    assert kept["00"]["text"] == docs[0]["text"], "the first document that holds a line keeps it"
    assert all(kept[f"{i:02d}"]["text"] == prose(i) for i in range(1, 12))
    assert '"lines_cut":2' in kept["05"]["labels"] and kept["tatweel"]["text"] == prose(51)
    assert kept["short"]["text"] == docs[13]["text"]
    assert rows(tmp_path / "out", "removed")["menu"]["reason"] == "repeated_lines_only"
    assert m["notes"]["repeated_lines"] == 2
    off = corpus.clean(config(path), tmp_path / "off")
    assert off["counts"]["chars"] > m["counts"]["chars"]


def test_takedown_takes_the_text_everywhere_and_changes_what_comes_after(tmp_path: Path) -> None:
    docs = [{"id": f"d{i}", "text": prose(i)} for i in range(6)] + [{"id": "copy", "text": prose(2)}]
    out = tmp_path / "run" / "corpus"
    cfg = config(jsonl(tmp_path / "a.jsonl", docs), dedupe=Dedupe(index=True))
    before = corpus.clean(cfg, out)
    aligned = tmp_path / "run" / "align"
    corpus.clean(config(out), aligned)
    with pytest.raises(FitraError, match="no document 'never'"):
        corpus.takedown(out, ["d2", "never"], "asked")
    assert list(rows(out, "removed")) == ["d2"], "of equal texts the smallest id stays: 'copy' < 'd2'"
    found = {Path(f["folder"]).name: f["rows"] for f in corpus.trace(tmp_path / "run", ["copy"])}
    assert found == {"corpus": {"documents": 1, "index": 1, "removed": 1}, "align": {"documents": 1}}
    done = corpus.takedown(out, ["copy"], "the author asked")
    assert done["rows"] == {"documents": 1, "index": 1, "removed": 1}
    assert not any(prose(2).encode() in _texts(out / p) for p in snapshot(out))
    assert len(rows(out, "documents")) == 5 and read_manifest(out)["counts"]["kept"] == 5
    assert read_manifest(out)["fingerprint"] != before["fingerprint"]
    assert corpus.clean(cfg, out)["counts"]["taken_down"] == 1, "the same run again does not bring it back"
    with pytest.raises(FitraError, match="another configuration or input"):
        corpus.clean(config(out), aligned)
    assert corpus.takedown(out, ["copy"], "again")["rows"] == {}


def _texts(path: Path) -> bytes:
    table = pq.read_table(path)
    return b"\n".join(str(t).encode() for t in table["text"].to_pylist()) if "text" in table.column_names else b""


def test_rows_of_evaluation_sets_are_found_and_go(tmp_path: Path) -> None:
    question = "ما هي عاصمة الدولة التي فيها نهر طويل يمر بالمدن القديمة كلها"
    pq.write_table(pa.table({"id": ["q1", "q2"], "question": [question, prose(77, 12)]}), tmp_path / "exam.parquet")
    docs = [{"id": f"d{i}", "text": prose(i)} for i in range(4)]
    docs += [{"id": "d1", "text": f"{prose(9)} {question.replace('ا', 'أ').replace('مدن', 'مـدن')} {prose(8)}"}]
    benchmark = Benchmark(path=str(tmp_path / "exam.parquet"), text=["question"], id="id")
    cfg = config(jsonl(tmp_path / "a.jsonl", docs), contamination=Contamination(benchmarks=[benchmark], min_grams=1))
    m = corpus.clean(cfg, tmp_path / "out")
    gone = rows(tmp_path / "out", "removed")["d1-2"]
    assert (gone["stage"], gone["reason"]) == ("contamination", "holds_exam") and gone["figure"] > 0.9
    (hit,) = read_table(tmp_path / "out", "contamination").to_pylist()
    assert (hit["id"], hit["benchmark_row"], hit["removed"]) == ("d1-2", "q1", True)
    assert m["notes"]["contamination"] == [{"benchmark": "exam", "rows_found": 1, "rows": 2, "documents": 1}]
    # The same again on what an earlier stage wrote, as after rewriting; here it only reports.
    said = corpus.clean(config(tmp_path / "a.jsonl"), tmp_path / "plain")
    only = Contamination(benchmarks=[benchmark], min_grams=1, remove=False)
    again = corpus.decontaminate([tmp_path / "plain"], only, tmp_path / "again")
    assert again["counts"]["kept"] == said["counts"]["kept"]
    assert [h["removed"] for h in read_table(tmp_path / "again", "contamination").to_pylist()] == [False]


def test_explain_names_the_rule(tmp_path: Path) -> None:
    docs: list[dict[str, Any]] = [{"id": "short", "text": "ثلاث كلمات فقط"}, {"id": "good", "text": prose(1)}]
    out = tmp_path / "out"
    corpus.clean(config(jsonl(tmp_path / "a.jsonl", docs)), out)
    why = corpus.explain(out, "short")
    assert (why["state"], why["reason"], why["figure"]) == ("removed", "too_short", 3.0)
    (rule,) = [r for r in why["rules"] if r["verdict"] == "removes"]
    assert (rule["rule"], rule["figure"], rule["value"], rule["threshold"]) == ("too_short", "n_words", 3.0, 8.0)
    assert not [r for r in corpus.explain(out, "good")["rules"] if r["verdict"] == "removes"]
