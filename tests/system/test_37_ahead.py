"""Ahead of demand, with a real origin and a real POP: what is pushed, and what a cut costs."""

from __future__ import annotations

import asyncio
import functools
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, Self

import aiohttp
import pytest

from origin.config import load_config
from origin.server import Origin
from tests.hand_made import HandMade
from tests.looped import looped
from tests.running import KID, SECRET, Edge, ask
from tests.serving_origin import publish, serving
from tests.sockets import free_port

PART_S: Final = 0.1
TRACKS: Final = ("v", "w", "audio")
MASTER: Final = (
    b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=2\nv.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=1\nw.m3u8\n"
)

pytestmark = pytest.mark.timeout(60)


class Wire:
    """A TCP relay to a door that can be cut and joined again."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut_now = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._joined, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        self._server.close()
        await self._server.wait_closed()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Every connection breaks, new ones too, until `join`."""
        self.cut_now = True
        for writer in self._writers:
            writer.transport.abort()

    def join(self) -> None:
        self.cut_now = False

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut_now:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(self._host, self._port)
        self._writers |= {writer, back}
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(_copy(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.transport.abort()


@dataclass
class Site:
    origin: Origin
    edge: Edge
    wire: Wire  # to the POP's push door
    pull: Wire  # to the origin
    viewer: aiohttp.ClientSession
    options: tuple[str, ...]
    made: HandMade

    async def goes_on(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for track in TRACKS:
                publish(self.origin, self.made.step(track))
            await asyncio.sleep(PART_S)

    async def pulled(self) -> float:
        """Requests of the POP at the origin; a page of metrics is a second old at most."""
        await self.goes_on(1.1)
        counts = await asyncio.to_thread(self.edge.metrics)
        return sum(number for name, number in counts.items() if "upstream_requests" in name)

    async def holds(self, path: str) -> bool:
        """Does the POP have it without asking?"""
        asked = await asyncio.to_thread(ask, self.edge.admin, "GET", f"/explain?url={path}", {})
        found = json.loads(asked.body)
        return found["entry"] is not None or found["version"] is not None


@asynccontextmanager
async def site(*, hot: bool, hold_ms: int = 3000) -> AsyncIterator[Site]:
    async with serving() as (origin, _), Wire(f"127.0.0.1:{origin.port}") as pull:
        options = (
            "pop.name=pop-a", "interest.lease=1s", "interest.idle=2s", "http.workers=1",
            f"origin.urls={pull.url}",
            f"http.listen=127.0.0.1:{free_port()}", f"push.listen=127.0.0.1:{free_port()}",
        )  # fmt: skip
        with Edge(options) as edge:
            async with (
                Wire(edge.push) as wire,
                aiohttp.ClientSession(f"http://{edge.http}") as http,
            ):
                made = HandMade(hold_ms=hold_ms)
                found = Site(origin, edge, wire, pull, http, options, made)
                publish(origin, found.made.opening(*TRACKS))
                publish(origin, [replace(found.made.multivariant(), full=MASTER)])
                if hot:
                    push = (f"pops.pop-a.push={wire.url}", 'pops.pop-a.hot=["*"]')
                    given = load_config(None, overrides=[f"keys.{KID}.secret={SECRET}", *push])
                    origin.reload(lambda: given)
                yield found


async def ask_until_answered(site: Site, path: str, want: dict[str, str]) -> tuple[int, str]:
    """(status, text): a connection that breaks is made again, as players do."""
    while True:
        try:
            async with site.viewer.get(path, params=want) as answer:
                return answer.status, await answer.text("latin-1")
        except aiohttp.ClientError:
            await asyncio.sleep(0.05)


async def watch(site: Site, track: str, seen: list[str], failures: list[int]) -> None:
    """A low-latency player of one track: the next part, and its bytes, for good."""
    msn, part = -1, -1
    while True:
        want = {} if msn < 0 else {"_HLS_msn": str(msn), "_HLS_part": str(part)}
        status, text = await ask_until_answered(site, f"/live/cam/{track}.m3u8", want)
        if status != 200:
            failures.append(status)
            await asyncio.sleep(0.05)
            continue
        found = re.search(rf"{track} (\d+)\.(\d+)", text)
        assert found, text
        now = int(found[1]), int(found[2])
        while msn >= 0 and (msn, part) < now:
            name = f"/live/cam/{site.made.epoch}/{track}/{msn}.{part}.m4s"
            while (status := (await ask_until_answered(site, name, {}))[0]) == 503:
                failures.append(status)
                await asyncio.sleep(0.05)
            seen.append(name) if status == 200 else failures.append(status)
            msn, part = (msn + 1, 0) if part + 1 == site.made.parts else (msn, part + 1)
        msn, part = now


@looped
async def test_a_cut_pop_fills_its_gap_before_anybody_sees_it() -> None:
    async with site(hot=True) as here:
        await here.goes_on(1.0)
        seen: list[str] = []
        failures: list[int] = []
        viewer = asyncio.create_task(watch(here, "v", seen, failures))
        try:
            await here.goes_on(1.0)
            for _ in range(3):
                here.wire.cut()
                await here.goes_on(0.8)
                here.wire.join()
                await here.goes_on(1.0)
            assert not viewer.done()
        finally:
            viewer.cancel()
            await asyncio.gather(viewer, return_exceptions=True)
        assert failures == []
        assert whole(here, seen) > 40


@looped
async def test_a_long_cut_is_503_and_heals_without_a_new_start() -> None:
    """Longer than three target durations, of pushes and pulls: a playlist that cannot be had is
    Service Unavailable (RFC 8216bis 6.2.5.2). The player goes on asking for the same part, gets it
    when the POP is back, and every one after it."""
    async with site(hot=True, hold_ms=900) as here:
        await here.goes_on(0.5)
        seen: list[str] = []
        failures: list[int] = []
        viewer = asyncio.create_task(watch(here, "v", seen, failures))
        try:
            await here.goes_on(0.5)
            assert failures == []
            here.wire.cut()
            here.pull.cut()
            await here.goes_on(2.5)
            before, refused = len(seen), len(failures)
            here.wire.join()
            here.pull.join()
            while len(seen) < before + 40:
                assert not viewer.done()
                await here.goes_on(PART_S)
        finally:
            viewer.cancel()
            await asyncio.gather(viewer, return_exceptions=True)
        assert refused
        assert set(failures) == {503}
        assert whole(here, seen) >= before + 40


def whole(site: Site, seen: list[str]) -> int:
    """How many parts a player got; each once, none left out."""
    numbers = [tuple(map(int, re.findall(r"(\d+)\.(\d+)\.m4s", each)[0])) for each in seen]
    places = [msn * site.made.parts + part for msn, part in numbers]
    assert places == list(range(places[0], places[0] + len(places)))
    return len(places)


@functools.partial(looped, limit_s=50.0)
async def test_a_pop_that_was_killed_is_filled_again() -> None:
    """Pushed to or not, both at once: its viewers ask again, and get every part."""
    await asyncio.gather(killed(hot=True), killed(hot=False))


async def killed(*, hot: bool) -> None:
    async with site(hot=hot) as here:
        await here.goes_on(0.5)
        seen: list[str] = []
        failures: list[int] = []
        viewer = asyncio.create_task(watch(here, "v", seen, failures))
        try:
            await here.goes_on(2.0)
            here.edge.process.kill()
            await here.goes_on(0.5)
            back = Edge(here.options)
            entered = asyncio.create_task(asyncio.to_thread(back.__enter__))
            try:
                while not entered.done():
                    await here.goes_on(0.1)
                await here.goes_on(2.5)
                assert not viewer.done()
            finally:
                await entered
                back.__exit__()
        finally:
            viewer.cancel()
            await asyncio.gather(viewer, return_exceptions=True)
        assert failures == []
        assert whole(here, seen) > 40


@looped
async def test_a_rendition_that_nobody_watches_is_not_pushed() -> None:
    """But its playlist and init are, and it is pushed as soon as somebody looks."""
    async with site(hot=False) as here:
        seen: list[str] = []
        failures: list[int] = []
        async with here.viewer.get("/live/cam/master.m3u8") as answer:
            assert answer.status == 200
        viewer = asyncio.create_task(watch(here, "v", seen, failures))
        other: asyncio.Task[None] | None = None
        try:
            await here.goes_on(5.0)  # past the first lease, which is for all of it
            msn = here.made.version("w").msn - 1
            for track, there in (("v", True), ("audio", True), ("w", False)):
                name = f"/live/cam/{here.made.epoch}/{track}/{msn}.0.m4s"
                assert await here.holds(name) == there, name
            assert await here.holds("/live/cam/w.m3u8")
            other = asyncio.create_task(watch(here, "w", [], failures))
            await here.goes_on(1.5)
            assert await here.pulled() == await here.pulled()
        finally:
            for task in filter(None, (viewer, other)):
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        assert failures == []
        assert len(seen) > 20
