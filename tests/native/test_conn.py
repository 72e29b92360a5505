"""The transport of one viewer: buffers borrowed, never shared, given back (native/conn.pxd)."""

from __future__ import annotations

import socket
import threading

import pytest

from edgecache._core import live_objects
from tests.native._probe import StoreOf, Worker
from tests.native.kit import TYPE, Edge, Viewer, eventually, get


def test_nothing_is_kept_for_an_idle_viewer(edge: Edge) -> None:
    """An input buffer is borrowed only while something is left over."""
    edge.put("/a", b"x")
    viewers: list[Viewer] = [edge.viewer() for _ in range(20)]
    for viewer in viewers:
        viewer.send(get("/a") + b"GET")
        assert viewer.answer().status == 200
    eventually(lambda: live_objects()["buffers"] == 20)
    for viewer in viewers:
        viewer.send(get("/a")[3:])
        assert viewer.answer().status == 200
    eventually(lambda: live_objects()["buffers"] == 0)
    for viewer in viewers:
        viewer.close()


@pytest.mark.parametrize("left", [1, 4095, 4096, 4097, 16_000])
def test_what_is_left_over_stays_with_its_viewer(edge: Edge, left: int) -> None:
    """Two viewers leave parts of heads in the worker's one scratch buffer, in turns."""
    edge.put("/one", b"1")
    edge.put("/two", b"2")
    heads = [get(path, "X: " + "y" * 16_000) for path in ("/one", "/two")]
    with edge.viewer() as one, edge.viewer() as two:
        one.send(get("/one") + heads[0][:left])
        assert one.answer().body == b"1"
        two.send(get("/two") + heads[1][:left])
        assert two.answer().body == b"2"
        one.send(heads[0][left:])
        two.send(heads[1][left:])
        assert [one.answer().body, two.answer().body] == [b"1", b"2"]


def test_a_buffer_full_of_requests_behind_a_parked_one(edge: Edge) -> None:
    """More than one read's worth waits: partly in our buffer, the rest in the kernel's."""
    edge.put("/a", b"x")
    number = 3000
    with edge.viewer() as viewer:
        sender = threading.Thread(target=viewer.send, args=(get("/miss") + get("/a") * number,))
        sender.start()
        fill = edge.fill()
        fill.begin(200, TYPE, length=1, ttl_ms=60_000)
        fill.append(b"m")
        fill.commit()
        found = [viewer.answer().body for _ in range(number + 1)]
        sender.join()
    assert found == [b"m"] + [b"x"] * number


def test_requests_that_end_exactly_at_the_end_of_a_read(edge: Edge) -> None:
    """RX_BYTES to the byte, and one more or less."""
    edge.put("/a", b"x")
    bare = len(get("/a", "X: "))
    for size in (65535, 65536, 65537, 131072):
        pad = size - 4 * 16_000
        heads = [get("/a", "X: " + "y" * (16_000 - bare)) for _ in range(4)]
        while pad > 0:
            step = min(pad, 16_000)
            step = step if step >= bare else bare
            heads.append(get("/a", "X: " + "y" * (step - bare)))
            pad -= step
        with edge.viewer() as viewer:
            viewer.send(b"".join(heads))
            assert [viewer.answer().status for _ in heads] == [200] * len(heads)


def test_many_viewers_in_slow_motion(edge: Edge) -> None:
    """One byte from each in turn: every head is put together apart from the others."""
    for i in range(20):
        edge.put(f"/{i}", str(i).encode())
    viewers = [edge.viewer() for _ in range(20)]
    heads = [get(f"/{i}") for i in range(20)]
    for at in range(max(map(len, heads))):
        for viewer, head in zip(viewers, heads, strict=True):
            viewer.send(head[at : at + 1])
    assert [viewer.answer().body for viewer in viewers] == [str(i).encode() for i in range(20)]
    for viewer in viewers:
        viewer.close()


def congestion(item: socket.socket) -> str:
    return item.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


@pytest.mark.parametrize("rate", [0, 30_000_000])
def test_a_paced_viewer_goes_on_with_the_hosts_congestion_control(rate: int) -> None:
    """The listener's is for answers that are not worth pacing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hosts = congestion(listener)
        listeners = "reno" if hosts != "reno" else "cubic"
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, listeners.encode())
        worker = Worker(StoreOf(1 << 20), listener.fileno())
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
        with accepted.dup() as seen:
            assert congestion(seen) == listeners
            assert worker.accept(accepted.detach())
            worker.pace(rate)
            assert congestion(seen) == (hosts if rate else listeners)
        assert worker.expire(60_000) == (0, False)
        worker.close()
