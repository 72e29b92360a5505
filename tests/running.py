"""A real daemon as a child process, and an origin that does as it is told, counts and records."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import queue
import re
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

from bench.ledger import broken, read
from edgecache.signing import sign

LIMIT_S = 15.0
KID = "test"
SECRET = "0123456789abcdef0123456789abcdef"
KEYS = f"keys.{KID}.secret={SECRET}"
_edges: list[Edge] = []

Step = bytes | float | str | threading.Event
"""Bytes to send, seconds to wait, "fin" or "rst", an event to wait for."""


@dataclass(frozen=True)
class Asked:
    """One request as it arrived at the origin."""

    method: str
    target: str
    fields: dict[str, str]
    raw: bytes


Script = Callable[[Asked], Sequence[Step]]


def ok(body: bytes, *lines: str, status: str = "200 OK") -> bytes:
    """A complete response with Content-Length."""
    head = "\r\n".join((f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines, "", ""))
    return head.encode("latin-1") + body


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 256  # by default 5: the SYNs of a crowd are dropped, and wait a second


class ScriptedOrigin:
    """`scripts[path]` says what to answer; 404 for the rest. `tls`: it is an https one."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.scripts: dict[str, Script] = {}
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        origin = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                    raw = self.request
                    origin._serve(stack.enter_context(tls.wrap_socket(raw, True)) if tls else raw)

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.port = self._server.server_address[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"

    def _run(self) -> None:
        self._server.serve_forever(0.02)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(LIMIT_S)

    def says(self, path: str, *steps: Step) -> None:
        """The same answer every time."""
        self.scripts[path] = lambda _: steps

    def count(self, path: str) -> int:
        """Requests for `path`, whatever their query."""
        with self._lock:
            return sum(asked.target.partition("?")[0] == path for asked in self.asked)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(LIMIT_S)
        data = b""
        try:
            while True:
                while b"\r\n\r\n" not in data:
                    received = connection.recv(65536)
                    if not received:
                        return
                    data += received
                head, _, data = data.partition(b"\r\n\r\n")
                body = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                while body and len(data) < int(body[1]):
                    data += connection.recv(65536)
                data = data[int(body[1]) :] if body else data
                if not self._answer(connection, head):
                    return
        except OSError:
            return

    def _answer(self, connection: socket.socket, head: bytes) -> bool:
        line, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ", 2)
        pairs = (item.partition(":") for item in lines)
        fields = {name.lower(): value.strip() for name, _, value in pairs}
        asked = Asked(method, target, fields, head)
        with self._lock:
            self.asked.append(asked)
        script = self.scripts.get(target.partition("?")[0])
        steps = script(asked) if script else [ok(b"", status="404 Not Found")]
        return all(self._step(connection, step) for step in steps)

    @staticmethod
    def _step(connection: socket.socket, step: Step) -> bool:
        if isinstance(step, bytes):
            connection.sendall(step)
        elif isinstance(step, threading.Event):
            step.wait(LIMIT_S)
        elif isinstance(step, float):
            time.sleep(step)
        else:
            if step == "rst":
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()
            return False
        return True


@dataclass
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes


@dataclass
class Edge:
    """`edgecache serve` with all doors on free ports of loopback."""

    options: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    token: str = ""  # of the admin door
    command: Sequence[str] = ("-m", "edgecache", "serve")

    def __enter__(self) -> Self:
        doors = ("http.listen", "admin.listen", "push.listen")
        options = [f"{door}=127.0.0.1:0" for door in doors]
        options += ["log.format=json", "http.drain=2s", "admin.refresh=0s", KEYS, *self.options]
        command = [sys.executable, *self.command, *self.arguments]
        command += [part for option in options for part in ("-o", option)]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={"PATH": "", **self.environ}, cwd=ROOT
        )
        self.lines: list[str] = []
        self._fresh: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            self.ready = ready = self.logged("serving")
        except BaseException:
            self.__exit__()
            raise
        self.http, self.admin = str(ready["http"]), str(ready["admin"])
        self.push = str(ready.get("push", ""))  # closed by an option
        _edges.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _edges[:] = [edge for edge in _edges if edge is not self]
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            self._fresh.put(line)
        self._fresh.put(None)

    def logged(self, message: str) -> dict[str, object]:
        """The next record with this message; those before it are passed over."""
        return self._logged(message, lambda found: found == message)

    def logged_like(self, beginning: str) -> dict[str, object]:
        """The same of one that begins like this."""
        return self._logged(beginning, lambda found: found.startswith(beginning))

    def _logged(self, message: str, fits: Callable[[str], bool]) -> dict[str, object]:
        deadline = time.monotonic() + LIMIT_S
        while True:
            line = self._fresh.get(timeout=max(deadline - time.monotonic(), 0.01))
            if line is None:
                raise AssertionError(f"ended before {message!r}: {''.join(self.lines[-20:])}")
            record = json.loads(line) if line.startswith("{") else {}
            if fits(str(record.get("message"))):
                return dict(record)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal, wait, return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(LIMIT_S)

    def get(self, path: str, fields: Mapping[str, str] | None = None) -> Answer:
        return ask(self.http, "GET", path, fields or {})

    def put(self, path: str, body: bytes, fields: Mapping[str, str], method: str = "PUT") -> Answer:
        """A signed request to the push door."""
        signed = sign(method, path, fields.items(), kid=KID, secret=SECRET.encode())
        return ask(self.push, method, path, {**fields, "Authorization": signed}, body)

    def raw(self, door: str | None = None) -> socket.socket:
        """A connection to the viewers' door, or to another one."""
        host, _, port = (door or self.http).rpartition(":")
        return socket.create_connection((host, int(port)), timeout=LIMIT_S)

    def _page(self) -> str:
        fields = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return ask(self.admin, "GET", "/metrics", fields).body.decode()

    def metrics(self) -> dict[str, float]:
        """`name` or `name{labels}` -> value, as of now."""
        found = re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (\S+)$", self._page(), re.MULTILINE)
        return {name: float(value) for name, value in found}

    def complete(self, path: str) -> None:
        """Wait until the entry is whole: a viewer may have its last byte a moment earlier."""
        deadline = time.monotonic() + LIMIT_S
        target = "/explain?" + urlencode({"url": f"http://pop{path}"})
        while True:
            found = json.loads(ask(self.admin, "GET", target, {}).body)["entry"] or {}
            if found.get("state") == "complete":
                return
            assert time.monotonic() < deadline, f"{path} is {found}"
            time.sleep(0.005)

    def settled(self, name: str, value: float) -> None:
        """Wait until a metric has this value."""
        deadline = time.monotonic() + LIMIT_S
        while (found := self.metrics().get(name, 0.0)) != value:
            assert time.monotonic() < deadline, f"{name} is {found}, expected {value}"
            time.sleep(0.02)

    def balanced(self) -> None:
        """Wait until its ledger closes. Counters that are read while they change are off for a
        moment; what is lost stays so."""
        deadline = time.monotonic() + LIMIT_S
        while off := broken(read(self._page())):
            assert time.monotonic() < deadline, f"the ledger does not close: {off}"
            time.sleep(0.02)


ROOT = Path(__file__).resolve().parents[1]


def serving() -> list[Edge]:
    """The daemons that a test has left running, with a door to ask at."""
    return [edge for edge in _edges if edge.process.poll() is None and edge.admin[:1].isdigit()]


def ask(
    door: str, method: str, path: str, fields: Mapping[str, str], body: bytes | None = None
) -> Answer:
    """One request on its own connection. Raises http.client.IncompleteRead when it was cut."""
    host, _, port = door.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=LIMIT_S)
    try:
        connection.request(method, path, body=body, headers=dict(fields))
        answer = connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, names, answer.read())
    finally:
        connection.close()


def heard(bus: socket.socket, word: bytes) -> bytes:
    """The next message to a service manager that begins so."""
    while not (said := bus.recv(999)).startswith(word):
        pass
    return said


def read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """(head, what came after it)."""
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            raise AssertionError(f"closed in the middle of a head: {data!r}")
        data += received
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def read_all(connection: socket.socket) -> bytes:
    """Everything until the peer closes; a reset counts as that."""
    data = b""
    try:
        while received := connection.recv(65536):
            data += received
    except ConnectionResetError:
        pass
    return data


@contextlib.contextmanager
def hung(edge: Edge) -> Iterator[None]:
    """The control thread stands still, wherever it is; its other threads go on (ptrace(2)).
    Raises PermissionError where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    attach, detach = 16, 17
    if libc.ptrace(attach, edge.process.pid, None, None):
        raise PermissionError(ctypes.get_errno(), "ptrace")
    try:
        os.waitpid(edge.process.pid, 0x40000000)  # __WALL: until it has stopped
        yield
    finally:
        libc.ptrace(detach, edge.process.pid, None, None)
