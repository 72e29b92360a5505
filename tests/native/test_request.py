"""The request-head parser: what it reads, what it refuses, where it stops (native/request.pxd)."""

from __future__ import annotations

import pytest

from tests.native._probe import accepts_gzip, elements, request_end, request_parse

HOST = b"Host: a\r\n"
VALID = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a HTTP/1.0\r\n\r\n",
    b"HEAD /a?b=c HTTP/1.1\r\nhost:a:80\r\nAccept: */*\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n",
    b'GET http://a/b HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\nIf-Range: "x"\r\n\r\n',
    b"GET /a HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-Tab: \ta\tb\t\r\nX-Obs: \x80\xff\r\n\r\n",
    b'GET /a HTTP/1.1\r\nHost: a\r\nIf-None-Match: "1"\r\nAccept-Encoding: gzip\r\n\r\n',
    b"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nUpgrade: h2c\r\nTE: trailers\r\n\r\n",
]


def parsed(data: bytes) -> dict[str, bytes | int | bool]:
    found = request_parse(data)
    assert isinstance(found, dict), found
    return found


@pytest.mark.parametrize("data", VALID)
def test_every_prefix_of_a_head_is_partial(data: bytes) -> None:
    """Whatever was looked at before: the rest of the head may be searched from any earlier end."""
    for end in range(len(data)):
        assert request_end(data[:end]) == 0, data[:end]
        assert request_end(data, max(0, end - 2)) == len(data)
    assert request_end(data + b"GET /next", 0) == len(data)


@pytest.mark.parametrize("data", VALID)
def test_every_prefix_is_refused_if_it_is_taken_for_a_head(data: bytes) -> None:
    """The parser reads no byte past what it is given (see at_the_edge) and believes no fragment."""
    assert parsed(data)["head_len"] == len(data)
    for end in range(len(data) - 2):
        if not data[:end].endswith(b"\r\n") or b"HTTP/1.1\r\nHost" not in data[:end].title():
            found = request_parse(data[:end])
            assert isinstance(found, int) or data[:end].endswith(b"\r\n"), data[:end]


@pytest.mark.parametrize("mark", [b"\n\n", b"\n\r\n", b"\r\n\r\n", b"a\n\nb"])
def test_bare_line_feeds_end_a_head_too(mark: bytes) -> None:
    """To be refused at once, not waited on until a deadline."""
    assert request_end(b"GET" + mark) > 0


def test_what_is_read() -> None:
    found = parsed(
        b'HEAD /p?q HTTP/1.1\r\nhOsT:  h:1 \r\nRANGE: bytes=1-\r\nif-none-match:\t"e"\r\n'
        b'If-Range: "r"\r\nAccept-Encoding: br, gzip\r\nX: y\r\n\r\n'
    )
    assert found == {
        "method": b"HEAD", "target": b"/p?q", "host": b"h:1", "range": b"bytes=1-",
        "if_none_match": b'"e"', "if_range": b'"r"', "fields": 6, "minor": 1, "keep_alive": True,
        "gzip": True, "head_len": found["head_len"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "minor", "kept"),
    [
        (b"", 1, True), (b"", 0, False),
        (b"Connection: close\r\n", 1, False), (b"Connection: keep-alive\r\n", 0, True),
        (b"Connection: Keep-Alive\r\nConnection: CLOSE\r\n", 0, False),
        (b"Connection: close\r\nConnection: keep-alive\r\n", 0, False),
        (b"Connection: close, keep-alive\r\n", 1, False),
        (b"Connection: closed\r\n", 1, True), (b"Connection: upgrade, host\r\n", 1, True),
    ],
)  # fmt: skip
def test_persistence(fields: bytes, minor: int, kept: bool) -> None:
    """RFC 9112 9.3: close, if it is there; else the version's default."""
    assert parsed(b"GET / HTTP/1.%d\r\n" % minor + HOST + fields + b"\r\n")["keep_alive"] is kept


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET / HTTP/1.2", 505), (b"GET / HTTP/2.0", 505), (b"GET / HTTP/0.9", 505),
        (b"GET / HTTP/1.1 ", 400), (b"GET  / HTTP/1.1", 400), (b"GET /  HTTP/1.1", 400),
        (b"GET / HTTP/1,1", 400), (b"GET / HTTP/11", 400), (b"GET / HTTP/1.", 400),
        (b"GET / http/1.1", 400), (b"GET / HTTX/1.1", 400), (b"GET /", 400), (b"GET", 400),
        (b"GET / ", 400), (b" GET / HTTP/1.1", 400), (b"\tGET / HTTP/1.1", 400),
        (b"GET\t/ HTTP/1.1", 400), (b"GET /\tHTTP/1.1", 400), (b"GET /a b HTTP/1.1", 400),
        (b"get / HTTP/1.1", 501), (b"FOO / HTTP/1.1", 501), (b"GETT / HTTP/1.1", 501),
        (b"PRI * HTTP/2.0", 505), (b"G\x00T / HTTP/1.1", 400), (b"G(T / HTTP/1.1", 400),
        (b"POST / HTTP/1.1", 405), (b"PUT / HTTP/1.1", 405), (b"DELETE / HTTP/1.1", 405),
        (b"PATCH / HTTP/1.1", 405), (b"TRACE / HTTP/1.1", 405), (b"CONNECT a:1 HTTP/1.1", 405),
        (b"GET /" + b"a" * 4095 + b" HTTP/1.1", 0), (b"GET /" + b"a" * 4096 + b" HTTP/1.1", 414),
    ],
)  # fmt: skip
def test_request_lines(line: bytes, status: int) -> None:
    found = request_parse(line + b"\r\n" + HOST + b"\r\n")
    assert (found if isinstance(found, int) else 0) == status


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"Host: a\r\nHost: a\r\n",
        b"Host:\r\n",
        b"Host: \t\r\n",
        b"Host: a/b@c\r\n",
        b"Host: a b\r\n",
        b"Host: a,b\r\n",
        b"Host: a\x00\r\n",
        b"Host: \xe4\r\n",
        b"Host : a\r\n",
        b" Host: a\r\n",
        b"Host\r\n",
        b"Host\t: a\r\n",
        HOST + b": v\r\n",
        HOST + b"X\r\n",
        HOST + b"X Y: v\r\n",
        HOST + b"X(): v\r\n",
        HOST + b"X: a\r\n b\r\n",
        HOST + b"X: a\r\n\tb\r\n",
        HOST + b"X: a\x00b\r\n",
        HOST + b"X: a\rb\r\n",
        HOST + b"X: a\r\r\n",
        HOST + b"X: a\nY: b\r\n",
        HOST + b"X: \x7f\r\n",
        HOST + b"X: \x01\r\n",
        HOST + b"\xc3\xa4: a\r\n",
        b"X: a\n" + HOST,
        HOST + b"Transfer-Encoding: chunked\r\n",
        HOST + b"transfer-ENCODING: identity\r\n",
        HOST + b"Transfer-Encoding:\r\n",
        HOST + b"Content-Length: 1\r\n",
        HOST + b"Content-Length: +0\r\n",
        HOST + b"Content-Length: 00\r\n",
        HOST + b"Content-Length: 0, 0\r\n",
        HOST + b"Content-Length:\r\n",
        HOST + b"Content-Length: -0\r\n",
        HOST + b"Content-Length: 0x0\r\n",
        HOST + b"Content-Length: 0\r\nContent-Length: 0\r\n",
    ],
)
def test_fields_that_are_refused(fields: bytes) -> None:
    assert request_parse(b"GET / HTTP/1.1\r\n" + fields + b"\r\n") == 400


def test_old_requests_need_no_host_but_bear_no_bad_one() -> None:
    assert isinstance(request_parse(b"GET / HTTP/1.0\r\n\r\n"), dict)
    for field in (b"Host: a\r\nHost: a\r\n", b"Host: a/b\r\n", b"Transfer-Encoding: chunked\r\n"):
        assert request_parse(b"GET / HTTP/1.0\r\n" + field + b"\r\n") == 400


@pytest.mark.parametrize(("count", "status"), [(64, 0), (65, 431)])
def test_number_of_fields(count: int, status: int) -> None:
    found = request_parse(b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * (count - 1) + b"\r\n")
    assert (found if isinstance(found, int) else 0) == status


def test_every_byte_everywhere() -> None:
    """Which bytes may stand where; everything else is refused."""
    token = b"!#$%&'*+-.^_`|~" + bytes(c for c in range(128) if chr(c).isalnum())
    value = b"\t" + bytes(range(32, 127)) + bytes(range(128, 256))
    host = b"-._:[]" + bytes(c for c in range(128) if chr(c).isalnum())
    for c in range(256):
        byte = bytes([c])
        line = b"GET / HTTP/1.1\r\n"
        name = request_parse(line + HOST + b"X" + byte + b"Y: v\r\n\r\n")
        assert isinstance(name, dict) == (byte in token or byte == b":"), byte
        text = request_parse(line + HOST + b"X: a" + byte + b"b\r\n\r\n")
        assert isinstance(text, dict) == (byte in value), byte
        where = request_parse(line + b"Host: a" + byte + b"b\r\n\r\n")
        assert isinstance(where, dict) == (byte in host), byte
        method = request_parse(b"G" + byte + b"T / HTTP/1.1\r\n" + HOST + b"\r\n")
        expected = {b"E": dict, b" ": int}.get(byte)
        if expected is not dict:
            assert method == (501 if byte in token else 400), byte


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        (b"gzip", True), (b"GZIP", True), (b"br,gzip", True), (b"gzip;q=1", True),
        (b"gzip ; q=0.5", True), (b"gzip;q=0.001", True), (b"gzip\t;q=1.0", True),
        (b"gzip;q=0", False), (b"gzip;q=0.000", False), (b"gzip;Q=0", False), (b"", False),
        (b"identity", False), (b"xgzip", False), (b"gzipx", False), (b"x-gzip", False),
        (b"deflate;q=1", False), (b"gzip;q=0, br", False), (b",,gzip", True), (b"gzip;", True),
    ],
)  # fmt: skip
def test_accept_encoding(value: bytes, accepted: bool) -> None:
    assert accepts_gzip(value) is accepted


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"", [b""]), (b"a", [b"a"]), (b"a,b", [b"a", b"b"]), (b" a ,\tb\t", [b"a", b"b"]),
        (b",", [b"", b""]), (b"a, ,b", [b"a", b"", b"b"]), (b"  ", [b""]), (b"a b", [b"a b"]),
    ],
)  # fmt: skip
def test_lists(value: bytes, members: list[bytes]) -> None:
    assert elements(value) == members
