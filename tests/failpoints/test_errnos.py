"""Errno walks: each call that the data plane makes fails once, in each way it may, at each of its
first turns, while viewers do what viewers do. Nothing crashes or hangs, no byte is wrong, an answer
that is not whole is not taken for whole; when it is over everything works and the ledger closes.

EAGAIN is not among the ways of sockets, nor a read of less than there is: for an edge-triggered
epoll both are promises that an event follows, which only the kernel can keep.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from edgecache._core import Fill, Plane
from tests.failpoints.conftest import SHORT, failing
from tests.native.kit import TYPE, Cut, Edge, eventually, get, listener, settled

pytestmark = pytest.mark.timeout(120)

LIST = "/list.m3u8"
BODIES = {
    "/small": bytes(range(256)) * 4,
    "/large": bytes(reversed(range(256))) * 400,
    "/grown": b"0123456789" * 9000,
    LIST: b"#EXTM3U\n",
}
SOCKET = (errno.EINTR, errno.ECONNRESET, errno.EPIPE, errno.ENOBUFS, errno.ENOMEM)
MEMORY = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
WALKS = {
    "accept4": (errno.EINTR, errno.EAGAIN, errno.ECONNABORTED, errno.ENOBUFS, *MEMORY),
    "recv": SOCKET,
    "send": (*SOCKET, SHORT),
    "sendmsg": (*SOCKET, SHORT),
    "sendfile": (*SOCKET, errno.EIO, SHORT),
    "pwrite": (errno.EINTR, errno.ENOSPC, errno.ENOMEM, SHORT),
    "memfd_create": MEMORY,
    "epoll_ctl": (errno.ENOMEM, errno.ENOSPC),
    "epoll_wait": (errno.EINTR,),
    "read": (errno.EINTR,),
    "malloc": (errno.ENOMEM,),
}
DEPTH = {"malloc": 32}  # turns that fail, one after the other; 4 of the others
STUCK_S = 8.0
TOLD_S = 1.0  # where a failure keeps the beginning from everybody


class Origin:
    """Answers every miss in a thread of its own, as long as memory lasts. Who waits has the
    beginning, or is gone, before there is more: it is sent as it grows."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.001):
            fills = self._edge.plane.misses()
            for fill in fills:
                self._fill(fill)
            del fills

    def _fill(self, fill: Fill) -> None:
        body, told = BODIES[fill.key.decode()], self._told()
        with contextlib.suppress(MemoryError):
            if not fill.begin(200, TYPE, length=-1, ttl_ms=60_000):
                return
            for start in range(0, len(body), 30_000):
                if not fill.append(body[start : start + 30_000]):
                    fill.fail(502)
                    return
                self._until_more_than(told)
            fill.commit(etag=b"g")

    def _told(self) -> int:
        return self._edge.count("bytes_out") + self._edge.count("closed")

    def _until_more_than(self, told: int) -> None:
        deadline = time.monotonic() + TOLD_S
        while self._told() == told and time.monotonic() < deadline:
            time.sleep(0.001)


@pytest.fixture
def edge(edges: Callable[..., Edge]) -> Iterator[Edge]:
    made = edges(heap_max_bytes=4096, fill_ms=2000)
    origin = Origin(made)
    yield made
    origin.close()


def asked(edge: Edge, *targets: str, fields: str = "") -> list[int]:
    """Statuses of these targets on one connection; 0: it broke. Every byte that came is right."""
    statuses = []
    path, body = "", b""
    try:
        with edge.viewer() as viewer:
            viewer.sock.settimeout(STUCK_S)
            for target in targets:
                path = target.partition("?")[0]
                body = BODIES[path] if not fields else BODIES[path][10:5000]
                viewer.send(get(target, *([fields] if fields else [])))
                answer = viewer.answer()
                statuses.append(answer.status)
                if answer.status in (200, 206):
                    assert answer.body == body, path
                else:
                    # 400: a reload that is too far ahead, because a publish found no memory
                    allowed = (400, 503) if path == LIST else (502, 503, 504)
                    assert answer.status in allowed, path
                if answer.closes:
                    return statuses
    except (Cut, ConnectionError):
        statuses.append(0)
    return statuses


def parked(edge: Edge, version: int) -> list[int]:
    """A blocking reload that is answered by the next publish."""
    statuses: list[int] = []
    target = f"{LIST}?_HLS_msn={version}&_HLS_part=0"
    before = edge.count("requests")
    viewer = threading.Thread(target=lambda: statuses.extend(asked(edge, target)))
    viewer.start()
    eventually(lambda: edge.count("requests") > before or not viewer.is_alive())
    with contextlib.suppress(MemoryError):
        publish(edge, version)
    viewer.join(STUCK_S)
    assert not viewer.is_alive(), "the reload was not answered"
    return statuses


def publish(edge: Edge, version: int) -> None:
    edge.publish(LIST, (version, 1, 1), body=BODIES[LIST], hold_ms=1000)


def viewers(edge: Edge, version: int) -> list[int]:
    """What viewers do: hits by writev and sendfile, a range, a miss, a reload that waits."""
    edge.plane.purge(b"/grown")
    for path in ("/small", "/large"):
        edge.plane.purge(path.encode())
        with contextlib.suppress(MemoryError):
            edge.put(path, BODIES[path])
    statuses = asked(edge, "/small", "/large", "/small")
    statuses += asked(edge, "/large", fields="Range: bytes=10-4999")
    statuses += asked(edge, "/grown")
    return statuses + parked(edge, version)


def prepared(edge: Edge) -> None:
    publish(edge, 0)
    assert viewers(edge, 1) == [200, 200, 200, 206, 200, 200]


@pytest.mark.parametrize("site", WALKS)
def test_every_call_fails_at_every_turn(edge: Edge, site: str) -> None:
    prepared(edge)
    version, failed = 1, 0
    for error in WALKS[site]:
        for turn in range(1, DEPTH.get(site, 4) + 1):
            version += 1
            with failing(site, error, first=turn) as struck:
                viewers(edge, version)
                failed += struck()
    assert failed > 0
    publish(edge, version + 1)
    settled(edge)
    assert viewers(edge, version + 2) == [200, 200, 200, 206, 200, 200]


@pytest.mark.parametrize("turn", range(1, 13))
def test_the_first_request_finds_no_memory(edges: Callable[..., Edge], turn: int) -> None:
    """An entry that was reserved for it stayed so when there was no memory for a hold on it: nobody
    had it filled, and all who asked for it later waited in vain."""
    edge = edges(heap_max_bytes=4096, fill_ms=500)
    origin = Origin(edge)
    try:
        with failing("malloc", errno.ENOMEM, first=turn):
            asked(edge, "/grown")
        assert asked(edge, "/grown") in ([200], [503], [502])
        assert asked(edge, "/grown") == [200]
    finally:
        origin.close()


def test_accepting_goes_on_after_any_failure(edge: Edge) -> None:
    """The listener left epoll for want of descriptors, and could not come back for want of memory:
    the worker was deaf from then on."""
    prepared(edge)
    none = failing("accept4", errno.EMFILE, times=2)  # not even the spare one
    with none, failing("epoll_ctl", errno.ENOMEM, first=2) as struck:
        assert asked(edge, "/small") == [200]
        assert struck() == 1
    assert edge.count("accept_paused") == 1


@pytest.mark.parametrize("site", ["malloc", "memfd_create", "epoll_ctl"])
def test_it_lives_through_a_long_lack(edge: Edge, site: str) -> None:
    """Everything of the kind fails for a while; who comes meanwhile may get nothing."""
    prepared(edge)
    with failing(site, errno.ENOMEM, times=40) as struck:
        while struck() < 40:
            with contextlib.suppress(MemoryError):
                edge.plane.purge(b"/large")
                edge.put("/large", BODIES["/large"])
            asked(edge, "/grown", "/small")
            edge.plane.purge(b"/grown")
    assert viewers(edge, 2)[-1] == 200
    assert asked(edge, "/small", "/grown") == [200, 200]


def started(fd: int) -> bool:
    """Whether a plane starts on this listener; it is gone afterwards."""
    try:
        plane = Plane(name=b"edge", budget_bytes=1 << 20)
    except MemoryError:
        return False
    try:
        plane.start([fd])
    except MemoryError:
        return False
    finally:
        plane.stop()
    return True


@pytest.mark.parametrize(
    ("site", "error"),
    [("eventfd", errno.EMFILE), ("epoll_create1", errno.EMFILE), ("getrandom", errno.EINTR),
     ("epoll_ctl", errno.ENOMEM), ("calloc", errno.ENOMEM), ("malloc", errno.ENOMEM)],
)  # fmt: skip
def test_a_start_that_fails_leaves_nothing(site: str, error: int) -> None:
    """MemoryError and not one descriptor more."""
    before = len(os.listdir("/proc/self/fd"))
    starts = []
    for turn in range(1, 9):
        with listener() as sock, failing(site, error, first=turn):
            starts.append(started(sock.fileno()))
    assert False in starts
    assert len(os.listdir("/proc/self/fd")) == before
