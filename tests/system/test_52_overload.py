"""Memory runs out: what is given up, in which order, and that it comes back."""

from __future__ import annotations

import os
import re
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.running import Edge, ScriptedOrigin, ok, read_all, read_head
from tests.system.test_40_push_receiver import PARTS, WHOLE, object_fields, push_part

pytestmark = pytest.mark.timeout(60)

MIB = 1 << 20
OBJECT = os.urandom(MIB)


def resident(edge: Edge) -> int:
    status = Path(f"/proc/{edge.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


@pytest.fixture(scope="module")
def base(origin: ScriptedOrigin) -> int:
    """Bytes of a process that has nothing."""
    with Edge([f"origin.urls={origin.url}"]) as probe:
        assert probe.metrics()["edge_overload_rung"] == 0
        return resident(probe)


def test_the_cache_gives_way_and_the_live_edge_stays(origin: ScriptedOrigin, base: int) -> None:
    """Pulled objects fill what is left of a limit; a stream that is being watched is not touched,
    and the process stays within the limit."""
    limit = int((base + 24 * MIB) / 0.8)  # a quarter of the cache fits below the lowest rung
    options = [f"origin.urls={origin.url}", f"overload.memory={limit}B", "http.workers=1"]
    options += ["overload.cgroup=false", "cache.memory=64MiB"]
    with Edge(options) as edge:
        for index in range(len(PARTS)):
            push_part(edge, "/live/w/a/v", 7, index)
        climbed = 'edge_overload_climbed_total{reason="evict"}'
        for number in range(60):
            path = f"/vod/{number}.bin"
            origin.says(path, ok(OBJECT, "Cache-Control: max-age=600"))
            if edge.metrics().get(climbed, 0):
                break
            edge.get(path)
            assert edge.get("/live/w/a/v/7.m4s").body == WHOLE
        edge.settled("edge_overload_rung", 0)
        metrics = edge.metrics()
        assert metrics[climbed] >= 1
        assert metrics["edge_store_evicted_total"] > 0
        assert metrics["edge_store_budget_bytes"] == 64 * MIB
        assert resident(edge) + metrics["edge_store_bytes_now"] < limit
        answer = edge.get("/live/w/a/v/7.m4s")
        assert (answer.body, answer.fields["cache-status"]) == (WHOLE, "edge; hit")
        assert edge.stop() == 0


def read_body(viewer: socket.socket, length: int) -> bytes:
    """Of the answer that slow_reader() has read the beginning of."""
    _, body = read_head(viewer)
    while len(body) < length and (more := viewer.recv(1 << 20)):
        body += more
    return body


def slow_reader(edge: Edge, path: str, stack: ExitStack) -> socket.socket | None:
    """One that has asked, been told 200, and reads no more. None: it was refused in words."""
    viewer = stack.enter_context(edge.raw())
    viewer.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    status = viewer.recv(12)
    assert status in (b"HTTP/1.1 200", b"HTTP/1.1 503")
    return viewer if status.endswith(b"200") else None


def test_slow_readers_do_not_take_it_beyond_its_limit(origin: ScriptedOrigin, base: int) -> None:
    """Each holds on to an object that may not go before it was read. The cache shrinks, then what
    is asked for anew is refused; who is inside gets every byte, and all of it comes back."""
    limit = base + 60 * MIB
    options = [f"origin.urls={origin.url}", f"overload.memory={limit}B", "http.workers=1"]
    options += ["overload.cgroup=false", "cache.memory=48MiB", "cache.object_max=4MiB"]
    with Edge(options) as edge, ExitStack() as stack:
        push_part(edge, "/live/w/a/v", 7, 0)
        inside: dict[socket.socket, bytes] = {}
        refused = 0
        for number in range(100):
            path = f"/held/{number % 40}.bin"
            body = bytes([number % 40]) * (2 * MIB)
            origin.says(path, ok(body, "Cache-Control: max-age=600"))
            viewer = slow_reader(edge, path, stack)
            if viewer is None:
                refused += 1
            else:
                inside[viewer] = body
            if number % 20 == 0:
                metrics = edge.metrics()
                assert resident(edge) + metrics["edge_store_bytes_now"] < limit
                assert edge.get("/live/w/a/v/7.0.m4s").body == PARTS[0]
        assert refused, "all of it was held, and there was no room"
        assert len(inside) > 20
        for viewer, body in list(inside.items())[::10]:
            assert read_body(viewer, len(body)) == body
        stack.close()
        edge.settled("edge_overload_rung", 0)
        edge.settled("edge_connections_now", 0)
        assert edge.get("/held/0.bin").status == 200
        assert edge.stop() == 0


def test_out_of_memory_new_viewers_are_refused(origin: ScriptedOrigin) -> None:
    """A limit below what the process needs is the last rung from the first look on; pushes and
    operators still get in."""
    options = [f"origin.urls={origin.url}", "overload.memory=1MiB", "overload.cgroup=false"]
    with Edge(options) as edge:
        edge.settled("edge_overload_rung", 4)
        with edge.raw() as late:
            answer = read_all(late)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: " in answer
        assert edge.put("/live/o/a/v/init0.mp4", b"x", object_fields(b"x")).status == 201
        climbed = [v for name, v in edge.metrics().items() if "overload_climbed" in name]
        assert climbed == [1, 1, 1, 1]
        assert edge.stop() == 0
