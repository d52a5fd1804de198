"""Files that are not here: S3, Google Cloud Storage and the Hugging Face hub, through Arrow's file systems.

Credentials come from the environment alone (AWS_*, GOOGLE_APPLICATION_CREDENTIALS, HF_TOKEN) and appear in no
message. What goes wrong is said in one line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import IO, Any, NamedTuple, cast

from fitra.errors import FitraError

SCHEMES = ("s3", "gs", "hf")
_CREDENTIALS = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE); for a public bucket AWS_SKIP_SIGNATURE=1; "
    "for another server than Amazon's AWS_ENDPOINT_URL.",
    "gs": "Set GOOGLE_APPLICATION_CREDENTIALS.",
    "hf": "Set HF_TOKEN, and accept the data set's terms on its page if it has some.",
}
_REASONS = (
    (r"no.?such.?bucket|bucket.*does not exist|resolve region", "no such bucket"),
    (r"access.?denied|forbidden|\b40[13]\b|unauthorized|no credentials|invalid.?access.?key|signature|gated"
     r"|expired.?token|credential|anonymous", "access denied, or no credentials"),
    (r"not.?found|no such (file|key)|nosuchkey|\b404\b|does not exist", "no such file"),
    (r"curlcode|connect|resolve host|network|timed? ?out|offline", "the server cannot be reached"),
)  # fmt: skip


class Entry(NamedTuple):
    """A remote file: its URL, its size in bytes, and a tag that changes when the file does."""

    url: str
    size: int
    tag: str


def is_remote(path: str) -> bool:
    """True for URLs, of known kinds or not."""
    return "://" in path


def split_url(url: str) -> tuple[str, str]:
    """Scheme and path of a URL. Raises FitraError for an unknown scheme and for credentials within the URL."""
    scheme, _, path = url.partition("://")
    if scheme not in SCHEMES:
        raise FitraError(f"{scheme}://: files there cannot be read.", "Known: local files, s3://, gs://, hf://.")
    if "@" in path.split("/", 1)[0] and scheme != "hf":
        raise FitraError(f"{scheme}://...: credentials do not belong into a path.", _CREDENTIALS[scheme])
    return scheme, path.rstrip("/")


def filesystem(scheme: str) -> Any:
    """The Arrow file system of a scheme, made once per process and set of credentials."""
    return _filesystem(scheme, tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith(("AWS_", "HF_")))))


@lru_cache(maxsize=8)
def _filesystem(scheme: str, environment: tuple[tuple[str, str], ...]) -> Any:
    from pyarrow import fs

    if scheme == "gs":
        return fs.GcsFileSystem()
    if scheme == "hf":
        try:
            from huggingface_hub import HfFileSystem
        except ImportError:
            raise FitraError("hf://: huggingface_hub is not installed.", "pip install 'fitra[hub]'") from None
        return fs.PyFileSystem(fs.FSSpecHandler(HfFileSystem()))
    env = dict(environment)
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
    return fs.S3FileSystem(
        endpoint_override=env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or None,
        region=region or None,
        anonymous=env.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true", "yes"),
        connect_timeout=10,
        request_timeout=60,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=3),
    )


@contextmanager
def plain_errors(url: str) -> Iterator[None]:
    """Turn what a file system throws into one line that names the URL, the reason and the remedy."""
    try:
        yield
    except FitraError:
        raise
    except Exception as e:  # botocore, hub and Arrow errors have no common parent
        if isinstance(e, MemoryError):
            raise
        scheme = url.partition("://")[0]
        said = f"{type(e).__name__} {e}"
        reason = next((short for pattern, short in _REASONS if re.search(pattern, said, re.IGNORECASE)), None)
        reason = reason or hide_secrets((str(e).splitlines() or [type(e).__name__])[0][:200])
        raise FitraError(f"{url}: {reason}.", _CREDENTIALS.get(scheme, "")) from None


def hide_secrets(text: str) -> str:
    """The text without what stands in the environment's keys and tokens."""
    for name, value in os.environ.items():
        if re.search("KEY|SECRET|TOKEN|PASSWORD", name) and len(value) >= 6:
            text = text.replace(value, f"${name}")
    return text


def listing(url: str) -> list[Entry]:
    """All files below a URL (a file, a folder, or a pattern with * ? [] **), sorted; hidden folders too.

    Raises FitraError for a bucket that is not there and for missing rights.
    """
    scheme, path = split_url(url)
    with plain_errors(url):
        from pyarrow import fs

        system = filesystem(scheme)
        parts = path.split("/")
        fixed = next((i for i, p in enumerate(parts) if re.search(r"[*?\[]", p)), len(parts))
        base = "/".join(parts[:fixed])
        if fixed == len(parts):
            info = system.get_file_info(base)
            if info.type == fs.FileType.File:
                return [_entry(scheme, info)]
        infos = system.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found="/" in base))
        wanted = re.compile(_regex(parts[fixed:]) if fixed < len(parts) else ".*", re.DOTALL)
        found = [i for i in infos if i.type == fs.FileType.File and wanted.fullmatch(i.path[len(base) :].lstrip("/"))]
        return sorted(_entry(scheme, i) for i in found)


def _entry(scheme: str, info: Any) -> Entry:
    return Entry(f"{scheme}://{info.path}", int(info.size or 0), f"{info.size}-{info.mtime_ns or 0}")


def _regex(parts: list[str]) -> str:
    """A glob as a regular expression, part by part of the path."""
    out = []
    for n, part in enumerate(parts):
        last = n == len(parts) - 1
        if part == "**":
            out.append(".*" if last else "(?:[^/]+/)*")
            continue
        pieces = re.split(r"(\*|\?|\[!?[^\]]+\])", part)
        signs = {"*": "[^/]*", "?": "[^/]"}
        out += [signs.get(p) or (p.replace("[!", "[^", 1) if p.startswith("[") else re.escape(p)) for p in pieces]
        out += [] if last else ["/"]
    return "".join(out)


def open_remote(url: str, *, seekable: bool) -> IO[bytes]:
    """Open for reading: `seekable` for parquet and byte ranges, else a stream with read-ahead."""
    scheme, path = split_url(url)
    with plain_errors(url):
        system = filesystem(scheme)
        opened = system.open_input_file(path) if seekable else system.open_input_stream(path, compression=None)
        return cast(IO[bytes], opened)
