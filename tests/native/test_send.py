"""Bodies on their way: as they grow, whole, cut, slowly read (native/send.pxd)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from tests.native.kit import TYPE, WAIT_S, Cut, Edge, get

CLOSE = "Connection: close"
PIECES = [b"a" * 10, b"b" * 70_000, b"c", b"d" * 2_000_000, b"e" * 4096]


def test_a_body_of_unknown_length_is_chunked(edge: Edge) -> None:
    """Whatever is readable becomes one chunk; nothing waits for more than there is."""
    with edge.viewer() as viewer:
        viewer.send(get("/a"))
        fill = edge.fill()
        fill.begin(200, TYPE, ttl_ms=60_000)
        status, fields = viewer.head()
        assert (status, fields[b"transfer-encoding"]) == (200, b"chunked")
        assert b"content-length" not in fields
        for piece in PIECES:
            fill.append(piece)
            got = b""
            while len(got) < len(piece):
                got += viewer.chunk()
            assert got == piece
        assert viewer.silent()
        fill.commit()
        assert viewer.chunk() == b""
        assert viewer.ask("/a").body == b"".join(PIECES)


@pytest.mark.parametrize("heap", [0, 1 << 24], ids=["memfd", "heap"])
def test_a_body_of_known_length_streams(edges: Callable[..., Edge], heap: int) -> None:
    edge = edges(heap_max_bytes=heap)
    with edge.viewer() as viewer:
        viewer.send(get("/a"))
        fill = edge.fill()
        total = sum(map(len, PIECES))
        fill.begin(200, TYPE, length=total, ttl_ms=60_000)
        assert viewer.head()[1][b"content-length"] == b"%d" % total
        for piece in PIECES:
            fill.append(piece)
            assert viewer.read(len(piece)) == piece
        fill.commit()
        assert viewer.ask("/a").body == b"".join(PIECES)


def test_the_last_byte_needs_no_commit(edge: Edge) -> None:
    with edge.viewer() as viewer:
        viewer.send(get("/a"))
        fill = edge.fill()
        fill.begin(200, TYPE, length=3, ttl_ms=60_000)
        fill.append(b"xyz")
        assert viewer.answer().body == b"xyz"
        assert viewer.ask("/a").body == b"xyz"
        fill.commit()


def test_late_viewers_catch_up_with_a_growing_body(edge: Edge) -> None:
    fill = edge.plane.open(b"/a")
    assert fill is not None
    fill.begin(200, TYPE, ttl_ms=60_000)
    whole = b""
    viewers = []
    for piece in PIECES:
        fill.append(piece)
        whole += piece
        viewers.append(edge.viewer())
        viewers[-1].send(get("/a"))
        status, _ = viewers[-1].head()
        assert status == 200
    fill.commit()
    for viewer in viewers:
        got = b""
        while data := viewer.chunk():
            got += data
        assert got == whole
        viewer.close()


def test_head_of_a_growing_body(edge: Edge) -> None:
    fill = edge.plane.open(b"/a")
    assert fill is not None
    fill.begin(200, TYPE, ttl_ms=60_000)
    fill.append(b"12345")
    with edge.viewer() as viewer:
        assert viewer.ask("/a", method="HEAD").fields[b"transfer-encoding"] == b"chunked"
        fill.commit()
        assert viewer.ask("/a", method="HEAD").fields[b"content-length"] == b"5"


@pytest.mark.parametrize("status", [200, 404])
def test_old_clients_read_to_the_end(edge: Edge, status: int) -> None:
    """HTTP/1.0 knows no chunks: the body ends with the connection."""
    with edge.viewer() as viewer:
        viewer.send(get("/a", "Connection: keep-alive", version="1.0"))
        fill = edge.fill()
        fill.begin(status, TYPE, ttl_ms=60_000)
        fill.append(b"123")
        found, fields = viewer.head()
        assert found == status
        assert fields[b"connection"] == b"close"
        assert b"transfer-encoding" not in fields
        assert viewer.read(3) == b"123"
        fill.append(b"45")
        fill.commit()
        assert viewer.read(2) == b"45"
        assert viewer.at_end()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("length", [-1, 10])
def test_a_cut_body_never_looks_whole(edge: Edge, version: str, length: int) -> None:
    """A reset, whatever the framing: even 1.0, whose bodies end with the connection."""
    with edge.viewer() as viewer:
        viewer.send(get("/a", version=version))
        fill = edge.fill()
        fill.begin(200, TYPE, length=length, ttl_ms=60_000)
        fill.append(b"12345")
        viewer.head()
        fill.fail(502)
        with pytest.raises(Cut, match="reset"):
            viewer.read(1000)
    edge.await_count("cut", 1)
    with edge.viewer() as viewer:
        viewer.send(get("/a"))
        edge.fill().fail(404)
        assert viewer.answer().status == 404, "nothing of it was kept"


def test_a_cut_reaches_everybody(edges: Callable[..., Edge]) -> None:
    edge = edges(workers=2)
    viewers = [edge.viewer() for _ in range(40)]
    for viewer in viewers:
        viewer.send(get("/a"))
    edge.await_parked(40)
    fill = edge.fill()
    fill.begin(200, TYPE, length=100_000, ttl_ms=60_000)
    fill.append(b"x" * 50_000)
    for viewer in viewers:
        viewer.head()
    fill.fail(502)
    for viewer in viewers:
        with pytest.raises(Cut, match="reset"):
            viewer.read(100_000)
        viewer.close()
    assert edge.count("cut") == 40


def test_a_starved_body_is_cut_at_its_deadline(edges: Callable[..., Edge]) -> None:
    edge = edges(fill_ms=200)
    with edge.viewer() as viewer:
        viewer.send(get("/a"))
        fill = edge.fill()
        fill.begin(200, TYPE, length=10, ttl_ms=60_000)
        fill.append(b"12345")
        viewer.head()
        with pytest.raises(Cut, match="reset"):
            viewer.read(10)
        fill.append(b"67890")


def test_a_trickling_fill_moves_the_deadline(edges: Callable[..., Edge]) -> None:
    edge = edges(fill_ms=1000)
    with edge.viewer() as viewer:
        viewer.send(get("/a"))
        fill = edge.fill()
        fill.begin(200, TYPE, length=12, ttl_ms=60_000)
        viewer.head()
        for i in range(12):
            time.sleep(0.15)
            fill.append(b"%x" % i)
            viewer.read(1)
        fill.commit()
        assert viewer.ask("/a").status == 200


def test_who_does_not_read_is_cut(edges: Callable[..., Edge]) -> None:
    edge = edges(write_ms=300)
    edge.put("/a", b"x" * 8_000_000)
    with edge.viewer(receive_bytes=4096) as viewer:
        viewer.send(get("/a"))
        edge.await_count("closed_write_timeout", 1)
        with pytest.raises(Cut, match="reset"):
            viewer.answer()


def test_what_is_not_read_is_not_all_in_the_kernel(edge: Edge) -> None:
    """A viewer with no window had 2.7 MB of it there, and might have had 4."""
    edge.put("/a", b"x" * (16 << 20))
    with edge.viewer(receive_bytes=4096) as viewer:
        viewer.send(get("/a"))
        out = edge.until_full()
        assert out < 3 << 19


def read_at(edge: Edge, rate: int, for_s: float) -> bool:
    """A viewer that takes `rate` bytes a second of a body that outlasts it. True: it was served
    to the end of its time; False: it was cut."""
    edge.put("/a", b"x" * 30_000_000)
    with edge.viewer(receive_bytes=65536) as viewer:
        viewer.send(get("/a"))
        viewer.head()
        began = time.monotonic()
        taken = 0
        while (spent := time.monotonic() - began) < for_s:
            if edge.count("closed_write_timeout"):
                return False
            if taken > rate * spent:
                time.sleep(0.005)
                continue
            taken += len(viewer.read(10_000))
    return True


def test_who_reads_below_the_minimum_rate_is_cut(edges: Callable[..., Edge]) -> None:
    edge = edges(write_ms=500, min_rate_bytes_s=1_000_000, pacing_bytes_s=0)
    assert not read_at(edge, 700_000, for_s=WAIT_S)


def test_who_reads_above_the_minimum_rate_is_not_cut(edges: Callable[..., Edge]) -> None:
    edge = edges(write_ms=500, min_rate_bytes_s=1_000_000, pacing_bytes_s=0)
    assert read_at(edge, 1_400_000, for_s=4.0)


def test_a_slow_viewer_is_measured_by_what_it_took(edges: Callable[..., Edge]) -> None:
    """330 KB/s, 80 times the minimum, was cut: the kernel says that there is room again when a
    third of its send buffer is free, and that took such a viewer longer than write_ms."""
    edge = edges(write_ms=1000, pacing_bytes_s=0)
    assert read_at(edge, 330_000, for_s=4.0)


def test_a_byte_now_and_then_is_not_progress(edges: Callable[..., Edge]) -> None:
    edge = edges(write_ms=500, pacing_bytes_s=0)
    edge.put("/a", b"x" * 8_000_000)
    with edge.viewer(receive_bytes=2304) as viewer:
        viewer.send(get("/a"))
        deadline = time.monotonic() + WAIT_S
        while not edge.count("closed_write_timeout"):
            viewer.sock.recv(1)
            time.sleep(0.02)
            assert time.monotonic() < deadline


def test_eviction_while_a_viewer_reads(edges: Callable[..., Edge]) -> None:
    """What left the index is still sent, byte for byte, and its memory counts until then."""
    edge = edges(budget=12 << 20, pacing_bytes_s=0)
    size = 2 << 20
    viewers = []
    for i in range(4):
        edge.put(f"/{i}", bytes([i]) * size)
        viewers.append(edge.viewer(receive_bytes=65536))
        viewers[-1].send(get(f"/{i}", CLOSE))
        assert viewers[-1].head()[0] == 200
    for i in range(40):
        edge.put(f"/later/{i}", b"z" * (size // 4))
    assert edge.count("store_evicted") > 4
    for i, viewer in enumerate(viewers):
        assert viewer.read(size) == bytes([i]) * size
        viewer.close()
    assert edge.count("store_bytes_now") <= (12 << 20) * 17 // 16


def test_a_purge_while_viewers_read(edge: Edge) -> None:
    edge.put("/a", b"1" * 8_000_000)
    with edge.viewer(receive_bytes=65536) as viewer:
        viewer.send(get("/a"))
        viewer.head()
        edge.plane.purge(b"/a")
        edge.put("/a", b"2" * 8_000_000, etag=b"other")
        assert viewer.read(8_000_000) == b"1" * 8_000_000
        assert viewer.ask("/a").body == b"2" * 8_000_000


def test_many_readers_of_a_growing_body(edges: Callable[..., Edge]) -> None:
    """Two workers, appends of every size, each reader whole and in order."""
    edge = edges(workers=2)
    pieces = [bytes([i % 256]) * (i * 37 % 5000 + 1) for i in range(200)]
    whole = b"".join(pieces)
    wrong: list[int] = []

    def read(number: int) -> None:
        with edge.viewer() as viewer:
            if viewer.ask("/a").body != whole:
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    fill = edge.fill()
    fill.begin(200, TYPE, ttl_ms=60_000)
    for piece in pieces:
        fill.append(piece)
    fill.commit()
    for thread in threads:
        thread.join()
    assert wrong == []
