"""A crowd arrives at a POP that has nothing of the stream yet, event by event.

Each viewer loads the multivariant playlist, then for each track its playlist, its initialisation
section and the units up to the edge, one after another. What the POP does not have it asks the
origin for once; whoever comes while that is under way waits for the same bytes (`coalesced`). A
cache without that asks for everybody who comes before the bytes do (`alone`).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .inputs import World
from .steady import backlog_units

HORIZON_S: Final = 3.0  # joiners of so long are followed; later ones find everything there
_LEAST: Final = 200
_MOST: Final = 20_000


@dataclass(frozen=True)
class Joined:
    """Of one POP. `startup`: seconds from joining until the units up to the edge are there, sorted.
    `waiting`: most viewers that waited for the origin at once."""

    startup: Sequence[float]
    coalesced: int
    alone: int
    waiting: int


@dataclass(frozen=True)
class _Step:
    """One request of a joiner: the object's name and size, and CPU of its answer in seconds."""

    name: str
    size: float
    cpu_s: float


def _steps(world: World) -> tuple[list[_Step], list[list[_Step]]]:
    """What is loaded first, and then what each track loads, in order."""
    stream, costs = world.stream, world.costs
    text = stream.playlist_bytes() * world.audience.gzip
    first = [_Step("multivariant", text, costs.of(text) / 1e6)]
    tracks = []
    backlog = zip(backlog_units(stream), stream.unit_bytes(), strict=True)
    for track, (units, size) in enumerate(backlog):
        steps = [_Step(f"{track}/{what}", text, costs.of(text) / 1e6) for what in ("list", "init")]
        unit = costs.of(size) / 1e6
        steps += [_Step(f"{track}/{n}", size, unit) for n in range(max(1, round(units)))]
        tracks.append(steps)
    return first, tracks


def join(world: World, viewers: float, *, seed: int = 1) -> Joined:
    """`viewers` come to the POP evenly over the ramp; those of the first HORIZON_S are followed."""
    return _Crowd(world, viewers, seed).run()


class _Crowd:
    """State of one run: when each object is there, and the joiners' next requests."""

    def __init__(self, world: World, viewers: float, seed: int) -> None:
        self._world = world
        self._draw = random.Random(seed)
        self._first, self._tracks = _steps(world)
        gap = world.audience.ramp_s / max(1.0, viewers)
        soon = HORIZON_S / gap if gap else viewers
        count = int(min(viewers, _MOST, max(_LEAST, soon)))
        self._begins = [gap * n for n in range(count)]
        self._rtts = [self._rtt() for _ in range(count)]
        self._ready: dict[str, float] = {}
        self._pending: dict[int, int] = {n: len(self._tracks) for n in range(count)}
        self._startup: list[float] = []
        self._coalesced = self._alone = 0
        self._waits: list[tuple[float, int]] = []
        # (when the request reaches the POP, order, viewer, track or -1, step)
        self._events: list[tuple[float, int, int, int, int]] = []
        self._order = 0
        self._free = 0.0  # when the POP's cores, taken as one fast one, have nothing to do

    def _rtt(self) -> float:
        a = self._world.audience
        return a.rtt_s * self._draw.lognormvariate(0.0, a.rtt_spread) if a.rtt_s else 0.0

    def _ask(self, at: float, viewer: int, track: int, step: int) -> None:
        heapq.heappush(self._events, (at, self._order, viewer, track, step))
        self._order += 1

    def run(self) -> Joined:
        for viewer, begin in enumerate(self._begins):
            # a connection first: one round trip, and half of one for the request
            self._ask(begin + 1.5 * self._rtts[viewer], viewer, -1, 0)
        while self._events:
            at, _, viewer, track, step = heapq.heappop(self._events)
            steps = self._first if track < 0 else self._tracks[track]
            here = self._served(at, viewer, steps[step])
            following = here + self._rtts[viewer] / 2
            if step + 1 < len(steps):
                self._ask(following, viewer, track, step + 1)
            elif track < 0:
                for number in range(len(self._tracks)):
                    self._ask(following, viewer, number, 0)
            else:
                self._done(here, viewer)
        return Joined(sorted(self._startup), self._coalesced, self._alone, self._most_waiting())

    def _served(self, at: float, viewer: int, step: _Step) -> float:
        """When the viewer has the answer."""
        wires = self._world.wires
        if step.name not in self._ready:
            transfer = 8 * step.size / wires.push_bps
            self._ready[step.name] = at if wires.hot else at + wires.rtt_s + transfer
            self._coalesced += not wires.hot
        ready = self._ready[step.name]
        if ready > at:
            self._alone += 1
            self._waits += [(at, 1), (ready, -1)]
        self._free = max(self._free, at) + step.cpu_s / self._world.host.cores
        access = 8 * step.size / self._world.audience.bandwidth_bps
        return max(self._free, ready) + access + self._rtts[viewer] / 2

    def _done(self, at: float, viewer: int) -> None:
        self._pending[viewer] -= 1
        if not self._pending[viewer]:
            self._startup.append(at - self._begins[viewer])

    def _most_waiting(self) -> int:
        most = now = 0
        for _, change in sorted(self._waits):
            now += change
            most = max(most, now)
        return most
