"""Who takes everything there is, at a real daemon: those inside, operators and fills live on, and
everything comes back by itself."""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.native._probe import pulse
from tests.running import LIMIT_S, Edge, ScriptedOrigin, ask, ok, read_head

pytestmark = pytest.mark.timeout(60)

BODY = b"z" * 100_000  # more than stays on the heap: a descriptor of its own
SHORT_QUEUE = """import runpy
from edgecache.control import sockets
sockets._BACKLOG = 64
runpy.run_module("edgecache", run_name="__main__", alter_sys=True)"""
GET = b"GET /door/a.m4s HTTP/1.1\r\nHost: a\r\n\r\n"


@contextmanager
def descriptors(number: int) -> Iterator[None]:
    """What is started inside has so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def asked(viewer: socket.socket) -> int:
    """Status of one more request on this connection; its body is BODY when that is 200."""
    viewer.sendall(GET)
    head, rest = read_head(viewer)
    status = int(head.split()[1])
    while status == 200 and len(rest) < len(BODY):
        rest += viewer.recv(1 << 20)
    return status


def p99_us(edge: Edge) -> int:
    took = pulse(int(edge.http.rpartition(":")[2]), GET, 20, 300, 1000)
    answered = sorted(one for one in took if one is not None)
    assert len(answered) == len(took)
    return answered[len(answered) * 99 // 100]


def crowd(edge: Edge, number: int, stack: ExitStack) -> list[socket.socket]:
    return [stack.enter_context(edge.raw()) for _ in range(number)]


def test_a_crowd_beyond_the_bound_of_all(
    origin: ScriptedOrigin, measured: Callable[..., None]
) -> None:
    """256 descriptors: the bound follows from them, and leaves what everybody else needs."""
    origin.says("/door/a.m4s", ok(BODY, "Cache-Control: max-age=600"))
    origin.says("/door/b.m4s", ok(BODY, "Cache-Control: max-age=600"))
    options = [f"origin.urls={origin.url}", "http.workers=2", "http.first_byte=60s"]
    with ExitStack() as stack:
        with descriptors(256):
            edge = stack.enter_context(Edge(options))
        inside = crowd(edge, 20, stack)
        assert [asked(viewer) for viewer in inside] == [200] * 20
        alone = p99_us(edge)
        came = crowd(edge, 400, stack)
        edge.settled("edge_connections_now", 256 * 9 // 10 - 64)
        assert [asked(viewer) for viewer in inside] == [200] * 20
        refused = int(edge.metrics()["edge_closed_refused_total"])
        assert refused == 420 - (256 * 9 // 10 - 64)
        assert came[-1].recv(99).startswith(b"HTTP/1.1 503 ")
        fresh = inside[0]
        fresh.sendall(GET.replace(b"/a.", b"/b."))
        assert read_head(fresh)[0].startswith(b"HTTP/1.1 200 "), "a fill finds a descriptor too"
        measured(p99_alone=f"{alone} µs", refused=refused)
        for viewer in came:
            viewer.close()
        edge.settled("edge_connections_now", 20)
        measured(p99_after=f"{p99_us(edge)} µs")
        assert edge.metrics()["edge_accept_paused_total"] == 0
        assert edge.stop() == 0


def test_descriptors_that_run_out(origin: ScriptedOrigin) -> None:
    """Whatever took them: newcomers are told instead of left waiting, and it passes."""
    origin.says("/door/a.m4s", ok(BODY, "Cache-Control: max-age=600"))
    with Edge([f"origin.urls={origin.url}", "http.workers=1"]) as edge, ExitStack() as stack:
        (inside,) = crowd(edge, 1, stack)
        assert asked(inside) == 200
        pid = edge.process.pid
        used, limits = os.listdir(f"/proc/{pid}/fd"), resource.prlimit(pid, resource.RLIMIT_NOFILE)
        fewer = (max(map(int, used)) + 10, limits[1])
        resource.prlimit(pid, resource.RLIMIT_NOFILE, fewer)
        came = crowd(edge, 60, stack)
        told: set[socket.socket] = set()
        deadline = time.monotonic() + LIMIT_S
        while len(told) < 40:
            assert time.monotonic() < deadline, f"{len(told)} were told"
            told.update(select.select(came, [], [], 0.05)[0])
        assert all(viewer.recv(99).startswith(b"HTTP/1.1 503 ") for viewer in told)
        assert asked(inside) == 200
        for viewer in came:
            viewer.close()
        while len(os.listdir(f"/proc/{pid}/fd")) > len(used):  # the door to ask at needs one too
            assert time.monotonic() < deadline
            time.sleep(0.01)
        edge.settled("edge_connections_now", 1)
        assert edge.get("/door/a.m4s").body == BODY
        assert edge.metrics()["edge_accept_paused_total"] > 0
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        assert edge.stop() == 0


def overflows() -> int:
    """Connections that the kernel of this network dropped for lack of room in an accept queue."""
    lines = Path("/proc/net/netstat").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("TcpExt:"))
    return int(values[names.index("ListenOverflows")])


def test_a_queue_that_overflows(origin: ScriptedOrigin) -> None:
    """More come while nothing is accepted than the kernel queues: each is let in afterwards, from
    the queue or by the SYN that its own kernel sends again, and nobody is told no."""
    origin.says("/door/a.m4s", ok(BODY, "Cache-Control: max-age=600"))
    options = [f"origin.urls={origin.url}", "http.workers=1"]
    with Edge(options, command=("-c", SHORT_QUEUE, "serve")) as edge, ExitStack() as stack:
        host, _, port = edge.http.rpartition(":")
        before = overflows()
        edge.process.send_signal(signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, edge.process.pid, os.WSTOPPED | os.WNOWAIT)
            came = [stack.enter_context(socket.socket()) for _ in range(100)]
            for viewer in came:
                viewer.setblocking(False)
                assert viewer.connect_ex((host, int(port))) == errno.EINPROGRESS
            deadline = time.monotonic() + LIMIT_S
            while overflows() == before:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            edge.process.send_signal(signal.SIGCONT)
        for viewer in came:
            assert select.select([], [viewer], [], LIMIT_S)[1]
            viewer.settimeout(LIMIT_S)
            assert asked(viewer) == 200
        metrics = edge.metrics()
        assert metrics["edge_kernel_listen_overflows_total"] > before
        assert metrics["edge_accepted_total"] == metrics["edge_connections_now"] == 100
        assert edge.stop() == 0


def test_a_request_for_another_host(origin: ScriptedOrigin) -> None:
    """Wherever it goes: to the cache, a site or a broadcaster's door. What follows it is served."""
    origin.says("/door/a.m4s", ok(BODY, "Cache-Control: max-age=600"))
    origin.scripts["/page"] = lambda asked: [ok(asked.method.encode())]
    options = [f"origin.urls={origin.url}", 'route=[{prefix="/door/"},{prefix="/",kind="http"}]']
    options += ["http.hosts=pop.example,*.live.example", "ingest.http=true"]
    options += ["chain.siblings=http://self.example:8080", "chain.host=http://self.example:8080"]
    form = b"POST /page HTTP/1.1\r\nHost: %b\r\nContent-Length: 100000\r\n\r\n" + BODY
    with Edge(options) as edge:
        with edge.raw() as viewer:
            for host in (b"other.example", b"pop.example", b"a.live.example:80", b"Self.Example"):
                wanted = 421 if host == b"other.example" else 200
                viewer.sendall(form % host)
                head, body = read_head(viewer)
                while len(body) < int(head.lower().partition(b"content-length: ")[2].split()[0]):
                    body += viewer.recv(99)
                assert (int(head.split()[1]), body == b"POST") == (wanted, wanted == 200)
                viewer.sendall(b"HEAD /door/a.m4s HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
                assert int(read_head(viewer)[0].split()[1]) == wanted
        publish = {"Content-Type": "video/mp2t", "Host": "other.example"}
        assert ask(edge.http, "PUT", "/publish/key", publish, b"x").status == 421
        assert edge.metrics()["edge_misdirected_total"] == 1
        assert origin.count("/page") == 3
        assert edge.stop() == 0
