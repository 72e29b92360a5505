"""SYNs from addresses that nobody has, as many as one core sends, and viewers beside them, who have
a connection or come meanwhile.

The former are at home, behind a last mile (lastmile.py). Of the latter, who are on the spot, each
is timed from its SYN to the last byte of its answer; who has none in time is lost. Needs a raw
socket, and a network in which answers to NETWORK end at this host and come back from nobody.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from .bystanders import AT_HOME, Bystanders
from .crowd import request
from .lastmile import lastmile
from .watch import watched

NETWORK: Final = "198.18.0.0/15"  # for tests of networks (RFC 2544): its addresses are nobody's
_FIRST: Final = int.from_bytes(socket.inet_aton("198.18.0.0"))
_PACKETS: Final = 1 << 16  # made before, each of another address: more than a queue holds
_BURST: Final = 32  # packets between two looks at the viewers
_COMES_S: Final = 0.02  # one newcomer each
_LOST_S: Final = 5.0
_READ_BYTES: Final = 1 << 18

Address = tuple[str, int]


def checksum(data: bytes) -> int:
    """Of IP and TCP (RFC 1071); `data` of even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def syn(source: int, port: int, number: int, address: Address) -> bytes:
    """An IPv4 packet with a TCP SYN; the kernel adds the checksum of its head (raw(7))."""
    ours, theirs = source.to_bytes(4), socket.inet_aton(address[0])
    mss = struct.pack("!BBH", 2, 4, 1460)
    tcp = struct.pack("!HHIIBBHHH", port, address[1], number, 0, 6 << 4, 2, 64240, 0, 0) + mss
    pseudo = ours + theirs + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, socket.IPPROTO_TCP, 0)
    return head + ours + theirs + tcp


class Flood:
    """burst() sends some; `sent`: how many so far."""

    def __init__(self, address: Address) -> None:
        numbers = range(_PACKETS)
        made = [syn(_FIRST + n, 1024 + n * 7 % 60_000, n * 65_521, address) for n in numbers]
        self._packets = itertools.cycle(made)
        self._to = address
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.sent = 0

    def burst(self) -> None:
        for packet in itertools.islice(self._packets, _BURST):
            with contextlib.suppress(OSError):  # the device's queue is full
                self._socket.sendto(packet, self._to)
                self.sent += 1

    def close(self) -> None:
        self._socket.close()


class Newcomers:
    """One each 20 ms, who connects, asks once and is answered whole, or is lost."""

    def __init__(self, address: Address, path: str) -> None:
        self._address = address
        self._request = request(address, path, "Connection: close\r\n")
        self._poll = select.poll()
        self._began: dict[int, tuple[socket.socket, float, bytearray]] = {}
        self._next_s = 0.0
        self.took_ms: list[float] = []
        self.lost = 0

    def turn(self) -> None:
        """Never waits."""
        now = time.monotonic()
        if now >= self._next_s:
            self._next_s = now + _COMES_S
            self._come(now)
        for fd, event in self._poll.poll(0):
            self._go_on(fd, event)

    def _come(self, now: float) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(self._address)
        self._began[sock.fileno()] = sock, now, bytearray()
        self._poll.register(sock, select.POLLOUT)

    def _go_on(self, fd: int, event: int) -> None:
        sock, began_s, answer = self._began[fd]
        try:
            if event == select.POLLOUT:
                sock.send(self._request)
                self._poll.modify(sock, select.POLLIN)
                return
            data = sock.recv(_READ_BYTES)
        except OSError:
            data = b""
        answer += data
        if data:
            return
        if answer.startswith(b"HTTP/1.1 200"):
            self.took_ms.append(1000 * (time.monotonic() - began_s))
        else:
            self.lost += 1
        self._leave(fd)

    def _leave(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._began.pop(fd)[0].close()

    def finish(self) -> None:
        """Who is on the way has a while; nobody else comes meanwhile."""
        deadline = time.monotonic() + _LOST_S
        while self._began and time.monotonic() < deadline:
            for fd, event in self._poll.poll(10):
                self._go_on(fd, event)
        self.lost += len(self._began)
        for fd in list(self._began):
            self._leave(fd)


def _p99(took: Sequence[float]) -> float:
    found = sorted(took)
    return found[len(found) * 99 // 100] if found else 0.0


def _flooded(
    viewers: Bystanders, newcomers: Newcomers, flood: Flood | None, duration_s: float
) -> None:
    deadline = time.monotonic() + duration_s
    while time.monotonic() < deadline:
        if flood is not None:
            flood.burst()
        viewers.turn()
        newcomers.turn()
    newcomers.finish()


def main(params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Params: address, path, window_s, turns. Windows alone and in a flood, in turn. Answers with
    watched (the values of Watched); of newcomers before and in the flood came_ms (p99 of each) and
    lost (of each); sent, in flood_s."""
    address = (params["address"][0], int(params["address"][1]))
    path, window_s, turns = params["path"], params["window_s"], params["turns"]
    with (
        lastmile(address) as behind,
        contextlib.closing(Bystanders(behind.address, path, AT_HOME)) as viewers,
        contextlib.closing(Flood(address)) as flood,
    ):
        before, meanwhile = Newcomers(address, path), Newcomers(address, path)
        _flooded(viewers, before, None, window_s * turns)
        found = watched(
            viewers, lambda: _flooded(viewers, meanwhile, flood, window_s),
            duration_s=window_s, turns=turns, behind=behind,
        )  # fmt: skip
        yield {
            "watched": vars(found),
            "came_ms": [_p99(each.took_ms) for each in (before, meanwhile)],
            "lost": [before.lost, meanwhile.lost],
            "sent": flood.sent,
            "flood_s": window_s * turns,
        }
