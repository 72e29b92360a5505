"""A real POP in front of a real origin, for DASH: the clock, the MPD, segments that still grow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import aiohttp
import pytest

from origin import names
from origin.config import load_config
from origin.model import MPD_TYPE, PartObject
from origin.server import Origin
from tests.hand_made import HandMade
from tests.looped import eventually, looped
from tests.running import KID, SECRET, Edge
from tests.serving_origin import operators, publish, serving

MPD: Final = names.mpd_path("cam")

pytestmark = pytest.mark.timeout(60)


@dataclass
class Pair:
    origin: Origin
    edge: Edge
    viewer: aiohttp.ClientSession
    made: HandMade = field(default_factory=lambda: HandMade(size=2000))

    async def asked(self) -> list[str]:
        """How often the origin answered for what viewers ask, by route and status."""
        async with operators(self.origin) as admin, admin.get("/metrics") as answer:
            lines = (await answer.text()).splitlines()
        routes = (f'origin_http_responses_total{{route="{path}' for path in ("/live", names.TIME))
        return [line for line in lines if line.startswith(tuple(routes))]

    async def get(self, path: str, **fields: str) -> tuple[aiohttp.ClientResponse, bytes]:
        async with self.viewer.get(path, headers=fields) as answer:
            return answer, await answer.read()

    async def pushed(self, path: str, body: bytes) -> None:
        """The POP has this body of `path`, without asking for it."""
        for _ in range(500):
            answer, found = await self.get(path)
            if answer.status == 200 and found == body:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{path}: not pushed within 10 s")


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    """The stream `cam` is pushed to the POP from the start; the origin has made one segment."""
    async with serving() as (origin, _):
        options = (
            "pop.name=pop-a", "http.workers=2", "origin.push_wait=5s",
            f"origin.urls=http://127.0.0.1:{origin.port}",
        )  # fmt: skip
        with Edge(options) as edge:
            push = (f"pops.pop-a.push=http://{edge.push}", 'pops.pop-a.hot=["*"]')
            given = load_config(None, overrides=[f"keys.{KID}.secret={SECRET}", *push])
            async with aiohttp.ClientSession(f"http://{edge.http}") as http:
                found = Pair(origin, edge, http)
                publish(origin, [*found.made.opening("v"), found.made.mpd()])
                origin.reload(lambda: given)
                await found.pushed(MPD, found.made.mpd().full)
                yield found


@looped
async def test_the_clock_is_the_pops_and_never_kept() -> None:
    async with pair() as both:
        before = await both.asked()
        texts = set()
        for _ in range(3):
            asked_s = time.time()
            answer, body = await both.get(names.TIME)
            told_s = datetime.fromisoformat(body.decode()).timestamp()
            assert asked_s - 0.001 <= told_s <= time.time()
            assert answer.status == 200
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            texts.add(body)
            await asyncio.sleep(0.002)
        assert len(texts) == 3
        crowd = await asyncio.gather(*(both.get(names.TIME) for _ in range(50)))
        assert {answer.status for answer, _ in crowd} == {200}
        assert await both.asked() == before


@looped
async def test_the_origin_tells_the_time_as_well() -> None:
    async with serving() as (_, http), http.get(names.TIME) as answer:
        told_s = datetime.fromisoformat(await answer.text()).timestamp()
        assert abs(told_s - time.time()) < 1
        assert answer.headers["Cache-Control"] == "no-store"


@looped
async def test_a_newer_mpd_takes_the_place_of_the_one_before() -> None:
    async with pair() as both:
        before = await both.asked()
        answer, _ = await both.get(MPD + "?player=any&_HLS_msn=99", **{"Accept-Encoding": "gzip"})
        assert answer.headers["Content-Type"] == MPD_TYPE
        assert answer.headers["Content-Encoding"] == "gzip"
        etag = answer.headers["ETag"]
        answer, _ = await both.get(MPD, **{"Accept-Encoding": "gzip", "If-None-Match": etag})
        assert answer.status == 304
        newer = both.made.mpd(2)
        publish(both.origin, [newer])
        await both.pushed(MPD, newer.full)
        assert await both.asked() == before


@looped
async def test_a_segment_that_is_due_comes_part_by_part_to_everybody() -> None:
    """Asked for before its first part was made, as an MPD tells players to; and by latecomers in
    the middle. The origin is asked nothing."""
    async with pair() as both:
        before = await both.asked()
        path = names.segment_path("cam", both.made.epoch, "v", 11)
        early = [asyncio.create_task(both.viewer.get(path)) for _ in range(3)]
        await asyncio.sleep(0.2)
        assert not any(task.done() for task in early)
        made = b""
        readers: list[aiohttp.ClientResponse] = []
        for index in range(both.made.parts):
            part, version = both.made.step("v")
            publish(both.origin, [part, version])
            readers = readers or await asyncio.gather(*early)
            for reader in readers:
                assert await reader.content.readexactly(len(part.body)) == part.body
            made += part.body
            if index + 1 < both.made.parts:
                late = await both.viewer.get(path)
                assert await late.content.readexactly(len(made)) == made
                readers.append(late)
        for reader in readers:
            assert await reader.content.read() == b""
            assert reader.headers["Content-Type"] == "video/mp4"
        whole, body = await both.get(path)
        assert body == made
        assert int(whole.headers["Content-Length"]) == len(body)
        assert await both.asked() == before


@looped
async def test_the_origin_holds_a_segment_that_is_due() -> None:
    """By the clock, which the encoder is a segment behind."""
    async with serving() as (origin, http):
        made = HandMade()
        publish(origin, made.opening("v"))
        due, far = (names.segment_path("cam", made.epoch, "v", msn) for msn in (12, 16))
        async with http.get(far) as answer:
            assert answer.status == 404
        waiting = asyncio.create_task(http.get(due))
        await eventually(lambda: origin.store.gauges()["waiters"] == 1)
        publish(origin, made.segment("v"))
        parts = made.segment("v")
        publish(origin, parts)
        async with await waiting as answer:
            assert await answer.read() == b"".join(
                item.body for item in parts if isinstance(item, PartObject)
            )
