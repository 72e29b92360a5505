"""edgecache/control/passage.py: a scripted data centre that takes, refuses, hangs or dies."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from edgecache.control.admission import Admitted, RefusedError
from edgecache.control.dial import Ways
from edgecache.control.passage import Passage
from edgecache.control.relay import Limits
from tests.looped import eventually, looped
from tests.unit.centre import centre, signed

FIELDS = (("Edge-Title", "a%20b"),)
LIMITS = Limits(connect_s=2.0, proceed_s=2.0, stall_s=0.3, finish_s=2.0, move_s=0.0, away_s=0.5)
ABC, DEFG = b"G" + bytes(187), b"G" + b"\xff" * 187  # packets


async def opened(*urls: str) -> Passage:
    way = Passage(
        Admitted("cam", urls), "video/mp2t", FIELDS,
        ways=Ways(), sign=signed, limits=LIMITS, counts=Counter(),
    )  # fmt: skip
    await way.open()
    return way


async def sending(way: Passage, data: bytes) -> None:
    """Until it is refused."""
    while True:
        await way.send(data)
        await asyncio.sleep(0)


@looped
async def test_the_first_data_centre_that_answers_gets_the_bytes_as_they_are() -> None:
    async with centre() as at:
        way = await opened("http://127.0.0.1:1/ingest/cam", at.url)
        await way.send(ABC)
        await way.send(DEFG + b"Gi")  # what is no packet goes on at the end
        await way.finish()
        assert at.body == b"".join(
            (b"bc\r\n", ABC, b"\r\nbc\r\n", DEFG, b"\r\n2\r\nGi\r\n0\r\n\r\n")
        )
        assert at.titles == ["a%20b"]


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        (409, "busy", "being published already"),
        (503, "full", "taken"),
        (418, "away", "does not answer"),
    ],
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
    with pytest.raises(RefusedError) as caught:
        await opened("http://127.0.0.1:1/ingest/cam")
    assert caught.value.reason == "away"


@looped
async def test_a_data_centre_that_takes_no_more_is_lost() -> None:
    async with centre() as at:
        at.reads = False
        way = await opened(at.url)
        full = asyncio.create_task(sending(way, ABC * 5000))  # more than sockets and buffers hold
        await eventually(lambda: not way._free.is_set())
        assert at.server is not None
        at.server.close()
        with pytest.raises(RefusedError, match="lost"):
            await full
        with pytest.raises(RefusedError, match="lost"):
            await way.finish()


@looped
async def test_a_data_centre_may_end_it_in_the_middle() -> None:
    async with centre() as at:
        way = await opened(at.url)
        assert at.writer is not None
        at.writer.write(b"HTTP/1.1 410 Gone\r\nContent-Length: 5\r\n\r\nother")
        with pytest.raises(RefusedError, match="other") as caught:
            await sending(way, ABC)
        assert caught.value.reason == "replaced"


@looped
async def test_what_was_sent_is_judged_at_the_end() -> None:
    async with centre() as at:
        at.last = b"HTTP/1.1 400 Bad\r\nContent-Length: 8\r\n\r\nno media"
        way = await opened(at.url)
        await way.send(ABC)
        with pytest.raises(RefusedError, match="no media"):
            await way.finish()
