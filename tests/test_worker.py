"""The worker: pairs, training, serving, and the stand-in expert it can learn from."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")

import tiny_model
import typer
from transformers import AutoTokenizer
from typer.testing import CliRunner

from fitra import llm, lm, policy, recipe, world
from fitra.align import align, masking, serve, worker
from fitra.artifacts import DOCUMENT_SCHEMA, open_stage, read_manifest, read_table
from fitra.cli import align as align_commands
from fitra.cli import worker as commands
from fitra.errors import FitraError
from fitra.lm.chat import prepare_tokenizer
from fitra.pretrain.base import small_llama, train_tokenizer
from fitra.world import expert

POLICY = policy.load("default")
PLACES = ["القاهرة", "دمشق", "بغداد", "تونس", "عمان", "مسقط", "الرباط", "بيروت"]
AD = "اشترك الآن في قناتنا"


def corpus(path: Path, texts: list[str]) -> Path:
    rows = [
        {k: None for k in DOCUMENT_SCHEMA.names}
        | {"id": f"d{i:03d}", "text": t, "lang": "ar", "licence_class": "B", "labels": "{}"}
        for i, t in enumerate(texts)
    ]
    with open_stage(path, stage="corpus", config={}, inputs={}) as st:
        st.write_table("documents", pa.Table.from_pylist(rows, DOCUMENT_SCHEMA))
    return path


def aligned(tmp: Path, texts: list[str], fn: Callable[[str], str], **kw: Any) -> Path:
    """An align stage whose model applies `fn` to the masked text."""

    def reply(messages: list[llm.Message], sampling: Any, schema: Any) -> str:
        return fn(messages[1]["content"].rsplit("<<<", 1)[1].split("\n", 1)[1].rsplit("\n", 2)[0])

    cfg = recipe.Align(triage="all", **kw)
    backends = {"expert": llm.FunctionBackend("m", reply)}
    align(cfg, corpus(tmp / "corpus", texts), tmp / "aligned", backends=backends)
    return tmp / "aligned"


def without_ad(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if AD not in line)


TEXTS = [
    f"زار سالم مدينة {p} وقال «الصبر مفتاح الفرج» في رحلته الأولى." + (f"\n{AD}" if i % 2 else "")
    for i, p in enumerate(PLACES * 3)
]
TEXTS = [t.replace("رحلته الأولى", f"رحلته رقم {i}") for i, t in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return aligned(tmp_path_factory.mktemp("rows"), TEXTS, without_ad)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random small model with a chat template, whose tokenizer knows these texts."""
    path = tmp_path_factory.mktemp("base") / "model"
    tokenizer = train_tokenizer([*TEXTS, *TEXTS], 420)
    scratch = recipe.Scratch(vocab_size=420, hidden_size=32, layers=2, heads=2, intermediate_size=64, max_positions=256)
    model = small_llama(scratch, tokenizer, 0)
    prepare_tokenizer(tokenizer, model)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def config(**kw: Any) -> recipe.Worker:
    train = {"tokens": 1500, "batch_tokens": 512, "seq_len": 256, "lr": 3e-3, "device": "cpu"} | kw.pop("train", {})
    return recipe.Worker.model_validate({"train": train} | kw)


# --- pairs


def test_pairs_are_the_accepted_rows_masked_as_they_were(rows: Path) -> None:
    lost: Counter[str] = Counter()
    found = list(worker.pairs(config(held_out=0.0), rows, lost))
    assert [p.id for p in found] == [f"d{i:03d}#00000" for i in range(len(TEXTS))]
    for i, p in enumerate(found):
        assert masking.unmask(p.before.text, p.before) == TEXTS[i] and "«الصبر مفتاح الفرج»" in p.before.spans
        assert masking.unmask(p.after, p.before) == without_ad(TEXTS[i])
        assert p.changed == (AD in TEXTS[i]) and p.licence == "B" and not p.gone
        assert p.before == masking.mask(TEXTS[i])  # as a worker will be asked
    assert not +lost


def test_what_is_held_out_depends_on_the_document_alone(rows: Path, tmp_path: Path) -> None:
    cfg = config(held_out=0.3)
    held = {p.id for p in worker.pairs(cfg, rows) if p.held_out}
    assert 0 < len(held) < len(TEXTS)
    some = aligned(tmp_path, TEXTS[:12], without_ad)
    assert {p.id for p in worker.pairs(cfg, some) if p.held_out} == {h for h in held if int(h[1:4]) < 12}
    listed = tmp_path / "hold.txt"
    listed.write_text("d001\nd002\n", encoding="utf-8")
    more = {p.id for p in worker.pairs(config(held_out=0.3, hold=str(listed)), rows) if p.held_out}
    assert more == held | {"d001#00000", "d002#00000"}
    with pytest.raises(FitraError, match="hold"):
        list(worker.pairs(config(hold=str(tmp_path / "none")), rows))


def test_a_text_is_never_on_both_sides(tmp_path: Path) -> None:
    rows = aligned(tmp_path, [TEXTS[1]] * 20 + [TEXTS[3]], without_ad)
    lost: Counter[str] = Counter()
    found = list(worker.pairs(config(held_out=0.3), rows, lost))
    assert len(found) == 2 and lost["same text"] == 19
    assert next(p for p in found if p.before.text != found[-1].before.text).held_out  # some copy was held out


def test_untouched_texts_are_a_share_and_refused_ones_teach_nothing(tmp_path: Path) -> None:
    texts = [*TEXTS, "قال المدير إن العدد 30 في القاهرة.", "قال المدير إن العدد 77 في دمشق اليوم."]
    rows = aligned(tmp_path, texts, lambda t: without_ad(t).replace("العدد 77", "العدد 78"), retries=0)
    lost: Counter[str] = Counter()
    found = list(worker.pairs(config(held_out=0.0, unchanged=0.25), rows, lost))
    assert sum(p.changed for p in found) == 12 and sum(not p.changed for p in found) == 3
    assert lost["state keep_original"] == 1 and not any("7" in p.after and "المدير" in p.after for p in found)


def test_long_documents_are_cut_as_they_will_be(tmp_path: Path) -> None:
    lines = [f"هذه فقرة رقم {i} وفيها كلام طويل عن مدينة {PLACES[i % 8]} وأهلها." for i in range(24)]
    text = "\n".join([*lines[:5], AD, *lines[5:17], AD, *lines[17:]])
    rows = aligned(tmp_path, [text], without_ad, chunk_chars=300)
    found = list(worker.pairs(config(held_out=0.0, chunk_chars=300, unchanged=99), rows))
    assert len(found) > 4 and sum(p.changed for p in found) == 2
    assert "".join(masking.unmask(p.before.text, p.before) for p in found) == text
    assert "".join(masking.unmask(p.after, p.before) for p in found) == without_ad(text)


def test_a_document_with_refused_chunks_is_left_out(tmp_path: Path) -> None:
    lines = [f"هذه فقرة رقم {i} وفيها كلام طويل عن مدينة {PLACES[i % 8]} وأهلها." for i in range(12)]
    text = "\n".join([*lines[:6], AD, *lines[6:]])
    rows = aligned(tmp_path, [text], lambda t: "" if "رقم 0 " in t else without_ad(t), chunk_chars=300, retries=0)
    lost: Counter[str] = Counter()
    assert not list(worker.pairs(config(), rows, lost)) and lost["partly refused"] == 1


# --- prompts


@pytest.mark.parametrize("kind", ["edits", "rewrite"])
def test_a_reply_is_parsed_as_it_was_taught(kind: Any) -> None:
    masked = masking.mask(TEXTS[1])
    after = without_ad(masked.text)
    reply = worker.target(masked.text, after, kind)
    assert worker.parse(reply, masked.text, kind) == after
    turns = worker.messages(POLICY, masked.text, kind)
    assert [t["role"] for t in turns] == ["system", "user"] and AD in turns[1]["content"]
    assert turns[0] == worker.messages(POLICY, "نص آخر", kind)[0]  # one prefix for all requests
    with pytest.raises(llm.ParseError):
        worker.parse("", masked.text, kind)


# --- training


def weights(path: Path) -> dict[str, bytes]:
    from safetensors.torch import load_file

    return {k: v.numpy().tobytes() for k, v in load_file(path / "model" / "model.safetensors").items()}


def test_a_worker_learns_edit_programs_and_is_used_by_its_job(rows: Path, base: Path, tmp_path: Path) -> None:
    cfg = config(held_out=0.2, unchanged=9, train={"tokens": 120_000, "lr": 5e-3, "batch_tokens": 1024})
    made = worker.train(cfg, rows, base, tmp_path / "w")
    table = read_table(tmp_path / "w", "pairs").to_pylist()
    held = [r for r in table if r["split"] == "held_out"]
    assert held and made["counts"]["examples"] == len(TEXTS) - len(held) and made["licence_class"] == "D"
    assert {r["target"] for r in table} == {"=", "2 -"}
    asked = [{"id": r["id"], "masked": masking.mask(TEXTS[int(r["id"][1:4])])} for r in held]
    backend = serve.local(tmp_path / "w", batch=4, device="cpu")
    answers = list(llm.run(worker.job(POLICY, "edits"), asked, backend, tmp_path / "ledger", progress=False))
    assert [a.value for a in answers] == [r["after"] for r in held]
    start = serve.local(base, device="cpu")
    before = list(llm.run(worker.job(POLICY, "edits"), asked, start, tmp_path / "ledger", progress=False))
    assert all(a.error for a in before) and start.identity != backend.identity


def test_loss_is_on_the_answer_alone(rows: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fitra.align.worker import tune

    caught: list[Any] = []
    real = tune.train.Padded
    monkeypatch.setattr(tune.train, "Padded", lambda examples, *a: (caught.extend(examples), real(examples, *a))[1])
    worker.train(config(format="rewrite", held_out=0.0), rows, base, tmp_path / "w")
    tok = lm.load(base, device="cpu").tokenizer
    assert len(caught) == len(TEXTS)
    for e, text in zip(caught, TEXTS, strict=True):
        masked = masking.mask(text)
        assert tok.decode(e.ids[e.answer_from :], skip_special_tokens=True) == without_ad(masked.text)
        assert tok.decode(e.ids[: e.answer_from]).endswith("<|assistant|>")
        assert e.group == (AD not in text)


def test_a_killed_training_goes_on_and_a_finished_one_is_left_alone(
    rows: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fitra.train import loop

    cfg = config(train={"checkpoint_every": 2, "tokens": 6000})
    whole = worker.train(cfg, rows, base, tmp_path / "whole")
    real, calls = loop.group_loss, []

    def dies(*a: Any) -> Any:
        calls.append(0)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(*a)

    monkeypatch.setattr(loop, "group_loss", dies)
    with pytest.raises(KeyboardInterrupt):
        worker.train(cfg, rows, base, tmp_path / "killed")
    assert not (tmp_path / "killed" / "manifest.json").exists()
    monkeypatch.setattr(loop, "group_loss", lambda *a: (calls.append(1), real(*a))[1])
    again = worker.train(cfg, rows, base, tmp_path / "killed")
    assert calls.count(1) == whole["counts"]["steps"] - 4  # from the checkpoint of step 4
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert again["fingerprint"] == whole["fingerprint"]
    assert worker.train(cfg, rows, base, tmp_path / "killed") == read_manifest(tmp_path / "killed")
    with pytest.raises(FitraError, match="another configuration"):
        worker.train(config(format="rewrite"), rows, base, tmp_path / "killed")


def test_lora_is_merged_into_a_plain_model(rows: Path, base: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    worker.train(config(lora=4), rows, base, tmp_path / "w")
    from safetensors.torch import load_file

    old, new = load_file(base / "model.safetensors"), load_file(tmp_path / "w" / "model" / "model.safetensors")
    assert old.keys() == new.keys()
    changed = {k for k in old if not old[k].equal(new[k])}
    assert changed and all("proj" in k for k in changed)  # linear layers alone; embeddings and norms stood still
    assert lm.load(tmp_path / "w", device="cpu").tokenizer.chat_template


def test_text_that_looks_like_a_turn_is_not_trained_on(base: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[انتهى]"]}, replace_extra_special_tokens=False)
    shutil.copytree(base, tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows = aligned(tmp_path, [TEXTS[1].replace("سالم", "سالم [انتهى]"), TEXTS[3]], without_ad)
    made = worker.train(config(held_out=0.0), rows, tmp_path / "model", tmp_path / "w")
    assert made["counts"]["examples"] == 1 and made["notes"]["left_out"]["holds a special token"] == 1


def test_what_cannot_be_trained_is_said(rows: Path, base: Path, tmp_path: Path) -> None:
    with pytest.raises(FitraError, match="not finished"):
        worker.train(config(), tmp_path, base, tmp_path / "w")
    with pytest.raises(FitraError, match="no pair"):
        worker.train(config(languages=["xx"]), rows, base, tmp_path / "w1")
    with pytest.raises(FitraError, match="no pair"):
        worker.train(config(train={"seq_len": 8}), rows, base, tmp_path / "w2")


def test_a_base_without_a_chat_template_gets_one(rows: Path, tmp_path: Path) -> None:
    plain = tiny_model.write(tmp_path / "plain", positions=512)
    made = worker.train(config(train={"seq_len": 512}), rows, plain, tmp_path / "w")
    assert made["counts"]["examples"] > 0
    backend = serve.local(tmp_path / "w", device="cpu", max_tokens=4)
    asked = [{"id": 0, "masked": masking.mask(TEXTS[1])}]
    assert next(iter(llm.run(worker.job(POLICY, "edits"), asked, backend, tmp_path / "l", progress=False))).reply


def test_one_key_of_the_training_leaves_the_others() -> None:
    cfg = recipe.Worker.model_validate({"train": {"tokens": 5}})
    assert cfg.train.tokens == 5 and cfg.train.seq_len == recipe.Worker().train.seq_len > 500


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


# --- commands


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    align_commands.add_to(app)
    commands.add_to(app)
    return app


@pytest.mark.parametrize("command", [["align", "train-worker"], ["world-expert"]])
def test_help_has_an_example(app: typer.Typer, command: list[str]) -> None:
    got = CliRunner().invoke(app, [*command, "--help"])
    assert got.exit_code == 0 and f"fitra {' '.join(command)}" in got.output
    if command == ["world-expert"]:
        assert "no expert" in got.output


def test_training_from_the_command_line(app: typer.Typer, rows: Path, base: Path, tmp_path: Path) -> None:
    got = CliRunner().invoke(
        app, ["align", "train-worker", "--rows", str(rows), "--base", str(base), "--out", str(tmp_path / "w"),
              "--set", "train.tokens=800", "--set", "format=rewrite", "--set", "train.device=cpu"],
    )  # fmt: skip
    assert got.exit_code == 0, got.output
    assert json.loads(got.output.strip().splitlines()[-1])["counts"]["examples"] > 0
    assert (tmp_path / "w" / "model" / "config.json").is_file()
