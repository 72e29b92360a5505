"""Store and workers together: changes are made first and then told (native/plane.pxd)."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from edgecache._core import PUT_CREATED, PUT_NO_SPACE
from tests.native.kit import TYPE, Edge, eventually, get

CLOSE = "Connection: close"


def test_parts_are_byte_exact_views(edge: Edge) -> None:
    """LL-HLS: part after part becomes visible whole; the segment is the same bytes once."""
    parts = [bytes([65 + i]) * (1000 * i + 1) for i in range(6)]
    fill = edge.plane.open(b"/seg")
    assert fill is not None
    fill.begin(200, TYPE, ttl_ms=60_000)
    at = 0
    with edge.viewer() as viewer, edge.viewer() as streaming:
        streaming.send(get("/seg"))
        assert streaming.head()[1][b"transfer-encoding"] == b"chunked"
        for i, part in enumerate(parts):
            viewer.send(get(f"/seg.{i}"))
            miss = edge.fill()
            fill.append(part)
            key = f"/seg.{i}".encode()
            assert (
                fill.view(key, at, len(part), TYPE, etag=b"p%d" % i, ttl_ms=60_000) == PUT_CREATED
            )
            answer = viewer.answer()
            assert (answer.body, answer.cache) == (part, b"hit; detail=woken")
            assert not miss.begin(200, TYPE, ttl_ms=1)
            at += len(part)
        fill.commit(etag=b"segment")
        got = b""
        while data := streaming.chunk():
            got += data
        assert got == b"".join(parts)
        for i, part in enumerate(parts):
            ranged = viewer.ask(f"/seg.{i}", "Range: bytes=-1")
            assert (ranged.status, ranged.body) == (206, part[-1:])
            assert viewer.ask(f"/seg.{i}").body == part
        assert viewer.ask("/seg").fields[b"content-length"] == b"%d" % at
    assert edge.count("misses") == 6


def test_a_part_of_a_segment_that_failed_is_gone(edge: Edge) -> None:
    fill = edge.plane.open(b"/seg")
    assert fill is not None
    fill.begin(200, TYPE, ttl_ms=60_000)
    fill.append(b"0123456789")
    fill.view(b"/seg.0", 0, 5, TYPE, etag=b"p", ttl_ms=60_000)
    assert edge.ask("/seg.0").body == b"01234"
    fill.fail(502)
    with edge.viewer() as viewer:
        viewer.send(get("/seg.0"))
        edge.fill().fail(404)
        assert viewer.answer().status == 404


def test_a_purge_is_seen_by_every_worker(edges: Callable[..., Edge]) -> None:
    """Each holds its own reference; none may answer from it afterwards."""
    edge = edges(workers=4)
    viewers = [edge.viewer() for _ in range(16)]
    for version in range(5):
        body = b"v%d" % version
        edge.put("/a", body, etag=body)
        assert {viewer.ask("/a").body for viewer in viewers} == {body}
        assert edge.plane.purge(b"/a")
    for viewer in viewers:
        viewer.close()


def test_purge_by_prefix_over_sockets(edge: Edge) -> None:
    for i in range(10):
        edge.put(f"/live/a/{i}", b"x")
        edge.put(f"/live/b/{i}", b"x")
    with edge.viewer() as viewer:
        assert viewer.ask("/live/a/1").status == 200
        assert edge.plane.purge_prefix(b"/live/a/") == 10
        assert viewer.ask("/live/b/1").status == 200
        viewer.send(get("/live/a/1"))
        edge.fill().fail(404)
        assert viewer.answer().status == 404


def test_a_fill_goes_on_after_its_purge(edge: Edge) -> None:
    """Who waited is answered; who comes later starts anew."""
    with edge.viewer() as viewer, edge.viewer() as later:
        viewer.send(get("/a"))
        fill = edge.fill()
        assert edge.plane.purge(b"/a")
        assert not fill.live
        later.send(get("/a"))
        other = edge.fill()
        assert other.live
        assert fill.begin(200, TYPE, length=3, ttl_ms=60_000)
        fill.append(b"old")
        fill.commit()
        assert viewer.answer().body == b"old"
        other.fail(404)
        assert later.answer().status == 404


def test_eviction_under_a_small_budget_with_viewers(edges: Callable[..., Edge]) -> None:
    """Objects come and go under readers; what is answered is right, the rest is a miss."""
    edge = edges(workers=2, budget=4 << 20)
    stop = threading.Event()
    wrong: list[object] = []

    def read(start: int) -> None:
        number = start
        with edge.viewer() as viewer:
            while not stop.is_set():
                number = (number * 31 + 7) % 200
                answer = viewer.ask(f"/{number}")
                if answer.status == 200 and answer.body != bytes([number]) * 100_000:
                    wrong.append(number)
                elif answer.status not in (200, 404, 503):
                    wrong.append(answer.status)

    readers = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    for reader in readers:
        reader.start()
    turn = 0
    while any(reader.is_alive() for reader in readers):
        edge.put(f"/{turn % 200}", bytes([turn % 200]) * 100_000, etag=b"%d" % (turn % 200))
        for fill in edge.plane.misses():
            fill.fail(404)
        turn += 1
        if turn >= 400 and edge.count("hits") > 20:
            stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert edge.count("store_evicted") > 100
    assert edge.count("store_bytes_now") <= (4 << 20) * 17 // 16


def test_a_small_cache_that_is_scanned_fast_has_room(edges: Callable[..., Edge]) -> None:
    """Each object is asked for four times and never again: worth holding, said every use, until
    the idle holds of a second were the whole budget, nothing could leave, and all was 503."""
    edge = edges(budget=2 << 20)
    stop = threading.Event()

    def control() -> None:
        while not stop.is_set():
            for fill in edge.plane.misses():
                fill.begin(200, TYPE, length=60_000, ttl_ms=60_000)
                fill.append(b"x" * 60_000)
                fill.commit()

    filling = threading.Thread(target=control)
    filling.start()
    try:
        with edge.viewer() as viewer:
            for number in range(150):
                assert [viewer.ask(f"/{number}").status for _ in range(4)] == [200] * 4
    finally:
        stop.set()
        filling.join()
    assert edge.count("store_refused") == 0
    assert edge.count("store_evicted") > 100


def test_without_room_viewers_are_shed(edges: Callable[..., Edge]) -> None:
    """A fill may not be evicted; when fills alone fill the budget, others are told 503."""
    edge = edges(budget=200_000)
    fill = edge.plane.open(b"/big")
    assert fill is not None
    fill.begin(200, TYPE, ttl_ms=60_000)
    while fill.append(b"x" * 10_000):
        pass
    assert 150_000 < fill.filled <= 220_000
    answer = edge.ask("/other")
    assert (answer.status, answer.fields[b"retry-after"]) == (503, b"1")
    assert edge.count("shed") == 1
    assert edge.put("/x", b"y" * 100_000) == PUT_NO_SPACE
    fill.fail(502)
    del fill  # the bytes count for as long as somebody holds them
    assert edge.put("/x", b"y" * 100_000) == PUT_CREATED
    assert edge.ask("/x").status == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_every_change_reaches_every_waiter(edges: Callable[..., Edge], workers: int) -> None:
    """The race that a fence is for: change and tell, against say interest and look."""
    edge = edges(workers=workers)
    rounds = 150

    def ask(offset: int) -> None:
        with edge.viewer() as viewer:
            for i in range(rounds):
                assert viewer.ask(f"/{i}").body == b"%d" % i, offset

    viewers = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for viewer in viewers:
        viewer.start()
    for i in range(rounds):
        edge.put(f"/{i}", b"%d" % i)
    for viewer in viewers:
        viewer.join()
    edge.plane.misses()


def test_lookup_counts_waiters(edge: Edge) -> None:
    viewers = [edge.viewer() for _ in range(7)]
    for viewer in viewers:
        viewer.send(get("/a"))
    edge.await_parked(7)
    found = edge.plane.lookup(b"/a")
    assert found is not None
    assert (found["state"], found["waiters"]) == (b"reserved", 7)
    for viewer in viewers:
        viewer.close()
    eventually(lambda: edge.count("parked_now") == 0)
    edge.fill()
