"""Web archives: the main text of each HTML page of a WARC, the texts of a WET.

FastWARC reads the archive, Resiliparse the HTML (both Apache-2.0; `pip install 'fitra[crawl]'`).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import urlsplit

import xxhash

from fitra.errors import FitraError
from fitra.tables import encoding
from fitra.tables.batch import Row, set_label
from fitra.tables.files import Damaged, blocks, name_of
from fitra.tables.remote import hide_secrets

if TYPE_CHECKING:
    from fitra.tables.splits import Split

MAX_PAGE_BYTES = 16 << 20  # unpacked; Common Crawl itself cuts pages at 5 MB
MAX_DEPTH = 256  # elements within elements; finding the main text takes time in its square
_DEEP = ">".join(["*"] * MAX_DEPTH)
_META = re.compile(rb"<(?:meta|\?xml)\b[^>]{0,300}?(?:charset|encoding)\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{2,30})", re.I)
_HTML = ("text/html", "application/xhtml+xml")
MAX_LINKS = 5000  # a page of more is left as it is: looking at all of them would take too long
_LINKS = 0.7  # share of a cell's text within links above which it is navigation


def records(split: Split, text: str) -> Iterator[tuple[str, Row | None, str]]:
    """(where, row, reason) of each page; requests, metadata and repeats of pages are no pages and left out.

    A row has the text, id (of the record), url, date, source (the host), title; `where` is file:number of the record.
    Raises FitraError when FastWARC is not installed, Damaged where the archive breaks.
    """
    try:
        from fastwarc.warc import ArchiveIterator, WarcRecordType
    except ImportError:
        raise FitraError(
            f"{split.path}: WARC files need FastWARC and Resiliparse.", "pip install 'fitra[crawl]'"
        ) from None
    name, number = name_of(split.path), 0
    packed = split.path.lower().endswith((".gz", ".zst"))
    wanted = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.conversion
    stream = _Unpacked(blocks(split.path))
    archive = iter(ArchiveIterator(cast(BinaryIO, stream), parse_http=False))
    while True:
        try:
            record = next(archive)
        except StopIteration:
            break
        except Exception as e:  # FastWARC raises its own kinds
            raise Damaged(f"the archive breaks after record {number}: {hide_secrets(str(e))[:200]}") from None
        number += 1
        row, reason = None, ""
        end = record.stream_pos + record.content_length  # of what is stored, before a body is unpacked
        if record.record_type & wanted:
            try:
                row, reason = _page(record, text, WarcRecordType)
            except BaseException as e:  # a hostile page must not end the file, nor a panic of the parser
                if not isinstance(e, Exception) and type(e).__name__ != "PanicException":
                    raise
                reason = f"cannot be parsed: {hide_secrets(str(e))[:100] or type(e).__name__}"
        record.consume()
        if stream.problem or (not packed and end > split.size):
            raise Damaged(f"record {number} is cut: {stream.problem or 'the file ends too early'}")
        if reason or row is not None:
            yield f"{name}:{number}", row, reason
    if stream.problem or not number:
        raise Damaged(str(stream.problem or "no WARC record"))


class _Unpacked:
    """Blocks as the kind of file that FastWARC reads; what breaks it is kept, for FastWARC takes it for the end."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces, self.block, self.at, self.before = pieces, b"", 0, 0
        self.problem: Exception | None = None

    def tell(self) -> int:
        return self.before + self.at

    def read(self, size: int = -1) -> bytes:
        if self.at == len(self.block):
            self.before += self.at
            try:
                self.block, self.at = next(self.pieces, b""), 0
            except (Damaged, OSError, FitraError) as e:
                self.problem, self.block, self.at = e, b"", 0
        out = self.block[self.at : self.at + size] if size >= 0 else self.block[self.at :]
        self.at += len(out)
        return out


def _page(record: Any, text: str, types: Any) -> tuple[Row | None, str]:
    headers = record.headers
    url = (headers.get("WARC-Target-URI") or "").strip("<> ")
    row: Row = {
        text: "",
        "id": (headers.get("WARC-Record-ID") or "").strip("<> ").removeprefix("urn:uuid:")
        or f"url-{xxhash.xxh3_128_hexdigest(url.encode('utf-8', 'replace'))}",
        "url": url or None,
        "date": headers.get("WARC-Date"),
        "source": host(url),
    }
    if record.content_length > 2 * MAX_PAGE_BYTES:
        return None, f"a page of more than {MAX_PAGE_BYTES >> 20} MB"
    record.freeze()  # a page left unread in the middle of its compressed body must not cost the next record
    if record.record_type == types.conversion:
        return _finish(row, text, *encoding.decode(record.reader.read(MAX_PAGE_BYTES)), "")
    declared: list[str | None] = []
    kind = (headers.get("Content-Type") or "").lower()
    if record.record_type == types.response:
        if not url.startswith(("http:", "https:")):
            return None, "not HTTP"
        record.parse_http(auto_decode="all")
        http = record.http_headers
        if http.status_code != 200:
            return None, f"HTTP status {http.status_code}"
        kind = (http.get("Content-Type") or "").lower()
        declared.append(kind.partition("charset=")[2].split(";")[0] or None)
    mime = kind.split(";")[0].strip()
    raw = record.reader.read(MAX_PAGE_BYTES + 1)
    if len(raw) > MAX_PAGE_BYTES:
        return None, f"a page of more than {MAX_PAGE_BYTES >> 20} MB"
    if mime == "text/plain":
        return _finish(row, text, *encoding.decode(raw, declared, "cp1252"), "")
    if mime not in _HTML and (mime or not re.search(rb"<(?:!doctype html|html|head|body)", raw[:2048], re.I)):
        return None, f"{mime[:60] or 'of no stated kind'}, not HTML"
    page, charset, title = main_text(raw, declared)
    return _finish(row, text, page, charset, title)


def _finish(row: Row, text: str, page: str, charset: str, title: str) -> tuple[Row | None, str]:
    if not page.strip():
        return None, "no main text"
    row[text] = page
    row["title"] = title or None
    if charset != "utf-8":
        set_label(row, "charset", charset)
    return row, ""


def host(url: str) -> str | None:
    """The host of a URL in small letters, without www. and port."""
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.") or None
    except ValueError:
        return None


def main_text(raw: bytes, declared: list[str | None]) -> tuple[str, str, str]:
    """Main text, charset and title of an HTML page; the text is "" when there is none.

    `declared` are charsets named outside the page (HTTP header). Menus, cookie bars, footers and comments are left
    out, paragraphs and lines stay. Raises ValueError for a page nested too deeply.
    """
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    found = _META.search(raw[:4096])
    meta = found[1].decode("ascii") if found else None
    page, charset = encoding.decode(raw, [*declared, meta], "cp1252")
    tree = HTMLTree.parse(page.replace("\0", ""))
    if tree.document is None or tree.body is None:
        return "", charset, ""
    if tree.document.query_selector(_DEEP):
        raise ValueError("nested too deeply")
    _prune_links(tree)
    got = extract_plain_text(tree, main_content=True, alt_texts=False, links=False, comments=False, post_meta=False)
    title = html.unescape(tree.title or "")
    return _tidy(got), charset, " ".join(title.split())[:500]


def _prune_links(tree: Any) -> None:
    """Take out table cells of three or more links that are little else: the menus of pages laid out in tables."""
    cells = tree.body.query_selector_all("td")
    if not cells or not 3 <= len(tree.body.query_selector_all("a")) <= MAX_LINKS:
        return
    menus = []
    for node in cells[:MAX_LINKS]:  # a slice: each single item would search the page anew
        links = node.query_selector_all("a")
        if len(links) >= 3:
            linked = sum(len("".join(a.text.split())) for a in links[:])
            if linked > _LINKS * len("".join(node.text.split())):
                menus.append(node)
    # What lies within another is freed with it and must not be touched again.
    found = set(menus)
    for node in [n for n in menus if not any(a in found for a in _ancestors(n))]:
        node.decompose()


def _ancestors(node: Any) -> Iterator[Any]:
    while (node := node.parent) is not None:
        yield node


def _tidy(text: str) -> str:
    """No trailing blanks, no more than one empty line, cells of a layout table on lines of their own."""
    text = re.sub(r"[ \t\xa0]*\t[ \t\xa0]*", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \xa0]+(?=\n)", "", text)).strip()
