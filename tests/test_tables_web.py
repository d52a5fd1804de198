"""Web archives and object stores: main text in the right charset, and every page that is none says why."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_tables import ARTICLE, SENTENCES, gather, lines, misread

from fitra import tables
from fitra.errors import FitraError
from fitra.tables import remote

MENU = "".join(
    f'<li><a href="/{i}">{m}</a></li>' for i, m in enumerate(["الرئيسية", "سياسة", "اقتصاد", "رياضة", "ثقافة"])
)
COOKIES = "نستخدم ملفات تعريف الارتباط لتحسين تجربتك"
RIGHTS = "جميع الحقوق محفوظة"


def page(meta: str = "", body: str = ARTICLE) -> str:
    return f"""<!DOCTYPE html><html dir="rtl" lang="ar"><head>{meta}<title>معرض الكتاب</title></head>
<body><script>var x=1</script><div id="cookie-banner" class="cookie-consent"><p>{COOKIES}</p></div>
<header><nav class="menu"><ul>{MENU}</ul></nav></header><main><article><h1>افتتاح المعرض</h1><p>{body}</p><p>{body}</p>
</article><aside class="sidebar"><ul>{MENU}</ul></aside></main><section class="comments"><p>تعليق زائر</p></section>
<footer><p>{RIGHTS}</p></footer></body></html>"""


def record(kind: str, url: str, payload: bytes, n: int = 0) -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2024-05-01T00:00:00Z\r\n"
    head += f"WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-{n:012d}>\r\nContent-Type: {{}}\r\n"
    media = {"response": "application/http; msgtype=response", "conversion": "text/plain"}.get(kind, "text/html")
    return head.format(media).encode() + f"Content-Length: {len(payload)}\r\n\r\n".encode() + payload + b"\r\n\r\n"


def response(body: bytes, kind: str = "text/html", status: str = "200 OK", more: str = "", n: int = 0) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return record("response", f"https://www.Example.org:443/p/{n}", head.encode() + body, n)


def archive(path: Path, records: list[bytes]) -> Path:
    path.write_bytes(b"".join(map(gzip.compress, records)) if path.suffix == ".gz" else b"".join(records))
    return path


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
def test_pages_and_what_is_none(tmp_path: Path, name: str) -> None:
    records = [
        record("warcinfo", "", b"software: x\r\n"),
        record("request", "https://example.org/", b"GET / HTTP/1.1\r\n\r\n"),
        response(page().encode(), "text/html; charset=utf-8", n=3),
        response(b"gone", status="404 Not Found", n=4),
        response(b"\x89PNG", "image/png", n=5),
        response(b"<html><body></body></html>", n=6),
        response(b"<div>" * 5000 + b"x", n=7),
        response(gzip.compress(page().encode()), more="Content-Encoding: gzip\r\n", n=8),
        response(gzip.compress(b"<html>" + bytes(40 << 20)), more="Content-Encoding: gzip\r\n", n=9),
        response(ARTICLE.encode("cp1256"), "text/plain", n=10),
        record("resource", "https://b.example.org/x", page().encode(), 11),
    ]
    rows, bad = gather(tables.read(archive(tmp_path / name, records)))
    assert [r["_where"] for r in rows] == [f"{name}:{n}" for n in (3, 8, 10, 11)]
    first = rows[0]
    assert first["id"] == "00000000-0000-0000-0000-000000000003" and first["date"] == "2024-05-01T00:00:00Z"
    assert (first["source"], first["title"]) == ("example.org", "معرض الكتاب") and first["url"].endswith("/p/3")
    assert first["text"].count(ARTICLE) == 2 and rows[1]["text"] == first["text"]
    assert not any(x in first["text"] for x in (COOKIES, RIGHTS, "رياضة", "تعليق", "var x"))
    assert rows[2]["text"] == ARTICLE and rows[2]["labels"] == {"charset": "cp1256"}
    assert [(b["where"].split(":")[1], b["reason"]) for b in bad] == [
        ("4", "HTTP status 404"), ("5", "image/png, not HTML"), ("6", "no main text"),
        ("7", "cannot be parsed: nested too deeply"), ("9", "a page of more than 16 MB"),
    ]  # fmt: skip


@pytest.mark.parametrize("said", ["", "utf-8", "iso-8859-1", "windows-1252", "windows-1256", "unicode_escape"])
@pytest.mark.parametrize("true", ["utf-8", "cp1256", "iso8859-6", "utf-16"])
def test_declared_charsets_are_believed_only_where_the_bytes_agree(tmp_path: Path, true: str, said: str) -> None:
    plain = ARTICLE.replace("،", "")
    meta = f'<meta http-equiv="Content-Type" content="text/html; charset={said}">' if said else ""
    for n, (head, kind) in enumerate([(meta, "text/html"), ("", f"text/html; charset={said}")]):
        raw = page(head, plain).encode(true)
        rows, _ = gather(tables.read(archive(tmp_path / f"{n}.warc", [response(raw, kind)])))
        assert plain in rows[0]["text"], rows[0]["text"][:200]


def test_a_declared_western_page_is_read_as_declared(tmp_path: Path) -> None:
    body = "Les élèves étudient l'été à Besançon, où ils ont été très bien reçus. " * 3
    raw = page('<meta charset="iso-8859-1">', body).replace("،", "").encode("cp1252", "ignore")
    assert body.strip() in gather(tables.read(archive(tmp_path / "a.warc", [response(raw)])))[0][0]["text"]


def test_menus_of_table_layouts_and_mojibake(tmp_path: Path) -> None:
    links = "".join(f'<a href="x">رابط القائمة {i}</a><br>' for i in range(9))
    old = f"<html><body><table><tr><td>{links}</td><td>{'<br>'.join(SENTENCES)}</td></tr></table></body></html>"
    broken = page('<meta charset="utf-8">', misread(ARTICLE, "cp1252"))
    rows, _ = gather(
        tables.read(archive(tmp_path / "a.warc", [response(old.encode()), response(broken.encode(), n=1)]))
    )
    assert rows[0]["text"] == "\n".join(SENTENCES)
    assert ARTICLE in rows[1]["text"] and rows[1]["labels"] == {"repaired": "mojibake"}


def test_wet(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "a.warc.wet.gz", [record("conversion", f"http://x.com/{s}", s.encode()) for s in SENTENCES]
    )
    rows, bad = gather(tables.read(path))
    assert [r["text"] for r in rows] == list(SENTENCES) and not bad and rows[0]["source"] == "x.com"


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
def test_pages_before_the_break_are_kept(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / name, [response(page(body=f"{ARTICLE} {n}").encode(), n=n) for n in range(20)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    rows, bad = gather(tables.read(path))
    assert 10 <= len(rows) <= 15 and len(bad) >= 1, bad
    (tmp_path / "no.warc.gz").write_bytes(b"this is no archive at all")
    with pytest.raises(FitraError, match=r"no\.warc\.gz"):
        gather(tables.read(tmp_path / "no.warc.gz"))


def test_without_fastwarc_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastwarc.warc", None)
    with pytest.raises(FitraError, match=r"fitra\[crawl\]"):
        gather(tables.read(archive(tmp_path / "a.warc", [response(page().encode())])))


# --- object stores -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto = pytest.importorskip("moto.server")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


KEY = "secret-that-nobody-may-see"


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    for name, value in {
        "AWS_ENDPOINT_URL": server, "AWS_ACCESS_KEY_ID": "canary-id", "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    system = remote.filesystem("s3")
    import boto3

    boto3.client("s3", endpoint_url=server).create_bucket(Bucket="corpus")

    def put(name: str, data: bytes) -> None:
        with system.open_output_stream(f"corpus/{name}", compression=None) as f:
            f.write(data)

    return put


def test_s3_reads_as_local_does(bucket: Any, tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl.gz", "x/c.parquet", "x/y/d.txt", "x/e.png"):
        local = tmp_path / "in" / name
        local.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("parquet"):
            pq.write_table(pa.table({"text": [f"{ARTICLE} {i}" for i in range(50)]}), local, row_group_size=10)
        else:
            raw = b"".join(lines(9)) if "json" in name else ARTICLE.encode()
            local.write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
        bucket(f"in/{name}", local.read_bytes())
    here, there = tables.find(str(tmp_path / "in")), tables.find("s3://corpus/in/")
    assert there.ignored == ["e.png"] and [f.size for f in there.files] == [f.size for f in here.files]
    assert [f.path.removeprefix("s3://corpus/in/") for f in there.files] == [
        Path(f).relative_to(tmp_path / "in").as_posix() for f in here.files
    ]
    got, want = (
        gather(b for p in tables.splits(f, 3000) for b in tables.read_split(p)) for f in (there.files, here.files)
    )
    assert got == want and len(got[0]) == 69
    for pattern, n in [("in/*.jsonl*", 2), ("in/**/*.txt", 1), ("in/x/?.parquet", 1), ("in/**/[ac].*", 2)]:
        assert len(tables.resolve(f"s3://corpus/{pattern}")) == n, pattern
    assert len(gather(tables.read("s3://corpus/in/b.jsonl.gz"))[0]) == 9
    tag = tables.identity("s3://corpus/in/a.jsonl")
    bucket("in/a.jsonl", b"".join(lines(8)))
    assert tables.identity("s3://corpus/in/a.jsonl") != tag


def test_a_finished_stage_on_s3_stands_for_its_documents(bucket: Any) -> None:
    bucket("stage/manifest.json", b"{}")
    bucket("stage/removed/a.jsonl", lines(1)[0])
    bucket("stage/documents/a.jsonl", lines(1)[0])
    assert [f.path for f in tables.resolve("s3://corpus/stage")] == ["s3://corpus/stage/documents/a.jsonl"]


def test_what_is_wrong_with_s3_is_one_line(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for url, says in [
        ("s3://nowhere/a.jsonl", "no such"), ("s3://nowhere/x/*.jsonl", "no such"),
        ("s3://corpus/none.jsonl", "no such file"),
        ("s3://id:secret@corpus/a.jsonl", "do not belong"), ("ftp://host/a.jsonl", "cannot be read"),
    ]:  # fmt: skip
        with pytest.raises(FitraError, match=says) as e:
            tables.resolve(url)
        assert "\n" not in str(e.value) and KEY not in str(e.value) and "id:secret" not in str(e.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(FitraError, match="cannot be reached"):
        tables.resolve("s3://corpus/a.jsonl")


def test_messages_of_object_stores() -> None:
    cases = {"AWS Error ACCESS_DENIED during HeadObject": "access denied", "HTTP response code 403": "access denied",
             "NoSuchBucket: x": "no such bucket", "401 Client Error: Unauthorized": "access denied"}  # fmt: skip
    for said, short in cases.items():
        with pytest.raises(FitraError, match=short) as e, remote.plain_errors("s3://b/k"):
            raise OSError(said)
        assert "AWS_ACCESS_KEY_ID" in e.value.hint


def test_the_hub_through_its_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dirfs = pytest.importorskip("fsspec.implementations.dirfs")
    local = pytest.importorskip("fsspec.implementations.local")
    hub = pytest.importorskip("huggingface_hub")
    (tmp_path / "datasets/me/set").mkdir(parents=True)
    (tmp_path / "datasets/me/set/a.jsonl").write_bytes(b"".join(lines(3)))
    below = dirfs.DirFileSystem(str(tmp_path), local.LocalFileSystem())
    monkeypatch.setattr(hub, "HfFileSystem", lambda: below)
    monkeypatch.setenv("HF_TOKEN", "another")  # not the file system kept from before
    rows, _ = gather(tables.read_split(tables.splits(["hf://datasets/me/set/*.jsonl"])[0]))
    assert len(rows) == 3
    monkeypatch.setenv("HF_TOKEN", "a third")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FitraError, match=r"fitra\[hub\]"):
        tables.resolve("hf://datasets/me/set")


def test_credentials_that_s3_does_not_know_are_one_line(server: str, tmp_path: Path) -> None:
    """In a process of its own, where the server checks keys."""
    code = (
        "import sys; from moto.server import ThreadedMotoServer\n"
        "s = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False); s.start()\n"
        "import os; os.environ['AWS_ENDPOINT_URL'] = 'http://%s:%d' % s.get_host_and_port()\n"
        "from fitra import tables; from fitra.errors import FitraError\n"
        "try: tables.resolve('s3://private/a.jsonl')\n"
        "except FitraError as e: print(e)\n"
        "s.stop()"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    env |= {"INITIAL_NO_AUTH_ACTION_COUNT": "0", "AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "us-east-1",
            "HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": "unknown-id", "AWS_SECRET_ACCESS_KEY": KEY}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("s3://private/a.jsonl: access denied, or no credentials. Set AWS_ACCESS_KEY_ID"), done
    assert done.stdout.count("\n") == 1 and KEY not in done.stdout and "unknown-id" not in done.stdout
