"""The viewers' door over real sockets: conditional answers, ranges, CORS, and hostile bytes."""

from __future__ import annotations

import os

import pytest

from tests.running import Edge, ScriptedOrigin, ask, ok, read_all

pytestmark = pytest.mark.timeout(60)

BODY = os.urandom(100_000)
ETAG = "0123456789abcdef"
GET = b"GET /http/a.m4s HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = GET.replace(b"Host: a", b"Host: a\r\nConnection: close")


@pytest.fixture(scope="module", autouse=True)
def stored(edge: Edge, origin: ScriptedOrigin) -> None:
    lines = (f'ETag: "{ETAG}"', "Content-Type: video/mp4", "Cache-Control: max-age=600")
    origin.says("/http/a.m4s", ok(BODY, *lines))
    assert edge.get("/http/a.m4s").body == BODY
    edge.settled("edge_fill_completed_total", 1)


def exchange(edge: Edge, *pieces: bytes) -> bytes:
    with edge.raw() as viewer:
        try:
            for piece in pieces:
                viewer.sendall(piece)
        except ConnectionError:
            pass  # refused before all was sent
        return read_all(viewer)


def test_validators(edge: Edge) -> None:
    for value in (f'"{ETAG}"', f'W/"{ETAG}"', f'"x", "{ETAG}"', "*"):
        answer = edge.get("/http/a.m4s", {"If-None-Match": value})
        assert (answer.status, answer.body) == (304, b"")
        assert answer.fields["etag"] == f'"{ETAG}"'
    assert edge.get("/http/a.m4s", {"If-None-Match": '"other"'}).body == BODY


@pytest.mark.parametrize(
    ("value", "status", "slice_"),
    [
        ("bytes=0-0", 206, slice(0, 1)),
        ("bytes=100-199", 206, slice(100, 200)),
        ("bytes=99999-", 206, slice(99_999, None)),
        ("bytes=-1", 206, slice(99_999, None)),
        ("bytes=-200000", 206, slice(0, None)),
        ("bytes=0-18446744073709551616", 206, slice(0, None)),
        ("bytes=100000-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=5-2", 200, slice(0, None)),
        ("bytes=a-b", 200, slice(0, None)),
        ("bytes=0-1,3-4", 200, slice(0, None)),
        ("lines=0-1", 200, slice(0, None)),
    ],
)
def test_ranges(edge: Edge, value: str, status: int, slice_: slice | None) -> None:
    answer = edge.get("/http/a.m4s", {"Range": value})
    assert answer.status == status
    if slice_ is None:
        assert answer.fields["content-range"] == "bytes */100000"
    else:
        assert answer.body == BODY[slice_]


def test_head_and_preflight(edge: Edge) -> None:
    head = ask(edge.http, "HEAD", "/http/a.m4s", {})
    assert (head.status, head.body, head.fields["content-length"]) == (200, b"", "100000")
    asked = {"Origin": "http://x", "Access-Control-Request-Method": "GET"}
    preflight = ask(edge.http, "OPTIONS", "/http/a.m4s", asked)
    assert preflight.status in (200, 204)
    assert preflight.fields["access-control-allow-origin"] == "*"


def test_what_players_may_read(edge: Edge) -> None:
    fields = edge.get("/http/a.m4s", {"Origin": "http://x"}).fields
    assert fields["access-control-allow-origin"] == "*"
    exposed = fields["access-control-expose-headers"].lower()
    assert all(name in exposed for name in ("age", "cache-status", "date", "etag"))
    assert fields["cache-status"].startswith("edge; hit")
    assert int(fields["age"]) >= 0


def test_pipelined_requests_are_answered_in_order(edge: Edge) -> None:
    answer = exchange(edge, GET * 20 + LAST)
    assert answer.count(b"HTTP/1.1 200 OK") == 21
    assert answer.count(BODY) == 21


def test_every_split_of_a_request(edge: Edge) -> None:
    for cut in range(1, len(LAST)):
        assert exchange(edge, LAST[:cut], LAST[cut:]).endswith(BODY)


def test_one_name_has_one_spelling(edge: Edge, origin: ScriptedOrigin) -> None:
    for target in ("/http/a.m4s?x=1", "/http/%61.m4s", "/http/a%2Em4s", "http://evil/http/a.m4s"):
        answer = exchange(edge, LAST.replace(b"/http/a.m4s", target.encode()))
        assert answer.endswith(BODY), target
    assert origin.count("/http/a.m4s") == 1


BAD = [
    (b"GET /http/a.m4s HTTP/1.1\r\n\r\n", 400),
    (b"GET /http/a.m4s HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET /http/a.m4s HTTP/1.1\r\nHost: a/b@c\r\n\r\n", 400),
    (b"GET /http/a.m4s HTTP/1.1\nHost: a\n\n", 400),
    (b"GET /http/a.m4s HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    (b"GET /http/a.m4s HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n", 400),
    (b"GET /http/a.m4s HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400),
    (b"GET /http/a.m4s HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 400),
    (b"GET /http/a.m4s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"GET /http/a.m4s HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n", 400),
    (b"GET /http/a.m4s HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    (b"GET /http/a.m4s HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    (b"get /http/a.m4s HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    (b"FOO /http/a.m4s HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    (b"TRACE /http/a.m4s HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    (b"DELETE /http/a.m4s HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 250 + b"\r\n", 431),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
]


@pytest.mark.parametrize(("request_bytes", "status"), BAD)
def test_bad_requests_are_refused_alone_and_behind_a_good_one(
    edge: Edge, origin: ScriptedOrigin, request_bytes: bytes, status: int
) -> None:
    asked = len(origin.asked)
    assert exchange(edge, request_bytes).startswith(b"HTTP/1.1 %d " % status)
    behind = exchange(edge, GET + request_bytes + GET)
    assert behind.startswith(b"HTTP/1.1 200 OK\r\n")
    _, _, refusal = behind.partition(BODY)
    assert refusal.startswith(b"HTTP/1.1 %d " % status)
    assert refusal.count(b"HTTP/1.1 ") == 1  # closed: nothing is resynchronised
    assert len(origin.asked) == asked


@pytest.mark.parametrize(
    "target",
    [
        b"/http/\x01",
        b"/http/%00",
        b"/../etc/passwd",
        b"/%2e%2e/etc",
        b"/http%2fa.m4s",
        b"//a",
        b"/\\a",
    ],
)
def test_a_bad_name_is_refused_and_the_connection_closed(
    edge: Edge, origin: ScriptedOrigin, target: bytes
) -> None:
    asked = len(origin.asked)
    answer = exchange(edge, GET + GET.replace(b"/http/a.m4s", target) + LAST)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 1
    assert answer.count(b"HTTP/1.1 400 ") == 1
    assert answer.endswith(b"400 Bad Request\n")
    assert len(origin.asked) == asked


@pytest.mark.parametrize(
    "line",
    [
        b"Expect: 100-continue",
        b"Upgrade: h2c",
        b"Connection: host",
        b"Max-Forwards: 0",
        b"TE: trailers",
    ],
)
def test_fields_that_change_nothing(edge: Edge, line: bytes) -> None:
    answer = exchange(edge, GET.replace(b"Host: a", b"Host: a\r\n" + line) + LAST)
    assert answer.count(b"HTTP/1.1 ") == 2
    assert answer.count(BODY) == 2
