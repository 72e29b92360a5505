"""Restart and upgrade: one process takes over from another, and viewers do not notice."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edgecache.signing import sign
from tests.running import (
    KID,
    LIMIT_S,
    SECRET,
    Edge,
    ScriptedOrigin,
    ask,
    heard,
    ok,
    read_all,
    read_head,
)
from tests.system.test_40_push_receiver import (
    PARTS,
    WHOLE,
    object_fields,
    part_fields,
    push_part,
    push_version,
)  # fmt: skip

pytestmark = pytest.mark.timeout(90)

SEGMENTS = {f"/vod/{n}.m4s": os.urandom(20_000 * (n + 1)) for n in range(12)}
LIVE = "/live/s/v.m3u8"


@pytest.fixture
def options(origin: ScriptedOrigin) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory() as home:
        given = [f"takeover.socket={home}/takeover.sock", f"origin.urls={origin.url}"]
        yield [*given, "http.workers=2", "origin.min_rate=0", "http.drain=10s"]


class Load:
    """Viewers and a pusher, each on a thread, all going on for as long as `running`; the pusher
    stops last, so that nobody waits for what never comes. `wrong` is what nobody may ever see."""

    def __init__(self, edge: Edge, origin: ScriptedOrigin) -> None:
        self.http, self.push = edge.http, edge.push
        self.origin = origin
        self.running = True
        self.wrong: list[str] = []
        self.done: Counter[str] = Counter()
        self.version = 7, 0
        self.pushes()
        self._threads = [
            threading.Thread(target=self._repeat, args=(what,))
            for what in (*[self.keeps_alive] * 4, *[self.comes_anew] * 3, *[self.misses] * 2,
                         *[self.reloads] * 4, self.reads_slowly)
        ]  # fmt: skip
        self._pusher = threading.Thread(target=self._go_on)
        for thread in (*self._threads, self._pusher):
            thread.start()

    def _repeat(self, what: Callable[[], None]) -> None:
        while self.running:
            try:
                what()
            except Exception as error:
                self.wrong.append(f"{what.__name__}: {error!r}")
                time.sleep(0.05)

    def _go_on(self) -> None:
        while self.running or any(thread.is_alive() for thread in self._threads):
            self.pushes()

    def stop(self) -> None:
        self.running = False
        for thread in (*self._threads, self._pusher):
            thread.join(LIMIT_S)

    def _connect(self) -> http.client.HTTPConnection:
        host, _, port = self.http.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=LIMIT_S)
        connection.connect()  # one that is refused, or cut, is not tried again
        connection.auto_open = 0
        return connection

    def _get(self, connection: http.client.HTTPConnection, path: str) -> bytes:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            self.wrong.append(f"{path}: {answer.status}")
        if answer.will_close:
            self.wrong.append(f"{path}: connection closed")
        self.done["answers"] += 1
        return body

    def keeps_alive(self) -> None:
        connection = self._connect()
        while self.running:
            for path, body in SEGMENTS.items():
                if self._get(connection, path) != body:
                    self.wrong.append(f"{path}: other bytes")
            time.sleep(0.005)
        connection.close()

    def comes_anew(self) -> None:
        connection = self._connect()
        path = f"/vod/{self.done['answers'] % len(SEGMENTS)}.m4s"
        if self._get(connection, path) != SEGMENTS[path]:
            self.wrong.append(f"{path}: other bytes")
        connection.close()
        time.sleep(0.002)

    def misses(self) -> None:
        """Each object once, from an origin that takes its time."""
        connection = self._connect()
        path = f"/vod/miss-{threading.get_ident()}-{self.done['misses']}.m4s"
        self.done["misses"] += 1
        self.origin.says(path, 0.02, ok(path.encode() * 500, "Cache-Control: max-age=60"))
        if self._get(connection, path) != path.encode() * 500:
            self.wrong.append(f"{path}: other bytes")
        connection.close()

    def reloads(self) -> None:
        connection = self._connect()
        while self.running:
            msn, part = self.version
            body = self._get(connection, f"{LIVE}?_HLS_msn={msn}&_HLS_part={part}")
            if not body.startswith(b"#EXTM3U"):
                self.wrong.append(f"{LIVE}: {body!r}")
            self.done["reloads"] += 1
        connection.close()

    def reads_slowly(self) -> None:
        host, _, port = self.http.rpartition(":")
        path = "/vod/11.m4s"
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            sock.settimeout(LIMIT_S)
            sock.connect((host, int(port)))
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            got = b""
            while data := sock.recv(8192):
                got += data
                time.sleep(0.01)
        if not got.endswith(SEGMENTS[path]):
            self.wrong.append(f"{path}: other bytes, slowly")
        self.done["slow"] += 1

    def pushes(self) -> None:
        """As an origin does: what was not acknowledged is sent again."""
        msn, part = self.version
        path = f"/live/s/a/v/{msn}.{part}.m4s"
        text = f"#EXTM3U {msn}.{part}".encode()
        while True:
            try:
                self._put(path, PARTS[part], part_fields(f"/live/s/a/v/{msn}.m4s", part))
                self._publish(text, msn, part)
            except (OSError, http.client.HTTPException):
                self.done["pushed again"] += 1
                continue
            break
        self.version = (msn, part + 1) if part + 1 < len(PARTS) else (msn + 1, 0)
        time.sleep(0.02)

    def _put(self, path: str, body: bytes, fields: dict[str, str]) -> None:
        signed = sign("PUT", path, fields.items(), kid=KID, secret=SECRET.encode())
        status = ask(self.push, "PUT", path, {**fields, "Authorization": signed}, body).status
        if status not in (200, 201, 204):
            self.wrong.append(f"push {path}: {status}")
        self.done["pushes"] += 1

    def _publish(self, text: bytes, msn: int, part: int) -> None:
        parts = part + 1
        number = f"{msn}.{parts}.6" if parts < len(PARTS) else f"{msn + 1}.0.6"
        fields = object_fields(text) | {
            "Edge-Version": number, "Edge-Hold": "5000", "Edge-Advance": "12",
            "Edge-Variants": f"full={len(text)}",
        }  # fmt: skip
        self._put(LIVE, text, fields)


def test_two_restarts_under_load(options: list[str], origin: ScriptedOrigin) -> None:
    """Promise R4: none refused, none reset, no request cut, nothing fetched twice."""
    for path, body in SEGMENTS.items():
        origin.says(path, ok(body, "Cache-Control: max-age=600"))
    with ExitStack() as stack:
        edge = stack.enter_context(Edge(options))
        for path in SEGMENTS:
            edge.get(path)
            edge.complete(path)
        load = Load(edge, origin)
        stack.callback(load.stop)
        for _ in range(2):
            before = load.done.copy()
            while any(load.done[what] < before[what] + 20 for what in ("pushes", "reloads")):
                time.sleep(0.01)
            following = stack.enter_context(Edge(options))
            assert following.http == edge.http
            assert edge.process.wait(LIMIT_S) == 0
            assert int(str(following.logged("took over")["connections"])) >= 4
            edge = following
        seen = load.done["answers"]
        while load.done["answers"] < seen + 200:
            time.sleep(0.01)
        for path, body in SEGMENTS.items():
            answer = edge.get(path)
            assert (answer.body, answer.fields["cache-status"]) == (body, "edge; hit")
        load.stop()
        assert sorted(set(load.wrong)) == []
        assert [origin.count(path) for path in SEGMENTS] == [1] * len(SEGMENTS)
        asked = Counter(a.target for a in origin.asked if a.target.startswith("/vod/miss"))
        assert len(asked) >= load.done["misses"] - 2
        assert not [a for a in origin.asked if a.target.startswith("/live/s/")]
        assert edge.stop() == 0


def test_what_viewers_are_in_the_middle_of_goes_on(
    options: list[str], origin: ScriptedOrigin
) -> None:
    """A segment that is pushed part by part, a parked reload, a hinted part, half a request."""
    options = [*options, "origin.push_wait=10s"]  # the second process begins meanwhile
    with (
        Edge(options) as old,
        old.raw() as grows, old.raw() as parked, old.raw() as hinted, old.raw() as half,
    ):  # fmt: skip
        for index in range(3):
            push_part(old, "/live/g/a/v", 7, index)
        push_version(old, "/live/g/v.m3u8", b"#EXTM3U\n1", "7.3.6", hold_ms=12_000)
        grows.sendall(b"GET /live/g/a/v/7.m4s HTTP/1.0\r\nHost: a\r\n\r\n")
        parked.sendall(b"GET /live/g/v.m3u8?_HLS_msn=7&_HLS_part=3 HTTP/1.1\r\nHost: a\r\n\r\n")
        hinted.sendall(b"GET /live/g/a/v/7.3.m4s HTTP/1.1\r\nHost: a\r\n\r\n")
        half.sendall(b"GET /live/g/a/v/7.0.m4s HT")
        old.settled("edge_parked_now", 3)
        with Edge(options) as new:
            assert new.push == old.push
            for index in range(3, 6):
                assert push_part(new, "/live/g/a/v", 7, index).status == 201
            assert push_version(new, "/live/g/v.m3u8", b"#EXTM3U\n2", "8.0.6").status == 204
            assert parked.recv(9999).endswith(b"#EXTM3U\n2")
            assert read_all(grows).endswith(WHOLE)
            assert _body(hinted, len(PARTS[3])) == PARTS[3]
            assert origin.count("/live/g/a/v/7.3.m4s") == 0
            for viewer in (grows, parked, hinted):
                viewer.close()
            half.sendall(b"TP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert read_all(half).endswith(PARTS[0])
            half.close()
            assert new.get("/live/g/a/v/7.m4s").body == WHOLE
            assert old.process.wait(LIMIT_S) == 0
            assert new.stop() == 0


def test_a_hand_over_that_fails_leaves_it_as_it_was(options: list[str]) -> None:
    """Whoever comes for it and dies at any step."""
    path = options[0].partition("=")[2]
    with Edge(options) as edge:
        push_part(edge, "/live/f/a/v", 7, 0)
        for said in ((), ("ready",), ("ready", "taken"), ("nonsense",)):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as thief:
                thief.settimeout(LIMIT_S)
                thief.connect(path)
                _drop_packet(thief)
                for kind in said:
                    body = b"true" if kind == "ready" else b"null"
                    head = kind.encode().ljust(16, b"\0") + bytes((0, 0, 0, 4)) + bytes(4)
                    thief.sendall(head + body)
                    while kind == "ready" and _drop_packet(thief) != b"end":
                        pass
                    if kind == "taken":
                        assert _drop_packet(thief) == b"go"
            assert "this process goes on" in str(edge.logged_like("handing over failed")["message"])
            assert edge.get("/live/f/a/v/7.0.m4s").body == PARTS[0]
        for index in range(1, 6):
            assert push_part(edge, "/live/f/a/v", 7, index).status == 201
        assert edge.get("/live/f/a/v/7.m4s").body == WHOLE
        assert os.path.exists(path)
        assert edge.stop() == 0
        assert not os.path.exists(path)


def _body(sock: socket.socket, length: int) -> bytes:
    head, body = read_head(sock)
    while len(body) < length:
        more = sock.recv(65536)
        assert more, f"closed after {len(body)} of {length} bytes of {head!r}"
        body += more
    return body


def _drop_packet(sock: socket.socket) -> bytes:
    """Its kind; the descriptors are closed."""
    data, fds, _, _ = socket.recv_fds(sock, 65536, 256)
    for fd in fds:
        os.close(fd)
    return data[:16].rstrip(b"\0")


NEWER = """
import runpy, sys
import edgecache.control.carry as carry, edgecache.succession as succession
{name} = 99
sys.argv = ["edgecache", "serve", *sys.argv[1:]]
runpy.run_module("edgecache", run_name="__main__")
"""


def test_a_build_that_knows_another_format_starts_cold(
    options: list[str], origin: ScriptedOrigin
) -> None:
    origin.says("/cold.m4s", ok(b"cold", "Cache-Control: max-age=600"))
    with Edge(options) as old:
        assert old.get("/cold.m4s").body == b"cold"
        newer = ("-c", NEWER.format(name="carry.FORMAT"))
        with Edge(options, command=newer) as new:
            assert new.http == old.http
            assert any("cold start: format 99 is all we know" in line for line in new.lines)
            assert old.process.wait(LIMIT_S) == 0
            assert new.get("/cold.m4s").body == b"cold"
            assert origin.count("/cold.m4s") == 2
            with pytest.raises(AssertionError, match="takeover protocol 1, allowed 99: stop it"):
                Edge(options, command=("-c", NEWER.format(name="succession.PROTOCOL"))).__enter__()
            assert new.get("/cold.m4s").fields["cache-status"] == "edge; hit"
            assert new.stop() == 0


def test_a_signal_starts_the_successor(options: list[str], origin: ScriptedOrigin) -> None:
    """What a service manager does; it is told who the main process is now."""
    origin.says("/signal.m4s", ok(b"kept", "Cache-Control: max-age=600"))
    with (
        tempfile.TemporaryDirectory() as home,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bus,
    ):
        bus.bind(f"{home}/notify")
        bus.settimeout(LIMIT_S)
        with Edge(options, environ={"NOTIFY_SOCKET": f"{home}/notify"}) as old:
            heard(bus, b"READY=1")
            old.get("/signal.m4s")
            old.process.send_signal(signal.SIGUSR2)
            heard(bus, b"READY=1")
            main = int(heard(bus, b"MAINPID=").partition(b"=")[2])
            try:
                assert main != old.process.pid
                assert old.process.wait(LIMIT_S) == 0
                answer = ask(old.http, "GET", "/signal.m4s", {})
                assert (answer.body, answer.fields["cache-status"]) == (b"kept", "edge; hit")
            finally:
                os.kill(main, signal.SIGTERM)
                while Path(f"/proc/{main}").exists():
                    time.sleep(0.01)
    with Edge() as edge:
        edge.process.send_signal(signal.SIGUSR2)
        assert edge.logged_like("takeover.socket: found none")["level"] == "error"
        assert edge.stop() == 0
