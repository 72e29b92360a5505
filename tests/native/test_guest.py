"""Connections that change planes: everything read goes along, and comes back, once."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from tests.native.kit import Edge, Viewer, eventually, get, settled

SITE = b"/site/"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@pytest.fixture
def edge() -> Iterator[Edge]:
    made = Edge(workers=2, sites=[SITE])
    yield made
    settled(made)
    made.stop()


def taken(edge: Edge) -> tuple[socket.socket, bytes, bytes]:
    found: list[tuple[int, bytes, bytes, bytes]] = []

    def arrived() -> bool:
        found.extend(edge.plane.guests())
        return bool(found)

    eventually(arrived)
    ((fd, head, rest, client),) = found
    assert client == b"127.0.0.1"
    return socket.socket(fileno=fd), head, rest


def give_back(edge: Edge, sock: socket.socket, unread: bytes) -> bool:
    fd = sock.detach()
    given = edge.plane.give_back(fd, unread, b"127.0.0.1")
    if not given:
        os.close(fd)
    return given


def test_what_was_read_goes_along_and_the_rest_comes_back(edge: Edge) -> None:
    edge.put("/live/a", b"media")
    asked = get("/site/x?y=1", "X: 1", method="POST")
    with edge.viewer() as viewer:
        viewer.send_all(asked + get("/live/a") + b"GET /li")
        sock, head, rest = taken(edge)
        assert (head, rest) == (asked, get("/live/a") + b"GET /li")
        sock.sendall(ANSWER)
        assert give_back(edge, sock, rest)
        assert viewer.read(len(ANSWER)) == ANSWER
        assert viewer.answer().body == b"media"
        viewer.send_all(b"ve/a HTTP/1.1\r\nHost: h\r\n\r\n")
        assert viewer.answer().body == b"media"
    assert (edge.count("handed_over"), edge.count("taken_back")) == (1, 1)


@pytest.mark.parametrize(
    "target", ["/site", "/sit/x", "/live/site/", "/site/../live/a", "/%73ite%2fx", "/other"]
)
def test_only_what_is_below_the_prefix(edge: Edge, target: str) -> None:
    with edge.viewer() as viewer:
        viewer.send_all(get(target, method="POST"))
        assert viewer.answer().status in (400, 405)
    assert edge.count("handed_over") == 0


@pytest.mark.parametrize("target", ["/site/", "/%73ite/x", "http://h/site/x", "/site/a%20b?c"])
def test_by_the_canonical_path(edge: Edge, target: str) -> None:
    with edge.viewer() as viewer:
        viewer.send_all(get(target))
        sock, head, rest = taken(edge)
        assert (head, rest) == (get(target), b"")
        sock.sendall(ANSWER)
        assert give_back(edge, sock, b"")
        assert viewer.read(len(ANSWER)) == ANSWER


def test_what_cannot_come_back_stays_with_whoever_has_it(edge: Edge) -> None:
    with edge.viewer() as viewer:
        viewer.send_all(get("/site/x"))
        sock, _, _ = taken(edge)
        assert not edge.plane.give_back(sock.fileno(), bytes((32 << 10) + 1), b"127.0.0.1")
        sock.sendall(ANSWER)
        assert viewer.read(len(ANSWER)) == ANSWER
        sock.close()
        assert viewer.at_end()


def test_a_viewer_that_left_meanwhile_is_noticed(edge: Edge) -> None:
    with edge.viewer() as viewer:
        viewer.send_all(get("/site/x"))
        sock, _, _ = taken(edge)
    assert give_back(edge, sock, b"")
    edge.await_count("taken_back", 1)


def test_guests_nobody_took_are_closed_with_the_plane() -> None:
    edge = Edge(sites=[SITE])
    viewers = [Viewer(edge.port) for _ in range(3)]
    for viewer in viewers:
        viewer.send_all(get("/site/x"))
    edge.await_count("handed_over", 3)
    edge.stop()
    for viewer in viewers:
        assert viewer.at_end()
        viewer.close()


def test_one_that_comes_back_to_a_draining_plane_is_closed(edge: Edge) -> None:
    with edge.viewer() as viewer:
        viewer.send_all(get("/site/x"))
        sock, _, _ = taken(edge)
        edge.plane.drain()
        sock.sendall(ANSWER)
        assert give_back(edge, sock, b"")
        assert viewer.read(len(ANSWER)) == ANSWER
        assert viewer.at_end()
