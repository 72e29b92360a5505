"""Clients that use up what there is, and healthy viewers beside them, in one process and thread.

Healthy latencies are by the kernel's stamps (bystanders.py), so that one thread can do the harm and
watch. Viewers are at home, a round trip away (lastmile.py), or on loopback; harm is on loopback,
where it is worst. It goes on from its first connection until its last is closed (watch.py: 1,000
hits a quarter of a second).

Harm is offered at a rate that does not depend on the server: `rate` connections or requests a
second, of `clients` at most. Who stands connects so, and when all are there all speak at once.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import statistics
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .bystanders import AT_HOME, ON_LOOPBACK, Bystanders
from .crowd import request
from .lastmile import lastmile
from .watch import Watched, watched

_STEP: Final = 8  # of whatever is done, between two looks at the viewers
_PIPELINED: Final = 100
_PIPES: Final = 8  # connections of a flood of requests
_TINY_BYTES: Final = 4096
_LEFT_S: Final = 0.02  # in which harm that has left is still felt
_RESET: Final = struct.pack("ii", 1, 0)  # of SO_LINGER
_PAGE_BYTES: Final = 4096

Address = tuple[str, int]


@dataclass(frozen=True)
class Asked:
    """Where harm is done, and by whom: `source` is an address that no healthy viewer has."""

    address: Address
    source: str
    path: str
    clients: int
    rate: int


class _Harm(ABC):
    """`step()` does a little more of it; it never waits for the server."""

    window_bytes = 0

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self.done = 0
        self._sockets: list[socket.socket] = []
        self._began = time.monotonic()

    @abstractmethod
    def step(self) -> None:
        """A little more."""

    def connect(self) -> socket.socket:
        sock = socket.socket()
        self._sockets.append(sock)
        if self._asked.source:
            sock.bind((self._asked.source, 0))
        if self.window_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.window_bytes)
        sock.setblocking(False)
        sock.connect_ex(self._asked.address)
        return sock

    def leave(self) -> bool:
        """Some of its connections close. False: there are none."""
        leaving, self._sockets = self._sockets[:_STEP], self._sockets[_STEP:]
        for sock in leaving:
            sock.close()
        return bool(leaving)


class _Rated(_Harm):
    """The same, again and again."""

    def step(self) -> None:
        """Whatever is due of `rate` a second."""
        due = int((time.monotonic() - self._began) * self._asked.rate)
        for _ in range(min(due - self.done, _STEP)):
            with contextlib.suppress(OSError):
                self.act()
            self.done += 1

    @abstractmethod
    def act(self) -> None:
        """Once."""


class _Standing(_Rated):
    """Connections that have said something, and stay."""

    def __init__(self, asked: Asked) -> None:
        super().__init__(asked)
        self._said = self.says()
        self._spoke = 0

    def says(self) -> bytes:
        return b""

    def act(self) -> None:
        """All connect, then all speak."""
        if len(self._sockets) < self._asked.clients:
            self.connect()

    def step(self) -> None:
        super().step()
        if len(self._sockets) == self._asked.clients:
            for sock in self._sockets[self._spoke : self._spoke + _STEP]:
                with contextlib.suppress(OSError):
                    sock.send(self._said)
                self._spoke += 1

    def _request(self) -> bytes:
        return request(self._asked.address, self._asked.path)


class _Heads(_Standing):
    """Half a head, and then byte by byte, of all in turn."""

    def says(self) -> bytes:
        return self._request()[:-2] + b"X"

    def act(self) -> None:
        super().act()
        if self._spoke == self._asked.clients:
            self._sockets[self.done % self._asked.clients].send(b"x")


class _Unread(_Standing):
    """A large object that nobody reads: the window shuts when the receiver's buffer is full."""

    def says(self) -> bytes:
        return self._request()


class _ZeroWindow(_Unread):
    """The same, with next to no buffer."""

    window_bytes = _TINY_BYTES


class _Pipelines(_ZeroWindow):
    """A hundred requests at once, and no answer is read."""

    def says(self) -> bytes:
        return self._request() * _PIPELINED


class _Resets(_Rated):
    """Connections that are reset as soon as they are made."""

    def act(self) -> None:
        sock = self.connect()
        self._sockets.pop()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.close()


class _Flood(_Rated):
    """One address that connects and connects, and keeps what it gets."""

    def act(self) -> None:
        if len(self._sockets) < self._asked.clients:
            self.connect()


class _Requests(_Rated):
    """Requests that no cache has answered before, on a few connections."""

    def __init__(self, asked: Asked) -> None:
        super().__init__(asked)
        self._numbers = itertools.count(time.time_ns())

    @abstractmethod
    def target(self, number: int) -> str:
        """Of the request with that number."""

    def act(self) -> None:
        if len(self._sockets) < _PIPES:
            self.connect()
        sock = self._sockets[self.done % len(self._sockets)]
        with contextlib.suppress(BlockingIOError):
            sock.recv(1 << 18)
        sock.send(request(self._asked.address, self.target(next(self._numbers))))


class _Names(_Requests):
    """Names that nobody has."""

    def target(self, number: int) -> str:
        return f"/nobody/{number}.m4s"


class _Queries(_Requests):
    """One object, under a query of its own each time."""

    def target(self, number: int) -> str:
        return f"{self._asked.path}?x={number}"


HARMS: Final[Mapping[str, type[_Harm]]] = {
    "heads": _Heads,
    "silent": _Standing,
    "unread": _Unread,
    "zero_window": _ZeroWindow,
    "pipelines": _Pipelines,
    "resets": _Resets,
    "flood": _Flood,
    "names": _Names,
    "queries": _Queries,
}


@dataclass(frozen=True)
class Felt(Watched):
    """`kernel_bytes`: of TCP's memory on this host for each client meanwhile, both ends; `done`: of
    the harm."""

    kernel_bytes: float = 0
    done: int = 0


def _kernel_bytes() -> int:
    """/proc/net/sockstat: pages that TCP has charged to sockets."""
    words = Path("/proc/net/sockstat").read_text().partition("TCP:")[2].split("\n")[0].split()
    return int(words[words.index("mem") + 1]) * _PAGE_BYTES


def felt(
    harm: str, healthy: str, asked: Asked, *, duration_s: float, turns: int, at_home: bool = False
) -> Felt:
    """What viewers of the path `healthy` feel of a harm, in so many turns."""
    kernel, done = [], 0
    with contextlib.ExitStack() as stack:
        behind = stack.enter_context(lastmile(asked.address)) if at_home else None
        viewers = stack.enter_context(contextlib.closing(
            Bystanders(behind.address if behind else asked.address, healthy,
                       AT_HOME if at_home else ON_LOOPBACK)
        ))  # fmt: skip

        def harmed() -> None:
            nonlocal done
            before, deadline = _kernel_bytes(), time.monotonic() + duration_s
            going = HARMS[harm](asked)
            while time.monotonic() < deadline:
                going.step()
                viewers.turn()
            kernel.append(max(0, _kernel_bytes() - before) / asked.clients)
            while going.leave():
                viewers.turn()
            viewers.run(_LEFT_S)
            done += going.done

        found = watched(viewers, harmed, duration_s=duration_s, turns=turns, behind=behind)
    return Felt(**vars(found), kernel_bytes=statistics.median(kernel), done=done)


def main(params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Params: harm, address, source, path, healthy, clients, rate, duration_s, turns, at_home."""
    asked = Asked(
        (params["address"][0], int(params["address"][1])), params["source"], params["path"],
        params["clients"], params["rate"],
    )  # fmt: skip
    yield vars(felt(params["harm"], params["healthy"], asked, duration_s=params["duration_s"],
                    turns=params["turns"], at_home=params["at_home"]))  # fmt: skip
