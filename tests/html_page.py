"""A page as the tests look at it: every tag closed, every attribute seen, the words a reader sees."""

from __future__ import annotations

import re
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest


class Page(HTMLParser):
    """Tags, attributes and balance of a page."""

    VOID = {"meta", "br", "rect", "img", "link", "input", "hr", "wbr"}

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attrs: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attrs.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attrs.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:  # an SVG shape may be closed
            return
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1:]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        """All visible text, white space folded."""
        return " ".join(" ".join(self.text).split())


def drawn(html: str, folder: Path, width: int, also: str = "''") -> tuple[int, str, str, str]:
    """A page as Chromium draws it in a frame `width` pixels wide: a window cannot be as narrow as a phone.

    (its width, how many scripts it has, whether one ran, the value of the JavaScript expression `also`, in which `d` is
    the page's document). The page has no script: the frame measures it. Its security policy is taken off, so that
    whatever script got through would run and change the title. Skips where there is no Chromium.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium on this machine")
    loose = html.replace("Content-Security-Policy", "x-none")
    assert loose != html, "the page has no security policy"
    measure = (
        "onload=()=>{const d=document.querySelector('iframe').contentDocument;"
        "out.textContent=`wide ${d.documentElement.scrollWidth} scripts ${d.scripts.length}`"
        f"+` ran ${{document.title}} also ${{{also}}};`}}"
    )
    frame, shot = folder / "frame.html", folder / "shot.png"
    frame.write_text(
        "<title>no</title><script>window.alert=()=>{document.title='yes'}</script>"
        f'<body style="margin:0"><iframe style="border:0;width:{width}px;height:3000px" '
        f'srcdoc="{escape(loose)}"></iframe>'
        f"<p id=out></p><script>{measure}</script>",
        encoding="utf-8",
    )
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        f"--disable-component-update --disable-sync --user-data-dir={folder / 'profile'} --window-size=1300,3100"
    )
    command = [chromium, *flags.split()]
    subprocess.run([*command, f"--screenshot={shot}", frame.as_uri()], check=True, timeout=120, capture_output=True)
    assert shot.stat().st_size > 20_000
    done = subprocess.run(
        [*command, "--dump-dom", frame.as_uri()], check=True, timeout=120, capture_output=True, text=True
    )
    wide, scripts, ran, found = re.findall(r">wide (\d+) scripts (\d+) ran (\w+) also (.*?);<", done.stdout)[-1]
    return int(wide), scripts, ran, found
