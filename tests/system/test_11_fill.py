"""Misses: one request to the origin however many wait, and what they get when it misbehaves."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import xxhash

from tests.running import Answer, Asked, Edge, ScriptedOrigin, Step, ok, read_all, read_head

pytestmark = pytest.mark.timeout(60)

BODY = os.urandom(200_000)
DIGEST = xxhash.xxh3_128_hexdigest(BODY)
HEAD = b'HTTP/1.1 200 OK\r\nContent-Length: 200000\r\nETag: "' + DIGEST.encode() + b'"\r\n\r\n'


CUT = (http.client.IncompleteRead, ConnectionResetError)  # never mistaken for a whole body


def crowd(edge: Edge, path: str, count: int) -> list[Answer | Exception]:
    def one(_: int) -> Answer | Exception:
        try:
            return edge.get(path)
        except (http.client.HTTPException, OSError) as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_two_hundred_viewers_are_one_request(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.says("/crowd.m4s", 0.3, ok(BODY))
    answers = crowd(edge, "/crowd.m4s", 200)
    assert {a.status for a in answers if isinstance(a, Answer)} == {200}
    assert all(isinstance(a, Answer) and a.body == BODY for a in answers)
    assert origin.count("/crowd.m4s") == 1
    statuses = [a.fields["cache-status"] for a in answers if isinstance(a, Answer)]
    assert sum("fwd=" in s and "collapsed" not in s for s in statuses) == 1
    assert all("fwd=" in s or "hit" in s for s in statuses)


def test_bytes_reach_waiters_as_they_arrive(edge: Edge, origin: ScriptedOrigin) -> None:
    go = threading.Event()
    origin.says("/slow.m4s", HEAD + BODY[:1000], go, BODY[1000:])
    with edge.raw() as first, edge.raw() as second:
        for viewer in (first, second):
            viewer.sendall(b"GET /slow.m4s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        for viewer in (first, second):
            head, body = read_head(viewer)
            assert head.startswith(b"HTTP/1.1 200 ")
            while len(body) < 1000:
                body += viewer.recv(65536)
            assert body == BODY[:1000]
        go.set()
        assert read_all(first) == BODY[1000:]
        assert read_all(second) == BODY[1000:]
    assert origin.count("/slow.m4s") == 1


def test_the_origin_request_is_built_not_forwarded(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.says("/built.m4s", ok(b"x"))
    hostile = {
        "Cookie": "a=b", "X-Forwarded-Host": "evil", "X-Original-URL": "/admin",
        "X-HTTP-Method-Override": "DELETE", "Authorization": "Basic eA==", "Range": "bytes=0-0",
        "User-Agent": "evil", "Accept-Encoding": "br", "Origin": "http://evil",
        "CDN-Loop": "evil, edgecache-\"evil\", edgecache-EVIL",
    }  # fmt: skip
    assert edge.get("/built.m4s?x=1&token=abc", hostile).status == 206
    asked = [a for a in origin.asked if a.target.startswith("/built.m4s")]
    assert [a.raw for a in asked] == [
        b"GET /built.m4s HTTP/1.1\r\nHost: " + origin.url.removeprefix("http://").encode()
        + b"\r\nAccept-Encoding: identity\r\n" + asked[0].raw.rpartition(b"\r\n")[2]
    ]  # fmt: skip
    assert re.fullmatch(rb"Cdn-Loop: edgecache-edge-[0-9a-f]{8}", asked[0].raw.split(b"\r\n")[-1])
    edge.complete("/built.m4s")
    assert edge.get("/built.m4s?x=2").fields["cache-status"].startswith("edge; hit")
    assert origin.count("/built.m4s") == 1


def test_only_allowed_fields_reach_viewers(edge: Edge, origin: ScriptedOrigin) -> None:
    lines = ("Set-Cookie: id=1", "X-Secret: y", "Content-Type: video/mp4", "Server: o",
             "Cache-Control: max-age=60", "Access-Control-Allow-Origin: http://evil")  # fmt: skip
    origin.says("/fields.mp4", ok(b"abc", *lines))
    fields = edge.get("/fields.mp4").fields
    assert fields["content-type"] == "video/mp4"
    assert fields["cache-control"] == "max-age=60"
    assert fields["access-control-allow-origin"] == "*"
    edge.complete("/fields.mp4")
    assert edge.get("/fields.mp4").fields["etag"] == f'"{xxhash.xxh3_128_hexdigest(b"abc")}"'
    assert not {"set-cookie", "x-secret", "server"} & fields.keys()


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_cut_body_is_resumed_and_nobody_notices(
    edge: Edge, origin: ScriptedOrigin, how: str
) -> None:
    path = f"/cut-{how}.m4s"

    def script(asked: Asked) -> list[Step]:
        if "range" not in asked.fields:
            return [HEAD + BODY[:70_000], 0.1, how]
        start = int(asked.fields["range"].removeprefix("bytes=").rstrip("-"))
        assert asked.fields["if-match"] == f'"{DIGEST}"'
        lines = (f'ETag: "{DIGEST}"', f"Content-Range: bytes {start}-199999/200000")
        return [ok(BODY[start:], *lines, status="206 Partial Content")]

    origin.scripts[path] = script
    answers = crowd(edge, path, 50)
    assert all(isinstance(a, Answer) and a.body == BODY for a in answers), answers[:1]
    assert origin.count(path) == 2


def test_other_bytes_are_never_spliced(
    edge: Edge, origin: ScriptedOrigin, spare: ScriptedOrigin
) -> None:
    other = ok(os.urandom(200_000), 'ETag: "other"')
    for server in (origin, spare):
        server.scripts["/changed.m4s"] = lambda asked: (
            [other] if "range" in asked.fields else [HEAD + BODY[:70_000], 0.1, "fin"]
        )
    answers = crowd(edge, "/changed.m4s", 20)
    assert all(isinstance(a, CUT) for a in answers), answers[:1]
    assert all(
        BODY.startswith(a.partial) for a in answers if isinstance(a, http.client.IncompleteRead)
    )


def test_the_second_origin_continues_a_body(
    edge: Edge, origin: ScriptedOrigin, spare: ScriptedOrigin
) -> None:
    origin.scripts["/moved.m4s"] = lambda asked: (
        [ok(b"", status="503 Busy")] if "range" in asked.fields else [HEAD + BODY[:9], 0.1, "rst"]
    )
    lines = (f'ETag: "{DIGEST}"', "Content-Range: bytes 9-199999/200000")
    spare.says("/moved.m4s", ok(BODY[9:], *lines, status="206 Partial Content"))
    assert edge.get("/moved.m4s").body == BODY
    assert (origin.count("/moved.m4s"), spare.count("/moved.m4s")) == (2, 1)


@pytest.mark.parametrize(
    ("path", "script", "status"),
    [
        ("/500.m4s", [0.2, ok(b"oops", status="500 Oops")], 502),
        ("/hung.m4s", [3.0, "fin"], 504),
        ("/redirect.m4s", [ok(b"", "Location: http://169.254.169.254/", status="302 Found")], 502),
        ("/two-lengths.m4s", [ok(b"abc", "Content-Length: 2")], 502),
        ("/smuggled.m4s", [ok(b"0\r\n\r\n", "Transfer-Encoding: chunked")], 502),
        ("/ssh.m4s", [b"SSH-2.0-x\r\n", "fin"], 502),
        ("/huge.m4s", [b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"], 502),
    ],
)  # fmt: skip
def test_a_failure_reaches_all_waiters_together(
    edge: Edge,
    origin: ScriptedOrigin,
    spare: ScriptedOrigin,
    path: str,
    script: list[Step],
    status: int,
) -> None:
    for server in (origin, spare):
        server.says(path, *script)
    started = time.monotonic()
    answers = crowd(edge, path, 50)
    assert {a.status if isinstance(a, Answer) else a for a in answers} == {status}
    assert time.monotonic() - started < 5
    assert origin.count(path) == 1
    assert spare.count(path) <= 1


def test_an_outage_costs_the_origin_what_it_remembers(
    edge: Edge, origin: ScriptedOrigin, spare: ScriptedOrigin
) -> None:
    """However fast viewers ask again: one request to each origin a `cache.negative` (300 ms)."""
    for server in (origin, spare):
        server.says("/outage.m4s", ok(b"", status="500 Oops"))
    began, asked = time.monotonic(), 0
    while asked < 100 or time.monotonic() - began < 1.0:
        answers = crowd(edge, "/outage.m4s", 20)
        assert {a.status for a in answers if isinstance(a, Answer)} == {502}
        asked += len(answers)
    most = (time.monotonic() - began) / 0.3 + 1
    assert origin.count("/outage.m4s") <= most
    assert spare.count("/outage.m4s") <= most
    origin.says("/outage.m4s", ok(b"back"))
    while edge.get("/outage.m4s").status != 200:
        assert time.monotonic() - began < 15


def test_a_404_is_remembered_for_a_part_and_no_longer(edge: Edge, origin: ScriptedOrigin) -> None:
    assert {a.status for a in crowd(edge, "/late.m4s", 20) if isinstance(a, Answer)} == {404}
    assert origin.count("/late.m4s") == 1
    origin.says("/late.m4s", ok(b"here"))
    deadline = time.monotonic() + 5
    while (answer := edge.get("/late.m4s")).status == 404 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert answer.body == b"here"
    assert origin.count("/late.m4s") == 2


def test_a_wrong_digest_is_never_shown_whole(
    edge: Edge, origin: ScriptedOrigin, spare: ScriptedOrigin
) -> None:
    wrong = bytes([BODY[0] ^ 1]) + BODY[1:]
    for server in (origin, spare):
        server.says("/corrupt.m4s", HEAD + wrong[:100_000], 0.1, wrong[100_000:])
    answer = None
    with contextlib.suppress(*CUT):
        answer = edge.get("/corrupt.m4s")
    assert answer is None or answer.status == 502  # 502: it failed before the worker began
    edge.settled('edge_fill_failed_total{reason="digest"}', 1)
    assert origin.count("/corrupt.m4s") == 1


def test_extra_bytes_are_dropped_and_the_connection_with_them(
    edge: Edge, origin: ScriptedOrigin
) -> None:
    origin.says("/extra.m4s", ok(b"hello") + b"x" * 300)
    assert edge.get("/extra.m4s").body == b"hello"
    edge.settled(f'edge_upstream_failures_total{{origin="{origin.url}",reason="extra_bytes"}}', 1)


def test_chunked_bodies_are_whole_or_cut(
    edge: Edge, origin: ScriptedOrigin, spare: ScriptedOrigin
) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    origin.says("/chunked.m4s", chunked + b"0\r\n\r\n")
    assert edge.get("/chunked.m4s").body == b"hello"
    for server in (origin, spare):
        server.says("/chunk-cut.m4s", chunked, 0.1, "fin")
    with pytest.raises(CUT):
        edge.get("/chunk-cut.m4s")
    before = origin.count("/chunk-cut.m4s")
    origin.says("/chunk-cut.m4s", chunked + b"0\r\n\r\n")
    time.sleep(0.35)  # the failure is remembered for a part
    assert edge.get("/chunk-cut.m4s").body == b"hello"
    assert origin.count("/chunk-cut.m4s") == before + 1


def test_no_store_is_shared_with_those_who_wait_and_not_kept(
    edge: Edge, origin: ScriptedOrigin
) -> None:
    origin.says("/private.m4s", 0.3, ok(b"once", "Cache-Control: private, no-store"))
    answers = crowd(edge, "/private.m4s", 20)
    assert {a.body for a in answers if isinstance(a, Answer)} == {b"once"}
    shared = origin.count("/private.m4s")
    assert shared <= 2
    assert edge.get("/private.m4s").body == b"once"
    assert origin.count("/private.m4s") == shared + 1


def test_max_age_expires(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.says("/short.m3u8", ok(b"#EXTM3U\n", "Cache-Control: max-age=1"))
    edge.get("/short.m3u8")
    edge.get("/short.m3u8")
    assert origin.count("/short.m3u8") == 1
    time.sleep(1.1)
    edge.get("/short.m3u8")
    assert origin.count("/short.m3u8") == 2


def test_a_fill_goes_on_when_its_viewer_leaves(edge: Edge, origin: ScriptedOrigin) -> None:
    go = threading.Event()
    origin.says("/left.m4s", HEAD + BODY[:1000], go, BODY[1000:])
    with edge.raw() as viewer:
        viewer.sendall(b"GET /left.m4s HTTP/1.1\r\nHost: a\r\n\r\n")
        read_head(viewer)
    time.sleep(0.1)
    go.set()
    assert edge.get("/left.m4s").body == BODY
    assert origin.count("/left.m4s") == 1
