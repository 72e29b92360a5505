"""Viewers of a hit, who ask on at an even pace while something else happens to the server.

Latency is from just before a request is given to the kernel to the kernel's stamp on its answer, so
it is the server's, however busy the process is that asks.
"""

from __future__ import annotations

import time
from typing import Final

from .crowd import Crowd, request

_VIEWERS: Final = 16
_PERIOD_S: Final = 0.004  # of each: 4,000 hits a second together


class Bystanders:
    """`seen`: (asked, answered) in wall ns of every hit so far."""

    def __init__(self, address: tuple[str, int], path: str) -> None:
        self._crowd = Crowd(address, _VIEWERS)
        self._request = request(address, path)
        self._again = [0.0] * _VIEWERS
        self.seen: list[tuple[int, int]] = []

    def close(self) -> None:
        self._crowd.close()

    def turn(self) -> None:
        """Whoever has waited its period asks; what has been answered is noted. Never waits."""
        now = time.monotonic()
        for number, viewer in enumerate(self._crowd.viewers):
            if now >= self._again[number] and viewer not in self._crowd.waiting:
                self._again[number] = now + _PERIOD_S
                self._crowd.ask_one(viewer, self._request)
        waiting = set(self._crowd.waiting)
        self._crowd.turn(0)
        for viewer in waiting - self._crowd.waiting:
            if viewer.status == 200:
                self.seen.append((viewer.asked_ns, viewer.arrivals[-1][0]))

    def run(self, duration_s: float) -> None:
        deadline = time.monotonic() + duration_s
        while time.monotonic() < deadline:
            self.turn()

    def waits_ms(self) -> list[float]:
        """So far, of those who have no answer yet."""
        now = time.time_ns()
        return [(now - viewer.asked_ns) / 1e6 for viewer in self._crowd.waiting]

    def latencies_ms(self, since_ns: int, until_ns: int) -> list[float]:
        """Of hits that were asked for in that time."""
        return [(end - start) / 1e6 for start, end in self.seen if since_ns <= start < until_ns]
