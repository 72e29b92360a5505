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

_PLAYLIST: Final = 0
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
    draw = random.Random(seed)
    rtts = [
        core.rtt_s * draw.lognormvariate(0.0, core.rtt_spread) if core.rtt_s else 0.0
        for _ in range(core.viewers)
    ]
    tracks = range(len(core.unit_us))
    # (time, order, what, viewer, track): of a request that reaches the core
    events: list[tuple[float, int, int, int, int]] = []
    order = 0
    parked = {(v, t): True for v in range(core.viewers) for t in tracks}
    owed: dict[tuple[int, int], float] = {}  # published while it was not parked
    server = client = work = 0.0
    playlists: list[float] = []
    parts: list[float] = []
    for period in range(periods):
        publish = period * core.period_s
        last = period == periods - 1
        for track in tracks:
            for viewer in range(core.viewers):
                if parked[viewer, track]:
                    parked[viewer, track] = False
                    heapq.heappush(events, (publish, order, _PLAYLIST, viewer, track))
                    order += 1
                else:
                    owed[viewer, track] = publish
        limit = publish + core.period_s
        while events and (last or events[0][0] < limit):
            at, _, what, viewer, track = heapq.heappop(events)
            us = (core.wake_us, core.unit_us[track], core.park_us)[what]
            server = max(server, at) + us / 1e6
            work += us / 1e6
            if what == _PARK:
                parked[viewer, track] = True
                if owed.pop((viewer, track), None) is not None:
                    parked[viewer, track] = False
                    heapq.heappush(events, (server, order, _PLAYLIST, viewer, track))
                    order += 1
                continue
            there = server + rtts[viewer] / 2 + (core.unit_s[track] if what == _PART else 0.0)
            if last:
                (playlists if what == _PLAYLIST else parts).append(there - publish)
            client = max(client, there) + core.client_us / 1e6
            done = client if core.client_us else there
            heapq.heappush(events, (done + rtts[viewer] / 2, order, what + 1, viewer, track))
            order += 1
    return Released(sorted(playlists), sorted(parts), work / (periods * core.period_s))


def quantile(ascending: Sequence[float], percent: float) -> float:
    """Raises ValueError when there is none."""
    if not ascending:
        raise ValueError("quantile of nothing")
    return ascending[min(len(ascending) - 1, int(percent / 100 * len(ascending)))]
