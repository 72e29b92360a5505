"""One publish on one core, event by event: parked viewers are woken one after another, each asks
for the part, then asks for the next version and is parked again.

The core and (where it is told to exist) the client are single servers that work in order of
arrival. Network delay is the viewer's own; so is the time its access needs for a body. What is
reported is the lag of every viewer and part behind the publish.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_WAKE: Final = 0
_PART: Final = 1
_PARK: Final = 2


@dataclass(frozen=True, kw_only=True)
class Core:
    """`unit_us`: CPU of a part, of each track. `client_us`: CPU of a client that all viewers share,
    for each answer; 0 when they are different machines. Times in seconds otherwise."""

    viewers: int
    period_s: float
    wake_us: float
    park_us: float
    unit_us: Sequence[float]
    unit_s: Sequence[float] = (0.0, 0.0)  # a part's time on the viewer's access
    client_us: float = 0.0
    rtt_s: float = 0.0
    rtt_spread: float = 0.0


@dataclass(frozen=True)
class Released:
    """Lags in seconds, sorted. `busy`: share of the core, 1 and more: it never catches up."""

    playlist: Sequence[float]
    part: Sequence[float]
    busy: float


def release(core: Core, *, periods: int = 4, seed: int = 1) -> Released:
    """The last of `periods` publishes, so that a core that falls behind shows it."""
    run = _Run(core, seed)
    for period in range(periods - 1):
        run.publish(period * core.period_s)
        run.until((period + 1) * core.period_s)
    last = (periods - 1) * core.period_s
    run.publish(last)
    run.playlist, run.part = [], []
    run.until(float("inf"))
    return Released(
        sorted(at - last for at in run.playlist),
        sorted(at - last for at in run.part),
        run.work_s / (periods * core.period_s),
    )


def quantile(ascending: Sequence[float], percent: float) -> float:
    """Raises ValueError when there is none."""
    if not ascending:
        raise ValueError("quantile of nothing")
    return ascending[min(len(ascending) - 1, int(percent / 100 * len(ascending)))]


class _Run:
    """State: who is parked, requests on their way to the core, when core and client are free."""

    def __init__(self, core: Core, seed: int) -> None:
        draw = random.Random(seed)
        self._core = core
        self._rtts = [
            core.rtt_s * draw.lognormvariate(0.0, core.rtt_spread) for _ in range(core.viewers)
        ]
        # (when it reaches the core, order, what, viewer, track)
        self._events: list[tuple[float, int, int, int, int]] = []
        self._order = 0
        tracks = range(len(core.unit_us))
        self._parked = [(viewer, track) for track in tracks for viewer in range(core.viewers)]
        self._away: set[tuple[int, int]] = set()
        self._owed: set[tuple[int, int]] = set()  # published while they were away
        self._core_free = self._client_free = 0.0
        self.work_s = 0.0
        self.playlist: list[float] = []
        self.part: list[float] = []

    def _push(self, at: float, what: int, viewer: int, track: int) -> None:
        heapq.heappush(self._events, (at, self._order, what, viewer, track))
        self._order += 1

    def publish(self, at: float) -> None:
        self._owed |= self._away
        for viewer, track in self._parked:
            self._push(at, _WAKE, viewer, track)
        self._away.update(self._parked)
        self._parked = []

    def until(self, limit: float) -> None:
        while self._events and self._events[0][0] < limit:
            at, _, what, viewer, track = heapq.heappop(self._events)
            us = (self._core.wake_us, self._core.unit_us[track], self._core.park_us)[what]
            self._core_free = max(self._core_free, at) + us / 1e6
            self.work_s += us / 1e6
            if what == _PARK:
                self._park(viewer, track)
            else:
                self._answered(what, viewer, track)

    def _park(self, viewer: int, track: int) -> None:
        if (viewer, track) in self._owed:  # the version it wants is there: answered at once
            self._owed.discard((viewer, track))
            self._push(self._core_free, _WAKE, viewer, track)
        else:
            self._away.discard((viewer, track))
            self._parked.append((viewer, track))

    def _answered(self, what: int, viewer: int, track: int) -> None:
        """The viewer gets it, and asks for what comes after."""
        half = self._rtts[viewer] / 2
        there = self._core_free + half
        if what == _WAKE:
            self.playlist.append(there)
        else:
            there += self._core.unit_s[track]
            self.part.append(there)
        if self._core.client_us:
            self._client_free = max(self._client_free, there) + self._core.client_us / 1e6
            there = self._client_free
        self._push(there + half, what + 1, viewer, track)
