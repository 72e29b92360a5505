"""Ranges of whole, growing and awaited bodies (native/exchange.pxd, response.pxd)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.native.kit import TYPE, Edge, get

CLOSE = "Connection: close"
BODY = bytes(range(256)) * 4
SMALL_AND_LARGE = pytest.mark.parametrize("heap", [0, 16384], ids=["memfd", "heap"])


SIZE = len(BODY)
RANGES: list[tuple[str, int, tuple[int, int]]] = [
    ("bytes=0-0", 206, (0, 1)),
    ("bytes=0-", 206, (0, SIZE)),
    ("bytes=5-9", 206, (5, 10)),
    ("bytes=1023-", 206, (1023, SIZE)),
    (f"bytes=0-{SIZE - 1}", 206, (0, SIZE)),
    (f"bytes=0-{SIZE}", 206, (0, SIZE)),
    ("bytes=-1", 206, (SIZE - 1, SIZE)),
    ("bytes=-1024", 206, (0, SIZE)),
    ("bytes=-5000", 206, (0, SIZE)),
    ("bytes=0-18446744073709551616", 206, (0, SIZE)),
    ("bytes=0-99999999999999999999999999999999", 206, (0, SIZE)),
    ("bytes=000005-0009", 206, (5, 10)),
    ("bytes=1024-", 416, (0, 0)),
    ("bytes=1024-2000", 416, (0, 0)),
    ("bytes=99999999999999999999-", 416, (0, 0)),
    ("bytes=-0", 416, (0, 0)),
    ("bytes=a-b", 200, (0, SIZE)),
    ("bytes=5-4", 200, (0, SIZE)),
    ("bytes=", 200, (0, SIZE)),
    ("bytes=-", 200, (0, SIZE)),
    ("bytes=5", 200, (0, SIZE)),
    ("bytes=0x1-5", 200, (0, SIZE)),
    ("bytes=+1-5", 200, (0, SIZE)),
    ("bytes=--5", 200, (0, SIZE)),
    ("bytes=1--5", 200, (0, SIZE)),
    ("bytes = 1-5", 200, (0, SIZE)),
    ("bytes=1-5 ", 206, (1, 6)),
    ("bytes=1-5;q=1", 200, (0, SIZE)),
    ("items=0-5", 200, (0, SIZE)),
    ("0-5", 200, (0, SIZE)),
    ("bytes=0-,0-,0-,0-", 200, (0, SIZE)),
    ("bytes=0-1,5-6", 200, (0, SIZE)),
    ("bytes=" + ",".join(f"{i}-{i}" for i in range(1000)), 200, (0, SIZE)),
]


@SMALL_AND_LARGE
def test_ranges(edges: Callable[..., Edge], heap: int) -> None:
    """RFC 9110 14.2: one range is served, past the end is 416, anything else is the whole body."""
    edge = edges(heap_max_bytes=heap)
    edge.put("/a", BODY)
    with edge.viewer() as viewer:
        for value, status, (first, end) in RANGES:
            answer = viewer.ask("/a", f"Range: {value}")
            assert answer.status == status, value
            if status == 416:
                assert answer.fields[b"content-range"] == b"bytes */%d" % SIZE
                continue
            assert answer.body == BODY[first:end], value
            span = b"bytes %d-%d/%d" % (first, end - 1, SIZE)
            assert answer.fields.get(b"content-range") == (span if status == 206 else None)
    assert edge.count("ranges") == sum(status == 206 for _, status, _ in RANGES)


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=-5", "bytes=0-0", "bytes=-0"])
def test_no_range_of_an_empty_body(edge: Edge, value: str) -> None:
    edge.put("/a", b"")
    answer = edge.ask("/a", f"Range: {value}")
    assert (answer.status, answer.fields[b"content-range"]) == (416, b"bytes */0")


@pytest.mark.parametrize("tag", ['"tag"', '"old"', 'W/"tag"', "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_if_range_never_mixes_versions(edge: Edge, tag: str) -> None:
    """The whole body is always right; a matching If-Range need not be honoured (RFC 9110 14.2)."""
    edge.put("/a", BODY, etag=b"tag")
    answer = edge.ask("/a", "Range: bytes=0-1", f"If-Range: {tag}")
    assert (answer.status, answer.body) == (200, BODY)


@pytest.mark.parametrize("size", [1000, 100_000])
def test_a_range_of_a_growing_body(edge: Edge, size: int) -> None:
    """What is filled is sent; the rest as it comes; never beyond what is filled."""
    body = bytes(i % 251 for i in range(size))
    with edge.viewer() as viewer, edge.viewer() as late:
        viewer.send(get("/a", "Range: bytes=10-899"))
        fill = edge.fill()
        fill.begin(200, TYPE, length=size, ttl_ms=60_000)
        status, fields = viewer.head()
        assert (status, fields[b"content-range"]) == (206, b"bytes 10-899/%d" % size)
        fill.append(body[:500])
        assert viewer.read(490) == body[10:500]
        late.send(get("/a", "Range: bytes=-100"))
        assert viewer.silent()
        fill.append(body[500:])
        assert viewer.read(400) == body[500:900]
        assert late.answer().body == body[-100:]
        fill.commit()
        assert viewer.ask("/a").body == body


def test_a_parked_range_keeps_its_bounds(edge: Edge) -> None:
    """The head that named it has left the input when the fill begins, and the worker's scratch
    holds somebody else's request by then."""
    with edge.viewer() as viewer, edge.viewer() as other:
        viewer.send(get("/a", "Range: bytes=3-6"))
        fill = edge.fill()
        for _ in range(3):
            other.send(get("/b", "Range: bytes=0-0", "X: " + "bytes=9-9 " * 1000))
            edge.fill().fail(404)
            assert other.answer().status == 404
        fill.begin(200, TYPE, length=10, ttl_ms=60_000)
        fill.append(b"0123456789")
        fill.commit()
        answer = viewer.answer()
        assert (answer.status, answer.body) == (206, b"3456")


def test_a_parked_range_that_is_too_long_to_keep(edge: Edge) -> None:
    with edge.viewer() as viewer:
        viewer.send(get("/a", f"Range: bytes={'0' * 100}3-6"))
        fill = edge.fill()
        fill.begin(200, TYPE, length=10, ttl_ms=60_000)
        fill.append(b"0123456789")
        fill.commit()
        assert viewer.answer().status in (200, 206)
