"""Origins that flap and origins that are away, in simulated time: what they are asked, and how
often everybody changes from one to the other (reliability.md D8, D9)."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from edgecache.control import attempts, budget, upstream
from edgecache.control.attempts import Attempts
from edgecache.control.upstream import Patience, Upstreams
from edgecache.errors import UpstreamError
from tests.looped import looped
from tests.routed import route

FILLS_S = 100  # fills a second: what viewers cause, whatever happens
FIRST, SECOND = "http://first.example", "http://second.example"


class World:
    """Fills, one after the other, by the real rules of whom to ask. `asked`: requests by origin;
    `by_second`: of all origins; `served`: who answered each fill, None for nobody."""

    def __init__(self, *urls: str) -> None:
        self.now_s = 1000.0
        self.asked: Counter[str] = Counter()
        self.by_second: Counter[int] = Counter()
        self.served: list[str | None] = []
        self._route = route(Upstreams(urls, Patience()))

    def runs(self, seconds: float, *away: str, flaps_s: float = 0.0) -> None:
        """`flaps_s`: how long the first is up, then down, in turn."""
        began_s = self.now_s
        while self.now_s < began_s + seconds:
            flapped = flaps_s and int((self.now_s - began_s) / flaps_s) % 2
            self.served.append(self._fill({*away, FIRST} if flapped else {*away}))
            self.now_s += 1 / FILLS_S

    def _fill(self, away: set[str]) -> str | None:
        trying = Attempts(self._route, b"/a.m4s", b"", 3)
        while (origin := trying.next()) is not None:
            self.asked[origin.url] += 1
            self.by_second[int(self.now_s)] += 1
            if origin.url not in away:
                origin.breaker.success()
                return origin.url
            origin.breaker.failure(self.now_s)
            trying.failed(origin, UpstreamError("refused"), began=False)
        return None

    @property
    def switches(self) -> int:
        """How often another origin took over; a probe that failed is none."""
        return sum(a != b for a, b in itertools.pairwise(filter(None, self.served)))


def in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Its clock is everybody's."""
    for module in (attempts, budget, upstream):
        monkeypatch.setattr(module, "monotonic", lambda: world.now_s)
    return world


@pytest.mark.parametrize("flaps_s", [0.4, 0.7, 1.0, 1.3, 2.1, 2.9])
@looped
async def test_a_flapping_origin_is_left_alone_longer_each_time(
    monkeypatch: pytest.MonkeyPatch, flaps_s: float
) -> None:
    """D8: some time up, as long down, beside one that is well."""
    world = in_time(World(FIRST, SECOND), monkeypatch)
    world.runs(30, flaps_s=flaps_s)
    assert None not in world.served
    assert world.switches <= 30 / 5
    assert sum(world.asked.values()) <= 1.1 * len(world.served)
    assert max(world.by_second.values()) <= 2 * FILLS_S
    world.runs(60)
    assert world.served[-1] == FIRST, "it has been well for long enough"
    before = world.switches
    world.runs(0.2, FIRST)
    world.runs(5)
    assert world.switches == before + 2, "and what was is forgotten"


@looped
async def test_an_outage_is_probed_and_its_end_is_no_storm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """D9: a minute without any origin. Nothing is asked for twice, then or afterwards."""
    world = in_time(World(FIRST), monkeypatch)
    world.runs(5)
    world.runs(60, FIRST)
    outage = world.asked[FIRST] - 5 * FILLS_S
    assert outage <= 5 + 60 / 2 + 1, "five until the breaker opens, then a probe each two seconds"
    returned = len(world.served)
    world.runs(5)
    back = world.served.index(FIRST, returned) - returned
    assert back <= 2 * FILLS_S, "one probe, and everybody is back"
    assert all(world.served[returned + back :])
    assert max(world.by_second.values()) <= FILLS_S + 1
