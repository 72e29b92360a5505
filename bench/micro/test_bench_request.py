"""Parser: end of head found, head parsed, as the worker does for every request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from bench.micro._loops import loop_request
from bench.micro.conftest import OPERATIONS

_PART: Final = b"GET /live/main/s9k2f0/720p/41.3.m4s HTTP/1.1\r\nHost: edge.example\r\n"
_HLS_JS: Final = (
    b"Connection: keep-alive\r\n"
    b'sec-ch-ua: "Chromium";v="126", "Not.A/Brand";v="24"\r\n'
    b"sec-ch-ua-mobile: ?0\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    b"Chrome/126.0.0.0 Safari/537.36\r\n"
    b'sec-ch-ua-platform: "Linux"\r\n'
    b"Accept: */*\r\n"
    b"Origin: https://watch.example\r\n"
    b"Sec-Fetch-Site: same-site\r\n"
    b"Sec-Fetch-Mode: cors\r\n"
    b"Sec-Fetch-Dest: empty\r\n"
    b"Referer: https://watch.example/\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\n"
    b"Accept-Language: en-GB,en;q=0.9\r\n"
)
_RANGE: Final = b'Range: bytes=0-65535\r\nIf-None-Match: "0123456789abcdef"\r\n'


@pytest.mark.parametrize(
    ("rest", "fields"),
    [(b"", 1), (_RANGE, 3), (_HLS_JS, 14)],
    ids=["host-only", "range", "hls.js"],
)
def test_request(per_op: Callable[..., Any], rest: bytes, fields: int) -> None:
    status, seen = per_op(loop_request, _PART + rest + b"\r\n")
    assert (status, seen) == (0, fields * OPERATIONS)


def test_request_refused(per_op: Callable[..., Any]) -> None:
    """Whitespace before a colon, in the last field of a long head: the latest refusal."""
    status, _ = per_op(loop_request, _PART + _HLS_JS + b"Bad : field\r\n\r\n")
    assert status == 400
