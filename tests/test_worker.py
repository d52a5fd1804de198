"""The worker: its pairs and prompts, its training, and its command."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import tiny_model
import typer
from transformers import AutoTokenizer
from typer.testing import CliRunner
from worker_rows import AD, PLACES, POLICY, TEXTS, aligned, config, model, without_ad

from fitra import llm, lm, policy, recipe
from fitra.align import masking, serve, worker
from fitra.artifacts import read_manifest, read_table
from fitra.cli import align as align_commands
from fitra.cli import worker as commands
from fitra.errors import FitraError


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return aligned(tmp_path_factory.mktemp("rows"), TEXTS, without_ad)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model(tmp_path_factory.mktemp("base") / "model")


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


def test_a_worker_is_trained_under_the_packs_it_will_be_asked_with(rows: Path, base: Path, tmp_path: Path) -> None:
    prompts = set()
    for packs in ([], ["egypt"]):
        made = worker.train(config(packs=packs), rows, base, tmp_path / "+".join(["w", *packs]))
        prompts.add(made["config"]["prompt"])
        assert made["config"]["prompt"] == worker.messages(policy.load("default", packs), "", "edits")[0]["content"]
    assert len(prompts) == 2 and any("default+egypt" in p for p in prompts)


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
