"""The whole plane on loopback, one worker: a publish that wakes 1,000 parked exchanges, and hits.

Wall time runs from the call to the last answer readable at its viewer; the worker's own CPU time
stands beside it. On loopback that moves with the reader (a 64 KiB hit: 15 µs under a slow one, 40
under a fast one), so costs to build on come from the scenarios of bench/, not from here. Woken
viewers only listen while the clock runs; what they got is read and checked after it has stopped.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from edgecache._core import PUT_CREATED, Plane, live_objects

_PARKED: Final = 1000
_PIPELINED: Final = 64
_ROUNDS: Final = 15
_WAIT_S: Final = 20.0
_KEY: Final = b"/live/s/720p.m3u8"
_PLAYLIST: Final = b"#EXTM3U\n" + b"#EXT-X-PROGRAM-DATE-TIME\n" * 40  # 1 KiB
_LIMIT: Final = 4 * _PARKED


def _listener() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(_LIMIT)
    sock.setblocking(False)
    return sock


def _get(target: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: edge.test\r\n\r\n" % target


@dataclass
class Stage:
    """A plane with one worker. `parts`: of the newest version of the playlist."""

    plane: Plane
    address: tuple[str, int]
    cpu_clock: int
    viewers: list[socket.socket] = field(default_factory=list)
    parts: int = 0

    def viewer(self) -> socket.socket:
        sock = socket.create_connection(self.address, timeout=_WAIT_S)
        self.viewers.append(sock)
        return sock

    def cpu_s(self) -> float:
        """The worker's, so far."""
        return time.clock_gettime(self.cpu_clock)

    def publish(self) -> None:
        self.parts += 1
        put = self.plane.publish(
            _KEY,
            msn=1,
            parts=self.parts,
            last_parts=1,
            hold_ms=20_000,
            advance=9,
            ended=False,
            ttl_ms=60_000,
            fields=[b"Content-Type: application/vnd.apple.mpegurl\r\n", None, None, None],
            bodies=[_PLAYLIST, None, None, None],
            etags=[b"v%d" % self.parts, None, None, None],
        )
        assert put == PUT_CREATED

    def park(self) -> None:
        """Every viewer asks for the part after the newest."""
        request = _get(b"%b?_HLS_msn=1&_HLS_part=%d" % (_KEY, self.parts))
        for viewer in self.viewers:
            viewer.sendall(request)
        deadline = time.monotonic() + _WAIT_S
        while (parked := self.plane.counters()["parked_now"]) < len(self.viewers):
            assert time.monotonic() < deadline, f"{parked} of {len(self.viewers)} are parked"
            time.sleep(0.001)


@pytest.fixture
def stage() -> Iterator[Stage]:
    before = live_objects()
    known = set(threading.enumerate())
    limits = {"max_connections": _LIMIT, "max_parked": _LIMIT}
    plane = Plane(name=b"pop-a", budget_bytes=64 << 20, limits=limits)
    with _listener() as listener:
        plane.start([listener.fileno()])
        (worker,) = set(threading.enumerate()) - known
        assert worker.ident is not None
        made = Stage(plane, listener.getsockname(), time.pthread_getcpuclockid(worker.ident))
        yield made
        for viewer in made.viewers:
            viewer.close()
        plane.stop()
    del plane, made.plane
    assert live_objects() == before


def _all_readable(poll: select.epoll, number: int) -> None:
    """Until that many have something to read; edge-triggered, so each reports once or twice."""
    seen: set[int] = set()
    deadline = time.monotonic() + _WAIT_S
    while len(seen) < number:
        events = poll.poll(_WAIT_S, number)
        seen.update(fd for fd, _ in events)
        assert time.monotonic() < deadline, f"{len(seen)} of {number} were answered"


def _read(viewer: socket.socket, number: int, end: bytes) -> bytes:
    """So many answers, each ending with `end`, which stands nowhere else in them."""
    pieces: list[bytes] = []
    ended = 0
    rest = b""
    while ended < number:
        piece = viewer.recv(1 << 20)
        assert piece, "closed"
        pieces.append(piece)
        ended += (rest + piece).count(end)
        rest = (rest + piece)[1 - len(end) :]
    got = b"".join(pieces)
    assert got.endswith(end)
    return got


def test_wake(
    benchmark: BenchmarkFixture,
    timed: Callable[..., Any],
    note: Callable[..., None],
    stage: Stage,
) -> None:
    """One publish, 1,000 exchanges parked on it."""
    cpu_us: list[float] = []
    stage.publish()
    with select.epoll() as poll:
        for _ in range(_PARKED):
            poll.register(stage.viewer().fileno(), select.EPOLLIN | select.EPOLLET)

        def wake() -> None:
            before = stage.cpu_s()
            stage.publish()
            _all_readable(poll, _PARKED)
            cpu_us.append((stage.cpu_s() - before) * 1e6)

        def check() -> None:
            tag = b'ETag: "v%d"\r\n' % stage.parts
            for viewer in stage.viewers:
                got = _read(viewer, 1, _PLAYLIST)
                assert got.startswith(b"HTTP/1.1 200 OK\r\n")
                assert tag in got

        timed(wake, setup=stage.park, teardown=check, rounds=_ROUNDS, iterations=1)
    if benchmark.stats is not None:
        wall_us = benchmark.stats.stats.median * 1e6
        cpu = sorted(cpu_us)[len(cpu_us) // 2]
        note(wall_us_per_wake=wall_us / _PARKED, worker_cpu_us_per_wake=cpu / _PARKED)
    counters = stage.plane.counters()
    assert counters["woken"] == counters["parked"] == len(cpu_us) * _PARKED


@pytest.mark.parametrize("size", [1024, 65_536], ids=["1KiB", "64KiB"])
def test_hit(
    benchmark: BenchmarkFixture,
    timed: Callable[..., Any],
    note: Callable[..., None],
    stage: Stage,
    size: int,
) -> None:
    """64 requests for one object in one write on a kept-alive connection, all answers read. The
    wall time holds Python's reading too; the worker's CPU time does not."""
    body = b"x" * (size - 4) + b"end\n"
    put = stage.plane.put(b"/o", body, b"Content-Type: video/mp4\r\n", etag=b"e", ttl_ms=60_000)
    assert put == PUT_CREATED
    requests = _get(b"/o") * _PIPELINED
    viewer = stage.viewer()
    cpu_us: list[float] = []

    def hits() -> bytes:
        before = stage.cpu_s()
        viewer.sendall(requests)
        got = _read(viewer, _PIPELINED, b"end\n")
        cpu_us.append((stage.cpu_s() - before) * 1e6)
        return got

    got = timed(hits, rounds=10 * _ROUNDS, iterations=1)
    assert got.count(b"HTTP/1.1 200 OK\r\n") == got.count(body) == _PIPELINED
    if benchmark.stats is not None:
        wall_us = benchmark.stats.stats.median * 1e6
        cpu = sorted(cpu_us)[len(cpu_us) // 2]
        note(wall_us_per_hit=wall_us / _PIPELINED, worker_cpu_us_per_hit=cpu / _PIPELINED)
    assert stage.plane.counters()["hits"] == len(cpu_us) * _PIPELINED
