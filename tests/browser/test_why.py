"""Why it does not play, in words: a scripted POP that answers badly, and a browser that asks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Final
from urllib.parse import urlsplit

import pytest

from origin.page import Asset, Pages
from tests.browser.chromium import Browser

FOREIGN: Final = (
    "#EXTM3U\n"
    '#EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=640x360,CODECS="dvh1.05.01,ec-3"\n'
    "a.m3u8\n"
)
MASTER: Final = (
    '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=640x360,CODECS="avc1.4D400D"\nv.m3u8\n'
)
JUST_BEGUN: Final = (  # parts, but no segment is whole yet
    "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=0.34\n"
    '#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-MAP:URI="i.mp4"\n'
    '#EXT-X-PART:DURATION=0.34,INDEPENDENT=YES,URI="7.0.m4s"\n'
)


@pytest.fixture
def browser(shared: Browser) -> Browser:
    return shared


@contextmanager
def pop(status: int, body: str | Callable[[str], str] = "") -> Iterator[str]:
    """The page, and `status` for everything live; yields the address of the watch page."""
    pages = Pages()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = urlsplit(self.path).path.rpartition("/")[2]
            asset = pages.watch(name) if self.path.startswith("/watch/") else pages.static(name)
            self.answer(asset)

        def answer(self, asset: Asset | None) -> None:
            text = body if isinstance(body, str) else body(self.path)
            content = asset.body if asset else text.encode()
            self.send_response(200 if asset else status)
            self.send_header("Content-Type", asset.content_type if asset else "text/plain")
            self.send_header("Content-Length", str(len(content)))
            if asset and asset.policy:
                self.send_header("Content-Security-Policy", asset.policy)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the browser says what it was answered."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/watch/any"
        finally:
            server.shutdown()
            thread.join(5)


@pytest.mark.parametrize(
    ("status", "body", "title", "retries"),
    [
        (404, "", "The stream is offline", True),
        (503, "", "The POP is draining or overloaded", True),
        (502, "", "The POP cannot reach the data centre", True),
        (403, "", "The POP refused the stream", True),
        (200, "<!doctype html>", "The stream cannot be read", True),
        (200, FOREIGN, "Your browser cannot decode dvh1.05.01, ec-3", False),
    ],
)
def test_it_says_why(
    browser: Browser, shot: Callable[[str], None],
    status: int, body: str, title: str, retries: bool,
) -> None:  # fmt: skip
    with pop(status, body) as url:
        browser.open(url)
        browser.until("document.querySelector('#notice-title').innerText !== 'Connecting'", 10)
        assert browser.text("#notice-title") == title
        shot(f"why-{len(body)}-{status}" if body else f"why-{status}")
        if retries:
            asked = "performance.getEntriesByName(location.origin + '/live/any/master.m3u8').length"
            assert browser.until(f"{asked} > 1", 15)
        assert browser.text("#notice-title") == title


@pytest.mark.parametrize(
    ("status", "body", "title"),
    [
        (404, "", "The stream is offline"),
        (503, "", "The POP is draining or overloaded"),
        (502, "", "The POP cannot reach the data centre"),
        (200, "no manifest", "The stream cannot be read"),
    ],
)
def test_dash_says_why(browser: Browser, status: int, body: str, title: str) -> None:
    with pop(status, body) as url:
        browser.open(f"{url}?player=dash")
        browser.until("document.querySelector('#notice-title').innerText !== 'Connecting'", 10)
        assert browser.text("#notice-title") == title
        asked = "performance.getEntriesByName(location.origin + '/live/any/manifest.mpd').length"
        assert browser.until(f"{asked} > 1", 15)
        assert browser.text("#notice-title") == title


def test_a_stream_that_has_just_begun_is_waited_for(browser: Browser) -> None:
    """hls.js calls it an error; its default is to give up after three playlists."""
    with pop(200, lambda path: MASTER if path.endswith("master.m3u8") else JUST_BEGUN) as url:
        browser.open(url)
        asked = "performance.getEntriesByName(location.origin + '/live/any/v.m3u8').length"
        assert browser.until(f"{asked} >= 5", 7)
        assert browser.figures()["phase"] == "connecting"


def test_it_says_that_the_pop_is_away_and_comes_back(browser: Browser) -> None:
    with pop(503) as url:
        browser.open(url)
        browser.until_figures("f.phase === 'failed'", 10)
    title = "document.querySelector('#notice-title').innerText"
    assert browser.until(f"{title} === 'No connection to the POP'", 15)
