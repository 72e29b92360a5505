"""What an answer says beyond its head: ranges, conditions, tail (native/response.pxd)."""

from __future__ import annotations

import email.utils
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.native._probe import (
    date_write,
    decimal,
    error_answer,
    etag_listed,
    partial_line,
    preflight,
    range_parse,
    tail_write,
)

IGNORE, OK, UNSATISFIABLE = 0, 1, 2
MAX = 2**63 - 1


@pytest.mark.parametrize(
    ("value", "size", "found"),
    [
        (b"bytes=0-0", 10, (OK, 0, 1)),
        (b"bytes=9-9", 10, (OK, 9, 10)),
        (b"bytes=10-10", 10, (UNSATISFIABLE, 0, 0)),
        (b"bytes=9-10", 10, (OK, 9, 10)),
        (b"bytes=-10", 10, (OK, 0, 10)),
        (b"bytes=-11", 10, (OK, 0, 10)),
        (b"bytes=-0", 10, (UNSATISFIABLE, 0, 0)),
        (b"bytes=-1", 0, (UNSATISFIABLE, 0, 0)),
        (b"bytes=0-", 0, (UNSATISFIABLE, 0, 0)),
        (b"bytes=5-4", 10, (IGNORE, 0, 0)),
        (b"bytes=5-4", 0, (IGNORE, 0, 0)),
        (b"bytes=9223372036854775807-", MAX, (UNSATISFIABLE, 0, 0)),
        (b"bytes=922337203685477579-", MAX, (OK, 922337203685477579, MAX)),
        (b"bytes=0-9223372036854775807", MAX, (OK, 0, MAX)),
        (b"bytes=0-18446744073709551615", 10, (OK, 0, 10)),
        (b"bytes=18446744073709551616-", 10, (UNSATISFIABLE, 0, 0)),
        (b"bytes=-18446744073709551617", 10, (OK, 0, 10)),
        (b"Bytes=0-0", 10, (IGNORE, 0, 0)),
        (b"bytes=", 10, (IGNORE, 0, 0)),
        (b"bytes", 10, (IGNORE, 0, 0)),
        (b"", 10, (IGNORE, 0, 0)),
        (b"bytes=-", 10, (IGNORE, 0, 0)),
        (b"bytes=1", 10, (IGNORE, 0, 0)),
        (b"bytes=1-2-3", 10, (IGNORE, 0, 0)),
        (b"bytes=1-2,", 10, (IGNORE, 0, 0)),
        (b"bytes= 1-2", 10, (IGNORE, 0, 0)),
        (b"bytes=1 -2", 10, (IGNORE, 0, 0)),
    ],
)
def test_one_range(value: bytes, size: int, found: tuple[int, int, int]) -> None:
    """RFC 9110 14.1.2, 14.2."""
    assert range_parse(value, size) == found


@given(
    st.one_of(
        st.binary(max_size=60), st.from_regex(rb"bytes=[0-9]{0,22}-[0-9]{0,22}", fullmatch=True)
    ),
    st.integers(0, MAX),
)
def test_a_range_lies_inside_the_body(value: bytes, size: int) -> None:
    verdict, first, end = range_parse(value, size)
    if verdict == OK:
        assert 0 <= first < end <= size
    for cut in range(len(value)):
        range_parse(value[:cut], size)


@given(st.integers(0, 2**70), st.integers(0, 2**70), st.integers(1, MAX))
def test_ranges_against_their_definition(a: int, b: int, size: int) -> None:
    if a > MAX or b > MAX:
        saturated = (min(a, MAX), min(b, MAX))
        expected = _defined(*saturated, size) if a <= b else None
        if expected is not None and a <= MAX:
            assert range_parse(b"bytes=%d-%d" % (a, b), size) == expected
        return
    assert range_parse(b"bytes=%d-%d" % (a, b), size) == _defined(a, b, size)
    assert range_parse(b"bytes=%d-" % a, size) == _defined(a, MAX, size)


def _defined(a: int, b: int, size: int) -> tuple[int, int, int]:
    if b < a:
        return IGNORE, 0, 0
    return (UNSATISFIABLE, 0, 0) if a >= size else (OK, a, min(b + 1, size))


@pytest.mark.parametrize(
    ("listed", "etag", "found"),
    [
        (b'"a"', b'"a"', True),
        (b'W/"a"', b'"a"', True),
        (b'"a"', b'W/"a"', True),
        (b"*", b'"a"', True),
        (b'"b", "a"', b'"a"', True),
        (b'"b"', b'"a"', False),
        (b"", b'"a"', False),
        (b"*", b"", False),
        (b'""', b'""', True),
        (b"W/", b'"a"', False),
        (b'"a', b'"a"', False),
        (b'"a"x', b'"a"', False),
        (b", ,*", b'"a"', True),
        (b'"a,b"', b'"a,b"', False),
    ],
)
def test_lists_of_validators(listed: bytes, etag: bytes, found: bool) -> None:
    """RFC 9110 13.1.2. Ours never hold a comma (the last row is a harmless 200)."""
    assert etag_listed(listed, etag) is found


@given(st.integers(0, 2**64 - 1))
def test_decimals(value: int) -> None:
    assert decimal(value) == b"%d" % value


@given(st.integers(0, 253_402_300_799))
def test_dates(unix_s: int) -> None:
    """IMF-fixdate of RFC 9110 5.6.7."""
    text = email.utils.formatdate(unix_s, usegmt=True)
    assert date_write(unix_s) == f"Date: {text}\r\n".encode()


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (0, b"hit"),
        (1, b"fwd=uri-miss; stored"),
        (2, b"fwd=uri-miss; collapsed"),
        (3, b"hit"),
        (4, b"hit; detail=woken"),
        (5, b"detail=error"),
    ],
)
@pytest.mark.parametrize("age_s", [-1, 0, 2**63 - 1])
@pytest.mark.parametrize("close", [False, True])
def test_tails(word: int, text: bytes, age_s: int, close: bool) -> None:
    tail = tail_write(b"p" * 64, word, age_s, b"Date: x\r\n", close)
    expected = b"Cache-Status: " + b"p" * 64 + b"; " + text + b"\r\n"
    expected += b"Age: %d\r\n" % age_s if age_s >= 0 else b""
    expected += b"Date: x\r\n" + (b"Connection: close\r\n" if close else b"") + b"\r\n"
    assert tail == expected
    assert len(tail) <= 64 + 9 + 96, "what the docstring promises, beyond name and date"


def test_partial_lines() -> None:
    assert partial_line(5, 10, 100) == (
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 5-9/100\r\n"
    )


@pytest.mark.parametrize(
    "status", [400, 403, 404, 405, 414, 416, 431, 500, 501, 502, 503, 504, 505, 599]
)
def test_answers_of_our_own_fit_their_room(status: int) -> None:
    """Head, body and the longest tail share OUTPUT_TEXT_BYTES (640)."""
    head, body, length = error_answer(status, MAX)
    assert head.startswith(b"HTTP/1.1 %d " % status)
    announced = re.search(rb"Content-Length: (\d+)\r\n", head)
    assert announced
    assert announced[1] == b"%d" % len(body)
    assert length == len(body)
    assert body.startswith(b"%d " % status)
    assert body.endswith(b"\n")
    assert (b"Allow: " in head) == (status == 405)
    assert (b"Retry-After: " in head) == (status in (503, 504))
    assert (b"Content-Range: bytes */" in head) == (status == 416)
    assert len(head) + len(body) + 64 + 96 + 37 <= 640
    assert len(preflight()) + 64 + 96 + 37 <= 640
