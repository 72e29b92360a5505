"""Many viewers on open connections in one process, each arrival stamped by the kernel.

Lag is read from SO_TIMESTAMPNS: the moment the segment reached this host's TCP, whatever the client
was doing then. So a client in Python can watch thousands of viewers without its own reading time
being taken for the server's lag, as long as an answer fits the receive window (it is checked). When
segments were merged before they were read the stamp is the later one: lag is never flattered.

Stamps are wall clock nanoseconds, like the origin stub's. Bounds: one request outstanding a viewer.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Final

import httptools

SO_TIMESTAMPNS: Final = 35
_TIMESPEC: Final = struct.Struct("ll")
_READ_BYTES: Final = 256 << 10
_CONTROL_BYTES: Final = socket.CMSG_SPACE(_TIMESPEC.size)
CONNECT_TIMEOUT_S: Final = 5.0
RECEIVE_WINDOW: Final = 64 << 10  # what tcp_rmem's default surely takes unread


class Viewer:
    """`arrivals`: (stamp ns, body bytes so far) at each read of the answer being received."""

    def __init__(self, address: tuple[str, int], done: Callable[[Viewer], None]) -> None:
        self.socket = socket.create_connection(address, CONNECT_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setblocking(False)
        self._done = done
        self.failed = False
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.body_bytes = 0
        self.arrivals: list[tuple[int, int]] = []

    def ask(self, request: bytes) -> None:
        self._reset()
        self.asked_ns = time.time_ns()
        self.socket.send(request)

    def read(self, buffer: bytearray) -> None:
        try:
            size, control, _, _ = self.socket.recvmsg_into([buffer], _CONTROL_BYTES)
        except BlockingIOError:
            return
        except OSError:
            size, control = 0, []
        if size == 0:
            self._fail()
            return
        stamp = _stamp(control)
        before = self.body_bytes
        try:
            self._parser.feed_data(memoryview(buffer)[:size])
        except httptools.HttpParserError:
            self._fail()
            return
        if self.body_bytes > before:
            self.arrivals.append((stamp, self.body_bytes))
        if self._complete:
            self._done(self)

    _complete = False

    def on_message_begin(self) -> None:
        self._complete = False

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)

    def on_message_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._complete = True

    def _fail(self) -> None:
        self.failed = True
        self._done(self)


def _stamp(control: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            return int(seconds * 1_000_000_000 + nanoseconds)
    return time.time_ns()


class Crowd:
    """Viewers connected to one server."""

    def __init__(self, address: tuple[str, int], size: int) -> None:
        self.address = address
        self._epoll = select.epoll()
        self._buffer = bytearray(_READ_BYTES)
        self._by_fd: dict[int, Viewer] = {}
        self.waiting: set[Viewer] = set()
        self.viewers = [self._connect() for _ in range(size)]

    def _connect(self) -> Viewer:
        viewer = Viewer(self.address, self._answered)
        fd = viewer.socket.fileno()
        self._by_fd[fd] = viewer
        self._epoll.register(fd, select.EPOLLIN)
        return viewer

    def close(self) -> None:
        for viewer in self.viewers:
            viewer.socket.close()
        self._epoll.close()

    def _answered(self, viewer: Viewer) -> None:
        self.waiting.discard(viewer)
        if viewer.failed:
            with contextlib.suppress(OSError):
                self._epoll.unregister(viewer.socket.fileno())

    def ask(self, request: bytes) -> tuple[int, int]:
        """Everybody asks; (wall ns of the first, of the last)."""
        began = time.time_ns()
        for viewer in self.viewers:
            if not viewer.failed:
                self.ask_one(viewer, request)
        return began, time.time_ns()

    def ask_one(self, viewer: Viewer, request: bytes) -> None:
        self.waiting.add(viewer)
        viewer.ask(request)

    def turn(self, timeout_s: float, most: int = 4096) -> None:
        """Read what arrived, of `most` viewers at most; waits for the first."""
        for fd, _ in self._epoll.poll(timeout_s, most):
            self._by_fd[fd].read(self._buffer)

    def read_for(self, duration_s: float) -> None:
        """Read whatever arrives until the time is over or nobody waits."""
        deadline = time.monotonic() + duration_s
        while self.waiting and (left := deadline - time.monotonic()) > 0:
            self.turn(left)

    def answered(self) -> Iterator[Viewer]:
        """Viewers whose answer came whole with status 200."""
        return (v for v in self.viewers if v not in self.waiting and not v.failed
                and v.status == 200)  # fmt: skip


def request(address: tuple[str, int], target: str, fields: str = "") -> bytes:
    host = f"{address[0]}:{address[1]}"
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode()


def fetch(address: tuple[str, int], target: str) -> bytes:
    """One whole answer's body, over a connection of its own."""
    with contextlib.closing(_connection(address)) as connection:
        connection.request("GET", target)
        return connection.getresponse().read()


def _connection(address: tuple[str, int]) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(*address, timeout=CONNECT_TIMEOUT_S)
