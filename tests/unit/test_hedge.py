"""What fills ask on top of what viewers cause: hedges of late answers, and retries, in a budget."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from edgecache._core import Plane
from edgecache.config import load_config
from edgecache.control.budget import Budget, Extras
from edgecache.control.fill import Filler
from edgecache.control.pace import Pace
from edgecache.control.upstream import Patience, Upstreams
from tests.looped import eventually, looped
from tests.routed import route
from tests.unit.test_fill import Origin, ok, opened

CONFIG = load_config(None, ["origin.total=10s", "origin.first_byte=5s"]).value
BAD = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
NOT_THERE = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
KEY = b"/a.m4s"


class Late(Origin):
    """Answers when told to."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        super().__init__(answers)
        self.go = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head)
                await self.go.wait()
                writer.write(self.answers[0])
        writer.close()


@dataclass
class Pair:
    filler: Filler
    plane: Plane
    upstreams: Upstreams
    extras: Extras

    async def filled(self, key: bytes = KEY) -> bytes:
        self.filler.take([opened(self.plane, key)])
        await eventually(lambda: not self.filler.running)
        return bytes((self.plane.lookup(key) or {"state": b"gone"})["state"])


@asynccontextmanager
async def pair(*origins: Origin, late_s: float = 0.02) -> AsyncIterator[Pair]:
    """The first one is known to answer within `late_s` (0: not known)."""
    servers = [await asyncio.start_server(each.serve, "127.0.0.1", 0) for each in origins]
    urls = [f"http://127.0.0.1:{each.sockets[0].getsockname()[1]}" for each in servers]
    upstreams = Upstreams(urls, Patience(min_rate=0))
    for _ in range(24 if late_s else 0):
        upstreams.origins[0].pace.add(late_s)
    found = route(upstreams)
    filler = Filler(lambda _: found, CONFIG)
    plane = Plane(name=b"edge", budget_bytes=16 << 20)
    try:
        yield Pair(filler, plane, upstreams, found.extras)
    finally:
        await filler.close()
        await upstreams.close()
        for late in (each for each in origins if isinstance(each, Late)):
            late.go.set()
        for each in servers:
            each.close()
        await asyncio.sleep(0.01)
        plane.stop()


@looped
async def test_a_late_answer_is_asked_for_elsewhere() -> None:
    first, second = Late([ok(b"slow")]), Origin([ok(b"fast")])
    async with pair(first, second) as both:
        assert await both.filled() == b"complete"
        assert (len(first.heads), len(second.heads)) == (1, 1)
        assert (both.plane.lookup(KEY) or {})["size"] == 4
        loser = both.upstreams.origins[0]
        await eventually(lambda: not loser.connections)
        assert both.extras.counts == {"hedged": 1}
        assert both.filler.counts["completed"] == 1


@pytest.mark.parametrize("worse", [BAD, NOT_THERE])
@pytest.mark.parametrize("answer", [ok(b"right"), NOT_THERE])
@looped
async def test_the_first_counts_when_the_second_is_no_better(answer: bytes, worse: bytes) -> None:
    first, second = Late([answer]), Origin([worse])
    async with pair(first, second) as both:
        filling = asyncio.create_task(both.filled())
        await eventually(lambda: second.heads)
        first.go.set()
        assert await filling == (b"complete" if b"200" in answer else b"failed")
        refused = both.filler.counts["refused.404"] + both.filler.counts["completed"]
        assert refused == 1
        assert (len(first.heads), len(second.heads)) == (1, 1)


@looped
async def test_bodies_of_two_are_never_mixed() -> None:
    """The first comes back in the middle of the second's body."""
    first, second = Late([ok(b"A" * 1000)]), Origin([ok(b"B" * 500, b'ETag: "b"\r\n', length=1000)])
    async with pair(first, second) as both:
        both.filler.take([opened(both.plane, KEY)])
        await eventually(lambda: (both.plane.lookup(KEY) or {}).get("size") == 500)
        first.go.set()
        loser = both.upstreams.origins[0]
        await eventually(lambda: not loser.connections)
        assert (both.plane.lookup(KEY) or {})["size"] == 500


@looped
async def test_while_it_is_not_known_nothing_is_late() -> None:
    first, second = Late([ok(b"slow")]), Origin([ok(b"fast")])
    async with pair(first, second, late_s=0.0) as both:
        filling = asyncio.create_task(both.filled())
        await eventually(lambda: first.heads)
        first.go.set()
        assert await filling == b"complete"
        assert second.heads == []


@looped
async def test_beyond_the_budget_nobody_is_asked_again() -> None:
    """An outage: 60 objects, 20 retries kept ready, and one more for every fifth of them."""
    first, second = Origin([BAD]), Origin([BAD])
    async with pair(first, second, late_s=0.0) as both:
        for origin in both.upstreams.origins:
            origin.breaker = type(origin.breaker)(1000, 1.0)
        for n in range(60):
            assert await both.filled(b"/%d.m4s" % n) == b"failed"
        counts = both.extras.counts
        more = counts["retried"] + counts["hedged"]
        assert (len(first.heads), len(second.heads)) == (60, more)
        assert 20 <= more < 60
        assert counts["denied.retried"]


def test_a_budget_is_a_share_and_a_token_a_second() -> None:
    budget = Budget(20)
    start = budget._at_s
    assert [budget.spend(start) for _ in range(21)] == [True] * 20 + [False]
    for _ in range(9):
        budget.earn()
    assert [budget.spend(start) for _ in range(2)] == [True, False]
    assert [budget.spend(start + 3.5) for _ in range(5)] == [True] * 4 + [False]
    assert [budget.spend(start + 1e6) for _ in range(22)].count(True) == 20
    nothing = Budget(0)
    nothing.earn()
    assert not nothing.spend(start + 1e6)


def test_late_is_later_than_nineteen_of_twenty() -> None:
    pace = Pace()
    for n in range(23):
        pace.add(n / 100)
        assert pace.late_s is None
    pace.add(0.23)
    assert pace.late_s == 0.22
    for _ in range(128):
        pace.add(1.0)
    assert pace.late_s == 1.0
