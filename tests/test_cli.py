"""The command line as users meet it: one-line errors without a traceback, exit codes, help with examples."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from fitra.cli import app


def fitra(*args: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "fitra", *map(str, args)], capture_output=True, text=True, cwd=cwd)


def one_line_error(p: subprocess.CompletedProcess[str], expected: str) -> None:
    assert p.returncode == 1, p.stderr
    errors = [line for line in p.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and expected in errors[0], p.stderr
    assert "Traceback" not in p.stderr


def test_every_command_has_help_with_an_example() -> None:
    def leaves(command: object, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], object]]:
        subs = getattr(command, "commands", None)
        if not subs:
            return [(path, command)]
        return [leaf for name, sub in subs.items() for leaf in leaves(sub, (*path, name))]

    found = leaves(typer.main.get_command(app), ())
    assert len(found) >= 15
    for path, command in found:
        assert command.help and f"fitra {' '.join(path)}" in (command.epilog or ""), path  # type: ignore[attr-defined]


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "daft", "transformers", "openai")
    code = f"import sys, fitra.cli; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    assert "Traceback" in fitra("run", tmp_path / "none.yaml", "--debug").stderr
    one_line_error(fitra("run", tmp_path / "none.yaml"), "no such recipe")


def test_bad_inputs_to_corpus(tmp_path: Path) -> None:
    one_line_error(fitra("corpus", "clean", tmp_path / "none.jsonl", "--out", tmp_path / "o"), "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    one_line_error(fitra("corpus", "clean", tmp_path / "empty.jsonl", "--out", tmp_path / "o"), "empty.jsonl")
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "b.parquet")
    p = fitra("corpus", "clean", tmp_path / "b.parquet", "--out", tmp_path / "o")
    one_line_error(p, "'text'")
    assert "body" in p.stderr
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 this is not parquet")
    one_line_error(fitra("corpus", "clean", tmp_path / "bad.parquet", "--out", tmp_path / "o"), "bad.parquet")
    one_line_error(
        fitra("corpus", "clean", tmp_path / "b.parquet", "--out", tmp_path / "o", "--set", "min_word=3"), "min_words"
    )


GOOD = "هذا نص عربي قصير عن مدينة القاهرة وتاريخها الطويل على ضفاف النيل العظيم"


def test_bad_rows_are_set_aside_and_the_exit_code_says_so(tmp_path: Path) -> None:
    rows = [
        json.dumps({"id": "ok", "text": GOOD}, ensure_ascii=False).encode(),
        b"{broken",
        b'{"text": null}',
        b'{"text": ""}',
    ]
    rows.append(b'{"text": "\xff\xfe"}')
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(rows) + b"\n")
    p = fitra("corpus", "clean", tmp_path / "in.jsonl", "--out", tmp_path / "o")
    assert p.returncode == 3, p.stderr
    counts = json.loads(p.stdout.splitlines()[-1])["counts"]
    assert counts["kept"] == 1 and counts["quarantined"] == 4
    aside = pq.read_table(tmp_path / "o/quarantine").to_pylist()
    assert len(aside) == 4 and all(r["reason"] for r in aside)


def test_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    held_out = tmp_path / "held_out.parquet"
    pq.write_table(pa.table({"text": ["Some English text."]}), held_out)
    for path in (tmp_path / "m", tmp_path / "none"):
        p = fitra("eval", "run", path, "--out", tmp_path / "o", "--set", f"retention={held_out}")
        one_line_error(p, str(path))


def test_doctor_names_a_dead_endpoint(tmp_path: Path) -> None:
    text = (
        "name: x\ncorpus: {inputs: [{path: a}]}\n"
        "align: {expert: {endpoints: {base_url: 'http://127.0.0.1:9', model: m}}}\n"
    )
    (tmp_path / "r.yaml").write_text(text)
    p = fitra("doctor", tmp_path / "r.yaml", "--out", tmp_path, "--json")
    assert p.returncode == 1
    found = {f["what"]: f for f in json.loads(p.stdout)}
    assert not found["endpoint"]["fine"] and found["disk"]["fine"]


def test_a_run_against_a_dead_endpoint_is_one_line(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [GOOD + str(i) for i in range(3)]}), tmp_path / "a.parquet")
    text = (
        "name: x\ncorpus: {inputs: [{path: a.parquet, lang: ar}]}\n"
        "align: {triage: all, expert: {endpoints: {base_url: 'http://127.0.0.1:9/v1', model: m, retries: 0}}}\n"
    )
    (tmp_path / "r.yaml").write_text(text)
    p = fitra("run", tmp_path / "r.yaml", "--out", tmp_path / "o")
    one_line_error(p, "127.0.0.1:9")
    assert list((tmp_path / "o").glob("corpus-*/manifest.json")), "the finished stage stays"


def test_the_corpus_room_from_the_command_line(tmp_path: Path) -> None:
    texts = [f"{GOOD} ومعها خبر آخر عن الرحلة رقم {i} إلى الجبل في الصباح" for i in range(4)]
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"id": f"d{i}", "text": t}) + "\n" for i, t in enumerate(texts))
    )
    sets = ("--set", "dedupe.near=false")
    dry = fitra("corpus", "clean", tmp_path / "a.jsonl", "--out", tmp_path / "o", "--dry-run", *sets)
    assert json.loads(dry.stdout)["sample"]["kept"] == 4 and not (tmp_path / "o").exists()
    done = fitra("corpus", "clean", tmp_path / "a.jsonl", "--out", tmp_path / "o", *sets)
    assert done.returncode == 0 and json.loads(done.stdout)["counts"]["kept"] == 4
    page = fitra("corpus", "report", tmp_path / "o")
    assert Path(page.stdout.strip()).read_text(encoding="utf-8").startswith("<!doctype html>")
    why = json.loads(fitra("corpus", "explain", tmp_path / "o", "d1").stdout)
    assert why["state"] == "kept" and {r["verdict"] for r in why["rules"]} <= {"passes", "does not apply"}
    (tmp_path / "exam.jsonl").write_text(json.dumps({"question": texts[2]}) + "\n")
    p = fitra("corpus", "decontaminate", tmp_path / "o", "--benchmark", f"{tmp_path / 'exam.jsonl'}:question",
              "--out", tmp_path / "d", "--set", "min_share=0.9")  # fmt: skip
    assert json.loads(p.stdout)["counts"]["kept"] == 3, p.stderr
    p = fitra("corpus", "takedown", tmp_path / "o", "d3", "--reason", "asked")
    assert json.loads(p.stdout)["rows"] == {"documents": 1}
    found = json.loads(fitra("corpus", "trace", tmp_path, "d3").stdout)
    assert [Path(f["folder"]).name for f in found] == ["d"]
    one_line_error(fitra("corpus", "takedown", tmp_path / "o", "never", "--reason", "x"), "never")


@pytest.mark.slow
def test_one_document_of_50_mb(tmp_path: Path) -> None:
    text = "\n".join(f"{GOOD} رقم {i}." for i in range(330_000))
    pq.write_table(pa.table({"id": ["big"], "text": [text]}), tmp_path / "big.parquet")
    # The same sentence with other numbers is nothing to keep; here only its size matters.
    p = fitra("corpus", "clean", tmp_path / "big.parquet", "--out", tmp_path / "o", "--set", "filters.preset=none")
    assert p.returncode == 0, p.stderr
    kept = pq.read_table(tmp_path / "o/documents", columns=["text"]).column(0).to_pylist()
    assert sum(map(len, kept)) > 0.95 * len(text)
