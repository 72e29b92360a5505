"""A real Plane on real sockets, a viewer that reads strictly, and the ledger both must close.

Laws: every wait has a deadline (WAIT_S); a Viewer refuses anything RFC 9112 does not allow in an
answer, so a test that only reads also proves the framing. Does not know what is asked for.
"""

from __future__ import annotations

import contextlib
import ipaddress
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from edgecache._core import Fill, Plane

WAIT_S = 20.0
TYPE = b"Content-Type: video/mp4\r\n"
HOST = b"Host: edge.test\r\n"


class Cut(Exception):  # noqa: N818 - an event that tests await
    """The connection ended inside an answer."""


@dataclass(frozen=True)
class Answer:
    status: int
    fields: dict[bytes, bytes]
    body: bytes

    @property
    def closes(self) -> bool:
        return self.fields.get(b"connection") == b"close"

    @property
    def cache(self) -> bytes:
        return self.fields[b"cache-status"].partition(b"; ")[2]


def listener(backlog: int = 4096) -> socket.socket:
    """Bound to a free port on loopback, SO_REUSEPORT, ready to be handed to a worker."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(backlog)
    sock.setblocking(False)
    return sock


def twin(sock: socket.socket) -> socket.socket:
    """Another listener on the same port, for another worker."""
    other = socket.socket()
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    other.bind(sock.getsockname())
    other.listen(4096)
    other.setblocking(False)
    return other


def networks(trusted: Sequence[str]) -> list[tuple[bytes, int]]:
    """IPv4 networks as a Plane takes them."""
    found = map(ipaddress.IPv4Network, trusted)
    mapped = bytes(10) + b"\xff\xff"
    return [(mapped + item.network_address.packed, 96 + item.prefixlen) for item in found]


def get(target: str | bytes, *fields: str, method: str = "GET", version: str = "1.1") -> bytes:
    """The bytes of one request; `fields` are whole lines without CRLF."""
    path = target if isinstance(target, bytes) else target.encode()
    lines = b"".join(line.encode("latin-1") + b"\r\n" for line in fields)
    return b"%b %b HTTP/%b\r\n" % (method.encode(), path, version.encode()) + HOST + lines + b"\r\n"


class Viewer:
    """One connection. Blocking, but never for longer than WAIT_S."""

    def __init__(self, port: int, *, receive_bytes: int = 0, source: str = "") -> None:
        self.sock = socket.socket()
        if source:
            self.sock.bind((source, 0))
        if receive_bytes:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.sock.settimeout(WAIT_S)
        try:
            self.sock.connect(("127.0.0.1", port))
        except OSError:
            self.sock.close()
            raise
        self._rest = b""

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_all(self, data: bytes) -> None:
        """Like send(), but the peer may have had enough of it."""
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(data)

    def _more(self) -> None:
        try:
            got = self.sock.recv(1 << 18)
        except ConnectionResetError as error:
            raise Cut("reset") from error
        if not got:
            raise Cut("end")
        self._rest += got

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._more()
        got, self._rest = self._rest[:size], self._rest[size:]
        return got

    def until(self, mark: bytes) -> bytes:
        while mark not in self._rest:
            self._more()
        got, _, self._rest = self._rest.partition(mark)
        return got

    def head(self) -> tuple[int, dict[bytes, bytes]]:
        line, *lines = self.until(b"\r\n\r\n").split(b"\r\n")
        version, status, reason = line.split(b" ", 2)
        assert version == b"HTTP/1.1"
        assert reason
        fields: dict[bytes, bytes] = {}
        for field in lines:
            name, _, value = field.partition(b": ")
            assert name.lower() not in fields, f"field twice: {name!r}"
            assert name
            assert value == value.strip()
            fields[name.lower()] = value
        assert b"date" in fields or int(status) in (429, 503)
        return int(status), fields

    def chunk(self) -> bytes:
        """One chunk; empty: the last one."""
        size = int(self.until(b"\r\n"), 16)
        data = self.read(size)
        assert self.read(2) == b"\r\n"
        return data

    def body(self, length: int) -> bytes:
        """What follows a head; `length` −1: chunks, to the last one."""
        if length >= 0:
            return self.read(length)
        found = b""
        while data := self.chunk():
            found += data
        return found

    def answer(self, *, head_only: bool = False) -> Answer:
        status, fields = self.head()
        assert not (b"content-length" in fields and b"transfer-encoding" in fields)
        body = b""
        if head_only or status in (204, 304):
            pass
        elif b"transfer-encoding" in fields or b"content-length" in fields:
            body = self.body(int(fields.get(b"content-length", b"-1")))
        else:
            assert fields[b"connection"] == b"close"
            with contextlib.suppress(EOFError):
                while True:
                    body += self.rest_or_end()
        return Answer(status, fields, body)

    def rest_or_end(self) -> bytes:
        """What is there or comes; EOFError at an orderly end, Cut at a reset."""
        if self._rest:
            got, self._rest = self._rest, b""
            return got
        try:
            self._more()
        except Cut as cut:
            if str(cut) == "end":
                raise EOFError from cut
            raise
        return self.rest_or_end()

    def ask(self, target: str | bytes, *fields: str, method: str = "GET") -> Answer:
        self.send(get(target, *fields, method=method))
        return self.answer(head_only=method == "HEAD")

    def at_end(self) -> bool:
        """The peer closed in order, and sent nothing more; waits for one or the other. A reset is
        neither: it raises Cut."""
        if self._rest:
            return False
        try:
            self._more()
        except Cut as cut:
            if str(cut) == "end":
                return True
            raise
        return False

    def silent(self, for_s: float = 0.05) -> bool:
        """Nothing arrived yet. Only ever used to show that something is *not* there early."""
        return not self._rest and not select.select([self.sock], [], [], for_s)[0]


def eventually(what: Callable[[], bool], why: str = "") -> None:
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, why or "waited in vain"
        time.sleep(0.002)


class Edge:
    """A started Plane with its listeners; `plane` is the control plane's view of it."""

    def __init__(
        self,
        *,
        workers: int = 1,
        budget: int = 64 << 20,
        log: bool = False,
        sites: Sequence[bytes] = (),
        id: bytes = b"",
        trusted: Sequence[str] = (),
        hosts: Sequence[str] = (),
        **limits: int,
    ) -> None:
        self.plane = Plane(
            name=b"pop-a", budget_bytes=budget, limits=dict(limits), access_log=log,
            keep=[(site, ()) for site in sites], sites=sites, id=id, trusted=networks(trusted),
            hosts=[name.encode() for name in hosts],
        )  # fmt: skip
        self.sockets = [listener()]
        self.sockets += [twin(self.sockets[0]) for _ in range(workers - 1)]
        self.port = int(self.sockets[0].getsockname()[1])
        self.plane.start([sock.fileno() for sock in self.sockets])

    def viewer(self, *, receive_bytes: int = 0, source: str = "") -> Viewer:
        """`source`: an address of its own, of 127.0.0.0/8."""
        return Viewer(self.port, receive_bytes=receive_bytes, source=source)

    def ask(self, target: str | bytes, *fields: str, method: str = "GET") -> Answer:
        with self.viewer() as viewer:
            return viewer.ask(target, *fields, method=method)

    def raw(self, data: bytes) -> list[Answer]:
        """Send these bytes on a connection of their own; all answers until it ends."""
        with self.viewer() as viewer:
            viewer.send_all(data)
            return list(answers(viewer))

    def count(self, name: str) -> int:
        return self.plane.counters()[name]

    def await_count(self, name: str, at_least: int) -> None:
        eventually(lambda: self.count(name) >= at_least, f"{name}: {self.count(name)} < {at_least}")

    def until_full(self) -> int:
        """Bytes sent to viewers, once it is no more: nobody reads."""
        out = 0

        def full() -> bool:
            nonlocal out
            before, out = out, self.count("bytes_out")
            return 0 < out == before

        eventually(full)
        return out

    def await_parked(self, number: int) -> None:
        eventually(
            lambda: self.count("parked_now") == number,
            f"parked_now: {self.count('parked_now')} is not {number}",
        )

    def fill(self) -> Fill:
        """The next miss; there must be one soon."""
        deadline = time.monotonic() + WAIT_S
        while not (fills := self.plane.misses(1)):
            left = deadline - time.monotonic()
            assert left > 0, "no miss came"
            select.select([self.plane.event_fd], [], [], min(left, 0.02))
        return fills[0]

    def put(self, key: str, body: bytes, *, etag: bytes = b"e", ttl_ms: int = 60_000) -> int:
        return self.plane.put(key.encode(), body, TYPE, etag=etag, ttl_ms=ttl_ms)

    def publish(
        self,
        key: str,
        version: tuple[int, int, int],
        *,
        body: bytes = b"",
        hold_ms: int = 20_000,
        advance: int = 9,
        ended: bool = False,
        ttl_ms: int = 60_000,
        variants: tuple[bytes | None, ...] = (),
    ) -> int:
        """`variants`: full.gzip, delta, delta.gzip, and the two of `_HLS_skip=v2`."""
        msn, parts, last_parts = version
        text = body or f"v{msn}.{parts}{'.end' if ended else ''}".encode()
        bodies = [text, *variants]
        fields = [b"Content-Type: application/vnd.apple.mpegurl\r\n"] * len(bodies)
        etags = [b"%b-%d" % (text[:16], i) for i in range(len(bodies))]
        return self.plane.publish(
            key.encode(), msn=msn, parts=parts, last_parts=last_parts, hold_ms=hold_ms,
            advance=advance, ended=ended, ttl_ms=ttl_ms,
            fields=[f if b is not None else None for f, b in zip(fields, bodies, strict=True)],
            bodies=bodies,
            etags=[e if b is not None else None for e, b in zip(etags, bodies, strict=True)],
        )  # fmt: skip

    def stop(self) -> None:
        """Idempotent. Lets go of the plane, whose memory is counted."""
        if self.sockets:
            self.plane.stop()
            del self.plane
        for sock in self.sockets:
            sock.close()
        self.sockets = []


def ledger(c: dict[str, int]) -> dict[str, int]:
    """What does not add up, by law; empty is right. `c`: counters of a plane at rest."""
    answers_ = c["status_2xx"] + c["status_3xx"] + c["status_4xx"] + c["status_5xx"]
    unanswered = c["requests"] - answers_ - c["handed_over"] - c["unanswered"]
    left = ("evicted", "expired", "purged", "replaced", "failed")
    gone = sum(c[f"store_{why}"] for why in left)
    released = c["park_gone"] + c["park_drained"] + c["parked_now"]
    reasons = ("header_timeout", "idle", "write_timeout", "bad_request")
    laws = {
        "accepted = closed + connections_now": c["accepted"] - c["closed"] - c["connections_now"],
        "parked = woken + timeout + gone + drained + parked_now": c["parked"]
        - c["woken"] - c["park_timeout"] - released,
        "requests = answers + handed_over + unanswered + parked_now": unanswered
        if not 0 <= unanswered <= c["parked_now"]
        else 0,
        "store_created = store_entries_now + left": c["store_created"]
        - c["store_entries_now"] - gone,
        "closed for a reason <= closed": max(
            0, sum(c[f"closed_{r}"] for r in reasons) - c["closed"] - c["connections_now"]
        ),
        "hits + live + 304 + 206 <= requests": max(
            0, c["hits"] + c["live_hits"] - c["requests"]
        ),
    }  # fmt: skip
    return {law: off for law, off in laws.items() if off}


def settled(edge: Edge) -> None:
    """Every connection of a finished test goes away, nobody stays parked, and the laws hold."""
    deadline = time.monotonic() + WAIT_S
    while True:
        counters = edge.plane.counters()
        if not counters["connections_now"] and not counters["parked_now"] and not ledger(counters):
            return
        assert time.monotonic() < deadline, (ledger(counters), counters)
        time.sleep(0.005)


def answers(viewer: Viewer) -> Iterator[Answer]:
    """All answers until the orderly end of the connection."""
    while not viewer.at_end():
        yield viewer.answer()
