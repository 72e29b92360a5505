"""An origin, or a host of the chain, that goes silent: whoever waits is answered by a deadline of
ours, wherever in a response that was, and all of it is well again when the other side is."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from edgecache.control import clock
from tests.running import LIMIT_S, Answer, Asked, Edge, ScriptedOrigin, Step, ask, ok
from tests.scripted_packager import Packager

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


def test_readiness_names_its_reason() -> None:
    """H8: while nobody can be asked others are to be sent elsewhere."""
    with Edge(["origin.urls=http://127.0.0.1:9", "origin.breaker_failures=1"]) as edge:
        assert ask(edge.admin, "GET", "/readyz", {}).status == 200
        assert edge.get("/nobody.m4s").status == 502
        told = ask(edge.admin, "GET", "/readyz", {})
        assert (told.status, json.loads(told.body)["reasons"]) == (503, ["no origin is healthy"])
        healthy = 'edge_upstream_healthy{origin="http://127.0.0.1:9"}'
        assert edge.metrics()[healthy] == 0
        assert edge.stop() == 0


def test_silence_of_a_parent_is_made_up_for_by_the_origin(
    origin: ScriptedOrigin, spare: ScriptedOrigin
) -> None:
    """It lives, as its clock says, and what it was asked for does not come. What it has begun the
    origin finishes: nobody is cut."""
    again = threading.Event()
    fresh = (FRESH, 'ETag: "one"')
    chunked = CHUNKED.replace(b"\r\n\r\n", b'\r\nETag: "one"\r\n\r\n')
    bodies = {
        "plain": (ok(BODY, *fresh), len(ok(b"", *fresh))),
        "chunks": (chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY), len(chunked)),
    }
    paths = []
    for framing, (whole, head) in bodies.items():
        for place in (0, 5, head - 2, head + 1, head + len(BODY) // 2, len(whole) - 1):
            paths.append(f"/below/{framing}-{place}.m4s")
            spare.says(paths[-1], whole[:place], again, whole[place:])
            origin.scripts[paths[-1]] = the_rest
    spare.says(clock.KEY.decode(), ok(b"0", "Cache-Control: no-store"))
    options = (
        f"chain.shield={spare.url}", f"origin.urls={origin.url}", *SHORT,
        "origin.first_byte=700ms", "origin.total=20s", "origin.attempts=3",
    )  # fmt: skip
    with Edge(options) as edge, ThreadPoolExecutor(64) as pool:
        try:
            found = list(pool.map(edge.get, paths))
        finally:
            again.set()
        assert [(answer.status, answer.body == BODY) for answer in found] == [(200, True)] * 12
        assert all(spare.count(path) == 1 for path in paths)
        edge.settled("edge_fills_running", 0)
        assert edge.stop() == 0


def the_rest(asked: Asked) -> Sequence[Step]:
    first = int(asked.fields.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
    if not first:
        return [ok(BODY, FRESH, 'ETag: "one"')]
    told = f"Content-Range: bytes {first}-{len(BODY) - 1}/{len(BODY)}"
    return [ok(BODY[first:], FRESH, 'ETag: "one"', told, status="206 Partial Content")]


@dataclass
class SilentOnce:
    """The first request whose target has `what` in it gets so many bytes of its answer, no more."""

    script: Callable[[Asked], Sequence[Step]]
    what: str
    place: int
    again: threading.Event
    struck: bool = False

    def __call__(self, asked: Asked) -> Sequence[Step]:
        steps = self.script(asked)
        if self.what not in asked.target or self.struck:
            return steps
        self.struck = True
        [whole] = steps
        assert isinstance(whole, bytes)
        return [whole[: self.place % len(whole)], self.again, "rst"]


def test_silence_anywhere_does_not_end_what_is_followed(origin: ScriptedOrigin) -> None:
    """The reload that the origin holds, a delta update, a part that is fetched ahead: each silent
    in several places, while viewers wait for the version after it."""
    again = threading.Event()
    lives: list[Packager] = []
    silences: list[SilentOnce] = []
    for kind, what in (("reload", "_HLS_msn"), ("delta", "_HLS_skip"), ("part", ".m4s")):
        for place in (0, 5, 60, -1):
            live = Packager(origin, f"/{kind}{place}/v.m3u8", target_s=1)
            lives.append(live)
            path = live.part(*live.version) if kind == "part" else live.path
            silences.append(SilentOnce(origin.scripts[path], what, place, again))
            origin.scripts[path] = silences[-1]
    with Edge([f"origin.urls={origin.url}", *SHORT]) as edge, ThreadPoolExecutor(64) as pool:
        assert {answer.status for answer in pool.map(edge.get, [live.path for live in lives])} == {
            200
        }
        for _ in range(2):
            for live in lives:
                live.advance()
        shown = list(pool.map(lambda live: newest(edge, live), lives))
        again.set()
        assert shown == [True] * len(lives)
        assert all(silence.struck for silence in silences)
        assert sum(edge.metrics().get(f"edge_follow_ended_total{{reason=\"{why}\"}}", 0)
                   for why in ("gone", "unreadable", "internal")) == 0  # fmt: skip
        edge.settled("edge_parked_now", 0)
        assert edge.stop() == 0


def newest(edge: Edge, live: Packager) -> bool:
    """It comes to be shown, by a reload that waits for it or the one after that, and so does the
    part that it names."""
    msn, part = live.version
    part -= 1
    target = f"{live.path}?_HLS_msn={msn}&_HLS_part={part}"
    deadline = time.monotonic() + LIMIT_S
    while edge.get(target).status != 200 or edge.get(live.part(msn, part)).status != 200:
        assert time.monotonic() < deadline, target
    return True
