"""edgecache/control/straight.py: a scripted data centre that takes, refuses, hangs or dies."""

from __future__ import annotations

import asyncio
import socket

import pytest

from edgecache.control.admission import RefusedError
from edgecache.control.dial import Ways
from edgecache.control.straight import Limits, Straight
from edgecache.errors import UpstreamError
from tests.looped import looped
from tests.partition import address, apart
from tests.unit.centre import centre, signed

FIELDS = (("Content-Type", "video/mp2t"), ("Edge-Title", "a%20b"))
LIMITS = Limits(connect_s=2.0, proceed_s=2.0, stall_s=0.3, finish_s=2.0)


async def opened(url: str) -> Straight:
    return await Straight.to(url, FIELDS, ways=Ways(), sign=signed, limits=LIMITS)


async def sending(way: Straight, data: bytes, each_s: float = 0.0) -> None:
    """Until it is refused."""
    while True:
        await way.send(data)
        await asyncio.sleep(each_s)


@looped
async def test_bytes_come_as_they_are() -> None:
    async with centre() as at:
        way = await opened(at.url)
        await way.send(b"abc")
        await way.send(b"defg")
        await way.finish()
        way.abort()
        assert at.body == b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
        assert at.titles == ["a%20b"]


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [(409, "busy", "taken"), (503, "full", "taken"), (418, "failed", "taken")],
)
@looped
async def test_a_refusal_is_told_before_anything_is_sent(
    status: int, reason: str, said: str
) -> None:
    async with centre() as at:
        at.refusal = b"HTTP/1.1 %d No\r\nContent-Length: 6\r\n\r\ntaken\n" % status
        with pytest.raises(RefusedError, match=said) as caught:
            await opened(at.url)
        assert caught.value.reason == reason


@looped
async def test_nobody_answers() -> None:
    with pytest.raises(UpstreamError):
        await opened("http://127.0.0.1:1/ingest/cam")


@looped
async def test_a_data_centre_that_takes_no_more_is_lost() -> None:
    async with centre() as at:
        at.reads = False
        way = await opened(at.url)
        with pytest.raises(RefusedError, match="lost"):
            await sending(way, bytes(1 << 20))  # more than sockets and buffers hold
        way.abort()


@looped
async def test_a_line_that_swallows_what_is_sent_is_noticed() -> None:
    """Though so little is sent that the kernel's buffers would hold a minute of it."""
    with apart(2) as router:
        with router.on(1):
            listener = socket.create_server((address(1), 0))
        async with centre(listener) as at:
            way = await opened(at.url)
            router.cut((0, 1), (1, 0))
            try:
                with pytest.raises(RefusedError, match="lost") as caught:
                    async with asyncio.timeout(10.0):
                        await sending(way, b"media", 0.02)
            finally:
                way.abort()
            assert caught.value.reason == "away"


@looped
async def test_a_data_centre_may_end_it_in_the_middle() -> None:
    async with centre() as at:
        way = await opened(at.url)
        assert at.writer is not None
        at.writer.write(b"HTTP/1.1 410 Gone\r\nContent-Length: 5\r\n\r\nother")
        with pytest.raises(RefusedError, match="other") as caught:
            await sending(way, b"media")
        assert caught.value.reason == "replaced"
        way.abort()


@looped
async def test_what_was_sent_is_judged_at_the_end() -> None:
    async with centre() as at:
        at.last = b"HTTP/1.1 400 Bad\r\nContent-Length: 8\r\n\r\nno media"
        way = await opened(at.url)
        await way.send(b"abc")
        with pytest.raises(RefusedError, match="no media"):
            await way.finish()
        way.abort()
