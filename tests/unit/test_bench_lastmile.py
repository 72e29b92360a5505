"""The line between healthy viewers and a cache in bench: a round trip, and no byte lost."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from bench.clients.bystanders import AT_HOME, Bystanders
from bench.clients.lastmile import lastmile
from bench.clients.watch import watched

ROUND_TRIP_S = 0.01
BODY = bytes(range(256)) * 64
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


def _answers(connection: socket.socket) -> None:
    with connection, contextlib.suppress(ConnectionError):  # the line was cut
        while connection.recv(4096):
            connection.sendall(ANSWER)


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    """Answers whatever it is sent."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=_answers, args=[connection], daemon=True).start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()


def test_every_byte_takes_a_round_trip_and_both_ends_go(server: tuple[str, int]) -> None:
    with lastmile(server, ROUND_TRIP_S) as behind:
        viewer = socket.create_connection(behind.address, timeout=30)
        for _ in range(3):
            began_s = time.monotonic()
            viewer.sendall(b"GET / HTTP/1.1\r\n\r\n")
            data = b""
            while len(data) < len(ANSWER):
                data += viewer.recv(65536)
            assert time.monotonic() - began_s >= ROUND_TRIP_S
            assert data == ANSWER
        viewer.shutdown(socket.SHUT_WR)
        assert viewer.recv(1) == b"", "the server's end is passed on"
        viewer.close()
        hits = behind.hits()
    assert len(hits) == 2, "one is told when the next request passes"
    for hit in hits:
        assert hit.answered_ns > hit.asked_ns
        assert hit.late_ns >= 0


def test_what_viewers_see_is_the_line_and_the_server(server: tuple[str, int]) -> None:
    with lastmile(server, ROUND_TRIP_S) as behind:
        viewers = Bystanders(behind.address, "/", AT_HOME)
        found = watched(viewers, lambda: viewers.run(0.1), duration_s=0.1, turns=1, behind=behind)
        viewers.close()
    for seen, own in ((found.alone_ms, found.server_alone_ms),
                      (found.beside_ms, found.server_beside_ms)):  # fmt: skip
        ((_, seen_ms),), ((_, own_ms),) = seen, own
        assert seen_ms >= 1000 * ROUND_TRIP_S
        assert own_ms > 0
