"""A worker's loop: accepting, limits, descriptors, fairness, housekeeping (native/worker.pxd)."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.native._probe import StoreOf, Worker
from tests.native.kit import TYPE, Edge, eventually, get

ROOT = Path(__file__).resolve().parents[2]
CLOSE = "Connection: close"


def test_over_the_connection_limit_is_turned_away(edges: Callable[..., Edge]) -> None:
    edge = edges(max_connections=5)
    edge.put("/a", b"x")
    inside = [edge.viewer() for _ in range(5)]
    for viewer in inside:
        assert viewer.ask("/a").status == 200
    with edge.viewer() as outside:
        answer = outside.answer()
        assert (answer.status, answer.fields[b"retry-after"]) == (503, b"5")
        assert outside.at_end()
    assert [viewer.ask("/a").status for viewer in inside] == [200] * 5
    inside.pop().close()
    eventually(lambda: edge.count("connections_now") == 4)
    assert edge.ask("/a").status == 200
    assert (edge.count("closed_refused"), edge.count("accepted")) == (1, 6)
    for viewer in inside:
        viewer.close()


DESCRIPTORS = """
import resource, sys, time
from tests.native.kit import Edge, Viewer, eventually, get, settled
edge = Edge()
edge.put("/a", b"x" * 100)
used = edge.viewer()
assert used.ask("/a").status == 200
soft = max(edge.sockets[0].fileno(), used.sock.fileno()) + 20
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
viewers = []
while True:
    try:
        viewers.append(Viewer(edge.port))
    except OSError as error:
        assert error.errno == 24, error
        break
edge.await_count("accept_paused", 1)
loops = edge.count("loops")
time.sleep(0.5)
assert edge.count("loops") - loops < 100, "the loop spins on a listener it cannot serve"
assert used.ask("/a").status == 200, "who is inside is served"
assert edge.put("/big", b"x" * 100_000) == 3, "no descriptor for a memfd: no space"
for viewer in viewers:
    viewer.close()
assert edge.put("/big", b"x" * 100_000) == 0
assert edge.ask("/a").status == 200, "it recovers by itself"
used.close()
settled(edge)
edge.stop()
print("descriptors:", len(viewers))
"""


def test_without_descriptors_accepting_pauses() -> None:
    """In a process of its own, which runs out of them: both sides share the limit."""
    run = subprocess.run(
        [sys.executable, "-c", DESCRIPTORS],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    assert "descriptors:" in run.stdout


def test_a_storm_of_connections_that_vanish(edge: Edge) -> None:
    """Connected and gone, some with a reset, some before they were accepted."""
    for i in range(500):
        viewer = edge.viewer()
        if i % 3 == 0:
            viewer.send(get("/miss"))
        if i % 2:
            viewer.sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0: reset
        viewer.close()
    eventually(lambda: edge.count("connections_now") == 0)
    edge.plane.misses()
    assert edge.count("accepted") + edge.count("closed_refused") <= 500


def test_hits_go_on_while_thousands_are_woken(edge: Edge) -> None:
    """A wide fan-out is cut into slices; between them sockets are served."""
    edge.put("/hit", b"x")
    viewers = [edge.viewer() for _ in range(1500)]
    for viewer in viewers:
        viewer.send(get("/a", CLOSE))
    edge.await_parked(1500)
    fill = edge.fill()
    with edge.viewer() as hit:
        fill.begin(200, TYPE, length=1000, ttl_ms=60_000)
        fill.append(b"x" * 1000)
        fill.commit()
        assert hit.ask("/hit").status == 200
    assert {len(viewer.answer().body) for viewer in viewers} == {1000}
    for viewer in viewers:
        viewer.close()
    assert edge.count("woken") == edge.count("parked") >= 1500


def test_deadlines_that_pass_together_are_answered_in_slices() -> None:
    """When a stream stops, everybody parked on it runs out in one tick: ten thousand answers in one
    turn of the loop would keep hits waiting for 80 ms."""
    pairs = [socket.socketpair() for _ in range(150)]
    with socket.socket() as listener:
        worker = Worker(StoreOf(1 << 20), listener.fileno())
        for ours, _ in pairs:
            assert worker.accept(ours.detach())
        assert worker.expire(60_000, spent=True) == (149, True), "one at least"
        found = [worker.expire(60_000) for _ in range(4)]
        assert found == [(149 - 64, True), (149 - 128, True), (0, False), (0, False)]
        worker.close()
    for _, theirs in pairs:
        theirs.close()


def test_many_keys_are_woken_in_turns(edge: Edge) -> None:
    viewers = {}
    for i in range(300):
        viewers[i] = edge.viewer()
        viewers[i].send(get(f"/{i}", CLOSE))
    edge.await_parked(300)
    fills = [edge.fill() for _ in range(300)]
    for fill in fills:
        fill.begin(200, TYPE, length=len(fill.key), ttl_ms=60_000)
        fill.append(fill.key)
        fill.commit()
    for i, viewer in viewers.items():
        assert viewer.answer().body == f"/{i}".encode()
        viewer.close()


def test_a_pipeliner_does_not_starve_the_others(edge: Edge) -> None:
    """TURN_REQUESTS (8) a turn, and two turns of one viewer a loop at most, then others."""
    edge.put("/a", b"x")
    number = 6000
    with edge.viewer() as greedy, edge.viewer() as modest:
        sender = threading.Thread(target=greedy.send, args=(get("/a") * number,))
        sender.start()
        edge.await_count("hits", 500)
        assert modest.ask("/a").status == 200
        for _ in range(number):
            greedy.answer()
        sender.join()
    assert edge.count("hits") == number + 1
    assert edge.count("loops") >= number / 16


def test_a_viewer_that_takes_megabytes_gives_way(edge: Edge) -> None:
    """256 KiB a turn: a hundred at once who asked for megabytes kept hits waiting for 50 ms."""
    edge.put("/big", b"x" * (16 << 20))
    with edge.viewer(receive_bytes=4096) as greedy:
        loops = edge.count("loops")
        greedy.send(get("/big"))
        out = edge.until_full()
        assert edge.count("loops") - loops >= out // (256 << 10)


def test_holds_are_swept(edge: Edge) -> None:
    """What was not asked for since the last second is let go; one reference less each. What was
    asked for once is not even held so long."""
    for i in range(50):
        edge.put(f"/{i}", b"x")
    with edge.viewer() as viewer:
        for i in (*range(50), *range(50)):
            viewer.ask(f"/{i}")
        eventually(lambda: edge.count("holds_now") > 0)
        eventually(lambda: edge.count("holds_now") == 0)


def test_objects_expire_without_being_asked_for(edge: Edge) -> None:
    """By a worker's clock, so that it goes on when the control plane hangs."""
    for i in range(100):
        edge.put(f"/{i}", b"x" * 1000, ttl_ms=100)
    # bytes are given back after the lock under which entries leave the index
    eventually(lambda: edge.count("store_entries_now") == edge.count("store_bytes_now") == 0)
    assert edge.count("store_expired") == 100


def test_an_object_past_its_time_is_a_miss(edge: Edge) -> None:
    edge.put("/a", b"old", ttl_ms=150)
    with edge.viewer() as viewer:
        assert viewer.ask("/a").body == b"old"
        time.sleep(0.2)
        viewer.send(get("/a"))
        fill = edge.fill()
        fill.begin(200, TYPE, length=3, ttl_ms=60_000)
        fill.append(b"new")
        fill.commit()
        assert viewer.answer().body == b"new"


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_start_and_stop_with_viewers_at_every_stage(
    edges: Callable[..., Edge], workers: int
) -> None:
    edge = edges(workers=workers)
    edge.put("/a", b"x" * 5_000_000)
    viewers = [edge.viewer(receive_bytes=65536) for _ in range(24)]
    for i, viewer in enumerate(viewers):
        viewer.send([b"", b"GET", get("/miss"), get("/a")][i % 4])
    edge.await_parked(6)
    edge.await_count("hits", 6)
    edge.plane.stop()
    for viewer in viewers:
        viewer.close()


def test_an_edge_can_be_started_again(edge: Edge) -> None:
    """The cache outlives its workers; counters are the workers' and start anew."""
    edge.put("/a", b"kept")
    assert edge.ask("/a").body == b"kept"
    eventually(lambda: edge.count("connections_now") == 0)
    edge.plane.stop()
    edge.plane.start([sock.fileno() for sock in edge.sockets])
    assert edge.ask("/a").body == b"kept"


def blocks_signals(thread: int) -> bool:
    """Does it block SIGINT and SIGTERM?"""
    status = Path(f"/proc/self/task/{thread}/status").read_text().splitlines()
    mask = int(next(line for line in status if line.startswith("SigBlk:")).split()[1], 16)
    return mask & 0x4002 == 0x4002


def test_signals_are_not_for_workers(edges: Callable[..., Edge]) -> None:
    """Every worker blocks all signals, so that Python's own thread gets them."""
    edges(workers=3)
    workers = [t.native_id for t in threading.enumerate() if t.name.startswith("worker-")]
    assert len(workers) == 3
    eventually(lambda: all(blocks_signals(thread) for thread in workers if thread))
    assert not blocks_signals(threading.main_thread().native_id or 0)


def test_under_pressure_idle_connections_leave_and_new_ones_are_refused(edge: Edge) -> None:
    edge.put("/a", b"body")
    with edge.viewer() as idle, edge.viewer() as half, edge.viewer() as parked:
        idle.ask("/a")
        half.send(get("/a")[:9])
        parked.send(get("/miss"))
        fill = edge.fill()
        edge.await_parked(1)
        edge.await_count("bytes_in", len(get("/a")) + len(get("/miss")) + 9)
        edge.plane.close_idle()
        assert idle.at_end()
        edge.plane.set_connections(0)
        assert edge.ask("/a").status == 503
        edge.plane.set_connections(100)
        assert edge.ask("/a").status == 200
        half.send(get("/a")[9:])
        assert half.answer().body == b"body"
        fill.fail(404)
        assert parked.answer().status == 404
    assert edge.count("closed_idle") == 1
