"""`serve --supervise`: what serves is killed, who comes meanwhile waits for the next one, and that
begins with the cache."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.running import LIMIT_S, Edge, ScriptedOrigin, ask, ok, read_all, read_head
from tests.scripted_keeper import ScriptedKeeper
from tests.sockets import free_port
from tests.supervised import Supervised
from tests.system.test_40_push_receiver import (
    PARTS,
    WHOLE,
    object_fields,
    push_part,
    push_version,
)  # fmt: skip
from tests.system.test_53_broken_off import BODY, half_a_push

pytestmark = pytest.mark.timeout(60)

REQUEST = b"GET /kept.m4s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture
def options(origin: ScriptedOrigin) -> Iterator[list[str]]:
    origin.says("/kept.m4s", ok(b"kept", "Cache-Control: max-age=600"))
    with tempfile.TemporaryDirectory() as home:
        yield [f"origin.urls={origin.url}", "http.workers=2", f"takeover.socket={home}/socket"]


def test_connections_wait_while_nobody_serves(options: list[str]) -> None:
    """Also those in the queues of workers that will never accept again (SO_REUSEPORT)."""
    with Supervised(options) as edge, contextlib.ExitStack() as stack:
        child = edge.stand_still()
        waiting = [stack.enter_context(edge.raw()) for _ in range(40)]
        for viewer in waiting[:20]:
            viewer.sendall(REQUEST)
        os.kill(child, signal.SIGKILL)
        for viewer in waiting[20:]:
            viewer.sendall(REQUEST)
        assert [read_all(viewer)[-4:] for viewer in waiting] == [b"kept"] * 40
        edge.logged("serving")
        assert push_part(edge, "/live/k/a/v", 7, 0).status == 201
        assert edge.get("/live/k/a/v/7.0.m4s").body == PARTS[0]
        edge.process.send_signal(signal.SIGHUP)
        edge.logged("reloaded")
        assert edge.stop() == 0
        with pytest.raises(ConnectionRefusedError):
            edge.raw()


def test_killed_again_and_again_under_load(options: list[str]) -> None:
    """Promise R5: a kill costs the connections that were open, and no new one is refused."""
    seen: Counter[str] = Counter()
    gaps: list[float] = []
    with Supervised(options) as edge:
        going = threading.Event()

        def comes_anew() -> None:
            while not going.is_set():
                began = time.monotonic()
                try:
                    seen[ask(edge.http, "GET", "/kept.m4s", {}).body.decode()] += 1
                except (ConnectionResetError, BrokenPipeError):
                    seen["cut"] += 1
                except OSError as error:
                    seen[repr(error)] += 1
                gaps.append(time.monotonic() - began)

        viewers = [threading.Thread(target=comes_anew) for _ in range(4)]
        for viewer in viewers:
            viewer.start()
        for _ in range(3):
            before = seen["kept"]
            while seen["kept"] < before + 50:
                time.sleep(0.01)
            edge.kill()
        going.set()
        for viewer in viewers:
            viewer.join(LIMIT_S)
        assert seen.keys() <= {"kept", "cut"}
        assert seen["cut"] <= 3 * 4
        print(f"\nmeasured: three kills, {dict(seen)}, the longest wait {max(gaps):.2f} s")
        assert edge.stop() == 0


def test_nothing_half_filled_outlives_a_kill(options: list[str], origin: ScriptedOrigin) -> None:
    """In mid-push and in mid-fill; both go on where they are asked for again. What was whole of a
    segment, its parts, is there, and its push goes on where it was."""
    go, pushed = threading.Event(), "/live/k/a/v/init0.mp4"
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    origin.says("/half.m4s", head + BODY[:1000], go, BODY[1000:])
    with (
        Supervised([*options, "origin.min_rate=0"]) as edge,
        edge.raw() as viewer,
        edge.raw(edge.push) as half,
    ):
        viewer.sendall(b"GET /half.m4s HTTP/1.1\r\nHost: a\r\n\r\n")
        read_head(viewer)
        push_part(edge, "/live/k/a/v", 7, 0)
        half.sendall(half_a_push(pushed))
        edge.settled("edge_push_connections", 1)
        edge.kill()
        go.set()
        assert edge.get(pushed).status == 404
        assert edge.get("/half.m4s").body == BODY
        assert edge.get("/live/k/a/v/7.0.m4s").body == PARTS[0]
        for index in range(len(PARTS)):  # the first again: it was not acknowledged, for all we know
            assert push_part(edge, "/live/k/a/v", 7, index).status == (201 if index else 200)
        assert edge.get("/live/k/a/v/7.m4s").body == WHOLE
        assert origin.count("/live/k/a/v/7.0.m4s") == origin.count("/live/k/a/v/7.m4s") == 0
        assert edge.put(pushed, BODY, object_fields(BODY)).status == 201
        assert edge.get(pushed).body == BODY
        assert edge.stop() == 0


def holds(edge: Supervised, bodies: int) -> None:
    """Wait until the parent has so many bodies in memfds."""
    folder, found = f"/proc/{edge.process.pid}/fd", -1
    deadline = time.monotonic() + LIMIT_S
    while found != bodies:
        assert time.monotonic() < deadline, f"it holds {found}, expected {bodies}"
        links = []
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(f"{folder}/{name}"))
        found = sum(link.startswith("/memfd:edgecache (") for link in links)


def test_a_loop_of_kills_keeps_the_cache_and_grows_nothing(
    options: list[str], origin: ScriptedOrigin
) -> None:
    """Promise R5: each object is asked for once, whatever its size and whoever brought it; what was
    purged stays so, and what is older than its time is."""
    bodies = {f"/vod/{number}.m4s": os.urandom(1 << number) for number in range(4, 20)}
    playlist, init = "/live/r/v.m3u8", "/live/r/a/v/init0.mp4"
    for path, body in bodies.items():
        origin.says(path, ok(body, "Cache-Control: max-age=600", "Age: 100"))
    origin.says("/short.m4s", ok(b"short", "Cache-Control: max-age=1"))
    with Supervised(options) as edge:
        for path in (*bodies, "/short.m4s"):
            edge.get(path)
            edge.complete(path)
        began = time.monotonic()
        assert edge.put(init, BODY, object_fields(BODY)).status == 201
        assert push_version(edge, playlist, b"#EXTM3U\n7", "7.3.6").status == 204
        for turn in range(10):
            gone = f"/vod/{19 - turn}.m4s"
            assert ask(edge.admin, "POST", f"/purge?key={gone}", {}, b"").status == 200
            edge.kill()
            assert edge.get(playlist).body == b"#EXTM3U\n7"
            assert edge.get(init).body == BODY
            for path, body in bodies.items():
                answer = edge.get(path)
                assert answer.body == body
                assert int(answer.fields["age"]) >= 100
                assert (answer.fields["cache-status"] == "edge; hit") == (path != gone)
            edge.complete(gone)
            assert edge.metrics()["edge_deposit_resumed_total"] >= 17
            edge.balanced()
            holds(edge, 5)  # of over 32 KiB
        assert [origin.count(path) for path in bodies] == [1] * 6 + [2] * 10
        assert origin.count(playlist) == origin.count(init) == 0
        while time.monotonic() < began + 1:
            time.sleep(0.01)
        edge.get("/short.m4s")
        assert origin.count("/short.m4s") == 2
        assert ask(edge.admin, "POST", "/purge?prefix=/", {}, b"").status == 200
        holds(edge, 0)
        edge.kill()
        assert edge.get(init).status == 404
        assert edge.stop() == 0


def test_viewers_are_served_while_the_cache_comes(
    options: list[str], origin: ScriptedOrigin
) -> None:
    """What has come is a hit. Who asks for what has not waits for it, and only what does not come
    is asked for elsewhere. It comes backwards, so parts are before their segment."""
    old, part, segment = "/vod/old.m4s", "/live/k/a/v/7.0.m4s", "/live/k/a/v/7.m4s"
    playlist, port = "/live/k/v.m3u8", free_port()
    expected = {
        old: BODY, part: PARTS[0], segment: WHOLE, "/not.m4s": b"pulled",
        f"{playlist}?_HLS_msn=7&_HLS_part=0": b"#EXTM3U",
    }  # fmt: skip
    origin.says("/not.m4s", ok(b"pulled"))
    options = [*options, f"http.listen=127.0.0.1:{port}", "http.workers=1"]
    with (
        ScriptedKeeper() as keeper,
        contextlib.ExitStack() as stack,
        ThreadPoolExecutor(1) as pool,
    ):
        keeper.put(old, BODY)
        keeper.put("/vod/new.m4s", b"new")
        keeper.grow(segment, part, PARTS[0])
        keeper.publish(playlist, b"#EXTM3U", (7, 1, 6))
        edge = Edge(options, keeper.environ)
        edge.http = f"127.0.0.1:{port}"
        started = pool.submit(stack.enter_context, edge)
        keeper.welcome()
        keeper.give("/vod/new.m4s", part)
        until_it_serves(edge)
        viewers = {path: stack.enter_context(edge.raw()) for path in expected}
        for path, viewer in viewers.items():
            viewer.sendall(f"GET {path} HTTP/1.0\r\nHost: a\r\n\r\n".encode())
        for _ in range(2):  # so that those before have been looked at
            assert edge.get("/vod/new.m4s").body == b"new"
        assert origin.count("/not.m4s") == 0
        keeper.give(playlist, segment, old)
        keeper.end()
        started.result(LIMIT_S)
        for index in range(1, len(PARTS)):
            assert push_part(edge, "/live/k/a/v", 7, index).status == 201
        bodies = {path: read_all(viewer) for path, viewer in viewers.items()}
        assert {path: each.partition(b"\r\n\r\n")[2] for path, each in bodies.items()} == expected
        assert [origin.count(path.partition("?")[0]) for path in expected] == [0, 0, 0, 1, 0]
        edge.balanced()
        assert edge.metrics()["edge_deposit_resumed_total"] == 5
        assert edge.stop() == 0


def until_it_serves(edge: Edge) -> None:
    deadline = time.monotonic() + LIMIT_S
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            edge.raw().close()
            return
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_successor_is_watched_over_as_well(options: list[str]) -> None:
    """SIGUSR2, then a kill; the one before was there for a viewer until then."""
    with Supervised([*options, "http.drain=10s"]) as edge:
        edge.get("/kept.m4s")
        first = edge.serving()
        edge.process.send_signal(signal.SIGUSR2)
        edge.logged("serving")
        edge.logged("stopped")  # the first
        while first in edge.children():
            time.sleep(0.01)
        assert edge.get("/kept.m4s").fields["cache-status"] == "edge; hit"
        edge.kill()
        assert edge.get("/kept.m4s").fields["cache-status"] == "edge; hit"
        assert edge.stop() == 0


def test_what_cannot_start_ends_it(options: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        edge = Supervised([*options, f"ingest.listen=127.0.0.1:{port}"])
        with pytest.raises(AssertionError, match=r"ingest\.listen: found"):
            edge.__enter__()
        assert edge.process.returncode == 1


def pipelined(edge: Supervised, paths: Sequence[str]) -> bytes:
    """All answers on one connection, behind them that of REQUEST."""
    with edge.raw() as viewer:
        for path in paths:
            viewer.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
        viewer.sendall(REQUEST)
        return read_all(viewer)


def test_a_parent_that_is_killed_takes_nobody_with_it(
    options: list[str], origin: ScriptedOrigin
) -> None:
    """Another one finds what serves by its socket, and is its parent from then on: whatever its
    child has taken over it keeps before that serves. It was told behind that once, so a kill at
    that moment lost the cache."""
    paths = [f"/many/{number}.m4s" for number in range(300)]
    for path in paths:
        origin.says(path, ok(b"one of many", "Cache-Control: max-age=600"))
    options = [*options, f"http.listen=127.0.0.1:{free_port()}"]
    with Supervised(options) as edge:
        child = edge.serving()
        edge.process.kill()
        edge.process.wait(LIMIT_S)
        try:
            assert edge.get("/kept.m4s").body == b"kept"
            assert pipelined(edge, paths).count(b"one of many") == len(paths)
            with Supervised(options) as other:
                other.kill()
                hits = pipelined(other, paths).count(b"Cache-Status: edge; hit")
                assert hits == len(paths) + 1
                assert other.stop() == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
