"""Readers: the parts of a file give the file, and whatever is damaged is named while the rest is read."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import random
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from fitra import tables
from fitra.errors import FitraError
from fitra.tables import batch, encoding

SENTENCES = (
    "أعلنت وزارة الثقافة اليوم عن افتتاح المعرض السنوي للكتاب في العاصمة بمشاركة أكثر من مئتي دار نشر.",
    "وقال مدير المعرض إن الدورة الحالية تركز على أدب الطفل والترجمة، وتتضمن ندوات يومية وأمسيات شعرية.",
    "وأضاف أن الدخول مجاني لطلاب المدارس والجامعات، وأن المعرض يستمر حتى نهاية الشهر الجاري.",
    "بِسْمِ اللَّهِ الرَّحْمَٰنِ الرَّحِيمِ الْحَمْدُ لِلَّهِ رَبِّ الْعَالَمِينَ",
)
ARTICLE = " ".join(SENTENCES[:3])


def lines(n: int, extra: str = "") -> list[bytes]:
    return [
        json.dumps({"id": f"d{i}", "text": f"{SENTENCES[i % 4]} {i}{extra}"}, ensure_ascii=False).encode() + b"\n"
        for i in range(n)
    ]


def write(path: Path, parts: Iterable[bytes]) -> Path:
    path.write_bytes(b"".join(parts))
    return path


def gather(batches: Iterable[tables.Batch]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    rows, bad = [], []
    for b in batches:
        rows += b.rows
        bad += b.bad
    return rows, bad


def reasons(batches: Iterable[tables.Batch]) -> list[str]:
    return [b["reason"] for b in gather(batches)[1]]


# --- parts ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([b'{"text": "abc"}', b"", b'{"text": "\xd8\xa7"}', b"no", b"   ", b"\xff"]), max_size=30),
    st.integers(1, 200),
    st.booleans(),
)  # fmt: skip
def test_parts_of_json_lines_give_the_whole(tmp_path_factory: Any, parts: list[bytes], target: int, end: bool) -> None:
    path = tmp_path_factory.mktemp("x") / "a.jsonl"
    path.write_bytes(b'{"text": "first"}\n' + b"\n".join(parts) + (b"\n" if end else b""))
    pieces = tables.splits([path], target)
    assert sum(p.size for p in pieces) == path.stat().st_size
    random.Random(1).shuffle(pieces)
    read = {p.start: gather(tables.read_split(p)) for p in pieces}
    rows = [r for start in sorted(read) for r in read[start][0]]
    bad = [r for start in sorted(read) for r in read[start][1]]
    assert (rows, bad) == gather(tables.read(path))


def test_parts_of_parquet_give_the_whole_and_can_travel(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"id": [f"d{i}" for i in range(1000)], "text": [f"{ARTICLE} {i}" for i in range(1000)]})
    pq.write_table(table, path, row_group_size=64)
    pieces = tables.splits([path], 2000)
    assert len(pieces) > 4 and [p.first for p in pieces[:2]] == [1, 1 + 64 * (pieces[0].stop - pieces[0].start)]
    there = [tables.Split(**json.loads(json.dumps(asdict(pickle.loads(pickle.dumps(p)))))) for p in pieces]
    assert there == pieces
    rows = [r for p in there for r in gather(tables.read_split(p))[0]]
    assert rows == gather(tables.read(path))[0]
    assert [r["_where"] for r in rows[:2]] == ["a.parquet:1", "a.parquet:2"] and len(rows) == 1000


def test_a_long_line_makes_a_long_part(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [*lines(3), *lines(1, "x" * 10_000), *lines(3)])
    assert [p.first for p in tables.splits([path], 500)] == [1, 4, 5]


def test_small_and_packed_files_are_one_part(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", lines(5))
    write(tmp_path / "b.jsonl.gz", [gzip.compress(b"".join(lines(5)))])
    found = tables.splits([tmp_path], 10)
    assert [p.kind for p in found if p.path.endswith("gz")] == ["jsonl"]
    assert len(gather(b for p in found for b in tables.read_split(p))[0]) == 10


# --- what there is to read -----------------------------------------------------------------------------------------


def test_kinds_of_files(tmp_path: Path) -> None:
    one = b"".join(lines(1))
    csv = f'id,text\nc,"{SENTENCES[0]}\nسطر, ثان"\n'.encode()
    tsv = f"id\ttext\nt\t{SENTENCES[1]}\n".encode()
    packed: dict[str, bytes] = {}
    for name, data in {"l.jsonl": one, "j.json": one, "c.csv": csv, "t.tsv": tsv, "p.txt": ARTICLE.encode()}.items():
        packed |= {name: data, f"{name}.gz": gzip.compress(data), f"{name}.zst": zstandard.compress(data)}
    for name, data in packed.items():
        rows, bad = gather(tables.read(write(tmp_path / name, [data])))
        assert not bad and len(rows) == 1, name
    (tmp_path / "image.png").write_bytes(b"x")
    (tmp_path / ".hidden.txt").write_bytes(b"x")
    found = tables.find(str(tmp_path))
    # A plain .json in a folder is a manifest more often than rows.
    assert found.ignored == ["image.png", "j.json"] and len(found.files) == len(packed) - 1
    assert [f.name for f in tables.find(str(tmp_path / "*.json")).files] == ["j.json"]
    assert tables.resolve(str(tmp_path / "p.txt"))[0].size == len(ARTICLE.encode())


def test_members_and_frames_one_after_the_other(tmp_path: Path) -> None:
    a, b = lines(2)
    write(tmp_path / "a.jsonl.gz", [gzip.compress(a), b"\0" * 700, gzip.compress(b), b"\0" * 100])
    write(tmp_path / "a.jsonl.zst", [zstandard.compress(a), zstandard.compress(b)])
    for name in ("a.jsonl.gz", "a.jsonl.zst"):
        assert len(gather(tables.read(tmp_path / name))[0]) == 2


# --- JSON ----------------------------------------------------------------------------------------------------------


def test_json_keeps_what_orjson_would_lose(tmp_path: Path) -> None:
    big = 123456789012345678901234567890
    path = tmp_path / "a.jsonl"
    path.write_text(
        f'{{"id": {big}, "text": "{ARTICLE}"}}\n{{"text": "x", "n": NaN}}\n{{"text": "\\ud800 x", "id": "s"}}\n'
    )
    rows, bad = gather(tables.read(path, ident="id"))
    assert rows[0]["id"] == big and len(rows) == 2
    assert bad == [{"id": "s", "where": "a.jsonl:3", "reason": "not UTF-8"}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "abc', "not JSON: Unterminated string"),
        (b"[" * 200_000, "not JSON: nested too deeply"),
        (b'{"text": ' + b"9" * 5000 + b"}", "not JSON: nested too deeply, or a number too long"),
        (b"[1]", "a JSON list, not an object"),
        (b'{"text": {"a": 1}}', "'text' is a dict, not a string"),
        (b'{"text": "a\x00b"}', "not JSON: Invalid control character"),
        (b'{"text": " \\n "}', "empty text"),
        (b"\x00" * 50, "not JSON"),
        (b'{"text": "caf\xe9"}', "not UTF-8"),
        (b'{"text": "' + b"\\u0000" * 50 + b'abc"}', "binary: NUL"),
        (b'{"text": "\\u0000"}', "binary: NUL"),
    ],
)
def test_a_bad_line_harms_no_neighbour(tmp_path: Path, line: bytes, reason: str) -> None:
    good = lines(8)
    rows, bad = gather(tables.read(write(tmp_path / "a.jsonl", [*good[:4], line + b"\n", *good[4:]])))
    assert len(rows) == 8 and bad[0]["where"] == "a.jsonl:5" and bad[0]["reason"].startswith(reason)


def test_a_few_nul_characters_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(orjson.dumps({"text": ARTICLE[:50] + "\0" + ARTICLE[50:], "labels": '{"genre": "news"}'}))
    row = gather(tables.read(path))[0][0]
    assert row["text"] == ARTICLE and row["labels"] == {"genre": "news", "repaired": "nul"}


def test_a_line_above_the_limit_is_refused_and_never_held(tmp_path: Path) -> None:
    good = lines(2)
    path = write(tmp_path / "a.jsonl", [good[0], b'{"text": "' + b"a" * (3 << 20) + b'"}\n', good[1]])
    whole = tables.splits([path])[0]
    rows, bad = gather(tables.read_split(whole, max_line_bytes=1 << 20))
    assert [r["_where"] for r in rows] == ["a.jsonl:1", "a.jsonl:3"]
    assert bad[0]["where"] == "a.jsonl:2" and "more than 1 MB" in bad[0]["reason"]
    write(tmp_path / "a.csv", [b"text\n", b"a" * (3 << 20), b"\n", ARTICLE.encode(), b"\n"])
    rows, bad = gather(tables.read_split(tables.splits([tmp_path / "a.csv"])[0], max_line_bytes=1 << 20))
    assert [r["text"] for r in rows] == [ARTICLE] and "more than 1 MB" in bad[0]["reason"]
    write(tmp_path / "a.txt", [b"a" * (3 << 20)])
    assert (
        "more than 1 MB"
        in reasons(tables.read_split(tables.splits([tmp_path / "a.txt"])[0], max_line_bytes=1 << 20))[0]
    )


def test_a_decompression_bomb_is_read_in_bounded_memory(tmp_path: Path) -> None:
    import resource
    import subprocess
    import sys

    packer = zstandard.ZstdCompressor().compressobj()
    with (tmp_path / "a.jsonl.zst").open("wb") as f:
        f.write(packer.compress(lines(1)[0]))
        for _ in range(600):
            f.write(packer.compress(bytes(1 << 20)))
        f.write(packer.compress(b"\n" + lines(2)[1]) + packer.flush())
    with gzip.open(tmp_path / "a.jsonl.gz", "wb", 1) as g:
        g.write(lines(1)[0])
        for _ in range(300):
            g.write(bytes(1 << 20))
        g.write(b"\n" + lines(2)[1])
    code = (
        "import resource, sys; from fitra import tables\n"
        "at = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for p in tables.splits(sys.argv[1:]):\n"
        "    read = tables.read_split(p, max_line_bytes=64 << 20)\n"
        "    got = [(len(b.rows), [x['reason'] for x in b.bad]) for b in read]\n"
        "    print(got, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - at)"
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in kB on Linux
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        got, grown = line.rsplit(" ", 1)
        assert got == "[(2, ['a line of more than 64 MB'])]" and int(grown) < 300_000


@pytest.mark.slow
def test_one_document_of_two_hundred_megabytes(tmp_path: Path) -> None:
    text = (ARTICLE + "\n") * (200_000_000 // len((ARTICLE + "\n").encode()))
    path = write(tmp_path / "a.jsonl", [orjson.dumps({"text": text}), b"\n", *lines(1)])
    got = [len(b.rows[0]["text"]) for b in tables.read(path) if b.rows]
    assert got[0] == len(text) and len(got) == 2


def test_a_million_empty_documents_come_in_bounded_batches(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [b'{"text": ""}\n' * 200_000, *lines(1)])
    sizes = [len(b.bad) for b in tables.read(path)]
    assert sum(sizes) == 200_000 and max(sizes) <= batch.BATCH_ROWS


# --- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.csv.gz"])
def test_rows_before_the_cut_are_kept(tmp_path: Path, name: str) -> None:
    rng = random.Random(1)
    body = [f"d{i},{rng.random()}{rng.random()} {SENTENCES[i % 4].replace(',', ' ')}" for i in range(4000)]
    data = "id,text\n" + "\n".join(body) if "csv" in name else "\n".join(
        json.dumps({"id": b.split(",")[0], "text": b.split(",")[1]}) for b in body
    )  # fmt: skip
    packed = gzip.compress(data.encode()) if name.endswith("gz") else zstandard.compress(data.encode())
    rows, bad = gather(tables.read(write(tmp_path / name, [packed[: len(packed) // 2]])))
    assert 1000 < len(rows) < 3500 and [r["id"] for r in rows] == [f"d{i}" for i in range(len(rows))]
    assert len(bad) == 1 and bad[0]["where"] == name and "end too early" in bad[0]["reason"]
    broken = packed[: len(packed) // 2] + b"\xff" * 500 + packed[len(packed) // 2 + 500 :]
    rows, bad = gather(tables.read(write(tmp_path / name, [broken])))
    assert len(rows) > 1000 and "broken" in bad[-1]["reason"]


def test_one_damaged_file_among_many_is_set_aside_and_a_single_one_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "good.jsonl", lines(3))
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "no.parquet").write_bytes(b"this is no parquet")
    write(tmp_path / "no.jsonl.gz", [b"this is no gzip"])
    write(tmp_path / "no.jsonl.zst", [b"this is no zstd"])
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "numbers.parquet")
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "other.parquet")
    write(tmp_path / "other.csv", [b"body\nx\n"])
    pieces = tables.splits([tmp_path])
    assert len(pieces) == 8
    rows, bad = gather(b for p in pieces for b in tables.read_split(p))
    assert len(rows) == 3
    told = {b["where"]: b["reason"] for b in bad}
    for name, says in {
        "empty.jsonl": "empty", "no.parquet": "damaged", "no.jsonl.gz": "not gzip", "no.jsonl.zst": "not zstandard",
        "numbers.parquet": "holds int64, not text", "other.parquet": "Columns there: body", "other.csv": "body",
    }.items():  # fmt: skip
        assert says in told[name] and "\n" not in told[name]
        alone = tables.splits([tmp_path / name])
        with pytest.raises(FitraError, match=says):
            gather(tables.read_split(alone[0]))


def test_a_damaged_row_group_is_lost_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rng = random.Random(1)
    table = pa.table({"text": [f"{ARTICLE} {rng.random()}" for _ in range(300)]})
    pq.write_table(table, path, row_group_size=100, use_dictionary=False, write_page_checksum=True)
    column = pq.read_metadata(path).row_group(1).column(0)
    at = column.data_page_offset + column.total_compressed_size // 2
    data = bytearray(path.read_bytes())
    data[at - 50 : at + 50] = bytes(100)
    path.write_bytes(bytes(data))
    rows, bad = gather(tables.read(path))
    assert [r["_where"] for r in rows] == [f"a.parquet:{i}" for i in [*range(1, 101), *range(201, 301)]]
    assert bad[0]["where"] == "a.parquet:101-200"
    assert bad[0]["reason"].startswith("row group 2 is damaged, 100 rows lost")
    assert gather(b for p in tables.splits([path], 1) for b in tables.read_split(p)) == (rows, bad)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", lines(1)).chmod(0)
    with pytest.raises(FitraError, match="Permission denied"):
        gather(tables.read(tmp_path / "a.jsonl"))


def test_a_file_without_permission_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.jsonl", lines(1))
    write(tmp_path / "b.jsonl", lines(2))
    true = Path.open

    def refuse(self: Path, *a: Any, **k: Any) -> Any:
        if self.name == "a.jsonl":
            raise PermissionError(13, "Permission denied")
        return true(self, *a, **k)

    monkeypatch.setattr(Path, "open", refuse)
    rows, bad = gather(b for p in tables.splits([tmp_path]) for b in tables.read_split(p))
    assert len(rows) == 2 and bad[0]["where"] == "a.jsonl" and "Permission denied" in bad[0]["reason"]


# --- charsets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("charset", ["cp1256", "iso8859-6", "utf-16", "utf-16-le"])
def test_files_in_other_charsets_are_read(tmp_path: Path, charset: str) -> None:
    texts = [f"{SENTENCES[i % 3]} {i}".replace("،", " ") for i in range(50)]
    body = "".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in texts)
    write(tmp_path / "a.jsonl", [body.encode(charset)])
    write(tmp_path / "a.csv", [("text\n" + "".join(f'"{t}"\n' for t in texts)).encode(charset)])
    for name in ("a.jsonl", "a.csv"):
        rows, bad = gather(b for p in tables.splits([tmp_path / name], 1000) for b in tables.read_split(p))
        assert [r["text"] for r in rows] == texts and not bad, name
        assert rows[0]["labels"]["charset"] == charset
    write(tmp_path / "a.txt", [" ".join(texts).encode(charset)])
    assert gather(tables.read(tmp_path / "a.txt"))[0][0]["text"] == " ".join(texts)


def test_a_bad_line_does_not_change_the_charset_of_a_file(tmp_path: Path) -> None:
    odd = json.dumps({"text": ARTICLE}, ensure_ascii=False).encode("cp1256") + b"\n"
    rows, bad = gather(tables.read(write(tmp_path / "a.jsonl", [*lines(20), odd, *lines(20)])))
    assert len(rows) == 40 and [b["reason"] for b in bad] == ["not UTF-8"]


def misread(text: str, codec: str) -> str:
    return "".join(bytes([b]).decode(codec, "ignore") or chr(b) for b in text.encode())


@pytest.mark.parametrize("codec", ["cp1252", "latin-1", "cp1256"])
def test_mojibake_is_put_right(codec: str) -> None:
    broken = misread(ARTICLE, codec)
    assert encoding.repair_mojibake(broken) == ARTICLE
    assert encoding.repair_mojibake(f"{ARTICLE} {broken}") == f"{ARTICLE} {ARTICLE}"
    if codec != "cp1256":
        assert encoding.repair_mojibake(misread(broken, codec)) == ARTICLE


@pytest.mark.parametrize("text", [*SENTENCES, "Ø is a letter of Danish, § 5 ÄÖÜ", "خط، ط§ظ لا شيء هنا", "§" * 50, ""])
def test_good_text_is_left_alone(text: str) -> None:
    assert encoding.repair_mojibake(text) is None


def test_repaired_rows_say_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [orjson.dumps({"text": misread(ARTICLE, "cp1256")})])
    row = gather(tables.read(path))[0][0]
    assert row["text"] == ARTICLE and row["labels"] == {"repaired": "mojibake"}


@pytest.mark.parametrize("label", ["unicode_escape", "zlib", "rot13", "no-such", "utf-7", "", None, "x" * 500, "idna"])
def test_only_charsets_are_charsets(label: str | None) -> None:
    assert encoding.charset(label) is None


def test_charset_detection_on_real_text() -> None:
    data = os.environ.get("FITRA_DATA")
    if not data:
        pytest.skip("FITRA_DATA is not set")
    for name in ("ar_news", "arz_wiki_egyptian", "ar_classical_books", "ar_social"):
        texts = pq.read_table(f"{data}/raw/{name}.parquet")["text"].to_pylist()[:600]
        texts = [t[:5000] for t in texts if len(t) > 100]
        for charset in ("cp1256", "iso8859-6", "utf-8"):
            right = sum(encoding.detect(t.encode(charset, "ignore")) == charset for t in texts)
            assert right >= 0.99 * len(texts), (name, charset)
        assert not any(encoding.repair_mojibake(t) is not None for t in texts)
