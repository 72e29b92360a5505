"""edgecache/control/body.py: everybody gets every byte, or an error."""

from __future__ import annotations

import asyncio

import pytest

from edgecache.control.body import Body
from edgecache.errors import UpstreamError
from tests.looped import looped

DATA = bytes(range(256)) * 40


class Tap:
    """A Flow that remembers."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def pause(self) -> None:
        self.heard.append("pause")

    def resume(self) -> None:
        self.heard.append("resume")


async def taken(body: Body, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([piece async for piece in body.read(start, end)])


@looped
async def test_readers_at_any_time_get_the_same() -> None:
    body = Body(keep=True)
    early = [asyncio.create_task(taken(body, start)) for start in (0, 1000, len(DATA))]
    for at in range(0, len(DATA), 777):
        body.append(DATA[at : at + 777])
        await asyncio.sleep(0)
    body.finish()
    assert [await task for task in early] == [DATA, DATA[1000:], b""]
    assert await taken(body, 776, 779) == DATA[776:779]
    assert await taken(body, 0, 1) == DATA[:1]


@looped
async def test_a_body_that_breaks_off_is_an_error_for_each_reader() -> None:
    body = Body(keep=True)
    body.append(DATA)
    readers = [asyncio.create_task(taken(body)) for _ in range(3)]
    await asyncio.sleep(0)
    body.fail(UpstreamError("cut"))
    for reader in readers:
        with pytest.raises(UpstreamError, match="cut"):
            await reader
    assert await taken(body, 0, 10) == DATA[:10]  # what is there is there


@looped
async def test_what_is_not_kept_is_forgotten_once_read_and_never_piles_up() -> None:
    tap = Tap()
    body = Body(keep=False, flow=tap)
    chunk = bytes(256 << 10)
    reader = body.read()
    body.append(chunk)
    assert await anext(reader) == chunk
    for _ in range(5):
        body.append(chunk)
    assert tap.heard == ["pause"]
    for _ in range(4):
        await anext(reader)
    assert tap.heard == ["pause", "resume"]
    body.finish()
    assert [len(piece) async for piece in reader] == [len(chunk)]
    assert body.held == 0


@looped
async def test_a_reader_that_leaves_does_not_hold_the_others() -> None:
    tap = Tap()
    body = Body(keep=False, flow=tap)
    gone, stays = body.read(), body.read()
    body.append(b"x" * (600 << 10))
    await anext(gone)
    await anext(stays)
    body.append(b"y" * (600 << 10))
    assert tap.heard == ["pause"]
    await anext(stays)
    await gone.aclose()
    body.finish()
    assert [piece async for piece in stays] == []
    assert tap.heard == ["pause", "resume"]
