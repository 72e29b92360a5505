"""Requests that no server should take, by name, and whether one did."""

from __future__ import annotations

import socket
from typing import Final

MARK: Final = b"viewer-was-here"
_LIMIT_S: Final = 3.0
_FIELD: Final = b"X-Mark: " + MARK + b"\r\n"


def _get(*lines: bytes, target: bytes = b"/plain/hostile", version: bytes = b"HTTP/1.1") -> bytes:
    head = b"GET " + target + b" " + version + b"\r\n" + _FIELD
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


_HOST: Final = b"Host: edge.test"
_CHUNKED: Final = b"Transfer-Encoding: chunked"
_LONG: Final = b"/plain/" + b"a" * 16384
HOSTILE: Final[dict[str, bytes]] = {
    "length and chunks": _get(_HOST, b"Content-Length: 5", _CHUNKED) + b"0\r\n\r\n",
    "chunked twice": _get(_HOST, _CHUNKED, _CHUNKED),
    "two lengths": _get(_HOST, b"Content-Length: 5", b"Content-Length: 0"),
    "length 5, 5": _get(_HOST, b"Content-Length: 5, 5") + b"12345",
    "length +5": _get(_HOST, b"Content-Length: +5") + b"12345",
    "chunk size 0x5": _get(_HOST, _CHUNKED) + b"0x5\r\nhello\r\n0\r\n\r\n",
    "TE, space before colon": _get(_HOST, b"Transfer-Encoding : chunked"),
    "TE on 1.0": _get(_HOST, _CHUNKED, version=b"HTTP/1.0") + b"0\r\n\r\n",
    "GET with a body": _get(_HOST, b"Content-Length: 5") + b"12345",
    "bare LF": _get(_HOST).replace(b"\r\n", b"\n"),
    "NUL in a value": _get(_HOST, b"X-A: a\x00b"),
    "obs-fold": _get(_HOST, b"X-A: a", b" b"),
    "no colon": _get(_HOST, b"nonsense"),
    "no Host": _get(),
    "two Hosts": _get(_HOST, b"Host: evil.test"),
    "Host a/b@c": _get(b"Host: a/b@c"),
    "raw 0xff in the target": _get(_HOST, target=b"/plain/\xff"),
    "/../ in the target": _get(_HOST, target=b"/plain/../../etc/passwd"),
    "%2e%2e in the target": _get(_HOST, target=b"/plain/%2e%2e/%2e%2e/x"),
    "%00 in the target": _get(_HOST, target=b"/plain/a%00b"),
    "16 KiB target": _get(_HOST, target=_LONG),
    "64 KiB field": _get(_HOST, b"X-A: " + b"a" * 65536),
    "250 fields": _get(_HOST, *(b"X-%d: a" % number for number in range(250))),
    "HTTP/1.2": _get(_HOST, version=b"HTTP/1.2"),
    "HTTP/2.0": _get(_HOST, version=b"HTTP/2.0"),
    "unknown method": _get(_HOST).replace(b"GET", b"FOO", 1),
    "TRACE": _get(_HOST).replace(b"GET", b"TRACE", 1),
    "CONNECT": b"CONNECT evil.test:80 HTTP/1.1\r\nHost: evil.test:80\r\n" + _FIELD + b"\r\n",
}  # fmt: skip


def accepted(address: tuple[str, int], data: bytes) -> bool:
    """Whether it was answered as a good request, or the connection stays open for more."""
    with socket.create_connection(address, timeout=_LIMIT_S) as sock:
        answer = b""
        try:
            sock.sendall(data)
            while piece := sock.recv(65536):
                answer += piece
                if answer[9:10] in b"23":
                    return True
        except ConnectionError:
            pass  # refused without a word, which will do
        except TimeoutError:
            return True  # still open: it would take another request
    return answer[9:10] in (b"2", b"3")
