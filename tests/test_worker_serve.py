"""Serving the worker, and the stand-in expert it can learn from."""

from __future__ import annotations

import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")

from worker_rows import AD, POLICY, TEXTS, model

from fitra import llm, recipe, world
from fitra.align import align, masking, serve, worker
from fitra.artifacts import read_table
from fitra.errors import FitraError
from fitra.world import expert


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model(tmp_path_factory.mktemp("base") / "model")


# --- serving


def test_a_prompt_without_room_fails_alone(base: Path, tmp_path: Path) -> None:
    asked = [{"id": i, "masked": masking.mask("كلمة " * n)} for i, n in enumerate([3, 2000, 4])]
    job = worker.job(POLICY, "rewrite", max_tokens=4)
    answers = list(llm.run(job, asked, serve.local(base, device="cpu"), tmp_path / "l", progress=False))
    assert "positions" in str(answers[1].error) and all(a.reply for a in (answers[0], answers[2]))
    assert answers[0].reply and answers[0].reply.usage["prompt_tokens"] > 0


def test_answers_do_not_depend_on_the_batch(base: Path, tmp_path: Path) -> None:
    asked = [{"id": i, "masked": masking.mask(t)} for i, t in enumerate(TEXTS[:6])]
    for temperature in (0.0, 1.0):
        job = llm.Job(
            "t", lambda r: worker.messages(POLICY, r["masked"].text, "edits"), lambda reply, row: reply,
            sampling={"temperature": temperature, "max_tokens": 8, "seed": 3},
        )  # fmt: skip
        got = [
            [
                a.value
                for a in llm.run(job, asked, serve.local(base, batch=n, device="cpu"), tmp_path / f"{n}{temperature}")
            ]
            for n in (1, 4)
        ]
        assert got[0] == got[1]


SERVER = """
import http.server, os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[2], "w").write(f"{os.getpid()} {child.pid}")
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def gone(pids: list[int]) -> bool:
    """Soon, that is: whoever adopts a killed orphan must have seen it."""
    for _ in range(200):
        if not any(alive(p) for p in pids):
            return True
        time.sleep(0.05)
    return False


def test_a_server_and_its_children_end_with_the_block(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "_kind", lambda kind: "transformers")
    monkeypatch.setattr(
        serve,
        "_command",
        lambda k, name, port, t: ([sys.executable, "-c", SERVER, str(port), str(tmp_path / "pids")], {}),
    )
    with pytest.raises(RuntimeError), serve.server(base) as endpoint:
        assert endpoint.base_url.startswith("http://127.0.0.1:") and endpoint.model.startswith("worker-")
        pids = [int(p) for p in (tmp_path / "pids").read_text().split()]
        assert all(alive(p) for p in pids)
        raise RuntimeError
    assert gone(pids)


def test_a_server_that_does_not_come_up_shows_its_log(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "print('no \\x1b[31mroom on the card'); raise SystemExit(3)"
    monkeypatch.setattr(serve, "_kind", lambda kind: "transformers")
    monkeypatch.setattr(serve, "_command", lambda *a: ([sys.executable, "-c", code], {}))
    with pytest.raises(FitraError, match=r"code 3.*no \[31mroom on the card"), serve.server(base):
        pass
    monkeypatch.setattr(serve, "_command", lambda *a: ([sys.executable, "-c", "import time; time.sleep(60)"], {}))
    with pytest.raises(FitraError, match="did not come up"), serve.server(base, timeout_s=0.5):
        pass


@pytest.mark.slow
def test_transformers_serve_answers_as_the_local_backend(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    asked = [{"id": i, "masked": masking.mask(t)} for i, t in enumerate(TEXTS[:6])]
    job = llm.Job(
        "t", lambda r: worker.messages(POLICY, r["masked"].text, "edits"), lambda reply, row: reply,
        sampling={"temperature": 0.0, "max_tokens": 6},
    )  # fmt: skip
    with serve.server(base, kind="transformers") as endpoint:
        served = list(llm.run(job, asked, llm.EndpointBackend(endpoint), tmp_path / "a", progress=False))
    here = list(llm.run(job, asked, serve.local(base, device="cpu"), tmp_path / "b", progress=False))
    assert [a.value for a in served] == [a.value for a in here] and not any(a.error for a in served)
    assert [a.key for a in served] != [""] and endpoint.model == serve.local(base, device="cpu").identity


# --- the stand-in expert


@pytest.fixture(scope="module")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world") / "world"
    world.write(recipe.World(facts=20, documents=300), 3, out)
    return out


def test_the_stand_in_gives_the_references_masked_or_not(small_world: Path) -> None:
    known = expert.Expert(small_world)
    rows = pq.read_table(small_world / "references.parquet").to_pylist()
    assert len(rows) > 20
    for r in rows:
        assert known.rewrite(r["text"]) == r["reference"]
        masked = masking.mask(r["text"])
        assert masking.unmask(known.rewrite(masked.text), masked) == r["reference"]


def test_the_stand_in_rewrites_other_text_by_the_rules(small_world: Path) -> None:
    known = expert.Expert(small_world)
    text = f"قال ⟦1a2b3c4d:0⟧ في القاهرة.\n{AD} على واتساب واربح هدية!\nنص أخير سليم."
    assert known.rewrite(text).split() == ["قال", "⟦1a2b3c4d:0⟧", "في", "القاهرة.", "نص", "أخير", "سليم."]
    assert known.rewrite(f"{AD} على واتساب واربح ⟦1a2b3c4d:0⟧!") == f"{AD} على واتساب واربح ⟦1a2b3c4d:0⟧!"
    turns = [
        {"role": "system", "content": "x"},
        {"role": "user", "content": f"<<<ab12cd34\n{text}\nab12cd34>>>"},
        {"role": "assistant", "content": "y"},
        {"role": "user", "content": "again"},
    ]
    assert known.reply(turns[:2]) == known.rewrite(text) == known.reply(turns)
    assert known.reply([]) == ""


def test_the_stand_in_teaches_through_a_server_with_a_token(small_world: Path, tmp_path: Path) -> None:
    with expert.serving(expert.Expert(small_world), "secret-of-the-test") as endpoint:
        bad = urllib.request.Request(f"{endpoint.base_url}/chat/completions", b"{}", {"Authorization": "Bearer x"})
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(bad, timeout=10)
        good = urllib.request.Request(
            f"{endpoint.base_url}/chat/completions", b"[]", {"Authorization": "Bearer secret-of-the-test"}
        )
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(good, timeout=10)
        model = recipe.Model(endpoints=[endpoint])
        align(recipe.Align(triage="all", expert=model), small_world, tmp_path / "a")
    references = {r["id"]: r for r in pq.read_table(small_world / "references.parquet").to_pylist()}
    rows = [r for r in read_table(tmp_path / "a", "rows").to_pylist() if r["id"] in references]
    accepted = [r for r in rows if r["state"] == "accept" and r["tier"] == "expert"]
    assert len(accepted) > len(rows) / 2  # the gates refuse some references: a negation goes with the insult
    assert all(r["rewrite"] == references[r["id"]]["reference"] for r in accepted)
    assert "secret-of-the-test" not in "".join(
        p.read_text(encoding="utf-8", errors="replace") for p in (tmp_path / "a").rglob("*") if p.is_file()
    )
    with pytest.raises(FitraError, match="Write a world first"):
        expert.Expert(tmp_path)
