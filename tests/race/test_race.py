"""Everything at once on the same few keys: native clients against fills, pushes, publishes, purges.

Run plain it shows that answers are right and the ledger closes; run under TSAN or ASAN
(scripts/sanitize) it shows that no memory is touched without leave. Bounded by WORK, not by time,
so that an instrumented build does the same as a fast one.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from edgecache._core import Fill
from tests.native._probe import hammer
from tests.native.kit import TYPE, Edge, get

KEYS = 16
WORK = int(os.environ.get("EDGECACHE_RACE_WORK", "400"))
PLAYLIST = "/l.m3u8"
ALLOWED = {200, 206, 304, 404, 502, 503, 504}


def body_of(key: int) -> bytes:
    """One byte repeated, so that a client can judge any slice; sizes on both sides of the memfd."""
    return bytes([65 + key]) * (10 if key % 3 == 0 else 5_000 if key % 3 == 1 else 60_000)


class Swarm:
    """Clients that never stop asking until their work is done; `totals` by status."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.totals: Counter[int] = Counter()

    def ask(self, request: bytes, times: int, fill: int = 0) -> None:
        def run() -> None:
            counts = hammer(self._edge.port, request, times, fill)
            with self._lock:
                self.totals.update(counts)

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    @property
    def busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()
        wrong = {status: n for status, n in self.totals.items() if status not in ALLOWED | {0}}
        assert wrong == {}, "answers that may not be, or bodies of another key (negative)"
        assert self.totals[200] > 0


def serve(edge: Edge, turn: int, fill: Fill) -> None:
    """A fill ends in one of the ways that fills end."""
    key = int(fill.key[1:].partition(b".")[0] or 0) if fill.key[1:2].isdigit() else 0
    body = body_of(key)
    if turn % 7 == 0:
        fill.fail(404, ttl_ms=2)
        return
    if turn % 7 == 1:
        return  # dropped: 502
    if not fill.begin(200, TYPE, length=-1 if turn % 7 == 2 else len(body), ttl_ms=20):
        return  # a push was first
    for start in range(0, len(body), 20_000):
        if not fill.append(body[start : start + 20_000]) or turn % 7 == 3:
            fill.fail(502)  # no room, or an origin that breaks
            return
    fill.commit(etag=b"%d" % key)


@pytest.mark.parametrize("workers", [2, 4])
def test_everything_at_once(edges: Callable[..., Edge], workers: int) -> None:
    edge = edges(workers=workers, budget=2 << 20, fill_ms=2000, log=True)
    swarm = Swarm(edge)
    for key in range(KEYS):
        plain = get(f"/{key}", 'If-None-Match: "nothing"')
        swarm.ask(plain, WORK, 65 + key)
        if key % 4 == 0:
            swarm.ask(get(f"/{key}", "Range: bytes=0-8"), WORK, 65 + key)
    edge.publish(PLAYLIST, (0, 1, 6), hold_ms=2000)
    swarm.ask(get(PLAYLIST), WORK)
    swarm.ask(get(PLAYLIST + "?_HLS_msn=0&_HLS_part=0"), WORK)
    turns = itertools.count()
    msn = 0
    while swarm.busy:
        turn = next(turns)
        for fill in edge.plane.misses():
            serve(edge, turn, fill)
            turn = next(turns)
        key = turn % KEYS
        if turn % 5 == 0:
            edge.put(f"/{key}", body_of(key), etag=b"%d" % key, ttl_ms=30)
        elif turn % 11 == 0:
            edge.plane.purge(f"/{key}".encode())
        elif turn % 101 == 0:
            edge.plane.purge_prefix(b"/1")
        elif turn % 3 == 0:
            msn += 1
            edge.publish(PLAYLIST, (msn, 1, 6), hold_ms=2000)
        edge.plane.log_records()
        edge.plane.counters()
        edge.plane.lookup(f"/{key}".encode())
    swarm.join()
    edge.plane.misses()


def test_blocking_reloads_against_publishes(edges: Callable[..., Edge]) -> None:
    """Clients always ask for what is next, so that most of them are parked at any time."""
    edge = edges(workers=2, fill_ms=2000)
    edge.publish(PLAYLIST, (0, 0, 4), hold_ms=3000)
    swarm = Swarm(edge)
    steps = [(msn, part) for msn in range(1, 1 + WORK // 8) for part in range(4)]
    for _ in range(6):
        for msn in range(0, len(steps) // 4, max(1, len(steps) // 12)):
            swarm.ask(get(f"{PLAYLIST}?_HLS_msn={msn}&_HLS_part=1"), 3)
    for msn, part in steps:
        edge.publish(PLAYLIST, (msn, part, 4), hold_ms=3000)
        if part == 3 and msn % 9 == 0:
            edge.plane.purge(PLAYLIST.encode())
            edge.publish(PLAYLIST, (msn, part, 4), hold_ms=3000)
    edge.publish(PLAYLIST, (10**6, 0, 4), ended=True, hold_ms=3000)
    while swarm.busy:
        for fill in edge.plane.misses():
            fill.fail(404)
    swarm.totals.pop(400, None)  # asked too far ahead: an honest refusal
    swarm.join()


def test_segments_grow_under_their_readers(edges: Callable[..., Edge]) -> None:
    """A writer appends parts and makes views of them, readers on two workers follow."""
    edge = edges(workers=2, budget=8 << 20, fill_ms=3000)
    swarm = Swarm(edge)
    rounds = WORK // 20
    for number in range(rounds):
        byte = 65 + number % 26
        fill = edge.plane.open(f"/s{number}".encode())
        assert fill is not None
        fill.begin(200, TYPE, length=6 * 9000, ttl_ms=10_000)
        for part in range(6):
            if part in (0, 3):
                swarm.ask(get(f"/s{number}"), 2, byte)
            swarm.ask(get(f"/s{number}.{part}"), 2, byte)
            fill.append(bytes([byte]) * 9000)
            key = f"/s{number}.{part}".encode()
            fill.view(key, part * 9000, 9000, TYPE, etag=b"p", ttl_ms=10_000)
        if number % 5 == 4:
            edge.plane.purge(f"/s{number}".encode())
        fill.commit(etag=b"s")
        for miss in edge.plane.misses():
            miss.fail(404)
    while swarm.busy:
        for miss in edge.plane.misses():
            miss.fail(404)
    swarm.join()


def test_stop_while_everything_moves(edges: Callable[..., Edge]) -> None:
    for workers in (1, 3):
        edge = edges(workers=workers, fill_ms=1000)
        swarm = Swarm(edge)
        for key in range(8):
            edge.put(f"/{key}", body_of(key))
            swarm.ask(get(f"/{key}"), WORK // 4, 65 + key)
            swarm.ask(get(f"/miss{key}"), 2)
        edge.await_count("hits", WORK // 4)
        edge.plane.drain()
        edge.plane.stop()
        for sock in edge.sockets:
            sock.close()
        swarm.join()
