"""An origin that goes silent: whoever waits is answered by a deadline of ours, wherever in a
response that was, and all of it is well again when the origin is."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.running import LIMIT_S, Answer, Edge, ScriptedOrigin, ok

pytestmark = pytest.mark.timeout(60)

FRESH = "Cache-Control: max-age=600"
BODY = bytes(range(256)) * 400
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:2,\n/m/7.m4s\n"
CHUNKED = b"HTTP/1.1 200 OK\r\n" + FRESH.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
SHORT = (
    "origin.first_byte=300ms", "origin.blocking=500ms", "origin.total=1s", "origin.attempts=2",
    "origin.breaker_failures=1000", "cache.negative=0s", "http.workers=2",
    "origin.silence=300ms",
    'route=[{prefix="/vod/",kind="vod"},{prefix="/page/",kind="http"},{prefix="/"}]',
)  # fmt: skip


def answers(body: bytes) -> dict[str, tuple[bytes, int]]:
    """Whole responses and, behind it, where their heads end: with a length, and in chunks."""
    plain = ok(body, FRESH)
    chunks = CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return {"plain": (plain, len(plain) - len(body)), "chunks": (chunks, len(CHUNKED))}


def stalls() -> Iterator[tuple[str, bytes, int, bool]]:
    """(path, response, bytes of it before the silence, is the head among them?)"""
    for kind, suffix, body in (
        ("/media", ".m4s", BODY),
        ("/vod", ".bin", BODY),
        ("/page", ".html", BODY),
        ("/text", ".m3u8", PLAYLIST),
    ):
        for framing, (whole, head) in answers(body).items():
            places = (0, 5, head - 2, head, head + len(body) // 2, len(whole) - 1)
            for place in places:
                yield f"{kind}/{framing}-{place}{suffix}", whole, place, place >= head


def outcome(edge: Edge, path: str) -> Answer | None:
    """None: cut, in whatever way."""
    try:
        return edge.get(path)
    except (http.client.HTTPException, ConnectionError):
        return None


def test_silence_in_any_state_of_a_fetch_ends_by_itself(origin: ScriptedOrigin) -> None:
    """Whoever asked is answered while the origin is silent still, and the next one gets it all."""
    again = threading.Event()
    cases = list(stalls())
    for path, whole, place, _ in cases:
        origin.says(path, whole[:place], again, whole[place:])
    with Edge([f"origin.urls={origin.url}", *SHORT]) as edge, ThreadPoolExecutor(64) as pool:
        try:
            began = time.monotonic()
            found = list(pool.map(lambda case: outcome(edge, case[0]), cases))
            took_s = time.monotonic() - began
        finally:
            again.set()
        assert took_s < LIMIT_S
        for (path, _, _, headed), answer in zip(cases, found, strict=True):
            refused = answer is not None and answer.status in (502, 503, 504)
            assert refused or (headed and answer is None), (path, answer)
        for name in ("fills_running", "parked_now"):
            edge.settled(f"edge_{name}", 0)
        for path, whole, _, _ in cases:
            body = PLAYLIST if path.endswith(".m3u8") else BODY
            assert body in whole
            assert edge.get(path).body == body, path
        assert edge.stop() == 0
