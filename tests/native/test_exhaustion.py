"""Clients that use up what there is: each is bounded, counted and cut, and who behaves is served
meanwhile. How long those waited, alone and beside it, is said at the end of the run; asserted is
only what a slow machine keeps too. `bench/scenarios/exhaustion.toml` measures for real."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.native._probe import StoreOf, colliding, pulse
from tests.native.kit import Edge, Viewer, eventually, get

MIB: Final = 1 << 20
LATE_US: Final = 2_000_000  # healthy viewers that wait so long are harmed on any machine
RESET: Final = b"\1\0\0\0\0\0\0\0"  # of SO_LINGER


def p99(port: int) -> int:
    """Of 20 viewers who ask for /a at an even pace. Nobody is refused, or late."""
    took = pulse(port, get("/a"), connections=20, count=300, period_us=1000)
    answered = sorted(one for one in took if one is not None)
    assert len(answered) == len(took), "a healthy viewer was refused"
    found = answered[len(answered) * 99 // 100]
    assert found < LATE_US
    return found


class Healthy:
    """Viewers beside whatever happens inside `with`."""

    def __init__(self, edge: Edge, measured: Callable[..., None]) -> None:
        edge.put("/a", b"x" * 1000)
        self._edge, self._measured = edge, measured
        self._alone_us = p99(edge.port)

    def beside(self, what: Callable[[], None] = lambda: None) -> None:
        """Measured while `what` goes on, again and again."""
        found: list[int] = []
        others = threading.Thread(target=lambda: found.append(p99(self._edge.port)))
        others.start()
        while others.is_alive():
            what()
            others.join(0.01)
        assert found, "a healthy viewer was harmed"
        self._measured(p99_alone=f"{self._alone_us} µs", p99_beside=f"{found[0]} µs")


@pytest.fixture
def healthy(measured: Callable[..., None]) -> Callable[[Edge], Healthy]:
    return lambda edge: Healthy(edge, measured)


@pytest.fixture
def crowd() -> Iterator[Callable[[Edge, int, bytes], list[Viewer]]]:
    """So many connections from 127.0.0.2 that sent these bytes and read nothing."""
    made: list[Viewer] = []

    def gather(edge: Edge, number: int, data: bytes) -> list[Viewer]:
        came = [edge.viewer(source="127.0.0.2", receive_bytes=4096) for _ in range(number)]
        made.extend(came)
        for viewer in came:
            viewer.send_all(data)
        return came

    yield gather
    for viewer in made:
        viewer.close()


Gather = Callable[[Edge, int, bytes], list[Viewer]]
Beside = Callable[[Edge], Healthy]


def test_a_thousand_heads_that_drip(
    edges: Callable[..., Edge], crowd: Gather, healthy: Beside
) -> None:
    edge = edges(header_ms=1500)
    others = healthy(edge)
    slow = crowd(edge, 1000, b"GET /a HTTP/1.1\r\nHost: a\r\nX")

    def drip() -> None:
        for viewer in slow[:100]:
            viewer.send_all(b"x")

    others.beside(drip)
    edge.await_count("closed_header_timeout", 1000)


def test_a_thousand_that_say_nothing(
    edges: Callable[..., Edge], crowd: Gather, healthy: Beside
) -> None:
    edge = edges(first_byte_ms=1500)
    others = healthy(edge)
    crowd(edge, 1000, b"")
    others.beside()
    edge.await_count("closed_idle", 1000)


def test_two_hundred_that_do_not_read(
    edges: Callable[..., Edge], crowd: Gather, healthy: Beside
) -> None:
    """A window that stays shut, on one large object: cut, and nothing pins what they asked for.
    Half of the viewers ask for what fits in their socket's buffer: nothing waits for those."""
    edge = edges(write_ms=1000, keepalive_ms=2000)
    others = healthy(edge)
    edge.put("/big", b"y" * 16 * MIB)
    edge.put("/fits", b"y" * 100_000)
    before = edge.count("hits")
    crowd(edge, 100, get("/big"))
    crowd(edge, 100, get("/fits"))
    edge.await_count("hits", before + 200)
    assert edge.plane.purge(b"/big")
    assert edge.plane.purge(b"/fits")
    others.beside()
    edge.await_count("closed_write_timeout", 200)
    eventually(lambda: edge.count("store_bytes_now") < MIB)


def test_a_hundred_pipelines_that_do_not_read(
    edges: Callable[..., Edge], crowd: Gather, healthy: Beside
) -> None:
    """One answer under way each; the rest of what they asked for is not even read."""
    edge = edges(write_ms=1000)
    others = healthy(edge)
    edge.put("/big", b"y" * MIB)
    before = edge.count("requests")
    crowd(edge, 100, get("/big") * 100)
    edge.await_count("requests", before + 100)
    others.beside()
    assert edge.count("requests") - before <= 300 + 100 * 8
    edge.await_count("closed_write_timeout", 100)


def test_a_storm_of_resets(edge: Edge, healthy: Beside) -> None:
    others = healthy(edge)

    def storm() -> None:
        for _ in range(50):
            viewer = edge.viewer(source="127.0.0.2")
            viewer.sock.setsockopt(1, 13, RESET)
            viewer.close()

    others.beside(storm)
    eventually(lambda: edge.count("connections_now") == 0)


def test_an_address_that_wants_everything(edges: Callable[..., Edge], healthy: Beside) -> None:
    edge = edges(max_per_address=40, max_connections=100)
    others = healthy(edge)
    inside: list[Viewer] = []

    def more() -> None:
        inside.extend(edge.viewer(source="127.0.0.2") for _ in range(10))

    others.beside(more)
    edge.await_count("closed_crowded", len(inside) - 40)
    assert edge.count("closed_refused") == 0, "there was room for everybody else"
    for viewer in inside:
        viewer.close()


def test_names_that_nobody_has(edges: Callable[..., Edge], healthy: Beside) -> None:
    """Each is a fill that fails and is remembered, within the budget; what is asked for stays."""
    edge = edges(budget=MIB)
    others = healthy(edge)
    asked = iter(range(1 << 30))
    stop = threading.Event()

    def control() -> None:
        while not stop.is_set():
            for fill in edge.plane.misses():
                fill.fail(404, ttl_ms=60_000)

    answering = threading.Thread(target=control)
    answering.start()
    try:
        with edge.viewer(source="127.0.0.2") as flood:

            def names() -> None:
                flood.send(b"".join(get(f"/{next(asked)}.m4s") for _ in range(100)))
                assert {flood.answer().status for _ in range(100)} <= {404, 503}

            others.beside(names)
            while next(asked) < 8000:
                names()
    finally:
        stop.set()
        answering.join()
    assert edge.count("store_bytes_now") <= MIB + MIB // 16
    assert edge.count("store_evicted") > 0
    assert edge.ask("/a").cache == b"hit"


def test_queries_that_differ(edge: Edge) -> None:
    """No part of a query is in the key of media: two thousand spellings are one fill."""
    with edge.viewer() as viewer:
        viewer.send(b"".join(get(f"/live/cam/0/v/7.m4s?x={n}&_HLS_x={n}") for n in range(2000)))
        fill = edge.fill()
        fill.begin(200, b"", length=1, ttl_ms=60_000)
        fill.append(b"x")
        fill.commit()
        assert [viewer.answer().body for _ in range(2000)] == [b"x"] * 2000
    assert edge.plane.misses() == []
    assert (edge.count("misses"), edge.count("store_entries_now")) == (1, 1)


def test_a_byte_each_of_what_nobody_has(edge: Edge) -> None:
    """Two hundred ranges of one byte cost the origin the object once, and no more."""
    body = bytes(n % 251 for n in range(100_000))
    viewers = [edge.viewer() for _ in range(20)]
    for number in range(200):
        at = number * 499
        viewers[number % 20].send(get("/cold.m4s", f"Range: bytes={at}-{at}"))
    edge.await_parked(20)
    fill = edge.fill()
    fill.begin(200, b"", length=len(body), ttl_ms=60_000)
    fill.append(body)
    fill.commit()
    for number in range(200):
        answer = viewers[number % 20].answer()
        assert (answer.status, answer.body) == (206, body[number * 499 :][:1])
    assert edge.plane.misses() == []
    assert edge.count("misses") == 1
    for viewer in viewers:
        viewer.close()


def test_ten_thousand_reloads_far_ahead(
    edges: Callable[..., Edge], crowd: Gather, healthy: Beside
) -> None:
    """Beyond what a playlist may be awaited for they are told so; what may wait is bounded, and
    let go with its viewer."""
    edge = edges(max_parked=500)
    others = healthy(edge)
    edge.publish("/l.m3u8", (7, 1, 3), advance=3)
    with edge.viewer() as viewer:
        for _ in range(10):
            viewer.send(get("/l.m3u8?_HLS_msn=99") * 1000)
            assert {viewer.answer().status for _ in range(1000)} == {400}
    waiting = crowd(edge, 600, get("/l.m3u8?_HLS_msn=8"))
    edge.await_count("shed", 100)
    others.beside()
    assert edge.count("parked_now") == 500
    for viewer in waiting:
        viewer.close()
    edge.await_parked(0)
    assert edge.count("park_gone") == 500


def test_names_that_collide_under_another_seed() -> None:
    """Crafted for one process they are any names to the next: its seed is its own."""
    seed = (1, 2, 3, 4)
    names = colliding(seed, 2000, 4096)
    stores = [StoreOf(64 * MIB) for _ in range(3)]
    assert len({store.seed for store in stores} | {seed}) == 4
    for store in stores:
        for name in names:
            store.put(name, b"x")
        assert store.longest_chain() <= 8, "alike they would be in 16 chains of 125"
