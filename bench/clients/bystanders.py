"""Viewers of a hit, who ask on at an even pace while something else happens to the server.

Latency is from the kernel's stamp on a request that leaves to its stamp on the answer's last bytes,
so it has nothing of the process that asks, however busy that is. On loopback it is the server's;
over a last mile (lastmile.py) it is what a viewer sees, and the relay tells the server's part.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from .crowd import Crowd, request

_SO_TIMESTAMPING: Final = 37
_SENT: Final = 1 << 1 | 1 << 4 | 1 << 11  # software stamps of what leaves, without its bytes
_TIMESPEC: Final = struct.Struct("ll")
_CONTROL_BYTES: Final = 512


def _sent_ns(sock: socket.socket, otherwise: int) -> int:
    """When the kernel gave what was sent last to the device; `otherwise`: it still has it."""
    try:
        control = sock.recvmsg(0, _CONTROL_BYTES, socket.MSG_ERRQUEUE)[1]
    except BlockingIOError:
        return otherwise
    stamps = (data for level, kind, data in control
              if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPING)  # fmt: skip
    seconds, nanoseconds = _TIMESPEC.unpack_from(next(stamps))
    return int(seconds * 1_000_000_000 + nanoseconds)


@dataclass(frozen=True)
class Pace:
    """So many connections, each of which asks once a period: 4,000 hits a second together."""

    connections: int
    period_s: float


ON_LOOPBACK: Final = Pace(16, 0.004)
# 20 viewers as they are: sound, picture and playlist each on a connection of its own. Who is 10 ms
# away has its answer within the period.
AT_HOME: Final = Pace(20 * 3, 0.015)


def owed_ms(took_ms: Iterable[float], period_s: float) -> Iterator[float]:
    """What viewers waited, and would have who keep to their period: one who waits for longer asks
    less often, so a stall of 40 ms would count once a viewer instead of ten times."""
    for left in took_ms:
        while left > 0:
            yield left
            left -= 1000 * period_s


class Bystanders:
    """`seen`: (asked, answered) in wall ns of every hit so far."""

    def __init__(self, address: tuple[str, int], path: str, pace: Pace = ON_LOOPBACK) -> None:
        self.pace = pace
        self._crowd = Crowd(address, pace.connections)
        self._request = request(address, path)
        began, step_s = time.monotonic(), pace.period_s / pace.connections
        self._again = [began + number * step_s for number in range(pace.connections)]
        self.seen: list[tuple[int, int]] = []
        for viewer in self._crowd.viewers:
            viewer.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _SENT)

    def close(self) -> None:
        self._crowd.close()

    def turn(self) -> None:
        """Whoever has waited its period asks; what has been answered is noted. Never waits."""
        now, period_s = time.monotonic(), self.pace.period_s
        for number, viewer in enumerate(self._crowd.viewers):
            late_s = now - self._again[number]
            if late_s >= 0 and viewer not in self._crowd.waiting:
                self._again[number] += period_s * (1 + late_s // period_s)  # keeps its place
                self._crowd.ask_one(viewer, self._request)
                viewer.asked_ns = _sent_ns(viewer.socket, viewer.asked_ns)
        waiting = set(self._crowd.waiting)
        self._crowd.turn(0)
        for viewer in waiting - self._crowd.waiting:
            if viewer.status == 200:
                self.seen.append((viewer.asked_ns, viewer.arrivals[-1][0]))

    def run(self, duration_s: float) -> None:
        deadline = time.monotonic() + duration_s
        while time.monotonic() < deadline:
            self.turn()

    def waits(self) -> list[tuple[int, int]]:
        """(asked, now) of those who have no answer yet."""
        now = time.time_ns()
        return [(viewer.asked_ns, now) for viewer in self._crowd.waiting]

    def latencies_ms(self, since_ns: int, until_ns: int) -> list[float]:
        """Of hits that were asked for in that time."""
        return [(end - start) / 1e6 for start, end in self.seen if since_ns <= start < until_ns]
