"""A segment that grows by parts: one buffer, two release rules. Parts all or nothing (LL-HLS), the
whole segment as it grows (LL-DASH), HEAD and ranges of it (native/exchange.pxd, send.pxd)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgecache._core import Fill
from tests.native.kit import TYPE, Edge, Viewer, eventually, get

SEGMENT = "/live/s/t/v/1042.m4s"
PARTS = [bytes([65 + i]) * size for i, size in enumerate((50_000, 9, 200_000, 4096, 70_000))]
WHOLE = b"".join(PARTS)


@pytest.fixture
def fill(edge: Edge) -> Fill:
    """The segment, begun by a push, without a part yet."""
    fill = edge.plane.open(SEGMENT.encode())
    assert fill is not None
    fill.begin(200, TYPE, ttl_ms=60_000)
    return fill


def grow(fill: Fill, number: int) -> None:
    offset = sum(map(len, PARTS[:number]))
    fill.append(PARTS[number])
    key = SEGMENT.removesuffix(".m4s") + f".{number}.m4s"
    fill.view(key.encode(), offset, len(PARTS[number]), TYPE, etag=b"p", ttl_ms=60_000)


def read_part(viewer: Viewer, part: bytes) -> bool:
    """The next chunks are this part, and nothing of the one after it."""
    got = b""
    while len(got) < len(part):
        got += viewer.chunk()
    return got == part


def test_parts_and_the_whole_leave_from_one_buffer(edges: Callable[..., Edge]) -> None:
    """One viewer follows the segment chunk by chunk, one asks for each part; in memory it is there
    once: what a second copy would take is more than all the parts' heads and entries do."""
    edge = edges(workers=2)
    before = edge.count("store_bytes_now")
    follower, player = edge.viewer(), edge.viewer()
    follower.send(get(SEGMENT))
    edge.await_parked(1)
    miss = edge.fill()
    fill = edge.plane.open(SEGMENT.encode())
    assert fill is not None
    fill.begin(200, TYPE, ttl_ms=60_000)
    assert follower.head()[1][b"transfer-encoding"] == b"chunked"
    for number, part in enumerate(PARTS):
        player.send(get(SEGMENT.replace(".m4s", f".{number}.m4s")))
        assert player.silent(0.02), "nothing of a part before all of it is there"
        grow(fill, number)
        assert read_part(follower, part)
        answer = player.answer()
        assert (answer.body, answer.fields[b"content-length"]) == (part, b"%d" % len(part))
        edge.plane.misses()
    assert follower.silent(0.02)
    fill.commit(etag=b"whole")
    assert follower.chunk() == b""
    late = edge.ask(SEGMENT)
    assert (late.body, late.cache, late.fields[b"etag"]) == (WHOLE, b"hit", b'"whole"')
    taken = edge.count("store_bytes_now") - before
    assert len(WHOLE) <= taken < len(WHOLE) + 16_384, "once, and its heads"
    assert not miss.live
    follower.close()
    player.close()


def test_what_is_pushed_is_a_hit_at_any_time(edge: Edge) -> None:
    """RFC 9211 2.1: nothing was forwarded, neither for who asked before its first byte, nor for who
    asks while it grows."""
    with edge.viewer() as early, edge.viewer() as late:
        early.send(get(SEGMENT))
        edge.await_parked(1)
        fill = edge.plane.open(SEGMENT.encode())
        assert fill is not None
        assert fill.begin(200, TYPE, ttl_ms=60_000, pushed=True)
        grow(fill, 0)
        assert early.head()[1][b"cache-status"].endswith(b"; hit; detail=woken")
        late.send(get(SEGMENT))
        assert late.head()[1][b"cache-status"].endswith(b"; hit")
        assert (edge.count("hits"), edge.count("collapsed")) == (1, 0)


def test_whole_bodies_are_counted_once_each(edges: Callable[..., Edge]) -> None:
    """However many workers; ranges, HEAD and what is known already are nobody who takes it."""
    edge = edges(workers=2)
    edge.plane.put(SEGMENT.encode(), WHOLE, TYPE, etag=b"e", ttl_ms=60_000)
    for _ in range(7):
        assert edge.ask(SEGMENT).status == 200
    edge.ask(SEGMENT, "Range: bytes=0-9")
    edge.ask(SEGMENT, 'If-None-Match: "e"')
    edge.ask(SEGMENT, method="HEAD")
    eventually(lambda: (edge.plane.lookup(SEGMENT.encode()) or {})["taken"] == 7)


def test_a_closed_range_of_a_growing_body_waits_for_its_bytes(edge: Edge, fill: Fill) -> None:
    """Parts by BYTERANGE: nothing of it leaves before all of it can (RFC 8216bis 6.2.6)."""
    fill.append(b"0123456789")
    with edge.viewer() as viewer:
        first = viewer.ask(SEGMENT, "Range: bytes=2-4")
        assert (first.status, first.body) == (206, b"234")
        assert first.fields[b"content-range"] == b"bytes 2-4/*"
        viewer.send(get(SEGMENT, "Range: bytes=8-14"))
        edge.await_parked(1)
        fill.append(b"abcd")
        assert viewer.silent(0.02), "one byte is missing"
        fill.append(b"ef")
        second = viewer.answer()
        assert (second.status, second.body) == (206, b"89abcde")
        assert second.fields[b"content-range"] == b"bytes 8-14/*"
        viewer.send(get(SEGMENT, "Range: bytes=14-99"))
        edge.await_parked(1)
        fill.commit()
        last = viewer.answer()
        assert (last.body, last.fields[b"content-range"]) == (b"ef", b"bytes 14-15/16")


def test_a_range_past_the_end_is_416_once_the_end_is_known(edge: Edge, fill: Fill) -> None:
    fill.append(b"0123")
    with edge.viewer() as viewer:
        viewer.send(get(SEGMENT, "Range: bytes=9-10"))
        edge.await_parked(1)
        fill.commit()
        answer = viewer.answer()
        assert (answer.status, answer.fields[b"content-range"]) == (416, b"bytes */4")


@pytest.mark.parametrize("value", ["bytes=2-", "bytes=-3", "bytes=-0", "bytes=x", "bytes=0-1,3-4"])
def test_a_range_without_a_known_end_is_the_whole_as_it_grows(
    edge: Edge, fill: Fill, value: str
) -> None:
    """There is no last byte that a 206 could name."""
    fill.append(b"0123")
    with edge.viewer() as viewer:
        viewer.send(get(SEGMENT, f"Range: {value}"))
        status, fields = viewer.head()
        assert (status, fields[b"transfer-encoding"]) == (200, b"chunked")
        assert viewer.chunk() == b"0123"
        fill.append(b"4567")
        assert viewer.chunk() == b"4567"
        fill.commit()
        assert viewer.chunk() == b""


def test_head_of_a_growing_segment_is_answered_at_once(edge: Edge, fill: Fill) -> None:
    fill.append(b"0123")
    with edge.viewer() as viewer:
        answer = viewer.ask(SEGMENT, "Range: bytes=9-10", method="HEAD")
        assert (answer.status, answer.fields[b"transfer-encoding"]) == (200, b"chunked")
        fill.commit()
        assert viewer.ask(SEGMENT, method="HEAD").fields[b"content-length"] == b"4"


def test_a_range_whose_fill_fails_is_an_error(edge: Edge, fill: Fill) -> None:
    with edge.viewer() as viewer:
        viewer.send(get(SEGMENT, "Range: bytes=0-3"))
        edge.await_parked(1)
        fill.fail(502)
        assert viewer.answer().status == 502
