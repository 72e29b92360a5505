"""Fetching ahead on the real store: one fill an object, judged once as used or wasted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from edgecache._core import Plane
from edgecache.control import ahead as ahead_module
from edgecache.control.ahead import Ahead
from edgecache.control.fill import Filler
from edgecache.control.upstream import Patience, Upstreams
from tests.looped import looped
from tests.routed import route
from tests.unit.test_fill import CONFIG, Origin, ok, opened


@asynccontextmanager
async def site(*answers: bytes) -> AsyncIterator[tuple[Ahead, Plane, Filler, Origin, Counter[str]]]:
    origin = Origin(answers)
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    upstreams = Upstreams([url], Patience(min_rate=0))
    filler = Filler(lambda _: route(upstreams), CONFIG)
    plane = Plane(name=b"edge", budget_bytes=16 << 20)
    counts: Counter[str] = Counter()
    try:
        yield Ahead(plane, filler, counts), plane, filler, origin, counts
    finally:
        await filler.close()
        await upstreams.close()
        server.close()
        await asyncio.sleep(0.01)
        plane.stop()


@looped
async def test_what_runs_is_not_started_again() -> None:
    async with site(ok(b"hello")) as (ahead, plane, _, origin, counts):
        first = ahead.fetch([b"/a.m4s", b"/b.m4s"])
        again = ahead.fetch([b"/a.m4s"])
        assert again == first[:1]
        assert await asyncio.gather(*first) == [True, True]
        assert ahead.fetch([b"/a.m4s"]) == []
        assert len(origin.heads) == counts["prefetched"] == 2
        assert (plane.lookup(b"/a.m4s") or {})["state"] == b"complete"


@looped
async def test_a_miss_under_way_is_left_alone() -> None:
    async with site(ok(b"hello")) as (ahead, plane, _, origin, counts):
        fill = opened(plane, b"/a.m4s")
        assert ahead.fetch([b"/a.m4s"]) == []
        assert fill.live
        assert (origin.heads, counts) == ([], {})


@looped
async def test_what_fails_is_not_remembered() -> None:
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    async with site(missing, ok(b"hello")) as (ahead, plane, _, _origin, counts):
        assert await asyncio.gather(*ahead.fetch([b"/a.m4s"])) == [False]
        assert plane.lookup(b"/a.m4s") is None
        assert await asyncio.gather(*ahead.fetch([b"/a.m4s"])) == [True]
        assert counts["prefetched"] == 1


@looped
async def test_a_remembered_failure_is_forgotten() -> None:
    async with site(ok(b"hello")) as (ahead, plane, _, _origin, _counts):
        opened(plane, b"/a.m4s").fail(404, ttl_ms=60_000)
        assert await asyncio.gather(*ahead.fetch([b"/a.m4s"])) == [True]


@looped
async def test_each_is_judged_once() -> None:
    async with site(ok(b"hello")) as (ahead, _plane, _, _origin, counts):
        await asyncio.gather(*ahead.fetch([b"/a.m4s"]))
        assert ahead.settle(60) == []
        assert counts == {"prefetched": 1}
        assert ahead.settle(0.0) == []
        assert ahead.settle(0.0) == []
        assert counts == {"prefetched": 1, "wasted": 1}


@looped
async def test_the_oldest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead_module, "_OPEN_MAX", 2)
    async with site(ok(b"hello")) as (ahead, _plane, _, _origin, counts):
        await asyncio.gather(*ahead.fetch([b"/%d.m4s" % n for n in range(5)]))
        assert (counts["prefetched"], counts["wasted"]) == (5, 3)
