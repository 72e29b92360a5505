"""Our parser against llhttp on the same bytes: what we accept, llhttp accepts, and reads alike."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.native._probe import request_end, request_parse, target_parse


class Theirs:
    """One request as llhttp reads it."""

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.heads = 0
        self.bodies = 0

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.heads += 1

    def on_body(self, _: bytes) -> None:
        self.bodies += 1


def llhttp(data: bytes) -> tuple[Theirs, httptools.HttpRequestParser] | None:
    """None: refused. An upgrade is no refusal: the head was read."""
    theirs = Theirs()
    parser = httptools.HttpRequestParser(theirs)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return None
    return theirs, parser


def ours(data: bytes) -> dict[str, bytes | int | bool] | None:
    """What a worker would serve: the head was complete, well formed, and its target too."""
    end = request_end(data)
    found = request_parse(data[:end]) if end else 0
    if not isinstance(found, dict):
        return None
    target = bytes(found["target"])
    if found["method"] == b"OPTIONS" and target == b"*":
        return found
    parsed = target_parse(target)
    return None if parsed is None or parsed[4] else found


def agree(data: bytes) -> bool:
    """True if we accept it; then they must, with the same method, target, fields and length."""
    mine = ours(data)
    if mine is None:
        return False
    end = request_end(data)
    both = llhttp(data[:end])
    assert both is not None, f"we accept, llhttp refuses: {data!r}"
    theirs, parser = both
    assert theirs.heads == 1, data
    assert theirs.bodies == 0, data
    assert parser.get_method() == mine["method"]
    assert theirs.target == mine["target"]
    assert len(theirs.fields) == mine["fields"]
    assert parser.get_http_version() in {"1.0", "1.1"}
    assert parser.get_http_version()[2:] == str(mine["minor"])
    for name, value in theirs.fields:
        if name.lower() == b"host":
            assert value.strip(b" \t") == mine["host"]
    return True


TOKEN = st.sampled_from([b"GET", b"HEAD", b"OPTIONS", b"POST", b"get", b"G", b"", b"CONNECT"])
BYTE = st.binary(min_size=1, max_size=1)
TARGET = st.one_of(
    st.sampled_from(
        [
            b"/",
            b"/a",
            b"*",
            b"http://a/b",
            b"/a?b",
            b"//",
            b"/%61",
            b"",
            b"a",
            b"/a#b",
            b"/a?b#c",
            b"http://a?/b",
            b"http://u@a/b",
            b"/l.m3u8?_HLS_msn=1",
            b"/\x80",
            b"/a?\x80",
            b"HTTP://a/b",
        ]
    ),
    st.binary(max_size=12).map(lambda tail: b"/" + tail),
    st.text("/%.?#:@a1", max_size=12).map(lambda text: text.encode()),
)
VERSION = st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1"])
EOL = st.sampled_from([b"\r\n"] * 20 + [b"\n", b"\r", b"\r\r\n", b"\n\r", b""])
NAME = st.one_of(
    st.sampled_from(
        [
            b"Host",
            b"Host",
            b"Range",
            b"Connection",
            b"Content-Length",
            b"Transfer-Encoding",
            b"X",
            b"Upgrade",
            b"Accept-Encoding",
            b" X",
            b"X ",
            b"",
            b"Expect",
            b"TE",
            b"If-None-Match",
        ]
    ),
    st.binary(min_size=1, max_size=3),
)
VALUE = st.one_of(
    st.sampled_from(
        [b"a", b"a:80", b"0", b"1", b"close", b"chunked", b"h2c", b"gzip", b"", b" a\t"]
    ),
    st.binary(max_size=8),
)
FIELD = st.tuples(NAME, st.sampled_from([b":", b": ", b":\t", b" : ", b""]), VALUE, EOL).map(
    b"".join
)
HOSTED = st.just(b"Host: a\r\n")
HEAD = st.tuples(
    TOKEN,
    st.sampled_from([b" "] * 9 + [b"  ", b"\t"]),
    TARGET,
    st.sampled_from([b" "] * 9 + [b"  ", b""]),
    VERSION,
    EOL,
    st.one_of(HOSTED, HOSTED, st.just(b"")),
    st.lists(FIELD, max_size=4).map(b"".join),
    EOL,
).map(b"".join)


@settings(max_examples=800, deadline=None)
@given(HEAD)
@example(b"OPTIONS \x01 HTTP/1.1\r\nHost: a\r\n\r\n")
@example(b"GET /a?\x01 HTTP/1.1\r\nHost: a\r\n\r\n")
@example(b"GET http://a?/b HTTP/1.1\r\nHost: a\r\n\r\n")
def test_we_never_accept_what_llhttp_refuses(data: bytes) -> None:
    agree(data)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(
        [
            b"GET /a?b HTTP/1.1\r\nHost: a\r\nRange: bytes=0-\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n",
            b"HEAD http://a/b HTTP/1.0\r\nContent-Length: 0\r\nX:\r\n\r\n",
        ]
    ),
    st.data(),
)
def test_one_byte_changed_put_in_or_left_out(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data) - 1))
    byte = draw.draw(BYTE)
    for changed in (
        data[:at] + byte + data[at + 1 :],
        data[:at] + byte + data[at:],
        data[:at] + data[at + 1 :],
    ):
        agree(changed)


def test_every_byte_at_every_place() -> None:
    """Exhaustive where hypothesis is only likely: 256 bytes at 60 places, changed and put in."""
    data = b"OPTIONS /a?b HTTP/1.1\r\nHost: a:1\r\nX: b\r\nRange: bytes=0-\r\n\r\n"
    accepted = 0
    for at in range(len(data)):
        for c in range(256):
            accepted += agree(data[:at] + bytes([c]) + data[at + 1 :])
            accepted += agree(data[:at] + bytes([c]) + data[at:])
    assert accepted > 2000, "a test that accepts nothing shows nothing"


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
def test_ordinary_requests_are_accepted_by_both(method: bytes) -> None:
    assert agree(
        method + b" /live/s/1.m3u8?_HLS_msn=1 HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\n\r\n"
    )
