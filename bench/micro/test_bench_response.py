"""What is rendered or decided for each answer: tail, range, condition, date."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from bench.micro._loops import (
    loop_date,
    loop_error,
    loop_etag_listed,
    loop_partial,
    loop_range,
    loop_tail,
)
from bench.micro.conftest import OPERATIONS

_DATE: Final = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
_ETAG: Final = b'"0123456789abcdef0123456789abcdef"'


def test_tail(per_op: Callable[..., Any]) -> None:
    tail = per_op(loop_tail, b"pop-a", _DATE)
    assert tail == b"Cache-Status: pop-a; hit\r\nAge: 3\r\n" + _DATE + b"\r\n"


def test_date(per_op: Callable[..., Any]) -> None:
    assert per_op(loop_date, 784111777) == _DATE


def test_range(per_op: Callable[..., Any]) -> None:
    answer = per_op(loop_range, b"bytes=65536-131071", 786_432)
    assert answer == (OPERATIONS, 65_536 * OPERATIONS)


def test_partial_line(per_op: Callable[..., Any]) -> None:
    line = per_op(loop_partial, 65_536, 131_072, 786_432)
    assert line.endswith(b"Content-Length: 65536\r\nContent-Range: bytes 65536-131071/786432\r\n")


def test_etag_listed(per_op: Callable[..., Any]) -> None:
    """The second of two, weak as a proxy made it."""
    assert per_op(loop_etag_listed, b'"x", W/' + _ETAG, _ETAG) == OPERATIONS


def test_error_head(per_op: Callable[..., Any]) -> None:
    head = per_op(loop_error, 503)
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert head.endswith(b"Retry-After: 1\r\n")
