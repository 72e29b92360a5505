"""Requests as weapons: every case of the study's table, with the answer that is ours.

`status` is the answer; `closes` whether the connection ends with it. Does not know how they are
sent: test_malformed.py sends each alone, in pieces, and behind valid ones.
"""

from __future__ import annotations

from typing import NamedTuple

LINE = b"GET /a HTTP/1.1\r\n"
HOST = b"Host: edge.test\r\n"
END = b"\r\n"


class Case(NamedTuple):
    name: str
    data: bytes
    status: int
    closes: bool = True


def field(name: str, line: bytes, status: int = 400, *, closes: bool = True) -> Case:
    """A valid request with this line (or lines) added."""
    return Case(name, LINE + HOST + line + END, status, closes)


def body(name: str, lines: bytes, data: bytes) -> Case:
    return Case(name, LINE + HOST + lines + END + data, 400)


def target(name: str, raw: bytes, status: int = 400, *, closes: bool = True) -> Case:
    """No viewer writes such a name, so nothing that follows it is trusted either."""
    return Case(name, b"GET " + raw + b" HTTP/1.1\r\n" + HOST + END, status, closes)


CHUNKED = b"Transfer-Encoding: chunked\r\n"
FRAMING = [
    body("CL and TE", b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n"),
    body("TE twice", CHUNKED + CHUNKED, b"0\r\n\r\n"),
    body("CL 5 and CL 0", b"Content-Length: 5\r\nContent-Length: 0\r\n", b"12345"),
    body("CL list", b"Content-Length: 5, 5\r\n", b"12345"),
    body("CL 0 twice", b"Content-Length: 0\r\nContent-Length: 0\r\n", b""),
    body("CL plus", b"Content-Length: +5\r\n", b"12345"),
    body("CL hex", b"Content-Length: 0x5\r\n", b"12345"),
    body("CL negative", b"Content-Length: -1\r\n", b""),
    body("CL empty", b"Content-Length:\r\n", b""),
    body("CL 20 digits", b"Content-Length: 99999999999999999999\r\n", b""),
    body("chunk size 0x5", CHUNKED, b"0x5\r\n12345\r\n0\r\n\r\n"),
    body("chunk size 0_2e", CHUNKED, b"0_2e\r\n"),
    body("chunk size 17 digits", CHUNKED, b"00000000000000005\r\n12345\r\n0\r\n\r\n"),
    body("chunk lines end in LF", CHUNKED, b"5\n12345\n0\n\n"),
    body("CR in chunk extension", CHUNKED, b"5;a\rb\r\n12345\r\n0\r\n\r\n"),
    body("GET with a body", b"Content-Length: 5\r\n", b"12345"),
    field("TE space before value", b"Transfer-Encoding : chunked\r\n"),
    field("TE xchunked", b"Transfer-Encoding: xchunked\r\n"),
    field("TE chunked, identity", b"Transfer-Encoding: chunked, identity\r\n"),
    field("TE vertical tab", b"Transfer-Encoding: \x0bchunked\r\n"),
    field("TE ,chunked and CL", b"Transfer-Encoding: ,chunked\r\nContent-Length: 0\r\n"),
    Case("TE on HTTP/1.0", b"GET /a HTTP/1.0\r\n" + CHUNKED + END + b"0\r\n\r\n", 400),
]
HEADS = [
    Case("bare LF request", b"GET /a HTTP/1.1\nHost: a\n\n", 400),
    Case("bare LF in the middle", LINE + b"Host: a\nX: b\r\n\r\n", 400),
    Case("LF CR LF at the end", LINE + b"Host: a\n\r\n", 400),
    field("bare CR in a value", b"X: a\rb\r\n"),
    field("NUL in a value", b"X: a\x00b\r\n"),
    field("control byte in a value", b"X: a\x01b\r\n"),
    field("obs-fold", b"X: a\r\n b\r\n"),
    field("obs-fold with a tab", b"X: a\r\n\tb\r\n"),
    field("X(): header name", b"X(): a\r\n"),
    field("space in a header name", b"X Y: a\r\n"),
    field("space before the colon", b"X : a\r\n"),
    field("header without colon", b"X\r\n"),
    field("empty header name", b": a\r\n"),
    field("obs-text in a header name", b"\xe4: a\r\n"),
    Case("space before the first header", LINE + b" Host: a\r\n\r\n", 400),
    Case("no Host", LINE + END, 400),
    Case("two Hosts", LINE + HOST + HOST + END, 400),
    Case("two Hosts on 1.0", b"GET /a HTTP/1.0\r\n" + HOST + HOST + END, 400),
    Case("Host a/b@c", LINE + b"Host: a/b@c\r\n\r\n", 400),
    Case("empty Host", LINE + b"Host:\r\n\r\n", 400),
    Case("one 64 KiB header", LINE + HOST + b"X: " + b"y" * 65536 + b"\r\n\r\n", 431),
    Case("250 headers", LINE + HOST + b"".join(b"X%d: y\r\n" % i for i in range(250)) + END, 431),
]
LINES = [
    Case("HTTP/1.2", b"GET /a HTTP/1.2\r\n" + HOST + END, 505),
    Case("HTTP/2.0", b"GET /a HTTP/2.0\r\n" + HOST + END, 505),
    Case("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    Case("HTTP/0.9", b"GET /a\r\n\r\n", 400),
    Case("method get", b"get /a HTTP/1.1\r\n" + HOST + END, 501),
    Case("method FOO", b"FOO /a HTTP/1.1\r\n" + HOST + END, 501),
    Case("CONNECT", b"CONNECT a:80 HTTP/1.1\r\n" + HOST + END, 405),
    Case("TRACE", b"TRACE /a HTTP/1.1\r\n" + HOST + END, 405),
    Case("POST", b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n", 405),
    Case("two spaces", b"GET  /a HTTP/1.1\r\n" + HOST + END, 400),
    Case("a tab", b"GET\t/a HTTP/1.1\r\n" + HOST + END, 400),
    Case("space in the target", b"GET /a b HTTP/1.1\r\n" + HOST + END, 400),
    Case("no target", b"GET  HTTP/1.1\r\n" + HOST + END, 400),
    Case("TLS on the plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\r\n", 400),
    Case("16 KiB target", b"GET /" + b"a" * 16384 + b" HTTP/1.1\r\n" + HOST + END, 414),
]
TARGETS = [
    target("raw 0xff", b"/\xff"),
    target("NUL", b"/a\x00b"),
    target("DEL", b"/a\x7f"),
    target("dot segments", b"/../../etc/passwd"),
    target("encoded dot segments", b"/%2e%2e/%2E./etc/passwd"),
    target("%00", b"/a%00"),
    target("%0d%0a", b"/a%0d%0aX:%20y"),
    target("%2f", b"/a%2fb"),
    target("%5c", b"/a%5cb"),
    target("backslash", b"/a\\b"),
    target("half an escape", b"/a%4"),
    target("double slash", b"//a"),
    target("single dot", b"/./a"),
    target("fragment", b"/a#b"),
    target("control byte in the query", b"/a?\x01"),
    target("userinfo", b"http://edge.test@evil/a"),
    target("asterisk", b"*"),
    target("authority", b"evil:80"),
    Case("OPTIONS with a bad target", b"OPTIONS /\x01 HTTP/1.1\r\n" + HOST + END, 400),
]
ACCEPTED = [
    field("Upgrade: h2c", b"Connection: Upgrade\r\nUpgrade: h2c\r\n", 200, closes=False),
    field(
        "Upgrade: websocket", b"Connection: Upgrade\r\nUpgrade: websocket\r\n", 200, closes=False
    ),
    field("Expect", b"Expect: 100-continue\r\n", 200, closes=False),
    field("Connection: host", b"Connection: host\r\n", 200, closes=False),
    field("TE: trailers", b"TE: trailers\r\nMax-Forwards: 0\r\n", 200, closes=False),
    field(
        "1000 ranges", b"Range: bytes=" + b",".join([b"0-0"] * 1000) + b"\r\n", 200, closes=False
    ),
    field("Range past the end", b"Range: bytes=500-\r\n", 416, closes=False),
    field("Range -0", b"Range: bytes=-0\r\n", 416, closes=False),
    field("Range 2^64", b"Range: bytes=0-18446744073709551616\r\n", 206, closes=False),
    field("Range a-b", b"Range: bytes=a-b\r\n", 200, closes=False),
    target("absolute form", b"http://evil/a", 200, closes=False),
    target("a double-encoded escape", b"/%2561?", 404, closes=False),
]
REFUSED = [*FRAMING, *HEADS, *LINES]
CASES = [*REFUSED, *TARGETS, *ACCEPTED]
