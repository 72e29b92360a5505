"""A parked request, written once more: it asks for the same, and waits for the same."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import termios
from collections.abc import Iterator

import pytest

from tests.native.kit import Cut, Edge, eventually, get, settled

LIVE = "/live/s/v.m3u8"


@pytest.fixture
def edges() -> Iterator[tuple[Edge, Edge]]:
    """One that hands over, and one that takes."""
    old, new = Edge(workers=2), Edge()
    yield old, new
    for edge in (old, new):
        settled(edge)
        edge.stop()


def unacknowledged(sock: socket.socket) -> int:
    """Bytes sent that the other side's kernel does not have yet."""
    held = array.array("i", [0])
    fcntl.ioctl(sock, termios.TIOCOUTQ, held)
    return held[0]


def leaving(edge: Edge, number: int = 1) -> list[tuple[int, bytes]]:
    """What comes out for a successor, once that many connections did."""
    found: list[tuple[int, bytes]] = []

    def all_here() -> bool:
        edge.plane.hand_over()
        for fd, head, unread, _ in edge.plane.guests():
            assert head == b""
            found.append((fd, unread))
        return len(found) >= number

    eventually(all_here)
    return found


def move(old: Edge, new: Edge, number: int = 1) -> list[bytes]:
    """Returns what was read of each."""
    found = leaving(old, number)
    for fd, unread in found:
        assert new.plane.give_back(fd, unread, b"127.0.0.1")
    return [unread for _, unread in found]


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        (f"{LIVE}?_HLS_msn=7", []),
        (f"{LIVE}?_HLS_msn=7&_HLS_part=3&_HLS_skip=YES", ["Accept-Encoding: gzip"]),
        (f"{LIVE}?_HLS_msn=7&_HLS_part=3&_HLS_skip=v2", ['If-None-Match: "other"']),
    ],
)
def test_who_waits_for_a_version_waits_for_it_elsewhere(
    edges: tuple[Edge, Edge], target: str, fields: list[str]
) -> None:
    old, new = edges
    for edge in edges:
        edge.publish(LIVE, (7, 3, 4))
    with old.viewer() as viewer:
        viewer.send(get(target, *fields))
        old.await_parked(1)
        (written,) = move(old, new)
        assert written.startswith(f"GET {target} HTTP/1.1\r\nHost: ".encode())
        for field in fields:
            assert f"\r\n{field}\r\n".encode() in written
        new.await_parked(1)
        new.publish(LIVE, (8, 1, 4))
        assert viewer.answer().status == 200
    assert old.count("park_drained") == 1


def test_idle_and_half_asked_connections_go_as_they_are(edges: tuple[Edge, Edge]) -> None:
    old, new = edges
    for edge in edges:
        edge.put("/a", b"body")
    with old.viewer() as idle, old.viewer() as half, old.viewer() as silent:
        assert not idle.ask("/a").closes
        half.send(get("/a")[:12])
        old.await_count("bytes_in", len(get("/a")) + 12)
        old.await_count("accepted", 3)
        assert sorted(move(old, new, 3)) == [b"", b"", get("/a")[:12]]
        half.send(get("/a")[12:])
        for viewer in (idle, silent):
            viewer.send(get("/a"))
        for viewer in (idle, half, silent):
            answer = viewer.answer()
            assert (answer.body, answer.closes) == (b"body", False)
    assert (old.count("passed_on"), new.count("taken_back")) == (3, 3)


def test_an_answer_under_way_is_finished_first(edges: tuple[Edge, Edge]) -> None:
    old, new = edges
    for edge in edges:
        edge.put("/next", b"next")
    body = os.urandom(1 << 20)
    with old.viewer() as viewer:
        viewer.send(get("/fill") + get("/next"))
        fill = old.fill()
        fill.begin(200, b"", length=len(body), ttl_ms=60_000)
        fill.append(body[:1000])
        assert viewer.head()[0] == 200
        old.plane.hand_over()
        fill.append(body[1000:])
        fill.commit()
        assert viewer.read(len(body)) == body
        assert move(old, new) == [get("/next")]
        assert viewer.answer().body == b"next"


def test_a_fill_under_way_is_waited_for_here(edges: tuple[Edge, Edge]) -> None:
    """Its second request would be one too many at the origin."""
    old, new = edges
    with old.viewer() as viewer:
        viewer.send(get("/fill"))
        fill = old.fill()
        old.await_parked(1)
        old.plane.hand_over()
        old.await_count("loops", old.count("loops") + 2)
        assert old.plane.guests() == []
        fill.begin(200, b"", length=4, ttl_ms=60_000)
        fill.append(b"done")
        fill.commit()
        assert viewer.answer().body == b"done"
        move(old, new)


def test_who_waits_for_a_push_that_went_elsewhere_goes_there(edges: tuple[Edge, Edge]) -> None:
    old, new = edges
    with old.viewer() as viewer:
        viewer.send(get("/live/s/a/v/7.3.m4s", "Range: bytes=0-9"))
        fill = old.fill()
        old.await_parked(1)
        old.plane.purge(b"/live/s/a/v/7.3.m4s")
        (written,) = move(old, new)
        assert b"\r\nRange: bytes=0-9\r\n" in written
        del fill
        held = new.fill()
        new.put("/live/s/a/v/7.3.m4s", b"0123456789abc")
        assert viewer.answer().body == b"0123456789"
        assert not held.live


def test_too_much_behind_a_parked_request_stays(edges: tuple[Edge, Edge]) -> None:
    """All of it is at hand when the request is read: no more is read behind one that is parked,
    and half of what is sent at once may come first."""
    old, new = edges
    old.publish(LIVE, (7, 3, 4))
    for edge in edges:
        edge.put("/a", b"body")
    more = get("/a") * 1200
    with old.viewer() as viewer:
        viewer.send(get("/fill"))
        fill = old.fill()
        old.await_parked(1)
        viewer.send(get(f"{LIVE}?_HLS_msn=7") + more)
        eventually(lambda: unacknowledged(viewer.sock) == 0)
        fill.begin(200, b"", length=4, ttl_ms=60_000)
        fill.append(b"done")
        fill.commit()
        assert viewer.answer().body == b"done"
        old.await_parked(1)
        old.await_count("bytes_in", 33 << 10)
        old.plane.hand_over()
        old.await_count("loops", old.count("loops") + 2)
        assert old.plane.guests() == []
        old.publish(LIVE, (8, 1, 4))
        assert 0 < len(move(old, new)[0]) <= 32 << 10
        assert [viewer.answer().status for _ in range(1201)] == [200] * 1201


def test_what_nobody_took_is_drained_in_the_end(edges: tuple[Edge, Edge]) -> None:
    old, _ = edges
    with old.viewer() as viewer, old.viewer() as other:
        old.await_count("accepted", 2)
        for fd, _unread in leaving(old, 2):
            os.close(fd)
        assert viewer.at_end()
        assert other.at_end()
    with socket.socket() as late:
        late.connect(("127.0.0.1", old.port))  # the listener is open: its owner's to close
    old.plane.drain()


def test_a_descriptor_that_its_sender_still_holds() -> None:
    """epoll keeps looking at a socket that another process has open, after ours was closed: events
    came for a connection that was gone, and the successor aborted (seen under load)."""
    old, new = Edge(), Edge(keepalive_ms=50)
    new.put("/a", b"body")
    with old.viewer() as viewer:
        old.await_count("accepted", 1)
        ((fd, unread),) = leaving(old)
        held = os.dup(fd)
        assert new.plane.give_back(fd, unread, b"127.0.0.1")
        assert viewer.ask("/a").body == b"body"
        new.await_count("closed_idle", 1)
        viewer.send(get("/a"))
        loops = new.count("loops")
        assert new.ask("/a").body == b"body"
        new.await_count("loops", loops + 2)
        os.close(held)
        with pytest.raises(Cut):
            viewer.answer()
    for edge in (old, new):
        settled(edge)
        edge.stop()
