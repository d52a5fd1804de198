"""What can be measured: local models, checkpoints of a training, servers with and without log-probabilities."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")

import tiny_model as tiny
from fake_completions import FakeCompletions, Fault

from fitra import lm, recipe, train
from fitra.artifacts import read_table
from fitra.errors import FitraError
from fitra.evaluate import backend, endpoint, evaluate
from fitra.evaluate.card import Card, Item
from fitra.evaluate.endpoint import Endpoint
from fitra.recipe import Evaluate

PAIRS = [
    ("The capital of the land is", " the old city."),
    ("The capital of the land is", " a tree"),
    ("عاصمة البلاد هي", " المدينة القديمة."),
    ("السؤال: الجملة صحيحة. الإجابة:", " صح"),
    ("السؤال: الجملة صحيحة. الإجابة:", " خطأ"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("backend") / "model", chat=True)


def server(s: FakeCompletions, **more: Any) -> recipe.Endpoint:
    return recipe.Endpoint(base_url=s.base_url, model="fake", retries=0, **more)


@pytest.mark.parametrize("way", ["echo", "prompt_logprobs"])
@pytest.mark.parametrize("ids", [True, False])
def test_a_server_and_the_local_model_give_equal_scores(
    tmp_path: Path, model: Path, way: str, ids: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = backend.of(model, "cpu", "fp32")
    # Without the tokenizer the server's tokens must spell the text: this byte-level one splits Arabic letters.
    pairs = PAIRS if ids else PAIRS[:2]
    if not ids:
        with FakeCompletions(model, gives=("text", way)) as s:
            assert "--tokenizer" in Endpoint(server(s), tmp_path / "other").refuses(card("choice"))
        monkeypatch.setattr(endpoint, "PROBE", "The capital of the land")
    with FakeCompletions(model, gives=("text", way)) as s:
        there = Endpoint(server(s), tmp_path / "ledger", tokenizer=model if ids else None, context=256)
        assert there.how == way
        got, want = there.score(pairs), local.score(pairs)
        for a, b in zip(got, want, strict=True):
            assert a is not None and b is not None
            assert (a.n_tokens, a.greedy) == (b.n_tokens, b.greedy) and a.logprob == pytest.approx(b.logprob, abs=1e-4)
        if ids:
            for x, y in zip(there.last_tokens(pairs), local.last_tokens(pairs), strict=True):
                assert x is not None and y is not None and x.logprob == pytest.approx(y.logprob, abs=1e-4)
        again = Endpoint(server(s), tmp_path / "ledger", tokenizer=model if ids else None, context=256)
        asked = len(s.requests)
        assert again.score(pairs) == got and len(s.requests) == asked  # all of it is in the ledger


def test_texts_are_measured_alike_also_beyond_the_context(tmp_path: Path, model: Path) -> None:
    local = backend.of(model, "cpu", "fp32")
    texts = [tiny.TEXT[2], " ".join(tiny.TEXT[2:4] * 8)]
    with FakeCompletions(model) as s:
        there = Endpoint(server(s), tmp_path / "ledger", tokenizer=model, context=255)
        for a, b in zip(there.perplexity(texts), local.perplexity(texts), strict=True):
            assert a is not None and b is not None and (a.tokens, a.bytes) == (b.tokens, b.bytes)
            if a.tokens < 250:
                assert a.nll == pytest.approx(b.nll, abs=1e-3)


def test_letters_come_from_the_likeliest_next_tokens(tmp_path: Path, model: Path) -> None:
    local = backend.of(model, "cpu", "fp32")
    m = lm.load(model, device="cpu")
    tried = [" ".join(tiny.TEXT[2].split()[:n]) for n in range(1, 9)] + [c * n for c in "abcdefgh" for n in (1, 2, 3)]
    likeliest = dict(zip(tried, lm.generate(m, tried, max_new_tokens=1), strict=True))
    # The likeliest token, whichever it is, is what the local model finds likeliest too; letters alone can be named.
    pairs = [
        (p, o) for p, o in likeliest.items() if o.isascii() and len(m.encode([p + o])[0]) == len(m.encode([p])[0]) + 1
    ]
    assert pairs
    prompts = [p for p, _ in pairs]
    with FakeCompletions(model, gives=("text", "top"), most=5) as s:
        there = Endpoint(server(s), tmp_path / "ledger")
        assert there.how == "top"
        for a, b in zip(there.score(pairs), local.score(pairs), strict=True):
            assert a is not None and b is not None and a.greedy and a.logprob == pytest.approx(b.logprob, abs=1e-4)
        best, beyond = there.score([pairs[0], (prompts[0], "ظظظ")])
        assert best is not None and beyond is not None and beyond.logprob < best.logprob
        assert there.score([(prompts[0], "ظظظ")]) == [None] and there.troubles()


def card(kind: str, **more: Any) -> Card:
    items = (Item("1", "The capital is", (" a", " b"), 0),)
    return Card("t", "p", kind, ("accuracy",), items, **more)


def test_what_a_server_cannot_give_is_said_before_any_work(tmp_path: Path, model: Path) -> None:
    long = Card("t", "p", "choice", ("accuracy",), (Item("1", "x", (" the whole text of it", " b"), 0),))
    with FakeCompletions(model, gives=("text", "chat")) as s:
        there = Endpoint(server(s), tmp_path / "a")
        assert "gives no log-probabilities" in there.refuses(card("choice"))
        assert not there.refuses(card("generate")) and not there.refuses(card("generate", chat=True))
    with FakeCompletions(model, gives=("text", "top")) as s:
        there = Endpoint(server(s), tmp_path / "b")
        assert not there.refuses(card("choice")) and "options are longer" in there.refuses(long)
        assert "--tokenizer" in there.refuses(card("text")) and "--tokenizer" in there.refuses(
            card("choice", last_token=True)
        )
    with FakeCompletions(model, gives=("chat",)) as s:
        there = Endpoint(server(s), tmp_path / "c")
        assert "chats alone" in there.refuses(card("generate")) and not there.refuses(card("generate", chat=True))
        assert "no log-probabilities" in there.refuses(card("choice"))


def test_a_server_writes_what_the_local_model_writes(tmp_path: Path, model: Path) -> None:
    local = backend.of(model, "cpu", "fp32")
    with FakeCompletions(model) as s:
        there = Endpoint(server(s), tmp_path / "ledger")
        for chat in (False, True):
            prompts = ["The capital of", "السؤال"]
            want = local.generate(prompts, max_new_tokens=4, chat=chat)
            assert there.generate(prompts, max_new_tokens=4, chat=chat) == want
        talk = [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "3"},
        ]
        assert there.generate([talk], max_new_tokens=4) == local.generate([talk], max_new_tokens=4)


@pytest.fixture
def exams_file(tmp_path: Path) -> Path:
    path = tmp_path / "exams.parquet"
    rows = [
        {
            "id": f"q{i}", "split": "test" if i else "dev", "subject": "Physics", "question": f"ما {i}؟",
            "answer": "ABCD"[i % 4], **{k: f"خيار {k}{i}" for k in "ABCD"},
        }
        for i in range(9)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def scores_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    return found


def test_a_benchmark_over_a_server_equals_the_local_one(tmp_path: Path, model: Path, exams_file: Path) -> None:
    evaluate(Evaluate(exams=str(exams_file)), model, 0, tmp_path / "local")
    with FakeCompletions(model) as s:
        cfg = Evaluate(exams=str(exams_file), endpoint=server(s, api_key="canary-key-123"), tokenizer=str(model))
        evaluate(cfg, None, 0, tmp_path / "far")
    a, b = (read_table(tmp_path / n, "items").to_pylist() for n in ("local", "far"))
    assert [r["predicted"] for r in a] == [r["predicted"] for r in b]
    for x, y in zip(a, b, strict=True):
        assert x["scores"] == pytest.approx(y["scores"], abs=1e-4)
    assert scores_of(tmp_path / "local") == scores_of(tmp_path / "far")
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"canary-key-123" not in path.read_bytes()


def test_open_questions_are_answered_and_judged_alike_over_a_server(tmp_path: Path, model: Path) -> None:
    file = tmp_path / "vicuna80_ar.parquet"
    rows = [{"id": i, "category": "generic", "query": f"what of {i}?", "query_en": "x"} for i in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), file)
    cfg = Evaluate(tasks=["vicuna80_ar"], data=str(tmp_path), answer_tokens=6)
    evaluate(cfg, model, 0, tmp_path / "local")
    with FakeCompletions(model) as s:
        evaluate(cfg.model_copy(update={"endpoint": server(s)}), None, 0, tmp_path / "far")
        asked = [r for r in s.requests if "prompt" not in r]
        assert [r["max_tokens"] for r in asked] == [6] * 3
    a, b = (read_table(tmp_path / n, "items").to_pylist() for n in ("local", "far"))
    assert [r["output"] for r in a] == [r["output"] for r in b] and len(a) == 3
    one, two = scores_of(tmp_path / "local")["vicuna80_ar"], scores_of(tmp_path / "far")["vicuna80_ar"]
    assert one["value"] == two["value"] and one["metric"] == two["metric"]


def test_an_endpoint_without_log_probabilities_skips_and_says_so(
    tmp_path: Path, model: Path, exams_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeCompletions(model, gives=("text",)) as s:
        cfg = Evaluate(tasks=["exams:oall", "exams:acegpt"], data=str(exams_file), endpoint=server(s))
        manifest = evaluate(cfg, None, 0, tmp_path / "out")
        assert {k.split("/")[0] for k in scores_of(tmp_path / "out")} == {"exams_acegpt"}
        assert "no log-probabilities" in manifest["notes"]["skipped"]["exams_oall"]
        assert "exams_oall: skipped" in capsys.readouterr().err
        with pytest.raises(FitraError, match="no log-probabilities"):
            evaluate(cfg.model_copy(update={"strict": True}), None, 0, tmp_path / "strict")


def test_what_a_server_refuses_is_counted_and_what_fails_is_asked_again(
    tmp_path: Path, model: Path, exams_file: Path
) -> None:
    with FakeCompletions(model) as s:
        cfg = Evaluate(tasks=["exams:acegpt"], data=str(exams_file), shots=0, endpoint=server(s))
        s.fail = {"ما 3؟": Fault(500)}
        with pytest.raises(FitraError, match="Run the same command again"):
            evaluate(cfg, None, 0, tmp_path / "out")
        asked = [r["prompt"] for r in s.requests if "خيار" in r["prompt"]]
        s.fail = {"ما 3؟": Fault(400, body='{"error": {"message": "refused"}}')}
        evaluate(cfg, None, 0, tmp_path / "out")
        again = [r["prompt"] for r in s.requests if "خيار" in r["prompt"]][len(asked) :]
        assert len(again) == 1 and "ما 3؟" in again[0]  # seven of eight were kept
        score = scores_of(tmp_path / "out")["exams_acegpt"]
        assert any("1 items got no answer" in w and "refused" in w for w in score["warnings"])
        row = next(r for r in read_table(tmp_path / "out", "items").to_pylist() if r["id"] == "q3")
        assert row["predicted"] is None and row["correct"] is False and row["output"] is None


def test_nobody_there_is_an_error_by_name(tmp_path: Path) -> None:
    cfg = recipe.Endpoint(base_url="http://127.0.0.1:9/v1", model="m", retries=0)
    with pytest.raises(FitraError, match="endpoint down"):
        Endpoint(cfg, tmp_path / "ledger")


def test_a_checkpoint_in_training_is_the_model_at_that_step(tmp_path: Path, model: Path) -> None:
    m = lm.load(model, device="cpu", precision="fp32")
    stage = tmp_path / "pretrain"
    cfg = recipe.Train(tokens=512, batch_tokens=64, seq_len=32, checkpoint_every=1)
    rows = {"ar": train.pack(m.tokenizer, tiny.TEXT * 8, 32)}
    batches = train.Packed(rows, {"ar": 4}, 2, 0)
    train.describe(stage, m.model, m.tokenizer)
    train.fit(m.model, batches, cfg, stage, seed=0, groups=["ar"])
    want = lm.score(m, PAIRS)
    for place in (stage, next((stage / "checkpoint").glob("step-*"))):
        got = backend.of(place, "cpu", "fp32").score(PAIRS)
        assert [g.logprob for g in got if g] == pytest.approx([w.logprob for w in want], abs=1e-5)
    assert backend.of(stage, "cpu", "fp32").identity != backend.of(model, "cpu", "fp32").identity
    shutil.rmtree(stage / "checkpoint/like")
    with pytest.raises(FitraError, match="--base"):
        backend.of(stage, "cpu", "fp32")
    assert backend.of(stage, "cpu", "fp32", base=model).score(PAIRS) == got


def test_identity_tells_weights_tokenizer_and_precision_apart(tmp_path: Path, model: Path) -> None:
    other = tiny.write(tmp_path / "other", chat=True, seed=3)
    plain = tiny.write(tmp_path / "plain")
    ids = [
        backend.of(p, "cpu", x).identity
        for p, x in ((model, "fp32"), (model, "bf16"), (other, "fp32"), (plain, "fp32"))
    ]
    assert len(set(ids)) == 4
    copy = shutil.copytree(model, tmp_path / "copy")
    assert backend.of(copy, "cpu", "fp32").identity == ids[0]
