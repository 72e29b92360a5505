"""A real POP in front of a real origin: what viewers can see there, and how they are counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import pytest

from origin import names
from origin.config import load_config
from origin.server import Origin
from tests.hand_made import HandMade
from tests.looped import looped
from tests.running import KID, SECRET, Edge
from tests.serving_origin import operators, publish, serving

VIEWERS: Final = 20
LEASE_S: Final = 1.0
PART_S: Final = 0.15
TRACKS: Final = ("v", "audio")  # each viewer waits on both, as players of separate audio do

pytestmark = pytest.mark.timeout(60)


@dataclass
class Pair:
    origin: Origin
    edge: Edge
    viewer: aiohttp.ClientSession
    made: HandMade = field(default_factory=HandMade)

    def goes_on(self) -> None:
        """One more part of each track."""
        for track in TRACKS:
            publish(self.origin, self.made.step(track))

    async def state(self) -> dict[str, Any]:
        """As everybody sees it, at the origin."""
        async with self.viewer.get(f"http://127.0.0.1:{self.origin.port}/api/streams") as answer:
            found: dict[str, Any] = await answer.json()
        return found

    async def viewers(self) -> int | None:
        found: int | None = (await self.state())["streams"][0]["viewers"]
        return found

    async def streams(self) -> list[str]:
        """What the origin pushes to the POP."""
        return [name for pop in (await self.state())["pops"] for name in pop["streams"]]

    async def pushed(self, expected: list[str], within_s: float) -> None:
        """The stream goes on until just these are pushed."""
        deadline = time.monotonic() + within_s
        while (found := await self.streams()) != expected:
            assert time.monotonic() < deadline, f"found {found}, expected {expected}"
            self.goes_on()
            await asyncio.sleep(PART_S)

    async def counted(self, expected: int, within_s: float) -> None:
        """The stream goes on until so many are seen."""
        deadline = time.monotonic() + within_s
        while (found := await self.viewers()) != expected:
            assert time.monotonic() < deadline, f"found {found}, expected {expected}"
            self.goes_on()
            await asyncio.sleep(PART_S)


@asynccontextmanager
async def pair(*, hot: bool, more: Sequence[str] = ()) -> AsyncIterator[Pair]:
    """An origin with a live stream and a POP, which is pushed to from the start or by its lease."""
    async with serving() as (origin, _):
        options = (
            "pop.name=pop-a", f"interest.lease={LEASE_S:g}s", "http.workers=2",
            f"origin.urls=http://127.0.0.1:{origin.port}", *more,
        )  # fmt: skip
        with Edge(options) as edge:
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(f"http://{edge.http}", connector=connector) as http:
                found = Pair(origin, edge, http)
                publish(origin, found.made.opening(*TRACKS))
                if hot:
                    push = (f"pops.pop-a.push=http://{edge.push}", 'pops.pop-a.hot=["*"]')
                    given = load_config(None, overrides=[f"keys.{KID}.secret={SECRET}", *push])
                    origin.reload(lambda: given)
                yield found


async def watch(pair: Pair, track: str) -> None:
    """One playlist of one player, for good: always the next part."""
    path = f"/live/cam/{track}.m3u8"
    while True:
        version = pair.made.version(track)
        want = {"_HLS_msn": str(version.msn), "_HLS_part": str(version.parts)}
        async with pair.viewer.get(path, params=want) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()


async def take(pair: Pair, track: str) -> None:
    """Every segment of a track as a player of DASH or of classic HLS gets them: whole, each once,
    from the one on that is being made."""
    msn = pair.made.version(track).msn
    while True:
        path = names.segment_path("cam", pair.made.epoch, track, msn)
        async with pair.viewer.get(path) as answer:
            assert answer.status == 200, await answer.text()
            assert "hit" in answer.headers["Cache-Status"].split("; ")
            await answer.read()
        msn += 1


@looped
async def test_the_state_shows_who_takes_whole_segments() -> None:
    async with pair(hot=True, more=("origin.push_wait=30s",)) as both:
        await both.counted(0, 3 * LEASE_S)
        low_latency = [watch(both, track) for track in TRACKS]
        others = [take(both, track) for _ in range(VIEWERS) for track in TRACKS]
        crowd = [asyncio.create_task(each) for each in (*low_latency, *others)]
        try:
            await both.counted(VIEWERS + 1, 10 * LEASE_S)
            assert (await asyncio.to_thread(both.edge.metrics))["edge_viewers"] > VIEWERS / 2
            assert not [task for task in crowd if task.done()]
        finally:
            for task in crowd:
                task.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)
        await both.counted(0, 10 * LEASE_S)


@pytest.mark.parametrize("hot", [False, True])
@looped
async def test_the_state_shows_how_many_watch(hot: bool) -> None:
    async with pair(hot=hot) as both:
        if hot:
            await both.counted(0, 3 * LEASE_S)
        crowd = [
            asyncio.create_task(watch(both, track)) for _ in range(VIEWERS) for track in TRACKS
        ]
        try:
            await both.counted(VIEWERS, 3 * LEASE_S)
            steady_until = time.monotonic() + 2 * LEASE_S
            while time.monotonic() < steady_until:
                both.goes_on()
                await asyncio.sleep(PART_S)
                assert await both.viewers() == VIEWERS
            assert not [task for task in crowd if task.done()]
        finally:
            for task in crowd:
                task.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)
        await both.counted(0, 3 * LEASE_S)


@looped
async def test_a_player_that_polls_keeps_the_lease() -> None:
    """Every answer is a hit that no Python sees, and nobody is parked."""
    async with pair(hot=False, more=("interest.idle=1s",)) as both:
        await poll(both)
        await both.pushed(["cam"], within_s=5)
        for _ in range(round(4 / PART_S)):
            await poll(both)
            both.goes_on()
            await asyncio.sleep(PART_S)
            assert await both.streams() == ["cam"]
        await both.pushed([], within_s=10 * LEASE_S)  # and without it, it ends


async def poll(pair: Pair) -> None:
    async with pair.viewer.get("/live/cam/v.m3u8") as answer:
        assert answer.status == 200


@looped
async def test_the_operators_doors_are_not_reachable_through_a_pop() -> None:
    async with pair(hot=False) as both:
        for path in ("/metrics", "/healthz", "/readyz"):
            async with both.viewer.get(path) as answer:
                assert answer.status == 404, path
        async with both.viewer.get("/") as answer:
            assert answer.status == 200
            assert "text/html" in answer.headers["Content-Type"]


@looped
async def test_who_looks_at_the_state_costs_the_origin_one_answer_a_second() -> None:
    async with pair(hot=False) as both, operators(both.origin) as admin:
        began = time.monotonic()
        for _ in range(20):
            looks = [both.viewer.get("/api/streams") for _ in range(10)]
            for answer in await asyncio.gather(*looks):
                assert answer.status == 200
                await answer.read()
            await asyncio.sleep(0.05)
        elapsed_s = time.monotonic() - began
        async with admin.get("/metrics") as answer:
            text = await answer.text()
        line = 'origin_http_responses_total{route="/api/streams",status="200"} '
        asked = float(text.partition(line)[2].split()[0])
        assert 1 <= asked <= elapsed_s + 1
